"""Reading dataset files; what is truncated, damaged or of a wrong shape is an error."""

from __future__ import annotations

import gzip
import io
import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CLASSES",
    "IDX_FILES",
    "Bytes",
    "Dataset",
    "DatasetError",
    "DatasetNotFoundError",
    "broken",
    "read",
]

Bytes = NDArray[np.uint8]

# The shape of one sample, in the order of Dataset's fields: an image or a label.
SAMPLE_SHAPES: tuple[tuple[int, ...], ...] = ((28, 28), (), (28, 28), ())
CLASSES = 10
MAX_SAMPLES = 1_000_000  # real files hold fewer; a damaged header must not fill the memory

# In the order of Dataset's fields. Each may end in ".gz" and be spelled ".idx" for "-idx".
IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)

# Both datasets have files of the same names; the first training labels distinguish them.
FIRST_LABELS = {
    "mnist": [5, 0, 4, 1, 9, 2, 1, 3, 1, 4],
    "fashion-mnist": [9, 0, 0, 3, 0, 2, 7, 2, 5, 5],
}


class DatasetError(RuntimeError):
    """Data that was found but cannot be used.

    Attributes:
        reason: the file, what was expected and what came.
        remedy: what to do.
    """

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}\n  {remedy}")
        self.reason = reason
        self.remedy = remedy

    def __reduce__(self) -> Any:
        return type(self), (self.reason, self.remedy)


class DatasetNotFoundError(DatasetError):
    """Data that was found in none of the places searched and could not be downloaded."""


class Dataset(NamedTuple):
    """Images and labels to learn from and to test with: `x_train, y_train, x_test, y_test`.

    Attributes:
        x_train, x_test: float32 in [0, 1], or uint8 as stored; shape (n, features) or
            (n, channels, height, width).
        y_train, y_test: int64 class indices 0 ... 9, shape (n,).
    """

    x_train: NDArray[np.float32] | Bytes
    y_train: NDArray[np.int64]
    x_test: NDArray[np.float32] | Bytes
    y_test: NDArray[np.int64]


def broken(source: str | Path, expected: str, came: str) -> DatasetError:
    """Return the error for a file that is not what it should be."""
    return DatasetError(
        f"{source}: expected {expected}, got {came}",
        "Replace it with a complete copy, or remove it and load without a path to download one.",
    )


def _another(place: Path, name: str, other: str) -> DatasetNotFoundError:
    return DatasetNotFoundError(
        f"{place}: expected {name!r}, but it holds {other!r}",
        f"Name a file or folder that holds {name!r}, or load {other!r}.",
    )


def read(place: Path, name: str) -> list[Bytes]:
    """Return the four arrays as they are stored, checked, from a file or a folder."""
    files = _files(place, name)
    if len(files) == 1:
        arrays = _read_npz(files[0])
        sources = [f"{files[0]}: {key}" for key in Dataset._fields]
    else:
        arrays = [
            _read_idx(file, sample) for file, sample in zip(files, SAMPLE_SHAPES, strict=True)
        ]
        sources = [str(file) for file in files]
    for i in (0, 2):
        images, labels = arrays[i], arrays[i + 1]
        if len(images) != len(labels):
            came = f"{len(images)} images in {sources[i]} and {len(labels)} labels"
            raise broken(sources[i + 1], "one label for each image", came)
        if labels.max() >= CLASSES:
            raise broken(sources[i + 1], "labels 0 ... 9", f"the label {labels.max()}")
    for other, first_labels in FIRST_LABELS.items():
        if other != name and arrays[1][:10].tolist() == first_labels:
            raise _another(place, name, other)
    return arrays


def _files(place: Path, name: str) -> list[Path]:
    """Return one NPZ file or four IDX files: `place` itself, or in it."""
    # os.path: unlike pathlib's, these take a folder without access rights for a missing one.
    if os.path.isfile(place):
        if place.stem in FIRST_LABELS and place.stem != name:
            raise _another(place, name, place.stem)
        if place.name.endswith((".tar", ".tar.gz", ".tgz")):
            raise _another(place, name, "cifar-10")
        return [place]
    for folder in (place / name, place):
        if os.path.isfile(folder / f"{name}.npz"):
            return [folder / f"{name}.npz"]
        files = [file for stem in IDX_FILES if (file := _idx_file(folder, stem))]
        if len(files) == len(IDX_FILES):
            return files
        if files:
            missing = ", ".join(stem for stem in IDX_FILES if not _idx_file(folder, stem))
            raise DatasetError(
                f"{folder}: expected the four IDX files of {name!r}, but {missing} (or .gz) is "
                "missing",
                "Add the missing files, or remove the others.",
            )
    what = f"{name}.npz or the four IDX files {IDX_FILES[0]}.gz, ..."
    came = "found neither" if os.path.isdir(place) else "it does not exist or cannot be read"
    raise DatasetNotFoundError(
        f"{place}: expected {what}, but {came}",
        f"Put {what} there, or load without a path, which searches and downloads.",
    )


def _idx_file(folder: Path, stem: str) -> Path | None:
    for spelling in (stem, stem.replace("-idx", ".idx")):
        for file in (folder / spelling, folder / f"{spelling}.gz"):
            if os.path.isfile(file):
                return file
    return None


def _check_layout(
    source: str | Path, dtype: np.dtype[Any], shape: Sequence[int], sample: tuple[int, ...]
) -> None:
    count = shape[0] if shape else 0
    if dtype != np.uint8 or tuple(shape[1:]) != sample or not 1 <= count <= MAX_SAMPLES:
        expected = ", ".join(["n", *map(str, sample)]) if sample else "n,"
        raise broken(
            source,
            f"uint8 of shape ({expected}) with n from 1 to {MAX_SAMPLES}",
            f"{dtype} of shape {tuple(shape)}",
        )


# What zipfile and NumPy raise for files that are damaged, encrypted or wrongly described.
NPZ_ERRORS = (
    *(OSError, EOFError, ValueError, KeyError, MemoryError),
    *(RuntimeError, zipfile.BadZipFile, zlib.error),
)


def _read_npz(path: Path) -> list[Bytes]:
    arrays = []
    limit = MAX_SAMPLES * 28 * 28 + 10_000  # and the header
    try:
        with zipfile.ZipFile(path) as archive:
            for key in Dataset._fields:
                member = archive.getinfo(f"{key}.npy")
                # The other methods unpack a whole block at once, however large.
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise ValueError(f"{key} is compressed by method {member.compress_type}")
                if member.file_size > limit:
                    raise ValueError(f"{key} of {member.file_size} bytes, at most {limit}")
                stream = io.BytesIO(archive.read(member))
                arrays.append(np.lib.format.read_array(stream, allow_pickle=False))
                if trailing := len(stream.read()):
                    raise ValueError(f"{trailing} bytes too many after {key}")
    except NPZ_ERRORS as error:
        keys = ", ".join(Dataset._fields)
        raise broken(
            path, f"an NPZ file with {keys}", f"{type(error).__name__}: {error}"
        ) from error
    for key, array, sample in zip(Dataset._fields, arrays, SAMPLE_SHAPES, strict=True):
        _check_layout(f"{path}: {key}", array.dtype, array.shape, sample)
    return arrays


def _read_idx(path: Path, sample: tuple[int, ...]) -> Bytes:
    """Read an IDX file: magic number, sizes, bytes. At most one byte too many is unpacked."""
    magic = 0x0801 + len(sample)
    try:
        with open(path, "rb") as start:
            gzipped = start.read(2) == b"\x1f\x8b"
        with gzip.open(path) if gzipped else open(path, "rb") as stream:
            header = stream.read(4 * (2 + len(sample)))
            if header[:4] != magic.to_bytes(4, "big") or len(header) != 4 * (2 + len(sample)):
                expected = (
                    f"an IDX file with the magic number {magic:#010x} and {1 + len(sample)} sizes"
                )
                raise broken(path, expected, f"a file that starts with 0x{header.hex()}")
            shape = np.frombuffer(header, ">u4")[1:].tolist()
            _check_layout(path, np.dtype(np.uint8), shape, sample)
            size = int(np.prod(shape))
            data = stream.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        came = f"{type(error).__name__}: {error}"
        raise broken(path, "a whole IDX file, gzipped or not", came) from error
    if len(data) != size:
        came = "more" if len(data) > size else f"{len(data)}"
        raise broken(path, f"{size} bytes for the shape {tuple(shape)}", came)
    return np.frombuffer(data, np.uint8).reshape(shape)
