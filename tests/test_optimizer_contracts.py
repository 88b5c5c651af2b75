"""Optimizers and schedules of a user's own, with each contract broken in turn."""

import math

import numpy as np
import pytest

import nnx
from nnx.config import plain
from nnx.optimizers.base import check_rule, zeros
from nnx.schedules import Schedule


class Mine(nnx.Optimizer):
    """SGD with a state that it does not use; each method may be replaced by a broken one."""

    def __init__(self, eta=0.1):
        super().__init__(eta)

    def init(self, p):
        return zeros(p, 1)

    def rule(self, p, g, state, factors):
        return p - factors[0] * g, state


def own(method, broken):
    return type("Mine", (Mine,), {method: broken})()


def doubled(array):
    return nnx.array_namespace(array).concat([array, array])


BROKEN = {
    "rule: one value": ("rule", lambda s, p, g, state, f: p, "rule: expected a pair"),
    "rule: None": ("rule", lambda s, p, g, state, f: None, "rule: expected a pair .* got None"),
    "rule: three": ("rule", lambda s, p, g, state, f: (p, state, f), "rule: expected a pair"),
    "rule: swapped": ("rule", lambda s, p, g, state, f: (state, p), "rule: expected a pair"),
    "rule: no tuple": ("rule", lambda s, p, g, state, f: (p, state[0]), "rule: expected a pair"),
    "rule: state lost": ("rule", lambda s, p, g, state, f: (p, ()), "rule: .* gives, 1, got 0"),
    "rule: state doubled": (
        "rule",
        lambda s, p, g, state, f: (p, state + state),
        "rule: .* gives, 1, got 2",
    ),
    "rule: shape of p": (
        "rule",
        lambda s, p, g, state, f: (doubled(p), state),
        r"rule: expected p .*\(2, 2\) .*got an array of shape \(4, 2\)",
    ),
    "rule: shape of the state": (
        "rule",
        lambda s, p, g, state, f: (p, (doubled(state[0]),)),
        r"rule: expected state .*\(2, 2\) .*got an array of shape \(4, 2\)",
    ),
    "rule: a number": (
        "rule",
        lambda s, p, g, state, f: (0.0, state),
        "rule: expected p .* got 0.0",
    ),
    "init: an array": ("init", lambda s, p: p, r"init: expected a tuple .* got an array of shape"),
    "init: None": ("init", lambda s, p: None, "init: expected a tuple .* got None"),
    "init: a list": ("init", lambda s, p: [p], "init: expected a tuple .* got list"),
    "init: a number": ("init", lambda s, p: (0.0,), "init: expected state .* got 0.0"),
    "init: shape": ("init", lambda s, p: (doubled(p),), r"init: .* got an array of shape \(4, 2\)"),
    "factors: an array": (
        "factors",
        lambda s, eta, t: np.asarray([eta]),
        "factors: expected a tuple of Python floats, got an array",
    ),
    "factors: NumPy": (
        "factors",
        lambda s, eta, t: (np.float64(eta),),
        r"factors: .* float\(...\)",
    ),
    "factors: a float": ("factors", lambda s, eta, t: eta, "factors: .* got 0.1; write"),
    "factors: None": ("factors", lambda s, eta, t: None, "factors: .* got None; write"),
    "factors: text": ("factors", lambda s, eta, t: ("0.1",), "factors: .* got tuple"),
}


HOW = {
    "update": lambda optimizer, p: optimizer.update([p], [0.5 * p]),
    "check_rule": check_rule,
    "factors_of": lambda optimizer, p: optimizer.factors_of(1),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("how", ["update", "check_rule"])
def test_a_broken_method_is_named(name, how, backend):
    method, broken, match = BROKEN[name]
    optimizer, p = own(method, broken), backend.asarray(np.ones((2, 2)))
    with pytest.raises((TypeError, ValueError), match=f"^Mine.{match}"):
        HOW[how](optimizer, p)
    assert optimizer.t == 0
    assert optimizer.state is None


def test_the_number_of_factors_may_not_change(backend):
    optimizer = own("factors", lambda s, eta, t: (eta,) * t)
    with pytest.raises(ValueError, match=r"Mine.factors: .* got 1 for step 1 and 2 for step 2"):
        check_rule(optimizer, backend.asarray(np.ones(3)))


def test_a_rule_in_another_type_is_named(backend):
    other = "float64" if backend.dtype_name == "float32" else "float32"

    def rule(self, p, g, state, factors):
        xp = nnx.array_namespace(p)
        return xp.astype(p, getattr(xp, other)), state

    with pytest.raises(TypeError, match=r"Mine.rule: expected p to have .*, got an array of .*64"):
        check_rule(own("rule", rule), backend.asarray(np.ones((2, 2))))


@pytest.mark.parametrize("shape", [(), (1,), (0,), (3,), (5, 1, 7)])
def test_check_rule_accepts_what_is_right_and_leaves_no_trace(shape, backend):
    p = backend.asarray(np.full(shape, 3.0))
    for kind in (Mine, nnx.SGD, nnx.Adam, nnx.AdamW, nnx.NAdam, nnx.AMSGrad, nnx.AdaMax):
        optimizer = kind()
        check_rule(optimizer, p)
        assert optimizer.t == 0
        assert optimizer.state is None
    assert np.all(backend.to_numpy(p) == 3.0)
    for optimizer in (nnx.SGD(0.1, 0.9, True), nnx.Lion(), nnx.AdaGrad(), nnx.AdaDelta()):
        check_rule(optimizer, p)


def test_check_rule_runs_where_there_is_no_data():
    pytest.importorskip("torch")
    with nnx.use_backend("torch:meta") as backend:
        check_rule(nnx.Adam(), backend.xp.ones((3, 4), device=backend.device))


# Constructors.


def test_an_argument_that_is_not_kept_is_named():
    class Forgetful(Mine):
        def __init__(self, eta, alpha):
            super().__init__(eta)

    optimizer = Forgetful(0.1, 0.5)
    for use in (plain, Forgetful.clone, nnx.Optimizer.state_dict):
        with pytest.raises(TypeError, match=r"Forgetful: .*'alpha'.* add `self.alpha = alpha`"):
            use(optimizer)


def test_a_constructor_without_its_base_is_named(backend):
    class Rootless(Mine):
        def __init__(self, alpha=0.5):
            self.alpha = alpha

    p = backend.asarray(np.ones(2))
    for use in (lambda o: check_rule(o, p), lambda o: o.update([p], [p])):
        with pytest.raises(TypeError, match=r"Rootless: .*add `super\(\).__init__\(eta, clip\)`"):
            use(Rootless())


def test_what_a_subclass_must_define_is_said():
    with pytest.raises(NotImplementedError, match="Optimizer must define rule"):
        nnx.Optimizer(0.1).update([np.ones(1)], [np.ones(1)])


# Schedules.


class Rate(Schedule):
    """A schedule that returns what it is given."""

    def __init__(self, value):
        self.value = value

    def __call__(self, t):
        return self.value


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (-0.1, ValueError),
        (math.nan, ValueError),
        (math.inf, ValueError),
        (None, TypeError),
        ("0.1", TypeError),
        (True, TypeError),
        (np.asarray([0.1]), TypeError),
        (np.asarray(0.1), TypeError),
        ((0.1,), TypeError),
    ],
    ids=repr,
)
@pytest.mark.parametrize("how", HOW)
def test_what_a_schedule_returns_is_checked_where_it_is_read(value, error, how):
    match = r"^Rate.__call__: expected the rate of step 1 to be .* >= 0, got"
    for schedule in (Rate(value), nnx.WarmUpSchedule(Rate(value), 3)):
        with pytest.raises(error, match=match):
            HOW[how](nnx.Adam(schedule), np.ones(2))


@pytest.mark.parametrize("value", [0.25, np.float32(0.25), np.float64(0.25)])
def test_a_rate_becomes_a_float(value):
    (rate,) = nnx.SGD(Rate(value)).factors_of(1)
    assert (type(rate), rate) == (float, 0.25)


@pytest.mark.parametrize(
    "value", ["0.1", None, True, -1, -0.1, math.nan, nnx.CosineSchedule, np.ones(1)], ids=repr
)
def test_a_rate_assigned_after_construction_is_checked(value):
    optimizer, mine = nnx.Adam(), object.__new__(type("Mine", (nnx.SGD,), {}))
    with pytest.raises((TypeError, ValueError), match=r"^Adam: expected eta to be "):
        optimizer.eta = value
    assert optimizer.eta == 0.001
    mine.eta = value  # classes of the user's own check what they like
    with pytest.raises((TypeError, ValueError), match=r"^Mine: expected eta to be "):
        mine.factors_of(1)


@pytest.mark.parametrize(
    "value", [np.float64(0.5), np.float32(0.5), 0.5, nnx.ConstantSchedule(0.5)]
)
def test_a_rate_may_be_assigned_after_construction(value):
    optimizer, p = nnx.SGD(), np.ones(1, dtype=np.float32)
    optimizer.eta = value
    assert optimizer.factors_of(1) == (0.5,)
    (p,) = optimizer.update([p], [np.ones(1, dtype=np.float32)])
    assert (p.dtype, p[0]) == (np.float32, 0.5)


def test_a_rate_that_overflows_is_named():
    for schedule in (nnx.ExponentialSchedule(1.0, 2.0), nnx.StepSchedule(1.0, 1, 2.0)):
        assert schedule.rate(1000) == 2.0**999
        with pytest.raises(ValueError, match=r"^\w+.__call__: .* rate of step 2000 .* got inf"):
            schedule.rate(2000)


# Arrays given by hand.


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "bool", "float16", ">f4", ">f8"])
def test_a_type_that_is_not_float32_or_float64_is_refused_with_a_remedy(dtype):
    odd = np.asarray([1, 2]).astype(dtype)
    for optimizer in (nnx.SGD(0.1), nnx.Adam()):
        with pytest.raises(
            TypeError, match=r"parameters\[0\] of type .*convert it first: (.*)"
        ) as e:
            optimizer.update([odd], [odd])
        with nnx.use_backend("numpy", dtype="float64"):  # the advice works
            p = eval(str(e.value).rpartition("first: ")[2], {"nnx": nnx, "p": odd})
        with pytest.raises(TypeError, match=r"gradients\[0\] .* float64, got .*first: (.*)") as e:
            optimizer.update([p], [odd])
        g = eval(str(e.value).rpartition("first: ")[2], {"nnx": nnx, "p": p, "g": odd})
        (p,) = optimizer.update([p], [g])
        assert p.dtype == np.float64
        assert optimizer.t == 1


def test_a_gradient_of_another_precision_is_refused(backend):
    other = "float64" if backend.dtype_name == "float32" else "float32"
    p = backend.asarray([1.0])
    g = backend.xp.astype(p, getattr(backend.xp, other))
    with pytest.raises(TypeError, match=r"gradients\[0\] of the type of its parameter"):
        nnx.SGD().update([p], [g])


def test_what_is_not_an_array_is_refused():
    with pytest.raises(nnx.BackendError, match="expected an array"):
        nnx.SGD().update([1.0], [2.0])


@pytest.mark.parametrize("make", [np.asarray, lambda of: dict(enumerate(of)), iter, set, str])
def test_what_is_not_a_list_of_arrays_is_refused(make):
    right = [np.ones(2), np.ones(2)]
    for parameters, gradients in ((make([1.0, 2.0]), right), (right, make([1.0, 2.0]))):
        with pytest.raises(TypeError, match=r"SGD.update: expected lists of .*update\(\[W, b\], "):
            nnx.SGD().update(parameters, gradients)


def test_a_state_of_another_type_is_refused_with_a_remedy():
    p, g = np.ones(2, dtype=np.float32), np.ones(2, dtype=np.float32)
    optimizer = nnx.Adam()
    wide = [np.ones(2)]
    optimizer.update(wide, wide)
    with pytest.raises(TypeError, match=r"state of the type .* float32, got float64; conv") as e:
        optimizer.update([p], [g])
    names = {"nnx": nnx, "p": p, "optimizer": optimizer}
    exec(str(e.value).rpartition("first: ")[2], names)  # the advice works
    (p,) = names["optimizer"].update([p], [g])
    assert p.dtype == np.float32
    assert names["optimizer"].t == 2


def test_a_state_of_another_library_is_refused(backend):
    foreign = "numpy" if backend.name != "numpy" else "strict"
    optimizer, one = nnx.SGD(0.1, 0.9), backend.asarray([1.0])
    optimizer.update([one], [one * 1.0])
    with nnx.use_backend(foreign) as other:
        p, g = other.asarray([1.0]), other.asarray([1.0])
    with pytest.raises(nnx.BackendError, match="arrays of one library"):
        optimizer.update([p], [g])
