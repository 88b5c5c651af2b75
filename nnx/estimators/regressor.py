"""A network as a regressor of scikit-learn."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils.metaestimators import available_if

from nnx.activations import Activation, Linear
from nnx.estimators.base import NetworkEstimator, has_batches
from nnx.estimators.libraries import as_library
from nnx.losses import Loss, MeanSquaredError

__all__ = ["NetworkRegressor"]


class NetworkRegressor(RegressorMixin, NetworkEstimator):
    """A network that predicts real numbers, as an estimator of scikit-learn.

    Targets (samples,) are predicted as (samples,), and (samples, outputs) as such. The network ends
    with Linear and minimises MeanSquaredError. Scale y to about [-1, 1] if it is not:
    sklearn.compose.TransformedTargetRegressor does so.

    Arguments and attributes are those of `NetworkClassifier`, without those of classes;
    `validation_scores_` holds R2.
    """

    quantity = "r2"

    @available_if(has_batches)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Make one pass over some samples, with the network that there is or a new one.

        Args:
            X, y: as in `fit`.
            sample_weight: (samples,), >= 0. Their size counts, not only their ratios.

        Raises:
            ValueError, TypeError: the data or an argument does not fit, with what to do.
        """
        return self._fit(X, y, sample_weight, not hasattr(self, "net_"), partial=True)

    def predict(self, X: Any) -> Any:
        """Return the outputs, (samples,) or (samples, outputs), in the library of X."""
        a, library = self._outputs(X, "predict")
        return as_library(a[:, 0] if self._flat else a, self.net_.backend, library)

    def head(self) -> tuple[Activation, tuple[Loss, ...]]:
        """Linear and the mean squared error."""
        return Linear(), (MeanSquaredError(),)

    def encoded(self, y: Any, new: bool, partial: bool, classes: Any) -> tuple[np.ndarray, int]:
        """Return rows.

        Raises:
            ValueError: they have another number of entries than in the first call.
        """
        try:
            rows = np.asarray(y, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{type(self).__name__}: expected y of numbers, got {np.asarray(y).dtype} "
                f"({error}); for classes write NetworkClassifier"
            ) from error
        rows = rows.reshape(len(rows), -1)
        if new:
            self._flat = y.ndim == 1
        elif rows.shape[1] != self.n_outputs_:
            raise ValueError(
                f"{type(self).__name__}: expected y with {self.n_outputs_} outputs, as in the "
                f"first call, got {rows.shape[1]}; fit a new estimator for others"
            )
        return rows, rows.shape[1]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
