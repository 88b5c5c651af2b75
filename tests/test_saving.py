"""A network that was saved and loaded goes on training as if it had never left."""

import numpy as np
import pytest
from losses_table import LOSSES, draw
from saving_tools import bits, data, held, steps
from test_config import SCHEDULES

import nnx
from nnx import config, saving
from nnx.commands.check import BASES, items

ITEMS = [item for item in items() if item.kind != "SequentialNet"]
LAYERS = {item.name: item for item in ITEMS if item.kind == "Layer"}
OTHERS = {
    kind: {item.name: item.make for item in ITEMS if item.kind == kind}
    for kind in ("Activation", "Optimizer", "Initializer", "Loss", "Regularizer")
}
NETWORKS = (nnx.SequentialNet,)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "net.safetensors"


def test_everything_that_is_public_is_in_these_tables():
    kinds = {kind for kind in vars(nnx).values() if isinstance(kind, type)}
    public = {kind for kind in kinds if issubclass(kind, config.Configured)}
    # These are no part of a network.
    public -= {kind for kind in public if issubclass(kind, nnx.Callback)} | {nnx.MixUp}
    made = {type(item.make()) for item in LAYERS.values()} | set(NETWORKS)
    made |= {type(make()) for table in OTHERS.values() for make in table.values()}
    made |= {type(thing) for thing in SCHEDULES}
    bases = BASES | {nnx.Schedule, nnx.Clip}
    assert public - made - bases == set()
    assert set(LOSSES) == {name.partition(",")[0] for name in OTHERS["Loss"]}


def saved_and_loaded(layer, file, **options):
    """The layer as a file gives it back, with all streams as they were."""
    saving.save(layer, file)
    before = nnx.randomness.state()
    loaded = saving.load(file, **options)
    assert nnx.randomness.state() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    return loaded


def goes_on(layer, file, step, **options):
    """Save, load, and take the same steps with both."""
    step(layer)
    loaded = saved_and_loaded(layer, file, **options)
    assert loaded is not layer
    assert held(loaded) == held(layer)
    assert config.plain(loaded) == config.plain(layer)
    step(loaded)
    step(layer)
    assert held(loaded) == held(layer)
    return loaded


def alone(make):
    return make()


def in_a_sequence(make):
    return nnx.SequentialLayer([make()])


def shared_in_branches(make):
    layer = make()
    return nnx.ParallelLayer([layer, [layer]], "sum")


def frozen(make):
    layer = nnx.SequentialLayer([nnx.ParallelLayer([make(), make()], "sum")])
    layer.layers[0].branches[0].frozen = True
    return layer


def with_adam(make):
    layer = make()
    for _, below in nnx.layers.tree.walk(layer):
        if not below.children:
            below.optim = nnx.Adam(0.01, clip=nnx.ClipNorm(0.5))
    return layer


def residual(make):
    return nnx.ResidualLayer([make()])


def keeps_shape(item):
    return item.make().output_shape(item.shape[1:]) == item.shape[1:]


WAYS = [alone, in_a_sequence, shared_in_branches, frozen, with_adam]
CASES = [(name, way) for name in LAYERS for way in WAYS]
CASES += [(name, residual) for name, item in LAYERS.items() if keeps_shape(item)]


@pytest.mark.parametrize(("name", "way"), CASES, ids=lambda part: getattr(part, "__name__", part))
def test_every_layer_goes_on(name, way, file):
    item = LAYERS[name]
    x = item.inputs(np.random.default_rng(1))
    goes_on(way(item.make), file, lambda layer: steps(layer, x, 2))


def a_net(*, optim=None, of_layers=None, cost=None, **dense):
    layers = [
        nnx.DenseLayer(6, 5, **({"afun": nnx.TanH()} | dense)),
        nnx.BatchNormLayer(5),
        nnx.DropoutLayer(0.2),
        nnx.DenseLayer(5, 3, nnx.Linear() if cost else nnx.SoftMax()),
    ]
    net = nnx.SequentialNet(6, layers, cost or nnx.CrossEntropy(), optim)
    for layer in net.layers:
        if of_layers is not None:
            layer.optim = of_layers
    return net


def an_epoch(net):
    x, y = data()
    nnx.seed(3)
    net.train(x, y, batch_size=5, progress=False)


@pytest.mark.parametrize("name", OTHERS["Optimizer"])
def test_every_optimizer_goes_on(name, file):
    make = OTHERS["Optimizer"][name]
    for net in (a_net(optim=make()), a_net(of_layers=make())):
        loaded = goes_on(net, file, an_epoch)
        owner = net if net.optim is not None else net.layers[0]
        assert owner.states
        assert loaded.layers[0].optim is not net.layers[0].optim
        if net.optim is None:
            assert len({id(layer.optim) for layer in loaded.layers}) == 1


@pytest.mark.parametrize("name", OTHERS["Optimizer"])
def test_every_optimizer_keeps_what_it_has_of_updates_by_hand(name, file):
    rng = np.random.default_rng(0)
    p = [rng.standard_normal(s).astype("float32") for s in ((3, 4), (5,))]
    g = [rng.standard_normal(s).astype("float32") for s in ((3, 4), (5,))]
    net = a_net(optim=OTHERS["Optimizer"][name]())
    copies = [array.copy() for array in p]
    for _ in range(3):
        copies = net.optim.update(copies, g)
    loaded = saved_and_loaded(net, file)
    assert held(loaded) == held(net)
    assert loaded.optim.t == 3
    mine, its = ([array.copy() for array in copies] for _ in range(2))
    assert [bits(a) for a in net.optim.update(mine, g)] == [
        bits(a) for a in loaded.optim.update(its, g)
    ]


@pytest.mark.parametrize("thing", SCHEDULES, ids=repr)
def test_every_schedule_and_clip_goes_on(thing, file):
    clip = isinstance(thing, nnx.Clip)
    optim = nnx.Adam(clip=thing) if clip else nnx.SGD(thing, 0.9)
    loaded = goes_on(a_net(optim=optim), file, an_epoch)
    assert (loaded.optim.clip if clip else loaded.optim.eta) == thing


@pytest.mark.parametrize("name", OTHERS["Regularizer"])
def test_every_penalty_goes_on_wherever_it_was_put(name, file):
    make = OTHERS["Regularizer"][name]
    net = a_net(kernel_regularizer=make())
    net.layers[3].regularizers["W"] = make()
    net.layers[1].regularizers["beta"] = nnx.L2Regularizer(0.25)
    loaded = goes_on(net, file, an_epoch)
    assert loaded.layers[0].kernel_regularizer == make()
    assert loaded.layers[1].regularizers == {"beta": nnx.L2Regularizer(0.25)}
    net.layers[0].kernel_regularizer = None
    assert saved_and_loaded(net, file).layers[0].regularizers == {}


@pytest.mark.parametrize("name", OTHERS["Initializer"])
def test_every_initializer_goes_on(name, file):
    goes_on(a_net(initializer=OTHERS["Initializer"][name]()), file, an_epoch)


@pytest.mark.parametrize("name", OTHERS["Activation"])
def test_every_activation_goes_on(name, file):
    goes_on(a_net(afun=OTHERS["Activation"][name]()), file, an_epoch)


ENDS = {"numbers": nnx.Linear, "distributions": nnx.SoftMax, "fractions": nnx.Logistic}


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_goes_on(name, file):
    outputs, targets = LOSSES[name]
    x, _ = data()
    rows = draw(targets, np.random.default_rng(2), (len(x), 3))
    net = nnx.SequentialNet(6, [nnx.DenseLayer(6, 3, ENDS[outputs]())], getattr(nnx, name)())

    def step(net):
        nnx.seed(3)
        net.train(x, rows, batch_size=5, progress=False)

    goes_on(net, file, step)


def test_a_state_of_another_optimizer_is_not_saved(file):
    net = a_net(of_layers=nnx.Adam())
    an_epoch(net)
    net.optim = None
    for layer in net.layers:
        vars(layer)["optim"] = nnx.SGD(0.1, 0.9)  # not by assignment, which forgets the states
    loaded = saved_and_loaded(net, file)
    assert all(layer.states == {} for layer in loaded.layers)
    an_epoch(loaded)
    an_epoch(net)
    assert held(loaded) == held(net)


def test_a_momentum_that_came_later_keeps_the_count(file):
    net = a_net(of_layers=nnx.SGD(0.1))
    an_epoch(net)
    net.layers[0].optim.momentum = 0.9
    loaded = saved_and_loaded(net, file)
    an_epoch(loaded)
    an_epoch(net)
    assert held(loaded) == held(net)
    assert loaded.layers[0].states["W"].t == 10
    net.layers[0].optim.momentum = 0.0  # its arrays are of no use now
    loaded = saved_and_loaded(net, file)
    an_epoch(loaded)
    an_epoch(net)
    assert held(loaded) == held(net)


def test_a_layer_that_was_thawed_for_a_while_has_its_own_count(file):
    net = a_net(optim=nnx.Adam())
    net.layers[0].frozen = True
    an_epoch(net)
    net.layers[0].frozen = False
    an_epoch(net)
    loaded = goes_on(net, file, an_epoch)
    assert loaded.layers[0].states["W"].t == loaded.layers[3].states["W"].t - 5


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_type_is_that_of_the_file(dtype, file):
    with nnx.use_backend("numpy", dtype):
        net = a_net(optim=nnx.Adam())
        an_epoch(net)
        saving.save(net, file)
    assert held(saving.load(file)) == held(net)
    other = {"float32": "float64", "float64": "float32"}[dtype]
    loaded = saving.load(file, dtype=other)
    assert loaded.backend.dtype_name == other
    for name, array in net.parameters.items():
        assert bits(loaded.parameters[name]) == bits(array.astype(other))
        for mine, its in zip(net.states[name].arrays, loaded.states[name].arrays):
            assert bits(its) == bits(mine.astype(other))


def test_what_is_loaded_owns_its_memory_and_can_be_written(file):
    net = a_net(optim=nnx.Adam())
    an_epoch(net)
    loaded = saved_and_loaded(net, file)
    arrays = [*loaded.parameters.values(), *loaded.buffers.values()]
    arrays += [array for state in loaded.states.values() for array in state.arrays]
    assert len(arrays) == 6 + 2 + 12
    for array in arrays:
        assert array.flags.owndata
        assert array.flags.writeable
    file.unlink()
    an_epoch(loaded)


class Scale(nnx.Layer):
    """y = s x, with a count of forwards as an integer buffer."""

    s = nnx.Parameter()

    def __init__(self, n, bend=None):
        super().__init__()
        self.n, self.bend = n, bend
        self.s = [1.5] * n
        self.buffers["seen"] = self.backend.xp.zeros((2,), dtype=self.backend.xp.int32)

    def forward(self, x, training=False):
        s = self.parameters["s"]
        if training:
            self.buffers["seen"] = self.buffers["seen"] + 1
        return s * x, lambda delta: (s * delta, {"s": (x * delta).sum(axis=0)})

    def output_shape(self, shape):
        return shape


class Bent(nnx.Activation):
    def __init__(self, k=float("inf")):
        self.k = k

    def forward(self, x):
        return x, lambda delta: delta


class Halving(nnx.Optimizer):
    """It has an update of its own, and keeps what it needs itself."""

    def __init__(self, eta=0.5):
        super().__init__(eta)

    def update(self, parameters, gradients):
        last = self.state or [(0.0 * g,) for g in gradients]
        self.state = [(0.5 * old + g,) for (old,), g in zip(last, gradients)]
        self.t += 1
        return [p - self.eta * v for p, (v,) in zip(parameters, self.state)]


OWN = [Scale, Bent, Halving]


def test_classes_of_the_users_own_go_on(file):
    net = nnx.SequentialNet(6, [Scale(6, Bent()), nnx.DenseLayer(6, 3, Bent(2.0))], optim=Halving())
    loaded = goes_on(net, file, an_epoch, layers=OWN)
    assert loaded.layers[0].bend.k == float("inf")
    assert nnx.to_numpy(loaded.layers[0].buffers["seen"]).tolist() == [10, 10]
    assert loaded.optim.t == 10


class Drawing(nnx.Layer):
    """Its constructor draws in every way there is."""

    def __init__(self, n):
        super().__init__()
        self.n = n
        self.parameters["W"] = nnx.HeNormal().weights((n, n))
        self.parameters["V"] = nnx.RandnOrthonormal().wfun(n, n)
        for stream in (nnx.randomness.generator, nnx.randomness.fresh_generator):
            drawn = stream("weights").standard_normal(n)
            self.parameters[stream.__name__] = self.backend.asarray(drawn)

    def weights_of(self):
        return bits(self.parameters["W"])

    def output_shape(self, shape):
        return shape


def test_nothing_is_drawn_when_a_network_is_loaded(file):
    nnx.seed(1)
    layer = Drawing(3)
    expected = [nnx.randomness.generator("weights").random(), Drawing(3).weights_of()]
    nnx.seed(1)
    again = Drawing(3)
    loaded = saved_and_loaded(again, file, layers=[Drawing])
    assert held(loaded) == held(again) == held(layer)
    found = [nnx.randomness.generator("weights").random(), Drawing(3).weights_of()]
    assert found == expected


def test_an_own_class_that_is_not_passed_is_named(file):
    saving.save(nnx.SequentialNet(6, [Scale(6, Bent())]), file)
    with pytest.raises(saving.FileError, match=r"Bent, Scale.*layers=\[Bent, Scale\]"):
        saving.load(file)
    with pytest.raises(saving.FileError, match=r"layers=\[Bent\]"):
        saving.load(file, layers=[Scale])
    with pytest.raises(TypeError, match="pass its class"):
        saving.load(file, layers=[Scale(6)])


def test_an_own_class_with_a_name_of_nnx_is_not_taken_for_that(file):
    own = type("ReLU", (Bent,), {})
    saving.save(nnx.DenseLayer(2, 3, own()), file)
    with pytest.raises(saving.FileError, match=r"layers=\[ReLU\]"):
        saving.load(file)
    assert type(saving.load(file, layers=[own]).afun) is own
    saving.save(nnx.DenseLayer(2, 3, nnx.ReLU()), file)
    assert type(saving.load(file, layers=[own]).afun) is nnx.ReLU
    both = nnx.SequentialNet(2, [nnx.DenseLayer(2, 3, own()), nnx.DenseLayer(3, 3, nnx.ReLU())])
    with pytest.raises(ValueError, match="names of their own, got several called ReLU"):
        saving.save(both, file)


def test_a_layer_that_its_constructor_does_not_make_again_is_refused(file):
    net = a_net()
    net.layers[0].parameters["W"] = np.zeros((7, 6), "float32")
    with pytest.raises(ValueError, match=r"constructors make again.*0.W \(5, 6\).*\(7, 6\)"):
        saving.save(net, file)
    assert not file.exists()
    saving.save_weights(net, file)


@pytest.mark.parametrize("name", ["a/b", "mean"])
def test_names_that_two_arrays_would_share_are_refused(name, file):
    layer = nnx.BatchNormLayer(3)
    layer.parameters[name] = np.zeros(3, "float32")
    with pytest.raises(ValueError, match="rename it"):
        saving.save(layer, file)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", ["3.W", "1.variance"])
def test_numbers_that_are_not_finite_are_neither_saved_nor_loaded(place, bad, file):
    net = a_net()
    saving.save(net, file)
    good = file.read_bytes()
    number, name = place.split(".")
    layer = net.layers[int(number)]
    arrays = layer.parameters if name in layer.parameters else layer.buffers
    arrays[name] = arrays[name].copy()
    arrays[name][..., 1] = bad
    for write in (saving.save, saving.save_weights):
        with pytest.raises(ValueError, match=rf"{place}: expected finite numbers, got {bad}"):
            write(net, file)
    assert file.read_bytes() == good
    assert [path.name for path in file.parent.iterdir()] == [file.name]


# On every backend.


def conv_net():
    layers = [
        nnx.Conv2DLayer(1, 2, 3, padding="same"),
        nnx.BatchNormLayer(2),
        nnx.FlattenLayer(),
        nnx.DropoutLayer(0.25),
        nnx.DenseLayer(32, 3, nnx.SoftMax()),
    ]
    return nnx.SequentialNet((1, 4, 4), layers, nnx.CrossEntropy(), nnx.Adam(0.01))


def epoch_of_images(net):
    x, y = data(16)
    nnx.seed(3)
    net.train(x.reshape(-1, 1, 4, 4), y, batch_size=8, progress=False)


def test_a_network_goes_on_on_every_backend(backend, file):
    loaded = goes_on(conv_net(), file, epoch_of_images)
    assert loaded.backend.same_place(backend)


def test_a_network_goes_on_on_every_backend_in_float64(backend64, file):
    goes_on(conv_net(), file, epoch_of_images)


def test_a_file_of_each_backend_is_the_same_on_numpy_and_back(backend, file):
    net = conv_net()
    epoch_of_images(net)
    saving.save(net, file)
    on_numpy = saving.load(file, "numpy")
    assert on_numpy.backend.name == "numpy"

    def without_backend(found):
        return {key: value for key, value in held(found).items() if key[-1] != "backend"}

    assert without_backend(on_numpy) == without_backend(net)
    there = file.with_name("other.safetensors")
    saving.save(on_numpy, there)
    assert there.read_bytes() == file.read_bytes()
    back = saving.load(there, backend)
    assert held(back) == held(net)
    assert back.backend.same_place(backend)
