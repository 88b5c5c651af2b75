"""Metrics of outputs against targets, as 0-d arrays on the device: reading one is the caller's."""

from __future__ import annotations

from nnx.backend import Array, array_namespace

__all__ = ["accuracy"]


def accuracy(outputs: Array, targets: Array) -> Array:
    """The fraction of samples whose largest output is that of their class.

    Args:
        outputs: (samples, classes), probabilities or any increasing function of them; or
            (samples, 1), the probability of the one class of two, which counts from 1/2 on.
        targets: class indices (samples,), or rows (samples, classes).
    """
    xp = array_namespace(outputs, targets)
    if outputs.shape[-1] == 1:
        guess = xp.reshape(outputs, (-1,)) >= 0.5
        truth = xp.reshape(targets, (-1,)) >= 0.5
    else:
        guess = xp.argmax(outputs, axis=-1)
        truth = xp.argmax(targets, axis=-1) if targets.ndim == outputs.ndim else targets
    return xp.mean(xp.astype(guess == truth, outputs.dtype))
