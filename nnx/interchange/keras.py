"""Weights in the order and the shapes of Keras's `get_weights()`.

Keras has the channels last. Behind a FlattenLayer the numbers of a sample therefore come in another
order there, and the layers that follow, up to the next dense one, get their weights in that order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import numpy as np

from nnx.checks import choice, sequence
from nnx.interchange.arrays import host, joined, leaves, put
from nnx.layers import (
    ActivationLayer,
    AvgPool2DLayer,
    BatchNormLayer,
    BidirectionalLayer,
    ConvolutionLayer,
    CutoutLayer,
    DenseLayer,
    DropoutLayer,
    EmbeddingLayer,
    FlattenLayer,
    GaussianNoiseLayer,
    GlobalAvgPoolLayer,
    GroupNormLayer,
    GRULayer,
    Layer,
    LayerNormLayer,
    LSTMLayer,
    MaxPool2DLayer,
    MultiHeadAttentionLayer,
    PermuteLayer,
    PoolingLayer,
    RandomFlipLayer,
    RandomShiftLayer,
    RescalingLayer,
    ReshapeLayer,
    RNNLayer,
    SequentialLayer,
    UpSampling2DLayer,
    ZeroPadding2DLayer,
)
from nnx.saving.errors import listed
from nnx.saving.packing import host_arrays
from nnx.synonyms import named

__all__ = ["from_keras_weights", "to_keras_weights"]

Values = dict[str, np.ndarray]
Order = np.ndarray | None  # entry i here is entry order[i] in Keras


@named
def from_keras_weights(net: Layer, weights: Any, data_format: str = "channels_last") -> None:
    """Put the weights of a Keras model into a network that is there already, in order.

    Args:
        net: the network with the layers of the model. A layer alone will do, unless something is
            flattened.
        weights: the arrays of `model.get_weights()`.
        data_format: of the model, "channels_last" or "channels_first".

    Raises:
        ValueError: number or shapes of the arrays do not fit, an array is not finite, or a layer
            has no counterpart; nothing has changed then.
        TypeError: a weight is not an array of floating-point numbers.
    """
    owner = "from_keras_weights"
    given = sequence(owner, "weights", weights, "the list of arrays that get_weights() returns")
    arrays = [host(f"weights[{i}]", value) for i, value in enumerate(given)]
    now, at, wrong = host_arrays(net), 0, []
    values: Values = {}
    paths = _first_paths(net)
    for leaf, order in _in_turn(owner, net, data_format):
        path = paths[id(leaf)]
        shapes = [a.shape for a in _written(leaf, _own(now, leaf, path), order)]
        its = arrays[at : at + len(shapes)]
        found = [array.shape for array in its]
        if found == shapes:
            read = _read(leaf, its, order)
            values |= {joined(path, name): array for name, array in read.items()}
        else:
            wrong.append(f"{leaf.name} at {path!r} takes {_shapes(shapes)}, got {_shapes(found)}")
            if isinstance(leaf, GRULayer) and found[2:] == [(3 * leaf.no,)]:
                wrong[-1] += ", the bias of a GRU with reset_after=False, whose formula differs"
        at += len(shapes)
    if at != len(arrays):
        wrong.append(f"{at} arrays are needed, {len(arrays)} given")
    if wrong:
        raise ValueError(
            f"{owner}: expected the weights of {net.name}, got others: {listed(wrong)}; make the "
            "network with the layers of the Keras model in its order, each with a bias"
        )
    put(net, values, lambda text: ValueError(f"{owner}: {text}"))


@named
def to_keras_weights(net: Layer, data_format: str = "channels_last") -> list[np.ndarray]:
    """Return the weights for `model.set_weights(...)` of a Keras model with the same layers.

    Args:
        net: the network, or a layer.
        data_format: of the model, "channels_last" or "channels_first".

    Raises:
        ValueError: a layer has no counterpart, or a number is not finite.
    """
    now, paths = host_arrays(net), _first_paths(net)
    return [
        np.ascontiguousarray(array)
        for leaf, order in _in_turn("to_keras_weights", net, data_format)
        for array in _written(leaf, _own(now, leaf, paths[id(leaf)]), order)
    ]


def _first_paths(net: Layer) -> dict[int, str]:
    return {id(leaf): path for path, leaf in reversed(leaves(net))}


def _own(arrays: Values, leaf: Layer, path: str) -> Values:
    return {name: arrays[joined(path, name)] for name in (*leaf.parameters, *leaf.buffers)}


def _shapes(shapes: Sequence[Any]) -> str:
    return ", ".join(map(str, shapes)) or "none"


# What a layer's arrays are in Keras.


def _kernel(W: np.ndarray) -> np.ndarray:
    """(no, ni, *kernel) -> (*kernel, ni, no); for transposed ones (ni, no) -> (no, ni)."""
    return W.transpose(*range(2, W.ndim), 1, 0)


def _from_kernel(kernel: np.ndarray) -> np.ndarray:
    axes = range(kernel.ndim - 2)
    return kernel.transpose(kernel.ndim - 1, kernel.ndim - 2, *axes)


def _gates(rows: np.ndarray) -> np.ndarray:
    """Gates r, z, n as z, r, n, and back."""
    r, z, n = np.split(rows, 3)
    return np.concatenate([z, r, n])


def _written(leaf: Layer, v: Values, order: Order) -> list[np.ndarray]:
    """Return the arrays of a layer as Keras has them."""
    back = slice(None) if order is None else np.argsort(order)
    if isinstance(leaf, DenseLayer):
        return [v["W"].T[back], v["b"]]
    if isinstance(leaf, ConvolutionLayer):
        return [_kernel(v["W"]), *([v["b"]] if leaf.bias else [])]
    if isinstance(leaf, LSTMLayer):
        return [v["W_ih"].T, v["W_hh"].T, v["b_ih"] + v["b_hh"]]
    if isinstance(leaf, GRULayer):
        return [
            _gates(v["W_ih"]).T,
            _gates(v["W_hh"]).T,
            np.stack([_gates(v["b_ih"]), _gates(v["b_hh"])]),
        ]
    if isinstance(leaf, RNNLayer):
        return [v["W_ih"].T, v["W_hh"].T, v["b"]]
    if isinstance(leaf, MultiHeadAttentionLayer):
        heads = leaf.heads, leaf.ni // leaf.heads
        found = []
        for W, b in zip(np.split(v["W_in"], 3), np.split(v["b_in"], 3), strict=True):
            found += [W.T.reshape(leaf.ni, *heads), b.reshape(heads)]
        return [*found, v["W_out"].T.reshape(*heads, leaf.ni), v["b_out"]]
    if isinstance(leaf, LayerNormLayer) and order is not None and len(leaf.shape) > 1:
        return [np.moveaxis(a, 0, -1) for a in v.values()]
    return [array if array.ndim > 1 else array[back] for array in v.values()]


def _read(leaf: Layer, k: list[np.ndarray], order: Order) -> Values:
    """Return the arrays of Keras as the layer has them."""
    here = slice(None) if order is None else order
    if isinstance(leaf, DenseLayer):
        return {"W": k[0][here].T, "b": k[1]}
    if isinstance(leaf, ConvolutionLayer):
        return {"W": _from_kernel(k[0]), **({"b": k[1]} if leaf.bias else {})}
    if isinstance(leaf, LSTMLayer):
        return {"W_ih": k[0].T, "W_hh": k[1].T, "b_ih": k[2], "b_hh": np.zeros_like(k[2])}
    if isinstance(leaf, GRULayer):
        biases = {"b_ih": _gates(k[2][0]), "b_hh": _gates(k[2][1])}
        return {"W_ih": _gates(k[0].T), "W_hh": _gates(k[1].T), **biases}
    if isinstance(leaf, RNNLayer):
        return {"W_ih": k[0].T, "W_hh": k[1].T, "b": k[2]}
    if isinstance(leaf, MultiHeadAttentionLayer):
        ni = leaf.ni
        return {
            "W_in": np.concatenate([kernel.reshape(ni, ni).T for kernel in k[0:6:2]]),
            "b_in": np.concatenate([bias.reshape(ni) for bias in k[1:6:2]]),
            "W_out": k[6].reshape(ni, ni).T,
            "b_out": k[7],
        }
    names = (*leaf.parameters, *leaf.buffers)
    if isinstance(leaf, LayerNormLayer) and order is not None and len(leaf.shape) > 1:
        return {name: np.moveaxis(a, -1, 0) for name, a in zip(names, k, strict=True)}
    return {
        name: array if array.ndim > 1 else array[here] for name, array in zip(names, k, strict=True)
    }


# The order of the numbers.


class _Walk:
    """Goes through the layers, with what is known of the sample between them.

    Attributes:
        shape: of a sample; None if it is not known.
        first: are channels first here, where Keras has them last?
        order: of the numbers of a flattened sample; None if it is the same.
    """

    def __init__(self, owner: str, shape: Any, last: bool) -> None:
        self.owner, self.shape, self.last = owner, shape, last
        self.first = last and shape is not None and len(shape) == 3
        self.order: Order = None

    def through(self, layer: Layer) -> Iterator[tuple[Layer, Order]]:
        """Yield each layer with weights, and the order of its numbers."""
        if isinstance(layer, SequentialLayer):
            for child in layer.layers:
                yield from self.through(child)
            return
        if isinstance(layer, BidirectionalLayer):
            yield from ((child, None) for child in layer.children)
        elif isinstance(layer, _WEIGHTS):
            yield layer, self.needed(layer)
        elif type(layer) not in _WITHOUT:
            self.refuse(layer, "has no counterpart in Keras", "take its layers one by one")
        self.after(layer)

    def needed(self, layer: Layer) -> Order:
        """Return the order for the weights of a layer."""
        if isinstance(layer, GroupNormLayer) and self.order is not None:
            self.refuse(layer, "has other groups behind a FlattenLayer", _MOVE)
        if isinstance(layer, LayerNormLayer) and len(layer.shape) > 1 and self.first:
            return np.arange(0)  # whole axes are moved
        return self.order

    def after(self, layer: Layer) -> None:
        """Follow shape and order through a layer."""
        before = self.shape
        if isinstance(layer, FlattenLayer | ReshapeLayer) and before is None and self.last:
            self.refuse(layer, "rearranges a sample of unknown shape", "give the SequentialNet")
        self.shape = None if before is None else layer.output_shape(before)
        if not self.last:
            return
        if isinstance(layer, FlattenLayer | ReshapeLayer):
            self.rearranged(layer, before)
        elif isinstance(layer, ConvolutionLayer | PoolingLayer):
            self.first = True
        elif isinstance(layer, PermuteLayer):
            self.permuted(layer)
        elif isinstance(layer, DenseLayer):
            self.order = None
        elif isinstance(layer, GlobalAvgPoolLayer | EmbeddingLayer):
            self.first = False

    def rearranged(self, layer: Any, before: Any) -> None:
        same = not self.first or before[0] == 1 or math.prod(before[1:]) == 1
        if len(self.shape) == 1:
            if len(before) > 1:
                n = np.arange(math.prod(before)).reshape(*before[1:], before[0])
                self.order = None if same else np.moveaxis(n, -1, 0).ravel()
            self.first = False
            return
        images = len(self.shape) == 3
        shaped = not images or self.shape[0] == 1 or math.prod(self.shape[1:]) == 1
        if self.order is not None or not same or not shaped:
            self.refuse(layer, "puts the numbers in another order than channels last", _MOVE)
        self.first = images

    def permuted(self, layer: Any) -> None:
        moves = {True: [(2, 1), (2, 3, 1)], False: [(2, 1), (3, 1, 2)]}
        if layer.axes not in moves[self.first]:
            self.refuse(layer, "moves other axes than the channels", _MOVE)
        self.first = not self.first

    def refuse(self, layer: Layer, why: str, remedy: str) -> NoReturn:
        raise ValueError(
            f"{self.owner}: expected layers whose weights Keras has in a known order, got "
            f"{layer.name}, which {why}; {remedy}"
        )


_MOVE = 'use data_format="channels_first" in both, or move these weights by hand'
_WEIGHTS = (
    DenseLayer, ConvolutionLayer, BatchNormLayer, LayerNormLayer, GroupNormLayer, EmbeddingLayer,
    LSTMLayer, GRULayer, RNNLayer, MultiHeadAttentionLayer,
)  # fmt: skip
_WITHOUT = (
    ActivationLayer, AvgPool2DLayer, CutoutLayer, DropoutLayer, FlattenLayer, GaussianNoiseLayer,
    GlobalAvgPoolLayer, MaxPool2DLayer, PermuteLayer, RandomFlipLayer, RandomShiftLayer,
    RescalingLayer, ReshapeLayer, UpSampling2DLayer, ZeroPadding2DLayer,
)  # fmt: skip


def _in_turn(owner: str, net: Layer, data_format: str) -> Iterator[tuple[Layer, Order]]:
    """Yield the layers with weights in turn, a shared one once, and the order of their numbers."""
    last = choice(owner, "data_format", data_format, ("channels_last", "channels_first"))
    walk, seen = _Walk(owner, getattr(net, "input_shape", None), last == "channels_last"), set()
    for leaf, order in walk.through(net):
        if id(leaf) not in seen:
            seen.add(id(leaf))
            yield leaf, order
