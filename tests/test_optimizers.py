"""The optimizers against their formulas, PyTorch, hand-worked numbers and closed forms."""

import inspect
import json
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from conftest import usable
from optimizers_table import CASES, RATES, problem, torch_trajectory

import nnx
from nnx import optimizers

RECORDED = json.loads((Path(__file__).parent / "fixtures" / "optimizers.json").read_text())
CLASSES = {kind.__name__: kind for kind in (case.optimizer for case in CASES.values())}
BASES = {"Factors", "Optimizer", "State"}
CLOSE = {"rtol": 1e-12, "atol": 1e-14}

for_every_case = pytest.mark.parametrize("name", CASES)
for_every_class = pytest.mark.parametrize("kind", CLASSES.values(), ids=CLASSES)


def walk(backend, optimizer, p, gradients):
    """The parameter on the host after each step."""
    p, steps = backend.asarray(p.copy()), []
    for g in gradients:
        (p,) = optimizer.update([p], [backend.asarray(g)])
        steps.append(backend.to_numpy(p).copy())
    return np.stack(steps)


def refuted(check, *arguments):
    """The same check, given a defective rule, must fail."""
    with pytest.raises(AssertionError):
        check(*arguments)


# The tables.


def test_every_optimizer_is_in_the_table():
    assert set(CLASSES) == set(optimizers.__all__) - BASES
    assert {CASES[name].optimizer for name in RATES} == set(CLASSES.values())


def test_the_recorded_problem_is_the_one_tested():
    p, gradients = problem()
    assert p.tolist() == RECORDED["p"]
    assert gradients.tolist() == RECORDED["gradients"]


# Fifty steps.


@for_every_case
def test_fifty_steps_follow_the_formula(name, backend64):
    p, gradients = problem()
    steps = walk(backend64, CASES[name].make(), p, gradients)
    np.testing.assert_allclose(steps, CASES[name].expected(p, gradients), **CLOSE)


@for_every_case
def test_fifty_steps_follow_pytorch(name, backend64):
    if CASES[name].torch is None:
        pytest.skip("PyTorch has no such optimizer")
    pytest.importorskip("torch")
    p, gradients = problem()
    steps = walk(backend64, CASES[name].make(), p, gradients)
    np.testing.assert_allclose(steps, torch_trajectory(name, p, gradients), **CLOSE)


@pytest.mark.parametrize("name", RECORDED["trajectories"])
def test_fifty_steps_follow_the_record_of_pytorch(name, backend64):
    steps = walk(backend64, CASES[name].make(), *problem())
    kept = [t - 1 for t in RECORDED["steps"]]
    np.testing.assert_allclose(steps[kept], RECORDED["trajectories"][name], **CLOSE)


@for_every_case
def test_fifty_steps_in_float32_stay_near_those_in_float64(name, backend):
    p, gradients = problem()
    steps = walk(backend, CASES[name].make(), p, gradients)
    expected = CASES[name].expected(p, gradients)
    # An entry may come back near zero: the roundings are those of the largest it has been.
    size = np.maximum.accumulate(np.abs(expected), axis=0)
    assert np.all(np.abs(steps - expected) <= 1e-5 * size + 1e-6)


# Hand-worked numbers, and the defects they expose.


class Defective(nnx.Optimizer):
    """A rule of the wrong kind, for tests that must fail on it."""

    def __init__(self, rule, arrays, eta):
        super().__init__(eta)
        self.wrong, self.arrays = rule, arrays

    def init(self, p):
        return tuple(0.0 * p for _ in range(self.arrays))

    def factors(self, eta, t):
        return eta, t

    def rule(self, p, g, state, factors):
        return self.wrong(p, g, state, *factors)


def check_momentum(backend, optimizer):
    steps = walk(backend, optimizer, np.asarray([1.0]), np.ones((5, 1)))
    np.testing.assert_allclose(steps[:, 0], [0.9, 0.71, 0.439, 0.0951, -0.3144], atol=1e-4)


def test_momentum_by_hand(backend):
    check_momentum(backend, nnx.SGD(0.1, 0.9))


def test_momentum_whose_velocity_is_lost_is_found_out(backend):
    def lost(p, g, state, eta, t):
        (v,) = state
        v = 0.9 * v + g  # a local name; the state that is returned is still 0
        return p - eta * v, state

    refuted(check_momentum, backend, Defective(lost, 1, 0.1))


def check_momentum_under_a_schedule(backend, optimizer):
    # v = 1, 1.9: p = 1 - .1 * 1 = .9, then .9 - .01 * 1.9 = .881
    steps = walk(backend, optimizer, np.asarray([1.0]), np.ones((2, 1)))
    np.testing.assert_allclose(steps[:, 0], [0.9, 0.881], rtol=1e-6)


def test_momentum_under_a_schedule_by_hand(backend):
    check_momentum_under_a_schedule(backend, nnx.SGD(nnx.StepSchedule(0.1, every=1), 0.9))


def test_momentum_with_eta_inside_the_velocity_is_found_out(backend):
    def inside(p, g, state, eta, t):
        v = 0.9 * state[0] + eta * g
        return p - v, (v,)

    defective = Defective(inside, 1, nnx.StepSchedule(0.1, every=1))
    refuted(check_momentum_under_a_schedule, backend, defective)


def check_first_step_of_adam(backend, optimizer):
    # m^ = g, v^ = g^2: the step is eta g / (g + eps) = eta / (1 + 1e-4)
    steps = walk(backend, optimizer, np.asarray([0.0]), np.full((1, 1), 1e-4))
    np.testing.assert_allclose(steps[0], -0.001 / 1.0001, rtol=1e-6)


def test_first_step_of_adam_by_hand(backend):
    check_first_step_of_adam(backend, nnx.Adam())


def wrong_adam(root, keep):
    def rule(p, g, state, eta, t):
        xp = nnx.array_namespace(p)
        m, v = 0.9 * state[0] + 0.1 * g, 0.999 * state[1] + 0.001 * g * g
        d = root(xp, v / (1 - 0.999**t))
        return p - eta * m / (1 - 0.9**t) / d, (m, v) if keep else state

    return Defective(rule, 2, 0.001)


def test_adam_with_eps_inside_the_root_is_found_out(backend):
    check_first_step_of_adam(backend, wrong_adam(lambda xp, v: xp.sqrt(v) + 1e-8, keep=True))
    wrong = wrong_adam(lambda xp, v: xp.sqrt(v + 1e-8), keep=True)
    refuted(check_first_step_of_adam, backend, wrong)


def check_memory_of_adam(backend, optimizer):
    # g = 1, then 0: m^ = .09 / .19, v^ = .000999 / .001999
    steps = walk(backend, optimizer, np.asarray([0.0]), np.asarray([[1.0], [0.0]]))
    second = 0.001 * (0.09 / 0.19) / (math.sqrt(0.000999 / 0.001999) + 1e-8)
    np.testing.assert_allclose(steps[:, 0], [-0.001, -0.001 - second], rtol=1e-4)


def test_adam_remembers_the_last_gradient(backend):
    check_memory_of_adam(backend, nnx.Adam())


def test_adam_whose_moments_are_lost_is_found_out(backend):
    def root(xp, v):
        return xp.sqrt(v) + 1e-8

    check_memory_of_adam(backend, wrong_adam(root, keep=True))
    refuted(check_memory_of_adam, backend, wrong_adam(root, keep=False))


def test_a_late_step_of_adam_without_memory_is_3_16_eta(backend):
    """What the lost moments do: sign(g) eta sqrt(1 / .1)."""
    lost = wrong_adam(lambda xp, v: xp.sqrt(v) + 1e-8, keep=False)
    zero, one = backend.asarray([0.0]), backend.asarray([1.0])
    p, _ = lost.rule(zero, one, (zero, zero), (0.001, 10**5))
    np.testing.assert_allclose(backend.to_numpy(p), -0.001 * math.sqrt(10.0), rtol=1e-6)


def test_the_first_steps_by_hand(backend64):
    """At g = 2 from p = 1, one step of each: the averages are one gradient old."""
    first = {
        nnx.AdaGrad(0.5): 1 - 0.5 * 2 / (2 + 1e-10),
        nnx.AdaDelta(): 1 - 2 * math.sqrt(1e-6 / (0.05 * 4 + 1e-6)),
        nnx.RMSProp(0.5): 1 - 0.5 * 2 / (2 * math.sqrt(0.1) + 1e-8),
        nnx.AdaMax(0.5): 1 - 0.5 * 2 / (2 + 1e-8),
        nnx.AMSGrad(0.5): 1 - 0.5 * 2 / (2 + 1e-8),
        nnx.AdamW(0.5, weight_decay=0.1): 1 - 0.5 * (2 / (2 + 1e-8) + 0.1),
        nnx.Lion(0.5, weight_decay=0.1): 1 - 0.5 * (1 + 0.1),
    }
    for optimizer, expected in first.items():
        steps = walk(backend64, optimizer, np.asarray([1.0]), np.full((1, 1), 2.0))
        np.testing.assert_allclose(steps[0, 0], expected, rtol=1e-14, err_msg=repr(optimizer))


def test_the_defaults_are_those_of_the_papers():
    adam = {"eta": 0.001, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
    expected = {
        "SGD": {"eta": 0.01, "momentum": 0.0, "nesterov": False},
        "Adam": adam,
        "AdamW": adam | {"weight_decay": 0.01},
        "NAdam": adam | {"eta": 0.002, "momentum_decay": 0.004},
        "AMSGrad": adam,
        "AdaMax": adam | {"eta": 0.002},
        "AdaGrad": {"eta": 0.01, "eps": 1e-10},
        "AdaDelta": {"eta": 1.0, "rho": 0.95, "eps": 1e-6},
        "RMSProp": {"eta": 0.001, "rho": 0.9, "eps": 1e-8},
        "Lion": {"eta": 0.0001, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.0},
    }
    assert {n: kind().arguments() for n, kind in CLASSES.items()} == {
        n: of | {"clip": None} for n, of in expected.items()
    }


@pytest.mark.parametrize(
    ("optimizer", "name"),
    [
        (nnx.SGD(0.1), "SGD(0.1)"),
        (nnx.SGD(0.1, 0.9), "SGD(0.1) with momentum 0.9"),
        (nnx.SGD(0.1, 0.9, nesterov=True), "SGD(0.1) with Nesterov momentum 0.9"),
        (nnx.Adam(), "Adam(0.001)"),
        (nnx.AdamW(eta=0.01, clip=nnx.ClipNorm(1.0)), "AdamW(0.01)"),
        (nnx.Adam(nnx.CosineSchedule(0.1, 50)), "Adam(CosineSchedule(0.1, 50))"),
        (
            nnx.SGD(nnx.ExponentialSchedule(0.1, 0.5), momentum=0.5),
            "SGD(ExponentialSchedule(0.1, 0.5)) with momentum 0.5",
        ),
    ],
)
def test_names_are_those_of_the_course(optimizer, name):
    assert optimizer.name == name


def test_what_was_given_reads_back():
    adam = nnx.Adam(0.01, 0.8, 0.99, 1e-6)
    assert (adam.eta, adam.beta1, adam.beta2, adam.eps) == (0.01, 0.8, 0.99, 1e-6)
    assert (nnx.SGD(0.2, 0.5).eta, nnx.SGD(0.2, 0.5).momentum) == (0.2, 0.5)
    schedule = nnx.StepSchedule(0.1, 10)
    assert nnx.Adam(schedule).eta is schedule


@for_every_class
def test_factors_are_equally_many_floats_and_depend_on_eta_and_t_alone(kind):
    steps = [1, 2, 3, 50, 400, 10**6]
    in_order, optimizer = kind(), kind()
    expected = {t: in_order.factors(0.1, t) for t in steps}
    given = {t: optimizer.factors(0.1, t) for t in (400, 3, 10**6, 1, 50, 2)}
    assert given == expected
    assert {len(f) for f in given.values()} == {len(expected[1])}
    assert {type(x) for f in given.values() for x in f} == {float}
    assert optimizer.arguments() == kind().arguments()


@pytest.mark.parametrize("t", [1, 2, 7, 300, 354, 355, 5000])
def test_the_product_of_nadam_is_the_product_from_the_start(t):
    def factors(eta, beta1, decay):
        mu = [beta1 * (1 - 0.5 * 0.96 ** (i * decay)) for i in range(1, t + 2)]
        root = math.sqrt((1 - 0.999) / (1 - 0.999**t))
        of_m = eta * (1 - beta1) * mu[-1] / (1 - math.prod(mu)) / root
        return of_m, eta * (1 - mu[-2]) / (1 - math.prod(mu[:-1])) / root, 1e-8 / root

    optimizer = nnx.NAdam()
    for other in (9, 1000, 1):
        optimizer.factors(0.1, other)
    np.testing.assert_allclose(optimizer.factors(0.1, t), factors(0.1, 0.9, 0.004), rtol=1e-14)
    optimizer.beta1, optimizer.momentum_decay = 0.5, 0.1  # nothing of the old product is left
    np.testing.assert_allclose(optimizer.factors(0.1, t), factors(0.1, 0.5, 0.1), rtol=1e-14)


# Closed forms: L2 and momentum by hand.

# Dyadic numbers, of so few digits that three steps are exact in binary floating point.
ETA, LAMBDA, GAMMA = Fraction(1, 8), Fraction(1, 4), Fraction(1, 2)
W0, G = Fraction(3), (Fraction(1), Fraction(-5), Fraction(7, 2))


def three_steps(backend, optimizer, l2):
    """W3 of gradients G, with the penalty's gradient added by the regularizer."""
    w = backend.asarray([float(W0)])
    for g in G:
        g = nnx.L2Regularizer(l2).update(w, backend.asarray([float(g)]))
        (w,) = optimizer.update([w], [g])
    return Fraction(float(backend.to_numpy(w)[0]))


def test_l2_under_sgd_is_weight_decay_exactly(backend64):
    left = 1 - LAMBDA * ETA
    expected = W0 * left**3 - ETA * (G[0] * left**2 + G[1] * left + G[2])
    assert three_steps(backend64, nnx.SGD(float(ETA)), float(LAMBDA)) == expected


def test_old_gradients_grow_under_momentum_exactly(backend64):
    c = GAMMA
    expected = W0 - ETA * (G[0] * (1 + c + c**2) + G[1] * (1 + c) + G[2])
    assert three_steps(backend64, nnx.SGD(float(ETA), float(GAMMA)), 0.0) == expected


def test_the_closed_forms_hold_for_symbols():
    """The rules themselves, given symbols instead of arrays."""
    sympy = pytest.importorskip("sympy")
    w0, e, lam, c, *g = sympy.symbols("w0 e l c g0 g1 g2")

    def steps(momentum, l2):
        optimizer, penalty = nnx.SGD(), nnx.L2Regularizer()
        vars(optimizer)["momentum"], vars(penalty)["l2"] = momentum, l2  # not checked
        w, state = w0, (0,)
        for t, gradient in enumerate(g, start=1):
            factors = optimizer.factors(e, t)
            w, state = optimizer.rule(w, penalty.update(w, gradient), state, factors)
        return sympy.expand(w)

    left = 1 - lam * e
    fading = w0 * left**3 - e * (g[0] * left**2 + g[1] * left + g[2])
    growing = w0 - e * (g[0] * (1 + c + c**2) + g[1] * (1 + c) + g[2])
    assert steps(0, lam) == sympy.expand(fading)
    assert steps(c, 0) == sympy.expand(growing)


@pytest.mark.parametrize("decay", [0.0, 0.01, 0.1, 1.0])
def test_adam_with_l2_starts_with_eta_whatever_lambda_is_and_adamw_does_not(decay, backend64):
    w, g, eta = 3.0, 0.5, 0.25

    def first(optimizer, l2):
        p = backend64.asarray([w])
        g_l2 = nnx.L2Regularizer(l2).update(p, backend64.asarray([g]))
        (p,) = optimizer.update([p], [g_l2])
        return w - float(backend64.to_numpy(p)[0])

    size = g + decay * w
    with_l2 = first(nnx.Adam(eta), decay)
    np.testing.assert_allclose(with_l2, eta * size / (size + 1e-8), rtol=1e-14)
    np.testing.assert_allclose(with_l2, eta, rtol=1e-7)
    decoupled = first(nnx.AdamW(eta, weight_decay=decay), 0.0)
    np.testing.assert_allclose(decoupled, eta * (g / (g + 1e-8) + decay * w), rtol=1e-14)


# Convergence.


def minimise(optimizer, gradient, x, steps):
    x = np.asarray(x)
    for _ in range(steps):
        (x,) = optimizer.update([x], [gradient(x)])
    return x


@pytest.mark.parametrize("name", RATES)
def test_every_optimizer_finds_the_minimum_of_a_parabola(name):
    curvature, minimum = np.asarray([1.0, 2.0, 5.0]), np.asarray([1.0, -2.0, 0.5])
    eta = nnx.CosineSchedule(RATES[name][0], 300)
    optimizer = CASES[name].optimizer(**CASES[name].arguments | decay_free(name, eta))
    x = minimise(optimizer, lambda x: curvature * (x - minimum), [0.0, 0.0, 0.0], 300)
    np.testing.assert_allclose(x, minimum, atol=1e-3)


@pytest.mark.parametrize("name", RATES)
def test_every_optimizer_walks_down_the_valley_of_rosenbrock(name):
    def gradient(x):
        bend = x[1] - x[0] ** 2
        return np.asarray([-2 * (1 - x[0]) - 400 * x[0] * bend, 200 * bend])

    eta = nnx.CosineSchedule(RATES[name][1], 4000)
    optimizer = CASES[name].optimizer(**CASES[name].arguments | decay_free(name, eta))
    a, b = minimise(optimizer, gradient, [-1.0, 1.0], 4000)
    assert (1 - a) ** 2 + 100 * (b - a**2) ** 2 < 0.003  # 4 at the start


def decay_free(name, eta):
    return {"eta": eta} | ({"weight_decay": 0.0} if "weight_decay" in CASES[name].arguments else {})


# The contract of update.


@for_every_case
def test_the_type_stays_and_gradients_are_only_read(name, backend):
    rng = np.random.default_rng(1)
    optimizer = CASES[name].make()
    optimizer.clip = nnx.ClipNorm(1.0)
    parameters = [backend.asarray(rng.standard_normal(shape)) for shape in ((2, 3), (3,), ())]
    host = [rng.standard_normal(p.shape).astype(np.float32) for p in parameters]
    for _ in range(3):
        gradients = [backend.asarray(g.copy()) for g in host]
        parameters = optimizer.update(parameters, gradients)
        for g, before in zip(gradients, host, strict=True):
            assert np.array_equal(backend.to_numpy(g), before)
    assert all(p.dtype == backend.dtype for p in parameters)
    assert all(s.dtype == backend.dtype for state in optimizer.state for s in state)
    assert [tuple(p.shape) for p in parameters] == [(2, 3), (3,), ()]


@for_every_case
def test_parameters_change_in_place_where_the_library_can_write(name, backend):
    p = backend.asarray([1.0, 2.0])
    (updated,) = CASES[name].make().update([p], [backend.asarray([1.0, 1.0])])
    assert (updated is p) == backend.mutable
    assert not np.array_equal(backend.to_numpy(updated), [1.0, 2.0])


@for_every_class
def test_numpy_scalars_as_hyper_parameters_do_not_promote(kind, backend):
    numbers = {
        n: np.float64(v.default)
        for n, v in inspect.signature(kind).parameters.items()
        if isinstance(v.default, float)
    }
    optimizer = kind(**numbers)
    assert {type(getattr(optimizer, n)) for n in numbers} == {float}
    (p,) = optimizer.update([backend.asarray([1.0])], [backend.asarray([1.0])])
    assert p.dtype == backend.dtype


@for_every_case
def test_a_rule_works_elementwise(name):
    """Any part of an array may be updated by itself, with the same bits."""
    p, gradients = problem()
    with nnx.use_backend("numpy", dtype="float64") as backend:
        whole = walk(backend, CASES[name].make(), p, gradients)
        rows = [walk(backend, CASES[name].make(), p[i], gradients[:, i]) for i in range(2)]
    assert np.array_equal(whole, np.stack(rows, axis=1))


def test_wrong_lists_are_refused(backend):
    w, b = backend.asarray(np.ones((2, 3))), backend.asarray(np.ones(2))
    optimizer = nnx.SGD(0.1, 0.9)
    with pytest.raises(ValueError, match=r"one gradient for each of 2 parameters, got 1"):
        optimizer.update([w, b], [w])
    with pytest.raises(ValueError, match=r"gradients\[1\] of the shape .*, \(2,\), got \(2, 3\)"):
        optimizer.update([w, b], [0.0 * w, 0.0 * w])
    assert optimizer.t == 0
    w, b = optimizer.update([w, b], [0.0 * w, 0.0 * b])
    with pytest.raises(
        ValueError, match=r"of shapes \(2, 3\), got that of \(2, 3\), \(2,\); .*clone\(\)"
    ):
        optimizer.update([w], [0.0 * w])
    with pytest.raises(
        ValueError, match=r"expected the state of parameters of shapes \(2,\), \(2, 3\)"
    ):
        optimizer.update([b, w], [0.0 * b, 0.0 * w])
    assert optimizer.t == 1


def test_a_gradient_of_another_library_is_refused(backend):
    foreign = "numpy" if backend.name != "numpy" else "strict"
    with nnx.use_backend(usable(foreign)) as other:
        g = other.asarray([1.0])
    with pytest.raises(nnx.BackendError, match="arrays of one library"):
        nnx.SGD().update([backend.asarray([1.0])], [g])


def test_no_parameters_are_no_work(backend):
    for clip in (None, nnx.ClipNorm(1.0), nnx.ClipValue(1.0)):
        assert nnx.Adam(clip=clip).update([], []) == []


@for_every_case
@pytest.mark.parametrize("clip", [None, nnx.ClipNorm(1.0), nnx.ClipValue(1.0)], ids=str)
def test_a_step_runs_where_there_is_no_data_at_all(name, clip):
    usable("torch")
    with nnx.use_backend("torch:meta") as backend:
        p, g = (backend.xp.ones((2, 3), device=backend.device) for _ in range(2))
        optimizer = CASES[name].make(clip=clip)
        for _ in range(2):
            (p,) = optimizer.update([p], [g])
        assert tuple(p.shape) == (2, 3)


@pytest.mark.gpu
@for_every_case
def test_a_step_on_cupy_is_so_many_launches_and_neither_copies_nor_waits(name):
    counters = pytest.importorskip("cpusim", reason="no counters of CUDA calls here")
    with nnx.use_backend(usable("cupy")) as backend:
        p, g = backend.asarray(np.ones((2, 3))), backend.asarray(np.ones((2, 3)))
        optimizer = CASES[name].make()
        (p,) = optimizer.update([p], [g])
        counters.reset()
        (p,) = optimizer.update([p], [g])
        counted = counters.stats()
    forbidden = ("h2d", "d2h", "stream_sync", "dev_sync", "event_sync")
    assert counted["launches"] == CASES[name].launches
    assert {name: counted.get(name, 0) for name in forbidden} == dict.fromkeys(forbidden, 0)


# One object, several sets of parameters.


def nets(make_optimizers):
    """Two networks of two layers, with the optimizers in order of construction, trained."""
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((30, 4)), rng.integers(0, 2, 30)
    optimizers = iter(make_optimizers)
    for _ in range(2):
        nnx.seed(5)
        layers = [
            nnx.DenseLayer(4, 5, nnx.TanH(), next(optimizers)),
            nnx.DenseLayer(5, 2, nnx.SoftMax(), next(optimizers)),
        ]
        net = nnx.SequentialNet(4, layers, nnx.CrossEntropy())
        net.train(x, y, batch_size=10, epochs=2, progress=False)
        yield [nnx.to_numpy(p) for layer in layers for p in layer.parameters.values()]


@for_every_case
def test_one_object_serves_two_layers_and_two_networks(name):
    with nnx.use_backend("numpy", dtype="float64"):
        optimizer = CASES[name].make()
        shared = list(nets([optimizer] * 4))
        separate = list(nets([CASES[name].make() for _ in range(4)]))
    assert optimizer.t == 0
    assert optimizer.state is None
    for first, second, apart in zip(*shared, separate[0], strict=True):
        assert np.array_equal(first, second)
        assert np.array_equal(first, apart)


@for_every_case
def test_a_clone_starts_anew_and_leaves_the_original_alone(name, backend64):
    p, gradients = problem()
    optimizer = CASES[name].make()
    whole = walk(backend64, optimizer, p, gradients)
    again = walk(backend64, optimizer.clone(), p, gradients)
    assert np.array_equal(whole, again)
    assert optimizer.t == len(gradients)


# Saved state.


@for_every_case
def test_a_resumed_optimizer_goes_on_bit_for_bit(name, backend):
    p, gradients = problem()
    arguments = CASES[name].arguments | {"eta": nnx.WarmUpSchedule(nnx.CosineSchedule(0.1, 40), 5)}
    optimizer = CASES[name].optimizer(**arguments, clip=nnx.ClipNorm(10.0))
    first = walk(backend, optimizer, p, gradients[:20])
    saved = through_json(optimizer.state_dict())
    without_stop = walk(backend, optimizer, first[-1], gradients[20:])

    resumed = CASES[name].optimizer()
    resumed.load_state_dict(saved)
    assert repr(resumed) == repr(optimizer)
    assert np.array_equal(walk(backend, resumed, first[-1], gradients[20:]), without_stop)
    # What was saved has not moved on with either of them.
    again = CASES[name].optimizer()
    again.load_state_dict(saved)
    assert again.t == 20
    assert np.array_equal(walk(backend, again, first[-1], gradients[20:]), without_stop)


def through_json(saved):
    """All but the arrays, which are NumPy's, through a text."""
    state = saved.pop("state")
    assert all(type(s) is np.ndarray for of_one in state for s in of_one)
    return json.loads(json.dumps(saved)) | {"state": state}


def test_a_state_may_be_loaded_on_another_backend(backend):
    p, gradients = problem()
    with nnx.use_backend("numpy", dtype="float64") as numpy:
        optimizer = nnx.Adam()
        walk(numpy, optimizer, p, gradients[:3])
        saved = optimizer.state_dict()
    here, there = nnx.Adam(), nnx.Adam()
    here.load_state_dict(saved)
    assert all(backend.owns(s) for s in here.state[0])
    there.load_state_dict(saved, nnx.backend.resolve("numpy", "float64"))
    assert all(isinstance(s, np.ndarray) for s in there.state[0])


def test_an_optimizer_is_saved_before_its_first_step():
    optimizer = nnx.SGD(0.5, 0.9)
    resumed = nnx.SGD()
    resumed.load_state_dict(through_json(optimizer.state_dict() | {"state": []}))
    assert (resumed.eta, resumed.momentum, resumed.t) == (0.5, 0.9, 0)
    assert optimizer.state_dict()["state"] is None


def test_a_state_that_does_not_belong_here_is_refused():
    p = np.ones((2, 3))
    optimizer, other = nnx.SGD(0.1, 0.9), nnx.SGD(0.1, 0.9)
    optimizer.update([p], [p])
    other.update([p.T], [p.T])
    saved = optimizer.state_dict()
    with pytest.raises(ValueError, match=r"Adam.load_state_dict: got the state of SGD"):
        nnx.Adam().load_state_dict(saved)
    with pytest.raises(ValueError, match=r"shapes \(3, 2\), got that of \(2, 3\)"):
        other.load_state_dict(saved)
    with pytest.raises(ValueError, match="unknown class 'Mine'"):
        nnx.SGD().load_state_dict(saved | {"eta": {"class": "Mine"}})
    fresh = nnx.SGD()
    fresh.load_state_dict(saved)
    with pytest.raises(ValueError, match=r"got that of \(2, 3\)"):
        fresh.update([p.T], [p.T])
    assert fresh.t == 1
