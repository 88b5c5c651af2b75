"""What a training tells: every number of the History beside scikit-learn on the same outputs."""

import copy
import math
import pickle
import re

import numpy as np
import pytest

import nnx

sklearn = pytest.importorskip("sklearn.metrics")
CLASSES = ["f1", "precision", "recall", "top_k_accuracy"]
NUMBERS = ["mean_absolute_error", "mean_squared_error", "r2", "root_mean_squared_error"]


@pytest.fixture
def eager(nnx_backend):
    """Every backend but the one that compiles each training: other tests here are for that one."""
    if nnx_backend.name == "jax":
        pytest.skip("it compiles each training")
    return nnx_backend


def close(found, expected):
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)


def labelled(rng, samples, classes):
    x = rng.standard_normal((samples, 5))
    return x, (x[:, :classes] + rng.standard_normal((samples, classes))).argmax(axis=1)


def network(outputs, afun, cost, optim=None, inputs=5):
    nnx.seed(0)
    layers = [nnx.DenseLayer(inputs, 8, nnx.TanH()), nnx.DenseLayer(8, outputs, afun)]
    return nnx.SequentialNet(inputs, layers, cost, optim or nnx.SGD(0.2))


def sklearn_classes(scores, y, weights=None):
    guess, k = scores.argmax(axis=1), {"sample_weight": weights}
    macro = {"average": "macro", "zero_division": 0.0, **k}
    return {
        "accuracy": sklearn.accuracy_score(y, guess, **k),
        "f1": sklearn.f1_score(y, guess, **macro),
        "precision": sklearn.precision_score(y, guess, **macro),
        "recall": sklearn.recall_score(y, guess, **macro),
        "top_k_accuracy": sklearn.top_k_accuracy_score(y, scores, k=2, **k),
    }


def sklearn_numbers(a, y, weights=None):
    k = {"sample_weight": weights}
    return {
        "mean_absolute_error": sklearn.mean_absolute_error(y, a, **k),
        "mean_squared_error": sklearn.mean_squared_error(y, a, **k),
        "root_mean_squared_error": sklearn.root_mean_squared_error(y, a, **k),
        "r2": sklearn.r2_score(y, a, **k),
    }


@pytest.mark.parametrize("weighted", [False, True])
def test_classes(eager, weighted):
    rng = np.random.default_rng(0)
    (x, y), (xv, yv) = labelled(rng, 90, 3), labelled(rng, 50, 3)
    w, wv = rng.uniform(0.5, 2, 90), rng.uniform(0.5, 2, 50)
    net = network(3, nnx.SoftMax(), nnx.CrossEntropy())
    before = nnx.to_numpy(net.predict(x))
    seen = []

    def look(net, history):
        seen.append(sklearn_classes(nnx.to_numpy(net.predict(xv)), yv, wv if weighted else None))

    history = net.train(
        x,
        y,
        90,  # one batch: the outputs of the first epoch are those before training
        3,
        validation=(xv, yv, wv) if weighted else (xv, yv),
        sample_weights=w if weighted else None,
        metrics=CLASSES,
        callbacks=[look],
        progress=False,
    )
    expected = sklearn_classes(before, y, w if weighted else None)
    for name in ("accuracy", *CLASSES):
        close(history[name][0], expected[name])
        assert len(history[name]) == 3
        close(history[f"validation_{name}"], [scores[name] for scores in seen])
    score = net.score(xv, yv, sample_weights=wv if weighted else None, metrics=CLASSES)
    assert score.metrics.keys() == set(CLASSES)
    close(score.metrics["f1"], seen[-1]["f1"])


def test_metrics_of_an_epoch_are_those_of_all_its_batches_together(nnx_backend):
    """Not the mean over batches: with eta = 0 the outputs are the same throughout."""
    x, y = labelled(np.random.default_rng(1), 90, 3)
    net = network(3, nnx.SoftMax(), nnx.CrossEntropy(), nnx.SGD(0.0))
    expected = sklearn_classes(nnx.to_numpy(net.predict(x)), y)
    history = net.train(x, y, 7, 1, metrics=CLASSES, progress=False)
    for name in CLASSES:
        close(history[name][0], expected[name])


@pytest.mark.parametrize("weighted", [False, True])
def test_real_numbers(eager, weighted):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((60, 5)), rng.standard_normal((60, 2))
    w = rng.uniform(0.5, 2, 60) if weighted else None
    net = network(2, nnx.Linear(), nnx.MeanSquaredError(), nnx.SGD(0.0))
    expected = sklearn_numbers(nnx.to_numpy(net.predict(x)), y, w)
    history = net.train(x, y, 8, 1, metrics=NUMBERS, sample_weights=w, progress=False)
    assert history.accuracy == []
    for name in NUMBERS:
        close(history[name][0], expected[name])


def test_real_numbers_have_r2_and_absolute_error_unasked_and_no_accuracy(capsys):
    x = np.linspace(0, 1, 20)[:, None]
    net = network(1, nnx.Linear(), nnx.MeanSquaredError(), inputs=1)
    history = net.train(x, x, 5, 1, validation=(x, x))
    names = ["loss", "mean_absolute_error", "r2"]
    assert sorted(history) == sorted(["seconds", *names, *(f"validation_{name}" for name in names)])
    line = capsys.readouterr().out
    assert "accuracy" not in line
    assert f"r2 {history['r2'][0]:.4f}" in line
    assert math.isnan(net.score(x, x).accuracy)
    assert net.score(x, x).metrics["r2"] == pytest.approx(history["validation_r2"][0])
    assert list(net.train(x, x, 5, 1, metrics=[], progress=False)) == ["loss", "seconds"]


@pytest.mark.parametrize("cost", [nnx.BinaryCrossEntropy(), nnx.LogisticCrossEntropy()])
def test_several_yes_or_no_outputs(eager, cost):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((80, 5))
    y = (x[:, :3] + rng.standard_normal((80, 3)) > 0.3).astype(int)
    logits = isinstance(cost, nnx.LogisticCrossEntropy)
    net = network(3, nnx.Linear() if logits else nnx.Logistic(), cost, nnx.SGD(0.0))
    scores = nnx.to_numpy(net.predict(x))
    guess = (scores >= (0.0 if logits else 0.5)).astype(int)
    history = net.train(x, y, 9, 1, metrics=["f1"], validation=(x, y), progress=False)
    score, metrics = net.score(x, y, metrics=["f1"]), nnx.metrics
    accuracy = metrics.accuracy(scores, y, 0.0 if logits else 0.5, per_entry=True)
    for found in (history.accuracy[0], history.validation_accuracy[0], score.accuracy, accuracy):
        close(float(found), (guess == y).mean())
    for found in (history["f1"][0], history["validation_f1"][0], score.metrics["f1"]):
        close(found, sklearn.f1_score(y, guess, average="macro"))


def sequences(rng, lengths):
    x = [rng.standard_normal((n, 2)) for n in lengths]
    return x, [(np.cumsum(one[:, 0]) > 0).astype(int) for one in x]


def reader(shape, optim=None):
    nnx.seed(0)
    layers = [nnx.GRULayer(2, 4, return_sequences=True), nnx.DenseLayer(4, 2, nnx.SoftMax())]
    return nnx.SequentialNet(shape, layers, nnx.CrossEntropy(), optim or nnx.SGD(0.0))


def test_time_steps_of_several_lengths(nnx_backend):
    x, y = sequences(np.random.default_rng(0), [3, 5, 4, 3, 5, 3, 3, 4])
    net = reader((None, 2))
    guess = np.concatenate([nnx.to_numpy(a).argmax(axis=1) for a in net.predict(x)])
    labels = np.concatenate(y)
    history = net.train(x, y, 2, 1, metrics=["f1"], validation=(x, y), progress=False)
    score = net.score(x, y, metrics=["f1"])
    for found in (history.accuracy[0], history.validation_accuracy[0], score.accuracy):
        close(found, (guess == labels).mean())
    for found in (history["f1"][0], history["validation_f1"][0], score.metrics["f1"]):
        close(found, sklearn.f1_score(labels, guess))


def test_labels_that_do_not_count_do_not_count_anywhere(nnx_backend):
    """Padding is as if it were not there: loss, gradient, accuracy and metrics."""
    x, y = sequences(np.random.default_rng(0), [5] * 12)
    x, y = np.stack(x), np.stack(y)
    padded = np.concatenate([x, np.zeros((12, 2, 2))], axis=1)
    labels = np.concatenate([y, np.full((12, 2), -1)], axis=1)
    found = []
    for inputs, targets, options in ((x, y, {}), (padded, labels, {"ignore_label": -1})):
        net = reader(inputs.shape[1:], nnx.SGD(0.5))
        options["metrics"] = ["f1", "recall"]
        history = net.train(
            inputs, targets, 4, 3, validation=(inputs, targets), progress=False, **options
        )
        score = net.score(inputs, targets, **options)
        found.append([history[name] for name in history if name != "seconds"])
        found[-1] += [[score.loss, score.accuracy, score.metrics["f1"]]]
        found[-1] += [nnx.to_numpy(p).ravel().tolist() for p in net.parameters.values()]
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-6)


def test_balanced_classes_weigh_the_loss_as_in_pytorch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 5))
    y = np.repeat([0, 1, 2], [40, 15, 5])
    net = network(3, nnx.SoftMax(), nnx.CrossEntropy(), nnx.SGD(0.0))
    history = net.train(x, y, 60, 1, class_weights="balanced", progress=False)
    weights = torch.tensor([60 / (3 * n) for n in (40, 15, 5)], dtype=torch.float64)
    logs = torch.log(torch.tensor(nnx.to_numpy(net.predict(x)), dtype=torch.float64))
    # PyTorch divides by the sum of the weights, which is that of the samples here: 60.
    expected = torch.nn.functional.nll_loss(logs, torch.tensor(y), weight=weights)
    close(history.loss[0], float(expected))


def test_functions_of_ones_own_and_what_is_not_there():
    x, y = labelled(np.random.default_rng(0), 40, 3)
    net = network(3, nnx.SoftMax(), nnx.CrossEntropy())

    def confidence(outputs, targets):
        return outputs.max(axis=1).mean()

    history = net.train(x, y, 10, 2, metrics=[confidence, "f1"], progress=False)
    assert list(history) == ["loss", "accuracy", "seconds", "confidence", "f1"]
    assert all(1 / 3 < value <= 1 for value in history["confidence"])
    with pytest.raises(KeyError, match="expected one of loss, accuracy, seconds, confidence, f1"):
        history["validation_f1"]
    for metrics, message in [
        (["recal"], "write 'recall'"),
        (["r2"], "class indices"),
        ("f1", "metrics="),
    ]:
        with pytest.raises((ValueError, TypeError), match=message):
            net.train(x, y, 10, 1, metrics=metrics, progress=False)


def test_the_validation_has_a_batch_size_of_its_own(monkeypatch):
    x, y = labelled(np.random.default_rng(0), 100, 3)
    net = network(3, nnx.SoftMax(), nnx.CrossEntropy())
    sizes = []
    original = nnx.training.Plan.outputs

    def outputs(plan, batch):
        sizes.append(batch.shape[0])
        return original(plan, batch)

    monkeypatch.setattr(nnx.training.Plan, "outputs", outputs)
    net.train(x, y, 10, 1, validation=(x, y), validation_batch_size=30, progress=False)
    assert sizes == [30, 30, 30, 10]
    sizes.clear()
    net.train(x, y, 10, 1, validation=(x, y), progress=False)
    assert sizes == [40, 40, 20]


def test_a_score_is_a_pair_that_can_be_copied():
    import pickle

    score = nnx.training.Score(0.5, 0.25, {"f1": 0.75})
    loss, accuracy = score
    assert (loss, accuracy, score.metrics) == (0.5, 0.25, {"f1": 0.75})
    again = pickle.loads(pickle.dumps(score))
    assert (again, again.metrics) == (score, score.metrics)
    assert repr(score) == "Score(loss=0.5, accuracy=0.25, f1=0.75)"


def test_a_metric_gets_the_targets_as_they_were_given():
    """Also where class indices become rows for the loss."""
    rng = np.random.default_rng(0)
    shapes = []

    def look(outputs, targets):
        shapes.append((targets.ndim, str(targets.dtype).rpartition(".")[2][:3]))
        return 0.0

    for features, classes in ((50, 3), (2, 5)):
        net = network(classes, nnx.SoftMax(), nnx.CrossEntropy(), inputs=features)
        x, y = rng.standard_normal((40, features)), rng.integers(0, classes, 40)
        net.train(x, y, 10, 1, metrics=iter([look]), validation=(x, y), progress=False)
        net.train(x, np.eye(classes)[y], 10, 1, metrics=[look], progress=False)
    assert shapes == [(1, "int"), (1, "int"), (2, "flo")] * 2


def test_an_error_in_a_metric_names_it():
    def broken(outputs, targets):
        raise ZeroDivisionError("by hand")

    x, y = labelled(np.random.default_rng(0), 40, 3)
    with pytest.raises(ZeroDivisionError, match="by hand") as caught:
        network(3, nnx.SoftMax(), nnx.CrossEntropy()).train(
            x, y, 10, metrics=[broken], progress=False
        )
    assert caught.value.__notes__ == [
        "raised by the metric 'broken' for outputs (40, 3) and targets (40,)"
    ]


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("val_loss", 'write history["validation_loss"]'),
        ("acc", 'write history["accuracy"]'),
        ("f1", 'write history["f1"]'),
        ("history", "expected one of loss, accuracy, validation_loss, f1, got 'history'"),
    ],
)
def test_a_name_of_another_library_says_what_it_is_here(name, advice):
    history = nnx.History(loss=[1.0], accuracy=[0.5], validation_loss=[1.0], metrics={"f1": [0.5]})
    with pytest.raises(AttributeError) as caught:
        getattr(history, name)
    assert str(caught.value).endswith(advice)
    if name != "f1":
        with pytest.raises(KeyError, match=re.escape(advice[:20])):
            history[name]
    for twin in (copy.deepcopy(history), pickle.loads(pickle.dumps(history))):
        assert twin == history
