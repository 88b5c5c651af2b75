"""The simulated GPU fails as a real one does. tests/cusim/README.md has the switches."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from simulated import error_of, printed

pytestmark = pytest.mark.gpu
cpusim = pytest.importorskip("cpusim", reason="no simulated GPU here")
cupy = pytest.importorskip("cupy")

RUN = Path(__file__).parent / "cusim" / "run"


@pytest.fixture(autouse=True)
def nothing_fails_after_a_test():
    yield
    for what in cpusim.CALLS:
        cpusim.fail(what, 0)


# A library -> what needs it, and the error of a machine that does not have it.
NEEDED = {
    "cublas": ("cupy.ones((2, 2)) @ cupy.ones((2, 2))", "ImportError"),
    "curand": ("cupy.random.rand(3)", "ImportError"),
    "cusolver": ("cupy.linalg.qr(cupy.zeros((2, 2)))", "ImportError"),
    "cusparse": ("cupy.cuda.cusparse", "ImportError"),
    "nvrtc": ("cupy.arange(3.0) + 1", "DynamicLibNotFoundError"),
}


@pytest.mark.parametrize("library", NEEDED)
def test_a_library_that_is_not_installed(library):
    work, error = NEEDED[library]
    message = error_of(work, CUSIM_HIDE=library)
    assert message.startswith(f'{error} Failure finding "lib{library}.so.')
    # what does not need it goes on
    assert printed("print(cupy.zeros(2).sum().shape)" if library != "nvrtc" else
                   "print(cupy.zeros(2).shape)", CUSIM_HIDE=library)  # fmt: skip


def test_headers_that_are_not_installed():
    message = error_of("cupy.arange(3.0) + 1", CUSIM_HIDE="headers")
    assert message.startswith("RuntimeError Failed to find CUDA headers")


def test_several_are_hidden_and_an_unknown_one_is_refused():
    for library in ("cublas", "curand"):
        assert error_of(NEEDED[library][0], CUSIM_HIDE="curand,cublas").startswith("ImportError")
    environment = {**os.environ, "CUSIM_HIDE": "cudnn"}
    done = subprocess.run(
        [sys.executable, "-c", "import cupy"], env=environment, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "expected CUSIM_HIDE to hold names of cu" in done.stderr


@pytest.mark.parametrize(
    ("driver", "runtime", "numbers", "works"),
    [
        ("12.4", "13.2", "12040 13020", False),
        ("0", "13.2", "0 13020", False),
        ("13.0", "13.2", "13000 13020", True),
        ("13.2", "12.9", "13020 12090", True),
    ],
)
def test_the_driver_must_support_the_cuda_of_the_wheel(driver, runtime, numbers, works):
    versions = {"CUSIM_DRIVER": driver, "CUSIM_RUNTIME": runtime}
    read = "cupy.cuda.runtime.driverGetVersion(), cupy.cuda.runtime.runtimeGetVersion()"
    assert printed(f"print({read})", **versions) == [numbers]
    for work in ("print(cupy.zeros(3).shape)", "print(cupy.cuda.runtime.getDeviceCount() + 2)"):
        line = error_of(work, **versions)
        if works:
            assert line in ("(3,)", "3")
        else:
            assert line == (
                "CUDARuntimeError cudaErrorInsufficientDriver: "
                "CUDA driver version is insufficient for CUDA runtime version"
            )


def test_a_gpu_that_this_cuda_does_not_compile_for():
    read = "cupy.cuda.Device().compute_capability, cupy.cuda.runtime.getDeviceProperties(0)"
    code = f"text, properties = {read}\nprint(text, properties['major'], properties['minor'])"
    assert printed(code, CUSIM_CC="6.1") == ["61 6 1"]
    assert error_of("cupy.arange(3.0) + 1", CUSIM_CC="6.1") == (
        "CompileException nvrtc: error: invalid value for --gpu-architecture (-arch)"
    )
    for machine in ({"CUSIM_CC": "7.5"}, {"CUSIM_CC": "6.1", "CUSIM_RUNTIME": "12.9"}):
        assert printed("print((cupy.arange(3.0) + 1).sum())", **machine) == ["6.0"]


def test_without_a_gpu():
    error = "CUDARuntimeError cudaErrorNoDevice: no CUDA-capable device is detected"
    assert error_of("cupy.zeros(3)", CUSIM_DEVICES=0) == error
    assert printed("print(cupy.is_available())", CUSIM_DEVICES=0) == ["False"]


def a_new_kernel():
    code = f'extern "C" __global__ void k{os.getpid()}(float *x) {{ x[0] = 1; }}'
    kernel = cupy.RawKernel(code, f"k{os.getpid()}")
    kernel((1,), (1,), (cupy.zeros(1, "f4"),))


# What fails -> work that needs it, the error, its text
FACES = {
    "malloc": (lambda: cupy.ones(5_000_000), "OutOfMemoryError", "allocating 40,000,000 bytes"),
    "cublas": (lambda: cupy.ones((2, 2)) @ cupy.ones((2, 2)), "CUBLASError",
               "CUBLAS_STATUS_ALLOC_FAILED"),
    "curand": (lambda: cupy.random.RandomState(1), "CURANDError",
               "CURAND_STATUS_ALLOCATION_FAILED"),
    "module": (a_new_kernel, "CUDADriverError", "CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
    "launch": (lambda: cupy.ones(3) + 1, "CUDADriverError",
               "CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
    "pinned": (lambda: cupy.cuda.alloc_pinned_memory(1 << 20), "CUDARuntimeError",
               "cudaErrorMemoryAllocation: out of memory"),
    "stream": (lambda: cupy.cuda.runtime.streamDestroy(cupy.cuda.runtime.streamCreate()),
               "CUDARuntimeError", "cudaErrorMemoryAllocation: out of memory"),
    "event": (lambda: cupy.cuda.runtime.eventDestroy(cupy.cuda.runtime.eventCreate()),
              "CUDARuntimeError", "cudaErrorMemoryAllocation: out of memory"),
}  # fmt: skip


@pytest.mark.parametrize("what", FACES)
def test_every_face_of_a_full_gpu_shows_once(what):
    work, error, text = FACES[what]
    cupy.get_default_pinned_memory_pool().free_all_blocks()
    cpusim.fail(what)
    with pytest.raises(Exception, match=text) as caught:
        work()
    assert type(caught.value).__name__ == error
    work()


def test_the_pools_of_cupy_try_again_before_they_give_up():
    cpusim.fail("malloc", 2)
    assert cupy.ones(5_000_000).shape == (5_000_000,)
    cpusim.fail("pinned", 1)
    assert cupy.cuda.alloc_pinned_memory(1 << 21)


def test_a_failure_can_be_ordered_from_outside():
    message = error_of("cupy.ones((2, 2)) @ cupy.ones((2, 2))", CUSIM_FAIL="cublas:1,stream")
    assert message == "CUBLASError CUBLAS_STATUS_ALLOC_FAILED"


def test_what_cannot_fail_is_refused():
    with pytest.raises(ValueError, match=r"expected one of malloc, .*got 'mallocs'"):
        cpusim.fail("mallocs")


def test_a_small_gpu():
    code = (
        "print(cupy.cuda.Device().mem_info[1])\n"
        "try: cupy.zeros(16_000_000, 'u1')\n"
        "except cupy.cuda.memory.OutOfMemoryError as error: print(error)"
    )
    total, error = printed(code, CUSIM_MEM_MB=10)
    assert total == str(10 << 20)
    assert "allocating 16,000,000 bytes" in error


def test_pinned_memory_is_counted():
    code = (
        "import cpusim\n"
        "names = ('pinned', 'pinned_bytes', 'pinned_peak')\n"
        "def show(): print(*map(cpusim.stats().get, names))\n"
        "memory = cupy.cuda.alloc_pinned_memory(3_000_000)\n"
        "show()\n"
        "del memory\n"
        "show()\n"
        "cupy.get_default_pinned_memory_pool().free_all_blocks()\n"
        "show()\n"
        "cpusim.reset()\n"
        "show()\n"
        "memory = cupy.cuda.alloc_pinned_memory(1000)\n"
        "show()\n"
        "cpusim.reset()\n"
        "show()\n"
    )
    # the pool rounds up to a power of two, and keeps what is freed
    assert printed(code) == [
        "1 4194304 4194304",
        "1 4194304 4194304",
        "1 None 4194304",
        "None None None",
        "1 1024 1024",
        "None None None",
    ]


@pytest.mark.parametrize("n", [1, 3, 10, 33, 100, 700])
def test_kernels_whose_threads_wait_for_each_other(n):
    """Scans and searches let the warps of a block meet at different barriers."""
    rng = np.random.default_rng(n)
    host = rng.random((n, n)) < 0.5
    x = cupy.asarray(host)
    for found, expected in zip(x.nonzero(), host.nonzero(), strict=True):
        assert np.array_equal(cupy.asnumpy(found), expected)
    assert np.array_equal(cupy.asnumpy(cupy.cumsum(x)), np.cumsum(host))
    assert np.array_equal(cupy.asnumpy(cupy.cumsum(x, axis=1)), np.cumsum(host, axis=1))
    numbers = rng.integers(0, 1000, (n, n))
    y = cupy.asarray(numbers)
    assert np.array_equal(cupy.asnumpy(y[x]), numbers[host])
    found = cupy.bincount(y.ravel(), weights=y.ravel())  # an atomic sum of float64 and int64
    assert np.array_equal(cupy.asnumpy(found), np.bincount(numbers.ravel(), numbers.ravel()))
    for name in ("sum", "max", "argmin", "any", "all"):
        found = cupy.asnumpy(getattr(y, name)(axis=0))
        assert np.array_equal(found, getattr(numbers, name)(axis=0)), name


def test_new_memory_holds_nan():
    pool = cupy.get_default_memory_pool()
    pool.free_all_blocks()
    assert bool(cupy.isnan(cupy.empty(1000)).all())


def test_the_counters_count():
    x, host = cupy.ones((3, 4)), np.ones((3, 4))
    x @ x.T
    cpusim.reset()
    cupy.asnumpy(cupy.asarray(host) @ x.T + 1)
    found = cpusim.stats()
    assert {name: found[name] for name in ("launches", "gemm", "h2d", "d2h")} == {
        "launches": 1,
        "gemm": 1,
        "h2d": 1,
        "d2h": 1,
    }
    assert (found["h2d_bytes"], found["d2h_bytes"]) == (96, 72)


def test_run_says_what_is_missing(tmp_path):
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')
    bare.chmod(0o755)
    done = subprocess.run([RUN, bare, "-c", ""], capture_output=True, text=True)
    assert done.returncode == 2
    assert "expected CuPy 14 for CUDA 13 (cupy-cuda13x)" in done.stderr
    assert 'pip install -e ".[test-cupy]"' in done.stderr
    assert subprocess.run([RUN], capture_output=True).returncode == 2
