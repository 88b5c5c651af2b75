"""The user's data and arguments are checked here, once; later code converts nothing."""

from nnx.data.arguments import (
    check_batch_size,
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
from nnx.data.division import held_out
from nnx.data.parts import equal_parts, in_order
from nnx.data.samples import (
    Parts,
    are_classes,
    checked_samples,
    described,
    training_data,
    warn_of_targets,
)

__all__ = [
    "Parts",
    "are_classes",
    "as_inputs",
    "as_targets",
    "as_weights",
    "batches",
    "check_batch_size",
    "check_finite",
    "checked_rng",
    "checked_samples",
    "checked_validation",
    "described",
    "equal_parts",
    "held_out",
    "in_order",
    "is_classification",
    "training_data",
    "unreachable_targets",
    "warn_of_targets",
]
