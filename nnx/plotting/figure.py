"""A matplotlib Figure that a notebook shows as a picture; importing this imports matplotlib."""

from __future__ import annotations

import io

from matplotlib.figure import Figure

__all__ = ["Picture"]


class Picture(Figure):
    """A Figure that belongs to no window and to no list of pyplot's.

    A notebook shows it if it is the last expression of a cell, and only then. If pyplot's inline
    backend is active, IPython uses that one's settings in place of `_repr_png_`.
    """

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.savefig(stream, format="png")
        return stream.getvalue()
