"""Safetensors files: arrays by name, and plain data as one JSON text in their metadata.

A file is written under a temporary name beside its target and then renamed, so that a reader sees
the old file or the new one, whole. What a killed process has left is removed by the next write.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import re
import secrets
import stat
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from nnx.checks import file_name, file_there
from nnx.saving.errors import FileError
from nnx.saving.text import dumps, join, loads, parsed, split

__all__ = ["File", "join", "read_file", "replaced", "split", "write_file"]

VERSION = 1
# The types that NumPy and every version of safetensors have.
TYPES = {
    "BOOL": "bool",
    "I8": "int8",
    "I16": "int16",
    "I32": "int32",
    "I64": "int64",
    "U8": "uint8",
    "U16": "uint16",
    "U32": "uint32",
    "U64": "uint64",
    "F16": "float16",
    "F32": "float32",
    "F64": "float64",
}
HEADER = 100_000_000  # the longest header that safetensors reads, in bytes
# How other files begin.
OTHERS = {
    b"\x80": "a pickle; nnx reads none, as loading one can execute anything",
    b"PK": "a zip archive, such as one of numpy.savez or torch.save",
    b"\x93NUMPY": "a file of numpy.save",
    b"\x89HDF": "an HDF5 file",
    b"\x08": "an ONNX file or other bytes of protocol buffers; nnx writes ONNX and reads none",
    b"<": "a web page or XML",
    b"{": "JSON text",
    b"version https://git-lfs": "a pointer of Git LFS; run git lfs pull",
}


def write_file(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], data: Any) -> None:
    """Write arrays and plain data to a file, all or nothing.

    Args:
        path: where; a file that is there is replaced once the new one is whole and on the disk.
        arrays: NumPy arrays by name.
        data: a dict of plain data, as `split` returns it.

    Raises:
        TypeError: an array has a type that such files do not have, or the data is not plain.
        ValueError: an array is called "__metadata__", or a key of the data "format".
        OSError: the file cannot be written; there is no trace of it then.
    """
    if "format" in data:
        raise ValueError("expected data without the key 'format', which is that of the version")
    text = dumps({"format": VERSION, **data})
    checked = {name: _writable(name, array) for name, array in arrays.items()}
    with replaced(path) as file:
        _write(file, checked, text)


@contextlib.contextmanager
def replaced(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a new file that replaces the one of this name once it is whole and on the disk.

    Raises:
        OSError: it cannot be written; there is no trace of it then.
    """
    target = Path(os.path.realpath(file_name(path)))
    temporary = target.parent / f"{_stem(target)}{os.getpid()}.{secrets.token_hex(4)}.tmp"
    try:
        _check_target(target)
        _remove_stale(target)
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
        _flush_directory(target.parent)
    except OSError as error:
        what = f"cannot write: {error.strerror}"
        if not target.parent.exists():
            what += "; make its directory first"
        elif error.errno == errno.EISDIR:
            what += "; write the name of a file in it"
        raise OSError(error.errno, what, os.fsdecode(path)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


class File:
    """A safetensors file that is open for reading; `read_file` makes it.

    Attributes:
        path: where it is.
        data: the plain data in it; empty for a file that nnx has not written.
        shapes: the shape of each array, by name.
        dtypes: the type of each array, "float32" for example; by name.
    """

    def __init__(self, path: str, opened: Any) -> None:
        self.path = path
        self._opened = opened
        names = list(opened.keys())
        slices = {name: opened.get_slice(name) for name in names}
        self.shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
        codes = {name: part.get_dtype() for name, part in slices.items()}
        self.dtypes = {name: TYPES.get(code, code) for name, code in codes.items()}
        self.data = _data((opened.metadata() or {}).get("nnx"))

    def read(self, name: str) -> np.ndarray:
        """Return an array in memory of its own.

        Raises:
            FileError: there is no such array, or NumPy does not have its type.
        """
        if name not in self.shapes:
            raise FileError(f"{self.path}: expected an array {name!r}, got none")
        if self.dtypes[name] not in TYPES.values():
            raise FileError(
                f"{self.path}: expected {name} to have a type of NumPy, got {self.dtypes[name]}; "
                "convert it to float32 first, with the library that has written it"
            )
        return np.array(self._opened.get_tensor(name))


@contextlib.contextmanager
def read_file(path: str | os.PathLike[str]) -> Iterator[File]:
    """Open a safetensors file: `with read_file(path) as file: file.read("0.W")`.

    Its header is checked against its size before memory is taken. An error in the block gets the
    path put before it.

    Raises:
        FileError: it is not such a file, it is damaged, or a newer nnx has written it.
        OSError: it cannot be read.
    """
    name = file_there(path)
    try:
        _check_beginning(name)
    except OSError as error:
        raise OSError(error.errno, f"cannot read: {error.strerror}", name) from error
    try:
        with _opened(name) as opened:
            yield File(name, opened)
    except FileError as error:
        if str(error).startswith(f"{name}: "):
            raise
        raise FileError(f"{name}: {error}") from error


@contextlib.contextmanager
def _opened(name: str) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open  # takes milliseconds

    try:
        opened = safe_open(name, framework="np")
    except SafetensorError as error:
        raise FileError(
            f"expected a whole safetensors file, got one that is damaged ({error}); copy it or "
            "write it again"
        ) from None
    with opened as file:
        with open(name, "rb") as raw:  # the library takes the last of several entries of one name
            parsed(raw.read(int.from_bytes(raw.read(8), "little")).decode())
        yield file


def _check_beginning(name: str) -> None:
    """Say what a file is, if it is not of this format."""
    status = os.stat(name)
    if not stat.S_ISREG(status.st_mode):
        raise FileError(f"{name}: expected a file, got a device or a pipe")
    with open(name, "rb") as file:
        first = file.read(32)
    length = int.from_bytes(first[:8], "little")
    if len(first) < 8 or not 2 <= length <= min(status.st_size - 8, HEADER) or first[8:9] != b"{":
        what = next((what for start, what in OTHERS.items() if first.startswith(start)), None)
        if what is None and len(first) >= 8 and all(32 <= b < 127 or b in b"\t\r\n" for b in first):
            what = "text"
        if what is None and len(first) < 8:
            what = f"one of {len(first)} bytes"
        if what is None:
            what = f"one whose header would have {length:,} of its {status.st_size:,} bytes"
        raise FileError(
            f"{name}: expected a whole safetensors file, got {what}; name a file that net.save has "
            "written"
        )


def _check_target(target: Path) -> None:
    """Refuse to replace a directory, a device or a pipe."""
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is a device or a pipe")


def _data(text: str | None) -> dict[str, Any]:
    """Return the plain data of a file of any version that is known."""
    if text is None:
        return {}
    data = loads(text)
    version = data.pop("format", None) if isinstance(data, dict) else None
    if type(version) is not int or version < 1:
        raise FileError(f"expected a description with the version of its format, got {version!r}")
    if version > VERSION:
        raise FileError(
            f"expected a file of version {VERSION} or older, got version {version}, which a newer "
            "nnx has written; update nnx: pip install --upgrade nnx-array"
        )
    return data


def _writable(name: str, array: Any) -> np.ndarray:
    if name == "__metadata__":
        raise ValueError("expected another name for an array than '__metadata__'; rename it")
    if (
        not isinstance(array, np.ndarray)
        or array.dtype.newbyteorder("=").name not in TYPES.values()
    ):
        what = f"an array of {array.dtype}" if isinstance(array, np.ndarray) else repr(array)
        raise TypeError(
            f"{name}: expected a NumPy array of one of {', '.join(TYPES.values())}, got {what:.100}"
            "; convert it first: array.astype(...)"
        )
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")


def _write(file: BinaryIO, arrays: dict[str, np.ndarray], text: str) -> None:
    """Write the format by hand: the length of the header, the header, the numbers.

    The library's own function goes through a temporary file of another name, which would stay if
    the process is killed.
    """
    names = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))  # all are aligned
    header: dict[str, Any] = {"__metadata__": {"nnx": text}}
    codes = {name: code for code, name in TYPES.items()}
    end = 0
    for name in names:
        array = arrays[name]
        start, end = end, end + array.nbytes
        header[name] = {
            "dtype": codes[array.dtype.name],
            "shape": array.shape,
            "data_offsets": (start, end),
        }
    written = json.dumps(header, separators=(",", ":")).encode()
    written += b" " * (-len(written) % 8)
    if len(written) > HEADER:
        raise ValueError(
            f"expected names and descriptions of at most {HEADER:,} bytes, got {len(written):,}; "
            "save fewer arrays"
        )
    file.write(len(written).to_bytes(8, "little") + written)
    for name in names:
        file.write(arrays[name].reshape(-1).view(np.uint8).data)


def _stem(target: Path) -> str:
    """Return how the names of temporary files of a target begin, for writers on this machine."""
    key = zlib.crc32(os.fsencode(target.name)), zlib.crc32(platform.node().encode())
    return f".{target.name[:40]}.{key[0]:08x}.{key[1]:08x}."


def _remove_stale(target: Path) -> None:
    """Remove temporary files of the target whose process is gone."""
    if os.name == "nt":  # there os.kill(pid, 0) ends the process
        return
    stem = _stem(target)
    for path in target.parent.glob(f"{_escaped(stem)}*.tmp"):
        process = path.name.removeprefix(stem).partition(".")[0]
        if process.isdecimal() and not _is_running(int(process)):
            with contextlib.suppress(OSError):
                path.unlink()


def _escaped(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True  # it belongs to another user
    return True


def _flush_directory(directory: Path) -> None:
    """Bring a rename to the disk, where directories can be opened and flushed."""
    try:
        opened = os.open(directory, os.O_RDONLY)
    except PermissionError:  # Windows, and directories that cannot be listed
        return
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(opened)
