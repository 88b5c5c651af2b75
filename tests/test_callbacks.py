"""Callbacks: when they are called, what each does, and that a resumed run goes on with them."""

import csv
import logging
import math
import os
import signal

import numpy as np
import pytest

import nnx
from nnx.training.callbacks import Monitor


def data(samples=60, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((samples, 4)).astype("f4")
    return x, (x[:, 0] + 0.3 * rng.standard_normal(samples) > 0).astype(int)


def network(optim=None):
    nnx.seed(0)
    layers = [nnx.DenseLayer(4, 8, nnx.TanH()), nnx.DenseLayer(8, 2, nnx.SoftMax())]
    return nnx.SequentialNet(4, layers, nnx.CrossEntropy(), optim or nnx.SGD(0.5))


def train(net=None, epochs=4, batch_size=20, **options):
    net = net or network()
    options.setdefault("progress", False)
    return net, net.train(*data(), batch_size, epochs, **options)


class Recorder(nnx.Callback):
    """Records what is called, and what the run says then."""

    def __init__(self, interval=None, stop_at=None):
        self.interval, self.stop_at, self.calls = interval, stop_at, []

    def begin(self, run):
        self.calls.append(("begin", run.epoch, run.done))

    def after_batches(self, run):
        self.calls.append(("batches", run.epoch, run.done))
        return (run.epoch, run.batches) == self.stop_at

    def after_epoch(self, run):
        self.calls.append(("epoch", run.epoch, len(run.history.loss)))
        return run.epoch == self.stop_at

    def end(self, run):
        self.calls.append(("end", run.epoch, run.failed))


class TestWhenTheyAreCalled:
    def test_before_within_after_each_epoch_and_last(self):
        recorder = Recorder(interval=2)
        train(epochs=2, callbacks=[recorder], batch_size=15)  # four batches an epoch
        assert recorder.calls == [
            ("begin", 0, 0),
            ("batches", 0, 30),
            ("batches", 0, 60),
            ("epoch", 1, 1),
            ("batches", 1, 30),
            ("batches", 1, 60),
            ("epoch", 2, 2),
            ("end", 2, False),
        ]

    def test_true_after_an_epoch_ends_the_training(self):
        recorder = Recorder(stop_at=2)
        _, history = train(callbacks=[recorder])
        assert len(history.loss) == 2
        assert not history.interrupted
        assert recorder.calls[-1] == ("end", 2, False)

    def test_true_within_an_epoch_ends_it_at_once(self):
        recorder = Recorder(interval=1, stop_at=(1, 2))
        _, history = train(callbacks=[recorder])
        assert len(history.loss) == 1
        assert recorder.calls[-2:] == [("batches", 1, 40), ("end", 1, False)]

    def test_a_plain_function_gets_network_and_history(self):
        seen = []
        net, history = train(callbacks=[lambda *both: seen.append(both)], epochs=2)
        assert seen == [(net, history)] * 2

    def test_ends_are_called_in_reverse_even_if_one_fails(self):
        calls = []

        class Named(nnx.Callback):
            def __init__(self, name):
                self.name = name

            def end(self, run):
                calls.append(self.name)
                if self.name == "second":
                    raise OSError("disk")

        with pytest.raises(OSError, match="disk"):
            train(callbacks=[Named("first"), Named("second"), Named("third")])
        assert calls == ["third", "second", "first"]

    @pytest.mark.parametrize("method", ["begin", "after_batches", "after_epoch", "end"])
    def test_one_that_raises_is_named_and_the_network_stays_usable(self, method):
        class Broken(nnx.Callback):
            interval = 2

        def broken(self, run):
            raise ZeroDivisionError("by hand")

        setattr(Broken, method, broken)
        net = network()
        with pytest.raises(ZeroDivisionError, match="by hand") as caught:
            train(net, callbacks=[lambda net, history: None, Broken()])
        (note,) = caught.value.__notes__
        assert note.startswith(f"raised by the callback Broken() in {method}, after ")
        assert train(net)[1].loss[-1] < 0.5

    @pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
    def test_an_error_in_training_is_told_to_the_end(self):
        recorder = Recorder()
        net = network(nnx.SGD(3e38))
        with pytest.raises(nnx.NonFiniteLossError):
            train(net, callbacks=[recorder])
        assert recorder.calls[-1] == ("end", 0, True)

    def test_the_names_of_the_quantities_are_those_of_the_history(self):
        for options in ({}, {"validation": 0.3}, {"metrics": ["f1"], "validation": 0.3}):
            names = []

            class Look(nnx.Callback):
                def begin(self, run, names=names):
                    names += run.quantities

            _, history = train(callbacks=[Look()], **options)
            assert sorted(names) == sorted(history.keys())

    def test_they_cost_no_read_of_the_device(self, monkeypatch):
        reads = []
        net = network()
        original = type(net.backend).to_numpy

        def counted(backend, array):
            reads.append(1)
            return original(backend, array)

        monkeypatch.setattr(type(net.backend), "to_numpy", counted)
        counts = []
        callbacks = [
            nnx.EpochLogger(),
            nnx.EarlyStopping("loss"),
            nnx.ReduceOnPlateau("loss"),
            Recorder(interval=1),
        ]
        for given in ([], callbacks):
            reads.clear()
            train(net, callbacks=given)
            counts.append(len(reads))
        assert counts[0] == counts[1]


WRONG = [
    (lambda: nnx.EarlyStopping(3), TypeError, 'write monitor="validation_loss"'),
    (lambda: nnx.EarlyStopping("loss", 0), ValueError, "patience"),
    (lambda: nnx.EarlyStopping("gain"), ValueError, 'write mode="min" if less is better'),
    (lambda: nnx.EarlyStopping("loss", mode="less"), ValueError, "mode"),
    (lambda: nnx.EarlyStopping("loss", min_delta=-1), ValueError, "min_delta"),
    (lambda: nnx.ReduceOnPlateau("loss", 1.5), ValueError, "factor"),
    (lambda: nnx.ReduceOnPlateau("loss", least=-1), ValueError, "least"),
    (lambda: nnx.Checkpoint("x", 0), ValueError, "every"),
    (lambda: nnx.Checkpoint("x", every_batches=0), ValueError, "every_batches"),
    (lambda: nnx.Checkpoint("x", keep=0), ValueError, "keep"),
    (lambda: nnx.Checkpoint("x", best="gain"), ValueError, "mode"),
    (lambda: nnx.Checkpoint(3), TypeError, "expected path to be"),
    (lambda: nnx.CSVLogger(None), TypeError, "expected path to be"),
    (lambda: nnx.EpochLogger(3), TypeError, "name"),
    (lambda: nnx.TensorBoard("logs"), TypeError, "add_scalar"),
]


@pytest.mark.parametrize(("make", "error", "message"), WRONG)
def test_wrong_arguments_are_refused_with_what_to_do(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("callbacks", "error", "message"),
    [
        (nnx.EpochLogger(), TypeError, r"write callbacks=\[EpochLogger\(\)\]"),
        ([nnx.EpochLogger], TypeError, r"write EpochLogger\(\)"),
        ([nnx.EarlyStopping()], ValueError, "pass validation=0.2 or validation="),
        (
            [nnx.EarlyStopping("f1")],
            ValueError,
            "monitor to be one of seconds, loss, accuracy, got",
        ),
        ([nnx.Checkpoint("x", best="validation_loss")], ValueError, "pass validation=0.2"),
    ],
)
def test_callbacks_that_do_not_fit_the_training_are_refused(callbacks, error, message):
    with pytest.raises(error, match=message):
        train(callbacks=callbacks)


def test_one_callback_cannot_stand_there_twice():
    logger = nnx.EpochLogger()
    with pytest.raises(ValueError, match=r"callbacks\[1\] to be another one"):
        train(callbacks=[logger, logger])


# The quantity after each epoch, made up; and what should happen.


class FakeRun:
    """A run whose history is given."""

    validation = None
    failed = False

    def __init__(self, name, values, net=None):
        self.name, self.values, self.net = name, values, net
        self.epoch, self.stopped, self.quantities = 0, False, [name]

    @property
    def history(self):
        return {self.name: self.values[: self.epoch]}

    def stop(self):
        self.stopped = True

    def go(self, callback):
        callback.state = {}
        callback.begin(self)
        for _ in self.values:
            self.epoch += 1
            callback.after_epoch(self)
            if self.stopped:
                break
        return self.epoch


@pytest.mark.parametrize(
    ("callback", "values", "epochs"),
    [
        (nnx.EarlyStopping("loss", 2), [5, 4, 4, 4, 3], 4),
        (nnx.EarlyStopping("loss", 3), [5, 4, 4, 4, 3, 3, 3, 3, 1], 8),
        (nnx.EarlyStopping("loss", 2, min_delta=1.5), [5, 4, 3.6, 1], 3),
        (nnx.EarlyStopping("accuracy", 2), [0.1, 0.2, 0.2, 0.1, 0.5], 4),
        (nnx.EarlyStopping("validation_r2", 1), [-3, -2, -2.5], 3),
        (nnx.EarlyStopping("mean_absolute_error", 1), [3, 2, 2.5, 1], 3),
        (nnx.EarlyStopping("gain", 1, mode="max"), [1, 2, 1, 9], 3),
        (nnx.EarlyStopping("gain", 1, mode="min"), [1, 2, 1], 2),
        (nnx.EarlyStopping("loss", 2), [math.nan, math.nan, 1], 2),
        (nnx.EarlyStopping("loss", 9), [5, 4, 3], 3),
    ],
)
def test_early_stopping_counts_epochs_without_an_improvement(callback, values, epochs):
    run = FakeRun(callback.monitor, values, network())
    assert run.go(callback) == epochs


def test_early_stopping_restores_the_best_weights_and_buffers():
    nnx.seed(0)
    layers = [nnx.DenseLayer(4, 8), nnx.BatchNormLayer(8), nnx.DenseLayer(8, 2, nnx.SoftMax())]
    net = nnx.SequentialNet(4, layers, nnx.CrossEntropy(), nnx.SGD(3.0))
    seen = []

    def look(net, history):
        arrays = {**net.parameters, **net.buffers}
        seen.append({path: nnx.to_numpy(a) for path, a in arrays.items()})

    stopping = nnx.EarlyStopping("loss", 3)
    history = net.train(*data(), 20, 30, callbacks=[look, stopping], progress=False)
    best = int(np.argmin(history.loss))
    assert stopping.state["epoch"] == best + 1
    for path, array in {**net.parameters, **net.buffers}.items():
        np.testing.assert_array_equal(nnx.to_numpy(array), seen[best][path])
    assert net.train(*data(), 20, 1, progress=False).loss  # it goes on


def test_early_stopping_may_leave_the_weights():
    seen = []
    stopping = nnx.EarlyStopping("loss", 1, min_delta=10.0, restore=False)
    look = lambda net, history: seen.append(nnx.to_numpy(net.layers[0].W))
    net, history = train(callbacks=[look, stopping])
    assert len(history.loss) == 2
    np.testing.assert_array_equal(nnx.to_numpy(net.layers[0].W), seen[-1])


@pytest.mark.parametrize("of_layers", [True, False])
def test_reduce_on_plateau_multiplies_every_rate(of_layers):
    nnx.seed(0)
    layers = [nnx.DenseLayer(4, 8, nnx.TanH(), nnx.Adam(0.4)), nnx.DenseLayer(8, 2, nnx.SoftMax())]
    optim = None if of_layers else nnx.Adam(0.4)
    layers[1].optim = nnx.Adam(0.8) if of_layers else layers[1].optim
    net = nnx.SequentialNet(4, layers, nnx.CrossEntropy(), optim)
    callback = nnx.ReduceOnPlateau("loss", 0.5, 2, least=0.15)
    run = FakeRun("loss", [5.0] + [5.0] * 6, net)
    run.go(callback)  # waits 2, three times
    rates = [layer.optim.eta for layer in net.layers] if of_layers else [net.optim.eta]
    assert rates == ([0.15, 0.15] if of_layers else [0.15])
    run = FakeRun("loss", [5.0, 4.0, 4.0, 4.0], network(nnx.SGD(0.4)))
    run.go(callback)
    assert run.net.optim.eta == 0.2


def test_reduce_on_plateau_does_not_raise_a_rate_and_needs_a_number():
    run = FakeRun("loss", [5.0] * 3, network(nnx.SGD(0.1)))
    run.go(nnx.ReduceOnPlateau("loss", 0.5, 1, least=0.3))
    assert run.net.optim.eta == 0.1
    with pytest.raises(ValueError, match="learning rates that are numbers, got CosineSchedule"):
        train(network(nnx.SGD(nnx.CosineSchedule(0.1, 9))), callbacks=[nnx.ReduceOnPlateau("loss")])


def test_the_csv_file_is_the_history(tmp_path):
    path = tmp_path / "log.csv"
    rows = []

    def look(net, history):
        rows.append(len(path.read_text().splitlines()))

    _, history = train(callbacks=[nnx.CSVLogger(path), look], validation=0.25, metrics=["f1"])
    assert rows == [2, 3, 4, 5]
    with open(path, newline="") as file:
        found = list(csv.DictReader(file))
    assert list(found[0]) == ["epoch", *history.keys()]
    assert "validation_f1" in found[0]
    for i, row in enumerate(found):
        assert int(row["epoch"]) == i + 1
        assert all(float(row[name]) == history[name][i] for name in history.keys())  # noqa: SIM118
    assert os.listdir(tmp_path) == ["log.csv"]


def test_the_epoch_logger_writes_a_line_each(caplog):
    with caplog.at_level(logging.INFO, logger="mine"):
        _, history = train(callbacks=[nnx.EpochLogger("mine")], epochs=2, validation=0.25)
    lines = [record.getMessage() for record in caplog.records if record.name == "mine"]
    assert len(lines) == 2
    assert lines[1].startswith("epoch 2/2  ")
    assert f"validation loss {history.validation_loss[1]:.4f}" in lines[1]


def test_tensorboard_gets_each_number_once():
    scalars, flushed = [], []

    class Writer:
        def add_scalar(self, tag, value, step):
            scalars.append((tag, value, step))

        def flush(self):
            flushed.append(True)

    _, history = train(callbacks=[nnx.TensorBoard(Writer())], epochs=2, validation=0.25)
    assert flushed == [True]
    assert ("loss/training", history.loss[1], 2) in scalars
    assert ("accuracy/validation", history.validation_accuracy[0], 1) in scalars
    assert len(scalars) == 2 * len(history.keys())


def test_tensorboard_takes_the_writer_of_pytorch(tmp_path):
    pytest.importorskip("tensorboard")
    writer = pytest.importorskip("torch.utils.tensorboard").SummaryWriter(tmp_path)
    train(callbacks=[nnx.TensorBoard(writer)])
    writer.close()
    assert any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_signal_writes_the_run_and_ends_the_training(tmp_path, name):
    path = tmp_path / "run.safetensors"

    class Send(nnx.Callback):
        interval = 1

        def after_batches(self, run):
            if (run.epoch, run.batches) == (1, 2):
                os.kill(os.getpid(), getattr(signal, name))

    before = signal.getsignal(getattr(signal, name))
    net, history = train(callbacks=[nnx.Checkpoint(path, every=100), Send()], epochs=4)
    assert history.interrupted
    assert len(history.loss) == 1
    assert signal.getsignal(getattr(signal, name)) is before
    whole, unbroken = train(epochs=4)
    net, history = train(callbacks=[nnx.Checkpoint(path, every=100), Send()], resume=path)
    assert not history.interrupted
    assert history.loss == unbroken.loss
    np.testing.assert_array_equal(nnx.to_numpy(net.layers[0].W), nnx.to_numpy(whole.layers[0].W))


def test_ctrl_c_ends_the_training_and_leaves_the_last_checkpoint(tmp_path):
    path = tmp_path / "run.safetensors"

    def interrupt(net, history):
        if len(history.loss) == 2:
            raise KeyboardInterrupt

    _, history = train(callbacks=[nnx.Checkpoint(path), interrupt])
    assert history.interrupted
    assert len(history.loss) == 2
    resumed = train(callbacks=[nnx.Checkpoint(path)], resume=path)[1]
    assert resumed.loss == train()[1].loss


def test_checkpoints_that_are_kept(tmp_path):
    path = tmp_path / "run.safetensors"
    net, history = train(callbacks=[nnx.Checkpoint(path, keep=3, best="loss", mode="max")])
    assert sorted(os.listdir(tmp_path)) == [
        "run.1.safetensors",
        "run.2.safetensors",
        "run.best.safetensors",
        "run.safetensors",
    ]
    epochs = {}
    for name in os.listdir(tmp_path):
        resumed = train(epochs=0, resume=tmp_path / name)[1]
        epochs[name] = len(resumed.loss)
        assert resumed.loss == history.loss[: epochs[name]]
    best = int(np.argmax(history.loss)) + 1
    assert epochs == {
        "run.safetensors": 4,
        "run.1.safetensors": 3,
        "run.2.safetensors": 2,
        "run.best.safetensors": best,
    }
    again = nnx.load(path)
    np.testing.assert_array_equal(nnx.to_numpy(again.layers[0].W), nnx.to_numpy(net.layers[0].W))


def test_a_training_that_ends_between_two_checkpoints_is_written_too(tmp_path):
    path = tmp_path / "run.safetensors"
    _, history = train(callbacks=[nnx.Checkpoint(path, every=3)])
    assert train(epochs=0, resume=path)[1].loss == history.loss


def test_a_monitor_is_a_base_class_of_ones_own():
    class Half(Monitor):
        def after_epoch(self, run):
            return not self.improved(run)

    assert len(train(epochs=9, callbacks=[Half("loss", min_delta=0.5)])[1].loss) == 2
