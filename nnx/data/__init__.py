"""The user's data and arguments are checked here, once; later code converts nothing."""

from nnx.data.arguments import (
    checked_rng,
    checked_validation,
)
from nnx.data.arrays import (
    as_floats,
    as_inputs,
    as_targets,
    as_weights,
    batches,
    check_finite,
    is_classification,
    unreachable_targets,
)
from nnx.data.division import held_out
from nnx.data.feeds import (
    KnownInputs,
    checked_on_device,
    input_source,
    is_feed,
    one_batch,
    source_of,
    step_size,
    training_sources,
)
from nnx.data.parts import equal_parts, in_order
from nnx.data.samples import (
    are_classes,
    checked_samples,
    described,
    training_data,
    warn_of_targets,
)
from nnx.data.sources import Arrays, Parts, Piece, Source, Stretch, first_samples

__all__ = [
    "Arrays",
    "KnownInputs",
    "Parts",
    "Piece",
    "Source",
    "Stretch",
    "are_classes",
    "as_floats",
    "as_inputs",
    "as_targets",
    "as_weights",
    "batches",
    "check_finite",
    "checked_on_device",
    "checked_rng",
    "checked_samples",
    "checked_validation",
    "described",
    "equal_parts",
    "first_samples",
    "held_out",
    "in_order",
    "input_source",
    "is_classification",
    "is_feed",
    "one_batch",
    "source_of",
    "step_size",
    "training_data",
    "training_sources",
    "unreachable_targets",
    "warn_of_targets",
]
