"""A run that was stopped at any moment and resumed ends as one that was never stopped."""

import copy
import logging
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from fixtures.killed_training import digest, network, samples, train

import nnx
from nnx import randomness

SCRIPT = Path(__file__).parent / "fixtures" / "killed_training.py"


class Killed(BaseException):
    """Ends a training as a kill does: nothing is cleaned up that a file would see."""


class KillAt(nnx.Callback):
    """Ends the training after so many batches in all."""

    interval = 1

    def __init__(self, epoch, batches=0):
        self.epoch, self.batches = epoch, batches

    def after_batches(self, run):
        if (run.epoch, run.batches) == (self.epoch, self.batches):
            raise Killed

    def after_epoch(self, run):
        if (run.epoch, 0) == (self.epoch, self.batches):
            raise Killed


def killed(path, *at, **options):
    with pytest.raises(Killed):
        train(path, callbacks=[KillAt(*at)], **options)


@pytest.mark.parametrize(
    "at", [(0, 2), (0, 3), (0, 7), (0, 13), (1, 0), (2, 5), (5, 9), (11, 12)], ids=str
)
def test_it_ends_as_the_one_that_was_not_stopped(tmp_path, at):
    expected = digest(*train(tmp_path / "whole.safetensors"))
    path = tmp_path / "run.safetensors"
    killed(path, *at)
    assert digest(*train(path)) == expected
    assert digest(*train(path)) == expected  # and once more, when there is nothing left to do


def test_it_ends_so_on_every_backend_and_after_several_stops(tmp_path, nnx_backend):
    # On a library that compiles, loops end at the batches of `every_batches`.
    expected = digest(*train(tmp_path / "whole.safetensors", epochs=3))
    path = tmp_path / "run.safetensors"
    for at in [(0, 6), (0, 9), (1, 0), (2, 3)]:
        with pytest.raises(Killed):
            train(path, 3, callbacks=[KillThird(*at)])
    assert digest(*train(path, 3)) == expected


class KillThird(KillAt):
    interval = 3


def test_checkpoints_do_not_change_a_training(tmp_path):
    net, history = train(None, callbacks=[nnx.EarlyStopping("validation_loss", patience=8)])
    assert digest(net, history) == digest(*train(tmp_path / "run.safetensors"))


def test_a_file_and_a_copy_keep_what_a_network_says_about_its_data_and_a_clone_does_not(tmp_path):
    path, about = tmp_path / "run.safetensors", {"labels": ["setosa", "virginica"]}
    net = network()
    net.about = about
    net.train(*samples(), 10, 1, callbacks=[nnx.Checkpoint(path)], progress=False)
    net.save(tmp_path / "net.safetensors")
    copies = [nnx.load(path), nnx.load(tmp_path / "net.safetensors"), net.to("numpy")]
    copies += [pickle.loads(pickle.dumps(net)), copy.deepcopy(net)]
    assert [one.about for one in copies] == [about] * 5
    assert net.clone().about is None
    again = network()  # the script says it, or does not
    again.train(*samples(), 10, 2, resume=path, progress=False)
    assert again.about is None


def test_it_is_resumed_on_another_backend(tmp_path, nnx_backend):
    path = tmp_path / "run.safetensors"
    killed(path, 2, 0, every_batches=13)
    with nnx.use_backend("numpy"):
        net, history = train(path, epochs=5, every_batches=13)
        whole, unbroken = train(tmp_path / "whole.safetensors", epochs=5, every_batches=13)
    np.testing.assert_allclose(history.loss, unbroken.loss, rtol=1e-4)
    for name, p in whole.parameters.items():
        np.testing.assert_allclose(net.parameters[name], p, rtol=1e-3, atol=1e-4)


def test_more_epochs_continue_a_finished_run(tmp_path):
    path = tmp_path / "run.safetensors"
    train(path, epochs=3)
    assert digest(*train(path, epochs=6)) == digest(*train(tmp_path / "w.safetensors", epochs=6))


def test_a_generator_of_ones_own_continues(tmp_path):
    path = tmp_path / "run.safetensors"
    for kind in (np.random.PCG64, np.random.MT19937, np.random.Philox):
        rng = lambda kind=kind: np.random.Generator(kind(3))
        expected = digest(*train(tmp_path / f"{kind.__name__}.safetensors", rng=rng()))
        killed(path, 3, 4, rng=rng())
        assert digest(*train(path, rng=rng())) == expected
        path.unlink()


def test_sequences_of_several_lengths_continue(tmp_path):
    rng = np.random.default_rng(0)
    x = [rng.standard_normal((n, 2)) for n in rng.integers(3, 7, 40)]
    y = [(sequence[:, 0] > 0).astype(int) for sequence in x]

    def run(path, **options):
        nnx.seed(0)
        layers = [nnx.GRULayer(2, 4, return_sequences=True), nnx.DenseLayer(4, 2, nnx.SoftMax())]
        net = nnx.SequentialNet((None, 2), layers, nnx.CrossEntropy(), nnx.Adam(0.05))
        kill = options.pop("callbacks", [])
        callbacks = [*kill, nnx.Checkpoint(path, every_batches=2)]
        options = {"metrics": ["f1"], "progress": False, "validation": 0.2} | options
        return net, net.train(x, y, 4, 4, callbacks=callbacks, resume=path, **options)

    expected = digest(*run(tmp_path / "whole.safetensors"))
    for at in [(0, 5), (2, 3)]:
        path = tmp_path / f"{at}.safetensors"
        with pytest.raises(Killed):
            run(path, callbacks=[KillAt(*at)])
        assert digest(*run(path)) == expected


def test_without_a_seed_the_seed_of_the_file_is_taken(tmp_path):
    path = tmp_path / "run.safetensors"

    def run(**options):
        nnx.seed()
        net = network()
        callbacks = [*options.pop("callbacks", []), nnx.Checkpoint(path)]
        return net, net.train(
            *samples(), 16, 4, validation=0.2, progress=False, callbacks=callbacks, resume=path
        )

    with pytest.raises(Killed):
        run(callbacks=[KillAt(2)])
    first = randomness.state()["entropy"]
    _, history = run()
    assert len(history.loss) == 4
    assert randomness.state()["entropy"] == first


def test_a_file_that_is_not_there_is_told_and_training_begins(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="nnx"):
        _, history = train(tmp_path / "run.safetensors", epochs=1)
    assert "there is no" in caplog.text
    assert "training starts from the beginning" in caplog.text
    assert len(history.loss) == 1


def other(**changes):
    """Train as `train` does, with something else."""

    def run(path):
        nnx.seed(changes.get("seed", 7))
        net = changes.get("net", network)()
        x, y = changes.get("data", samples)()
        options = {"validation": 0.2, "shuffle": True, "metrics": ["f1"]}
        options |= {name: value for name, value in changes.items() if name in options}
        if callable(options["validation"]):
            options["validation"] = options["validation"]()
        callbacks = [nnx.EarlyStopping(patience=8), nnx.Checkpoint(path)]
        size = changes.get("batch_size", 16)
        return net.train(
            x, y, size, 12, callbacks=callbacks, resume=path, progress=False, **options
        )

    return run


def wider():
    net = network()
    net.layers[0] = nnx.DenseLayer(12, 24, nnx.ReLU(), kernel_regularizer=nnx.L2Regularizer(1e-4))
    return net


def of_adamw():
    net = network()
    net.optim = nnx.AdamW(0.02)
    return net


def double():
    with nnx.use_backend("numpy", "float64"):
        return network()


OTHERS = {
    "a layer": (other(net=wider), r"layers\[0\]\.afun"),
    "an optimizer": (other(net=of_adamw), r"optim"),
    "the dtype": (other(net=double), "dtype: 'float32' and 'float64'"),
    "fewer samples": (other(data=lambda: samples(240)), "samples: 208 and 192"),
    "the dtype of the data": (
        other(data=lambda: (samples()[0].astype("f4"), samples()[1])),
        r"data\.x\.dtype: 'float64' and 'float32'",
    ),
    "the batch size": (other(batch_size=20), "batch_size: 16 and 20"),
    "the seed": (other(seed=8), r"nnx\.seed\(7\), got nnx\.seed\(8\)"),
    "the order": (other(shuffle=False), "shuffle"),
    "the fraction for validation": (other(validation=0.3), "samples: 208 and 182"),
    "the validation": (other(validation=lambda: samples(50)), "samples: 208 and 260"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_run_of_something_else_is_an_error_that_names_it(tmp_path, name):
    path = tmp_path / "run.safetensors"
    train(path, epochs=1)
    run, message = OTHERS[name]
    content = path.read_bytes()
    with pytest.raises(ValueError, match=message) as caught:
        run(path)
    assert "expected" in str(caught.value)
    assert path.read_bytes() == content
    # The streams of the file have not been taken over.
    assert randomness.state()["entropy"] == (8 if name == "the seed" else 7)
    drawn = {tuple(key): n for _, key, n in randomness.state()["drawn"]}
    assert drawn.get((208,)) is None


def test_a_callback_that_is_missing_is_told(tmp_path, caplog):
    path = tmp_path / "run.safetensors"
    train(path, epochs=1)
    nnx.seed(7)
    options = {"validation": 0.2, "metrics": ["f1"], "progress": False}
    with caplog.at_level(logging.WARNING, logger="nnx"):
        history = network().train(*samples(), 16, 2, resume=path, **options)
    assert len(history.loss) == 2
    assert "a callback EarlyStopping" in caplog.text


def test_a_file_of_a_network_is_no_run(tmp_path):
    path = tmp_path / "net.safetensors"
    network().save(path)
    with pytest.raises(nnx.FileError, match=r"expected a run in .* nnx\.load reads"):
        train(path)


def test_what_a_callback_changes_is_restored(tmp_path):
    """Learning rates and frozen layers are where they were when the run was stopped."""

    class Thaw(nnx.Callback):
        def begin(self, run):
            if not run.epoch:
                run.net.layers[0].frozen = True

        def after_epoch(self, run):
            run.net.layers[0].frozen = run.epoch < 2

    def run(path, *more):
        nnx.seed(7)
        layers = [nnx.DenseLayer(12, 8, nnx.TanH()), nnx.DenseLayer(8, 3, nnx.SoftMax())]
        net = nnx.SequentialNet(12, layers, nnx.CrossEntropy(), nnx.SGD(0.5, 0.9))
        callbacks = [*more, Thaw(), nnx.ReduceOnPlateau("loss", 0.5, 1, 0.05)]
        return net, net.train(
            *samples(),
            20,
            8,
            progress=False,
            callbacks=[*callbacks, nnx.Checkpoint(path)],
            resume=path,
        )

    whole, history = run(tmp_path / "whole.safetensors")
    assert whole.optim.eta < 0.5
    path = tmp_path / "run.safetensors"
    for epoch in (1, 3, 6):
        with pytest.raises(Killed):
            run(path, KillAt(epoch))
    net, resumed = run(path)
    assert net.optim.eta == whole.optim.eta
    assert digest(net, resumed) == digest(whole, history)


def test_a_training_goes_on_in_the_same_process_with_the_same_network(tmp_path):
    path = tmp_path / "run.safetensors"
    nnx.seed(7)
    net = network()
    layer, optim = net.layers[0], net.optim
    options = {"callbacks": [nnx.Checkpoint(path)], "validation": 0.2, "progress": False}
    net.train(*samples(), 16, 2, **options)
    net.train(*samples(), 16, 5, resume=path, **options)
    assert net.layers[0] is layer
    assert net.optim is optim
    nnx.seed(7)
    whole = network()
    history = whole.train(*samples(), 16, 5, validation=0.2, progress=False)
    resumed = net.train(*samples(), 16, 5, resume=path, **options)
    assert digest(net, resumed) == digest(whole, history)


class Changes(nnx.Callback):
    """Changes the learning rate between batches, so that the plan becomes stale."""

    interval = 1

    def after_batches(self, run):
        run.net.optim.eta = 0.3 / (1 + run.batches)


class Draws(nnx.Callback):
    """Draws from the stream of the orders, in the middle of an epoch and at the beginning."""

    interval = 4

    def begin(self, run):
        randomness.generator("dropout").random(3)

    def after_batches(self, run):
        randomness.generator("batches").permutation(5)


@pytest.mark.parametrize("callback", [Changes, Draws])
@pytest.mark.parametrize("at", [(0, 8), (1, 5), (2, 0)], ids=str)
def test_what_callbacks_do_between_batches_does_not_disturb_a_resume(tmp_path, callback, at):
    def run(path, *more):
        nnx.seed(7)
        layers = [nnx.DenseLayer(12, 8, nnx.TanH()), nnx.DropoutLayer(0.3)]
        layers.append(nnx.DenseLayer(8, 3, nnx.SoftMax()))
        net = nnx.SequentialNet(12, layers, nnx.CrossEntropy(), nnx.SGD(0.3, 0.9))
        callbacks = [callback(), *more, nnx.Checkpoint(path, every_batches=2)]
        options = {"progress": False, "metrics": ["f1"], "resume": path}
        return net, net.train(*samples(), 20, 4, callbacks=callbacks, **options)

    expected = digest(*run(tmp_path / "whole.safetensors"))
    path = tmp_path / "run.safetensors"
    with pytest.raises(Killed):
        run(path, KillAt(*at))
    assert digest(*run(path)) == expected


def test_stop_ends_the_training_also_if_the_network_was_changed():
    class Stop(Changes):
        def after_batches(self, run):
            super().after_batches(run)
            return run.batches == 2

    seen = []

    class Look(nnx.Callback):
        def end(self, run):
            seen.append(run.batches)

    nnx.seed(7)
    net = nnx.SequentialNet(12, [nnx.DenseLayer(12, 3, nnx.SoftMax())], nnx.CrossEntropy())
    net.optim = nnx.SGD(0.1)
    net.train(*samples(), 20, 3, callbacks=[Stop(), Look()], progress=False)
    assert seen == [2]


def test_an_interruption_does_not_make_a_stopped_run_go_on(tmp_path):
    class Both(nnx.Callback):
        def after_epoch(self, run):
            if run.epoch == 2:
                run.interrupt()
                run.stop()

    path = tmp_path / "run.safetensors"
    train(path, callbacks=[Both()])
    assert len(train(path, callbacks=[Both()])[1].loss) == 2


def test_the_best_file_is_there_if_the_run_is_killed_after_it(tmp_path, monkeypatch):
    path, best = tmp_path / "run.safetensors", tmp_path / "run.best.safetensors"
    original = nnx.Checkpoint._write

    def write(checkpoint, run):
        original(checkpoint, run)
        if run.epoch == 3:
            raise Killed

    monkeypatch.setattr(nnx.Checkpoint, "_write", write)
    nnx.seed(7)
    options = {"progress": False, "callbacks": [nnx.Checkpoint(path, best="loss")]}
    with pytest.raises(Killed):
        network().train(*samples(), 16, 6, **options)
    with nnx.saving.read_file(best) as one, nnx.saving.read_file(path) as other:
        assert one.data["run"]["epoch"] == other.data["run"]["epoch"] == 3


def test_a_callback_may_change_the_network_at_the_beginning(tmp_path):
    class Slower(nnx.Callback):
        def begin(self, run):
            run.net.optim.eta = 0.01

    path = tmp_path / "run.safetensors"
    train(path, epochs=1, callbacks=[Slower()])
    assert len(train(path, epochs=2, callbacks=[Slower()])[1].loss) == 2


def frozen():
    net = network()
    net.layers[0].frozen = True
    return net


def penalised():
    net = network()
    net.layers[3].regularizers["b"] = nnx.L2Regularizer(0.1)
    return net


MORE_OTHERS = {
    "a frozen layer": ({"net": frozen}, r"layers\.0\.frozen: False and True"),
    "a penalty": ({"net": penalised}, r"layers\.3\.regularizers"),
    "the metrics": ({"metrics": ["f1", "recall"]}, "metrics"),
    "the weights of the classes": ({"class_weights": "balanced"}, "weights: False and True"),
    "a label that does not count": ({"ignore_label": -1}, "ignore_label"),
    "the generator": ({"rng": np.random.default_rng(0)}, "rng: None and 'PCG64'"),
    "fewer epochs": ({"epochs": 1}, "expected more than 1 epochs"),
}


@pytest.mark.parametrize("name", MORE_OTHERS)
def test_a_run_with_other_arguments_is_an_error_and_changes_nothing(tmp_path, name):
    path = tmp_path / "run.safetensors"
    killed(path, 1, 6)
    changes, message = MORE_OTHERS[name]
    nnx.seed(7)
    net = changes.get("net", network)()
    before = {path: nnx.to_numpy(p) for path, p in net.parameters.items()}
    options = {"validation": 0.2, "metrics": ["f1"], "progress": False, "epochs": 12}
    options |= {key: value for key, value in changes.items() if key != "net"}
    callbacks = [nnx.EarlyStopping(patience=8), nnx.Checkpoint(path)]
    with pytest.raises(ValueError, match=message) as caught:
        net.train(*samples(), 16, resume=path, callbacks=callbacks, **options)
    assert not isinstance(caught.value, nnx.FileError)
    for name, p in net.parameters.items():
        np.testing.assert_array_equal(nnx.to_numpy(p), before[name])


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value", "ignore:divide")
def test_a_diverged_run_leaves_the_files_before_it(tmp_path):
    path = tmp_path / "run.safetensors"

    class Explode(nnx.Callback):
        def after_epoch(self, run):
            if run.epoch == 3:
                run.net.optim.eta = 3e38

    nnx.seed(7)
    net = nnx.SequentialNet(12, [nnx.DenseLayer(12, 3, nnx.Linear())], optim=nnx.SGD(0.01))
    x, y = samples()
    callbacks = [Explode(), nnx.Checkpoint(path, keep=3, every_batches=3)]
    with pytest.raises(nnx.NonFiniteLossError):
        net.train(x, np.eye(3)[y], 16, 8, callbacks=callbacks, progress=False)
    places = []
    for name in ("run", "run.1", "run.2"):
        with nnx.saving.read_file(tmp_path / f"{name}.safetensors") as file:
            places.append((file.data["run"]["epoch"], file.data["run"]["done"]))
    assert places == sorted(set(places), reverse=True)
    assert places[0] <= (3, 0)


FORK = """
import os, signal, sys, time
import nnx
sys.path.insert(0, sys.argv[1])
from killed_training import train

class Fork(nnx.Callback):
    def after_epoch(self, run):
        read, write = os.pipe()
        child = os.fork()
        if not child:
            os.write(write, b"ready")
            time.sleep(60)
            os._exit(0)
        os.read(read, 5)
        os.kill(child, signal.SIGTERM)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGTERM

assert not train(sys.argv[2], epochs=1, callbacks=[Fork()])[1].interrupted
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_ends_by_sigterm_during_a_training(tmp_path):
    path = str(tmp_path / "run.safetensors")
    subprocess.run([sys.executable, "-c", FORK, str(SCRIPT.parent), path], check=True, timeout=50)


def test_a_long_history_fits_into_a_file(tmp_path):
    class Long(nnx.Callback):
        def after_epoch(self, run):
            run.history.seconds[-1:] = [1 / 3] * 800_000

    path = tmp_path / "run.safetensors"
    train(path, epochs=1, callbacks=[Long()])
    _, history = train(path, epochs=1)
    assert history.seconds == [1 / 3] * 800_000


@pytest.mark.parametrize("value", ["missing", 3, "text", None, [], {"a": 1}], ids=str)
def test_a_run_that_is_damaged_anywhere_is_one_clear_error(tmp_path, value):
    """Each part of a saved run, left out or of another kind: an error, or it does not matter."""
    path, broken = tmp_path / "run.safetensors", tmp_path / "broken.safetensors"
    killed(path, 1, 6)
    with nnx.saving.read_file(path) as file:
        arrays, data = {name: file.read(name) for name in file.shapes}, file.data
    refused = []
    for name in data["run"]:
        run = {**data["run"], name: value}
        if value == "missing":
            run.pop(name)
        nnx.saving.write_file(broken, arrays, {**data, "run": run})
        message = ""
        try:
            train(broken, epochs=2)
        except ValueError as error:  # a FileError, or something that differs
            message = str(error)
            refused.append(name)
        assert not message or "expected" in message, name
    if value == "missing":
        assert refused == list(data["run"])
    assert {"streams", "tally", "history", "identity", "epoch", "done"} <= set(refused)
    assert ("callbacks" in refused) == (value != [])  # none had a state


# A real process, and a real kill.


def started(directory, backend):
    arguments = [sys.executable, str(SCRIPT), str(directory), backend]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def killed_until_it_ends(directory, backend, kills, rng):
    """Start the same command again and again; kill it at random moments; return what it prints."""
    done = 0
    while True:
        process = started(directory, backend)
        if done < kills:
            # From the first checkpoint on, at any moment of its work.
            while not any(directory.glob("*.safetensors")) and process.poll() is None:
                time.sleep(0.005)
            time.sleep(rng.uniform(0, 0.25 if backend == "numpy" else 1.0))
            if process.poll() is None:
                process.kill()
                process.communicate()
                done += 1
                continue
        output = process.communicate()[0].decode()
        if done >= kills:
            return output
        for file in directory.iterdir():  # it has ended in time: once more from the beginning
            file.unlink()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no kill -9")
def test_kill_9_at_random_moments(tmp_path):
    kills = int(os.environ.get("NNX_TEST_KILLS", "4"))
    backend = os.environ.get("NNX_TEST_KILLS_BACKEND", "numpy")
    (tmp_path / "whole").mkdir()
    expected = started(tmp_path / "whole", backend).communicate()[0].decode()
    assert len(expected.strip()) == 64
    for i in range(max(1, kills // 4)):
        directory = tmp_path / f"{i}"
        directory.mkdir()
        assert killed_until_it_ends(directory, backend, 4, random.Random(i)) == expected
