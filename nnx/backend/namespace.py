"""Functions that follow their arguments: which library do arrays belong to?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import array_api_compat

from nnx.backend.errors import BackendError

__all__ = [
    "Array",
    "add_array_type",
    "add_product",
    "array_namespace",
    "describe",
    "elementwise",
    "erfc",
    "is_array",
    "masked",
    "one_hot_sum",
    "owner_of",
    "row_means",
    "subtract_quotient",
    "sum_rows",
    "transposed_product",
]

# One-hot rows have at most so many entries at a time.
ONE_HOT_BLOCK = 1 << 24

Array = Any  # an array of any library; `array_namespace` tells which


class _ArrayTypes:
    """What connected backends have registered, and the look-up table of `array_namespace`.

    Attributes:
        owners: array type -> the backend that registered it first.
        namespaces: array type -> Array API namespace, for every type met so far.
        slow_where: namespace -> the devices on which its `where` is slower than a product.
    """

    __slots__ = ("namespaces", "owners", "slow_where")

    def __init__(self) -> None:
        self.owners: dict[type, Any] = {}
        self.namespaces: dict[type, Any] = {}
        self.slow_where: dict[Any, set[Any]] = {}

    def owner(self, array: Any) -> Any:
        """Return the backend that owns the array's type or its closest base, or None."""
        for kind in type(array).__mro__:
            if kind in self.owners:
                return self.owners[kind]
        # An abstract type, such as that of JAX, knows its instances, but is not among their bases.
        return next((b for kind, b in self.owners.items() if isinstance(array, kind)), None)


_known = _ArrayTypes()


def add_array_type(kind: type, backend: Any) -> None:
    """Treat arrays of this type as arrays of the backend.

    A backend does this for its `array_types` when it is connected. One whose library traces also
    does it for the objects that stand for arrays in a trace. A type stays with the first backend.
    """
    _known.owners.setdefault(kind, backend)
    _known.namespaces.clear()  # subclasses of this type may have been looked up before
    _known.namespaces.update({kind: owner.xp for kind, owner in _known.owners.items()})
    if backend.slow_where:
        _known.slow_where.setdefault(backend.xp, set()).add(backend.device)


def owner_of(array: Any) -> Any:
    """Return a connected backend of the array's library, or None."""
    kind = type(array)
    return _known.owners[kind] if kind in _known.owners else _known.owner(array)


def array_namespace(array: Array, *others: Array) -> Any:
    """Return the Array API namespace of arrays that all belong to one library.

    Raises:
        BackendError: two of them belong to different libraries; the message names both.
    """
    kind = type(array)
    for other in others:
        if type(other) is not kind and _namespace(other) is not _namespace(array):
            raise BackendError(
                f"expected arrays of one library, got {describe(array)} and {describe(other)}: "
                "formulas do not convert arrays",
                "move one of them first: net.to(...), nnx.get_backend().asarray(...), "
                "or nnx.to_numpy(...)",
            )
    try:
        return _known.namespaces[kind]  # a step asks dozens of times; the full question takes 1 us
    except KeyError:
        return _namespace(array)


def _namespace(array: Array) -> Any:
    """Look the type up, and remember what was found."""
    kind = type(array)
    try:
        return _known.namespaces[kind]
    except KeyError:
        pass
    backend = _known.owner(array)
    try:
        found = backend.xp if backend else array_api_compat.array_namespace(array)
    except TypeError:
        raise BackendError(
            f"expected an array of an Array API library, got {describe(array)}",
            "make one first: nnx.get_backend().asarray(...)",
        ) from None
    _known.namespaces[kind] = found
    return found


def is_array(thing: Any) -> bool:
    """Return whether this is an array of any library."""
    return type(thing) in _known.namespaces or array_api_compat.is_array_api_obj(thing)


def masked(mask: Array, x: Array) -> Array:
    """Return x where the mask is true, else 0, by `where` or by a product, whichever is cheaper.

    On a GPU `where` is one kernel, and a product with a mask is two. On a processor `where` may
    branch for every number, and take 5 (PyTorch) to 15 times (NumPy) as long as the product.
    Both are exact. They differ if x is infinite or NaN: a product keeps NaN.
    """
    xp = array_namespace(x)
    slow = _known.slow_where.get(xp)
    if (
        slow and x.device in slow
    ):  # a traced array has no device, but no library that traces is slow
        factor = xp.astype(mask, x.dtype)
        factor *= x
        return factor
    return xp.where(mask, x, 0.0)


def add_product(x: Array, a: Array, b: Array) -> Array:
    """Return x + a b; x may be written to."""
    owner = owner_of(x)
    own = None if owner is None else owner.add_product(x, a, b)
    if own is not None:
        return own
    x += a * b
    return x


def subtract_quotient(x: Array, factor: float, a: Array, b: Array) -> Array:
    """Return x - factor a / b; x may be written to."""
    owner = owner_of(x)
    own = None if owner is None else owner.subtract_quotient(x, factor, a, b)
    if own is not None:
        return own
    q = a / b
    q *= factor
    x -= q
    return x


def row_means(a: Array, b: Array) -> Array:
    """Return the means of a b along the last axis, which is kept with length 1."""
    owner = owner_of(a)
    own = None if owner is None else owner.row_means(a, b)
    return array_namespace(a, b).mean(a * b, axis=-1, keepdims=True) if own is None else own


def transposed_product(a: Array, b: Array) -> Array:
    """Return a^T b for a (samples, m) and b (samples, n)."""
    owner = owner_of(a)
    own = None if owner is None else owner.transposed_product(a, b)
    return a.T @ b if own is None else own


def sum_rows(rows: Array, index: Array, count: int) -> Array:
    """Return an array (count, n) whose row i is the sum of the rows with index i.

    By the library's own way if its backend has one (`Backend.sum_rows`), else as a product with
    one-hot rows. Both add in a fixed order, so that results can be repeated.

    Args:
        rows: (samples, n).
        index: integers (samples,) from 0 to count - 1.
        count: the number of rows of the result.
    """
    owner = owner_of(rows)
    own = None if owner is None else owner.sum_rows(rows, index, count)
    return one_hot_sum(rows, index, count) if own is None else own


def one_hot_sum(rows: Array, index: Array, count: int) -> Array:
    """Return the same as `sum_rows`, as a product with one-hot rows, a block of them at a time."""
    xp, device = array_namespace(rows, index), getattr(index, "device", None)
    numbers = xp.expand_dims(xp.arange(count, dtype=index.dtype, device=device), axis=-1)
    samples, step = index.shape[0], max(1, ONE_HOT_BLOCK // count)
    total = None
    for start in range(0, max(samples, 1), step):
        few = slice(start, min(start + step, samples))
        part = xp.astype(numbers == index[few], rows.dtype) @ rows[few, :]
        total = part if total is None else total + part
    return total


def elementwise(formula: Callable[[Array], tuple[Array, ...]], x: Array) -> tuple[Array, ...]:
    """Return formula(x): arrays like x, each element of which depends on that of x alone.

    By the library's own way if its backend has one (`Backend.elementwise`): part for part, so that
    what the formula computes on the way stays in the cache.
    """
    owner = owner_of(x)
    own = None if owner is None else owner.elementwise(formula, x)
    return formula(x) if own is None else own


def erfc(k: float, x: Array) -> Array | None:
    """Return 1 - erf(k x) by the library's own function, or None if its backend has none."""
    owner = owner_of(x)
    return None if owner is None else owner.erfc(k, x)


def describe(thing: Any) -> str:
    """Return library and type for a message: "a numpy ndarray"."""
    kind = type(thing)
    library = kind.__module__.partition(".")[0]
    if library == "builtins":
        return f"a {kind.__name__}"
    return f"{'an' if library[0] in 'aeiou' else 'a'} {library} {kind.__name__}"
