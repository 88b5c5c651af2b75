"""array-api-strict: only what the standard promises, for tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import FunctionType
from typing import Any
from unittest import mock

import numpy as np

from nnx.backend import Array, Backend, BackendError, HostReadError, Memory
from nnx_backends._host import host_memory, missing


class StrictBackend(Backend):
    """array-api-strict: NumPy with only what the standard promises.

    Its devices "CPU_DEVICE", "device1", "device2" and "no_float64" are simulated: arrays of two
    of them do not mix, and the host can read from the first only.
    """

    name = "strict"
    library = "array_api_strict"
    test_specs = ("strict", "strict:device1")
    watched = "strict"

    def connect(self, device: str | None, dtype: str) -> tuple[Any, Any]:
        try:
            import array_api_strict as xp
        except ImportError as error:
            raise missing("array_api_strict", "test", error) from error

        known = xp.__array_namespace_info__().devices()
        for chosen in known:
            if _device_name(chosen) == (device or "CPU_DEVICE"):
                return xp, chosen
        raise BackendError(
            f"backend 'strict' has no device {device!r}",
            " or ".join(f'use "strict:{_device_name(chosen)}"' for chosen in known),
        )

    def device_name(self) -> str:
        return _device_name(self.device)

    def facts(self) -> dict[str, str]:
        flags = self.xp.get_array_api_strict_flags()
        return {"standard": str(flags["api_version"])}

    def memory(self) -> Memory | None:
        return host_memory()

    def to_numpy(self, array: Array) -> np.ndarray:
        return np.asarray(self.xp.asarray(array, device=self.xp.Device("CPU_DEVICE")))

    def for_tests(self) -> AbstractContextManager[None]:
        """Refuse masks, and functions whose result has a shape that depends on data."""
        return self.xp.ArrayAPIStrictFlags(**dict.fromkeys(DEPENDENT, False))

    @contextmanager
    def forbid_reads(self) -> Iterator[None]:
        """Refuse reads, and what needs one on a GPU: masks, shapes that depend on data."""
        kind = type(self.xp.ones(1))

        def refuse(self: Array, *arguments: Any, **options: Any) -> Any:
            raise HostReadError("backend 'strict': the host reads a value of the device")

        with ExitStack() as stack:
            stack.enter_context(self.for_tests())
            for name in READS & set(vars(kind)):
                stack.enter_context(mock.patch.object(kind, name, refuse))
            try:
                yield
            except RuntimeError as error:
                if any(flag in str(error) for flag in DEPENDENT):
                    reason = str(error).strip().partition("\n")[0]
                    raise HostReadError(f"backend 'strict': {reason}") from error
                raise

    @contextmanager
    def count_operations(self, count: Callable[[str], None]) -> Iterator[None]:
        """Count functions of the namespace and operators, but not those that they call."""
        inside = False

        def counted(function: Callable[..., Any], name: str) -> Callable[..., Any]:
            def call(*arguments: Any, **options: Any) -> Any:
                nonlocal inside
                if inside:
                    return function(*arguments, **options)
                inside = True
                try:
                    result = function(*arguments, **options)
                finally:
                    inside = False
                if result is not NotImplemented:
                    count(name)
                return result

            return call

        kind = type(self.xp.ones(1))
        operators = {
            method: OPERATORS.get(method[3:-2] if method[2] in "ir" else "")
            or OPERATORS.get(method[2:-2])
            for method in vars(kind)
            if method.startswith("__")
        }
        places = [(kind, method, name) for method, name in operators.items() if name]
        for prefix, module in (("", self.xp), ("linalg.", self.xp.linalg), ("fft.", self.xp.fft)):
            places += [
                (module, name, prefix + name)
                for name in set(module.__all__) - ABOUT_TYPES
                if isinstance(getattr(module, name), FunctionType)
            ]
        with ExitStack() as stack:
            for owner, attribute, name in places:
                function = counted(getattr(owner, attribute), name)
                stack.enter_context(mock.patch.object(owner, attribute, function))
            yield


DEPENDENT = ("boolean_indexing", "data_dependent_shapes")
# The methods that bring the value of an array to the host.
READS = {
    "__array__",
    "__bool__",
    "__buffer__",
    "__complex__",
    "__dlpack__",
    "__float__",
    "__format__",
    "__index__",
    "__int__",
    "__repr__",
    "__str__",
}
# Operators are counted under the names of their functions, in-place and reflected ones too.
OPERATORS = {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "divide",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "pow": "pow",
    "matmul": "matmul",
    "neg": "negative",
    "pos": "positive",
    "abs": "abs",
    "invert": "bitwise_invert",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
    "lshift": "bitwise_left_shift",
    "rshift": "bitwise_right_shift",
    "eq": "equal",
    "ne": "not_equal",
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
    "getitem": "getitem",
    "setitem": "setitem",
}
# Functions of the namespace that do not compute an array.
ABOUT_TYPES = {
    "__array_namespace_info__",
    "broadcast_shapes",
    "can_cast",
    "finfo",
    "from_dlpack",
    "get_array_api_strict_flags",
    "iinfo",
    "isdtype",
    "reset_array_api_strict_flags",
    "result_type",
    "set_array_api_strict_flags",
}


def _device_name(device: Any) -> str:
    return str(device).partition("'")[2].partition("'")[0]
