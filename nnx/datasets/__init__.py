"""The data the examples and tests learn from: MNIST, Fashion-MNIST, CIFAR-10, and digits.

`load` looks for a dataset on this machine before it downloads anything. Everything it reads is
checked: a truncated, damaged or wrongly shaped file is an error that names the file.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnx.checks import choice
from nnx.datasets import cifar
from nnx.datasets.files import FIRST_LABELS, Dataset, DatasetError, DatasetNotFoundError
from nnx.datasets.sources import read, search
from nnx.synonyms import asked, named

__all__ = ["Dataset", "DatasetError", "DatasetNotFoundError", "load", "names"]

__getattr__ = asked(__name__, __all__)


def names() -> tuple[str, ...]:
    """Return the names that `load` accepts."""
    return (*FIRST_LABELS, cifar.NAME, "digits")


@named
def load(
    name: str,
    path: str | os.PathLike[str] | None = None,
    *,
    flat: bool = True,
    download: bool = True,
    dtype: str = "float32",
) -> Dataset:
    """Load a dataset as NumPy arrays: `x_train, y_train, x_test, y_test`.

    - "mnist": 60,000 + 10,000 handwritten digits, 28 x 28 pixels.
    - "fashion-mnist": as many articles of clothing, in the same format.
    - "cifar-10": 50,000 + 10,000 colour photographs of ten kinds of things, 3 x 32 x 32: airplane,
      automobile, bird, cat, deer, dog, frog, horse, ship, truck.
    - "digits": 1,437 + 360 handwritten digits, 8 x 8 pixels; comes with scikit-learn, no download.

    If `path` is given, all but the last are read from that file or folder and from nowhere else.
    Otherwise they are searched for in the file or folder that the environment variable NNX_DATA
    names, in the user's cache, and in the folder of Debian's package dataset-fashion-mnist;
    after that they are downloaded into the cache. A folder holds `<name>.npz`, with the keys
    x_train, y_train, x_test and y_test, or the four IDX files `train-images-idx3-ubyte.gz`,
    ..., gzipped or not, itself or in its subfolder `<name>`; that of CIFAR-10 holds
    `cifar-10-binary.tar.gz`, which is read without unpacking it to disk. A download is checked by
    its published hash. A file of your own is checked by its format, shapes, types and range of
    labels, so it may be a subset.

    Args:
        name: one of `names()`.
        path: a file or a folder to read instead of searching.
        flat: images as rows of shape (n, features); otherwise (n, channels, height, width).
        download: download the data if it is not on this machine.
        dtype: "float32", or "uint8" for the intensities as they are stored, a quarter of the
            memory; a network divides them by itself if it begins with RescalingLayer(1 / 255).

    Returns:
        Images as float32 in [0, 1], pixel intensities divided by the largest possible one (255, for
        "digits" 16), or as uint8; labels as int64 class indices of shape (n,).

    Raises:
        ValueError: an unknown name or dtype, or a path for "digits".
        DatasetNotFoundError: no data; the message lists every place and mirror with the reason.
        DatasetError: a file is broken or does not hold the dataset.

    Sources: LeCun, Cortes and Burges, The MNIST database of handwritten digits (1998); Xiao, Rasul
    and Vollgraf, Fashion-MNIST (2017), arXiv:1708.07747; Krizhevsky, Learning Multiple Layers of
    Features from Tiny Images (2009); Alpaydin and Kaynak, Optical Recognition
    of Handwritten Digits, UCI Machine Learning Repository (1998).

    >>> x_train, y_train, x_test, y_test = load("digits")
    >>> x_train.shape, y_train.shape, x_test.shape
    ((1437, 64), (1437,), (360, 64))
    >>> load("digits", flat=False).x_train.shape
    (1437, 1, 8, 8)
    """
    if name not in names():
        close = difflib.get_close_matches(str(name).lower(), names(), n=1, cutoff=0.4)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"unknown dataset {name!r}: the known ones are {', '.join(names())}{hint}")
    dtype = choice("load", "dtype", dtype, ("float32", "uint8"))
    if name == "digits":
        if path is not None:
            raise ValueError("'digits' comes with scikit-learn and takes no path: leave it out")
        return _digits(flat, dtype)
    arrays = search(name, download) if path is None else read(Path(path).expanduser(), name)
    return _dataset(arrays, 255, flat, dtype)


def _dataset(arrays: Sequence[NDArray[Any]], largest: int, flat: bool, dtype: str) -> Dataset:
    def scaled(images: NDArray[Any]) -> NDArray[Any]:
        x = np.require(images, dtype, ["C", "W"])  # a copy only if it has to be one
        if dtype == "float32":
            x /= largest
        count, *channels, height, width = x.shape
        return x.reshape((count, -1) if flat else (count, *(channels or [1]), height, width))

    x_train, y_train, x_test, y_test = arrays
    return Dataset(
        scaled(x_train), y_train.astype(np.int64), scaled(x_test), y_test.astype(np.int64)
    )


def _digits(flat: bool, dtype: str) -> Dataset:
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise DatasetNotFoundError(
            f"the dataset 'digits' comes with scikit-learn, which cannot be imported: {error}",
            'Install it: pip install "nnx-array[digits]"',
        ) from error
    digits = load_digits()
    x_train, x_test, y_train, y_test = train_test_split(
        digits.images, digits.target, test_size=360, random_state=0, stratify=digits.target
    )
    return _dataset((x_train, y_train, x_test, y_test), 16, flat, dtype)
