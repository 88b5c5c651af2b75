"""`nnx check`: nothing exported is forgotten, and what it prints and writes is so."""

import inspect
import json

import pytest
from conftest import usable

import nnx
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
    assert [item["item"] for item in report["items"]] == [item.name for item in items()]
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
        (report,) = check(["numpy"], quick).reports
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
    assert [item["passed"] for item in report["items"]] == [True, False]
    (failure,) = [r for r in report["items"][1]["results"] if not r["passed"]]
    assert failure["error"] > 1000
    assert {"expected", "given", "hint", "tolerance"} <= failure.keys()


def test_an_item_that_is_broken_on_numpy_hides_no_other(few, monkeypatch):
    few("TanH", "Logistic")
    monkeypatch.setattr(nnx.TanH, "forward", lambda self, x: 1 / 0)
    logistic, tanh = check(["numpy"]).reports
    assert logistic.passed
    assert "ZeroDivisionError" in tanh.failures[0].given


def test_a_backend_that_is_not_usable_is_a_status_of_1_with_the_remedy(capsys):
    assert main(["check", "--backends", "numpy,cupi"]) == 1
    told = capsys.readouterr().err
    assert "unknown backend 'cupi'" in told
    assert "did you mean 'cupy'?" in told


SHELF = """
from nnx.backend import Backend
class ShelfBackend(Backend):
    name = 'shelf'
    library = 'numpy'
    def connect(self, device, dtype):
        import array_api_compat.numpy as xp
        return xp, 'cpu'
class WornBackend(ShelfBackend):
    name = 'worn'
    def asarray(self, data, dtype=None):
        array = super().asarray(data, dtype)
        return array.astype('float16').astype(array.dtype)
"""


def test_a_third_partys_library_is_checked_like_the_others(few, tmp_path, monkeypatch, capsys):
    (tmp_path / "checked_shelf.py").write_text(SHELF)
    info = tmp_path / "shelf-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shelf\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[nnx.backends]\nshelf = checked_shelf:ShelfBackend\nworn = checked_shelf:WornBackend\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    few("DenseLayer", "HeNormal", "Adam", "SequentialNet, training")

    assert main(["check", "--quick", "--backends", "numpy shelf"]) == 0
    assert "4 items on numpy, shelf" in capsys.readouterr().out
    assert main(["check", "--quick", "--backends", "shelf,worn"]) == 1
    printed = capsys.readouterr().out
    assert "HeNormal on worn in float32: weights of wfun(6, 5)" in printed
    assert " on shelf in " not in printed
    assert {"shelf", "worn"} <= set(usable_backends())
