"""What all tests share. The plugin of nnx runs a test on every backend, under shorter names here.

pytest                                every backend that this machine has, the rest skipped
pytest --backend cupy --backend jax   these; one that cannot be used is one error
NNX_TEST_BACKENDS=cupy,jax pytest     the same
"""

import contextlib
import itertools
import os
import sys
from collections import Counter, defaultdict

import pytest

# With float64 on from the start, a float64 that leaks into float32 work under JAX is noticed.
os.environ.setdefault("JAX_ENABLE_X64", "1")

import nnx
from nnx.backend import resolve, selection
from nnx.testing import plugin, usable_backends
from nnx.testing.plugin import usable, why_unusable

__all__ = [
    "AUTODIFF",
    "QUICK_AUTODIFF",
    "QUICK_BACKENDS",
    "compile_on",
    "usable",
    "why_unusable",
]

# What `check_gradients` can compare with on this machine, besides differences.
AUTODIFF = [name for name in ("jax", "torch") if why_unusable(name) is None]
# Those that need not compile first, for the many cases of a layer whose usual case is compared
# with all of them.
QUICK_AUTODIFF = [name for name in AUTODIFF if name != "jax"]

# Backends for `check_backends` that need not compile first, for odd shapes of a layer whose usual
# shape is checked on all of them.
QUICK_BACKENDS = [spec for spec in usable_backends() if not spec.startswith("jax")]

# NumPy cannot be loaded twice, and pytester forgets modules that were first loaded in its tests.
resolve("numpy")

with contextlib.suppress(ImportError):
    import array_api_strict

    array_api_strict.set_array_api_strict_flags(boolean_indexing=False, data_dependent_shapes=False)


def pytest_addoption(parser):
    parser.addoption(
        "--backend",
        dest="nnx_backend",
        action="append",
        default=[],
        metavar="NAME",
        help="short for --nnx-backend",
    )
    parser.addoption(
        "--backend-tests-only",
        action="store_true",
        help="leave out tests that would be the same on any backend",
    )


def pytest_configure(config):
    config.addinivalue_line("markers", "gpu: a test for CuPy, on a GPU or a simulated one")
    config.addinivalue_line(
        "markers",
        "pairs: with JAX and CuPy, which compile for each case, only as many cases as have every "
        "pair of values of two parameters; the other backends run all combinations",
    )


def pytest_collection_modifyitems(config, items):
    families = defaultdict(list)
    for item in items:
        if item.get_closest_marker("pairs") and backend_of(item).startswith(("jax", "cupy")):
            families[item.originalname, item.path, backend_of(item)].append(item)
    left_out = {item for family in families.values() for item in without_new_pairs(family)}
    if config.getoption("--backend-tests-only"):
        left_out |= {
            item for item in items if not (backend_of(item) or item.get_closest_marker("gpu"))
        }
    config.hook.pytest_deselected(items=[item for item in items if item in left_out])
    items[:] = [item for item in items if item not in left_out]


def backend_of(item):
    """The backend that an item runs on; "" if it would be the same on any."""
    return item.callspec.params.get("nnx_backend_spec", "") if hasattr(item, "callspec") else ""


def without_new_pairs(items):
    """The cases of one test that can go, as other cases have each pair of their values."""
    values = [[(k, repr(v)) for k, v in item.callspec.params.items()] for item in items]
    pairs = {item: set(itertools.combinations(v, 2)) for item, v in zip(items, values)}
    while any(pairs.values()):
        best = max(pairs, key=lambda item: len(pairs[item]))
        found = pairs.pop(best)
        pairs = {item: rest - found for item, rest in pairs.items()}
    return list(pairs)


def pytest_terminal_summary(terminalreporter):
    """Write one line for each reason of a skip, instead of one for each place."""
    reasons = Counter(report.longrepr[2] for report in terminalreporter.stats.get("skipped", []))
    for reason, number in reasons.most_common():
        terminalreporter.write_line(f"{number} skipped: {reason.removeprefix('Skipped: ')}")


@pytest.fixture
def backend_spec(nnx_backend_spec, pytestconfig):
    """The name of each backend in turn; nothing is chosen."""
    return plugin.usable_or_failed(nnx_backend_spec, pytestconfig)


@pytest.fixture
def backend(nnx_backend):
    """The backend in float32, chosen for the test."""
    return nnx_backend


@pytest.fixture
def backend64(nnx_backend64):
    """The backend in float64, chosen for the test."""
    return nnx_backend64


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of its own, in which a test runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Pretends that a distribution "shelf" is installed: its module and its backends."""

    def install(source, **backends):
        """Each backend's name, and the name of its class in the module."""
        (tmp_path / "shelf_nnx.py").write_text(source)
        info = tmp_path / "shelf-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shelf\nVersion: 1.0\n")
        lines = [f"{name} = shelf_nnx:{kind}\n" for name, kind in backends.items()]
        (info / "entry_points.txt").write_text("[nnx.backends]\n" + "".join(lines))
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "shelf_nnx", raising=False)
        monkeypatch.setattr(selection, "_by_name", selection._by_name.__wrapped__)

    return install


def compile_on(backend, function, skip=True):
    """The function as one step of a compiled loop. If the library compiles nothing, the test ends.

    With skip=False it goes on with the function itself.
    """
    loop = backend.compile_loop(lambda carry, row, data: (carry, function(*data)))
    if loop is None:
        if skip:
            pytest.skip("the library compiles nothing, and a step is the plain one")
        return function

    def first(out):
        if isinstance(out, dict):
            return {name: first(value) for name, value in out.items()}
        if isinstance(out, list | tuple):
            return type(out)(map(first, out))
        return None if out is None else out[0, ...]

    return lambda *arguments: first(loop({}, backend.asarray([0]), arguments)[1])


@pytest.fixture(autouse=True)
def same_seed_for_every_test():
    nnx.seed(20)
