"""Losses: `value(a, y)` is the mean over the samples, `gradient(a, y)` its exact derivative.

Outputs a have the shape (samples, outputs), or more axes, such as (samples, time, outputs). Targets
y are rows of the same shape, or class indices (samples,), (samples, time), which stand for their
one-hot rows. For a single output the indices 0 and 1 are the rows.

The mean is over the samples, for these terms of a sample:

    QuadraticCost                             the sample as a whole, summed over all its entries
    MeanSquaredError, MeanAbsoluteError,      every entry: the mean is over the outputs too, as in
    Huber, BinaryCrossEntropy,                PyTorch and Keras
    LogisticCrossEntropy
    CrossEntropy, SoftMaxCrossEntropy,        every row: each time step of a sequence counts as a
    KullbackLeibler, Hinge                    sample

Weights multiply the terms before the mean, which stays one over their number: sum(w l) / number,
as in Keras. They are one per sample or one per term, such as (samples, time). (PyTorch divides by
the sum of the class weights. To do the same, scale the weights to a mean of 1.) The loss of a
batch is then an unbiased estimate of that of the data, batches add up, and a batch of weight zero
has the loss zero.
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
