"""A training step leaves the host alone: it must not read a single number of the device."""

import numpy as np
import pytest
from conftest import usable

import nnx

NETWORKS = {
    "softmax, cross-entropy": lambda optim: nnx.SequentialNet(
        12,
        [nnx.DenseLayer(12, 8, nnx.ReLU(), optim), nnx.DenseLayer(8, 4, nnx.SoftMax(), optim)],
        nnx.CrossEntropy(),
    ),
    "quadratic, momentum, penalty": lambda optim: nnx.SequentialNet(
        12,
        [
            nnx.DenseLayer(12, 8, nnx.Logistic(), nnx.SGD(0.1, 0.9)),
            nnx.DenseLayer(8, 4, nnx.TanH(), optim, kernel_regularizer=nnx.L2Regularizer(0.1)),
        ],
    ),
    "softmax, quadratic, one optimizer": lambda optim: nnx.SequentialNet(
        12,
        [nnx.DenseLayer(12, 8, nnx.Linear()), nnx.DenseLayer(8, 4, nnx.SoftMax())],
        optim=nnx.SGD(0.1, 0.9, nesterov=True),
    ),
}


def step_of(backend, kind):
    """A training step on data that is where it belongs already."""
    net = NETWORKS[kind](nnx.SGD(0.1))
    x = backend.asarray(np.random.default_rng(0).random((6, 12)))
    y = backend.asarray(np.arange(6) % 4)
    return lambda: net.step(x, y)


@pytest.fixture
def strict_without_reading(monkeypatch):
    usable("strict")
    import array_api_strict

    kind = type(array_api_strict.ones(1))

    def refuse(self):
        raise AssertionError("the host has read a number of the device")

    def forbid():
        for name in ("__float__", "__bool__", "__int__", "__index__", "__complex__"):
            monkeypatch.setattr(kind, name, refuse)

    return forbid


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_step_asks_no_strict_array_for_its_value(kind, strict_without_reading):
    with nnx.use_backend("strict") as backend:
        step = step_of(backend, kind)
        strict_without_reading()
        step()
        step()


def test_the_detector_sees_a_read(strict_without_reading):
    with nnx.use_backend("strict") as backend:
        array = backend.asarray(1.0)
        strict_without_reading()
        for read in (float, bool, int):
            with pytest.raises(AssertionError, match="has read"):
                read(array)


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_step_runs_where_there_is_no_data_at_all(kind):
    usable("torch")
    with nnx.use_backend("torch:meta") as backend:
        step = step_of(backend, kind)
        assert tuple(step().shape) == (6, 4)
        step()


def test_the_meta_device_sees_a_read():
    usable("torch")
    with nnx.use_backend("torch:meta") as backend, pytest.raises(RuntimeError):
        float(backend.asarray(1.0))
