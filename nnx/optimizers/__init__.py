"""Optimizers: rules that turn parameters and gradients into new parameters."""

from nnx.optimizers import rules
from nnx.optimizers.base import Factors, Optimizer, State
from nnx.optimizers.rules import *  # noqa: F403

__all__ = ["Factors", "Optimizer", "State", *rules.__all__]
