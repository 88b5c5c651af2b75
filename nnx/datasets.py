"""The data the examples and tests learn from: MNIST, Fashion-MNIST, and scikit-learn's digits.

`load` looks for a dataset on this machine before it downloads anything, and whatever it reads is
checked: a truncated, damaged or wrongly shaped file is an error that names the file, never data.
"""

from __future__ import annotations

import difflib
import gzip
import io
import os
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

__all__ = ["Dataset", "DatasetError", "DatasetNotFoundError", "load", "names"]

Bytes = NDArray[np.uint8]

# The shape of one sample, in the order of Dataset's fields: an image or a label.
SAMPLE_SHAPES: tuple[tuple[int, ...], ...] = ((28, 28), (), (28, 28), ())
CLASSES = 10
MAX_SAMPLES = 1_000_000  # no honest file holds more, and a damaged header must not fill the memory

# In the order of Dataset's fields; a folder may hold each with ".gz", and with ".idx" for "-idx".
IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)

# Both datasets come in files of the same names: the first training labels tell them apart.
FIRST_LABELS = {
    "mnist": [5, 0, 4, 1, 9, 2, 1, 3, 1, 4],
    "fashion-mnist": [9, 0, 0, 3, 0, 2, 7, 2, 5, 5],
}

SYSTEM_FOLDERS = {"fashion-mnist": Path("/usr/share/datasets/fashion-mnist")}


class Mirror(NamedTuple):
    """A place to download from: one NPZ file, or the four IDX files, each with its known hash."""

    address: str
    megabytes: int
    hashes: dict[str, str]


MNIST_NPZ = {"mnist.npz": "sha256:731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"}
MNIST_IDX = {
    f"{stem}.gz": f"sha256:{value}"
    for stem, value in zip(
        IDX_FILES,
        (
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
        strict=True,
    )
}
FASHION_IDX = {  # its publishers give MD5
    "train-images-idx3-ubyte.gz": "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "md5:25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "md5:bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "md5:bb300cfdad3c16e7a12a480ee83cd310",
}
MIRRORS = {
    "mnist": (
        Mirror("https://storage.googleapis.com/tensorflow/tf-keras-datasets/", 11, MNIST_NPZ),
        Mirror("https://storage.googleapis.com/cvdf-datasets/mnist/", 12, MNIST_IDX),
        Mirror("https://ossci-datasets.s3.amazonaws.com/mnist/", 12, MNIST_IDX),
    ),
    "fashion-mnist": (
        Mirror("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/", 31, FASHION_IDX),
        Mirror(
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            31,
            FASHION_IDX,
        ),
    ),
}
TIMEOUTS = (10.0, 30.0)  # seconds to connect, and to wait for the next bytes


class DatasetError(RuntimeError):
    """Data that is there but cannot be used.

    `reason` names the file, what was expected and what came; `remedy` says what to do.
    """

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason, remedy)
        self.reason = reason
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.reason}\n  {self.remedy}"


class DatasetNotFoundError(DatasetError):
    """Data that is in none of the places searched and could not be downloaded."""


class Dataset(NamedTuple):
    """Images and labels to learn from and to test with: `x_train, y_train, x_test, y_test`.

    Attributes:
        x_train, x_test: float32 in [0, 1], shape (n, features) or (n, 1, height, width).
        y_train, y_test: int64 class indices 0 ... 9, shape (n,).
    """

    x_train: NDArray[np.float32]
    y_train: NDArray[np.int64]
    x_test: NDArray[np.float32]
    y_test: NDArray[np.int64]


def names() -> tuple[str, ...]:
    """The names that `load` knows."""
    return (*MIRRORS, "digits")


def load(
    name: str,
    path: str | os.PathLike[str] | None = None,
    *,
    flat: bool = True,
    download: bool = True,
) -> Dataset:
    """Load a dataset as NumPy arrays: `x_train, y_train, x_test, y_test`.

    - "mnist": 60,000 + 10,000 handwritten digits, 28 x 28 pixels.
    - "fashion-mnist": as many articles of clothing, in the same format.
    - "digits": 1,437 + 360 handwritten digits, 8 x 8 pixels; comes with scikit-learn, no download.

    The first two are looked for in the file or folder `path`, and nowhere else if it is given; in
    the file or folder that the environment variable NNX_DATA names; in the user's cache; in the
    folder of Debian's package dataset-fashion-mnist; and are then downloaded into the cache. A
    folder holds `<name>.npz`, with the keys x_train, y_train, x_test and y_test, or the four IDX
    files `train-images-idx3-ubyte.gz`, ..., gzipped or not, itself or in its subfolder `<name>`.
    A download is checked by its published hash; a file of your own by its format, shapes, types
    and label range, so it may be a subset.

    Args:
        name: one of `names()`.
        path: a file or a folder to read instead of searching.
        flat: images as rows of shape (n, features); otherwise (n, 1, height, width).
        download: may the data be downloaded if it is not on this machine?

    Returns:
        Images as float32, pixel intensities divided by the largest possible one (255, for
        "digits" 16), so in [0, 1]; labels as int64 class indices of shape (n,).

    Raises:
        ValueError: an unknown name, or a path for "digits".
        DatasetNotFoundError: no data; the message lists every place and mirror, and why not.
        DatasetError: a file that is broken, or does not hold what it should.

    Sources: LeCun, Cortes and Burges, The MNIST database of handwritten digits (1998); Xiao, Rasul
    and Vollgraf, Fashion-MNIST (2017), arXiv:1708.07747; Alpaydin and Kaynak, Optical Recognition
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
    if name == "digits":
        if path is not None:
            raise ValueError("'digits' comes with scikit-learn and takes no path: leave it out")
        return _digits(flat)
    arrays = _search(name, download) if path is None else _read(Path(path).expanduser(), name)
    return _dataset(arrays, 255, flat)


def _dataset(arrays: Sequence[NDArray[Any]], largest: int, flat: bool) -> Dataset:
    def scaled(images: NDArray[Any]) -> NDArray[np.float32]:
        x = images.astype(np.float32, order="C")
        x /= largest
        count, height, width = x.shape
        return x.reshape((count, height * width) if flat else (count, 1, height, width))

    x_train, y_train, x_test, y_test = arrays
    return Dataset(
        scaled(x_train), y_train.astype(np.int64), scaled(x_test), y_test.astype(np.int64)
    )


def _digits(flat: bool) -> Dataset:
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
    return _dataset((x_train, y_train, x_test, y_test), 16, flat)


# ---- where the data may be -----------------------------------------------------------------------


def _cache_folder(name: str) -> Path:
    import platformdirs

    return Path(platformdirs.user_cache_dir("nnx", appauthor=False)) / name


def _search(name: str, download: bool) -> list[Bytes]:
    """The arrays from the first place that has them; a broken file on the way is an error."""
    cache = _cache_folder(name)
    places = [("the cache", cache)]
    if name in SYSTEM_FOLDERS:
        places.append(("the system's folder", SYSTEM_FOLDERS[name]))
    reasons = []
    if user_place := os.environ.get("NNX_DATA"):
        places.insert(0, ("NNX_DATA", Path(user_place).expanduser()))
    else:
        reasons.append("NNX_DATA: not set")
    for title, place in places:
        try:
            return _read(place, name)
        except DatasetNotFoundError as error:
            reasons.append(f"{title}: {error.reason}")
    if not download:
        reasons.append("download: not tried, because of download=False")
    for mirror in MIRRORS[name] if download else ():
        try:
            return _download(mirror, name, cache)
        except (OSError, ValueError, DatasetError) as error:
            cause = error.reason if isinstance(error, DatasetError) else str(error)
            reasons.append(f"{mirror.address}: {' '.join(cause.split())}")
    package = ", or `apt install dataset-fashion-mnist` (Debian)" if name in SYSTEM_FOLDERS else ""
    raise DatasetNotFoundError(
        f"the dataset {name!r} was not found:" + "".join(f"\n  - {reason}" for reason in reasons),
        f"Put {name}.npz, or the four files {IDX_FILES[0]}.gz, ..., into {cache}, "
        f"or set NNX_DATA to the file or folder you have{package}.",
    )


def _download(mirror: Mirror, name: str, cache: Path) -> list[Bytes]:
    """Download from one mirror, check, and keep it in the cache as one NPZ file.

    Everything happens in a folder of its own; one rename, which is atomic, makes the result
    visible. So neither a broken download nor a second process can leave half a dataset behind.
    """
    import pooch

    host = urlsplit(mirror.address).hostname
    print(f"nnx: downloading {name} ({mirror.megabytes} MB) from {host}", file=sys.stderr)
    # A server that unpacks .gz files on the way would change the bytes that are hashed.
    downloader = pooch.HTTPDownloader(
        chunk_size=1 << 16, timeout=TIMEOUTS, headers={"Accept-Encoding": "identity"}
    )
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("WARNING")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=cache) as scratch:
            for file, known_hash in mirror.hashes.items():
                pooch.retrieve(
                    mirror.address + file, known_hash, file, path=scratch, downloader=downloader
                )
            arrays = _read(Path(scratch), name)
            whole = Path(scratch, f"{name}.npz")
            if not whole.exists():
                by_key: dict[str, Any] = dict(zip(Dataset._fields, arrays, strict=True))
                np.savez(whole, **by_key)
            try:
                os.replace(whole, cache / whole.name)
            except PermissionError:
                # Windows: another process has put the same file there and is reading it.
                if not (cache / whole.name).is_file():
                    raise
            return arrays
    finally:
        logger.setLevel(level)


# ---- reading and checking files ------------------------------------------------------------------


def _broken(source: str | Path, expected: str, came: str) -> DatasetError:
    return DatasetError(
        f"{source}: expected {expected}, got {came}",
        "Put a whole copy in its place, or remove it and load without a path, which fetches one.",
    )


def _another(place: Path, name: str, other: str) -> DatasetNotFoundError:
    return DatasetNotFoundError(
        f"{place}: expected {name!r}, but it holds {other!r}",
        f"Name a file or folder that holds {name!r}, or load {other!r}.",
    )


def _read(place: Path, name: str) -> list[Bytes]:
    """The four checked arrays, as stored, from a file or a folder."""
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
            raise _broken(sources[i + 1], "one label for each image", came)
        if labels.max() >= CLASSES:
            raise _broken(sources[i + 1], "labels 0 ... 9", f"the label {labels.max()}")
    for other, first_labels in FIRST_LABELS.items():
        if other != name and arrays[1][:10].tolist() == first_labels:
            raise _another(place, name, other)
    return arrays


def _files(place: Path, name: str) -> list[Path]:
    """One NPZ file or four IDX files, at `place` or in it."""
    # os.path: unlike pathlib's, these call a place that may not be entered absent.
    if os.path.isfile(place):
        if place.stem in MIRRORS and place.stem != name:
            raise _another(place, name, place.stem)
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
                f"{folder}: expected the four IDX files of {name!r}, but {missing} (or .gz) is not "
                "there",
                "Add what is missing, or remove the other files.",
            )
    what = f"{name}.npz or the four IDX files {IDX_FILES[0]}.gz, ..."
    came = "found neither" if os.path.isdir(place) else "it is not there, or not readable"
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
        raise _broken(
            source,
            f"uint8 of shape ({expected}) with n from 1 to {MAX_SAMPLES}",
            f"{dtype} of shape {tuple(shape)}",
        )


# What zipfile and NumPy raise for a damaged file, encrypted and wrongly described ones included.
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
        raise _broken(
            path, f"an NPZ file with {keys}", f"{type(error).__name__}: {error}"
        ) from error
    for key, array, sample in zip(Dataset._fields, arrays, SAMPLE_SHAPES, strict=True):
        _check_layout(f"{path}: {key}", array.dtype, array.shape, sample)
    return arrays


def _read_idx(path: Path, sample: tuple[int, ...]) -> Bytes:
    """An IDX file: magic number, sizes, bytes; unpacked no further than one byte too many."""
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
                raise _broken(path, expected, f"a file that starts with 0x{header.hex()}")
            shape = np.frombuffer(header, ">u4")[1:].tolist()
            _check_layout(path, np.dtype(np.uint8), shape, sample)
            size = int(np.prod(shape))
            data = stream.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        came = f"{type(error).__name__}: {error}"
        raise _broken(path, "a whole IDX file, gzipped or not", came) from error
    if len(data) != size:
        came = "more" if len(data) > size else f"{len(data)}"
        raise _broken(path, f"{size} bytes for the shape {tuple(shape)}", came)
    return np.frombuffer(data, np.uint8).reshape(shape)
