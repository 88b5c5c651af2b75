"""Several processes train one network: what they compute is what one does."""

import numpy as np
import pytest
from processes import together

import nnx
from nnx import randomness
from nnx.communication import (
    CommunicationError,
    Rows,
    Share,
    SingleProcess,
    own_samples,
    sharing,
)
from nnx.data import batches, iterables, sources
from nnx.training import together as training_together

X = np.random.default_rng(0).standard_normal((103, 6))
Y = np.random.default_rng(1).integers(0, 3, 103)
WEIGHTS = np.random.default_rng(2).random(103)
IMAGES = np.random.default_rng(3).standard_normal((41, 1, 6, 6))
TIMES = [np.random.default_rng(i).standard_normal((3 + i % 3, 4)) for i in range(22)]
LABELS = Y[:22]


@pytest.fixture(autouse=True)
def _float64():
    with nnx.use_backend("numpy", "float64"):
        yield


def dense(*layers, optim=None, **options):
    first = nnx.DenseLayer(6, 8, nnx.TanH(), **options)
    last = nnx.DenseLayer(8, 3, nnx.SoftMax())
    optim = optim or nnx.SGD(0.1, momentum=0.9)
    return nnx.SequentialNet(6, [first, *layers, last], nnx.CrossEntropy(), optim=optim)


def images():
    layers = [
        nnx.Conv2DLayer(1, 3, 3, nnx.ReLU()),
        nnx.BatchNormLayer(3),
        nnx.DropoutLayer(0.25),
        nnx.FlattenLayer(),
        nnx.DenseLayer(48, 5),
        nnx.BatchNormLayer(5),
        nnx.DenseLayer(5, 3, nnx.SoftMax()),
    ]
    optim = nnx.SGD(0.1, momentum=0.9)
    return nnx.SequentialNet((1, 6, 6), layers, nnx.CrossEntropy(), optim=optim)


def recurrent():
    layers = [nnx.GRULayer(4, 5), nnx.DenseLayer(5, 3, nnx.SoftMax())]
    return nnx.SequentialNet((None, 4), layers, nnx.CrossEntropy())


def feed():
    """Batches of two sizes, the last of them of one sample."""
    for start in [*range(0, 96, 16), 96, 102]:
        stop = min(start + 16, 102) if start < 102 else 103
        yield X[start:stop], Y[start:stop]


# What is trained -> the network, the data, and what `train` is given.
CASES = {
    "dense": (dense, (X, Y), {}),
    "adam, penalty and clipping see the sum": (
        lambda: dense(
            optim=nnx.Adam(0.01, clip=nnx.ClipNorm(0.1)),
            kernel_regularizer=nnx.L2Regularizer(0.05),
        ),
        (X, Y),
        {},
    ),
    "sample weights": (dense, (X, Y), {"sample_weights": WEIGHTS}),
    "class weights": (dense, (X, Y), {"class_weights": "balanced"}),
    "a last batch of one sample": (dense, (X[:33], Y[:33]), {}),
    "batches of one sample": (dense, (X[:5], Y[:5]), {"batch_size": 1}),
    "dropout and noise": (
        lambda: dense(nnx.DropoutLayer(0.4), nnx.GaussianNoiseLayer(0.2)),
        (X, Y),
        {},
    ),
    "batch norm and dropout on images": (images, (IMAGES, Y[:41]), {}),
    "sequences of several lengths": (recurrent, (TIMES, LABELS), {"batch_size": 4}),
    "validation": (dense, (X, Y), {"validation": 0.2, "validation_batch_size": 4}),
    "metrics of all outputs": (dense, (X, Y), {"metrics": ["f1"]}),
    "read in blocks": (dense, (X, Y), {"on_device": False, "validation": (X[:30], Y[:30])}),
    "blocks in a random order": (dense, (X, Y), {"on_device": False, "shuffle": "blocks"}),
    "batches of the user": (dense, (lambda: feed(),), {"batch_size": None}),
    "rows": (dense, (X, np.eye(3)[Y]), {"shuffle": False}),
    "a generator of one's own": (dense, (X, Y), {"rng": 5}),
    "mixed and dropout": (
        lambda: dense(nnx.DropoutLayer(0.4)),
        (X[:97], Y[:97]),
        {"mixing": nnx.MixUp(0.4), "sample_weights": WEIGHTS[:97], "metrics": ["f1"]},
    ),
    "mixed, read in blocks": (dense, (X, Y), {"mixing": nnx.MixUp(0.4), "on_device": False}),
    "mixed batches of the user": (
        dense,
        (lambda: feed(),),
        {"batch_size": None, "mixing": nnx.MixUp(0.4)},
    ),
}


UNEVEN = ("dense", "a last batch of one sample", "dropout and noise", "validation")
UNEVEN += ("read in blocks", "batches of the user", "mixed and dropout")


def trained(communicator, case):
    """Return parameters, buffers, optimizer states, History and random streams after a training."""
    make, data, options = CASES[case]
    options = {"batch_size": 16, "epochs": 2, "progress": False, **options}
    if "rng" in options:
        options["rng"] = np.random.default_rng(options["rng"] + communicator.rank)
    nnx.seed(7 + communicator.rank)  # rank 0 decides
    net = make()
    history = net.train(*data, communicator=communicator, **options)
    state = randomness.state()
    for stream in state["running"].values():  # half a word that is used up does not matter
        stream["uinteger"] *= stream["has_uint32"]
    arrays = [nnx.to_numpy(a) for a in [*net.parameters.values(), *net.buffers.values()]]
    for layer in net.layers:
        for kept in layer.states.values():
            arrays += map(nnx.to_numpy, kept.arrays)
    return arrays, {name: history[name] for name in history if name != "seconds"}, state


@pytest.mark.parametrize("case", CASES)
def test_several_processes_compute_what_one_does(case, monkeypatch):
    monkeypatch.setattr(sources, "BLOCK", 1000)  # bytes: two batches, or one of the user's
    monkeypatch.setattr(iterables, "BLOCK", 1000)
    size = 3 if case in UNEVEN else 2
    arrays, history, streams = trained(SingleProcess(), case)
    for theirs, seen, stands in together(size, trained, case):
        for one, other in zip(arrays, theirs, strict=True):
            np.testing.assert_allclose(other, one, rtol=1e-10, atol=1e-12)
        assert seen.keys() == history.keys()
        for name, values in history.items():
            np.testing.assert_allclose(seen[name], values, rtol=1e-10)
        assert stands == streams


class OnDisk:
    """An array that is read by slices and lists of rows; it counts them."""

    shape, dtype = (96, 6), X.dtype

    def __init__(self):
        self.rows = 0

    def __getitem__(self, index):
        self.rows += len(X[:96][index])
        return X[:96][index]

    def __len__(self):
        return 96


def read(communicator):
    x = OnDisk()
    net = dense()
    options = {"shuffle": False, "on_device": False, "progress": False}
    net.train(x, Y[:96], 16, communicator=communicator, **options)
    return x.rows


def test_each_process_reads_its_rows_alone(monkeypatch):
    monkeypatch.setattr(training_together, "SAMPLED", 4)  # rows of the checksum
    assert read(SingleProcess()) == 96
    for rows in together(2, read):
        assert 48 + 4 <= rows <= 48 + 4 + 2  # two rows tell whether it takes a list of indices


def test_all_processes_have_the_same_bits():
    first, *others = together(3, trained, "dropout and noise")
    for other in others:
        assert other[1] == first[1]
        for one, two in zip(first[0], other[0], strict=True):
            assert one.tobytes() == two.tobytes()


def of_each(communicator):
    layer = nnx.BatchNormLayer(2, sync=False, affine=False)
    net = nnx.SequentialNet(2, [layer, nnx.DenseLayer(2, 1)], nnx.MeanSquaredError())
    x = np.arange(16.0).reshape(8, 2)
    net.train(x, x[:, :1], 8, shuffle=False, progress=False, communicator=communicator)
    return nnx.to_numpy(layer.buffers["mean"]), nnx.to_numpy(layer.buffers["variance"])


def test_statistics_of_each_process_are_averaged():
    x = np.arange(16.0).reshape(8, 2)
    halves = x[:4], x[4:]
    for mean, variance in together(2, of_each):
        # running = 0.9 start + 0.1 of the batch, whose variance has the divisor n - 1
        np.testing.assert_allclose(mean, 0.1 * np.mean([h.mean(axis=0) for h in halves], axis=0))
        expected = 0.9 + 0.1 * np.mean([h.var(axis=0, ddof=1) for h in halves], axis=0)
        np.testing.assert_allclose(variance, expected)


def too_few(communicator, sync):
    layers = [nnx.BatchNormLayer(6, sync=sync), nnx.DenseLayer(6, 1)]
    net = nnx.SequentialNet(6, layers, nnx.MeanSquaredError())
    try:
        net.train(X[:8], X[:8, :1], 2, progress=False, communicator=communicator)
    except nnx.layers.base.ShapeError as error:
        return str(error)
    return "trained"


def test_a_batch_that_leaves_a_process_one_sample_is_refused_before_the_first_step():
    assert together(2, too_few, True) == ["trained"] * 2
    for message in together(2, too_few, False):
        assert "got a batch of 1 with samples of shape (6,)" in message


# The random numbers of a batch, and the rows of each process.

DRAWS = {
    "uniform, float32": lambda rng, n: rng.random((n, 3), dtype="float32"),
    "uniform, one a sample": lambda rng, n: rng.random(n, dtype="float32"),
    "uniform, float64": lambda rng, n: rng.random((n, 3)),
    "normal, float32": lambda rng, n: rng.standard_normal((n, 5), dtype="float32"),
    "normal": lambda rng, n: rng.normal(1.0, 2.0, (n, 2)),
    "uniform in a range": lambda rng, n: rng.uniform(-1.0, 1.0, size=(n, 2)),
    "integers": lambda rng, n: rng.integers(0, 9, (n, 2)),
    "beta": lambda rng, n: rng.beta(0.4, 0.4, n),
    "several rows a sample": lambda rng, n: rng.random((n * 3, 2), dtype="float32"),
    "the same for all": lambda rng, n: np.full((n, 1), rng.random()),
}


@pytest.mark.parametrize("samples", [1, 2, 7, 8])
@pytest.mark.parametrize("names", [[name] for name in DRAWS] + [list(DRAWS), list(DRAWS)[::-1]])
def test_processes_draw_rows_of_the_same_numbers(names, samples):
    whole = np.random.Generator(np.random.PCG64(3))
    expected = [DRAWS[name](whole, samples) for name in names]
    after = whole.random(3).tolist()
    for size in (1, 2, 3):
        found = []
        for rank in range(size):
            rng = np.random.Generator(np.random.PCG64(3))
            share = Share(SingleProcess(), nnx.get_backend(), *own_samples(samples, rank, size))
            share.samples = samples
            rows = share.stop - share.start
            drawn = [DRAWS[name](Rows(rng, share), share.present) for name in names]
            found.append([d[: len(d) // share.present * rows] for d in drawn])
            assert rng.random(3).tolist() == after
        for i, array in enumerate(expected):
            np.testing.assert_array_equal(np.concatenate([d[i] for d in found]), array)


def test_a_draw_that_is_not_of_the_samples_is_refused():
    share = Share(SingleProcess(), nnx.get_backend(), 0, 4, 8)
    with sharing(share), pytest.raises(ValueError, match="first axis is that of the 4 samples"):
        randomness.noise(lambda rng: rng.random((3, 2)), X[:4])


@pytest.mark.parametrize("size", [1, 2, 3, 7, 16])
@pytest.mark.parametrize("samples", [0, 1, 5, 16, 100])
def test_the_rows_of_all_processes_are_the_batch(samples, size):
    found = [own_samples(samples, rank, size) for rank in range(size)]
    rows = [i for start, stop in found for i in range(start, stop)]
    assert rows == list(range(samples))
    counts = [stop - start for start, stop in found]
    assert max(counts) - min(counts) <= 1


# Processes that do not fit together.


def other_data(communicator):
    return dense().train(X + 1e-9 * communicator.rank, Y, 16, communicator=communicator)


def other_epochs(communicator):
    return dense().train(X, Y, 16, epochs=1 + communicator.rank, communicator=communicator)


def other_batches(communicator):
    return dense().train(X, Y, 16 + communicator.rank, communicator=communicator)


def other_network(communicator):
    net = dense(*[nnx.DropoutLayer(0.1)] * communicator.rank)
    return net.train(X, Y, 16, communicator=communicator)


def other_rate(communicator):
    net = dense(optim=nnx.SGD(0.1 + communicator.rank))
    return net.train(X, Y, 16, communicator=communicator)


def other_version(communicator):
    if communicator.rank:
        import importlib.metadata

        importlib.metadata.version = lambda name: "0.0.1"
    return dense().train(X, Y, 16, communicator=communicator)


def other_callbacks(communicator):
    called = [lambda net, history: None] * communicator.rank
    return dense().train(X, Y, 16, callbacks=called, communicator=communicator)


def no_start(communicator):
    return dense().train(X, Y[: 103 - communicator.rank], 16, communicator=communicator)


DIFFERENT = {
    other_data: "checksum of the data",
    other_epochs: "epochs",
    other_batches: "batch_size",
    other_network: "layers",
    other_rate: "network",
    other_version: "version of nnx",
    other_callbacks: "callbacks",
    no_start: "rank 1 could not start: ShapeError: expected as many samples in y as in x",
}


def error_of(communicator, function):
    with nnx.use_backend("numpy", "float64"):
        try:
            function(communicator)
        except (CommunicationError, nnx.layers.base.ShapeError) as error:
            return type(error).__name__, str(error)
    return "no error", ""


@pytest.mark.parametrize("function", DIFFERENT)
def test_processes_that_differ_all_say_what_differs(function):
    found = together(2, error_of, function)
    assert found[0][0] == "CommunicationError"
    assert DIFFERENT[function] in found[0][1]
    assert found[1][0] == ("ShapeError" if function is no_start else "CommunicationError")


class Drift(nnx.Callback):
    """Changes a parameter on one process."""

    def after_epoch(self, run):
        if run.communicator.rank and run.epoch == 2:
            run.net.layers[1].b = run.net.layers[1].b + 1e-12


def drifting(communicator):
    net = dense(nnx.DenseLayer(8, 8, name="the middle one"))
    return net.train(X, Y, 16, 3, callbacks=[Drift()], progress=False, communicator=communicator)


def test_networks_that_have_become_different_are_an_error_that_names_the_layer():
    for kind, message in together(2, error_of, drifting):
        assert kind == "CommunicationError"
        assert "another parameter 1.b of the middle one on rank 1 than on rank 0" in message


# How a training ends.


def stops(net, history):
    return len(history.loss) == 2


class StopsOnOne(nnx.Callback):
    """Ends the training on the last process alone."""

    interval = 2

    def __init__(self, method):
        self.method = method

    def after_batches(self, run):
        if run.communicator.rank == run.communicator.size - 1 and run.epoch == 1:
            getattr(run, self.method)()


def stopped(communicator, callback):
    history = dense().train(
        X, Y, 16, 5, callbacks=[callback], progress=False, communicator=communicator
    )
    return len(history.loss), history.interrupted


@pytest.mark.parametrize(
    ("callback", "epochs", "interrupted"),
    [(stops, 2, False), (StopsOnOne("stop"), 1, False), (StopsOnOne("interrupt"), 1, True)],
)
def test_all_processes_end_together(callback, epochs, interrupted):
    assert together(3, stopped, callback) == [(epochs, interrupted)] * 3


class Fails(nnx.Callback):
    def __init__(self, error):
        self.error = error

    def after_epoch(self, run):
        if run.communicator.rank == 1:
            raise self.error


def failing(communicator, error):
    dense().train(X, Y, 16, 3, callbacks=[Fails(error)], progress=False, communicator=communicator)


@pytest.mark.parametrize("error", [ValueError("lost"), KeyboardInterrupt(), SystemExit(0)])
def test_an_exception_of_one_process_ends_all(error, capfd):
    assert together(2, failing, error)[1] == "ended with 7"
    printed = capfd.readouterr()
    assert f"{type(error).__name__}: {error}" in printed.out
    assert "Traceback" in printed.err


def exploding(communicator):
    net = nnx.SequentialNet(6, [nnx.DenseLayer(6, 1, nnx.Linear(), nnx.SGD(1e300))])
    try:
        net.train(X, X[:, :1] * 1e10, 16, 3, progress=False, communicator=communicator)
    except nnx.NonFiniteLossError as error:
        return error.epoch


def test_a_loss_that_becomes_infinite_is_an_error_on_all():
    with np.errstate(all="ignore"):
        assert together(2, exploding) == [1, 1]


class Counts(nnx.Callback):
    def __init__(self, everywhere):
        self.everywhere, self.calls = everywhere, 0

    def after_epoch(self, run):
        self.calls += 1


def counted(communicator):
    called = [Counts(True), Counts(False)]
    dense().train(X, Y, 16, 2, callbacks=called, communicator=communicator, progress=False)
    return [callback.calls for callback in called]


def test_callbacks_that_write_are_called_on_rank_0_alone():
    assert together(2, counted) == [[2, 2], [2, 0]]


def shown(communicator):
    dense().train(X, Y, 16, 1, communicator=communicator)


def test_rank_0_shows_the_progress(capfd):
    together(3, shown)
    assert capfd.readouterr().out.count("loss") == 1


# Checkpoints.

LONG = {"batch_size": 16, "progress": False, "validation": 0.1}


def first_part(communicator, case, path, interrupted):
    make, data, options = CASES[case]
    nnx.seed(5)
    called = [nnx.Checkpoint(path, every_batches=3)]
    if interrupted:
        called.append(StopsOnOne("interrupt"))
    options = {**LONG, **options}
    make().train(*data, epochs=2, callbacks=called, communicator=communicator, **options)


def second_part(communicator, case, path):
    make, data, options = CASES[case]
    nnx.seed(5)
    net = make()
    called = [nnx.Checkpoint(path, every_batches=3)]
    options = {**LONG, **options, "resume": path, "communicator": communicator}
    history = net.train(*data, epochs=4, callbacks=called, **options)
    return [nnx.to_numpy(p) for p in net.parameters.values()], history


@pytest.mark.parametrize("interrupted", [False, True], ids=["epoch", "batch"])
@pytest.mark.parametrize(
    ("before", "after", "case"),
    [
        (1, 2, "dropout and noise"),
        (2, 1, "batch norm and dropout on images"),
        (3, 2, "dropout and noise"),
        (2, 3, "mixed, read in blocks"),
    ],
)
def test_a_run_resumes_on_another_number_of_processes(before, after, case, interrupted, tmp_path):
    whole, history = second_part(SingleProcess(), case, str(tmp_path / "whole"))
    path = str(tmp_path / "run.safetensors")
    together(before, first_part, case, path, interrupted)
    for arrays, seen in together(after, second_part, case, path):
        for one, other in zip(whole, arrays, strict=True):
            np.testing.assert_allclose(other, one, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(seen.loss, history.loss, rtol=1e-10)
        np.testing.assert_allclose(seen.validation_loss, history.validation_loss, rtol=1e-10)


# Costs.


def messages(communicator):
    net = dense(nnx.BatchNormLayer(8))
    net.train(X[:96], Y[:96], 16, progress=False, communicator=communicator)
    return communicator.messages


def test_a_step_sends_one_message_and_batch_norm_three():
    steps = len(list(batches(96, 16)))
    assert together(2, messages) == [4 * steps] * 2


def test_one_process_adds_nothing_to_a_step():
    net = dense()
    net.train(X, Y, 16, progress=False, communicator=SingleProcess())
    assert net.plan().exchange is None


def left(communicator):
    net = dense()
    net.train(X, Y, 16, progress=False, communicator=communicator)
    return net.plan().exchange is None


def test_a_step_by_hand_after_the_training_is_not_added_up():
    assert together(2, left) == [True, True]
