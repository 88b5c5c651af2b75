"""The estimators for scikit-learn: its own checks, its own models as oracles, its own tools."""

import copy
import itertools
import os
import pickle
import pickletools
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.6", reason='pip install "nnx-array[sklearn]"')

import joblib
import scipy.sparse
import sklearn
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_digits, load_iris, make_multilabel_classification, make_regression
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_validate
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.estimator_checks import estimator_checks_generator

import nnx
from nnx.estimators import NetworkClassifier, NetworkRegressor

IRIS, KINDS = load_iris(return_X_y=True)
IRIS = StandardScaler().fit_transform(IRIS)
NAMES = np.array(["setosa", "versicolor", "virginica"])[KINDS]


def quick(**arguments):
    defaults = {"hidden": (8,), "epochs": 3, "learning_rate": 0.01, "random_state": 0}
    return NetworkClassifier(**{**defaults, **arguments})


def quick_regressor(**arguments):
    defaults = {"hidden": (8,), "epochs": 3, "learning_rate": 0.01, "random_state": 0}
    return NetworkRegressor(**{**defaults, **arguments})


MODELS = [
    NetworkClassifier(),
    NetworkRegressor(),
    NetworkClassifier((20,), solver="lbfgs"),
    NetworkRegressor((20,), solver="lbfgs", epochs=50),
]
CHECKS = [pair for model in MODELS for pair in estimator_checks_generator(model)]
# Those of the Array API need an environment variable: they are in ARRAY_API.
CHECKS = [(model, check) for model, check in CHECKS if "array_api" not in check.func.__name__]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    ("model", "check"), CHECKS, ids=[f"{check.func.__name__}, {model!r}" for model, check in CHECKS]
)
def test_the_checks_of_scikit_learn(model, check):
    check(model)


# Against models whose optimum is known.


def test_lbfgs_without_hidden_layers_is_logistic_regression():
    n, C = len(IRIS), 0.7
    theirs = LogisticRegression(C=C, tol=1e-10, max_iter=5000).fit(IRIS, NAMES)
    ours = NetworkClassifier(
        (), solver="lbfgs", regularizer=1 / (C * n), tol=1e-10, epochs=5000, random_state=0
    ).fit(IRIS, NAMES)
    np.testing.assert_allclose(ours.net_.layers[0].W, theirs.coef_, atol=2e-5)
    np.testing.assert_allclose(ours.predict_proba(IRIS), theirs.predict_proba(IRIS), atol=1e-5)
    assert (ours.predict(IRIS) == theirs.predict(IRIS)).all()


@pytest.mark.parametrize("outputs", [1, 3])
def test_lbfgs_without_hidden_layers_is_ridge_regression(outputs):
    x, y = make_regression(60, 5, n_targets=outputs, noise=2.0, random_state=0)
    y = y / 50
    l2 = 0.3
    # mean over the samples and outputs of (a - y)^2, plus l2/2 |W|^2, times samples and outputs
    theirs = Ridge(alpha=l2 / 2 * y.size).fit(x, y)
    ours = NetworkRegressor((), solver="lbfgs", regularizer=l2, tol=1e-10, epochs=500).fit(x, y)
    np.testing.assert_allclose(ours.net_.layers[0].W, np.atleast_2d(theirs.coef_), atol=1e-6)
    np.testing.assert_allclose(ours.predict(x), theirs.predict(x), atol=1e-6)
    assert ours.predict(x).shape == y.shape


def test_a_minimum_of_scikit_learns_perceptron_is_one_of_ours():
    alpha, n = 0.5, len(IRIS)
    theirs = MLPClassifier(
        (5,), solver="lbfgs", alpha=alpha, activation="tanh", tol=1e-9, max_iter=5000,
        max_fun=50000, random_state=0,
    ).fit(IRIS, KINDS)  # fmt: skip
    ours = NetworkClassifier(
        (5,), solver="lbfgs", regularizer=alpha / n, activation="tanh", tol=1e-9, epochs=1,
        warm_start=True, random_state=0,
    )  # fmt: skip
    with pytest.warns(sklearn.exceptions.ConvergenceWarning, match="not converged in 1 iter"):
        ours.fit(IRIS, KINDS)
    for layer, W, b in zip(ours.net_.layers, theirs.coefs_, theirs.intercepts_, strict=True):
        layer.W, layer.b = W.T.copy(), b
    np.testing.assert_allclose(ours.predict_proba(IRIS), theirs.predict_proba(IRIS), atol=1e-12)
    ours.set_params(epochs=200).fit(IRIS, KINDS)
    np.testing.assert_allclose(ours.predict_proba(IRIS), theirs.predict_proba(IRIS), atol=1e-4)
    np.testing.assert_allclose(ours.loss_curve_[-1], theirs.loss_, rtol=1e-7)


def test_digits_are_told_apart_as_well_as_by_scikit_learns_perceptron():
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    budget = {"random_state": 0, "batch_size": 32}
    theirs = MLPClassifier((50,), max_iter=30, **budget)
    with pytest.warns(sklearn.exceptions.ConvergenceWarning):
        theirs.fit(x[:1200], y[:1200])
    ours = NetworkClassifier((50,), epochs=30, **budget).fit(x[:1200], y[:1200])
    assert ours.net_.backend.dtype_name == "float32"
    assert ours.score(x[1200:], y[1200:]) > theirs.score(x[1200:], y[1200:]) - 0.01 > 0.9


def test_a_curve_is_learned_as_well_as_by_scikit_learns_perceptron():
    x = np.linspace(-1, 1, 300)[:, None]
    y = np.sin(4 * x[:, 0])
    budget = {"batch_size": 30, "random_state": 0}
    theirs = MLPRegressor(hidden_layer_sizes=(50,), max_iter=150, n_iter_no_change=150, **budget)
    with pytest.warns(sklearn.exceptions.ConvergenceWarning):
        theirs.fit(x, y)
    ours = NetworkRegressor((50,), epochs=150, **budget).fit(x, y)
    assert ours.score(x, y) > theirs.score(x, y) - 0.02 > 0.85
    assert ours.predict(x).shape == (300,)


# Targets.


@pytest.mark.parametrize("labels", [["a", "b", "c"], [-5, 0, 1000], [1.0, 2.0, 3.0]], ids=str)
def test_labels_may_be_of_any_type(labels):
    y = np.array(labels)[KINDS]
    model = quick(epochs=60, hidden=20).fit(IRIS, y)
    assert model.classes_.tolist() == sorted(labels)
    assert model.predict(IRIS).dtype == y.dtype
    assert model.score(IRIS, y) > 0.95
    np.testing.assert_allclose(model.predict_proba(IRIS).sum(axis=1), 1.0)
    np.testing.assert_allclose(
        model.predict_log_proba(IRIS), np.log(model.predict_proba(IRIS)), atol=1e-12
    )
    best = model.predict_proba(IRIS).argmax(axis=1)
    assert (model.classes_[best] == model.predict(IRIS)).all()


def test_two_classes_that_are_booleans():
    model = quick(epochs=60, hidden=20).fit(IRIS, KINDS == 0)
    assert model.predict(IRIS).dtype == bool
    assert model.score(IRIS, KINDS == 0) == 1.0


@pytest.mark.parametrize("sparse", [False, True])
def test_several_labels(sparse):
    x, y = make_multilabel_classification(200, 10, n_classes=4, random_state=0)
    x = StandardScaler().fit_transform(x)
    model = quick(hidden=(50,), epochs=60).fit(x, scipy.sparse.csr_array(y) if sparse else y)
    p = model.predict_proba(x)
    assert p.shape == y.shape
    assert ((p > 0.5) == model.predict(x)).all()
    assert isinstance(model.net_.cost, nnx.BinaryCrossEntropy)
    assert (model.predict(x) == y).mean() > 0.95
    assert model.classes_.tolist() == [0, 1, 2, 3]


def test_a_column_of_targets_is_given_back_as_one():
    y = IRIS[:, :1]
    assert quick_regressor().fit(IRIS, y).predict(IRIS).shape == (150, 1)
    assert quick_regressor().fit(IRIS, y[:, 0]).predict(IRIS).shape == (150,)
    two = quick_regressor(epochs=100).fit(IRIS, IRIS[:, 1:3])
    assert two.predict(IRIS).shape == (150, 2)
    assert two.score(IRIS, IRIS[:, 1:3]) > 0.9


# Weights.


def test_only_the_ratios_of_sample_weights_count():
    w = np.random.default_rng(0).random(150)
    a, b = (quick().fit(IRIS, KINDS, sample_weight=f * w).predict_proba(IRIS) for f in (1, 4))
    assert (a == b).all()
    assert (a != quick().fit(IRIS, KINDS).predict_proba(IRIS)).any()


@pytest.mark.parametrize("given", ["balanced", {"setosa": 3.0, "virginica": 0.5}], ids=str)
@pytest.mark.parametrize("early", [False, True])
def test_the_weight_of_a_class_is_that_of_its_samples(given, early):
    few = np.r_[0:15, 50:150]
    w = compute_sample_weight(given, NAMES[few])
    one = quick(class_weight=given, early_stopping=early).fit(IRIS[few], NAMES[few])
    other = quick(early_stopping=early).fit(IRIS[few], NAMES[few], sample_weight=w)
    assert one.validation_loss_curve_ == other.validation_loss_curve_
    with pytest.warns(sklearn.exceptions.DataConversionWarning):
        column = clone(one).fit(IRIS[few], NAMES[few, None])
    assert column.loss_curve_ == one.loss_curve_
    assert (one.predict_proba(IRIS) == other.predict_proba(IRIS)).all()


def test_samples_of_weight_zero_are_as_if_they_were_not_there():
    options = {"solver": "lbfgs", "hidden": (), "regularizer": 0.1, "tol": 1e-9, "epochs": 1000}
    w = np.r_[np.zeros(20), np.ones(130)]
    weighted = quick(**options).fit(IRIS, KINDS, w)
    without = quick(**options).fit(IRIS[20:], KINDS[20:])
    np.testing.assert_allclose(weighted.predict_proba(IRIS), without.predict_proba(IRIS), atol=1e-6)


# More than one call of fit.


def test_warm_start_goes_on_and_a_cold_one_does_not():
    whole = quick(epochs=6, hidden=()).fit(IRIS, KINDS)
    warm = quick(epochs=3, hidden=(), warm_start=True).fit(IRIS, KINDS)
    first, net = list(warm.loss_curve_), warm.net_
    warm.fit(IRIS, KINDS)
    assert warm.net_ is net
    assert warm.n_iter_ == len(warm.loss_curve_) == 6
    assert warm.loss_curve_[:3] == first == whole.loss_curve_[:3]
    assert warm.loss_curve_[3] < first[2]
    cold = quick(epochs=3, hidden=()).fit(IRIS, KINDS)
    before = cold.predict_proba(IRIS)
    assert (cold.fit(IRIS, KINDS).predict_proba(IRIS) == before).all()
    assert cold.n_iter_ == 3


def test_partial_fit_sees_the_samples_bit_by_bit():
    model = quick(hidden=(20,))
    for _ in range(30):
        for part in range(3):  # one kind of flower after another
            model.partial_fit(IRIS[part::3], NAMES[part::3], classes=np.unique(NAMES))
    assert model.n_iter_ == len(model.loss_curve_) == 90
    assert model.score(IRIS, NAMES) > 0.95
    numbers = quick_regressor()
    for _ in range(100):
        numbers.partial_fit(IRIS, IRIS[:, 0] - IRIS[:, 1])
    assert numbers.score(IRIS, IRIS[:, 0] - IRIS[:, 1]) > 0.9


def test_partial_fit_counts_the_size_of_weights():
    light, heavy = (quick(optimizer="sgd", learning_rate=0.01) for _ in range(2))
    for model, w in ((light, 1.0), (heavy, 10.0)):
        model.partial_fit(IRIS, KINDS, [0, 1, 2], np.full(150, w))
    assert heavy.net_.score(IRIS, KINDS).loss < light.net_.score(IRIS, KINDS).loss


def test_partial_fit_goes_on_after_early_stopping():
    model = quick(early_stopping=True, epochs=200, patience=2).fit(IRIS, NAMES)
    epochs, net = model.n_iter_, model.net_
    model.partial_fit(IRIS, NAMES)
    assert model.net_ is net
    assert model.n_iter_ == epochs + 1
    assert len(model.validation_scores_) == epochs


class Look(nnx.Callback):
    """Keeps what the training is scored on."""

    def __init__(self, seen):
        self.seen = seen

    def begin(self, run):
        self.seen["x"], self.seen["y"], *self.seen["weights"] = run.validation.parts[0]

    def after_epoch(self, run):
        self.seen["history"] = run.history


def test_early_stopping_keeps_a_part_of_each_class_and_restores_the_best_weights():
    seen = {}
    rare = np.r_[0:50, 50:60, 100:120]
    model = quick(
        hidden=(50,), learning_rate=0.05, early_stopping=True, validation_fraction=0.25,
        epochs=500, patience=5, tol=0.0, callbacks=[Look(seen)],
    ).fit(IRIS[rare, :2], NAMES[rare])  # fmt: skip
    counts = np.bincount(seen["y"], minlength=3)
    assert counts.sum() == 20
    assert (abs(counts - np.array([50, 10, 20]) / 4) <= 1).all()
    assert model.n_iter_ < 500
    assert len(model.validation_scores_) == len(model.validation_loss_curve_) == model.n_iter_
    assert model.validation_loss_curve_ == seen["history"].validation_loss
    assert model.validation_scores_ == seen["history"].validation_accuracy
    best = min(model.validation_loss_curve_)
    assert model.validation_loss_curve_[-1] > best
    assert abs(model.net_.score(seen["x"], seen["y"]).loss - best) < 1e-9


def test_weights_stay_with_their_samples_in_the_validation():
    seen, w = {}, np.linspace(0.5, 2.0, 150)
    x = np.column_stack([w, IRIS])
    quick(early_stopping=True, callbacks=[Look(seen)]).fit(x, KINDS, w)
    np.testing.assert_array_equal(seen["weights"][0], seen["x"][:, 0])
    assert 1 < len(seen["x"]) == round(0.1 * 150)


# Random numbers.


def test_random_state_alone_decides():
    options = {"dropout": 0.3, "early_stopping": True}
    before = nnx.randomness.state()
    first = quick(**options).fit(IRIS, KINDS)
    assert nnx.randomness.state() == before
    nnx.seed(99)
    second = quick(**options).fit(IRIS, KINDS)
    assert (first.predict_proba(IRIS) == second.predict_proba(IRIS)).all()
    third = quick(**options, random_state=1).fit(IRIS, KINDS)
    assert (third.predict_proba(IRIS) != first.predict_proba(IRIS)).any()
    rng = np.random.RandomState(0)
    a, b = (quick(**options, random_state=rng).fit(IRIS, KINDS) for _ in range(2))
    assert (a.predict_proba(IRIS) != b.predict_proba(IRIS)).any()


def test_threads_do_not_disturb_each_other():
    def fit(seed, found):
        model = quick(dropout=0.3, epochs=8, random_state=seed).fit(IRIS, KINDS)
        found[seed] = model.predict_proba(IRIS)

    alone, together = {}, {}
    for seed in range(4):
        fit(seed, alone)
    threads = [threading.Thread(target=fit, args=(seed, together)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in range(4):
        assert (alone[seed] == together[seed]).all()


def test_dropout_is_repeatable_on_a_library_that_compiles(backend_spec):
    before = nnx.randomness.state()
    a, b = (quick(dropout=0.3, backend=backend_spec).fit(IRIS, KINDS) for _ in range(2))
    assert (a.predict_proba(IRIS) == b.predict_proba(IRIS)).all()
    assert nnx.randomness.state() == before


# Layers of one's own.


class Scale(nnx.Layer):
    """A layer of a user."""

    s = nnx.Parameter()

    def __init__(self, n, optim=None):
        super().__init__(optim or nnx.SGD())
        self.n = n
        self.s = [1.0] * n

    def forward(self, x, training=False):
        s = self.parameters["s"]

        def backward(delta):
            return s * delta, {"s": nnx.array_namespace(x).sum(x * delta, axis=0)}

        return s * x, backward

    def output_shape(self, input_shape):
        return input_shape


def scaled(input_shape, output_shape):
    """Layers with one of a user's class."""
    return [
        Scale(*input_shape),
        nnx.DenseLayer(*input_shape, 10),
        nnx.DropoutLayer(0.1),
        nnx.DenseLayer(10, *output_shape, nnx.SoftMax()),
    ]


def images(input_shape, output_shape):
    """A small convolutional network."""
    return [
        nnx.Conv2DLayer(1, 4, 3),
        nnx.BatchNormLayer(4),
        nnx.FlattenLayer(),
        nnx.DenseLayer(4 * 36, *output_shape, nnx.SoftMax()),
    ]


def test_layers_from_a_function():
    x, y = load_digits(return_X_y=True)
    x = (x.reshape(-1, 1, 8, 8) / 16).astype(np.float32)
    model = quick(hidden=(100,), layers=images).fit(x[:1000], y[:1000])
    assert model.score(x[1000:], y[1000:]) > 0.9
    assert type(model.net_.layers[0]) is nnx.Conv2DLayer
    flat = quick(epochs=10).fit(x[:1000], y[:1000])  # `hidden` takes images as rows
    assert flat.score(x[1000:], y[1000:]) > 0.8


def test_layers_from_a_list_are_made_anew():
    layers = scaled((4,), (3,))
    model = quick(layers=layers, hidden=(100,)).fit(IRIS, KINDS)
    assert (layers[1].W != model.net_.layers[1].W).any()
    assert not set(map(id, layers)) & set(map(id, model.net_.layers))
    again = clone(model).fit(IRIS, KINDS)
    assert (again.predict_proba(IRIS) == model.predict_proba(IRIS)).all()


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (None, nnx.RandnAverage()),
        ("he_normal", nnx.HeNormal()),
        ("HeUniform", nnx.HeUniform()),
        ("glorot_uniform", nnx.RandAverage()),
        ("orthogonal", nnx.RandnOrthonormal()),
        ("identity", nnx.Identity()),
        (nnx.Constant(0.25), nnx.Constant(0.25)),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", [NetworkClassifier, NetworkRegressor])
def test_initial_weights_are_those_of_the_initializer(kind, given, meant):
    model = kind((5,), activation="identity", initializer=given, optimizer=nnx.SGD(0.0), epochs=1)
    made = clone(model).set_params(random_state=0).fit(IRIS, KINDS).net_.layers
    assert [layer.initializer for layer in made] == [meant, meant]
    assert made[0].afun == nnx.Linear()  # not the initializer of this name
    if given == "identity":
        np.testing.assert_array_equal(made[0].W, np.eye(5, 4))
    if given == nnx.Constant(0.25):
        np.testing.assert_array_equal(made[0].W, np.full((5, 4), 0.25))


@pytest.mark.parametrize(
    ("last", "loss", "cost"),
    [
        (nnx.DenseLayer(4, 3, nnx.SoftMax()), None, nnx.CrossEntropy()),
        (nnx.DenseLayer(4, 3, nnx.Linear()), None, nnx.SoftMaxCrossEntropy()),
        (nnx.DenseLayer(4, 3, nnx.SoftMax()), "quadratic", nnx.QuadraticCost()),
        (
            nnx.DenseLayer(4, 3, nnx.Linear()),
            nnx.SoftMaxCrossEntropy(0.1),
            nnx.SoftMaxCrossEntropy(0.1),
        ),
    ],
)
def test_the_loss_suits_the_last_layer(last, loss, cost):
    model = quick(hidden=(100,), layers=[last], loss=loss, epochs=60)
    model.fit(IRIS, NAMES)
    assert model.net_.cost == cost
    p = model.predict_proba(IRIS)
    np.testing.assert_allclose(p.sum(axis=1), 1.0)
    assert (model.classes_[p.argmax(axis=1)] == model.predict(IRIS)).all()
    assert model.score(IRIS, NAMES) > 0.9


@pytest.mark.parametrize("afun", [nnx.Logistic(), nnx.Linear()])
def test_one_output_is_enough_for_two_classes(afun):
    x, y = IRIS[50:], NAMES[50:]
    layers = [nnx.DenseLayer(4, 1, afun)]
    model = quick(hidden=(100,), layers=layers, epochs=60, learning_rate=0.1).fit(x, y)
    p = model.predict_proba(x)
    assert p.shape == (100, 2)
    np.testing.assert_allclose(p.sum(axis=1), 1.0)
    assert ((p[:, 1] > 0.5) == (model.predict(x) == "virginica")).all()
    assert model.score(x, y) > 0.9


def test_a_loss_without_probabilities_has_none():
    model = quick(loss="hinge", epochs=30).fit(IRIS, NAMES)
    assert not hasattr(model, "predict_proba")
    assert model.score(IRIS, NAMES) > 0.9


def test_batch_normalization_takes_any_number_of_samples():
    model = quick(batch_norm=True, batch_size=32).fit(IRIS[30:127], KINDS[30:127])  # 3 * 32 + 1
    assert model.predict(IRIS).shape == (150,)


# scikit-learn's tools.


def test_a_search_in_two_processes():
    model = make_pipeline(StandardScaler(), quick(epochs=30))
    grid = {
        "networkclassifier__hidden": [(3,), (20,)],
        "networkclassifier__optimizer": ["adam", nnx.SGD(0.1)],
    }
    found = GridSearchCV(model, grid, n_jobs=2, cv=3, error_score="raise").fit(IRIS, NAMES)
    assert found.best_score_ > 0.9
    here = GridSearchCV(model, grid, cv=3).fit(IRIS, NAMES)
    np.testing.assert_array_equal(
        found.cv_results_["mean_test_score"], here.cv_results_["mean_test_score"]
    )
    assert found.predict(IRIS).shape == (150,)


def test_cross_validation_and_a_target_that_is_transformed():
    p = cross_val_predict(quick(epochs=30), IRIS, NAMES, method="predict_proba", cv=3)
    assert (np.unique(NAMES)[p.argmax(axis=1)] == NAMES).mean() > 0.85
    y = 1000 + 500 * IRIS[:, 0]
    model = TransformedTargetRegressor(quick_regressor(epochs=100), transformer=StandardScaler())
    assert model.fit(IRIS, y).score(IRIS, y) > 0.95


def test_sample_weights_are_routed():
    w = np.random.default_rng(0).random(150)
    with sklearn.config_context(enable_metadata_routing=True):
        model = quick().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        found = cross_validate(
            model, IRIS, KINDS, params={"sample_weight": w}, cv=2,
            return_estimator=True, return_indices=True,
        )  # fmt: skip
    train = found["indices"]["train"][0]
    expected = quick().fit(IRIS[train], KINDS[train], sample_weight=w[train])
    assert (found["estimator"][0].predict_proba(IRIS) == expected.predict_proba(IRIS)).all()


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_names_of_features(library):
    frames = pytest.importorskip(library)
    names = ["a", "b", "c", "d"]
    x = frames.DataFrame(dict(zip(names, IRIS.T, strict=True)))
    y = frames.Series(NAMES)
    model = quick().fit(x, y)
    assert model.feature_names_in_.tolist() == names
    assert (model.predict(x) == quick().fit(IRIS, NAMES).predict(IRIS)).all()
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(x[["b", "a", "c", "d"]])


# Copies and files.


def classes_named(data):
    """What a pickle refers to by its name: "module.name"."""
    texts = [a for o, a, _ in pickletools.genops(data) if isinstance(a, str)]
    return {f"{module}.{name}" for module, name in itertools.pairwise(texts)}


@pytest.mark.parametrize("layers", [None, scaled, "a list"])
@pytest.mark.parametrize("way", ["pickle", "joblib", "deepcopy"])
def test_a_copy_predicts_and_trains_as_the_original(tmp_path, layers, way):
    layers = scaled((4,), (3,)) if layers == "a list" else layers
    model = quick(hidden=(100,), layers=layers, early_stopping=True).fit(IRIS, NAMES)
    if way == "pickle":
        twin = pickle.loads(pickle.dumps(model))
    elif way == "joblib":
        joblib.dump(model, tmp_path / "model.joblib")
        twin = joblib.load(tmp_path / "model.joblib")
    else:
        twin = copy.deepcopy(model)
    assert (twin.predict_proba(IRIS) == model.predict_proba(IRIS)).all()
    for one in (model, twin):
        one.partial_fit(IRIS, NAMES)
    assert (twin.predict_proba(IRIS) == model.predict_proba(IRIS)).all()
    assert twin.loss_curve_ == model.loss_curve_


def test_a_pickle_holds_no_layers_and_names_the_classes_of_the_user():
    data = pickle.dumps(quick(hidden=(100,), layers=scaled((4,), (3,))).fit(IRIS, NAMES))
    named = classes_named(data)
    assert f"{__name__}.Scale" in named
    assert not [name for name in named if name.startswith(("nnx.layers.", "nnx.networks."))]


def test_a_model_moves_to_another_backend():
    if nnx.available_backends()["torch"].usable:
        model = quick(backend="torch").fit(IRIS, NAMES)
        assert model.net_.backend.name == "torch"
        moved = model.to("numpy")
        assert (moved.net_.backend.name, model.net_.backend.name) == ("numpy", "torch")
        assert isinstance(model.predict_proba(IRIS), np.ndarray)
        np.testing.assert_allclose(moved.predict_proba(IRIS), model.predict_proba(IRIS), atol=1e-12)
    else:
        pytest.skip("needs torch")


# Backends and types.


@pytest.mark.parametrize("solver", ["batches", "lbfgs"])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_every_backend_gives_the_same_model(backend_spec, solver):
    numbers = {}
    for spec in ("numpy", backend_spec):
        model = quick(backend=spec, dtype="float64", solver=solver, batch_norm=True, epochs=5)
        model.fit(IRIS, NAMES, sample_weight=np.r_[np.ones(100), np.full(50, 2.0)])
        numbers[spec] = model.predict_proba(IRIS)
        assert isinstance(numbers[spec], np.ndarray)
    np.testing.assert_allclose(numbers[backend_spec], numbers["numpy"], atol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("float32", "float32"), ("uint8", "float32"), ("float64", "float64"), ("int64", "float64")],
)
def test_the_type_is_one_that_holds_the_data(dtype, expected):
    x = np.round(IRIS + 5).astype(dtype)
    assert quick().fit(x, KINDS).net_.backend.dtype_name == expected
    assert quick(dtype="float32").fit(x, KINDS).predict_proba(x).dtype == np.float32


def test_the_current_backend_is_used_if_none_is_given(backend):
    assert quick().fit(IRIS, KINDS).net_.backend.name == backend.name


ARRAY_API = """
import sys, warnings
import numpy as np, sklearn
from nnx.estimators import NetworkClassifier, NetworkRegressor

sklearn.set_config(array_api_dispatch=True)
xp, device = {"torch": ("torch", "cpu"), "strict": ("array_api_strict", None)}[sys.argv[1]]
xp = __import__(xp)
rng = np.random.default_rng(0)
x = rng.standard_normal((60, 4)).astype("float32")
y = (x[:, 0] > 0).astype(int) * 7
X, Y = xp.asarray(x), xp.asarray(y)
one = NetworkClassifier((8,), epochs=5, random_state=0).fit(x, y)
for labels in (Y, y):
    two = NetworkClassifier((8,), epochs=5, random_state=0).fit(X, labels)
    assert two.net_.backend.name == sys.argv[1], two.net_.backend
    for method in ("predict", "predict_proba", "predict_log_proba"):
        result = getattr(two, method)(X)
        assert type(result) is type(X), (method, type(result))
        np.testing.assert_allclose(np.asarray(result), getattr(one, method)(x), atol=1e-4)
assert two.predict(X).dtype == Y.dtype
words = NetworkClassifier((8,), epochs=5).fit(X, np.array(["no", "yes"])[(y > 0).astype(int)])
assert set(words.predict(X)) <= {"no", "yes"}
numbers = NetworkRegressor((8,), epochs=5, early_stopping=True).fit(X, X[:, 0])
assert type(numbers.predict(X)) is type(X)
assert numbers.predict(X).dtype == X.dtype
assert isinstance(numbers.score(X, X[:, 0]), float)
host = NetworkClassifier((8,), epochs=5, backend="numpy", random_state=0).fit(X, Y)
assert host.net_.backend.name == "numpy" and type(host.predict(X)) is type(X)
try:
    two.predict(x)
except ValueError as error:
    assert "expected " + sys.argv[1] in str(error) and "got numpy" in str(error)
else:
    raise AssertionError
sklearn.set_config(array_api_dispatch=False)
if tuple(map(int, sklearn.__version__.split(".")[:2])) < (1, 9):
    sys.exit()  # its checks want classes_ on the device, where no text can be

from sklearn.utils.estimator_checks import check_estimator

warnings.simplefilter("ignore")
for model in (NetworkClassifier((8,), epochs=5), NetworkRegressor((8,), epochs=5)):
    done = check_estimator(model, on_skip=None, on_fail=None)
    done = [r for r in done if "array_api" in r["check_name"]]
    failed = [r for r in done if r["status"] == "failed" and "CUDA" not in repr(r["exception"])]
    assert not failed, failed
    assert sum(r["status"] == "passed" for r in done) >= 3, done
"""


@pytest.mark.parametrize("name", ["torch", "strict"])
def test_arrays_of_another_library_in_and_out(name, monkeypatch):
    if not nnx.available_backends()[name].usable:
        pytest.skip(f"needs {name}")
    if name == "strict" and tuple(map(int, sklearn.__version__.split(".")[:2])) < (1, 9):
        pytest.skip("older versions of scikit-learn choose an older standard for array_api_strict")
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")  # before SciPy is imported
    done = subprocess.run([sys.executable, "-c", ARRAY_API, name], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


# Errors.


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"activation": "rleu"}, ValueError, r"activation .*ReLU.*'rleu'; did you mean ReLU\?"),
        ({"activation": nnx.ReLU}, TypeError, r"activation .*write ReLU\(\)"),
        ({"optimizer": "lbfgs"}, ValueError, r"optimizer .*Adam.*'lbfgs'"),
        ({"loss": "cross"}, ValueError, r"CrossEntropy.*'cross'"),
        ({"solver": "sgd"}, ValueError, "got 'sgd'; write optimizer='sgd'"),
        ({"hidden": (10, 0)}, ValueError, r"hidden\[1\] to be a positive integer, got 0"),
        ({"hidden": "100"}, TypeError, r"hidden\[0\] .*'100'"),
        ({"dropout": 1.0}, ValueError, r"dropout to be a number in \[0, 1\), got 1.0"),
        ({"initializer": "xaviar"}, ValueError, r"initializer .*HeNormal.*'xaviar'"),
        ({"initializer": nnx.HeNormal}, TypeError, r"initializer .*write HeNormal\(\)"),
        ({"layers": images, "initializer": "zeros"}, ValueError, "either layers or initializer"),
        ({"regularizer": -1}, ValueError, "regularizer .*>= 0, got -1"),
        ({"batch_size": 0}, ValueError, "batch_size to be a positive integer, got 0"),
        ({"epochs": 2.5}, TypeError, "epochs .*2.5"),
        ({"validation_fraction": 1.0}, ValueError, r"validation_fraction .*\(0, 1\), got 1.0"),
        ({"early_stopping": "yes"}, TypeError, "early_stopping to be True or False"),
        ({"tol": -1}, ValueError, "tol .*>= 0"),
        ({"learning_rate": -0.1}, ValueError, "Classifier: expected learning_rate to .* got -0.1"),
        ({"learning_rate": "adaptive"}, TypeError, "got 'adaptive'; write a number"),
        ({"callbacks": print}, TypeError, "list of functions or Callback"),
        ({"solver": "lbfgs", "dropout": 0.5}, ValueError, "without noise.*leave out dropout"),
        ({"solver": "lbfgs", "early_stopping": True}, ValueError, "no early_stopping with solver"),
        ({"solver": "lbfgs", "callbacks": [print]}, ValueError, "no callbacks with solver"),
        ({"backend": "tpu"}, nnx.BackendError, "tpu"),
        ({"dtype": "float16"}, nnx.BackendError, "float16"),
        ({"layers": images, "dropout": 0.5}, ValueError, "either layers or dropout"),
        ({"layers": lambda i, o: [nnx.DenseLayer(4, 7)]}, nnx.ShapeError, "3 outputs.*got .7,."),
        ({"layers": lambda i, o: []}, ValueError, "at least one layer"),
        ({"layers": lambda i, o: [nnx.DenseLayer(9, 3)]}, nnx.ShapeError, "9"),
        ({"class_weight": "equal"}, ValueError, "balanced"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else str(value),
)
def test_errors_of_arguments(arguments, error, words):
    with pytest.raises(error, match=words):
        NetworkClassifier(**{"epochs": 2, **arguments}).fit(IRIS, KINDS)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"optim": "adam"}, "write optimizer='adam'"),
        ({"hidden_layer_sizes": (3,)}, "write hidden="),
        ({"class_weights": "balanced"}, "did you mean class_weight='balanced'?"),
        ({"eta": 0.1}, "write learning_rate=0.1"),
        ({"max_iter": 3}, "write epochs=3"),
    ],
    ids=str,
)
def test_an_argument_that_is_not_there_is_told_what_to_write(wrong, said):
    with pytest.raises(TypeError) as caught:
        quick(**wrong)
    assert said in str(caught.value)
    for model in (quick(), make_pipeline(quick())):
        name = next(iter(wrong))
        prefix = "networkclassifier__" if hasattr(model, "steps") else ""
        with pytest.raises(ValueError, match="Invalid parameter") as caught:
            model.set_params(**{prefix + name: wrong[name]})
        assert said in str(caught.value)


@pytest.mark.parametrize(
    ("library", "error", "said"),
    [
        ("pandas", ValueError, "the columns kind hold no numbers: encode them first"),
        ("polars", TypeError, r"encode text first: write pandas\.get_dummies"),
    ],
)
def test_columns_that_hold_no_numbers_are_told(library, error, said):
    frames = pytest.importorskip(library)
    table = frames.DataFrame({"a": IRIS[:, 0], "kind": NAMES.tolist()})
    with pytest.raises(error, match=said):
        quick().fit(table, KINDS)


def test_targets_of_another_estimator_are_told_which():
    with pytest.raises(ValueError, match=r"y of numbers, got <U10 .*; for classes write NetworkCl"):
        quick_regressor().fit(IRIS, NAMES)
    with pytest.raises(
        ValueError, match=r"write MultiOutputClassifier\(NetworkClassifier\(\.\.\.\)"
    ):
        quick().fit(IRIS, np.stack([KINDS, KINDS], axis=1))


def test_errors_of_data():
    with pytest.raises(TypeError, match=r"dense data is required.*toarray"):
        quick().fit(scipy.sparse.csr_array(IRIS), KINDS)
    with pytest.raises(ValueError, match=r"at least two classes, got one class, .1."):
        quick().fit(IRIS, np.ones(150, dtype=int))
    with pytest.raises(ValueError, match="Unknown label type"):
        quick().fit(IRIS, IRIS[:, 0])
    with pytest.raises(ValueError, match=r"sample_weight of shape \(150,\).*got \(3,\)"):
        quick().fit(IRIS, KINDS, [1, 2, 3])
    with pytest.raises(ValueError, match=r"sample_weights >= 0"):
        quick().fit(IRIS, KINDS, -np.ones(150))
    with pytest.raises(ValueError, match="weight of zero for all"):
        quick().fit(IRIS, KINDS, np.zeros(150))
    with pytest.raises(NotFittedError):
        quick().predict(IRIS)
    with pytest.raises(ValueError, match=r"3 features, but .* expecting 4"):
        quick().fit(IRIS, KINDS).predict(IRIS[:, :3])
    with pytest.raises(nnx.NonFiniteLossError), np.errstate(all="ignore"):
        quick_regressor(optimizer="sgd", learning_rate=1e6).fit(IRIS, 1e6 * IRIS[:, 0])


def test_errors_of_partial_fit():
    with pytest.raises(ValueError, match=r"classes of the first call.*got"):
        quick().partial_fit(IRIS, KINDS, [0, 1, 2]).partial_fit(IRIS, KINDS, [0, 1, 2, 3])
    with pytest.raises(ValueError, match=r"labels of array.*got .*2.*classes="):
        quick().partial_fit(IRIS, KINDS, [0, 1])
    with pytest.raises(ValueError, match=r"all classes in the first call.*write classes="):
        quick().partial_fit(IRIS, KINDS)
    with pytest.raises(ValueError, match=r"class_weight as .*partial_fit"):
        quick(class_weight="balanced").partial_fit(IRIS, KINDS, [0, 1, 2])
    with pytest.raises(ValueError, match="1 outputs, as in the first call, got 2"):
        quick_regressor().partial_fit(IRIS, IRIS[:, 0]).partial_fit(IRIS, IRIS[:, :2])
    assert not hasattr(quick(solver="lbfgs"), "partial_fit")
    model = NetworkClassifier(
        layers=[nnx.DenseLayer(4, 3, nnx.ReLU())], loss="quadratic", epochs=2
    ).fit(IRIS, KINDS)
    with pytest.raises(ValueError, match=r"values are probabilities, got ReLU\(\).*SoftMax"):
        model.predict_proba(IRIS)


def test_without_scikit_learn_the_error_says_what_to_install():
    program = """
import sys
sys.modules["sklearn"] = None
import nnx
try:
    nnx.estimators.NetworkClassifier
except ImportError as error:
    assert 'pip install "nnx-array[sklearn]"' in str(error), error
else:
    raise AssertionError
try:
    nnx.Quux
except AttributeError:
    pass
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_example_compares_them(tmp_path):
    script = Path(__file__).parents[1] / "examples" / "estimators.py"
    options = ["--sets", "digits", "diabetes", "--limit", "100", "--epochs", "2", "--seeds", "1"]
    env = {**os.environ, "COLUMNS": "100"}
    command = [sys.executable, script, *options]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for title in ("MLPClassifier", "NetworkClassifier, dropout 0.2", "NetworkRegressor"):
        assert title in done.stdout
