"""The simulated GPU, from Python: counters, faults, and how it takes the place of CUDA.

cpusim.reset(); step(); cpusim.stats()  # {"launches": 31, "gemm": 5, ...}, without the zeros
cpusim.fail("cublas")                   # the next call of cuBLAS finds no memory
"""

import contextlib
import ctypes
import importlib.util
import os
import sys
import threading
import types
from pathlib import Path

import numpy as np

__all__ = ["CALLS", "fail", "finish", "log", "pending", "poison", "reset", "stats"]

_folder = os.environ.get("CUSIM_LIB")
if not _folder:
    raise ImportError("start the program through tests/cusim/run")
if "cupy" in sys.modules:
    raise ImportError("expected cpusim to be imported before cupy: import it first")

# The order is that of Stats in sim.h.
_NAMES = [
    "launches", "gemm", "malloc", "free", "h2d", "d2h", "d2d", "p2p", "h2d_bytes", "d2h_bytes",
    "d2d_bytes", "p2p_bytes", "stream_sync", "dev_sync", "event_sync", "memset", "compile",
    "graph_launch", "pinned", "pinned_bytes", "pinned_peak",
]  # fmt: skip
# What can fail -> how many calls in a row make CuPy give up: its pools try again.
CALLS = {
    "malloc": 3, "pinned": 2, "stream": 1, "event": 1, "module": 1, "launch": 1,
    "cublas": 1, "curand": 1, "cusolver": 1,
}  # fmt: skip


def _blas():
    """The OpenBLAS in NumPy's wheel."""
    found = sorted(Path(np.__file__).parents[1].glob("numpy.libs/libscipy_openblas64_*"))
    return str(found[0]) if found else ""


os.environ.setdefault("CUSIM_BLAS", _blas())
os.environ["CUPY_ACCELERATORS"] = ""  # CUB's kernels in the wheel are machine code of a GPU
# Loaded here, the driver is found by its name; CuPy's own modules need its symbols.
_library = ctypes.PyDLL(os.path.join(_folder, "libcuda.so.1"), mode=ctypes.RTLD_GLOBAL)
_waiting = ctypes.CDLL(_library._name)  # for calls that may wait for a thread that needs Python


def stats():
    """The counters since `reset`, without the zeros."""
    values = (ctypes.c_long * len(_NAMES))()
    _library.cusim_stats(values)
    found = {name: value for name, value in zip(_NAMES, values) if value}
    if "pinned" not in found:  # what was pinned before is not an event since `reset`
        found.pop("pinned_bytes", None)
        found.pop("pinned_peak", None)
    return found


def reset():
    """Set the counters to zero; the peak of pinned memory starts from what is pinned now."""
    _library.cusim_reset()


def log(on):
    """Print every call to standard error, or stop."""
    _library.cusim_log(int(on))


def fail(what, calls=None):
    """Let the next calls of one kind find no memory. The kinds are the keys of CALLS.

    Without a number, as many as CuPy tries before it gives up; 0 ends it.
    """
    if what not in CALLS:
        raise ValueError(f"expected one of {', '.join(CALLS)}, got {what!r}")
    _waiting.cusim_fail(what.encode(), CALLS[what] if calls is None else calls)


def finish():
    """Run what is pending in all streams, without counting a synchronisation."""
    _waiting.cusim_finish()


def pending(stream):
    """How much work waits in a stream of CuPy."""
    return _waiting.cusim_pending(ctypes.c_void_p(stream.ptr))


for _entry in filter(None, os.environ.get("CUSIM_FAIL", "").split(",")):
    _what, _, _calls = _entry.partition(":")
    fail(_what, int(_calls) if _calls else None)


# ---- libraries: those that are simulated, in the place where cuda-pathfinder looks for CUDA's
_HIDDEN = set(filter(None, os.environ.get("CUSIM_HIDE", "").split(",")))


def _replace_libraries():
    from cuda import pathfinder
    from cuda.pathfinder._dynamic_libs import load_nvidia_dynamic_lib as loading
    from cuda.pathfinder._dynamic_libs.search_steps import LATE_FIND_STEPS

    paths = (path for path in Path(_folder).glob("lib*.so.*") if path.name != "libcuda.so.1")
    simulated = {path.name.removeprefix("lib").partition(".")[0]: path for path in paths}
    unknown = _HIDDEN - set(simulated) - {"headers"}
    if unknown:
        raise ValueError(
            f"expected CUSIM_HIDE to hold names of {', '.join(sorted(simulated))}, headers, "
            f"got {', '.join(sorted(unknown))}"
        )
    load = loading._load_lib_no_cache

    def load_simulated(name):
        descriptor = loading.LIB_DESCRIPTORS[name]
        if name in _HIDDEN:
            search = loading.SearchContext(descriptor)
            for steps in (loading.EARLY_FIND_STEPS, LATE_FIND_STEPS):
                loading.run_find_steps(search, steps)  # for the message: what they find is hidden
            search.raise_not_found()
        if name not in simulated:
            return load(name)
        loading.load_dependencies(descriptor, pathfinder.load_nvidia_dynamic_lib)
        path = str(simulated[name])
        handle = ctypes.CDLL(path, mode=os.RTLD_NOW | os.RTLD_GLOBAL)._handle
        return pathfinder.LoadedDL(path, False, handle, "system-search")

    loading._load_lib_no_cache = load_simulated
    if "headers" in _HIDDEN:
        # Kernels that were compiled before must not be found either.
        os.environ["CUPY_CACHE_DIR"] += "-without-headers"
        pathfinder.find_nvidia_header_directory = lambda name: None


_replace_libraries()


# ---- the module of the runtime: its entry points for C (capsules) and its functions
_C_TYPES = {
    "PyObject *": ctypes.py_object, "int": ctypes.c_int, "unsigned int": ctypes.c_uint,
    "size_t": ctypes.c_size_t, "intptr_t": ctypes.c_ssize_t, "float": ctypes.c_float,
}  # fmt: skip
_kept = []


def _address(function):
    return ctypes.cast(function, ctypes.c_void_p).value


def _refused(message):
    def refuse(*arguments, **options):
        raise NotImplementedError(message)

    return refuse


def _replace_runtime():
    runtime = importlib.import_module("cupy_backends.cuda.api.runtime")
    capsule, signature_of = ctypes.pythonapi.PyCapsule_New, ctypes.pythonapi.PyCapsule_GetName
    capsule.restype = ctypes.py_object
    capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    signature_of.restype, signature_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
    for name, old in list(runtime.__pyx_capi__.items()):
        signature = ctypes.c_char_p(signature_of(old))
        _kept.append(signature)
        simulated = getattr(_library, f"rt_{name}", None)
        if simulated is None:
            if b"PyObject *(" not in signature.value:
                continue  # a constant, or a function whose result cannot tell of an error
            address = _address(_library.rt_not_simulated)
            function = _refused(f"cupy.cuda.runtime.{name} is not simulated")
        else:
            address = _address(simulated)
            function = _function(name, signature.value.decode(), address)
        runtime.__pyx_capi__[name] = capsule(address, signature, None)
        if hasattr(runtime, name):
            setattr(runtime, name, function)
    disable = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_int, ctypes.c_int)
    disable = disable(_address(_library.rt_deviceDisablePeerAccess))
    runtime.deviceDisablePeerAccess = lambda device: disable(device, 0)


def _function(name, signature, address):
    """A Python function from what a capsule's name says: "int (intptr_t, int __pyx_skip...)"."""
    result, _, rest = signature.partition("(")
    arguments = [argument.strip() for argument in rest.rstrip(")").split(",")]
    optional = any("optional_args" in argument for argument in arguments)
    skip = any("skip_dispatch" in argument for argument in arguments)
    given = [_C_TYPES[a] for a in arguments if "__pyx" not in a and a != "void"]
    types_ = [*given, *[ctypes.c_int] * skip, *[ctypes.c_void_p] * optional]
    call = ctypes.PYFUNCTYPE(_C_TYPES.get(result.strip(), ctypes.py_object), *types_)(address)
    tail = [*[0] * skip, *[None] * optional]
    if name == "streamBeginCapture":

        def begin(stream, mode=2):
            options = (ctypes.c_int * 2)(1, mode)
            return call(stream, 0, ctypes.addressof(options))

        return begin
    return lambda *arguments: call(*arguments[: len(given)], *tail)


_replace_runtime()


# ---- what is machine code of a GPU in the wheel
def _view(pointer, shape, dtype):
    dtype = np.dtype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    if not size:
        return np.empty(shape, dtype)
    return np.frombuffer((ctypes.c_char * size).from_address(pointer), dtype).reshape(shape)


def _sort(dtype, data, keys, shape):
    finish()
    _view(data, shape, dtype).sort(axis=-1, kind="stable")


def _argsort(dtype, indices, data, keys, shape):
    finish()
    order = np.argsort(_view(data, shape, dtype), axis=-1, kind="stable")
    _view(indices, shape, np.intp)[...] = order


def _lexsort(dtype, indices, keys, k, n):
    finish()
    _view(indices, (n,), np.intp)[...] = np.lexsort(_view(keys, (k, n), dtype))


_thrust = types.ModuleType("cupy.cuda.thrust")
_thrust.sort, _thrust.argsort, _thrust.lexsort = _sort, _argsort, _lexsort
_thrust.available, _thrust.get_build_version = True, lambda: 300102
sys.modules["cupy.cuda.thrust"] = _thrust


class _NoGenerator(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return _refused("cupy.random.Generator is not simulated: use cupy.random.RandomState")


sys.modules["cupy.random._generator_api"] = _NoGenerator("cupy.random._generator_api")


# ---- freed blocks of CuPy's pools
@contextlib.contextmanager
def poison():
    """Write NaN into each block that this thread gives back to a pool, in the order of its stream.

    CUSIM_POISON=1 does it in every thread.
    """
    with _poison():
        yield


def _poison():
    import cupy

    class Poison(cupy.cuda.MemoryHook):
        name = "Poison"

        def malloc_postprocess(self, *, device_id, size, mem_size, mem_ptr, pmem_id):
            _streams[mem_ptr] = cupy.cuda.get_current_stream().ptr

        def free_preprocess(self, *, device_id, mem_size, mem_ptr, pmem_id):
            stream = ctypes.c_void_p(_streams.pop(mem_ptr, 0))
            _waiting.cusim_poison(ctypes.c_void_p(mem_ptr), ctypes.c_size_t(mem_size), stream)

    return Poison()


_streams = {}  # the address of a block of a pool -> the stream it was taken for


class _AfterCuPy:
    """Registers the hook when CuPy is loaded, and in each thread that starts later."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != "cupy":
            return None
        sys.meta_path.remove(_AfterCuPy)
        spec = importlib.util.find_spec(name)
        execute, run = spec.loader.exec_module, threading.Thread.run

        def exec_module(module):
            execute(module)
            _poison().__enter__()
            threading.Thread.run = run_poisoned

        def run_poisoned(thread):
            with _poison():
                run(thread)

        spec.loader.exec_module = exec_module
        return spec


if os.environ.get("CUSIM_POISON", "0") not in ("", "0"):
    sys.meta_path.insert(0, _AfterCuPy)
