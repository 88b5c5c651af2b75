"""Sources with something wrong: one clear error, no thread left, and the network can be used."""

import itertools
import threading

import numpy as np
import pytest

import nnx
from nnx.data import sources

SAMPLES, FEATURES, BATCH = 64, 4, 8
X = np.random.default_rng(0).standard_normal((SAMPLES, FEATURES)).astype("float32")
Y = np.random.default_rng(1).integers(0, 3, SAMPLES)
BATCHES = [(X[i : i + BATCH], Y[i : i + BATCH]) for i in range(0, SAMPLES, BATCH)]


@pytest.fixture(autouse=True)
def on_numpy(monkeypatch):
    monkeypatch.setattr(sources, "BLOCK", X[:BATCH].nbytes)
    with nnx.use_backend("numpy"):
        yield


def network(first=FEATURES):
    nnx.seed(3)
    layers = [nnx.DenseLayer(FEATURES, 3, nnx.SoftMax())]
    return nnx.SequentialNet(FEATURES, layers, nnx.CrossEntropy())


def memmap(folder, x):
    x.tofile(folder / "x.bin")
    return np.memmap(folder / "x.bin", x.dtype, "r", shape=x.shape)


class Disk:
    """An array on disk, of which some rows are changed, or cannot be read."""

    def __init__(self, x=X, fails=None):
        self.x, self.shape, self.dtype, self.fails = x, x.shape, x.dtype, fails

    def __getitem__(self, rows):
        if self.fails is not None and rows.start <= self.fails < rows.stop:
            raise OSError("the disk is gone")
        return self.x[rows]


class Loader:
    """Batches of a known number, which may not be true."""

    def __init__(self, batches, length):
        self.batches, self.length = batches, length

    def __len__(self):
        return self.length

    def __iter__(self):
        return iter(self.batches)


def with_batch(number, batch):
    """Good batches, and one that is another."""
    return lambda: iter([*BATCHES[:number], batch, *BATCHES[number + 1 :]])


def raises():
    yield from BATCHES[:5]
    raise ArithmeticError("planted in the source")


def changed(x, index, value):
    x = x.copy()
    x[index] = value
    return x


x, y = BATCHES[5]
# what is trained on -> the error, and words that are in it
BAD_BATCHES = {
    "no batch": (lambda: iter(()), ValueError, ["from x, got none", "has samples"]),
    "the second epoch has none": (
        lambda seen=[0]: iter(BATCHES if not seen.append(0) and len(seen) == 2 else ()),
        ValueError,
        ["got none in a later epoch", "once for each epoch"],
    ),
    "a generator": (iter(BATCHES), ValueError, ["2 times", "list_iterator", "pass the function"]),
    "it ends early": (
        Loader(BATCHES[:5], 8),
        ValueError,
        ["expected 8 batches", "got 5"],
    ),
    "it raises": (raises, ArithmeticError, ["^planted in the source$"]),
    "another shape": (
        with_batch(5, (np.ones((8, 7)), y)),
        nnx.ShapeError,
        ["batch 5 of x", r"\(samples, 4\), got \(8, 7\)"],
    ),
    "another number of axes": (
        with_batch(5, (x, np.eye(3)[y])),
        nnx.ShapeError,
        ["batch 5 of x", "as in the first batch"],
    ),
    "three of one and two of other": (
        with_batch(5, (x[:3], y[:2])),
        nnx.ShapeError,
        ["batch 5 of x", "as many samples in y as in x, got 2 and 3"],
    ),
    "weights all at once": (
        with_batch(5, (x, y, np.ones(8))),
        ValueError,
        ["batch 5 of x", "expected no weights, as in the first"],
    ),
    "four items": (with_batch(5, (x, y, y, y)), TypeError, ["batch 5 of x", "got 4 items"]),
    "an array": (with_batch(5, x), TypeError, ["batch 5 of x", "ndarray", "yield x, y"]),
    "no samples": (with_batch(5, (x[:0], y[:0])), nnx.ShapeError, ["batch 5 of x", r"\(0, 4\)"]),
    "text": (with_batch(5, (x.astype(str), y)), TypeError, ["batch 5 of x", "dtype <U"]),
    "NaN": (
        with_batch(5, (changed(x, (2, 1), np.nan), y)),
        ValueError,
        ["batch 5 of x", r"the first is x\[42\]\[1\] = nan"],
    ),
    "a label out of range": (
        with_batch(5, (x, changed(y, 3, 9))),
        ValueError,
        ["batch 5 of x", "from 0 to 2", r"y\[43\] = 9"],
    ),
    "a negative weight": (
        lambda: ((x, y, changed(np.ones(8), 3, -1.0)) for x, y in BATCHES),
        ValueError,
        ["batch 0 of x", r"weights\[3\] = -1"],
    ),
    "a function that gives a number": (lambda: 3, TypeError, ["returns an int", "yield x, y"]),
    "a function that gives an array": (lambda: X, TypeError, ["batch 0 of x", "ndarray"]),
}


class Samples:
    """Single samples, of a dataset that can give batches of them by one of these methods."""

    def __init__(self, *methods):
        for name in methods:
            setattr(self, name, None)

    def __iter__(self):
        return zip(X, Y, strict=True)


def named(*keys):
    """Batches that are dicts with these names."""
    return lambda: (dict(zip(keys, (x, y, y, y), strict=False)) for x, y in BATCHES)


BAD_BATCHES |= {
    "samples that can be batched": (
        Samples("batch"),
        nnx.ShapeError,
        [r"batch 0 of x: .*\(samples, 4\), got one sample", r"write x\.batch\(32\)$"],
    ),
    "samples that can be iterated in batches": (
        Samples("batch", "iter"),
        nnx.ShapeError,
        ["got one sample", r"write lambda: x\.iter\(batch_size=32\)$"],
    ),
    "samples": (Samples(), nnx.ShapeError, ["got one sample", "several samples at a time"]),
    "a dict with something else": (
        named("image", "label", "id"),
        TypeError,
        ["got 3 items, 'image', 'label', 'id'", r"yield batch\[...\]"],
    ),
    "a dict with more": (named("a", "b", "weight", "c"), TypeError, ["got 4 items, 'a', 'b'"]),
    "a dict in another order": (
        lambda: ({"label": y, "image": x} for x, y in BATCHES),
        nnx.ShapeError,
        [r"batch 0 of x \(x is 'label', y is 'image'\): ", r"got \(8,\)"],
    ),
    "inputs that are a dict": (
        lambda: (({"pixels": x}, y) for x, y in BATCHES),
        TypeError,
        ["expected x as one array, got a dict", r"write yield x\['pixels'\], y"],
    ),
}


def shorter(folder):
    data = memmap(folder, X)
    with open(data.filename, "r+b") as file:
        file.truncate(X.nbytes // 2)
    return data


BAD_ARRAYS = {
    "length 0": (lambda folder: Disk(X[:0]), nnx.ShapeError, [r"got \(0, 4\)"]),
    "another shape": (
        lambda folder: Disk(np.ones((64, 5))),
        nnx.ShapeError,
        [r"expected x of shape \(samples, 4\), got \(64, 5\)"],
    ),
    "text": (lambda folder: Disk(X.astype(str)), TypeError, ["dtype <U"]),
    "fewer samples than targets": (
        lambda folder: Disk(X[:50]),
        nnx.ShapeError,
        ["got 64 and 50"],
    ),
    "NaN": (
        lambda folder: memmap(folder, changed(X, (42, 1), np.nan)),
        ValueError,
        [r"the first is x\[42\]\[1\] = nan"],
    ),
    "too large a number": (
        lambda folder: Disk(changed(X.astype("float64"), (42, 1), 1e300)),
        ValueError,
        ["within the range of float32", r"1e\+300"],
    ),
    "a file that becomes shorter": (shorter, OSError, ["expected 1,024 bytes", "got 512"]),
    "a disk that fails": (lambda folder: Disk(fails=42), OSError, ["the disk is gone"]),
}


def refused(train, kind, words, net):
    """The one error of a training, after which there is no thread, and the network trains."""
    with pytest.raises(kind) as caught:
        train()
    assert caught.type is kind
    for word in words:
        assert caught.match(word)
    assert [t.name for t in threading.enumerate() if t.name == "nnx source"] == []
    assert net.train(X, Y, BATCH, progress=False).loss
    assert net.train(Disk(), Y, BATCH, on_device=False, progress=False).loss
    return caught.value


@pytest.mark.parametrize("case", BAD_BATCHES)
def test_bad_batches(case):
    data, kind, words = BAD_BATCHES[case]
    net = network()
    refused(lambda: net.train(data, epochs=2, progress=False), kind, words, net)


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_bad_arrays(case, tmp_path):
    make, kind, words = BAD_ARRAYS[case]
    net, data = network(), make(tmp_path)
    train = lambda: net.train(data, Y, BATCH, 2, on_device=False, progress=False)
    error = refused(train, kind, words, net)
    if kind is OSError:
        assert "of x were read" in error.__notes__[0]


def test_tokens_out_of_range():
    tokens = np.arange(60).reshape(20, 3) % 7
    layers = [nnx.EmbeddingLayer(7, 2), nnx.FlattenLayer(), nnx.DenseLayer(6, 3, nnx.SoftMax())]
    net = nnx.SequentialNet((3,), layers, nnx.CrossEntropy())
    net.train(Disk(tokens), Y[:20], 4, on_device=False, progress=False)
    bad = Disk(changed(tokens, (13, 1), 7))
    with pytest.raises(ValueError, match=r"x\[13\]: .*tokens"):
        net.train(bad, Y[:20], 4, on_device=False, progress=False)


def test_values_in_memory_are_checked_before_anything_is_trained():
    net, bad = network(), changed(X, (60, 1), np.inf)
    before = net.layers[0].W
    with pytest.raises(ValueError, match=r"x\[60\]\[1\]"):
        net.train(bad, Y, BATCH, shuffle=False, on_device=False, progress=False)
    assert (before == net.layers[0].W).all()


class Indexed:
    """A Dataset of PyTorch: it has a length, and samples by index."""

    def __len__(self):
        return SAMPLES

    def __getitem__(self, index):
        return X[index], Y[index]


class Splits(dict):
    """A DatasetDict of Hugging Face."""

    __module__ = "datasets.dataset_dict"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (Indexed(), r"got an Indexed; .*write torch\.utils\.data\.DataLoader\(x, 32\)$"),
        (Splits(train=[], test=[]), r"got a Splits; .*write x\['train'\]$"),
    ],
)
def test_datasets_that_give_no_batches(data, words):
    with pytest.raises(TypeError, match=words):
        network().train(data, progress=False)


ARGUMENTS = {
    "targets beside batches": (
        {"y": Y},
        TypeError,
        ["expected x as an array, because y is given, got a function", "leave out y"],
    ),
    "a batch size": ({"batch_size": 8}, ValueError, ["expected no batch_size", "got 8"]),
    "weights": (
        {"sample_weights": np.ones(64)},
        ValueError,
        ["no sample_weights", "yield x, y, w"],
    ),
    "weights of classes": ({"class_weights": "balanced"}, ValueError, ["no class_weights"]),
    "a label that does not count": ({"ignore_label": 2}, ValueError, ["no ignore_label"]),
    "a fraction": ({"validation": 0.2}, ValueError, ["because x gives batches", "0.2"]),
    "blocks": ({"shuffle": "blocks"}, ValueError, ["no shuffle", "'blocks'"]),
    "on the device": ({"on_device": True}, ValueError, ["no on_device", "True"]),
    "a word for it": ({"on_device": "cpu"}, TypeError, ["on_device to be True or False", "cpu"]),
    "another shuffle": ({"shuffle": "windows"}, ValueError, ["shuffle", "'blocks'", "windows"]),
}


@pytest.mark.parametrize("case", ARGUMENTS)
def test_arguments_that_do_not_go_with_batches(case):
    options, kind, words = ARGUMENTS[case]
    net = network()
    with pytest.raises(kind) as caught:
        net.train(lambda: iter(BATCHES), progress=False, **options)
    for word in words:
        assert caught.match(word)


def test_what_cannot_stay_on_the_host():
    pytest.importorskip("torch")
    with nnx.use_backend("torch") as backend:
        net = network()
        with pytest.raises(ValueError, match=r"on the host.*got an array.*nnx\.to_numpy\(x\)"):
            net.train(backend.asarray(X), Y, on_device=False, progress=False)
    free = nnx.SequentialNet((None, 4), [nnx.LSTMLayer(4, 3)])
    with pytest.raises(ValueError, match=r"expected x as one array.*on_device=False"):
        free.predict([X[:3], X[:5]], on_device=False)


OUT = {
    "a list": ([0.0] * 64, TypeError, ["array on the host", r"numpy.empty\(\(64, 3\)"]),
    "another shape": (np.empty((64, 4)), nnx.ShapeError, [r"\(64, 3\), got \(64, 4\)"]),
    "another length": (np.empty((60, 3)), nnx.ShapeError, [r"\(64, 3\), got \(60, 3\)"]),
}


@pytest.mark.parametrize("case", OUT)
def test_where_outputs_cannot_be_written(case):
    out, kind, words = OUT[case]
    with pytest.raises(kind) as caught:
        network().predict(X, out=out)
    for word in words:
        assert caught.match(word)


@pytest.mark.parametrize(("length", "words"), [(60, "at least 64"), (70, "64 samples, got 70")])
def test_outputs_of_batches_have_an_entry_each(length, words):
    with pytest.raises(nnx.ShapeError, match=words):
        network().predict(lambda: iter(BATCHES), out=np.empty((length, 3)))


ALL_FORMS = {  # of x with a number that is not finite in sample 42, and options of predict
    "one batch": lambda folder, x: (x, {}),
    "several batches": lambda folder, x: (x, {"batch_size": 16}),
    "numbers of another type": lambda folder, x: (x.astype("float64"), {}),
    "a list": lambda folder, x: (x.tolist(), {}),
    "arrays of the backend": lambda folder, x: (nnx.get_backend().from_numpy(x), {}),
    "read in blocks": lambda folder, x: (x, {"on_device": False}),
    "on disk": lambda folder, x: (memmap(folder, x), {"on_device": False}),
    "on disk and moved": lambda folder, x: (memmap(folder, x), {"on_device": True}),
    "batches": lambda folder, x: (
        lambda: ((x[i : i + 8], Y[i : i + 8]) for i in range(0, 64, 8)),
        {},
    ),
}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("form", ALL_FORMS)
def test_numbers_that_are_not_finite_are_refused_by_every_method(form, bad, backend, tmp_path):
    net, (x, options) = network(), ALL_FORMS[form](tmp_path, changed(X, (42, 1), bad))
    y = () if callable(x) else (Y,)
    on_device = {name: option for name, option in options.items() if name == "on_device"}
    for method in (
        lambda: net.predict(x, **options),
        lambda: net.predict(x, out=np.empty((64, 3), "float32"), **options),
        lambda: net.score(x, *y, **on_device),
        lambda: net.train(x, *y, progress=False, **on_device),
    ):
        with pytest.raises(
            ValueError, match=r"expected finite numbers.*x\[42(, |\]\[)1\] = -?(nan|inf)"
        ):
            method()


class Repeated:
    """A tf.data.Dataset that was repeated: its cardinality is -1, tf.data.INFINITE_CARDINALITY."""

    def cardinality(self):
        return np.int64(-1)

    def take(self, batches):
        return [(np.ones((2, FEATURES)), np.zeros(2, int))] * batches

    def __iter__(self):
        return itertools.cycle(self.take(1))


@pytest.mark.parametrize(
    ("endless", "remedy"),
    [
        (Repeated(), "x.take(100)"),
        (lambda: itertools.cycle([1]), "lambda: itertools.islice(x, 100)"),
        (itertools.cycle([1]), "lambda: itertools.islice(x, 100)"),
    ],
)
def test_batches_without_an_end(endless, remedy):
    for method in ("train", "score", "predict"):
        with pytest.raises(ValueError, match=r"expected x to end, .*; .*write ") as caught:
            getattr(network(), method)(endless)
        assert str(caught.value).endswith(remedy)
    ended = network().train(Repeated().take(3), epochs=2, progress=False)
    assert len(ended.loss) == 2
    with pytest.raises(TypeError, match=r"write x=lambda: itertools.islice\(x, 100\)"):
        network().train(endless, steps_per_epoch=100)


def test_large_finite_numbers_are_predicted():
    """Their sum is not finite."""
    net, x = network(), np.full((64, 4), 3e38, "float32")
    net.layers[0].W = 1e-3 * net.layers[0].W
    for options in ({}, {"batch_size": 16}, {"on_device": False}):
        assert np.isfinite(net.predict(x, **options)).all()
