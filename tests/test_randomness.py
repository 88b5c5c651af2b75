import hashlib

import numpy as np
import pytest

import nnx
from nnx.randomness import fresh_generator, generator


def sha256(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


def weights(*shapes):
    nnx.seed(7)
    return [nnx.RandnAverage().wfun(*shape) for shape in shapes]


def test_a_layer_more_leaves_the_weights_of_the_others_as_they_were():
    first, last = weights((100, 784), (10, 100))
    again = weights((100, 784), (100, 100), (100, 100), (10, 100))
    np.testing.assert_array_equal(again[0], first)
    np.testing.assert_array_equal(again[3], last)
    assert not np.array_equal(again[1], again[2])


def test_a_shape_is_not_confused_with_another():
    nnx.seed(7)
    draws = [
        fresh_generator("weights", *key).random() for key in [(1, 2), (2, 1), (1, 2, 0), (1,), ()]
    ]
    assert len({*draws, generator("weights").random()}) == 6


def test_streams_are_independent_of_each_other():
    nnx.seed(1)
    expected = generator("batches").permutation(10)
    nnx.seed(1)
    generator("dropout").random(100)
    nnx.RandnAverage().wfun(50, 50)
    np.testing.assert_array_equal(generator("batches").permutation(10), expected)


def test_a_stream_goes_on_until_the_next_seed():
    nnx.seed(1)
    first, second = generator("batches").random(), generator("batches").random()
    nnx.seed(1)
    assert generator("batches").random() == first != second


def test_without_a_seed_nothing_repeats():
    nnx.seed()
    first = generator("batches").random()
    nnx.seed()
    assert generator("batches").random() != first


def test_the_draws_of_seed_0_are_those_of_every_version():
    """The recorded hashes are the promise that a seed means the same weights next year."""
    nnx.seed(0)
    with nnx.use_backend("numpy", dtype="float64"):
        found = {
            "normal": sha256(nnx.RandnAverage().wfun(10, 20)),
            "uniform": sha256(nnx.RandAverage().wfun(10, 20)),
            "batches": sha256(generator("batches").permutation(1000).astype("<i8")),
            "dropout": sha256(generator("dropout").random(1000)),
        }
    assert found == {
        "normal": "859caf2408414c5d",
        "uniform": "cecfd091de78aefe",
        "batches": "45dbe3f18454a07b",
        "dropout": "a72fbc96c4d4a04e",
    }


def test_a_negative_seed_and_an_unknown_purpose_are_refused():
    with pytest.raises(ValueError, match="non-negative"):
        nnx.seed(-1)
    with pytest.raises(ValueError, match="lottery"):
        generator("lottery")
