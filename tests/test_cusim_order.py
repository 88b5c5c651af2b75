"""The simulated GPU keeps the order of streams, of memory and of processes."""

import numpy as np
import pytest
from simulated import printed

pytestmark = pytest.mark.gpu
cpusim = pytest.importorskip("cpusim", reason="no simulated GPU here")
cupy = pytest.importorskip("cupy")

N = 1000


@pytest.fixture
def stream():
    """A stream that the default stream does not wait for."""
    return cupy.cuda.Stream(non_blocking=True)


def peek(x):
    """What is in the memory of an array now, without waiting for any stream."""
    import ctypes

    return np.frombuffer((ctypes.c_char * x.nbytes).from_address(x.data.ptr), x.dtype).copy()


# A way to wait for a stream -> the function
WAITS = {
    "the stream": lambda stream, event: stream.synchronize(),
    "the event": lambda stream, event: event.synchronize(),
    "the device": lambda stream, event: cupy.cuda.Device().synchronize(),
    "another stream that waits": lambda stream, event: through_another(event),
    "asking again and again": lambda stream, event: ask_until_done(event),
}


def through_another(event):
    other = cupy.cuda.Stream(non_blocking=True)
    other.wait_event(event)
    other.synchronize()


def ask_until_done(event):
    asked = 0
    while not event.done:
        asked += 1
    assert asked > 1


# Work in a stream: what it makes of an array of ones
WORK = {
    "kernels": (lambda x, out: cupy.add(cupy.multiply(x, 3, out=out), 4, out=out), 7),
    "a copy": (lambda x, out: out.data.copy_from_device_async(x.data, x.nbytes), 1),
    "zeros": (lambda x, out: out.data.memset_async(0, out.nbytes), 0),
    "a product": (lambda x, out: cupy.matmul(x[None], x[:, None], out=out[:1, None]), N),
}


@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.parametrize("work", WORK)
def test_work_in_a_stream_is_done_when_it_is_waited_for(work, wait, stream):
    run, expected = WORK[work]
    x, out = cupy.ones(N), cupy.full((N,), -1.0)
    with stream:
        run(x, out)
        event = stream.record()
        count = cpusim.pending(stream)
        assert count >= 2
    cupy.ones(3) + 1  # the default stream does not wait for it
    assert cpusim.pending(stream) == count
    assert peek(out)[0] == -1
    WAITS[wait](stream, event)
    assert peek(out)[0] == expected
    assert cpusim.pending(stream) == 0


def test_the_default_stream_waits_for_a_blocking_stream():
    stream = cupy.cuda.Stream()
    x = cupy.ones(N)
    with stream:
        y = x + 1
    assert cpusim.pending(stream) == 1
    assert float((y + 1)[0]) == 3
    assert cpusim.pending(stream) == 0


def test_arguments_are_read_at_the_launch(stream):
    kernel = cupy.RawKernel(
        'extern "C" __global__ void put(double *x, double value) { x[0] = value; }', "put"
    )
    x, value = cupy.zeros(1), np.array(5.0)
    with stream:
        kernel((1,), (1,), (x, value[()]))
        value[...] = 6
    stream.synchronize()
    assert float(x[0]) == 5


def test_pageable_memory_is_read_at_the_call_and_pinned_memory_later(stream):
    pageable, pinned = np.ones(N), pinned_memory(N)
    pinned[...] = 1
    a, b = cupy.zeros(N), cupy.zeros(N)
    for host, device in ((pageable, a), (pinned, b)):
        device.data.copy_from_host_async(host.ctypes.data, host.nbytes, stream)
        host[...] = 2
    stream.synchronize()
    assert (float(a[0]), float(b[0])) == (1, 2)


def pinned_memory(size):
    import cupyx

    return cupyx.empty_pinned((size,))


def test_a_copy_to_pinned_memory_must_be_waited_for(stream):
    x, host = cupy.ones(N), pinned_memory(N)
    host[...] = -1
    x.data.copy_to_host_async(host.ctypes.data, host.nbytes, stream)
    assert host[0] == -1
    stream.synchronize()
    assert host[0] == 1


def test_a_missing_event_shows(stream):
    """One stream reads what another one has still to write."""
    other = cupy.cuda.Stream(non_blocking=True)
    x, y, z = cupy.zeros(N), cupy.zeros(N), cupy.zeros(N)
    with stream:
        x += 1
        event = stream.record()
    with other:
        cupy.add(x, 0, out=y)
    other.synchronize()
    with other:
        other.wait_event(event)
        cupy.add(x, 0, out=z)
    other.synchronize()
    assert (float(y[0]), float(z[0])) == (0, 1)


def test_eager_streams_do_their_work_at_once():
    code = (
        "import cpusim\nx, s = cupy.ones(9), cupy.cuda.Stream(non_blocking=True)\n"
        "with s: x += 1\nprint(cpusim.pending(s))"
    )
    assert printed(code) == ["1"]
    assert printed(code, CUSIM_EAGER=1) == ["0"]


def test_a_graph_runs_what_was_captured_and_only_when_it_is_launched(stream):
    x = cupy.zeros(N)
    other = cupy.cuda.Stream(non_blocking=True)
    with stream:
        x += 0  # compiles before the capture
        stream.synchronize()
        stream.begin_capture()
        x += 1
        other.wait_event(stream.record())
        with other:
            x += 1
        stream.wait_event(other.record())
        graph = stream.end_capture()
        assert peek(x)[0] == 0
        cpusim.reset()
        for _ in range(3):
            graph.launch()
    stream.synchronize()
    assert peek(x)[0] == 6
    assert cpusim.stats()["graph_launch"] == 3


def test_freed_blocks_are_poisoned():
    x = cupy.ones(N)
    ptr = x.data.ptr
    with cpusim.poison():
        y = cupy.ones(N)
        view = cupy.ndarray((N,), memptr=cupy.cuda.MemoryPointer(
            cupy.cuda.UnownedMemory(y.data.ptr, y.nbytes, None), 0))  # fmt: skip
        assert float(view.sum()) == N
        del y
        assert bool(cupy.isnan(view).all())
    assert x.data.ptr == ptr
    assert float(x.sum()) == N


def test_the_poison_comes_after_the_work_of_its_stream(stream):
    x = cupy.ones(N)
    with cpusim.poison(), stream:
        y = x + 1
        x_twice = y * 2
        del y  # the pool may give its block to the next array of the stream
        z = x_twice + 1
    stream.synchronize()
    assert float(z.sum()) == 5 * N


def test_a_switch_poisons_in_every_thread():
    code = (
        "import threading\n"
        "def work():\n"
        "    x = cupy.ones(1000)\n"
        "    memory = cupy.cuda.UnownedMemory(x.data.ptr, x.nbytes, None)\n"
        "    view = cupy.ndarray((1000,), memptr=cupy.cuda.MemoryPointer(memory, 0))\n"
        "    del x\n"
        "    print(bool(cupy.isnan(view).all()))\n"
        "work()\n"
        "thread = threading.Thread(target=work)\n"
        "thread.start()\n"
        "thread.join()\n"
    )
    assert printed(code) == ["False"] * 2
    assert printed(code, CUSIM_POISON=1) == ["True"] * 2


FORK = """
import os, sys
{before}
sys.stdout.flush()
if os.fork() == 0:
    for work in (cupy.cuda.runtime.getDeviceCount, lambda: cupy.zeros(3), {more}):
        try: work(); print("works")
        except Exception as error: print(type(error).__name__, error)
    sys.stdout.flush()
    os._exit(0)
os.wait()
"""


def test_cuda_does_not_survive_a_fork():
    before = "x = cupy.ones((2, 2)); x + 1"
    error = "CUDARuntimeError cudaErrorInitializationError: initialization error"
    # a kernel that is compiled and loaded already goes to the driver
    code = FORK.format(before=before, more="lambda: x.data.memset(0, 8), lambda: x @ x")
    lines = printed(code)
    assert lines[:3] == [error] * 3
    assert lines[3] in (error, "CUBLASError CUBLAS_STATUS_NOT_INITIALIZED")
    # importing CuPy does not start CUDA: a child may be the first to use it
    assert printed(FORK.format(before="", more="lambda: cupy.ones((2, 2))")) == ["works"] * 3


def test_a_worker_that_is_spawned_works():
    code = (
        "import concurrent.futures, multiprocessing\n"
        "if __name__ == '__main__':\n"
        "    cupy.ones(3)\n"
        "    spawn = multiprocessing.get_context('spawn')\n"
        "    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:\n"
        "        print(pool.submit(cupy.is_available).result())\n"
    )
    assert printed(code) == ["True"]
