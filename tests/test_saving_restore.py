"""What is put back into a network that is there already; and loaders that forget something."""

import copy

import numpy as np
import pytest
from saving_tools import bits, held
from test_saving import a_net, an_epoch, goes_on

import nnx
from nnx import config, saving
from nnx.saving import networks, unpacking


@pytest.fixture
def file(tmp_path):
    return tmp_path / "net.safetensors"


def restore(net, file):
    with saving.read_file(file) as opened:
        saving.restore(net, opened.data, opened)


def layered(optim=None):
    """A network with a shared layer and a shared optimizer."""
    twice = nnx.DenseLayer(5, 5, nnx.TanH(), nnx.Adam(0.01))
    layers = [
        nnx.DenseLayer(6, 5, nnx.TanH(), nnx.SGD(0.1, 0.9)),
        nnx.ResidualLayer([twice, nnx.BatchNormLayer(5), twice]),
        nnx.DropoutLayer(0.2),
        nnx.DenseLayer(5, 3, nnx.SoftMax()),
    ]
    net = nnx.SequentialNet(6, layers, nnx.CrossEntropy(), optim)
    net.layers[3].optim = net.layers[0].optim
    return net


def changed(net):
    """What callbacks may have done in a training."""
    an_epoch(net)
    net.layers[0].optim.eta = 0.05
    net.layers[0].frozen = True
    net.layers[2].rate = 0.4
    net.layers[3].regularizers["b"] = nnx.L1Regularizer(0.5)
    net.cost = nnx.CrossEntropy(0.1)
    if net.optim is not None:
        net.optim.eta = 0.07
    an_epoch(net)
    return net


@pytest.mark.parametrize("optim", [None, nnx.Adam()], ids=repr)
def test_the_same_objects_go_on(optim, file):
    net, fresh = changed(layered(optim)), layered(optim)
    an_epoch(fresh)
    plan = fresh.plan()
    layers = [below for _, below in nnx.layers.tree.walk(fresh)]
    optimizers = [below.optim for below in layers]
    saving.save(net, file)
    streams = nnx.randomness.state()
    restore(fresh, file)
    assert nnx.randomness.state() == streams
    assert held(fresh) == held(net)
    assert config.plain(fresh) == config.plain(net)
    for one, other in zip(layers, [below for _, below in nnx.layers.tree.walk(fresh)]):
        assert one is other
    for one, other in zip(optimizers, [below.optim for below in layers]):
        assert one is other
    assert plan.stale
    an_epoch(fresh)
    an_epoch(net)
    assert held(fresh) == held(net)


def test_another_optimizer_takes_over(file):
    net, fresh = layered(), layered()
    net.layers[0].optim = nnx.RMSProp()  # no longer that of the last layer
    an_epoch(net)
    saving.save(net, file)
    adam = fresh.layers[1].block.layers[0].optim
    restore(fresh, file)
    assert held(fresh) == held(net)
    assert type(fresh.layers[0].optim) is nnx.RMSProp
    assert fresh.layers[1].block.layers[0].optim is adam
    assert fresh.layers[0].optim is not fresh.layers[3].optim
    an_epoch(fresh)
    an_epoch(net)
    assert held(fresh) == held(net)


def test_optimizers_that_became_one_are_one_again(file):
    net, fresh = layered(), layered()
    for _, layer in nnx.layers.tree.walk(net):
        if not layer.children:
            layer.optim = net.layers[0].optim
    an_epoch(net)
    saving.save(net, file)
    restore(fresh, file)
    assert held(fresh) == held(net)


def test_a_network_is_restored_on_every_backend(backend, file):
    net, fresh = changed(layered()), layered()
    saving.save(net, file)
    restore(fresh, file)
    assert held(fresh) == held(net)
    assert fresh.backend.same_place(backend)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: a_net(), "expected the layers of this network, got others"),
        (lambda: nnx.DenseLayer(6, 5), r"here and in the file: class: 'DenseLayer' and 'Sequent"),
        (
            lambda: nnx.SequentialNet(
                6, [nnx.DenseLayer(6, 4, nnx.TanH()), *layered().layers[1:]][:1]
            ),
            r"layers\[0\].no: 4 and 5",
        ),
    ],
)
def test_another_network_is_refused_by_its_first_difference(make, message, file):
    saving.save(layered(), file)
    net = make()
    before = held(net)
    with pytest.raises(saving.FileError, match=message):
        restore(net, file)
    assert held(net) == before


@pytest.mark.parametrize("number", range(1, 60, 4))
def test_an_error_at_any_moment_of_restoring_changes_nothing(number, file, monkeypatch):
    net, fresh = changed(layered()), layered()
    an_epoch(fresh)
    saving.save(net, file)
    before, made = held(fresh), config.plain(fresh)
    calls = []
    assign = nnx.Layer.__setattr__

    def broken(thing, name, value):
        calls.append(name)
        if len(calls) == number:
            raise KeyboardInterrupt
        assign(thing, name, value)

    with saving.read_file(file) as opened:
        own = unpacking.unpacked(opened.data, opened)
        monkeypatch.setattr(networks, "unpacked", lambda *arguments: own)
        monkeypatch.setattr(nnx.Layer, "__setattr__", broken)
        try:
            saving.restore(fresh, opened.data, opened)
        except KeyboardInterrupt:
            expected = before, made
        else:
            assert len(calls) < number
            expected = held(net), config.plain(net)
    monkeypatch.undo()
    assert (held(fresh), config.plain(fresh)) == expected


def test_a_run_with_more_in_its_file_is_unpacked_and_restored(file):
    net, fresh, third = changed(layered()), layered(), layered()
    data, arrays = saving.pack(net)
    plain, more = saving.split({"history": {"loss": np.arange(3.0)}, "epoch": 2})
    saving.write_file(file, {**arrays, **more}, {"kind": "run", "network": data, "run": plain})
    with saving.read_file(file) as opened:
        unpacked = saving.unpack(opened.data["network"], opened)
        saving.restore(fresh, opened.data["network"], opened)
        run = saving.join(opened.data["run"], opened)
    assert held(unpacked) == held(fresh) == held(net)
    assert run["history"]["loss"].tolist() == [0, 1, 2]
    saving.load_weights(third, file)
    assert weights_of(third) == weights_of(net)
    with pytest.raises(saving.FileError, match="got one of kind 'run'"):
        saving.load(file)


def test_what_is_packed_is_a_copy():
    net = a_net(optim=nnx.Adam())
    an_epoch(net)
    _, arrays = saving.pack(net)
    before = {name: array.copy() for name, array in arrays.items()}
    an_epoch(net)
    assert all((arrays[name] == before[name]).all() for name in before)


# Weights alone.


def weights_of(net):
    arrays = {**net.parameters, **net.buffers}
    return {name: bits(array) for name, array in arrays.items()}


@pytest.mark.parametrize("write", [saving.save, saving.save_weights])
def test_weights_are_loaded_and_states_stay(write, file):
    net, other = changed(layered()), layered()
    an_epoch(other)
    states = {key: value for key, value in held(other).items() if "state" in key}
    write(net, file)
    plan = other.plan()
    assert saving.load_weights(other, file) == ((), (), {})
    assert not plan.stale
    assert weights_of(other) == weights_of(net)
    assert {key: value for key, value in held(other).items() if "state" in key} == states
    an_epoch(other)


def test_weights_of_another_library_are_loaded(backend, file):
    from safetensors.numpy import save_file

    layer = nnx.DenseLayer(3, 2)
    W, b = np.arange(6.0).reshape(2, 3), np.array([0.1, 0.2], "float16")
    save_file({"W": W, "b": b}, file)
    saving.load_weights(layer, file)
    assert bits(layer.W) == bits(W.astype("float32"))
    assert bits(layer.b) == bits(b.astype("float32"))
    with pytest.raises(saving.FileError, match="description of a network, got one without it"):
        saving.load(file)


def test_what_does_not_fit_is_listed(file):
    saving.save(a_net(), file)
    net = nnx.SequentialNet(6, [nnx.DenseLayer(6, 5), nnx.DenseLayer(5, 2), nnx.ReshapeLayer((2,))])
    before = held(net)
    expected = saving.Differences(
        missing=("1.W", "1.b"),
        unexpected=("1.beta", "1.gamma", "1.mean", "1.variance", "3.W", "3.b"),
        shapes={},
    )
    message = r"missing: 1.W, 1.b; left over: 1.beta, 1.gamma, 1.mean, 1.variance, 3.W and 1 more"
    with pytest.raises(saving.FileError, match=message):
        saving.load_weights(net, file)
    assert held(net) == before
    found = saving.load_weights(net, file, strict=False)
    assert found == expected._replace(unexpected=found.unexpected)
    assert sorted(found.unexpected) == list(expected.unexpected)
    assert found
    assert weights_of(net)["0.W"] == weights_of(a_net_again(file))["0.W"]
    wide = nnx.SequentialNet(6, [nnx.DenseLayer(6, 7)])
    assert saving.load_weights(wide, file, strict=False).shapes == {
        "0.W": ((7, 6), (5, 6)),
        "0.b": ((7,), (5,)),
    }
    with pytest.raises(TypeError, match="strict"):
        saving.load_weights(wide, file, strict=0)


def a_net_again(file):
    return saving.load(file)


def test_numbers_beyond_the_type_of_the_layer_are_refused(file):
    from safetensors.numpy import save_file

    layer = nnx.DenseLayer(3, 2)
    before = held(layer)
    W = np.zeros((2, 3))
    W[1, 2] = 1e39
    save_file({"W": W, "b": np.ones(2)}, file)
    with pytest.raises(
        saving.FileError, match=r"W: expected numbers that float32 can hold.*1e\+39"
    ):
        saving.load_weights(layer, file)
    assert held(layer) == before
    with nnx.use_backend("numpy", "float64"):
        wide = nnx.DenseLayer(3, 2)
    saving.load_weights(wide, file)
    assert bits(wide.W) == bits(W)
    saving.save(wide, file)
    with pytest.raises(saving.FileError, match=r"W: expected numbers that float32.*dtype=.float64"):
        saving.load(file, dtype="float32")


# Differences in words.


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        ({}, {}, ""),
        ({"a": [1, {"b": None}]}, {"a": [1, {"b": None}]}, ""),
        ({"layers": [0, {"no": 10}]}, {"layers": [0, {"no": 20}]}, "layers[1].no: 10 and 20"),
        ({"a": 1, "b": 2}, {"a": 1}, "b: 2 and nothing"),
        ({"a": 1}, {"a": 1, "b": None}, "b: nothing and None"),
        ({"a": [1, 2]}, {"a": [1]}, "a: 2 and 1 items"),
        ([[1], 2], [[3], 2], "[0][0]: 1 and 3"),
        ({"a": True}, {"a": 1}, "a: True and 1"),
        ({"a": {"b": 1}}, {"a": [1]}, "a: {'b': 1} and [1]"),
        (1, "1", "the whole: 1 and '1'"),
    ],
)
def test_the_first_difference_in_words(one, other, words):
    assert saving.first_difference(one, other) == words
    assert saving.first_difference(copy.deepcopy(one), one) == ""


# Loaders that forget something are noticed.


def forgets_states(net):
    for layer in leaves(net):
        layer.states = {}


def forgets_counts(net):
    for layer in leaves(net):
        for state in layer.states.values():
            state.t = 0


def forgets_own_states(net):
    net.layers[0].optim.state = None


def forgets_own_counts(net):
    net.layers[0].optim.t = 0


def forgets_buffers(net):
    net.layers[1].block.layers[1].buffers["mean"] = np.zeros(5, "float32")


def forgets_what_is_frozen(net):
    net.layers[0].frozen = False


def forgets_penalties(net):
    net.layers[3].regularizers = {}


def forgets_shared_optimizers(net):
    optim, states = copy.copy(net.layers[3].optim), net.layers[3].states
    net.layers[3].optim = optim
    net.layers[3].states = states


def forgets_shared_layers(net):
    block = net.layers[1].block
    block.layers[2] = block.layers[2].to("numpy")


def forgets_what_was_changed(net):
    net.layers[0].optim.eta = 0.1


FORGETFUL = [
    forgets_states,
    forgets_counts,
    forgets_own_states,
    forgets_own_counts,
    forgets_buffers,
    forgets_what_is_frozen,
    forgets_penalties,
    forgets_shared_optimizers,
    forgets_shared_layers,
    forgets_what_was_changed,
]


@pytest.mark.parametrize("forget", [None, *FORGETFUL], ids=lambda f: getattr(f, "__name__", "none"))
def test_a_loader_that_forgets_something_is_noticed(forget, file, monkeypatch):
    net = changed(layered())
    net.layers[0].optim.update([np.ones(3, "float32")], [np.ones(3, "float32")])
    if forget is None:
        goes_on(net, file, an_epoch)
        return

    def forgetful(*arguments):
        layer, used = unpacking.unpacked(*arguments)
        forget(layer)
        return layer, used

    monkeypatch.setattr(networks, "unpacked", forgetful)
    with pytest.raises(AssertionError):
        goes_on(net, file, an_epoch)


def leaves(net):
    return [layer for _, layer in nnx.layers.tree.walk(net) if not layer.children]
