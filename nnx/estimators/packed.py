"""A network as the bytes of its file, which is how estimators are pickled."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from nnx.config import is_own
from nnx.layers.base import Layer
from nnx.saving import load, save
from nnx.saving.packing import classes_in

__all__ = ["Packed"]


class Packed:
    """A layer in the format of `net.save`: no array of a device, and nothing that can execute.

    Classes of the user are kept as such, so a pickle names them.

    Args:
        layer: a network or layer.
    """

    def __init__(self, layer: Layer) -> None:
        self.backend = layer.backend
        self.classes = sorted(
            (kind for kind in classes_in(layer) if not is_own(kind)), key=lambda kind: kind.__name__
        )
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "net.safetensors")
            save(layer, path)
            self.data = path.read_bytes()

    def layer(self) -> Any:
        """Return the layer again, on the backend that it was on.

        Raises:
            BackendError: the backend cannot be used here.
        """
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "net.safetensors")
            path.write_bytes(self.data)
            return load(path, self.backend, self.backend.dtype_name, self.classes)
