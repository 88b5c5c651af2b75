import itertools

import numpy as np
import pytest

import nnx

LAYERS = {
    "max": (nnx.MaxPool2DLayer, (3, 2, 6, 7)),
    "max, overlapping": (lambda: nnx.MaxPool2DLayer(3, 2, 1), (3, 2, 6, 7)),
    "max, same": (lambda: nnx.MaxPool2DLayer((2, 3), 2, "same"), (3, 2, 5, 7)),
    "max, gaps": (lambda: nnx.MaxPool2DLayer(2, 3, dilation=(1, 2)), (3, 2, 6, 7)),
    "average": (nnx.AvgPool2DLayer, (3, 2, 6, 7)),
    "average, overlapping": (lambda: nnx.AvgPool2DLayer(3, 2, 1), (3, 2, 6, 7)),
    "average, without padding": (lambda: nnx.AvgPool2DLayer(3, 2, "same", False), (3, 2, 6, 7)),
    "average, gaps": (lambda: nnx.AvgPool2DLayer(2, 3), (3, 2, 6, 8)),
    "global": (nnx.GlobalAvgPoolLayer, (3, 2, 4, 5)),
    "global, sequences": (nnx.GlobalAvgPoolLayer, (3, 2, 5)),
}


def normal(*shape):
    return np.random.default_rng(7).standard_normal(shape)


IMAGE = [[[[1.0, 5.0, 2.0, 2.0], [5.0, 0.0, 2.0, 1.0], [-4.0, -3.0, 7.0, 9.0]]]]


def test_a_maximum_by_hand(backend):
    y, backward = nnx.MaxPool2DLayer(2).forward(backend.asarray(IMAGE))
    np.testing.assert_array_equal(backend.to_numpy(y), [[[[5.0, 2.0]]]])
    # of equal cells the first, row by row; the third row is in no window
    dx = backward(backend.asarray([[[[10.0, 20.0]]]]))[0]
    expected = [[[[0.0, 10.0, 20.0, 0.0], [0.0] * 4, [0.0] * 4]]]
    np.testing.assert_array_equal(backend.to_numpy(dx), expected)


def test_padding_of_a_maximum_is_minus_infinity(backend):
    x = backend.asarray([[[[-4.0, -3.0, -2.0]]]])
    y, backward = nnx.MaxPool2DLayer(2, 1, padding=1).forward(x)
    np.testing.assert_array_equal(backend.to_numpy(y), [[[[-4.0, -3.0, -2.0, -2.0]] * 2]][0:1])
    dx = backward(backend.asarray([[[[1.0, 2.0, 3.0, 4.0], [10.0, 20.0, 30.0, 40.0]]]]))[0]
    np.testing.assert_array_equal(backend.to_numpy(dx), [[[[11.0, 22.0, 77.0]]]])


def test_a_mean_by_hand(backend):
    y, backward = nnx.AvgPool2DLayer(2).forward(backend.asarray(IMAGE))
    np.testing.assert_array_equal(backend.to_numpy(y), [[[[2.75, 1.75]]]])
    dx = backward(backend.asarray([[[[4.0, 8.0]]]]))[0]
    expected = [[[[1.0, 1.0, 2.0, 2.0], [1.0, 1.0, 2.0, 2.0], [0.0] * 4]]]
    np.testing.assert_array_equal(backend.to_numpy(dx), expected)


def test_the_mean_of_everything_by_hand(backend):
    y, backward = nnx.GlobalAvgPoolLayer().forward(backend.asarray([[[[1.0, 2.0], [3.0, 6.0]]]]))
    np.testing.assert_array_equal(backend.to_numpy(y), [[3.0]])
    dx = backward(backend.asarray([[4.0]]))[0]
    np.testing.assert_array_equal(backend.to_numpy(dx), [[[[1.0, 1.0], [1.0, 1.0]]]])


def against_pytorch(layer, x, function):
    torch = pytest.importorskip("torch")
    y, backward = layer.forward(x)
    delta = normal(*y.shape)
    theirs = torch.tensor(x, requires_grad=True)
    value = function(torch.nn.functional, theirs)
    value.backward(torch.tensor(delta))
    assert layer.output_shape(x.shape[1:]) == y.shape[1:]
    np.testing.assert_allclose(y, value.detach().numpy(), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(backward(delta)[0], theirs.grad.numpy(), rtol=1e-10, atol=1e-10)


GRID = [
    (kernel, stride, padding, dilation)
    for kernel, stride, padding, dilation in itertools.product(
        (1, 2, 3, (3, 2)), (None, 1, 2, (1, 3)), (0, 1), (1, 2)
    )
    if padding <= np.min(kernel) // 2
]


@pytest.mark.parametrize("shape", [(2, 3, 6, 7), (1, 1, 5, 9), (2, 2, 5, 5)])
@pytest.mark.parametrize("ties", [True, False])
def test_maximum_against_pytorch(shape, ties):
    x = np.round(normal(*shape)) if ties else normal(*shape)
    for arguments in GRID:
        layer = nnx.MaxPool2DLayer(*arguments)
        function = lambda F, x, arguments=arguments: F.max_pool2d(x, *arguments)
        against_pytorch(layer, x, function)


@pytest.mark.parametrize("shape", [(2, 3, 6, 7), (1, 1, 3, 4), (2, 2, 5, 5)])
@pytest.mark.parametrize("count", [True, False])
def test_mean_against_pytorch(shape, count):
    for arguments in (case[:3] for case in GRID if case[3] == 1):
        layer = nnx.AvgPool2DLayer(*arguments, count_include_pad=count)

        def function(F, x, arguments=arguments):
            return F.avg_pool2d(x, *arguments, count_include_pad=count)

        against_pytorch(layer, normal(*shape), function)


def test_mean_of_everything_against_pytorch():
    against_pytorch(
        nnx.GlobalAvgPoolLayer(),
        normal(3, 2, 4, 5),
        lambda F, x: F.adaptive_avg_pool2d(x, 1)[:, :, 0, 0],
    )


def test_one_cell_and_windows_as_large_as_the_image():
    x = normal(2, 3, 1, 1)
    for kind in (nnx.MaxPool2DLayer, nnx.AvgPool2DLayer):
        np.testing.assert_array_equal(kind(1).forward(x)[0], x)
        np.testing.assert_array_equal(kind(2, padding="same").output_shape((3, 1, 1)), (3, 1, 1))
        assert kind((4, 5)).output_shape((3, 4, 5)) == (3, 1, 1)
    image = normal(2, 3, 4, 5)
    largest = nnx.MaxPool2DLayer((4, 5)).forward(image)[0]
    np.testing.assert_array_equal(largest[:, :, 0, 0], image.max(axis=(2, 3)))


def test_same_padding_is_the_size_over_the_stride():
    layer = nnx.MaxPool2DLayer(3, 2, "same")
    assert layer.output_shape((3, 7, 8)) == (3, 4, 4)
    # an even size has its one cell of padding at the end
    y = layer.forward(np.asarray([[[[9.0, 1.0, 2.0, 3.0]]]]))[0]
    np.testing.assert_array_equal(y, [[[[9.0, 3.0]]]])


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (nnx.MaxPool2DLayer(), (12,), r"shape \(channels, height, width\), got \(12,\): put Resh"),
        (nnx.AvgPool2DLayer(3), (4, 2, 8), r"windows of height 3, got input of shape \(4, 2, 8\)"),
        (nnx.MaxPool2DLayer(2, 1, 1, 2), (1, 1, 1), "nothing but padding .* less padding"),
        (nnx.GlobalAvgPoolLayer(), (12,), r"got \(12,\): put it before any FlattenLayer"),
    ],
)
def test_wrong_shapes_are_refused(layer, shape, message):
    with pytest.raises(nnx.ShapeError, match=message):
        layer.output_shape(shape)


# kind -> launches allowed on CuPy, forward and backward
BUDGETS = {
    "max": (3, 14),
    "max, overlapping": (15, 32),
    "average": (5, 8),
    "global": (1, 1),
}


@pytest.mark.gpu
@pytest.mark.parametrize("kind", BUDGETS)
def test_launches_on_cupy(kind, record_property):
    counters = pytest.importorskip("cpusim", reason="no counters of CUDA calls here")
    make, shape = LAYERS[kind]
    with nnx.use_backend("cupy") as backend:
        layer = make()
        x = backend.asarray(normal(*shape))
        y, backward = layer.forward(x)
        backward(y)
        counted = []
        counters.reset()
        y, backward = layer.forward(x)
        counted.append(counters.stats())
        counters.reset()
        backward(y)
        counted.append(counters.stats())
    record_property("counted", counted)
    print(kind, counted)
    for stats, launches in zip(counted, BUDGETS[kind]):
        assert stats["launches"] <= launches
        forbidden = ("h2d", "d2h", "stream_sync", "dev_sync", "event_sync")
        assert not any(stats.get(name, 0) for name in forbidden)
