"""Clips: numbers by hand, bits that are kept, the ends of the types, and what is not finite."""

import math

import numpy as np
import pytest

import nnx
from nnx import clipping


def test_every_clip_is_tested_here():
    assert set(clipping.__all__) == {"Clip", "ClipNorm", "ClipValue"}


def clipped(backend, clip, *gradients):
    given = [backend.asarray(g) for g in gradients]
    result = [backend.to_numpy(g) for g in clip(given)]
    for g, before in zip(given, gradients, strict=True):
        assert np.array_equal(backend.to_numpy(g), np.asarray(before, dtype=result[0].dtype))
    return result


def test_values_are_clipped(backend):
    (g,) = clipped(backend, nnx.ClipValue(0.5), [-3.0, -0.5, -0.25, 0.0, 0.25, 3e38])
    assert g.tolist() == [-0.5, -0.5, -0.25, 0.0, 0.25, 0.5]


def test_the_global_norm_is_clipped_by_hand(backend):
    # |(3, 4, 12)| = 13
    a, b = clipped(backend, nnx.ClipNorm(1.0), [[3.0], [4.0]], [12.0])
    np.testing.assert_allclose(a, [[3 / 13], [4 / 13]], rtol=1e-6)
    np.testing.assert_allclose(b, [12 / 13], rtol=1e-6)


def test_gradients_within_the_limit_keep_their_bits(backend):
    given = np.random.default_rng(0).standard_normal((2, 50)).astype(np.float32)
    a, b = clipped(backend, nnx.ClipNorm(12.0), *given)
    assert np.array_equal(a, given[0])
    assert np.array_equal(b, given[1])
    (zero,) = clipped(backend, nnx.ClipNorm(1.0), [0.0, 0.0])
    assert zero.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("size", [1e-30, 1e-12, 1e20, 1e30, 1e37])
def test_no_finite_gradient_overflows_when_its_norm_is_clipped(size, backend):
    """The square of 1e20 is no float32."""
    a, b = clipped(backend, nnx.ClipNorm(1.0), [3 / 4 * size], [size, 0.0])
    expected = np.asarray([0.6, 0.8]) if size > 1 else np.asarray([0.75, 1.0]) * size
    np.testing.assert_allclose([a[0], b[0]], expected, rtol=1e-6)


def test_the_largest_gradients_are_bounded_as_well(backend):
    (g,) = clipped(backend, nnx.ClipNorm(1.0), [3e38, -3e38, 1.0])
    assert np.linalg.norm(g) <= 1 + 1e-6


def test_an_optimizer_clips_all_its_gradients_together(backend):
    def moved(clip):
        p = [backend.asarray([0.0]), backend.asarray([0.0])]
        p = nnx.SGD(1.0, clip=clip).update(p, [backend.asarray([3.0]), backend.asarray([-4.0])])
        return [float(backend.to_numpy(a)[0]) for a in p]

    np.testing.assert_allclose(moved(nnx.ClipNorm(1.0)), [-0.6, 0.8], rtol=1e-6)
    np.testing.assert_allclose(moved(nnx.ClipValue(1.0)), [-1.0, 1.0], rtol=1e-6)
    np.testing.assert_allclose(moved(None), [-3.0, 4.0], rtol=1e-6)


def test_the_optimizer_of_a_network_clips_over_all_layers():
    with nnx.use_backend("numpy", dtype="float64"):
        layers = [nnx.DenseLayer(4, 5), nnx.DenseLayer(5, 2, nnx.Linear())]
        optim = nnx.SGD(1.0, clip=nnx.ClipNorm(1e-3))
        net = nnx.SequentialNet(4, layers, optim=optim)
        before = [p.copy() for layer in layers for p in layer.parameters.values()]
        rng = np.random.default_rng(0)
        net.train(rng.random((6, 4)), rng.random((6, 2)), batch_size=6, progress=False)
        after = [p for layer in layers for p in layer.parameters.values()]
    moved = math.sqrt(sum(np.sum((a - b) ** 2) for a, b in zip(after, before, strict=True)))
    np.testing.assert_allclose(moved, 1e-3, rtol=1e-9)


FLOAT32 = np.finfo(np.float32)


@pytest.mark.parametrize("limit", [1e-300, 1e-45, 1e-20, 1e20, 3e38, 1e39, 1e300])
@pytest.mark.parametrize("kind", [nnx.ClipNorm, nnx.ClipValue])
@pytest.mark.parametrize("g", [0.0, 1e-30, 1.0, 1e30, 3e38])
def test_limits_at_the_ends_of_the_type_and_beyond(kind, limit, g, backend):
    """The limit counts as the nearest normal number; what is expected is computed in float64."""
    (found,) = clipped(backend, kind(limit), [g, -g, 0.0])
    limit = min(max(limit, float(FLOAT32.smallest_normal)), float(FLOAT32.max))
    g = np.asarray([g, -g, 0.0])
    norm = math.sqrt(2.0) * g[0]
    expected = (
        np.clip(g, -limit, limit) if kind is nnx.ClipValue else g * (limit / max(norm, limit))
    )
    # below the smallest normal number a library may round to 0
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1.01 * FLOAT32.smallest_normal)


def test_many_of_the_largest_gradients(backend):
    n = 10_000
    (g,) = clipped(backend, nnx.ClipNorm(1.0), np.full(n, 1e38))
    np.testing.assert_allclose(g, 1 / math.sqrt(n), rtol=1e-4)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_not_hidden(bad, backend):
    with np.errstate(invalid="ignore"):
        a, b = clipped_host(backend, nnx.ClipNorm(1.0), [bad, 1.0], [2.0])
    assert np.isnan(a).all()
    assert np.isnan(b).all()
    a, b = clipped_host(backend, nnx.ClipValue(1.5), [bad, 1.0], [2.0])
    np.testing.assert_array_equal(
        a, [math.nan if math.isnan(bad) else math.copysign(1.5, bad), 1.0]
    )
    assert b.tolist() == [1.5]


def clipped_host(backend, clip, *gradients):
    return [backend.to_numpy(g) for g in clip([backend.asarray(g) for g in gradients])]


def test_what_a_subclass_must_define_is_said():
    with pytest.raises(NotImplementedError, match="Clip must define __call__"):
        nnx.Clip(1.0)([])
