"""JAX's arrays, which never change in place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nnx.backend import Array, Backend, BackendError, HostReadError, Memory
from nnx_backends._host import host_memory, missing


class JAXBackend(Backend):
    """JAX, on a device "cpu", "cpu:0", "gpu", "gpu:1", "tpu", ...

    Without a device it uses JAX's own default. JAX has no float64 until its option
    `jax_enable_x64` is set for the whole process; dtype="float64" sets it.
    """

    name = "jax"
    library = "jax"
    mutable = False

    def connect(self, device: str | None, dtype: str) -> tuple[Any, Any]:
        try:
            import jax
            import jax.numpy as xp
        except ImportError as error:
            raise missing("jax", "jax", error) from error

        if dtype == "float64":
            jax.config.update("jax_enable_x64", True)
        self.array_types = (jax.Array,)  # which traced arrays are instances of, too
        kind, _, number = (device or "").partition(":")
        try:
            devices = jax.devices(kind or None)
            return xp, devices[int(number or 0)]
        except (RuntimeError, IndexError, ValueError) as error:
            known = ", ".join(f"{d.platform}:{d.id}" for d in jax.devices())
            raise BackendError(
                f"JAX {jax.__version__} has no usable device {device!r}; it has {known}: {error}",
                'use one of these, for example "jax:cpu", or install the JAX build for that device',
            ) from error

    def device_name(self) -> str:
        return f"{self.device.platform}:{self.device.id} {self.device.device_kind}"

    def facts(self) -> dict[str, str]:
        import jax
        import jaxlib

        config: Any = jax.config
        return {
            "jaxlib": jaxlib.__version__,
            "float64": "on" if config.jax_enable_x64 else 'off until dtype="float64" is asked for',
            "float32 products": config.jax_default_matmul_precision or "default",
        }

    def scan(self, step: Any, carry: Any, rows: Any, reverse: bool) -> tuple[Any, Any] | None:
        import jax

        if not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((carry, rows))):
            return None  # what is not being compiled would be compiled anew in each call
        return _scan(step, carry, rows, reverse)

    def transposed_product(self, a: Array, b: Array) -> Array | None:
        import jax

        (samples, m), n = a.shape, b.shape[1]
        if self.device.platform != "cpu" or m < n or max(m, samples) < 4 * n:
            return None
        # XLA's product takes twice as long if the longer rows come first, and without the barrier
        # it would put them there again.
        return jax.lax.optimization_barrier(b.T @ a).T

    def sum_rows(self, rows: Array, index: Array, count: int) -> Array | None:
        if self.device.platform != "cpu":
            return None  # a GPU adds in any order
        return self.xp.zeros((count, rows.shape[1]), rows.dtype).at[index].add(rows)

    def memory(self) -> Memory | None:
        if self.device.platform == "cpu":
            return host_memory()
        facts = self.device.memory_stats()
        if not facts:
            return None
        return Memory(facts["bytes_limit"] - facts["bytes_in_use"], facts["bytes_limit"])

    def is_out_of_memory(self, error: Exception) -> bool:
        return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)

    def from_numpy(self, host: np.ndarray) -> Array:
        # JAX may read a host array after this call, so it must own what it reads.
        return self.xp.array(host, device=self.device, copy=True)

    def synchronize(self) -> None:
        import jax

        jax.effects_barrier()
        for array in jax.live_arrays():  # on a CPU computations do not wait for each other
            array.block_until_ready()

    def compile_loop(self, step: Callable[..., Any]) -> Callable[..., Any]:
        import jax

        def scan(carry: Any, rows: Any, data: Any) -> Any:
            return jax.lax.scan(lambda carry, row: step(carry, row, data), carry, rows)

        # LLVM's default level takes a quarter longer to compile, and its loops are not faster.
        options = {"xla_backend_optimization_level": 1} if self.device.platform == "cpu" else None
        return jax.jit(scan, compiler_options=options)

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        import jax

        return jax.jit(function)

    def rehearse(self, function: Callable[..., Any], *arguments: Any) -> None:
        import jax

        try:
            jax.eval_shape(function, *arguments)
        except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError) as error:
            raise HostReadError(
                "backend 'jax': a compiled step cannot read values; if a layer must, to print or "
                f"record them, set its `traceable = False`: {error}"
            ) from error

    def gradient(self, function: Callable[..., Array], arrays: Sequence[Array]) -> list[Array]:
        import jax

        return list(jax.grad(function, argnums=tuple(range(len(arrays))))(*arrays))


def _scan(step: Callable[..., Any], carry: Any, rows: Any, reverse: bool) -> tuple[Any, Any]:
    """Return what `jax.lax.scan` does; outputs overwrite rows of their size, once these are read.

    `jax.lax.scan` fills memory of its own for the outputs with zeros first, which takes as long as
    several steps. If somebody needs the rows later, XLA copies them.
    """
    import jax
    import jax.numpy as xp

    arrays, of_rows = jax.tree.flatten(rows)
    steps, row = len(arrays[0]), [jax.ShapeDtypeStruct(a.shape[1:], a.dtype) for a in arrays]
    _, output = jax.eval_shape(step, carry, jax.tree.unflatten(of_rows, row))
    memory: list[Any] = []  # of the outputs
    place: dict[int, int] = {}  # of an array of rows: the output that overwrites it
    for o in jax.tree.leaves(output):
        same = (i for i, r in enumerate(row) if (r.size, r.dtype) == (o.size, o.dtype))
        i = next((i for i in same if i not in place), None)
        if i is not None:
            place[i] = len(memory)
        like = xp.zeros((steps, o.size), o.dtype) if i is None else arrays[i]
        memory.append(xp.reshape(like, (steps, *o.shape)))

    def body(k: Any, state: Any) -> Any:
        (carry, memory), t = state, steps - 1 - k if reverse else k
        now = [memory[place[i]] if i in place else a for i, a in enumerate(arrays)]
        now = [xp.reshape(a[t], r.shape) for a, r in zip(now, row, strict=True)]
        carry, output = step(carry, jax.tree.unflatten(of_rows, now))
        new = zip(memory, jax.tree.leaves(output), strict=True)
        return carry, [jax.lax.dynamic_update_index_in_dim(m, a, t, 0) for m, a in new]

    carry, memory = jax.lax.fori_loop(0, steps, body, (carry, memory))
    return carry, jax.tree.unflatten(jax.tree.structure(output), memory)
