"""The rules of the library that can be read off its source."""

import ast
import inspect
import re
from pathlib import Path

import pytest

import nnx

SOURCE = Path(nnx.__file__).parent
MODULES = sorted(SOURCE.rglob("*.py"))
HOST = {
    "_comparison.py",
    "_points.py",
    "_probes.py",
    "backend.py",
    "check.py",
    "data.py",
    "datasets.py",
    "gradients.py",
    "initializers.py",
    "networks.py",
    "plotting.py",
    "randomness.py",
    "steps.py",
    "training.py",
}
MATHEMATICS = [
    path
    for path in MODULES
    if path.parent.name == "layers"
    or path.name
    in (
        "activations.py",
        "clipping.py",
        "losses.py",
        "metrics.py",
        "optimizers.py",
        "regularizers.py",
    )
]
# What each part may import from nnx, besides nnx.backend. Arrows point one way.
MAY_IMPORT = {
    "activations": set(),
    "initializers": {"randomness"},
    "losses": set(),
    "metrics": set(),
    "optimizers": {"clipping", "schedules"},
    "clipping": {"schedules"},
    "regularizers": set(),
    "schedules": set(),
    "randomness": set(),
    "datasets": set(),
    "backend": set(),
}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_no_module_names_an_array_library(path):
    roots = {name.partition(".")[0] for name in imports(path)}
    assert not roots & {"cupy", "torch", "jax", "array_api_strict", "nnx_backends", "backends"}
    if path.name not in HOST:
        assert "numpy" not in roots


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_imports_point_one_way(path):
    allowed = MAY_IMPORT.get(path.stem)
    if allowed is None:
        return
    inside = {name.split(".")[1] for name in imports(path) if name.startswith("nnx.")}
    assert inside <= allowed | {"backend"}


FORBIDDEN = re.compile(r"xp\.(clip|sign|nonzero|unique_\w+|repeat|random)|.*\.(item|tolist)")


def offences(source):
    """What the mathematics must not say: host reads, traps of CuPy, float64 in disguise."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and FORBIDDEN.fullmatch(ast.unparse(node)):
            yield f"line {node.lineno}: {ast.unparse(node)}"
        if isinstance(node, ast.keyword) and node.arg in ("where", "out"):
            yield f"line {node.value.lineno}: {node.arg}="
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Compare):
            yield f"line {node.lineno}: subscript by a mask"
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".where"):
            if all(isinstance(argument, ast.Constant) for argument in node.args[1:]):
                yield f"line {node.lineno}: where() of two Python numbers is float64 on CuPy"
            if len(node.args) == 1:
                yield f"line {node.lineno}: where() with one argument"
        if isinstance(node, ast.BinOp) and ast.Compare in (type(node.left), type(node.right)):
            yield f"line {node.lineno}: arithmetic with a comparison"
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            keywords = {keyword.arg for keyword in node.keywords}
            creators = ("zeros", "ones", "full", "empty", "arange", "eye", "linspace")
            if re.fullmatch(rf"xp\.({'|'.join(creators)})", name) and not (
                {"dtype", "device"} <= keywords
            ):
                yield f"line {node.lineno}: {name} without dtype= and device="


@pytest.mark.parametrize("path", MATHEMATICS, ids=lambda path: path.stem)
def test_the_mathematics_keeps_to_the_standard_and_reads_nothing_back(path):
    assert list(offences(path.read_text())) == []


@pytest.mark.parametrize(
    "line",
    [
        "xp.clip(x, 0, 1)",
        "xp.sign(x)",
        "s.item()",
        "x[x > 0]",
        "xp.sum(x, where=x > 0)",
        "xp.where(x > 0, 1.0, 0.0)",
        "xp.where(x)",
        "(x < 0) * alpha",
        "xp.zeros((3,), dtype=x.dtype)",
        "xp.random.normal()",
    ],
)
def test_the_rule_reader_finds_what_it_looks_for(line):
    assert list(offences(line))


def test_every_public_name_is_in_all_and_documented():
    for name in nnx.__all__:
        thing = getattr(nnx, name)
        assert inspect.getdoc(thing), name
    assert len(set(nnx.__all__)) == len(nnx.__all__)


# What modules of nnx share with each other, or must be called so, and users are not offered.
SHARED = {
    "base": {"gradient_of", "step"},
    "container": {"Slot", "call", "first_to_train", "gather", "run", "run_back"},
    "cli": {"run_check", "run_doctor", "show_backends", "show_check", "show_environment"},
    "datasets": {"Mirror"},
    "networks": {"Objective"},
    "plugin": {"pytest_addoption", "pytest_generate_tests"},
    "schedules": {"count", "number"},
    "training": {"checked", "score", "train"},
}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_every_module_says_what_is_public(path):
    if path.stem in ("__init__", "__main__") or path.stem.startswith("_"):
        return
    tree = ast.parse(path.read_text())
    assigned = {ast.unparse(n.targets[0]): n.value for n in tree.body if isinstance(n, ast.Assign)}
    public = set(ast.literal_eval(assigned["__all__"]))
    defined = {
        node.name
        for node in tree.body
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_")
    }
    variables = {ast.unparse(n.target) for n in tree.body if isinstance(n, ast.AnnAssign)}
    assert public <= defined | set(assigned) | variables | imported(tree)
    assert defined - public == SHARED.get(path.stem, set())
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name in public:
            assert ast.get_docstring(node), node.name


def imported(tree):
    nodes = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    return {alias.asname or alias.name for node in nodes for alias in node.names}
