"""Networks: what they learn, what they refuse, and what crosses the boundary of a process."""

import multiprocessing
import re
import warnings

import numpy as np
import pytest

import nnx


def test_training_learns_a_separable_problem_on_every_backend(backend):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 4))
    y = (x[:, 0] + x[:, 1] > 0).astype(int)
    layers = [
        nnx.DenseLayer(4, 8, nnx.TanH(), nnx.SGD(0.1)),
        nnx.DenseLayer(8, 2, nnx.SoftMax(), nnx.SGD(0.1)),
    ]
    net = nnx.SequentialNet(4, layers, nnx.CrossEntropy())
    history = net.train(x, y, batch_size=10, epochs=20, progress=False)
    assert history.accuracy[-1] > 0.95
    assert net.score(x, y).accuracy > 0.95


# Which loss goes with which last activation, however the layers are nested. What is refused and
# what is fused is the losses' own table in test_losses_contract.py.


def flat(layer):
    return [layer]


def in_a_network(layer):
    return [nnx.SequentialNet(4, [layer])]


def in_two_lists(layer):
    return [nnx.DenseLayer(4, 4), [[layer]]]


def reshaped(layer):
    return [layer, nnx.ReshapeLayer((3,)), nnx.FlattenLayer()]


def side_by_side(layer):
    return [nnx.ParallelLayer([layer])]


def around_a_block(layer):
    return [layer, nnx.ResidualLayer([nnx.DenseLayer(3, 3, nnx.Linear())])]


# How layers are nested -> is the last activation the network's, and can the loss cancel with it?
NESTINGS = {
    flat: (True, True),
    in_a_network: (True, True),
    in_two_lists: (True, True),
    reshaped: (True, False),
    side_by_side: (True, False),
    around_a_block: (False, False),
}
LOSSES = {
    name: getattr(nnx, name) for name in nnx.losses.__all__ if name not in ("Loss", "one_hot")
}
AFUNS = {
    name: kind
    for name in nnx.activations.__all__
    if isinstance(kind := getattr(nnx.activations, name), type)
    and name not in ("Activation", "leakyReLU")
    and not name.endswith("Like")
}


def targets_of(cost, backend):
    y = np.eye(3)[[0, 1, 2, 0, 1]]
    return backend.asarray(y)


@pytest.mark.parametrize("nesting", NESTINGS, ids=lambda nesting: nesting.__name__)
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_with_every_last_activation_in_every_nesting(loss, nesting):
    """Refused with the remedy, fused, or plain; and fused and plain are the same step."""
    of_the_network, cancels = NESTINGS[nesting]
    x = np.random.default_rng(0).standard_normal((5, 4)) / 4
    with nnx.use_backend("numpy", dtype="float64") as backend:
        for name, kind in AFUNS.items():
            cost, afun, layer = LOSSES[loss](), kind(), nnx.DenseLayer(4, 3, kind(), nnx.SGD(0.5))
            try:
                cost.check_activation(afun, 3)
                refused = ""
            except ValueError as error:
                refused = str(error)
            if refused and of_the_network:
                with pytest.raises(ValueError, match=re.escape(refused)):
                    nnx.SequentialNet(4, nesting(layer), cost)
                continue
            net = nnx.SequentialNet(4, nesting(layer), cost)
            fused = cost.fused(afun) is not None
            assert (net.plan().loss is not cost) == (fused and cancels), name
            if not (fused and cancels):
                continue
            y, before = targets_of(cost, backend), layer.W
            a = net.evaluate(x, training=True)  # by hand: the loss and the activation apart
            net.backprop(cost.gradient(a, y))
            plain = layer.dW
            net.step(backend.asarray(x), y)
            np.testing.assert_allclose((before - layer.W) / 0.5, plain, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("nesting", [flat, in_a_network, in_two_lists, side_by_side, reshaped])
def test_a_loss_is_checked_wherever_it_or_the_last_layer_is_assigned(nesting):
    layer = nnx.DenseLayer(4, 3, nnx.Linear())
    net = nnx.SequentialNet(4, nesting(layer))
    with pytest.raises(ValueError, match=r"CrossEntropy: expected .*SoftMax\(\)"):
        net.cost = nnx.CrossEntropy()
    assert isinstance(net.cost, nnx.QuadraticCost)
    layer.afun = nnx.SoftMax()
    net.cost = nnx.CrossEntropy()
    layer.afun = nnx.TanH()
    x, y = np.ones((5, 4)), np.arange(5) % 3
    before = layer.W
    with pytest.raises(ValueError, match=r"CrossEntropy: expected .*SoftMax\(\)"):
        net.train(x, y, 5, 1, progress=False)
    np.testing.assert_array_equal(layer.W, before)
    layer.afun = nnx.SoftMax()
    net.train(x, y, 5, 1, progress=False)


ASSIGNED = {
    "cost": (lambda net: setattr(net, "cost", "quadratic"), "SequentialNet: expected cost"),
    "cost class": (lambda net: setattr(net, "cost", nnx.QuadraticCost), r"QuadraticCost\(\)"),
    "optim": (lambda net: setattr(net, "optim", 0.1), "SequentialNet: expected optim"),
    "optim of a layer": (lambda net: setattr(net.layers[0], "optim", None), "expected optim"),
    "afun": (lambda net: setattr(net.layers[0], "afun", "relu"), "expected afun"),
    "initializer": (lambda net: setattr(net.layers[0], "initializer", 1), "expected initializer"),
    "penalty": (
        lambda net: setattr(net.layers[0], "kernel_regularizer", 0.1),
        "expected kernel_regularizer",
    ),
    "layers": (lambda net: setattr(net, "layers", net.layers[0]), "expected a list of layers"),
    "no layers": (lambda net: setattr(net, "layers", []), "at least one layer"),
    "layers that do not fit": (
        lambda net: setattr(net, "layers", [nnx.DenseLayer(5, 3)]),
        r"takes input of shape \(5,\)",
    ),
    "W": (lambda net: setattr(net.layers[0], "W", np.ones((4, 4))), r"W: expected shape \(3, 4\)"),
}


@pytest.mark.parametrize("what", ASSIGNED)
def test_what_is_assigned_is_checked_and_nothing_changes(what):
    assign, message = ASSIGNED[what]
    net = nnx.SequentialNet(4, [nnx.DenseLayer(4, 3)])
    before = nnx.config.plain(net)
    with pytest.raises((TypeError, ValueError), match=message):
        assign(net)
    assert nnx.config.plain(net) == before
    net.train(np.ones((5, 4)), np.ones((5, 3)), 5, 1, progress=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda layers: layers.append("softmax"), "expected layer 3 to be a layer, got 'softmax'"),
        (lambda layers: layers.append(nnx.DenseLayer(5, 2)), r"layer 3 .*takes input"),
        (lambda layers: layers.clear(), "expected a layer, or a list of layers.*found none"),
    ],
)
def test_a_list_of_layers_that_is_changed_is_checked_before_the_next_step(change, message):
    net = nnx.SequentialNet(4, [nnx.DenseLayer(4, 4), nnx.DenseLayer(4, 3)])
    change(net.layers)
    with pytest.raises((TypeError, ValueError), match=message):
        net.train(np.ones((5, 4)), np.ones((5, 3)), 5, 1, progress=False)


def trained(net):
    net.train(np.ones((5, 4)), np.ones((5, 3)), 5, 1, progress=False)
    return net.layers[0].W


@pytest.mark.filterwarnings("ignore:os.fork", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_networks_go_through_the_boundary_of_a_process(method):
    with nnx.use_backend("numpy", dtype="float64"):
        net = nnx.SequentialNet(4, [nnx.DenseLayer(4, 3)], optim=nnx.Adam(clip=nnx.ClipNorm(1.0)))
        net.evaluate(np.ones((2, 4)))
        net.train(np.ones((5, 4)), np.ones((5, 3)), 5, 1, progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads of other libraries, and fork
        with multiprocessing.get_context(method).Pool(1) as pool:
            there = pool.apply(trained, [net])
    np.testing.assert_array_equal(there, trained(net))


@pytest.mark.parametrize(
    ("layers", "advice"),
    [
        ([nnx.DenseLayer(4, 8), nnx.DenseLayer(9, 3)], "; write DenseLayer(8, ...)"),
        ([nnx.DenseLayer(5, 8)], "; write DenseLayer(4, ...)"),
        (
            [nnx.ReshapeLayer((2, 2)), nnx.LSTMLayer(2, 3), nnx.GRULayer(3, 2)],
            "; for all time steps, give layer 2 return_sequences=True",
        ),
    ],
)
def test_layers_that_do_not_fit_say_what_to_write(layers, advice):
    with pytest.raises(nnx.ShapeError) as caught:
        nnx.SequentialNet(4, layers)
    assert str(caught.value).endswith(advice)
