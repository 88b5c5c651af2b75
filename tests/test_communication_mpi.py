"""Several processes by MPI: that they agree, and how they end."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nnx.commands.cli import main
from nnx.commands.processes import model
from nnx.commands.run import LaunchError, launch, launcher
from nnx.testing.plugin import why_unusable

pytest.importorskip("mpi4py", reason="needs MPI (extra mpi)")
PROGRAM = str(Path(__file__).with_name("communication_program.py"))
SPECS = ["numpy/float64", "numpy/float32", "strict/float64", "torch/float64", "jax/float64"]

try:
    launcher()
except LaunchError as error:  # pragma: no cover
    pytest.skip(f"needs MPI (extra mpi): {error}", allow_module_level=True)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    file = tmp_path_factory.mktemp("mpi") / "found.json"
    specs = [spec for spec in SPECS if why_unusable(spec.partition("/")[0]) is None]
    assert launch(2, [PROGRAM, "agree", str(file), *specs]).wait(300) == 0
    return json.loads(file.read_text())


@pytest.mark.parametrize("spec", SPECS)
def test_two_processes_agree_with_one(spec, found):
    if why_unusable(spec.partition("/")[0]) is not None:
        pytest.skip(why_unusable(spec.partition("/")[0]))
    tolerance = 1e-10 if spec.endswith("64") else 1e-5
    assert found[spec]["size"] == 2
    for name, error, losses in found[spec]["of"]:
        assert name == "mpi"
        assert error < tolerance
        assert losses < tolerance


@pytest.mark.gpu
def test_gpus_agree_over_the_host_and_by_a_stand_in_for_nccl(tmp_path):
    pytest.importorskip("cpusim", reason="needs the simulated GPU")
    file = tmp_path / "found.json"
    assert launch(2, [PROGRAM, "nccl", str(file)]).wait(120) == 0
    found = json.loads(file.read_text())
    for expected, spec in (("nccl", "cupy/float64"), ("mpi", "cupy/float64/mpi")):
        for name, error, losses in found[spec]["of"]:
            assert name == expected
            assert error < 1e-10
            assert losses < 1e-10


# What goes wrong on rank 1 -> what is on the screen, and the exit status.
FAULTS = {
    "kill": ("exited on", 137),
    "error": ("ValueError: the battery is empty", 1),
    "data": ("FileNotFoundError: [Errno 2] No such file or directory: '/nowhere/x.npy'", 1),
    "exit": ("a process has ended with 3; all are ended", 3),
    "stop": ("no answer for 2 seconds", 1),
}


@pytest.mark.parametrize("what", FAULTS)
def test_what_goes_wrong_in_one_process_ends_all(what):
    command = [sys.executable, "-m", "nnx.commands.cli", "run", "-n", "2", PROGRAM]
    timeout = "2" if what == "stop" else "60"
    done = subprocess.run(
        [*command, "fault", what, timeout], capture_output=True, text=True, timeout=120
    )
    end = time.time()
    said, status = FAULTS[what]
    assert said in (done.stdout + done.stderr).replace("\n", " ")
    assert done.returncode == status
    wrong = float(re.findall(r"at ([\d.]+) s", done.stdout)[-1])
    assert end - wrong < 10


def test_run_starts_processes_with_their_share_of_the_cores(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    file = tmp_path / "found.json"
    assert main(["run", "-n", "2", PROGRAM, "finish", str(file)]) == 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = str(max(1, cores // 2))
    assert json.loads(file.read_text()) == [[rank, [str(file)], threads] for rank in range(2)]


def test_run_says_what_is_missing(monkeypatch, capsys):
    assert main(["run", "-n", "2", "nowhere.py"]) == 2
    assert "nnx run: expected a file at 'nowhere.py', found n" in capsys.readouterr().err

    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert main(["run", "-n", "2", PROGRAM]) == 2
    assert 'pip install "nnx-array[mpi]"' in capsys.readouterr().err


@pytest.mark.parametrize("number", ["0", "-1", "two"])
def test_run_refuses_numbers_that_are_none_of_processes(number, capsys):
    with pytest.raises(SystemExit):
        main(["run", "-n", number, PROGRAM])
    assert "expected a number of processes from 1 on" in capsys.readouterr().err


def test_check_and_bench_on_two_processes(tmp_path, capsys):
    file = tmp_path / "found.json"
    assert main(["check", "--processes", "2", "--backends", "numpy", "--json", str(file)]) == 0
    assert "2 processes and one agree: mpi" in capsys.readouterr().out
    found = json.loads(file.read_text())
    assert found["passed"] is True
    assert found["size"] == 2
    assert {row["dtype"] for row in found["rows"]} == {"float64", "float32"}
    assert main(["bench", "--processes", "2", "--quick", "--json", str(file)]) == 0
    assert "efficiency on more ranks, as modelled" in capsys.readouterr().out
    for row in json.loads(file.read_text())["rows"]:
        assert 0 < row["sums"] < row["step"]
        assert row["own"] < row["modelled"]


def test_the_model_of_a_step_by_hand():
    # 1 MB on 4 ranks at 1 GB/s: each sends 2 * 3 / 4 MB, in 2 * 2 messages of 10 us
    assert model(0.005, 250_000, 4, 1e-5, 1e9) == pytest.approx(0.005 + 0.0015 + 0.00004)
    assert model(0.005, 250_000, 1, 1e-5, 1e9) == 0.005
