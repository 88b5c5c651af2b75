"""The examples run from end to end, each in its own process."""

import csv
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import usable

EXAMPLES = Path(__file__).parents[1] / "examples"
PNG = b"\x89PNG\r\n\x1a\n"
SMALL = ["--dataset", "digits", "--limit", "60", "--epochs", "1"]


@pytest.fixture
def spec(backend_spec):
    """A usable backend, if the libraries that the examples need are installed too."""
    pytest.importorskip("matplotlib", reason='pip install "nnx-array[examples]"')
    pytest.importorskip("sklearn", reason='pip install "nnx-array[digits]"')
    return usable(backend_spec)


def run(script, *options, **variables):
    command = [sys.executable, EXAMPLES / script, *options]
    env = {**os.environ, "COLUMNS": "80", **variables}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    return done.stdout


def check_pictures(folder, *names):
    assert sorted(path.name for path in folder.glob("*.png")) == sorted(names)
    assert all(path.read_bytes().startswith(PNG) for path in folder.iterdir() if "png" in path.name)


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def spec_of_long(spec):
    """NumPy, and one that gives no array to NumPy unasked; the others run the short experiment."""
    if spec.partition(":")[0] in ("torch", "jax"):
        pytest.skip("the long experiments run on NumPy, strict and CuPy, the short one on all")
    return spec


def test_activations(spec_of_long, tmp_path):
    spec = spec_of_long
    # All of them on NumPy; one of each family elsewhere, where a step takes longer.
    only = [] if spec == "numpy" else ["--only", "Logistic", "Exp", "TanH", "ReLU", "Abs", "Linear"]
    printed = run("activations.py", "--backend", spec, "--out", tmp_path, *SMALL, *only)
    rows = read(tmp_path / "activations.csv")
    assert len(rows) == (6 if only else 36)
    for row in rows:
        assert row["activation"] in printed
        if not row["remark"].startswith("diverged"):
            assert 0 <= float(row["accuracy"]) <= float(row["best"]) <= 100
            assert float(row["loss"]) >= 0
    names = ("gallery", "accuracy", "digits")
    check_pictures(tmp_path, *(f"activations_{name}.png" for name in names))


def test_exp_diverges_in_the_first_epoch(tmp_path):
    pytest.importorskip("matplotlib", reason='pip install "nnx-array[examples]"')
    pytest.importorskip("sklearn", reason='pip install "nnx-array[digits]"')
    options = ["--dataset", "digits", "--epochs", "3", "--only", "Exp"]
    run("activations.py", "--backend", "numpy", "--out", tmp_path, *options)
    (row,) = read(tmp_path / "activations.csv")
    assert (row["accuracy"], row["remark"]) == ("nan", "diverged in epoch 1")


def test_regularization(spec_of_long, tmp_path):
    printed = run("regularization.py", "--backend", spec_of_long, "--out", tmp_path, *SMALL)
    rows = read(tmp_path / "regularization.csv")
    assert len(rows) == 10
    assert all(row["optimizer"] in printed for row in rows)
    weights = {(row["optimizer"], row["penalty"]): float(row["|W|"]) for row in rows}
    for (optimizer, penalty), size in weights.items():
        if penalty == "L2(.005)":
            assert size < weights[optimizer, "no penalty"]
    names = ("accuracy", "weights", "digits")
    check_pictures(tmp_path, *(f"regularization_{name}.png" for name in names))


def test_weight_decay(spec, tmp_path):
    printed = run("weight_decay.py", "--backend", spec, "--out", tmp_path)
    rows = read(tmp_path / "weight_decay.csv")
    assert len(rows) == 15
    assert all(abs(float(row["difference"])) < 3e-15 for row in rows)
    # Worked out with pencil and paper: W0 = 1, g = 1/2, 1/4, 3/4, e = 1/10, l = 1/5, c = 9/10.
    third = {row["rule"]: row["exactly"] for row in rows if row["step"] == "3"}
    assert third["SGD with L2"] == "99209/125000"
    assert third["SGD with momentum"] == "371/500"
    assert "1.49999998" in printed  # AdamW's first step for l = 1/2
    check_pictures(tmp_path, "weight_decay.png")


def test_sequence(backend_spec):
    small = ["--digits", "2", "--samples", "400", "--epochs", "1", "--hidden", "4"]
    printed = run("sequence.py", "--backend", usable(backend_spec), *small)
    assert "training on 400 sums of numbers of 2 digits" in printed
    sums = re.findall(r"(\d+) \+ +(\d+) = +(\d+)  (right|wrong, it is (\d+))", printed)
    assert len(sums) == 6
    for a, b, answer, verdict, correct in sums:
        assert int(a) + int(b) == int(answer if verdict == "right" else correct)
    shares = re.findall(r": (\d+\.\d) %", printed)
    assert len(shares) == 2


def test_addition_is_learnt():
    printed = run("sequence.py", "--backend", "numpy")
    assert float(re.search(r"1000 new ones: (\d+\.\d) %", printed)[1]) > 99


def test_a_convolutional_network_learns_digits():
    pytest.importorskip("sklearn", reason='pip install "nnx-array[digits]"')
    options = ["--backend", "numpy", "--dataset", "digits", "--epochs", "15"]
    if importlib.util.find_spec("torch"):
        options.append("--compare")
    printed = run("mnist_cnn.py", *options)
    assert float(re.search(r"test accuracy (\d+\.\d+) %", printed)[1]) > 90
    assert ("ratio" in printed) == ("--compare" in options)


def test_a_residual_network_takes_bytes_and_generated_images():
    small = ["--generated", "--limit", "60", "--epochs", "1", "--channels", "3", "4"]
    printed = run("cifar10.py", "--backend", "numpy", *small)
    assert "generated: 60 images for training, 200 for the test" in printed
    assert 0 <= float(re.search(r"test accuracy (\d+\.\d+) %", printed)[1]) <= 100


def test_without_cifar_10_images_are_generated(monkeypatch, capsys):
    located = importlib.util.spec_from_file_location("cifar10", EXAMPLES / "cifar10.py")
    script = importlib.util.module_from_spec(located)
    located.loader.exec_module(script)

    def offline(name, **options):
        assert (name, options) == ("cifar-10", {"flat": False, "dtype": "uint8"})
        raise script.nnx.datasets.DatasetNotFoundError("no network", "find one")

    monkeypatch.setattr(script.nnx.datasets, "load", offline)
    name, (x_train, y_train, x_test, y_test) = script.load(False, 40)
    assert (name, x_train.shape, x_test.shape) == ("generated", (40, 3, 32, 32), (200, 3, 32, 32))
    assert x_train.dtype == x_test.dtype == "uint8"
    assert sorted(set(y_test)) == list(range(10))
    assert len(y_train) == 40
    assert "cannot be downloaded; using generated images" in capsys.readouterr().out


def test_without_data_the_digits_of_scikit_learn_are_taken(monkeypatch, capsys):
    pytest.importorskip("sklearn", reason='pip install "nnx-array[digits]"')
    located = importlib.util.spec_from_file_location("_common", EXAMPLES / "_common.py")
    common = importlib.util.module_from_spec(located)
    located.loader.exec_module(common)
    load = common.nnx.datasets.load

    def offline(name, **options):
        if name == "mnist":
            raise common.nnx.datasets.DatasetNotFoundError("no network", "find one")
        return load(name, **options)

    monkeypatch.setattr(common.nnx.datasets, "load", offline)
    x_train, y_train, x_test, y_test = common.load(None, 60)
    assert x_train.shape == (60, 64)
    assert len(y_train) == 60
    assert len(x_test) == len(y_test)
    assert "8x8" in capsys.readouterr().out
    with pytest.raises(common.nnx.datasets.DatasetNotFoundError):
        common.load("mnist", None)


def benchmark(*options, status=0):
    command = [sys.executable, EXAMPLES / "benchmark.py", "--steps", "8", "--rounds", "2"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=600)
    assert done.returncode == status, done.stderr
    return done.stdout


def test_benchmark(tmp_path):
    pytest.importorskip("matplotlib", reason='pip install "nnx-array[examples]"')
    names = ["nnx:numpy", "numpy"]
    file, picture = tmp_path / "times.json", tmp_path / "times.png"
    options = ["--quick", "--workloads", "A,B,E,F", "--contenders", ",".join(names)]
    printed = benchmark(*options, "--threads", "1", "--json", file, "--picture", picture)
    report = json.loads(file.read_text())
    assert picture.read_bytes().startswith(PNG)
    assert report["threads"] == 1
    assert report["versions"]["numpy"]
    assert list(report["results"]) == list("ABEFG")
    for result in [result for results in report["results"].values() for result in results]:
        assert result["disagree"] == {}
        assert list(result["contenders"]) == names
        for row in result["contenders"].values():
            assert [t > 0 for t in row["times"]] == [True, True]
            assert set(row["threads"].values()) <= {1, None}
    assert all(name in printed for name in names)


def test_benchmark_says_who_is_missing_and_who_does_not_solve_the_problem(tmp_path):
    file = tmp_path / "times.json"
    options = ["--workloads", "A", "--json", file, "--contenders"]
    report = [*options, "nnx:numpy,numpy,fortran,nnx:fortran"]
    printed = benchmark(*report)
    missing = json.loads(file.read_text())["missing"]
    assert "unknown" in missing["fortran"]
    assert "unknown backend" in missing["nnx:fortran"]
    assert all(f"{name}: " in printed for name in missing)

    located = importlib.util.spec_from_file_location("benchmark", EXAMPLES / "benchmark.py")
    script = importlib.util.module_from_spec(located)
    located.loader.exec_module(script)
    (item,) = script.workloads(quick=True, steps=None)["A"]
    losses = {"nnx:numpy": 2.3, "numpy": 2.30001, "torch": 2.302, "keras": 2.4, "jax": float("nan")}
    rows = {name: {"loss": loss} for name, loss in losses.items()}
    assert script.disagreement(item, rows).keys() == {"torch", "jax"}


def test_the_other_contenders_solve_the_same_problem(tmp_path):
    needs = {name: {name.partition("-")[0]} for name in ("torch", "torch-fused", "jax", "jax-scan")}
    needs |= {"keras": {"keras", "jax"}, "sklearn": {"sklearn"}}  # Keras imports with its backend
    names = [name for name, kinds in needs.items() if all(map(importlib.util.find_spec, kinds))]
    if not names:
        pytest.skip('pip install "nnx-array[bench]"')
    file = tmp_path / "times.json"
    benchmark("--workloads", "A,B,E", "--contenders", ",".join(["numpy", *names]), "--json", file)
    report = json.loads(file.read_text())
    assert report["missing"] == {}
    for letter, results in report["results"].items():
        alone = {"torch-fused", "jax-scan"} if letter == "E" else set()  # as torch, as jax
        for result in results:
            assert set(result["contenders"]) == {"numpy", *names} - alone
            assert result["disagree"] == {}
            assert all("error" not in row for row in result["contenders"].values())


def test_seconds_to_an_accuracy(tmp_path):
    if not os.environ.get("NNX_DATA"):
        pytest.skip("set NNX_DATA to MNIST")
    file = tmp_path / "times.json"
    options = ["--target", "50", "--contenders", "nnx:numpy", "--threads", "1", "--rounds", "1"]
    benchmark(*options, "--json", file)
    row = json.loads(file.read_text())["results"]["target"]["contenders"]["nnx:numpy"]
    assert row["epochs"] == [1]
    assert all(seconds > 0 for seconds in row["times"])
    printed = run("mnist.py", "--limit", "2000", "--target", "30", "--batch-size", "100")
    assert "epoch 1/5" in printed
    assert "epoch 2/5" not in printed


def test_benchmark_of_layers():
    options = ["--workloads", "gru,embedding", "--contenders", "nnx:numpy", "--rounds", "1"]
    printed = run("benchmark_layers.py", *options)
    assert len(re.findall(r"nnx:numpy +\d+ +first epoch", printed)) == 2


def test_growth_in_two_pieces(tmp_path):
    pytest.importorskip("matplotlib", reason='pip install "nnx-array[examples]"')
    kept = tmp_path / "growth.json"
    options = ["--largest", "64", "--seconds", "0.02", "--out", tmp_path / "growth.png"]
    for kinds in (["batch"], ["width", "depth", "time"]):
        printed = run("growth.py", "--kinds", ",".join(kinds), "--keep", kept, *options)
        assert printed.count("slope") == len(kinds)
    sizes = {kind: len(lines["numpy"]) for kind, lines in json.loads(kept.read_text()).items()}
    assert sizes == {"batch": 4, "width": 2, "depth": 7, "time": 2}
    check_pictures(tmp_path, "growth.png")
