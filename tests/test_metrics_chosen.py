"""Metrics by name or as functions, against scikit-learn on the same outputs."""

import warnings

import numpy as np
import pytest

import nnx
from nnx import metrics
from nnx.metrics.chosen import OF_CLASSES, OF_NUMBERS, check, chosen, joined

RNG = np.random.default_rng(11)
SAMPLES = 60

# The loss of a network, and outputs of it: is a class guessed from these by the largest, from a
# threshold on, or is each entry a guess?
SCORES = RNG.random((SAMPLES, 4))
SCORES[:, 2] = 0  # never guessed
LOGITS = RNG.normal(size=(SAMPLES, 4))
OUTPUTS = {
    "classes": (nnx.CrossEntropy(), SCORES),
    "two classes": (nnx.CrossEntropy(), SCORES[:, :2]),
    "0 and 1": (nnx.BinaryCrossEntropy(), SCORES[:, :1]),
    "logits of 0 and 1": (nnx.LogisticCrossEntropy(), LOGITS[:, :1]),
    "labels": (nnx.BinaryCrossEntropy(), SCORES[:, :3]),
    "logits of labels": (nnx.LogisticCrossEntropy(), LOGITS),
    "two labels": (nnx.BinaryCrossEntropy(), SCORES[:, :2]),
}


def sklearn(name, *given, **arguments):
    theirs = pytest.importorskip("sklearn.metrics")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes without samples
        return getattr(theirs, name)(*given, **arguments)


def truth_and_guess(loss, outputs):
    """What scikit-learn takes."""
    classes = outputs.shape[1]
    if loss.per_entry and classes > 1:
        return RNG.integers(0, 2, outputs.shape), (outputs >= loss.threshold).astype(int)
    if classes == 1:
        return RNG.integers(0, 2, SAMPLES), (outputs[:, 0] >= loss.threshold).astype(int)
    return RNG.integers(0, classes, SAMPLES), outputs.argmax(axis=1)


def weights_of(kind):
    weights = {"none": None, "weights": RNG.random(SAMPLES) + 0.1}.get(kind)
    if kind == "some are 0":
        weights = RNG.random(SAMPLES) * (RNG.random(SAMPLES) < 0.5)
    return weights


def found(backend, metric, outputs, targets, weights):
    """The metric of arrays of the backend, after what training does with them."""
    arrays = [None if a is None else backend.asarray(a) for a in (outputs, targets, weights)]
    return metric(*joined([tuple(arrays)]))


@pytest.mark.parametrize("kind", ["none", "weights", "some are 0"])
@pytest.mark.parametrize("name", ["accuracy", "precision", "recall", "f1"])
@pytest.mark.parametrize("case", OUTPUTS)
def test_metrics_of_classes_by_name_are_those_of_scikit_learn(case, name, kind, backend64):
    loss, outputs = OUTPUTS[case]
    truth, guess = truth_and_guess(loss, outputs)
    w = weights_of(kind)
    keep = np.ones(SAMPLES, bool) if w is None else w > 0
    labels = truth.ndim == 2
    given = {"sample_weight": None if w is None else w[keep]}
    if name == "accuracy" and labels:
        expected = 1 - sklearn("hamming_loss", truth[keep], guess[keep], **given)
    elif name == "accuracy":
        expected = sklearn("accuracy_score", truth[keep], guess[keep], **given)
    else:
        average = "macro" if labels or outputs.shape[1] > 2 else "binary"
        expected = sklearn(f"{name}_score", truth[keep], guess[keep], average=average, **given)
    (metric,) = chosen([name], loss).values()
    result = found(backend64, metric, outputs, truth, w)
    assert type(result) is float
    assert result == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("kind", ["none", "weights", "some are 0"])
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("name", OF_NUMBERS)
def test_metrics_of_numbers_by_name_are_those_of_scikit_learn(name, outputs, kind, backend64):
    a, y, w = RNG.normal(size=(SAMPLES, outputs)), RNG.normal(size=(SAMPLES, outputs)), None
    w = weights_of(kind)
    theirs = {"r2": "r2_score"}.get(name, name)
    expected = sklearn(theirs, y, a, sample_weight=w)
    (metric,) = chosen([name], nnx.MeanSquaredError()).values()
    assert found(backend64, metric, a, y, w) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("kind", ["none", "some are 0"])
def test_the_class_is_among_the_two_likeliest(kind, backend64):
    y, w = RNG.integers(0, 4, SAMPLES), weights_of(kind)
    theirs = {"k": 2, "labels": range(4), "sample_weight": w}
    expected = sklearn("top_k_accuracy_score", y, LOGITS, **theirs)
    (metric,) = chosen(["top_k_accuracy"], nnx.SoftMaxCrossEntropy()).values()
    assert found(backend64, metric, LOGITS, y, w) == pytest.approx(expected, rel=1e-12)


def test_every_metric_that_is_one_number_has_a_name():
    numbers = set(metrics.__all__) - {"hits", "confusion_matrix"}
    assert {*OF_CLASSES, *OF_NUMBERS} == numbers
    for name in numbers:
        assert (OF_CLASSES | OF_NUMBERS)[name] is getattr(metrics, name)


# Functions.


def error(outputs, targets):
    return abs(nnx.to_numpy(outputs) - nnx.to_numpy(targets)).mean()


def weighted(outputs, targets, sample_weights=None):
    assert sample_weights is not None
    return nnx.metrics.mean_absolute_error(outputs, targets, sample_weights=sample_weights)


class Callable:
    def __call__(self, outputs, targets):
        return 3


def test_functions_are_called_by_their_names(backend64):
    given = [error, weighted, "r2", Callable(), max]
    made = chosen(given, nnx.MeanSquaredError())
    assert [*made] == ["error", "weighted", "r2", "Callable", "max"]
    a, y = backend64.asarray([[1.0], [2], [4]]), backend64.asarray([[1.0], [1], [2]])
    w = backend64.asarray([1.0, 2, 3])
    assert made["error"](a, y, w) == 1.0
    assert made["weighted"](a, y, w) == pytest.approx((0 * 1 + 1 * 2 + 2 * 3) / 6)
    assert made["Callable"](a, y) == 3.0
    named = chosen({"mine": lambda outputs, targets: outputs[0, 0]}, nnx.MeanSquaredError())
    assert [*named] == ["mine"]
    assert named["mine"](a, y) == 1.0
    assert chosen((one for one in ["r2"]), nnx.MeanSquaredError()).keys() == {"r2"}
    assert chosen([], nnx.MeanSquaredError()) == {}


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (None, "got None"),
        ("0.5", "got '0.5'"),
        (True, "got True"),
        (1j, "got 1j"),
        (np.True_, r"got an array of shape \(\) and dtype bool"),
        (np.ones(1), r"got an array of shape \(1,\)"),
        (np.ones((2, 3)), r"got an array of shape \(2, 3\) and dtype float64"),
        ([0.5], r"got \[0.5\]"),
    ],
)
def test_a_function_that_returns_something_else_is_named(value, got, backend):
    metric = chosen({"mine": lambda outputs, targets: value}, nnx.CrossEntropy())["mine"]
    with pytest.raises(TypeError, match=f"metric 'mine' to return a real number, {got}"):
        metric(backend.asarray([[1.0]]), backend.asarray([[1.0]]))


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), np.array(0.5), "array of the backend"])
def test_a_function_may_return_any_real_number(value, backend):
    value = backend.asarray(0.5) if isinstance(value, str) else value
    metric = chosen({"mine": lambda outputs, targets: value}, nnx.CrossEntropy())["mine"]
    assert metric(backend.asarray([[1.0]]), backend.asarray([[1.0]])) == 0.5


def no_targets(outputs):
    return 0.0


WRONG = [
    ("f1", r"a list of names .* got 'f1'; write metrics=\['f1'\]"),
    (error, r"got error; write metrics=\[error\]"),
    (None, "got None; write metrics="),
    ({"f1"}, "got {'f1'}; write metrics="),
    (["recal"], "one of 'accuracy', .* got 'recal'; write 'recall'"),
    (["acuracy"], "got 'acuracy'; write 'accuracy'"),
    (["mse"], r"got 'mse'; write 'mean_squared_error'"),
    (["confusion_matrix"], "got 'confusion_matrix'; pass a function"),
    ([3], r"a function of \(outputs, targets\), got 3; write def f\(outputs, targets\)"),
    ([Callable], r"got <class .*Callable'>; write Callable\(\)"),
    ([no_targets], r"got no_targets\(outputs\); write def f"),
    ([lambda outputs, targets: 0.0], "got a lambda without a name; write {'name': lambda"),
    (["f1", "f1"], "of different names, got 'f1' twice"),
    ([error, error], "got 'error' twice"),
    ({"mine": "f1"}, "got {'mine': 'f1'}; write {'name': function}"),
    ({3: error}, "got {3: <function error"),
]


@pytest.mark.parametrize(("given", "message"), WRONG)
def test_wrong_metrics_are_refused(given, message):
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        chosen(given, nnx.CrossEntropy())
    assert str(caught.value).startswith("train: expected ")


# Checked before a training.

INDICES, ROWS, REALS = np.array([0, 1]), np.eye(3)[[0, 1]], np.full((2, 3), 0.3)
CHECKED = [
    ("f1", 3, nnx.CrossEntropy(), INDICES, None),
    ("f1", 3, nnx.CrossEntropy(), ROWS, None),
    ("accuracy", 3, nnx.MeanSquaredError(), REALS, "targets that are classes, .* 'accuracy'"),
    ("r2", 3, nnx.MeanSquaredError(), REALS, None),
    ("r2", 3, nnx.MeanSquaredError(), ROWS, None),
    ("r2", 3, nnx.CrossEntropy(), INDICES, "rows of numbers, .* 'r2', got class indices"),
    ("top_k_accuracy", 3, nnx.CrossEntropy(), ROWS, None),
    ("top_k_accuracy", 2, nnx.CrossEntropy(), INDICES, "more than 2 classes, .* got 2 outputs"),
    ("top_k_accuracy", 3, nnx.BinaryCrossEntropy(), ROWS, "got separate yes-or-no outputs"),
    (error, 3, nnx.CrossEntropy(), INDICES, None),
]


@pytest.mark.parametrize(("metric", "outputs", "loss", "y", "message"), CHECKED)
def test_metrics_that_do_not_go_with_the_targets(metric, outputs, loss, y, message, backend):
    afun = nnx.Logistic() if loss.per_entry else nnx.SoftMax()
    net = nnx.SequentialNet(2, [nnx.DenseLayer(2, outputs, afun=afun)], loss)
    parts = nnx.data.checked_samples(net, np.ones((2, 2)), y)
    classes = nnx.data.are_classes(net, parts)
    made = chosen([metric], loss)
    if message is None:
        check(made, net, parts[0][1], classes)
        return
    with pytest.raises(ValueError, match=message):
        check(made, net, parts[0][1], classes)


# Several parts.


@pytest.mark.parametrize("targets", ["indices", "rows"])
@pytest.mark.parametrize("kind", ["none", "samples", "steps"])
def test_parts_of_several_shapes_are_joined_term_by_term(kind, targets, backend64):
    results, flat = [], ([], [], [])
    for samples, time in ((2, 3), (1, 5), (4, 1)):
        a, y = RNG.random((samples, time, 3)), RNG.integers(0, 3, (samples, time))
        w = None
        if kind != "none":
            w = RNG.random((samples, time) if kind == "steps" else samples) + 0.1
            w.flat[0] = 0
        results.append([a, np.eye(3)[y] if targets == "rows" else y, w])
        every = np.ones(y.shape) if w is None else w.reshape(samples, -1) * np.ones(y.shape)
        for column, values in zip(flat, (a.reshape(-1, 3), y.ravel(), every.ravel()), strict=True):
            column.append(values)
    arrays = [
        tuple(None if one is None else backend64.asarray(one) for one in part) for part in results
    ]
    a, y, w = joined(arrays)
    every_a, every_y, every_w = map(np.concatenate, flat)
    keep = every_w > 0
    np.testing.assert_array_equal(nnx.to_numpy(a), every_a[keep])
    expected = np.eye(3)[every_y[keep]] if targets == "rows" else every_y[keep]
    np.testing.assert_array_equal(nnx.to_numpy(y), expected)
    if kind == "none":
        assert w is None
    else:
        np.testing.assert_array_equal(nnx.to_numpy(w), every_w[keep])
    (f1,) = chosen(["f1"], nnx.CrossEntropy()).values()
    given = {"average": "macro", "sample_weight": every_w[keep]}
    expected = sklearn("f1_score", every_y[keep], every_a[keep].argmax(axis=1), **given)
    assert f1(a, y, w) == pytest.approx(expected, rel=1e-12)


def test_what_is_whole_stays_as_it_is(backend):
    a, y = backend.asarray(np.ones((2, 3, 4))), backend.asarray(np.zeros((2, 3), int))
    assert joined([(a, y, None)]) == (a, y, None)
    both, _, w = joined([(a, y, backend.asarray([1.0, 2.0])), (a, y, backend.asarray([0.0, 3.0]))])
    assert tuple(both.shape) == (3, 3, 4)
    np.testing.assert_array_equal(nnx.to_numpy(w), [1, 2, 3])
