"""Loading datasets: where they are looked for, what is refused, and what a download may leave."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import os
import pickle
import socket
import struct
import subprocess
import sys
import tarfile
import threading
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from nnx import datasets
from nnx.datasets import DatasetError, DatasetNotFoundError, cifar, files, load, sources

KEYS = ("x_train", "y_train", "x_test", "y_test")
IDX = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")
# Before the fixture below takes them away.
USER_PLACE = os.environ.get("NNX_DATA")
PUBLISHED_MIRRORS = sources.MIRRORS
Arrays = dict[str, np.ndarray]


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty machine: no NNX_DATA, no system folders, no mirrors, its own cache."""
    folder = tmp_path / "cache"
    monkeypatch.delenv("NNX_DATA", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(sources, "_cache_folder", lambda name: folder / name)
    monkeypatch.setattr(sources, "SYSTEM_FOLDERS", {})
    monkeypatch.setattr(sources, "MIRRORS", {"mnist": (), "fashion-mnist": (), "cifar-10": ()})
    return folder


def small(seed: int = 0, train: int = 12, test: int = 5) -> Arrays:
    rng = np.random.default_rng(seed)
    return {
        "x_train": rng.integers(0, 256, (train, 28, 28), dtype=np.uint8),
        "y_train": rng.integers(0, 10, train, dtype=np.uint8),
        "x_test": rng.integers(0, 256, (test, 28, 28), dtype=np.uint8),
        "y_test": rng.integers(0, 10, test, dtype=np.uint8),
    }


def write_npz(file: Path, arrays: Arrays) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    members: dict[str, Any] = dict(arrays)
    np.savez(file, **members)
    return file


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape) + array.tobytes()


def write_idx(folder: Path, arrays: Arrays, *, gzipped: bool = True, dotted: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for stem, key in zip(IDX, KEYS, strict=True):
        raw = idx_bytes(arrays[key])
        name = stem.replace("-idx", ".idx") if dotted else stem
        if gzipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(raw, mtime=0))
        else:
            (folder / name).write_bytes(raw)
    return folder


def assert_holds(data: datasets.Dataset, arrays: Arrays) -> None:
    """Every value is the stored one, images over 255: exact, because a division rounds once."""
    x_train, y_train, x_test, y_test = data
    for x, key in ((x_train, "x_train"), (x_test, "x_test")):
        assert x.dtype == np.float32
        stored = arrays[key].reshape(len(arrays[key]), -1)
        expected = (stored.astype(np.float64) / 255).astype(np.float32)
        np.testing.assert_array_equal(x.reshape(len(x), -1), expected)
    for y, key in ((y_train, "y_train"), (y_test, "y_test")):
        assert y.dtype == np.int64
        np.testing.assert_array_equal(y, arrays[key])


# ---- what is returned ----------------------------------------------------------------------------


def test_images_are_scaled_to_the_unit_interval_by_hand(tmp_path: Path) -> None:
    arrays = small()
    arrays["x_train"][0, 0, :3] = [0, 255, 51]
    x_train, y_train, x_test, y_test = load("mnist", write_npz(tmp_path / "mine.npz", arrays))
    assert x_train[0, :3].tolist() == [0.0, 1.0, np.float32(0.2)]
    assert (x_train.shape, x_test.shape) == ((12, 784), (5, 784))
    assert (y_train.shape, y_test.shape) == ((12,), (5,))
    assert x_train.min() >= 0
    assert x_train.max() <= 1


def test_not_flat_keeps_rows_and_columns(tmp_path: Path) -> None:
    arrays = small()
    arrays["x_train"][:] = 0
    arrays["x_train"][3, 5, 7] = 255  # sample 3, row 5, column 7
    file = write_npz(tmp_path / "mine.npz", arrays)
    images = load("mnist", file, flat=False).x_train
    assert images.shape == (12, 1, 28, 28)
    assert np.argwhere(images).tolist() == [[3, 0, 5, 7]]
    assert np.argwhere(load("mnist", file).x_train).tolist() == [[3, 5 * 28 + 7]]


def test_column_major_file_is_read_in_row_major_order(tmp_path: Path) -> None:
    arrays = small()
    stored = dict(arrays, x_train=np.asfortranarray(arrays["x_train"]))
    data = load("mnist", write_npz(tmp_path / "mine.npz", stored), flat=False)
    assert_holds(data, arrays)
    assert data.x_train.flags.c_contiguous


@pytest.mark.parametrize("gzipped", [True, False])
@pytest.mark.parametrize("dotted", [True, False])
def test_idx_files_in_every_spelling(tmp_path: Path, gzipped: bool, dotted: bool) -> None:
    folder = write_idx(tmp_path / "idx", small(), gzipped=gzipped, dotted=dotted)
    assert_holds(load("fashion-mnist", folder), small())


def test_unpacked_file_that_kept_its_gz_name(tmp_path: Path) -> None:
    folder = write_idx(tmp_path, small())
    file = folder / f"{IDX[0]}.gz"
    file.write_bytes(gzip.decompress(file.read_bytes()))
    assert_holds(load("mnist", folder), small())


def test_folder_may_hold_the_npz_or_a_subfolder_of_the_name(tmp_path: Path) -> None:
    write_npz(tmp_path / "a" / "mnist.npz", small(1))
    write_idx(tmp_path / "a" / "fashion-mnist", small(2))
    assert_holds(load("mnist", tmp_path / "a"), small(1))
    assert_holds(load("fashion-mnist", str(tmp_path / "a")), small(2))


def test_digits() -> None:
    sklearn_datasets = pytest.importorskip("sklearn.datasets")
    data = load("digits")
    assert (data.x_train.shape, data.x_test.shape) == ((1437, 64), (360, 64))
    assert load("digits", flat=False).x_test.shape == (360, 1, 8, 8)
    assert data.x_train.dtype == np.float32
    assert data.y_train.dtype == np.int64
    # the two parts are the whole, each image with its own label; 1/16 is exact in float32
    x = np.concatenate([data.x_train, data.x_test]) * 16
    y = np.concatenate([data.y_train, data.y_test])
    whole = sklearn_datasets.load_digits()
    expected = sorted(map(tuple, np.column_stack([whole.data, whole.target]).tolist()))
    assert sorted(map(tuple, np.column_stack([x, y]).tolist())) == expected
    # stratified: each class within one sample of its share of the 360
    share = np.bincount(whole.target) * 360 / 1797
    assert np.all(np.abs(np.bincount(data.y_test) - share) < 1)
    np.testing.assert_array_equal(load("digits").y_test, data.y_test)


def test_digits_without_scikit_learn_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DatasetNotFoundError, match="scikit-learn") as caught:
        load("digits")
    assert 'pip install "nnx-array[digits]"' in str(caught.value)


@pytest.mark.parametrize("kind", [DatasetError, DatasetNotFoundError])
def test_errors_pass_between_processes(kind: type[DatasetError]) -> None:
    error = pickle.loads(pickle.dumps(kind("a reason", "a remedy")))
    assert type(error) is kind
    assert (str(error), error.reason, error.remedy) == (
        "a reason\n  a remedy",
        "a reason",
        "a remedy",
    )


def test_names() -> None:
    assert datasets.names() == ("mnist", "fashion-mnist", "cifar-10", "digits")


@pytest.mark.parametrize(
    ("wrong", "meant"), [("minst", "mnist"), ("Fashion_MNIST", "fashion-mnist")]
)
def test_unknown_name_lists_the_known_and_the_closest(wrong: str, meant: str) -> None:
    with pytest.raises(ValueError, match=f"did you mean '{meant}'") as caught:
        load(wrong)
    assert "mnist, fashion-mnist, cifar-10, digits" in str(caught.value)


def test_digits_take_no_path(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="leave it out"):
        load("digits", tmp_path)


# ---- the order of the search ---------------------------------------------------------------------


def test_search_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path) -> None:
    system = write_idx(tmp_path / "system", small(4))
    monkeypatch.setattr(sources, "SYSTEM_FOLDERS", {"fashion-mnist": system})
    assert_holds(load("fashion-mnist"), small(4))
    write_idx(cache / "fashion-mnist", small(3))
    assert_holds(load("fashion-mnist"), small(3))
    monkeypatch.setenv("NNX_DATA", str(tmp_path / "user"))
    write_npz(tmp_path / "user" / "fashion-mnist.npz", small(2))
    assert_holds(load("fashion-mnist"), small(2))
    explicit = write_npz(tmp_path / "explicit.npz", small(1))
    assert_holds(load("fashion-mnist", explicit), small(1))


def test_cache_is_the_one_of_the_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("XDG_CACHE_HOME is a convention of Linux")
    monkeypatch.undo()  # the real _cache_folder
    monkeypatch.delenv("NNX_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    write_npz(tmp_path / "xdg" / "nnx" / "mnist" / "mnist.npz", small(7))
    assert_holds(load("mnist", download=False), small(7))


def test_nnx_data_may_be_a_file_or_a_folder_of_idx_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NNX_DATA", str(write_npz(tmp_path / "mnist.npz", small(1))))
    assert_holds(load("mnist"), small(1))
    monkeypatch.setenv("NNX_DATA", str(write_idx(tmp_path / "idx", small(2))))
    assert_holds(load("mnist"), small(2))


def test_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    write_npz(tmp_path / "mnist.npz", small(1))
    assert_holds(load("mnist", "~/mnist.npz"), small(1))
    monkeypatch.setenv("NNX_DATA", "~")
    assert_holds(load("mnist"), small(1))


def test_explicit_path_never_falls_through(tmp_path: Path, cache: Path) -> None:
    write_npz(cache / "mnist" / "mnist.npz", small())
    (tmp_path / "empty").mkdir()
    for place in (tmp_path / "empty", tmp_path / "absent"):
        with pytest.raises(DatasetNotFoundError) as caught:
            load("mnist", place)
        assert str(place) in str(caught.value)
        assert "mnist.npz" in caught.value.remedy
        assert "load without a path" in caught.value.remedy


def test_nnx_data_without_this_dataset_falls_through(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path
) -> None:
    write_npz(cache / "mnist" / "mnist.npz", small(1))
    for place in (tmp_path / "absent", write_npz(tmp_path / "fashion-mnist.npz", small(2))):
        monkeypatch.setenv("NNX_DATA", str(place))
        assert_holds(load("mnist"), small(1))


def test_other_dataset_under_the_same_file_names_is_not_taken_for_this_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path
) -> None:
    fashion = small(2)
    fashion["y_train"][:10] = [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]  # how Fashion-MNIST begins
    folder = write_idx(tmp_path / "clothes", fashion)
    assert_holds(load("fashion-mnist", folder), fashion)
    with pytest.raises(DatasetNotFoundError) as caught:
        load("mnist", folder)
    assert str(folder) in str(caught.value)
    assert "load 'fashion-mnist'" in caught.value.remedy
    monkeypatch.setenv("NNX_DATA", str(folder))
    write_npz(cache / "mnist" / "mnist.npz", small(1))
    assert_holds(load("mnist"), small(1))


@pytest.mark.parametrize("place", ["NNX_DATA", "cache"])
def test_broken_file_on_the_way_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path, place: str
) -> None:
    folder = tmp_path / "user" if place == "NNX_DATA" else cache / "mnist"
    monkeypatch.setenv("NNX_DATA", str(tmp_path / "user"))
    write_npz(folder / "mnist.npz", small()).write_bytes(b"not an archive")
    with pytest.raises(DatasetError, match="remove it") as caught:
        load("mnist")
    assert str(folder / "mnist.npz") in str(caught.value)
    assert not isinstance(caught.value, DatasetNotFoundError)


def test_not_found_lists_every_place_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path
) -> None:
    system = tmp_path / "system"
    monkeypatch.setattr(sources, "SYSTEM_FOLDERS", {"fashion-mnist": system})
    monkeypatch.setenv("NNX_DATA", str(tmp_path / "user"))
    with pytest.raises(DatasetNotFoundError) as caught:
        load("fashion-mnist", download=False)
    message = str(caught.value)
    for searched in (tmp_path / "user", cache / "fashion-mnist", system):
        assert f"{searched}: expected fashion-mnist.npz" in message
    assert "download=False" in message
    assert f"into {cache / 'fashion-mnist'}" in caught.value.remedy
    assert "set NNX_DATA" in caught.value.remedy
    assert "apt install dataset-fashion-mnist" in caught.value.remedy
    with pytest.raises(DatasetNotFoundError) as caught:
        load("mnist", download=False)
    assert "apt install" not in str(caught.value)


# ---- broken files --------------------------------------------------------------------------------


def truncated(raw: bytes) -> bytes:
    return raw[: len(raw) // 2]


def replaced(raw: bytes, position: int, by: bytes) -> bytes:
    return raw[:position] + by + raw[position + len(by) :]


def inside(change: Any) -> Any:
    """The change made to the unpacked bytes, packed again."""
    return lambda packed: gzip.compress(change(gzip.decompress(packed)))


BROKEN_IDX = {
    "truncated gzip": (0, truncated, "whole IDX file"),
    "flipped byte": (0, lambda raw: replaced(raw, 2000, bytes([raw[2000] ^ 255])), "whole IDX"),
    "garbage after the gzip": (0, lambda raw: raw + b"garbage", "whole IDX file"),
    "truncated data": (0, inside(truncated), r"expected 9408 bytes .* got 4696"),
    "one byte short": (1, inside(lambda raw: raw[:-1]), "expected 12 bytes .* got 11"),
    "one byte too many": (3, inside(lambda raw: raw + b"\0"), "expected 5 bytes .* got more"),
    "empty": (0, lambda raw: b"", "magic number 0x00000803"),
    "no sizes": (2, inside(lambda raw: raw[:9]), "magic number 0x00000803"),
    "labels instead of images": (
        2,
        lambda raw: gzip.compress(idx_bytes(np.zeros(5, np.uint8))),
        "magic number 0x00000803 and 3 sizes, got .*0x00000801",
    ),
    "images instead of labels": (
        3,
        lambda raw: gzip.compress(idx_bytes(np.zeros((5, 28, 28), np.uint8))),
        "magic number 0x00000801 and 1 sizes, got .*0x00000803",
    ),
    "float elements": (
        0,
        inside(lambda raw: replaced(raw, 0, b"\0\0\x0d\x03")),
        "magic number 0x00000803",
    ),
    "other image size": (
        0,
        lambda raw: gzip.compress(idx_bytes(np.zeros((12, 28, 27), np.uint8))),
        r"\(n, 28, 28\) .* got uint8 of shape \(12, 28, 27\)",
    ),
    "no sample": (
        0,
        lambda raw: gzip.compress(idx_bytes(np.zeros((0, 28, 28), np.uint8))),
        r"got uint8 of shape \(0, 28, 28\)",
    ),
    "absurd number of samples": (
        0,
        inside(lambda raw: replaced(raw, 4, b"\xff\xff\xff\xff")),
        r"got uint8 of shape \(4294967295, 28, 28\)",
    ),
    "label 10": (1, inside(lambda raw: replaced(raw, 10, b"\x0a")), "labels 0 ... 9, got .* 10"),
    "one label less": (
        1,
        lambda raw: gzip.compress(idx_bytes(np.zeros(11, np.uint8))),
        "12 images in .*train-images.* and 11 labels",
    ),
}


@pytest.mark.parametrize("case", BROKEN_IDX)
def test_broken_idx_file(tmp_path: Path, case: str) -> None:
    which, change, expected = BROKEN_IDX[case]
    folder = write_idx(tmp_path, small())
    file = folder / f"{IDX[which]}.gz"
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(DatasetError, match=expected) as caught:
        load("mnist", folder)
    assert caught.value.reason.startswith(str(file))
    assert "complete copy, or remove it" in caught.value.remedy


def test_incomplete_folder_names_the_missing_file(tmp_path: Path) -> None:
    folder = write_idx(tmp_path, small())
    (folder / f"{IDX[2]}.gz").unlink()
    with pytest.raises(DatasetError, match="t10k-images-idx3-ubyte") as caught:
        load("mnist", folder)
    assert str(folder) in str(caught.value)
    assert "t10k-labels" not in str(caught.value)
    assert "Add the missing files" in caught.value.remedy


def test_unpacking_stops_one_byte_after_the_expected_size(tmp_path: Path) -> None:
    folder = write_idx(tmp_path, small())
    file = folder / f"{IDX[0]}.gz"
    surplus = bytes(64 << 20)
    file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes()) + surplus, 1))
    del surplus
    tracemalloc.start()
    try:
        with pytest.raises(DatasetError, match="got more"):
            load("mnist", folder)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20


def without(key: str) -> Arrays:
    return {other: array for other, array in small().items() if other != key}


BROKEN_NPZ: dict[str, tuple[Arrays, str]] = {
    "missing key": (without("y_test"), r"an NPZ file with .*y_test, got KeyError"),
    "pickled objects": (
        dict(small(), y_train=np.array([0] * 12, dtype=object)),
        "allow_pickle=False",
    ),
    "float images": (
        dict(small(), x_train=np.zeros((12, 28, 28))),
        r"x_train: expected uint8 of shape \(n, 28, 28\).*got float64",
    ),
    "wide labels": (
        dict(small(), y_test=np.zeros(5, np.int64)),
        r"y_test: expected uint8 of shape \(n,\).*got int64",
    ),
    "flat images": (
        dict(small(), x_test=np.zeros((5, 784), np.uint8)),
        r"x_test: expected .*got uint8 of shape \(5, 784\)",
    ),
    "one-hot labels": (
        dict(small(), y_test=np.zeros((5, 10), np.uint8)),
        r"y_test: expected .*got uint8 of shape \(5, 10\)",
    ),
    "a scalar": (dict(small(), y_test=np.array(3, np.uint8)), r"y_test: expected .*of shape \(\)"),
    "no samples": (small(test=0), r"x_test: expected .*n from 1 .*shape \(0, 28, 28\)"),
    "label 10": (
        dict(small(), y_test=np.array([0, 1, 2, 3, 10], np.uint8)),
        "y_test: expected labels 0 ... 9, got the label 10",
    ),
    "one label too many": (
        dict(small(), y_train=np.zeros(13, np.uint8)),
        "y_train: expected one label for each image, got 12 images in .* and 13 labels",
    ),
}


@pytest.mark.parametrize("case", BROKEN_NPZ)
def test_wrong_contents_of_npz(tmp_path: Path, case: str) -> None:
    arrays, expected = BROKEN_NPZ[case]
    file = write_npz(tmp_path / "mine.npz", arrays)
    with pytest.raises(DatasetError, match=expected) as caught:
        load("mnist", file)
    assert caught.value.reason.startswith(str(file))
    assert "complete copy" in caught.value.remedy


@pytest.mark.parametrize("damage", ["truncated", "flipped byte", "empty"])
def test_damaged_npz(tmp_path: Path, damage: str) -> None:
    file = write_npz(tmp_path / "mine.npz", small())
    raw = file.read_bytes()
    flipped = replaced(raw, 1000, bytes([raw[1000] ^ 1]))  # one pixel, one grey level
    file.write_bytes({"truncated": truncated(raw), "flipped byte": flipped, "empty": b""}[damage])
    with pytest.raises(DatasetError, match="an NPZ file with x_train") as caught:
        load("mnist", file)
    assert caught.value.reason.startswith(str(file))
    assert "complete copy" in caught.value.remedy


def test_surplus_bytes_in_an_npz(tmp_path: Path) -> None:
    good = write_npz(tmp_path / "good.npz", small())
    file = tmp_path / "surplus.npz"
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(file, "w") as target:
        for member in source.namelist():
            target.writestr(member, source.read(member) + b"\0" * (member == "y_train.npy"))
    with pytest.raises(DatasetError, match="1 bytes too many after y_train") as caught:
        load("mnist", file)
    assert str(file) in str(caught.value)


def test_npz_packed_by_a_method_that_unpacks_without_bound(tmp_path: Path) -> None:
    good = write_npz(tmp_path / "good.npz", small())
    file = tmp_path / "packed.npz"
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(file, "w", zipfile.ZIP_BZIP2) as target:
        for member in source.namelist():
            target.writestr(member, source.read(member))
    with pytest.raises(DatasetError, match="x_train is compressed by method 12") as caught:
        load("mnist", file)
    assert str(file) in str(caught.value)
    assert "complete copy" in caught.value.remedy


@pytest.mark.parametrize(
    ("kind", "train", "expected"),
    [
        ("idx", 21, r"n from 1 to 20, got uint8 of shape \(21, 28, 28\)"),
        ("npz", 21, r"n from 1 to 20, got uint8 of shape \(21, 28, 28\)"),
        ("npz", 40, "x_train of 31488 bytes, at most"),  # refused before it is unpacked
    ],
)
def test_more_samples_than_any_honest_file_has(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str, train: int, expected: str
) -> None:
    arrays = small(train=train)
    write_npz(tmp_path / "npz" / "mnist.npz", arrays)
    write_idx(tmp_path / "idx", arrays)
    monkeypatch.setattr(files, "MAX_SAMPLES", 20)
    with pytest.raises(DatasetError, match=expected) as caught:
        load("mnist", tmp_path / kind)
    assert caught.value.reason.startswith(str(tmp_path / kind))
    monkeypatch.setattr(files, "MAX_SAMPLES", train)
    assert_holds(load("mnist", tmp_path / kind), arrays)


# ---- CIFAR-10 ------------------------------------------------------------------------------------

ARCHIVE = "cifar-10-binary.tar.gz"
BATCHES = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]


def photographs(seed: int = 0) -> Arrays:
    rng = np.random.default_rng(seed)
    return {
        "x_train": rng.integers(0, 256, (10, 3, 32, 32), dtype=np.uint8),
        "y_train": rng.integers(0, 10, 10, dtype=np.uint8),
        "x_test": rng.integers(0, 256, (2, 3, 32, 32), dtype=np.uint8),
        "y_test": rng.integers(0, 10, 2, dtype=np.uint8),
    }


def batch_files(arrays: Arrays) -> dict[str, bytes]:
    """A label, 1024 bytes of red, of green, of blue, for each of two images per file."""
    x = np.concatenate([arrays["x_train"], arrays["x_test"]])
    y = np.concatenate([arrays["y_train"], arrays["y_test"]])
    records = [bytes([label]) + image.tobytes() for image, label in zip(x, y, strict=True)]
    return {name: records[2 * i] + records[2 * i + 1] for i, name in enumerate(BATCHES)}


def tar_of(members: list[tuple[str, bytes]]) -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as archive:
        folder = tarfile.TarInfo("cifar-10-batches-bin")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, raw in members:
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(raw)
            archive.addfile(member, io.BytesIO(raw))
    return whole.getvalue()


def tar_bytes(**replaced: bytes | None) -> bytes:
    """The archive, with its files in an order of their own and two that are not read."""
    named = batch_files(photographs()) | {
        name.replace("_bin", ".bin"): raw for name, raw in replaced.items()
    }
    kept = [(name, raw) for name, raw in named.items() if raw is not None]
    return tar_of([*kept[::-1], ("batches.meta.txt", b"airplane\n"), ("readme.html", b"<html>")])


def write_archive(folder: Path, raw: bytes | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ARCHIVE).write_bytes(gzip.compress(tar_bytes(), mtime=0) if raw is None else raw)
    return folder / ARCHIVE


def test_cifar_archive(tmp_path: Path) -> None:
    file = write_archive(tmp_path)
    data = load("cifar-10", file)
    assert_holds(data, photographs())
    assert (data.x_train.shape, data.x_test.shape) == ((10, 3072), (2, 3072))
    assert load("cifar-10", tmp_path, flat=False).x_test.shape == (2, 3, 32, 32)
    (tmp_path / "plain.tar").write_bytes(tar_bytes())
    assert_holds(load("cifar-10", tmp_path / "plain.tar"), photographs())
    assert files_in(tmp_path) == [ARCHIVE, "plain.tar"]  # nothing is unpacked


def test_bytes_stay_bytes_if_asked_for(tmp_path: Path) -> None:
    data = load("cifar-10", write_archive(tmp_path), flat=False, dtype="uint8")
    for x, key in ((data.x_train, "x_train"), (data.x_test, "x_test")):
        assert x.dtype == np.uint8
        np.testing.assert_array_equal(x, photographs()[key])
        assert x.flags.c_contiguous
        assert x.flags.writeable
    file = write_npz(tmp_path / "mine.npz", small())
    np.testing.assert_array_equal(
        load("mnist", file, flat=False, dtype="uint8").x_train[:, 0], small()["x_train"]
    )
    with pytest.raises(ValueError, match="dtype to be one of 'float32', 'uint8', got 'int8'"):
        load("cifar-10", file, dtype="int8")


BROKEN_TAR = {
    "truncated gzip": (lambda raw: truncated(gzip.compress(raw)), "a whole .tar archive"),
    "truncated at its checksum": (lambda raw: gzip.compress(raw)[:-6], "a whole .tar archive"),
    "flipped byte": (
        lambda raw: (
            gzip.compress(replaced(raw, 6000, bytes([raw[6000] ^ 1])), 0)[:-8]
            + gzip.compress(raw, 0)[-8:]
        ),
        "CRC check failed",
    ),
    "garbage after the gzip": (lambda raw: gzip.compress(raw) + b"garbage", "a whole .tar archive"),
    "truncated archive": (lambda raw: gzip.compress(truncated(raw)), "a whole .tar archive"),
    "not an archive": (lambda raw: gzip.compress(bytes(range(256)) * 40), "a whole .tar archive"),
    "empty": (lambda raw: b"", "a whole .tar archive"),
    "far too long": (
        lambda raw: gzip.compress(raw + bytes(2 << 20), 1),
        "at most 1048576 bytes after the end",
    ),
    "a file missing": (
        lambda raw: gzip.compress(tar_bytes(data_batch_3_bin=None)),
        "one without data_batch_3.bin",
    ),
    "a file twice": (
        lambda raw: gzip.compress(tar_of([("test_batch.bin", bytes(3073))] * 2)),
        "one file test_batch.bin, got two of them",
    ),
    "half a record": (
        lambda raw: gzip.compress(tar_bytes(data_batch_2_bin=bytes(5000))),
        "data_batch_2.bin: expected records of 3073 bytes, .* got 5000 bytes",
    ),
    "no record": (lambda raw: gzip.compress(tar_bytes(test_batch_bin=b"")), "got 0 bytes"),
    "label 10": (
        lambda raw: gzip.compress(tar_bytes(data_batch_5_bin=b"\x0a" + bytes(3072))),
        "data_batch_5.bin: expected labels 0 ... 9, got the label 10",
    ),
}


@pytest.mark.parametrize("case", BROKEN_TAR)
def test_broken_cifar_archive(tmp_path: Path, case: str) -> None:
    change, expected = BROKEN_TAR[case]
    file = write_archive(tmp_path, change(tar_bytes()))
    with pytest.raises(DatasetError, match=expected) as caught:
        load("cifar-10", file)
    assert caught.value.reason.startswith(str(file))
    assert "complete copy" in caught.value.remedy
    assert not isinstance(caught.value, DatasetNotFoundError)


def test_a_file_of_absurd_size_is_refused_before_it_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(cifar, "MAX_RECORDS", 1)
    with pytest.raises(DatasetError, match=r"from 1 to 1 of them, got 6146 bytes"):
        load("cifar-10", write_archive(tmp_path))


def test_search_for_cifar(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path) -> None:
    with pytest.raises(DatasetNotFoundError) as caught:
        load("cifar-10", download=False)
    assert f"{cache / 'cifar-10'}: expected {ARCHIVE}, but it does not exist" in str(caught.value)
    assert f"Put {ARCHIVE} into {cache / 'cifar-10'}, or set NNX_DATA" in caught.value.remedy
    write_archive(cache / "cifar-10")
    # A file or folder of another dataset is passed over, and this one by the others.
    for place in (write_npz(tmp_path / "mnist.npz", small(1)), tmp_path):
        monkeypatch.setenv("NNX_DATA", str(place))
        assert_holds(load("cifar-10"), photographs())
        assert_holds(load("mnist"), small(1))
    write_npz(cache / "mnist" / "mnist.npz", small(2))
    monkeypatch.setenv("NNX_DATA", str(write_archive(tmp_path / "user" / "cifar-10")))
    assert_holds(load("mnist"), small(2))
    monkeypatch.setenv("NNX_DATA", str(tmp_path / "user"))
    (cache / "cifar-10" / ARCHIVE).unlink()
    assert_holds(load("cifar-10"), photographs())


def test_download_of_cifar_keeps_the_archive(
    monkeypatch: pytest.MonkeyPatch, cache: Path, site: Site
) -> None:
    raw = gzip.compress(tar_bytes(), mtime=0)
    site.replies[f"/good/{ARCHIVE}"] = Reply(raw)
    site.replies[f"/bad/{ARCHIVE}"] = Reply(truncated(raw))
    mirrors = [sources.Mirror(f"{site.address}/{at}/", 170, {ARCHIVE: sha256(raw)}) for at in
               ("bad", "good")]  # fmt: skip
    use_mirrors(monkeypatch, "cifar-10", *mirrors)
    assert_holds(load("cifar-10"), photographs())
    assert_holds(load("cifar-10", download=False), photographs())
    assert files_in(cache) == [ARCHIVE]
    assert len(site.requests) == 2


# ---- downloads -----------------------------------------------------------------------------------


class Reply(NamedTuple):
    body: bytes
    status: int = 200
    missing: int = 0  # bytes that are announced and never sent


class Site:
    """A web server on this machine; what it serves is set by the test, path by path."""

    def __init__(self) -> None:
        self.replies: dict[str, Reply] = {}
        self.requests: list[str] = []
        self.encodings: list[str | None] = []
        self.barrier: threading.Barrier | None = None
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.requests.append(self.path)
                site.encodings.append(self.headers["Accept-Encoding"])
                if site.barrier:
                    site.barrier.wait(10)
                reply = site.replies.get(self.path, Reply(b"no such file", 404))
                self.send_response(reply.status)
                self.send_header("Content-Length", str(len(reply.body) + reply.missing))
                self.end_headers()
                self.wfile.write(reply.body)

            def log_message(self, *args: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


def sha256(raw: bytes) -> str:
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def use_mirrors(monkeypatch: pytest.MonkeyPatch, name: str, *mirrors: sources.Mirror) -> None:
    monkeypatch.setattr(sources, "MIRRORS", dict(sources.MIRRORS, **{name: mirrors}))


def files_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.rglob("*") if file.is_file())


@pytest.fixture
def npz(tmp_path: Path) -> bytes:
    return write_npz(tmp_path / "published" / "mnist.npz", small(1)).read_bytes()


@pytest.fixture
def idx(tmp_path: Path) -> dict[str, bytes]:
    folder = write_idx(tmp_path / "published", small(2))
    return {f"{stem}.gz": (folder / f"{stem}.gz").read_bytes() for stem in IDX}


def test_download_of_one_file_is_kept_and_used_again(
    monkeypatch: pytest.MonkeyPatch,
    cache: Path,
    site: Site,
    npz: bytes,
    capfd: pytest.CaptureFixture[str],
) -> None:
    site.replies["/a/mnist.npz"] = Reply(npz)
    mirror = sources.Mirror(f"{site.address}/a/", 11, {"mnist.npz": sha256(npz)})
    use_mirrors(monkeypatch, "mnist", mirror)
    with pytest.raises(DatasetNotFoundError, match="download=False"):
        load("mnist", download=False)
    assert site.requests == []
    assert_holds(load("mnist"), small(1))
    assert site.encodings == ["identity"]  # or a server might unpack what is hashed
    assert (cache / "mnist" / "mnist.npz").read_bytes() == npz
    assert [entry.name for entry in (cache / "mnist").iterdir()] == ["mnist.npz"]
    captured = capfd.readouterr()
    assert captured.err == "nnx: downloading mnist (11 MB) from 127.0.0.1\n"
    assert captured.out == ""
    assert_holds(load("mnist"), small(1))
    assert site.requests == ["/a/mnist.npz"]
    assert capfd.readouterr().err == ""


def test_download_of_four_files_with_md5(
    monkeypatch: pytest.MonkeyPatch, cache: Path, site: Site, idx: dict[str, bytes]
) -> None:
    site.replies.update({f"/{file}": Reply(raw) for file, raw in idx.items()})
    hashes = {file: f"md5:{hashlib.md5(raw).hexdigest()}" for file, raw in idx.items()}
    use_mirrors(monkeypatch, "fashion-mnist", sources.Mirror(f"{site.address}/", 31, hashes))
    assert_holds(load("fashion-mnist"), small(2))
    assert_holds(load("fashion-mnist", download=False), small(2))
    assert len(site.requests) == 4
    assert files_in(cache) == ["fashion-mnist.npz"]


def failing(site: Site, npz: bytes, how: str) -> sources.Mirror:
    """A mirror that fails in this way."""
    wrong_shape = how == "published data of a wrong shape"
    reply = {
        "truncated": Reply(npz[:-100], missing=100),
        "shorter than announced hash": Reply(npz[:-100]),
        "wrong hash": Reply(npz[:-1] + bytes([npz[-1] ^ 1])),
        "not found": Reply(b"", 404),
        "forbidden": Reply(b"", 403),
        "published data of a wrong shape": Reply(b"whatever"),
        "refused": Reply(b""),
    }[how]
    site.replies[f"/{how}/mnist.npz".replace(" ", "%20")] = reply
    address = site.address
    if how == "refused":
        with socket.socket() as listener:  # a port on which nobody listens once it is closed
            listener.bind(("127.0.0.1", 0))
            address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    known = sha256(reply.body) if wrong_shape else sha256(npz)
    return sources.Mirror(f"{address}/{how}/".replace(" ", "%20"), 11, {"mnist.npz": known})


FAILURES = {
    "truncated": "100 more expected|IncompleteRead",
    "shorter than announced hash": "does not match",
    "wrong hash": "does not match",
    "not found": "404",
    "forbidden": "403",
    "published data of a wrong shape": "an NPZ file with x_train",
    "refused": "refused|Connection",
}


@pytest.mark.parametrize("how", FAILURES)
def test_failing_mirror_leaves_nothing_and_is_reported(
    monkeypatch: pytest.MonkeyPatch, cache: Path, site: Site, npz: bytes, how: str
) -> None:
    mirror = failing(site, npz, how)
    use_mirrors(monkeypatch, "mnist", mirror)
    with pytest.raises(DatasetNotFoundError, match=FAILURES[how]) as caught:
        load("mnist")
    assert f"\n  - {mirror.address}: " in str(caught.value)
    assert f"Put mnist.npz, or the four files {IDX[0]}.gz" in caught.value.remedy
    assert list((cache / "mnist").iterdir()) == []


@pytest.mark.parametrize("how", FAILURES)
def test_next_mirror_serves_when_the_first_fails(
    monkeypatch: pytest.MonkeyPatch,
    cache: Path,
    site: Site,
    npz: bytes,
    idx: dict[str, bytes],
    how: str,
) -> None:
    site.replies.update({f"/good/{file}": Reply(raw) for file, raw in idx.items()})
    hashes = {file: sha256(raw) for file, raw in idx.items()}
    good = sources.Mirror(f"{site.address}/good/", 12, hashes)
    use_mirrors(monkeypatch, "mnist", failing(site, npz, how), good)
    assert_holds(load("mnist"), small(2))
    assert files_in(cache) == ["mnist.npz"]


def test_all_mirrors_failing_reports_each(
    monkeypatch: pytest.MonkeyPatch, cache: Path, site: Site, npz: bytes
) -> None:
    mirrors = [failing(site, npz, how) for how in FAILURES]
    use_mirrors(monkeypatch, "mnist", *mirrors)
    with pytest.raises(DatasetNotFoundError) as caught:
        load("mnist")
    for mirror in mirrors:
        assert f"\n  - {mirror.address}: " in str(caught.value)
    assert files_in(cache) == []


def test_last_of_four_files_failing_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, cache: Path, site: Site, idx: dict[str, bytes]
) -> None:
    site.replies.update({f"/{file}": Reply(raw) for file, raw in list(idx.items())[:3]})
    hashes = {file: sha256(raw) for file, raw in idx.items()}
    use_mirrors(monkeypatch, "mnist", sources.Mirror(f"{site.address}/", 12, hashes))
    with pytest.raises(DatasetNotFoundError, match=r"404.*t10k-labels"):
        load("mnist")
    assert len(site.requests) == 4
    assert list((cache / "mnist").iterdir()) == []


def test_two_downloads_at_once(
    monkeypatch: pytest.MonkeyPatch, cache: Path, site: Site, npz: bytes
) -> None:
    site.replies["/mnist.npz"] = Reply(npz)
    site.barrier = threading.Barrier(2)  # each waits in the middle of its request for the other
    mirror = sources.Mirror(f"{site.address}/", 11, {"mnist.npz": sha256(npz)})
    use_mirrors(monkeypatch, "mnist", mirror)
    results: list[datasets.Dataset] = []
    threads = [threading.Thread(target=lambda: results.append(load("mnist"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(results) == 2
    assert len(site.requests) == 2
    for result in results:
        assert_holds(result, small(1))
    assert files_in(cache) == ["mnist.npz"]
    assert (cache / "mnist" / "mnist.npz").read_bytes() == npz


def test_cache_that_cannot_be_written_is_reported(
    monkeypatch: pytest.MonkeyPatch, cache: Path, site: Site, npz: bytes
) -> None:
    cache.write_text("a file where the folder should be")
    site.replies["/mnist.npz"] = Reply(npz)
    mirror = sources.Mirror(f"{site.address}/", 11, {"mnist.npz": sha256(npz)})
    use_mirrors(monkeypatch, "mnist", mirror)
    with pytest.raises(DatasetNotFoundError, match="set NNX_DATA") as caught:
        load("mnist")
    assert f"'{cache}" in str(caught.value)
    assert site.requests == []


def test_published_mirrors() -> None:
    """Every mirror gives what a folder must hold, with a hash of the right length."""
    assert sorted(PUBLISHED_MIRRORS) == ["cifar-10", "fashion-mnist", "mnist"]
    lengths = {"sha256": 64, "md5": 32}
    for name, mirrors in PUBLISHED_MIRRORS.items():
        assert len(mirrors) >= 2
        for mirror in mirrors:
            assert mirror.address.startswith("http")
            assert mirror.address.endswith("/")
            one = "cifar-10-binary.tar.gz" if name == "cifar-10" else f"{name}.npz"
            assert list(mirror.hashes) in ([one], [f"{stem}.gz" for stem in IDX])
            for known in mirror.hashes.values():
                kind, value = known.split(":")
                assert len(bytes.fromhex(value)) * 2 == lengths[kind]


# ---- the module, and the real data ---------------------------------------------------------------


def test_importing_the_module_imports_nothing_heavy() -> None:
    heavy = "sklearn pooch requests rich matplotlib platformdirs"
    script = (
        "import sys, nnx.datasets; "
        f"print(*[name for name in {heavy.split()} if name in sys.modules])"
    )
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def test_real_mnist() -> None:
    if not USER_PLACE:
        pytest.skip("NNX_DATA is not set")
    try:
        data = load("mnist", USER_PLACE)
    except DatasetNotFoundError as error:
        pytest.skip(f"NNX_DATA does not hold MNIST: {error.reason}")
    if len(data.x_train) != 60_000:
        pytest.skip("NNX_DATA holds a part of MNIST")
    assert (data.x_train.shape, data.x_test.shape) == ((60_000, 784), (10_000, 784))
    assert data.y_train[:5].tolist() == [5, 0, 4, 1, 9]
    unpacked = struct.pack(">4I", 0x803, 60_000, 28, 28)
    unpacked += np.rint(data.x_train * 255).astype(np.uint8).tobytes()
    assert (
        hashlib.sha256(unpacked).hexdigest()
        == "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
    )


@pytest.mark.skipif(
    not FASHION_FOLDER.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed"
)
def test_real_fashion_mnist() -> None:
    data = load("fashion-mnist", FASHION_FOLDER)
    published = {
        "x_train": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "y_train": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "x_test": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "y_test": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    }
    for key, expected in published.items():
        array = getattr(data, key)
        if key.startswith("x"):
            array = np.rint(array * 255).reshape(-1, 28, 28)
        assert hashlib.sha256(idx_bytes(array.astype(np.uint8))).hexdigest() == expected
    with pytest.raises(DatasetNotFoundError, match="holds 'fashion-mnist'"):
        load("mnist", FASHION_FOLDER)
