"""nnx: neural networks written once against the Python Array API.

import nnx

nnx.set_backend("numpy")  # or "cupy", "torch", "jax", "strict"
layers = [nnx.DenseLayer(784, 100), nnx.DenseLayer(100, 10, nnx.SoftMax())]
net = nnx.SequentialNet(784, layers, cost=nnx.CrossEntropy())
net.train(x_train, y_train, batch_size=10, epochs=5)
"""

from nnx import (
    activations,
    backend,
    clipping,
    datasets,
    initializers,
    layers,
    losses,
    metrics,
    networks,
    optimizers,
    randomness,
    regularizers,
    schedules,
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
from nnx.initializers import *  # noqa: F403
from nnx.layers import *  # noqa: F403
from nnx.losses import *  # noqa: F403
from nnx.networks import *  # noqa: F403
from nnx.optimizers import *  # noqa: F403
from nnx.randomness import seed
from nnx.regularizers import *  # noqa: F403
from nnx.schedules import *  # noqa: F403
from nnx.training import *  # noqa: F403

__version__ = "0.1.0"

__all__ = [
    "Backend",
    "BackendError",
    "OutOfMemoryError",
    "array_namespace",
    "available_backends",
    "backend",
    "datasets",
    "get_backend",
    "metrics",
    "randomness",
    "seed",
    "set_backend",
    "to_numpy",
    "use_backend",
    *activations.__all__,
    *clipping.__all__,
    *initializers.__all__,
    *layers.__all__,
    *losses.__all__,
    *networks.__all__,
    *optimizers.__all__,
    *regularizers.__all__,
    *schedules.__all__,
    *training.__all__,
]
