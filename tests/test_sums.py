"""Sums, means and stacks of NumPy's namespace; some sums are products with ones."""

import itertools
import math

import numpy as np
import pytest

import nnx

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
