"""A step prepared once: packed, in blocks, compiled or fused, the same numbers as by hand."""

import numpy as np
import optimizers_table
import pytest
from conftest import usable

import nnx
from nnx.layers.tree import slots, walk

RNG = np.random.default_rng(5)
X, Y = RNG.random((60, 7)), RNG.integers(0, 3, 60)
CASES = optimizers_table.CASES
for_every_case = pytest.mark.parametrize("name", CASES)


def network(optim, shared=False):
    nnx.seed(4)
    layers = [
        nnx.DenseLayer(7, 6, nnx.TanH(), optim),
        nnx.DenseLayer(6, 5, nnx.ReLU(), optim, kernel_regularizer=nnx.L2Regularizer(0.01)),
        nnx.DenseLayer(5, 3, nnx.SoftMax(), optim),
    ]
    return nnx.SequentialNet(7, layers, nnx.CrossEntropy(), optim=optim if shared else None)


def by_hand(net, x, y):
    """A step by the interface of the lecture: every layer's optimizer, one array at a time."""
    a = net.evaluate(x, training=True)
    net.backprop(net.cost.gradient(a, net.backend.asarray(y)))
    net.update()


def arrays(net):
    backend, found = net.backend, slots(walk(net))
    states = [slot.layer.states.get(slot.name) for slot in found]
    return (
        [backend.to_numpy(slot.array) for slot in found],
        [backend.to_numpy(array) for state in states if state for array in state.arrays],
        [state and state.t for state in states],
    )


def agree(ours, theirs, rtol):
    for some, others in zip(ours[:2], theirs[:2]):
        assert len(some) == len(others)
        for one, other in zip(some, others):
            np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol)
    assert ours[2:] == theirs[2:]


@pytest.mark.parametrize("shared", [False, True], ids=["one each", "one for all"])
@for_every_case
def test_packed_steps_are_those_of_each_array_alone(name, shared, backend64):
    if backend64.name == "jax" and shared and name not in list(CASES)[:2]:
        pytest.skip("arrays that cannot be written are not packed")
    net, plain = network(CASES[name].make(), shared), network(CASES[name].make(), shared)
    x = backend64.asarray(X[:20])
    for _ in range(4):
        net.step(x, backend64.asarray(Y[:20]))
        by_hand(plain, x, Y[:20])
    agree(arrays(net), arrays(plain), 1e-12)


@for_every_case
def test_an_epoch_is_its_steps(name, backend64):
    """Compiled where the library traces; gathered in larger pieces elsewhere."""
    net, plain = network(CASES[name].make()), network(CASES[name].make())
    net.train(X[:50], Y[:50], 20, 2, shuffle=False, progress=False)
    for _ in range(2):
        for part in (slice(0, 20), slice(20, 40), slice(40, 50)):
            plain.step(backend64.asarray(X[part]), backend64.asarray(Y[part]))
    agree(arrays(net), arrays(plain), 1e-12)


@pytest.mark.parametrize("block", [1, 9, 40, 10**6])
@for_every_case
def test_blocks_of_any_size_give_the_same_bits(name, block, monkeypatch):
    with nnx.use_backend("numpy", dtype="float64") as backend:
        whole, cut = network(CASES[name].make()), network(CASES[name].make())
        for net, size in ((whole, None), (cut, block)):
            monkeypatch.setattr(type(backend), "block", size)
            for _ in range(3):
                net.step(backend.asarray(X), backend.asarray(Y))
        for some, others in zip(arrays(whole)[:2], arrays(cut)[:2]):
            for one, other in zip(some, others):
                np.testing.assert_array_equal(one, other)


@pytest.mark.gpu
@for_every_case
def test_a_fused_rule_is_the_rule(name):
    """One kernel on a GPU, traced from the same formulas."""
    with nnx.use_backend(usable("cupy"), dtype="float64") as backend:
        optim = CASES[name].make()
        p, g = backend.asarray(RNG.standard_normal(100)), backend.asarray(RNG.standard_normal(100))
        q = backend.asarray(backend.to_numpy(p).copy())
        state, same = optim.init(p), optim.init(q)
        fused = backend.fuse_rule(optim.rule, len(state))
        for t in (1, 2, 3):
            factors = optim.factors(0.1, t)
            fused(p, g, state, factors)
            q, same = optim.rule(q, g, same, factors)
        for one, other in zip((p, *state), (q, *same)):
            np.testing.assert_allclose(
                backend.to_numpy(one), backend.to_numpy(other), rtol=1e-14, atol=1e-14
            )


def test_layers_whose_optimizers_are_alike_are_one_group(backend):
    net = network(nnx.Adam())
    assert len(net.plan().groups) == 1
    net.layers[1].optim = nnx.Adam(0.1)
    assert [len(group.slots) for group in net.plan().groups] == [4, 2]
    net.layers[1].optim = nnx.Adam()
    assert len(net.plan().groups) == 1
    clipped = network(nnx.Adam(clip=nnx.ClipNorm(1.0)))  # a norm is that of one optimizer
    assert len(clipped.plan().groups) == 3


def test_what_is_changed_between_two_steps_counts(backend64):
    """New parameters, other hyper-parameters, other states: none of it is overlooked."""
    net, plain = network(nnx.SGD(0.1, 0.9)), network(nnx.SGD(0.1, 0.9))
    x, saved = backend64.asarray(X), {}
    for i in range(6):
        for each in (net, plain):
            if i == 1:
                each.layers[0].W = np.full((6, 7), 0.25)
            if i == 2:
                each.layers[1].optim.eta = 0.5
                each.layers[1].optim.momentum = 0.5
            if i == 3:
                saved[each] = {
                    n: s.converted(nnx.to_numpy) for n, s in each.layers[2].states.items()
                }
            if i == 4:
                moved = {n: s.converted(backend64.asarray) for n, s in saved[each].items()}
                each.layers[2].states = moved
            if i == 5:
                each.layers[2].parameters["b"] = backend64.asarray([1.0, 2.0, 3.0])
        net.train(X, Y, 60, 1, shuffle=False, progress=False)
        by_hand(plain, x, Y)
    agree(arrays(net), arrays(plain), 1e-12)


CHANGES = {
    "frozen": lambda net: setattr(net.layers[0], "frozen", True),
    "frozen network": lambda net: setattr(net, "frozen", True),
    "activation": lambda net: setattr(net.layers[0], "afun", nnx.ReLU()),
    "optimizer": lambda net: setattr(net.layers[0], "optim", nnx.Adam()),
    "learning rate": lambda net: setattr(net.layers[0].optim, "eta", 0.5),
    "penalty": lambda net: setattr(net.layers[0], "kernel_regularizer", nnx.L1Regularizer()),
    "loss": lambda net: setattr(net, "cost", nnx.QuadraticCost()),
    "optimizer of the network": lambda net: setattr(net, "optim", nnx.Adam()),
    "list of layers": lambda net: setattr(net, "layers", net.layers[:2]),
    "item of the list": lambda net: net.layers.__setitem__(1, nnx.DenseLayer(6, 5)),
    "items of the list": lambda net: net.layers.pop(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_plan_that_does_not_hold_any_more_refuses_to_step(change, backend64):
    net = network(nnx.SGD(0.1))
    net.cost = nnx.QuadraticCost()
    x, y = backend64.asarray(X), backend64.asarray(np.eye(3)[Y])
    plan = net.plan()
    plan.step(x, y)
    assert net.plan() is plan
    CHANGES[change](net)
    with pytest.raises(RuntimeError, match=r"changed after this plan.*plan = net\.plan\(\)"):
        plan.step(x, y)
    assert net.plan() is not plan


def test_new_parameters_do_not_make_a_plan_stale(backend64):
    net, plain = network(nnx.SGD(0.1)), network(nnx.SGD(0.1))
    x, y = backend64.asarray(X), backend64.asarray(Y)
    plan = net.plan()
    plan.step(x, y)
    by_hand(plain, x, Y)
    for each in (net, plain):
        each.layers[0].W = np.full((6, 7), 0.25)
        each.layers[1].parameters["b"] = backend64.asarray(np.arange(5.0))
    plan.step(x, y)
    by_hand(plain, x, Y)
    agree(arrays(net), arrays(plain), 1e-12)


@pytest.mark.parametrize("size", [4, 400], ids=["small", "large"])
def test_a_parameter_that_was_read_does_not_change(size, backend):
    """On every backend, whether its array is packed with others or not."""
    layers = [nnx.DenseLayer(size, size), nnx.DenseLayer(size, 2, nnx.Linear())]
    net = nnx.SequentialNet(size, layers)
    x, y = backend.asarray(np.ones((3, size))), backend.asarray(np.ones((3, 2)))
    net.step(x, y)
    W, b = layers[0].W, layers[1].b
    before = backend.to_numpy(W).copy(), backend.to_numpy(b).copy()
    for _ in range(3):
        net.step(x, y)
    net.evaluate(x)
    net.backprop(net.cost.gradient(net.evaluate(x), y))
    net.update()
    np.testing.assert_array_equal(backend.to_numpy(W), before[0])
    np.testing.assert_array_equal(backend.to_numpy(b), before[1])
    assert not np.array_equal(backend.to_numpy(layers[1].b), before[1])


def test_parameters_and_states_that_came_read_only_are_trained():
    with nnx.use_backend("numpy", dtype="float64") as backend:
        for train in (
            lambda net: net.train(X, Y, 20, 1, progress=False),
            lambda net: by_hand(net, X, Y),
        ):
            net = network(nnx.Adam())
            by_hand(net, X, Y)
            for slot in slots(walk(net)):
                slot.array.flags.writeable = False
                for array in slot.layer.states[slot.name].arrays:
                    array.flags.writeable = False
            train(net)
        assert backend.mutable


def test_parameters_that_are_views_are_pickled_as_themselves(backend):
    import pickle

    net = network(nnx.Adam())
    before = len(pickle.dumps(net.to(backend)))
    net.train(X, Y, 20, 1, progress=False)
    states = 2 * sum(p.nbytes for p in map(backend.to_numpy, net.parameters.values()))
    assert len(pickle.dumps(net)) < 2 * before + 2 * states


def test_a_parameter_in_fortran_order_is_trained():
    with nnx.use_backend("numpy", dtype="float64") as backend:
        net, plain = network(nnx.SGD(0.1)), network(nnx.SGD(0.1))
        net.layers[0].parameters["W"] = np.asfortranarray(net.layers[0].W)
        for each in (net, plain):
            each.step(backend.asarray(X), backend.asarray(Y))
        agree(arrays(net), arrays(plain), 1e-12)


def test_a_gradient_of_another_shape_is_not_spread_over_the_parameter(backend):
    class Wrong(nnx.DenseLayer):
        def preactivation(self, x, training=False):
            z, backward = super().preactivation(x, training)

            def wrong(dz, need_dx=True):
                dx, gradients = backward(dz, need_dx)
                return dx, {**gradients, "b": gradients["b"][None, :]}

            return z, wrong

    net = nnx.SequentialNet(7, [Wrong(7, 3, nnx.SoftMax())], nnx.CrossEntropy())
    with pytest.raises(ValueError, match=r"Wrong.backward: .* \(3,\), got \(1, 3\)"):
        net.step(backend.asarray(X), backend.asarray(Y))


@pytest.mark.parametrize("kind", [nnx.SGD, nnx.Adam])
def test_layers_may_change_groups_between_trainings(kind, backend64):
    """What was compiled for the old groups must not train the new ones."""

    def trained(step_by_step):
        net = network(kind(0.1))
        net.layers[1].kernel_regularizer = None
        for rates in ((0.1, 0.1, 0.0), (0.1, 0.0, 0.1)):
            for layer, rate in zip(net.layers, rates):
                layer.optim.eta = rate
            if step_by_step:
                by_hand(net, backend64.asarray(X), Y)
            else:
                net.train(X, Y, 60, 1, shuffle=False, progress=False)
        return arrays(net)

    agree(trained(False), trained(True), 1e-12)


@pytest.mark.parametrize("shared", [False, True], ids=["one each", "one for all"])
@pytest.mark.parametrize("train", [True, False], ids=["train", "update"])
def test_a_parameter_counts_its_own_steps(train, shared, backend64):
    """What is frozen for a while and then thawed begins where it stopped, bias corrections too."""
    net, alone = network(nnx.Adam(0.1), shared), network(nnx.Adam(0.1))
    for frozen in ({0}, {1}, {0, 2}, set()):
        for each in (net, alone):
            for number, layer in enumerate(each.layers):
                layer.frozen = number in frozen
        if train:
            net.train(X, Y, 60, 1, shuffle=False, progress=False)
        else:
            by_hand(net, X, Y)
        alone.step(backend64.asarray(X), backend64.asarray(Y))
    agree(arrays(net), arrays(alone), 1e-12)
    assert [layer.states["W"].t for layer in net.layers] == [2, 3, 3]


def test_one_optimizer_object_in_two_layers_has_a_state_for_each_parameter(backend64):
    net, apart = network(nnx.Adam()), network(nnx.Adam())
    net.layers[2].optim = net.layers[0].optim
    for each in (net, apart):
        each.train(X, Y, 60, 2, shuffle=False, progress=False)
    agree(arrays(net), arrays(apart), 1e-12)


class Course(nnx.Optimizer):
    """Momentum as in an exercise: it defines `update` itself, and keeps its own state."""

    def __init__(self, eta):
        super().__init__(eta)
        self.v = None

    def update(self, parameters, gradients):
        self.v = self.v or [0.0 for _ in parameters]
        self.v = [0.9 * v + g for v, g in zip(self.v, gradients)]
        return [p - self.eta * v for p, v in zip(parameters, self.v)]


class Normed(nnx.Optimizer):
    """A step of one length for each parameter: not elementwise."""

    def __init__(self, eta=0.1):
        super().__init__(eta)

    def rule(self, p, g, state, factors):
        xp = nnx.array_namespace(g)
        return p - factors[0] * g / xp.sqrt(xp.sum(g * g)), state


class WholeArrays(Normed):
    elementwise = False


def test_a_rule_that_is_not_elementwise_says_so(backend64):
    """Then it is the same packed or by hand; else it is refused before the first step."""
    net, plain = network(WholeArrays()), network(WholeArrays())
    for _ in range(3):
        net.step(backend64.asarray(X), backend64.asarray(Y))
        by_hand(plain, X, Y)
    agree(arrays(net), arrays(plain), 1e-12)
    if backend64.mutable:
        before = network(Normed()).layers[0].W
        net = network(Normed())
        with pytest.raises(ValueError, match=r"Normed.rule: .*`elementwise = False` in Normed"):
            net.step(backend64.asarray(X), backend64.asarray(Y))
        same = [backend64.to_numpy(W) for W in (before, net.layers[0].W)]
        np.testing.assert_array_equal(*same)


def test_an_optimizer_that_defines_update_itself_steps_in_every_way(backend64):
    """In training, by hand, and under one name for a whole network."""
    ours = network(nnx.SGD(0.1, 0.9))
    nets = [network(Course(0.1)), network(Course(0.1)), network(Course(0.1), shared=True)]
    for _ in range(3):
        for net in (ours, nets[0], nets[2]):
            net.train(X, Y, 60, 1, shuffle=False, progress=False)
        by_hand(nets[1], X, Y)
    for net in nets:
        agree([arrays(net)[0]], [arrays(ours)[0]], 1e-12)


def test_what_fails_while_arrays_are_packed_leaves_a_network_that_can_be_used(monkeypatch):
    from nnx.training import groups

    with nnx.use_backend("numpy", dtype="float64") as backend:
        net, plain = network(nnx.Adam()), network(nnx.Adam())
        x, y = backend.asarray(X), backend.asarray(Y)
        for name in ("_joined", "_in_place"):
            with monkeypatch.context() as patch:
                patch.setattr(groups, name, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
                with pytest.raises(KeyboardInterrupt):
                    net.step(x, y)
        for each in (net, plain):
            each.step(x, y)
        agree(arrays(net), arrays(plain), 1e-12)


def test_steps_that_a_compiled_loop_has_not_made_do_not_count(monkeypatch):
    with nnx.use_backend(usable("jax")):
        net = network(nnx.Adam())
        net.train(X, Y, 20, 1, progress=False)

        def interrupted(*arguments):
            raise KeyboardInterrupt

        monkeypatch.setattr(net.plan().compiled(), "loop", interrupted)
        assert net.train(X, Y, 20, 1, progress=False).interrupted
        assert [layer.states["W"].t for layer in net.layers] == [3, 3, 3]


def test_a_loop_is_compiled_once_whatever_the_learning_rate_does():
    """What is compiled is told by plain data: neither rates, nor steps, nor caches are in it."""
    with nnx.use_backend(usable("jax")):
        for name, case in CASES.items():
            net = network(case.make())
            loops = []
            for rate in (0.1, 0.1, 0.01):
                for layer in net.layers:
                    layer.optim.eta = rate
                net.train(X, Y, 20, 1, progress=False)
                loops.append(net.plan().compiled())
            assert loops[0] is loops[1] is loops[2], name
            net.layers[0].frozen = True
            assert net.plan().compiled() is not loops[0], name


def test_a_copy_of_a_network_goes_on_by_itself(backend64):
    import copy
    import pickle

    net = network(nnx.Adam())
    net.train(X, Y, 20, 1, shuffle=False, progress=False)
    net.evaluate(X)
    twins = [copy.deepcopy(net), pickle.loads(pickle.dumps(net))]
    for each in (net, *twins):
        each.train(X, Y, 20, 1, shuffle=False, progress=False)
    for twin in twins:
        agree(arrays(net), arrays(twin), 1e-12)
        assert twin.layers[0].W is not net.layers[0].W
    twins[0].train(X, Y, 20, 1, progress=False)
    agree(arrays(net), arrays(twins[1]), 1e-12)


def test_a_layer_that_draws_by_itself_is_refused_where_steps_are_compiled():
    class Noisy(nnx.Layer):
        def forward(self, x, training=False):
            noise = nnx.randomness.generator("dropout").random(x.shape)
            return x + self.backend.asarray(noise), lambda delta: (delta, {})

        def output_shape(self, input_shape):
            return input_shape

    with nnx.use_backend(usable("jax")):
        net = nnx.SequentialNet(7, [Noisy(), nnx.DenseLayer(7, 3)])
        with pytest.raises(RuntimeError, match=r"noise\(draw, like\)"):
            net.train(X, Y, 20, 1, progress=False)


def gain():
    class Gain(nnx.Layer):
        def __init__(self):
            super().__init__()
            self.gain = 1.0

        def forward(self, x, training=False):
            g = self.gain
            return g * x, lambda delta: (g * delta, {})

        def output_shape(self, input_shape):
            return input_shape

    return Gain()


def test_an_attribute_that_is_no_argument_counts_in_the_next_training(backend):
    """Also where the steps were compiled with its old value."""
    layer = gain()
    net = nnx.SequentialNet(7, [layer])
    net.train(X, X, 60, 1, progress=False)
    layer.gain = 2.0
    assert abs(net.train(X, X, 60, 1, progress=False).loss[0] - net.score(X, X).loss) < 1e-4


def test_a_class_that_is_defined_anew_counts_in_the_next_training(backend):
    def activation(factor):
        class Mine(nnx.Activation):
            def forward(self, x):
                return factor * x, lambda delta: factor * delta

        return Mine()

    layer = nnx.DenseLayer(7, 3, activation(1.0), nnx.SGD(0.0))
    net = nnx.SequentialNet(7, [layer])
    net.train(X, X[:, :3], 60, 1, progress=False)
    layer.afun = activation(3.0)
    loss = net.train(X, X[:, :3], 60, 1, progress=False).loss[0]
    assert abs(loss - net.score(X, X[:, :3]).loss) < 1e-4


def test_layers_may_hold_functions_and_record_what_passes(backend):
    class Apply(nnx.Layer):
        traceable = False

        def __init__(self, function):
            super().__init__()
            self.function = function

        def forward(self, x, training=False):
            self.last = x
            return self.function(x), lambda delta: (delta, {})

        def output_shape(self, input_shape):
            return input_shape

    net = nnx.SequentialNet(7, [Apply(lambda x: x), nnx.DenseLayer(7, 3, nnx.Linear())])
    history = net.train(X, X[:, :3], 20, 3, progress=False)
    assert history.loss[-1] < history.loss[0]


def test_states_belong_to_the_kind_of_optimizer_that_made_them(backend64):
    """A layer in two networks, and a parameter of another shape."""
    layer, alone = nnx.DenseLayer(7, 3, nnx.Linear()), nnx.DenseLayer(7, 3, nnx.Linear())
    one = nnx.SequentialNet(7, [layer], optim=nnx.Lion(0.01))
    one.train(X, X[:, :3], 20, 2, progress=False)
    alone.W, alone.b = layer.W, layer.b
    two, fresh = (nnx.SequentialNet(7, [each], optim=nnx.Adam(0.01)) for each in (layer, alone))
    for net in (two, fresh):
        net.train(X, X[:, :3], 20, 2, shuffle=False, progress=False)
    agree(arrays(two), arrays(fresh), 1e-12)


def test_a_network_made_of_layers_that_were_trained_keeps_their_states(backend):
    net = network(nnx.Adam())
    plan = net.plan()
    x, y = backend.asarray(X), backend.asarray(Y)
    plan.step(x, y)
    nnx.SequentialNet(7, net.layers, nnx.CrossEntropy())
    plan.step(x, y)
    assert net.layers[0].states["W"].t == 2


def test_states_that_are_cleared_begin_anew(backend):
    net = network(nnx.Adam())
    for _ in range(2):
        net.train(X, Y, 20, 1, progress=False)
        assert {s.t for layer in net.layers for s in layer.states.values()} == {3}
        for layer in net.layers:
            layer.states.clear()


def test_weights_count_in_the_accuracy_of_float64(backend64):
    net = network(nnx.SGD())
    weights = np.arange(60) % 4.0
    right = backend64.to_numpy(net.predict(X)).argmax(-1) == Y
    score = net.score(X, Y, sample_weights=weights)
    assert abs(score.accuracy - (right * weights).sum() / weights.sum()) < 1e-12
    assert type(score.loss) is float


def test_a_parameter_that_is_made_in_forward_is_refused(backend):
    class Lazy(nnx.Layer):
        W = nnx.Parameter()

        def forward(self, x, training=False):
            if "W" not in self.parameters:
                self.W = np.ones((7, 7))
            W = self.parameters["W"]
            return x @ W.T, lambda delta: (delta @ W, {"W": delta.T @ x})

        def output_shape(self, input_shape):
            return input_shape

    net = nnx.SequentialNet(7, [Lazy(), nnx.DenseLayer(7, 3)])
    with pytest.raises((RuntimeError, ValueError), match=r"constructor|parameters"):
        net.step(backend.asarray(X), backend.asarray(X[:, :3]))


def test_a_loss_is_not_fused_with_a_layer_that_does_more_than_its_activation(backend):
    class Flip(nnx.DenseLayer):
        def forward(self, x, training=False):
            a, backward = super().forward(x, training)
            flip = nnx.array_namespace(a).flip
            return flip(a, axis=1), lambda d, need_dx=True: backward(flip(d, axis=1), need_dx)

    net = nnx.SequentialNet(7, [Flip(7, 2, nnx.SoftMax(), nnx.SGD(1.0))], nnx.CrossEntropy())
    c = (X[:, 0] > 0.5).astype(int)
    net.train(X, c, 10, 10, progress=False)
    guess = backend.to_numpy(net.predict(X)).argmax(-1)
    assert abs(net.score(X, c).accuracy - (guess == c).mean()) < 1e-6


def test_a_callback_may_give_the_network_another_head(backend):
    net = network(nnx.SGD(0.1))

    def grow(net, history):
        net.layers[-1] = nnx.DenseLayer(5, 4, nnx.SoftMax(), nnx.SGD(0.1))

    history = net.train(X, Y, 20, 3, callbacks=[grow], progress=False)
    assert len(history.loss) == 3
    assert net.output_shape == (4,)
