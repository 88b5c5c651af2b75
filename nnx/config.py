"""How an object was made: one convention, from which repr, equality, clone and plain data follow.

Every public object keeps the arguments of its constructor under their own names, as
scikit-learn's estimators do: `Logistic(k=2).k` is 2. A constructor may normalise what it keeps
(a number to a float, a list to a tuple), as long as the constructor accepts the normalised form.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from nnx.checks import parameters_of
from nnx.synonyms import UNKNOWN, advice, check_call

__all__ = [
    "Configured",
    "Itself",
    "Value",
    "Watched",
    "build",
    "classes_of",
    "is_own",
    "kept",
    "key",
    "parameters_of",
    "plain",
]


class Configured:
    """Base class of what keeps its constructor's arguments under their own names.

    Attributes:
        transient: arguments that are handed on by `clone` but are not part of what a thing is: they
            appear neither in repr nor in plain data, and equality ignores them. A random generator
            is one.
        unique: True for what holds state, such as a layer: plain data and clones keep it shared
            where one object stands in several places.
    """

    transient: ClassVar[tuple[str, ...]] = ()
    unique: ClassVar[bool] = False

    if not TYPE_CHECKING:  # a checker of types knows the arguments from __init__

        def __new__(cls, *args, **kwargs):
            """Refuse arguments that do not fit, and say what to write instead."""
            known, places, required = _names_of(cls)
            given = places[: len(args)]
            fits = kwargs.keys() <= known and len(args) <= len(places)
            fits = fits and kwargs.keys().isdisjoint(given) and required <= {*given, *kwargs}
            if not fits and None not in known:
                check_call(cls.__name__, args, kwargs, parameters_of(cls))
            return object.__new__(cls)

        def __getattr__(self, name):
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}{advice(name, dir(self))}"
            )

        def __setattr__(self, name, value):
            if name in vars(self):
                value = _accepted(self, name, value)
            object.__setattr__(self, name, value)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Return how to make a copy: without `__new__`, which asks for the arguments."""
        return super().__reduce_ex__(1)

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments by name, transient ones left out.

        Raises:
            TypeError: the class does not keep one of them; the message says what to add.
        """
        names = parameters_of(type(self))
        try:
            return {name: getattr(self, name) for name in names if name not in self.transient}
        except AttributeError:
            return {name: kept(self, name) for name in names if name not in self.transient}

    def clone(self) -> Self:
        """Return a new object made with the same arguments, without state."""
        return _clone(self, {})

    def kept_with(self, name: str, value: Any) -> Any:
        """Return what the constructor keeps if it gets another value of an argument."""
        return vars(type(self)(**self.arguments() | {name: value})).get(name, value)

    def __repr__(self) -> str:
        """Return the call that makes such an object; a shared one is written in every place."""
        parameters = parameters_of(type(self))
        try:
            known = self.arguments()
        except TypeError:  # an argument is not kept; an error message must be able to show this
            known = {name: getattr(self, name) for name in parameters if hasattr(self, name)}
        shown, positional = [], True
        for name, parameter in parameters.items():
            if name in self.transient:
                continue
            required = parameter.default is parameter.empty
            if name not in known:
                shown.append(f"{name}=?")
            elif required and positional and parameter.kind is not parameter.KEYWORD_ONLY:
                shown.append(repr(known[name]))
                continue
            elif required or not _same(known[name], parameter.default):
                shown.append(f"{name}={known[name]!r}")
            positional = False
        return f"{type(self).__name__}({', '.join(shown)})"


class Value(Configured):
    """Base class of what holds no state: two objects made with equal arguments are equal.

    A value is not changed after construction; assign a new one instead.
    """

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return self.arguments() == other.arguments()

    def __hash__(self) -> int:
        return hash((type(self), *self.arguments().items()))


class Watched(Configured):
    """Base class of what may change after construction: it counts assignments to its attributes.

    What was prepared for it, such as the plan of a training, compares `changes` to know whether it
    still holds. What a compiler has traced compares `others` too.

    Attributes:
        changes: the number of assignments to arguments of the constructor and to `watched`.
        others: the number of assignments to other attributes.
        watched: attributes that count as arguments do.
        unwatched: attributes that never count, nor do those that begin with an underscore.
    """

    watched: ClassVar[frozenset[str]] = frozenset()
    unwatched: ClassVar[frozenset[str]] = frozenset()
    changes: int = 0
    others: int = 0

    def __setattr__(self, name: str, value: Any) -> None:
        own, value = vars(self), _accepted(self, name, value)
        new = name not in own or own[name] is not value
        if name in UNKNOWN and name not in own and not hasattr(type(self), name):
            known = parameters_of(type(self))
            if name not in known and is_own(type(self)):
                raise AttributeError(
                    f"{type(self).__name__!r} object has no attribute {name!r}, and nothing would "
                    f"read it{advice(name, known)}"
                )
        object.__setattr__(self, name, value)
        if not new or name[0] == "_" or name in self.unwatched:
            return
        counted = name in self.watched or name in parameters_of(type(self))
        counter = "changes" if counted else "others"
        own[counter] = getattr(self, counter) + 1


def plain(thing: Any) -> Any:
    """Return an object as plain data: class name and arguments, nested; what JSON can hold.

    An object that stands in several places is written once; the other places say
    {"shared": n}, where n counts the objects with state in the order in which they begin.

    Raises:
        TypeError: an argument is neither plain data nor a `Configured` object, or is not kept.
    """
    return _plain(thing, {}, type(thing).__name__)


def key(thing: Any) -> Any:
    """Return what tells whether two objects were made alike, for comparison in one process.

    It is like plain data, with classes in place of their names. What cannot be plain data, such as
    a function, is equal to itself alone, and an argument that is not kept is left out.
    """
    return _plain(thing, {}, type(thing).__name__, exact=True)


def build(
    data: Any,
    classes: Iterable[type[Configured]] = (),
    kinds: Iterable[type[Configured]] = (Configured,),
) -> Any:
    """Rebuild an object from what `plain` returned.

    Args:
        data: plain data.
        classes: classes of the user's own. Classes are looked up among these and nnx's; nothing is
            imported.
        kinds: the base classes of what is looked up among nnx's classes.

    Raises:
        ValueError: a class is unknown, its constructor has no such argument, or needs another one.
    """
    found = (kind for base in kinds for kind in (base, *_subclasses(base)))
    known = {kind.__name__: kind for kind in found if is_own(kind)}
    known |= {kind.__name__: kind for kind in classes}
    return _build(data, known, [])


def classes_of(thing: Any) -> set[type[Configured]]:
    """Return the classes of an object, or of those in a list, and of all they were made with."""
    seen: dict[int, Configured] = {}
    left = [thing]
    while left:
        thing = left.pop()
        if isinstance(thing, Configured) and id(thing) not in seen:
            seen[id(thing)] = thing
            left += thing.arguments().values()
        elif isinstance(thing, list | tuple):
            left += thing
        elif isinstance(thing, dict):
            left += thing.values()
    return {type(thing) for thing in seen.values()}


@functools.cache
def _names_of(kind: Any) -> tuple[frozenset[Any], tuple[str, ...], frozenset[str]]:
    """Return the names of the constructor's parameters, those with a place, those required."""
    try:
        known = parameters_of(kind)
    except TypeError:  # a constructor of a user's own with *args or **kwargs
        return frozenset({None}), (), frozenset()
    places = tuple(n for n, p in known.items() if p.kind is not p.KEYWORD_ONLY)
    required = frozenset(n for n, p in known.items() if p.default is p.empty)
    return frozenset(known), places, required


_MISSING = object()
# Keys with a meaning of their own in plain data.
RESERVED = ("class", "shared")


class Itself:
    """Holds an object, and is equal to what holds the same one."""

    def __init__(self, held: Any) -> None:
        self.held = held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Itself) and self.held is other.held

    __hash__ = None  # type: ignore[assignment]


def kept(thing: Configured, name: str) -> Any:
    """Return an argument that the thing has kept.

    Raises:
        TypeError: it has not; the message says what to add.
    """
    value = getattr(thing, name, _MISSING)
    if value is _MISSING:
        kind = type(thing).__name__
        raise TypeError(
            f"{kind}: expected the argument {name!r} of its constructor as an attribute, found "
            f"none; add `self.{name} = {name}` to {kind}.__init__"
        )
    return value


def _same(value: Any, default: Any) -> bool:
    """Would the constructor's default give this value?"""
    try:
        return bool(plain(value) == plain(default))
    except TypeError:
        return value is default


def _clone(value: Any, made: dict[int, Any]) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_clone(v, made) for v in value)
    if not isinstance(value, Configured):
        return value
    if id(value) in made:
        return made[id(value)]
    arguments = {name: _clone(kept(value, name), made) for name in parameters_of(type(value))}
    twin = type(value)(**arguments)
    if value.unique:
        made[id(value)] = twin
    return twin


def _plain(value: Any, seen: dict[int, int], owner: str, exact: bool = False) -> Any:
    if isinstance(value, Configured):
        if id(value) in seen:
            return {"shared": seen[id(value)]}
        if value.unique:
            seen[id(value)] = len(seen)
        kind = type(value)
        if exact:
            known = {n: vars(value)[n] for n in parameters_of(kind) if n in vars(value)}
        else:
            known = value.arguments()
        return {"class": kind if exact else kind.__name__} | {
            name: _plain(v, seen, f"{kind.__name__}.{name}", exact) for name, v in known.items()
        }
    if isinstance(value, list | tuple):
        return [_plain(v, seen, owner, exact) for v in value]
    if isinstance(value, dict):
        if not exact and not all(isinstance(k, str) and k not in RESERVED for k in value):
            raise TypeError(
                f"{owner}: expected a dict whose keys are text other than "
                f"{' and '.join(map(repr, RESERVED))}, got {value!r}, which cannot be written as "
                "plain data; keep a list of pairs"
            )
        return {k: _plain(v, seen, owner, exact) for k, v in value.items()}
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if exact:
        return Itself(value)
    raise TypeError(
        f"{owner}: expected a number, text, None, a list of these or an object of nnx, got "
        f"{value!r}, which cannot be written as plain data"
    )


def _build(data: Any, known: dict[str, type[Configured]], made: list[Any]) -> Any:
    if isinstance(data, list):
        return [_build(item, known, made) for item in data]
    if not isinstance(data, dict):
        return data
    if "shared" in data:
        index = data["shared"]
        if type(index) is not int or index not in range(len(made)) or made[index] is None:
            raise ValueError(f"expected the index of one of {len(made)} objects, got {index!r}")
        return made[index]
    if "class" not in data:
        return {name: _build(item, known, made) for name, item in data.items()}
    name = data["class"]
    if not isinstance(name, str) or name not in known:
        raise ValueError(
            f"unknown class {name!r}; if it is a class of your own, pass it: classes=[{name}]"
        )
    kind = known[name]
    parameters = parameters_of(kind)
    if unknown := sorted(set(data) - {"class"} - (set(parameters) - set(kind.transient))):
        raise ValueError(f"{name}: its constructor has no argument {', '.join(unknown)}")
    needed = (key for key, p in parameters.items() if p.default is p.empty)
    if missing := [key for key in needed if key not in data]:
        raise ValueError(f"{name}: expected the argument {', '.join(missing)}, found none")
    if kind.unique:
        place = len(made)
        made.append(None)
    arguments = {key: _build(item, known, made) for key, item in data.items() if key != "class"}
    thing = kind(**arguments)
    if kind.unique:
        made[place] = thing
    return thing


def _accepted(thing: Configured, name: str, value: Any) -> Any:
    """Return what is kept if a value is assigned: of an argument what the constructor accepts."""
    kind = type(thing)
    if name[0] == "_" or vars(thing).get(name, value) is value or not is_own(kind):
        return value
    known = parameters_of(kind)
    if name not in known or not all(hasattr(thing, one) for one in known):
        return value  # it is not an argument, or the constructor is at work
    accepted = thing.kept_with(name, value)
    return value if isinstance(value, Configured) else accepted


def _subclasses(kind: Any) -> Iterator[Any]:
    for sub in kind.__subclasses__():
        yield sub
        yield from _subclasses(sub)


def is_own(kind: Any) -> bool:
    """Return whether a class is one of nnx's."""
    return kind.__module__.partition(".")[0] == "nnx"
