"""`nnx train`, `evaluate`, `predict` and `export`: networks trained and used without a program."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nnx
from nnx.checks import file_there
from nnx.commands import files
from nnx.commands.parser import option_meant
from nnx.commands.preparing import Notes, fit, prepared
from nnx.commands.tables import About, renumbered
from nnx.commands.words import Item, as_items, network_of, words_of
from nnx.losses.classification import Classification
from nnx.saving import FileError, read_file
from nnx.saving.networks import save

__all__ = [
    "OPTIONS",
    "can_export",
    "evaluate",
    "export",
    "predict",
    "settings",
    "train",
]

# Keys of a run in TOML, which are the options of the command line too: their types and defaults.
OPTIONS: dict[str, tuple[Any, Any]] = {
    "data": ((str, list), None),
    "layers": ((str, list), None),
    "optimizer": ((str, dict), "sgd"),
    "loss": ((str, dict), None),
    "epochs": (int, 1),
    "batch_size": (int, 10),
    "backend": (str, None),
    "dtype": (str, None),
    "seed": (int, 0),
    "validation": ((int, float), None),
    "metrics": ((str, list), None),
    "target": ((str, list), None),
    "ignore": ((str, list), None),
    "standardize": (bool, None),
    "checkpoint": (str, None),
    "save": (str, None),
}

NAMES = {
    bool: "true or false",
    str: "text",
    int: "an integer",
    float: "a number",
    list: "a list",
    dict: "a table",
}


def settings(data: Sequence[str], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a run: those of a TOML file, and of the command line before them.

    Raises:
        ValueError: the file is not TOML, or has an unknown key or a value of another type; or
            something is missing.
    """
    own = {name: value for name, value in given.items() if value is not None}
    found = {name: default for name, (_, default) in OPTIONS.items()}
    if len(data) == 1 and data[0].lower().endswith(".toml"):
        found |= _toml(data[0])
    elif data:
        own["data"] = list(data)
    found |= own
    if isinstance(found["data"], str):
        found["data"] = [found["data"]]
    if not found["data"]:
        raise ValueError(f"expected data, got none; name {files.WHAT}")
    if not found["layers"]:
        raise ValueError(
            'expected layers, got none; write --layers "dense 100 relu, dense 10 softmax"'
        )
    return found


def train(chosen: Mapping[str, Any], show: Callable[[str], None], quiet: bool) -> dict[str, Any]:
    """Train a network, and save it.

    Args:
        chosen: what `settings` returns.
        show: is called with lines of text.
        quiet: show no progress.

    Returns:
        The network, the history and the scores, as plain data.
    """
    for name in ("save", "checkpoint"):
        _check_writable(f"--{name}", chosen[name])
    if chosen["save"] is not None and chosen["save"] == chosen["checkpoint"]:
        raise ValueError(
            f"expected --save and --checkpoint to be two files, got {chosen['save']!r} twice; name "
            "another one"
        )
    layers = as_items(chosen["layers"], "layers")
    optimizer, loss = (_one(chosen[name], name) for name in ("optimizer", "loss"))
    metrics = chosen["metrics"]
    if isinstance(metrics, str):
        metrics = metrics.replace(",", " ").split()
    of_table = chosen["target"], chosen["ignore"]
    samples = files.read(chosen["data"], _takes_images(layers), *of_table)
    with _on(chosen["backend"], chosen["dtype"]):
        nnx.seed(chosen["seed"])
        net = network_of(layers, samples.x.shape[1:], loss, optimizer)
        net, notes = prepared(net, samples, chosen["standardize"])
        about = samples.about
        y, labels = samples.y, about.labels
        if about.targets:
            y, numbers = renumbered(y, net.output_shape[-1])
            labels = labels or numbers
        several = net.output_shape[-1] > 1
        about = about._replace(labels=labels, classes=bool(labels) or (about.classes and several))
        _check_outputs(net, about)
        y, y_test = (_targets(net, part) for part in (y, samples.y_test))
        checkpoint = chosen["checkpoint"]
        fit(net, samples.x, y, chosen["validation"])
        notes = [*samples.notes, *notes]
        history = net.train(
            samples.x,
            y,
            chosen["batch_size"],
            chosen["epochs"],
            validation=chosen["validation"],
            metrics=metrics,
            callbacks=[Notes(show, notes)] * bool(notes)
            + ([nnx.Checkpoint(checkpoint)] if checkpoint else []),
            resume=checkpoint if checkpoint and Path(checkpoint).exists() else None,
            progress=not quiet,
        )
        show(repr(net))
        test = None
        if samples.x_test is not None:
            test = _score(net, samples.x_test, y_test, metrics)
            show(f"test: {_told(test)}")
    if chosen["save"]:
        save(net, chosen["save"], about.plain())
        show(f"written to {chosen['save']}")
    quantities = {name: history[name] for name in history}
    return {
        "network": repr(net),
        "history": quantities,
        "interrupted": history.interrupted,
        "test": test,
        "saved": chosen["save"],
    }


def evaluate(
    path: str,
    data: Sequence[str],
    target: str | None,
    metrics: str | None,
    backend: str | None,
) -> dict[str, Any]:
    """Return the score of a saved network on data; on the test of a data set."""
    net, about = _loaded(path, backend)
    with nnx.use_backend(net.backend):
        images = len(net.input_shape) == 3
        samples = files.read(data, images, target, None, about)
        if samples.about.targets:
            _check_outputs(net, samples.about)
        x, y = samples[:2] if samples.x_test is None else samples[2:4]
        names = metrics.replace(",", " ").split() if metrics else None
        return _score(net, x, _targets(net, y), names)


def predict(
    path: str,
    data: Sequence[str],
    output: str | None,
    target: str | None,
    classes: bool,
    backend: str | None,
) -> None:
    """Write the outputs of a saved network to a file, or as lines of text to the output."""
    if output is not None and Path(output).suffix.lower() not in (".npy", ".csv"):
        raise ValueError(f"expected --output to end in .npy or .csv, got {output!r}; rename it")
    _check_writable("--output", output)
    net, about = _loaded(path, backend)
    if classes:
        _check_classes(path, net, about)
    with nnx.use_backend(net.backend):
        shape = net.input_shape
        features = shape[0] if len(shape) == 1 else -1
        x = files.read_inputs(data, len(shape) == 3, features, target, about)
        if output and output.lower().endswith(".npy") and not classes:
            of = (len(x), *net.output_shape), net.backend.dtype_name
            with files.new_array(output, *of) as out:
                net.predict(x, out=out)
            return
        outputs = nnx.to_numpy(net.predict(x))
    if classes:
        wide, threshold = outputs.shape[-1] > 1, net.cost.threshold
        found = outputs.argmax(axis=-1) if wide else (outputs[..., 0] >= threshold).astype("int64")
        if about.labels:
            found = files.labelled(found, about.labels)
        outputs = found
    files.write(output, outputs, sys.stdout)


def can_export() -> bool:
    """Return whether there is a part of nnx that writes ONNX files."""
    return importlib.util.find_spec("nnx.onnx") is not None


def export(path: str, output: str) -> None:
    """Write a saved network to an ONNX file."""
    if Path(output).suffix.lower() != ".onnx":
        raise ValueError(f"expected OUTPUT to end in .onnx, got {output!r}; rename it")
    _check_writable("OUTPUT", output)
    importlib.import_module("nnx.onnx").export(_loaded(path, None)[0], output)


def _toml(path: str) -> dict[str, Any]:
    try:
        with open(file_there(path), "rb") as file:
            found = tomllib.load(file)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f'expected TOML in {path!r}: {error}; write lines such as epochs = 5, layers = "..."'
        ) from error
    for name, value in found.items():
        if name not in OPTIONS:
            close = option_meant(name, OPTIONS)
            hint = f"did you mean {close}?" if close else f"the keys are {', '.join(OPTIONS)}"
            raise ValueError(f"expected known keys in {path!r}, got {name!r}; {hint}")
        types = OPTIONS[name][0]
        types = types if isinstance(types, tuple) else (types,)
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            kinds = " or ".join(NAMES[kind] for kind in types)
            raise ValueError(
                f"expected {name} in {path!r} to be {kinds}, got {value!r}; write another value"
            )
    return found


def _one(value: Any, name: str) -> Item | None:
    items = [] if value is None else as_items(value, name)
    if len(items) > 1:
        raise ValueError(f"expected one {name}, got {len(items)}; name one")
    return items[0] if items else None


def _takes_images(layers: Sequence[Item]) -> bool:
    """Is one of the layers for images? Data sets are rows otherwise."""
    known = words_of("Layer")
    kinds = [known.get(item.word.lower().removesuffix("layer")) for item in layers]
    flat = {nnx.FlattenLayer, nnx.GlobalAvgPoolLayer, nnx.UpSampling2DLayer, nnx.ZeroPadding2DLayer}
    return any(kind in flat or getattr(kind, "dimensions", 0) == 2 for kind in kinds)


def _targets(net: Any, y: Any) -> Any:
    """Return targets as the network takes them: rows of one number for an output of one number."""
    if y is None or y.ndim != 1 or net.output_shape[-1] != 1:
        return y
    return y.astype(net.backend.dtype_name)[:, None]


def _score(net: Any, x: Any, y: Any, metrics: Any) -> dict[str, float | None]:
    score = net.score(x, y, metrics=metrics)
    accuracy = None if score.accuracy != score.accuracy else score.accuracy
    return {"loss": score.loss, "accuracy": accuracy, **score.metrics}


def _told(score: Mapping[str, float | None]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in score.items() if value is not None)


def _loaded(path: str, backend: str | None) -> tuple[Any, About]:
    """Return a network, and what its file says about its data."""
    net = nnx.load(path, backend)
    if not isinstance(net, nnx.SequentialNet):
        raise ValueError(
            f"expected a network in {path!r}, got {type(net).__name__}; save a SequentialNet"
        )
    with read_file(path) as file:
        about = About.of(file.data.get("about"))
    features, outputs = net.input_shape, net.output_shape[-1]
    if (about.inputs and features != (len(about.inputs),)) or (
        about.labels and len(about.labels) != max(outputs, 2)
    ):
        raise FileError(
            f"{path}: expected the names of {features} inputs and {outputs} outputs, got others; "
            "the file is damaged: copy it or train again"
        )
    return net, about


def _check_outputs(net: Any, about: About) -> None:
    """Refuse a network whose number of outputs is not that of the targets of a table."""
    outputs, labels, several = net.output_shape[-1], about.labels, len(about.targets)
    if labels and len(labels) != max(outputs, 2):
        names = ", ".join(labels[:5]) + (", ..." if len(labels) > 5 else "")
        raise ValueError(
            f"expected an output for each of the {len(labels)} classes in column "
            f"{about.targets[0]!r} ({names}), got {outputs}; end --layers with "
            f'"dense {len(labels)} softmax"'
        )
    if several > 1 and several != outputs:
        raise ValueError(
            f"expected an output for each of the targets {', '.join(about.targets)}, got "
            f'{outputs}; end --layers with "dense {several} linear"'
        )


def _check_classes(path: str, net: Any, about: About) -> None:
    """Refuse --classes for a network that does not choose one class."""
    last, cost = net.last_activations() or (), net.cost
    sure = any(afun.distribution or isinstance(afun, nnx.Logistic) for afun in last)
    if cost.per_entry and net.output_shape[-1] > 1 and not about.classes:
        kind = "one of separate yes-or-no outputs"
    elif sure or about.classes or isinstance(cost, Classification):
        return
    else:
        kind = "one of real numbers"
    raise ValueError(
        f"expected --classes with a network of classes in {path!r}, got {kind} "
        f"({cost!r}); leave --classes out"
    )


def _on(backend: str | None, dtype: str | None) -> Any:
    return nnx.use_backend(backend or nnx.get_backend(), dtype)


def _check_writable(name: str, path: str | None) -> None:
    """Refuse a file that cannot be written, before anything is computed."""
    if path is None:
        return
    folder = Path(path).parent
    if Path(path).is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        what = f"has no directory {str(folder)!r}; make it"
        if Path(path).is_dir():
            what = f"is a directory; write {str(Path(path) / 'a-file')!r}"
        elif folder.is_dir():
            what = f"is in {str(folder)!r}, where you must not write; name another folder"
        raise ValueError(f"expected {name} to be a file that can be written, {path!r} {what}")
