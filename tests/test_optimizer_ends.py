"""Gradients that are NaN or infinite, and those at the ends of float32 and float64."""

import numpy as np
import pytest
from optimizers_table import CASES

import nnx

for_every_case = pytest.mark.parametrize("name", CASES)


def stepped(backend, optimizer, gradient, steps=2):
    """The parameter, 1 at first, after each step with the same gradient."""
    p, found = backend.asarray(np.ones(len(gradient))), []
    with np.errstate(all="ignore"):
        for _ in range(steps):
            (p,) = optimizer.update([p], [backend.asarray(gradient)])
            found.append(backend.to_numpy(p).copy())
    return found


@for_every_case
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_gradient_that_is_not_finite_shows_in_its_parameter(name, bad, backend):
    found = stepped(backend, CASES[name].make(), np.asarray([0.5, bad, -0.5]))[-1]
    assert np.isfinite(found).tolist() == [True, False, True]


@for_every_case
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_one_bad_gradient_is_not_forgotten(name, bad, backend):
    optimizer = CASES[name].make()
    p = backend.asarray(np.ones(1))
    with np.errstate(all="ignore"):
        for g in (1.0, bad, 1.0, 1.0):
            (p,) = optimizer.update([p], [backend.asarray([g])])
    assert not np.isfinite(backend.to_numpy(p)).any()


# By how much an entry moves that has had one gradient, in terms of the type's numbers: where the
# square of a gradient overflows the step is 0, where it underflows eps decides.


@for_every_case
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_small_gradients_make_the_step_of_the_formula(name, dtype, backend_spec):
    """The smallest normal number and a subnormal one, which a library may take for 0."""
    with nnx.use_backend(nnx.testing.plugin.usable(backend_spec), dtype=dtype) as backend:
        info = np.finfo(dtype)
        small = [float(info.smallest_normal), 0.0, float(info.smallest_subnormal)]
        p, _ = stepped(backend, CASES[name].make(), np.asarray(small))
        # the step is at most that of gradients 1: exact for Lion at the smallest normal number
        assert np.all(np.isfinite(p))
        assert p[1] == 1.0 - decay(name)
        expected = CASES[name].expected(np.ones(2), np.asarray([[small[0], 0.0]]))[0]
        np.testing.assert_allclose(p[:2], expected, rtol=4 * info.eps)


@for_every_case
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large_gradients_move_by_the_formula_or_not_at_all(name, dtype, backend_spec):
    """Where g^2 overflows, as in PyTorch, the first step is 0; it is never NaN."""
    with nnx.use_backend(nnx.testing.plugin.usable(backend_spec), dtype=dtype) as backend:
        info = np.finfo(dtype)
        half, large = 0.5 * float(info.max) ** 0.5, 0.1 * float(info.max)
        if name == "AdaDelta":
            half *= 1e-4  # its quotient of squares would be subnormal
        p = stepped(backend, CASES[name].make(), np.asarray([half, large, -large]), steps=1)[0]
        with np.errstate(over="ignore"):
            expected = CASES[name].expected(np.ones(3), np.asarray([[half, large, -large]]))[0]
        if dtype == "float32" and SQUARES & set(name.replace(",", " ").split()):
            expected[1:] = 1.0 - decay(name)
        np.testing.assert_allclose(p, expected, rtol=8 * info.eps)


SQUARES = {"Adam", "AdamW", "NAdam", "AMSGrad", "AdaGrad", "AdaDelta", "RMSProp"}


def decay(name):
    arguments = CASES[name].arguments
    return arguments.get("eta", 1.0) * arguments.get("weight_decay", 0.0)


@for_every_case
def test_clipping_makes_the_largest_gradients_harmless(name, backend):
    gradient = np.asarray([3e38, -3e38, 1.0])
    found = stepped(backend, CASES[name].make(clip=nnx.ClipNorm(1.0)), gradient, steps=50)
    assert np.all(np.isfinite(found))
    assert np.all(found[-1][0] < 1.0)
    assert np.all(found[-1][1] > 1.0 - 50 * decay(name) - 1e-6)
