"""`nnx check`: nothing exported is forgotten, and what it prints and writes is so."""

import ast
import inspect
import json
import textwrap
from pathlib import Path

import pytest
from conftest import usable

import nnx
from nnx.backend import FUNCTIONS, contract
from nnx.commands import check as module
from nnx.commands.check import BASES, check, items
from nnx.commands.cli import main
from nnx.testing import usable_backends
from nnx.testing._probes import PROBES

KINDS = tuple(PROBES)


def exported(*kinds):
    found = [getattr(nnx, name) for name in nnx.__all__]
    return {thing for thing in found if inspect.isclass(thing) and issubclass(thing, kinds)}


def test_every_exported_class_has_an_item_that_can_be_made():
    with nnx.use_backend("numpy"):
        made = {type(item.make()) for item in items()}
    missing = exported(*KINDS) - BASES - made
    assert not missing, f"add them to nnx.commands.check.ARGUMENTS: {missing}"
    assert made - BASES == made


def test_the_base_classes_are_no_items_because_they_compute_nothing():
    assert exported(*KINDS) >= BASES
    for base in BASES:
        assert base in KINDS or "Family" in base.__doc__ or "Base class" in base.__doc__


def test_every_kind_of_mathematics_has_a_check():
    """A new kind, with formulas of a new name, must be told to nnx.testing._probes."""
    formulas = ("forward", "wfun", "slopes", "rule", "backward", "gradient")
    kinds = exported(object) - exported(nnx.Backend)
    for kind in kinds:
        if any(hasattr(kind, name) for name in formulas):
            assert issubclass(kind, KINDS), kind


def test_names_of_items_are_unique():
    names = [item.name for item in items()]
    assert len(set(names)) == len(names)


def test_everything_agrees(backend_spec, tmp_path, capsys):
    file = tmp_path / "report.json"
    command = ["check", "--quick", "--backends", usable(backend_spec), "--json", str(file)]
    status = main(command)
    printed = capsys.readouterr().out
    assert status == 0, printed
    for word in ("RandnOrthonormal", "SequentialNet, training", "BLAS: ", "quick check"):
        assert word in printed
    assert "the backends agree" in printed.splitlines()[-2]

    report = json.loads(file.read_text())
    assert report["passed"] is True
    assert report["backends"] == [backend_spec]
    names = ["round trip", *(item.name for item in items())]
    assert [item["item"] for item in report["items"]] == names
    assert report["environment"]["facts"]["backend numpy"]["BLAS"]
    for item in report["items"]:
        assert item["results"], item
        for result in item["results"]:
            assert result["passed"]
            assert 0 <= result["error"] <= 1
            assert result["backend"] == backend_spec


@pytest.fixture
def few(monkeypatch):
    """Checks only items of these names."""

    def choose(*names):
        chosen = [item for item in items() if item.name in names]
        monkeypatch.setattr(module, "items", lambda: chosen)

    return choose


def test_both_dtypes_and_200_steps_unless_quick(few):
    few("SequentialNet, training")
    for quick, steps, dtypes in ((False, 200, {"float32", "float64"}), (True, 50, {"float32"})):
        _, report = check(["numpy"], quick).reports
        assert {result.dtype for result in report.results} == dtypes
        assert f"losses of the first {steps} steps" in {r.quantity for r in report.results}


def test_a_defect_is_a_status_of_1_and_names_the_item(few, monkeypatch, capsys, tmp_path):
    few("TanH", "Logistic")
    forward = nnx.TanH.forward

    def wrong(self, x):
        y, backward = forward(self, x)
        return y * (1.001 if "float32" in str(y.dtype) else 1.0), backward

    monkeypatch.setattr(nnx.TanH, "forward", wrong)
    file = tmp_path / "report.json"
    assert main(["check", "--backends", "numpy", "--json", str(file)]) == 1
    printed = capsys.readouterr().out
    assert "FAIL" in printed
    assert "TanH on numpy in float32: value" in printed
    assert "THE BACKENDS DISAGREE: 1 of 2 items on numpy: TanH" in printed
    report = json.loads(file.read_text())
    assert report["passed"] is False
    assert [item["passed"] for item in report["items"]] == [True, True, False]
    (failure,) = [r for r in report["items"][2]["results"] if not r["passed"]]
    assert failure["error"] > 1000
    assert {"expected", "given", "hint", "tolerance", "place"} <= failure.keys()
    assert failure["place"] == f"{__file__}:{wrong.__code__.co_firstlineno}"
    assert failure["place"] in printed


def test_an_item_that_is_broken_on_numpy_hides_no_other(few, monkeypatch):
    few("TanH", "Logistic")
    monkeypatch.setattr(nnx.TanH, "forward", lambda self, x: 1 / 0)
    _, logistic, tanh = check(["numpy"]).reports
    assert logistic.passed
    assert "ZeroDivisionError" in tanh.failures[0].given
    assert f"{__file__}:" in tanh.failures[0].place


def test_a_backend_that_is_not_usable_is_a_status_of_1_with_the_remedy(capsys):
    assert main(["check", "--backends", "numpy,cupi"]) == 1
    told = capsys.readouterr().err
    assert "unknown backend 'cupi'" in told
    assert "did you mean 'cupy'?" in told


def example():
    """The backend in the docstring of nnx.backend.contract."""
    text = contract.__doc__
    code = text[text.index("    from nnx.backend") : text.index("In the pyproject.toml")]
    return textwrap.dedent(code)


def test_the_example_of_a_backend_is_a_whole_one(installed, few, capsys):
    usable("strict")
    installed(example(), shelf="ShelfBackend")
    few("DenseLayer", "HeNormal", "TanH", "Adam")
    status = main(["check", "--backends", "numpy shelf"])
    printed = capsys.readouterr().out
    assert status == 0, printed
    assert "4 items on numpy, shelf" in printed
    assert 'shelf = "shelf_nnx:ShelfBackend"' in contract.__doc__


def test_a_backend_whose_values_are_worn_fails_alone(installed, few, capsys):
    usable("strict")
    worn = """
class WornBackend(ShelfBackend):
    name = "worn"

    def asarray(self, data, dtype=None):
        array = super().asarray(data, dtype)
        return self.xp.asarray(self.to_numpy(array).astype("float16").astype("float32"))
"""
    installed(example() + worn, shelf="ShelfBackend", worn="WornBackend")
    few("HeNormal")
    assert {"shelf", "worn"} <= set(usable_backends())
    assert main(["check", "--quick", "--backends", "shelf,worn"]) == 1
    printed = capsys.readouterr().out
    assert "HeNormal on worn in float32: weights of wfun(6, 5)" in printed
    assert " on shelf in " not in printed


# Backends that cannot bring an array there and back -> the quantity and words of the only failure.
LOST = {
    "raises": (
        "def from_numpy(self, host): raise KeyError('the shelf is full')",
        "KeyError: 'the shelf is full'",
        "shelf_nnx.py:",
    ),
    "another dtype": (
        "def from_numpy(self, host): return self.xp.asarray(host.astype('float32'))",
        "dtype of a matrix of float64",
        "must keep the dtype",
    ),
    "another shape": (
        "def to_numpy(self, array): return np.atleast_1d(super().to_numpy(array))",
        "shape of a number of float32",
        "(1,)",
    ),
    "other values": (
        "def to_numpy(self, array): return np.zeros_like(super().to_numpy(array))",
        "values of a matrix of float32",
        "[[-2.0, -1.0, 0.0], [1.0, 2.0, 3.0]]",
    ),
    "a list": (
        "def to_numpy(self, array): return super().to_numpy(array).tolist()",
        "values of a number of float32",
        "a NumPy array",
    ),
    "another device": (
        "def from_numpy(self, host):\n"
        "        return self.xp.asarray(host, device=self.xp.Device('device2'))",
        "device of a number of float32",
        "must be on `self.device`",
    ),
    "arrays of NumPy": (
        "def from_numpy(self, host): return host",
        "its arrays",
        "numpy.ndarray: NumPy would be compared with itself, so nothing was checked",
    ),
}


@pytest.mark.parametrize("fault", LOST)
def test_a_library_that_fails_everywhere_says_so_once(installed, few, fault, capsys):
    usable("strict")
    method, *words = LOST[fault]
    installed(f"import numpy as np\n{example()}\n    {method}\n", shelf="ShelfBackend")
    few("TanH", "DenseLayer", "Adam")
    run = check(["numpy", "shelf"])
    assert run.left_out == ["shelf"]
    assert not run.passed
    assert all(report.passed and report.backends == ["numpy"] for report in run.reports[1:])
    told = "\n".join(map(str, run.reports[0].failures))
    assert all(word in told for word in words), told
    assert "NOT CHECKED: shelf" in run.verdict
    assert main(["check", "--quick", "--backends", "shelf"]) == 1
    assert "NOT CHECKED: shelf" in capsys.readouterr().out


PLAIN = {
    "NumPy's namespace": """
from nnx.backend import Backend

class ShelfBackend(Backend):
    name = library = "numpy_like"

    def connect(self, device, dtype):
        import array_api_compat.numpy as xp

        return xp, "cpu"
""",
    "a subclass of arrays that from_numpy never makes": """
import numpy as np
from nnx_backends.numpy import NumPyBackend

class Plank(np.ndarray):
    pass

class ShelfBackend(NumPyBackend):
    name = "shelf"

    def from_numpy(self, host):
        return host.view(Plank)
""",
}


@pytest.mark.parametrize("source", PLAIN.values(), ids=PLAIN)
def test_a_backend_of_plain_numpy_arrays_is_told_that_nothing_was_checked(installed, few, source):
    installed(source, shelf="ShelfBackend")
    few("TanH")
    run = check(["shelf"])
    assert not run.passed
    assert len(run.reports) == 1
    for failure in run.reports[0].failures:
        assert failure.quantity == "its arrays"
        assert "nothing was checked" in failure.given


def test_a_function_that_a_namespace_lacks_is_named_before_the_items(installed, few, monkeypatch):
    usable("strict")
    poor = """
class Poor:
    def __init__(self, xp):
        self.xp = xp

    def __getattr__(self, name):
        if name == "hypot":
            raise AttributeError(name)
        return getattr(self.xp, name)

class PoorBackend(ShelfBackend):
    name = "poor"

    def connect(self, device, dtype):
        xp, device = super().connect(device, dtype)
        return Poor(xp), device
"""
    installed(example() + poor, poor="PoorBackend")
    few("TanH")
    run = check(["poor"])
    assert "poor: its namespace lacks hypot" in run.reports[0].notes[0]


def test_the_list_of_functions_has_all_that_the_mathematics_calls():
    used = set()
    for path in Path(nnx.__file__).parent.rglob("*.py"):
        if path.parent.name not in ("testing", "commands"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "xp":
                    used.add(node.attr)
    used = {name for name in used if not name.startswith("__")}
    dtypes = {"bool", "float32", "float64", "int32", "int64"}
    assert used - dtypes - set(FUNCTIONS) == set()
    assert len(used & set(FUNCTIONS)) > 30


def test_the_version(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"nnx {nnx.__version__}\n"


def test_the_help_says_what_the_exit_status_means(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    printed = capsys.readouterr().out
    for command in ("backends", "doctor", "check", "bench"):
        assert f"\n  {command} " in printed.partition("exit status:")[2]
    with pytest.raises(SystemExit) as ended:
        main(["chekc"])
    assert ended.value.code == 2
