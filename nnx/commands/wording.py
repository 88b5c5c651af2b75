"""Messages of Python's functions in the words of the command line."""

from __future__ import annotations

import re

from nnx.commands.train import OPTIONS

__all__ = ["in_options"]

# What Python's functions say -> what the command line says.
IN_OPTIONS = [
    (r"^(train|score|predict|seed|StandardizeLayer\.fit):? ", ""),
    (r"\[Errno \d+\] (expected a file), (.*?),? instead of this: (.*)", r"\1 at \3, \2"),
    (r"^\[Errno \d+\] (cannot read: )?", "cannot read or write: "),
    (r"expected number to be", "expected --seed to be"),
    (r"(a fraction in \(0, 1\)), \(x, y\) or \(x, y, weights\)", r"\1"),
    (r"use QuadraticCost for other targets", "--loss meansquarederror for other targets"),
    (r"use nnx\.set_backend\(\"(\w+)\"\)", r"use --backend \1"),
    (r"for terms that do not count: pass ignore_label=\S+, or ", ""),
    (r"FlattenLayer\(\), or a recurrent", "flatten, or a recurrent"),
    (r"pass a function f\(outputs, targets\)", "choose one of these"),
    (r"nnx\.set_backend\(\"[\w:]+\", dtype=\"(\w+)\"\)", r"write --dtype \1"),
    (r"nnx\.load reads the network in it, and .*", "name another file for --checkpoint"),
    (r"arrays with the names of parameters are read by .*", "name a file of nnx train --save"),
    (r"leave out resume= to", "name another file for --checkpoint to"),
    (r"; to list them: write numpy\.argwhere.*", ""),
    (r" The epochs before it are in \.history", ""),
    (r"; convert text first: \w+\(.*?\)", "; write a number there"),
    (r"\b(give )?the network ([A-Z]\w+\(\))", r"--loss \2"),
    (r"the last layer (?=[A-Z]\w+\(\)|\d+ outputs)", "the last of --layers "),
    (r"\b[A-Z]\w+\(\)", lambda found: found[0][:-2].lower()),
]


def in_options(text: str) -> str:
    """Return a message of Python's functions in the words of the command line."""
    for pattern, words in IN_OPTIONS:
        text = re.sub(pattern, words, text)  # type: ignore[call-overload]
    for name in OPTIONS.keys() - {"data", "layers", "optimizer", "loss"}:  # said of keys in TOML
        option = f"--{name.replace('_', '-')}"
        text = re.sub(rf"\bexpected {name} (to be|at)\b", rf"expected {option} \1", text)
        text = re.sub(rf"\b(write|pass) {name}=([\w.\"']+)", rf"\1 {option} \2", text)
    return text
