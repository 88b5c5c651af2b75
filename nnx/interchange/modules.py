"""Networks made from PyTorch's modules, which are recognised by class name and attributes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from nnx.activations import Linear, LogSoftmax, ReLU, SoftMax, TanH
from nnx.backend import get_backend
from nnx.checks import ShapeError
from nnx.interchange.arrays import host, joined, leaves, put
from nnx.interchange.kinds import (
    ACTIVATIONS,
    AFFINE,
    GLOBAL,
    LAYERS,
    RECURRENT,
    check_dim,
    only,
    told,
)
from nnx.interchange.state_dicts import Unit, expected, fitted
from nnx.layers import (
    ActivationLayer,
    AffineLayer,
    BidirectionalLayer,
    ConvolutionLayer,
    DropoutLayer,
    GlobalAvgPoolLayer,
    Layer,
    SequentialLayer,
)
from nnx.losses import Loss, QuadraticCost
from nnx.networks import SequentialNet
from nnx.randomness import without_draws
from nnx.saving.errors import listed
from nnx.synonyms import named

__all__ = ["from_torch"]


@named
def from_torch(module: Any, input_shape: Any = None, cost: Loss | None = None) -> Any:
    """Return a PyTorch module as layers of nnx, with its weights.

    The module is an `nn.Sequential`, also nested, or one module of the table in `nnx.interchange`.
    An activation after a layer with weights becomes that layer's. A bias that is switched off
    becomes zeros. Recurrent modules return the states of all time steps; nnx has the samples first,
    as with batch_first=True.

    Args:
        module: the module. PyTorch is not imported.
        input_shape: the shape of one sample; None for the layers alone.
        cost: the loss of the network; QuadraticCost() if not given.

    Returns:
        A SequentialNet, or without an input_shape a list of layers.

    Raises:
        ValueError: nnx has no layer for a module, or not with its arguments; or its weights are not
            finite. The module is named.
        ShapeError: the layers do not fit the input_shape.
    """
    shape = (input_shape,) if isinstance(input_shape, int) else input_shape
    with without_draws(_zeros):
        made = _Made(module)
        layers = made.sequence(module, "", shape) if _is_chain(module) else made.one(module, "")
    if not layers:
        raise ValueError("from_torch: expected a module that holds modules, got an empty one")
    whole = SequentialLayer(layers)
    put(whole, made.arrays(module, whole), lambda text: ValueError(f"from_torch: {text}"))
    if input_shape is None:
        return whole.layers
    return SequentialNet(input_shape, whole.layers, QuadraticCost() if cost is None else cost)


class _Made:
    """The layers made of a module, and where their weights are in its state dict."""

    def __init__(self, module: Any) -> None:
        self.known: dict[int, list[Layer]] = {}  # id of a module -> its layers
        self.places: dict[int, tuple[str, str]] = {}  # id of a layer -> name and suffix
        self.again: list[str] = []  # names of modules that have stood elsewhere
        self.times = Counter(map(id, _all(module)))

    def sequence(self, module: Any, name: str, shape: Any) -> list[Layer]:
        """Return the layers of an `nn.Sequential`; an activation joins the layer before it."""
        found: list[Layer] = []
        children = list(module._modules.items())
        kinds = [type(child).__name__ for _, child in children]
        for i, (key, child) in enumerate(children):
            here, before, kind = joined(name, key), found[-1:], kinds[i]
            if kind in GLOBAL:
                only(child, here, output_size=GLOBAL[kind])
                if kinds[i + 1 : i + 2] != ["Flatten"]:
                    raise ValueError(
                        f"from_torch: expected nn.Flatten() after {told(child, here)}, as the "
                        "layer here gives (samples, channels), got none; put it there"
                    )
                new: list[Layer] = [GlobalAvgPoolLayer()]
            elif kind == "Flatten" and kinds[i - 1] in GLOBAL and i:
                continue
            elif _is_chain(child):
                if id(child) in self.known:
                    self.again.append(here)
                else:
                    self.known[id(child)] = [SequentialLayer(self.sequence(child, here, shape))]
                new = self.known[id(child)]
            elif kind in ("Softmax", "LogSoftmax"):
                check_dim(child, here, shape)
                new = self.one(child, here)
            else:
                new = self.one(child, here)
            alone = i and self.times[id(children[i - 1][1])] == 1 and kinds[i - 1] in AFFINE
            if alone and kind in ACTIVATIONS and _joins(before[0], new[0]):
                before[0].afun = new[0].afun
            else:
                found += new
                shape = _after(new, shape)
        return found

    def one(self, module: Any, name: str) -> list[Layer]:
        """Return the layers of a module that holds no others; one that comes again has the same.

        Raises:
            ValueError: there is no such layer.
        """
        if id(module) in self.known:
            self.again.append(name)
            return self.known[id(module)]
        kind = type(module).__name__
        try:
            if kind in ACTIVATIONS:
                layers: list[Layer] = [ActivationLayer(ACTIVATIONS[kind](module, name))]
            elif kind in ("LSTM", "GRU", "RNN"):
                layers = self.recurrent(module, name)
            elif kind in LAYERS:
                layers = [LAYERS[kind](module, name)]
            else:
                known = ", ".join(sorted({"Sequential", *LAYERS, *ACTIVATIONS, *RECURRENT}))
                raise ValueError(
                    f"from_torch: expected one of the modules {known}, got {told(module, name)}; "
                    "make the network by hand, and take the weights with load_torch(net, "
                    "module.state_dict())"
                )
        except (TypeError, AttributeError) as error:
            raise ValueError(
                f"from_torch: expected {told(module, name)} with the attributes of PyTorch's, got "
                f"{type(error).__name__}: {error}; make the layer by hand"
            ) from error
        for layer in layers:
            self.places.setdefault(id(layer), (name, ""))
        self.known[id(module)] = layers
        return layers

    def recurrent(self, module: Any, name: str) -> list[Layer]:
        """Return the layers of nn.LSTM, nn.GRU or nn.RNN, with dropout between them."""
        only(module, name, proj_size=0)
        kind = type(module).__name__
        found: list[Layer] = []
        more: dict[str, Any] = {"return_sequences": True}
        if kind == "RNN":
            more["afun"] = TanH() if module.nonlinearity == "tanh" else ReLU()
        for number in range(module.num_layers):
            size = module.input_size
            if number:
                size = module.hidden_size * (2 if module.bidirectional else 1)
            pair = [
                RECURRENT[kind](size, module.hidden_size, reverse=reverse, **more)
                for reverse in ([False, True] if module.bidirectional else [False])
            ]
            for layer, direction in zip(pair, ("", "_reverse"), strict=False):
                self.places[id(layer)] = name, f"_l{number}{direction}"
            if number and module.dropout:
                found.append(DropoutLayer(module.dropout))
            found.append(BidirectionalLayer(*pair) if module.bidirectional else pair[0])
        return found

    def arrays(self, module: Any, whole: Layer) -> dict[str, np.ndarray]:
        """Return the weights under the paths of the layers; zeros for biases switched off.

        Raises:
            ValueError: a weight is under another name, as after a parametrization.
        """
        state = module.state_dict()
        left = {key for key in state if key.rpartition(".")[2] != "num_batches_tracked"}
        arrays, pairs = {}, []
        for path, leaf in leaves(whole):
            unit = Unit(*self.places.get(id(leaf), ("", "")))
            for name, short in expected(leaf).items():
                own: Any = leaf.parameters.get(name, leaf.buffers.get(name))
                for part in short.split("+"):
                    key = unit.key(part)
                    if key in state:
                        arrays[key] = host(key, state[key])
                    elif "bias" in part:
                        arrays[key] = np.zeros(tuple(own.shape), leaf.backend.dtype_name)
                    unit.keys |= {part: key} if key in arrays else {}
                    left.discard(key)
            pairs.append((path, leaf, unit))
        found, differences = fitted(pairs, arrays)
        twice = tuple(f"{name}." for name in self.again)
        left = {key for key in left if not key.startswith(twice)}
        if differences or left:
            missing = f"; missing: {listed(differences.missing)}" if differences.missing else ""
            raise ValueError(
                "from_torch: expected modules with the weights of their class alone, got others; "
                f"left over: {listed(sorted(left))}{missing}; remove parametrizations, or make the "
                "network by hand and use load_torch"
            )
        for _, leaf, unit in pairs:
            index = getattr(leaf, "padding_index", None)
            if index is not None and arrays[unit.key("weight")][index].any():
                raise ValueError(
                    f"from_torch: expected zeros in row {index} of {unit.key('weight')}, that of "
                    "the padding, as its output is 0 here, got others; set the row to zero"
                )
        return found


def _is_chain(module: Any) -> bool:
    return type(module).__name__ == "Sequential"


def _all(module: Any) -> Iterator[Any]:
    yield module
    if _is_chain(module):
        for child in module:
            yield from _all(child)


def _joins(layer: Layer, activation: Layer) -> bool:
    """Can an activation be that of the layer before it?"""
    afun = getattr(activation, "afun", None)
    along = isinstance(layer, ConvolutionLayer) and isinstance(afun, SoftMax | LogSoftmax)
    return isinstance(layer, AffineLayer) and layer.afun == Linear() != afun and not along


def _after(layers: list[Layer], shape: Any) -> Any:
    """Return the shape after the layers; None if it is not known."""
    try:
        for layer in layers:
            shape = None if shape is None else layer.output_shape(shape)
    except ShapeError:
        return None  # SequentialNet says what does not fit
    return shape


def _zeros(shape: Any) -> Any:
    """Return what stands for weights that come afterwards."""
    backend = get_backend()
    return backend.xp.zeros(shape, dtype=backend.dtype, device=backend.device)
