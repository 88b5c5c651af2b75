"""Schedules: a learning rate that depends on the step, given wherever an optimizer takes `eta`.

`schedule(t)` is the rate of step t = 1, 2, ... It is a function of t and of plain numbers alone:
the step is counted by the optimizer, so that a saved optimizer goes on where it stopped, and one
schedule may serve many optimizers.
"""

from __future__ import annotations

import math

from nnx.checks import count, number
from nnx.config import Value

__all__ = [
    "ConstantSchedule",
    "CosineRestartsSchedule",
    "CosineSchedule",
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
    they are what is shown, compared and saved.
    """

    def __call__(self, t: int) -> float:
        """The learning rate of step t = 1, 2, ..."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__(t)")


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
    """eta(t) = eta factor^floor((t - 1) / every): constant, then suddenly less.

    Args:
        eta: the rate of the first step, >= 0.
        every: after so many steps the rate changes.
        factor: by which it is multiplied then, > 0.
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
        factor: by which the rate is multiplied in the course of `every` steps, > 0.
        every: that number of steps.
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
        steps: after so many steps the rate is `end`.
        power: 1 is a straight line; > 0.
        end: the rate then, >= 0.
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
        steps: after so many steps the rate is `end`.
        end: the rate then, >= 0.

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
    """The cosine from eta down to end, again and again: n = 0, 1, ... is a period of T_n steps.

    eta(t) = end + (eta - end) (1 + cos(pi s / T_n)) / 2 with T_n = steps growth^n and s = 0, 1,
    ..., T_n - 1 the steps since the last restart.

    Args:
        eta: the rate after each restart, >= 0.
        steps: length of the first period.
        growth: each period is so many times longer than the last one.
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
        schedule: what follows the warm-up; a number stands for ConstantSchedule.
        steps: length of the warm-up.

    Source: Goyal et al., "Accurate, large minibatch SGD", 2017, arXiv 1706.02677.
    """

    def __init__(self, schedule: Schedule | float, steps: int) -> None:
        if not isinstance(schedule, Schedule):
            schedule = ConstantSchedule(number(self, "schedule", schedule, ">= 0"))
        self.schedule = schedule
        self.steps = count(self, "steps", steps)

    def __call__(self, t: int) -> float:
        """schedule(1) t / (steps + 1), then schedule(t - steps)."""
        if t > self.steps:
            return self.schedule(t - self.steps)
        return self.schedule(1) * (t / (self.steps + 1))


class OneCycleSchedule(Schedule):
    """Straight lines from `start` up to eta, as slowly down again, then down to `end`.

    The corners, as t: rate, are 1: start, rise steps: eta, 2 rise steps - 1: start, steps: end,
    and the rate remains there.

    Args:
        eta: the highest rate, >= 0.
        steps: length of the whole training.
        rise: the part of it in which the rate goes up, in (0, 0.5]; rise steps must be > 1.
        start: the rate of the first step, >= 0; eta/10 if not given.
        end: the rate of the last step, >= 0; start/100 if not given.

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
                f"OneCycleSchedule: rise * steps must be > 1, got {self.rise} * {self.steps}"
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
