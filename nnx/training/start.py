"""How a training begins: from the user's arguments, or from the file of an earlier one."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from functools import partial
from typing import Any

from nnx import randomness
from nnx.checks import choice, count, flag
from nnx.communication import Communicator, Share, sharing
from nnx.data import (
    Source,
    are_classes,
    checked_on_device,
    checked_rng,
    checked_validation,
    described,
    is_feed,
    step_size,
    training_sources,
    warn_of_targets,
)
from nnx.metrics.chosen import check, chosen
from nnx.saving import read_file
from nnx.training.callbacks import as_callbacks
from nnx.training.checkpoints import Checkpoint, made_of, resume_run, seed_as
from nnx.training.mixing import check_mixing, described_mixing
from nnx.training.run import Run, Scored
from nnx.training.together import SharedRun, start_together

__all__ = ["scored", "started"]

# Validation keeps no closures for a backward: it takes so many batches at once, up to so many
# samples.
VALIDATION_BATCHES, VALIDATION_SAMPLES = 4, 1024


def started(
    net: Any,
    data: tuple[Any, Any, Any],
    batch_size: Any,
    epochs: int,
    *,
    communicator: Communicator | None,
    **arguments: Any,
) -> Run:
    """Return the run for the arguments of `SequentialNet.train`, continued from a file if asked.

    If that fails, network and random streams are as they were.

    Raises:
        ValueError, TypeError: an argument does not fit, or the run of the file belongs to another
            network, other data or another seed.
        FileError: the file holds no run, or is damaged.
        CommunicationError: the processes do not fit together.
    """
    begin: Any = _begun
    if communicator is not None and communicator.size > 1:
        begin = partial(start_together, communicator, _begun)
    run: Run = begin(net, data, batch_size, epochs, **arguments)
    return run


def _begun(
    net: Any,
    data: tuple[Any, Any, Any],
    batch_size: Any,
    epochs: int,
    *,
    resume: str | os.PathLike[str] | None,
    **arguments: Any,
) -> Run:
    if resume is not None and not isinstance(resume, str | os.PathLike):
        raise TypeError(
            f"train: expected resume to be the name of a file, got {resume!r}; write "
            'resume="run.safetensors"'
        )
    if resume is not None and not os.path.exists(resume):
        logging.getLogger("nnx").warning(
            "resume: there is no %s yet; training starts from the beginning", os.fspath(resume)
        )
        resume = None
    if resume is None:
        return _run(net, data, batch_size, epochs, **arguments)
    streams = randomness.state()
    try:
        with read_file(resume) as file:
            seed_as(file, resume)
            run = _run(net, data, batch_size, epochs, **arguments)
            resume_run(run, file, resume)
            return run
    except BaseException:
        randomness.set_state(streams)
        raise


def scored(net: Any, source: Source, batch_size: int, metrics: Any) -> Scored:
    """Return checked data with what is to be reported about it.

    Raises:
        ValueError, TypeError: a metric is unknown, or does not suit the targets.
    """
    parts = source.parts
    classes = are_classes(net, parts)
    if metrics is None:
        metrics = () if classes else ("mean_absolute_error", "r2")
    if metrics == ():
        return Scored(source, batch_size, classes, {})
    found = chosen(metrics, net.cost)
    check(found, net, parts[0][1], classes)
    if classes:
        found.pop("accuracy", None)  # reported anyway; no function of a person has this name
    return Scored(source, batch_size, classes, found)


def _run(
    net: Any,
    data: tuple[Any, Any, Any],
    batch_size: Any,
    epochs: int,
    *,
    validation: Any,
    validation_batch_size: Any,
    metrics: Any,
    callbacks: Any,
    shuffle: Any,
    class_weights: Any,
    ignore_label: Any,
    rng: Any,
    on_device: Any,
    mixing: Any,
    communicator: Communicator | None = None,
) -> Run:
    shuffle, rng = _shuffle(shuffle), checked_rng(rng)
    called, on_device = as_callbacks(callbacks), checked_on_device(on_device)
    held = validation
    if held is not None and (isinstance(held, tuple | list | Iterator) or not is_feed(held)):
        held = checked_validation(held)
    metrics = list(metrics) if isinstance(metrics, Iterator) else metrics
    source, valid = training_sources(
        net,
        data,
        epochs,
        shuffle=shuffle,
        validation=held,
        on_device=on_device,
        ignore_label=ignore_label,
        class_weights=class_weights,
    )
    if communicator is None:
        size = step_size(net, source, batch_size)
    else:
        with sharing(Share(communicator, net.backend)):
            size = step_size(net, source, batch_size)
    if mixing is not None:
        check_mixing(net, mixing, source, size)
    warn_of_targets(net, source.parts)
    several = min(VALIDATION_BATCHES * size, VALIDATION_SAMPLES)
    if validation_batch_size is not None:
        several = count("train", "validation_batch_size", validation_batch_size)
    trained, own = scored(net, source, size, metrics), held if isinstance(held, tuple) else data
    watched = None if valid is None else scored(net, valid, several, metrics)

    def identity() -> dict[str, Any]:
        return {
            "data": described(source.parts, *data[:2]),
            "validation": None if valid is None else described(valid.parts, *own[:2]),
            "metrics": [*trained.metrics, *(watched.metrics if watched else ())],
            "batch_size": size,
            "shuffle": shuffle,
            **({"block": source.block} if shuffle == "blocks" else {}),
            "rng": None if rng is None else type(rng.bit_generator).__name__,
            "class_weights": repr(class_weights)[:1000],
            "ignore_label": ignore_label,
            **({} if mixing is None else {"mixing": described_mixing(mixing)}),
            "dtype": net.backend.dtype_name,
        }

    make: Any = Run if communicator is None else partial(SharedRun, communicator)
    run: Run = make(net, trained, watched, epochs, called, shuffle, rng, identity, mixing)
    if any(isinstance(callback, Checkpoint) for callback in called):
        run.made_of = made_of(net)  # before a callback changes it
    return run


def _shuffle(shuffle: Any) -> bool | str:
    """Return True, False or "blocks"."""
    if isinstance(shuffle, str):
        return choice("train", "shuffle", shuffle, ("blocks",))
    return flag("train", "shuffle", shuffle)
