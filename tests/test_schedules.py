"""The schedules against hand-worked numbers and PyTorch's."""

import math

import numpy as np
import pytest

import nnx
from nnx import schedules

# One schedule of each kind, and its hand-worked rates of steps 1, 2, ...
BY_HAND = [
    (nnx.ConstantSchedule(0.5), [0.5, 0.5, 0.5]),
    (nnx.StepSchedule(0.8, every=2, factor=0.5), [0.8, 0.8, 0.4, 0.4, 0.2, 0.2, 0.1]),
    (nnx.ExponentialSchedule(0.8, factor=0.5), [0.8, 0.4, 0.2, 0.1]),
    (
        nnx.ExponentialSchedule(0.8, factor=0.25, every=2),
        [0.8, 0.4, 0.2, 0.1],
    ),
    (nnx.PolynomialSchedule(1.0, steps=4), [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]),
    (
        nnx.PolynomialSchedule(1.0, steps=2, power=2.0, end=0.2),
        [1.0, 0.2 + 0.8 * 0.25, 0.2, 0.2],
    ),
    (
        nnx.CosineSchedule(1.0, steps=3, end=0.2),
        [1.0, 0.8, 0.4, 0.2, 0.2, 0.2],
    ),
    (
        nnx.CosineRestartsSchedule(1.0, steps=2),
        [1.0, 0.5, 1.0, 0.5, 1.0],
    ),
    (
        nnx.CosineRestartsSchedule(1.0, steps=1, growth=3, end=0.2),
        [1.0, 1.0, 0.8, 0.4, 1.0],
    ),
    (
        nnx.WarmUpSchedule(nnx.ExponentialSchedule(0.8, factor=0.5), steps=3),
        [0.2, 0.4, 0.6, 0.8, 0.4, 0.2],
    ),
    (nnx.WarmUpSchedule(0.4, steps=1), [0.2, 0.4, 0.4]),
    # three batches an epoch; the rate is halved every two epochs
    (
        nnx.EpochSchedule(nnx.StepSchedule(0.8, every=2, factor=0.5), steps=3),
        [0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.2],
    ),
    # corners at t = 1, 4, 7, 10
    (
        nnx.OneCycleSchedule(1.0, steps=10, rise=0.4, start=0.1, end=0.01),
        [0.1, 0.4, 0.7, 1.0, 0.7, 0.4, 0.1, 0.07, 0.04, 0.01, 0.01],
    ),
    (
        nnx.OneCycleSchedule(1.0, steps=4, rise=0.5),
        [0.1, 1.0, 0.1, 0.001, 0.001],
    ),
]
EACH = [schedule for schedule, _ in BY_HAND]
for_each = pytest.mark.parametrize("schedule", EACH, ids=repr)


def test_every_schedule_is_in_the_table():
    named = {type(schedule).__name__ for schedule in EACH}
    assert named == set(schedules.__all__) - {"Schedule"}


@pytest.mark.parametrize(("schedule", "rates"), BY_HAND, ids=lambda value: repr(value)[:60])
def test_rates_by_hand(schedule, rates):
    given = [schedule(t) for t in range(1, len(rates) + 1)]
    np.testing.assert_allclose(given, rates, rtol=1e-14, atol=1e-16)
    assert {type(rate) for rate in given} == {float}


def test_schedules_follow_pytorch():
    torch = pytest.importorskip("torch")
    scheduler = torch.optim.lr_scheduler
    pairs = [
        (nnx.StepSchedule(0.5, 7, 0.3), lambda o: scheduler.StepLR(o, 7, 0.3)),
        (nnx.ExponentialSchedule(0.5, 0.9), lambda o: scheduler.ExponentialLR(o, 0.9)),
        (nnx.PolynomialSchedule(0.5, 40, 3.0), lambda o: scheduler.PolynomialLR(o, 40, 3.0)),
        (nnx.CosineSchedule(0.5, 60, 0.1), lambda o: scheduler.CosineAnnealingLR(o, 60, 0.1)),
        (
            nnx.CosineRestartsSchedule(0.5, 4, 2, 0.1),
            lambda o: scheduler.CosineAnnealingWarmRestarts(o, 4, 2, 0.1),
        ),
        (
            nnx.CosineRestartsSchedule(0.5, 7),
            lambda o: scheduler.CosineAnnealingWarmRestarts(o, 7),
        ),
        (nnx.WarmUpSchedule(0.5, 9), lambda o: scheduler.LinearLR(o, 1 / 10, total_iters=9)),
        # The paper's one cycle; PyTorch's default is another, of two halves of a cosine.
        *(
            (
                nnx.OneCycleSchedule(0.5, 60, rise, 0.5 / 10, 0.5 / 10 / 50),
                lambda o, rise=rise: scheduler.OneCycleLR(
                    o,
                    0.5,
                    60,
                    pct_start=rise,
                    div_factor=10,
                    final_div_factor=50,
                    anneal_strategy="linear",
                    three_phase=True,
                    cycle_momentum=False,
                ),
            )
            for rise in (0.3, 0.45, 0.5)
        ),
    ]
    for ours, make in pairs:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
        theirs = make(optimizer)
        rates = []
        for _ in range(60):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if len(rates) < 60:
                theirs.step()
        given = [ours(t) for t in range(1, 61)]
        np.testing.assert_allclose(given, rates, rtol=1e-11, atol=1e-15, err_msg=repr(ours))


@for_each
def test_a_schedule_is_a_function_of_t_alone(schedule):
    forwards = [schedule(t) for t in range(1, 30)]
    backwards = [schedule(t) for t in range(29, 0, -1)]
    assert forwards == backwards[::-1]
    assert all(math.isfinite(rate) and rate >= 0 for rate in forwards)
    assert math.isfinite(schedule(10**9))


@for_each
def test_a_schedule_is_a_value(schedule):
    again = eval(repr(schedule), vars(nnx))
    assert again is not schedule
    assert again == schedule
    assert hash(again) == hash(schedule)
    assert schedule != nnx.ConstantSchedule(0.123)


@for_each
def test_an_optimizer_asks_for_the_rate_of_the_step_it_makes(schedule, backend64):
    optimizer, p, rates = nnx.SGD(schedule), backend64.asarray([0.0]), []
    for _ in range(12):
        before = float(backend64.to_numpy(p)[0])
        (p,) = optimizer.update([p], [backend64.asarray([1.0])])
        rates.append(before - float(backend64.to_numpy(p)[0]))
    np.testing.assert_allclose(rates, [schedule(t) for t in range(1, 13)], atol=1e-14)


@for_each
def test_a_schedule_is_saved_with_its_optimizer(schedule):
    optimizer, resumed = nnx.SGD(schedule), nnx.SGD()
    resumed.load_state_dict(optimizer.state_dict())
    assert resumed.eta == schedule


def test_one_schedule_serves_two_optimizers():
    schedule = nnx.StepSchedule(1.0, every=1, factor=0.5)
    first, second = nnx.SGD(schedule), nnx.SGD(schedule)
    one = np.ones(1)
    assert first.update([np.zeros(1)], [one])[0] == -1.0
    assert first.update([np.zeros(1)], [one])[0] == -0.5
    assert second.update([np.zeros(1)], [one])[0] == -1.0


def test_one_cycle_needs_room_to_rise():
    with pytest.raises(ValueError, match=r"rise \* steps to be > 1, got 0.3 \* 3; increase"):
        nnx.OneCycleSchedule(0.1, 3, rise=0.3)


def test_what_a_subclass_must_define_is_said():
    with pytest.raises(NotImplementedError, match="Schedule must define __call__"):
        schedules.Schedule()(1)
