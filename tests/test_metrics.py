"""Metrics by hand and against scikit-learn, for every dtype, shape, average and backend."""

import warnings

import numpy as np
import pytest
from conftest import usable
from numpy.testing import assert_allclose, assert_array_equal

import nnx
from nnx import metrics

AVERAGED = {"precision": "precision_score", "recall": "recall_score", "f1": "f1_score"}
OF_CLASSES = ["accuracy", "top_k_accuracy", "confusion_matrix", *AVERAGED]
OF_NUMBERS = {
    "mean_absolute_error": "mean_absolute_error",
    "mean_squared_error": "mean_squared_error",
    "root_mean_squared_error": "root_mean_squared_error",
    "r2": "r2_score",
}


def test_the_tables_have_every_metric():
    assert set(metrics.__all__) == {*OF_CLASSES, *OF_NUMBERS, "hits"}


def call(backend, metric, outputs, targets, **arguments):
    """The result as NumPy data, after the checks that hold for every metric."""
    arrays = backend.asarray(outputs), backend.asarray(targets)
    before = [backend.to_numpy(array).copy() for array in arrays]
    found = metric(*arrays, **arguments)
    assert backend.owns(found)
    if np.asarray(outputs).dtype.kind == "f":
        assert found.dtype == backend.dtype
    for array, copy in zip(arrays, before, strict=True):
        assert_array_equal(backend.to_numpy(array), copy)
    return backend.to_numpy(found)


def sklearn(name, *given, **arguments):
    theirs = pytest.importorskip("sklearn.metrics")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes without samples
        return getattr(theirs, name)(*given, **arguments)


# By hand.

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
    # three classes occur
    assert_allclose(found(metrics.precision, average="macro"), 1.5 / 3, rtol=1e-6)
    assert_allclose(found(metrics.recall, average="macro"), (2 / 3 + 1 / 2) / 3, rtol=1e-6)
    assert_allclose(found(metrics.f1, average="macro"), 1.3 / 3, rtol=1e-6)
    # three samples of class 0, two of class 1
    assert_allclose(found(metrics.f1, average="weighted"), (3 * 0.8 + 2 * 0.5) / 5, rtol=1e-6)
    for name in AVERAGED:
        assert_allclose(found(getattr(metrics, name), average="micro"), 3 / 5, rtol=1e-6)
    # the class is the best of 3 samples, the second best of the other two
    for k, expected in [(1, 3 / 5), (2, 1), (3, 1), (4, 1)]:
        assert_allclose(found(metrics.top_k_accuracy, k=k), expected, rtol=1e-6)


def test_hand_worked_metrics_of_labels(backend):
    answers = np.array([[1, 0, 1], [0, 0, 0], [1, 1, 0]])
    scores = np.array([[0.9, 0.2, 0.4], [0.1, 0.8, 0.3], [0.7, 0.6, 0.1]])  # 7 of 9 are right
    for name in AVERAGED:
        metric = getattr(metrics, name)
        perfect = call(backend, metric, 1.0 * answers, answers, average=None, per_entry=True)
        assert_array_equal(perfect, [1, 1, 1])
        with pytest.raises(ValueError, match=f"{name}: .*pass per_entry=True"):
            metric(scores, answers, average="macro")
    found = call(backend, metrics.accuracy, scores, answers, per_entry=True)
    assert_allclose(found, 7 / 9, rtol=1e-6)
    found = call(backend, metrics.precision, scores, answers, average=None, per_entry=True)
    assert_allclose(found, [1, 1 / 2, 0], rtol=1e-6)


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


# Against scikit-learn.

DTYPES = [
    "bool",
    "uint8",
    "int8",
    "uint16",
    "int32",
    "int64",
    "float16",
    ">f4",
    "float32",
    "float64",
]


def problem(classes, samples=40, seed=0):
    """Scores and class indices; one class is never true, another never guessed."""
    rng = np.random.default_rng(seed)
    scores = rng.random((samples, classes))
    index = rng.integers(0, max(2, classes - 1), samples)
    if classes > 3:
        scores[:, 2] = 0
    return scores, index


@pytest.mark.pairs
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("average", ["binary", "macro", "micro", "weighted", None])
@pytest.mark.parametrize("classes", [1, 2, 6])
@pytest.mark.parametrize("name", AVERAGED)
def test_averages_are_those_of_scikit_learn(name, classes, average, weighted, backend64):
    scores, index = problem(classes)
    guess = (scores[:, 0] >= 0.5).astype(int) if classes == 1 else scores.argmax(axis=1)
    w = np.random.default_rng(1).random(40) if weighted else None
    metric = getattr(metrics, name)
    ours = {"average": average} | ({"sample_weights": w} if weighted else {})
    if average == "binary" and classes > 2:
        with pytest.raises(ValueError, match=f"{name}: average='binary' is for two classes, got 6"):
            metric(scores, index)
        return
    labels = {"labels": range(max(classes, 2))} if average is None else {}
    expected = sklearn(AVERAGED[name], index, guess, average=average, sample_weight=w, **labels)
    for outputs in [scores, guess, *([scores[:, 0]] if classes == 1 else [])]:
        if average is None and outputs is guess:
            continue  # the number of classes is that of the labels that occur
        for targets in (index, np.eye(classes)[index] if classes > 1 else index[:, None]):
            if outputs is guess and targets.ndim == 2 and classes > 1:
                continue
            assert_allclose(call(backend64, metric, outputs, targets, **ours), expected, rtol=1e-6)
    if average == "binary" and not weighted:
        assert call(backend64, metric, scores, index) == pytest.approx(expected)  # the default


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("average", ["macro", "micro", "weighted", None])
@pytest.mark.parametrize("name", AVERAGED)
def test_labels_of_yes_or_no_questions_are_those_of_scikit_learn(
    name, average, weighted, backend64
):
    rng = np.random.default_rng(3)
    scores, answers = rng.random((40, 5)), rng.integers(0, 2, (40, 5))
    answers[:, 3] = 0  # never yes
    w = rng.random(40) if weighted else None
    expected = sklearn(
        AVERAGED[name], answers, scores >= 0.7, average=average, sample_weight=w, zero_division=0
    )
    ours = {"average": average, "per_entry": True, "threshold": 0.7, "sample_weights": w}
    found = call(backend64, getattr(metrics, name), scores, answers, **ours)
    assert_allclose(found, expected, rtol=1e-6)
    right = sklearn("hamming_loss", answers, scores >= 0.7, sample_weight=w)
    found = call(
        backend64,
        metrics.accuracy,
        scores,
        answers,
        threshold=0.7,
        per_entry=True,
        sample_weights=w,
    )
    assert_allclose(found, 1 - right, rtol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("classes", [1, 2, 6])
def test_the_other_metrics_of_classes_are_those_of_scikit_learn(classes, weighted, backend64):
    scores, index = problem(classes)
    guess = (scores[:, 0] >= 0.5).astype(int) if classes == 1 else scores.argmax(axis=1)
    labels, w = range(max(2, classes)), np.random.default_rng(1).random(40) if weighted else None
    for outputs in (scores, guess):
        found = call(backend64, metrics.accuracy, outputs, index, sample_weights=w)
        assert_allclose(found, sklearn("accuracy_score", index, guess, sample_weight=w), rtol=1e-6)
        matrix = sklearn("confusion_matrix", index, guess, labels=labels, sample_weight=w)
        found = call(backend64, metrics.confusion_matrix, outputs, index, sample_weights=w)
        assert_allclose(found, matrix[: len(found), : len(found)], rtol=1e-6)
    for k in range(1, len(labels) + 1):
        of = {"k": k, "sample_weight": w} | ({"labels": labels} if classes > 2 else {})
        column = scores if classes > 2 else (scores[:, 0] if classes == 1 else None)
        if column is None:  # scikit-learn takes one column of scores for two classes
            expected = sklearn("accuracy_score", index, guess, sample_weight=w) if k == 1 else 1.0
        else:
            expected = sklearn("top_k_accuracy_score", index, column, **of)
        found = call(backend64, metrics.top_k_accuracy, scores, index, k=k, sample_weights=w)
        assert_allclose(found, expected, rtol=1e-6)
    if classes > 2:
        expected = sklearn("top_k_accuracy_score", index, scores, labels=labels)
        assert_allclose(call(backend64, metrics.top_k_accuracy, scores, index), expected, rtol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(40,), (40, 1), (40, 3)])
@pytest.mark.parametrize("name", OF_NUMBERS)
def test_metrics_of_numbers_are_those_of_scikit_learn(name, shape, weighted, backend64):
    rng = np.random.default_rng(0)
    outputs, targets = rng.standard_normal(shape), rng.standard_normal(shape)
    if len(shape) > 1 and shape[1] > 1:
        targets[:, 1], targets[:, 2] = 2.0, 4.0  # constant: missed, and met
        outputs[:, 2] = 4.0
    w = rng.integers(0, 8, 40) / 8 if weighted else None  # their sums are exact
    expected = sklearn(OF_NUMBERS[name], targets, outputs, sample_weight=w)
    metric = getattr(metrics, name)
    assert_allclose(
        call(backend64, metric, outputs, targets, sample_weights=w), expected, rtol=1e-6
    )
    if targets.size == 40:  # (n,) and (n, 1) fit each other
        for a, y in (
            (outputs.reshape(-1), targets.reshape(-1, 1)),
            (outputs.reshape(-1, 1), targets),
        ):
            found = call(
                backend64, metric, a, y.reshape(-1) if a.ndim == 2 else y, sample_weights=w
            )
            assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_targets_and_guesses_of_every_dtype(dtype, backend):
    scores, index = problem(2)
    weights, guess = np.arange(40) % 3, scores.argmax(axis=1)
    expected = sklearn("f1_score", index, guess, sample_weight=weights)
    for targets in (
        index.astype(dtype),
        index.astype(dtype).tolist(),
        np.eye(2)[index].astype(dtype),
    ):
        for outputs in (backend.asarray(scores), scores, scores.tolist(), scores.astype("f2")):
            found = nnx.to_numpy(metrics.f1(outputs, targets, sample_weights=weights))
            assert_allclose(found, expected, rtol=1e-6)
    if np.dtype(dtype).kind != "f":
        found = metrics.f1(guess.astype(dtype), index.astype(dtype), sample_weights=weights)
        assert_allclose(found, expected, rtol=1e-6)
    if dtype in ("uint8", "int64", "float32"):
        found = metrics.f1(backend.asarray(scores), backend.from_numpy(index.astype(dtype)))
        assert_allclose(nnx.to_numpy(found), sklearn("f1_score", index, guess), rtol=1e-6)


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d != "bool"])
def test_numbers_of_every_dtype_do_not_wrap(dtype, backend):
    y, a = np.array([100, 10, 90, 50]), np.array([126, 0, 110, 30])
    error, r2 = np.abs(y - a).mean(), sklearn("r2_score", y, a)
    for outputs in (backend.asarray(1.0 * a), a.astype(dtype), a.astype(dtype).tolist()):
        found = metrics.mean_absolute_error(outputs, y.astype(dtype))
        assert_allclose(nnx.to_numpy(found), error, rtol=1e-6)
        assert_allclose(nnx.to_numpy(metrics.r2(outputs, y.astype(dtype))), r2, rtol=1e-6)


# Shapes.


@pytest.mark.parametrize("name", OF_CLASSES)
def test_rows_count_as_their_largest_entry(name, backend):
    extras = {"average": "macro"} if name in AVERAGED else {}
    metric = getattr(metrics, name)
    by_index = call(backend, metric, SCORES, CLASSES, **extras)
    assert_array_equal(call(backend, metric, SCORES, np.eye(4)[CLASSES], **extras), by_index)
    soft = 0.1 + 0.6 * np.eye(4)[CLASSES]
    assert_array_equal(call(backend, metric, SCORES, soft, **extras), by_index)


@pytest.mark.parametrize("name", [*OF_CLASSES, *OF_NUMBERS])
def test_every_time_step_is_a_term_with_a_weight(name, backend):
    rng = np.random.default_rng(0)
    metric, extras = getattr(metrics, name), {"average": None} if name in AVERAGED else {}
    outputs, w = rng.random((4, 5, 3)), rng.random((4, 5))
    y = rng.random((4, 5, 3)) if name in OF_NUMBERS else rng.integers(0, 3, (4, 5))
    flat = outputs.reshape(20, 3), y.reshape(20, *y.shape[2:])
    for given, each in [(None, None), (w, w.reshape(20)), (w[:, 0], np.repeat(w[:, 0], 5))]:
        found = call(backend, metric, outputs, y, sample_weights=given, **extras)
        assert_allclose(
            found, call(backend, metric, *flat, sample_weights=each, **extras), rtol=1e-5
        )


def test_ties_count_in_favour_and_infinite_scores_are_ordered(backend):
    tied = np.zeros((3, 4))
    assert call(backend, metrics.top_k_accuracy, tied, [0, 1, 3], k=1) == 1
    endless = np.array([[np.inf, 0, -np.inf]])
    for target, rank in [(0, 1), (1, 2), (2, 3)]:
        for k in (1, 2, 3):
            hit = call(backend, metrics.top_k_accuracy, endless, [target], k=k)
            assert hit == (rank <= k)


@pytest.mark.parametrize("name", OF_CLASSES)
def test_an_output_that_is_nan_guesses_nothing(name, backend):
    metric, extras = getattr(metrics, name), {"average": "micro"} if name in AVERAGED else {}
    for classes in (1, 2, 3):
        for place in range(classes):
            outputs = np.full((2, classes), 0.3)
            outputs[:, place] = np.nan
            found = call(backend, metric, outputs, [0, 1], **extras)
            assert_array_equal(found, np.zeros_like(found))
    if name in ("accuracy", *AVERAGED):
        outputs = np.full((2, 2), np.nan)
        extras = {"average": "micro"} if name in AVERAGED else {}
        assert call(backend, metric, outputs, np.eye(2), per_entry=True, **extras) == 0


@pytest.mark.parametrize("name", OF_NUMBERS)
def test_numbers_that_are_nan_give_nan(name, backend):
    lost, fine = np.array([[1.0, np.nan], [2.0, 3.0]]), np.array([[1.0, 3.0], [2.0, 3.0]])
    for a, y in ((lost, fine), (fine, lost)):
        assert np.isnan(call(backend, getattr(metrics, name), a, y))


# What is refused.

REFUSED = [
    ([[0.1, 0.9], [0.8, 0.2]], [-1, 0], "class indices from 0 to 1 in targets, got -1 to 0"),
    ([[0.1, 0.9], [0.8, 0.2]], [2, 0], "class indices from 0 to 1 in targets, got 0 to 2"),
    ([[0.1, 0.9], [0.8, 0.2]], [0.5, 0], "not whole"),
    ([[0.1, 0.9], [0.8, 0.2]], [np.nan, 0], "not whole"),
    ([[0.1, 0.9], [0.8, 0.2]], [[1, 1], [0, 1]], "one-hot or distributions"),
    ([[0.1, 0.9], [0.8, 0.2]], [[-1, 1], [1, -1]], "entries from 0 to 1, got -1 to 1"),
    ([[0.1, 0.9], [0.8, 0.2]], [[np.nan, 1], [1, 0]], "entries from 0 to 1"),
    ([[0.1, 0.9], [0.8, 0.2]], [[0], [1]], r"got shape \(2, 1\); .*reshape\(-1\)"),
    ([[0.1, 0.9], [0.8, 0.2]], [0, 1, 1], r"got shape \(3,\)"),
    ([0.1, 0.9], [-1, 1], "class indices from 0 to 1 in targets, got -1 to 1"),
    ([0.1, 0.9], [[0, 1], [1, 0]], "got shape"),
    ([1, 0], [-1, 0], "class indices from 0 on in targets, got -1 to 0"),
    ([-1, 0], [1, 0], "class indices from 0 on in outputs, got -1 to 0"),
    ([[0.1], [0.9]], [2, 0], "class indices from 0 to 1 in targets"),
    ([], [], "at least one sample"),
    (0.5, 1, "at least one sample"),
    ([[0.1, 0.9]], ["cat"], "real numbers.*numpy.unique"),
    ([[0.1, 0.9]], None, "targets to be real numbers, got None"),
    ([[0.1, 0.9], [0.8]], [0, 1], "outputs"),
    (np.ma.masked_array([[0.1, 0.9]], [[True, False]]), [0], "without masked entries"),
]


@pytest.mark.parametrize("name", OF_CLASSES)
@pytest.mark.parametrize(("outputs", "targets", "message"), REFUSED, ids=str)
def test_data_that_are_not_classes_are_refused(name, outputs, targets, message):
    with pytest.raises((TypeError, ValueError), match=f"{name}: expected (?s:.*){message}"):
        getattr(metrics, name)(outputs, targets)


@pytest.mark.parametrize("name", [*OF_CLASSES, *OF_NUMBERS])
@pytest.mark.parametrize(
    "w", [[1.0], [[1.0], [1.0]], [-1.0, 2.0], [0.0, 0.0], [np.nan, 1.0], ["a", "b"]]
)
def test_weights_that_do_not_fit_are_refused(name, w):
    with pytest.raises((TypeError, ValueError), match=f"{name}: expected sample_weights"):
        getattr(metrics, name)([[0.1, 0.9], [0.8, 0.2]], [[0, 1], [1, 0]], sample_weights=w)


@pytest.mark.parametrize("name", OF_NUMBERS)
def test_numbers_of_other_shapes_are_refused(name):
    with pytest.raises(ValueError, match=rf"{name}: expected targets of the shape .*\(3, 1\), got"):
        getattr(metrics, name)(np.ones((3, 1)), np.ones(2))
    with pytest.raises(ValueError, match=rf"{name}: expected targets of the shape .*\(3, 2\), got"):
        getattr(metrics, name)(np.ones((3, 2)), np.ones(3))


@pytest.mark.parametrize("k", [0, 5, -1, "2", True, 1.0, None])
def test_a_k_out_of_range_is_refused(k):
    with pytest.raises((TypeError, ValueError), match=r"top_k_accuracy: expected k .*got "):
        metrics.top_k_accuracy(SCORES, CLASSES, k)


@pytest.mark.parametrize("name", AVERAGED)
@pytest.mark.parametrize("average", ["samples", "", 1, True])
def test_another_average_is_refused(name, average):
    with pytest.raises(ValueError, match=f"{name}: expected average to be one of 'binary', .*got "):
        getattr(metrics, name)(SCORES, CLASSES, average)


def test_guessed_classes_have_no_scores():
    with pytest.raises(TypeError, match="top_k_accuracy: expected scores"):
        metrics.top_k_accuracy([0, 1], [0, 1], 1)


@pytest.mark.parametrize("name", ["accuracy", *AVERAGED])
def test_advice_on_average_and_per_entry_works(name):
    answers = np.array([[1, 1, 0], [0, 0, 1]])
    metric = getattr(metrics, name)
    with pytest.raises(ValueError, match="pass per_entry=True"):
        metric(1.0 * answers, answers)
    if name in AVERAGED:
        with pytest.raises(ValueError, match="average='macro'"):
            metric(1.0 * answers, answers, per_entry=True)
        assert metric(1.0 * answers, answers, per_entry=True, average="macro") == 1
    else:
        assert metric(1.0 * answers, answers, per_entry=True) == 1


def test_arrays_of_two_backends_are_refused():
    torch, strict = (nnx.backend.resolve(usable(name)) for name in ("torch", "strict"))
    with pytest.raises(nnx.backend.BackendError, match="arrays of one library"):
        metrics.accuracy(torch.asarray(SCORES), strict.asarray(CLASSES))


# Hits, for the training loop.


def test_hits_are_right_guesses_of_terms_or_entries(backend):
    def found(outputs, targets, *arguments):
        hits = metrics.hits(backend.asarray(outputs), backend.asarray(targets), *arguments)
        assert hits.dtype == backend.dtype
        return backend.to_numpy(hits)

    assert_array_equal(found(SCORES, CLASSES), [1, 1, 0, 1, 0])
    assert_array_equal(found(SCORES, np.eye(4)[CLASSES]), [1, 1, 0, 1, 0])
    steps = found(np.stack([SCORES, SCORES]), np.stack([CLASSES, 0 * CLASSES]))
    assert_array_equal(steps, [[1, 1, 0, 1, 0], [1, 0, 0, 1, 0]])
    column = np.array([[-1.0], [0.2], [3.0]])
    assert_array_equal(found(column, [0, 1, 1]), [1, 0, 1])
    assert_array_equal(found(column, [[0.0], [1.0], [1.0]], 0.0), [1, 1, 1])
    answers = np.array([[0, 1, 1], [1, 0, 0]])
    entries = found([[0.1, 0.9, 0.2], [0.6, 0.5, 0.4]], answers, 0.5, True)
    assert_array_equal(entries, [[1, 1, 0], [1, 0, 1]])
    assert_array_equal(found([[0.1, 0.9, 0.2]], [1], 0.5, True), [[1, 1, 1]])
    assert_array_equal(found([[np.nan, 0.9]], [1]), [0])
    assert_array_equal(found([[np.nan, 0.9]], [1], 0.5, True), [[0, 1]])


def test_hits_read_nothing():
    usable("torch")
    with nnx.use_backend("torch:meta") as backend:
        outputs, targets = backend.asarray(SCORES), backend.asarray(CLASSES)
        assert tuple(metrics.hits(outputs, targets).shape) == (5,)
        assert tuple(metrics.hits(outputs, outputs, 0.5, True).shape) == (5, 4)
        for name in OF_NUMBERS:
            assert getattr(metrics, name)(outputs, outputs).shape == ()
