"""What a training step costs on CuPy, counted: kernels, products, copies, synchronisations."""

from itertools import pairwise

import numpy as np
import pytest

import nnx

counters = pytest.importorskip("cpusim", reason="no counters of CUDA calls here")

# (hidden sizes, batch, momentum) -> kernels and products allowed for a step of training
BUDGETS = {
    "784-100-10, SGD": ((100,), 10, 0.0, 24, 5),
    "784-100-10, SGD with momentum": ((100,), 10, 0.9, 32, 5),
    "784-512-512-10, SGD": ((512, 512), 128, 0.0, 33, 8),
}


@pytest.fixture
def cupy():
    with nnx.use_backend("cupy") as backend:
        yield backend


@pytest.mark.parametrize("kind", BUDGETS)
def test_a_step_stays_within_its_launches_and_neither_copies_nor_waits(kind, cupy, record_property):
    hidden, batch, momentum, launches, products = BUDGETS[kind]
    optim, sizes = nnx.SGD(0.01, momentum), (784, *hidden, 10)
    layers = [nnx.DenseLayer(m, n, nnx.ReLU(), optim) for m, n in pairwise(sizes[:-1])]
    layers.append(nnx.DenseLayer(sizes[-2], 10, nnx.SoftMax(), optim))
    net = nnx.SequentialNet(784, layers, nnx.CrossEntropy())
    objective = net.objective()
    rng = np.random.default_rng(0)
    x = cupy.asarray(rng.random((4 * batch, 784)))
    y = cupy.asarray(np.eye(10)[rng.integers(0, 10, 4 * batch)])
    order = cupy.asarray(rng.permutation(4 * batch))

    def step(i):
        index = order[i * batch : (i + 1) * batch]
        net.step(cupy.xp.take(x, index, axis=0), cupy.xp.take(y, index, axis=0))

    step(0)
    counters.reset()
    step(1)
    counted = counters.stats()
    record_property("counted", counted)
    print(kind, counted)
    assert counted["launches"] <= launches
    assert counted["gemm"] == products
    forbidden = ("h2d", "d2h", "stream_sync", "dev_sync", "event_sync")
    assert {name: counted.get(name, 0) for name in forbidden} == dict.fromkeys(forbidden, 0)


def test_an_epoch_moves_the_order_once_and_reads_the_result_once(cupy):
    net = nnx.SequentialNet(20, [nnx.DenseLayer(20, 4, nnx.SoftMax())], nnx.CrossEntropy())
    rng = np.random.default_rng(0)
    x, y = cupy.asarray(rng.random((400, 20))), rng.integers(0, 4, 400)

    def copies(epochs):
        counters.reset()
        net.train(x, y, 10, epochs, progress=False)
        counted = counters.stats()
        return counted.get("h2d", 0), counted.get("d2h", 0)

    one, three = copies(1), copies(3)
    # every further epoch of 40 steps: the order goes there, and the addresses of the outputs that
    # are put together; loss and accuracy come back
    assert (three[0] - one[0], three[1] - one[1]) == (4, 4)
