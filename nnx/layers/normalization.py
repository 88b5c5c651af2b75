"""Normalization layers: one formula, over different axes.

xhat = (x - mean) / deviation with deviation = sqrt(variance + epsilon), mean and variance over
some of the axes, then y = gamma xhat + beta. With g = gamma delta the backward through the
statistics is

    dx = (g - mean(g) - xhat mean(g xhat)) / deviation.

    BatchNormLayer   over samples and positions, one gamma and beta per channel
    LayerNormLayer   over the last axes of a sample, gamma and beta of their shape
    GroupNormLayer   over positions and the channels of a group, one gamma and beta per channel

The variance is the mean of squared deviations from the mean, in two passes: the difference of
E[x^2] and E[x]^2 would lose all its digits if the mean is large.

The sum of x and the sum of (x - mean)^2 must fit the dtype. In float32, deviations from the mean
above 1.8e19 have the variance inf, and xhat is 0 then; sums of x above 3.4e38 give NaN. Nothing
is scaled to prevent this, as it would cost every step two more passes over x. Deviations whose
squares underflow are small beside epsilon, and xhat is right for them. If all values are equal,
xhat is the rounding error of their mean over the deviation, at most 1; it is negligible unless
their size is above sqrt(epsilon) / eps, 3e4 in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from nnx import checks
from nnx.backend import Array, array_namespace
from nnx.checks import ShapeError
from nnx.communication import current_share
from nnx.layers._normalized import Normalized, normalize
from nnx.layers._shapes import KNOWN, Shape, product
from nnx.layers.base import Backward, Gradients, Layer, Parameter
from nnx.optimizers import SGD, Optimizer

__all__ = ["BatchNormLayer", "GroupNormLayer", "LayerNormLayer"]


class _NormalizationLayer(Layer):
    """Base class: the parameters gamma and beta of an affine layer, and their formulas."""

    gamma = Parameter()
    beta = Parameter()

    def __init__(
        self,
        shape: tuple[int, ...],
        epsilon: float,
        affine: bool,
        optim: Optimizer,
        name: str | None,
    ) -> None:
        super().__init__(optim, name)
        self.epsilon = checks.number(self, "epsilon", epsilon, "> 0")
        self.affine = checks.flag(self, "affine", affine)
        xp, dtype, device = self.backend.xp, self.backend.dtype, self.backend.device
        smallest = float(xp.finfo(dtype).smallest_normal)
        if self.epsilon < smallest:
            raise ValueError(
                f"{type(self).__name__}: expected epsilon to be at least {smallest:.3g}, the "
                f"smallest normal {self.backend.dtype_name}, got {epsilon!r}, which counts as zero "
                'beside a variance; take 1e-5, or dtype="float64"'
            )
        if self.affine:
            self.gamma = xp.ones(shape, dtype=dtype, device=device)
            self.beta = xp.zeros(shape, dtype=dtype, device=device)

    def _check(self, x: Array) -> None:
        """Refuse inputs that broadcasting would normalize wrongly."""
        try:
            self.output_shape(tuple(x.shape[1:]))
        except ShapeError as error:
            raise ShapeError(f"{self.name} {error}, for each sample") from None

    def _affine(
        self, xhat: Array, shape: tuple[int, ...], over: int | tuple[int, ...]
    ) -> tuple[Array, Callable[..., tuple[Array, Gradients]]]:
        """y = gamma xhat + beta, and delta -> (gamma delta, gradients), which may skip the first.

        `shape` is the shape of gamma that broadcasts with xhat, `over` are the axes along which
        gamma is repeated.
        """
        if not self.affine:
            return xhat, lambda delta, need_dx=True: (delta, {})
        gamma, beta = self.parameters["gamma"], self.parameters["beta"]
        xp = array_namespace(xhat, gamma)
        own, gamma = gamma.shape, xp.reshape(gamma, shape)
        y = gamma * xhat
        y += xp.reshape(beta, shape)

        def backward(delta: Array, need_dx: bool = True) -> tuple[Array, Gradients]:
            return gamma * delta if need_dx else None, {
                "gamma": xp.reshape(xp.sum(delta * xhat, axis=over), own),
                "beta": xp.reshape(xp.sum(delta, axis=over), own),
            }

        return y, backward


class BatchNormLayer(_NormalizationLayer):
    """Normalize every channel to mean 0 and variance 1 over the batch: y = gamma xhat + beta.

    In training, xhat = (x - mean) / sqrt(variance + epsilon) with the statistics of the channel
    over all samples and positions, N values; backward: dbeta = sum(delta),
    dgamma = sum(delta xhat), dx = gamma (delta - dbeta / N - xhat dgamma / N) / deviation. The
    running statistics follow: running = (1 - momentum) running + momentum batch, the variance of
    the batch taken with the divisor N - 1. Each training forward binds new arrays to
    `buffers["mean"]` and `buffers["variance"]`.

    Several processes that train together take the statistics of the whole batch, of which each has
    its rows. With sync=False each takes those of its own rows, which saves three small sums in
    every step; the running ones are averaged before validation and saving.

    In evaluation, and in training while the layer is frozen, the running statistics are used as
    constants: dx = gamma delta / deviation.

    Shapes: x and y (samples, n) or (samples, n, *positions), images (samples, n, height, width);
    gamma, beta, mean, variance (n,).

    Args:
        n: number of channels.
        momentum: the weight of a batch in the running statistics, from 0 to 1. (As in PyTorch;
            the momentum of Keras is 1 minus this one.)
        epsilon: added to the variance, > 0.
        affine: are there gamma and beta? They begin as ones and zeros.
        optim: optimizer; the layer keeps a clone of it.
        name: what messages call the layer.
        sync: do several processes take the statistics of the whole batch?

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of its range.
        ShapeError: an input does not have n channels; a batch for training has a single value per
            channel, whose variance is 0 whatever it is.

    Source: Ioffe and Szegedy, arXiv:1502.03167; ONNX operator BatchNormalization.
    """

    def __init__(
        self,
        n: int,
        momentum: float = 0.1,
        epsilon: float = 1e-5,
        affine: bool = True,
        optim: Optimizer = SGD(),
        name: str | None = None,
        sync: bool = True,
    ) -> None:
        self.n = checks.count(self, "n", n)
        super().__init__((self.n,), epsilon, affine, optim, name)
        self.momentum = checks.number(self, "momentum", momentum, "in [0, 1]")
        self.sync = checks.flag(self, "sync", sync)
        xp, dtype, device = self.backend.xp, self.backend.dtype, self.backend.device
        self.buffers["mean"] = xp.zeros((self.n,), dtype=dtype, device=device)
        self.buffers["variance"] = xp.ones((self.n,), dtype=dtype, device=device)

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """gamma xhat + beta with the statistics of the batch or the running ones; its backward."""
        self._check(x)
        axes = (0, *range(2, x.ndim))
        shape = (self.n,) + (1,) * (x.ndim - 2)
        if training and not self.frozen:
            return self._by_batch(x, axes, shape)
        return self._by_running(x, axes, shape)

    def check_batch(self, input_shape: Shape, samples: int) -> None:
        """Raise ShapeError if a batch of so many samples has a single value per channel."""
        positions = product(*input_shape[1:])
        if not self.sync and (share := current_share()):  # the smallest part of it
            samples = max(1, samples // share.communicator.size)
        if not self.frozen and positions is not None and samples * positions < 2:
            raise ShapeError(
                f"{self.name}: expected more than one value per channel in every batch for "
                f"training, got a batch of {samples} with samples of shape {tuple(input_shape)}; "
                "choose a batch_size that leaves no batch of one sample, or leave one sample out"
            )

    def _by_batch(
        self, x: Array, axes: tuple[int, ...], shape: tuple[int, ...]
    ) -> tuple[Array, Backward]:
        share, count, processes, means = current_share(), math.prod(x.shape) // self.n, 1, None
        self.check_batch(tuple(x.shape[1:]), share.samples if share else x.shape[0])
        if share and self.sync:
            count, processes = count // x.shape[0] * share.samples, share.communicator.size
            means = share.means(axes, count)
        normalized = normalize(x, axes, self.epsilon, means)
        self._follow(normalized, count)
        y, _ = self._affine(normalized.xhat, shape, axes)
        xp, affine = array_namespace(x), self.affine
        gamma = xp.reshape(self.parameters["gamma"], shape) if affine else None

        def backward(delta: Array) -> tuple[Array, Gradients]:
            # gamma is constant along the axes of the means, so that they serve its gradient too.
            dx, mean, mean_with_xhat = normalized.backward(delta)
            if not affine:
                return dx, {}
            dx *= gamma
            own = count / processes  # the gradients of all processes are added up
            return dx, {
                "gamma": xp.reshape(own * mean_with_xhat, (self.n,)),
                "beta": xp.reshape(own * mean, (self.n,)),
            }

        return y, backward

    def _by_running(
        self, x: Array, axes: tuple[int, ...], shape: tuple[int, ...]
    ) -> tuple[Array, Backward]:
        mean, variance = self.buffers["mean"], self.buffers["variance"]
        xp = array_namespace(x, mean)
        deviation = xp.reshape(xp.sqrt(variance + self.epsilon), shape)
        y, affine = self._affine((x - xp.reshape(mean, shape)) / deviation, shape, axes)

        def backward(delta: Array) -> tuple[Array, Gradients]:
            g, gradients = affine(delta)
            return g / deviation, gradients

        return y, backward

    def _follow(self, batch: Normalized, count: int) -> None:
        """Move the running statistics towards those of a batch."""
        keep, unbiased = 1.0 - self.momentum, count / (count - 1)
        for name, found, weight in (
            ("mean", batch.mean, self.momentum),
            ("variance", batch.variance, self.momentum * unbiased),
        ):
            moved = keep * self.buffers[name]
            moved += weight * array_namespace(found).reshape(found, (self.n,))
            self.buffers[name] = moved

    def output_shape(self, input_shape: Shape) -> Shape:
        """(n, *positions), unchanged."""
        return _of_channels(self.n, input_shape)


class LayerNormLayer(_NormalizationLayer):
    """Normalize the last axes of each sample to mean 0 and variance 1: y = gamma xhat + beta.

    xhat = (x - mean) / sqrt(variance + epsilon) with the statistics over those axes. Backward:
    g = gamma delta, dx = (g - mean(g) - xhat mean(g xhat)) / deviation, and, summed over the axes
    before, dgamma = sum(delta xhat), dbeta = sum(delta). Samples are independent of each other;
    training and evaluation are the same.

    Shapes: x and y (samples, ..., *shape); gamma, beta (*shape).

    Args:
        shape: the lengths of the axes that are normalized; an integer for the last axis alone.
        epsilon: added to the variance, > 0.
        affine: are there gamma and beta? They begin as ones and zeros.
        optim: optimizer; the layer keeps a clone of it.
        name: what messages call the layer.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of its range.
        ShapeError: an input does not end in the shape.

    Source: Ba, Kiros and Hinton, arXiv:1607.06450; ONNX operator LayerNormalization.
    """

    can_skip_dx = True

    def __init__(
        self,
        shape: int | Sequence[int],
        epsilon: float = 1e-5,
        affine: bool = True,
        optim: Optimizer = SGD(),
        name: str | None = None,
    ) -> None:
        axes = max(len(shape), 1) if isinstance(shape, Sequence) else 1
        self.shape = checks.counts(self, "shape", shape, axes)
        super().__init__(self.shape, epsilon, affine, optim, name)

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """gamma xhat + beta; backward: dx = (g - mean(g) - xhat mean(g xhat)) / deviation."""
        self._check(x)
        xp, shape = array_namespace(x), x.shape
        rows = xp.reshape(x, (-1, math.prod(self.shape)))
        normalized = normalize(rows, (1,), self.epsilon)
        y, affine = self._affine(normalized.xhat, (-1,), 0)

        def backward(delta: Array, need_dx: bool = True) -> tuple[Array, Gradients]:
            g, gradients = affine(xp.reshape(delta, rows.shape), need_dx)
            return xp.reshape(normalized.backward(g)[0], shape) if need_dx else None, gradients

        return xp.reshape(y, shape), backward

    def output_shape(self, input_shape: Shape) -> Shape:
        """(..., *shape), unchanged."""
        if input_shape[-len(self.shape) :] != self.shape:
            expected = ", ".join(["...", *map(str, self.shape)])
            remedy = f"; {KNOWN} for these axes" if None in input_shape[-len(self.shape) :] else ""
            raise ShapeError(f"takes input of shape ({expected}), got {input_shape}{remedy}")
        return input_shape


class GroupNormLayer(_NormalizationLayer):
    """Normalize groups of channels of each sample to mean 0 and variance 1: y = gamma xhat + beta.

    xhat = (x - mean) / sqrt(variance + epsilon) with the statistics over all positions and the
    n / groups channels of a group, which are neighbours. Backward: g = gamma delta,
    dx = (g - mean(g) - xhat mean(g xhat)) / deviation, and, summed over samples and positions,
    dgamma = sum(delta xhat), dbeta = sum(delta). Samples are independent of each other; training
    and evaluation are the same. GroupNormLayer(n, n) is instance normalization.

    Shapes: x and y (samples, n) or (samples, n, *positions), images (samples, n, height, width);
    gamma, beta (n,).

    Args:
        groups: number of groups; it divides n.
        n: number of channels.
        epsilon: added to the variance, > 0.
        affine: are there gamma and beta? They begin as ones and zeros.
        optim: optimizer; the layer keeps a clone of it.
        name: what messages call the layer.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of its range, or n is not a multiple of groups.
        ShapeError: an input does not have n channels.

    Source: Wu and He, arXiv:1803.08494; ONNX operator GroupNormalization.
    """

    can_skip_dx = True

    def __init__(
        self,
        groups: int,
        n: int,
        epsilon: float = 1e-5,
        affine: bool = True,
        optim: Optimizer = SGD(),
        name: str | None = None,
    ) -> None:
        self.groups = checks.count(self, "groups", groups)
        self.n = checks.count(self, "n", n)
        if self.n % self.groups:
            raise ValueError(
                f"GroupNormLayer: expected n to be a multiple of groups, got groups={groups}, "
                f"n={n}; change one of them"
            )
        super().__init__((self.n,), epsilon, affine, optim, name)

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """gamma xhat + beta; backward: dx = (g - mean(g) - xhat mean(g xhat)) / deviation."""
        self._check(x)
        xp, shape = array_namespace(x), x.shape
        channels = (self.groups, self.n // self.groups)
        grouped = (shape[0], *channels, *shape[2:])
        positions = tuple(range(3, len(grouped)))
        normalized = normalize(xp.reshape(x, grouped), (2, *positions), self.epsilon)
        beside = channels + (1,) * len(positions)
        y, affine = self._affine(normalized.xhat, beside, (0, *positions))

        def backward(delta: Array, need_dx: bool = True) -> tuple[Array, Gradients]:
            g, gradients = affine(xp.reshape(delta, grouped), need_dx)
            return xp.reshape(normalized.backward(g)[0], shape) if need_dx else None, gradients

        return xp.reshape(y, shape), backward

    def output_shape(self, input_shape: Shape) -> Shape:
        """(n, *positions), unchanged."""
        return _of_channels(self.n, input_shape)


def _of_channels(n: int, input_shape: Shape) -> Shape:
    """The input shape, if it is that of n channels."""
    if input_shape[:1] != (n,):
        remedy = f"; {KNOWN} for the channels" if input_shape[:1] == (None,) else ""
        raise ShapeError(f"takes input of shape ({n},) or ({n}, ...), got {input_shape}{remedy}")
    return input_shape
