"""The parser of the command line: one line for a mistake, with what was probably meant."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Iterable, Sequence
from typing import NoReturn

__all__ = ["Parser", "line_of", "option_meant"]

# What other programs call an option -> what to write.
OPTIONS = {
    "lr learning_rate eta": 'optimizer "sgd 0.1"',
    "model architecture net network hidden units activation layer": 'layers "dense 10 softmax"',
    "batch bs b": "batch_size",
    "dropout": 'layers "dense 100 relu, dropout 0.5, dense 10 softmax"',
    "weight_decay wd": 'optimizer "adamw 0.001 weight_decay=0.01"',
    "momentum": 'optimizer "sgd 0.1 momentum=0.9"',
    "n_epochs num_epochs e iterations": "epochs",
    "device gpu cuda": "backend",
    "val val_split validation_split validation_data valid": "validation",
    "out output o output_dir save_model": "save",
    "resume restore": "checkpoint",
    "label labels y target_column targets": "target",
    "drop exclude skip": "ignore",
    "criterion cost objective": "loss",
    "opt optim solver": "optimizer",
    "random_state": "seed",
    "verbose silent": "quiet",
    "precision": "dtype",
    "normalize normalise standardise scale scaling scaler rescale": "standardize",
    "device devices gpus": "backends",
    "save out o": "output",
    "fast short": "quick",
    "np nproc workers": "processes",
}
# What other programs call a command -> the command.
COMMANDS = {
    "fit learn": "train",
    "test score eval accuracy": "evaluate",
    "infer inference apply transform forward": "predict",
    "benchmark time speed profile timeit": "bench",
    "info inspect summary print describe cat": "show",
    "devices gpus list": "backends",
    "mpirun mpiexec launch torchrun exec": "run",
    "onnx convert": "export",
    "diagnose env": "doctor",
    "compare selftest": "check",
    "help h": "--help",
    "version v": "--version",
}
KINDS = {"int": "an integer", "float": "a number"}


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line: what was expected, what came, what to do."""

    def error(self, message: str) -> NoReturn:
        """Print what is wrong, and exit with 2."""
        own = [name[2:].replace("-", "_") for name in self._option_string_actions if len(name) > 2]
        if found := re.match(r"unrecognized arguments:.*? --?(\w[\w-]*)", message):
            name, _, value = option_meant(found[1], own).partition(" ")
            if name:
                message += f"; did you mean --{name.replace('_', '-')}{value and ' '}{value}?"
        elif (found := re.match(r"unrecognized arguments: (\S+)", message)) and "backends" in own:
            message += f"; write --backends {found[1]}"
        elif message.startswith("unrecognized arguments") and "layers" in own:
            message += '; put a text between quotes: --layers "dense 10 softmax"'
        elif found := re.match(r"argument COMMAND: invalid choice: '(.*?)'.*\((.*)\)", message):
            self.refuse(found[1], re.findall(r"[\w-]+", found[2])[2:])  # choose from
        elif found := re.match(r"argument ([\w-]+).*: invalid (int|float) value: (.*)", message):
            message = f"expected {found[1]} to be {KINDS[found[2]]}, got {found[3]}; write a number"
        elif found := re.match(r"argument ([\w-]+).*: expected one argument", message):
            action = self._option_string_actions[found[1]]
            message = f"expected a value after {found[1]}, got none; write {found[1]} "
            message += str(action.metavar)
        self.exit(2, f"{self.prog}: {line_of(message)}; see {self.prog} --help\n")

    def refuse(self, name: str, known: Sequence[str]) -> NoReturn:
        """Say that a name is not one of the known commands, and exit with 2."""
        close = _meant(name.lower().lstrip("-"), COMMANDS, known) if name else ""
        got = repr(name) if name else "none"
        hint = f"; did you mean {self.prog} {close}?" if close else ""
        self.error(f"expected a command ({', '.join(known)}), got {got}{hint}")


def option_meant(name: str, known: Iterable[str]) -> str:
    """Return what an option or key of another name is called here; empty if it is not known.

    Args:
        name: without the hyphens before it.
        known: the options that are there, with _ for -.
    """
    return _meant(name.lower().replace("-", "_"), OPTIONS, known)


def line_of(message: object) -> str:
    """Return a message of several lines as one."""
    lines = [" ".join(line.split()) for line in str(message).splitlines() if line.strip()]
    ends = [" " if line[-1] in ":;,." else "; " for line in lines]
    return "".join(line + end for line, end in zip(lines, ends, strict=True)).rstrip("; ")


def _meant(name: str, elsewhere: dict[str, str], known: Iterable[str]) -> str:
    """Return what a name stands for: what the table says if it is known, or what is like it."""
    there = {name: name for name in known}
    stands_for: dict[str, str] = {}
    for names, text in elsewhere.items():
        if text.partition(" ")[0] in there or text[0] == "-":
            stands_for |= dict.fromkeys(names.split(), text)
    stands_for |= there
    close = difflib.get_close_matches(name, stands_for, n=1)
    return stands_for[close[0]] if close else ""
