"""Networks as plain safetensors files, which hold numbers and text and can execute nothing."""

from nnx.saving.differences import Differences, first_difference
from nnx.saving.errors import FileError
from nnx.saving.files import File, join, read_file, split, write_file
from nnx.saving.networks import load, pack, restore, save, unpack
from nnx.saving.weights import load_weights, save_weights

__all__ = [
    "Differences",
    "File",
    "FileError",
    "first_difference",
    "join",
    "load",
    "load_weights",
    "pack",
    "read_file",
    "restore",
    "save",
    "save_weights",
    "split",
    "unpack",
    "write_file",
]
