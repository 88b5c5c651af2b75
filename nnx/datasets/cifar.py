"""Reading the binary archive of CIFAR-10, in one pass and without unpacking it to disk."""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from nnx.datasets.files import CLASSES, Bytes, DatasetNotFoundError, broken

__all__ = ["ARCHIVE", "NAME", "read"]

NAME = "cifar-10"
ARCHIVE = "cifar-10-binary.tar.gz"
ENDINGS = (".tar.gz", ".tgz", ".tar")

# A record is a label and the rows of its image: those of red, of green, of blue.
IMAGE = (3, 32, 32)
RECORD = 1 + 3 * 32 * 32
TRAINING = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
TEST = "test_batch.bin"
MAX_RECORDS = 100_000  # of a file; real ones hold 10,000, and a damaged size must not fill memory
MAX_REST = 1 << 20  # bytes after the end of the archive, which fill its last block

# What gzip raises for files that are damaged or cut off, beside tarfile's TarError.
ERRORS = (OSError, EOFError, ValueError, MemoryError, zlib.error)


def read(place: Path) -> list[Bytes]:
    """Return the four arrays as they are stored, checked, from the archive or its folder.

    Raises:
        DatasetNotFoundError: it is not there.
        DatasetError: it is damaged, or does not hold the dataset.
    """
    import tarfile

    path = _archive(place)
    try:
        with open(path, "rb") as start:
            gzipped = start.read(2) == b"\x1f\x8b"
        with gzip.open(path) if gzipped else open(path, "rb") as stream:
            found = _members(path, cast(BinaryIO, stream))
    except (*ERRORS, tarfile.TarError) as error:
        came = f"{type(error).__name__}: {error}"
        raise broken(path, "a whole .tar archive, gzipped or not", came) from error
    if missing := [name for name in (*TRAINING, TEST) if name not in found]:
        came = f"one without {', '.join(missing)}"
        raise broken(path, f"an archive of {', '.join(TRAINING)} and {TEST}", came)
    arrays: list[Bytes] = []
    for names in (TRAINING, (TEST,)):
        records = [found.pop(name) for name in names]
        images, labels = (np.concatenate([r[:, of] for r in records]) for of in (slice(1, None), 0))
        arrays += [images.reshape(-1, *IMAGE), labels]
    return arrays


def _archive(place: Path) -> Path:
    # os.path: unlike pathlib's, these take a folder without access rights for a missing one.
    if os.path.isfile(place):
        if place.name.endswith(ENDINGS):
            return place
        came = f"it is a file whose name ends in none of {', '.join(ENDINGS)}"
    else:
        for folder in (place / NAME, place):
            if os.path.isfile(folder / ARCHIVE):
                return folder / ARCHIVE
        there = os.path.isdir(place)
        came = "found no such file" if there else "it does not exist or cannot be read"
    raise DatasetNotFoundError(
        f"{place}: expected {ARCHIVE}, but {came}",
        f"Put {ARCHIVE} there, or load without a path, which searches and downloads.",
    )


def _members(path: Path, stream: BinaryIO) -> dict[str, Bytes]:
    """Return the records of the six files, in one pass to the end, where the checksum is."""
    import tarfile

    found: dict[str, Bytes] = {}
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            name = os.path.basename(member.name)
            if name not in (*TRAINING, TEST):
                continue
            if name in found or not member.isfile():
                came = "two of them" if name in found else "something else"
                raise broken(path, f"one file {name}", came)
            count, rest = divmod(member.size, RECORD)
            if rest or not 1 <= count <= MAX_RECORDS:
                raise broken(
                    f"{path}: {name}",
                    f"records of {RECORD} bytes, from 1 to {MAX_RECORDS} of them",
                    f"{member.size} bytes",
                )
            found[name] = _records(f"{path}: {name}", archive.extractfile(member), count)
    if len(stream.read(MAX_REST + 1)) > MAX_REST:
        raise broken(path, f"at most {MAX_REST} bytes after the end of the archive", "more")
    return found


def _records(source: str, stream: Any, count: int) -> Bytes:
    raw = stream.read(count * RECORD)
    if len(raw) != count * RECORD:
        raise broken(source, f"{count * RECORD} bytes", f"{len(raw)}")
    records = np.frombuffer(raw, np.uint8).reshape(count, RECORD)
    if (label := int(records[:, 0].max())) >= CLASSES:
        raise broken(source, "labels 0 ... 9", f"the label {label}")
    return records
