"""The table of a network's layers: as text in a terminal, as HTML in a notebook."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from nnx.backend import Array
from nnx.checks import ShapeError
from nnx.config import parameters_of
from nnx.layers._shapes import Shape, output_shape
from nnx.layers.branches import ParallelLayer, ResidualLayer
from nnx.layers.container import Container, SequentialLayer
from nnx.layers.masked import MaskedLayer
from nnx.layers.tree import slots, walk

__all__ = ["Summary"]


class _Row(NamedTuple):
    """A layer: its number, such as "2.1" for the first child of the second layer, and so on."""

    number: str
    text: str
    shape: str
    parameters: str

    @property
    def depth(self) -> int:
        """How many containers the layer is in."""
        return self.number.count(".")


class Summary:
    """Each layer of a network, with its output shape for one sample and its number of parameters.

    The layers of a container follow it, numbered "2.1", "2.2", and its number of parameters, in
    parentheses, is that of its layers. A layer that stands in several places has its number at the
    first of them. Output shapes in a container of a user's own are not known.

    Args:
        net: the network, with its `input_shape`.
    """

    def __init__(self, net: Any) -> None:
        self.input_shape = net.input_shape
        self.rows: list[_Row] = []
        self._seen: dict[int, str] = {}
        shapes = net.shapes(net.input_shape, "")
        for i, (layer, shape) in enumerate(zip(net.layers, shapes, strict=True)):
            before = shapes[i - 1] if i else net.input_shape
            self._add(layer, str(i + 1), before, shape)
        trained = [slot.array for slot in slots(walk(net), frozen=False)]
        self.total = (
            f"{_count(net.parameters.values()):,} parameters, {_count(trained):,} of them trained"
        )

    def _add(self, layer: Any, number: str, before: Shape | None, after: Shape | None) -> None:
        """Add a layer and those in it; a shape that is not known is None."""
        first = self._seen.setdefault(id(layer), number)
        children = list(layer.children)
        text = _without_children(layer) if children else repr(layer)
        parameters = f"{_count(layer.parameters.values()):,}"
        parameters = f"({parameters})" if children else parameters
        if first != number:
            text, parameters = f"{text}, shared with {first}", ""
        text += ", frozen" if layer.frozen else ""
        shape = "" if after is None else str(after)
        self.rows.append(_Row(number, text, shape, parameters))
        if first != number:
            return
        for i, (child, shape_in) in enumerate(zip(children, _inputs(layer, before), strict=True)):
            self._add(child, f"{number}.{i + 1}", shape_in, _after(child, shape_in))

    def print(self) -> None:
        """Print the table; show it as HTML in a notebook."""
        from rich.console import Console

        if Console().is_jupyter:
            from IPython.display import display

            display(self)
        else:
            Console().print(self)

    def __rich_console__(self, console: Any, options: Any) -> Any:
        from rich.padding import Padding
        from rich.table import Table
        from rich.text import Text

        table = Table("", "layer", "output shape")
        table.add_column("parameters", justify="right")
        table.add_row("", "input", str(self.input_shape), "")
        for row in self.rows:
            text = Padding(Text(row.text), (0, 0, 0, 2 * row.depth))
            table.add_row(row.number, text, row.shape, row.parameters)
        yield table
        yield Text(self.total)

    def __repr__(self) -> str:
        from rich.console import Console

        console = Console(width=100, force_jupyter=False, color_system=None)
        with console.capture() as captured:
            console.print(self)
        return captured.get().rstrip()

    def _repr_html_(self) -> str:
        """Return the table as HTML; colours and fonts are those of the notebook."""
        from html import escape

        input_row = _Row("", "input", str(self.input_shape), "")
        lines = [_line("th", _Row("", "layer", "output shape", "parameters"))]
        lines += [_line("td", row) for row in (input_row, *self.rows)]
        table = "\n".join(lines)
        return f"<table>\n{table}\n</table>\n<p>{escape(self.total)}</p>"


def _line(tag: str, row: _Row) -> str:
    from html import escape

    left = f"text-align:left; padding-left:{0.5 + 1.5 * row.depth:g}em"
    styles = ("text-align:left", left, "text-align:left; white-space:nowrap", "text-align:right")
    cells = [
        f'<{tag} style="{style}">{escape(cell)}</{tag}>'
        for style, cell in zip(styles, row, strict=True)
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _without_children(layer: Container) -> str:
    """Return the repr of a container without the layers in it."""
    shown = []
    for name, parameter in parameters_of(type(layer)).items():
        value = getattr(layer, name, None)
        children = value if isinstance(value, list | tuple) else [value]
        if repr(value) == repr(parameter.default) or (
            name == "name" and value == type(layer).__name__
        ):
            continue
        if not any(child is item for child in layer.children for item in children):
            shown.append(f"{name}={value!r}")
    return f"{type(layer).__name__}({', '.join(shown)})"


def _inputs(layer: Any, shape: Shape | None) -> list[Shape | None]:
    """Return the input shape of each child; None if the container does not tell."""
    children = layer.children
    if shape is not None and isinstance(layer, SequentialLayer):
        return [shape, *layer.shapes(shape, "")[:-1]]
    if isinstance(layer, ParallelLayer | ResidualLayer | MaskedLayer):
        return [shape] * len(children)
    return [None] * len(children)


def _after(layer: Any, shape: Shape | None) -> Shape | None:
    try:
        return None if shape is None else output_shape(layer, shape)
    except ShapeError:
        return None


def _count(arrays: Iterable[Array]) -> int:
    """Return how many numbers there are in arrays."""
    return sum(math.prod(array.shape) for array in arrays)
