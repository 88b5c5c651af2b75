"""What the documentation shows works as shown."""

import contextlib
import doctest
import importlib
import importlib.util
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import nnx
from nnx.commands import cli, processes, run, shell

SOURCE = Path(nnx.__file__).parent
ROOT = SOURCE.parent
PAGES = ["README.md", "nnx/README.md", "examples/README.md", ".github/CONTRIBUTING.md"]
MODULES = sorted(
    ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts) for path in SOURCE.rglob("*.py")
)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_docstrings_run(name):
    if name == "nnx.plotting.figure":  # a subclass of Matplotlib's
        pytest.importorskip("matplotlib", reason='pip install "nnx-array[examples]"')
    module = importlib.import_module(name.removesuffix(".__init__"))
    assert doctest.testmod(module).failed == 0


def program(page):
    """The Python of a page as one program; every line has the number that it has in the page."""
    lines, inside = [], False
    for line in (ROOT / page).read_text().splitlines():
        if line.startswith("```"):
            inside = line == "```python"
            line = ""
        lines.append(line if inside else "")
    return "\n".join(lines)


@pytest.mark.parametrize("page", [page for page in PAGES if program(page).strip()])
def test_the_python_of_a_page_runs_as_one_lesson(page, tmp_path):
    pytest.importorskip("sklearn", reason='pip install "nnx-array[digits]"')
    pytest.importorskip("array_api_strict", reason='pip install "nnx-array[test]"')
    if "plotting" in program(page):
        pytest.importorskip("matplotlib", reason='pip install "nnx-array[examples]"')
    file = tmp_path / "lesson.py"
    file.write_text(program(page))
    env = {k: v for k, v in os.environ.items() if k not in ("NNX_BACKEND", "NNX_DTYPE")}
    # The lowest admitted versions of libraries warn of what they deprecate in each other.
    command = [sys.executable, "-W", "error", "-W", "default::DeprecationWarning", file]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env)
    assert done.returncode == 0, f"{page}, by the numbers of its lines:\n{done.stderr[-3000:]}"


def test_every_block_is_marked_as_what_it_is():
    """A fence without a language would not be run."""
    assert [page for page in PAGES if program(page).strip()] == PAGES[:3]
    for page in PAGES:
        fences = re.findall(r"^```(.*)$", (ROOT / page).read_text(), re.MULTILINE)
        assert fences == ["python", ""] * (len(fences) // 2), page


def commands():
    """Each shell command of the pages: lines indented by four spaces, and `inline` commands."""
    for page in PAGES:
        text = re.sub(r"^```python\n.*?^```", "", (ROOT / page).read_text(), flags=re.M | re.S)
        inline = re.findall(r"`((?:nnx|pip|pytest|python3?|bash) [^`]+)`", text)
        for line in [*re.findall(r"^    (\S.*)$", text, re.MULTILINE), *inline]:
            for part in line.split("&&"):
                words = shlex.split(part, comments=True)
                if words and re.search(r"(^|/)(nnx|pip|pytest|python3?|bash|ruff|mypy)$", words[0]):
                    yield page, words


COMMANDS = list(commands())
DEFINED = re.compile(r"""add_argument\(\s*\n?\s*["'](--[\w-]+)""")


def parser_of_nnx(words):
    """Parse a command line of `nnx` without running it."""
    if words[1:] == ["--help"]:
        with pytest.raises(SystemExit) as ended:
            cli.main(words)
        assert ended.value.code == 0
        return
    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(SystemExit):
        for name in ("run_bench", "run_check", "run_doctor", "run_report", "show_backends"):
            patch.setattr(cli, name, lambda *arguments: 0)
        patch.setattr(shell, "run", lambda chosen: 0)
        patch.setattr(run, "run", lambda *arguments: 0)
        for name in ("check_processes", "bench_processes"):
            patch.setattr(processes, name, lambda *arguments: 0)
        assert cli.main(words) == 0
        return
    pytest.fail(f"nnx {' '.join(words)}: wrong command line")


def check_script(words):
    """A script of examples/ is there and has the options that a command gives it."""
    script = ROOT / words[0]
    assert script.exists(), words[0]
    source = script.read_text()
    if "from _common import arguments" in source:
        source += (script.parent / "_common.py").read_text()
    options = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert options <= {*DEFINED.findall(source)}, words


def check_pip(words):
    """What a command installs is this folder, with extras that pyproject.toml has."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for target in words[words.index("-e") + 1 :: 2]:
        path, _, wanted = target.partition("[")
        assert path == ".", words
        assert {*filter(None, wanted.rstrip("]").split(","))} <= set(
            extras["optional-dependencies"]
        )


@pytest.mark.parametrize(
    ("page", "words"), COMMANDS, ids=[f"{page}, {' '.join(words)}" for page, words in COMMANDS]
)
def test_commands_exist_and_have_their_options(page, words):
    name, *rest = words[0].rpartition("/")[2], *words[1:]
    if rest[:2] == ["-m", "venv"]:
        return
    if rest[:2] == ["-m", "pytest"]:
        name, rest = "pytest", rest[2:]
    if name == "nnx":
        parser_of_nnx(rest)
    elif name.startswith("python"):
        check_script(rest)
    elif name == "pip":
        check_pip(rest)
    elif name == "pytest":
        known = (ROOT / "tests" / "conftest.py").read_text()
        for option in rest:
            assert (ROOT / option).exists() or not option.startswith("tests")
            assert not option.startswith("--") or f'"{option}"' in known
    elif name == "bash":
        assert (ROOT / rest[0]).exists()
    else:
        assert name in ("ruff", "mypy")


def test_the_commands_are_those_that_ci_reads():
    """`.ci/run` takes the first line that ends so, and runs it in a clean environment."""
    lines = (ROOT / "README.md").read_text().splitlines()
    for ending in ("pytest", "examples/mnist.py"):
        first = next(line for line in lines if line.endswith(ending))
        assert first.startswith("    python3 -m venv .venv && .venv/bin/pip install -q -e ")


def test_the_front_door_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text()
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE) if anchor else []
        anchors = {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}
        assert not anchor or anchor in anchors, link


def test_the_catalogue_has_every_public_class():
    text = (ROOT / "README.md").read_text()
    catalogue = text[text.index("## The catalogue") :]
    bases = {nnx.Activation, nnx.Clip, nnx.Container, nnx.Initializer, nnx.Layer, nnx.Loss}
    bases |= {nnx.Optimizer, nnx.Regularizer, nnx.Schedule}
    for name in (*nnx.__all__, *nnx.metrics.__all__):
        thing = getattr(nnx, name, None) or getattr(nnx.metrics, name)
        kind = isinstance(thing, type) and issubclass(thing, tuple(bases)) and thing not in bases
        if (kind and name != "leakyReLU") or name in set(nnx.metrics.__all__) - {"hits"}:
            assert re.search(rf"\b{name}\b", catalogue), name


def test_the_table_of_rooms_is_that_of_the_rules():
    spec = importlib.util.spec_from_file_location("rules", ROOT / "tests" / "test_rules.py")
    rules = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rules)
    text = (ROOT / "nnx" / "README.md").read_text()
    table = text[text.index("## The rooms") : text.index("## The words")]
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    assert [name for row in rows for name in re.findall(r"`(\w+)`", row)] == rules.ROOMS


def test_the_tests_that_hold_the_rules_exist():
    text = (ROOT / "nnx" / "README.md").read_text()
    for name in re.findall(r"`(test_\w+\.py)`", text):
        assert (ROOT / "tests" / name).exists(), name
    for path in re.findall(r"`((?:nnx|tests)/[\w/]+(?:\.py|/))`", text):
        assert (ROOT / path).exists(), path
