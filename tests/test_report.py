"""`nnx check --report DIR`: two files with all that a bug report needs, also if a part fails."""

import contextlib
import importlib.metadata
import json
import platform
import subprocess
from pathlib import Path

import pytest
from conftest import usable

import nnx
from nnx.backend import resolve
from nnx.commands import check as check_module
from nnx.commands import report as module
from nnx.commands.bench import Workload
from nnx.commands.check import items
from nnx.commands.cli import main

WIDTHS = [Workload("", (12, n, 3), 4, "SGD", "width", n) for n in (4, 8)]


@pytest.fixture
def small(monkeypatch):
    """Few items to check and workloads of a moment."""
    few = [item for item in items() if item.name in ("TanH", "SGD", "SequentialNet, training")]
    monkeypatch.setattr(check_module, "items", lambda: few)
    workloads = [Workload("A", (12, 8, 3), 4, "SGD"), *WIDTHS]
    monkeypatch.setattr(module, "WORKLOADS", workloads)
    monkeypatch.setattr("nnx.commands.bench.SETTLE", 0.0)


@pytest.fixture
def only(monkeypatch):
    """Leaves out the other parts."""

    def keep(*names):
        parts = {name: part for name, part in module.PARTS.items() if name in names}
        monkeypatch.setattr(module, "PARTS", parts)

    return keep


def written(folder, *options):
    """The exit status, and what is in the two files."""
    status = main(["check", "--quick", "--report", str(folder), *options])
    data = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return status, data, (folder / "report.md").read_text(encoding="utf-8")


def test_the_files_of_every_backend(backend_spec, small, tmp_path, capsys):
    usable(backend_spec)
    status, data, page = written(tmp_path / "new" / "folder", "--backends", backend_spec)
    printed = capsys.readouterr().out
    assert status == int(not all(data["passed"].values()))
    assert list(data["passed"]) == list(module.PARTS)
    # the doctor may have found something on this machine
    assert [n for n, good in data["passed"].items() if not good and n != "doctor"] == []
    for name, good in data["passed"].items():
        assert f"{name}: {'passed' if good else 'FAILED'}" in printed
        assert f"| {name} | {'passed' if good else '**FAILED**'} |" in page

    assert data["check"]["items"][0]["item"] == "round trip"
    assert data["check"]["backends"] == [backend_spec]
    assert data["check"]["verdict"] in page
    assert data["bench"]["backends"] == list(dict.fromkeys(["numpy", backend_spec]))
    for row in data["bench"]["workloads"]:
        assert f"| {row['workload']} | " in page
        assert row["first"][backend_spec] > 0
    for line in data["bench"]["crossings"] + data["bench"]["first_steps"]:
        assert line in page
    assert data["memory"]["backends"].keys() == {backend_spec}
    assert data["waits"]["steps"].keys() == {"dense", "convolution", "recurrent"}
    for row in data["waits"]["steps"].values():
        assert set(row["no read on"]) | set(row["not watched on"]) >= {"strict", "cupy"}
    assert data["doctor"]["facts"][f"backend {backend_spec.partition(':')[0]}"]["device"] in page


def test_what_tells_two_machines_apart(tmp_path, only):
    only("doctor")
    _, data, page = written(tmp_path, "--backends", "numpy")
    assert platform.python_version() in data["machine"]["Python"]
    assert data["machine"]["OS"] == platform.platform()
    assert data["machine"]["CPU"]
    assert data["nnx"] == nnx.__version__
    assert data["quick"] is True
    versions = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
    assert data["packages"] == versions
    assert f"| numpy | {importlib.metadata.version('numpy')} |" in page
    for text in (*data["machine"].values(), resolve("numpy").facts()["BLAS"]):
        assert text in page


def test_the_commit_of_a_clone(tmp_path, monkeypatch):
    package = tmp_path / "nnx" / "__init__.py"
    package.parent.mkdir()
    package.write_text("")
    monkeypatch.setattr(nnx, "__file__", str(package))
    assert module._commit() == "not a clone"

    def git(*command):
        name = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", "-C", str(tmp_path), *name, *command]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    assert module._commit() == git("rev-parse", "HEAD")
    package.write_text("changed")
    assert module._commit() == f"{git('rev-parse', 'HEAD')}, with changes"


@pytest.mark.parametrize("part", list(module.PARTS))
def test_a_part_that_fails_is_told_and_keeps_none_of_the_others_away(
    part, small, tmp_path, monkeypatch, capsys
):
    def broken(backends, quick, tell):
        raise RuntimeError("the GPU has fallen off the bus")

    quick = {name: lambda *arguments: (True, {"error": "left out"}) for name in module.PARTS}
    monkeypatch.setattr(module, "PARTS", quick | {part: broken})
    status, data, page = written(tmp_path)
    assert status == 1
    assert data["passed"] == {name: name != part for name in module.PARTS}
    assert "in broken" in data[part]["error"]
    assert "the GPU has fallen off the bus" in data[part]["error"]
    assert f"| {part} | **FAILED** |" in page
    assert data[part]["error"].strip() in page
    assert f"{part}: FAILED" in capsys.readouterr().out


def test_results_that_differ_are_on_the_page(small, only, tmp_path, monkeypatch):
    only("check")
    forward = nnx.TanH.forward

    def wrong(self, x):
        y, backward = forward(self, x)
        return y * (1.001 if "float32" in str(y.dtype) else 1.0), backward

    monkeypatch.setattr(nnx.TanH, "forward", wrong)
    status, data, page = written(tmp_path, "--backends", "numpy")
    assert (status, data["passed"]["check"]) == (1, False)
    assert "TanH on numpy in float32: value" in page
    assert "| check | **FAILED** |" in page


def test_the_doctor_judges_the_backends_that_are_asked_for(only, tmp_path, monkeypatch):
    """Another one that is broken is a fault of this machine, but not of these backends."""
    only("doctor")

    kind = type("Broken", (nnx.Backend,), {"name": "broken", "library": "json"})
    known = {**nnx.backend.installed_backends(), "broken": kind}
    status = nnx.backend.BackendStatus("broken", False, reason="no such driver")
    state = {**nnx.available_backends(), "broken": status}
    monkeypatch.setattr("nnx.commands.doctor.installed_backends", lambda: known)
    monkeypatch.setattr("nnx.commands.doctor.available_backends", lambda: state)
    _, data, _ = written(tmp_path / "one", "--backends", "numpy")
    assert "backend broken" not in data["doctor"]["facts"]
    assert not [p for p in data["doctor"]["problems"] if "broken" in p["reason"]]
    _, data, _ = written(tmp_path / "all")
    assert [p for p in data["doctor"]["problems"] if "no such driver" in p["reason"]]
    assert data["passed"] == {"doctor": False}


def test_too_much_memory_is_a_failure(small, only, tmp_path, monkeypatch):
    only("memory")
    peaks = iter([10**9, 5, 5])

    @contextlib.contextmanager
    def peak_memory(self):
        peak = next(peaks)
        yield lambda: peak

    monkeypatch.setattr(type(resolve("numpy")), "peak_memory", peak_memory)
    status, data, page = written(tmp_path, "--backends", "numpy")
    assert (status, data["passed"]["memory"]) == (1, False)
    assert "| numpy | 1,000,000,000 |" in page


def test_a_read_in_a_step_is_a_failure_with_its_line(small, only, tmp_path, monkeypatch):
    only("waits")
    usable("strict")
    forward = nnx.ReLU.forward

    def reading(self, x):
        float(nnx.array_namespace(x).max(x))
        return forward(self, x)

    monkeypatch.setattr(nnx.ReLU, "forward", reading)
    status, data, page = written(tmp_path, "--backends", "numpy")
    assert (status, data["passed"]["waits"]) == (1, False)
    assert f"{Path(__file__).name}:{reading.__code__.co_firstlineno + 1}" in page


def test_a_backend_that_cannot_be_used_is_an_error(capsys, tmp_path):
    assert main(["check", "--report", str(tmp_path), "--backends", "fortran"]) == 1
    assert "unknown backend 'fortran'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
