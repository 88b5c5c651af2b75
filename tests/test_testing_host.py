"""assert_no_host_sync sees a read and names its line; Recorder counts operations."""

import inspect

import numpy as np
import pytest
from conftest import usable, why_unusable

import nnx
from nnx.testing import HostSyncError, Recorder, assert_no_host_sync

X = np.random.default_rng(0).random((6, 12), dtype=np.float32)
Y = np.arange(6) % 4
WATCHED = [spec for spec in ("cupy", "strict", "torch:meta") if why_unusable(spec) is None]

pytestmark = pytest.mark.skipif(not WATCHED, reason="no backend here notices a read")


def network(*extra):
    layers = [nnx.DenseLayer(12, 8), *extra, nnx.DenseLayer(8, 4, nnx.SoftMax())]
    return nnx.SequentialNet(12, layers, nnx.CrossEntropy(), optim=nnx.SGD(0.1, 0.9))


def train(net, x, y):
    net.step(x, y)


class Reads(nnx.Layer):
    """Passes its input through, and does something with it first."""

    def __init__(self, read):
        super().__init__()
        self.read = read

    def forward(self, x, training=False):
        self.read(self, x)
        return x, lambda delta: (delta, {})

    def output_shape(self, input_shape):
        return input_shape


def test_a_training_step_is_watched_wherever_a_read_is_noticed():
    net = network()
    kept = np.array(net.layers[0].W)
    report = assert_no_host_sync(train, net, X, Y)
    assert report.watched == WATCHED
    assert set(report.watched) | set(report.not_run) == {"cupy", "strict", "torch:meta"}
    for spec, reason in report.not_run.items():
        assert reason in str(report)
        assert spec in str(report)
    np.testing.assert_array_equal(net.layers[0].W, kept)
    assert net.backend.name == "numpy"


READS = {
    "float": lambda layer, x: float(layer.backend.xp.sum(x)),
    "bool": lambda layer, x: x if layer.backend.xp.any(x > 0) else -x,
    "int": lambda layer, x: int(layer.backend.xp.argmax(x[0, ...])),
    "index": lambda layer, x: [1, 2, 3, 4, 5, 6, 7, 8][layer.backend.xp.argmax(x[0, ...])],
    "to_numpy": lambda layer, x: layer.backend.to_numpy(x),
    "nnx.to_numpy": lambda layer, x: nnx.to_numpy(x),
    "mask": lambda layer, x: x[x > 0],
    "nonzero": lambda layer, x: layer.backend.xp.nonzero(x),
}


@pytest.mark.gpu
@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("spec", WATCHED)
def test_each_kind_of_read_is_seen_on_each_backend(read, spec, only):
    only(spec)
    if (spec, read) == ("cupy", "index"):
        with pytest.raises(TypeError):  # CuPy refuses it always
            assert_no_host_sync(train, network(Reads(READS[read])), X, Y)
        return
    line = inspect.getsourcelines(READS[read])[1]
    with pytest.raises(HostSyncError) as caught:
        assert_no_host_sync(train, network(Reads(READS[read])), X, Y)
    assert caught.value.place.startswith(f"{__file__}:{line}")
    assert repr(spec.partition(":")[0])[1:-1] in caught.value.backend


@pytest.fixture
def only(monkeypatch):
    """Watch on one backend alone."""

    def choose(spec):
        name = spec.partition(":")[0]
        kinds = nnx.backend.installed_backends()
        monkeypatch.setattr("nnx.testing.host.installed_backends", lambda: {name: kinds[name]})

    return choose


def test_printing_is_a_read(only):
    usable("strict")
    only("strict")
    for read in (lambda layer, x: f"{x}", lambda layer, x: repr(x), lambda layer, x: str(x)):
        with pytest.raises(HostSyncError):
            assert_no_host_sync(train, network(Reads(read)), X, Y)


def test_the_error_shows_the_line_and_says_what_to_do():
    def read(layer, x):
        return float(x[0, 0])

    with pytest.raises(HostSyncError) as caught:
        assert_no_host_sync(train, network(Reads(read)), X, Y)
    message = str(caught.value)
    assert "test_testing_host.py" in message
    assert "return float(x[0, 0])" in message
    assert "xp.where" in message


def test_a_read_in_the_second_step_is_seen():
    net = network()

    class Late(nnx.SGD):
        def update(self, parameters, gradients):
            if self.t == 1:
                float(gradients[0][0, 0])
            return super().update(parameters, gradients)

    net.optim = Late(0.1)
    with pytest.raises(HostSyncError, match="gradients"):
        assert_no_host_sync(train, net, X, Y)


def test_other_errors_of_a_step_stay_what_they_are():
    with pytest.raises(ZeroDivisionError):
        assert_no_host_sync(lambda x: x + 1 / 0, X)


def test_reading_is_allowed_again_afterwards():
    usable("strict")
    with pytest.raises(HostSyncError):
        assert_no_host_sync(lambda x: float(x[0, 0]), X)
    with nnx.use_backend("strict") as backend:
        assert float(backend.asarray(2.0)) == 2.0
        assert str(backend.asarray(2.0))


@pytest.mark.parametrize("step", [lambda: None, lambda number: None])
def test_a_step_without_anything_to_move_is_refused(step):
    with pytest.raises(TypeError, match="expected the networks, layers and arrays"):
        assert_no_host_sync(step, *[3] * step.__code__.co_argcount)


def test_a_step_that_works_with_other_arrays_than_its_arguments_is_refused():
    usable("strict")
    net = network()
    with pytest.raises(TypeError, match="made no array operation"):
        assert_no_host_sync(lambda x: net.step(X, Y), X)


def test_where_nothing_can_be_watched_it_is_an_error(monkeypatch):
    kinds = nnx.backend.installed_backends()
    monkeypatch.setattr("nnx.testing.host.installed_backends", lambda: {"numpy": kinds["numpy"]})
    with pytest.raises(nnx.BackendError, match="no installed backend notices"):
        assert_no_host_sync(train, network(), X, Y)


# Recorder.


@pytest.fixture
def strict():
    usable("strict")
    with nnx.use_backend("strict") as backend:
        yield backend


def test_operations_are_counted_by_name(strict):
    x = strict.asarray(X)
    W = strict.asarray(np.ones((3, 12)))
    b = strict.asarray(np.ones(3))
    xp = strict.xp
    with Recorder() as recorder:
        z = x @ W.T
        z += b
        y = xp.maximum(1.0 - z, 0.0)
        y = xp.where(y > 0, y, -y)
        xp.mean(y, axis=0)[0]
    assert recorder.counts == {
        "matmul": 1,
        "add": 1,
        "subtract": 1,
        "maximum": 1,
        "greater": 1,
        "negative": 1,
        "where": 1,
        "mean": 1,
        "getitem": 1,
    }
    assert recorder.total == 9
    assert recorder.counts["sum"] == 0
    before = recorder.total
    z + b
    assert recorder.total == before


def test_a_dense_layer_by_hand(strict):
    """Forward: product, sum with the bias, ReLU. Backward: its mask, two products, one sum."""
    layer = nnx.DenseLayer(12, 3, nnx.Linear())
    x = strict.asarray(X)
    with Recorder() as forward:
        _, backward = layer.forward(x)
    with Recorder() as back:
        backward(strict.asarray(np.ones((6, 3))))
    assert forward.counts == {"matmul": 1, "add": 1}
    assert back.counts["matmul"] == 2
    assert back.counts["sum"] == 1


def test_a_step_keeps_its_budget(strict):
    net = network()
    x, y = strict.asarray(X), strict.asarray(np.eye(4)[Y])
    net.step(x, y)
    with Recorder() as recorder:
        net.step(x, y)
    assert recorder.counts["matmul"] == 5
    assert recorder.total <= 40


def test_counters_of_another_kind_give_differences():
    seen = {"launches": 7, "copies": 2, "waits": 0}
    with Recorder(lambda: seen) as recorder:
        seen["launches"] += 3
        seen["new"] = 1
    assert recorder.counts == {"launches": 3, "new": 1}
    assert recorder.counts["copies"] == 0
    assert recorder.total == 4


def test_an_error_passes_through_and_ends_the_counting(strict):
    x, recorder = strict.asarray(X), Recorder()

    def failing():
        with recorder:
            raise ZeroDivisionError(x + x)

    with pytest.raises(ZeroDivisionError):
        failing()
    x + x
    assert recorder.counts == {"add": 1}


def test_a_backend_that_cannot_count_says_which_can():
    with nnx.use_backend("numpy"), pytest.raises(nnx.BackendError, match="strict"), Recorder():
        pass


@pytest.mark.gpu
def test_kernels_of_cupy_are_counted_with_its_counters():
    counters = pytest.importorskip("cpusim", reason="no counters of CUDA calls here")
    with nnx.use_backend("cupy") as backend:
        x = backend.asarray(X)
        x + x
        with Recorder(counters.stats) as recorder:
            x + x
            x @ x.T
    assert recorder.counts["launches"] == 1
    assert recorder.counts["gemm"] == 1
    assert recorder.counts["d2h"] == 0
