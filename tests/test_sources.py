"""The same data as arrays in memory, arrays on disk and batches: one order, the same bits."""

import contextlib
import logging
import threading
from itertools import pairwise

import numpy as np
import pytest

import nnx
from nnx.data import sources, streaming
from nnx.training import Callback, Checkpoint

SAMPLES, FEATURES, BATCH = 100, 6, 8
X = np.random.default_rng(0).integers(0, 256, (SAMPLES, FEATURES), dtype="uint8")
Y = np.random.default_rng(1).integers(0, 3, SAMPLES)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of four batches: three and the rest in an epoch."""
    monkeypatch.setattr(sources, "BLOCK", 4 * BATCH * FEATURES)
    yield
    assert [t.name for t in threading.enumerate() if t.name == "nnx source"] == []


def network():
    nnx.seed(3)
    layers = [nnx.DenseLayer(FEATURES, 5, nnx.TanH()), nnx.DenseLayer(5, 3, nnx.SoftMax())]
    return nnx.SequentialNet(FEATURES, layers, nnx.CrossEntropy(), nnx.Adam())


def trained(x, y=None, net=None, **options):
    """The parameters after two epochs."""
    net = net or network()
    size = {} if y is None else {"batch_size": BATCH}
    net.train(x, y, epochs=2, progress=False, **size, **options)
    return np.concatenate([nnx.to_numpy(p).reshape(-1) for p in net.parameters.values()])


def memmap(folder, x=X):
    x.tofile(folder / "x.bin")
    return np.memmap(folder / "x.bin", x.dtype, "r", shape=x.shape)


def hdf5(folder):
    file = pytest.importorskip("h5py").File(folder / "x.h5", "w")
    return file.create_dataset("x", data=X, chunks=(16, FEATURES))


def zarr(folder):
    library = pytest.importorskip("zarr")
    array = library.create_array(
        str(folder / "x.zarr"), shape=X.shape, dtype=X.dtype, chunks=(16, FEATURES)
    )
    array[:] = X
    return array


class Slices:
    """What an array on disk has at least. It counts the rows that are read."""

    def __init__(self, x=X):
        self.x, self.shape, self.dtype, self.read = x, x.shape, x.dtype, 0

    def __getitem__(self, rows):
        assert isinstance(rows, slice), "slices alone"
        found = self.x[rows]
        self.read += len(found)
        return found


ON_DISK = {"memmap": memmap, "slices": lambda folder: Slices(), "hdf5": hdf5, "zarr": zarr}


def batches_of(x=X, y=Y, size=BATCH):
    for start in range(0, len(x), size):
        yield x[start : start + size], y[start : start + size]


def test_the_order_is_that_of_memory(backend, tmp_path):
    """Two networks alone, as JAX compiles for each."""
    memory, host, disk = network(), network(), memmap(tmp_path)
    for shuffle, streamed in (
        (True, (disk, Y)),
        ("blocks", (disk, Y)),
        (True, (X, Y.tolist())),
        (False, (batches_of,)),
    ):
        nnx.seed(7)
        expected = trained(X, Y, memory, shuffle=shuffle)
        nnx.seed(7)
        options = {"shuffle": shuffle, "on_device": False} if len(streamed) > 1 else {}
        assert (trained(*streamed, net=host, **options) == expected).all()
    expected, scored = nnx.to_numpy(memory.predict(X)), memory.score(X, Y)
    for data, options in ((disk, {"on_device": False}), (batches_of, {})):
        found = nnx.to_numpy(host.predict(data, 16, **options))
        np.testing.assert_allclose(found, expected, rtol=1e-5)  # products of other sizes
    out = np.lib.format.open_memmap(tmp_path / "out.npy", "w+", "float32", expected.shape)
    assert host.predict(disk, 16, on_device=False, out=out) is out
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, rtol=1e-5)
    for found in (host.score(disk, Y, on_device=False), host.score(batches_of)):
        assert found.loss == pytest.approx(scored.loss, rel=1e-6)
        assert found.accuracy == scored.accuracy


@pytest.mark.parametrize("kind", ON_DISK)
def test_arrays_on_disk(kind, tmp_path):
    with nnx.use_backend("numpy"):
        data = ON_DISK[kind](tmp_path)
        expected = trained(X, Y)
        for on_device in (True, False):
            assert (trained(data, Y, on_device=on_device) == expected).all()
        trained(data, Y, shuffle="blocks", on_device=False)
        loss = network().score(X, Y).loss
        assert network().score(data, Y, on_device=False).loss == pytest.approx(loss, rel=1e-6)


def test_small_integers_are_floats_in_a_step_alone(backend):
    class Look(Callback):
        def begin(self, run):
            self.x = run.data.parts[0][0]
            run.stop()

    look, net = Look(), network()
    trained(X, Y, net, callbacks=[look])
    assert look.x.dtype == backend.xp.uint8
    found, floats = (net.evaluate(x) for x in (X, X.astype("float32")))
    assert found.dtype == backend.dtype
    assert (nnx.to_numpy(found) == nnx.to_numpy(floats)).all()
    found, floats = (trained(x, Y) for x in (X, X.astype("float32"))) if backend.mutable else (0, 0)
    assert np.all(found == floats)


@pytest.mark.parametrize("form", ["generator", "list", "mapping", "weights"])
def test_batches(form):
    forms = {
        "generator": batches_of,
        "list": list(batches_of()),
        "mapping": lambda: ({"image": x, "label": y} for x, y in batches_of()),
        "weights": lambda: ((x, y, np.ones(len(y))) for x, y in batches_of()),
    }
    with nnx.use_backend("numpy"):
        expected = trained(X, Y, shuffle=False)
        found = trained(forms[form])
    if form == "weights":  # other formulas, with a factor 1
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    else:
        assert (found == expected).all()


class Rows:
    """A Dataset of Hugging Face as far as training sees it: it has a shape, and rows are dicts."""

    __module__ = "datasets.arrow_dataset"
    shape = (SAMPLES, 2)

    def __init__(self, batch_size=None):
        self.batch_size = batch_size

    def __iter__(self):
        size = self.batch_size
        rows = batches_of(size=size) if size else zip(X, Y, strict=True)
        return ({"image": x, "label": y} for x, y in rows)

    def iter(self, batch_size):
        return iter(Rows(batch_size))

    def batch(self, batch_size):
        return Rows(batch_size)


class Tensor:
    """One of TensorFlow: NumPy does not know its dtype, but can read it."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, object()

    def __getitem__(self, index):
        return Tensor(self.array[index])

    def __len__(self):
        return len(self.array)

    def __array__(self, dtype=None, copy=None):
        return self.array if dtype is None else self.array.astype(dtype)


class Tensors:
    """A tf.data.Dataset of batches, which knows how many there are."""

    def __iter__(self):
        return ((Tensor(x), Tensor(y)) for x, y in batches_of())

    def __len__(self):
        return -(-SAMPLES // BATCH)

    def as_numpy_iterator(self):
        return batches_of()


DATASETS = {
    "rows in batches": Rows().batch(BATCH),
    "a function of rows": lambda: Rows().iter(batch_size=BATCH),
    "tensors": Tensors(),
    "a function of tensors": Tensors().as_numpy_iterator,
}


@pytest.mark.parametrize("kind", DATASETS)
def test_datasets_of_other_libraries(kind):
    with nnx.use_backend("numpy"):
        expected = trained(X, Y, shuffle=False)
        assert (trained(DATASETS[kind]) == expected).all()


def test_arrays_whose_dtype_numpy_does_not_know_are_in_memory():
    with nnx.use_backend("numpy"):
        expected = trained(X, Y)
        assert (trained(Tensor(X), Tensor(Y)) == expected).all()
        assert (network().predict(Tensor(X)) == network().predict(X)).all()


def test_a_loader_of_pytorch():
    torch = pytest.importorskip("torch")
    data = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    with nnx.use_backend("numpy"):
        expected = trained(X, Y, shuffle=False)
        assert (trained(torch.utils.data.DataLoader(data, BATCH)) == expected).all()


def test_batches_of_several_sizes_and_shapes():
    """Each batch is a step, whatever the next one is like."""
    cuts = [0, 8, 16, 19, 27, 60, 61, 100]
    with nnx.use_backend("numpy"):
        expected = network()
        for _ in range(2):
            for start, stop in pairwise(cuts):
                few = X[start:stop], Y[start:stop]
                expected.train(*few, stop - start, shuffle=False, progress=False)

        def some():
            for start, stop in pairwise(cuts):
                yield X[start:stop], Y[start:stop]

        rows = np.concatenate([p.reshape(-1) for p in expected.parameters.values()])
        assert (trained(some) == rows).all()

        recurrent = nnx.SequentialNet(
            (None, 2),
            [nnx.LSTMLayer(2, 3), nnx.DenseLayer(3, 1, nnx.Linear())],
        )
        several = [(np.ones((4, time, 2)), np.ones((4, 1))) for time in (3, 5, 3)]
        assert recurrent.train(several, epochs=2, progress=False).loss


def test_a_block_is_read_once():
    """Random rows by slices that cover them; blocks and windows each as one slice."""
    with nnx.use_backend("numpy"):
        data = Slices()
        trained(data, Y, shuffle="blocks", on_device=False)
        assert data.read == 2 * SAMPLES
        data = Slices()
        trained(data, Y, shuffle=False, on_device=False)
        assert data.read == 2 * SAMPLES


def test_blocks_are_shuffled_within_windows(monkeypatch):
    monkeypatch.setattr(sources, "WINDOW", 2)
    order, ends = sources._order_of_blocks(np.random.default_rng(0), 50, 8)
    assert sorted(order.tolist()) == list(range(50))
    assert len(ends) == 4
    starts = [0, *ends[:-1]]
    for start, end in zip(starts, ends):
        window = order[start:end]
        assert len(set(window // 8)) == 2 or end - start <= 8
        assert not (np.diff(window) == 1).all()


@pytest.mark.parametrize("share", [0.0, 1e9])
def test_the_free_memory_decides(share, monkeypatch, caplog, tmp_path):
    monkeypatch.setattr(streaming, "SMALL", 0)
    monkeypatch.setattr(streaming, "SHARE", share)
    seen = []
    with nnx.use_backend("numpy"), caplog.at_level(logging.INFO, "nnx"):
        callback = lambda net, history: seen.append(True)
        trained(memmap(tmp_path), Y, callbacks=[callback])
    words = "stays on the host" if share == 0 else "is on the device"
    assert words in caplog.text
    assert len(seen) == 2


def test_validation(tmp_path):
    with nnx.use_backend("numpy"):
        own, disk = (X[:40], Y[:40]), memmap(tmp_path)
        expected = network().train(X, Y, BATCH, 1, validation=own, progress=False)
        batched = lambda: batches_of(*own)
        for validation in ((disk[:40], Y[:40]), batched):
            history = network().train(
                disk, Y, BATCH, 1, validation=validation, on_device=False, progress=False
            )
            assert history.validation_loss == pytest.approx(expected.validation_loss, rel=1e-6)
            assert history.validation_accuracy == expected.validation_accuracy
        expected = network().train(X, Y, BATCH, 1, validation=0.2, progress=False)
        history = network().train(
            disk, Y, BATCH, 1, validation=0.2, on_device=False, progress=False
        )
        assert history.validation_accuracy == expected.validation_accuracy


def test_weights_of_classes_and_labels_that_do_not_count(tmp_path):
    with nnx.use_backend("numpy"):
        wishes = {"class_weights": "balanced", "ignore_label": 2, "sample_weights": np.ones(100)}
        expected = trained(X, Y, **wishes)
        assert (trained(memmap(tmp_path), Y, on_device=False, **wishes) == expected).all()


def test_targets_on_disk(monkeypatch, tmp_path):
    """Those of an autoencoder are as large as the inputs, and read in blocks too."""
    rows = (X / 255).astype("float32")
    with nnx.use_backend("numpy"):

        def made():
            nnx.seed(3)
            return nnx.SequentialNet(FEATURES, [nnx.DenseLayer(FEATURES, FEATURES, nnx.TanH())])

        expected = trained(X, rows, made())
        data = memmap(tmp_path)
        for at_once in (streaming.READ_AT_ONCE, 0):
            monkeypatch.setattr(streaming, "READ_AT_ONCE", at_once)
            targets = Slices(rows)
            assert (trained(data, targets, made(), on_device=False) == expected).all()
            assert targets.read == SAMPLES if at_once else targets.read > SAMPLES


class Stop(Callback):
    """End the training after some batches, one way or another."""

    interval = 1

    def __init__(self, how, batch=7):
        self.how, self.batch = how, batch

    def after_batches(self, run):
        if run.batches == self.batch and run.epoch == 1:
            self.how(run)


def interrupted(run):
    raise KeyboardInterrupt


def failed(run):
    raise ArithmeticError("planted")


@pytest.mark.parametrize("how", [lambda run: run.stop(), interrupted, failed])
@pytest.mark.parametrize("form", ["memmap", "batches"])
def test_an_early_end_ends_the_thread(form, how, tmp_path):
    """The fixture sees that there is none."""
    with nnx.use_backend("numpy"):
        net = network()
        data = (memmap(tmp_path), Y) if form == "memmap" else (batches_of,)
        ends = pytest.raises(ArithmeticError) if how is failed else contextlib.nullcontext()
        options = {"on_device": False} if form == "memmap" else {}
        with ends:
            trained(*data, net=net, callbacks=[Stop(how)], **options)
        assert [t for t in threading.enumerate() if t.name == "nnx source"] == []
        trained(*data, net=net, **options)


@pytest.mark.parametrize("batch", [6, 13])
@pytest.mark.parametrize("form", ["memmap", "batches"])
def test_a_resume_in_the_middle_of_an_epoch(form, batch, tmp_path):
    with nnx.use_backend("numpy"):
        data = (memmap(tmp_path), Y) if form == "memmap" else (batches_of,)
        options = {"on_device": False} if form == "memmap" else {}
        path, net = tmp_path / "run.safetensors", network()
        expected = trained(*data, net=net, **options)
        stop = Stop(lambda run: run.interrupt(), batch)
        trained(*data, callbacks=[stop, Checkpoint(path, every=9)], **options)
        assert (trained(*data, resume=path, **options) == expected).all()


WHOLE = {name: X[:BATCH].astype(name) for name in ("float32", "float64", "uint8", "int64", "bool")}
UNFIT = {
    "features": np.zeros((2, FEATURES + 1)),
    "one sample": np.zeros(FEATURES),
    "no samples": np.zeros((0, FEATURES)),
    "complex": np.zeros((2, FEATURES), complex),
    "text": np.full((2, FEATURES), "a"),
    "objects": np.full((2, FEATURES), None),
    "too large": np.full((2, FEATURES), 1e300),
    "masked": np.ma.masked_equal(np.zeros((2, FEATURES)), 0),
}


@pytest.mark.parametrize(
    ("kind", "own"), [*((kind, False) for kind in WHOLE), ("float32", True), ("uint8", True)]
)
def test_an_array_of_one_batch_is_predicted_as_a_source_is(backend, kind, own):
    net, x, out = network(), WHOLE[kind], np.empty((BATCH, 3), "float32")
    given = backend.from_numpy(x) if own else x
    net.predict(given, out=out)  # by way of a source
    for options in ({}, {"batch_size": BATCH}, {"on_device": True}):
        assert (nnx.to_numpy(net.predict(given, **options)) == out).all()
    assert (nnx.to_numpy(net.predict(x, on_device=False)) == out).all()


@pytest.mark.parametrize("case", UNFIT)
def test_an_array_of_one_batch_is_refused_as_a_source_is(case):
    with nnx.use_backend("numpy"):
        net, told = network(), []
        for out in (None, np.empty((2, 3), "float32")):
            with pytest.raises((TypeError, ValueError)) as caught:
                net.predict(UNFIT[case], out=out)
            told.append((caught.type, str(caught.value)))
    assert told[0] == told[1]
