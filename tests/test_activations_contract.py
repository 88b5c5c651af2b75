"""Activations as objects: names, ranges, copies, arguments, dtypes and broken contracts."""

import copy
import math
import pickle

import numpy as np
import pytest
from activations_table import CASES

import nnx
from nnx import activations
from nnx.activations import Activation
from nnx.activations.base import checked_backward, checked_forward
from nnx.config import build, plain

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
X = np.array([[-1.5, 0.2, 0.7], [2.0, -0.1, 4.0]])


# ---------------------------------------------------------------- names, ranges


NAMES = {
    "Heaviside": "Heaviside",
    "ModifiedHeaviside": "modified Heaviside",
    "Logistic": "logistic",
    "SoftMax": "softmax",
    "Exp": "exponential",
    "HardSigmoid": "hard sigmoid",
    "Sign": "sign",
    "TanH": "tanh",
    "SoftSign": "softsign",
    "HardTanh": "hard tanh",
    "ArcTan": "arctan",
    "ISRU": "ISRU",
    "ReLU": "ReLU",
    "LeakyReLU": "leaky ReLU",
    "ELU": "ELU",
    "SoftPlus": "softplus",
    "Swish": "swish",
    "GELU": "GELU",
    "GELUTanh": "GELU (tanh)",
    "SELU": "SELU",
    "CELU": "CELU",
    "Mish": "mish",
    "HardSwish": "hard swish",
    "ReLU6": "ReLU6",
    "ThresholdedReLU": "thresholded ReLU",
    "Squareplus": "squareplus",
    "Abs": "Abs",
    "LOCo": "LOCo",
    "Twist": "Twist",
    "SoftAbs": "SoftAbs",
    "Linear": "linear",
    "LogSigmoid": "log-sigmoid",
    "LogSoftmax": "log-softmax",
    "Gaussian": "Gaussian",
    "Sinusoid": "sinusoid",
    "BentIdentity": "bent identity",
    "TanhShrink": "tanh shrinkage",
    "SoftShrink": "soft shrinkage",
    "HardShrink": "hard shrinkage",
}


def test_names():
    assert {case.cls.__name__: case.cls.name for case in CASES} == NAMES
    assert len({case.cls.name for case in CASES}) == len(NAMES)


def test_the_name_of_a_users_own_class_is_that_of_the_class():
    class Cubic(Activation):
        pass

    class Named(Activation):
        name = "my own"

    assert (Cubic().name, Named().name) == ("Cubic", "my own")


def test_the_spelling_of_the_exercise_sheet():
    names = {}
    exec("from nnx.activations import *", names)
    assert names["leakyReLU"] is nnx.LeakyReLU
    assert names["leakyReLU"](alpha=0.2).alpha == 0.2


@every_case
def test_values_lie_in_the_range_and_reach_its_ends(case, backend64):
    activation = case.make()
    low, high = activation.range
    wide = np.concatenate([np.linspace(-12, 12, 9601), [-1e300, -1e9, -700.0, 700.0, 1e9, 1e300]])
    if case.cls is nnx.Sinusoid:
        wide = wide[:-6]
    if case.rowwise:
        rng = np.random.default_rng(3)
        wide = np.concatenate([rng.normal(scale=9, size=(500, 4)), [[-1e300, 0.0, 0.0, 1e300]]])
    with np.errstate(over="ignore"):
        y = nnx.to_numpy(activation.forward(backend64.asarray(wide))[0])
    assert np.all(y >= low - 1e-15 * abs(low) if math.isfinite(low) else True)
    assert np.all(y <= high + 1e-15 * abs(high) if math.isfinite(high) else True)
    # a bound that is reached, or approached, is no wider than it must be
    for bound, end in ((low, y.min()), (high, y.max())):
        assert abs(end - bound) < 1e-5 if math.isfinite(bound) else abs(end) > 1e4 or end == bound


@every_case
def test_only_softmax_is_a_distribution(case, backend64):
    activation = case.make()
    y = nnx.to_numpy(activation.forward(backend64.asarray(X))[0])
    is_one = np.all(y >= 0) and np.allclose(y.sum(axis=-1), 1, rtol=1e-14)
    assert activation.distribution is bool(is_one)


# ---------------------------------------------------------------- copies


COPIES = {
    "pickle": lambda thing: pickle.loads(pickle.dumps(thing)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "clone": lambda thing: thing.clone(),
    "plain data": lambda thing: build(plain(thing)),
    "repr": lambda thing: eval(repr(thing), dict(vars(nnx))),
}


@pytest.mark.parametrize("how", COPIES)
@every_case
def test_copies_are_equal_and_do_not_remember_an_evaluate(case, how, backend):
    activation = case.make()
    before = COPIES[how](activation)
    y = nnx.to_numpy(activation.evaluate(backend.asarray(X)))
    for twin in (before, COPIES[how](activation)):
        assert twin == activation
        assert hash(twin) == hash(activation)
        assert twin.range == activation.range
        with pytest.raises(RuntimeError, match="call evaluate"):
            twin.backprop(backend.asarray(X))
        assert np.array_equal(nnx.to_numpy(twin(backend.asarray(X))), y)
    activation.backprop(backend.asarray(X))  # the original still remembers


# ---------------------------------------------------------------- arguments of constructors


REFUSED = {
    "k": (0, -1.0, math.nan, math.inf, "1.0", None, True, [1.0], nnx.ReLU, np.ones(2), 1j),
    "b": (0, -1.0, math.nan, math.inf, "1.0", None, False, [1.0], nnx.ReLU),
    "beta": (math.nan, -math.inf, "0", None, True, (1.0,), nnx.ReLU),
    "lambd": (-0.1, math.nan, math.inf, "0", None, True, [1.0], nnx.ReLU),
    "alpha": (-0.1, math.nan, math.inf, "0", None, True, [1.0], nnx.ReLU),
}
POSITIVE_ALPHA = (nnx.ELU, nnx.CELU, nnx.ISRU, nnx.HardSigmoid)
BAD = {
    f"{case.cls.__name__}({argument}={value!r})": (case.cls, argument, value)
    for case in CASES
    for argument in case.arguments
    for value in (
        *REFUSED[argument],
        *((0,) if argument == "alpha" and case.cls in POSITIVE_ALPHA else ()),
        *((1.5,) if case.cls is nnx.LeakyReLU else ()),
    )
}


def test_every_argument_of_every_constructor_is_in_the_table_of_wrong_ones():
    import inspect

    for case in CASES:
        if case.cls.__init__ is not object.__init__:
            parameters = set(inspect.signature(case.cls).parameters)
            assert {(case.cls, name) for name in parameters} <= {bad[:2] for bad in BAD.values()}


@pytest.mark.parametrize("bad", BAD)
def test_wrong_arguments_are_told_by_class_argument_and_value(bad):
    cls, argument, value = BAD[bad]
    with pytest.raises((TypeError, ValueError)) as caught:
        cls(**{argument: value})
    message = str(caught.value)
    assert message.startswith(f"{cls.__name__}: expected {argument} to be a")
    assert f"number{' ' if argument != 'beta' else ''}" in message
    assert f"got {value!r}" in message


# ---------------------------------------------------------------- dtypes that come by hand


def by_hand(case, call, x):
    activation = case.make()
    return activation.evaluate(x) if call == "evaluate" else activation(x)


WRONG_DTYPES = ("float16", "bool", "uint8", "int32", "int64")


def converted_as_the_message_says(message, x):
    """The remedy of the message, typed in."""
    names = {"nnx": nnx, "x": x}
    exec(message.partition("convert it: ")[2], names)
    return names["x"]


@pytest.mark.parametrize("dtype", WRONG_DTYPES)
@every_case
def test_other_dtypes_are_refused_with_a_remedy_that_works(case, dtype, backend):
    host = np.array([[1, 0, 3], [0, 2, 1]]).astype(dtype)
    if dtype == "float16":
        if backend.name == "strict":
            pytest.skip("the standard has no float16")
        x = backend.xp.asarray(host)
    else:
        x = backend.asarray(host, dtype=getattr(backend.xp, dtype))
    for call in ("evaluate", "call"):
        with pytest.raises(
            TypeError,
            match=rf"^{case.cls.__name__}: expected x to be an array of "
            rf"float32 or float64, got an array of .*{dtype}",
        ) as caught:
            by_hand(case, call, x)
        right = converted_as_the_message_says(str(caught.value), x)
        want = case.make().forward(backend.asarray(host.astype("float32")))[0]
        assert np.array_equal(nnx.to_numpy(by_hand(case, call, right)), nnx.to_numpy(want))


@pytest.mark.parametrize("x", [[[1, 2], [3, 4]], ((0.5, 1.0),), 3.0, 2, True])
@every_case
def test_lists_and_numbers_are_refused_with_a_remedy_that_works(case, x, backend):
    with pytest.raises(TypeError, match=rf"^{case.cls.__name__}: expected x .* got .*") as caught:
        case.make()(x)
    right = converted_as_the_message_says(str(caught.value), x)
    if right.ndim > 0 or not case.rowwise:
        want = case.make().forward(backend.asarray(np.array(x, dtype="float32")))[0]
        assert np.array_equal(nnx.to_numpy(case.make()(right)), nnx.to_numpy(want))


@pytest.mark.parametrize(
    "x", ["text", None, {1: 2}, np.array(["a"]), np.array([None]), np.ones(2, "c8")]
)
def test_what_is_no_array_of_numbers_is_refused(x):
    with pytest.raises(TypeError, match=r"^ReLU: expected x to be an array of float32 or float6"):
        nnx.ReLU().evaluate(x)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@every_case
def test_the_other_byte_order_gives_the_same_bits(case, dtype):
    x = X.astype(dtype)
    other = x.astype(x.dtype.newbyteorder())
    with nnx.use_backend("numpy"):
        one, two = case.make(), case.make()
        assert np.array_equal(one.evaluate(x), two.evaluate(other))
        assert np.array_equal(one.backprop(x), two.backprop(other))
        assert two(other).dtype == np.dtype(dtype)


def test_backprop_wants_the_shape_and_dtype_of_x(backend):
    activation = nnx.TanH()
    activation.evaluate(backend.asarray(X))
    with pytest.raises(
        nnx.ShapeError, match=r"TanH.backprop: expected delta of shape \(2, 3\).*got \(3,\)"
    ):
        activation.backprop(backend.asarray(np.ones(3)))
    with pytest.raises(TypeError, match="TanH: expected delta to be an array of float32"):
        activation.backprop([[1.0] * 3] * 2)


# ---------------------------------------------------------------- contracts of one's own, broken


def own(forward):
    return type("Own", (Activation,), {"forward": lambda self, x: forward(x)})()


BROKEN_FORWARDS = {
    "the value alone": (
        lambda x: np.tanh(x),
        r"return \(y, backward\), got an array of float64 of",
    ),
    "two rows, which unpack": (lambda x: x, r"got an array of float64 of shape \(2, 3\)"),
    "nothing": (lambda x: None, r"\(y, backward\), got None; return the value phi\(x\) and a"),
    "three values": (lambda x: (x, x, x), r"got a tuple \(ndarray, ndarray, ndarray\)"),
    "the derivative for backward": (lambda x: (x, x), r"got a tuple \(ndarray, ndarray\)"),
    "a list": (lambda x: [x, lambda delta: delta], r"got a list; return|got \[array"),
    "a number": (lambda x: (1.0, lambda d: d), r"y of shape \(2, 3\), got 1.0; return phi"),
    "a sum": (lambda x: (x.sum(axis=0), lambda d: d), r"y of shape \(2, 3\), got \(3,\); "),
    "another dtype": (
        lambda x: (x.astype("float32"), lambda d: d),
        r"y of dtype float64, got float32; use Python numbers",
    ),
}
BROKEN_BACKWARDS = {
    "nothing": (lambda d: None, r"return an array of shape \(2, 3\), got None; return phi'\(x\)"),
    "a number": (lambda d: 0.0, r"of shape \(2, 3\), got 0.0; return phi'"),
    "a sum": (lambda d: d.sum(axis=0), r"of shape \(2, 3\), got \(3,\); return phi'"),
    "the pair of a layer": (lambda d: (d, {}), r"got a tuple \(ndarray, dict\)"),
    "another dtype": (lambda d: d.astype("float32"), r"of dtype float64, got float32"),
}


@pytest.mark.parametrize("defect", BROKEN_FORWARDS)
def test_a_broken_forward_is_told(defect):
    forward, message = BROKEN_FORWARDS[defect]
    for call in (own(forward).evaluate, own(forward), lambda x: checked_forward(own(forward), x)):
        with pytest.raises((TypeError, ValueError), match=rf"^Own\.forward: expected .*{message}"):
            call(X)


@pytest.mark.parametrize("defect", BROKEN_BACKWARDS)
def test_a_broken_backward_is_told(defect):
    backward, message = BROKEN_BACKWARDS[defect]
    activation = own(lambda x: (x, backward))
    activation.evaluate(X)
    expected = rf"^Own\.forward: expected its backward to .*{message}"
    with pytest.raises((TypeError, ValueError), match=expected):
        activation.backprop(X)
    with pytest.raises((TypeError, ValueError), match=expected):
        checked_backward(activation, backward, X)


@every_case
def test_every_activation_keeps_the_contract(case, backend):
    x = backend.asarray(X)
    y, backward = checked_forward(case.make(), x)
    checked_backward(case.make(), backward, y)


def test_an_error_inside_of_a_forward_is_left_as_it_is():
    def forward(x):
        y, z = x  # the author's own mistake
        return y, z

    with pytest.raises(ValueError, match="too many values to unpack"):
        own(forward)(np.ones(5))


def test_no_file_of_the_room_is_long():
    from pathlib import Path

    for path in Path(activations.__file__).parent.glob("*.py"):
        assert len(path.read_text().splitlines()) <= 400
