import contextlib
import copy
import os
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
from conftest import usable

import nnx
from nnx.backend import BackendError, array_namespace, installed_backends, resolve, selection
from nnx.commands.bench import timed_backends
from nnx.commands.cli import main
from nnx.commands.doctor import environment
from nnx.testing import assert_no_host_sync, plugin, usable_backends
from nnx_backends import _host


def python(code, **environment):
    """Runs a program in a fresh process, away from the checkout; returns what it prints."""
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return result.stdout.strip()


def connect_anew(monkeypatch):
    """Forget which backends are connected, for one test."""
    monkeypatch.setattr(selection, "_by_name", selection._by_name.__wrapped__)
    monkeypatch.setattr(selection, "connected", selection.connected.__wrapped__)


def test_set_backend_chooses_for_the_process_and_use_backend_for_a_block():
    before = nnx.get_backend()
    try:
        chosen = nnx.set_backend("numpy", dtype="float64")
        assert nnx.get_backend() is chosen
        with nnx.use_backend("numpy", dtype="float32") as inner:
            assert nnx.get_backend() is inner
            assert inner.dtype_name == "float32"
        assert nnx.get_backend() is chosen
    finally:
        nnx.set_backend(before)


def test_use_backend_is_not_seen_by_other_threads():
    seen = []
    with nnx.use_backend("numpy", dtype="float64"):
        thread = threading.Thread(target=lambda: seen.append(nnx.get_backend().dtype_name))
        thread.start()
        thread.join()
    assert seen == ["float32"]


def test_use_backend_ends_with_its_block_even_after_an_error():
    before = nnx.get_backend()
    with pytest.raises(KeyError), nnx.use_backend("numpy", dtype="float64"):
        raise KeyError
    assert nnx.get_backend() is before


def test_a_block_selects_its_device_and_the_one_before_again(monkeypatch):
    """Also if the block ends in an error, and for a network that works elsewhere."""
    current = ["none"]

    @contextlib.contextmanager
    def selected(self):
        current.append(self.dtype_name)
        try:
            yield
        finally:
            current.pop()

    monkeypatch.setattr(nnx.Backend, "selected", selected)
    net = nnx.SequentialNet(2, [Recording(current)])
    with nnx.use_backend("numpy", dtype="float64"):
        assert current == ["none", "float64"]
        net.predict([[1.0, 2.0]])
        assert net.layers[0].seen == "float32"
        assert current == ["none", "float64"]
    assert current == ["none"]
    with pytest.raises(KeyError), nnx.use_backend("numpy"):
        raise KeyError
    assert current == ["none"]


class Recording(nnx.Layer):
    """Notes the current device."""

    def __init__(self, current):
        super().__init__()
        self.current, self.seen = current, None

    def forward(self, x, training=False):
        self.seen = self.current[-1]
        return x, None

    def output_shape(self, input_shape):
        return input_shape


def test_the_environment_chooses_backend_and_dtype():
    program = "import nnx; print(nnx.get_backend())"
    assert "numpy" in python(program, NNX_BACKEND="", NNX_DTYPE="")
    pytest.importorskip("array_api_strict")
    printed = python(program, NNX_BACKEND="strict:device1", NNX_DTYPE="float64")
    assert all(word in printed for word in ("strict", "device1", "float64"))


def test_importing_nnx_imports_no_array_library_but_numpy():
    heavy = ["cupy", "torch", "jax", "array_api_strict", "matplotlib", "sklearn", "rich", "pooch"]
    program = f"import sys, nnx; print([m for m in {heavy} if m in sys.modules])"
    assert python(program) == "[]"


def test_every_shipped_backend_is_found():
    statuses = nnx.available_backends()
    assert {"numpy", "cupy", "strict", "torch", "jax"} <= set(statuses)
    assert statuses["numpy"].usable
    assert statuses["numpy"].version == np.__version__
    for status in statuses.values():
        assert status.usable or (status.reason and status.remedy)


def test_an_unknown_name_lists_the_known_ones_and_the_closest():
    with pytest.raises(BackendError, match=r"unknown backend 'cupi'.*cupy.*jax.*\n.*'cupy'"):
        nnx.set_backend("cupi")


@pytest.mark.gpu
@pytest.mark.parametrize("library", ["cupy", "torch", "jax", "array_api_strict"])
def test_a_missing_library_is_an_error_with_the_pip_line(library, monkeypatch):
    name = {"array_api_strict": "strict"}.get(library, library)
    connect_anew(monkeypatch)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(BackendError, match=rf"{library} is not installed\n.*pip install"):
        resolve(name)
    status = nnx.available_backends()[name]
    assert not status.usable
    assert "pip install" in status.remedy


def test_a_library_that_breaks_on_import_hides_no_other(monkeypatch):
    def broken(self, device, dtype):
        raise OSError("libcudart.so.99: cannot open shared object file")

    from nnx_backends.torch import TorchBackend

    monkeypatch.setattr(TorchBackend, "connect", broken)
    connect_anew(monkeypatch)
    statuses = nnx.available_backends()
    assert len(statuses) >= 5
    assert "libcudart.so.99" in statuses["torch"].reason
    assert "check the installation of torch" in statuses["torch"].remedy
    assert statuses["numpy"].usable


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ("numpy:1", "numpy"),
        ("strict:device9", "device1"),
        ("torch:cuda:99", "cuda:99"),
        ("torch:nonsense", "nonsense"),
        ("jax:cpu:99", "cpu:0"),
        ("jax:nonsense", "nonsense"),
        ("cupy:99", "99"),
        ("cupy:first", "first"),
    ],
)
def test_a_device_that_does_not_exist_is_an_error_that_says_what_there_is(spec, named):
    usable(spec.partition(":")[0])
    with pytest.raises(BackendError, match=named) as caught:
        resolve(spec)
    assert caught.value.remedy


def test_cupy_without_a_gpu_says_what_is_missing():
    pytest.importorskip("cupy")
    if nnx.available_backends()["cupy"].usable:
        pytest.skip("a GPU answers here")
    with pytest.raises(BackendError, match=r"no GPU answers(.|\n)*nvidia-smi"):
        resolve("cupy")


def test_a_dtype_that_the_device_lacks_is_an_error_that_lists_those_it_has():
    usable("strict")
    with pytest.raises(BackendError, match=r"no dtype 'float64'.*no_float64.*float32"):
        resolve("strict:no_float64", "float64")
    with pytest.raises(BackendError, match="'float16'"):
        resolve("numpy", "float16")


def test_float64_under_jax_is_float64_though_jax_has_it_switched_off():
    pytest.importorskip("jax")
    program = (
        "import nnx; b = nnx.set_backend('jax', dtype={!r}); "
        "print(b.asarray([0.1]).dtype, b.xp.zeros(1, dtype=b.dtype).dtype, b.integer_dtype)"
    )
    environment = {"JAX_ENABLE_X64": "0", "NNX_BACKEND": ""}
    assert python(program.format("float64"), **environment) == "float64 float64 int64"
    assert python(program.format("float32"), **environment) == "float32 float32 int32"


def test_asarray_and_to_numpy_bring_values_there_and_back(backend):
    for data in ([[1.5, 2.0]], np.array([3, -4]), np.float64(2.5), np.zeros((0, 3), np.float32)):
        array = backend.asarray(data)
        back = backend.to_numpy(array)
        assert backend.owns(array)
        assert type(back) is np.ndarray
        np.testing.assert_array_equal(back, np.asarray(data))
        np.testing.assert_array_equal(nnx.to_numpy(array), np.asarray(data))


def test_floats_take_the_dtype_of_the_backend_and_integers_stay_integers(backend, backend64):
    for chosen, dtype in ((backend, "float32"), (backend64, "float64")):
        assert nnx.to_numpy(chosen.asarray([0.1])).dtype == dtype
        assert nnx.to_numpy(chosen.asarray(np.float16([0.1]))).dtype == dtype
        assert nnx.to_numpy(chosen.asarray(chosen.asarray([0.1]))).dtype == dtype
        assert nnx.to_numpy(chosen.asarray(np.uint8([1, 2]))).dtype.kind == "i"
        assert nnx.to_numpy(chosen.asarray(np.uint8([1]), dtype=chosen.dtype)).dtype == dtype


def test_awkward_host_arrays_are_taken(backend):
    data = np.arange(12.0).reshape(3, 4)
    read_only = data.copy()
    read_only.flags.writeable = False
    for awkward in (data.T, data[::-1], data[:, ::2], read_only, np.asfortranarray(data)):
        np.testing.assert_array_equal(backend.to_numpy(backend.asarray(awkward)), awkward)


def test_an_array_of_another_library_is_refused_at_the_boundary():
    usable("strict")
    usable("torch")
    foreign = resolve("torch").asarray([1.0])
    with pytest.raises(BackendError, match=r"'strict'.*torch Tensor\n.*to_numpy"):
        resolve("strict").asarray(foreign)


def test_arrays_of_two_libraries_in_one_formula_are_an_error_that_names_both():
    usable("strict")
    host, strict = np.ones(2), resolve("strict").asarray([1.0])
    with pytest.raises(BackendError, match=r"numpy ndarray and a array_api_strict Array|and"):
        array_namespace(host, strict)
    with pytest.raises(BackendError, match="list"):
        array_namespace([1.0])


def test_array_namespace_takes_numpy_scalars_for_numpy_arrays():
    assert array_namespace(np.ones(2), np.float32(1.0)) is array_namespace(np.ones(2))


def test_a_third_partys_backend_is_found_through_its_entry_point(installed):
    usable("strict")
    installed(SHELF.format("watched = None"), shelf="ShelfBackend")
    assert nnx.available_backends()["shelf"].usable
    x = np.random.default_rng(0).standard_normal((100, 3))
    with nnx.use_backend("shelf") as chosen:
        layer = nnx.DenseLayer(3, 2, nnx.SoftMax(), nnx.SGD(0.5))
        net = nnx.SequentialNet(3, [layer], nnx.CrossEntropy())
        history = net.train(x, (x[:, 0] > 0).astype(int), 10, 20, progress=False)
    assert net.backend is chosen
    assert history.accuracy[-1] > 0.9


BROKEN = {
    "an import that fails": ("import no_such_module", "ModuleNotFoundError"),
    "a syntax error": ("class", "SyntaxError"),
    "an error on import": ("raise OSError('no driver')", "OSError: no driver"),
    "no such class": ("x = 1", "AttributeError"),
    "a function": ("def ShelfBackend(device, dtype): pass", "expected a subclass of nnx.Backend"),
    "another class": ("class ShelfBackend: pass", "expected a subclass of nnx.Backend"),
    "no name": (
        "from nnx import Backend\nclass ShelfBackend(Backend): library = 'numpy'",
        "expected ShelfBackend.name to be text",
    ),
    "no library": (
        "from nnx import Backend\nclass ShelfBackend(Backend): name = 'shelf'",
        "expected ShelfBackend.library to be text",
    ),
}
SHELF = """
from nnx import Backend
class ShelfBackend(Backend):
    name = "shelf"
    library = "array_api_strict"
    def connect(self, device, dtype):
        import array_api_strict as xp
        return xp, xp.Device("CPU_DEVICE")
    {}
"""
UNUSABLE = {
    "no connect": (
        "from nnx import Backend\nclass ShelfBackend(Backend): name = library = 'shelf'",
        "must define connect",
    ),
    "connect raises": (SHELF.format("def connect(self, *a): 1 / 0"), "ZeroDivisionError"),
    "no namespace of the standard": (
        SHELF.format("def connect(self, *a): import math; return math, None"),
        "no __array_namespace_info__",
    ),
    "no name of its device": (SHELF.format("def device_name(self): 1 / 0"), "ZeroDivisionError"),
    "no memory": (SHELF.format("def memory(self): raise OSError('nvml')"), "OSError: nvml"),
}


@pytest.mark.parametrize("fault", [*BROKEN, *UNUSABLE])
def test_a_broken_distribution_is_named_and_hides_nothing(fault, installed, capsys):
    usable("strict")
    source, words = {**BROKEN, **UNUSABLE}[fault]
    installed(source, shelf="ShelfBackend")
    status = nnx.available_backends()["shelf"]
    assert not status.usable
    assert words in status.reason
    assert status.remedy
    assert nnx.available_backends()["numpy"].usable
    assert nnx.to_numpy(resolve("strict").asarray([1.0])) == [1.0]
    assert "numpy" in usable_backends()
    assert "numpy" in plugin.every_spec()
    assert timed_backends()[0] == "numpy"
    assert assert_no_host_sync(lambda x: x + 1.0, np.ones(2)).watched
    problems = [problem for problem in environment().problems if words in problem.reason]
    if fault in BROKEN:
        assert "distribution shelf 1.0 (shelf_nnx:ShelfBackend)" in status.reason
        assert "pip uninstall shelf" in status.remedy
        assert len(problems) == 1
        assert "shelf" not in installed_backends()
        with pytest.raises(BackendError, match="distribution shelf"):
            nnx.set_backend("shelf")
    assert main(["backends"]) == 0
    assert words in capsys.readouterr().out


def test_a_library_without_a_version_is_usable(installed):
    usable("strict")
    installed(SHELF.format("library = 'array_api_strict._flags'"), shelf="ShelfBackend")
    status = nnx.available_backends()["shelf"]
    assert status.version == resolve("strict").version


def test_connecting_a_backend_leaves_other_packages_as_they_are():
    program = (
        "import array_api_compat, array_api_compat.numpy as xp, numpy as np;"
        "before = dict(vars(xp)); import nnx;"
        "nnx.set_backend('numpy'); nnx.array_namespace(np.ones(2));"
        "import nnx_backends.numpy;"
        "print(array_api_compat.array_namespace(np.ones(2)) is xp and vars(xp) == before)"
    )
    assert python(program, NNX_BACKEND="") == "True"


def test_importing_a_backend_changes_no_namespace():
    program = (
        "import numpy as np, nnx; before = nnx.array_namespace(np.ones(2));"
        "import nnx_backends.numpy; print(nnx.array_namespace(np.ones(2)) is before);"
        "nnx.set_backend('numpy');"
        "print(nnx.array_namespace(np.ones(2)) is nnx.get_backend().xp)"
        "; print(nnx.array_namespace(np.float32(1)) is nnx.get_backend().xp)"
    )
    assert python(program, NNX_BACKEND="") == "True\nTrue\nTrue"


def test_a_subclass_of_a_librarys_array_belongs_to_the_library():
    class Plank(np.ndarray):
        pass

    numpy = resolve("numpy")
    assert array_namespace(np.ones(2).view(Plank), np.ones(2)) is numpy.xp
    assert numpy.owns(np.ones(2).view(Plank))
    assert not numpy.owns([1.0])


def test_an_array_in_a_trace_belongs_to_its_library():
    usable("jax")
    import jax

    seen = []

    def traced(x):
        seen.append((array_namespace(x) is jax.numpy, resolve("jax").owns(x)))
        return x * 2

    jax.jit(traced)(resolve("jax").asarray([1.0]))
    assert seen == [(True, True)]


def test_a_backend_is_pickled_as_what_it_was_connected_with(backend):
    assert pickle.loads(pickle.dumps(backend)) is backend
    assert copy.deepcopy(backend) is backend


def test_evaluate_returns_the_arrays(backend):
    arrays = [backend.asarray([1.0]), backend.asarray([2, 3])]
    for given, back in zip(arrays, backend.evaluate(tuple(arrays)), strict=True):
        assert given is back


V1 = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_active_file {}\ntotal_inactive_file 5"
V2 = "memory.max", "memory.current", "anon 7\nactive_file {}\ninactive_file 5"
CONTROL_GROUPS = {
    "a job, version 2": (
        "0::/slurm/job_7",
        {"slurm/job_7": (V2, "1000", "900", 300), "slurm": (V2, "max", "4000", 0)},
        [(1000, 595)],
    ),
    "a job in a group with a limit, version 1": (
        "4:cpu:/other\n3:hugetlb,memory:/slurm/job_7\n0::/",
        {"memory/slurm/job_7": (V1, "1000", "900", 300), "memory/slurm": (V1, "2000", "1500", 20)},
        [(1000, 595), (2000, 1475)],
    ),
    "a container that sees its own group as the root": (
        "3:memory:/docker/0123",
        {"memory": (V1, "1000", "900", 300)},
        [(1000, 595)],
    ),
    "a container, version 2": ("0::/", {".": (V2, "1000", "900", 300)}, [(1000, 595)]),
    "no limit": ("0::/", {".": (V2, "max", "900", 300)}, []),
    "no control groups": ("", {}, []),
}


@pytest.mark.parametrize("case", CONTROL_GROUPS)
def test_limits_of_memory_that_containers_and_jobs_have(case, tmp_path):
    """What the system keeps of files does not count, as it gives that back."""
    lines, groups, expected = CONTROL_GROUPS[case]
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(lines)
    for group, ((limit, usage, stat), *values, files) in groups.items():
        place = tmp_path / "sys/fs/cgroup" / group
        place.mkdir(parents=True, exist_ok=True)
        for name, value in zip((limit, usage), values, strict=True):
            (place / name).write_text(f"{value}\n")
        (place / "memory.stat").write_text(stat.format(files))
    assert list(_host.control_groups(tmp_path)) == expected


def test_memory_of_the_host_is_at_most_that_of_its_control_groups(monkeypatch):
    monkeypatch.setattr(_host, "control_groups", lambda: iter([(1 << 40, 0), (1000, 595)]))
    assert _host.host_memory() == (405, 1000)


def test_memory_of_the_device_is_told_in_bytes(backend):
    memory = backend.memory()
    assert memory is None or 0 < memory.free <= memory.total


def test_synchronize_waits_for_what_was_asked(backend):
    backend.asarray([1.0])
    backend.synchronize()


def test_numbers_below_the_normal_ones_are_flushed_in_training_and_only_there():
    """Adam's averages end there where a gradient has become 0, and cost a hundred times more."""
    host = pytest.importorskip("nnx_backends._host")
    if host._libm() is None:
        pytest.skip("nobody knows here how to tell the processor")
    seen = []

    class Watch(nnx.Layer):
        def forward(self, x, training=False):
            seen.append((training, float(np.float32(1e-39) * np.float32(0.5))))
            return x, lambda delta: (delta, {})

        def output_shape(self, input_shape):
            return input_shape

    def raise_an_error(net, history):
        raise LookupError

    with nnx.use_backend("numpy"):
        net = nnx.SequentialNet(2, [Watch(), nnx.DenseLayer(2, 1)])
        with pytest.raises(LookupError):
            net.train([[1.0, 2.0]], [[1.0]], 1, 1, callbacks=[raise_an_error], progress=False)
        net.predict([[1.0, 2.0]])
    assert [(t, v == 0) for t, v in seen] == [(True, True), (False, False)]
    assert np.float32(1e-39) * np.float32(0.5) > 0
