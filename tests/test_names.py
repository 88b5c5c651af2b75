"""The public names: what stands at the top, and where a name that does not is to be found."""

import copy
import inspect
import pickle
import subprocess
import sys

import pytest

import nnx
from nnx.synonyms import CLASSES

ROOMS = [
    nnx.activations,
    nnx.clipping,
    nnx.initializers,
    nnx.layers,
    nnx.losses,
    nnx.networks,
    nnx.optimizers,
    nnx.regularizers,
    nnx.schedules,
    nnx.training,
]
# In their modules alone: families, base classes of one module, types, helpers.
IN_THEIR_MODULES = {
    "AbsLike", "HeavisideLike", "ReLULike", "SignLike",
    "AffineLayer", "ConvolutionLayer", "PoolingLayer", "RecurrentLayer",
    "Factors", "State", "one_hot", "Plan", "Run", "Score",
}  # fmt: skip


def test_the_top_has_what_a_network_is_made_from_and_nothing_else():
    public = {name for room in ROOMS for name in room.__all__}
    assert public >= IN_THEIR_MODULES
    setting = {
        "Backend", "BackendError", "CommunicationError", "FileError", "OutOfMemoryError",
        "array_namespace", "available_backends", "backend", "communicator", "datasets",
        "get_backend", "load", "metrics", "randomness", "seed",
        "set_backend", "to_numpy", "use_backend",
    }  # fmt: skip
    assert set(nnx.__all__) == (public - IN_THEIR_MODULES) | setting
    assert not IN_THEIR_MODULES & set(vars(nnx))


def test_the_top_has_classes_and_functions_of_the_rooms_themselves():
    for name in nnx.__all__:
        thing = getattr(nnx, name)
        assert inspect.ismodule(thing) or thing.__module__.startswith("nnx."), name


# What users of other libraries type, and what it is called here.
ELSEWHERE = {
    "Dense": "DenseLayer", "Sequential": "SequentialNet", "Conv2d": "Conv2DLayer",
    "Conv2D": "Conv2DLayer", "Dropout": "DropoutLayer", "relu": "ReLU", "Sigmoid": "Logistic",
    "sigmoid": "Logistic", "Tanh": "TanH", "tanh": "TanH", "Softmax": "SoftMax",
    "LeakyRelu": "LeakyReLU", "SiLU": "Swish", "MSELoss": "MeanSquaredError",
    "L1Loss": "MeanAbsoluteError", "CrossEntropyLoss": "CrossEntropy", "NLLLoss": "CrossEntropy",
    "BCELoss": "BinaryCrossEntropy", "BCEWithLogitsLoss": "LogisticCrossEntropy",
    "SparseCategoricalCrossentropy": "CrossEntropy", "HuberLoss": "Huber", "Model": "SequentialNet",
    "Module": "Layer", "fit": "SequentialNet.train", "LSTM": "LSTMLayer", "SimpleRNN": "RNNLayer",
    "Flatten": "FlattenLayer", "BatchNorm2d": "BatchNormLayer", "MaxPool2d": "MaxPool2DLayer",
    "MaxPooling2D": "MaxPool2DLayer", "Embedding": "EmbeddingLayer", "LayerNorm": "LayerNormLayer",
    "Masking": "MaskedLayer",
    "MultiheadAttention": "MultiHeadAttentionLayer", "xavier_uniform_": "RandAverage",
    "GlorotNormal": "RandnAverage", "he_normal": "HeNormal", "Orthogonal": "RandnOrthonormal",
    "Optimiser": "Optimizer", "Adamw": "AdamW", "L2": "L2Regularizer", "tensor": "Backend.asarray",
    "manual_seed": "seed", "ReLULike": "activations.ReLULike", "AffineLayer": "layers.AffineLayer",
    "Plan": "training.Plan", "Run": "training.Run", "one_hot": "losses.one_hot",
    "accuracy": "metrics.accuracy",
    "load_model": "load", "save": "saving.save", "state_dict": "SequentialNet.save_weights",
    "ModelCheckpoint": "Checkpoint", "ReduceLROnPlateau": "ReduceOnPlateau",
    "load_state_dict": "SequentialNet.load_weights", "check_gradients": "testing.check_gradients",
    "plot_history": "plotting.plot_history", "generator": "randomness.generator",
    "mnist": 'datasets.load("mnist")', "load_digits": 'datasets.load("digits")',
    "accuracy_score": "metrics.accuracy", "MLPClassifier": "estimators.NetworkClassifier",
}  # fmt: skip


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_name_of_another_library_or_module_says_what_it_is_here(name):
    with pytest.raises(AttributeError) as caught:
        getattr(nnx, name)
    assert str(caught.value) == (
        f"module 'nnx' has no attribute {name!r}; did you mean nnx.{ELSEWHERE[name]}?"
    )


def test_every_advice_can_be_typed():
    for name in {*CLASSES.values(), *ELSEWHERE.values()}:
        thing = nnx
        for part in name.partition("(")[0].split("."):
            thing = getattr(thing, part)
    datasets = {name for name in CLASSES.values() if name.startswith("datasets.load(")}
    assert {name.split('"')[1] for name in datasets} == set(nnx.datasets.names())


# What people ask a module for, and what it is called here.
IN_ROOMS = {
    "activations.Sigmoid": "activations.Logistic", "datasets.mnist": 'datasets.load("mnist")',
    "datasets.load_mnist": 'datasets.load("mnist")', "datasets.MNIST": 'datasets.load("mnist")',
    "datasets.cifar10": 'datasets.load("cifar-10")', "datasets.loads": "datasets.load",
    "estimators.MLPClassifier": "estimators.NetworkClassifier",
    "datasets.fetch_openml": 'datasets.load("mnist")',
    "initializers.HeNorml": "initializers.HeNormal",
    "interchange.from_pytorch": "interchange.from_torch", "layers.Dense": "layers.DenseLayer",
    "layers.Conv2d": "layers.Conv2DLayer", "losses.MSE": "losses.MeanSquaredError",
    "metrics.f1_score": "metrics.f1", "metrics.mse": "metrics.mean_squared_error",
    "onnx.export_onnx": "onnx.export", "optimizers.Adamm": "optimizers.Adam",
    "plotting.plot_loss": "plotting.plot_history", "regularizers.L2": "regularizers.L2Regularizer",
    "testing.gradcheck": "testing.check_gradients", "training.fit": "SequentialNet.train",
    "training.ModelCheckpoint": "training.Checkpoint",
}  # fmt: skip


@pytest.mark.parametrize("asked", IN_ROOMS)
def test_a_module_says_what_a_name_of_another_library_is_here(asked):
    room, _, name = asked.partition(".")
    with pytest.raises(AttributeError) as caught:
        getattr(getattr(nnx, room), name)
    assert str(caught.value) == (
        f"module 'nnx.{room}' has no attribute {name!r}; did you mean nnx.{IN_ROOMS[asked]}?"
    )


def test_every_room_with_public_names_knows_names_that_are_almost_right():
    modules = {name for name in dir(nnx) if inspect.ismodule(getattr(nnx, name))}
    rooms = {name for name in modules if getattr(nnx, name).__name__ == f"nnx.{name}"}
    assert rooms >= {room.partition(".")[0] for room in IN_ROOMS}
    without = {"backend", "checks", "commands", "communication", "config", "data", "synonyms"}
    for room in rooms - without:
        module = getattr(nnx, room)
        name = max(module.__all__, key=len)
        with pytest.raises(AttributeError, match=rf"; did you mean nnx\.{room}\.\w+\?$"):
            getattr(module, f"{name}x")
        assert not hasattr(module, "_xyzzy")


@pytest.mark.parametrize("name", ["xyzzy", "nn", "__wrapped__", "_private"])
def test_a_name_like_no_other_gets_no_advice(name):
    with pytest.raises(AttributeError, match=f"has no attribute '{name}'$"):
        getattr(nnx, name)
    assert not hasattr(nnx, name)


@pytest.mark.parametrize("arguments", [((784, 100), {}), ((), {"in_features": 784})])
def test_linear_with_the_arguments_of_a_layer_says_where_the_layer_is(arguments):
    sizes, named = arguments
    with pytest.raises(TypeError, match=r"got .*784.*DenseLayer\(784, 100, Linear\(\)\)"):
        nnx.Linear(*sizes, **named)


def test_linear_can_be_copied_and_pickled():
    linear = nnx.Linear()
    for twin in (copy.deepcopy(linear), pickle.loads(pickle.dumps(linear)), linear.clone()):
        assert twin == linear
    assert repr(linear) == "Linear()"


def test_modules_that_are_seldom_needed_are_imported_when_asked_for():
    program = """
import sys, nnx
later = {"nnx.estimators", "nnx.plotting", "nnx.testing", "matplotlib", "pytest", "sklearn"}
assert not later & set(sys.modules), later & set(sys.modules)
assert {"plotting", "testing", "config"} <= set(dir(nnx))
assert callable(nnx.testing.check_gradients)
assert callable(nnx.plotting.plot_history)
assert callable(nnx.config.plain)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
