"""What a person with a GPU may have: wheels, drivers, libraries and cards that do not fit."""

import sys
import types

import pytest
from conftest import usable
from simulated import printed

import nnx
from nnx.backend import BackendError
from nnx.commands.doctor import environment
from nnx_backends import _cuda
from nnx_backends.cupy import CuPyBackend

MISSING = (
    'Failure finding "libcublas.so.13 or libcublas.so.12": No such file: libcublas.so.13 or '
    "libcublas.so.12, No such file: libcublas.so.13\n  listdir('/usr/lib')"
)


class CUDARuntimeError(RuntimeError):
    pass


class Runtime:
    """CUDA's versions of wheel and driver, and an error of every question for GPUs, if given."""

    CUDARuntimeError = CUDARuntimeError

    def __init__(self, wheel=13020, driver=13020, error=None):
        self.wheel, self.driver, self.error = wheel, driver, error

    def runtimeGetVersion(self):  # noqa: N802
        return self.wheel

    def driverGetVersion(self):  # noqa: N802
        return self.driver

    def getDeviceCount(self):  # noqa: N802
        if self.error:
            raise CUDARuntimeError(self.error)
        return 1


def machine(version="14.2.0", capability="90", cublas=True, nvrtc=True, **runtime):
    """A module cupy on a machine with these faults."""

    class Cuda(types.SimpleNamespace):
        @property
        def cublas(self):
            if not cublas:
                raise ImportError(MISSING)

    def get_version():
        if not nvrtc:
            raise RuntimeError(MISSING.replace("cublas", "nvrtc"))

    cuda = Cuda(runtime=Runtime(**runtime), nvrtc=types.SimpleNamespace(getVersion=get_version))
    cuda.Device = lambda number: types.SimpleNamespace(id=number, compute_capability=capability)
    return types.SimpleNamespace(__version__=version, cuda=cuda)


NO_GPU = "cudaErrorNoDevice: no CUDA-capable device is detected"
OLD_DRIVER = "cudaErrorInsufficientDriver: CUDA driver version is insufficient"
BOTH = ("nvidia-smi", '"CUDA Version"', '"cupy-cuda13x[ctk]"', '"cupy-cuda12x[ctk]"')
# The machine -> what the reason says, what the remedy says.
FAULTS = {
    "no CuPy": (None, ("cupy is not installed",), BOTH),
    "a CuPy of before": (
        machine(version="13.6.0"),
        ("expected CuPy 14 or later, got 13.6.0",),
        ("pip uninstall -y cupy", *BOTH),
    ),
    "no GPU": (machine(error=NO_GPU), ("no GPU answers", NO_GPU), BOTH),
    "no driver": (machine(error=OLD_DRIVER, driver=0), ("no GPU answers", OLD_DRIVER), BOTH),
    "a driver older than the wheel": (
        machine(error=OLD_DRIVER, driver=12080),
        ("no GPU answers", OLD_DRIVER),
        ("CUDA 12.8", "CUDA 13.2", "uninstall -y cupy-cuda13x", '"cupy-cuda12x[ctk]"'),
    ),
    "no cuBLAS": (
        machine(cublas=False),
        ("does not find a library of CUDA", "libcublas.so.13"),
        ('"cupy-cuda13x[ctk]"', "CUDA_PATH"),
    ),
    "no NVRTC": (
        machine(nvrtc=False, wheel=12090),
        ("does not find a library of CUDA", "libnvrtc.so.13"),
        ('"cupy-cuda12x[ctk]"', "CUDA_PATH"),
    ),
    "a GPU that is too old for CUDA 13": (
        machine(capability="61"),
        ("compute capability 7.5 or later", "CUDA 13.2", "got 6.1"),
        ("pip uninstall -y", '"cupy-cuda12x[ctk]"'),
    ),
    "a forked process": (
        machine(error="cudaErrorInitializationError: initialization error"),
        ("forked", "cudaErrorInitializationError"),
        ('"spawn"',),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_of_a_machine_is_found_on_connecting_with_its_remedy(fault, monkeypatch):
    cupy, reason, remedy = FAULTS[fault]
    monkeypatch.setitem(sys.modules, "cupy", cupy)  # None makes Python say that there is none
    with pytest.raises(BackendError) as info:
        CuPyBackend()
    for text in reason:
        assert text in info.value.reason
    assert "\n" not in info.value.reason
    for text in remedy:
        assert text in info.value.remedy


def test_a_gpu_that_cuda_12_knows_and_one_that_cuda_13_knows_are_admitted():
    for wheel, capability in ((12090, "61"), (13000, "75"), (13020, "121")):
        cupy = machine(wheel=wheel, capability=capability)
        _cuda.check_gpu(cupy.cuda.runtime, cupy.cuda.Device(0))


@pytest.fixture
def cupy():
    usable("cupy")
    import cupy

    return cupy


@pytest.mark.gpu
def test_connecting_takes_no_memory_and_compiles_nothing(cupy):
    counters = pytest.importorskip("cpusim", reason="no counters of CUDA calls here")
    counters.reset()
    CuPyBackend()
    counted = counters.stats()
    assert [counted.get(name, 0) for name in ("malloc", "compile", "launches")] == [0, 0, 0]


# The switches of the simulated GPU -> does it connect, what is the reason, what is the remedy.
SIMULATED = {
    "CUSIM_HIDE=cublas": (False, ("libcublas.so.13",), ('"cupy-cuda13x[ctk]"',)),
    "CUSIM_HIDE=nvrtc": (False, ("libnvrtc.so.13",), ('"cupy-cuda13x[ctk]"',)),
    "CUSIM_HIDE=headers": (True, ("cannot compile", "headers"), ('"cupy-cuda13x[ctk]"',)),
    "CUSIM_DEVICES=0": (False, ("no GPU answers", "cudaErrorNoDevice"), BOTH),
    "CUSIM_DRIVER=0": (False, ("no GPU answers", "cudaErrorInsufficientDriver"), BOTH),
    "CUSIM_DRIVER=12.4": (
        False,
        ("no GPU answers",),
        ("CUDA 12.4", "CUDA 13.2", "uninstall -y cupy-cuda13x", '"cupy-cuda12x[ctk]"'),
    ),
    "CUSIM_CC=6.1": (False, ("got 6.1", "7.5 or later"), ("uninstall -y", '"cupy-cuda12x[ctk]"')),
    "CUSIM_CC=7.5": (True, (), ()),
}
CONNECT = """
import nnx
try:
    backend = nnx.backend.resolve("cupy")
    print("connected")
    backend.try_out()
except nnx.BackendError as error:
    print(error.reason)
    print(error.remedy)
"""


@pytest.mark.gpu
@pytest.mark.parametrize("switch", SIMULATED)
def test_the_faults_of_a_simulated_machine(switch):
    pytest.importorskip("cpusim", reason="no simulated GPU here")
    connects, reason, remedy = SIMULATED[switch]
    name, _, value = switch.partition("=")
    lines = printed(CONNECT, **{name: value})
    assert lines[: len(lines) - 2 * bool(reason)] == ["connected"] * connects
    for text in reason:
        assert text in lines[-2]
    for text in remedy:
        assert text in lines[-1]


@pytest.mark.gpu
def test_the_doctor_reports_what_the_compiler_says(cupy, monkeypatch):
    """It is asked, even if all kernels are in the cache on disk."""
    compiler = cupy.cuda.compiler
    said = 'k.cu(3): catastrophic error: cannot open source file "cuda_fp16.h"\n  #include\n'

    def refuse(*arguments, **options):
        raise compiler.CompileException(said, "", "k.cu", ())

    assert not [p for p in environment().problems if "cupy" in p.reason]
    monkeypatch.setattr(compiler, "_compile_using_nvrtc_no_warning", refuse)
    (problem,) = (p for p in environment().problems if "cupy" in p.reason)
    assert "backend cupy: CuPy cannot compile and run a kernel" in problem.reason
    assert 'cannot open source file "cuda_fp16.h"' in problem.reason
    assert '"cupy-cuda13x[ctk]"' in problem.remedy
    assert nnx.available_backends()["cupy"].usable  # which compiles nothing
