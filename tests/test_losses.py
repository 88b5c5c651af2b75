"""Losses against PyTorch's recorded numbers, numeric derivatives, hand-worked numbers, extremes."""

import math

import numpy as np
import pytest
from conftest import compile_on, usable
from losses_table import (
    BINARY,
    LOSSES,
    WITH_CLASS_WEIGHTS,
    WITH_SMOOTHING,
    classes_of,
    draw,
    label,
    make,
    recorded,
)
from numpy.testing import assert_allclose, assert_array_equal

import nnx
from nnx import losses
from nnx.backend import BackendError

CASES = recorded()
OF_ROWS = ["CrossEntropy", "SoftMaxCrossEntropy", "KullbackLeibler", "Hinge"]
OF_CLASSES = [name for name, (_, rows) in LOSSES.items() if rows != "numbers"]


def problem(name, rng, shape):
    """Outputs and target rows for a loss, away from its kinks."""
    outputs, rows = LOSSES[name]
    return draw(outputs, rng, shape), draw(rows, rng, shape)


def on(backend, a, y, weights=None):
    """The data as arrays of the backend."""
    return (
        backend.asarray(a),
        backend.asarray(y),
        None if weights is None else backend.asarray(weights),
    )


def value_and_gradient(backend, loss, a, y, weights=None):
    """Both as NumPy data, after the checks that hold for every loss and every argument."""
    given = on(backend, a, y, weights)
    copies = [None if g is None else backend.to_numpy(g).copy() for g in given]
    value, gradient = loss.value(*given), loss.gradient(*given)
    assert value.shape == ()
    assert tuple(gradient.shape) == np.shape(a)
    assert value.dtype == gradient.dtype == backend.dtype
    for array, copy in zip(given, copies, strict=True):
        if array is not None:
            assert_array_equal(backend.to_numpy(array), copy)
    return float(backend.to_numpy(value)), backend.to_numpy(gradient)


def test_the_table_has_every_loss():
    public = {name for name in losses.__all__ if isinstance(getattr(losses, name), type)}
    assert public == {"Loss", *LOSSES}
    assert {case["name"] for case in CASES} == set(LOSSES)


# PyTorch.


@pytest.mark.parametrize("case", CASES, ids=label)
def test_value_and_gradient_are_those_of_pytorch(case, backend64):
    loss = make(case["name"], **case["arguments"])
    found = value_and_gradient(backend64, loss, case["a"], case["y"], case["weights"])
    assert_allclose(found[0], case["value"], rtol=1e-12)
    assert_allclose(found[1], case["gradient"], rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("case", CASES, ids=label)
def test_float32_stays_float32_and_loses_only_its_digits(case, backend):
    loss = make(case["name"], **case["arguments"])
    found = value_and_gradient(backend, loss, case["a"], case["y"], case["weights"])
    assert_allclose(found[0], case["value"], rtol=2e-5)
    assert_allclose(found[1], case["gradient"], rtol=2e-4, atol=1e-6)


def test_the_recorded_numbers_are_those_of_the_installed_pytorch():
    pytest.importorskip("torch")
    from fixtures.make_losses import reference

    for case in CASES:
        data = (case["a"], case["y"], case["weights"])
        value, gradient = reference(case["name"], case["arguments"], *data)
        assert_allclose(value, case["value"], rtol=1e-12)
        assert_allclose(gradient, case["gradient"], rtol=1e-12, atol=1e-14)


# The gradient is the derivative.


def central_differences(f, a, h=1e-5):
    gradient = np.zeros_like(a)
    for i in np.ndindex(*a.shape):
        up, down = a.copy(), a.copy()
        up[i] += h
        down[i] -= h
        gradient[i] = (f(up) - f(down)) / (2 * h)
    return gradient


@pytest.mark.parametrize("case", CASES, ids=label)
def test_gradient_is_the_numeric_derivative_of_value(case):
    with nnx.use_backend("numpy", dtype="float64"):
        loss = make(case["name"], **case["arguments"])
        y, weights = case["y"], case["weights"]
        numeric = central_differences(lambda a: loss.value(a, y, weights), case["a"])
        assert_allclose(loss.gradient(case["a"], y, weights), numeric, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
    ("cost", "afun", "fused"),
    [
        (nnx.CrossEntropy(), nnx.SoftMax(), nnx.SoftMaxCrossEntropy),
        (nnx.CrossEntropy(0.1, [1.0, 2.0, 0.5]), nnx.SoftMax(), nnx.SoftMaxCrossEntropy),
        (nnx.BinaryCrossEntropy(), nnx.Logistic(), nnx.LogisticCrossEntropy),
        (nnx.BinaryCrossEntropy(0.1, [1.0, 2.0]), nnx.Logistic(2.5), nnx.LogisticCrossEntropy),
    ],
    ids=repr,
)
def test_a_network_fuses_loss_and_last_activation_and_the_two_are_the_same(
    cost, afun, fused, backend64
):
    rng = np.random.default_rng(1)
    net = nnx.SequentialNet(2, [nnx.DenseLayer(2, 3, afun)], cost)
    stable = net.plan().loss
    assert type(stable) is fused
    z = rng.standard_normal((4, 3))
    y = draw(LOSSES[type(cost).__name__][1], rng, (4, 3))
    z, y, _ = on(backend64, z, y)
    a, backward = afun.forward(z)
    to_numpy = backend64.to_numpy
    assert_allclose(to_numpy(stable.value(z, y)), to_numpy(cost.value(a, y)), rtol=1e-12)
    apart = to_numpy(backward(cost.gradient(a, y)))
    assert_allclose(to_numpy(stable.gradient(z, y)), apart, rtol=1e-11, atol=1e-14)


def test_a_network_of_one_logistic_output_learns_two_classes(backend):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 3))
    y = (x[:, 0] > x[:, 1]).astype(int)
    layer = nnx.DenseLayer(3, 1, nnx.Logistic(), nnx.SGD(0.5))
    net = nnx.SequentialNet(3, [layer], nnx.BinaryCrossEntropy(label_smoothing=0.01))
    history = net.train(x, y, batch_size=10, epochs=5, progress=False)
    assert history.accuracy[-1] > 0.97
    assert history.loss[-1] < history.loss[0]


# By hand.

HAND = [
    (nnx.QuadraticCost(), [[1, 2], [3, 5]], [[0, 2], [3, 1]], (1 + 16) / 4, [[0.5, 0], [0, 2]]),
    (nnx.MeanSquaredError(), [[1, 2], [3, 5]], [[0, 2], [3, 1]], 17 / 4, [[0.5, 0], [0, 2]]),
    (
        nnx.MeanAbsoluteError(),
        [[1, 2], [3, -5]],
        [[0, 2], [3, 1]],
        (1 + 6) / 4,
        [[0.25, 0], [0, -0.25]],
    ),
    (nnx.Huber(2.0), [[1], [-4]], [[0], [1]], (0.5 + 2 * (5 - 1)) / 2, [[0.5], [-1]]),
    (
        nnx.CrossEntropy(),
        [[0.5, 0.5], [0.2, 0.8]],
        [0, 1],
        -math.log(0.4) / 2,
        [[-1, 0], [0, -0.625]],
    ),
    (
        nnx.SoftMaxCrossEntropy(),
        [[0, 0], [1, 1]],
        [0, 1],
        math.log(2),
        [[-0.25, 0.25], [0.25, -0.25]],
    ),
    (nnx.BinaryCrossEntropy(), [[0.5], [0.2]], [[1], [0]], -math.log(0.4) / 2, [[-1], [0.625]]),
    (nnx.LogisticCrossEntropy(), [[0], [0]], [[1], [0]], math.log(2), [[-0.25], [0.25]]),
    # m + a_j - a_c: 1 + 2 - 1 = 2 and 1 - 3 - 1 < 0; then 1 + 0 - 5 < 0 twice
    (nnx.Hinge(), [[1, 2, -3], [5, 0, 0]], [0, 0], 1, [[-0.5, 0.5, 0], [0, 0, 0]]),
    (nnx.Hinge(), [[0.5], [0.5]], [1, 0], (0.5 + 1.5) / 2, [[-0.5], [0.5]]),
    (
        nnx.KullbackLeibler(),
        [[0.5, 0.5], [0.25, 0.75]],
        [[0.5, 0.5], [1, 0]],
        math.log(4) / 2,
        [[-0.5, -0.5], [-2, 0]],
    ),
]


@pytest.mark.parametrize(("loss", "a", "y", "value", "gradient"), HAND, ids=lambda x: repr(x)[:30])
def test_hand_worked_numbers(loss, a, y, value, gradient, backend):
    y = np.array(y) if np.ndim(y) == 1 else np.array(y, dtype=float)
    found = value_and_gradient(backend, loss, np.array(a, dtype=float), y)
    assert_allclose(found[0], value, rtol=1e-6)
    assert_allclose(found[1], gradient, rtol=1e-6, atol=1e-7)


def test_the_hand_worked_numbers_cover_every_loss():
    assert {type(case[0]).__name__ for case in HAND} == set(LOSSES)


# The mean over the samples.


def assert_mean_over_samples(loss, a, y):
    """A loss that is a mean: of the samples' own losses, whatever the number of outputs."""
    one = [slice(i, i + 1) for i in range(a.shape[0])]
    alone = [float(loss.value(a[i], y[i])) for i in one]
    assert_allclose(float(loss.value(a, y)), np.mean(alone), rtol=1e-10)
    slopes = np.concatenate([loss.gradient(a[i], y[i]) for i in one])
    assert_allclose(loss.gradient(a, y), slopes / a.shape[0], rtol=1e-10)


@pytest.mark.parametrize("name", LOSSES)
def test_value_and_gradient_are_means_over_the_samples(name):
    for shape in [(7, 3), (3, 7), (1, 4)]:
        assert_mean_over_samples(make(name), *problem(name, np.random.default_rng(3), shape))


@pytest.mark.parametrize("good", [nnx.QuadraticCost, nnx.SoftMaxCrossEntropy, nnx.Hinge])
def test_a_loss_divided_by_the_number_of_classes_is_found_out(good):
    class ByClasses(nnx.Loss):
        def value(self, a, y, weights=None):
            return good().value(a, y) * a.shape[0] / a.shape[1]

        def gradient(self, a, y, weights=None):
            return good().gradient(a, y) * a.shape[0] / a.shape[1]

    a, y = problem(good.__name__, np.random.default_rng(3), (7, 3))
    with pytest.raises(AssertionError):
        assert_mean_over_samples(ByClasses(), a, y)
    # ten samples of ten classes hide it
    value = good().value(*problem(good.__name__, np.random.default_rng(3), (10, 10)))
    hidden = ByClasses().value(*problem(good.__name__, np.random.default_rng(3), (10, 10)))
    assert value == hidden


def test_the_first_delta_of_the_quadratic_cost_is_the_difference_over_the_batch():
    a, y = problem("QuadraticCost", np.random.default_rng(3), (7, 3))
    assert_allclose(nnx.QuadraticCost().gradient(a, y), (a - y) / 7, rtol=1e-15)


@pytest.mark.parametrize("name", LOSSES)
def test_a_sequence_is_the_mean_over_samples_and_time_steps(name, backend64):
    a, y = problem(name, np.random.default_rng(5), (4, 6, 3))
    found = value_and_gradient(backend64, make(name), a, y)
    flat = value_and_gradient(backend64, make(name), a.reshape(24, 3), y.reshape(24, 3))
    factor = 6 if name == "QuadraticCost" else 1  # a sample is there the whole sequence
    assert_allclose(found[0], factor * flat[0], rtol=1e-12)
    assert_allclose(found[1], factor * flat[1].reshape(a.shape), rtol=1e-12)


@pytest.mark.parametrize("name", ["QuadraticCost", "MeanSquaredError"])
def test_images_are_targets_too(name, backend64):
    a, y = problem(name, np.random.default_rng(5), (2, 3, 4, 5))
    squares = ((a - y) ** 2).sum()
    value, gradient = value_and_gradient(backend64, make(name), a, y)
    assert_allclose(value, squares / (4 if name == "QuadraticCost" else 120), rtol=1e-12)
    assert_allclose(gradient, (a - y) / (2 if name == "QuadraticCost" else 60), rtol=1e-12)


# Targets.


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("shape", [(6, 4), (2, 5, 4)])
def test_class_indices_are_their_one_hot_rows(name, shape, backend):
    rng = np.random.default_rng(2)
    a = draw(LOSSES[name][0], rng, shape)
    index = rng.integers(0, 4, shape[:-1])
    by_index = value_and_gradient(backend, make(name), a, index)
    by_row = value_and_gradient(backend, make(name), a, np.eye(4)[index])
    assert by_index[0] == by_row[0]
    assert_array_equal(by_index[1], by_row[1])


@pytest.mark.parametrize("name", [*BINARY, "Hinge", "MeanSquaredError"])
def test_for_a_single_output_the_index_is_the_row(name, backend):
    a = draw(LOSSES[name][0], np.random.default_rng(2), (4, 1))
    index = np.array([0, 1, 1, 0])
    by_index = value_and_gradient(backend, make(name), a, index)
    by_row = value_and_gradient(backend, make(name), a, index[:, None].astype(float))
    assert by_index[0] == by_row[0]
    assert_array_equal(by_index[1], by_row[1])


def test_integer_rows_take_the_dtype_of_the_outputs(backend):
    a, y, _ = on(backend, np.ones((2, 3)), np.eye(3, dtype=int)[:2])
    assert losses.one_hot(y, a).dtype == backend.dtype
    assert nnx.QuadraticCost().gradient(a, y).dtype == backend.dtype


@pytest.mark.parametrize("shape", [(5, 1), (5, 2), (4, 3), (5, 3, 1), ()])
def test_targets_of_another_shape_are_refused(shape, backend):
    a, y = backend.asarray(np.ones((5, 3))), backend.asarray(np.ones(shape))
    for call in (nnx.QuadraticCost().value, nnx.MeanSquaredError().gradient):
        with pytest.raises(ValueError, match=r"rows of shape \(5, 3\) or class indices of shape"):
            call(a, y)


def test_targets_of_another_library_are_refused(backend):
    other = "numpy" if backend.name != "numpy" else "strict"
    y = nnx.backend.resolve(usable(other), "float32").asarray(np.ones((5, 3)))
    with pytest.raises(BackendError, match="in one formula"):
        nnx.QuadraticCost().gradient(backend.asarray(np.ones((5, 3))), y)


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        ("CrossEntropy", [[0.5, 0.6]], "distributions"),
        ("SoftMaxCrossEntropy", [[1.5, -0.5]], "distributions"),
        ("KullbackLeibler", [[2.0, 0.0]], "distributions"),
        ("BinaryCrossEntropy", [[0.5, 1.5]], "from 0 to 1"),
        ("LogisticCrossEntropy", [[-1.0, 1.0]], "from 0 to 1"),
        ("Hinge", [[0.5, 0.5]], "single 1"),
        ("Hinge", [[1.0, 1.0]], "single 1"),
        ("Hinge", [[-1.0]], "0 or 1"),
    ],
)
def test_rows_that_the_loss_is_not_defined_for_are_refused(name, rows, message, backend):
    with pytest.raises(ValueError, match=rf"{name} expects .*{message}.* got "):
        make(name).check_targets(backend.asarray(rows))


@pytest.mark.parametrize("name", LOSSES)
def test_rows_that_the_loss_is_defined_for_are_taken(name, backend):
    for shape in [(6, 3), (2, 3, 4)]:
        rows = draw(LOSSES[name][1], np.random.default_rng(0), shape)
        make(name).check_targets(backend.asarray(rows))
    make("Hinge").check_targets(backend.asarray([[0.0], [1.0]]))


# Weights and smoothing.


@pytest.mark.parametrize("name", LOSSES)
def test_a_weighted_sample_counts_so_often(name, backend64):
    a, y = problem(name, np.random.default_rng(4), (5, 3))
    counts = np.array([1, 3, 0, 2, 4])
    weighted = value_and_gradient(backend64, make(name), a, y, counts)
    repeated = make(name).value(
        backend64.asarray(np.repeat(a, counts, axis=0)),
        backend64.asarray(np.repeat(y, counts, axis=0)),
    )
    assert_allclose(weighted[0] * 5, float(backend64.to_numpy(repeated)) * 10, rtol=1e-12)
    assert_array_equal(weighted[1][2], 0.0)


@pytest.mark.parametrize("name", LOSSES)
def test_weights_of_one_change_nothing(name, backend):
    a, y = problem(name, np.random.default_rng(4), (5, 3))
    plain = value_and_gradient(backend, make(name), a, y)
    ones = value_and_gradient(backend, make(name), a, y, np.ones(5))
    extras = (
        {"class_weights": [1.0] * classes_of(name, (5, 3))} if name in WITH_CLASS_WEIGHTS else {}
    )
    extras |= {"label_smoothing": 0.0} if name in WITH_SMOOTHING else {}
    neutral = value_and_gradient(backend, make(name, **extras), a, y)
    for other in (ones, neutral):
        assert_allclose(other[0], plain[0], rtol=1e-6)
        assert_allclose(other[1], plain[1], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "outputs"),
    [
        ("CrossEntropy", 3),
        ("SoftMaxCrossEntropy", 3),
        ("Hinge", 3),
        ("Hinge", 1),
        ("BinaryCrossEntropy", 1),
        ("LogisticCrossEntropy", 1),
    ],
)
def test_class_weights_are_the_sample_weights_of_the_classes(name, outputs, backend64):
    rng = np.random.default_rng(4)
    a = draw(LOSSES[name][0], rng, (6, outputs))
    y = rng.integers(0, max(outputs, 2), 6)
    weights = np.array([0.5, 2.0, 3.0][: max(outputs, 2)])
    found = value_and_gradient(backend64, make(name, class_weights=weights), a, y)
    expected = value_and_gradient(backend64, make(name), a, y, weights[y])
    assert_allclose(found[0], expected[0], rtol=1e-12)
    assert_allclose(found[1], expected[1], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", BINARY)
def test_binary_class_weights_are_those_of_each_entry(name, backend64):
    a, _ = problem(name, np.random.default_rng(4), (6, 3))
    rows = np.eye(3)[[0, 2, 1, 1, 0, 2]]  # every output is a question of its own
    found = value_and_gradient(backend64, make(name, class_weights=[0.5, 2.0]), a, rows)
    entries = np.where(rows == 1, 2.0, 0.5)
    expected = value_and_gradient(backend64, make(name), a, rows, entries)
    assert_allclose(found[0], expected[0], rtol=1e-12)
    assert_allclose(found[1], expected[1], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", WITH_SMOOTHING)
def test_smoothing_mixes_the_targets_and_all_three_extras_work_together(name, backend64):
    rng = np.random.default_rng(6)
    a, y = problem(name, rng, (5, 3))
    w, s = np.array([0.5, 2.0, 3.0])[: classes_of(name, a.shape)], 0.2
    of_sample = rng.random(5)
    found = value_and_gradient(
        backend64, make(name, label_smoothing=s, class_weights=w), a, y, of_sample
    )
    mixed = (1 - s) * y + s / w.size
    if name in BINARY:
        p = a if name == "BinaryCrossEntropy" else 1 / (1 + np.exp(-a))
        terms = -(mixed * np.log(p) + (1 - mixed) * np.log(1 - p)) * (w[0] * (1 - y) + w[1] * y)
        expected = (terms * of_sample[:, None]).mean()
    else:
        p = a if name == "CrossEntropy" else np.exp(a) / np.exp(a).sum(axis=1, keepdims=True)
        expected = (-(mixed * np.log(p)).sum(axis=1) * (y @ w) * of_sample).mean()
    assert_allclose(found[0], expected, rtol=1e-12)


def test_weights_of_each_time_step(backend64):
    rng = np.random.default_rng(6)
    a, y = problem("SoftMaxCrossEntropy", rng, (4, 5, 3))
    mask = (np.arange(5) < np.array([[5], [3], [1], [2]])).astype(float)  # padded sequences
    value, gradient = value_and_gradient(backend64, nnx.SoftMaxCrossEntropy(), a, y, mask)
    kept = mask.astype(bool)
    expected = nnx.SoftMaxCrossEntropy().value(*on(backend64, a[kept], y[kept])[:2])
    assert_allclose(value * 20 / 11, float(backend64.to_numpy(expected)), rtol=1e-12)
    assert_array_equal(gradient[~kept], 0.0)
    weights = nnx.CrossEntropy(class_weights=[1, 2, 3])
    p = np.exp(a) / np.exp(a).sum(axis=-1, keepdims=True)
    both = value_and_gradient(backend64, weights, p, y, rng.random(4))
    assert both[1].shape == (4, 5, 3)


@pytest.mark.parametrize("shape", [(4,), (5, 1), (5, 3, 1), ()])
@pytest.mark.parametrize("name", ["QuadraticCost", "CrossEntropy"])
def test_weights_of_another_shape_are_refused(shape, name, backend):
    a, y, weights = on(backend, np.ones((5, 3)), np.ones((5, 3)), np.ones(shape))
    for call in (make(name).value, make(name).gradient):
        with pytest.raises(ValueError, match=rf"{name} expects weights of shape \(5,\)"):
            call(a, y, weights)


def test_integer_and_double_weights_do_not_change_the_dtype():
    a = np.ones((3, 2), dtype=np.float32)
    for weights in (np.array([1, 2, 3]), np.array([1.0, 2.0, 3.0])):
        loss = nnx.SoftMaxCrossEntropy(class_weights=np.array([1.0, 2.0]))
        assert loss.value(a, np.array([0, 1, 0]), weights).dtype == np.float32
        assert loss.gradient(a, np.array([0, 1, 0]), weights).dtype == np.float32


# Extremes. A warning is an error here.


def both_precisions(spec):
    for dtype in ("float32", "float64"):
        with nnx.use_backend(usable(spec), dtype=dtype) as backend:
            yield backend


@pytest.mark.parametrize("size", [1e4, 1e30])
def test_huge_logits_give_their_exact_loss(size, backend_spec):
    for backend in both_precisions(backend_spec):
        z = np.array([[size, -size], [-size, size], [size, size]])
        value, gradient = value_and_gradient(
            backend, nnx.SoftMaxCrossEntropy(), z, np.array([0, 0, 1])
        )
        assert_allclose(value, (2 * size + math.log(2)) / 3, rtol=1e-6)
        assert_allclose(gradient, np.array([[0, 0], [-1, 1], [0.5, -0.5]]) / 3, rtol=1e-6)
        z, y = np.array([[size], [-size], [size], [-size]]), np.array([1, 0, 0, 1])
        for k in (1.0, 3.0):
            value, gradient = value_and_gradient(backend, nnx.LogisticCrossEntropy(k=k), z, y)
            assert_allclose(value, k * size / 2, rtol=1e-6)
            assert_allclose(gradient[:, 0], k * np.array([0, 0, 1, -1]) / 4, rtol=1e-6)
        z = np.array([[size, -size, 0.0]])
        value, gradient = value_and_gradient(backend, nnx.Hinge(), z, np.array([1]))
        assert_allclose(value, 3 * size + 2, rtol=1e-6)
        assert_allclose(gradient, [[1, -2, 1]])
        value, gradient = value_and_gradient(backend, nnx.Huber(), z, np.zeros((1, 3)))
        assert_allclose(value, (2 * size - 1) / 3, rtol=1e-6)
        assert_allclose(gradient, [[1 / 3, -1 / 3, 0]], rtol=1e-6)


def test_tiny_logits_keep_their_digits(backend):
    z = np.array([[1e-20]])
    value, gradient = value_and_gradient(backend, nnx.LogisticCrossEntropy(), z, np.array([1]))
    assert_allclose(value, math.log(2), rtol=1e-6)
    assert_allclose(gradient, [[-0.5]], rtol=1e-6)
    # a sure answer: log1p keeps what 1 + exp(-|z|) would lose
    value, _ = value_and_gradient(backend, nnx.LogisticCrossEntropy(), [[30.0]], np.array([1]))
    assert_allclose(value, math.exp(-30), rtol=1e-5)


@pytest.mark.parametrize("name", ["CrossEntropy", "KullbackLeibler", "BinaryCrossEntropy"])
def test_probabilities_of_0_and_1_give_finite_numbers(name, backend_spec):
    for backend in both_precisions(backend_spec):
        a = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
        right, gradient = value_and_gradient(backend, make(name), a, np.array([1, 0, 0]))
        assert right == 0.0
        number = 6 if name == "BinaryCrossEntropy" else 3
        assert_allclose(gradient[a == 1], -1 / number, rtol=1e-6)
        wrong, gradient = value_and_gradient(
            backend, make(name), a, np.array([0, 1, 1]), [1e3, 1, 1]
        )
        assert 1e4 < wrong < 1e6
        assert np.isfinite(gradient).all()
        assert gradient[0, 0] < -1e30
        # what SoftMax and Logistic hand back for it is finite too
        for afun in (nnx.SoftMax(), nnx.Logistic()):
            z, delta = backend.asarray(1e4 * (2 * a - 1)), backend.asarray(gradient)
            assert np.isfinite(backend.to_numpy(afun.forward(z)[1](delta))).all()


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_finite_wherever_its_outputs_may_be(name, backend_spec):
    kind = LOSSES[name][0]
    corners = [-1e4, -1.0, -1e-30, 0.0, 1e-30, 1.0, 1e4] if kind == "numbers" else [
        0.0, 1e-38, 1e-30, 0.5, 1 - 6e-8, 1.0
    ]  # fmt: skip
    a = np.stack(np.meshgrid(corners, corners), axis=-1).reshape(-1, 2)
    for backend in both_precisions(backend_spec):
        for y in (np.zeros(len(a), dtype=int), np.ones(len(a), dtype=int)):
            value, gradient = value_and_gradient(backend, make(name), a, y)
            assert math.isfinite(value)
            assert value >= 0
            assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", ["MeanAbsoluteError", "Huber"])
def test_the_gradient_at_the_target_is_zero(name, backend):
    a = np.array([[1.5, -2.0]])
    value, gradient = value_and_gradient(backend, make(name), a, a)
    assert value == 0.0
    assert_array_equal(gradient, 0.0)


# The host.


EXTRAS = {
    **{name: {} for name in LOSSES},
    "Hinge": {"class_weights": [1.0, 2.0, 3.0]},
    "SoftMaxCrossEntropy": {"label_smoothing": 0.1, "class_weights": [1.0, 2.0, 3.0]},
    "LogisticCrossEntropy": {"label_smoothing": 0.1, "class_weights": [1.0, 2.0], "k": 2.0},
}


@pytest.mark.parametrize("name", LOSSES)
def test_nothing_is_read_where_there_is_no_data(name):
    usable("torch")
    with nnx.use_backend("torch:meta") as backend:
        loss, y = make(name, **EXTRAS[name]), backend.asarray(np.array([0, 1, 2, 0, 1]))
        a, w = backend.asarray(np.ones((5, 3))), backend.asarray(np.ones(5))
        assert loss.value(a, y, w).shape == ()
        assert tuple(loss.gradient(a, y, w).shape) == (5, 3)


@pytest.mark.parametrize("name", LOSSES)
def test_a_compiled_loss_is_the_loss(name, backend):
    loss = make(name, **EXTRAS[name])
    a, rows = problem(name, np.random.default_rng(0), (5, 3))
    for y in (rows, np.array([0, 1, 2, 0, 1])):
        data = on(backend, a, y, np.arange(5.0))
        compiled = compile_on(backend, loss.gradient)(*data)
        after = loss.gradient(*data)  # nothing of the trace is left
        assert_allclose(backend.to_numpy(compiled), backend.to_numpy(after), rtol=1e-5, atol=1e-7)


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("name", "launches"),
    [("QuadraticCost", 2), ("MeanSquaredError", 3), ("SoftMaxCrossEntropy", 7)],
)
def test_kernels_of_a_gradient_on_cupy(name, launches):
    counters = pytest.importorskip("cpusim", reason="no counters of CUDA calls here")
    with nnx.use_backend(usable("cupy")) as backend:
        loss = make(name)
        a, y, _ = on(backend, *problem(name, np.random.default_rng(0), (10, 4)))
        loss.gradient(a, y)
        counters.reset()
        loss.gradient(a, y)
        counted = counters.stats()
        copies = ("h2d", "d2h", "stream_sync", "dev_sync", "event_sync")
        assert sum(counted.get(name, 0) for name in copies) == 0
        assert counted["launches"] <= launches


# Bad arguments.


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nnx.Huber(0), "Huber: expected delta to be a number > 0, got 0"),
        (lambda: nnx.Huber(math.nan), "Huber: expected delta to be a number > 0, got nan"),
        (lambda: nnx.Hinge(-1), "Hinge: expected margin to be a number > 0, got -1"),
        (
            lambda: nnx.LogisticCrossEntropy(k=0),
            "LogisticCrossEntropy: expected k to be a number > 0, got 0",
        ),
        (
            lambda: nnx.CrossEntropy(1.0),
            r"CrossEntropy: expected label_smoothing to be a number in \[0, 1\), got 1",
        ),
        (lambda: nnx.SoftMaxCrossEntropy(-0.1), "SoftMaxCrossEntropy: expected label_smoothing"),
        (lambda: nnx.Hinge(class_weights=[1]), "Hinge: expected class_weights .*got"),
        (
            lambda: nnx.BinaryCrossEntropy(class_weights=[1, -1]),
            "BinaryCrossEntropy: expected class_w",
        ),
        (
            lambda: nnx.CrossEntropy(class_weights=[1, math.inf]),
            "CrossEntropy: expected class_weigh",
        ),
    ],
)
def test_bad_parameters_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("name", WITH_CLASS_WEIGHTS)
def test_a_wrong_number_of_class_weights_is_refused(name):
    a, y = problem(name, np.random.default_rng(0), (5, 4))
    with pytest.raises(ValueError, match=rf"{name} expects [24] class_weights .* got 3"):
        make(name, class_weights=[1, 2, 3]).value(a, y)


def test_an_unfinished_loss_says_so():
    class Unfinished(nnx.Loss):
        pass

    for call in (Unfinished().value, Unfinished().gradient):
        with pytest.raises(NotImplementedError, match="Unfinished must define"):
            call(np.ones((2, 2)), np.ones((2, 2)))


def test_a_loss_shows_its_arguments():
    assert repr(nnx.QuadraticCost()) == "QuadraticCost()"
    assert repr(nnx.Huber(2)) == "Huber(delta=2.0)"
    smooth = nnx.CrossEntropy(0.1, [1, 2])
    assert repr(smooth) == "CrossEntropy(label_smoothing=0.1, class_weights=(1.0, 2.0))"
    for name in LOSSES:
        assert repr(eval(repr(make(name)), vars(nnx))) == repr(make(name))
