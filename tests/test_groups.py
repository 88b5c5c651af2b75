"""One rule for many parameters: packed, in blocks, compiled or fused, the same numbers."""

import numpy as np
import optimizers_table
import pytest
from conftest import usable

import nnx
from nnx.groups import grouped
from nnx.steps import Step

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
    objective = net.objective()
    a, backwards = x, []
    for forward in objective.forwards:
        a, backward = forward(a, True)
        backwards.append(backward)
    delta = objective.loss.gradient(a, net.backend.asarray(y))
    for layer, backward in zip(net.layers[::-1], backwards[::-1]):
        delta, gradients = backward(delta)
        layer.gradients = layer.regularize(gradients)
    net.update()


def arrays(net):
    parameters = [net.backend.to_numpy(p) for p in net.chain.parameters.values()]
    optims = [net.optim] if net.optim else [layer.optim for layer in net.layers]
    states = [net.backend.to_numpy(s) for o in optims for of in o.state for s in of]
    return parameters, states


def agree(ours, theirs, rtol):
    for some, others in zip(ours, theirs):
        assert len(some) == len(others)
        for one, other in zip(some, others):
            np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("shared", [False, True], ids=["one each", "one for all"])
@for_every_case
def test_packed_steps_are_those_of_each_array_alone(name, shared, backend64):
    net, plain = network(CASES[name].make(), shared), network(CASES[name].make(), shared)
    x = backend64.asarray(X[:20])
    for _ in range(4):
        net.step(x, backend64.asarray(Y[:20]))
        by_hand(plain, x, Y[:20])
    agree(arrays(net), arrays(plain), 1e-12)
    assert [layer.optim.t for layer in net.layers] == [layer.optim.t for layer in plain.layers]


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
        for some, others in zip(arrays(whole), arrays(cut)):
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
    assert len(Step(net).groups) == 1
    net.layers[1].optim = nnx.Adam(0.1)
    assert [len(group.optimizers) for group in Step(net).groups] == [2, 1]
    net.layers[1].optim = nnx.Adam()
    net.layers[1].optim.t = 5
    assert len(Step(net).groups) == 2
    clipped = network(nnx.Adam(clip=nnx.ClipNorm(1.0)))  # a norm is that of one optimizer
    assert len(Step(clipped).groups) == 3


def test_what_is_changed_between_two_steps_counts(backend64):
    """New parameters, other hyper-parameters, a loaded state: none of it is overlooked."""
    net, plain = network(nnx.SGD(0.1, 0.9)), network(nnx.SGD(0.1, 0.9))
    x, y = backend64.asarray(X), backend64.asarray(Y)
    saved = None
    for i in range(5):
        for each in (net, plain):
            if i == 1:
                each.layers[0].W = np.full((6, 7), 0.25)
            if i == 2:
                each.layers[1].optim.eta = 0.5
                each.layers[1].optim.momentum = 0.5
            if i == 3:
                saved = each.layers[2].optim.state_dict()
            if i == 4:
                each.layers[2].optim.load_state_dict(saved, backend64)
        net.train(X, Y, 60, 1, shuffle=False, progress=False)
        by_hand(plain, x, Y)
    agree(arrays(net), arrays(plain), 1e-12)
    del y


def test_a_parameter_in_fortran_order_is_written_in_place():
    with nnx.use_backend("numpy", dtype="float64") as backend:
        net, plain = network(nnx.SGD(0.1)), network(nnx.SGD(0.1))
        layer = net.layers[0]
        layer.parameters["W"] = np.asfortranarray(layer.W)
        (group,) = grouped(backend, net.chain.slots(), None)
        assert group.parameters()[0] is layer.W
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
    with pytest.raises(ValueError, match=r"parameter 2 has shape \(3,\), its gradient \(1, 3\)"):
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


@pytest.mark.parametrize("train", [True, False], ids=["train", "update"])
def test_one_optimizer_keeps_the_state_of_what_is_frozen_and_thawed(train, backend64):
    net, free = network(nnx.Adam(0.1), shared=True), network(nnx.Adam(0.1))
    for frozen in ({0}, {1}, {0, 2}, set()):
        for each in (net, free):
            for number, layer in enumerate(each.layers):
                layer.frozen = number in frozen
        if train:
            net.train(X, Y, 60, 1, shuffle=False, progress=False)
        else:
            by_hand(net, backend64.asarray(X), Y)
        # Layers with optimizers of their own count their own steps; here all count the same.
        for layer in free.layers:
            layer.optim.t = net.optim.t - 1
        free.step(backend64.asarray(X), backend64.asarray(Y))
    agree([arrays(net)[0]], [arrays(free)[0]], 1e-12)
    assert net.optim.t == 4


def test_two_layers_with_one_optimizer_object_are_refused(backend):
    net = network(nnx.Adam())
    net.layers[2].optim = net.layers[0].optim
    with pytest.raises(ValueError, match=r"one optimizer object.*clone\(\)"):
        net.train(X, Y, 60, 1, progress=False)


def test_what_fails_while_arrays_are_packed_leaves_a_network_that_can_be_used(monkeypatch):
    import nnx.groups

    with nnx.use_backend("numpy", dtype="float64") as backend:
        net, plain = network(nnx.Adam()), network(nnx.Adam())
        x, y = backend.asarray(X), backend.asarray(Y)
        for name in ("_flat", "_in_place"):
            with monkeypatch.context() as patch:
                patch.setattr(nnx.groups, name, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
                with pytest.raises(KeyboardInterrupt):
                    net.step(x, y)
        for each in (net, plain):
            each.step(x, y)
        agree(arrays(net), arrays(plain), 1e-12)


def test_steps_that_a_compiled_loop_has_not_made_do_not_count(monkeypatch):
    from nnx.steps import CompiledSteps

    with nnx.use_backend(usable("jax")):
        net = network(nnx.Adam())
        net.train(X, Y, 20, 1, progress=False)

        def interrupted(*arguments):
            raise KeyboardInterrupt

        compiled = CompiledSteps.of(net, Step(net))
        monkeypatch.setattr(compiled, "loop", interrupted)
        assert net.train(X, Y, 20, 1, progress=False).interrupted
        assert [layer.optim.t for layer in net.layers] == [3, 3, 3]


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
