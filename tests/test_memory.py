"""What a training takes beside the data, and that it takes no more after a hundred epochs."""

import gc
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest

import nnx

FLOAT = 4


def network(optim):
    nnx.seed(0)
    sizes = (784, 512, 512)
    layers = [nnx.DenseLayer(m, n, nnx.ReLU(), optim) for m, n in pairwise(sizes)]
    layers.append(nnx.DenseLayer(512, 10, nnx.SoftMax(), optim))
    return nnx.SequentialNet(784, layers, nnx.CrossEntropy())


@pytest.fixture
def traced():
    tracemalloc.start()
    yield
    tracemalloc.stop()


def test_a_training_peaks_at_six_times_the_parameters_and_four_batches_of_activations(traced):
    """784-512-512-10, batch 128, Adam; the labels' rows count as data."""
    with nnx.use_backend("numpy"):
        net, rng = network(nnx.Adam()), np.random.default_rng(0)
        x, y = rng.random((2560, 784), dtype=np.float32), rng.integers(0, 10, 2560)
        parameters = FLOAT * sum(p.size for p in net.chain.parameters.values())
        activations = FLOAT * 128 * (784 + 512 + 512 + 10)
        rows = FLOAT * 2560 * 10
        data_and_network = x.nbytes + y.nbytes + parameters
        start = tracemalloc.get_traced_memory()[0]
        assert start >= data_and_network
        net.train(x, y, 128, 2, progress=False)
        peak = tracemalloc.get_traced_memory()[1] - start + parameters
        print(f"{peak / parameters:.2f} x the parameters")
        assert peak - rows <= 6 * parameters + 4 * activations


def test_a_hundred_epochs_take_no_more_than_one(traced):
    with nnx.use_backend("numpy"):
        net, rng = network(nnx.Adam()), np.random.default_rng(0)
        x, y = rng.random((256, 784), dtype=np.float32), rng.integers(0, 10, 256)
        net.train(x, y, 128, 2, progress=False)
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        net.train(x, y, 128, 1, progress=False)
        one = tracemalloc.get_traced_memory()[1] - before
        tracemalloc.reset_peak()
        net.train(x, y, 128, 100, progress=False)
        after, peak = tracemalloc.get_traced_memory()
        assert peak - before <= 1.02 * one
        assert after - before < 100_000


@pytest.mark.gpu
def test_the_pool_of_a_gpu_does_not_grow_either():
    cupy = pytest.importorskip("cupy")
    from conftest import usable

    with nnx.use_backend(usable("cupy")) as backend:
        optim, rng = nnx.Adam(), np.random.default_rng(0)
        net = nnx.SequentialNet(
            20, [nnx.DenseLayer(20, 30, nnx.ReLU(), optim), nnx.DenseLayer(30, 4, optim=optim)]
        )
        x, y = backend.asarray(rng.random((64, 20))), backend.asarray(rng.random((64, 4)))
        net.train(x, y, 16, 2, progress=False)
        pool = cupy.get_default_memory_pool()

        def used():
            gc.collect()  # what tests before this one left behind
            return np.asarray([pool.used_bytes(), pool.total_bytes()])

        before = used()
        net.train(x, y, 16, 100, progress=False)
        assert np.all(used() <= before)
