"""The plugin in the hands of a user: his test file has two lines, and runs on every backend."""

import sys
import tomllib
from pathlib import Path

import pytest

from nnx.testing import plugin

pytest_plugins = ["pytester"]

TEST = (
    "def test_mine(nnx_backend):\n    assert nnx_backend.asarray([1.0]).dtype == nnx_backend.dtype"
)

# A backend of a third party, whose library is nowhere.
ABSENT = """
from nnx.backend import Backend, BackendError

class Absent(Backend):
    name = library = "absent"

    def connect(self, device, dtype):
        raise BackendError("absent is not installed", "pip install absent")
"""
NUMPY_LIKE = """
from nnx_backends.numpy import NumPyBackend

class Third(NumPyBackend):
    name = "third"
"""


# A distribution whose module cannot be imported.
BROKEN = "raise OSError('libshelf.so: cannot open shared object file')"


@pytest.fixture
def run(pytester, monkeypatch):
    """Runs pytest elsewhere, with this plugin alone and three more backends installed."""
    for variable in ("NNX_TEST_BACKENDS", "NNX_BACKEND", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.syspathinsert()
    monkeypatch.setenv("PYTHONPATH", str(pytester.path))
    pytester.makepyfile(absent=ABSENT, third=NUMPY_LIKE, broken=BROKEN)
    entry_points = "[nnx.backends]\nabsent = absent:Absent\nthird = third:Third\n"
    entry_points += "broken = broken:Broken\n"
    information = pytester.mkdir("more-1.0.dist-info")
    (information / "entry_points.txt").write_text(entry_points)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: more\nVersion: 1.0\n")

    def run(*options, test=TEST):
        pytester.makepyfile(test_mine=test)
        options = ("-p", "nnx.testing.plugin", "-rsEf", "--strict-markers", "-W", "error", *options)
        return pytester.runpytest_subprocess(*options)

    return run


def test_a_test_runs_on_every_backend_and_the_missing_ones_are_skips_with_the_reason(run):
    result = run("-v")
    counts = result.parseoutcomes()
    assert counts["passed"] + counts["skipped"] == len(plugin.every_spec())  # with the two
    assert counts.keys().isdisjoint(("failed", "errors"))
    result.stdout.fnmatch_lines_random(
        [
            "*test_mine?numpy? PASSED*",
            "*test_mine?third? PASSED*",
            "*test_mine?absent? SKIPPED*",
            "*backend absent: absent is not installed*",
        ]
    )


def test_the_backends_that_are_asked_for_are_the_only_ones(run):
    result = run("-v", "--nnx-backend", "third", "--nnx-backend=numpy")
    result.assert_outcomes(passed=2)


def test_the_variable_asks_too(run, monkeypatch):
    monkeypatch.setenv("NNX_TEST_BACKENDS", "third,numpy")
    run().assert_outcomes(passed=2)


@pytest.mark.parametrize("spec", ["absent", "broken", "no_such_backend"])
def test_a_backend_that_is_asked_for_and_missing_is_one_error(run, spec):
    twice = f"{TEST}\n\n{TEST.replace('mine', 'yours')}"
    result = run(f"--nnx-backend={spec}", "--nnx-backend=numpy", test=twice)
    result.assert_outcomes(passed=2, errors=1, skipped=1)
    assert result.ret != 0
    remedy = {
        "absent": "pip install absent",
        "broken": "distribution more 1.0 (broken:Broken) cannot be loaded: OSError: libshelf.so",
        "no_such_backend": "unknown backend 'no_such_backend'",
    }[spec]
    result.stdout.fnmatch_lines([f"*backend {spec} was requested, but cannot be used*"])
    result.stdout.fnmatch_lines([f"*{remedy}*"])


def test_both_dtypes_and_where_arrays_are_born(run):
    test = """
        import nnx

        def test_single(nnx_backend):
            assert nnx.get_backend() is nnx_backend
            assert nnx.DenseLayer(2, 2).W.dtype == nnx_backend.xp.float32

        def test_double(nnx_backend64):
            assert nnx.get_backend() is nnx_backend64
            assert nnx.DenseLayer(2, 2).W.dtype == nnx_backend64.xp.float64

        def test_nothing_stays():
            assert nnx.get_backend().name == "numpy"
    """
    run("--nnx-backend=third", "--nnx-backend=numpy", test=test).assert_outcomes(passed=5)


def test_strict_refuses_masks_during_a_test(run):
    if reason := plugin.why_unusable("strict"):
        pytest.skip(reason)
    test = """
        def test_mask(nnx_backend):
            x = nnx_backend.asarray([1.0, -1.0])
            x[x > 0]
    """
    result = run("--nnx-backend=strict", test=test)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*boolean*"])


def test_a_test_without_the_fixture_is_left_alone_and_no_library_is_imported(run):
    test = """
        import sys

        def test_other():
            assert not {"torch", "jax", "cupy", "array_api_strict"} & set(sys.modules)
    """
    run(test=test).assert_outcomes(passed=1)


def test_the_distribution_announces_the_plugin():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    entry = project["project"]["entry-points"]["pytest11"]["nnx"]
    assert entry == plugin.__name__
    assert sys.modules[entry] is plugin
