"""`nnx bench`: what it prints and writes is what it has timed."""

import json

import pytest
from conftest import usable

import nnx
from nnx.commands import bench as module
from nnx.commands.bench import WORKLOADS, Timing, Workload, bench, operations, timed_backends
from nnx.commands.cli import main


@pytest.fixture
def small(monkeypatch):
    """Workloads of a moment, and no pauses."""
    few = [
        Workload("A", (12, 8, 3), 4, "SGD"),
        Workload("B", (12, 8, 3), 4, "Adam"),
        Workload("E", (12, 8, 3), 5000, None),
        *(Workload("", (12, n, 3), 4, "SGD", "width", n) for n in (4, 8)),
    ]
    monkeypatch.setattr(module, "WORKLOADS", few)
    monkeypatch.setattr(module, "SETTLE", 0.0)
    return few


def test_the_command_prints_and_writes_every_workload(backend_spec, small, tmp_path, capsys):
    file = tmp_path / "times.json"
    command = ["bench", "--quick", "--backends", f"{usable(backend_spec)},numpy"]
    assert main([*command, "--json", str(file)]) == 0
    printed = capsys.readouterr().out
    report = json.loads(file.read_text())
    assert report.keys() >= {"nnx", "date", "quick", "environment", "crossings"}
    assert report["backends"] == list(dict.fromkeys(["numpy", backend_spec]))
    assert [row["workload"] for row in report["workloads"]] == [str(w) for w in small]
    for row in report["workloads"]:
        assert row["seconds"].keys() == set(report["backends"])
        assert all(t > 0 for times in row["seconds"].values() for t in times)
        assert row["first"].keys() == set(report["backends"])
        assert all(t > 0 for t in row["first"].values())
        assert [len(times) for times in row["seconds"].values()] == [3] * len(report["backends"])
    assert len(report["crossings"]) == len(report["backends"]) - 1
    assert all(line in printed for line in report["crossings"])
    assert len(report["first_steps"]) == len(report["backends"])
    assert all(line in printed for line in report["first_steps"])
    assert "BLAS" in printed


def test_a_backend_that_cannot_be_used_is_an_error(capsys):
    assert main(["bench", "--backends", "fortran"]) == 1
    assert "unknown backend 'fortran'" in capsys.readouterr().err


def test_pretended_devices_are_timed_only_when_they_are_named():
    assert timed_backends()[0] == "numpy"
    assert not any(spec.startswith("strict") for spec in timed_backends())
    assert timed_backends(["numpy", "numpy"]) == ["numpy"]


def test_operations_are_those_of_a_step():
    usable("strict")
    one, two = (Workload("", (784, *[32] * n, 10), 10, "SGD") for n in (1, 2))
    assert 10 < operations(one) < operations(two) < 2 * operations(one)
    assert operations(one._replace(optimizer="Adam")) > operations(one)
    assert operations(one._replace(sizes=(784, 2048, 10))) == operations(one)
    half, whole = (one._replace(optimizer=None, batch=n) for n in (5000, 10_000))
    assert operations(half) > 1.5 * operations(whole)


@pytest.mark.parametrize(
    ("seconds", "sentence"),
    [
        ((5, 4, 1, 1), "faster than NumPy from width 8 on (784-w-10, SGD, batch 4)"),
        ((1, 5, 1, 1), "faster than NumPy from width 8 on (784-w-10, SGD, batch 4)"),
        ((1, 1, 1, 1), "faster than NumPy from width 2 on (784-w-10, SGD, batch 4)"),
        ((1, 1, 1, 3), "not faster than NumPy up to width 16 (784-w-10, SGD, batch 4)"),
    ],
)
def test_the_crossing_is_where_it_stays_faster(seconds, sentence):
    timings = [
        Timing(Workload("", (784, n, 10), 4, "SGD", "width", n), {"numpy": [2.0], "gpu": [s]})
        for n, s in zip((2, 4, 8, 16), seconds)
    ]
    run = module.BenchRun(["numpy", "gpu"], True, timings, module.Environment())
    assert run.crossings() == [f"gpu: {sentence}"]


def test_the_workloads_have_those_letters_and_growing_families():
    assert "".join(w.name for w in WORKLOADS) == "ABCDE"
    assert {w.family for w in WORKLOADS} == {"", "batch", "width"}
    for workload in WORKLOADS:
        assert 4 <= workload.steps <= 200


def test_the_backend_in_use_stays(small):
    with nnx.use_backend("numpy", dtype="float64") as chosen:
        bench(["numpy"], quick=True)
        assert nnx.get_backend() is chosen
