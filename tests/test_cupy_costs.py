"""What a training step costs on CuPy, counted: kernels, products, copies, synchronisations."""

from itertools import pairwise

import numpy as np
import pytest

import nnx

pytestmark = pytest.mark.gpu
counters = pytest.importorskip("cpusim", reason="no counters of CUDA calls here")

# The optimizer, the hidden sizes and the batch -> kernels and products allowed for a step of
# training, with the rule of the optimizer as it is written, operation by operation
BUDGETS = {
    "784-100-10, SGD": (nnx.SGD(0.01), (100,), 10, 20, 5),
    "784-100-10, Adam": (nnx.Adam(), (100,), 10, 28, 5),
    "784-100-10, SGD with momentum": (nnx.SGD(0.01, 0.9), (100,), 10, 22, 5),
    "784-512-512-10, SGD": (nnx.SGD(0.01), (512, 512), 128, 27, 8),
    "784-512-512-10, Adam": (nnx.Adam(), (512, 512), 128, 35, 8),
}
# With the rule fused to one kernel, the gathering of the batches included: every optimizer.
FUSED = {(100,): 18.1, (512, 512): 25.2}
WAITS = ("h2d", "d2h", "stream_sync", "dev_sync", "event_sync")


@pytest.fixture
def cupy():
    with nnx.use_backend("cupy") as backend:
        yield backend


def network(optim, hidden):
    sizes = (784, *hidden, 10)
    layers = [nnx.DenseLayer(m, n, nnx.ReLU(), optim) for m, n in pairwise(sizes[:-1])]
    layers.append(nnx.DenseLayer(sizes[-2], 10, nnx.SoftMax(), optim))
    return nnx.SequentialNet(784, layers, nnx.CrossEntropy())


def batch_of(backend, samples):
    rng = np.random.default_rng(0)
    y = np.eye(10)[rng.integers(0, 10, samples)]
    return backend.asarray(rng.random((samples, 784))), backend.asarray(y)


def counted_in(work):
    counters.reset()
    work()
    found = counters.stats()
    # a copy on the device costs the host as much as a kernel
    launches = found["launches"] + found.get("d2d", 0)
    return launches, found["gemm"], [found.get(name, 0) for name in WAITS]


@pytest.mark.parametrize("kind", BUDGETS)
def test_a_step_stays_within_its_launches_and_neither_copies_nor_waits(kind, cupy, monkeypatch):
    optim, hidden, batch, launches, products = BUDGETS[kind]
    monkeypatch.setattr(type(optim), "fusible", False)
    step, (x, y) = network(optim, hidden).plan().step, batch_of(cupy, batch)
    step(x, y)
    counted = counted_in(lambda: step(x, y))
    print(kind, counted)
    assert counted[0] <= launches
    assert counted[1:] == (products, [0] * len(WAITS))


@pytest.mark.parametrize("optim", [nnx.SGD(0.01), nnx.Adam()], ids=repr)
@pytest.mark.parametrize("kind", [((100,), 10, 5), ((512, 512), 128, 8)], ids=str)
def test_steps_of_an_epoch_with_fused_rules(optim, kind, cupy):
    """Two epochs differ by their steps: what an epoch costs once is not counted."""
    hidden, batch, products = kind
    net, steps = network(optim, hidden), 8 if batch > 100 else 80
    (x, y), (x2, y2) = batch_of(cupy, batch * steps), batch_of(cupy, batch * 2 * steps)

    def train(x, y):
        net.train(x, y, batch, 1, progress=False)

    train(x, y)
    one, two = (counted_in(lambda a=a, b=b: train(a, b)) for a, b in ((x, y), (x2, y2)))
    per_step = (two[0] - one[0]) / steps
    print(kind, optim, per_step)
    assert per_step <= FUSED[hidden]
    assert two[1] - one[1] == products * steps


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


def test_a_transformer_block_stays_within_its_launches(cupy):
    optim = nnx.Adam()
    attend = [nnx.LayerNormLayer(8, optim=optim), nnx.MultiHeadAttentionLayer(8, 2, optim)]
    feed = [nnx.LayerNormLayer(8, optim=optim), nnx.DenseLayer(8, 32, nnx.GELU(), optim)]
    feed.append(nnx.DenseLayer(32, 8, nnx.Linear(), optim))
    block = [nnx.ResidualLayer(attend), nnx.ResidualLayer(feed)]
    net = nnx.SequentialNet((6, 8), block, nnx.MeanSquaredError())
    step, x = net.plan().step, cupy.asarray(np.random.default_rng(0).standard_normal((3, 6, 8)))
    step(x, x)
    counted = counted_in(lambda: step(x, x))
    print(counted)
    assert counted[0] <= 111
    assert counted[1:] == (18, [0] * len(WAITS))
