"""What a backend may do besides: each method has a default that suits a library without it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, NamedTuple

import numpy as np

from nnx.backend.namespace import Array

__all__ = ["OptionalHooks", "Problem", "Uploader"]


class Problem(NamedTuple):
    """Something on this machine that should be fixed: what it is, and how to fix it."""

    reason: str
    remedy: str


class Uploader:
    """Moves blocks of arrays to the device while it works on those before.

    One thread moves blocks, with `upload`; another one uses them, with the other methods. At most
    two blocks are on the device at a time, the one in use and the next.

    Args:
        backend: whose device it is.
    """

    def __init__(self, backend: Any) -> None:
        self.backend = backend

    def upload(self, arrays: Sequence[np.ndarray]) -> Any:
        """Begin to move arrays, which nobody else writes to; return a ticket for them."""
        with self.backend.selected():
            return tuple(self.backend.from_numpy(array) for array in arrays)

    def arrived(self, ticket: Any) -> tuple[Array, ...]:
        """Return the arrays on the device; work that is asked for from now on sees their values."""
        return ticket

    def used(self, ticket: Any) -> None:
        """Tell that all work that reads these arrays has been asked for."""

    def close(self) -> None:
        """Free what the moving needed."""


class OptionalHooks:
    """The optional methods of a `Backend`, with defaults: advice, speed, and tools for tests."""

    name: ClassVar[str]

    def facts(self) -> dict[str, str]:
        """Return what a bug report should contain: drivers, threads, precision of products."""
        return {}

    def problems(self) -> list[Problem]:
        """Return what is likely to be slow or wrong on this machine though the backend works."""
        return []

    def try_out(self) -> None:
        """Compute something small that needs all parts of the library, for `nnx doctor`.

        Raises:
            BackendError: it does not work; with what to do.
        """

    def evaluate(self, arrays: Sequence[Array]) -> list[Array]:
        """Return the arrays with their values computed.

        This is for lazy libraries, whose arrays hold the graph of all operations since the last
        evaluation: for dask `list(dask.persist(*arrays))`, for MLX `mx.eval(*arrays)`.
        """
        return list(arrays)

    def compile_loop(self, step: Callable[..., Any]) -> Callable[..., Any] | None:
        """Return a compiled loop over steps, or None if the library does not trace.

        A step is a function (carry, row, data) -> (carry, output) of arrays in dicts, lists and
        tuples. The loop takes the first carry, rows that are stacked along the first axis, and
        the data; it returns the last carry and the stacked outputs. Its arguments stay usable.
        """
        return None

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function of arrays, or of lists of them, compiled if the library traces.

        The library finds what it has compiled by the function, which somebody must therefore hold.
        """
        return function

    def elementwise(self, formula: Callable[[Array], tuple[Array, ...]], x: Array) -> Any:
        """Return what `nnx.backend.elementwise` does; None to compute the formula of all of x."""
        return None

    def erfc(self, k: float, x: Array) -> Array | None:
        """Return 1 - erf(k x), to a few epsilon of itself, or None if the library has no such."""
        return None

    def add_product(self, x: Array, a: Array, b: Array) -> Array | None:
        """Return x + a b, which may be x itself, or None if `x += a * b` is as good."""
        return None

    def subtract_quotient(self, x: Array, factor: float, a: Array, b: Array) -> Array | None:
        """Return x - factor a / b, which may be x itself, or None if operators are as good."""
        return None

    def row_means(self, a: Array, b: Array) -> Array | None:
        """Return what `nnx.backend.row_means` does, or None if a mean of products is as good."""
        return None

    def transposed_product(self, a: Array, b: Array) -> Array | None:
        """Return a^T b, with samples along the first axes, or None if `a.T @ b` is as good."""
        return None

    def scan(
        self, step: Callable[..., Any], carry: Any, rows: Any, reverse: bool
    ) -> tuple[Any, Any] | None:
        """Return what `nnx.backend.scan` does, or None if a Python loop is as good."""
        return None

    def lstm(
        self,
        x: Array,
        parameters: Mapping[str, Array],
        reverse: bool,
        return_sequences: bool,
        training: bool,
    ) -> tuple[Array, Callable[..., tuple[Array, dict[str, Array]]]] | None:
        """Return an LSTM of x and its backward; None if a loop over time is as good.

            z_t = x_t W_ih^T + b_ih + h_(t-1) W_hh^T + b_hh, in blocks i, f, g, o of its columns
            c_t = s(z_f) c_(t-1) + s(z_i) tanh(z_g),   h_t = s(z_o) tanh(c_t)

        with s(z) = 1 / (1 + exp(-z)), and the first c and h zero. backward(delta, need_dx=True)
        returns dx, or None, and the gradients by name, arrays of their own.

        Args:
            x: (samples, time, ni).
            parameters: W_ih (4 no, ni), W_hh (4 no, no), b_ih and b_hh (4 no,).
            reverse: process time from the last step to the first; the output of step t stays at t.
            return_sequences: the value is all h, (samples, time, no), instead of that of the step
                that is processed last, (samples, no).
            training: whether backward is likely to be called; it works in any case.
        """
        return None

    def uploader(self) -> Uploader:
        """Return what moves blocks of data to the device during a training."""
        return Uploader(self)

    def sum_rows(self, rows: Array, index: Array, count: int) -> Array | None:
        """Return (count, n), at i the sum of the rows with index i, added in a fixed order.

        None if the library has no fast way whose results can be repeated; see
        `nnx.backend.sum_rows`.
        """
        return None

    def slides(self, x: Array) -> bool:
        """Return whether there is a `sliding`, and many small products are as fast as a large one.

        They are where a product fits in the cache; on a GPU each is a launch.
        """
        return False

    def sliding(self, x: Array, positions: tuple[int, int], taps: tuple[int, int]) -> Array:
        """Return windows that slide along the first axis, as a view that is only read.

        (size, ...) -> (positions, taps, ...), at (p, t) the cell p stride + t dilation; all of
        these exist. See `slides`.

        Args:
            x: an array.
            positions: number of positions, and the stride, the distance from one to the next.
            taps: number of taps, and the dilation, the distance from one to the next.
        """
        raise NotImplementedError(f"backend {self.name!r} has no views that overlap")

    def fuse_rule(self, rule: Callable[..., Any], states: int) -> Callable[..., None] | None:
        """Return an optimizer's rule, with this many state arrays, as one kernel.

        fused(p, g, state, factors) leaves in p and state what the rule returns, computed by the
        rule's own formulas. None if an operation costs no kernel launch.
        """
        return None

    def rehearse(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Run a function on the shapes of its arguments alone, if the library traces.

        Raises:
            HostReadError: the function reads values.
        """
        raise NotImplementedError(f"backend {self.name!r} does not trace")

    def gradient(
        self, function: Callable[..., Array], arrays: Sequence[Array]
    ) -> list[Array] | None:
        """Return the gradients of a 0-d function(*arrays) by the library's own differentiation.

        One for each array, of its shape; None if the library does not differentiate.
        """
        return None

    def forbid_reads(self) -> AbstractContextManager[None] | None:
        """Return a block in which reading a value on the host raises HostReadError.

        None if reads on this device cannot be noticed; `watched` names a device where they can.
        """
        return None

    def peak_memory(self) -> AbstractContextManager[Callable[[], int]] | None:
        """Return a block whose value is a function: how many bytes it took at most, so far.

        What was there at its start does not count. None if the library does not tell.
        """
        return None

    def fast_arithmetic(self) -> AbstractContextManager[None]:
        """Return a block in which numbers below the smallest normal number may count as 0.

        A GPU always treats them so; the processor of a host is slow with them.
        """
        return nullcontext()

    def for_tests(self) -> AbstractContextManager[None]:
        """Return a block in which the library refuses as much as it can, for a test."""
        return nullcontext()

    def count_operations(self, count: Callable[[str], None]) -> AbstractContextManager[None] | None:
        """Return a block in which count(name) is called for every array operation.

        None if the library cannot do this.
        """
        return None
