"""Training by L-BFGS: all samples in every step, for small data and an exact minimum."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from nnx.backend import Array, working_on
from nnx.data import training_data
from nnx.randomness import Draw, noise_from
from nnx.training import History, NonFiniteLossError

__all__ = ["minimised"]


def minimised(
    net: Any, x: Any, y: Any, weights: Any, iterations: int, tol: float, verbose: bool
) -> History:
    """Minimise loss and penalties of all samples; return the loss after each iteration.

    Args:
        net: the network, which gets the best parameters.
        x, y, weights: those of `SequentialNet.train`.
        iterations: at most so many.
        tol: end when no entry of the gradient is larger.
        verbose: print the loss of each iteration.

    Raises:
        ImportError: SciPy is missing.
        ValueError: the loss is random, as a layer draws noise.
        NonFiniteLossError: the loss is infinite or NaN.

    Source: Byrd, Lu, Nocedal and Zhu, SIAM Journal on Scientific Computing 16 (1995).
    """
    from scipy.optimize import minimize  # a dependency of scikit-learn

    with working_on(net.backend) as backend:
        ((x, y, *more),), _ = training_data(net, x, y, weights)
        plan, history = net.plan(), History()

        def put(theta: np.ndarray) -> None:
            start = 0
            for slot in plan.slots:
                shape = tuple(slot.array.shape)
                stop = start + math.prod(shape)
                part = np.array(theta[start:stop].reshape(shape))
                slot.layer.parameters[slot.name] = backend.asarray(part)
                start = stop

        def flat(arrays: list[Array]) -> np.ndarray:
            rows = [backend.to_numpy(array).astype(np.float64).reshape(-1) for array in arrays]
            return np.concatenate(rows)

        def objective(theta: np.ndarray) -> tuple[float, np.ndarray]:
            put(theta)
            with noise_from(_refused):
                a, gradients = plan.gradients(x, y, *more)
            value = plan.loss.value(a, y, *more) + net.penalty()
            return float(backend.to_numpy(value)), flat(gradients)

        def note(intermediate_result: Any) -> None:
            history.loss.append(float(intermediate_result.fun))
            if verbose:
                print(f"iteration {len(history.loss)}: loss {history.loss[-1]:.6f}")

        result = minimize(
            objective,
            flat([slot.array for slot in plan.slots]),
            jac=True,
            method="L-BFGS-B",
            callback=note,
            options={
                "maxiter": iterations,
                "maxfun": 20 * iterations,
                "gtol": tol,
                "ftol": 64 * float(np.finfo(backend.dtype_name).eps),
            },
        )
        put(result.x)
        if not math.isfinite(result.fun):
            raise NonFiniteLossError(len(history.loss), float(result.fun), history)
        if result.status == 1:
            warnings.warn(
                f"L-BFGS has not converged in {result.nit} iterations; write more epochs, or scale "
                "the data",
                ConvergenceWarning,
                stacklevel=5,
            )
        return history


def _refused(draw: Draw, like: Array) -> Array:
    raise ValueError(
        "expected layers without noise for solver='lbfgs', which needs the same loss in every "
        "step, got one that draws random numbers; leave out dropout, or write solver='batches'"
    )
