"""The fast ways of convolutions and pooling, each beside the one that every library has."""

import itertools
import subprocess
import sys

import numpy as np
import pytest

import nnx
from nnx.backend import owner_of
from nnx.layers._products import Blocks, Rows, way_of
from nnx.layers._windows import Geometry, Windows, slides

GRID = list(
    itertools.product(
        ((1, 1), (3, 2), (2, 5)),  # kernel
        (1, (2, 3)),  # stride
        ("valid", "same", (2, 1)),  # padding
        (1, (2, 1)),  # dilation
    )
)


def normal(*shape):
    return np.random.default_rng(5).standard_normal(shape)


@pytest.fixture
def owner(backend64):
    """The backend that arrays of the library belong to: the one that was connected first."""
    return owner_of(backend64.xp.zeros((1,)))


def results(way, backend, arrays):
    """What a way of computing products gives: z, dW and dx."""
    x, W, dz = map(backend.asarray, arrays)
    columns = way.gather(way.arranged(x))
    z, dz = way.correlate(W, columns), way.arranged(dz)
    found = way.restored(z), way.products(dz, columns), way.restored(way.distribute(W, dz))
    return [backend.to_numpy(array) for array in found]


def cases(every=1):
    for kernel, stride, padding, dilation in GRID[::every]:
        windows = Geometry("test", 2, kernel, stride, padding, dilation).over((7, 6))
        places = [w.positions for w in windows]
        arrays = normal(3, 2, 7, 6), normal(4, 2, *kernel), normal(3, 4, *places)
        yield windows, arrays


def differ(backend, every=1):
    """Whether the two ways give other numbers or shapes for some windows."""
    for windows, arrays in cases(every):
        kernel = arrays[1].shape
        given = results(Rows(kernel, windows), backend, arrays)
        expected = results(Blocks(kernel, windows, 1), backend, arrays)
        for ours, theirs in zip(given, expected, strict=True):
            if ours.shape != theirs.shape or abs(ours - theirs).max() > 1e-12:
                return True
    return False


def test_products_by_rows_are_those_by_blocks(backend64):
    """Rows write to their sums; on a library that has no overlapping views they gather."""
    if backend64.mutable:
        assert not differ(backend64)
    else:
        assert not slides(backend64.xp.zeros((1,)))


def test_planted_faults_of_sliding_windows_are_caught(backend64, owner, monkeypatch):
    right = owner.sliding
    if not slides(backend64.xp.zeros((1,))):
        with pytest.raises(NotImplementedError, match="no views that overlap"):
            right(backend64.xp.zeros((3, 2)), (2, 1), (2, 1))
        return
    wrong = {
        "no dilation": lambda x, positions, taps: right(x, positions, (taps[0], 1)),
        "no stride": lambda x, positions, taps: right(x, (positions[0], 1), taps),
        "rounded": lambda x, positions, taps: right(x, positions, taps) * (1 + 1e-11),
    }
    for fault in wrong.values():
        monkeypatch.setattr(owner, "sliding", fault)
        assert differ(backend64)


def test_sliding_windows_are_views_of_their_cells(backend64):
    if not slides(backend64.xp.zeros((1,))):
        return
    host = normal(9, 2, 3)
    for x in (backend64.asarray(host), backend64.asarray(np.repeat(host, 2, axis=2))[:, :, ::2]):
        for (positions, stride), (taps, dilation) in (((3, 2), (2, 3)), ((7, 1), (3, 1))):
            view = backend64.sliding(x, (positions, stride), (taps, dilation))
            expected = [
                [host[p * stride + t * dilation] for t in range(taps)] for p in range(positions)
            ]
            np.testing.assert_array_equal(backend64.to_numpy(view), expected)
    x[3, 0, 0] = 50.0
    assert float(view[1, 2, 0, 0]) == 50.0


def test_which_way_is_taken():
    """Rows where views overlap, for 64 columns or more, and as many as z has channels."""
    windows = Geometry("test", 2, 3, 1, "valid", 1).over((8, 8))  # 6 positions in a row
    with nnx.use_backend("numpy") as numpy, nnx.use_backend("strict") as strict:
        for samples, channels, groups, kind in (
            (12, 72, 1, Rows),
            (12, 73, 1, Blocks),
            (10, 2, 1, Blocks),
            (12, 2, 2, Blocks),
        ):
            x, kernel = normal(samples, 2, 8, 8), (channels, 2 // groups, 3, 3)
            assert type(way_of(numpy.asarray(x), kernel, windows, groups)) is kind
            assert type(way_of(strict.asarray(x), kernel, windows, groups)) is Blocks
    line = Geometry("test", 1, 3, 1, "valid", 1).over((8,))
    assert type(way_of(np.float32(normal(90, 2, 8)), (2, 2, 3), line, 1)) is Blocks


def joined(windows, pieces, mutable, backend, monkeypatch):
    monkeypatch.setattr(owner_of(backend.xp.zeros((1,))), "mutable", mutable)
    return backend.to_numpy(windows.join([backend.asarray(piece) for piece in pieces], 1))


def test_pieces_are_joined_in_place_as_they_are_without(backend64, monkeypatch):
    """Both ways, and the sum that defines them; a piece in the wrong place is caught."""
    if not backend64.mutable:
        return
    for kernel, stride, dilation, before, size in (
        (2, 2, 1, 0, 7),
        (3, 2, 1, 1, 7),
        (2, 3, 1, 0, 9),
        (2, 1, 3, 2, 8),
        (1, 1, 1, 0, 5),
    ):
        positions = (size + 2 * before - (kernel - 1) * dilation - 1) // stride + 1
        windows = Windows(kernel, stride, dilation, size, before, before, positions)
        pieces = [normal(2, positions, 3) + tap for tap in range(kernel)]
        expected = np.zeros((2, size, 3))
        for tap, piece in enumerate(pieces):
            for p in range(positions):
                cell = p * stride + tap * dilation - before
                if 0 <= cell < size:
                    expected[:, cell] += piece[:, p]
        for mutable in (True, False):
            given = joined(windows, pieces, mutable, backend64, monkeypatch)
            np.testing.assert_allclose(given, expected, rtol=1e-12, atol=1e-12)
        moved = windows._replace(before=before + 1)
        assert abs(joined(moved, pieces, True, backend64, monkeypatch) - expected).max() > 1e-3


def test_a_network_of_both_layouts_has_the_gradients_of_one(backend64, owner, monkeypatch):
    """Layers that slide hand arrays of one layout to each other; others come between."""
    if not slides(backend64.xp.zeros((1,))):
        return

    def gradients():
        nnx.seed(3)
        layers = [
            nnx.Conv2DLayer(2, 3, 3, nnx.TanH(), padding=1),
            nnx.MaxPool2DLayer(2),
            nnx.UpSampling2DLayer(2),
            nnx.ZeroPadding2DLayer(((1, 0), (0, 2))),
            nnx.Conv2DLayer(3, 80, 3, nnx.TanH()),  # too many channels for rows
            nnx.AvgPool2DLayer(2, 1),
            nnx.ConvTranspose2DLayer(80, 2, 2, nnx.Linear(), stride=2),
        ]
        net = nnx.SequentialLayer(layers)
        y, backward = net.forward(backend64.asarray(normal(12, 2, 6, 6)))
        dx, found = backward(backend64.asarray(normal(*y.shape)))
        arrays = [y, dx, *(g for layer in found.values() for g in layer.values())]
        return [backend64.to_numpy(array) for array in arrays]

    given = gradients()
    monkeypatch.setattr(owner, "slides", lambda x: False)
    for ours, theirs in zip(given, gradients(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


FAULTS = """
import resource
import numpy as np
import nnx
nnx.set_backend("numpy")
def faults(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        arrays = [np.ones(500_000) for _ in range(4)]
        del arrays
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults(3)
print(faults(20))
"""


def test_freed_memory_is_used_again_without_faults():
    """80 arrays of 4 MB: 78,000 pages, of which none is new."""
    from nnx_backends import _host

    if _host._glibc() is None:
        pytest.skip("another C library")
    found = subprocess.run(
        [sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True
    )
    assert int(found.stdout) < 500
