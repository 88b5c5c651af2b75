"""The commands that train and use networks: their options, what they print, their exit status."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import math
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nnx.backend import BackendError
from nnx.commands.parser import line_of
from nnx.commands.show import lines_of, show
from nnx.commands.train import (
    can_export,
    evaluate,
    export,
    predict,
    settings,
    train,
)
from nnx.commands.wording import in_options
from nnx.datasets import DatasetError
from nnx.training import NonFiniteLossError

__all__ = ["COMMANDS", "add_commands", "run"]

MISTAKES = (
    ValueError, TypeError, OSError, ImportError, BackendError, DatasetError, MemoryError,
    OverflowError, RecursionError,
)  # fmt: skip
DATA = """DATA is a data set (mnist, fashion-mnist, cifar-10, digits), a .npz file with x and y, or
x_train, y_train, x_test and y_test, two .npy files, or a .csv or .tsv file, whose last column is
the target if --target names none."""
EXAMPLES = {
    "train": f"""examples:
  nnx train mnist --layers "dense 100 relu, dense 10 softmax" --optimizer "adam 0.001" \\
      --epochs 5 --save digits.safetensors
  nnx train mnist --layers "conv2d 16 3 relu, maxpool2d, flatten, dense 10 softmax" --backend cupy
  nnx train table.csv --target price --layers "dense 20 tanh, dense 1 linear" --validation 0.2
  nnx train images.npy labels.npy --layers "rescaling 1/255, randomflip, randomshift 4, \
      conv2d 16 3 relu, flatten, dense 10 softmax"
  nnx train x.npy y.npy --layers "lstm 32, dense 2 softmax" --checkpoint run.safetensors
  nnx train run.toml
      data = "mnist"
      layers = ["dense 100 relu", "dense 10 softmax"]
      optimizer = "adam 0.001"
      epochs = 5

{DATA}

Words are the names of nnx's classes: dense is DenseLayer, relu ReLU, adam Adam. After them come
their arguments, in order or as name=value; sizes of inputs follow from the data. Without --loss it
is crossentropy after softmax, binarycrossentropy after logistic, else meansquarederror.
Rows of numbers in a file are standardized, by a first layer that is saved with the network;
--no-standardize, or standardize = false in TOML, leaves them as they are. Data sets by name, images
and bytes are left as they are. .npy files may be larger than the memory.
The keys of a TOML file are these options, with _ for -. An option replaces what the file says.""",
    "evaluate": f"""examples:
  nnx evaluate digits.safetensors mnist
  nnx evaluate net.safetensors test.csv --target price --metrics mean_absolute_error,r2

{DATA} Of data with a test part, that part is used.""",
    "predict": f"""examples:
  nnx predict digits.safetensors mnist --classes | head
  nnx predict net.safetensors x.npy --output outputs.npy

{DATA} Targets are left out; one .npy file is enough. Without --output, lines of
numbers with commas are printed.""",
    "show": """examples:
  nnx show digits.safetensors
  nnx show digits.safetensors --json - | jq .layers""",
    "export": """example:
  nnx export digits.safetensors digits.onnx""",
}
COMMANDS = tuple(EXAMPLES)


def add_commands(commands: Any) -> None:
    """Add the parsers of these commands."""

    def add(name: str, text: str) -> Any:
        parser = commands.add_parser(
            name,
            help=text,
            description=text,
            epilog=EXAMPLES[name],
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
        return parser

    def backend(parser: Any) -> None:
        parser.add_argument("--backend", metavar="NAME", help="numpy, cupy, cupy:1, torch, ...")

    def results(parser: Any) -> None:
        parser.add_argument(
            "--json", metavar="FILE", help="write the results to this file; - for the output"
        )

    trained = add("train", "train a network on data, and save it")
    trained.add_argument("data", nargs="*", metavar="DATA", help="the data, or a .toml file")
    trained.add_argument("--layers", metavar="TEXT", help='"dense 100 relu, dense 10 softmax"')
    trained.add_argument("--optimizer", metavar="TEXT", help='"adam 0.001"; sgd if not given')
    trained.add_argument("--loss", metavar="TEXT", help="crossentropy, huber, ...")
    trained.add_argument("--epochs", type=int, metavar="N", help="passes over the data (default 1)")
    trained.add_argument(
        "--batch-size", type=int, metavar="N", help="samples of a step (default 10)"
    )
    backend(trained)
    trained.add_argument("--dtype", metavar="NAME", help="float32 or float64")
    trained.add_argument("--seed", type=int, metavar="N", help="of the random numbers (default 0)")
    trained.add_argument(
        "--validation",
        type=float,
        metavar="PART",
        help="fraction of the samples kept for validation, such as 0.2",
    )
    trained.add_argument("--metrics", metavar="NAME,NAME", help="f1, recall, r2, ...")
    columns = "the column of the targets of a table, or columns with commas"
    trained.add_argument("--target", metavar="NAME", help=columns)
    trained.add_argument("--ignore", metavar="NAME,NAME", help="columns of a table to leave out")
    trained.add_argument(
        "--standardize",
        action=argparse.BooleanOptionalAction,
        help="give each input mean 0 and deviation 1, in the network; rows of files get it anyway",
    )
    trained.add_argument(
        "--checkpoint", metavar="FILE", help="write the run to it, and go on from it if it is there"
    )
    trained.add_argument("--save", metavar="FILE", help="write the network to this file")
    results(trained)
    trained.add_argument("--quiet", action="store_true", help="print nothing")

    scored = add("evaluate", "print loss, accuracy and metrics of a saved network on data")
    used = add("predict", "print or write the outputs of a saved network for data")
    for parser in (scored, used):
        parser.add_argument("file", metavar="FILE", help="the network")
        parser.add_argument("data", nargs="+", metavar="DATA", help="the data")
        parser.add_argument("--target", metavar="NAME", help="the column of the targets")
        backend(parser)
    scored.add_argument("--metrics", metavar="NAME,NAME", help="f1, recall, r2, ...")
    results(scored)
    used.add_argument("--output", metavar="FILE", help="a .npy or .csv file")
    used.add_argument("--classes", action="store_true", help="the most probable class instead")

    shown = add("show", "print the layers, parameters and metadata of a file; nothing is run")
    shown.add_argument("file", metavar="FILE", help="a .safetensors file")
    results(shown)
    if can_export():
        exported = add("export", "write a saved network to an ONNX file")
        exported.add_argument("file", metavar="FILE", help="the network")
        exported.add_argument("output", metavar="OUTPUT", help="a .onnx file")


def run(chosen: Any) -> int:
    """Run a command, and return its exit status; a mistake of the user is one line of text."""
    try:
        with warnings.catch_warnings(), _warnings_of_nnx(chosen.command):
            # Of an overflow in a formula; an infinite loss ends the training with an error.
            warnings.simplefilter("ignore", RuntimeWarning)
            status = _run(chosen)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # whoever reads the output has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        if chosen.debug:
            raise
        print(f"nnx {chosen.command}: interrupted", file=sys.stderr)
        return 130
    except (*MISTAKES, NonFiniteLossError) as error:
        if chosen.debug:
            raise
        print(f"nnx {chosen.command}: {in_options(line_of(error))}", file=sys.stderr)
        return 1 if isinstance(error, NonFiniteLossError) else 2


class _Lines(logging.Formatter):
    """Messages as lines of this command."""

    def __init__(self, command: str) -> None:
        super().__init__()
        self.command = command

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        return f"nnx {self.command}: {in_options(line_of(record.getMessage()))}"


@contextlib.contextmanager
def _warnings_of_nnx(command: str) -> Iterator[None]:
    """A block in which what nnx warns of is a line of this command."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines(command))
    logger = logging.getLogger("nnx")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _run(chosen: Any) -> int:
    file = getattr(chosen, "json", None)
    _check_json(file)
    _check_outputs(chosen)
    say = (lambda text: None) if file == "-" or getattr(chosen, "quiet", False) else print
    if chosen.command == "train":
        given = {k: v for k, v in vars(chosen).items() if k not in _OTHERS}
        results = train(settings(chosen.data, given), say, quiet=say is not print)
        _write_json(file, results)
        return 130 if results["interrupted"] else 0
    if chosen.command == "evaluate":
        names = chosen.metrics
        found = evaluate(chosen.file, chosen.data, chosen.target, names, chosen.backend)
        for name, value in found.items():
            if value is not None:
                say(f"{name}  {value:.6g}")
        _write_json(file, found)
    elif chosen.command == "predict":
        more = chosen.output, chosen.target, chosen.classes, chosen.backend
        predict(chosen.file, chosen.data, *more)
    elif chosen.command == "show":
        found = show(chosen.file)
        for line in lines_of(found):
            say(line)
        _write_json(file, found)
    else:
        export(chosen.file, chosen.output)
    return 0


_OTHERS = ("command", "data", "debug", "json", "quiet")


def _check_outputs(chosen: Any) -> None:
    """Refuse to write over a file that the command reads."""
    data = getattr(chosen, "data", None) or []
    read = {os.path.realpath(name) for name in [*data, getattr(chosen, "file", None)] if name}
    for option in ("save", "checkpoint", "output", "json"):
        name = getattr(chosen, option, None)
        if name and name != "-" and os.path.exists(name) and os.path.realpath(name) in read:
            raise ValueError(
                f"expected --{option} to be another file than the one that is read, got {name!r} "
                "for both; write another name"
            )


def _check_json(file: str | None) -> None:
    if file not in (None, "-") and not Path(str(file)).parent.is_dir():
        raise ValueError(f"expected --json in a directory that is there, got {file!r}; make it")


def _write_json(file: str | None, found: dict[str, Any]) -> None:
    if file is None:
        return
    text = json.dumps(_finite(found), indent=1, allow_nan=False) + "\n"
    if file == "-":
        print(text, end="")
    else:
        Path(file).write_text(text)


def _finite(data: Any) -> Any:
    """Return plain data with None for NaN and infinite numbers, which JSON does not have."""
    if isinstance(data, dict):
        return {name: _finite(value) for name, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
