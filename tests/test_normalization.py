"""Batch, layer and group normalization: by hand, against PyTorch, by differences, on CuPy."""

import numpy as np
import pytest
from conftest import QUICK_BACKENDS, compile_on, usable

import nnx
from nnx.testing import assert_no_host_sync, check_backends, check_gradients

BATCH = lambda n, **options: lambda: nnx.BatchNormLayer(n, **options)
LAYER = lambda shape, **options: lambda: nnx.LayerNormLayer(shape, **options)
GROUP = lambda groups, n, **options: lambda: nnx.GroupNormLayer(groups, n, **options)

# name -> how the layer is made, the shape of its inputs
CASES = {
    "batch": (BATCH(4), (7, 4)),
    "batch, signals": (BATCH(2), (3, 2, 7)),
    "batch, images": (BATCH(3), (4, 3, 2, 5)),
    "batch, volumes": (BATCH(2), (2, 2, 2, 3, 2)),
    "batch, images of one pixel": (BATCH(3), (6, 3, 1, 1)),
    "batch, one sample": (BATCH(2), (1, 2, 3, 3)),
    "batch, one channel": (BATCH(1), (5, 1)),
    "batch, not affine": (BATCH(3, affine=False), (4, 3, 2, 5)),
    "layer": (LAYER(6), (5, 6)),
    "layer, sequences": (LAYER(6), (2, 3, 6)),
    "layer, images": (LAYER((3, 2, 5)), (4, 3, 2, 5)),
    "layer, last two axes": (LAYER((2, 5)), (4, 3, 2, 5)),
    "layer, one sample": (LAYER(4), (1, 4)),
    "layer, not affine": (LAYER(4, affine=False), (3, 4)),
    "group": (GROUP(2, 6), (5, 6)),
    "group, images": (GROUP(3, 6), (4, 6, 2, 5)),
    "group, volumes": (GROUP(2, 4), (2, 4, 2, 1, 3)),
    "group, images of one pixel": (GROUP(2, 6), (3, 6, 1, 1)),
    "group, one group": (GROUP(1, 4), (2, 4, 3, 3)),
    "group, every channel alone": (GROUP(4, 4), (2, 4, 3, 3)),
    "group, one sample": (GROUP(2, 4), (1, 4, 2, 2)),
    "group, one channel": (GROUP(1, 1), (3, 1, 2, 2)),
    "group, not affine": (GROUP(2, 4, affine=False), (3, 4, 2)),
}
OF_ONE_VALUE = {
    "layer": (LAYER(1), (4, 1)),
    "layer, one pixel": (LAYER((1, 1)), (2, 3, 1, 1)),
    "group": (GROUP(3, 3), (4, 3)),
    "group, one pixel": (GROUP(3, 3), (4, 3, 1, 1)),
}
PLAIN = ("batch, images", "layer, images", "group, images")
# With those, one of each way through the formulas; the others differ in their shape alone.
COMPILED = ("batch", "batch, not affine", "layer, not affine", "group", "group, not affine")
one_of_each = pytest.mark.parametrize(("make", "shape"), [CASES[n] for n in PLAIN], ids=PLAIN)


def inputs(shape, seed=0):
    """Channels of different means and deviations."""
    rng = np.random.default_rng(seed)
    scale = np.arange(1.0, shape[1] + 1).reshape(-1, *[1] * (len(shape) - 2))
    return scale * (rng.standard_normal(shape) + 2.0)


# ---------------------------------------------------------------- by hand


def test_batch_normalization_by_hand(backend):
    layer = nnx.BatchNormLayer(1, epsilon=3.0)
    layer.gamma, layer.beta = backend.asarray([4.0]), backend.asarray([1.0])
    y, backward = layer.forward(backend.asarray([[1.0], [3.0]]), training=True)
    dx, gradients = backward(backend.asarray([[1.0], [0.0]]))
    # mean 2, variance 1, deviation sqrt(1 + 3) = 2, xhat = -1/2, 1/2. With h = (x2 - x1) / 2 the
    # first output is 1 - 4 h / sqrt(h^2 + 3), its derivative by h -4 * 3 / 4^(3/2) = -3/2.
    expected = {
        "y": (y, [[-1.0], [3.0]]),
        "dx": (dx, [[0.75], [-0.75]]),
        "dgamma": (gradients["gamma"], [-0.5]),
        "dbeta": (gradients["beta"], [1.0]),
        # 0.9 * 0 + 0.1 * 2, and 0.9 * 1 + 0.1 * 2: the variance with the divisor 2 - 1 is 2
        "mean": (layer.buffers["mean"], [0.2]),
        "variance": (layer.buffers["variance"], [1.1]),
    }
    for name, (array, values) in expected.items():
        assert array.dtype == backend.dtype, name
        np.testing.assert_allclose(backend.to_numpy(array), values, rtol=1e-6, err_msg=name)


def test_batch_normalization_in_evaluation_by_hand(backend):
    layer = nnx.BatchNormLayer(1, epsilon=3.0)
    layer.gamma, layer.beta = backend.asarray([4.0]), backend.asarray([1.0])
    layer.buffers["mean"], layer.buffers["variance"] = layer.beta + 1.0, layer.beta
    y, backward = layer.forward(backend.asarray([[6.0]]))  # xhat = (6 - 2) / sqrt(1 + 3) = 2
    dx, gradients = backward(backend.asarray([[1.0]]))
    found = [y[0, 0], dx[0, 0], gradients["gamma"][0], gradients["beta"][0]]
    assert [float(backend.to_numpy(v)) for v in found] == pytest.approx([9.0, 2.0, 2.0, 1.0])


def test_layer_normalization_by_hand(backend):
    layer = nnx.LayerNormLayer(2, epsilon=3.0)
    layer.gamma, layer.beta = backend.asarray([4.0, 2.0]), backend.asarray([1.0, 0.0])
    y, backward = layer.forward(backend.asarray([[1.0, 3.0], [7.0, 5.0]]))
    dx, gradients = backward(backend.asarray([[1.0, 0.0], [0.0, 1.0]]))
    # xhat = (-1/2, 1/2) and (1/2, -1/2). The derivatives of y11 as above; y22 has 2 for 4.
    for array, values in (
        (y, [[-1.0, 1.0], [3.0, -1.0]]),
        (dx, [[0.75, -0.75], [-0.375, 0.375]]),
        (gradients["gamma"], [-0.5, -0.5]),
        (gradients["beta"], [1.0, 1.0]),
    ):
        np.testing.assert_allclose(backend.to_numpy(array), values, rtol=1e-6)


def test_group_normalization_by_hand(backend):
    layer = nnx.GroupNormLayer(2, 4, epsilon=3.0)
    layer.gamma = backend.asarray([4.0, 4.0, 2.0, 2.0])
    y, backward = layer.forward(backend.asarray([[1.0, 3.0, 12.0, 10.0]]))
    dx, gradients = backward(backend.asarray([[1.0, 0.0, 0.0, 0.0]]))
    # xhat = -1/2, 1/2 in the first group, 1/2, -1/2 in the second, to which delta does not go
    for array, values in (
        (y, [[-2.0, 2.0, 1.0, -1.0]]),
        (dx, [[0.75, -0.75, 0.0, 0.0]]),
        (gradients["gamma"], [-0.5, 0.0, 0.0, 0.0]),
        (gradients["beta"], [1.0, 0.0, 0.0, 0.0]),
    ):
        np.testing.assert_allclose(backend.to_numpy(array), values, rtol=1e-6)


# ---------------------------------------------------------------- derivatives, backends


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_backward_is_the_derivative_of_forward(case, training):
    make, shape = CASES[case]
    with nnx.use_backend("numpy", "float64"):
        layer = make()
        if layer.buffers:  # evaluation with statistics that are not those of the data
            layer.buffers["mean"] = layer.buffers["mean"] + 0.5
            layer.buffers["variance"] = layer.buffers["variance"] * 2.0
    autodiff = None if case in PLAIN else ()  # which compiles every shape anew
    check_gradients(layer, inputs(shape), training=training, autodiff=autodiff)


@pytest.mark.parametrize("case", CASES)
def test_backends_agree(case):
    make, shape = CASES[case]
    # dx, and its rounding, go with 1 / deviation: a few values may happen to lie close together
    dtypes = ("float32", "float64") if case in PLAIN else ("float32",)
    backends = None if case in (*PLAIN, *COMPILED) else QUICK_BACKENDS
    check_backends(make, 4.0 * inputs(shape), dtypes=dtypes, backends=backends)


@pytest.mark.parametrize("case", OF_ONE_VALUE)
def test_a_value_that_is_normalized_by_itself_becomes_beta_and_has_no_derivative(case, backend):
    make, shape = OF_ONE_VALUE[case]
    layer, x = make(), backend.asarray(inputs(shape))
    layer.beta = 3.0 * layer.gamma
    y, backward = layer.forward(x, training=True)
    dx, gradients = backward(x)
    np.testing.assert_array_equal(backend.to_numpy(y), np.full(shape, 3.0))
    np.testing.assert_array_equal(backend.to_numpy(dx), np.zeros(shape))
    assert not np.any(backend.to_numpy(gradients["gamma"]))


@one_of_each
def test_what_is_constant_becomes_beta_and_nothing_is_infinite(make, shape, backend):
    layer, x = make(), backend.asarray(np.full(shape, 7.0))
    y, backward = layer.forward(x, training=True)
    dx, gradients = backward(backend.asarray(inputs(shape)))
    # a mean of sevens may be off by an epsilon of 7, which sqrt(1e-5) magnifies
    np.testing.assert_allclose(backend.to_numpy(y), np.zeros(shape), atol=3e-4)
    for array in (dx, *gradients.values()):
        assert np.all(np.isfinite(backend.to_numpy(array)))


@one_of_each
def test_a_large_mean_does_not_eat_the_variance(make, shape, backend):
    """The difference of E[x^2] and E[x]^2 would be off by more than the variance itself."""
    x = np.random.default_rng(0).standard_normal(shape) + 1e4
    x = backend.to_numpy(backend.asarray(x))
    y = backend.to_numpy(make().forward(backend.asarray(x), training=True)[0])
    with nnx.use_backend("numpy", "float64"):
        exact = make().forward(x.astype("float64"), training=True)[0]
    # the mean itself is right to half a unit in its last place, 5e-4, and y with it
    np.testing.assert_allclose(y, exact, atol=3e-3)
    assert y.dtype == np.float32


# ---------------------------------------------------------------- PyTorch


def torch_twin(torch, layer, shape):
    """The same layer there, with the same parameters and buffers."""
    double = {"dtype": torch.float64}
    match layer:
        case nnx.BatchNormLayer():
            kinds = {2: torch.nn.BatchNorm1d, 3: torch.nn.BatchNorm1d, 4: torch.nn.BatchNorm2d}
            kind = kinds.get(len(shape), torch.nn.BatchNorm3d)
            twin = kind(layer.n, layer.epsilon, layer.momentum, layer.affine, **double)
        case nnx.LayerNormLayer():
            twin = torch.nn.LayerNorm(layer.shape, layer.epsilon, layer.affine, **double)
        case nnx.GroupNormLayer():
            twin = torch.nn.GroupNorm(layer.groups, layer.n, layer.epsilon, layer.affine, **double)
    with torch.no_grad():
        for ours, theirs in (("gamma", "weight"), ("beta", "bias")):
            if layer.affine:
                getattr(twin, theirs).copy_(torch.tensor(layer.parameters[ours]))
        for ours, theirs in (("mean", "running_mean"), ("variance", "running_var")):
            if layer.buffers:
                getattr(twin, theirs).copy_(torch.tensor(layer.buffers[ours]))
    return twin


@pytest.mark.parametrize("case", CASES)
def test_values_gradients_and_running_statistics_are_those_of_pytorch(case, record_property):
    torch = pytest.importorskip("torch")
    make, shape = CASES[case]
    rng = np.random.default_rng(1)
    with nnx.use_backend("numpy", "float64"):
        layer = make()
        for name, p in layer.parameters.items():
            setattr(layer, name, p + rng.standard_normal(p.shape))
        if layer.buffers:
            layer.momentum = 0.3
            layer.buffers["mean"] = rng.standard_normal(layer.n)
            layer.buffers["variance"] = rng.random(layer.n) + 0.5
    twin = torch_twin(torch, layer, shape)
    errors = {"value": 0.0, "gradient": 0.0, "statistics": 0.0}

    def compare(kind, ours, theirs):
        theirs = theirs.detach().numpy()
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10, err_msg=kind)
        errors[kind] = max(errors[kind], float(np.max(np.abs(ours - theirs))))

    for batch, training in enumerate([True, True, True, False, True, False]):
        x, delta = inputs(shape, seed=batch), rng.standard_normal(shape)
        y, backward = layer.forward(x, training)
        dx, gradients = backward(delta)
        twin.train(training)
        twin.zero_grad()
        tx = torch.tensor(x, requires_grad=True)
        ty = twin(tx)
        ty.backward(torch.tensor(delta))
        compare("value", y, ty)
        compare("gradient", dx, tx.grad)
        if layer.affine:
            compare("gradient", gradients["gamma"], twin.weight.grad)
            compare("gradient", gradients["beta"], twin.bias.grad)
        if layer.buffers:
            compare("statistics", layer.buffers["mean"], twin.running_mean)
            compare("statistics", layer.buffers["variance"], twin.running_var)
    print(case, errors)
    record_property("errors", errors)


# ---------------------------------------------------------------- the running statistics


def test_running_statistics_move_in_training_alone_and_no_array_is_written_to(backend):
    layer, x = nnx.BatchNormLayer(3), backend.asarray(inputs((8, 3)))
    before = dict(layer.buffers)
    layer.forward(x)
    assert all(layer.buffers[name] is before[name] for name in before)
    layer.forward(x, training=True)
    assert all(layer.buffers[name] is not before[name] for name in before)
    np.testing.assert_array_equal(backend.to_numpy(before["mean"]), np.zeros(3))
    np.testing.assert_array_equal(backend.to_numpy(before["variance"]), np.ones(3))
    assert {array.dtype for array in layer.buffers.values()} == {backend.dtype}


def test_a_momentum_of_one_keeps_the_statistics_of_the_last_batch(backend64):
    layer, x = nnx.BatchNormLayer(3, momentum=1), inputs((8, 3, 2))
    layer.forward(backend64.asarray(-x), training=True)
    layer.forward(backend64.asarray(x), training=True)
    mean, variance = (backend64.to_numpy(layer.buffers[name]) for name in ("mean", "variance"))
    np.testing.assert_allclose(mean, x.mean(axis=(0, 2)), rtol=1e-12)
    np.testing.assert_allclose(variance, x.var(axis=(0, 2), ddof=1), rtol=1e-12)


def test_a_backward_belongs_to_its_own_forward(backend64):
    """A training step between them changes the buffers, and not what backward computes with."""
    layer, delta = nnx.BatchNormLayer(3), backend64.asarray(inputs((8, 3), 1))
    x = backend64.asarray(inputs((8, 3)))
    expected = [backend64.to_numpy(layer.forward(x, t)[1](delta)[0]) for t in (False, True)]
    layer = nnx.BatchNormLayer(3)
    backwards = [layer.forward(x, training)[1] for training in (False, True)]
    layer.forward(delta, training=True)
    for backward, dx in zip(backwards, expected):
        np.testing.assert_array_equal(backend64.to_numpy(backward(delta)[0]), dx)


def test_buffers_move_with_the_network_and_belong_to_one_alone(backend):
    net = nnx.SequentialNet(3, [nnx.BatchNormLayer(3), nnx.DenseLayer(3, 2)])
    net.evaluate(inputs((8, 3)), training=True)
    moved = net.to("numpy")
    kept = {n: backend.to_numpy(b).copy() for n, b in net.layers[0].buffers.items()}
    for name, buffer in moved.layers[0].buffers.items():
        assert type(buffer) is np.ndarray
        np.testing.assert_array_equal(buffer, kept[name])
    np.testing.assert_allclose(
        moved.evaluate(inputs((8, 3))), backend.to_numpy(net.evaluate(inputs((8, 3)))), atol=1e-5
    )
    moved.evaluate(inputs((8, 3), 1), training=True)
    for name, buffer in net.layers[0].buffers.items():
        np.testing.assert_array_equal(backend.to_numpy(buffer), kept[name])


# ---------------------------------------------------------------- in a network


def network(eta=0.1):
    nnx.seed(5)
    optim = nnx.SGD(eta)
    layers = [
        nnx.BatchNormLayer(6, optim=optim),
        nnx.DenseLayer(6, 8, nnx.Linear(), optim),
        nnx.GroupNormLayer(2, 8, optim=optim),
        nnx.DenseLayer(8, 8, nnx.TanH(), optim),
        nnx.LayerNormLayer(8, optim=optim),
        nnx.DenseLayer(8, 2, nnx.SoftMax(), optim),
    ]
    return nnx.SequentialNet(6, layers, nnx.CrossEntropy())


def test_a_network_with_all_three_learns_from_data_of_every_size(backend):
    x = np.random.default_rng(0).standard_normal((200, 6)) * 10.0 ** np.arange(-2, 4) + 5.0
    y = (x[:, 0] - 5.0 > (x[:, 1] - 5.0) / 10).astype(int)
    net = network()
    first = {name: nnx.to_numpy(p) for name, p in net.layers[0].parameters.items()}
    history = net.train(x, y, 20, 30, progress=False)
    assert history.loss[-1] < 0.3 * history.loss[0]
    assert net.score(x, y).accuracy > 0.93
    for name, p in first.items():
        assert not np.allclose(p, nnx.to_numpy(net.layers[0].parameters[name]))
    # ten batches an epoch, thirty epochs: what is left of the zeros and ones is 0.9 ** 300
    mean, variance = (nnx.to_numpy(net.layers[0].buffers[name]) for name in ("mean", "variance"))
    np.testing.assert_allclose(mean, x.mean(axis=0), atol=0.3 * x.std(axis=0).max())
    np.testing.assert_allclose(variance, x.var(axis=0), rtol=0.3)
    few = x[:5]
    alone, together = net.evaluate(few[:1]), net.evaluate(few)
    np.testing.assert_allclose(nnx.to_numpy(alone)[0], nnx.to_numpy(together)[0], atol=1e-5)
    in_training = nnx.to_numpy(net.evaluate(few, training=True))
    assert np.max(np.abs(in_training - nnx.to_numpy(together))) > 1e-3


def test_the_gradients_of_a_whole_network_in_training():
    with nnx.use_backend("numpy", "float64"):
        net = network()
    rng = np.random.default_rng(0)
    check_gradients(net, rng.standard_normal((7, 6)), y=np.arange(7) % 2, autodiff=())


def test_backends_train_the_same_network():
    check_backends(network, dtypes=("float32",), steps=30)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("kind", [nnx.BatchNormLayer, nnx.LayerNormLayer])
def test_the_classroom_interface(kind, affine, backend):
    layer = kind(2, affine=affine, optim=nnx.SGD(0.5))
    y = layer.evaluate(backend.asarray([[1.0, 2.0], [3.0, 6.0]]), training=True)
    layer.backprop(y)
    layer.update()
    assert list(layer.parameters) == (["gamma", "beta"] if affine else [])
    if affine:
        # y is 1 or -1 almost: dgamma = 2, dbeta = 0 or (-2, 2), gamma - 0.5 * 2 = 0
        np.testing.assert_allclose(backend.to_numpy(layer.gamma), [0.0, 0.0], atol=1e-4)
        np.testing.assert_array_equal(backend.to_numpy(layer.dbeta) ** 2 < 4.001, True)


def test_layers_without_parameters_train_under_one_optimizer_of_the_network(backend):
    layers = [nnx.BatchNormLayer(6, affine=False), nnx.DenseLayer(6, 1, nnx.Linear())]
    net = nnx.SequentialNet(6, layers, optim=nnx.Adam())
    x = inputs((40, 6))
    history = net.train(x, x[:, :1], 10, 3, progress=False)
    assert history.loss[-1] < history.loss[0]


# ---------------------------------------------------------------- host, device, compiler


@one_of_each
@pytest.mark.parametrize("training", [False, True])
def test_nothing_is_read_back(make, shape, training):
    usable("strict")
    x = inputs(shape).astype("float32")
    assert_no_host_sync(lambda layer, x: layer.forward(x, training)[1](x), make(), x)


@one_of_each
@pytest.mark.parametrize("training", [False, True])
def test_a_compiler_can_trace_it_with_the_buffers_as_state(make, shape, training):
    usable("jax")
    with nnx.use_backend("jax") as backend:
        layer, x = make(), backend.asarray(inputs(shape))
        delta = backend.asarray(inputs(shape, seed=1))

        def step(buffers, x, delta):
            twin = layer.to(backend)
            twin.parameters, twin.buffers = layer.parameters, dict(buffers)
            y, backward = twin.forward(x, training)
            return y, *backward(delta), twin.buffers

        def flat(result):
            y, dx, gradients, buffers = result
            return [
                y,
                dx,
                *(array for of in (gradients, buffers) for _, array in sorted(of.items())),
            ]

        compiled, plain = compile_on(backend, step), step(layer.buffers, x, delta)
        for ours, theirs in zip(flat(compiled(layer.buffers, x, delta)), flat(plain)):
            np.testing.assert_allclose(
                backend.to_numpy(ours), backend.to_numpy(theirs), rtol=2e-5, atol=2e-5
            )


# Kernels of (forward, backward) in training and in evaluation.
BUDGETS = {
    "batch": ((15, 10), (6, 5)),
    "batch, images": ((15, 10), (6, 5)),
    "batch, not affine": ((13, 7), (4, 1)),
    "layer, images": ((9, 11), (9, 11)),
    "group, images": ((9, 11), (9, 11)),
    "group, not affine": ((7, 7), (7, 7)),
}


@pytest.mark.gpu
@pytest.mark.parametrize("case", BUDGETS)
def test_launches_on_cupy(case, record_property):
    counters = pytest.importorskip("cpusim", reason="no counters of CUDA calls here")
    make, shape = CASES[case]
    with nnx.use_backend("cupy") as backend:
        layer, x = make(), backend.asarray(inputs(shape))
        for training, budget in zip((True, False), BUDGETS[case]):
            for _ in range(2):  # kernels are compiled and memory is taken at their first use
                _y, backward = layer.forward(x, training)
                backward(x)
            counters.reset()
            _y, backward = layer.forward(x, training)
            forward_counts = dict(counters.stats())
            counters.reset()
            backward(x)
            counts = [forward_counts, dict(counters.stats())]
            print(case, "training" if training else "evaluation", counts)
            record_property("counted", counts)
            for counted, launches in zip(counts, budget):
                assert counted.pop("launches", 0) <= launches
                assert not any(counted.values()), counted


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (BATCH(3), (4,), r"takes input of shape \(3,\) or \(3, \.\.\.\), got \(4,\)"),
        (BATCH(3), (4, 3), r"takes input of shape \(3,\) or \(3, \.\.\.\), got \(4, 3\)"),
        (BATCH(3), (), r"takes input of shape \(3,\) or \(3, \.\.\.\), got \(\)"),
        (GROUP(2, 4), (3, 4), r"takes input of shape \(4,\) or \(4, \.\.\.\), got \(3, 4\)"),
        (LAYER(3), (3, 1), r"takes input of shape \(\.\.\., 3\), got \(3, 1\)"),
        (LAYER((3, 2)), (2,), r"takes input of shape \(\.\.\., 3, 2\), got \(2,\)"),
    ],
)
def test_inputs_of_another_shape_are_refused(layer, shape, message):
    with pytest.raises(nnx.ShapeError, match=message):
        layer().output_shape(shape)
    if shape:
        with pytest.raises(nnx.ShapeError, match=rf"layer 1 \(\w+NormLayer\) {message}"):
            nnx.SequentialNet(shape, [layer()])
        for training in (False, True):
            with pytest.raises(nnx.ShapeError, match=rf"^\w+NormLayer {message}"):
                layer().forward(np.zeros((8, *shape), dtype="float32"), training)


def test_a_single_channel_is_not_broadcast_to_many():
    with pytest.raises(nnx.ShapeError, match=r"got \(1,\)"):
        nnx.BatchNormLayer(3).forward(np.zeros((8, 1), dtype="float32"), training=True)


@pytest.mark.parametrize("shape", [(1, 3), (1, 3, 1, 1)])
def test_a_batch_with_one_value_per_channel_is_refused_in_training(shape, backend):
    layer, x = nnx.BatchNormLayer(3), backend.asarray(np.ones(shape))
    before = dict(layer.buffers)
    message = r"BatchNormLayer: expected more than one value per channel.*of 1 with.*batch_size"
    with pytest.raises(nnx.ShapeError, match=message):
        layer.forward(x, training=True)
    assert all(layer.buffers[name] is array for name, array in before.items())
    assert layer.forward(x)[0].shape == shape  # in evaluation a sample may be alone


def test_sizes_may_be_numpy_integers_and_shapes_lists():
    assert nnx.BatchNormLayer(np.int64(3)).output_shape((3, 5)) == (3, 5)
    assert nnx.LayerNormLayer([np.int64(2), 3]).shape == (2, 3)
    assert nnx.LayerNormLayer(np.int32(3)).shape == (3,)


@pytest.mark.parametrize(
    ("shape", "samples", "possible"),
    [((3,), 1, False), ((3,), 2, True), ((3, 1, 1), 1, False), ((3, 2), 1, True), ((3,), 0, False)],
)
def test_a_batch_is_judged_by_its_shape_before_the_first_step(shape, samples, possible):
    layer = nnx.BatchNormLayer(3, name="norm")
    if possible:
        layer.check_batch(shape, samples)
    else:
        with pytest.raises(nnx.ShapeError, match=r"^norm: .*leaves no batch of one sample, or lea"):
            layer.check_batch(shape, samples)
    layer.frozen = True
    layer.check_batch(shape, samples)
    nnx.LayerNormLayer(3).check_batch(shape, samples)


def test_a_frozen_layer_is_the_same_in_training_as_in_evaluation(backend):
    layer, x = nnx.BatchNormLayer(3), backend.asarray(np.random.default_rng(0).normal(size=(5, 3)))
    layer.forward(x, training=True)
    layer.frozen, before = True, dict(layer.buffers)
    for ours, theirs in zip(
        [layer.forward(x, training=True)[0], layer.forward(x, training=True)[1](x)[0]],
        [layer.forward(x)[0], layer.forward(x)[1](x)[0]],
    ):
        np.testing.assert_array_equal(backend.to_numpy(ours), backend.to_numpy(theirs))
    assert all(layer.buffers[name] is array for name, array in before.items())
