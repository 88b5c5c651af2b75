import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOWEST = ROOT / ".ci" / "lowest.py"


def test_every_folder_of_the_library_is_packaged():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["setuptools"]["packages"]
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "nnx").rglob("__init__.py")}
    assert sorted(packages) == sorted([".".join(f.parts) for f in folders] + ["nnx_backends"])


def test_a_wheel_contains_exactly_the_library_and_its_backends(tmp_path):
    pytest.importorskip("build.env", reason="needs the package build (extra dev)")
    source = tmp_path / "source"
    for name in ("nnx", "backends"):
        shutil.copytree(ROOT / name, source / name)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir"]
    subprocess.run([*command, str(tmp_path), str(source)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("nnx_array-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {
        "nnx",
        "nnx_backends",
    }
    shipped = {name for name in names if name.endswith((".py", "py.typed"))}
    folders = {"nnx": ROOT / "nnx", "nnx_backends": ROOT / "backends"}
    expected = {
        f"{package}/{path.relative_to(folder).as_posix()}"
        for package, folder in folders.items()
        for path in folder.rglob("*")
        if path.suffix == ".py" or path.name == "py.typed"
    }
    assert shipped == expected


def lowest(pyproject):
    command = [sys.executable, str(LOWEST), str(pyproject)]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_lowest_version_of_every_dependency_is_known():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    names = {re.match(r"[\w-]+", requirement)[0] for group in groups for requirement in group}
    lines = lowest(ROOT / "pyproject.toml").stdout.splitlines()
    assert {line.partition("==")[0] for line in lines} == names - {"nnx-array"}
    assert len(lines) == len(names) - 1
    assert next(line for line in lines if line.startswith("rich")) == "rich==14.1"  # displays nest


@pytest.mark.parametrize(
    ("dependencies", "extra", "said"),
    [
        ('["a"]', '["b>=1"]', "'a'"),
        ('["a<3"]', '["b>=1"]', "'a<3'"),
        ('["a>=1"]', '["a>=2"]', "a has the lower bounds 1 and 2"),
    ],
)
def test_a_dependency_without_one_lower_bound_is_refused(dependencies, extra, said, tmp_path):
    file = tmp_path / "pyproject.toml"
    file.write_text(
        f'[project]\nname = "mine"\ndependencies = {dependencies}\n'
        f"[project.optional-dependencies]\nmore = {extra}\n"
    )
    done = lowest(file)
    assert done.returncode != 0
    assert said in done.stderr


def test_the_example_runs_and_ends_in_a_test_accuracy(backend_spec):
    from conftest import usable

    usable(backend_spec)
    command = [sys.executable, str(ROOT / "examples/mnist.py"), "--backend", backend_spec]
    options = ["--dataset", "digits", "--limit", "500", "--epochs", "5", "--hidden", "32"]
    pytest.importorskip("sklearn", reason="needs scikit-learn (extra digits)")
    result = subprocess.run([*command, *options], check=True, capture_output=True, text=True)
    last = result.stdout.strip().splitlines()[-1]
    assert last.startswith("test accuracy ")
    assert last.endswith(" %")
    assert 60 < float(last.split()[2]) <= 100


def test_the_command_lists_the_backends(capsys):
    from nnx.commands.cli import main

    assert main(["backends"]) == 0
    printed = capsys.readouterr().out
    for name in ("numpy", "cupy", "strict", "torch", "jax"):
        assert name in printed
