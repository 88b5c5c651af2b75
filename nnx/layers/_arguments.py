"""Arguments of layers that are checked when they are assigned, too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from nnx import checks
from nnx.regularizers import Regularizer

__all__ = ["Checked", "Penalty"]


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
