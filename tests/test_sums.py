"""NumPy's namespace: which functions are NumPy's own; sums, means and stacks."""

import itertools
import math
import subprocess
import sys

import array_api_compat.numpy as compat
import numpy as np
import pytest

import nnx
from nnx.backend import FUNCTIONS

# Around 4096 numbers, and 1024 terms of a row, the way of the sum changes.
SHAPES = [(4096,), (64, 63), (64, 64), (1, 5000), (5000, 1), (5, 1024), (5, 1025), (4, 8, 128)]
CASES = [(shape, axis) for shape in SHAPES for axis in range(-len(shape), len(shape))]


@pytest.fixture
def xp():
    with nnx.use_backend("numpy") as backend:
        yield backend.xp


def exact(x, axis):
    """Sum by sum, rounded once."""
    rows = np.moveaxis(x, axis, -1)
    flat = rows.reshape(-1, rows.shape[-1]).tolist()
    return np.asarray([math.fsum(row) for row in flat]).reshape(rows.shape[:-1])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("shape", "axis"), CASES)
def test_sums_and_means_are_exact_to_a_few_epsilon(xp, shape, axis, dtype):
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    x.reshape(-1)[0] = 1000.0
    n, total, size = shape[axis], exact(x, axis), exact(np.abs(x), axis)
    bound = np.finfo(dtype).eps * (8 + math.sqrt(n)) * size
    for array in (x, np.asfortranarray(x)):
        for keep in (False, True):
            found = (
                xp.sum(array, axis=axis, keepdims=keep),
                xp.mean(array, axis=axis, keepdims=keep),
            )
            for result, divisor in zip(found, (1, n), strict=True):
                expected = np.expand_dims(total, axis) if keep else total
                room = np.expand_dims(bound, axis) if keep else bound
                assert result.shape == expected.shape
                assert result.dtype == dtype
                assert np.all(np.abs(result - expected / divisor) <= room / divisor)


@pytest.mark.parametrize("axis", [0, 1, -1, -2])
@pytest.mark.parametrize("number", [math.inf, math.nan, -math.inf])
def test_what_is_not_finite_stays_in_its_sum(xp, number, axis):
    x = np.ones((64, 128), "float32")
    x[3, 5] = number
    found = xp.sum(x, axis=axis)
    expected = np.full(found.shape, float(x.shape[axis]))
    expected[5 if axis in (0, -2) else 3] = number
    assert np.array_equal(found, expected, equal_nan=True)


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "bool"])
def test_whole_numbers_are_added_as_such(xp, dtype):
    x = (np.arange(100 * 50).reshape(100, 50) % 2).astype(dtype)
    assert xp.sum(x, axis=0).tolist() == [0, 100] * 25
    assert xp.sum(x, axis=1).tolist() == [25] * 100


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -2, -4])
def test_a_stack_is_contiguous_whatever_is_stacked(xp, axis):
    given = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    for order in itertools.permutations(range(3)):
        arrays = [np.transpose(part, order) for part in given]
        found = xp.stack(arrays, axis=axis)
        assert found.flags.c_contiguous
        for i, part in enumerate(arrays):
            assert np.array_equal(np.take(found, i, axis=axis), part)


def test_a_stack_has_the_type_that_holds_all(xp):
    assert xp.stack([np.zeros(2, "float32"), np.zeros(2, "float64")]).dtype == np.float64


# Scalars too, which NumPy's sums return.
GIVEN = [np.arange(6.0, dtype="float32").reshape(2, 3), np.asarray([True, False]), np.float64(2.5)]
CALLS = {
    "arange": lambda xp, x: xp.arange(1, 6, 2, dtype=xp.float32, device="cpu"),
    "asarray": lambda xp, x: xp.asarray(x, dtype=xp.float64, device="cpu", copy=True),
    "astype": lambda xp, x: xp.astype(x, xp.int32),
    "empty": lambda xp, x: 0 * xp.empty((2, 3), dtype=xp.int64, device="cpu"),
    "empty_like": lambda xp, x: 0 * xp.empty_like(x, dtype=xp.int64, device="cpu"),
    "eye": lambda xp, x: xp.eye(2, 3, dtype=x.dtype, device="cpu"),
    "finfo": lambda xp, x: xp.finfo(xp.float32).eps + x,
    "floor": lambda xp, x: xp.floor(x * 2),
    "full": lambda xp, x: xp.full((2, 1), 3, dtype=x.dtype, device="cpu"),
    "matrix_transpose": lambda xp, x: xp.matrix_transpose(x if x.ndim > 1 else GIVEN[0]),
    "ones": lambda xp, x: xp.ones(2, dtype=x.dtype, device="cpu"),
    "ones_like": lambda xp, x: xp.ones_like(x, device="cpu"),
    "permute_dims": lambda xp, x: xp.permute_dims(x, tuple(reversed(range(x.ndim)))),
    "reshape": lambda xp, x: xp.reshape(x, (-1,), copy=True),
    "zeros": lambda xp, x: xp.zeros((2, 0), device="cpu"),
    "zeros_like": lambda xp, x: xp.zeros_like(x, dtype=xp.uint8),
}


@pytest.mark.parametrize("name", CALLS)
def test_numpys_own_functions_are_those_of_the_standard(xp, name):
    for x in GIVEN:
        found, expected = (CALLS[name](room, x) for room in (xp, compat))
        assert type(found) is type(expected)
        assert found.dtype == expected.dtype
        assert np.array_equal(found, expected)


def test_the_table_has_each_function_that_array_api_compat_replaces(xp):
    ours = {"max", "mean", "stack", "sum", "unstack"}
    names = {name for name in FUNCTIONS if getattr(np, name) is not getattr(compat, name)}
    assert names - ours <= set(CALLS)
    assert all(getattr(xp, name) is getattr(np, name) for name in set(FUNCTIONS) - names - ours)


def test_every_other_function_is_that_of_array_api_compat(xp):
    assert set(dir(xp)) >= {*FUNCTIONS, "argsort", "linalg", "pi"}
    assert xp.argsort is compat.argsort
    assert xp.argsort(np.asarray([1, 3, 2]), descending=True).tolist() == [1, 2, 0]
    with pytest.raises(AttributeError, match="nothing"):
        _ = xp.nothing


def test_the_first_steps_of_a_program_import_no_tests_of_numpy():
    program = (
        "import sys, numpy as np, nnx; nnx.set_backend('numpy');"
        "net = nnx.SequentialNet(3, [nnx.DenseLayer(3, 2, nnx.SoftMax())], nnx.CrossEntropy());"
        "x, y = np.ones((4, 3)), np.arange(4) % 2;"
        "net.train(x, y, metrics=['f1'], sample_weights=np.ones(4), progress=False);"
        "net.score(x, y); net.predict(x);"
        "print({'numpy.f2py', 'numpy.testing', 'nnx.datasets'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stdout == "set()\n", run.stderr
