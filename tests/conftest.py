"""One fixture runs a test on every backend; an option or a variable says which must be there.

pytest                                every backend that this machine has, the rest skipped
pytest --backend cupy --backend jax   these; one that is missing is one failure
NNX_TEST_BACKENDS=cupy,jax pytest     the same
"""

import functools
import os
from collections import Counter

import pytest

# JAX then has float64 from the start, and a float64 that leaks into float32 work is seen.
os.environ.setdefault("JAX_ENABLE_X64", "1")

import nnx
from nnx.backend import BackendError, resolve

ALL_BACKENDS = ("numpy", "strict", "strict:device1", "torch", "jax", "cupy")


def pytest_addoption(parser):
    parser.addoption(
        "--backend",
        action="append",
        default=[],
        metavar="NAME",
        help="test on this backend, and fail if it is missing; may be repeated",
    )


def requested(config):
    variable = os.environ.get("NNX_TEST_BACKENDS", "")
    return (*config.getoption("--backend"), *filter(None, variable.replace(",", " ").split()))


def pytest_generate_tests(metafunc):
    if "backend_spec" in metafunc.fixturenames:
        names = requested(metafunc.config) or ALL_BACKENDS
        metafunc.parametrize("backend_spec", names, scope="session")
    if "requested_spec" in metafunc.fixturenames:
        metafunc.parametrize("requested_spec", requested(metafunc.config))


def pytest_terminal_summary(terminalreporter):
    """One line for each reason of a skip, instead of one for each place."""
    reasons = Counter(report.longrepr[2] for report in terminalreporter.stats.get("skipped", []))
    for reason, number in reasons.most_common():
        terminalreporter.write_line(f"{number} skipped: {reason.removeprefix('Skipped: ')}")


@functools.cache
def why_unusable(spec):
    try:
        resolve(spec, "float32")
    except BackendError as error:
        return str(error)
    if spec.startswith("strict"):
        import array_api_strict

        array_api_strict.set_array_api_strict_flags(
            boolean_indexing=False, data_dependent_shapes=False
        )
    return None


def usable(spec):
    """Skips the test where the backend is missing."""
    if reason := why_unusable(spec):
        pytest.skip(f"backend {spec}: {reason.splitlines()[0]}")
    return spec


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
