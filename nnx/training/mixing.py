"""Mixing: a rule that makes another batch of every batch, before its step.

A rule is a function mixing(x, y), or mixing(x, y, weights) if the training has weights, that
returns as many. It gets arrays of the backend: inputs as floats, targets as rows (class indices
become one-hot rows before), and returns new ones of the same shapes. `MixUp` is one.

A library that compiles traces it once, as it does the forward of a layer: it uses functions of the
array library alone, and draws its random numbers by `nnx.randomness.noise(draw, like)`. A rule that
reads values sets its attribute `traceable` to False; its steps are not compiled then. If several
processes train, each of them mixes the whole batch, and computes its rows of the result: all have
the same numbers, and each reads all the data.

Loss, accuracy and metrics of the training are those of the samples that it has been trained on, as
they were mixed: the class of a row is that of its largest entry. Validation is never mixed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nnx import randomness
from nnx.backend import Array, Backend, HostReadError, array_namespace
from nnx.checks import ShapeError, number
from nnx.config import Configured
from nnx.data import Source, as_floats, first_samples
from nnx.losses.base import device_of, one_hot

__all__ = ["MixUp", "Mixing", "check_mixing", "described_mixing", "mixed", "rows_of"]

Mixing = Callable[..., Any]  # (x, y) -> (x, y), or (x, y, weights) -> (x, y, weights)
EXPECTED = "train: expected mixing to be a function of a batch"


class MixUp(Configured):
    """Mix each sample with its neighbour: x <- l x + (1 - l) x', y <- l y + (1 - l) y'.

    l is drawn from Beta(alpha, alpha), one number for each batch, from the stream of the layers
    that add noise: one seed gives the same bits on every backend. The neighbour is the sample
    before, of the first one the last; draw the batches in a random order. Targets are rows; `train`
    makes rows of class indices.

    Samples with weights w give w <- l w + (1 - l) w', and their parts of the target are l w and
    (1 - l) w', divided by the new weight: a sample of weight 0 leaves its target out.

        net.train(x, y, mixing=nnx.MixUp(0.2))

    or, in a loop of one's own:

        plan, mix = net.plan(), nnx.MixUp(0.2)
        for x, y in batches:
            plan.step(*mix(x, y))

    Args:
        alpha: > 0; the smaller it is, the nearer is l to 0 or 1.

    Raises:
        TypeError: alpha is not a number.
        ValueError: alpha is not greater than 0.

    Source: Zhang, Cisse, Dauphin and Lopez-Paz, mixup, ICLR 2018, arXiv:1710.09412.
    """

    def __init__(self, alpha: float = 0.2) -> None:
        self.alpha = number(self, "alpha", alpha, "> 0")

    def __call__(self, x: Array, y: Array, weights: Array | None = None) -> tuple[Array, ...]:
        """Return the mixed inputs and targets, and weights if there are any; nothing is read back.

        Args:
            x: inputs (samples, ...), an array of a backend.
            y: targets (samples, outputs), rows of the same library and dtype.
            weights: (samples,), or one for each time step, of the same library and dtype.

        Raises:
            ShapeError: the targets are not rows, or not as many as the inputs.
        """
        xp, alpha = array_namespace(x, y), self.alpha
        if y.ndim < 2 or y.shape[0] != x.shape[0]:
            raise ShapeError(
                f"MixUp: expected targets as one row for each of {x.shape[0]} samples, got shape "
                f"{tuple(y.shape)}; write y = numpy.eye(classes)[labels] for class indices"
            )
        share = randomness.noise(lambda rng: rng.beta(alpha, alpha, (1,)), x)

        def neighbours(array: Array) -> Array:
            return xp.concat([array[-1:, ...], array[:-1, ...]], axis=0)

        def weighed(array: Array, part: Array) -> Array:
            part = xp.reshape(part, (*part.shape, *[1] * (array.ndim - part.ndim)))
            return part * array + (1.0 - part) * neighbours(array)

        if weights is None:
            return weighed(x, share), weighed(y, share)
        own, new = share * weights, weighed(weights, share)
        of_target = xp.where(new > 0, own / xp.where(new > 0, new, 1.0), share)
        return weighed(x, share), weighed(y, of_target), new


def mixed(mixing: Mixing, plan: Any, x: Array, y: Array, *weights: Array) -> tuple[Array, ...]:
    """Return what a rule makes of a batch, whose class indices become rows first."""
    if y.ndim <= len(plan.output_shape):
        y = rows_of(plan, x, y)
    return tuple(mixing(x, y, *weights))


def rows_of(plan: Any, x: Array, y: Array) -> Array:
    """Return class indices for some inputs as rows of the outputs' shape and dtype."""
    outputs, backend = plan.output_shape, plan.backend
    if None in outputs:
        outputs = plan.chain.shapes(tuple(x.shape[1:]), "")[-1]
    like = backend.xp.empty((1, *outputs), dtype=backend.dtype, device=device_of(x))
    return one_hot(y, like)


def check_mixing(net: Any, mixing: Any, source: Source, batch_size: int) -> None:
    """Check a rule with the first samples of the data; no random stream moves.

    Raises:
        TypeError, ShapeError: it is not a rule of a batch, or returns something else than a batch.
        HostReadError: it reads values, and its steps are compiled.
        ValueError: what it returns does not suit the network or its loss.
    """
    if isinstance(mixing, type) or not callable(mixing):
        write = f"{mixing.__name__}()" if isinstance(mixing, type) else "nnx.MixUp(0.2)"
        raise TypeError(f"{EXPECTED}, got {mixing!r}; write mixing={write}")
    plan, streams = net.plan(), randomness.state()
    x, y, *weights = first_samples(net.backend, source.parts[0], batch_size)
    x = as_floats(net.backend, x)
    batch = (x, y if y.ndim > len(plan.output_shape) else rows_of(plan, x, y), *weights)
    try:
        x, y, *_ = _checked(mixing(*batch), batch)
        net.check_inputs(x)
        net.cost.check_targets(y)
        if plan.compiled(mixing) is not None:
            _rehearse(net.backend, mixing, batch)
    except Exception as error:
        error.add_note(f"raised by mixing={mixing!r}, tried with the first {x.shape[0]} samples")
        raise
    finally:
        randomness.set_state(streams)


def _rehearse(backend: Backend, mixing: Mixing, batch: tuple[Array, ...]) -> None:
    try:
        backend.rehearse(mixing, *batch)
    except HostReadError as error:
        raise HostReadError(
            f"{EXPECTED} that reads no values, as its steps are compiled, got {mixing!r}; write "
            "xp.where(condition, a, b) for if, and nnx.randomness.noise(draw, like) for random "
            "numbers, or set its attribute: mixing.traceable = False"
        ) from error


def _checked(found: Any, batch: tuple[Array, ...]) -> tuple[Array, ...]:
    """Return a batch that has the form of another one."""
    names = ("x", "y", "weights")[: len(batch)]
    several = isinstance(found, tuple | list)
    if not several or len(found) != len(batch):
        got = f"{len(found)} items" if several else type(found).__name__
        raise TypeError(f"{EXPECTED} that returns one, got {got}; write return {', '.join(names)}")
    for name, array, given in zip(names, found, batch, strict=True):
        if getattr(array, "shape", None) != given.shape or array.dtype != given.dtype:
            got = type(array).__name__
            if hasattr(array, "dtype"):
                got = f"shape {tuple(array.shape)} and {array.dtype}"
            raise ShapeError(
                f"{EXPECTED} that keeps shapes and dtypes, {name} {tuple(given.shape)} and "
                f"{given.dtype}, got {got}; return as many samples as came, in their dtype"
            )
    return tuple(found)


def described_mixing(mixing: Mixing) -> str:
    """Return what tells one rule from another, as text."""
    if isinstance(mixing, Configured):
        return repr(mixing)
    return getattr(mixing, "__qualname__", type(mixing).__qualname__)
