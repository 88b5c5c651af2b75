"""Schedules: a learning rate that depends on the step, given to an optimizer as `eta`.

`schedule(t)` is the learning rate of step t = 1, 2, ... It depends on t and on plain numbers only.
The optimizer counts the steps, so that a saved optimizer continues where it stopped, and one
schedule may serve several optimizers.
"""

from __future__ import annotations

import math
from typing import Any

from nnx.checks import count, instance, number
from nnx.config import Value

__all__ = [
    "ConstantSchedule",
    "CosineRestartsSchedule",
    "CosineSchedule",
    "EpochSchedule",
    "ExponentialSchedule",
    "OneCycleSchedule",
    "PolynomialSchedule",
    "Schedule",
    "StepSchedule",
    "WarmUpSchedule",
]


class Schedule(Value):
    """Base class; subclasses define `__call__(t)`.

    A subclass keeps its constructor's arguments, numbers or schedules, under their own names:
    repr, comparison and saving use them.
    """

    def __call__(self, t: int) -> float:
        """Return the learning rate of step t = 1, 2, ..."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__(t)")

    def rate(self, t: int) -> float:
        """Return the learning rate of step t as a float, checked.

        Raises:
            TypeError: `__call__(t)` does not return a number.
            ValueError: it returns a negative or non-finite number, or overflows.
        """
        try:
            eta = self(t)
        except OverflowError:
            eta = math.inf
        if type(eta) is float and 0.0 <= eta < math.inf:
            return eta
        return number(f"{type(self).__name__}.__call__", f"the rate of step {t}", eta, ">= 0")

    @staticmethod
    def accept(owner: Any, name: str, value: Any) -> Schedule | float:
        """Return a schedule as it is, and a number as a float.

        Raises:
            TypeError: neither; a class in place of a schedule is told to be called.
            ValueError: the number is negative or not finite.
        """
        if isinstance(value, Schedule):
            return value
        if callable(value):
            instance(owner, name, value, Schedule, "0.1 or CosineSchedule(0.1, 1000)")
        return number(owner, name, value, ">= 0")


class ConstantSchedule(Schedule):
    """eta(t) = eta.

    Args:
        eta: the rate, >= 0.
    """

    def __init__(self, eta: float) -> None:
        self.eta = number(self, "eta", eta, ">= 0")

    def __call__(self, t: int) -> float:
        """eta."""
        return self.eta


class StepSchedule(Schedule):
    """eta(t) = eta factor^floor((t - 1) / every): the rate changes every so many steps.

    Args:
        eta: the rate of the first step, >= 0.
        every: number of steps with the same rate.
        factor: the rate is multiplied by it after that, > 0.
    """

    def __init__(self, eta: float, every: int, factor: float = 0.1) -> None:
        self.eta = number(self, "eta", eta, ">= 0")
        self.every = count(self, "every", every)
        self.factor = number(self, "factor", factor, "> 0")

    def __call__(self, t: int) -> float:
        """eta factor^floor((t - 1) / every)."""
        return self.eta * self.factor ** ((t - 1) // self.every)


class ExponentialSchedule(Schedule):
    """eta(t) = eta factor^((t - 1) / every).

    Args:
        eta: the rate of the first step, >= 0.
        factor: the rate is multiplied by it in the course of `every` steps, > 0.
        every: number of steps.
    """

    def __init__(self, eta: float, factor: float, every: int = 1) -> None:
        self.eta = number(self, "eta", eta, ">= 0")
        self.factor = number(self, "factor", factor, "> 0")
        self.every = count(self, "every", every)

    def __call__(self, t: int) -> float:
        """eta factor^((t - 1) / every)."""
        return self.eta * self.factor ** ((t - 1) / self.every)


class PolynomialSchedule(Schedule):
    """eta(t) = end + (eta - end) (1 - (t - 1) / steps)^power, and `end` after that.

    Args:
        eta: the rate of the first step, >= 0.
        steps: number of steps after which the rate is `end`.
        power: 1 is a straight line; > 0.
        end: the last rate, >= 0.
    """

    def __init__(self, eta: float, steps: int, power: float = 1.0, end: float = 0.0) -> None:
        self.eta = number(self, "eta", eta, ">= 0")
        self.steps = count(self, "steps", steps)
        self.power = number(self, "power", power, "> 0")
        self.end = number(self, "end", end, ">= 0")

    def __call__(self, t: int) -> float:
        """end + (eta - end) (1 - (t - 1) / steps)^power."""
        left = 1.0 - min(t - 1, self.steps) / self.steps
        return self.end + (self.eta - self.end) * left**self.power


class CosineSchedule(Schedule):
    """eta(t) = end + (eta - end) (1 + cos(pi (t - 1) / steps)) / 2, and `end` after that.

    Args:
        eta: the rate of the first step, >= 0.
        steps: number of steps after which the rate is `end`.
        end: the last rate, >= 0.

    Source: Loshchilov and Hutter, SGDR, ICLR 2017, without the restarts.
    """

    def __init__(self, eta: float, steps: int, end: float = 0.0) -> None:
        self.eta = number(self, "eta", eta, ">= 0")
        self.steps = count(self, "steps", steps)
        self.end = number(self, "end", end, ">= 0")

    def __call__(self, t: int) -> float:
        """end + (eta - end) (1 + cos(pi (t - 1) / steps)) / 2."""
        return _cosine(self.eta, self.end, min(t - 1, self.steps) / self.steps)


class CosineRestartsSchedule(Schedule):
    """A cosine from eta down to end, repeated with periods of T_n steps, n = 0, 1, ...

    eta(t) = end + (eta - end) (1 + cos(pi s / T_n)) / 2 with T_n = steps growth^n, where s = 0, 1,
    ..., T_n - 1 counts the steps since the last restart.

    Args:
        eta: the rate after each restart, >= 0.
        steps: length of the first period.
        growth: each period is this many times as long as the one before, an integer >= 1.
        end: the rate at the end of a period, >= 0.

    Source: Loshchilov and Hutter, SGDR, ICLR 2017, equation 5.
    """

    def __init__(self, eta: float, steps: int, growth: int = 1, end: float = 0.0) -> None:
        self.eta = number(self, "eta", eta, ">= 0")
        self.steps = count(self, "steps", steps)
        self.growth = count(self, "growth", growth)
        self.end = number(self, "end", end, ">= 0")

    def __call__(self, t: int) -> float:
        """end + (eta - end) (1 + cos(pi s / T_n)) / 2."""
        since, period = t - 1, self.steps
        if self.growth == 1:
            since %= period
        while since >= period:
            since -= period
            period *= self.growth
        return _cosine(self.eta, self.end, since / period)


class WarmUpSchedule(Schedule):
    """A straight line up to the first rate of another schedule, then that schedule.

    eta(t) = schedule(1) t / (steps + 1) for t <= steps, then schedule(t - steps).

    Args:
        schedule: the schedule after the warm-up; a number means ConstantSchedule.
        steps: length of the warm-up.

    Source: Goyal et al., "Accurate, large minibatch SGD", 2017, arXiv 1706.02677.
    """

    def __init__(self, schedule: Schedule | float, steps: int) -> None:
        schedule = Schedule.accept(self, "schedule", schedule)
        self.schedule = ConstantSchedule(schedule) if isinstance(schedule, float) else schedule
        self.steps = count(self, "steps", steps)

    def __call__(self, t: int) -> float:
        """schedule(1) t / (steps + 1), then schedule(t - steps)."""
        if t > self.steps:
            return self.schedule.rate(t - self.steps)
        return self.schedule.rate(1) * (t / (self.steps + 1))


class EpochSchedule(Schedule):
    """Another schedule that counts epochs: eta(t) = schedule(1 + floor((t - 1) / steps)).

    StepSchedule(0.1, every=30) in it reduces the rate every 30 epochs; the rate stays the same
    within an epoch.

    Args:
        schedule: its steps are epochs; a number means ConstantSchedule.
        steps: batches of an epoch, ceil(samples / batch_size): -(-len(x) // batch_size).
    """

    def __init__(self, schedule: Schedule | float, steps: int) -> None:
        schedule = Schedule.accept(self, "schedule", schedule)
        self.schedule = ConstantSchedule(schedule) if isinstance(schedule, float) else schedule
        self.steps = count(self, "steps", steps)

    def __call__(self, t: int) -> float:
        """schedule(1 + floor((t - 1) / steps))."""
        return self.schedule.rate(1 + (t - 1) // self.steps)


class OneCycleSchedule(Schedule):
    """Straight lines from `start` up to eta, as slowly down again, then down to `end`.

    The corners, as t: rate, are 1: start, rise steps: eta, 2 rise steps - 1: start, steps: end,
    and the rate remains there.

    Args:
        eta: the highest rate, >= 0.
        steps: length of the whole training.
        rise: the fraction of it in which the rate goes up, in (0, 0.5]; rise steps must be > 1.
        start: the rate of the first step, >= 0; eta/10 if None.
        end: the rate of the last step, >= 0; start/100 if None.

    Source: Smith and Topin, "Super-convergence", 2017, arXiv 1708.07120: a cycle a little shorter
    than the training, and at its end a rate some orders of magnitude lower.
    """

    def __init__(
        self,
        eta: float,
        steps: int,
        rise: float = 0.45,
        start: float | None = None,
        end: float | None = None,
    ) -> None:
        self.eta = number(self, "eta", eta, ">= 0")
        self.steps = count(self, "steps", steps)
        self.rise = number(self, "rise", rise, "in (0, 0.5]")
        self.start = number(self, "start", self.eta / 10 if start is None else start, ">= 0")
        self.end = number(self, "end", self.start / 100 if end is None else end, ">= 0")
        if not self.rise * self.steps > 1:
            raise ValueError(
                f"OneCycleSchedule: expected rise * steps to be > 1, got {self.rise} * "
                f"{self.steps}; increase one of them"
            )

    def __call__(self, t: int) -> float:
        """The rate on the line between the corners next to t."""
        top = self.rise * self.steps
        if t <= top:
            return self.start + (self.eta - self.start) * ((t - 1) / (top - 1))
        if t <= 2 * top - 1:
            return self.eta + (self.start - self.eta) * ((t - top) / (top - 1))
        part = (t - (2 * top - 1)) / (self.steps - (2 * top - 1))
        return self.start + (self.end - self.start) * min(part, 1.0)


def _cosine(first: float, last: float, part: float) -> float:
    return last + 0.5 * (first - last) * (1.0 + math.cos(math.pi * part))
