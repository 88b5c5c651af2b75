"""O = V softmax(K^T Q), all scores at once, or a block of queries at a time.

A column belongs to a time step. With the scores S = K^T Q, E = exp(S - max(S)) and z = sum(E) down
the columns, O = V E / z: sums down columns are faster than sums along rows, and V E / z divides
fewer numbers than E / z. Backward, with d = dO / z:

    dV = d E^T,  dS = E (V^T d - sum(O d)),  dQ = K dS,  dK = Q dS^T.

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
        Q: scaled queries (heads, samples, d, time).
        K, V: keys and values, of the same shape.
        hidden: returns what is added to the scores, (keys, queries) for all or for each sample,
            given a block of `queries`: 0, or -inf for a key that a query does not attend to.
        queries: what `hidden` needs to know of each query, along the last axes.
    """
    heads, samples, _, time = Q.shape
    size = max(1, SCORES // (samples * heads * time))
    if size < time:
        return _in_blocks(Q, K, V, hidden, queries, size)
    E, _ = _exponentials(Q, K, hidden(*queries) if hidden else None)
    O, z = _output(E, V)  # noqa: E741
    return O, lambda dO: _gradients(dO, E, z, O, Q, K, V)


def _exponentials(
    Q: Array, K: Array, hidden: Array | None, top: Array | None = None
) -> tuple[Array, Array]:
    """Return E (heads, samples, keys, queries), and the largest score of each query."""
    xp = array_namespace(Q)
    S = xp.matrix_transpose(K) @ Q
    if hidden is not None:
        S += hidden
    if top is None:
        top = xp.max(S, axis=-2, keepdims=True)
    S -= top
    return xp.exp(S), top


def _output(E: Array, V: Array) -> tuple[Array, Array]:
    """Return O and the sums z (heads, samples, 1, queries)."""
    z = array_namespace(E).sum(E, axis=-2, keepdims=True)
    O = V @ E  # noqa: E741
    O /= z  # noqa: E741
    return O, z


def _gradients(
    dO: Array,
    E: Array,
    z: Array,
    O: Array,  # noqa: E741
    Q: Array,
    K: Array,
    V: Array,
) -> tuple[Array, Array, Array]:
    """Return dQ, dK, dV, with dS = E (V^T d - sum(O d)), d = dO / z.

    If z = 1 the query attends to one key alone, and its scores do not matter: dS is exactly 0.
    """
    xp = array_namespace(dO)
    d = dO / z
    of_scores = d * xp.astype(z > 1.0, d.dtype)
    dS = xp.matrix_transpose(V) @ of_scores
    dS -= xp.sum(O * of_scores, axis=-2, keepdims=True)
    dS *= E
    return K @ dS, Q @ xp.matrix_transpose(dS), d @ xp.matrix_transpose(E)


def _in_blocks(
    Q: Array,
    K: Array,
    V: Array,
    hidden: Hidden | None,
    queries: Sequence[Array],
    size: int,
) -> tuple[Array, Backward]:
    """Return the same, with so many queries at a time."""
    xp, time = array_namespace(Q, K, V), Q.shape[-1]

    def forward(carry: Any, row: Any) -> Any:
        ((Q, *few),) = row
        E, top = _exponentials(Q, K, hidden(*few) if hidden else None)
        return carry, ((*_output(E, V), top),)

    blocks = [_split(array, size) for array in (Q, *queries)]
    _, (found,) = scan(forward, (K,), (tuple(blocks),))
    O, z, top = map(whole, found)  # noqa: E741

    def gradients(carry: Any, row: Any) -> Any:
        ((dO, z, top, O, Q, *few),) = row  # noqa: E741
        dK, dV = carry
        E, _ = _exponentials(Q, K, hidden(*few) if hidden else None, top)
        dQ, more_dK, more_dV = _gradients(dO, E, z, O, Q, K, V)
        return (dK + more_dK, dV + more_dV), ((dQ,),)

    def backward(dO: Array) -> tuple[Array, Array, Array]:
        rows = (_split(dO, size), z, top, O, *blocks)
        (dK, dV), ((dQ,),) = scan(gradients, (xp.zeros_like(K), xp.zeros_like(V)), (rows,))
        return _joined(whole(dQ), time), dK, dV

    return _joined(O, time), backward


def _split(array: Array, size: int) -> Array:
    """Return (blocks, ..., size): the last axis in blocks; zeros fill up the last one."""
    xp, (*shape, last) = array_namespace(array), array.shape
    if -last % size:
        device = getattr(array, "device", None)  # a traced array has none
        fill = xp.zeros((*shape, -last % size), dtype=array.dtype, device=device)
        array = xp.concat([array, fill], axis=-1)
    blocks = xp.reshape(array, (*shape, array.shape[-1] // size, size))
    return xp.permute_dims(blocks, (len(shape), *range(len(shape)), len(shape) + 1))


def _joined(blocks: Array, time: int) -> Array:
    """Return (heads, samples, d, time) from blocks (blocks, heads, samples, d, size)."""
    xp = array_namespace(blocks)
    count, heads, samples, d, size = blocks.shape
    whole = xp.permute_dims(blocks, (1, 2, 3, 0, 4))
    return xp.reshape(whole, (heads, samples, d, count * size))[..., :time]
