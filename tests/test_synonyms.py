"""Names of other libraries: each is one error that says what to write here, and that works."""

import copy
import inspect
import pickle
import re

import numpy as np
import pytest

import nnx
from nnx.config import Configured, parameters_of
from nnx.synonyms import ALIASES, CALLBACKS, ELSEWHERE, METHODS

X, Y = np.zeros((8, 2)), np.zeros(8, int)


def net():
    return nnx.SequentialNet(2, [nnx.DenseLayer(2, 3)])


LAYERS = [nnx.DenseLayer(2, 3)]
# What a newcomer writes, and the end of the answer.
CALLS = [
    (lambda: nnx.SGD(lr=0.1), "SGD: expected one of the arguments eta, momentum, nesterov, clip, "
     "got lr; write eta=0.1"),
    (lambda: nnx.Adam(learning_rate=0.01), "write eta=0.01"),
    (lambda: nnx.Adam(betas=(0.9, 0.99)), "write beta1=0.9, beta2=0.999"),
    (lambda: nnx.Adam(epsilon=1e-7), "write eps=1e-07"),
    (lambda: nnx.RMSProp(alpha=0.9), "write rho=0.9"),
    (lambda: nnx.SGD(momentun=0.9), "did you mean momentum=0.9?"),
    (lambda: nnx.SGD(weight_decay=0.1), "write AdamW(weight_decay=0.1)"),
    (lambda: nnx.DenseLayer(2, 3, activation="relu"), "write afun=ReLU()"),
    (lambda: nnx.DenseLayer(in_features=2, out_features=3), "write ni=2"),
    (lambda: nnx.DenseLayer(2, units=3), "write no=3"),
    (lambda: nnx.DenseLayer(2, 3, lr=0.1), "write optim=SGD(eta=0.1)"),
    (lambda: nnx.DenseLayer(2, 3, use_bias=False), "leave it out: a layer without a bias is"),
    (lambda: nnx.DenseLayer(2, 3, weight_decay=0.1), "write kernel_regularizer=L2Regularizer(0.1)"),
    (lambda: nnx.DenseLayer(2, 3, kernel_initializer="he_normal"), "write initializer=HeNormal()"),
    (lambda: nnx.Conv2DLayer(1, filters=2, kernel_size=3), "write no=2"),
    (lambda: nnx.Conv2DLayer(1, 2, 3, strides=2), "write stride=2"),
    (lambda: nnx.DropoutLayer(p=0.5), "write rate=0.5"),
    (lambda: nnx.LayerNormLayer(3, eps=1e-5), "write epsilon=1e-05"),
    (lambda: nnx.MultiHeadAttentionLayer(4, num_heads=2), "write heads=2"),
    (lambda: nnx.MultiHeadAttentionLayer(embed_dim=8, heads=2), "write ni=8"),
    (lambda: nnx.LSTMLayer(4, 8, bidirectional=True), "write BidirectionalLayer(LSTMLayer"),
    (lambda: nnx.GRULayer(4, 8, num_layers=2), "write several layers"),
    (lambda: nnx.EmbeddingLayer(vocab_size=9, no=2), "write ni=9"),
    (lambda: nnx.L2Regularizer(weight_decay=3), "write l2=3"),
    (lambda: nnx.EarlyStopping(restore_best_weights=True), "write restore=True"),
    (lambda: nnx.Checkpoint(filepath="a"), "write path='a'"),
    (lambda: nnx.SequentialNet(2, LAYERS, loss="mse"), "write cost=CrossEntropy()"),
    (lambda: nnx.SequentialNet(2, LAYERS, optimizer="adam"), "write optim=Adam(0.001)"),
    (lambda: nnx.SequentialNet(2, LAYERS, metrics=["f1"]), "write net.train(..., metrics=...)"),
    (lambda: nnx.SequentialNet(2, LAYERS, device="cuda"), "write nnx.set_backend('cuda') before"),
    (lambda: nnx.ReLU(3), "ReLU: expected no arguments, got (3,); write ReLU()"),
    (lambda: nnx.ReLU(inplace=True), "ReLU: expected no arguments, got inplace; leave it out"),
    (lambda: net().train(X, Y, validation_data=(X, Y)), "write validation=..."),
    (lambda: net().train(X, Y, validation_split=0.2), "write validation=0.2"),
    (lambda: net().train(X, Y, verbose=1), "write progress=True or progress=False"),
    (lambda: net().train(X, Y, lr=0.1), "write SequentialNet(..., optim=SGD(eta=0.1)) before"),
    (lambda: net().train(X, Y, class_weight={0: 1.0}), "write class_weights=..."),
    (lambda: net().train(X, Y, sample_weight=Y), "write sample_weights=..."),
    (lambda: net().train(X, Y, n_epochs=3), "write epochs=3"),
    (lambda: net().train(X, Y, random_state=3), "write nnx.seed(3) before"),
    (lambda: net().train(X, Y, foo=1), "got foo; leave it out"),
    (lambda: net().score(X, Y, verbose=0), "got verbose; leave it out"),
    (lambda: net().predict(X, batch=4), "write batch_size=4"),
    (lambda: nnx.SequentialNet(LAYERS), "input_shape, layers, got none for layers; write Seq"),
    (lambda: nnx.DenseLayer(10), "expected the arguments ni, no, got none for no; write Dense"),
    (lambda: nnx.DenseLayer(2, 3, "relu"), "got 'relu'; write ReLU()"),
    (lambda: nnx.DenseLayer(2, 3, nnx.ReLU(), "adam"), "got 'adam'; write Adam()"),
    (lambda: nnx.SequentialNet(2, LAYERS, "crossentropy"), "write CrossEntropy()"),
    (lambda: nnx.SequentialNet(2, [*LAYERS, nnx.ReLU()]), "write ActivationLayer(ReLU())"),
    (lambda: nnx.DenseLayer(), "got none for ni, no; write DenseLayer(ni, no)"),
    (lambda: nnx.Conv2DLayer(1, kernel_size=3), "got none for no; write Conv2DLayer(ni, no, kern"),
    (lambda: nnx.Checkpoint(), "got none for path; write Checkpoint(path)"),
    (lambda: nnx.datasets.load(), "got none for name; write load(name)"),
    (lambda: nnx.datasets.load("digits", flatt=True), "did you mean flat=True?"),
    (lambda: nnx.load(), "got none for path; write load(path)"),
    (lambda: net().train(), "got none for x; write train(x)"),
    (lambda: net().train(X, Y, 8, 1, X), "x, y, batch_size, epochs, got 5; write validation=..., "),
    (lambda: nnx.ReLU(True, True), "got (True, True); write ReLU()"),
    (lambda: nnx.Huber(1.0, 2, 3), "Huber: expected at most 1 arguments without a name, delta"),
    (lambda: nnx.DenseLayer(2, 3, ni=2), "got it without and with its name; leave out ni="),
    (lambda: nnx.metrics.f1(Y, Y, weights=Y), "write sample_weights=..."),
    (lambda: nnx.SequentialNet(2, ["dense"]), "got 'dense'; write for example DenseLayer(64, 10)"),
    (lambda: net()(X), "SequentialNet: expected the name of a method, got a call of the object; "
     "write net.predict(x)"),
    (lambda: LAYERS[0](X), "write layer.evaluate(x), or layer.forward(x) in formulas"),
    (lambda: nnx.CrossEntropy()(X, Y), "write loss.value(outputs, targets)"),
    (lambda: nnx.Adam()(X), "write optim.update(parameters, gradients), or net.step(x, y)"),
    (lambda: nnx.HeNormal()((3, 2)), "write initializer.wfun(outputs, inputs)"),
    (lambda: nnx.L2Regularizer()(X), "write regularizer.value(W)"),
    (lambda: net().train(X, Y, metrics=[nnx.CrossEntropy()]), "write def f(outputs, targets): ..."),
    (lambda: net().train(X, Y, callbacks=[net()]), "write def f(net, history): ..."),
    (lambda: net().evaluate(X, Y), "for loss and accuracy: write net.score(x, y)"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "said"), CALLS, ids=[said[-40:] for _, said in CALLS])
def test_an_argument_of_another_library_is_one_error_with_what_to_write(call, said):
    with pytest.raises(TypeError) as caught:
        call()
    text = str(caught.value)
    assert said in text
    assert ": expected " in text
    assert ", got " in text
    assert "\n" not in text


@pytest.mark.parametrize(("name", "said"), [("gpu", "'cupy'"), ("cuda:1", "'torch:cuda'"),
                                            ("cpu", "'numpy'")])  # fmt: skip
def test_a_device_is_no_backend(name, said):
    with pytest.raises(nnx.BackendError, match=f"write .*{said}"):
        nnx.set_backend(name)


CLASSES = np.arange(8) % 3
BAD = [
    (nnx.ReLU(), nnx.QuadraticCost(), "got QuadraticCost() with ReLU() in the last layer"),
    (nnx.Linear(), nnx.MeanSquaredError(), "got MeanSquaredError() with Linear()"),
    (nnx.Linear(), nnx.Huber(), "got Huber() with Linear()"),
    (nnx.Logistic(), nnx.BinaryCrossEntropy(), "BinaryCrossEntropy() asks separate yes-or-no"),
    (nnx.Linear(), nnx.LogisticCrossEntropy(), "LogisticCrossEntropy() asks separate yes-or-no"),
]
GOOD = [
    (nnx.SoftMax(), nnx.CrossEntropy()),
    (nnx.Linear(), nnx.SoftMaxCrossEntropy()),
    (nnx.Linear(), nnx.Hinge()),
    (nnx.SoftMax(), nnx.KullbackLeibler()),
    (nnx.Logistic(), nnx.QuadraticCost()),
    (nnx.SoftMax(), nnx.QuadraticCost()),
]


@pytest.mark.parametrize(("afun", "cost", "said"), [*BAD, *((*good, "") for good in GOOD)], ids=str)
def test_classes_with_another_loss_are_warned_of(afun, cost, said, caplog):
    made = nnx.SequentialNet(2, [nnx.DenseLayer(2, 3, afun)], cost)
    made.train(X, CLASSES, progress=False)
    assert len(caplog.messages) == bool(said)
    for message in caplog.messages:
        assert said in message
        assert message.endswith("give the last layer SoftMax(), and the network CrossEntropy()")
    caplog.clear()
    made.train(X, np.eye(3)[CLASSES], progress=False)  # rows are what they are
    assert caplog.messages == []


def test_a_loss_that_does_not_take_the_end_or_the_targets_names_the_one_that_does():
    with pytest.raises(ValueError, match=r"SoftMaxCrossEntropy\(\) with Linear\(\)"):
        nnx.SequentialNet(2, [nnx.DenseLayer(2, 3, nnx.Linear())], nnx.CrossEntropy())
    made = nnx.SequentialNet(2, [nnx.DenseLayer(2, 1, nnx.Logistic())], nnx.BinaryCrossEntropy())
    with pytest.raises(ValueError, match=r"for 3 classes, .* 3 outputs and SoftMax\(\), and the"):
        made.train(X, CLASSES, progress=False)


def test_estimators_know_the_names_of_scikit_learn():
    pytest.importorskip("sklearn")
    with pytest.raises(TypeError, match=r"^NetworkClassifier: .* got hidden_layer_sizes; write"):
        nnx.estimators.NetworkClassifier(hidden_layer_sizes=(100,))
    with pytest.raises(TypeError, match=r"^NetworkRegressor: .* got max_iter; write epochs=7"):
        nnx.estimators.NetworkRegressor(max_iter=7)


def kinds():
    found = [getattr(nnx, name) for name in nnx.__all__]
    return [k for k in found if isinstance(k, type) and issubclass(k, Configured)]


def test_what_the_table_says_to_write_is_there():
    known = {name for kind in kinds() for name in parameters_of(kind)}
    known |= set(inspect.signature(nnx.SequentialNet.train).parameters)
    if estimators := pytest.importorskip("nnx.estimators"):
        known |= set(inspect.signature(estimators.NetworkClassifier).parameters)
    for name, texts in ELSEWHERE.items():
        assert any(
            not (target := text.partition("=")[0]).isidentifier() or target in known
            for text in texts
        ), name
    # An alias stands for a name of the table, or for an argument as it is.
    assert {alias for alias, name in ALIASES.items() if name not in ELSEWHERE} == set()
    things = {"net": net(), "layer": LAYERS[0], "loss": nnx.Huber(), "optim": nnx.Adam()}
    for text in METHODS.values():
        said = text.partition(" = ")[2] or text
        owner, *path = re.match(r"[\w.]+", said)[0].split(".")
        thing = things.get(owner, nnx)
        for name in path or [owner]:
            thing = getattr(thing, name)  # raises if the advice is wrong
    for text in CALLBACKS.values():
        assert callable(getattr(nnx.Callback, text.partition(",")[0]))


THINGS = [net(), LAYERS[0], nnx.Huber(), nnx.Adam()]
NOT_THERE = [(name, one) for name in METHODS for one in THINGS if not hasattr(type(one), name)]


@pytest.mark.parametrize(("name", "thing"), NOT_THERE, ids=str)
def test_a_method_of_another_library_is_an_error_with_what_to_write(name, thing):
    assert {name for name, _ in NOT_THERE} == set(METHODS)
    with pytest.raises(AttributeError) as caught:
        getattr(thing, name)
    assert str(caught.value).endswith(f"; write {METHODS[name]}")


def test_a_network_is_indexed_as_its_list_of_layers():
    first, second = nnx.DenseLayer(2, 3), nnx.DenseLayer(3, 4)
    made = nnx.SequentialNet(2, [first, second])
    assert len(made) == 2
    assert list(made) == [first, second]
    assert made[0] is first
    assert made[-1] is second
    assert made[:1].layers == [first]
    assert nnx.to_numpy(made[:1].evaluate(X)).shape == (8, 3)
    made.train(X + 1, CLASSES, progress=False)
    made[-1] = third = nnx.DenseLayer(3, 5)
    assert made.layers == [first, third]
    with pytest.raises(
        nnx.ShapeError, match=r"layer 2 \(DenseLayer\) .*write DenseLayer\(3, ...\)"
    ):
        made[1] = nnx.DenseLayer(7, 5)
    assert made.layers == [first, third]
    with pytest.raises(TypeError, match=r"write ActivationLayer\(ReLU\(\)\)"):
        made[1] = nnx.ReLU()
    with pytest.raises(IndexError):
        made[2]


# What people assign, which nothing would read; and what it is called here.
ASSIGNED = [
    (nnx.Adam(), "lr", "; did you mean eta?"),
    (nnx.SGD(), "learning_rate", "; did you mean eta?"),
    (nnx.DenseLayer(2, 3), "trainable", "; write layer.frozen"),
    (nnx.DenseLayer(2, 3), "activation", "; did you mean afun?"),
    (nnx.DenseLayer(2, 3), "weight", "; write layer.parameters, a dict by name"),
    (nnx.DropoutLayer(0.5), "p", "; did you mean rate?"),
    (net(), "loss", "; write net.cost"),
    (net(), "optimizer", "; write net.optim"),
]


@pytest.mark.parametrize(("thing", "name", "said"), ASSIGNED, ids=[n for _, n, _ in ASSIGNED])
def test_an_attribute_of_another_library_cannot_be_assigned(thing, name, said):
    with pytest.raises(AttributeError) as caught:
        setattr(thing, name, 0.5)
    kind = type(thing).__name__
    expected = f"{kind!r} object has no attribute {name!r}, and nothing would read it{said}"
    assert str(caught.value) == expected
    thing.note = 0.5  # attributes of other names are the user's own
    mine = object.__new__(type("Own", (type(thing),), {}))
    setattr(mine, name, 0.5)  # and so are those of classes of theirs
    assert getattr(mine, name) == 0.5


def test_a_thing_without_arguments_can_be_copied_in_every_way():
    for thing in (nnx.DenseLayer(2, 3), nnx.Checkpoint("a"), nnx.Constant(2.0), nnx.ClipNorm(1.0)):
        twins = [pickle.loads(pickle.dumps(thing, protocol)) for protocol in range(6)]
        for twin in [*twins, copy.copy(thing), copy.deepcopy(thing)]:
            assert type(twin) is type(thing)
            assert repr(twin) == repr(thing)


def test_every_class_refuses_a_name_that_is_not_there_and_keeps_its_signature():
    for kind in kinds():
        with pytest.raises(TypeError, match=r"expected (one of the|no) arguments.*got .*xyzzy"):
            kind(xyzzy=1)
        own = list(parameters_of(kind))
        if kind.__init__ is not object.__init__ and kind is not nnx.Linear:
            assert list(inspect.signature(kind).parameters) == own


def test_a_class_of_ones_own_may_take_any_arguments():
    class Own(nnx.Schedule):
        def __init__(self, *rates, **more):
            self.rates = rates

        def __call__(self, t):
            return self.rates[t % len(self.rates)]

    assert Own(0.1, 0.2, other=3).rates == (0.1, 0.2)


@pytest.mark.parametrize("base", [object, nnx.Callback])
@pytest.mark.parametrize("name", CALLBACKS)
def test_a_callback_with_a_method_of_another_library_is_not_ignored(base, name):
    kind = type("Mine", (base,), {name: lambda self, *a, **k: None, "__call__": lambda s, a, b: 0})
    with pytest.raises(TypeError) as caught:
        net().train(X, Y, callbacks=[kind()], progress=False)
    said = str(caught.value)
    assert f"got Mine with a method {name}, which nothing calls" in said
    assert f"define {CALLBACKS[name]}" in said
    kind = type("Mine", (nnx.Callback,), {CALLBACKS[name].split(",")[0]: lambda self, run: None})
    net().train(X, Y, callbacks=[kind()], progress=False)


@pytest.mark.parametrize("size", [8, 10, 1000])
def test_a_batch_larger_than_the_data_is_all_of_it(size):
    found = []
    for one in (8, size):
        nnx.seed(0)
        made = net()
        made.train(X + 1, Y, one, 2, progress=False)
        found.append(nnx.to_numpy(made.layers[0].W))
    np.testing.assert_array_equal(*found)
    made.train(X, Y, progress=False)  # 8 samples, and batches of 10 by default
