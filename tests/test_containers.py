"""Layers made of layers: what is shared, what is frozen, what a loss still cancels with."""

import numpy as np
import pytest
from conftest import QUICK_AUTODIFF

import nnx
from nnx.testing import check_gradients

RNG = np.random.default_rng(3)
X, Y = RNG.standard_normal((40, 4)), RNG.integers(0, 3, 40)


def arrays(layer):
    return {k: layer.backend.to_numpy(p).copy() for k, p in layer.parameters.items()}


def test_a_residual_layer_by_hand(backend):
    layer = nnx.ResidualLayer(nnx.DenseLayer(2, 2, nnx.Linear()))
    layer.children[0].W = backend.asarray([[1.0, 2.0], [0.0, -1.0]])
    y, backward = layer.forward(backend.asarray([[3.0, 4.0]]))
    dx, gradients = backward(backend.asarray([[1.0, 10.0]]))
    np.testing.assert_array_equal(backend.to_numpy(y), [[3 + 11, 4 - 4]])
    # delta W = [1, 2 - 10], plus delta
    np.testing.assert_array_equal(backend.to_numpy(dx), [[2.0, 2.0]])
    np.testing.assert_array_equal(backend.to_numpy(gradients[0]["W"]), [[3.0, 4.0], [30.0, 40.0]])


SKIP = {
    "layer": lambda: nnx.LayerNormLayer(4),
    "layer, not affine": lambda: nnx.LayerNormLayer(4, affine=False),
    "group": lambda: nnx.GroupNormLayer(2, 4),
    "group, not affine": lambda: nnx.GroupNormLayer(2, 4, affine=False),
    "sequence": lambda: nnx.SequentialLayer([nnx.DenseLayer(4, 3), nnx.DenseLayer(3, 2)]),
    "residual": lambda: nnx.ResidualLayer([nnx.LayerNormLayer(4), nnx.DenseLayer(4, 4)]),
    "residual, one layer": lambda: nnx.ResidualLayer(nnx.DenseLayer(4, 4)),
}


@pytest.mark.parametrize("name", SKIP)
def test_without_dx_the_gradients_are_the_same(name, backend):
    layer = SKIP[name]()
    y, backward = layer.forward(backend.asarray(X), True)
    whole, skipped = backward(y), backward(y, need_dx=False)
    assert skipped[0] is None
    assert len(list(flattened(skipped[1]))) == len(layer.parameters)
    for one, other in zip(flattened(whole[1]), flattened(skipped[1]), strict=True):
        np.testing.assert_array_equal(backend.to_numpy(one), backend.to_numpy(other))


def flattened(gradients):
    for value in gradients.values():
        yield from flattened(value) if isinstance(value, dict) else [value]


def test_a_first_layer_that_cannot_skip_dx_is_not_asked_to(backend):
    layer = nnx.SequentialLayer([nnx.BatchNormLayer(4), nnx.DenseLayer(4, 4)])
    y, backward = layer.forward(backend.asarray(X), True)
    dx, gradients = backward(y, need_dx=False)
    assert dx.shape == y.shape
    assert gradients.keys() == {0, 1}


@pytest.mark.parametrize("kind", [nnx.DenseLayer, nnx.LayerNormLayer, nnx.ResidualLayer], ids=str)
def test_a_forward_of_a_user_need_not_know_about_it(kind):
    class Own(kind):
        def forward(self, x, training=False):
            y, backward = super().forward(x, training)
            return y, lambda delta: backward(delta)

    with nnx.use_backend("numpy"):
        arguments = {nnx.DenseLayer: (4, 4), nnx.LayerNormLayer: (4,)}
        layer = Own(*arguments.get(kind, (nnx.DenseLayer(4, 4),)))
        net = nnx.SequentialNet(4, [layer, nnx.DenseLayer(4, 3, nnx.SoftMax())], nnx.CrossEntropy())
        net.train(X, Y, batch_size=20, epochs=1, progress=False)
    assert not Own.can_skip_dx
    assert kind.can_skip_dx


def test_parallel_branches_by_hand(backend):
    first, second = nnx.DenseLayer(2, 1, nnx.Linear()), nnx.DenseLayer(2, 2, nnx.Linear())
    first.W = backend.asarray([[1.0, 1.0]])
    second.W = backend.asarray([[2.0, 0.0], [0.0, 3.0]])
    layer = nnx.ParallelLayer([first, second])
    y, backward = layer.forward(backend.asarray([[1.0, 2.0]]))
    np.testing.assert_array_equal(backend.to_numpy(y), [[3.0, 2.0, 6.0]])
    dx, gradients = backward(backend.asarray([[1.0, 10.0, 100.0]]))
    np.testing.assert_array_equal(backend.to_numpy(dx), [[21.0, 301.0]])
    np.testing.assert_array_equal(backend.to_numpy(gradients[1]["b"]), [10.0, 100.0])
    assert layer.output_shape((2,)) == (3,)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_branches_are_joined_along_any_axis(axis, backend):
    branches = [nnx.ActivationLayer(nnx.TanH()), nnx.ActivationLayer(nnx.Linear())]
    layer = nnx.ParallelLayer(branches, axis=axis)
    x = backend.asarray(RNG.standard_normal((2, 3, 5)))
    y = layer.forward(x)[0]
    assert tuple(y.shape[1:]) == layer.output_shape((3, 5))
    check_gradients(layer, x, autodiff=QUICK_AUTODIFF)


def test_a_shared_layer_is_one_set_of_parameters(backend64):
    """Its gradient is the sum over its places, wherever they are."""
    shared = nnx.DenseLayer(4, 4, nnx.TanH(), nnx.SGD(0.5))
    layers = [shared, nnx.ResidualLayer([shared, nnx.DenseLayer(4, 4)]), nnx.DenseLayer(4, 3)]
    net = nnx.SequentialNet(4, layers)
    assert list(net.chain.parameters) == ["0.W", "0.b", "1.0.1.W", "1.0.1.b", "2.W", "2.b"]
    targets = RNG.standard_normal((40, 3))
    check_gradients(net, X, y=targets, autodiff=QUICK_AUTODIFF)

    apart = nnx.SequentialNet(4, [net.layers[0].to(backend64), *net.to(backend64).layers[1:]])
    rows = backend64.asarray(targets)
    for each in (net, apart):
        each.backprop(each.cost.gradient(each.evaluate(X), rows))
    sums = backend64.to_numpy(apart.layers[0].dW) + backend64.to_numpy(
        apart.layers[1].children[0].children[0].dW
    )
    np.testing.assert_allclose(backend64.to_numpy(shared.dW), sums, rtol=1e-12)


def test_what_is_shared_stays_shared_on_another_backend():
    with nnx.use_backend("numpy"):
        shared = nnx.DenseLayer(4, 4)
        net = nnx.SequentialNet(4, [shared, nnx.ResidualLayer([shared])])
    twin = net.to("numpy", dtype="float64")
    assert twin.layers[0] is twin.layers[1].children[0].children[0]
    assert twin.layers[0] is not shared
    assert twin.layers[0].W.dtype == np.float64


def test_a_network_is_a_layer_of_another(backend64):
    def parts():
        nnx.seed(1)
        return [nnx.DenseLayer(4, 5, nnx.TanH()), nnx.DenseLayer(5, 4)], nnx.DenseLayer(
            4, 3, nnx.SoftMax()
        )

    inner, last = parts()
    nested = nnx.SequentialNet(4, [nnx.SequentialNet(4, inner), last], nnx.CrossEntropy())
    inner, last = parts()
    plain = nnx.SequentialNet(4, [*inner, last], nnx.CrossEntropy())
    for net in (nested, plain):
        net.train(X, Y, 10, 2, shuffle=False, progress=False)
    for one, other in zip(arrays(nested.chain).values(), arrays(plain.chain).values()):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_frozen_layers_stay_as_they_are(backend):
    layers = [
        nnx.DenseLayer(4, 5, nnx.TanH()),
        nnx.ResidualLayer([nnx.DenseLayer(5, 5)]),
        nnx.DenseLayer(5, 3, nnx.SoftMax()),
    ]
    net = nnx.SequentialNet(4, layers, nnx.CrossEntropy())
    net.layers[0].frozen = net.layers[1].frozen = True
    assert net.layers[1].children[0].frozen
    before = arrays(net.chain)
    net.train(X, Y, 10, 1, progress=False)
    net.evaluate(X)
    net.backprop(backend.asarray(np.ones((40, 3))))
    net.update()
    after = arrays(net.chain)
    changed = {key for key in before if not np.array_equal(before[key], after[key])}
    assert changed == {"2.W", "2.b"}
    net.layers[0].frozen = False
    net.train(X, Y, 10, 1, progress=False)
    assert not np.array_equal(arrays(net.chain)["0.W"], before["0.W"])
    np.testing.assert_array_equal(arrays(net.chain)["1.0.0.W"], before["1.0.0.W"])


def test_no_gradient_is_computed_below_the_first_layer_that_is_trained():
    called = []

    class Watch(nnx.Layer):
        def __init__(self, number):
            super().__init__()
            self.number = number

        def forward(self, x, training=False):
            def backward(delta):
                called.append(self.number)
                return delta, {}

            return x, backward

        def output_shape(self, input_shape):
            return input_shape

    with nnx.use_backend("numpy") as backend:
        frozen = nnx.DenseLayer(4, 4)
        frozen.frozen = True
        net = nnx.SequentialNet(4, [Watch(1), frozen, Watch(2), nnx.DenseLayer(4, 3), Watch(3)])
        net.step(backend.asarray(X), backend.asarray(np.eye(3)[Y]))
        assert called == [3]
        net.evaluate(X)
        net.backprop(backend.asarray(np.ones((40, 3))))
        assert called == [3, 3, 2, 1]


def test_one_optimizer_for_all_reaches_into_containers(backend64):
    layers = [nnx.ResidualLayer([nnx.DenseLayer(4, 4, nnx.TanH())]), nnx.DenseLayer(4, 3)]
    net = nnx.SequentialNet(4, layers, optim=nnx.SGD(0.5))
    before = arrays(net.chain)
    rows = backend64.asarray(np.eye(3)[Y])
    net.backprop(net.cost.gradient(net.evaluate(X), rows))
    gradient = backend64.to_numpy(layers[0].children[0].children[0].dW)
    net.update()
    after = arrays(net.chain)
    np.testing.assert_allclose(after["0.0.0.W"], before["0.0.0.W"] - 0.5 * gradient, rtol=1e-12)


def test_the_loss_cancels_with_an_activation_that_is_a_layer(backend):
    """A probability that has underflowed to 0 still learns."""
    layers = [nnx.DenseLayer(1, 2, nnx.Linear(), nnx.SGD(1.0)), nnx.ActivationLayer(nnx.SoftMax())]
    net = nnx.SequentialNet(1, layers, nnx.CrossEntropy())
    layers[0].W = backend.asarray([[500.0], [-500.0]])
    net.train([[1.0]], [1], 1, 1, progress=False)
    np.testing.assert_array_equal(backend.to_numpy(layers[0].b), [-1.0, 1.0])


def test_penalties_in_containers_count_once(backend64):
    layer = nnx.DenseLayer(4, 4, kernel_regularizer=nnx.L2Regularizer(2.0))
    net = nnx.SequentialNet(4, [layer, nnx.ResidualLayer([layer])])
    expected = (backend64.to_numpy(layer.W) ** 2).sum()
    assert float(net.penalty()) == pytest.approx(expected)
    check_gradients(net, X, y=RNG.standard_normal((40, 4)), autodiff=QUICK_AUTODIFF)


def test_a_layer_that_reads_values_where_steps_are_compiled_is_told_what_to_say():
    from conftest import usable

    class Printing(nnx.Layer):
        def forward(self, x, training=False):
            float(x[0, 0])
            return x, lambda delta: (delta, {})

        def output_shape(self, input_shape):
            return input_shape

    with nnx.use_backend(usable("jax")):
        net = nnx.SequentialNet(4, [nnx.DenseLayer(4, 3), Printing()])
        with pytest.raises(nnx.backend.HostReadError, match="traceable = False"):
            net.train(X, Y, 10, 1, progress=False)
        Printing.traceable = False
        net.train(X, Y, 10, 1, progress=False)


def test_a_change_between_two_trainings_is_not_missed_by_what_was_compiled(backend64):
    """A moved copy of the network is compiled afresh, and must go on in the same way."""
    layers = [nnx.DenseLayer(4, 4, nnx.LeakyReLU(0.1)), nnx.DenseLayer(4, 3, nnx.SoftMax())]
    net = nnx.SequentialNet(4, layers, nnx.CrossEntropy())
    changes = {
        "nothing": lambda: None,
        "activation": lambda: setattr(net.layers[0].afun, "alpha", 0.7),
        "penalty": lambda: setattr(net.layers[0], "kernel_regularizer", nnx.L2Regularizer(0.3)),
        "loss": lambda: setattr(net, "cost", nnx.CrossEntropy(label_smoothing=0.3)),
        "rate": lambda: setattr(net.layers[1].optim, "eta", 0.3),
        "frozen": lambda: setattr(net.layers[0], "frozen", True),
    }
    for name, change in changes.items():
        change()
        fresh = net.to(backend64)
        for each in (net, fresh):
            each.train(X, Y, 40, 1, shuffle=False, progress=False)
        ours, theirs = arrays(net.chain), arrays(fresh.chain)
        for key in theirs:
            np.testing.assert_allclose(ours[key], theirs[key], rtol=1e-12, err_msg=f"{name} {key}")


def test_the_summary_names_layers_shapes_and_parameters(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    with nnx.use_backend("numpy"):
        shared = nnx.DenseLayer(4, 4, nnx.TanH(), name="twice")
        frozen = nnx.DenseLayer(4, 3, nnx.SoftMax())
        frozen.frozen = True
        nnx.SequentialNet(4, [shared, nnx.ResidualLayer([shared]), frozen]).summary()
    printed = capsys.readouterr().out
    rows = [line.split("│")[1:-1] for line in printed.splitlines() if "│" in line]
    cells = [[cell.strip() for cell in row] for row in rows]
    assert ["", "input", "(4,)", ""] in cells
    assert ["1", "DenseLayer(4, 4, afun=TanH(), name='twice')", "(4,)", "20"] in cells
    assert any(row[0] == "2" and row[1].startswith("ResidualLayer") for row in cells)
    assert ["3", "DenseLayer(4, 3, afun=SoftMax()), frozen", "(3,)", "15"] in cells
    assert "35 parameters, 20 of them trained" in printed


class Odd(nnx.Container):
    """A container that keeps something else than layers, or a list of them."""

    def __init__(self, parts, name=None):
        super().__init__(name)
        self.parts = parts

    def forward(self, x, training=False):
        parts = list(self.parts.values() if isinstance(self.parts, dict) else self.parts)
        return parts[0].forward(x, training)

    def output_shape(self, input_shape):
        return input_shape


@pytest.mark.parametrize("parts", [[], (), {"a": 1}, 3, [1, 2]], ids=repr)
def test_a_container_without_layers_is_told_before_the_first_step(parts):
    with pytest.raises(TypeError, match=r"Odd: expected a layer, or a list of layers, among"):
        nnx.SequentialNet(2, [Odd(parts)])


def test_a_container_takes_a_tuple_of_layers_and_refuses_a_list_of_both():
    net = nnx.SequentialNet(2, [Odd((nnx.DenseLayer(2, 2), nnx.DenseLayer(2, 2)))])
    assert list(net.parameters) == ["0.0.W", "0.0.b", "0.1.W", "0.1.b"]
    with pytest.raises(TypeError, match=r"expected layer 2 to be a layer, got 'relu'"):
        nnx.SequentialNet(2, [Odd([nnx.DenseLayer(2, 2), "relu"])])


def test_a_parameter_of_a_container_is_refused():
    class Own(Odd):
        scale = nnx.Parameter()

    with pytest.raises(TypeError, match=r"Own.scale: a container has no parameters of its own"):
        Own([nnx.DenseLayer(2, 2)]).scale = [1.0]


@pytest.mark.parametrize("key", ["block", "0", 1])
def test_gradients_under_another_key_are_told(key):
    class Wrong(nnx.ResidualLayer):
        def forward(self, x, training=False):
            y, backward = super().forward(x, training)

            def wrong(delta):
                dx, gradients = backward(delta)
                return dx, {key: gradients[0]}

            return y, wrong

    net = nnx.SequentialNet(2, [Wrong(nnx.DenseLayer(2, 2))])
    with pytest.raises(ValueError, match=r"Wrong.backward: .* by index, 0 to 0, got the keys"):
        net.train([[1.0, 2.0]], [[1.0, 2.0]], 1, 1, progress=False)


class Alias(nnx.Container):
    """It keeps a layer of its block under a second name."""

    def __init__(self, block):
        super().__init__()
        self.block = block
        self.tail = block.layers[1]

    def forward(self, x, training=False):
        a, first = self.block.layers[0].forward(x, training)
        y, last = self.tail.forward(a, training)

        def backward(delta):
            delta, of_last = last(delta)
            dx, of_first = first(delta)
            return dx, {0: {0: of_first, 1: of_last}}

        return y, backward

    def output_shape(self, input_shape):
        return input_shape


def test_a_second_name_of_a_layer_moves_and_trains_with_it(backend):
    x = np.random.default_rng(0).standard_normal((32, 3))
    linear = [nnx.DenseLayer(3, 3, nnx.Linear(), nnx.SGD(0.1)) for _ in range(2)]
    net = nnx.SequentialNet(3, [Alias(nnx.SequentialLayer(linear))])
    twin = net.to(backend)
    assert twin.layers[0].tail is twin.layers[0].block.layers[1]
    history = net.train(x, x, 8, 40, progress=False)
    assert abs(history.loss[-1] - net.score(x, x).loss) < 0.02
    assert history.loss[-1] < 0.5 * history.loss[0]


def wrapper(base, hide):
    """A class that keeps a layer where the walk does not look."""

    class Hidden(base):
        def __init__(self, parts=()):
            if base is Odd:
                super().__init__(parts)
            else:
                super().__init__()
                self.parts = [nnx.DenseLayer(3, 3)]
            self.hidden = hide(nnx.DenseLayer(3, 3))

        def forward(self, x, training=False):
            return self.parts[0].forward(x, training)

        def output_shape(self, input_shape):
            return input_shape

    return Hidden([nnx.DenseLayer(3, 3)] if base is Odd else ())


@pytest.mark.parametrize("base", [Odd, nnx.Layer])
@pytest.mark.parametrize(
    "hide", [lambda one: one, lambda one: [one], lambda one: (one,), lambda one: {"a": one}]
)
def test_layers_that_would_never_be_trained_are_told(base, hide, backend):
    net = nnx.SequentialNet(3, [wrapper(base, hide)])
    with pytest.raises(TypeError, match=r"got DenseLayer in another .* derive from nnx.Container"):
        net.train([[1.0, 2.0, 3.0]], [[1.0, 2.0, 3.0]], 1, 1, progress=False)


def test_a_wrong_gradient_inside_a_container_is_told(backend):
    class Summed(nnx.Layer):
        s = nnx.Parameter()

        def __init__(self):
            super().__init__()
            self.s = [1.0, 2.0, 3.0]

        def forward(self, x, training=False):
            s, xp = self.parameters["s"], nnx.array_namespace(x)
            return s * x, lambda delta: (s * delta, {"s": xp.sum(x * delta)})

        def output_shape(self, input_shape):
            return input_shape

    net = nnx.SequentialNet(3, [nnx.ResidualLayer(Summed())])
    with pytest.raises(nnx.ShapeError, match=r"Summed.backward: .*gradient of s .*, got \(\)"):
        net.train(np.ones((4, 3)), np.ones((4, 3)), 2, 1, progress=False)


def test_an_attribute_error_inside_a_layer_is_its_own(backend):
    class Typo(nnx.Layer):
        def output_shape(self, input_shape):
            return (self.m,)

    with pytest.raises(AttributeError, match="'Typo' object has no attribute 'm'"):
        nnx.SequentialNet(3, [Typo()])


def test_a_layer_without_the_constructor_of_its_base_says_what_to_call():
    class Bare(nnx.Layer):
        def __init__(self):
            self.n = 3

    with pytest.raises(AttributeError, match=r"call super\(\).__init__\(\) first"):
        Bare().backend  # noqa: B018


def test_a_network_may_be_appended_and_be_a_block(backend):
    net = nnx.SequentialNet(3, [nnx.DenseLayer(3, 3)])
    net.layers.append(nnx.SequentialNet(3, [nnx.DenseLayer(3, 2, nnx.Linear())]))
    net.train(np.ones((4, 3)), np.ones((4, 2)), 2, 1, progress=False)
    assert net.output_shape == (2,)
    block = nnx.SequentialNet(3, [nnx.DenseLayer(3, 3)])
    nnx.SequentialNet(3, [nnx.ResidualLayer(block)]).train(
        np.ones((4, 3)), np.ones((4, 3)), 2, 1, progress=False
    )


def recurrent(**more):
    return nnx.GRULayer(2, 2, **more)


# Each container: how it is made, each of its arguments that hold layers, and what fits there.
HOLDS = {
    nnx.SequentialLayer: (
        lambda: nnx.SequentialLayer([nnx.DenseLayer(2, 2)]),
        {"layers": lambda: [nnx.DenseLayer(2, 3)]},
    ),
    nnx.SequentialNet: (
        lambda: nnx.SequentialNet(2, [nnx.DenseLayer(2, 2)]),
        {"layers": lambda: [nnx.DenseLayer(2, 3)]},
    ),
    nnx.ResidualLayer: (
        lambda: nnx.ResidualLayer(nnx.DenseLayer(2, 2)),
        {"block": lambda: [nnx.DenseLayer(2, 3), nnx.DenseLayer(3, 2)]},
    ),
    nnx.ParallelLayer: (
        lambda: nnx.ParallelLayer([nnx.DenseLayer(2, 2)]),
        {"branches": lambda: [nnx.DenseLayer(2, 3), [nnx.DenseLayer(2, 2)]]},
    ),
    nnx.MaskedLayer: (
        lambda: nnx.MaskedLayer(nnx.DenseLayer(2, 2)),
        {"block": lambda: [nnx.DenseLayer(2, 3), nnx.DenseLayer(3, 1)]},
    ),
    nnx.BidirectionalLayer: (
        lambda: nnx.BidirectionalLayer(recurrent(), recurrent(reverse=True)),
        {"forward_layer": recurrent, "backward_layer": lambda: recurrent(reverse=True)},
    ),
    Odd: (
        lambda: Odd([nnx.DenseLayer(2, 2)]),
        {"parts": lambda: [nnx.DenseLayer(2, 3), [nnx.DenseLayer(3, 2)]]},
    ),
}
HELD = [(kind, name) for kind, (_, held) in HOLDS.items() for name in held]


def test_the_table_has_every_container_and_all_it_holds():
    exported = {kind for kind in vars(nnx).values() if isinstance(kind, type)}
    kinds = {kind for kind in exported if issubclass(kind, nnx.Container)} - {nnx.Container}
    assert set(HOLDS) == {*kinds, Odd}
    for make, held in HOLDS.values():
        layer = make()
        children = [child for name in held for child in np.ravel(getattr(layer, name))]
        assert children == layer.children


@pytest.mark.parametrize(("kind", "name"), HELD)
@pytest.mark.parametrize("value", ["relu", 3, None, [], ["relu"], nnx.DenseLayer], ids=repr)
def test_wrong_layers_are_refused_when_they_are_assigned(kind, name, value):
    layer = HOLDS[kind][0]()
    before, children = getattr(layer, name), layer.children
    with pytest.raises((TypeError, ValueError), match=rf"^({kind.__name__}|SequentialLayer): exp"):
        setattr(layer, name, value)
    assert getattr(layer, name) is before
    assert layer.children == children


@pytest.mark.parametrize(("kind", "name"), HELD)
def test_layers_that_are_assigned_are_those_of_the_constructor(kind, name):
    make, held = HOLDS[kind]
    layer = make()
    setattr(layer, name, held[name]())
    rebuilt = kind(**layer.arguments())
    assert repr(rebuilt) == repr(layer)
    assert [type(child) for child in rebuilt.children] == [type(child) for child in layer.children]
    sequences = kind in (nnx.BidirectionalLayer, nnx.MaskedLayer)
    x = np.ones((3, 4, 2)) if sequences else np.ones((3, 2))
    x = layer.backend.asarray(x)
    np.testing.assert_array_equal(rebuilt.forward(x)[0], layer.forward(x)[0])


def test_the_two_layers_of_a_bidirectional_one_must_fit_when_assigned_too():
    layer = HOLDS[nnx.BidirectionalLayer][0]()
    with pytest.raises(ValueError, match=r"expected forward_layer to read forward"):
        layer.forward_layer = recurrent(reverse=True)
    with pytest.raises(ValueError, match=r"the same return_sequences, got False and True"):
        layer.backward_layer = recurrent(reverse=True, return_sequences=True)
    with pytest.raises(ValueError, match=r"merge to be one of 'concat', 'sum', got 'mean'"):
        layer.merge = "mean"


def test_a_layer_that_may_be_left_out_may_be_taken_away():
    class Optional(nnx.Container):
        def __init__(self, block, shortcut=None):
            super().__init__()
            self.block, self.shortcut = block, shortcut

    layer = Optional(nnx.DenseLayer(2, 2), nnx.DenseLayer(2, 2))
    layer.shortcut = None
    assert layer.children == [layer.block]
    with pytest.raises(TypeError, match=r"Optional: expected block to be a layer, got None"):
        layer.block = None
