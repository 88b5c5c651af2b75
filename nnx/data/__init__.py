"""The user's data and arguments are checked here, once; later code converts nothing."""

from nnx.data.arguments import (
    check_batch_size,
    checked_callbacks,
    checked_rng,
    checked_validation,
)
from nnx.data.arrays import (
    as_inputs,
    as_targets,
    as_weights,
    batches,
    check_finite,
    is_classification,
    unreachable_targets,
)
from nnx.data.samples import checked_samples, warn_of_targets

__all__ = [
    "as_inputs",
    "as_targets",
    "as_weights",
    "batches",
    "check_batch_size",
    "check_finite",
    "checked_callbacks",
    "checked_rng",
    "checked_samples",
    "checked_validation",
    "is_classification",
    "unreachable_targets",
    "warn_of_targets",
]
