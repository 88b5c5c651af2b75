"""The rules of the library that can be read off its source."""

import ast
import graphlib
import inspect
import re
from pathlib import Path

import pytest

import nnx

SOURCE = Path(nnx.__file__).parent
MODULES = sorted(SOURCE.rglob("*.py"))


def module_name(path):
    """nnx/backend/errors.py -> nnx.backend.errors"""
    return ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")


# Rooms and modules that work on the host, where NumPy may be imported.
HOST = {
    "nnx.backend.contract",
    "nnx.backend.hooks",
    "nnx.backend.selection",
    "nnx.checks",
    "nnx.commands.check",
    "nnx.commands.files",
    "nnx.commands.preparing",
    "nnx.commands.processes",
    "nnx.commands.tables",
    "nnx.communication",
    "nnx.config",
    "nnx.data",
    "nnx.datasets",
    "nnx.estimators",
    "nnx.initializers",
    "nnx.interchange",
    "nnx.layers._by_hand",
    "nnx.layers._moments",
    "nnx.layers._padding",
    "nnx.layers.embedding",
    "nnx.metrics.door",
    "nnx.networks",
    "nnx.onnx",
    "nnx.plotting",
    "nnx.randomness",
    "nnx.saving",
    "nnx.testing",
    "nnx.training",
}
MATHEMATICS = [
    path
    for path in MODULES
    if path.relative_to(SOURCE).parts[0].removesuffix(".py")
    in ("activations", "clipping", "layers", "losses", "metrics", "optimizers", "regularizers")
]
# Imports point to an earlier room of this list. "nnx" is the package's own __init__, which gathers
# the public names.
ROOMS = [
    "checks",
    "synonyms",
    "config",
    "backend",
    "communication",
    "randomness",
    "activations",
    "initializers",
    "regularizers",
    "schedules",
    "clipping",
    "losses",
    "metrics",
    "optimizers",
    "layers",
    "saving",
    "data",
    "training",
    "networks",
    "datasets",
    "plotting",
    "estimators",
    "interchange",
    "onnx",
    "nnx",
    "testing",
    "commands",
]


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_no_module_names_an_array_library(path):
    roots = {name.partition(".")[0] for name in imports(path)}
    assert not roots & {"cupy", "torch", "jax", "array_api_strict", "nnx_backends", "backends"}
    name = module_name(path)
    if not {name, name.rpartition(".")[0]} & HOST:
        assert "numpy" not in roots


NAMES = {module_name(path) for path in MODULES}


def modules_imported(source):
    """Modules of nnx that a source imports anywhere, functions and TYPE_CHECKING included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in NAMES)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if inner in NAMES:
                    yield inner
                elif node.module in NAMES:
                    yield node.module


def room(name):
    return name.split(".")[1] if "." in name else name


def backward_arrows(name, source):
    """Imports of a room that comes later, or of the package itself."""
    place = ROOMS.index(room(name))
    for other in set(modules_imported(source)) - {name}:
        if ROOMS.index(room(other)) > place:
            yield f"{name} imports {other}"


def test_every_room_has_its_place_in_the_order():
    assert {room(name) for name in NAMES} - set(ROOMS) == set(), "add it to ROOMS"


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_point_one_way(path):
    assert list(backward_arrows(module_name(path), path.read_text())) == []


def test_there_are_no_circles_inside_a_room():
    arrows = {}
    for path in MODULES:
        name = module_name(path)
        others = set(modules_imported(path.read_text())) - {name}
        arrows[name] = {other for other in others if room(other) == room(name)}
    list(graphlib.TopologicalSorter(arrows).static_order())  # raises CycleError, which shows it


@pytest.mark.parametrize(
    "line",
    [
        "import nnx",
        "from nnx import training",
        "from nnx.networks import SequentialNet",
        "if TYPE_CHECKING:\n    from nnx.commands.doctor import Environment",
        "def f():\n    from nnx.testing import Recorder",
    ],
)
def test_the_reader_of_imports_finds_what_it_looks_for(line):
    assert list(backward_arrows("nnx.losses", line))
    assert not list(backward_arrows("nnx.losses", "from nnx.backend import Array, masked"))


# Mutable state at module level: the one setting with the look-up table of types, and the seed.
STATE = {
    "nnx.backend.namespace": {"_known"},
    "nnx.backend.selection": {"_setting"},
    "nnx.communication.shares": {"_share"},
    "nnx.randomness": {"_source", "_streams", "_weights"},
}
CHANGES = {
    "__delitem__", "__setitem__", "add", "append", "appendleft", "clear", "discard", "extend",
    "insert", "move_to_end", "pop", "popitem", "popleft", "remove", "reset", "reverse", "set",
    "setdefault", "sort", "subtract", "update",
}  # fmt: skip
HOLDERS = {"ContextVar", "WeakKeyDictionary", "WeakSet", "WeakValueDictionary", "local"}


def root(node):
    """The name that an expression such as a.b[c].d starts with, or None."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def mutable_state(source):
    """Names of the module that its code changes, rebinds or declares in order to be changed."""
    tree = ast.parse(source)
    bound = {}
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if isinstance(node, ast.Assign | ast.AnnAssign):
            bound |= {target.id: node.value for target in targets if isinstance(target, ast.Name)}
    for name, value in bound.items():
        if isinstance(value, ast.Call) and ast.unparse(value.func).split(".")[-1] in HOLDERS:
            yield name
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            yield from node.names
        targets = []
        if isinstance(node, ast.Assign | ast.Delete):
            targets = node.targets
        elif isinstance(node, ast.AugAssign | ast.AnnAssign):
            targets = [node.target]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            targets = [node.func] if node.func.attr in CHANGES else []
        for target in targets:
            if isinstance(target, ast.Attribute | ast.Subscript) and root(target) in bound:
                yield root(target)


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_no_module_has_mutable_state_but_the_setting_and_the_seed(path):
    found = set(mutable_state(path.read_text()))
    assert found <= STATE.get(module_name(path), set())


@pytest.mark.parametrize(
    "source",
    [
        "cache = {}\ndef f(x):\n    cache[x] = 1",
        "cache = {}\ndef f(x):\n    return cache.setdefault(x, 1)",
        "cache: dict[str, int] = dict()\ndef f(x):\n    del cache[x]",
        "seen = set()\ndef f(x):\n    seen.add(x)",
        "items = []\nclass A:\n    def f(self, x):\n        items.append(x)",
        "last = None\ndef f(x):\n    global last\n    last = x",
        "count = [0]\ndef f():\n    count[0] += 1",
        "kept = WeakKeyDictionary()",
        "current = contextvars.ContextVar('current', default=None)",
        "state = State()\ndef f(x):\n    state.value = x",
        "state = State()\ndef f(x):\n    state.inner.values.update(x)",
    ],
)
def test_the_reader_of_state_finds_what_it_looks_for(source):
    assert list(mutable_state(source))


@pytest.mark.parametrize(
    "source",
    [
        "TABLE = {1: 2}\ndef f(x):\n    return TABLE[x]",
        "NAMES = ('a', 'b')\ndef f(x):\n    x.names = NAMES",
        "def f(x):\n    found = {}\n    found[x] = 1\n    return found",
        "class A:\n    def f(self, x):\n        self.x = x",
    ],
)
def test_the_reader_of_state_leaves_constants_alone(source):
    assert not list(mutable_state(source))


def test_every_file_has_at_most_400_lines():
    long = {module_name(path): len(path.read_text().splitlines()) for path in MODULES}
    assert {name: lines for name, lines in long.items() if lines > 400} == {}


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


@pytest.mark.parametrize("path", MATHEMATICS, ids=module_name)
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


# Public in their module but not in its __all__: shared inside nnx, or named as pytest expects.
SHARED = {
    "nnx.commands.bench": {"operations"},
    "nnx.commands.cli": {
        "run_bench",
        "run_check",
        "run_report",
        "run_doctor",
        "show_backends",
        "show_bench",
        "show_check",
        "show_environment",
    },
    "nnx.testing.plugin": {"pytest_addoption", "pytest_generate_tests"},
}


@pytest.mark.parametrize("path", MODULES, ids=module_name)
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
    assert defined - public == SHARED.get(module_name(path), set())
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name in public:
            assert ast.get_docstring(node), node.name


def imported(tree):
    nodes = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    return {alias.asname or alias.name for node in nodes for alias in node.names}
