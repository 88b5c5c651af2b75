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
