"""How accurate the activations are here: python tests/report_activations.py [backend ...]

For every activation and every usable backend: the largest error of value and derivative in units
of the dtype's epsilon, relative to max(1, |expected|), against mpmath; and how many numbers are
not finite over [-1e4, 1e4].
"""

import os
import sys

os.environ.setdefault("JAX_ENABLE_X64", "1")

import numpy as np
from activations_table import CASES

import nnx
from nnx.backend import BackendError, resolve

BACKENDS = ("numpy", "strict", "torch", "jax", "cupy")


def points(case, dtype, count=60):
    """Where the errors are measured: some near 0, most in the bend, some far out."""
    rng = np.random.default_rng(3)
    near = 10.0 ** rng.uniform(-12, 0, count // 2)
    bend = rng.uniform(0, 12, 2 * count)
    far = 10.0 ** rng.uniform(1, np.log10(case.largest), count // 2)
    x = np.concatenate([near, bend, far, -near, -bend, -far]).astype(dtype)
    away = [abs(x - kink) > 1e-5 for kink in case.kinks]
    return x[np.all(away, axis=0)] if away else x


def expected(case, dtype):
    if case.rowwise:
        x, delta = np.random.default_rng(4).normal(size=(2, 20, 6)).astype(dtype)
        x = 8 * x
        rows = [case.reference_rows(row, d) for row, d in zip(x, delta, strict=True)]
        value, gradient = (np.array(part, dtype=float) for part in zip(*rows, strict=True))
        return x, delta, value, gradient
    x = points(case, dtype)
    pairs = [case.reference(number) for number in x]
    value, derivative = (np.array(part, dtype=float) for part in zip(*pairs, strict=True))
    return x, np.ones_like(x), value, derivative


def error(got, want, dtype):
    got = nnx.to_numpy(got).astype(float)
    return np.max(np.abs(got - want) / np.maximum(1, np.abs(want))) / np.finfo(dtype).eps


def measured(case, backend, x, delta, value, gradient):
    """The two errors and the number of numbers that are not finite."""
    y, backward = case.make().forward(backend.asarray(x))
    errors = [error(y, value, x.dtype), error(backward(backend.asarray(delta)), gradient, x.dtype)]
    wide = np.linspace(-case.largest, case.largest, 4001).astype(x.dtype)
    y, backward = case.make().forward(backend.asarray(wide))
    both = [nnx.to_numpy(y), nnx.to_numpy(backward(backend.asarray(np.ones_like(wide))))]
    return *errors, int(np.sum(~np.isfinite(both)))


def usable(names, dtype):
    for name in names:
        try:
            yield resolve(name, dtype)
        except BackendError as problem:
            if dtype == "float32":
                print(f"{name}: {problem.reason}")


def main(names):
    backends = [list(usable(names, dtype)) for dtype in ("float32", "float64")]
    print("errors in epsilons of the dtype, relative to max(1, |expected|): value / derivative")
    columns = [f"{b.name[:7]} {b.dtype_name[-2:]}" for group in backends for b in group]
    print(f"{'':32}" + "".join(f"{column:>13}" for column in columns) + "  not finite")
    for case in CASES:
        line, broken = f"{case.name:32}", 0
        for group in backends:
            truth = expected(case, group[0].dtype_name)
            for backend in group:
                with nnx.use_backend(backend):
                    value, derivative, count = measured(case, backend, *truth)
                line += f"{value:7.2f} /{derivative:4.1f}"
                broken += count
        print(f"{line}  {broken or '':>10}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or BACKENDS)
