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
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from inspect import Parameter
from typing import Any

import nnx
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
BRACKETS = 100
_TOKEN = re.compile(r"\s*(?:([(),])|([^\s(),=]+)(=?)(\(?))")


@dataclass
class Item:
    """A word with its arguments: (name or None, value); a value is plain, an Item or Items."""

    word: str
    arguments: list[tuple[str | None, Any]]


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


def parse(text: str) -> list[Item]:
    """Return the items of a text, which are separated by commas.

    Raises:
        ValueError: the text is not made like that; the message shows the place.
    """
    tokens = list(_tokens(text))
    if text.count("(") > BRACKETS:
        raise ValueError(
            f"expected at most {BRACKETS} brackets, got {text.count('(')}; write a program"
        )
    items, end = _items(text, tokens, 0)
    if end < len(tokens):
        raise _unreadable(text, "a ( for every )")
    if not items:
        raise _unreadable(text, "a word such as dense")
    return items


def as_items(data: Any, name: str) -> list[Item]:
    """Return the items of a text, a list of texts, or tables with the key "class".

    Raises:
        ValueError, TypeError: it is something else.
    """
    if isinstance(data, str):
        return parse(data)
    if isinstance(data, dict):
        if not isinstance(data.get("class"), str):
            raise ValueError(
                f'expected {name} to be a table with a class, got {data!r}; write class = "dense"'
            )
        own = [(key, _table_value(v, name)) for key, v in data.items() if key != "class"]
        return [Item(data["class"], own)]
    if isinstance(data, list):
        return [item for part in data for item in as_items(part, name)]
    raise TypeError(
        f'expected {name} to be text or a list, got {data!r}; write {name} = "dense 10 relu"'
    )


def _table_value(value: Any, name: str) -> Any:
    if isinstance(value, dict) or (
        isinstance(value, list) and value and isinstance(value[0], dict | str)
    ):
        return as_items(value, name)
    return value


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
    found = []
    for number, item in enumerate(items, start=1):
        try:
            data = _plain("Layer", item, shape)
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


def _tokens(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield (sign, "", "") or ("", word, "=" or "(" or "" after it)."""
    at, end = 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            raise _unreadable(text[at:], "a name before =")
        sign, word, equals, call = match.groups()
        yield sign or "", word or "", equals or ""
        if call:
            yield "call", "", ""
        at = match.end()


def _items(text: str, tokens: list[Any], at: int) -> tuple[list[Item], int]:
    """Return the items from a token on, and the token after them."""
    found: list[Item] = []
    while at < len(tokens):
        sign, word, equals = tokens[at]
        if sign == ")":
            break
        if not word or equals:
            raise _unreadable(text, "a word such as dense at the beginning and after every comma")
        if tokens[at + 1 : at + 2] == [("call", "", "")]:
            arguments, at = _arguments(text, tokens, at + 2, called=True)
            at += 1
        else:
            arguments, at = _arguments(text, tokens, at + 1, called=False)
        found.append(Item(word, arguments))
        if at < len(tokens) and tokens[at][0] == ",":
            at += 1
            if at == len(tokens):
                raise _unreadable(text, "a word after the last comma")
        elif at < len(tokens) and tokens[at][0] != ")":
            raise _unreadable(text, "a comma between layers")
    return found, at


def _arguments(text: str, tokens: list[Any], at: int, called: bool) -> tuple[list[Any], int]:
    """Return the arguments from a token on: up to a comma or ")", or only up to ")" of a call."""
    found: list[tuple[str | None, Any]] = []
    while at < len(tokens):
        sign, word, equals = tokens[at]
        if sign == ")" or (sign == "," and not called):
            return found, at
        name = None
        if equals:
            name, at = word, at + 1
            sign, word, equals = tokens[at] if at < len(tokens) else ("", "", "=")
            if equals or sign in (",", ")"):
                raise _unreadable(text, f"a value after {name}=")
        if sign in ("(", "call"):
            inner, at = _items(text, tokens, at + 1)
            at = _closed(text, tokens, at)
            found.append((name, inner))
        elif sign == ",":
            at += 1
        elif tokens[at + 1 : at + 2] == [("call", "", "")]:
            arguments, at = _arguments(text, tokens, at + 2, called=True)
            at = _closed(text, tokens, at)
            found.append((name, Item(word, arguments)))
        else:
            found.append((name, _literal(word)))
            at += 1
    if called:
        raise _unreadable(text, "a ) for every (")
    return found, at


def _closed(text: str, tokens: list[Any], at: int) -> int:
    if at >= len(tokens):
        raise _unreadable(text, "a ) for every (")
    return at + 1


def _literal(word: str) -> Any:
    """Return a number such as 1/255, pairs such as 3x3, True, False or None; else the word."""
    known = {"true": True, "false": False, "none": None}
    if word.lower() in known:
        return known[word.lower()]
    if re.fullmatch(r"-?\d+(x-?\d+)+", word):
        return [int(part) for part in word.split("x")]
    for number in (int, float, lambda text: float(Fraction(text))):
        try:
            return number(word)
        except (ValueError, ZeroDivisionError):
            continue
    return word


def _unreadable(text: str, expected: str) -> ValueError:
    return ValueError(
        f'expected {expected}, got {text!r}; write for example "dense 100 relu, dense 10 softmax"'
    )


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
    hint = f"did you mean {close[0]}?" if close else f"the words are {', '.join(sorted(known))}"
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
