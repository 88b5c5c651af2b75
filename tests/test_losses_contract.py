"""Losses: which activations and arguments they take, what they refuse, and whether advice works."""

import copy
import math
import pickle
import re

import numpy as np
import pytest
from conftest import usable
from losses_table import BINARY, LOSSES, WITH_CLASS_WEIGHTS, WITH_SMOOTHING, draw, make
from numpy.testing import assert_allclose, assert_array_equal

import nnx
from nnx import activations, losses
from nnx.backend import BackendError

FAMILIES = {"Activation", "HeavisideLike", "SignLike", "ReLULike", "AbsLike"}
ACTIVATIONS = sorted(
    name
    for name in activations.__all__
    if isinstance(getattr(activations, name), type) and name not in FAMILIES
)
LOGITS = ["SoftMaxCrossEntropy", "LogisticCrossEntropy"]
FUSED = {
    ("CrossEntropy", "SoftMax"): "SoftMaxCrossEntropy",
    ("BinaryCrossEntropy", "Logistic"): "LogisticCrossEntropy",
}


def values(afun, outputs):
    """What comes out of an activation, in float64."""
    z = np.linspace(-30.0, 30.0, 60 * outputs).reshape(60, outputs)
    return nnx.to_numpy(afun.forward(z)[0])


def expected_remedies(loss, afun, outputs):
    """What the message must name; () if the pair is taken. From the values, not the attributes."""
    a = values(afun, outputs)
    fractions = a.min() >= 0 and a.max() <= 1
    sums_to_1 = outputs > 1 and np.allclose(a.sum(axis=-1), 1.0)
    if loss in ("CrossEntropy", "KullbackLeibler"):
        if outputs == 1 or type(afun) is nnx.Logistic:
            return ("BinaryCrossEntropy",)
        return () if sums_to_1 else ("SoftMax()",)
    if loss == "SoftMaxCrossEntropy" and outputs == 1:
        return ("LogisticCrossEntropy",)
    if loss in LOGITS and (fractions or np.ptp(a) == 0):
        return ("Linear()",)
    one_sign = a.min() >= 0 or a.max() <= 0
    if one_sign and (loss == "LogisticCrossEntropy" or (loss == "Hinge" and outputs == 1)):
        return ("Linear()", "BinaryCrossEntropy() with Logistic()")
    if loss == "BinaryCrossEntropy" and not fractions:
        return ("Logistic()", "LogisticCrossEntropy() with Linear()")
    constant = outputs == 1 and isinstance(afun, nnx.SoftMax | nnx.LogSoftmax)
    return ("Log",) if constant else ()


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_with_every_activation_is_refused_fused_or_plain(loss, name, outputs):
    cost, afun = make(loss), getattr(activations, name)()
    remedies = expected_remedies(loss, afun, outputs)
    if remedies:
        with pytest.raises(ValueError, match=f"^{loss}: expected ") as caught:
            cost.check_activation(afun, outputs)
        assert repr(afun) in str(caught.value)
        assert all(remedy in str(caught.value) for remedy in remedies)
        follow(str(caught.value).rpartition("; ")[2], loss, afun, outputs)
        return
    cost.check_activation(afun, outputs)
    fused = cost.fused(afun)
    assert (fused and type(fused).__name__) == FUSED.get((loss, name))


def follow(advice, loss, afun, outputs):
    """Every pair that the advice names is taken."""
    pairs = [(f"{cost}()", f"{a}()") for cost, a in re.findall(r"(\w+)\(\) with (\w+)\(\)", advice)]
    alone = re.findall(r"(?:layer|give it) (\w+\(\))", advice)
    assert pairs or alone
    for cost, last in [*pairs, *((f"{loss}()", last) for last in alone)]:
        eval(cost, vars(nnx)).check_activation(eval(last, vars(nnx)), outputs)


FUSED_PAIRS = [
    (nnx.CrossEntropy(), nnx.SoftMax(), 3),
    (nnx.CrossEntropy(0.1, [1.0, 2.0, 0.5]), nnx.SoftMax(), 3),
    (nnx.BinaryCrossEntropy(), nnx.Logistic(), 1),
    (nnx.BinaryCrossEntropy(), nnx.Logistic(), 3),
    (nnx.BinaryCrossEntropy(0.1, [1.0, 2.0]), nnx.Logistic(2.5), 3),
]


@pytest.mark.parametrize(("cost", "afun", "outputs"), FUSED_PAIRS, ids=repr)
@pytest.mark.parametrize("time", [(), (4,)])
def test_fused_and_plain_agree(cost, afun, outputs, time, backend64):
    rng, host = np.random.default_rng(1), backend64.to_numpy
    shape = (5, *time, outputs)
    z = backend64.asarray(2 * rng.standard_normal(shape))
    y = backend64.asarray(draw(LOSSES[type(cost).__name__][1], rng, shape))
    weights = backend64.asarray(rng.random((5, *time)))
    fused = cost.fused(afun)
    a, backward = afun.forward(z)
    for extra in ((), (weights,)):
        plain = host(backward(cost.gradient(a, y, *extra)))
        assert_allclose(host(fused.value(z, y, *extra)), host(cost.value(a, y, *extra)), rtol=1e-12)
        assert_allclose(host(fused.gradient(z, y, *extra)), plain, rtol=1e-12, atol=1e-14)
    if cost.per_entry:  # guessed alike before and after the activation
        assert_array_equal(host(z) >= fused.threshold, host(a) >= cost.threshold)


@pytest.mark.parametrize("method", ["losses", "slopes", "value", "gradient", "prepare"])
def test_a_subclass_fuses_unless_it_overrides_a_formula(method):
    for kind, afun in ((nnx.CrossEntropy, nnx.SoftMax), (nnx.BinaryCrossEntropy, nnx.Logistic)):

        class Renamed(kind):
            """Nothing else."""

        assert Renamed(0.1).fused(afun()) == kind(0.1).fused(afun())
        own = type("Own", (kind,), {method: lambda self, *given: None})
        assert own().fused(afun()) is None
        other = type("Other", (afun,), {"forward": lambda self, x: None})
        assert kind().fused(other()) is None
    assert (
        type("Strict", (nnx.BinaryCrossEntropy,), {"threshold": 0.9})().fused(nnx.Logistic())
        is None
    )


def test_which_losses_ask_yes_or_no_questions():
    assert {name for name in LOSSES if make(name).per_entry} == set(BINARY)


# Class weights.


class Series:
    """A Series as pandas has it: values under labels, iterated by value."""

    def __init__(self, data, index):
        self.data = dict(zip(index, data))

    def __repr__(self):
        return f"Series({self.data})"

    def keys(self):
        return self.data.keys()

    def items(self):
        return self.data.items()

    def __iter__(self):
        return iter(self.data.values())


@pytest.mark.parametrize("name", WITH_CLASS_WEIGHTS)
@pytest.mark.parametrize(
    "given",
    [
        [1, 5, 3],
        (1.0, 5.0, 3.0),
        range(1, 4),
        np.array([1, 5, 3], "uint8"),
        np.array([1.0, 5.0, 3.0], ">f4"),
        {0: 1.0, 1: 5.0, 2: 3.0},
        {2: 3, 0: 1, 1: 5},
        {np.int64(1): 5, np.int64(0): np.float32(1), np.int64(2): 3},
        Series([3.0, 1.0, 5.0], [2, 0, 1]),
        (w for w in (1, 5, 3)),
    ],
    ids=lambda given: type(given).__name__,
)
def test_class_weights_are_read_by_class(name, given):
    if isinstance(given, range):
        assert make(name, class_weights=given).class_weights == (1.0, 2.0, 3.0)
    elif not hasattr(given, "send"):
        assert make(name, class_weights=given).class_weights == (1.0, 5.0, 3.0)


def test_class_weights_come_from_a_generator_and_from_a_backend(backend):
    assert nnx.CrossEntropy(class_weights=(w for w in (1, 5))).class_weights == (1.0, 5.0)
    weights = backend.asarray(np.array([1.0, 5.0, 3.0]))
    kept = nnx.CrossEntropy(class_weights=weights).class_weights
    assert kept == (1.0, 5.0, 3.0)
    assert {type(w) for w in kept} == {float}


@pytest.mark.parametrize("name", WITH_CLASS_WEIGHTS)
@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        ({3.0, 1.0}, "use a list"),
        (frozenset({3.0, 1.0}), "use a list"),
        ("123", "bincount"),
        ("balanced", "bincount"),
        (b"12", "list of numbers"),
        (3.0, "list of numbers"),
        (True, "list of numbers"),
        ({1: 1.0, 2: 5.0}, "give every class one"),
        ({"a": 1.0, "b": 2.0}, "give every class one"),
        ({0: 1.0, 1: "2"}, r"float\('2'\)"),
        (Series([1.0, 2.0], ["a", "b"]), "give every class one"),
        ([1.0], "at least 2"),
        ([], "at least 2"),
        ([1.0, -1.0], ">= 0"),
        ([1.0, math.nan], ">= 0"),
        ([1.0, math.inf], ">= 0"),
        ([1.0, None], ">= 0"),
        ([1.0, "2"], r"float\('2'\)"),
        ([1.0, True], ">= 0"),
        ([[1.0, 2.0]], ">= 0"),
        (np.ones((2, 2)), "reshape"),
        (np.array(1.0), "reshape"),
        (np.ma.masked_array([1.0, 2.0], [True, False]), ">= 0"),
    ],
    ids=str,
)
def test_other_class_weights_are_refused_with_what_to_do(name, given, remedy):
    with pytest.raises(
        (TypeError, ValueError), match=rf"^{name}: expected class_weights.*{remedy}"
    ):
        make(name, class_weights=given)


# Arguments of constructors.

ARGUMENTS = [
    *((name, "label_smoothing") for name in WITH_SMOOTHING),
    ("Huber", "delta"),
    ("Hinge", "margin"),
    ("LogisticCrossEntropy", "k"),
]
WRONG = ["0.1", None, True, math.nan, math.inf, -1.0, [0.1], float, {}, np.ones(2), 1j]


@pytest.mark.parametrize("value", WRONG, ids=repr)
@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
def test_wrong_numbers_are_refused_by_name(name, argument, value):
    with pytest.raises((TypeError, ValueError)) as caught:
        make(name, **{argument: value})
    assert str(caught.value).startswith(f"{name}: expected {argument} to be a number")
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_goes_through_copies_and_pickle(name):
    loss = make(name)
    a = draw(LOSSES[name][0], np.random.default_rng(0), (4, 3))
    loss.gradient(a, np.array([0, 1, 2, 0]))
    for twin in (loss.clone(), copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert twin == loss
        assert hash(twin) == hash(loss)
        assert vars(twin) == loss.arguments()


# The dtypes that come.

COMPUTED = ("float32", "float64")
DTYPES = ["bool", "uint8", "int8", "uint16", "int32", "int64", "float16", ">f4", ">f8", ">i4"]


@pytest.mark.parametrize("dtype", [*DTYPES, "complex64", "longdouble"])
@pytest.mark.parametrize("name", LOSSES)
def test_outputs_of_other_dtypes_are_refused_and_the_advice_works(name, dtype):
    a = np.array([[1, 0, 1], [0, 1, 0]]).astype(dtype)
    if str(a.dtype) in COMPUTED:  # long double is double on this machine
        return
    loss = make(name)
    rows = np.array([[1, 0, 0], [0, 1, 0]]).astype(dtype)
    for call in (loss.value, loss.gradient, loss.value):
        for y in (rows, np.eye(3)[:2], np.array([0, 1])):
            with pytest.raises(TypeError, match="expected outputs of dtype float32") as caught:
                call(a, y)
    if dtype != "complex64":
        advice = str(caught.value).partition("convert them: ")[2]
        converted = eval(advice, {"nnx": nnx, "a": a})
        assert loss.gradient(converted, np.array([0, 1])).dtype == np.float32


def test_outputs_of_other_dtypes_are_refused_on_every_backend(backend):
    for name in ("uint8", "int64"):
        a = backend.from_numpy(np.array([[1, 3], [0, 2]], name))
        for call in (nnx.QuadraticCost().gradient, nnx.SoftMaxCrossEntropy().value):
            with pytest.raises(TypeError, match="convert them") as caught:
                call(a, a)
        advice = str(caught.value).partition("convert them: ")[2]
        assert eval(advice, {"nnx": nnx, "a": a}).dtype == backend.dtype


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LOSSES)
def test_targets_of_any_dtype_are_their_numbers(name, dtype):
    rng = np.random.default_rng(0)
    a = draw(LOSSES[name][0], rng, (4, 3)).astype("f4")
    index = np.array([0, 1, 1, 0])
    rows = np.eye(3)[index]
    for y in (index, rows):
        given = y.astype(dtype)
        assert make(name).value(a, given) == make(name).value(a, y.astype(float))
        assert_array_equal(make(name).gradient(a, given), make(name).gradient(a, y.astype(float)))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int64", "float32"])
def test_narrow_indices_do_not_wrap_among_many_classes(dtype, backend):
    a = backend.asarray(np.zeros((2, 300)))
    rows = losses.one_hot(backend.from_numpy(np.array([3, 100], dtype)), a)
    assert_array_equal(backend.to_numpy(rows), np.eye(300)[[3, 100]])


def test_an_index_that_is_not_a_class_is_a_row_of_zeros(backend):
    a, y = backend.asarray(np.zeros((2, 3))), backend.asarray(np.array([-1, 3]))
    assert_array_equal(backend.to_numpy(losses.one_hot(y, a)), np.zeros((2, 3)))


# Arrays of another library.


@pytest.mark.parametrize("spec", ["torch", "strict", "jax"])
@pytest.mark.parametrize("method", ["value", "gradient"])
@pytest.mark.parametrize("y", [[0, 2], np.array([0, 2]), np.eye(3)[[0, 2]]], ids=repr)
def test_host_targets_are_refused_and_the_advice_typed_in_works(spec, method, y):
    with nnx.use_backend(usable(spec)) as backend:
        call = getattr(nnx.SoftMaxCrossEntropy(), method)
        a = backend.asarray(np.ones((2, 3)))
        with pytest.raises(BackendError, match="move the targets: ") as caught:
            call(a, y)
        scope = {"nnx": nnx, "y": y}
        exec(caught.value.remedy.partition(": ")[2], scope)
        call(a, scope["y"])
        with pytest.raises(BackendError, match="move the weights: ") as caught:
            call(a, scope["y"], np.ones(2))
        scope = {"nnx": nnx, "y": scope["y"], "weights": np.ones(2)}
        exec(caught.value.remedy.partition(": ")[2], scope)
        call(a, scope["y"], scope["weights"])


def test_advice_leads_to_the_outputs_wherever_they_are():
    torch, strict = (nnx.backend.resolve(usable(name)) for name in ("torch", "strict"))
    rows = np.ones((2, 3))
    for a, y, y_moves in [
        (rows, torch.asarray(rows), "y = nnx.to_numpy(y)"),
        (torch.asarray(rows), rows, "y = net.backend.asarray(y), where net is the network"),
        (torch.asarray(rows), strict.asarray(rows), "y = net.backend.asarray(nnx.to_numpy(y))"),
    ]:
        with pytest.raises(BackendError) as caught:
            nnx.QuadraticCost().gradient(a, y)
        assert y_moves in caught.value.remedy


def test_outputs_that_are_lists_are_refused():
    for y in ([[1.0]], np.ones((1, 1))):
        for call in (nnx.QuadraticCost().value, nnx.QuadraticCost().gradient):
            with pytest.raises(BackendError, match=r"nnx.get_backend\(\).asarray"):
                call([[1.0]], y)


# A loss of a user's own, with each contract broken in turn.


def own(**methods):
    good = {"losses": lambda self, a, t: (a - t)[..., 0], "slopes": lambda self, a, t: a - t}
    return type("Mine", (nnx.Loss,), good | methods)()


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda self, a, t: None, r"of shape \(4,\), got None"),
        (lambda self, a, t: 1.0, r"of shape \(4,\), got 1.0"),
        (lambda self, a, t: a, r"of shape \(4,\), got one of shape \(4, 3\)"),
        (lambda self, a, t: a[0, 0, ...], r"of shape \(4,\), got .*"),
    ],
)
def test_terms_of_another_shape_name_class_and_method(returned, message, backend):
    a = backend.asarray(np.ones((4, 3)))
    with pytest.raises(
        (TypeError, ValueError), match=rf"^Mine.losses\(a, t\): expected .*{message}"
    ):
        own(losses=returned).value(a, a)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda self, a, t: None, "got None"),
        (lambda self, a, t: 1.0, "got 1.0"),
        (lambda self, a, t: a, "got its argument itself; return a copy"),
        (lambda self, a, t: t, "got its argument itself; return a copy"),
        (lambda self, a, t: (a - t)[:, :1], r"got one of shape \(4, 1\)"),
        (lambda self, a, t: (a - t)[:2, :], r"got one of shape \(2, 3\)"),
    ],
)
def test_slopes_that_break_the_contract_name_class_and_method(returned, message, backend):
    a, y = backend.asarray(np.ones((4, 3))), backend.asarray(np.zeros((4, 3)))
    expected = rf"^Mine.slopes\(a, t\): expected a new array of shape \(4, 3\) .*{message}"
    with pytest.raises((TypeError, ValueError), match=expected):
        own(slopes=returned).gradient(a, y)
    assert_array_equal(backend.to_numpy(a), 1.0)
    assert_array_equal(backend.to_numpy(y), 0.0)


def test_slopes_of_integers_name_class_and_dtype():
    a = np.ones((4, 3), "f4")
    with pytest.raises(ValueError, match=r"^Mine.slopes.*dtype float32, got .*dtype int"):
        own(slopes=lambda self, a, t: (a > t).astype(int)).gradient(a, a.copy())


def test_a_loss_of_ones_own_that_keeps_the_contract_is_taken(backend):
    a, y = backend.asarray(np.full((4, 3), 2.0)), backend.asarray(np.ones((4, 3)))
    assert float(own().value(a, y)) == 1.0
    assert_array_equal(backend.to_numpy(own().gradient(a, y)), 0.25)
