"""Training: a step prepared once, the loop around it, what it calls and what it tells."""

from nnx.training.callbacks import Callback, EarlyStopping, ReduceOnPlateau
from nnx.training.checkpoints import Checkpoint
from nnx.training.history import History, NonFiniteLossError, Score
from nnx.training.loggers import CSVLogger, EpochLogger, TensorBoard
from nnx.training.mixing import MixUp
from nnx.training.plan import Plan
from nnx.training.run import Run

__all__ = [
    "CSVLogger",
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "EpochLogger",
    "History",
    "MixUp",
    "NonFiniteLossError",
    "Plan",
    "ReduceOnPlateau",
    "Run",
    "Score",
    "TensorBoard",
]
