"""What a thing was made with: repr, clone, plain data, equality, for everything that is public."""

import copy
import json
import pickle

import numpy as np
import pytest

import nnx
from nnx import config
from nnx.commands.check import items

ITEMS = {item.name: item.make for item in items()}
MORE = {
    "optimizer with a schedule and a clip": lambda: nnx.Adam(
        nnx.WarmUpSchedule(nnx.CosineSchedule(0.1, 100), 10), clip=nnx.ClipNorm(2.0)
    ),
    "mixing of samples": lambda: nnx.MixUp(0.3),
    "layer with everything": lambda: nnx.DenseLayer(
        3,
        4,
        nnx.LeakyReLU(0.2),
        nnx.SGD(0.1, 0.9, nesterov=True, clip=nnx.ClipValue(1.0)),
        nnx.VarianceScaling(2.0),
        nnx.ElasticNetRegularizer(0.1, 0.2),
        "first",
    ),
    "nested network": lambda: nnx.SequentialNet(
        (6, 4),
        [
            nnx.ResidualLayer([nnx.LayerNormLayer(4), nnx.MultiHeadAttentionLayer(4, 2)]),
            nnx.ParallelLayer([nnx.DenseLayer(4, 2), nnx.DenseLayer(4, 2)], "sum"),
            nnx.FlattenLayer(),
            nnx.SequentialNet(12, [nnx.DenseLayer(12, 2, nnx.SoftMax())]),
        ],
        nnx.CrossEntropy(0.1, [1.0, 2.0]),
        nnx.Adam(0.01),
    ),
}
THINGS = ITEMS | MORE
for_every_thing = pytest.mark.parametrize("name", THINGS)
NAMESPACE = {name: getattr(nnx, name) for name in nnx.__all__}


@for_every_thing
def test_what_is_shown_read_back_cloned_and_written_is_the_same(name):
    thing = THINGS[name]()
    written = config.plain(thing)
    assert json.loads(json.dumps(written)) == written
    twins = [thing.clone(), config.build(written), config.build(json.loads(json.dumps(written)))]
    if '"shared"' not in json.dumps(written):  # repr writes a shared layer out in every place
        twins.append(eval(repr(thing), dict(NAMESPACE)))
    for twin in twins:
        assert type(twin) is type(thing)
        assert config.plain(twin) == written
        if isinstance(thing, config.Value):
            assert twin == thing
            assert hash(twin) == hash(thing)
        else:
            assert twin != thing
            assert thing == thing


@for_every_thing
def test_every_thing_is_pickled_and_copied_with_what_it_was_made_with(name):
    thing = THINGS[name]()
    for twin in (pickle.loads(pickle.dumps(thing)), copy.deepcopy(thing), copy.copy(thing)):
        assert config.plain(twin) == config.plain(thing)


def test_a_pickle_of_another_version_says_what_is_missing_and_what_to_write():
    for make in THINGS.values():
        if not isinstance(thing := make(), nnx.Layer):
            continue
        name = next(iter(config.parameters_of(type(thing))))
        rebuild, arguments, state = thing.__reduce_ex__(2)[:3]
        if name in state and not hasattr(type(thing), name):
            del state[name]
            with pytest.raises(ValueError, match=rf"got one without {name}; .* net.save\(path\)"):
                rebuild(*arguments).__setstate__(state)


def test_a_layer_of_ones_own_is_pickled_whatever_it_keeps():
    class Own(nnx.ActivationLayer):
        def __init__(self, gain):
            super().__init__(nnx.ReLU())
            self._gain = gain

    assert copy.deepcopy(Own(3))._gain == 3


VALUES = ["text", -1, -0.5, 1.5, True, None, [], {}, object()]


def check_assignments(thing):
    """An argument takes what the constructor takes, and is kept as the constructor keeps it."""
    before = config.plain(thing)
    for argument in config.parameters_of(type(thing)):
        for value in VALUES:
            if (argument, value) == ("optim", None):
                continue  # None is only said of a layer that is made: SGD() then
            twin = thing.clone()
            try:
                made = type(thing)(**{**thing.arguments(), argument: value})
            except (TypeError, ValueError) as error:
                with pytest.raises(type(error)):
                    setattr(twin, argument, value)
                assert config.plain(twin) == before
                continue
            try:
                setattr(twin, argument, value)
            except ValueError as error:
                assert "make a new layer" in str(error)  # noqa: PT017
                continue
            assert config.key(getattr(twin, argument)) == config.key(getattr(made, argument))


@for_every_thing
def test_an_assignment_is_checked_as_the_constructor_checks_the_argument(name):
    check_assignments(THINGS[name]())


def test_the_shapes_of_parameters_do_not_change_by_an_assignment():
    layer = nnx.DenseLayer(2, 3)
    for name in ("ni", "no"):
        with pytest.raises(ValueError, match=f"expected {name} to stay .*, got 5; make a new lay"):
            setattr(layer, name, 5)
    nnx.seed(0)
    dropout, first = nnx.DropoutLayer(0.5), nnx.DenseLayer(2, 3).W
    nnx.seed(0)
    dropout.rate = np.float32(0.25)
    layer.initializer = nnx.HeNormal()
    assert (type(dropout.rate), dropout.rate) == (float, 0.25)
    np.testing.assert_array_equal(nnx.DenseLayer(2, 3).W, first)  # nothing has been drawn


def test_an_assignment_is_checked_on_the_backend_of_the_layer():
    with nnx.use_backend("strict"):
        layer = nnx.DenseLayer(2, 3)
    layer.name, layer.initializer = "first", nnx.HeNormal()
    with pytest.raises(ValueError, match="make a new layer"):
        layer.ni = 5
    assert layer.backend.name == "strict"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("frozen", 1, "to be True or False, got 1; write layer.frozen = True"),
        ("frozen", None, "to be True or False, got None"),
        ("traceable", "no", "to be True or False, got 'no'"),
        ("backend", "cupy", "got backend = 'cupy'; write layer = layer.to('cupy')"),
        ("parameters", [], "expected parameters to be an object such as {}, got []"),
        ("states", None, "expected states to be an object such as {}, got None"),
    ],
)
def test_what_is_no_argument_is_checked_when_it_is_assigned(name, value, said):
    layer = nnx.DenseLayer(2, 3)
    net = nnx.SequentialNet(2, [layer])
    with pytest.raises(TypeError) as caught:
        setattr(layer, name, value)
    assert said in str(caught.value)
    with pytest.raises(TypeError, match="got .*; write .*" if name != "frozen" else "True or Fal"):
        setattr(net, name, value)
    assert not layer.frozen
    assert net.parameters.keys() == {"0.W", "0.b"}


def test_the_things_are_all_that_is_public():
    classes = [kind for kind in NAMESPACE.values() if isinstance(kind, type)]
    public = {kind for kind in classes if issubclass(kind, config.Configured)}
    public -= {kind for kind in public if issubclass(kind, nnx.Callback)}  # see CALLBACKS
    made = {type(make()) for make in THINGS.values()}
    bases = {kind for kind in public if any(issubclass(other, kind) for other in public - {kind})}
    schedules = {k for k in public if issubclass(k, nnx.Schedule) or issubclass(k, nnx.Clip)}
    assert public - made - bases - schedules == set()


CALLBACKS = [
    nnx.EarlyStopping("f1", 3, 0.1, "max", False),
    nnx.ReduceOnPlateau("loss", 0.5, 3, 0.1, least=0.01),
    nnx.Checkpoint("run.safetensors", 2, 10, 3, "validation_loss"),
    nnx.CSVLogger("log.csv"),
    nnx.EpochLogger("training", 10),
]


@pytest.mark.parametrize("callback", CALLBACKS, ids=repr)
def test_callbacks_are_shown_read_back_and_cloned(callback):
    read = eval(repr(callback), dict(NAMESPACE))
    for twin in (read, callback.clone(), config.build(config.plain(callback))):
        assert type(twin) is type(callback)
        assert config.plain(twin) == config.plain(callback)
    kinds = {kind for kind in NAMESPACE.values() if isinstance(kind, type)}
    kinds = {kind for kind in kinds if issubclass(kind, nnx.Callback)}
    # A writer is an object of another library.
    assert kinds - {type(c) for c in CALLBACKS} == {nnx.Callback, nnx.TensorBoard}


@pytest.mark.parametrize("callback", CALLBACKS, ids=repr)
def test_an_assignment_to_a_callback_is_checked(callback):
    check_assignments(callback)


SCHEDULES = [
    nnx.ConstantSchedule(0.1),
    nnx.StepSchedule(0.1, 3, 0.5),
    nnx.ExponentialSchedule(0.1, 0.9, 2),
    nnx.PolynomialSchedule(0.1, 10, 2.0, 0.01),
    nnx.CosineSchedule(0.1, 10, 0.01),
    nnx.CosineRestartsSchedule(0.1, 10),
    nnx.WarmUpSchedule(nnx.ConstantSchedule(0.1), 5),
    nnx.OneCycleSchedule(0.1, 10),
    nnx.EpochSchedule(nnx.StepSchedule(0.1, 3), 10),
    nnx.ClipValue(0.5),
    nnx.ClipNorm(0.5),
]


@pytest.mark.parametrize("thing", SCHEDULES, ids=repr)
def test_schedules_and_clips_are_values(thing):
    read, built = eval(repr(thing), dict(NAMESPACE)), config.build(config.plain(thing))
    for twin in (read, thing.clone(), built):
        assert twin == thing
        assert hash(twin) == hash(thing)
    classes = [kind for kind in NAMESPACE.values() if isinstance(kind, type)]
    kinds = {kind for kind in classes if issubclass(kind, nnx.Schedule | nnx.Clip)}
    assert {type(other) for other in SCHEDULES} == kinds - {nnx.Schedule, nnx.Clip}


def test_what_is_shared_stays_shared():
    shared = nnx.DenseLayer(4, 4, name="twice")
    net = nnx.SequentialNet(4, [shared, nnx.ResidualLayer([shared]), shared])
    for twin in (net.clone(), config.build(config.plain(net)), copy.deepcopy(net), net.to("numpy")):
        first, block, last = twin.layers
        assert first is last is block.block.layers[0]
        assert first is not shared
    assert config.plain(net)["layers"][2] == {"shared": 1}


def test_other_arguments_are_another_value():
    assert nnx.Logistic(2) == nnx.Logistic(2.0) != nnx.Logistic()
    assert nnx.L2Regularizer(0.1) != nnx.L1Regularizer(0.1)
    assert nnx.HeNormal(rng=np.random.default_rng(1)) == nnx.HeNormal()  # a source is no argument
    assert len({nnx.ReLU(), nnx.ReLU(), nnx.ELU(), nnx.ELU(2.0)}) == 3


class Forgetful(nnx.activations.Activation):
    """It does not keep its argument."""

    def __init__(self, slope):
        self.s = slope

    def forward(self, x):
        return self.s * x, lambda delta: self.s * delta


class Several(nnx.activations.Activation):
    """Its constructor has no named arguments."""

    def __init__(self, *slopes):
        self.slopes = slopes


@pytest.mark.parametrize(
    "use",
    [
        config.plain,
        lambda thing: thing.clone(),
        lambda thing: thing == Forgetful(1.0),
        hash,
        lambda thing: config.plain(nnx.DenseLayer(2, 2, thing)),
        lambda thing: nnx.DenseLayer(2, 2, thing).clone(),
    ],
)
def test_an_argument_that_is_not_kept_is_named_when_it_is_needed(use):
    thing = Forgetful(2.0)
    assert repr(thing) == "Forgetful(slope=?)"
    with pytest.raises(TypeError, match=r"Forgetful: .*'slope'.*add `self.slope = slope`"):
        use(thing)


def test_a_constructor_without_names_is_refused():
    with pytest.raises(TypeError, match=r"Several: expected .* named arguments, got \*slopes"):
        config.plain(Several(1, 2))


def test_only_plain_data_is_written():
    act = nnx.LeakyReLU()
    vars(act)["alpha"] = np.ones(3)
    with pytest.raises(TypeError, match=r"LeakyReLU.alpha: expected a number"):
        config.plain(act)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"class": "Nothing"}, r"unknown class 'Nothing'.*classes=\[Nothing\]"),
        ({"class": "os.system"}, "unknown class 'os.system'"),
        ({"class": "ReLU", "alpha": 1}, "ReLU: its constructor has no argument alpha"),
        ([{"shared": 3}], "expected the index of one of 0 objects, got 3"),
        ({"class": "Logistic", "k": "2"}, "Logistic: expected k"),
    ],
)
def test_plain_data_that_is_wrong_is_refused(data, message):
    with pytest.raises((ValueError, TypeError), match=message):
        config.build(data)


def test_a_class_of_the_users_own_is_built_if_it_is_passed():
    class Scaled(nnx.activations.Activation):
        def __init__(self, slope):
            self.slope = slope

    written = config.plain(Scaled(2.0))
    with pytest.raises(ValueError, match="unknown class 'Scaled'"):
        config.build(written)
    assert config.build(written, [Scaled]) == Scaled(2.0)
