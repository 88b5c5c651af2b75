"""The exercise sheet of the course: its two scripts run, and every name on it is here.

The scripts stand as the sheet prints them, except for the lines that import and load: here the
modules are nnx's, and samples are rows.
"""

import contextlib
import io
import math

import numpy as np
import pytest

import nnx

IMPORTS = """
import numpy as np

from nnx.activations import *
from nnx.initializers import *
from nnx.layers import *
from nnx.losses import *
from nnx.networks import *
from nnx.optimizers import *
"""

# Exercise 2b: the same activation in both layers. Exp is the one that diverges.
EXERCISE_2B = """
accuracy = {}
afuns = [Logistic(), TanH(), SoftSign(), ReLU(), leakyReLU(), ELU(), SoftPlus(), Swish(), Exp()]
for afun in afuns:
    layers = [
        DenseLayer(784, 100, afun=afun, optim=SGD(.01)),
        DenseLayer(100, 10, afun=afun, optim=SGD(.01)),
    ]
    netz = SequentialNet(784, layers, cost=QuadraticCost())
    netz.train(x_train, y_train, batch_size=10, epochs=10)
    guess = np.argmax(netz.evaluate(x_test), axis=1)
    accuracy[afun.name] = np.mean(guess == y_test)
    print(f"{afun.name}: {100 * accuracy[afun.name]:.1f} %")
"""

# Exercise 5b: three optimizers, without and with an L2 penalty, in a logistic network.
EXERCISE_5B = """
accuracy, norm = {}, {}
for regularizer in [None, L2Regularizer(.005)]:
    for optim in [SGD(.01), SGD(.01, momentum=.9), Adam(.001)]:
        layers = [
            DenseLayer(784, 100, afun=Logistic(), optim=optim, initializer=RandnAverage(),
                       kernel_regularizer=regularizer),
            DenseLayer(100, 10, afun=Logistic(), optim=optim, initializer=RandnAverage(),
                       kernel_regularizer=regularizer),
        ]
        netz = SequentialNet(784, layers, cost=QuadraticCost())
        netz.train(x_train, y_train, batch_size=10, epochs=10)
        guess = np.argmax(netz.evaluate(x_test), axis=1)
        case = optim.name + (f", L2({regularizer.l2})" if regularizer else "")
        accuracy[case] = np.mean(guess == y_test)
        norm[case] = np.linalg.norm(netz.layers[0].W)
        print(f"{case}: {100 * accuracy[case]:.1f} %")
"""


@pytest.fixture(scope="module")
def digits():
    """A few hundred digits, 784 pixels as a row, and rows of the unit matrix as targets."""
    pytest.importorskip("sklearn", reason='pip install "nnx-array[digits]"')
    x_train, y_train, x_test, y_test = nnx.datasets.load("digits")
    x_train, x_test = enlarged(x_train[:600]), enlarged(x_test)
    return {
        "x_train": x_train,
        "y_train": np.eye(10)[y_train[:600]],
        "x_test": x_test,
        "y_test": y_test,
    }


def enlarged(x):
    """Images of 8 x 8 pixels as 28 x 28, each pixel a square of 3 x 3, with an empty frame."""
    squares = np.kron(x.reshape(-1, 8, 8), np.ones((3, 3), dtype=x.dtype))
    return np.pad(squares, ((0, 0), (2, 2), (2, 2))).reshape(-1, 784)


def run(script, digits):
    """The variables and the printed lines of a script."""
    variables, printed = dict(digits), io.StringIO()
    nnx.seed(0)
    with nnx.use_backend("numpy", dtype="float32"), contextlib.redirect_stdout(printed):
        exec(IMPORTS, variables)
        try:
            exec(script, variables)
        except nnx.NonFiniteLossError as error:
            variables["stopped"] = error
    lines = printed.getvalue().splitlines()
    return variables, [line for line in lines if not line.startswith("epoch")]


@pytest.mark.filterwarnings("ignore:.* encountered in:RuntimeWarning")  # Exp overflows
def test_exercise_2b_all_activations_learn_and_exp_diverges_in_the_first_epoch(digits):
    variables, lines = run(EXERCISE_2B, digits)
    names = ["logistic", "tanh", "softsign", "ReLU", "leaky ReLU", "ELU", "softplus", "swish"]
    assert [line.partition(":")[0] for line in lines] == names
    for name, accuracy in variables["accuracy"].items():
        assert accuracy > (0.2 if name == "logistic" else 0.5), name  # by chance it is 0.1
    assert variables["afun"] == nnx.Exp()
    assert variables["stopped"].epoch == 1


def test_exercise_5b_momentum_and_adam_learn_faster_and_l2_keeps_weights_small(digits):
    variables, lines = run(EXERCISE_5B, digits)
    accuracy, norm = variables["accuracy"], variables["norm"]
    names = ["SGD(0.01)", "SGD(0.01) with momentum 0.9", "Adam(0.001)"]
    assert list(accuracy) == [*names, *(f"{name}, L2(0.005)" for name in names)]
    assert len(lines) == 6
    assert accuracy["SGD(0.01)"] < accuracy["SGD(0.01) with momentum 0.9"] < accuracy["Adam(0.001)"]
    assert accuracy["Adam(0.001)"] > 0.7
    for name in names:
        assert norm[f"{name}, L2(0.005)"] < norm[name]


def test_training_by_hand_is_what_train_does(digits, backend64):
    def network():
        nnx.seed(1)
        layers = [nnx.DenseLayer(784, 20, nnx.TanH()), nnx.DenseLayer(20, 10, nnx.Logistic())]
        return nnx.SequentialNet(784, layers, cost=nnx.QuadraticCost())

    x, y = backend64.asarray(digits["x_train"][:40]), backend64.asarray(digits["y_train"][:40])
    trained, by_hand = network(), network()
    trained.train(x, y, batch_size=10, epochs=1, shuffle=False, progress=False)
    for start in range(0, 40, 10):
        batch = slice(start, start + 10)
        a = by_hand.evaluate(x[batch, ...])
        by_hand.backprop((a - y[batch, ...]) / 10)  # the sheet's quadratic cost
        for layer in by_hand.layers:
            layer.update()
    for one, other in zip(trained.layers, by_hand.layers):
        for name in ("W", "b"):
            difference = getattr(one, name) - getattr(other, name)
            assert float(backend64.xp.max(backend64.xp.abs(difference))) < 1e-14


# Every name on the sheet that a student types: an expression, and what the sheet says it is.
ROOT2 = math.sqrt(2)
ACTIVATIONS = [  # class, its arguments as the sheet gives them, the gain of its family
    ("Heaviside", {}, 1), ("ModifiedHeaviside", {}, 1), ("Logistic", {"k": 2.0}, 1),
    ("SoftMax", {}, 1), ("Exp", {}, 1), ("Sign", {}, 1), ("TanH", {"k": 0.5}, 1),
    ("SoftSign", {"k": 3.0}, 1), ("ReLU", {}, ROOT2), ("LeakyReLU", {"alpha": 0.1}, ROOT2),
    ("leakyReLU", {"alpha": 0.1}, ROOT2), ("ELU", {"alpha": 2.0}, ROOT2),
    ("SoftPlus", {"k": 2.0}, ROOT2), ("Swish", {"k": 2.0}, ROOT2), ("Abs", {"alpha": 0.5}, 1),
    ("LOCo", {"k": 2.0}, 1), ("Twist", {"k": 2.0}, 1), ("SoftAbs", {"k": 2.0}, 1),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments", "factor"), ACTIVATIONS)
def test_activations_of_the_sheet(name, arguments, factor, backend):
    afun = getattr(nnx.activations, name)(**arguments)
    for argument, value in arguments.items():
        assert getattr(afun, argument) == value
    assert afun.factor == factor
    assert isinstance(afun.name, str)
    x = backend.asarray([[-1.0, 0.0, 2.0]])
    assert afun.evaluate(x).shape == afun.backprop(x).shape == x.shape


def test_names_that_the_sheet_gives_in_words():
    assert nnx.ReLU().name == "ReLU"
    assert nnx.LeakyReLU().name == "leaky ReLU"
    assert nnx.SGD(0.1).name == "SGD(0.1)"
    assert nnx.SGD(0.1, momentum=0.9).name == "SGD(0.1) with momentum 0.9"
    assert nnx.Adam(0.001).name == "Adam(0.001)"


@pytest.mark.parametrize(
    ("family", "members"),
    [
        ("HeavisideLike", "Heaviside ModifiedHeaviside Logistic SoftMax Exp"),
        ("SignLike", "Sign TanH SoftSign"),
        ("ReLULike", "ReLU LeakyReLU leakyReLU ELU SoftPlus Swish"),
        ("AbsLike", "Abs LOCo Twist SoftAbs"),
    ],
)
def test_families_of_the_sheet(family, members):
    for name in members.split():
        assert issubclass(getattr(nnx.activations, name), getattr(nnx.activations, family))


@pytest.mark.parametrize("name", ["RandnAverage", "RandAverage", "RandnOrthonormal"])
def test_initializers_of_the_sheet(name, backend):
    assert getattr(nnx.initializers, name)().wfun(5, 3).shape == (5, 3)


@pytest.mark.parametrize(
    ("thing", "attributes"),
    [
        (nnx.SGD(), {"eta": 0.01, "momentum": 0.0}),
        (nnx.SGD(0.1, 0.9), {"eta": 0.1, "momentum": 0.9}),
        (nnx.Adam(), {"eta": 0.001, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}),
        (
            nnx.Adam(0.01, 0.8, 0.99, 1e-7),
            {"eta": 0.01, "beta1": 0.8, "beta2": 0.99, "eps": 1e-7},
        ),
        (nnx.layers.L2Regularizer(0.005), {"l2": 0.005}),
    ],
)
def test_arguments_are_read_back(thing, attributes):
    assert {name: getattr(thing, name) for name in attributes} == attributes
    assert callable(thing.update)


def test_a_dense_layer_has_the_attributes_of_the_sheet(backend64):
    given = {
        "ni": 3,
        "no": 2,
        "afun": nnx.Linear(),
        "optim": nnx.SGD(0.1),
        "initializer": nnx.RandAverage(),
        "kernel_regularizer": nnx.L2Regularizer(0.5),
    }
    layer = nnx.DenseLayer(**given)
    for name in given.keys() - {"optim"}:
        assert getattr(layer, name) == given[name]
    assert layer.optim.eta == 0.1
    layer.W, layer.b = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], [0.5, -0.5]

    def numbers(array):
        return backend64.to_numpy(array).tolist()

    x, delta = backend64.asarray([[1.0, 0.0, -1.0]]), backend64.asarray([[1.0, -1.0]])
    assert numbers(layer.evaluate(x)) == [[-1.5, -2.5]]  # x W^T + b
    assert numbers(layer.backprop(delta)) == [[-3.0, -3.0, -3.0]]  # delta W
    assert numbers(layer.dW) == [[1.5, 1.0, 0.5], [1.0, 2.5, 4.0]]  # delta^T x + l2 W
    assert numbers(layer.db) == [1.0, -1.0]
    layer.update()
    assert np.abs(backend64.to_numpy(layer.b) - [0.4, -0.4]).max() < 1e-15  # b - eta db


def test_star_imports_bring_what_the_sheet_has_there():
    names = {}
    exec("from nnx.layers import *\nfrom nnx.activations import *", names)
    assert {"DenseLayer", "L2Regularizer", "leakyReLU", "Logistic"} <= set(names)
    assert names["L2Regularizer"] is nnx.L2Regularizer
