"""One fixture runs a test on every backend; an option or a variable says which must be there.

pytest                                every backend that this machine has, the rest skipped
pytest --backend cupy --backend jax   these; one that is missing is one failure
NNX_TEST_BACKENDS=cupy,jax pytest     the same
"""

import contextlib
import os
from collections import Counter

import pytest

# JAX then has float64 from the start, and a float64 that leaks into float32 work is seen.
os.environ.setdefault("JAX_ENABLE_X64", "1")

import nnx
from nnx.testing import plugin
from nnx.testing.plugin import usable, why_unusable

__all__ = ["AUTODIFF", "QUICK_AUTODIFF", "usable", "why_unusable"]

# What `check_gradients` can compare with on this machine, besides differences.
AUTODIFF = [name for name in ("jax", "torch") if why_unusable(name) is None]
# What does so without compiling first, for the many cases of a layer whose usual one is compared
# with all of them.
QUICK_AUTODIFF = [name for name in AUTODIFF if name != "jax"]

with contextlib.suppress(ImportError):
    import array_api_strict

    array_api_strict.set_array_api_strict_flags(boolean_indexing=False, data_dependent_shapes=False)


def pytest_addoption(parser):
    parser.addoption(
        "--backend",
        action="append",
        default=[],
        metavar="NAME",
        help="test on this backend, and fail if it is missing; may be repeated",
    )
    parser.addoption(
        "--backend-tests-only",
        action="store_true",
        help="leave out what would be the same test on any backend",
    )


def pytest_configure(config):
    config.addinivalue_line("markers", "gpu: a test for CuPy, on a GPU or a simulated one")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--backend-tests-only"):
        fixtures = {"backend_spec", "requested_spec", "nnx_backend_spec"}
        kept, left_out = [], []
        for item in items:
            of_a_backend = fixtures & set(item.fixturenames) or item.get_closest_marker("gpu")
            (kept if of_a_backend else left_out).append(item)
        items[:] = kept
        config.hook.pytest_deselected(items=left_out)


def requested(config):
    return (*config.getoption("--backend"), *plugin.requested(config))


def pytest_generate_tests(metafunc):
    if "backend_spec" in metafunc.fixturenames:
        names = requested(metafunc.config) or plugin.every_spec()
        metafunc.parametrize("backend_spec", names, scope="session")
    if "requested_spec" in metafunc.fixturenames:
        metafunc.parametrize("requested_spec", requested(metafunc.config))


def pytest_terminal_summary(terminalreporter):
    """One line for each reason of a skip, instead of one for each place."""
    reasons = Counter(report.longrepr[2] for report in terminalreporter.stats.get("skipped", []))
    for reason, number in reasons.most_common():
        terminalreporter.write_line(f"{number} skipped: {reason.removeprefix('Skipped: ')}")


@pytest.fixture
def backend(backend_spec):
    """The backend in float32, chosen for the test."""
    with nnx.use_backend(usable(backend_spec), dtype="float32") as chosen:
        yield chosen


@pytest.fixture
def backend64(backend_spec):
    """The backend in float64, chosen for the test."""
    with nnx.use_backend(usable(backend_spec), dtype="float64") as chosen:
        yield chosen


@pytest.fixture(autouse=True)
def same_seed_for_every_test():
    nnx.seed(20)
