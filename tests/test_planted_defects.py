"""Mistakes that are easily made, planted: each is caught by the check that is there for it."""

import inspect
import textwrap

import numpy as np
import pytest
from conftest import why_unusable
from test_rules import offences

import nnx
from nnx.testing import GradientError, HostSyncError, assert_no_host_sync, check_gradients

RNG = np.random.default_rng(8)
X = RNG.standard_normal((4, 4))  # as many samples as features: shapes hide nothing


def needs(spec):
    reason = why_unusable(spec)
    return pytest.mark.skipif(reason is not None, reason=(reason or "").partition("\n")[0])


def in_the_source(method):
    """What the reader of the source says about a method."""
    return list(offences(textwrap.dedent(inspect.getsource(method))))


def train(net, x, y):
    net.step(x, y)


class Shift(nnx.Layer):
    """y = x + b."""

    b = nnx.Parameter()

    def __init__(self):
        super().__init__()
        xp = self.backend.xp
        self.b = xp.zeros((4,), dtype=self.backend.dtype, device=self.backend.device)

    def forward(self, x, training=False):
        xp = nnx.array_namespace(x)
        return x + self.b, lambda delta: (delta, {"b": xp.sum(delta, axis=0)})

    def output_shape(self, input_shape):
        return input_shape


def watch(layer):
    return assert_no_host_sync(train, nnx.SequentialNet(4, [layer]), X, X)


@needs("strict")
def test_the_layer_without_a_defect_passes():
    check_gradients(Shift(), X)
    watch(Shift())
    assert in_the_source(Shift.forward) == []


# A wrong derivative.


class WrongTanH(nnx.activations.Activation):
    def forward(self, x):
        y = nnx.array_namespace(x).tanh(x)
        return y, lambda delta: (1.0 - y) * delta


def test_a_wrong_derivative():
    with pytest.raises(GradientError, match=r"WrongTanH: backward gives a wrong gradient of x"):
        check_gradients(WrongTanH(), X)


def test_a_wrong_derivative_in_a_network_is_found_by_the_check_of_the_network():
    net = nnx.SequentialNet(4, [nnx.DenseLayer(4, 3, WrongTanH()), nnx.DenseLayer(3, 2)])
    with pytest.raises(GradientError, match=r"wrong gradient of . of layer 1 \(DenseLayer\)|of x"):
        check_gradients(net, X)


# A hidden read.


class HiddenFloat(Shift):
    def forward(self, x, training=False):
        largest = float(nnx.array_namespace(x).max(x))
        y, backward = super().forward(x / largest)
        return y, lambda delta: (backward(delta)[0] / largest, backward(delta)[1])


@needs("strict")
def test_a_hidden_float():
    with pytest.raises(
        HostSyncError, match=r"largest = float\(nnx.array_namespace\(x\).max\(x\)\)"
    ):
        watch(HiddenFloat())


# A boolean mask.


class Mask(Shift):
    def forward(self, x, training=False):
        y = x + self.b
        y[y < 0] = 0.0
        return y, lambda delta: (delta * (y > 0), {"b": (delta * (y > 0)).sum(axis=0)})


@needs("strict")
def test_a_boolean_mask():
    with pytest.raises(HostSyncError, match=r"y\[y < 0\] = 0.0"):
        watch(Mask())
    assert any("subscript by a mask" in line for line in in_the_source(Mask.forward))


# xp.clip: right everywhere, but on CuPy it reads back.


class Clip(Shift):
    def forward(self, x, training=False):
        xp = nnx.array_namespace(x)
        y = x + self.b
        inside = xp.astype(xp.abs(y) < 1, y.dtype)
        return xp.clip(y, -1.0, 1.0), lambda delta: (
            delta * inside,
            {"b": xp.sum(delta * inside, axis=0)},
        )


def test_a_clip_is_seen_by_the_reader_of_the_source():
    check_gradients(Clip(), X)
    assert any("xp.clip" in line for line in in_the_source(Clip.forward))


@pytest.mark.gpu
@needs("cupy")
def test_a_clip_is_seen_by_the_detector_of_cupy():
    with pytest.raises(HostSyncError, match=r"backend cupy(.|\n)*xp.clip\(y, -1.0, 1.0\)"):
        watch(Clip())


# A backward that writes to its delta.


class InPlace(nnx.activations.Activation):
    def forward(self, x):
        y = nnx.array_namespace(x).exp(x)

        def backward(delta):
            delta *= y
            return delta

        return y, backward


def test_a_backward_that_writes_to_delta():
    with pytest.raises(GradientError, match="InPlace: backward writes to delta"):
        check_gradients(InPlace(), X)


# A wrong reduction axis.


class SumOverFeatures(Shift):
    def forward(self, x, training=False):
        xp = nnx.array_namespace(x)
        return x + self.b, lambda delta: (delta, {"b": xp.sum(delta, axis=1)})


def test_a_sum_over_the_wrong_axis_though_the_shape_is_right():
    with pytest.raises(GradientError, match="wrong gradient of b") as caught:
        check_gradients(SumOverFeatures(), X)
    assert "wrong axis" in str(caught.value)


class SoftMaxOverTheBatch(nnx.activations.Activation):
    """Its backward is the derivative of its forward: only the axis is wrong, in both."""

    def forward(self, x):
        xp = nnx.array_namespace(x)
        e = xp.exp(x - xp.max(x, axis=0, keepdims=True))
        y = e / xp.sum(e, axis=0, keepdims=True)
        return y, lambda delta: y * (delta - xp.sum(delta * y, axis=0, keepdims=True))


def test_a_softmax_over_the_batch():
    with pytest.raises(GradientError, match="depend on the other samples"):
        check_gradients(SoftMaxOverTheBatch(), X)
    check_gradients(nnx.SoftMax(), X)


# A layer of one's own.


class WrongScale(nnx.Layer):
    """y = s x; the gradient of s lacks the factor x."""

    s = nnx.Parameter()

    def __init__(self):
        super().__init__()
        self.s = self.backend.asarray([1.0, 2.0, 3.0, 4.0])

    def forward(self, x, training=False):
        xp = nnx.array_namespace(x)
        return x * self.s, lambda delta: (delta * self.s, {"s": xp.sum(delta, axis=0)})

    def output_shape(self, input_shape):
        return input_shape


def test_a_wrong_backward_of_ones_own_layer_is_named_with_both_values():
    with pytest.raises(GradientError) as caught:
        check_gradients(WrongScale(), X)
    message, error = str(caught.value), caught.value
    assert message.startswith("WrongScale: backward gives a wrong gradient of s\n")
    assert f"expected {error.expected:.9g} (differences of forward), given {error.given:.9g}" in (
        message
    )
    assert error.parameter == "s"
    assert "worst entry [" in message
