"""Losses: `value(a, y)` is the mean over the samples, `gradient(a, y)` exactly its derivative.

Outputs a have the shape (samples, outputs), or (samples, time, outputs) and the like. Targets y
are rows of the same shape, or class indices (samples,), (samples, time), which stand for their
one-hot rows; for a single output the indices 0 and 1 are the rows.

The mean is over the samples, for these terms of a sample:

    QuadraticCost                             the sample as a whole, summed over all its entries
    MeanSquaredError, MeanAbsoluteError,      every entry: the mean is over the outputs too, as in
    Huber, BinaryCrossEntropy,                PyTorch and Keras
    LogisticCrossEntropy
    CrossEntropy, SoftMaxCrossEntropy,        every row: each time step of a sequence counts as a
    KullbackLeibler, Hinge                    sample

Weights multiply the terms before the mean, which stays one over their number: sum(w l) / number,
as in Keras. (PyTorch divides by the sum of the class weights. To have that, scale the weights to
a mean of 1.) So the loss of a batch is an unbiased estimate of that of the data, batches add up,
and a batch of weight zero has the loss zero.
"""

from nnx.losses.base import Loss, one_hot
from nnx.losses.logits import Hinge, LogisticCrossEntropy, SoftMaxCrossEntropy
from nnx.losses.probabilities import BinaryCrossEntropy, CrossEntropy, KullbackLeibler
from nnx.losses.regression import Huber, MeanAbsoluteError, MeanSquaredError, QuadraticCost

__all__ = [
    "BinaryCrossEntropy",
    "CrossEntropy",
    "Hinge",
    "Huber",
    "KullbackLeibler",
    "LogisticCrossEntropy",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "QuadraticCost",
    "SoftMaxCrossEntropy",
    "one_hot",
]
