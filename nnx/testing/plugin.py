"""A plugin of pytest: a test that takes `nnx_backend` runs on every backend.

    def test_my_layer(nnx_backend):
        layer = MyLayer(3)
        layer.forward(nnx_backend.asarray([[1.0, 2.0, 3.0]]))

It comes with nnx; nothing need be imported. Arrays are born on the backend during the test, in
float32, with `nnx_backend64` in float64. Backends that are missing on the machine are skips that
say why.

    pytest --nnx-backend cupy          on this one; may be repeated
    NNX_TEST_BACKENDS=cupy,jax pytest  the same in the environment

A backend that was asked for and is missing is one error, at the first test that needs it; the
others skip.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from typing import Any

import pytest

__all__ = ["every_spec", "nnx_backend", "nnx_backend64", "requested", "usable", "why_unusable"]

_REPORTED = pytest.StashKey[set[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds --nnx-backend."""
    parser.getgroup("nnx").addoption(
        "--nnx-backend",
        action="append",
        default=[],
        metavar="NAME",
        help="run the tests with the fixture nnx_backend on this backend, an error if it is "
        "missing; may be repeated",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each backend: the requested ones, else every installed one."""
    if "nnx_backend_spec" in metafunc.fixturenames:
        specs = requested(metafunc.config) or every_spec()
        metafunc.parametrize("nnx_backend_spec", specs, scope="session")


@pytest.fixture
def nnx_backend(nnx_backend_spec: str, pytestconfig: pytest.Config) -> Iterator[Any]:
    """Each backend in turn, in float32; arrays are born on it during the test."""
    yield from _chosen(nnx_backend_spec, "float32", pytestconfig)


@pytest.fixture
def nnx_backend64(nnx_backend_spec: str, pytestconfig: pytest.Config) -> Iterator[Any]:
    """Each backend in turn, in float64."""
    yield from _chosen(nnx_backend_spec, "float64", pytestconfig)


def requested(config: pytest.Config) -> tuple[str, ...]:
    """The backends that the command line and NNX_TEST_BACKENDS ask for."""
    variable = os.environ.get("NNX_TEST_BACKENDS", "")
    return (*config.getoption("--nnx-backend", []), *variable.replace(",", " ").split())


def every_spec() -> tuple[str, ...]:
    """Every installed backend, usable here or not, with the devices that tests run on."""
    from nnx.backend import installed_backends

    kinds = installed_backends().items()
    return tuple(
        spec for name, kind in kinds for spec in getattr(kind, "test_specs", ()) or (name,)
    )


@functools.cache
def why_unusable(spec: str) -> str | None:
    """Why a backend cannot be used here, with the remedy; None if it can."""
    from nnx.backend import BackendError, resolve

    try:
        resolve(spec, "float32")
    except BackendError as error:
        return str(error)
    return None


def usable(spec: str) -> str:
    """The spec; where the backend cannot be used, the test is skipped."""
    if reason := why_unusable(spec):
        pytest.skip(f"backend {spec}: {reason.partition(chr(10))[0]}")
    return spec


def _chosen(spec: str, dtype: str, config: pytest.Config) -> Iterator[Any]:
    reported = config.stash.setdefault(_REPORTED, set())
    reason = why_unusable(spec)
    if reason and spec in requested(config) and spec not in reported:
        reported.add(spec)
        pytest.fail(f"backend {spec} was asked for, and cannot be used: {reason}", pytrace=False)
    from nnx.backend import use_backend

    with use_backend(usable(spec), dtype) as backend, backend.for_tests():
        yield backend
