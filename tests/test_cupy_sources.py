"""Data that is read in blocks, on a GPU: nothing waits in a step, and copies overlap with work."""

import time

import numpy as np
import pytest
from conftest import usable
from simulated import printed

import nnx
from nnx.data import sources
from nnx.training import Callback

pytestmark = pytest.mark.gpu
counters = pytest.importorskip("cpusim", reason="no counters of CUDA calls here")

FEATURES, BLOCKS, SAMPLES = 12, 6, 8  # samples of a block
X = np.random.default_rng(0).integers(0, 256, (BLOCKS * SAMPLES, FEATURES), dtype="uint8")
Y = np.arange(len(X)) % 3


@pytest.fixture
def backend(monkeypatch):
    monkeypatch.setattr(sources, "BLOCK", SAMPLES * FEATURES)
    with nnx.use_backend(usable("cupy")) as backend:
        yield backend


def trained(batch_size, callbacks=()):
    nnx.seed(0)
    layers = [nnx.DenseLayer(FEATURES, 3, nnx.SoftMax())]
    net = nnx.SequentialNet(FEATURES, layers, nnx.CrossEntropy())
    net.train(X, Y, batch_size, callbacks=callbacks, on_device=False, progress=False)
    return net


def test_more_steps_wait_no_more(backend):
    trained(4)
    found = []
    for batch_size in (8, 4, 2):
        trained(batch_size)  # kernels and pools are there
        counters.reset()
        trained(batch_size)
        stats = counters.stats()
        names = ("d2h", "h2d", "stream_sync", "dev_sync", "event_sync")
        found.append([stats.get(name, 0) for name in names])
    assert found[0] == found[1] == found[2]
    # The thread waits for a copy before it fills its buffer again, and at the end for two.
    assert found[0][-1] == BLOCKS


def test_the_next_block_is_on_its_way_while_one_trains(backend, monkeypatch):
    made = []

    make = type(backend).uploader

    def uploader(self):
        made.append(make(self))
        return made[-1]

    monkeypatch.setattr(type(backend), "uploader", uploader)

    class Look(Callback):
        """After the first of two steps of each block."""

        interval = 1
        seen = ()

        def after_batches(self, run):
            if run.batches % 2 == 0 or run.batches > 2 * (BLOCKS - 1):
                return
            end = time.monotonic() + 10
            while not counters.pending(made[0].stream) and time.monotonic() < end:
                time.sleep(0.001)
            self.seen = (*self.seen, counters.pending(made[0].stream) > 0)

    look = Look()
    net = trained(SAMPLES // 2, [look])
    assert look.seen == (True,) * (BLOCKS - 1)
    with nnx.use_backend("numpy"):
        expected = trained(SAMPLES // 2)
    for p, q in zip(net.parameters.values(), expected.parameters.values(), strict=True):
        np.testing.assert_allclose(nnx.to_numpy(p), q, rtol=1e-4, atol=1e-5)


LARGE = """
import numpy as np
import nnx

nnx.set_backend("cupy")
x = np.memmap("{path}", np.uint8, "w+", shape=(17_000, 64, 64))
layers = [nnx.FlattenLayer(), nnx.DenseLayer(4096, 2, nnx.SoftMax())]
net = nnx.SequentialNet((64, 64), layers, nnx.CrossEntropy())
y = np.arange(17_000) % 2
print(len(net.train(x, y, 500, shuffle="blocks", progress=False).loss))
out = net.predict(x, 500, out=np.empty((17_000, 2), np.float32))
print(abs(out.sum(axis=1) - 1).max() < 1e-6)
"""


def test_a_device_that_is_too_small_for_the_data(tmp_path):
    """70 MB, of which nothing is stored, on a device of 64."""
    usable("cupy")
    code = LARGE.format(path=tmp_path / "x.bin")
    assert printed(code, CUSIM_MEM_MB=64) == ["1", "True"]
