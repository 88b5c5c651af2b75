import importlib.metadata
from pathlib import Path

import pytest
from conftest import usable

import nnx
from nnx.backend import BackendStatus, resolve
from nnx.commands import doctor
from nnx.commands.cli import main
from nnx.commands.doctor import environment


def reasons(problems):
    return "\n".join(problem.reason for problem in problems)


def remedies(problems):
    return "\n".join(problem.remedy for problem in problems)


def test_the_facts_of_a_bug_report(backend_spec, monkeypatch):
    usable(backend_spec)
    monkeypatch.setenv("NNX_DTYPE", "float64")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setenv("SECRET_TOKEN", "do not tell")
    facts = environment().facts
    name = backend_spec.partition(":")[0]
    assert {"Python", "OS", "processor", "cores"} <= facts["machine"].keys()
    assert facts["nnx"]["folder"] == str(Path(nnx.__file__).parent)
    assert facts["nnx"]["installed"] == importlib.metadata.version("nnx-array")
    assert facts["nnx"]["array-api-compat"] == importlib.metadata.version("array-api-compat")
    assert facts["variables"]["NNX_DTYPE"] == "float64"
    assert facts["variables"]["OMP_NUM_THREADS"] == "2"
    assert "do not tell" not in str(facts)
    backend = facts[f"backend {name}"]
    assert backend["version"] == resolve(name).version
    assert backend["device"] == resolve(name).device_name()
    assert "more" not in backend  # where facts() has failed
    assert backend["version"].partition("+")[0] in backend["packages"]


def test_facts_are_words_of_every_backend(backend):
    facts = backend.facts()
    assert all(type(key) is str and type(value) is str for key, value in facts.items())
    assert all(problem.reason and problem.remedy for problem in backend.problems())


def test_the_blas_and_its_threads(monkeypatch):
    monkeypatch.setattr("nnx_backends.numpy._blas_threads", lambda: 512)
    assert "512 threads" in resolve("numpy").facts()["BLAS"]
    found = environment()
    assert "512 threads, and this process may use" in reasons(found.advice)
    assert "OMP_NUM_THREADS=" in remedies(found.advice)
    assert "512" not in reasons(found.problems)  # slow, but it works


@pytest.fixture
def wheels(tmp_path, monkeypatch):
    """Pretends that packages are installed: wheels(("cupy-cuda12x", "13.4", [file]), ...)."""

    def install(*packages, library):
        for name, version, files in packages:
            info = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(
                f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
            )
            (info / "top_level.txt").write_text(f"{library}\n")
            (info / "RECORD").write_text("".join(f"{library}/{file},,\n" for file in files))
        monkeypatch.syspath_prepend(str(tmp_path))

    return install


def test_two_wheels_of_one_library(wheels):
    files = ["__init__.py"]
    wheels(("cupy-cuda11x", "13.3.0", files), ("cupy-cuda12x", "13.4.0", files), library="cupy")
    advice = environment().advice
    assert "packages install the library cupy: cupy-cuda11x 13.3.0, cupy-cuda12x" in reasons(advice)
    assert "pip uninstall -y cupy-cuda11x cupy-cuda12x" in remedies(advice)


def test_one_wheel_of_a_library_is_not_an_advice():
    assert "packages install" not in reasons(environment().advice)


def test_two_packages_that_are_one_library_are_not_an_advice(wheels):
    """As mlx and mlx-cpu are: removing either breaks the library."""
    parts = ("cupy-front", "1.0", ["nn.py"]), ("cupy-core", "1.0", ["lib/core.so"])
    wheels(*parts, library="cupy")
    found = environment()
    packages = found.facts["backend cupy"]["packages"]
    assert "cupy-core 1.0" in packages
    assert "cupy-front 1.0" in packages
    assert "cupy-core" not in reasons(found.advice)


def test_a_package_that_is_too_old(monkeypatch, capsys):
    version = importlib.metadata.version
    old = {"numpy": "1.26.4", "array-api-compat": "1.9"}
    monkeypatch.setattr("importlib.metadata.version", lambda name: old.get(name) or version(name))
    problems = environment().problems
    assert "numpy 1.26.4 is too old for nnx, which needs 2.1" in reasons(problems)
    assert "array-api-compat 1.9 is too old" in reasons(problems)
    assert 'pip install --upgrade "numpy>=2.1"' in remedies(problems)
    assert main(["doctor"]) == 1
    assert "problem: numpy 1.26.4 is too old" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("version", "least", "enough"),
    [
        ("2.0", "2.0", True),
        ("2", "2.0", True),
        ("2.0.0rc1", "2.0", True),
        ("1.26.4", "2.0", False),
        ("1.9", "1.12", False),
        ("2.13.0+cpu", "2.4", True),
    ],
)
def test_versions_are_compared_as_numbers(version, least, enough):
    assert (doctor._release(version) >= doctor._release(least)) is enough


def test_a_folder_that_is_not_installed(monkeypatch):
    monkeypatch.setattr("nnx.commands.doctor.DISTRIBUTION", "nnx-nowhere")
    problems = environment().problems
    folder = Path(nnx.__file__).parents[1]
    assert f"{folder}, a folder that is not installed" in reasons(problems)
    assert "pip install -e ." in remedies(problems)


@pytest.fixture
def unusable(monkeypatch):
    """Makes a backend say that it cannot be used."""

    def make(name, reason, remedy):
        statuses = nnx.available_backends()
        statuses[name] = BackendStatus(name, False, reason=reason, remedy=remedy)
        monkeypatch.setattr("nnx.commands.doctor.available_backends", lambda: statuses)

    return make


@pytest.mark.parametrize("installed", [True, False])
def test_an_unusable_backend_is_a_problem_where_its_library_is_installed(
    unusable, installed, monkeypatch, capsys
):
    unusable("cupy", "no GPU answers", "check nvidia-smi")
    monkeypatch.setattr("nnx.commands.doctor._is_installed", lambda library: installed)
    found = environment()
    assert found.facts["backend cupy"]["not usable"] == "no GPU answers"
    assert ("backend cupy: no GPU answers" in reasons(found.problems)) is installed
    assert main(["doctor"]) == int(bool(found.problems))
    assert "check nvidia-smi" in capsys.readouterr().out


def test_no_backend_at_all(monkeypatch):
    monkeypatch.setattr("nnx.backend.installed._entry_points", dict)
    problems = environment().problems
    assert "no backend is usable" in reasons(problems)
    assert "in nnx's folder: pip install -e ." in remedies(problems)


def test_facts_that_cannot_be_found_do_not_hide_the_others(monkeypatch):
    def broken(self):
        raise OSError("no such file")

    monkeypatch.setattr("nnx_backends.numpy.NumPyBackend.facts", broken)
    facts = environment().facts["backend numpy"]
    assert facts["more"] == "not known: OSError: no such file"
    assert facts["version"]


def test_a_driver_that_is_older_than_the_wheel():
    from nnx_backends._cuda import older_driver

    class Runtime:
        class CUDARuntimeError(Exception):
            pass

        driver, wheel = 12080, 13020

        def driverGetVersion(self):  # noqa: N802
            return self.driver

        def runtimeGetVersion(self):  # noqa: N802
            return self.wheel

    told = older_driver(Runtime())
    assert "CUDA 12.8 and this CuPy is for CUDA 13.2" in told
    assert 'pip uninstall -y cupy-cuda13x, then pip install "cupy-cuda12x[ctk]"' in told
    Runtime.driver = 0  # no driver at all
    assert older_driver(Runtime()) == ""
    Runtime.driver = 13000
    assert older_driver(Runtime()) == ""


def test_the_command_prints_facts_and_remedies(capsys):
    status = main(["doctor"])
    printed = capsys.readouterr().out
    assert status == int("problem: " in printed)
    for word in ("Python: ", "backend numpy", "BLAS: ", "array-api-compat: "):
        assert word in printed
