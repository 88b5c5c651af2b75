"""O = softmax(Q K^T) V, all scores at once, or a block of queries at a time.

With S = K Q^T, of which a column holds the scores of a query, E = exp(S - max(S)) and z = sum(E)
down the columns, O = E^T V / z. Sums down columns are faster than sums along rows, and E^T V / z
divides fewer numbers than softmax(S) = E / z. Backward, with d = dO / z:

    dV = E d,  dS = E (V d^T - sum(E (V d^T)) / z),  dQ = dS^T K,  dK = dS Q.

A block of queries has columns of its own, so that blocks change nothing but the order in which
dK and dV are summed. The backward of a block computes its E again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nnx.backend import Array, array_namespace, scan, whole

__all__ = ["attend"]

# So many scores are kept at a time, 16 MiB of float32.
SCORES = 1 << 22

Hidden = Callable[..., Array]
Backward = Callable[[Array], tuple[Array, Array, Array]]


def attend(
    Q: Array,
    K: Array,
    V: Array,
    hidden: Hidden | None = None,
    queries: Sequence[Array] = (),
) -> tuple[Array, Backward]:
    """Return O and its backward, dO -> dQ, dK, dV.

    Args:
        Q: scaled queries (samples, heads, time, d).
        K, V: keys and values, of the same shape.
        hidden: returns what is added to the scores (keys, queries), given a block of `queries`: 0,
            or -inf for a key that a query does not attend to.
        queries: what `hidden` needs to know of each query, along the last axes.
    """
    samples, heads, time, _ = Q.shape
    size = max(1, SCORES // (samples * heads * time))
    if size < time:
        return _in_blocks(Q, K, V, hidden, queries, size)
    E, _ = _exponentials(Q, K, hidden(*queries) if hidden else None)
    O, z = _output(E, V)  # noqa: E741
    return O, lambda dO: _gradients(dO, E, z, Q, K, V)


def _exponentials(
    Q: Array, K: Array, hidden: Array | None, top: Array | None = None
) -> tuple[Array, Array]:
    """Return E (samples, heads, keys, queries), and the largest score of each query."""
    xp = array_namespace(Q)
    S = K @ xp.matrix_transpose(Q)
    if hidden is not None:
        S += hidden
    if top is None:
        top = xp.max(S, axis=-2, keepdims=True)
    S -= top
    return xp.exp(S), top


def _output(E: Array, V: Array) -> tuple[Array, Array]:
    """Return O and the sums z (samples, heads, queries, 1)."""
    xp = array_namespace(E)
    z = xp.expand_dims(xp.sum(E, axis=-2), axis=-1)
    O = xp.matrix_transpose(E) @ V  # noqa: E741
    O /= z  # noqa: E741
    return O, z


def _gradients(
    dO: Array, E: Array, z: Array, Q: Array, K: Array, V: Array
) -> tuple[Array, Array, Array]:
    """Return dQ, dK, dV, with dS = E (V d^T - sum(E (V d^T)) / z), d = dO / z.

    The sum is also O d z. But where a query attends to one key alone, this form is exactly 0.
    """
    xp = array_namespace(dO)
    d = dO / z
    dS = V @ xp.matrix_transpose(d)
    dS -= xp.sum(E * dS, axis=-2, keepdims=True) / xp.matrix_transpose(z)
    dS *= E
    return xp.matrix_transpose(dS) @ K, dS @ Q, E @ d


def _in_blocks(
    Q: Array,
    K: Array,
    V: Array,
    hidden: Hidden | None,
    queries: Sequence[Array],
    size: int,
) -> tuple[Array, Backward]:
    """Return the same, with so many queries at a time."""
    xp, time = array_namespace(Q, K, V), Q.shape[2]

    def forward(carry: Any, row: Any) -> Any:
        ((Q, *few),) = row
        E, top = _exponentials(Q, K, hidden(*few) if hidden else None)
        return carry, ((*_output(E, V), top),)

    blocks = (_split(Q, -2, size), *(_split(array, -1, size) for array in queries))
    _, (found,) = scan(forward, (K,), (blocks,))
    O, z, top = map(whole, found)  # noqa: E741

    def gradients(carry: Any, row: Any) -> Any:
        ((dO, z, top, Q, *few),) = row
        dK, dV = carry
        E, _ = _exponentials(Q, K, hidden(*few) if hidden else None, top)
        dQ, more_dK, more_dV = _gradients(dO, E, z, Q, K, V)
        return (dK + more_dK, dV + more_dV), ((dQ,),)

    def backward(dO: Array) -> tuple[Array, Array, Array]:
        rows = (_split(dO, -2, size), z, top, *blocks)
        (dK, dV), ((dQ,),) = scan(gradients, (xp.zeros_like(K), xp.zeros_like(V)), (rows,))
        return _joined(whole(dQ), time), dK, dV

    return _joined(O, time), backward


def _split(array: Array, axis: int, size: int) -> Array:
    """Return (blocks, ..., size, ...): the axis in blocks; zeros fill up the last one."""
    xp, axis = array_namespace(array), axis % array.ndim
    shape = list(array.shape)
    shape[axis] = -shape[axis] % size
    if shape[axis]:
        device = getattr(array, "device", None)  # a traced array has none
        fill = xp.zeros(tuple(shape), dtype=array.dtype, device=device)
        array = xp.concat([array, fill], axis=axis)
    shape[axis : axis + 1] = [array.shape[axis] // size, size]
    order = [axis, *(i for i in range(len(shape)) if i != axis)]
    return xp.permute_dims(xp.reshape(array, tuple(shape)), tuple(order))


def _joined(blocks: Array, time: int) -> Array:
    """Return (samples, heads, time, d) from blocks (blocks, samples, heads, size, d)."""
    xp = array_namespace(blocks)
    count, samples, heads, size, d = blocks.shape
    whole = xp.permute_dims(blocks, (1, 2, 0, 3, 4))
    return xp.reshape(whole, (samples, heads, count * size, d))[:, :, :time, :]
