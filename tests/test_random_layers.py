"""What layers share that draw in training: when they draw nothing, and what they cost."""

import numpy as np
import pytest
from conftest import usable

import nnx
from nnx.randomness import generator
from nnx.testing import assert_no_host_sync

IMAGES = 1.0 + np.arange(240.0).reshape(6, 2, 4, 5)
# name -> how the layer is made; kernels of forward and backward in training, with one copy to the
# device, no other, and no wait; the bytes of that copy
LAYERS = {
    "dropout": (lambda: nnx.DropoutLayer(0.3), (2, 2), 240),
    "gaussian": (lambda: nnx.GaussianNoiseLayer(0.5), (1, 0), 240 * 4),
    "flip": (lambda: nnx.RandomFlipLayer(True, True), (2, 2), 2 * 6),
    "shift": (lambda: nnx.RandomShiftLayer((2, 1)), (21, 21), 2 * 6 * 4),
    "cutout": (lambda: nnx.CutoutLayer((2, 3)), (14, 1), 2 * 6 * 4),
}
each = pytest.mark.parametrize("make", [make for make, *_ in LAYERS.values()], ids=LAYERS)


@each
@pytest.mark.parametrize("frozen", [False, True])
def test_evaluation_and_a_frozen_layer_are_the_identity_and_draw_nothing(make, frozen, backend):
    layer, x = make(), backend.asarray(IMAGES)
    layer.frozen = frozen
    before = generator("dropout").bit_generator.state
    y, backward = layer.forward(x, training=frozen)
    assert y is x
    assert backward(x) == (x, {})
    assert generator("dropout").bit_generator.state == before
    layer.frozen = False
    assert np.any(backend.to_numpy(layer.forward(x, training=True)[0]) != IMAGES)
    assert generator("dropout").bit_generator.state != before


NOTHING = [nnx.DropoutLayer(0.0), nnx.GaussianNoiseLayer(0.0)]
NOTHING += [nnx.RandomFlipLayer(False), nnx.RandomShiftLayer(0)]


@pytest.mark.parametrize("layer", NOTHING, ids=repr)
def test_nothing_to_do_is_the_identity_in_training_too(layer):
    y, backward = layer.forward(IMAGES, training=True)
    assert y is IMAGES
    assert backward(IMAGES) == (IMAGES, {})


@each
def test_nothing_is_read_back(make):
    usable("strict")
    x = IMAGES.astype("float32")
    assert_no_host_sync(lambda layer, x: layer.forward(x, training=True)[1](x), make(), x)


@pytest.mark.gpu
@pytest.mark.parametrize("case", LAYERS)
def test_launches_on_cupy(case, record_property):
    counters = pytest.importorskip("cpusim", reason="no counters of CUDA calls here")
    make, budget, drawn = LAYERS[case]
    with nnx.use_backend("cupy") as backend:
        layer, x = make(), backend.asarray(IMAGES)
        _, backward = layer.forward(x, training=True)
        backward(x)  # kernels are compiled at their first use, and there is memory for all
        counters.reset()
        _, backward = layer.forward(x, training=True)
        forward = dict(counters.stats())
        counters.reset()
        backward(x)
        found = [forward, dict(counters.stats())]
        counters.reset()
        layer.forward(x)[1](x)
        idle = dict(counters.stats())
    print(case, found)
    record_property("counted", found)
    assert forward.pop("h2d") == 1
    assert forward.pop("h2d_bytes") == drawn
    for counted, launches in zip(found, budget):
        assert counted.pop("launches", 0) <= launches
        assert not any(counted.values()), counted
    assert not any(idle.values()), idle
