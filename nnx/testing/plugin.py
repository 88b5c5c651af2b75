"""A pytest plugin: a test that takes `nnx_backend` runs on every backend.

    def test_my_layer(nnx_backend):
        layer = MyLayer(3)
        layer.forward(nnx_backend.asarray([[1.0, 2.0, 3.0]]))

It is installed with nnx; nothing has to be imported. Arrays are born on the backend during the
test, in float32, with `nnx_backend64` in float64. Tests on backends that cannot be used here are
skipped with the reason.

    pytest --nnx-backend cupy          on this one; may be repeated
    NNX_TEST_BACKENDS=cupy,jax pytest  the same in the environment

A requested backend that cannot be used is one error, at the first test that needs it; the other
tests on it are skipped.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from typing import Any

import pytest

__all__ = [
    "every_spec",
    "nnx_backend",
    "nnx_backend64",
    "usable",
    "usable_or_failed",
    "why_unusable",
]

_REPORTED = pytest.StashKey[set[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --nnx-backend."""
    parser.getgroup("nnx").addoption(
        "--nnx-backend",
        action="append",
        default=[],
        metavar="NAME",
        help="run the tests with the fixture nnx_backend on this backend; an error if it cannot be "
        "used; may be repeated",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test for each requested backend, or else for every installed one."""
    if "nnx_backend_spec" in metafunc.fixturenames:
        specs = _requested(metafunc.config) or every_spec()
        metafunc.parametrize("nnx_backend_spec", specs, scope="session")


@pytest.fixture
def nnx_backend(nnx_backend_spec: str, pytestconfig: pytest.Config) -> Iterator[Any]:
    """Each backend in turn, in float32; arrays are born on it during the test."""
    yield from _chosen(usable_or_failed(nnx_backend_spec, pytestconfig), "float32")


@pytest.fixture
def nnx_backend64(nnx_backend_spec: str, pytestconfig: pytest.Config) -> Iterator[Any]:
    """Each backend in turn, in float64."""
    yield from _chosen(usable_or_failed(nnx_backend_spec, pytestconfig), "float64")


def _requested(config: pytest.Config) -> tuple[str, ...]:
    """Return the backends that the command line and NNX_TEST_BACKENDS ask for."""
    variable = os.environ.get("NNX_TEST_BACKENDS", "")
    return (*config.getoption("nnx_backend", []), *variable.replace(",", " ").split())


def every_spec() -> tuple[str, ...]:
    """Return every installed backend, usable here or not, with the devices that tests run on."""
    from nnx.backend import installed_backends

    kinds = installed_backends().items()
    return tuple(spec for name, kind in kinds for spec in kind.test_specs or (name,))


@functools.cache
def why_unusable(spec: str) -> str | None:
    """Return why a backend cannot be used here, with the remedy; None if it can."""
    from nnx.backend import BackendError, resolve

    try:
        resolve(spec, "float32")
    except BackendError as error:
        return str(error)
    return None


def usable(spec: str) -> str:
    """Return the spec; skip the test if the backend cannot be used."""
    if reason := why_unusable(spec):
        pytest.skip(f"backend {spec}: {reason.partition(chr(10))[0]}")
    return spec


def usable_or_failed(spec: str, config: pytest.Config) -> str:
    """Return the spec; else skip, or fail the first test of a backend that was requested."""
    reported = config.stash.setdefault(_REPORTED, set())
    reason = why_unusable(spec)
    if reason and spec in _requested(config) and spec not in reported:
        reported.add(spec)
        pytest.fail(f"backend {spec} was requested, but cannot be used: {reason}", pytrace=False)
    return usable(spec)


def _chosen(spec: str, dtype: str) -> Iterator[Any]:
    from nnx.backend import use_backend

    with use_backend(spec, dtype) as backend, backend.for_tests():
        yield backend
