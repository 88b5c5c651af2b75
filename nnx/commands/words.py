"""Layers, optimizers and losses in words: "dense 100 relu, dense 10 softmax".

The words are the names of nnx's classes in lower case, without what names their kind: "dense" is
DenseLayer, "adam" is Adam, "l2" is L2Regularizer. What follows a word are the arguments of its
constructor, in their order or as name=value, without those that follow from the data and the
layers before:

    conv2d 16 3 relu padding=same, maxpool2d, flatten, dense 10 softmax
    embedding 5000 64, bidirectional (lstm 32) (lstm 32 reverse), dense 1 logistic
    adam 0.001,  adam cosine(0.001 1000),  dense 100 leakyrelu(0.1) kernel_regularizer=l2(0.01)

The text becomes plain data, which `nnx.config.build` takes. Nothing in it is evaluated.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from inspect import Parameter
from typing import Any

import nnx
from nnx.commands.items import Item, as_items, parse
from nnx.config import build, parameters_of
from nnx.randomness import without_draws
from nnx.synonyms import of_argument

__all__ = ["Item", "as_items", "described", "layers_of", "network_of", "parse", "words_of"]

KINDS: dict[str, type] = {
    "Layer": nnx.Layer,
    "Activation": nnx.Activation,
    "Loss": nnx.Loss,
    "Optimizer": nnx.Optimizer,
    "Initializer": nnx.Initializer,
    "Regularizer": nnx.Regularizer,
    "Schedule": nnx.Schedule,
    "Clip": nnx.Clip,
}
# Sizes that are those of the input, unless they are tokens, of which a shape says nothing.
SIZES = ("ni", "n")
TOKENS = "EmbeddingLayer"


def words_of(kind: str) -> dict[str, Any]:
    """Return the words of a kind, "Layer" for example, and their classes."""
    base = KINDS[kind]
    found: dict[str, Any] = {}
    for name in nnx.__all__:
        thing = getattr(nnx, name)
        abstract = thing in (base, nnx.SequentialNet, nnx.Container)
        if isinstance(thing, type) and issubclass(thing, base) and not abstract:
            found[name.removesuffix(kind).lower()] = thing
    return found


def described(kind: str, item: Item) -> dict[str, Any]:
    """Return what an item says about one thing of a kind, without sizes of an input, as plain data.

    Raises:
        ValueError: there is no such word, or it has no such argument.
    """
    return _plain(kind, item, None)


def layers_of(items: Sequence[Item], shape: Any) -> list[dict[str, Any]]:
    """Return layers one after another as plain data, with their sizes.

    Args:
        items: what is said of each.
        shape: of one sample of the first layer's input.

    Raises:
        ValueError: a layer does not take what comes; or see `described`.
    """
    found, slides = [], _slides(items)
    for number, item in enumerate(items, start=1):
        try:
            data = _plain("Layer", item if slides else _of_sequences(item, shape), shape)
            shape = _after(data, shape)
        except (ValueError, TypeError) as error:
            raise type(error)(f"layer {number} ({item.word}): {error}") from error
        found.append(data)
    return found


def network_of(
    layers: Sequence[Item], shape: tuple[int, ...], loss: Item | None, optimizer: Item | None
) -> Any:
    """Return a network. Without a loss it is the one that goes with the last activation.

    Raises:
        ValueError, TypeError: see `described` and `layers_of`.
    """
    data = layers_of(layers, shape)
    net = build({"class": "SequentialLayer", "layers": data})
    cost: Any = described("Loss", loss) if loss else None
    if cost is None:
        last = net.last_activations() or []
        whole = any(afun.distribution for afun in last)
        single = not whole and any(isinstance(afun, nnx.Logistic) for afun in last)
        kind = nnx.CrossEntropy if whole else nnx.BinaryCrossEntropy
        cost = {"class": (kind if whole or single else nnx.MeanSquaredError).__name__}
    own = None if optimizer is None else build(described("Optimizer", optimizer))
    return nnx.SequentialNet(shape, net.layers, build(cost), own)


def _slides(items: Sequence[Item]) -> bool:
    """Does a kernel slide over the last axis of samples with two? They have channels then."""
    known = words_of("Layer")
    for item in items:
        lists = [value for _, value in item.arguments if isinstance(value, list)]
        inner = [[one for one in of if isinstance(one, Item)] for of in lists]
        kind = known.get(item.word.lower().removesuffix("layer"))
        if getattr(kind, "dimensions", 0) == 1 or any(map(_slides, inner)):
            return True
    return False


def _of_sequences(item: Item, shape: Any) -> Item:
    """Return an item that standardizes, for samples (time, features) with the axis of these."""
    kind = words_of("Layer").get(item.word.lower().removesuffix("layer"))
    given = {name for name, _ in item.arguments}
    if kind is not nnx.StandardizeLayer or len(shape) != 2 or given & {"axis", None}:
        return item
    return Item(item.word, [*item.arguments, ("axis", -1)])


def _plain(kind: str, item: Item, shape: Any) -> dict[str, Any]:
    """Return an item as plain data; shape is that of a layer's input, None for other things."""
    owner = _class(kind, item)
    if kind == "Layer" and not issubclass(owner, nnx.Layer):
        return {"class": "ActivationLayer", "afun": _plain("Activation", item, None)}
    parameters = parameters_of(owner)
    sizes = [name for name in SIZES if name in parameters and owner.__name__ != TOKENS]
    if kind != "Layer":
        sizes = []
    free = [
        name
        for name, parameter in parameters.items()
        if name not in (*sizes, "name", "optim") and parameter.kind is not Parameter.KEYWORD_ONLY
    ]
    found: dict[str, Any] = {}
    for name, value in item.arguments:
        flag = name is None and isinstance(value, str) and value in parameters
        if flag and parameters[str(value)].default is False:
            name, value = str(value), True
        if name is None:
            left = [key for key in free if key not in found]
            if not left:
                raise ValueError(
                    f"expected {item.word} with {_signature(owner, sizes)}, got {value!r} more; "
                    "leave it out"
                )
            name = left[0]
        if name not in parameters or name in found:
            what = "once" if name in found else f"with {_signature(owner, sizes)}"
            there = [] if name in found else [key for key in parameters if key not in sizes]
            shown = "..." if isinstance(value, Item | list) else value
            own = of_argument(str(name), there)
            remedy = f"write {own}={shown}" if own else "leave it out"
            raise ValueError(f"expected {item.word} {what}, got {name!r}; {remedy}")
        found[name] = _argument(parameters[name], value, shape)
    required = [n for n, p in parameters.items() if p.default is p.empty and n not in found]
    if owner is nnx.LayerNormLayer and shape is not None and "shape" in required:
        found["shape"], required = shape[-1], []
    missing = [name for name in required if name not in sizes]
    if missing:
        raise ValueError(
            f"expected {item.word} with {_signature(owner, sizes)}, got none for "
            f"{', '.join(missing)}; write for example {item.word} {missing[0]}=..."
        )
    data = {"class": owner.__name__, **found}
    return _sized(item.word, data, required, shape) if required else data


def _sized(word: str, data: dict[str, Any], sizes: list[str], shape: Any) -> dict[str, Any]:
    """Return a layer with the size of its input: the last axis, or the channels, what it takes.

    Raises:
        ValueError: it takes neither.
    """

    def error_of(size: int, of: Any) -> Exception | None:
        data.update(dict.fromkeys(sizes, size))
        try:
            _after(data, of)
        except nnx.layers.ShapeError as error:
            return error
        return None

    if not shape:
        raise ValueError(f"expected an input with axes for {word}, got shape {shape}; add one")
    error = error_of(shape[-1], shape)
    if error is None or (other := error_of(shape[0], shape)) is None:
        return data
    if len(shape) == 2 and error_of(1, (1, *shape)) is None:  # images without their one channel
        remedy = f"write reshape 1x{shape[0]}x{shape[1]} before it"
        raise ValueError(f"expected images with channels, got samples of shape {shape}; {remedy}")
    whole = math.prod(shape)
    error = other if len(shape) > 2 else error
    remedy = str(error) if error_of(whole, (whole,)) else "write flatten before it"
    raise ValueError(f"expected input that {word} takes, got samples of shape {shape}; {remedy}")


def _argument(parameter: Parameter, value: Any, shape: Any) -> Any:
    """Return a value as plain data, by the annotation of its parameter."""
    annotation = str(parameter.annotation)
    kinds = [kind for kind in KINDS if kind in annotation]
    if not kinds and isinstance(value, list) and value and isinstance(value[0], Item):
        kinds = ["Layer"]
    layers = "layers" in parameter.name or "branches" in parameter.name
    if isinstance(value, list) and value and isinstance(value[0], Item):
        if parameter.name == "branches":
            return [_plain("Layer", item, shape) for item in value]
        if kinds in (["Layer"], []):
            found = layers_of(value, shape)
            return found if layers or len(found) > 1 else found[0]
        value = value[0]
    if isinstance(value, Item | str):
        for kind in kinds:
            item = value if isinstance(value, Item) else parse(value)[0]
            if kind != kinds[-1] and item.word.lower() not in words_of(kind):
                continue
            return _plain(kind, item, shape if kind == "Layer" else None)
    if isinstance(value, Item):
        raise ValueError(f"expected {parameter.name} without brackets, got {value.word}(...)")
    return value


def _class(kind: str, item: Item) -> Any:
    known = words_of(kind)
    more = words_of("Activation") if kind == "Layer" else {}
    word = item.word.lower()
    for one in (word, word.removesuffix(kind.lower())):
        if found := known.get(one) or more.get(one):
            return found
    close = difflib.get_close_matches(word, [*known, *more], n=1)
    close = close or [one for one in known if word and word in one][:1]
    elsewhere = nnx._meant(item.word).removesuffix(kind).lower()
    if elsewhere in {**known, **more}:
        close = [elsewhere]
    if word.isdigit() and kind == "Layer":
        close = [f"dense {word}"]
    hint = f"did you mean {close[0]}?" if close else f"the words are {', '.join(sorted(known))}"
    if kind != "Layer" and word in words_of("Layer"):
        hint = f"write a comma before {word}"
    article = "an" if kind[0] in "AIO" else "a"
    raise ValueError(f"expected the name of {article} {kind.lower()}, got {item.word!r}; {hint}")


def _signature(owner: Any, sizes: Sequence[str]) -> str:
    """Return the arguments of a class, "no, afun=..., ...", without sizes that follow."""
    shown = [
        name if parameter.default is parameter.empty else f"{name}=..."
        for name, parameter in parameters_of(owner).items()
        if name not in (*sizes, "name")
    ]
    return f"the arguments {', '.join(shown)}" if shown else "no arguments"


def _after(data: dict[str, Any], shape: Any) -> Any:
    """Return the output shape of a layer, of which nothing is drawn."""
    with without_draws(_zeros):
        return build(data).output_shape(tuple(shape))


def _zeros(shape: Any) -> Any:
    backend = nnx.get_backend()
    return backend.xp.zeros(shape, dtype=backend.dtype, device=backend.device)
