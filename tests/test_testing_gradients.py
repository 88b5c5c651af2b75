"""check_gradients: what it says of right and wrong formulas, and of everything that nnx exports."""

import math

import losses_table
import numpy as np
import pytest
from activations_table import CASES
from conftest import AUTODIFF, why_unusable

import nnx
from nnx.commands.check import BASES, items
from nnx.testing import GradientError, check_gradients
from nnx.testing._differences import derivative
from nnx.testing._points import Point
from nnx.testing._subjects import subject_of

RNG = np.random.default_rng(5)
X = RNG.standard_normal((6, 4))

# Every layer that `nnx check` compares, with the same arguments.
LAYERS = {item.name: (item.make, item.inputs(RNG)) for item in items() if item.kind == "Layer"}
REGULARIZERS = {
    "L1Regularizer": nnx.L1Regularizer(0.3),
    "L2Regularizer": nnx.L2Regularizer(0.3),
    "ElasticNetRegularizer": nnx.ElasticNetRegularizer(0.3, 0.2),
    "OrthogonalityRegularizer": nnx.OrthogonalityRegularizer(0.3),
}


class Scale(nnx.Layer):
    """y = s x + c, elementwise; the backward is the class's own or what is passed."""

    s = nnx.Parameter()
    c = nnx.Parameter()

    def __init__(self, n, backward=None, forward=None):
        super().__init__()
        xp, facts = self.backend.xp, {"dtype": self.backend.dtype, "device": self.backend.device}
        self.s, self.c = xp.ones((n,), **facts), xp.zeros((n,), **facts)
        self._own = backward or (lambda s, x, delta: (delta * s, _sum(delta * x), _sum(delta)))
        self._forward = forward or (lambda s, c, x: s * x + c)

    def forward(self, x, training=False):
        def backward(delta):
            return_ = self._own(self.parameters["s"], x, delta)
            return return_[0], {n: g for n, g in zip(("s", "c"), return_[1:]) if g is not None}

        return self._forward(self.parameters["s"], self.parameters["c"], x), backward

    def output_shape(self, input_shape):
        return input_shape


def _sum(array):
    return nnx.array_namespace(array).sum(array, axis=0)


# Everything that nnx exports is right, by differences and by automatic differentiation.


def check(*arguments, **options):
    report = check_gradients(*arguments, **options)
    assert set(AUTODIFF) <= set(report.autodiff), report
    assert report.worst.error <= report.worst.allowed < 1e-5
    return report


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_activation(case):
    check(case.make(), 2.0 * X)


LOSSES = (
    *((name, {}) for name in losses_table.LOSSES),
    *((name, {"label_smoothing": 0.1}) for name in losses_table.WITH_SMOOTHING),
    *(
        (name, {"class_weights": [0.5, 2.0, 1.0, 3.0][: losses_table.classes_of(name, (6, 4))]})
        for name in losses_table.WITH_CLASS_WEIGHTS
    ),
)


@pytest.mark.parametrize(("name", "arguments"), LOSSES)
def test_every_loss(name, arguments):
    outputs, targets = losses_table.LOSSES[name]
    a = losses_table.draw(outputs, RNG, (6, 4))
    loss = losses_table.make(name, **arguments)
    check(loss, a, y=losses_table.draw(targets, RNG, (6, 4)))
    if name not in losses_table.BINARY and targets != "numbers":
        check(loss, a, y=np.arange(6) % 4)


@pytest.mark.parametrize("name", REGULARIZERS)
def test_every_regularizer(name):
    check(REGULARIZERS[name], X)
    check(REGULARIZERS[name], X.T)


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer(name):
    make, x = LAYERS[name]
    layer = make()
    check(layer, x, training=False)
    report = check_gradients(layer, x, training=True, autodiff=())
    assert len(set(report.comparisons) - {"x"}) == len(layer.parameters)


def test_the_tables_have_every_exported_class():
    def exported(base):
        kinds = [getattr(nnx, name) for name in nnx.__all__]
        return {k.__name__ for k in kinds if isinstance(k, type) and issubclass(k, base)}

    bases = {kind.__name__ for kind in BASES}
    layers = exported(nnx.Layer) - bases - {"SequentialNet"}
    assert layers == {name.partition(",")[0] for name in LAYERS}
    assert exported(nnx.Regularizer) - {"Regularizer"} == set(REGULARIZERS)
    assert exported(nnx.losses.Loss) - {"Loss"} == set(losses_table.LOSSES)


def network(cost, last, **options):
    layers = [
        nnx.DenseLayer(4, 5, nnx.ReLU(), kernel_regularizer=nnx.L2Regularizer(0.2)),
        nnx.DenseLayer(5, 3, last, kernel_regularizer=nnx.L1Regularizer(0.1)),
    ]
    return nnx.SequentialNet(4, layers, cost, **options)


@pytest.mark.parametrize(
    ("cost", "last", "y"),
    [
        (nnx.CrossEntropy(), nnx.SoftMax(), np.arange(6) % 3),
        (nnx.BinaryCrossEntropy(), nnx.Logistic(), RNG.random((6, 3))),
        (nnx.QuadraticCost(), nnx.SoftMax(), RNG.random((6, 3))),
    ],
)
def test_a_network_and_its_training_with_penalties(cost, last, y):
    """The gradients that the optimizer gets are those of loss plus penalties, fused or not."""
    for options in ({}, {"optim": nnx.Adam()}):
        net = network(cost, last, **options)
        kept = [np.array(p) for layer in net.layers for p in layer.parameters.values()]
        check(net, X)
        report = check(net, X, y=y)
        names = [f"{n} of layer {i} (DenseLayer)" for i in (1, 2) for n in "Wb"]
        assert list(report.comparisons) == ["x", *names]
        now = [p for layer in net.layers for p in layer.parameters.values()]
        assert all(np.array_equal(a, b) for a, b in zip(kept, now))


# The numbers.


@pytest.mark.parametrize(
    ("f", "expected"),
    [(math.sin, 1.0), (math.exp, 1.0), (lambda t: t**3 + 2 * t, 2.0), (lambda t: 4.0, 0.0)],
)
def test_a_smooth_derivative_is_right_within_its_estimate(f, expected):
    found = derivative(f, 1.0, 2.0**-52, 1e-6)
    assert abs(found.value - expected) <= found.error < 1e-6


@pytest.mark.parametrize("place", [0.0, 1e-9, -1e-9])
def test_a_kink_at_the_point_is_seen(place):
    assert derivative(lambda t: abs(t - place), 1.0, 2.0**-52, 1e-6) is None
    assert derivative(lambda t: float(t > place), 1.0, 2.0**-52, 1e-6) is None


@pytest.mark.parametrize("place", [5e-5, -2e-5, 7e-6])
def test_a_kink_nearby_is_avoided_by_a_smaller_step(place):
    found = derivative(lambda t: abs(t - place), 1.0, 2.0**-52, 1e-6)
    assert found.value == pytest.approx(-math.copysign(1.0, place), rel=1e-6)
    assert found.step < abs(place)


def test_a_direction_by_hand():
    """The penalty p^2/4 at p = 3 has the slope 3/2, along a step of 2 it is 3."""
    subject = subject_of(nnx.L2Regularizer(0.5), [[3.0]], None, False)
    with nnx.use_backend("numpy", "float64") as backend:
        arrays, forward = subject.at(backend)
        point = Point(subject, forward, arrays, 1e-6, RNG)
    assert point.along("p", np.array([[2.0]])).value == pytest.approx(3.0, rel=1e-10)
    assert point.gradients["p"] == 1.5


def test_points_on_a_kink_are_moved_and_the_report_says_so():
    report = check_gradients(nnx.ReLU(), np.zeros((3, 2)), autodiff=())
    assert report.moves > 0
    assert report.kinks > 0
    assert "kinks" in str(report)


def test_where_there_are_only_kinks_it_says_so():
    class Stairs(nnx.activations.Activation):
        def forward(self, x):
            return np.sin(1e14 * x), lambda delta: 0.0 * delta

    with pytest.raises(GradientError, match="no smooth point was found"):
        check_gradients(Stairs(), X, autodiff=())


# What is wrong is named.


def wrong(backward):
    return lambda: check_gradients(Scale(4, backward), X, autodiff=())


@pytest.mark.parametrize(
    ("backward", "parameter", "words"),
    [
        (lambda s, x, d: (d * s, 2 * _sum(d * x), _sum(d)), "s", "2 times expected"),
        (lambda s, x, d: (d * s, _sum(d * x), -_sum(d)), "c", "the sign is wrong"),
        (lambda s, x, d: (d * s, np.mean(d * x, axis=0), _sum(d)), "s", "mean stands for a sum"),
        (lambda s, x, d: (d * s, _sum(d * x), 0 * _sum(d)), "c", "zeros for c"),
        (lambda s, x, d: (d * x, _sum(d * x), _sum(d)), "x", "another function"),
        (lambda s, x, d: (d * s, _sum(d * x), None), "c", "no gradient of c"),
        (lambda s, x, d: (d * s, d * x, _sum(d)), "s", r"shape \(6, 4\), expected \(4,\)"),
        (
            lambda s, x, d: (d * s, np.sum(d * x, axis=0, dtype=np.float64), _sum(d)),
            "s",
            "dtype float64, expected float32",
        ),
        (lambda s, x, d: (d * s, _sum(d * x) / 0.0, _sum(d)), "s", "infinite or NaN"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_a_wrong_backward_is_an_error_that_names_the_parameter(backward, parameter, words):
    with pytest.raises(GradientError, match=words) as caught:
        wrong(backward)()
    assert caught.value.thing == "Scale"
    assert caught.value.parameter == parameter
    assert "Scale" in str(caught.value)


def test_the_message_shows_expected_and_given_value_of_the_worst_entry():
    factors = np.array([1.0, 1.0, 5.0, 1.0], np.float32)
    with pytest.raises(GradientError) as caught:
        wrong(lambda s, x, d: (d * s, factors.astype(d.dtype) * _sum(d * x), _sum(d)))()
    message = str(caught.value)
    assert "worst entry [2]" in message
    values = message.partition("worst entry [2]: expected ")[2].split("\n")[0]
    expected, given = map(float, values.split(", given "))
    assert given == pytest.approx(5 * expected, rel=1e-4)
    assert f"expected {caught.value.expected:.9g}" in message
    assert f"given {caught.value.given:.9g}" in message


def test_two_wrong_gradients_are_both_named():
    with pytest.raises(GradientError, match="wrong too: "):
        wrong(lambda s, x, d: (d * s, 2 * _sum(d * x), 3 * _sum(d)))()


def test_a_small_error_is_found():
    with pytest.raises(GradientError, match="s"):
        wrong(lambda s, x, d: (d * s, 1.00001 * _sum(d * x), _sum(d)))()


def test_arguments_must_be_left_alone():
    def writes(x):
        x *= 2.0
        return x

    def backward_writes(s, x, delta):
        delta *= s
        return delta, _sum(delta * x), _sum(delta)

    with pytest.raises(GradientError, match="forward writes to x"):
        check_gradients(Scale(4, forward=lambda s, c, x: s * writes(x) + c), X)
    with pytest.raises(GradientError, match="forward writes to s"):
        check_gradients(Scale(4, forward=lambda s, c, x: writes(s) * x + c), X)
    with pytest.raises(GradientError, match="backward writes to delta"):
        check_gradients(Scale(4, backward_writes), X)


def test_a_forward_that_draws_from_a_stream_is_repeated_and_the_stream_stays():
    draw = lambda shape: nnx.randomness.generator("dropout").random(shape)

    class Noise(nnx.activations.Activation):
        def forward(self, x):
            factor = draw(x.shape).astype(x.dtype)
            return factor * x, lambda delta: factor * delta

    nnx.seed(3)
    check_gradients(Noise(), X, autodiff=())
    after = draw(5)
    nnx.seed(3)
    np.testing.assert_array_equal(after, draw(5))


def test_a_forward_that_draws_from_elsewhere_is_refused():
    rng = np.random.default_rng()
    noisy = Scale(4, forward=lambda s, c, x: (s * x + c) * float(rng.random()))
    with pytest.raises(GradientError, match="is it random"):
        check_gradients(noisy, X)


def test_a_layer_and_its_buffers_and_generators_stay_as_they_are():
    class Mean(nnx.Layer):
        def __init__(self):
            super().__init__()
            self.buffers["mean"] = np.zeros(4, np.float32)
            self.rng = np.random.default_rng(0)

        def forward(self, x, training=False):
            self.buffers["mean"] += np.mean(x, axis=0).astype(x.dtype)
            self.buffers["mean"] = self.buffers["mean"] + 1
            factor = float(self.rng.random())
            return factor * x, lambda delta: (factor * delta, {})

    layer = Mean()
    check_gradients(layer, X, autodiff=())
    np.testing.assert_array_equal(layer.buffers["mean"], 0.0)
    assert layer.rng.random() == np.random.default_rng(0).random()


def test_integer_inputs_are_not_differentiated():
    class Table(nnx.Layer):
        T = nnx.Parameter()

        def __init__(self):
            super().__init__()
            self.T = self.backend.asarray(RNG.standard_normal((5, 3)))

        def forward(self, x, training=False):
            xp = nnx.array_namespace(x)
            hot = x[:, None] == xp.arange(5, dtype=x.dtype, device=getattr(x, "device", None))
            T = self.parameters["T"]
            hot = xp.astype(hot, T.dtype)
            return hot @ T, lambda delta: (None, {"T": hot.T @ delta})

    report = check(Table(), np.array([0, 2, 2, 4]))
    assert list(report.comparisons) == ["T"]


# Automatic differentiation.


@pytest.mark.filterwarnings("ignore:Converting a tensor")
def test_what_a_library_cannot_differentiate_is_in_the_report():
    reading = Scale(4, forward=lambda s, c, x: s * x + c + 0 * float(x[0, 0]))
    report = check_gradients(reading, X)
    assert "jax" in report.not_run  # a float() in a trace; or JAX is not installed
    assert ("torch" in report.not_run) == ("torch" not in AUTODIFF)
    assert "not against jax: " in str(report)
    if "jax" in AUTODIFF:
        assert "Concretization" in report.not_run["jax"]
        with pytest.raises(TypeError, match="tracer"):
            check_gradients(reading, X, autodiff=["jax"])


def test_a_backend_that_does_not_differentiate_is_refused_by_name():
    with pytest.raises(nnx.BackendError, match="no automatic differentiation"):
        check_gradients(nnx.TanH(), X, autodiff=["numpy"])


@pytest.mark.parametrize("spec", ["jax", "torch"])
def test_a_backward_that_only_one_library_gets_wrong_is_found_by_the_other(spec):
    """A forward that is another function there: differences on NumPy cannot see it."""
    if reason := why_unusable(spec):
        pytest.skip(reason.splitlines()[0])
    here = lambda x: 1.0 if isinstance(x, np.ndarray) else 1.5
    layer = Scale(4, forward=lambda s, c, x: here(x) * s * x + c)
    with pytest.raises(GradientError, match=f"differentiation of forward by {spec} disagree"):
        check_gradients(layer, X, autodiff=[spec])


@pytest.mark.parametrize("spec", ["jax", "torch"])
def test_the_gradient_of_a_backend_by_hand(spec):
    """f = sum(x x) y has the gradients 2 x y and sum(x x)."""
    if reason := why_unusable(spec):
        pytest.skip(reason.splitlines()[0])
    with nnx.use_backend(spec, dtype="float64") as backend:
        x, y, unused = (backend.asarray(a) for a in ([1.0, -2.0], 3.0, [7.0]))
        f = lambda x, y, unused: backend.xp.sum(x * x) * y
        dx, dy, nothing = map(backend.to_numpy, backend.gradient(f, [x, y, unused]))
        constant = backend.gradient(lambda x: backend.xp.sum(backend.xp.zeros_like(x)), [x])
        np.testing.assert_array_equal(backend.to_numpy(constant[0]), [0.0, 0.0])
    np.testing.assert_array_equal(dx, [6.0, -12.0])
    assert dy == 5.0
    assert nothing == 0.0


# What is given is understood.


def test_a_thing_of_ones_own_needs_no_base_class():
    class Cube:
        def forward(self, x):
            return x * x * x, lambda delta: 3.0 * x * x * delta

    class Plain:
        parameters = {"w": np.ones(4, np.float32)}  # noqa: RUF012

        def forward(self, x, training=False):
            w = self.parameters["w"]
            return x * w, lambda delta: (delta * w, {"w": np.sum(delta * x, axis=0)})

    class Square:
        def value(self, a, y):
            return nnx.array_namespace(a).sum((a - y) ** 2)

        def gradient(self, a, y):
            return 2 * (a - y)

    check(Cube(), X)
    assert set(check_gradients(Plain(), X, autodiff=()).comparisons) == {"x", "w"}
    check(Square(), X, y=0.5 * X)


def test_inputs_and_layers_of_another_backend_are_moved():
    if why_unusable("strict"):
        pytest.skip("array_api_strict is not installed")
    with nnx.use_backend("strict") as backend:
        layer = nnx.DenseLayer(4, 3)
        check(layer, backend.asarray(X))


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (nnx.CrossEntropy(), "pass y="),
        (nnx.SGD(), "expected an activation"),
        (3, "expected an activation"),
    ],
)
def test_what_cannot_be_checked_is_refused(thing, message):
    with pytest.raises(TypeError, match=message):
        check_gradients(thing, X)


def test_a_scale_that_is_forgotten_shows_though_it_begins_at_one():
    with pytest.raises(GradientError, match="gradient of x"):
        wrong(lambda s, x, d: (d * 1.0, _sum(d * x), _sum(d)))()
