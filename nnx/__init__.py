"""nnx: neural networks written once against the Python Array API.

import nnx

nnx.set_backend("numpy")  # or "cupy", "torch", "jax", "strict"
layers = [nnx.DenseLayer(784, 100), nnx.DenseLayer(100, 10, nnx.SoftMax())]
net = nnx.SequentialNet(784, layers, cost=nnx.CrossEntropy())
net.train(x_train, y_train, batch_size=10, epochs=5)

Here are the names from which a network is made, the base classes to derive one's own from, and the
setting. Everything else is in its module: `nnx.metrics.f1`, `nnx.layers.AffineLayer`,
`nnx.testing.check_gradients`.
"""

import importlib
from typing import TYPE_CHECKING, Any

from nnx import (
    activations,
    backend,
    clipping,
    config,  # noqa: F401 - an attribute
    initializers,
    layers,
    losses,
    metrics,
    networks,
    optimizers,
    randomness,
    regularizers,
    saving,
    schedules,
    synonyms,
    training,
)
from nnx.activations import *  # noqa: F403
from nnx.backend import (
    Backend,
    BackendError,
    OutOfMemoryError,
    array_namespace,
    available_backends,
    get_backend,
    set_backend,
    to_numpy,
    use_backend,
)
from nnx.clipping import *  # noqa: F403
from nnx.communication import CommunicationError, communicator
from nnx.initializers import *  # noqa: F403
from nnx.layers import *  # noqa: F403
from nnx.losses import *  # noqa: F403
from nnx.networks import *  # noqa: F403
from nnx.optimizers import *  # noqa: F403
from nnx.randomness import seed
from nnx.regularizers import *  # noqa: F403
from nnx.saving import FileError, load
from nnx.schedules import *  # noqa: F403
from nnx.training import *  # noqa: F403

if TYPE_CHECKING:
    from nnx import datasets, estimators, interchange, onnx, plotting  # noqa: F401

__version__ = "0.1.0"

# What nobody types to make a network stays in its module alone.
del AbsLike, HeavisideLike, ReLULike, SignLike  # noqa: F821
del AffineLayer, ConvolutionLayer, PoolingLayer, RecurrentLayer  # noqa: F821
del Factors, State, one_hot, Plan, Run, Score  # noqa: F821

_ROOMS = [activations, clipping, initializers, layers, losses, networks, optimizers]
_ROOMS += [regularizers, schedules, training]

__all__ = [
    "Backend",
    "BackendError",
    "CommunicationError",
    "FileError",
    "OutOfMemoryError",
    "array_namespace",
    "available_backends",
    "backend",
    "communicator",
    "datasets",
    "get_backend",
    "load",
    "metrics",
    "randomness",
    "seed",
    "set_backend",
    "to_numpy",
    "use_backend",
    *sorted({name for room in _ROOMS for name in room.__all__ if name in globals()}),
]

# A name that a room does not have says what it is called here.
for _room in (*_ROOMS, metrics, randomness, saving):
    vars(_room)["__getattr__"] = synonyms.asked(_room.__name__, _room.__all__)

# Modules that are imported when they are first asked for.
_LATER = ("datasets", "estimators", "interchange", "onnx", "plotting", "testing")


def __getattr__(name: str) -> Any:
    """Return a module that is imported when it is first asked for.

    Raises:
        AttributeError: there is no such name; the message says what it is called here.
    """
    if name in _LATER:
        return importlib.import_module(f"nnx.{name}")
    message = f"module 'nnx' has no attribute {name!r}"
    if not name.startswith("_") and (found := _meant(name)):
        message += f"; did you mean nnx.{found}?"
    raise AttributeError(message)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})


def _meant(name: str) -> str:
    """Return the name under nnx for a name that is not there; empty if there is none like it."""
    rooms = (*_ROOMS, metrics, randomness, saving, *map(__getattr__, _LATER))
    for room in rooms:
        if name in room.__all__:
            return f"{room.__name__.removeprefix('nnx.')}.{name}"
    return synonyms.meant(name, __all__)
