"""Metrics of outputs against targets, with scikit-learn's defaults and values.

Outputs and targets are NumPy data, lists, or arrays of one backend; NumPy data is moved to the
backend of the others. Results are arrays of that backend, in the dtype of the outputs if that is
float32 or float64.

For classes, outputs are

    (samples, classes)    scores: probabilities or any increasing function of them; the guess is
                          the class with the largest one
    (samples, 1)          a score of the second of two classes, guessed from `threshold` on;
                          numbers (samples,) are taken as such a column
    (samples,) integers   guessed classes

and targets are class indices (samples,), or rows (samples, classes) that are one-hot or
distributions and stand for the class of their largest entry. More leading axes are more samples:
for sequences (samples, time, classes), every time step is a term of its own. `sample_weights` are
one per sample or one per term.

With `per_entry=True`, outputs (samples, labels) are separate yes-or-no questions, and targets are
rows of answers 0 or 1.

An output that is NaN guesses nothing and is never right. Metrics of classes read the targets in
order to check them. The training loop uses `hits`, which checks and reads nothing.

Counts are kept in the dtype of the result: in float32 they are exact up to 2^24 terms.
"""

from nnx.metrics.classes import (
    accuracy,
    confusion_matrix,
    f1,
    hits,
    precision,
    recall,
    top_k_accuracy,
)
from nnx.metrics.numbers import (
    mean_absolute_error,
    mean_squared_error,
    r2,
    root_mean_squared_error,
)

__all__ = [
    "accuracy",
    "confusion_matrix",
    "f1",
    "hits",
    "mean_absolute_error",
    "mean_squared_error",
    "precision",
    "r2",
    "recall",
    "root_mean_squared_error",
    "top_k_accuracy",
]
