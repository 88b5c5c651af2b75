import numpy as np
import pytest

import nnx
from nnx.layers import Layer, Parameter, ShapeError


def weighted_sum(layer, x, delta):
    """sum(delta * forward(x)): its gradients are what backward(delta) must return."""
    xp = layer.backend.xp
    return float(layer.backend.to_numpy(xp.sum(delta * layer.forward(x)[0])))


def numeric_gradient(f, array):
    """Central differences of f() in every entry of a NumPy array, which f reads."""
    gradient = np.zeros_like(array)
    for i in np.ndindex(array.shape):
        kept, h = array[i], 1e-6
        array[i] = kept + h
        above = f()
        array[i] = kept - h
        gradient[i] = (above - f()) / (2 * h)
        array[i] = kept
    return gradient


@pytest.mark.parametrize("afun", [nnx.TanH(), nnx.Logistic(), nnx.SoftMax(), nnx.Linear()])
def test_backward_is_the_derivative_of_forward(afun):
    with nnx.use_backend("numpy", dtype="float64"):
        layer = nnx.DenseLayer(4, 3, afun)
    rng = np.random.default_rng(1)
    x, delta = rng.standard_normal((5, 4)), rng.standard_normal((5, 3))
    layer.b = rng.standard_normal(3)
    _, backward = layer.forward(x)
    dx, gradients = backward(delta)

    def loss():
        return weighted_sum(layer, x, delta)

    np.testing.assert_allclose(dx, numeric_gradient(loss, x), rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(
        gradients["W"], numeric_gradient(loss, layer.parameters["W"]), rtol=1e-7, atol=1e-8
    )
    np.testing.assert_allclose(
        gradients["b"], numeric_gradient(loss, layer.parameters["b"]), rtol=1e-7, atol=1e-8
    )


def test_forward_and_backward_by_hand(backend):
    layer = nnx.DenseLayer(2, 3, nnx.ReLU())
    layer.W = backend.asarray([[1.0, 2.0], [3.0, -4.0], [0.0, 1.0]])
    layer.b = backend.asarray([0.5, 0.0, -3.0])
    x = backend.asarray([[1.0, 1.0], [2.0, 0.0]])
    a, backward = layer.forward(x)
    dx, gradients = backward(backend.asarray([[1.0, 1.0, 1.0], [1.0, 2.0, 1.0]]))
    # z = [[3.5, -1, -2], [2.5, 6, -3]], so dz = [[1, 0, 0], [1, 2, 0]]
    expected = {
        "a": (a, [[3.5, 0.0, 0.0], [2.5, 6.0, 0.0]]),
        "dx": (dx, [[1.0, 2.0], [7.0, -6.0]]),
        "dW": (gradients["W"], [[3.0, 1.0], [4.0, 0.0], [0.0, 0.0]]),
        "db": (gradients["b"], [2.0, 2.0, 0.0]),
    }
    for name, (array, values) in expected.items():
        assert array.dtype == backend.dtype, name
        np.testing.assert_array_equal(backend.to_numpy(array), values, err_msg=name)


def test_forward_and_backward_against_pytorch():
    torch = pytest.importorskip("torch")
    with nnx.use_backend("numpy", dtype="float64"):
        layer = nnx.DenseLayer(7, 5, nnx.TanH())
    rng = np.random.default_rng(2)
    x, delta = rng.standard_normal((6, 7)), rng.standard_normal((6, 5))
    a, backward = layer.forward(x)
    dx, gradients = backward(delta)

    tx, tW, tb = (torch.tensor(v, requires_grad=True) for v in (x, layer.W, layer.b))
    ta = torch.tanh(torch.nn.functional.linear(tx, tW, tb))
    ta.backward(torch.tensor(delta))
    for ours, theirs in [
        (a, ta.detach()),
        (dx, tx.grad),
        (gradients["W"], tW.grad),
        (gradients["b"], tb.grad),
    ]:
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-13, atol=1e-14)


def test_initial_weights_have_the_shape_and_size_that_keep_a_signal(backend):
    layer = nnx.DenseLayer(400, 300, nnx.ReLU())
    W = backend.to_numpy(layer.W)
    assert W.shape == (300, 400)
    # factor sqrt(2) times sqrt(2 / (m + n)); 120,000 entries give the deviation to 0.2 %
    assert W.std() == pytest.approx(np.sqrt(2.0) * np.sqrt(2.0 / 700), rel=0.01)
    np.testing.assert_array_equal(backend.to_numpy(layer.b), np.zeros(300))
    assert layer.W.dtype == layer.b.dtype == backend.dtype


def gradients_of_two_layers(first_afun, second_afun):
    nnx.seed(3)
    first, second = nnx.DenseLayer(3, 3, first_afun), nnx.DenseLayer(3, 3, second_afun)
    x = first.backend.asarray(np.random.default_rng(0).standard_normal((4, 3)))
    second.evaluate(first.evaluate(x))
    first.backprop(second.backprop(first.backend.asarray(np.ones((4, 3)))))
    return [first.backend.to_numpy(g) for g in (first.dW, first.db, second.dW, second.db)]


def largest_difference_of_shared_and_separate(make):
    shared = make()
    pairs = zip(gradients_of_two_layers(shared, shared), gradients_of_two_layers(make(), make()))
    return max(np.abs(ours - apart).max() for ours, apart in pairs)


def test_one_activation_object_serves_two_layers(backend):
    assert largest_difference_of_shared_and_separate(nnx.TanH) == 0


def test_an_activation_that_keeps_its_value_on_the_object_would_not():
    """The defect that the test above is there for."""

    class Caching(nnx.TanH):
        def forward(self, x):
            self.y = np.tanh(x)
            return self.y, lambda delta: delta * (1 - self.y**2)

    with nnx.use_backend("numpy"):
        assert largest_difference_of_shared_and_separate(Caching) > 0.01


def test_the_classroom_loop_by_hand(backend):
    layer = nnx.DenseLayer(2, 1, nnx.Linear(), nnx.SGD(0.5))
    layer.W = backend.asarray([[1.0, -1.0]])
    x = backend.asarray([[2.0, 1.0]])
    a = layer.evaluate(x)
    layer.backprop(nnx.QuadraticCost().gradient(a, backend.asarray([[0.0]])))
    layer.update()
    # a = 1, so delta = 1, dW = [2, 1], db = 1
    np.testing.assert_array_equal(backend.to_numpy(layer.dW), [[2.0, 1.0]])
    np.testing.assert_array_equal(backend.to_numpy(layer.W), [[0.0, -1.5]])
    np.testing.assert_array_equal(backend.to_numpy(layer.b), [-0.5])


def test_the_penalty_goes_to_the_weights_and_never_to_the_bias(backend):
    layer = nnx.DenseLayer(2, 1, nnx.Linear(), kernel_regularizer=nnx.L2Regularizer(0.5))
    layer.W = backend.asarray([[4.0, -2.0]])
    layer.b = backend.asarray([8.0])
    layer.evaluate(backend.asarray([[1.0, 1.0]]))
    layer.backprop(backend.asarray([[0.0]]))
    np.testing.assert_array_equal(backend.to_numpy(layer.dW), [[2.0, -1.0]])
    np.testing.assert_array_equal(backend.to_numpy(layer.db), [0.0])
    assert float(backend.to_numpy(layer.penalty())) == 0.25 * (16 + 4)


def test_forward_leaves_its_arguments_alone(backend):
    layer = nnx.DenseLayer(3, 2, nnx.TanH())
    rng = np.random.default_rng(0)
    x_host, delta_host = rng.standard_normal((4, 3)), rng.standard_normal((4, 2))
    x, delta = backend.asarray(x_host.copy()), backend.asarray(delta_host.copy())
    W = np.array(backend.to_numpy(layer.W))
    layer.forward(x)[1](delta)
    np.testing.assert_array_equal(backend.to_numpy(x), x_host.astype(np.float32))
    np.testing.assert_array_equal(backend.to_numpy(delta), delta_host.astype(np.float32))
    np.testing.assert_array_equal(backend.to_numpy(layer.W), W)


def test_parameters_are_a_plain_dict_that_the_attribute_reads_and_writes():
    layer = nnx.DenseLayer(2, 2)
    assert list(layer.parameters) == ["W", "b"]
    layer.W = np.zeros((2, 2), dtype=np.float32)
    np.testing.assert_array_equal(layer.parameters["W"], layer.W)
    layer.W[0, 0] = 1.0  # a copy
    assert not layer.parameters["W"].any()


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda layer: layer.backprop(np.zeros((1, 2))), r"backprop: call evaluate\(x\) first"),
        (lambda layer: layer.update(), r"update: call evaluate\(x\) and backprop"),
    ],
)
def test_the_classroom_interface_out_of_order_says_what_to_call(use, message):
    with pytest.raises(RuntimeError, match=message):
        use(nnx.DenseLayer(2, 2))


def test_a_gradient_before_backprop_says_so():
    with pytest.raises(AttributeError, match="dW' before backprop"):
        _ = nnx.DenseLayer(2, 2).dW
    with pytest.raises(AttributeError, match="no attribute 'weights'"):
        _ = nnx.DenseLayer(2, 2).weights


def test_a_layer_of_ones_own_takes_two_formulas(backend):
    class Scale(Layer):
        s = Parameter()

        def __init__(self, n):
            super().__init__(nnx.SGD(0.1))
            self.n = n
            self.s = self.backend.asarray(np.ones(n))

        def forward(self, x, training=False):
            def backward(delta):
                return delta * self.s, {"s": self.backend.xp.sum(delta * x, axis=0)}

            return x * self.s, backward

        def output_shape(self, input_shape):
            return input_shape

    x = np.random.default_rng(0).standard_normal((64, 3))
    net = nnx.SequentialNet(3, [Scale(3)])
    history = net.train(x, x * [2.0, -1.0, 0.5], 8, 60, progress=False)
    np.testing.assert_allclose(backend.to_numpy(net.layers[0].s), [2.0, -1.0, 0.5], rtol=1e-4)
    assert history.loss[-1] < 1e-6


def test_neighbours_that_do_not_fit_are_named():
    layers = [nnx.DenseLayer(784, 64), nnx.DenseLayer(100, 10)]
    with pytest.raises(ShapeError, match=r"layer 2 \(DenseLayer\).*\(100,\).*layer 1.*\(64,\)"):
        nnx.SequentialNet(784, layers)


def test_what_is_assigned_to_a_parameter_is_copied_in_the_type_of_the_layer(backend):
    given = np.ones((1, 2), dtype=np.float64 if backend.name != "jax" else np.float32)
    first, second = nnx.DenseLayer(2, 1, nnx.Linear()), nnx.DenseLayer(2, 1, nnx.Linear())
    first.W = given
    second.W = first.W
    assert first.W.dtype == backend.dtype
    nnx.SequentialNet(2, [first]).train([[1.0, 2.0]], [[9.0]], 1, 3, progress=False)
    np.testing.assert_array_equal(given, [[1.0, 1.0]])
    np.testing.assert_array_equal(backend.to_numpy(second.W), given)
    assert backend.to_numpy(first.W)[0, 0] > 1
    with pytest.raises(ShapeError, match=r"DenseLayer\.W: expected shape \(1, 2\), got \(2, 1\)"):
        first.W = given.T


def test_a_penalty_may_be_given_later_and_belongs_to_one_layer_alone(backend):
    layer = nnx.DenseLayer(2, 1)
    layer.kernel_regularizer = nnx.L2Regularizer(2.0)
    moved = layer.to(backend)
    moved.kernel_regularizer = None
    W = backend.to_numpy(layer.W)
    assert float(backend.to_numpy(layer.penalty())) == pytest.approx(float((W**2).sum()))
    assert moved.penalty() == 0.0


@pytest.mark.parametrize("whole", [None, nnx.SGD()])
def test_a_layer_that_forgets_a_gradient_is_named(whole):
    class Forgetful(nnx.DenseLayer):
        def preactivation(self, x, training=False):
            z, backward = super().preactivation(x, training)

            def without_b(dz, need_dx=True):
                dx, gradients = backward(dz, need_dx)
                return dx, {"W": gradients["W"]}

            return z, without_b

    net = nnx.SequentialNet(2, [Forgetful(2, 1, name="mine")], optim=whole)
    with pytest.raises(
        ValueError,
        match=r"'mine'.backward: expected a gradient for each of .*\['W', 'b'\], got \['W'\]",
    ):
        net.train([[1.0, 2.0]], [[1.0]], 1, 1, progress=False)


def test_sizes_may_be_numpy_integers():
    layer = nnx.DenseLayer(np.int64(3), np.arange(2).max() + 1)
    assert nnx.SequentialNet(np.int64(3), [layer]).output_shape == (2,)


def test_every_step_of_a_sequence_goes_through_the_same_dense_layer(backend64):
    layer = nnx.DenseLayer(3, 2, nnx.TanH())
    rng = np.random.default_rng(0)
    x, delta = (backend64.asarray(rng.standard_normal((4, 5, n))) for n in (3, 2))
    y, backward = layer.forward(x)
    dx, gradients = backward(delta)
    steps = [layer.forward(x[:, t, :]) for t in range(5)]
    parts = [back(delta[:, t, :]) for t, (_, back) in enumerate(steps)]
    host = backend64.to_numpy
    for t, ((y_t, _), (dx_t, _)) in enumerate(zip(steps, parts)):
        np.testing.assert_allclose(host(y)[:, t], host(y_t), rtol=0, atol=1e-14)
        np.testing.assert_allclose(host(dx)[:, t], host(dx_t), rtol=0, atol=1e-14)
    for name, gradient in gradients.items():
        total = sum(host(of_step[name]) for _, of_step in parts)
        np.testing.assert_allclose(host(gradient), total, rtol=0, atol=1e-13)
    assert layer.output_shape((5, 3)) == (5, 2)
    assert layer.output_shape((None, 3)) == (None, 2)
    for shape in ((5, 4), (2, 5, 3), ()):
        with pytest.raises(ShapeError, match=r"takes input of shape \(3,\), got"):
            layer.output_shape(shape)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda: nnx.DenseLayer(3, 2), (4, 2)),
        (lambda: nnx.DenseLayer(3, 2), (3,)),
        (lambda: nnx.DenseLayer(3, 2), ()),
        (lambda: nnx.Conv2DLayer(3, 2, 3), (4, 2, 5, 5)),
        (lambda: nnx.Conv2DLayer(3, 2, 3), (4, 75)),
        (lambda: nnx.Conv1DLayer(3, 2, 3), (4, 3, 2)),
        (lambda: nnx.ConvTranspose2DLayer(3, 2, 3), (4, 5, 5, 3)),
        (lambda: nnx.MaxPool2DLayer(), (4, 9)),
        (lambda: nnx.AvgPool2DLayer(3), (4, 1, 2, 2)),
        (lambda: nnx.GlobalAvgPoolLayer(), (4, 3)),
        (lambda: nnx.BatchNormLayer(3), (4, 2)),
        (lambda: nnx.LayerNormLayer((2, 3)), (4, 3)),
        (lambda: nnx.GroupNormLayer(2, 4), (4, 3)),
        (lambda: nnx.LSTMLayer(3, 2), (4, 3)),
        (lambda: nnx.MultiHeadAttentionLayer(4, 2), (4, 5, 3)),
        (lambda: nnx.PositionalEncodingLayer(4, 5), (4, 6, 4)),
        (lambda: nnx.EmbeddingLayer(3, 2), (4, 0)),
        (lambda: nnx.ReshapeLayer((2, 2)), (4, 5)),
        (lambda: nnx.PermuteLayer((2, 1)), (4, 5)),
        (lambda: nnx.UpSampling2DLayer(), (4, 5)),
        (lambda: nnx.ZeroPadding2DLayer(), (4, 5)),
    ],
)
def test_evaluate_names_the_layer_and_both_shapes(layer, shape, backend):
    layer = layer()
    with pytest.raises(ShapeError) as caught:
        layer.evaluate(backend.asarray(np.zeros(shape)))
    told = str(caught.value)
    assert told.startswith(layer.name)
    assert "single number" in told if shape == () else str(shape) in told


@pytest.mark.parametrize("kind", ["bool", "int8", "uint8", "int64", "float16", "float64", ">f4"])
def test_evaluate_takes_real_numbers_of_every_type(kind, backend):
    layer = nnx.DenseLayer(2, 1, nnx.Linear())
    layer.W = backend.asarray([[2.0, 3.0]])
    host = np.array([[1, 0], [1, 1]], dtype=kind)
    for x in (host, host.tolist()):
        y = layer.evaluate(x)
        assert y.dtype == backend.dtype
        np.testing.assert_array_equal(backend.to_numpy(y), [[2.0], [5.0]])
    dx = layer.backprop(y)
    assert dx.dtype == backend.dtype


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([["a", "b"]], "expected x of real numbers, got <U1; convert"),
        (np.array([[1j, 2]]), "expected x of real numbers, got complex128"),
        (np.array([[None, 2]]), "expected x of real numbers, got object"),
        ([[1.0, 2.0], [3.0]], "check the lengths of the rows"),
        (None, "expected x of real numbers, got object"),
    ],
)
def test_evaluate_refuses_what_is_not_made_of_real_numbers(x, message):
    with pytest.raises(TypeError, match=f"^mine.evaluate: .*{message}"):
        nnx.DenseLayer(2, 1, name="mine").evaluate(x)


def test_a_draw_of_another_shape_is_named():
    class Turned(nnx.Initializer):
        def draw(self, shape, rng):
            return np.ones(shape).T

    with pytest.raises(ValueError, match=r"Turned\.draw: expected .* shape \(2, 3\), got \(3, 2\)"):
        nnx.DenseLayer(3, 2, initializer=Turned())
