"""Several simulated GPUs: what belongs to one of them cannot be used on another."""

import pytest
from simulated import error_of, printed

pytestmark = pytest.mark.gpu
pytest.importorskip("cpusim", reason="no simulated GPU here")
pytest.importorskip("cupy")


def on_two(code, **switches):
    return printed(code, CUSIM_DEVICES=2, **switches)


def refused(work, **switches):
    """The error of work, which has an array on each device and device 0 current."""
    arrays = "a = cupy.ones((2, 2))\nwith cupy.cuda.Device(1): b = cupy.ones((2, 2))\n"
    code = f"{arrays}try: {work}\nexcept Exception as error: print(type(error).__name__, error)"
    return on_two(code, **switches)[0]


def test_each_thread_has_a_current_device_and_starts_on_the_first():
    code = (
        "import threading\n"
        "current = cupy.cuda.runtime.getDevice\n"
        "print(cupy.cuda.runtime.getDeviceCount(), current())\n"
        "cupy.cuda.Device(1).use()\n"
        "thread = threading.Thread(target=lambda: print(current()))\n"
        "thread.start()\n"
        "thread.join()\n"
        "print(current())"
    )
    assert on_two(code) == ["2 0", "0", "1"]


def test_there_is_no_third():
    assert error_of("cupy.cuda.Device(2).use()", CUSIM_DEVICES=2) == (
        "CUDARuntimeError cudaErrorInvalidDevice: invalid device ordinal"
    )


def test_memory_belongs_to_the_device_that_was_current():
    code = (
        "with cupy.cuda.Device(1): b = cupy.ones(5_000_000)\n"
        "a = cupy.ones(3)\n"
        "print(a.device.id, b.device.id)\n"
        "for device in (0, 1):\n"
        "    free, total = cupy.cuda.Device(device).mem_info\n"
        "    print(total - free > 30_000_000)"
    )
    assert on_two(code) == ["0 1", "False", "True"]


def test_each_device_has_a_memory_of_its_own():
    code = (
        "a = cupy.ones(6_000_000, 'u1')\n"
        "with cupy.cuda.Device(1): b = cupy.ones(6_000_000, 'u1')\n"
        "print(b.device.id)"
    )
    assert on_two(code, CUSIM_MEM_MB=10) == ["1"]


def test_cupy_refuses_arrays_of_two_devices_that_cannot_see_each_other():
    error = refused("a + b")
    assert error.startswith("ValueError The device where the array resides (1) is different")
    assert error.endswith("Peer access is unavailable between these devices.")


def test_cupy_opens_devices_that_can_see_each_other_and_says_so():
    code = (
        "import warnings\n"
        "a = cupy.ones(3)\n"
        "with cupy.cuda.Device(1): b = cupy.ones(3)\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        "    print(a + b, caught[0].category.__name__)"
    )
    assert on_two(code, CUSIM_PEER=1) == ["[2. 2. 2.] PerformanceWarning"]


KERNEL = (
    'cupy.RawKernel(\'extern "C" __global__ void k(double *x) { x[0] = 1; }\', "k")'
    "((1,), (1,), (b,))"
)


@pytest.mark.parametrize("peer", [0, 1])
def test_a_kernel_that_cupy_does_not_check(peer):
    """Not even devices that could see each other do, until that is enabled."""
    error = refused(KERNEL, CUSIM_PEER=peer)
    assert error.startswith("CUDADriverError CUDA_ERROR_ILLEGAL_ADDRESS")
    assert error.endswith("(kernel k runs on device 0 and was given memory of device 1)")


@pytest.mark.parametrize("work", ["b @ b", "a @ b"])
def test_a_product_with_memory_of_another_device(work):
    assert refused(work) == "CUBLASError CUBLAS_STATUS_EXECUTION_FAILED"


def test_a_stream_of_another_device():
    code = (
        "a = cupy.ones(3)\n"
        "with cupy.cuda.Device(1): stream = cupy.cuda.Stream()\n"
        "kernel = cupy.RawKernel('extern \"C\" __global__ void k(double *x) {}', 'k')\n"
        "try: kernel((1,), (1,), (a,), stream=stream)\n"
        "except Exception as error: print(type(error).__name__, error)\n"
        "try: cupy.cuda.runtime.eventRecord(cupy.cuda.Event().ptr, stream.ptr)\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    launched, recorded = on_two(code)
    assert launched.startswith("CUDADriverError CUDA_ERROR_INVALID_HANDLE")
    assert recorded.startswith("CUDARuntimeError cudaErrorInvalidResourceHandle")


def test_a_copy_between_devices_works_and_is_counted():
    code = (
        "import cpusim\n"
        "a = cupy.arange(3.0)\n"
        "cpusim.reset()\n"
        "with cupy.cuda.Device(1): b = cupy.asarray(a.copy())\n"
        "print(b, b.device.id, cpusim.stats()['p2p'], cpusim.stats()['p2p_bytes'])"
    )
    assert on_two(code) == ["[0. 1. 2.] 1 1 24"]
