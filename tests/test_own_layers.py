"""What users are told if a layer of their own breaks one part of the contract of `Layer`."""

import numpy as np
import pytest

import nnx
from nnx.layers import Layer, Parameter


class Scale(Layer):
    """y = s x: the layer from which the others are made by breaking one part."""

    s = Parameter()

    def __init__(self):
        super().__init__(name="mine")
        self.s = self.backend.asarray([1.0, 2.0, 3.0])

    def forward(self, x, training=False):
        def backward(delta):
            return delta * self.s, {"s": self.backend.xp.sum(delta * x, axis=0)}

        return x * self.s, backward

    def output_shape(self, input_shape):
        return input_shape


def returning(result):
    """A layer whose forward returns result(y, backward)."""

    class Own(Scale):
        def forward(self, x, training=False):
            return result(*super().forward(x, training))

    return Own


def going_back(result):
    """A layer whose backward returns result(dx, gradients)."""

    class Own(Scale):
        def forward(self, x, training=False):
            y, backward = super().forward(x, training)
            return y, lambda delta: result(*backward(delta))

    return Own


def shaped(result):
    class Own(Scale):
        def output_shape(self, input_shape):
            return result

    return Own


class Foreign(Scale):
    def __init__(self):
        super().__init__()
        self.parameters["s"] = [1.0, 2.0, 3.0]


# what is broken -> the layer, the kind of error, how the message begins
BROKEN = {
    "forward returns y alone": (
        returning(lambda y, backward: y),
        TypeError,
        "Own 'mine'.forward: expected a pair (y, backward), got an array of shape (2, 3); end it",
    ),
    "forward returns nothing": (
        returning(lambda y, backward: None),
        TypeError,
        "Own 'mine'.forward: expected a pair (y, backward), got None; end it with `return y, ",
    ),
    "forward returns three values": (
        returning(lambda y, backward: (y, backward, 1)),
        TypeError,
        "Own 'mine'.forward: expected a pair (y, backward), got 3 values; end it with",
    ),
    "backward is not a function": (
        returning(lambda y, backward: (y, y)),
        TypeError,
        "Own 'mine'.forward: expected a function backward(delta) as the second of (y, backward), "
        "got an array of shape (2, 3); return the function itself",
    ),
    "the pair is turned round": (
        returning(lambda y, backward: (backward, y)),
        TypeError,
        "Own 'mine'.forward: expected a function backward(delta) as the second of (y, backward), ",
    ),
    "y is not an array": (
        returning(lambda y, backward: (1.5, backward)),
        TypeError,
        "Own 'mine'.forward: expected an array y as the first of (y, backward), got float 1.5;",
    ),
    "y has another shape": (
        returning(lambda y, backward: (y[:, :2], backward)),
        nnx.ShapeError,
        "Own 'mine'.forward: expected y of shape (2, 3), as output_shape says, got (2, 2); correct",
    ),
    "output_shape says another shape": (
        shaped((4,)),
        nnx.ShapeError,
        "Own 'mine'.forward: expected y of shape (2, 4), as output_shape says, got (2, 3); correct",
    ),
    "output_shape returns a number": (
        shaped(3),
        TypeError,
        "Own 'mine'.output_shape: expected a tuple of integers for input of shape (3,), got 3; "
        "return (3,)",
    ),
    "output_shape returns a list": (
        shaped([3]),
        TypeError,
        "Own 'mine'.output_shape: expected a tuple of integers for input of shape (3,), got [3]; ",
    ),
    "output_shape returns nothing": (
        shaped(None),
        TypeError,
        "Own 'mine'.output_shape: expected a tuple of integers for input of shape (3,), got None; ",
    ),
    "a parameter is a list": (
        Foreign,
        TypeError,
        "Foreign 'mine': expected parameter s to be an array of ",
    ),
    "backward returns dx alone": (
        going_back(lambda dx, gradients: dx),
        TypeError,
        "Own 'mine'.backward: expected a pair (dx, gradients), got an array of shape (2, 3); end "
        'it with `return dx, {"s": ds}`',
    ),
    "backward returns nothing": (
        going_back(lambda dx, gradients: None),
        TypeError,
        "Own 'mine'.backward: expected a pair (dx, gradients), got None; end it with",
    ),
    "backward returns gradients one by one": (
        going_back(lambda dx, gradients: (dx, gradients["s"])),
        TypeError,
        "Own 'mine'.backward: expected a dict of gradients as the second of (dx, gradients), got "
        "an array of shape (3,); return",
    ),
    "backward lacks a gradient": (
        going_back(lambda dx, gradients: (dx, {})),
        ValueError,
        "Own 'mine'.backward: expected a gradient for each of the parameters ['s'], got []; return",
    ),
    "backward has a gradient of nothing": (
        going_back(lambda dx, gradients: (dx, {**gradients, "t": dx})),
        ValueError,
        "Own 'mine'.backward: expected a gradient for each of the parameters ['s'], got ['s', 't']",
    ),
    "a gradient has another shape": (
        going_back(lambda dx, gradients: (dx, {"s": dx})),
        nnx.ShapeError,
        "Own 'mine'.backward: expected the gradient of s to have its shape (3,), got (2, 3); sum "
        "over the samples",
    ),
    "a gradient is missing in the dict": (
        going_back(lambda dx, gradients: (dx, {"s": None})),
        nnx.ShapeError,
        "Own 'mine'.backward: expected the gradient of s to have its shape (3,), got None; sum",
    ),
    "dx has another shape": (
        going_back(lambda dx, gradients: (dx[0, :], gradients)),
        nnx.ShapeError,
        "Own 'mine'.backward: expected dx of the shape (2, 3) of x, got (3,); dx has an entry for",
    ),
    "dx is missing": (
        going_back(lambda dx, gradients: (None, gradients)),
        nnx.ShapeError,
        "Own 'mine'.backward: expected dx of the shape (2, 3) of x, got None; dx has an entry for",
    ),
}

X = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_layer_is_told_what_it_returned_and_what_it_should(what, backend):
    kind, error, message = BROKEN[what]
    layer = kind()
    with pytest.raises(error) as caught:
        layer.backprop(layer.evaluate(backend.asarray(X)))
    assert type(caught.value) is error
    assert str(caught.value).startswith(message), str(caught.value)
    assert caught.value.__context__ is None or "mine" in str(caught.value)


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_layer_is_told_the_same_in_training(what, backend):
    """Before anything has been trained."""
    kind, error, message = BROKEN[what]
    first = nnx.DenseLayer(3, 3, nnx.Linear())
    before = first.W

    def train():
        net = nnx.SequentialNet(3, [first, kind(), nnx.DenseLayer(3, 3, nnx.Linear())])
        net.train(X, X, 2, 1, progress=False)

    with pytest.raises(error) as caught:
        train()
    if what != "output_shape says another shape":  # then the layer after it does not fit
        assert str(caught.value).startswith(message), str(caught.value)
    assert "mine" in str(caught.value)
    np.testing.assert_array_equal(backend.to_numpy(first.W), backend.to_numpy(before))


def test_the_unbroken_layer_works(backend):
    layer = Scale()
    y = layer.evaluate(backend.asarray(X))
    dx = layer.backprop(y)
    np.testing.assert_array_equal(backend.to_numpy(y), np.array(X) * [1, 2, 3])
    np.testing.assert_array_equal(backend.to_numpy(dx), np.array(X) * [1, 4, 9])
    np.testing.assert_array_equal(backend.to_numpy(layer.ds), [17.0, 58.0, 135.0])
