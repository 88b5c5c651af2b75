"""Checks of the arguments of train, score and predict that are not arrays."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np

from nnx.data.containers import kind_of

__all__ = ["checked_rng", "checked_validation"]


def checked_rng(rng: Any) -> np.random.Generator | None:
    """Return a NumPy generator, or None.

    Raises:
        TypeError: anything else, a seed included; the message shows how to make a generator.
    """
    if rng is None or isinstance(rng, np.random.Generator):
        return rng
    is_seed = isinstance(rng, int | np.integer) and not isinstance(rng, bool) and rng >= 0
    raise TypeError(
        f"train: expected rng to be a numpy.random.Generator or None, got {rng!r}; "
        f"write rng=numpy.random.default_rng({rng if is_seed else 0})"
    )


def checked_validation(validation: Any) -> float | tuple[Any, ...] | None:
    """Return a fraction in (0, 1), (x, y), (x, y, weights) or None; arrays are not looked at.

    Raises:
        TypeError: anything else.
        ValueError: a number that is not a fraction, or neither two nor three items.
    """
    if validation is None:
        return None
    expected = "train: expected validation to be a fraction in (0, 1), (x, y) or (x, y, weights)"
    number = isinstance(validation, Real) and not isinstance(validation, bool | np.bool_)
    if number:
        if 0 < validation < 1:
            return float(validation)
        percent = 1 < validation < 100
        remedy = f"write validation={float(validation) / 100 if percent else 0.2:g}"
        if validation == 0:
            remedy = "for no validation: write validation=None"
        raise ValueError(f"{expected}, got {validation!r}; {remedy}")
    if not isinstance(validation, tuple | list):
        got = repr(validation) if isinstance(validation, bool | str) else kind_of(validation)
        remedy = (
            "validation=0.2" if isinstance(validation, bool | np.bool_) else "validation=(x, y)"
        )
        raise TypeError(f"{expected}, got {got}; write {remedy}")
    if len(validation) not in (2, 3):
        raise ValueError(
            f"{expected}, got {len(validation)} items: "
            f"{', '.join(map(kind_of, validation[:5])) or 'none'}; write validation=(x, y)"
        )
    return tuple(validation)
