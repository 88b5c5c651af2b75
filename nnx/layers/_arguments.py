"""Arguments of layers that are checked when they are assigned, too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from nnx import checks
from nnx.backend import Backend, use_backend
from nnx.config import is_own
from nnx.randomness import without_draws
from nnx.regularizers import Regularizer

__all__ = [
    "ATTRIBUTES",
    "Checked",
    "Penalty",
    "assigned",
    "check_whole",
    "checked_name",
    "kept_with",
]

# What is no argument of a constructor, and is assigned all the same.
ATTRIBUTES = ("frozen", "traceable", "backend", "parameters", "buffers", "regularizers", "states")


Kind = TypeVar("Kind")


class Checked(Generic[Kind]):
    """Declares an attribute that holds an object of a kind: `afun = Checked(Activation, "ReLU()")`.

    It has no `__get__`, so that reading the attribute costs what reading any other does.

    Args:
        kind: the class of the object.
        example: how to make one, for the message.
    """

    def __init__(self, kind: type[Kind], example: str) -> None:
        self.kind, self.example = kind, example

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    if TYPE_CHECKING:

        def __get__(self, layer: Any, owner: type) -> Kind: ...

    def __set__(self, layer: Any, value: Kind) -> None:
        vars(layer)[self.name] = checks.instance(layer, self.name, value, self.kind, self.example)


class Penalty:
    """Declares a penalty on parameters: `layer.kernel_regularizer` is `layer.regularizers["W"]`.

    None stands for no penalty.

    Args:
        parameters: their names.
    """

    def __init__(self, *parameters: str) -> None:
        self.parameters = parameters

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, layer: Any, owner: type) -> Any:
        return self if layer is None else layer.regularizers.get(self.parameters[0])

    def __set__(self, layer: Any, regularizer: Regularizer | None) -> None:
        if regularizer is None:
            for parameter in self.parameters:
                layer.regularizers.pop(parameter, None)
            return
        checks.instance(layer, self.name, regularizer, Regularizer, "L2Regularizer(0.01)")
        layer.regularizers |= dict.fromkeys(self.parameters, regularizer)


def kept_with(layer: Any, name: str, value: Any) -> Any:
    """Return what the constructor of a layer keeps if it gets another value of an argument.

    Raises:
        ValueError: the layer would have parameters or buffers of other shapes.
    """
    xp, dtype, device = layer.backend.xp, layer.backend.dtype, layer.backend.device
    zeros = lambda shape: xp.zeros(shape, dtype=dtype, device=device)
    with use_backend(layer.backend), without_draws(zeros):
        twin = type(layer)(**layer.arguments() | {name: value})
    for held in ("parameters", "buffers") if not layer.children else ():
        mine, its = getattr(layer, held), getattr(twin, held)
        if {n: a.shape for n, a in mine.items()} != {n: a.shape for n, a in its.items()}:
            raise ValueError(
                f"{layer.name}: expected {name} to stay {getattr(layer, name)!r}, as the shapes of "
                f"its {held} follow from it, got {value!r}; make a new layer"
            )
    return vars(twin).get(name, value)


def check_whole(layer: Any) -> None:
    """Raise ValueError if an argument is missing, as in a pickle of another version of nnx."""
    known = checks.parameters_of(type(layer)) if is_own(type(layer)) else ()
    if missing := [name for name in known if not hasattr(layer, name)]:
        raise ValueError(
            f"{type(layer).__name__}: expected a pickle of this version of nnx, got one without "
            f"{', '.join(missing)}; keep networks in files: net.save(path), nnx.load(path)"
        )


def assigned(layer: Any, name: str, value: Any) -> Any:
    """Return what is assigned to one of ATTRIBUTES.

    Raises:
        TypeError: it is of another type; or the layer is a container, whose children have it.
    """
    declared = getattr(type(layer), name, None)
    if isinstance(declared, property) and declared.fset is None:
        remedy = (
            "net = net.to(...)" if name == "backend" else f"layer.{name} = ... for each of them"
        )
        raise TypeError(
            f"{layer.name}: expected {name} to follow from its layers, got an assignment; write "
            f"{remedy}"
        )
    if name in ("frozen", "traceable"):
        return checks.flag(layer, name, value, f"write layer.{name} = True")
    if name == "backend" and isinstance(value, str):
        raise TypeError(
            f"{layer.name}: expected a layer to stay where its parameters are, got {name} = "
            f"{value!r}; write layer = layer.to({value!r})"
        )
    kind, example = (Backend, "nnx.get_backend()") if name == "backend" else (dict, "{}")
    return checks.instance(layer, name, value, kind, example)


def checked_name(layer: Any, name: Any) -> str:
    """Return the name of a layer.

    Raises:
        TypeError: something else was given in its place.
    """
    if not isinstance(name, str | None):
        raise TypeError(
            f"{type(layer).__name__}: expected name to be text or None, got {name!r}; pass "
            "several layers as one list; a container has no optimizer"
        )
    return name or type(layer).__name__
