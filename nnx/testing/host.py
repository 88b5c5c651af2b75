"""Does a training step leave the values on the device, and what does it ask the device to do?

A GPU works behind the host's back. One `float(loss)` in a step makes the host wait for it, and
the device then waits for the host: nothing on a CPU shows that, the step is only slow.
"""

from __future__ import annotations

import linecache
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from typing import Any

import array_api_compat

from nnx.backend import (
    Backend,
    BackendError,
    HostReadError,
    get_backend,
    installed_backends,
    resolve,
    to_numpy,
    use_backend,
)

__all__ = ["HostReport", "HostSyncError", "Recorder", "assert_no_host_sync"]

INSTEAD = (
    "keep the value on the device: xp.where chooses, xp.minimum(xp.maximum(x, low), high) limits, "
    "a product with a mask selects, shapes come from x.shape; read once per epoch, after the step"
)
# Code between a step and its array library, besides that library itself.
BETWEEN = {"array_api_compat", "contextlib", "nnx.backend", "nnx.testing", "nnx_backends", "numpy"}


class HostSyncError(AssertionError):
    """A step makes the host wait for the device.

    Attributes:
        backend: where it was noticed.
        place: file and line of the step's own code that reads a value.
    """

    def __init__(self, backend: str, place: str, code: str, reason: str) -> None:
        super().__init__(
            f"the step reads a value of the device, seen on backend {backend}\n"
            f"  {place}\n    {code}\n  {reason}\n  {INSTEAD}"
        )
        self.backend, self.place = backend, place


@dataclass
class HostReport:
    """Where a step was watched, and the reason for every backend where it was not."""

    watched: list[str] = field(default_factory=list)
    not_run: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"no read of the device seen on {', '.join(self.watched)}"]
        lines += [f"  not watched on {spec}: {why}" for spec, why in self.not_run.items()]
        return "\n".join(lines)


def assert_no_host_sync(step: Callable[..., Any], *arguments: Any) -> HostReport:
    """Run a step where it is noticed when the host reads a value of the device.

        assert_no_host_sync(lambda net, x, y: net.step(x, y), net, x, y)

    It is noticed where installed backends say so: on the strict array library, where reading is
    made to raise; on a device without any data; on a GPU whose library tells. The step runs twice
    on each.

    Args:
        step: called as step(*arguments). It must take networks and arrays from its arguments, not
            from the code around it: those live elsewhere.
        arguments: arrays are moved to the backend, NumPy's too, and so are copies of what has
            `to`, as layers and networks have; the rest is passed as it is. Your own objects stay
            where and as they are.

    Returns:
        Where it was watched, and where not, with the reason.

    Raises:
        HostSyncError: it names the line of the step's code that reads a value.
        BackendError: no installed backend can notice a read.
        TypeError: nothing is among the arguments, or nothing of them is used, that can be moved.
    """
    if not any(map(_is_movable, arguments)):
        raise TypeError(
            "assert_no_host_sync: expected the networks, layers and arrays of the step as "
            "arguments, got none; say assert_no_host_sync(step, net, x, y), with "
            "def step(net, x, y): ..."
        )
    report = HostReport()
    kinds = installed_backends().values()
    for spec in filter(None, (getattr(kind, "watched", None) for kind in kinds)):
        try:
            backend = resolve(spec, "float32")
        except BackendError as error:
            report.not_run[spec] = error.reason
            continue
        with use_backend(backend):
            watch = backend.forbid_reads()
            if watch is None:
                report.not_run[spec] = "its library cannot tell when a value is read"
            else:
                _watch(step, arguments, backend, watch)
                report.watched.append(spec)
    if not report.watched:
        reasons = "; ".join(f"{spec}: {why}" for spec, why in report.not_run.items())
        raise BackendError(
            f"no installed backend notices when a value is read: {reasons}",
            'pip install "nnx-array[test]"',
        )
    return report


def _watch(
    step: Callable[..., Any],
    arguments: Sequence[Any],
    backend: Backend,
    watch: AbstractContextManager[None],
) -> None:
    moved = [_moved(argument, backend) for argument in arguments]
    counts: Counter[str] = Counter()
    counting = backend.count_operations(lambda name: counts.update([name]))
    try:
        with watch, counting or nullcontext():
            step(*moved)
            step(*moved)
    except HostReadError as error:
        place, code = _place(error.__cause__ or error, backend)
        raise HostSyncError(repr(backend), place, code, str(error)) from error
    if counting is not None and not counts:
        raise TypeError(
            f"assert_no_host_sync: the step made no array operation on {backend}; it must work "
            "with its arguments, not with arrays of the code around it"
        )


def _place(error: BaseException, backend: Backend) -> tuple[str, str]:
    """File and line, and the code, of the innermost frame outside the array libraries."""
    place, code = "unknown place", ""
    for frame, number in traceback.walk_tb(error.__traceback__):
        module = frame.f_globals.get("__name__", "")
        names = {module, module.partition(".")[0], ".".join(module.split(".")[:2])}
        if not names & {*BETWEEN, backend.library}:
            file = frame.f_code.co_filename
            place = f"{file}:{number}, in {frame.f_code.co_qualname}"
            code = linecache.getline(file, number).strip()
    return place, code


def _is_movable(argument: Any) -> bool:
    return array_api_compat.is_array_api_obj(argument) or hasattr(argument, "to")


def _moved(argument: Any, backend: Backend) -> Any:
    if array_api_compat.is_array_api_obj(argument):
        return backend.asarray(to_numpy(argument).copy())
    return argument.to(backend) if hasattr(argument, "to") else argument


class Recorder:
    """Counts what a block asks an array library to do, so that a test can state a budget.

        with nnx.use_backend("strict"), Recorder() as recorder:
            net.step(x, y)
        assert recorder.counts["matmul"] == 5
        assert recorder.total <= 30

    It counts the calls of functions of the Array API namespace, and operators and subscripts
    under the names of their functions: `x @ W` and `W.T @ x` as "matmul", `x += 1` as "add",
    `x[0]` as "getitem". What a function does inside, and what costs nothing (x.T, x.shape), is not
    counted. Each operation is about one kernel launch on a GPU, except views (getitem, reshape),
    which are none, and compound functions (mean, var, concat), which may be several.

    Only a backend whose library is written in Python can do this: the strict one. Counters of
    another kind are passed in.

    Args:
        counters: a function that returns counts so far, by name: of kernel launches, say. It is
            called before and after the block, and the counts are the differences.

    Attributes:
        counts: how often, by name; an absent name counts 0.
        total: their sum.

    Raises:
        BackendError: there are no `counters`, and the backend in use cannot count.
    """

    def __init__(self, counters: Callable[[], Mapping[str, int]] | None = None) -> None:
        self.counts: Counter[str] = Counter()
        self._counters = counters
        self._stack = ExitStack()

    @property
    def total(self) -> int:
        """The number of all operations."""
        return self.counts.total()

    def __enter__(self) -> Recorder:
        self.counts.clear()
        if self._counters is None:
            backend = get_backend()
            counting = backend.count_operations(lambda name: self.counts.update([name]))
            if counting is None:
                raise BackendError(
                    f"backend {backend.name!r} cannot count its array operations",
                    'count on the strict one: with nnx.use_backend("strict"), Recorder() as r: ...',
                )
            self._stack.enter_context(counting)
        else:
            self._stack.callback(self._count, dict(self._counters()), self._counters)
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def _count(self, before: Mapping[str, int], counters: Callable[[], Mapping[str, int]]) -> None:
        after = Counter(counters())
        after.subtract(before)
        self.counts.update({name: number for name, number in after.items() if number})
