"""`nnx check`: everything nnx exports, on every backend of this machine, against NumPy.

The items are the classes in `nnx.__all__`. A class that needs arguments, or should be checked with
several, has an entry in `ARGUMENTS`. `nnx.testing.equivalence` says how items are compared and how
close they must be. Before the items, arrays are brought to each backend and back; a backend on
which that fails is not checked further.
"""

from __future__ import annotations

import contextlib
import datetime
import inspect
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

import nnx
from nnx.backend import BackendError, resolve
from nnx.commands.doctor import Environment, environment
from nnx.testing._backend_reports import BackendMismatchError, BackendReport, BackendResult
from nnx.testing._places import error_place
from nnx.testing._probes import PROBES
from nnx.testing._round_trip import missing_functions, round_trip
from nnx.testing.equivalence import check_backends, usable_backends

__all__ = ["ARGUMENTS", "BASES", "CheckRun", "Item", "check", "items"]


class Item(NamedTuple):
    """One thing to check.

    Attributes:
        name: what the report calls it.
        kind: the name of its base class.
        make: makes it on the current backend.
        shape: of its inputs, None if the check has inputs of its own.
        below: if the inputs are tokens, integers from 0 on: their number.
    """

    name: str
    kind: str
    make: Callable[[], Any]
    shape: tuple[int, ...] | None = None
    below: int | None = None

    def inputs(self, rng: np.random.Generator) -> np.ndarray | None:
        """Return inputs for it: normal numbers, or tokens; None if the check has its own."""
        if self.shape is None:
            return None
        if self.below is not None:
            return rng.integers(0, self.below, self.shape)
        return rng.standard_normal(self.shape)


# Base classes, which compute nothing themselves.
BASES = {
    nnx.Activation,
    nnx.Initializer,
    nnx.Loss,
    nnx.Regularizer,
    nnx.Optimizer,
    nnx.Layer,
    nnx.Container,
}


def _network() -> nnx.SequentialNet:
    """Return a network with several activations and optimizers and a penalty."""
    layers = [
        nnx.DenseLayer(20, 30, nnx.ReLU(), nnx.SGD(0.05)),
        nnx.DenseLayer(30, 20, nnx.TanH(), nnx.Adam(), kernel_regularizer=nnx.L2Regularizer()),
        nnx.DenseLayer(20, 5, nnx.SoftMax(), nnx.SGD(0.05, momentum=0.5)),
    ]
    return nnx.SequentialNet(20, layers, nnx.CrossEntropy())


def _two_layers() -> list[nnx.Layer]:
    return [nnx.DenseLayer(6, 6, nnx.TanH()), nnx.DenseLayer(6, 6, nnx.Logistic(), nnx.Adam())]


def _features(n: int) -> np.ndarray:
    """Return samples of n features that differ in mean and deviation."""
    return np.linspace(-1.0, 2.0, 7)[:, None] * np.arange(1.0, n + 1) - 0.5


# Class -> what to append to its name -> how it is made, the shape of its inputs, and for tokens
# their number.
ARGUMENTS: dict[type, dict[str, tuple[Any, ...]]] = {
    nnx.SGD: {
        "": (nnx.SGD, None),
        ", momentum": (lambda: nnx.SGD(0.1, 0.9), None),
        ", Nesterov": (lambda: nnx.SGD(0.1, 0.9, nesterov=True), None),
        ", clipped": (lambda: nnx.SGD(0.1, clip=nnx.ClipNorm(1.0)), None),
        ", schedule": (lambda: nnx.SGD(nnx.CosineSchedule(0.1, 20)), None),
    },
    nnx.DenseLayer: {
        "": (lambda: nnx.DenseLayer(6, 4, nnx.TanH(), nnx.SGD(0.1)), (8, 6)),
        ", penalty": (
            lambda: nnx.DenseLayer(6, 4, kernel_regularizer=nnx.OrthogonalityRegularizer()),
            (8, 6),
        ),
        ", sequence": (lambda: nnx.DenseLayer(6, 4), (3, 5, 6)),
    },
    nnx.EmbeddingLayer: {
        "": (lambda: nnx.EmbeddingLayer(7, 3), (4, 5), 7),
        ", padding": (lambda: nnx.EmbeddingLayer(7, 3, padding_index=0), (4, 5), 7),
    },
    nnx.RNNLayer: {
        "": (lambda: nnx.RNNLayer(3, 4), (4, 5, 3)),
        ", sequences": (lambda: nnx.RNNLayer(3, 4, nnx.ReLU(), return_sequences=True), (4, 5, 3)),
    },
    nnx.LSTMLayer: {
        "": (lambda: nnx.LSTMLayer(3, 4), (4, 5, 3)),
        ", sequences in reverse": (
            lambda: nnx.LSTMLayer(3, 4, return_sequences=True, reverse=True),
            (4, 5, 3),
        ),
    },
    nnx.GRULayer: {
        "": (lambda: nnx.GRULayer(3, 4), (4, 5, 3)),
        ", mask": (lambda: nnx.GRULayer(3, 4, return_sequences=True, mask_value=0.0), (4, 5, 3)),
    },
    nnx.BidirectionalLayer: {
        "": (
            lambda: nnx.BidirectionalLayer(nnx.GRULayer(3, 4), nnx.GRULayer(3, 2, reverse=True)),
            (4, 5, 3),
        ),
    },
    nnx.MultiHeadAttentionLayer: {
        "": (lambda: nnx.MultiHeadAttentionLayer(4, 2), (3, 5, 4)),
        ", causal": (lambda: nnx.MultiHeadAttentionLayer(4, 2, causal=True), (3, 5, 4)),
    },
    nnx.PositionalEncodingLayer: {"": (lambda: nnx.PositionalEncodingLayer(4, 10), (3, 5, 4))},
    nnx.ActivationLayer: {"": (lambda: nnx.ActivationLayer(nnx.TanH()), (8, 6))},
    nnx.SequentialLayer: {"": (lambda: nnx.SequentialLayer(_two_layers()), (8, 6))},
    nnx.MaskedLayer: {"": (lambda: nnx.MaskedLayer(nnx.DenseLayer(6, 4)), (3, 5, 6))},
    nnx.ResidualLayer: {"": (lambda: nnx.ResidualLayer(_two_layers()), (8, 6))},
    nnx.ParallelLayer: {
        "": (lambda: nnx.ParallelLayer([nnx.DenseLayer(6, 3), nnx.DenseLayer(6, 2)]), (8, 6)),
        ", sum": (lambda: nnx.ParallelLayer(_two_layers(), "sum"), (8, 6)),
        ", one shared layer": (lambda: nnx.ParallelLayer([nnx.DenseLayer(6, 3)] * 2), (8, 6)),
    },
    nnx.BatchNormLayer: {
        "": (lambda: nnx.BatchNormLayer(3), (8, 3)),
        ", images": (lambda: nnx.BatchNormLayer(3, optim=nnx.Adam()), (4, 3, 2, 5)),
        ", not affine": (lambda: nnx.BatchNormLayer(3, affine=False), (8, 3)),
    },
    nnx.LayerNormLayer: {
        "": (lambda: nnx.LayerNormLayer(6), (8, 6)),
        ", two axes": (lambda: nnx.LayerNormLayer((2, 5)), (4, 3, 2, 5)),
    },
    nnx.GroupNormLayer: {
        "": (lambda: nnx.GroupNormLayer(2, 6), (8, 6)),
        ", images": (lambda: nnx.GroupNormLayer(3, 6), (4, 6, 2, 5)),
    },
    nnx.DropoutLayer: {"": (lambda: nnx.DropoutLayer(0.3), (8, 6))},
    nnx.GaussianNoiseLayer: {"": (lambda: nnx.GaussianNoiseLayer(0.5), (8, 6))},
    nnx.RandomFlipLayer: {"": (lambda: nnx.RandomFlipLayer(True, True), (8, 2, 4, 5))},
    nnx.RandomShiftLayer: {"": (lambda: nnx.RandomShiftLayer((2, 1)), (8, 2, 4, 5))},
    nnx.CutoutLayer: {"": (lambda: nnx.CutoutLayer((2, 3)), (8, 2, 4, 5))},
    nnx.RescalingLayer: {"": (lambda: nnx.RescalingLayer(0.5, -1.0), (8, 6))},
    nnx.StandardizeLayer: {
        "": (lambda: nnx.StandardizeLayer(6).fit(_features(6)), (8, 6)),
        ", images": (lambda: nnx.StandardizeLayer(3).fit(_features(3)), (4, 3, 2, 5)),
        ", last axis": (lambda: nnx.StandardizeLayer(6, -1).fit(_features(6)), (3, 5, 6)),
    },
    nnx.Conv1DLayer: {
        "": (lambda: nnx.Conv1DLayer(3, 4, 3, nnx.TanH(), nnx.SGD(0.1)), (5, 3, 9)),
        ", strided": (lambda: nnx.Conv1DLayer(2, 4, 3, stride=2, dilation=2), (3, 2, 10)),
    },
    nnx.Conv2DLayer: {
        "": (lambda: nnx.Conv2DLayer(3, 4, 3, nnx.TanH(), nnx.SGD(0.1)), (4, 3, 7, 6)),
        ", same": (lambda: nnx.Conv2DLayer(2, 3, (2, 3), padding="same", bias=False), (3, 2, 5, 5)),
        ", strided": (
            lambda: nnx.Conv2DLayer(4, 6, 3, stride=2, padding=1, dilation=(1, 2), groups=2),
            (3, 4, 7, 8),
        ),
    },
    nnx.ConvTranspose2DLayer: {
        "": (lambda: nnx.ConvTranspose2DLayer(3, 4, 3, nnx.TanH(), nnx.SGD(0.1)), (4, 3, 4, 5)),
        ", strided": (
            lambda: nnx.ConvTranspose2DLayer(
                4, 6, 3, stride=2, padding=1, output_padding=1, groups=2
            ),
            (3, 4, 3, 4),
        ),
    },
    nnx.MaxPool2DLayer: {
        "": (nnx.MaxPool2DLayer, (4, 3, 6, 7)),
        ", overlapping": (lambda: nnx.MaxPool2DLayer(3, 2, "same"), (4, 3, 6, 7)),
    },
    nnx.AvgPool2DLayer: {
        "": (nnx.AvgPool2DLayer, (4, 3, 6, 7)),
        ", overlapping": (lambda: nnx.AvgPool2DLayer(3, 2, "same", False), (4, 3, 6, 7)),
    },
    nnx.GlobalAvgPoolLayer: {"": (nnx.GlobalAvgPoolLayer, (4, 3, 5, 6))},
    nnx.FlattenLayer: {"": (nnx.FlattenLayer, (4, 3, 2, 5))},
    nnx.PermuteLayer: {"": (lambda: nnx.PermuteLayer((3, 1, 2)), (4, 3, 2, 5))},
    nnx.ReshapeLayer: {"": (lambda: nnx.ReshapeLayer((2, -1)), (4, 3, 6))},
    nnx.ZeroPadding2DLayer: {
        "": (lambda: nnx.ZeroPadding2DLayer(((1, 2), (0, 3))), (4, 3, 2, 5)),
    },
    nnx.UpSampling2DLayer: {"": (lambda: nnx.UpSampling2DLayer((2, 3)), (4, 3, 2, 5))},
    nnx.SequentialNet: {", training": (_network, (200, 20))},
}


def items() -> list[Item]:
    """Return all exported activations, initializers, layers, losses, optimizers and so on."""
    exported = dict.fromkeys(getattr(nnx, name) for name in nnx.__all__)  # leakyReLU is LeakyReLU
    return list(_items(list(exported)))


def _items(exported: Sequence[Any]) -> Iterator[Item]:
    done = set(BASES)  # a network is a layer, too
    for base in PROBES:
        for kind in exported:
            if inspect.isclass(kind) and issubclass(kind, base) and kind not in done:
                done.add(kind)
                made = ARGUMENTS.get(kind, {"": (kind, None)})
                for suffix, entry in made.items():
                    yield Item(kind.__name__ + suffix, base.__name__, *entry)


@dataclass(frozen=True)
class CheckRun:
    """What `nnx check` found.

    Attributes:
        backends: what was checked.
        quick: whether it was the short form.
        reports: that of the round trip, then one for each item, in the order of `items()`.
        environment: of this machine.
        seconds: how long it took.
    """

    backends: list[str]
    quick: bool
    reports: list[BackendReport]
    environment: Environment
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether every item passed on every backend."""
        return len(self.reports) > 1 and all(report.passed for report in self.reports)

    @property
    def left_out(self) -> list[str]:
        """The backends that failed the round trip, on which nothing else was checked."""
        return list(dict.fromkeys(result.backend for result in self.reports[0].failures))

    @property
    def verdict(self) -> str:
        """The result in one line."""
        where = f"{len(self.reports) - 1} items on {', '.join(self.backends)}"
        failed = [report.item for report in self.reports[1:] if not report.passed]
        lines = []
        if self.left_out:
            lines.append(f"NOT CHECKED: {', '.join(self.left_out)}: the round trip failed")
        if failed:
            lines.append(f"THE BACKENDS DISAGREE: {len(failed)} of {where}: {'; '.join(failed)}")
        if lines:
            return "; ".join(lines)
        results = [result for report in self.reports for result in report.results]
        worst = max(results, key=lambda result: result.error)
        return (
            f"the backends agree: {where}, {len(results)} comparisons within their tolerances; the "
            f"largest error is {worst.error:.2f} of its tolerance "
            f"({worst.item} on {worst.backend} in {worst.dtype}: {worst.quantity})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain values, for JSON."""
        return {
            "nnx": nnx.__version__,
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "passed": self.passed,
            "verdict": self.verdict,
            "backends": self.backends,
            "left_out": self.left_out,
            "quick": self.quick,
            "seconds": round(self.seconds, 1),
            "environment": self.environment.to_dict(),
            "items": [report.to_dict() for report in self.reports],
        }


def check(
    backends: Sequence[str] | None = None,
    quick: bool = False,
    tell: Callable[[int, int, str], Any] = lambda done, of, name: None,
) -> CheckRun:
    """Compare every item on the backends with NumPy in float64.

    Args:
        backends: their names; all that are usable if not given.
        quick: only float32, and 50 steps of training instead of 200.
        tell: called before each item with the number of items done, that of all, and its name.

    Raises:
        BackendError: a requested backend is not usable; it carries the remedy.
    """
    start, machine = time.perf_counter(), environment()
    specs = usable_backends() if backends is None else list(dict.fromkeys(backends))
    for spec in specs:
        resolve(spec, "float32")
    dtypes = ("float32",) if quick else ("float32", "float64")
    first = _round_trips(specs, dtypes)
    able = [spec for spec in specs if spec not in {result.backend for result in first.failures}]
    todo, reports = items() if able else [], [first]
    for done, item in enumerate(todo):
        tell(done, len(todo), item.name)
        reports.append(_check(item, able, dtypes, 50 if quick else 200))
    return CheckRun(specs, quick, reports, machine, time.perf_counter() - start)


def _round_trips(specs: list[str], dtypes: tuple[str, ...]) -> BackendReport:
    """Bring arrays to every backend and back, and note which functions its namespace lacks."""
    report = BackendReport("round trip")
    for spec in specs:
        for dtype in dtypes:
            with contextlib.suppress(BackendError):  # a dtype it lacks; the items note that
                report.results += round_trip(resolve(spec, dtype), spec)
        if missing := missing_functions(resolve(spec, "float32")):
            report.notes.append(
                f"{spec}: its namespace lacks {', '.join(missing)}; what uses them fails"
            )
    return report


def _check(item: Item, specs: list[str], dtypes: tuple[str, ...], steps: int) -> BackendReport:
    x = item.inputs(np.random.default_rng(0))
    try:
        return check_backends(
            item.make, x, backends=specs, dtypes=dtypes, steps=steps, name=item.name
        )
    except BackendMismatchError as mismatch:
        return mismatch.report
    except Exception as error:  # on NumPy itself: an item that is broken must not hide the others
        given = f"{type(error).__name__}: {error}"
        hint = "what the item needs in nnx.commands.check.ARGUMENTS; what its own tests say"
        where = (item.name, "numpy", dtypes[0], "run")
        place = error_place(error, "numpy")
        failed = BackendResult(*where, math.inf, 0.0, "no error", given, hint, place)
        return BackendReport(item.name, [failed])
