"""Shared by the experiments of the course: options, data, tables and pictures."""

import argparse
import csv
import math
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

import nnx
from nnx import plotting


def arguments(description, **extra):
    """Parse the options of an experiment that trains; `extra` holds its additional ones."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--backend", help="numpy (default), cupy, cupy:1, torch, jax, strict")
    parser.add_argument("--dtype", choices=["float32", "float64"])
    parser.add_argument("--dataset", choices=nnx.datasets.names(), help="use this one and no other")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--limit", type=int, help="train only on this many samples, the first")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default="out", help="folder of the CSV and PNG files")
    for name, options in extra.items():
        parser.add_argument(f"--{name}", **options)
    args = parser.parse_args()
    if args.epochs < 1:
        parser.error("--epochs must be 1 or more")
    return args


def start(backend, dtype, out):
    """Choose the backend; fail now, and not at the end, if Matplotlib is missing."""
    plotting.require_matplotlib()
    out.mkdir(parents=True, exist_ok=True)
    backend = nnx.set_backend(backend, dtype=dtype)
    where = f"{backend.name} {backend.version}, {backend.device_name()}, {backend.dtype_name}"
    print(f"backend {where}")


def load(name, limit, flat=True):
    """Load a dataset; without a name MNIST, or scikit-learn's digits if it cannot be had."""
    if name:
        data = nnx.datasets.load(name, flat=flat)
    else:
        try:
            name, data = "mnist", nnx.datasets.load("mnist", flat=flat)
        except nnx.datasets.DatasetNotFoundError:
            print("MNIST is not here and cannot be downloaded; using scikit-learn's 8x8 digits")
            name, data = "digits", nnx.datasets.load("digits", flat=flat)
    x_train, y_train, x_test, y_test = data
    x_train, y_train = x_train[:limit], y_train[:limit]
    print(f"{name}: {len(x_train)} digits for training, {len(x_test)} for the test")
    return x_train, y_train, x_test, y_test


def report(title, rows, path):
    """Print rows, dicts from column to value, as a table; write them unrounded to a CSV file."""
    table = Table(
        title=title, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0)
    )
    for column, value in rows[0].items():
        is_text = isinstance(value, str)
        table.add_column(column, justify="left" if is_text else "right", no_wrap=column != "remark")
    for row in rows:
        table.add_row(*map(shown, row.values()))
    Console().print(table)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"written {path}")


def shown(value):
    """Return a number with four digits, and an empty text for NaN."""
    if not isinstance(value, float):
        return str(value)
    return "" if math.isnan(value) else f"{value:#.4g}"


def save(figure, path):
    figure.savefig(path)
    print(f"written {path}")


def draw_digits(net, x, y, path):
    """Draw ten digits with label and guess, and the first ten that the network gets wrong."""
    guesses = nnx.to_numpy(net.predict(x)).argmax(axis=1)
    chosen = [*range(10), *np.flatnonzero(guesses[10:] != y[10:])[:10] + 10]
    save(plotting.plot_digits(x[chosen], y[chosen], guesses[chosen]), path)
