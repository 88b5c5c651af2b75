"""Metrics by hand and against scikit-learn."""

import numpy as np
import pytest
from conftest import usable
from numpy.testing import assert_allclose, assert_array_equal

import nnx
from nnx import metrics

OF_CLASSES = {
    "accuracy": metrics.accuracy,
    "top_k_accuracy": lambda outputs, targets: metrics.top_k_accuracy(outputs, targets, 2),
    "confusion_matrix": metrics.confusion_matrix,
    "precision": metrics.precision,
    "recall": metrics.recall,
    "f1": metrics.f1,
}
OF_NUMBERS = {"mean_absolute_error": metrics.mean_absolute_error, "r2": metrics.r2}


def test_the_tables_have_every_metric():
    assert set(metrics.__all__) == {*OF_CLASSES, *OF_NUMBERS}


def call(backend, metric, outputs, targets, **arguments):
    """The result as NumPy data, after the checks that hold for every metric."""
    arrays = backend.asarray(outputs), backend.asarray(targets)
    before = [backend.to_numpy(array).copy() for array in arrays]
    found = metric(*arrays, **arguments)
    assert found.dtype == backend.dtype
    for array, copy in zip(arrays, before, strict=True):
        assert_array_equal(backend.to_numpy(array), copy)
    return backend.to_numpy(found)


# Guesses 0, 1, 1, 0, 2 for the classes 0, 1, 0, 0, 1 of four: 3 never occurs, 2 only as a guess.
SCORES = np.array(
    [
        [0.9, 0.1, 0.0, 0.0],
        [0.2, 0.6, 0.1, 0.1],
        [0.3, 0.5, 0.1, 0.1],
        [0.7, 0.1, 0.1, 0.1],
        [0.1, 0.3, 0.4, 0.2],
    ]
)
CLASSES = np.array([0, 1, 0, 0, 1])


def test_hand_worked_metrics_of_classes(backend):
    def found(metric, **arguments):
        return call(backend, metric, SCORES, CLASSES, **arguments)

    assert_allclose(found(metrics.accuracy), 3 / 5, rtol=1e-6)
    matrix = [[2, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert_array_equal(found(metrics.confusion_matrix), matrix)
    assert_allclose(found(metrics.precision, average=None), [1, 1 / 2, 0, 0], rtol=1e-6)
    assert_allclose(found(metrics.recall, average=None), [2 / 3, 1 / 2, 0, 0], rtol=1e-6)
    assert_allclose(found(metrics.f1, average=None), [4 / 5, 1 / 2, 0, 0], rtol=1e-6)
    assert_allclose(found(metrics.precision), 1.5 / 4, rtol=1e-6)
    assert_allclose(found(metrics.recall), (2 / 3 + 1 / 2) / 4, rtol=1e-6)
    assert_allclose(found(metrics.f1), 1.3 / 4, rtol=1e-6)
    for metric in (metrics.precision, metrics.recall, metrics.f1):
        assert_allclose(found(metric, average="micro"), 3 / 5, rtol=1e-6)
    # the class is the best of 3 samples, the second best of the other two
    for k, expected in [(1, 3 / 5), (2, 1), (3, 1), (4, 1)]:
        assert_allclose(found(metrics.top_k_accuracy, k=k), expected, rtol=1e-6)


def test_hand_worked_metrics_of_numbers(backend):
    outputs, targets = [[1.0, 0], [2, 0], [4, 6]], [[1.0, 1], [2, 2], [3, 3]]
    error = call(backend, metrics.mean_absolute_error, outputs, targets)
    assert_allclose(error, (0 + 0 + 1 + 1 + 2 + 3) / 6, rtol=1e-6)
    # residuals 1 and 14, variations 2 and 2
    assert_allclose(call(backend, metrics.r2, outputs, targets), (0.5 - 6) / 2, rtol=1e-6)
    assert call(backend, metrics.r2, targets, targets) == 1
    mean = np.full((3, 2), 2.0)
    assert call(backend, metrics.r2, mean, targets) == 0


def test_r2_of_constant_targets_is_1_if_met_and_else_0(backend):
    targets = np.full((7, 2), 0.1)  # whose mean is not 0.1 in floating point
    assert call(backend, metrics.r2, targets, targets) == 1
    assert call(backend, metrics.r2, targets + np.array([0.0, 1.0]), targets) == 0.5


@pytest.mark.parametrize("name", OF_NUMBERS)
def test_a_single_output_takes_a_list_of_numbers(name, backend):
    outputs, targets = np.array([[1.0], [2.0], [4.0]]), np.array([1.0, 3.0, 5.0])
    flat = call(backend, OF_NUMBERS[name], outputs, targets)
    assert flat == call(backend, OF_NUMBERS[name], outputs, targets[:, None])
    with pytest.raises(ValueError, match=rf"{name}: expected targets of the shape .*\(3, 1\), got"):
        call(backend, OF_NUMBERS[name], outputs, targets[:2])


@pytest.mark.parametrize("name", OF_CLASSES)
def test_rows_count_as_their_largest_entry(name, backend):
    by_index = call(backend, OF_CLASSES[name], SCORES, CLASSES)
    assert_array_equal(call(backend, OF_CLASSES[name], SCORES, np.eye(4)[CLASSES]), by_index)
    soft = 0.1 + 0.6 * np.eye(4)[CLASSES]
    assert_array_equal(call(backend, OF_CLASSES[name], SCORES, soft), by_index)


@pytest.mark.parametrize("name", [name for name in OF_CLASSES if name != "top_k_accuracy"])
def test_a_single_output_tells_two_classes(name, backend):
    p, classes = np.array([0.5, 0.2, 0.7, 0.9, 0.4]), np.array([1, 0, 0, 1, 1])
    two = call(backend, OF_CLASSES[name], np.stack([1 - p, p + 1e-3], axis=1), classes)
    for targets in (classes, classes[:, None].astype(float)):
        assert_array_equal(call(backend, OF_CLASSES[name], p[:, None], targets), two)


@pytest.mark.parametrize("name", OF_CLASSES)
def test_more_axes_are_more_samples(name, backend):
    rng = np.random.default_rng(0)
    outputs, classes = rng.random((4, 5, 3)), rng.integers(0, 3, (4, 5))
    found = call(backend, OF_CLASSES[name], outputs, classes)
    flat = call(backend, OF_CLASSES[name], outputs.reshape(20, 3), classes.reshape(20))
    assert_allclose(found, flat, rtol=1e-6)


def test_ties_count_in_favour_and_nan_against(backend):
    tied = np.zeros((3, 4))
    assert call(backend, metrics.top_k_accuracy, tied, [0, 1, 3], k=1) == 1
    lost = np.full((3, 4), np.nan)
    assert call(backend, metrics.top_k_accuracy, lost, [0, 1, 3], k=4) == 0
    endless = np.array([[np.inf, 0, -np.inf]])
    for target, rank in [(0, 1), (1, 2), (2, 3)]:
        for k in (1, 2, 3):
            hit = call(backend, metrics.top_k_accuracy, endless, [target], k=k)
            assert hit == (rank <= k)


@pytest.mark.parametrize("k", [0, 5, -1])
def test_a_k_out_of_range_is_refused(k):
    with pytest.raises(ValueError, match=f"top_k_accuracy: expected k from 1 .*, 4, got {k}"):
        metrics.top_k_accuracy(SCORES, CLASSES, k)


@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
def test_another_average_is_refused(name):
    with pytest.raises(ValueError, match=f"{name}: expected average .*, got 'weighted'"):
        getattr(metrics, name)(SCORES, CLASSES, "weighted")


@pytest.mark.parametrize("seed", range(5))
def test_scikit_learn_says_the_same(seed, backend64):
    theirs = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    outputs = rng.random((40, 6))
    classes = rng.integers(0, 5, 40)  # class 5 is never true
    outputs[:, 2] = 0  # and class 2 never guessed
    guess, labels = outputs.argmax(axis=1), range(6)

    def ours(metric, **arguments):
        return call(backend64, metric, outputs, classes, **arguments)

    assert_allclose(ours(metrics.accuracy), theirs.accuracy_score(classes, guess), rtol=1e-12)
    matrix = theirs.confusion_matrix(classes, guess, labels=labels)
    assert_array_equal(ours(metrics.confusion_matrix), matrix)
    for k in (1, 2, 5):
        expected = theirs.top_k_accuracy_score(classes, outputs, k=k, labels=labels)
        assert_allclose(ours(metrics.top_k_accuracy, k=k), expected, rtol=1e-12)
    for mine, score in [
        (metrics.precision, theirs.precision_score),
        (metrics.recall, theirs.recall_score),
        (metrics.f1, theirs.f1_score),
    ]:
        for average in ("macro", "micro", None):
            expected = score(classes, guess, labels=labels, average=average, zero_division=0)
            assert_allclose(ours(mine, average=average), expected, rtol=1e-12)
    truth = rng.standard_normal((40, 6))
    numbers = call(backend64, metrics.r2, outputs, truth)
    assert_allclose(numbers, theirs.r2_score(truth, outputs), rtol=1e-12)
    error = call(backend64, metrics.mean_absolute_error, outputs, truth)
    assert_allclose(error, theirs.mean_absolute_error(truth, outputs), rtol=1e-12)


def test_nothing_is_read_where_there_is_no_data():
    usable("torch")
    with nnx.use_backend("torch:meta") as backend:
        outputs, targets = backend.asarray(SCORES), backend.asarray(CLASSES)
        for name, metric in OF_CLASSES.items():
            shape = (4, 4) if name == "confusion_matrix" else ()
            assert tuple(metric(outputs, targets).shape) == shape
        for metric in OF_NUMBERS.values():
            assert metric(outputs, outputs).shape == ()


def test_a_column_of_class_indices_is_refused():
    outputs = np.eye(3, dtype=np.float32)
    with pytest.raises(ValueError, match=r"indices \(3,\) or rows \(3, 3\), got shape \(3, 1\)"):
        nnx.metrics.accuracy(outputs, np.array([[0], [1], [2]]))
