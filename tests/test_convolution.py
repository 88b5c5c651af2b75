import itertools
import warnings

import numpy as np
import pytest

import nnx
from nnx.testing import assert_no_host_sync, check_gradients

LAYERS = {
    "2d": (lambda: nnx.Conv2DLayer(3, 4, 3, nnx.TanH()), (3, 3, 6, 5)),
    "2d, 1x1": (lambda: nnx.Conv2DLayer(3, 4, 1, nnx.TanH()), (3, 3, 4, 5)),
    "2d, same": (lambda: nnx.Conv2DLayer(2, 3, (2, 3), nnx.TanH(), padding="same"), (2, 2, 5, 5)),
    "2d, no bias": (lambda: nnx.Conv2DLayer(2, 3, 2, nnx.TanH(), bias=False), (2, 2, 4, 4)),
    "2d, all": (
        lambda: nnx.Conv2DLayer(
            4, 6, (3, 2), nnx.TanH(), stride=(2, 3), padding=(1, 2), dilation=(2, 1), groups=2
        ),
        (2, 4, 7, 8),
    ),
    "1d": (lambda: nnx.Conv1DLayer(3, 4, 3, nnx.TanH(), stride=2, padding=1), (3, 3, 8)),
    "transpose": (lambda: nnx.ConvTranspose2DLayer(3, 4, 3, nnx.TanH()), (3, 3, 3, 4)),
    "transpose, all": (
        lambda: nnx.ConvTranspose2DLayer(
            4,
            6,
            (3, 2),
            nnx.TanH(),
            stride=(2, 3),
            padding=(1, 0),
            output_padding=(1, 2),
            dilation=(1, 2),
            groups=2,
        ),
        (2, 4, 3, 4),
    ),
}


def normal(*shape):
    return np.random.default_rng(7).standard_normal(shape)


def test_a_convolution_by_hand(backend):
    layer = nnx.Conv2DLayer(1, 1, 2, nnx.Linear())
    layer.W = backend.asarray([[[[1.0, 2.0], [3.0, 4.0]]]])
    layer.b = backend.asarray([0.5])
    x = backend.asarray([[[[1.0, 0.0, 2.0], [0.0, 1.0, 0.0], [3.0, 0.0, 1.0]]]])
    z, backward = layer.forward(x)
    # the kernel is not turned: z[0, 0] = 1*1 + 2*0 + 3*0 + 4*1 + 0.5
    expected = [[[[5.5, 7.5], [11.5, 5.5]]]]
    np.testing.assert_array_equal(backend.to_numpy(z), expected)
    dx, gradients = backward(backend.asarray([[[[1.0, 0.0], [0.0, 2.0]]]]))
    expected = [[[[1.0, 2.0, 0.0], [3.0, 6.0, 4.0], [0.0, 6.0, 8.0]]]]
    np.testing.assert_array_equal(backend.to_numpy(dx), expected)
    # dW[0, 0] = 1 x[0, 0] + 2 x[1, 1]
    np.testing.assert_array_equal(backend.to_numpy(gradients["W"]), [[[[3.0, 0.0], [0.0, 3.0]]]])
    np.testing.assert_array_equal(backend.to_numpy(gradients["b"]), [3.0])


def test_a_sequence_by_hand(backend):
    layer = nnx.Conv1DLayer(1, 1, 3, nnx.Linear(), stride=2, padding=1)
    layer.W = backend.asarray([[[1.0, 10.0, 100.0]]])
    z, backward = layer.forward(backend.asarray([[[1.0, 2.0, 3.0, 4.0, 5.0]]]))
    np.testing.assert_array_equal(backend.to_numpy(z), [[[210.0, 432.0, 54.0]]])
    dx, gradients = backward(backend.asarray([[[1.0, 2.0, 3.0]]]))
    np.testing.assert_array_equal(backend.to_numpy(dx), [[[10.0, 102.0, 20.0, 203.0, 30.0]]])
    np.testing.assert_array_equal(backend.to_numpy(gradients["W"]), [[[16.0, 22.0, 10.0]]])


def test_a_transposed_convolution_by_hand(backend):
    layer = nnx.ConvTranspose2DLayer(1, 1, 2, nnx.Linear(), stride=2)
    layer.W = backend.asarray([[[[1.0, 2.0], [3.0, 4.0]]]])
    layer.b = backend.asarray([0.5])
    z, backward = layer.forward(backend.asarray([[[[1.0, 10.0]]]]))
    expected = [[[[1.5, 2.5, 10.5, 20.5], [3.5, 4.5, 30.5, 40.5]]]]
    np.testing.assert_array_equal(backend.to_numpy(z), expected)
    dx, gradients = backward(backend.asarray([[[[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]]]))
    np.testing.assert_array_equal(backend.to_numpy(dx), [[[[3.0, 4.0]]]])
    np.testing.assert_array_equal(backend.to_numpy(gradients["W"]), [[[[1.0, 1.0], [0.0, 10.0]]]])
    np.testing.assert_array_equal(backend.to_numpy(gradients["b"]), [3.0])


def against_pytorch(layer, x, function):
    """Value and gradients against PyTorch's, with the same weights, in float64."""
    torch = pytest.importorskip("torch")
    if "b" in layer.parameters:
        layer.b = normal(layer.no)
    y, backward = layer.forward(x)
    delta = normal(*y.shape)
    dx, gradients = backward(delta)
    assert layer.output_shape(x.shape[1:]) == y.shape[1:]
    given = {"x": torch.tensor(x, requires_grad=True)}
    given |= {n: torch.tensor(p, requires_grad=True) for n, p in layer.parameters.items()}
    value = function(torch.nn.functional, *given.values())
    np.testing.assert_allclose(y, value.detach().numpy(), rtol=1e-10, atol=1e-10)
    value.backward(torch.tensor(delta))
    for name, gradient in {"x": dx, **gradients}.items():
        np.testing.assert_allclose(gradient, given[name].grad.numpy(), rtol=1e-10, atol=1e-10)
    assert gradients.keys() == layer.parameters.keys()
    assert backward(delta, need_dx=False)[0] is None


GRID = list(
    itertools.product(
        (1, 2, (2, 3)),  # stride
        (0, 1, (2, 1)),  # padding
        (1, (1, 2)),  # dilation
        (1, 2),  # groups
        (True, False),  # bias
    )
)
SHAPES = {
    "one sample": ((1, 4, 7, 6), 3),
    "even kernel": ((2, 4, 8, 5), (2, 3)),
    "kernel as large as the image": ((2, 4, 3, 5), (3, 3)),
    "strides that do not divide": ((3, 4, 6, 7), (1, 2)),
}


@pytest.mark.parametrize("kind", SHAPES)
def test_convolution_against_pytorch(kind):
    shape, kernel = SHAPES[kind]
    for stride, padding, dilation, groups, bias in GRID:
        options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        with nnx.use_backend("numpy", "float64"):
            layer = nnx.Conv2DLayer(4, 6, kernel, nnx.Linear(), **options, bias=bias)
        function = lambda F, *given, options=options: F.conv2d(*given, **options)
        against_pytorch(layer, normal(*shape), function)


@pytest.mark.parametrize("kind", SHAPES)
def test_transposed_convolution_against_pytorch(kind):
    shape, kernel = SHAPES[kind]
    for stride, padding, dilation, groups, bias in GRID:
        options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        if stride != 1:
            options["output_padding"] = (1, 0)
        with nnx.use_backend("numpy", "float64"):
            layer = nnx.ConvTranspose2DLayer(4, 6, kernel, nnx.Linear(), **options, bias=bias)

        def function(F, x, W, b=None, options=options):
            return F.conv_transpose2d(x, W, b, **options)

        against_pytorch(layer, normal(*shape), function)


@pytest.mark.parametrize("length", [5, 8])
def test_convolution_of_sequences_against_pytorch(length):
    for stride, padding, dilation, groups in itertools.product((1, 2, 3), (0, 2), (1, 2), (1, 2)):
        options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        with nnx.use_backend("numpy", "float64"):
            layer = nnx.Conv1DLayer(4, 6, 3, nnx.Linear(), **options)
        function = lambda F, *given, options=options: F.conv1d(*given, **options)
        against_pytorch(layer, normal(2, 4, length), function)


@pytest.mark.parametrize("kernel", [1, 2, 3, (2, 5)])
@pytest.mark.parametrize("dilation", [1, 2])
def test_same_padding_keeps_the_size_as_pytorch_does(kernel, dilation):
    with nnx.use_backend("numpy", "float64"):
        layer = nnx.Conv2DLayer(2, 3, kernel, nnx.Linear(), padding="same", dilation=dilation)
    assert layer.output_shape((2, 6, 7)) == (3, 6, 7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch tells that it copies for an odd padding
        against_pytorch(
            layer,
            normal(2, 2, 6, 7),
            lambda F, *given: F.conv2d(*given, padding="same", dilation=dilation),
        )


def test_same_padding_with_a_stride_is_the_size_over_the_stride_as_in_tensorflow(backend):
    layer = nnx.Conv1DLayer(1, 1, 3, nnx.Linear(), stride=2, padding="same")
    layer.W = backend.asarray([[[1.0, 10.0, 100.0]]])
    for n, expected in ((5, [210.0, 432.0, 54.0]), (4, [321.0, 43.0])):
        x = backend.asarray(np.arange(1.0, n + 1).reshape(1, 1, n))
        np.testing.assert_array_equal(backend.to_numpy(layer.forward(x)[0]), [[expected]])
        assert layer.output_shape((1, n)) == (1, len(expected))


def test_same_padding_of_a_transposed_convolution_multiplies_the_size():
    layer = nnx.ConvTranspose2DLayer(1, 1, 3, stride=2, padding="same")
    assert layer.output_shape((1, 4, 5)) == (1, 8, 10)
    assert layer.forward(np.float32(normal(2, 1, 4, 5)))[0].shape == (2, 1, 8, 10)


def test_one_cell_is_a_dense_layer(backend64):
    dense, conv = nnx.DenseLayer(5, 3), nnx.Conv2DLayer(5, 3, 1)
    conv.W = backend64.xp.reshape(dense.W, (3, 5, 1, 1))
    x = backend64.asarray(normal(4, 5))
    expected = backend64.to_numpy(dense.forward(x)[0])
    given = conv.forward(backend64.xp.reshape(x, (4, 5, 1, 1)))[0]
    np.testing.assert_allclose(backend64.to_numpy(given)[:, :, 0, 0], expected, rtol=1e-14)


def test_initial_weights_keep_a_signal():
    with nnx.use_backend("numpy"):
        he = nnx.Conv2DLayer(64, 128, 3, nnx.Linear(), initializer=nnx.HeNormal())
        grouped = nnx.Conv2DLayer(64, 128, 3, nnx.Linear(), initializer=nnx.HeNormal(), groups=4)
        turned = nnx.ConvTranspose2DLayer(64, 128, 3, nnx.Linear(), initializer=nnx.HeNormal())
        both = nnx.Conv2DLayer(64, 128, 3, groups=4)
    assert he.W.std() == pytest.approx(np.sqrt(2 / (64 * 9)), rel=0.02)
    assert grouped.W.std() == pytest.approx(np.sqrt(2 / (16 * 9)), rel=0.02)
    assert turned.W.std() == pytest.approx(np.sqrt(2 / (64 * 9)), rel=0.02)
    # factor sqrt(2) of ReLU, fans 16 * 9 and 32 * 9 of a group
    assert both.W.std() == pytest.approx(np.sqrt(2) * np.sqrt(2 / (48 * 9)), rel=0.02)
    assert he.W.shape == (128, 64, 3, 3)
    assert grouped.W.shape == (128, 16, 3, 3)
    assert turned.W.shape == (64, 128, 3, 3)
    assert not he.b.any()


def test_the_identity_passes_every_channel_of_every_group_on():
    x = np.float32(normal(2, 4, 5, 6))
    for kind in (nnx.Conv2DLayer, nnx.ConvTranspose2DLayer):
        for groups in (1, 2):
            layer = kind(
                4, 4, 3, nnx.Linear(), initializer=nnx.Identity(), padding=1, groups=groups
            )
            np.testing.assert_array_equal(layer.forward(x)[0], x)


@pytest.mark.parametrize("kind", LAYERS)
def test_no_samples_are_no_trouble(kind):
    make, shape = LAYERS[kind]
    with nnx.use_backend("numpy"):
        layer = make()
    x = np.zeros((0, *shape[1:]), dtype=np.float32)
    y, backward = layer.forward(x)
    assert y.shape == (0, *layer.output_shape(shape[1:]))
    assert backward(y)[0].shape == x.shape


def test_no_bias_is_no_parameter():
    assert list(nnx.Conv2DLayer(1, 2, 3).parameters) == ["W", "b"]
    assert list(nnx.Conv2DLayer(1, 2, 3, bias=False).parameters) == ["W"]


def test_arguments_are_left_alone_whatever_their_layout(backend):
    layer = nnx.Conv2DLayer(3, 4, 3, padding=1)
    host = np.float32(normal(2, 3, 5, 6))
    x = backend.asarray(host.copy())
    turned = backend.xp.permute_dims(backend.asarray(host.transpose(1, 2, 3, 0)), (3, 0, 1, 2))
    y, backward = layer.forward(x)
    dx, _ = backward(x[:, :1, ...] + backend.xp.zeros_like(y))
    expected = [backend.to_numpy(array) for array in (y, dx)]
    y, backward = layer.forward(turned)
    dx, _ = backward(turned[:, :1, ...] + backend.xp.zeros_like(y))
    for ours, theirs in zip((y, dx), expected):
        np.testing.assert_array_equal(backend.to_numpy(ours), theirs)
    np.testing.assert_array_equal(backend.to_numpy(x), host)


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        ((3, 4, 3), (2, 8, 8), r"shape \(3, height, width\), got \(2, 8, 8\): Conv2DLayer\(2, "),
        ((3, 4, 3), (8, 8, 3), r"got \(8, 8, 3\): channels come first"),
        ((3, 4, 3), (192,), r"got \(192,\): put ReshapeLayer\(\(3, height, width\)\) before it"),
        (
            (3, 4, 3),
            (3, 8, 2),
            r"windows of width 3, .*\(3, 8, 2\), whose width is 2, with padding 2",
        ),
    ],
)
def test_wrong_shapes_are_refused(layer, shape, message):
    with pytest.raises(nnx.ShapeError, match=message):
        nnx.Conv2DLayer(*layer).output_shape(shape)


def test_a_network_names_the_layer_that_does_not_fit():
    layers = [nnx.Conv2DLayer(1, 4, 3), nnx.Conv2DLayer(3, 4, 3)]
    with pytest.raises(nnx.ShapeError, match=r"layer 2 \(Conv2DLayer\) takes input of shape \(3, "):
        nnx.SequentialNet((1, 8, 8), layers)
    with pytest.raises(nnx.ShapeError, match="cuts off the whole output for input of shape"):
        nnx.ConvTranspose2DLayer(1, 1, 3, padding=2).output_shape((1, 1, 1))
    with pytest.raises(nnx.ShapeError, match=r"shape \(1, length\), got \(1, 8, 8\)"):
        nnx.Conv1DLayer(1, 4, 3).output_shape((1, 8, 8))


def lenet(optim=None):
    return nnx.SequentialNet(
        (1, 12, 12),
        [
            nnx.Conv2DLayer(1, 4, 3, optim=optim),
            nnx.MaxPool2DLayer(2),
            nnx.Conv2DLayer(4, 6, 3, optim=optim),
            nnx.FlattenLayer(),
            nnx.DenseLayer(54, 3, nnx.SoftMax(), optim),
        ],
        nnx.CrossEntropy(),
    )


def test_a_network_learns_where_a_bar_lies(backend):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 96)
    x = 0.1 * rng.standard_normal((96, 1, 12, 12))
    for image, kind in zip(x, y):
        place = rng.integers(2, 10)
        index = {0: np.s_[0, place, :], 1: np.s_[0, :, place], 2: np.s_[0, place, place]}[int(kind)]
        image[index] += 1.0
    net = lenet(nnx.Adam(0.005))
    history = net.train(x, y, 16, 12, progress=False)
    assert history.loss[-1] < 0.5 * history.loss[0]


def test_the_gradients_of_a_network():
    check_gradients(lenet(), normal(3, 1, 12, 12), y=np.arange(3))


def test_a_step_of_a_network_reads_nothing_on_the_host():
    with nnx.use_backend("numpy"):
        net = lenet(nnx.SGD(0.1))
    x, y = np.float32(normal(4, 1, 12, 12)), np.asarray([0, 1, 2, 0])
    assert_no_host_sync(lambda net, x, y: net.step(x, y), net, x, y)


# kind -> launches allowed and products on CuPy, forward and backward
BUDGETS = {
    "2d": ((12, 3), (21, 4)),
    "2d, same": ((15, 2), (19, 3)),
    "1d": ((9, 1), (10, 2)),
    "transpose": ((13, 1), (20, 6)),
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
    for stats, (launches, products) in zip(counted, BUDGETS[kind]):
        assert stats["launches"] <= launches
        assert stats["gemm"] == products
        forbidden = ("h2d", "d2h", "stream_sync", "dev_sync", "event_sync")
        assert not any(stats.get(name, 0) for name in forbidden)


@pytest.mark.gpu
def test_a_step_of_a_small_lenet_on_cupy(record_property):
    counters = pytest.importorskip("cpusim", reason="no counters of CUDA calls here")
    with nnx.use_backend("cupy") as backend:
        net = lenet(nnx.SGD(0.1))
        x, y = backend.asarray(normal(4, 1, 12, 12)), backend.asarray(np.asarray([0, 1, 2, 0]))
        net.step(x, y)
        counters.reset()
        net.step(x, y)
        counted = counters.stats()
    record_property("counted", counted)
    print("LeNet", counted)
    assert counted["launches"] <= 83
    assert counted["gemm"] == 12
    forbidden = ("h2d", "d2h", "stream_sync", "dev_sync", "event_sync")
    assert not any(counted.get(name, 0) for name in forbidden)
