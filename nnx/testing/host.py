"""Does a training step leave the values on the device, and what does it ask the device to do?

A GPU works while the host goes on. One `float(loss)` in a step makes the host wait for the GPU, and
then the GPU waits for the host. A test on a CPU does not show that; the step is only slow.
"""

from __future__ import annotations

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
from nnx.synonyms import named
from nnx.testing._places import own_place

__all__ = ["HostReport", "HostSyncError", "Recorder", "assert_no_host_sync"]

INSTEAD = (
    "keep the value on the device: xp.where chooses, xp.minimum(xp.maximum(x, low), high) limits, "
    "a product with a mask selects, shapes come from x.shape; read once per epoch, after the step"
)


class HostSyncError(AssertionError):
    """A step makes the host wait for the device.

    Attributes:
        backend: where it was noticed.
        place: file and line of the step's own code that reads a value.
        code: that line.
        reason: the library's message.
    """

    def __init__(self, backend: str, place: str, code: str, reason: str) -> None:
        super().__init__(backend, place, code, reason)
        self.backend, self.place, self.code, self.reason = backend, place, code, reason

    def __str__(self) -> str:
        return (
            f"the step reads a value of the device, seen on backend {self.backend}\n"
            f"  {self.place}\n    {self.code}\n  {self.reason}\n  {INSTEAD}"
        )


@dataclass
class HostReport:
    """Where a step was watched, and the reason for every backend on which it was not."""

    watched: list[str] = field(default_factory=list)
    not_run: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"no read of the device seen on {', '.join(self.watched)}"]
        lines += [f"  not watched on {spec}: {why}" for spec, why in self.not_run.items()]
        return "\n".join(lines)


@named
def assert_no_host_sync(step: Callable[..., Any], *arguments: Any) -> HostReport:
    """Run a step on backends that notice when the host reads a value of the device.

        assert_no_host_sync(lambda net, x, y: net.step(x, y), net, x, y)

    These are the strict array library, whose reads are made to raise; a device without data; and
    a GPU whose library reports reads. The step runs twice on each.

    Args:
        step: called as step(*arguments). It must take networks and arrays from its arguments, not
            from the code around it, which are on another device.
        arguments: arrays, also NumPy's, are moved to the backend, as are copies of layers, networks
            and other objects with a method `to`. The rest is passed as it is. Your own objects do
            not change.

    Returns:
        The backends on which it was watched, and the others with the reason.

    Raises:
        HostSyncError: it names the line of the step's code that reads a value.
        BackendError: no installed backend can notice a read.
        TypeError: no argument can be moved, or the step uses none that can.
    """
    if not any(map(_is_movable, arguments)):
        raise TypeError(
            "assert_no_host_sync: expected the networks, layers and arrays of the step as "
            "arguments, got none; use assert_no_host_sync(step, net, x, y), with "
            "def step(net, x, y): ..."
        )
    report = HostReport()
    kinds = installed_backends().values()
    for spec in filter(None, (kind.watched for kind in kinds)):
        try:
            backend = resolve(spec, "float32")
        except BackendError as error:
            report.not_run[spec] = error.reason
            continue
        with use_backend(backend):
            watch = backend.forbid_reads()
            if watch is None:
                report.not_run[spec] = "its library does not report reads"
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
        place, code = own_place(error.__cause__ or error, backend.library)
        raise HostSyncError(repr(backend), place, code, str(error)) from error
    if counting is not None and not counts:
        raise TypeError(
            f"assert_no_host_sync: the step made no array operation on {backend}; it must use its "
            "arguments, not arrays of the code around it"
        )


def _is_movable(argument: Any) -> bool:
    return array_api_compat.is_array_api_obj(argument) or hasattr(argument, "to")


def _moved(argument: Any, backend: Backend) -> Any:
    if array_api_compat.is_array_api_obj(argument):
        return backend.asarray(to_numpy(argument).copy())
    return argument.to(backend) if hasattr(argument, "to") else argument


class Recorder:
    """Counts the array operations of a block, so that a test can state a budget.

        with nnx.use_backend("strict"), Recorder() as recorder:
            net.step(x, y)
        assert recorder.counts["matmul"] == 5
        assert recorder.total <= 30

    It counts the calls of functions of the Array API namespace, and operators and subscripts
    under the names of their functions: `x @ W` and `W.T @ x` as "matmul", `x += 1` as "add",
    `x[0]` as "getitem". It does not count what a function calls inside, nor what costs nothing
    (x.T, x.shape). Each operation is about one kernel launch on a GPU. Views (getitem, reshape)
    need no launch, compound functions (mean, var, concat) may need several.

    Only a backend whose library is written in Python can do this: the strict one. For others, pass
    counters.

    Args:
        counters: a function that returns counts so far, by name, for example of kernel launches. It
            is called before and after the block, and the counts are the differences.

    Attributes:
        counts: how often, by name; an absent name has 0.
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
