"""Weights under PyTorch's names: `load_torch` and `to_torch_state_dict`.

The keys of a state dict that belong to one module are a unit: "4.weight" and "4.bias". A recurrent
module has a unit for each of its layers and directions.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nnx.activations import Linear
from nnx.checks import flag
from nnx.interchange.arrays import at_path, host, joined, leaves, put, torch_file
from nnx.layers import (
    ActivationLayer,
    AffineLayer,
    AvgPool2DLayer,
    BatchNormLayer,
    BidirectionalLayer,
    Conv1DLayer,
    Conv2DLayer,
    ConvTranspose2DLayer,
    DenseLayer,
    DropoutLayer,
    EmbeddingLayer,
    FlattenLayer,
    GlobalAvgPoolLayer,
    GroupNormLayer,
    GRULayer,
    Layer,
    LayerNormLayer,
    LSTMLayer,
    MaxPool2DLayer,
    MultiHeadAttentionLayer,
    RecurrentLayer,
    ReshapeLayer,
    RNNLayer,
    SequentialLayer,
    UpSampling2DLayer,
    ZeroPadding2DLayer,
)
from nnx.saving import Differences
from nnx.saving.errors import listed
from nnx.saving.packing import host_arrays
from nnx.synonyms import named

__all__ = ["NAMES", "Unit", "expected", "fitted", "load_torch", "to_torch_state_dict", "units"]

_WEIGHT = {"W": "weight", "b": "bias"}
_NORM = {"gamma": "weight", "beta": "bias"}
_RECURRENT = {"W_ih": "weight_ih", "W_hh": "weight_hh", "b_ih": "bias_ih", "b_hh": "bias_hh"}
# Layer -> its parameters and buffers, and what PyTorch calls them. Several names are summed.
NAMES: dict[type[Layer], dict[str, str]] = {
    DenseLayer: _WEIGHT,
    Conv1DLayer: _WEIGHT,
    Conv2DLayer: _WEIGHT,
    ConvTranspose2DLayer: _WEIGHT,
    BatchNormLayer: {**_NORM, "mean": "running_mean", "variance": "running_var"},
    LayerNormLayer: _NORM,
    GroupNormLayer: _NORM,
    EmbeddingLayer: {"E": "weight"},
    LSTMLayer: _RECURRENT,
    GRULayer: _RECURRENT,
    RNNLayer: {"W_ih": "weight_ih", "W_hh": "weight_hh", "b": "bias_ih+bias_hh"},
    MultiHeadAttentionLayer: {
        "W_in": "in_proj_weight",
        "b_in": "in_proj_bias",
        "W_out": "out_proj.weight",
        "b_out": "out_proj.bias",
    },
}
# Layers without arrays -> how many modules do the same.
_MODULES: dict[type[Layer], int] = {
    ActivationLayer: 1,
    AvgPool2DLayer: 1,
    DropoutLayer: 1,
    FlattenLayer: 1,
    GlobalAvgPoolLayer: 2,  # AdaptiveAvgPool2d(1) and Flatten
    MaxPool2DLayer: 1,
    ReshapeLayer: 1,
    UpSampling2DLayer: 1,
    ZeroPadding2DLayer: 1,
}
_OLD = {"gamma": "weight", "beta": "bias"}  # as old checkpoints call those of a normalization
_OF_TIME = re.compile(r"(weight_ih|weight_hh|weight_hr|bias_ih|bias_hh)(_l\d+(?:_reverse)?)")


@dataclass
class Unit:
    """The keys of one module, or of one layer and direction of a recurrent one.

    Attributes:
        prefix: the name of the module.
        suffix: "_l0" for example, for a recurrent one.
        keys: what PyTorch calls an array of such a module -> its key.
    """

    prefix: str
    suffix: str = ""
    keys: dict[str, str] = field(default_factory=dict)

    def key(self, short: str) -> str:
        """Return the key of an array."""
        return self.keys.get(short) or joined(self.prefix, short + self.suffix)


@named
def load_torch(
    net: Layer,
    state_dict: Mapping[str, Any] | str | os.PathLike[str],
    mapping: Mapping[str, str] | None = None,
    strict: bool = True,
) -> Differences:
    """Put the weights of a PyTorch module into a network that is there already.

    Modules and layers are matched by their order. In an `nn.Sequential` the order is that of the
    numbers. Modules with other names come in the order of the dict, which is that of their
    definition; a file has lost it, so they need the mapping there. PyTorch need not be installed.

    Args:
        net: the network, or a layer; its optimizers keep their states.
        state_dict: name -> tensor or array, as from `module.state_dict()`; or the path of a
            safetensors file.
        mapping: {name of a module: path of a layer}, for example {"encoder": "0", "head": "2.1"}.
            What is inside of both is matched by order, and so is all that is not mentioned.
        strict: refuse weights of which something is missing, left over or of another shape. False
            takes what fits.

    Returns:
        What is missing (paths here), left over (names there), and of another shape.

    Raises:
        ValueError: the weights do not fit, or are not finite; nothing has changed then.
        TypeError: a value is not an array of floating-point numbers.
        FileError, OSError: the file cannot be read.
    """
    strict = flag("load_torch", "strict", strict)
    if isinstance(state_dict, str | os.PathLike):
        values: dict[str, Any] = torch_file(state_dict, _counts)
    elif isinstance(state_dict, Mapping):
        values = {name: value for name, value in state_dict.items() if _counts(name)}
    else:
        raise TypeError(
            "load_torch: expected a dict of arrays or the path of a safetensors file, got "
            f"{type(state_dict).__name__}; give module.state_dict()"
        )
    arrays = {name: host(name, value) for name, value in values.items()}
    pairs, alone, left = _paired(net, units(arrays), mapping or {}, _in_order(arrays))
    found, differences = fitted(pairs, arrays)
    missing = [*differences.missing, *(joined(p, n) for p, leaf in alone for n in expected(leaf))]
    unexpected = [*differences.unexpected, *(key for unit in left for key in unit.keys.values())]
    differences = Differences(tuple(missing), tuple(unexpected), differences.shapes)
    if strict and differences:
        raise ValueError(_refusal(net, differences))
    put(net, found, lambda text: ValueError(f"load_torch: {text}"))
    return differences


@named
def to_torch_state_dict(
    net: Layer, mapping: Mapping[str, str] | None = None
) -> dict[str, np.ndarray]:
    """Return the weights under PyTorch's names, as NumPy arrays.

    Without a mapping the names are those of an `nn.Sequential` with a module for each layer and one
    for each activation: DenseLayer(3, 2, ReLU()) is nn.Linear(3, 2), nn.ReLU(). A layer with
    Linear() has no module for it, and GlobalAvgPoolLayer is two, nn.AdaptiveAvgPool2d(1) and
    nn.Flatten(). The module takes them so:

        module.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()})

    Args:
        net: the network, or a layer.
        mapping: {name of a module: path of a layer}, as in `load_torch`, for other names. A
            sequence of layers at a path is named as above, after the name of the module.

    Raises:
        ValueError: a layer has no counterpart in an `nn.Sequential`, or is not in the mapping; or a
            number is not finite.
    """
    owner = "to_torch_state_dict"
    named: list[tuple[str, Unit]] = []
    for prefix, path in (mapping or {"": ""}).items():
        named += _below(at_path(owner, net, path), str(path), prefix)
    arrays, at = host_arrays(net), dict(leaves(net))
    weights: dict[str, np.ndarray] = {}
    first = {id(leaf): path for path, leaf in reversed(at.items())}
    for path, unit in named:
        for name, short in expected(at[path]).items():
            array = arrays[joined(first[id(at[path])], name)]
            one, *others = short.split("+")
            weights[unit.key(one)] = array
            weights |= {unit.key(other): np.zeros_like(array) for other in others}
    covered = {id(at[path]) for path, _ in named}
    if lost := [path for path, leaf in at.items() if expected(leaf) and id(leaf) not in covered]:
        raise ValueError(
            f"{owner}: expected every layer with weights in the mapping, got none for "
            f"{listed(lost)}; add their paths"
        )
    return weights


def expected(leaf: Layer) -> dict[str, str]:
    """Return the arrays of a layer, and PyTorch's names for them; other layers keep theirs."""
    names = next((names for kind, names in NAMES.items() if type(leaf) is kind), None)
    if names is None:
        return {name: name for name in leaf.parameters}
    return {n: short for n, short in names.items() if n in leaf.parameters or n in leaf.buffers}


def units(names: Iterable[str]) -> list[Unit]:
    """Return the keys of a state dict by module, in the order in which they begin."""
    found: dict[tuple[str, str], Unit] = {}
    names = list(names)
    for name in names:
        prefix, _, short = name.rpartition(".")
        suffix = ""
        if match := _OF_TIME.fullmatch(short):
            short, suffix = match.groups()
        outer, _, last = prefix.rpartition(".")
        if last == "out_proj" and joined(outer, "in_proj_weight") in names:
            prefix, short = outer, f"out_proj.{short}"
        unit = found.setdefault((prefix, suffix), Unit(prefix, suffix))
        unit.keys[_OLD.get(short, short)] = name
    return list(found.values())


def fitted(
    pairs: Sequence[tuple[str, Layer, Unit]], arrays: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], Differences]:
    """Return the arrays that fit under the paths of the parameters, and what does not fit.

    Raises:
        ValueError: a layer that stands in two places would get two values.
    """
    found: dict[str, np.ndarray] = {}
    missing, unexpected = [], list[str]()
    shapes: dict[str, Any] = {}
    first: dict[int, str] = {}
    for path, leaf, unit in pairs:
        own = first.setdefault(id(leaf), path)
        left = dict(unit.keys)
        for name, short in expected(leaf).items():
            here = joined(own, name)
            keys = [left.pop(part, None) for part in short.split("+")]
            if None in keys:
                missing.append(here)
                continue
            its = [arrays[key] for key in keys if key is not None]
            own_array: Any = leaf.parameters.get(name, leaf.buffers.get(name))
            mine = tuple(own_array.shape)
            if wrong := [array.shape for array in its if array.shape != mine]:
                shapes[here] = (mine, wrong[0])
                continue
            value = its[0] if len(its) == 1 else its[0] + its[1]
            if here in found and not np.array_equal(found[here], value):
                raise ValueError(
                    f"load_torch: expected equal weights for the places of the shared layer {own}, "
                    f"got others for {path}; make two layers of it"
                )
            found[here] = value
        unexpected += left.values()
    return found, Differences(tuple(missing), tuple(unexpected), shapes)


def _counts(name: str) -> bool:
    """Is a key one of numbers that nnx has? The count of batches is not."""
    return name.rpartition(".")[2] != "num_batches_tracked"


def _in_order(names: Iterable[str]) -> bool:
    """Can the order of the names be that of the modules' definition?

    Every module of PyTorch defines its weight before its bias. Sorted names come from a file.
    """
    names = list(names)
    before = [u for u in units(names) if {"weight", "bias"} <= u.keys.keys()]
    swapped = any(list(u.keys).index("bias") < list(u.keys).index("weight") for u in before)
    return not swapped and (len(names) < 2 or names != sorted(names))


def _paired(
    net: Layer, found: list[Unit], mapping: Mapping[str, str], ordered: bool
) -> tuple[list[tuple[str, Layer, Unit]], list[tuple[str, Layer]], list[Unit]]:
    """Return layers with their units, and the layers and the units that are left."""
    pairs: list[tuple[str, Layer, Unit]] = []
    alone: list[tuple[str, Layer]] = []
    left: list[Unit] = []
    taken: set[int] = set()

    def match(places: list[tuple[str, Layer]], of: list[Unit]) -> None:
        places = [(path, leaf) for path, leaf in places if expected(leaf)]
        if len(of) != len(places):  # a file may hold the arrays of a shared layer once
            places = list({id(leaf): (path, leaf) for path, leaf in places[::-1]}.values())[::-1]
        of = _sorted(of, 0, ordered)
        pairs.extend((path, leaf, u) for (path, leaf), u in zip(places, of, strict=False))
        alone.extend(places[len(of) :])
        left.extend(of[len(places) :])

    for prefix, path in mapping.items():
        own = [u for u in found if u.prefix == prefix or not prefix]
        own += [u for u in found if prefix and u.prefix.startswith(f"{prefix}.")]
        if not own:
            raise ValueError(
                f"load_torch: expected the name of a module in the mapping, got {prefix!r}; the "
                f"modules are {listed((repr(u.prefix) for u in found), 20)}"
            )
        found = [u for u in found if u not in own]
        below = leaves(at_path("load_torch", net, path))
        taken |= {id(leaf) for _, leaf in below}
        match([(joined(str(path), inner), leaf) for inner, leaf in below], own)
    match([(path, leaf) for path, leaf in leaves(net) if id(leaf) not in taken], found)
    return pairs, alone, left


def _sorted(found: list[Unit], depth: int, ordered: bool) -> list[Unit]:
    """Return units in the order of their modules.

    Raises:
        ValueError: the names do not tell it, and neither does the dict.
    """
    own = [u for u in found if u.prefix.count(".") + bool(u.prefix) <= depth]
    groups: dict[str, list[Unit]] = {}
    for u in found:
        if u not in own:
            groups.setdefault(u.prefix.split(".")[depth], []).append(u)
    names = list(groups)
    if all(map(str.isdecimal, names)):
        names.sort(key=int)
    elif len(names) > 1 and not ordered:
        raise ValueError(
            "load_torch: expected names that tell the order of the modules, such as those of an "
            f"nn.Sequential, or a dict in that order, got {listed(names)} in the order of the "
            'alphabet; say where each goes: mapping={"' + names[0] + '": "0", ...}'
        )
    by_layer = sorted(own, key=lambda u: [int(n) for n in re.findall(r"\d+", u.suffix)])
    return by_layer + [u for n in names for u in _sorted(groups[n], depth + 1, ordered)]


def _below(layer: Layer, path: str, prefix: str) -> list[tuple[str, Unit]]:
    """Return the path and the unit of each layer with weights, named as in an `nn.Sequential`."""
    owner, found, index = "to_torch_state_dict", [], 0
    if isinstance(layer, BidirectionalLayer):
        pair = enumerate(("_l0", "_l0_reverse"))
        return [(joined(path, str(i)), Unit(prefix, suffix)) for i, suffix in pair]
    if isinstance(layer, RecurrentLayer) and layer.reverse:
        raise ValueError(
            f"{owner}: expected a recurrent layer that reads forward, got {layer.name} at {path!r} "
            "with reverse=True, which PyTorch has in bidirectional modules alone; put it into a "
            "BidirectionalLayer"
        )
    if not layer.children:
        return [(path, Unit(prefix, "_l0" if isinstance(layer, RecurrentLayer) else ""))]
    for i, child in enumerate(layer.children):
        here, name = joined(path, str(i)), joined(prefix, str(index))
        known = type(child) in (*NAMES, BidirectionalLayer) or isinstance(child, SequentialLayer)
        if not isinstance(layer, SequentialLayer) or not (known or type(child) in _MODULES):
            raise ValueError(
                f"{owner}: expected layers that an nn.Sequential can hold, got {child.name} at "
                f'{here}; name the modules of yours: mapping={{"...": "{here}", ...}}'
            )
        if known:
            found += _below(child, here, name)
        index += _MODULES.get(type(child), 1)
        index += isinstance(child, AffineLayer) and child.afun != Linear()
    return found


def _refusal(net: Layer, found: Differences) -> str:
    parts = [f"missing: {listed(found.missing)}"] if found.missing else []
    if found.unexpected:
        parts.append(f"left over: {listed(found.unexpected)}")
    if found.shapes:
        several = (f"{name} {mine}, given {its}" for name, (mine, its) in found.shapes.items())
        parts.append(f"of another shape: {listed(several)}")
    remedy = "change the network, say what belongs together with mapping={name there: path here}"
    if any(name.rpartition(".")[2] in ("b", "b_in", "b_hh", "beta") for name in found.missing):
        remedy += ", give zeros for a bias that the module does not have"
    return (
        f"load_torch: expected the weights of {net.name}, got others; {'; '.join(parts)}; "
        f"{remedy}, or take those that fit: strict=False"
    )
