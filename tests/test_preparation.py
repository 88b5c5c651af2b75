"""Rescaling and standardizing inside of a network, and the pass that finds mean and deviation."""

import copy
import pickle

import numpy as np
import pytest
from conftest import usable

import nnx
from nnx.layers import _moments

RNG = np.random.default_rng(0)
TABLE = RNG.standard_normal((40, 3)) * [1.0, 5.0, 0.1] + [0.0, 100.0, -3.0]
BYTES = RNG.integers(0, 256, (10, 3, 4, 5), dtype=np.uint8)
SEQUENCES = RNG.standard_normal((6, 4, 3)) * [2.0, 3.0, 4.0]


def held(layer):
    """Mean and deviation of a layer, on the host."""
    return [nnx.to_numpy(layer.buffers[name]) for name in ("mean", "deviation")]


def of(x, axes):
    """What they should be: NumPy's formulas of two passes."""
    x = np.asarray(x, dtype="float64")
    return [x.mean(axis=axes), x.std(axis=axes)]


def agree(layer, expected, rtol=3e-7):
    for found, wanted in zip(held(layer), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=rtol, atol=1e-7 * np.abs(wanted).max())


class OnDisk:
    """Anything with shape, dtype and slices; it notes how many numbers are read at a time."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self.read = []

    def __getitem__(self, part):
        self.read.append(self.array[part].size)
        return self.array[part]


# ---------------------------------------------------------------- by hand


def test_rescaling_by_hand(backend):
    x = backend.asarray([[0.0, 1.0, 4.0]])
    y, backward = nnx.RescalingLayer(0.5, -1).forward(x)
    np.testing.assert_array_equal(backend.to_numpy(y), [[-1.0, -0.5, 1.0]])
    dx, gradients = backward(x)
    np.testing.assert_array_equal(backend.to_numpy(dx), [[0.0, 0.5, 2.0]])
    assert gradients == {}
    np.testing.assert_array_equal(backend.to_numpy(x), [[0.0, 1.0, 4.0]])
    y, _ = nnx.RescalingLayer(2.0).forward(x)
    np.testing.assert_array_equal(backend.to_numpy(y), [[0.0, 2.0, 8.0]])


def test_standardizing_by_hand(backend):
    layer = nnx.StandardizeLayer(2)
    assert layer.fit([[1, 7], [3, 7], [5, 7], [7, 7]]) is layer
    agree(layer, [[4.0, 7.0], [np.sqrt(5.0), 1.0]])  # the deviation of a constant is 1
    x = backend.asarray([[4.0, 7.0], [9.0, 8.0]])
    y, backward = layer.forward(x)
    np.testing.assert_allclose(backend.to_numpy(y), [[0, 0], [np.sqrt(5.0), 1]], rtol=3e-7)
    dx, gradients = backward(backend.asarray([[5.0, 2.0], [0.0, 1.0]]))
    np.testing.assert_allclose(backend.to_numpy(dx), [[np.sqrt(5.0), 2], [0, 1]], rtol=3e-7)
    assert gradients == {}
    assert y.dtype == dx.dtype == layer.buffers["mean"].dtype == backend.dtype


@pytest.mark.parametrize(
    ("x", "axis", "axes"), [(TABLE, 1, 0), (BYTES, 1, (0, 2, 3)), (SEQUENCES, -1, (0, 1))]
)
def test_the_result_has_mean_0_and_deviation_1_along_the_axis(x, axis, axes, backend):
    layer = nnx.StandardizeLayer(3, axis).fit(x)
    agree(layer, of(x, axes))
    y = backend.to_numpy(layer.evaluate(x)).astype("float64")
    np.testing.assert_allclose(y.mean(axis=axes), 0.0, atol=1e-5)
    np.testing.assert_allclose(y.std(axis=axes), 1.0, atol=1e-5)


# ---------------------------------------------------------------- one pass over anything


def containers(tmp_path):
    """The table in everything that `fit` takes."""
    file = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", "float64", TABLE.shape)
    file[:] = TABLE
    parts = [TABLE[:7], TABLE[7:7], TABLE[7:8], TABLE[8:]]
    labels = np.zeros(7)
    yield "memmap", file
    yield "on disk", OnDisk(TABLE)
    yield "list", TABLE.tolist()
    yield "column-major", np.asfortranarray(TABLE)
    yield "array of a backend", nnx.get_backend().asarray(TABLE)
    yield "generator", (part for part in parts)
    yield "pairs", iter([(part, labels) for part in parts])
    yield "triples in lists", iter([[part, labels, labels] for part in parts])
    yield "function", lambda: iter(parts)


def test_every_container_gives_the_same(tmp_path, monkeypatch, backend):
    monkeypatch.setattr(_moments, "BLOCK", 24)  # 8 samples at a time
    for name, x in containers(tmp_path):
        layer = nnx.StandardizeLayer(3).fit(x)
        agree(layer, of(TABLE, 0))
        if name == "on disk":
            assert x.read == [24] * 5  # once, and never more


@pytest.mark.parametrize("library", ["pandas", "polars", "h5py", "torch"])
def test_containers_of_other_libraries(library, tmp_path):
    module = pytest.importorskip(library)
    if library == "h5py":
        with module.File(tmp_path / "x.h5", "w") as file:
            agree(nnx.StandardizeLayer(3).fit(file.create_dataset("x", data=TABLE)), of(TABLE, 0))
        return
    if library == "torch":
        dataset = module.utils.data.TensorDataset(module.tensor(TABLE), module.arange(40))
        x = module.utils.data.DataLoader(dataset, batch_size=16)
    else:
        x = module.DataFrame({f"{i}": TABLE[:, i] for i in range(3)})
    agree(nnx.StandardizeLayer(3).fit(x), of(TABLE, 0))


@pytest.mark.parametrize("block", [3, 30, 1 << 20])
def test_digits_are_not_lost_to_a_large_mean(block, monkeypatch):
    monkeypatch.setattr(_moments, "BLOCK", block)
    noise = np.random.default_rng(1).standard_normal((200, 3))
    x = 1e9 + noise  # the mean of squares would have no digit of the variance left
    with nnx.use_backend("numpy", "float64"):
        layer = nnx.StandardizeLayer(3).fit(x)
    agree(layer, of(x - 1e9, 0) + np.asarray([[1e9], [0.0]]), rtol=1e-12)


@pytest.mark.parametrize("constant", [0.1, -1e30, 3e-39, 0.0])
def test_a_constant_gets_the_deviation_1_and_becomes_0(constant, monkeypatch, backend):
    monkeypatch.setattr(_moments, "BLOCK", 7)
    x = np.full((50, 1), constant, dtype="float32")
    layer = nnx.StandardizeLayer(1).fit(x)
    np.testing.assert_array_equal(held(layer), [[np.float32(constant)], [1.0]])
    np.testing.assert_array_equal(backend.to_numpy(layer.evaluate(x)), np.zeros((50, 1)))


# ---------------------------------------------------------------- what is refused

NAN = np.where(np.arange(120).reshape(40, 3) == 100, np.nan, TABLE)  # in sample 33


@pytest.mark.parametrize(
    ("x", "kind", "message"),
    [
        (NAN, ValueError, r"finite numbers, got nan in sample 33; replace it"),
        (iter([TABLE, NAN]), ValueError, r"got nan in sample 73;"),
        (TABLE[:0], ValueError, r"at least one sample, got none; check"),
        (iter([]), ValueError, r"at least one sample, got none; check"),
        (
            TABLE[:, :2],
            nnx.ShapeError,
            r"fit takes input of shape \(3,\) or \(3, ...\), got \(2,\), each .*; pass what",
        ),
        (np.float64(3), nnx.ShapeError, r"takes samples, got a single number, .*; pass"),
        (TABLE + 1j, TypeError, r"got complex128; convert it first: x.astype\(float\)"),
        ("data.npy", TypeError, r"real numbers, got text"),
        ({"x": TABLE}, TypeError, r"an array, or batches of them, got dict; pass an array"),
        (None, TypeError, r"an array, or batches of them, got NoneType; pass an array"),
        ([(TABLE, 1), (TABLE[:5], 2)], ValueError, r"a list of batches, write fit\(iter\(x\)\)"),
    ],
)
def test_a_wrong_source_is_one_clear_error_and_leaves_the_layer_as_it_was(
    x, kind, message, monkeypatch
):
    monkeypatch.setattr(_moments, "BLOCK", 24)
    layer = nnx.StandardizeLayer(3)
    with pytest.raises(kind, match=message):
        layer.fit(x)
    np.testing.assert_array_equal(held(layer), np.zeros((2, 3)))


def network(layer):
    nnx.seed(0)
    head = nnx.DenseLayer(3, 2, nnx.SoftMax(), nnx.SGD(0.5))
    return nnx.SequentialNet(3, [layer, head], nnx.CrossEntropy())


LABELS = (TABLE[:, 1] > 100).astype(int)


def test_a_layer_that_has_not_been_fitted_is_one_clear_error():
    layer = nnx.StandardizeLayer(3)
    net = network(layer)
    behind = network(nnx.SequentialLayer([nnx.RescalingLayer(1.0), layer]))
    for use in (
        lambda: net.train(TABLE, LABELS, 10, progress=False),
        lambda: behind.train(TABLE, LABELS, 10, progress=False),
        lambda: net.predict(TABLE),
        lambda: net.score(TABLE, LABELS),
        lambda: layer.evaluate(TABLE),
    ):
        with pytest.raises(RuntimeError, match=r"StandardizeLayer: .*; call its fit\(x\)"):
            use()
    layer.fit(TABLE)
    net.train(TABLE, LABELS, 10, 10, progress=False)
    assert net.score(TABLE, LABELS).accuracy > 0.9


# ---------------------------------------------------------------- in a network


def test_training_leaves_the_statistics_and_a_file_has_them(tmp_path, backend):
    net = network(nnx.StandardizeLayer(3, name="standard").fit(TABLE))
    before = held(net.layers[0])
    net.train(TABLE, LABELS, 10, 2, progress=False)
    np.testing.assert_array_equal(held(net.layers[0]), before)
    net.save(tmp_path / "net.safetensors")
    again = nnx.load(tmp_path / "net.safetensors")
    np.testing.assert_array_equal(held(again.layers[0]), before)
    outputs = [backend.to_numpy(n.predict(TABLE)) for n in (net, again)]
    np.testing.assert_array_equal(*outputs)
    assert "name='standard'" in repr(again.layers[0])


def test_bytes_in_a_network_are_those_that_were_scaled_before():
    nnx.seed(0)
    body = [nnx.FlattenLayer(), nnx.DenseLayer(60, 2, nnx.SoftMax())]
    inside = nnx.SequentialNet((3, 4, 5), [nnx.RescalingLayer(1 / 256), *body], nnx.CrossEntropy())
    outside = nnx.SequentialNet((3, 4, 5), body, nnx.CrossEntropy())
    expected = nnx.to_numpy(outside.predict(BYTES / 256.0))
    np.testing.assert_array_equal(nnx.to_numpy(inside.predict(BYTES)), expected)


def test_an_export_needs_a_fitted_layer():
    pytest.importorskip("onnx", reason='pip install "nnx-array[onnx]"')
    usable("numpy")
    with pytest.raises(RuntimeError, match=r"call its fit\(x\)"):
        nnx.onnx.to_model(network(nnx.StandardizeLayer(3)))


COPIES = {
    "itself": lambda net, folder: net,
    "moved": lambda net, folder: net.to(net.backend),
    "copied": lambda net, folder: copy.deepcopy(net),
    "pickled": lambda net, folder: pickle.loads(pickle.dumps(net)),
    "cloned": lambda net, folder: net.clone(),
    "saved": lambda net, folder: nnx.load(written(net.save, folder / "net.safetensors")),
    "weights": lambda net, folder: weights_of(net, folder / "weights.safetensors"),
}


def written(write, path):
    write(path)
    return path


def weights_of(net, path):
    other = net.clone()
    other.load_weights(written(net.save_weights, path))
    return other


@pytest.mark.parametrize("way", COPIES)
def test_a_layer_that_is_not_fitted_computes_nothing_wherever_it_stands(backend, tmp_path, way):
    """A second layer would give infinities, and so would a copy."""
    net = nnx.SequentialNet(2, [nnx.DenseLayer(2, 3), nnx.StandardizeLayer(3)])
    x = np.ones((4, 2), "float32")
    one = COPIES[way](net, tmp_path)
    for method in (one.predict, one.evaluate, lambda x: one.evaluate(x, training=True)):
        with pytest.raises(RuntimeError, match=r"not been fitted; call its fit\(x\)"):
            method(x)
    net.layers[1].fit(net.layers[0].evaluate(backend.asarray(x)))
    one = COPIES[way](net, tmp_path)
    if way == "cloned":  # it is untrained
        one.layers[1].fit(one.layers[0].evaluate(backend.asarray(x)))
    assert np.isfinite(nnx.to_numpy(one.predict(x))).all()
    one.train(x, nnx.to_numpy(net.predict(x)), 2, 1, progress=False)
