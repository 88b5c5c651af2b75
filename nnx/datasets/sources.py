"""Where datasets are looked for on this machine, and where they are downloaded from."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np

from nnx.datasets import cifar, files
from nnx.datasets.files import (
    IDX_FILES,
    Bytes,
    Dataset,
    DatasetError,
    DatasetNotFoundError,
)

__all__ = ["MIRRORS", "Mirror", "read", "search"]

SYSTEM_FOLDERS = {"fashion-mnist": Path("/usr/share/datasets/fashion-mnist")}


class Mirror(NamedTuple):
    """A place to download from: one file or four IDX files, each with its published hash."""

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
CIFAR_TAR = {
    cifar.ARCHIVE: "sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
}
MIRRORS = {
    "cifar-10": (
        Mirror("https://www.cs.toronto.edu/~kriz/", 170, CIFAR_TAR),
        Mirror("https://cave.cs.toronto.edu/kriz/", 170, CIFAR_TAR),
    ),
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


def _cache_folder(name: str) -> Path:
    import platformdirs

    return Path(platformdirs.user_cache_dir("nnx", appauthor=False)) / name


def read(place: Path, name: str) -> list[Bytes]:
    """Return the four arrays as they are stored, checked, from a file or a folder."""
    return cifar.read(place) if name == cifar.NAME else files.read(place, name)


def search(name: str, download: bool) -> list[Bytes]:
    """Return the arrays from the first place that has them; a broken file there is an error.

    Raises:
        DatasetNotFoundError: no place and no mirror has them.
        DatasetError: a place has a file that is broken.
    """
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
            return read(place, name)
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
    wanted = cifar.ARCHIVE
    if name != cifar.NAME:
        wanted = f"{name}.npz, or the four files {IDX_FILES[0]}.gz, ...,"
    package = ", or `apt install dataset-fashion-mnist` (Debian)" if name in SYSTEM_FOLDERS else ""
    raise DatasetNotFoundError(
        f"the dataset {name!r} was not found:" + "".join(f"\n  - {reason}" for reason in reasons),
        f"Put {wanted} into {cache}, or set NNX_DATA to the file or folder you have{package}.",
    )


def _download(mirror: Mirror, name: str, cache: Path) -> list[Bytes]:
    """Download from one mirror, check the data, and keep it in the cache as one file.

    The work happens in a temporary folder, and one atomic rename makes the result visible, so that
    neither a broken download nor a second process leaves half a dataset behind.
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
            arrays = read(Path(scratch), name)
            whole = Path(scratch, file if len(mirror.hashes) == 1 else f"{name}.npz")
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
