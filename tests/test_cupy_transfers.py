"""How host data comes to a GPU, and what a forked process may do with one."""

import subprocess
import sys

import numpy as np
import pytest
from conftest import usable

import nnx

pytestmark = pytest.mark.gpu
MB = 1 << 20


@pytest.fixture
def pinned():
    """The pool of page-locked memory, empty."""
    with nnx.use_backend(usable("cupy")):
        import cupy

        pool = cupy.get_default_pinned_memory_pool()
        pool.free_all_blocks()
        yield pool
        pool.free_all_blocks()


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_large_arrays_leave_no_page_locked_memory(dtype, order, pinned):
    rng = np.random.default_rng(0)
    shape = (65 * MB // np.dtype(dtype).itemsize // 100, 100)
    host = np.asarray(rng.integers(0, 255, shape, dtype="uint8"), dtype, order)
    assert host.nbytes > 64 * MB
    array = nnx.get_backend().from_numpy(host)
    assert pinned.n_free_blocks() == 0
    assert (array.dtype, array.shape) == (host.dtype, host.shape)
    assert (nnx.to_numpy(array) == host).all()


def test_freed_memory_includes_what_is_page_locked(pinned):
    backend = nnx.get_backend()
    backend.from_numpy(np.ones(MB))
    assert pinned.n_free_blocks() == 1
    backend.free_memory()
    assert pinned.n_free_blocks() == 0


FORKED = """
import os
import nnx

nnx.set_backend("cupy")
net = nnx.SequentialNet(2, [nnx.DenseLayer(2, 1)])
x = nnx.get_backend().asarray([[1.0, 2.0]])
step = net.plan().step
works = {
    "set_backend": lambda: nnx.set_backend("cupy"),
    "use_backend": lambda: nnx.use_backend("cupy").__enter__(),
    "predict": lambda: net.predict([[1.0, 2.0]]),
    "train": lambda: net.train([[1.0, 2.0]], [[1.0]], progress=False),
    "layer": lambda: nnx.DenseLayer(2, 1),
    "to_numpy": lambda: nnx.to_numpy(x),
}
if os.fork():
    raise SystemExit(os.waitstatus_to_exitcode(os.wait()[1]))
for name, work in works.items():
    try:
        work()
    except nnx.BackendError as error:
        assert "was forked" in error.reason, error
        assert '"spawn"' in error.remedy, error
    else:
        print(name)
status = nnx.available_backends()["cupy"]
assert not status.usable and "was forked" in status.reason, status
"""


def test_a_forked_process_is_told_to_spawn():
    usable("cupy")
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
