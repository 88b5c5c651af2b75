"""Training: a step prepared once, the loop around it, and what is told about it."""

from nnx.training.history import History, NonFiniteLossError, Score
from nnx.training.plan import Plan

__all__ = ["History", "NonFiniteLossError", "Plan", "Score"]
