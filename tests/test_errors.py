"""Errors: each survives the way from another process, and what it advises works."""

import ast
import copy
import importlib
import importlib.util
import inspect
import pickle
import pkgutil
import re
import tomllib
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from conftest import usable

import nnx
from nnx.backend import BackendError, HostReadError, OutOfMemoryError, resolve
from nnx.checks import ShapeError
from nnx.commands.cli import main
from nnx.commands.run import LaunchError
from nnx.communication import CommunicationError
from nnx.datasets import DatasetError, DatasetNotFoundError
from nnx.onnx import ExportError
from nnx.saving import FileError
from nnx.testing import (
    BackendMismatchError,
    BackendReport,
    BackendResult,
    GradientError,
    HostSyncError,
)
from nnx.training import NonFiniteLossError

ROOT = Path(__file__).parents[1]
RESULT = BackendResult("ReLU", "jax", "float32", "value", float("inf"), 0.0, "1", "2", "a sign")
# Every exception of the package, with arguments in all of its places.
ERRORS = {
    BackendError: ("reason", "remedy"),
    BackendMismatchError: (BackendReport("ReLU", [RESULT]),),
    CommunicationError: ("a difference",),
    DatasetError: ("reason", "remedy"),
    DatasetNotFoundError: ("reason", "remedy"),
    ExportError: ("no form",),
    FileError: ("file",),
    GradientError: ("ReLU", "x", "message", 1.0, 2.0),
    HostReadError: ("a read",),
    HostSyncError: ("torch", "file.py:1", "float(x)", "reason"),
    LaunchError: ("no mpiexec",),
    OutOfMemoryError: ("memory",),
    ShapeError: ("shape",),
    NonFiniteLossError: (3, float("nan"), {"loss": [1.0]}),
}


def exceptions():
    """All exception classes that modules of nnx and nnx_backends define."""
    for package in (nnx, importlib.import_module("nnx_backends")):
        for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if "plotting" in found.name and importlib.util.find_spec("matplotlib") is None:
                continue  # it defines no exception
            module = importlib.import_module(found.name)
            for thing in vars(module).values():
                own = inspect.isclass(thing) and thing.__module__ == found.name
                if own and issubclass(thing, BaseException):
                    yield thing


def test_the_table_has_every_exception():
    assert set(exceptions()) == set(ERRORS)


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_an_error_can_be_pickled_and_copied(kind):
    error = kind(*ERRORS[kind])
    error.__cause__ = ValueError("cause")
    twins = [pickle.loads(pickle.dumps(error, protocol)) for protocol in range(6)]
    for twin in [*twins, copy.copy(error), copy.deepcopy(error)]:
        assert type(twin) is kind
        assert str(twin) == str(error)
        assert repr(vars(twin)) == repr(vars(error))


def test_named_arguments_survive_too():
    error = BackendError(reason="reason", remedy="remedy")
    assert vars(pickle.loads(pickle.dumps(error))) == {"reason": "reason", "remedy": "remedy"}


def test_an_error_comes_back_from_a_pool_of_processes():
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        error = pool.submit(nnx.set_backend, "cupi").exception(timeout=60)
    assert type(error) is BackendError
    assert "'cupy'" in error.remedy


# A wrong call -> words of its error. What the error advises in quotes or as a call must work.
WRONG = {
    "a number": (lambda: nnx.set_backend(3), TypeError, ["name of a backend", "got 3"]),
    "a class": (
        lambda: nnx.set_backend(type(resolve("numpy"))),
        TypeError,
        ["name of a backend", "NumPyBackend"],
    ),
    "a namespace": (lambda: nnx.set_backend(np), TypeError, ["name of a backend", "numpy"]),
    "no name": (lambda: nnx.set_backend(""), BackendError, ["unknown backend ''"]),
    "capitals": (lambda: nnx.set_backend("NumPy"), BackendError, ["did you mean 'numpy'"]),
    "a device of numpy": (lambda: nnx.set_backend("numpy:1"), BackendError, ["'numpy'", "'1'"]),
    "a device of strict": (lambda: nnx.set_backend("strict:x"), BackendError, ["'strict'", "'x'"]),
    "a device of torch": (lambda: nnx.set_backend("torch:x"), BackendError, ["PyTorch", "'x'"]),
    "a device of jax": (lambda: nnx.set_backend("jax:x"), BackendError, ["JAX", "'x'"]),
    "None for a block": (lambda: nnx.use_backend(None).__enter__(), TypeError, ["got None"]),
    "float16": (
        lambda: nnx.set_backend("numpy", "float16"),
        BackendError,
        ["'numpy'", "'float16'", "float32"],
    ),
    "a dtype of NumPy": (
        lambda: nnx.set_backend("numpy", np.float64),
        TypeError,
        ["as text", 'use "float64"'],
    ),
    "a dtype that is a number": (lambda: resolve("numpy", 32), TypeError, ["got 32"]),
    "text to NumPy": (lambda: nnx.to_numpy("text"), TypeError, ["to_numpy", "text: 'text'"]),
    "None to NumPy": (lambda: nnx.to_numpy(None), TypeError, ["to_numpy", "None"]),
    "a ragged list to NumPy": (lambda: nnx.to_numpy([[1], [1, 2]]), ValueError, ["equal length"]),
    "a ragged list": (lambda: asarray([[1.0], [1.0, 2.0]]), ValueError, ["equal length", "pad"]),
    "text": (lambda: asarray("text"), TypeError, ["asarray", "text: 'text'"]),
    "numbers as text": (lambda: asarray(["1.5"]), TypeError, ["text: ['1.5']"]),
    "an array of text": (lambda: asarray(np.asarray(["1.5"])), TypeError, ["text"]),
    "None": (lambda: asarray(None), TypeError, ["objects: None"]),
    "a missing number": (lambda: asarray([1.0, None]), TypeError, ["[1.0, None]"]),
    "complex numbers": (lambda: asarray([1j]), TypeError, ["real numbers", "numpy.real"]),
    "times": (lambda: asarray(np.asarray(["2020-01-01"], "M8[D]")), TypeError, ["datetime64"]),
    "records": (lambda: asarray(np.zeros(2, [("a", "f4")])), TypeError, ["'a'"]),
    "a set": (lambda: asarray({1.0, 2.0}), TypeError, ["objects: {1.0, 2.0}"]),
    "an unknown dtype": (
        lambda: resolve("numpy").asarray([1.0], dtype="float33"),
        BackendError,
        ["'numpy'", "'float33'", "float64"],
    ),
    "a list in a formula": (lambda: nnx.array_namespace([1.0]), BackendError, ["a list"]),
}


def asarray(data):
    return resolve("numpy").asarray(data)


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_call_says_what_was_expected_and_what_came(name):
    call, kind, words = WRONG[name]
    if " of " in name and name.startswith("a device"):
        usable(name.rpartition(" ")[2])
    before = nnx.get_backend()
    with pytest.raises(kind) as caught:
        call()
    assert nnx.get_backend() is before
    told = str(caught.value)
    assert all(word in told for word in words), told
    for spec in re.findall(r'use "([^"]+)"', told):
        if not spec.startswith("float"):
            assert resolve(spec)
    for arguments in re.findall(r"nnx\.set_backend(\([^)]+\))", told):
        with nnx.use_backend("numpy"):
            assert eval(f"resolve{arguments}")


@pytest.mark.parametrize("data", [[1.0], [True], 3, np.float16([1]), np.zeros((0, 2)), range(3)])
def test_numbers_of_every_kind_are_taken(data, backend):
    np.testing.assert_array_equal(nnx.to_numpy(backend.asarray(data)), np.asarray(data))


def strings(folder):
    """Every text in the source of a folder, docstrings and parts of f-strings included."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node.value


TEXTS = [pair for room in ("backend", "commands", "testing") for pair in strings(f"nnx/{room}")]
TEXTS += strings("backends")


def test_advice_names_extras_that_exist():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    named = [(place, e) for place, text in TEXTS for e in re.findall(r"nnx-array\[(\w+)\]", text)]
    named += [(p, t) for p, t in missing_extras()]
    assert len(named) >= 4
    assert [(place, extra) for place, extra in named if extra not in extras] == []


def test_advice_on_cupy_brings_the_libraries_of_cuda():
    """CuPy's wheels are without them."""
    named = [
        (place, rest)
        for place, text in TEXTS
        for rest in re.findall(r"pip install \"?(?:cupy|nnx-array\[c)(\S*)", text)
    ]
    assert len(named) >= 4
    # an f-string stops where the number of CUDA is filled in
    assert [pair for pair in named if "[ctk]" not in pair[1] and pair[1] != "-cuda"] == []


def missing_extras():
    """The extras that backends hand to `missing(library, extra, error)`."""
    for path in (ROOT / "backends").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "missing":
                yield path.name, node.args[1].value


def test_advice_names_functions_and_commands_that_exist(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    commands = re.search(r"exit status:(.*)", capsys.readouterr().out, re.DOTALL)[1]
    for place, text in TEXTS:
        for call in re.findall(r"\bnnx((?:\.\w+)+)\(", text):
            thing = nnx
            for name in call[1:].split("."):
                thing = getattr(thing, name, None)
            assert callable(thing), (place, call)
        for command in re.findall(r"`nnx (\w+)`", text):
            assert f"\n  {command} " in commands, (place, command)


def test_advice_is_plain_english():
    odd = re.compile(r"\bmend|[,;] say\b|\bsay [`'\"]|\bis none\b|\bis no [A-Z][a-z]")
    assert [(place, odd.search(text)[0]) for place, text in TEXTS if odd.search(text)] == []
