"""What counts how much: labels that do not count, weights of classes, a fraction kept apart."""

import numpy as np
import pytest

import nnx
from nnx import metrics
from nnx.data import checked_samples, held_out, training_data

RNG = np.random.default_rng(7)
SAMPLES, TIME = 12, 4


def network(loss, outputs, afun, sequences=False):
    """2 inputs, for samples or for each time step."""
    layers = [nnx.DenseLayer(2, outputs, afun=afun)]
    return nnx.SequentialNet((TIME, 2) if sequences else 2, layers, loss)


# Losses of classes with the activation that goes with them.
LOSSES = {
    "CrossEntropy": (nnx.CrossEntropy(), 3, nnx.SoftMax()),
    "smoothed": (nnx.CrossEntropy(label_smoothing=0.1), 3, nnx.SoftMax()),
    "weighted": (nnx.CrossEntropy(class_weights=[1, 2, 3]), 3, nnx.SoftMax()),
    "SoftMaxCrossEntropy": (nnx.SoftMaxCrossEntropy(), 3, nnx.Linear()),
    "KullbackLeibler": (nnx.KullbackLeibler(), 3, nnx.SoftMax()),
    "BinaryCrossEntropy": (nnx.BinaryCrossEntropy(), 1, nnx.Logistic()),
    "LogisticCrossEntropy": (nnx.LogisticCrossEntropy(), 1, nnx.Linear()),
    "labels": (nnx.BinaryCrossEntropy(), 3, nnx.Logistic()),
    "Hinge": (nnx.Hinge(), 3, nnx.Linear()),
    "MeanSquaredError": (nnx.MeanSquaredError(), 3, nnx.Linear()),
}


def host(array):
    return nnx.to_numpy(array)


def data(outputs, sequences):
    """Inputs, labels with some -1, and which of these count: as many in every case."""
    rng = np.random.default_rng(3)
    shape = (SAMPLES, TIME) if sequences else (SAMPLES,)
    counts = rng.random(shape) < 0.6
    x, y = rng.normal(size=(*shape, 2)), rng.integers(0, max(outputs, 2), shape)
    counts[0] = False  # a sequence of which nothing counts
    return x, np.where(counts, y, -1), counts


@pytest.mark.pairs
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("case", LOSSES)
def test_the_mean_is_over_the_terms_that_count(case, sequences, weighted, backend64):
    loss, outputs, afun = LOSSES[case]
    net = network(loss, outputs, afun, sequences)
    x, y, counts = data(outputs, sequences)
    given = RNG.random(SAMPLES) + 0.5 if weighted else None
    ((inputs, targets, weights),) = checked_samples(net, x, y, given, ignore_label=-1)
    a = net.predict(inputs)

    alone = network(loss, outputs, afun)
    for layer, other in zip(alone.layers, net.layers, strict=True):
        layer.W, layer.b = other.W, other.b
    each = None
    if weighted:
        each = backend64.asarray(
            np.broadcast_to(given.reshape(-1, *[1] * (y.ndim - 1)), y.shape)[counts]
        )
    few = alone.predict(x[counts])
    labels = backend64.asarray(y[counts])
    expected = host(loss.value(few, labels, each))
    np.testing.assert_allclose(host(loss.value(a, targets, weights)), expected, rtol=1e-9)

    gradient = host(loss.gradient(a, targets, weights))
    assert np.all(gradient[~counts] == 0)
    np.testing.assert_allclose(
        gradient[counts], host(loss.gradient(few, labels, each)), rtol=1e-9, atol=1e-12
    )
    arguments = {"threshold": loss.threshold, "per_entry": loss.per_entry}
    np.testing.assert_allclose(
        host(metrics.accuracy(a, targets, sample_weights=weights, **arguments)),
        host(metrics.accuracy(few, labels, sample_weights=each, **arguments)),
        rtol=1e-9,
    )


def test_what_does_not_count_has_no_influence_even_if_the_loss_is_infinite_there(backend):
    y = np.array([0, 1, -1, -1])
    net = network(nnx.SoftMaxCrossEntropy(), 3, nnx.Linear())
    ((_, targets, weights),) = checked_samples(net, np.ones((4, 2)), y, ignore_label=-1)
    a = np.array([[1.0, 2, 3], [3, 1, 2], [-np.inf, 0, 0], [0, 1, 2]])
    value = host(net.cost.value(backend.asarray(a), targets, weights))
    log_sum = np.log(np.exp([1, 2, 3]).sum())
    np.testing.assert_allclose(value, ((log_sum - 1) + (log_sum - 1)) / 2, rtol=1e-6)
    np.testing.assert_array_equal(host(weights), [2, 2, 0, 0])
    np.testing.assert_array_equal(host(targets), [0, 1, 0, 0])


def test_a_training_ignores_the_inputs_of_labels_that_do_not_count(backend64):
    x, y, counts = data(3, sequences=True)
    found = []
    for noise in (0.0, 100.0):
        nnx.seed(0)
        net = network(nnx.CrossEntropy(), 3, nnx.SoftMax(), sequences=True)
        given = np.where(counts[..., None], x, x + noise)
        (part,) = checked_samples(net, given, y, ignore_label=-1)
        for _ in range(3):
            net.step(*part)
        found.append(host(net.layers[0].W))
    np.testing.assert_array_equal(*found)


def test_without_that_label_there_are_no_weights(backend):
    net = network(nnx.CrossEntropy(), 3, nnx.SoftMax())
    assert len(checked_samples(net, np.ones((3, 2)), [0, 1, 2], ignore_label=-1)[0]) == 2
    ((_, y, weights),) = checked_samples(net, np.ones((3, 2)), [0, 1, 2], ignore_label=0)
    np.testing.assert_array_equal(host(y), [0, 1, 2])
    np.testing.assert_array_equal(host(weights), [0, 1.5, 1.5])


@pytest.mark.parametrize(
    ("y", "label", "message"),
    [
        ([-1, -1, -1], -1, "other than ignore_label=-1 in y, got it for all 3 terms; pass"),
        ([0, 1, -2], -1, r"y\[2\] = -2; for terms that do not count: pass ignore_label=-2"),
        ([0, -100, 7], -1, r"got -100 to 7, the first one outside is y\[1\] = -100; number"),
        (np.eye(3), -1, r"got rows of shape \(3, 3\); for one-hot rows: pass class indices"),
        ([0.0, 1.0, -1.0], -1, "ignore_label=-1 is given, got dtype float64"),
        ([0, 1, 2], "x", "an integer or None, got 'x'; write ignore_label=-1"),
        ([0, 1, 2], True, "an integer or None, got True; write ignore_label=-1"),
        ([0, 1, 2], -1.0, r"an integer or None, got -1\.0; write ignore_label=-1"),
    ],
)
def test_labels_to_ignore_that_make_no_sense(y, label, message, backend):
    net = network(nnx.CrossEntropy(), 3, nnx.SoftMax())
    with pytest.raises((ValueError, TypeError), match=message):
        checked_samples(net, np.ones((3, 2)), y, ignore_label=label)


@pytest.mark.parametrize("label", [-1, -100])
def test_a_negative_label_is_an_error_that_names_ignore_label(label, backend):
    net = network(nnx.CrossEntropy(), 3, nnx.SoftMax())
    with pytest.raises(ValueError, match=f"pass ignore_label={label}, or number"):
        checked_samples(net, np.ones((4, 2)), [0, 1, 2, label])


def test_weights_of_time_steps_need_a_loss_of_time_steps(backend):
    net = network(nnx.QuadraticCost(), 3, nnx.Linear(), sequences=True)
    y = np.zeros((2, TIME), int)
    for wish in ({"ignore_label": 0}, {"class_weights": {0: 2}}):
        y[0, 0] = 1
        with pytest.raises(
            ValueError, match=f"mean over the time steps, because {next(iter(wish))}"
        ):
            checked_samples(net, np.ones((2, TIME, 2)), y, **wish)


# Weights of classes.

# The same classes 0, 2, 2, 1, 2 of three, or 0, 1, 1, 0, 1 of two, in every form.
INDEX, YES = np.array([0, 2, 2, 1, 2]), np.array([0, 1, 1, 0, 1])
FORMS = {
    "class indices": (3, INDEX, INDEX),
    "one-hot rows": (3, np.eye(3)[INDEX], INDEX),
    "a class that is missing": (4, INDEX, INDEX),
    "0 and 1": (1, YES, YES),
    "booleans": (1, YES > 0, YES),
    "0.0 and 1.0 in a column": (1, YES[:, None] * 1.0, YES),
}


@pytest.mark.pairs
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("given", ["balanced", "dict", "list", "array"])
@pytest.mark.parametrize("case", FORMS)
def test_weights_of_classes_multiply_those_of_their_samples(case, given, weighted, backend):
    outputs, y, index = FORMS[case]
    several = outputs > 1
    loss = nnx.CrossEntropy() if several else nnx.BinaryCrossEntropy()
    net = network(loss, outputs, nnx.SoftMax() if several else nnx.Logistic())
    by_class = np.array([0.5, 0.0, 3.0, 2.0])[: max(outputs, 2)]
    if given == "balanced":
        compute = pytest.importorskip("sklearn.utils.class_weight").compute_class_weight
        occur = np.unique(index)
        by_class[occur] = compute("balanced", classes=occur, y=index)
        class_weights = "balanced"
    elif given == "dict":
        class_weights = {0: 0.5, np.int64(1): 0}
        by_class[2:] = 1
    else:
        class_weights = list(by_class) if given == "list" else by_class
    w = np.array([1.0, 2, 3, 4, 5]) if weighted else None
    parts = checked_samples(net, np.ones((5, 2)), y, w, class_weights=class_weights)
    expected = by_class[index] * (w if weighted else 1)
    np.testing.assert_allclose(host(parts[0][2]), expected, rtol=1e-6)


def test_balanced_counts_the_time_steps_that_count(backend):
    net = network(nnx.CrossEntropy(), 3, nnx.SoftMax(), sequences=True)
    y = np.array([[0, 0, 1, -1], [0, 1, 0, -1]])
    wishes = {"ignore_label": -1, "class_weights": "balanced"}
    ((_, _, weights),) = checked_samples(net, np.ones((2, TIME, 2)), y, **wishes)
    zero, one = 6 / (2 * 4) * 8 / 6, 6 / (2 * 2) * 8 / 6  # 6 of 8 terms count
    expected = [[zero, zero, one, 0], [zero, one, zero, 0]]
    np.testing.assert_allclose(host(weights), expected, rtol=1e-6)


def test_the_classes_of_yes_or_no_outputs_are_class_indices_alone(backend):
    net = network(nnx.BinaryCrossEntropy(), 3, nnx.Logistic())
    parts = checked_samples(net, np.ones((3, 2)), [0, 1, 2], class_weights={1: 5})
    np.testing.assert_array_equal(host(parts[0][2]), [1, 5, 1])
    with pytest.raises(ValueError, match="because class_weights are given, got other rows"):
        checked_samples(net, np.ones((3, 2)), np.eye(3), class_weights="balanced")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("even", "'balanced', {class: weight} or .*, got 'even'; write class_weights='balanced'"),
        ({3: 1.0}, "got the class 3; the classes of the network are 0 to 2"),
        ({-1: 1.0}, "got the class -1;"),
        ({"cat": 1.0}, "got the class 'cat';"),
        ({True: 1.0}, "got the class True;"),
        ({0: -1.0}, r"class_weights\[0\] to be a number >= 0, got -1.0"),
        ({0: "1"}, r"class_weights\[0\] to be a number >= 0, got '1'"),
        ([1, 2], "got 2 weights for 3 classes"),
        ([1, 2, np.inf], r"class_weights\[2\] to be a number >= 0, got inf"),
        (2.0, "got a float; write class_weights='balanced'"),
        ({0, 1}, "got a set"),
        ({0: 0, 1: 0, 2: 0}, "expected a weight above 0 for some sample"),
    ],
)
def test_weights_of_classes_that_make_no_sense(given, message, backend):
    net = network(nnx.CrossEntropy(), 3, nnx.SoftMax())
    with pytest.raises((ValueError, TypeError), match=message):
        checked_samples(net, np.ones((5, 2)), INDEX, class_weights=given)


@pytest.mark.parametrize("y", [np.full((5, 3), 1 / 3), np.arange(15.0).reshape(5, 3)])
def test_targets_without_classes_have_no_weights_of_classes(y, backend):
    net = network(nnx.MeanSquaredError(), 3, nnx.Linear())
    with pytest.raises(ValueError, match=r"expected y as class indices.*pass sample_weights"):
        checked_samples(net, np.ones((5, 2)), y, class_weights="balanced")


def test_weights_that_are_all_0_are_refused(backend):
    net = network(nnx.CrossEntropy(), 3, nnx.SoftMax())
    with pytest.raises(
        ValueError, match="sample_weights and class weights whose products are all 0"
    ):
        checked_samples(net, np.ones((5, 2)), INDEX, np.zeros(5))


# A fraction.


@pytest.mark.parametrize(
    ("samples", "fraction"),
    [(2, 0.01), (2, 0.99), (10, 0.2), (7, 0.5), (101, 1 / 3), (1000, 0.05), (1000, 0.999)],
)
@pytest.mark.parametrize("classes", [None, 2, 5, 40])
def test_a_fraction_of_each_class_is_kept(samples, fraction, classes):
    y = None if classes is None else RNG.integers(0, classes, samples) ** 2 % 7
    held = held_out(samples, fraction, y)
    expected = min(max(round(fraction * samples), 1), samples - 1)
    assert len(set(held.tolist())) == len(held) == expected
    assert held.min() >= 0
    assert held.max() < samples
    np.testing.assert_array_equal(held, np.sort(held))
    if y is not None:
        for c in np.unique(y):
            share = np.sum(y == c) * len(held) / samples
            assert abs(np.sum(y[held] == c) - share) < 1


def test_the_draw_depends_on_the_seed_alone():
    def draws():
        return [held_out(50, 0.2).tolist(), held_out(50, 0.2, np.arange(50) % 3).tolist()]

    nnx.seed(3)
    first = draws()
    nnx.seed(3)
    nnx.randomness.generator("batches").permutation(50)
    held_out(49, 0.2)
    assert draws() == first
    nnx.seed(4)
    assert draws() != first
    assert draws() == draws()  # a second training keeps the same samples
    drawn = []
    for number in range(400):
        nnx.seed(number)
        drawn.append(held_out(20, 0.25))
    counts = np.bincount(np.concatenate(drawn), minlength=20)
    assert abs(counts - 100).max() < 5 * np.sqrt(400 * 0.25 * 0.75)  # no sample is preferred


def test_a_single_sample_cannot_be_divided():
    with pytest.raises(
        ValueError, match=r"at least 2 samples for validation=0\.2, got 1; pass more"
    ):
        held_out(1, 0.2)


# targets for 100 samples; how many outputs; are the samples divided class by class?
NINE_TO_ONE = np.arange(100) % 10 == 0
TARGETS = {
    "class indices": (NINE_TO_ONE.astype(int), 2, True),
    "one-hot rows": (np.eye(2)[NINE_TO_ONE.astype(int)], 2, True),
    "0 and 1": (NINE_TO_ONE.astype(int), 1, True),
    "several labels": (np.stack([NINE_TO_ONE, ~NINE_TO_ONE], axis=1), 2, False),
    "real numbers": (NINE_TO_ONE + 0.5, 1, False),
}


@pytest.mark.parametrize("case", TARGETS)
def test_which_targets_are_divided_class_by_class(case, backend):
    y, outputs, by_class = TARGETS[case]
    loss = nnx.BinaryCrossEntropy() if case == "several labels" else nnx.MeanSquaredError()
    afun = nnx.Logistic() if case == "several labels" else nnx.Linear()
    net = network(loss, outputs, afun)
    x, weights = np.stack([np.arange(100), NINE_TO_ONE], axis=1), np.arange(100) + 1
    shares = set()
    for _ in range(20):
        (kept,), (held,) = training_data(net, x, y, weights, validation=0.2)
        assert (kept[0].shape[0], held[0].shape[0]) == (80, 20)
        for part in (kept, held):
            inputs = host(part[0]).astype(int)
            np.testing.assert_array_equal(host(part[2]), inputs[:, 0] + 1)
            np.testing.assert_array_equal(host(part[1]), as_given(y, outputs)[inputs[:, 0]])
        np.testing.assert_array_equal(
            np.sort(np.concatenate([host(kept[0]), host(held[0])])[:, 0]), np.arange(100)
        )
        shares.add(int(host(held[0])[:, 1].sum()))
    assert (shares == {2}) == by_class


def as_given(y, outputs):
    return y[:, None] if outputs == 1 else y


def test_weights_are_made_after_the_division(backend):
    net = network(nnx.CrossEntropy(), 3, nnx.SoftMax())
    y = np.array([0, 1, -1, 1, 2, 0, -1, 2, 2, 1] * 3)
    x = np.stack([np.arange(30), y], axis=1)
    wishes = {"ignore_label": -1, "class_weights": "balanced"}
    (kept,), (held,) = training_data(net, x, y, validation=0.3, **wishes)
    for part, balanced in ((kept, True), (held, False)):
        labels = host(part[0])[:, 1].astype(int)
        count = labels >= 0
        expected = np.where(count, len(labels) / count.sum(), 0)
        for c in range(3) if balanced else ():
            expected[labels == c] *= count.sum() / (3 * np.sum(labels == c))
        np.testing.assert_allclose(host(part[2]), expected, rtol=1e-6)


def test_validation_of_its_own_has_the_label_that_does_not_count_but_no_weights_of_classes(backend):
    net = network(nnx.CrossEntropy(), 3, nnx.SoftMax())
    wishes = {"ignore_label": -1, "class_weights": {0: 5}}
    own = (np.ones((4, 2)), [0, -1, 1, 2], [1, 1, 2, 2])
    (part,), (valid,) = training_data(net, np.ones((2, 2)), [0, 1], validation=own, **wishes)
    np.testing.assert_array_equal(host(part[2]), [5, 1])
    np.testing.assert_allclose(host(valid[2]), np.array([1, 0, 2, 2]) * 4 / 3, rtol=1e-6)
    with pytest.raises(ValueError, match=r"in validation\[1\], got it for all 2 terms"):
        training_data(net, np.ones((2, 2)), [0, 1], validation=(own[0][:2], [-1, -1]), **wishes)
    assert training_data(net, np.ones((2, 2)), [0, 1])[1] is None


def test_a_training_with_a_fraction_is_one_with_the_two_parts(backend64):
    x, y = RNG.normal(size=(40, 2)), RNG.integers(0, 3, 40)
    nnx.seed(1)
    net = network(nnx.CrossEntropy(), 3, nnx.SoftMax())
    history = net.train(x, y, 8, 2, validation=0.2, shuffle=False, progress=False)
    nnx.seed(1)
    other = network(nnx.CrossEntropy(), 3, nnx.SoftMax())
    held = held_out(40, 0.2, y)
    kept = np.setdiff1d(np.arange(40), held)
    expected = other.train(
        x[kept], y[kept], 8, 2, validation=(x[held], y[held]), shuffle=False, progress=False
    )
    assert history.loss == expected.loss
    assert history.validation_loss == expected.validation_loss


# Accuracy is one thing everywhere.

SEVERAL = [
    (nnx.BinaryCrossEntropy(), nnx.Logistic()),
    (nnx.LogisticCrossEntropy(), nnx.Linear()),
    (nnx.LogisticCrossEntropy(k=2.0), nnx.Linear()),
]


@pytest.mark.pairs
@pytest.mark.parametrize(("loss", "afun"), SEVERAL)
@pytest.mark.parametrize(
    ("targets", "weighted"), [("rows", False), ("rows", True), ("indices", True)]
)
@pytest.mark.parametrize("sequences", [False, True])
def test_accuracy_of_several_yes_or_no_outputs(loss, afun, targets, weighted, sequences, backend64):
    net = network(loss, 5, afun, sequences)
    shape = (30, TIME) if sequences else (30,)
    x = RNG.normal(size=(*shape, 2))
    y = RNG.integers(0, 5, shape) if targets == "indices" else RNG.integers(0, 2, (*shape, 5))
    w = RNG.random(30) if weighted else None
    answers = np.eye(5)[y] if targets == "indices" else y
    yes = host(net.predict(x)) >= loss.threshold
    mean = np.mean(yes == answers, axis=tuple(range(1, yes.ndim)))
    expected = np.average(mean, weights=w)
    assert net.score(x, y, sample_weights=w).accuracy == pytest.approx(expected, abs=1e-12)
    assert float(
        metrics.accuracy(
            host(net.predict(x)), y, loss.threshold, per_entry=loss.per_entry, sample_weights=w
        )
    ) == pytest.approx(expected, abs=1e-12)
    history = net.train(x, y, 30, 1, sample_weights=w, progress=False, shuffle=False)
    assert history.accuracy == [pytest.approx(expected, abs=1e-12)]
    validation = (x, y) if w is None else (x, y, w)
    history = net.train(x, y, 30, 1, validation=validation, progress=False)
    score = net.score(x, y, sample_weights=w)
    assert history.validation_accuracy == [pytest.approx(score.accuracy, abs=1e-12)]
