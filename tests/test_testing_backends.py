"""`check_backends`: what it compares, how closely, and what it says."""

import math

import numpy as np
import pytest
from conftest import usable

import nnx
from nnx.backend import BackendError, resolve
from nnx.testing import (
    BackendMismatchError,
    BackendReport,
    BackendResult,
    check_backends,
    usable_backends,
)


def network():
    layers = [
        nnx.DenseLayer(5, 4, nnx.TanH(), nnx.Adam()),
        nnx.DenseLayer(4, 3, nnx.SoftMax(), nnx.SGD(0.1, 0.9)),
    ]
    return nnx.SequentialNet(5, layers, nnx.CrossEntropy())


X = np.random.default_rng(0).standard_normal((6, 5))
THINGS = {
    "activation": (nnx.GELU(), None),
    "class": (nnx.SoftMax, None),
    "loss": (nnx.CrossEntropy(label_smoothing=0.1), None),
    "regularizer": (nnx.OrthogonalityRegularizer(), None),
    "initializer": (nnx.RandnOrthonormal(), None),
    "initializer of its own generator": (nnx.HeNormal(np.random.default_rng(3)), None),
    "optimizer": (nnx.NAdam(clip=nnx.ClipNorm(1.0)), None),
    "layer": (lambda: nnx.DenseLayer(5, 4, kernel_regularizer=nnx.L2Regularizer()), X),
    "network": (network, None),
}


@pytest.mark.parametrize("kind", THINGS)
def test_nnx_agrees_with_itself(kind, backend_spec):
    thing, x = THINGS[kind]
    report = check_backends(thing, x, backends=usable(backend_spec), steps=20)
    assert report.passed
    assert report.backends == [backend_spec]
    assert {result.dtype for result in report.results} == {"float32", "float64"}


def quantities(kind, **options):
    thing, x = THINGS[kind]
    report = check_backends(thing, x, backends="numpy", dtypes=["float32"], **options)
    return [result.quantity for result in report.results]


def test_what_is_compared():
    assert quantities("activation") == ["value", "gradient of x", "arguments"]
    assert quantities("initializer") == [
        "weights of wfun(6, 5)",
        "weights of filters((4, 3, 3, 3))",
        "arguments",
    ]
    layer = quantities("layer")
    for name in ("initial W", "value in training", "gradient of b", "W after a step"):
        assert name in layer
    net = quantities("network", steps=20)
    for name in (
        "initial W of layer 2",
        "gradient of W of layer 1",
        "losses of the first 20 steps",
        "batches of an epoch",
    ):
        assert name in net
    optimizer = quantities("optimizer")
    for name in (
        "parameter 2 after step 20",
        "state 2 of parameter 1",
        "change of state 2 of parameter 1",
        "training resumed",
    ):
        assert name in optimizer


class OffByEpsilons(nnx.Activation):
    """The identity, and k epsilon more where the array is float32."""

    def __init__(self, k):
        self.k = k

    def forward(self, x):
        off = self.k * 2.0**-23 if nnx.to_numpy(x).dtype == np.float32 else 0.0
        return x * (1.0 + off), lambda delta: delta


def test_an_error_is_told_in_units_of_the_tolerance():
    # The tolerance is 8 epsilon max(1, |expected|), and the largest entry is 20.
    report = check_backends(OffByEpsilons(4), [[20.0, 0.5]], backends="numpy")
    value = next(result for result in report.results if result.quantity == "value")
    assert value.error == pytest.approx(0.5, rel=1e-3)
    assert value.tolerance == 8 * 2.0**-23
    with pytest.raises(BackendMismatchError) as caught:
        check_backends(OffByEpsilons(16), [[20.0, 0.5]], backends="numpy")
    (failure,) = caught.value.report.failures
    assert failure.error == pytest.approx(2.0, rel=1e-3)
    assert failure.dtype == "float32"


def test_sums_may_be_off_by_the_root_of_their_length():
    report = check_backends(nnx.L2Regularizer(), np.ones((30, 30)), backends="numpy")
    assert report.results[0].tolerance == (8 + 30) * 2.0**-23


def test_the_message_names_thing_backend_quantity_and_both_values():
    with pytest.raises(BackendMismatchError) as caught:
        check_backends(OffByEpsilons(16000), [[0.5, 20.0]], backends=["numpy"])
    lines = str(caught.value).splitlines()
    assert lines[0] == "OffByEpsilons(16000) on numpy in float32: value"
    assert lines[1].startswith("  expected 20 at (0, 1), NumPy's in float64")
    assert lines[2].startswith("  given    20.038")
    assert "2e+03 times the tolerance (9.5e-07) off" in lines[2]
    assert lines[3].startswith(f"  at       {__file__}:")
    assert lines[4].startswith("  look for ")


def test_the_report_says_what_is_worst_and_becomes_json():
    report = BackendReport("item")
    assert not report.passed  # nothing was run
    good = BackendResult("item", "numpy", "float32", "value", 0.25, 1e-6)
    bad = BackendResult(
        "item", "jax", "float32", "dtype of value", math.inf, 0.0, "float32", "float64"
    )
    report.results += [good, bad]
    assert report.failures == [bad]
    assert report.worst("numpy") == 0.25
    assert math.isnan(report.worst("torch"))
    rows = report.to_dict()["results"]
    assert [row["error"] for row in rows] == [0.25, None]
    assert rows[1]["given"] == "float64"
    assert "numpy in float32: value: 0.25 of the tolerance 1e-06" in str(good)


def test_a_layer_or_network_is_moved_and_left_as_it_is(backend_spec):
    with nnx.use_backend("numpy"):
        layer, net = nnx.DenseLayer(5, 4), network()
    kept = [layer.W.copy(), net.layers[0].W.copy()]
    check_backends(layer, X, backends=usable(backend_spec))
    check_backends(net, backends=backend_spec, steps=5)
    for now, then in zip([layer.W, net.layers[0].W], kept):
        np.testing.assert_array_equal(now, then)
    assert layer.gradients == {}


def test_inputs_and_targets_of_ones_own(backend_spec):
    a = np.random.default_rng(1).uniform(0.1, 0.9, (4, 3))
    y = np.random.default_rng(2).uniform(0.1, 0.9, (4, 3))
    kept = a.copy()
    report = check_backends(nnx.Huber(0.2), a, y=y, backends=usable(backend_spec))
    assert report.results[0].quantity == "value"
    check_backends(network, X, y=np.arange(6) % 3, backends=backend_spec, steps=5)
    np.testing.assert_array_equal(a, kept)


def test_a_dtype_that_a_backend_lacks_is_a_note():
    usable("strict")
    report = check_backends(nnx.ReLU(), backends="strict:no_float64")
    assert {result.dtype for result in report.results} == {"float32"}
    assert len(report.notes) == 1
    assert "strict:no_float64 in float64 not run" in report.notes[0]
    assert "not run" in str(report)


def test_what_is_asked_for_must_be_usable():
    with pytest.raises(BackendError, match=r"unknown backend 'cupi'(.|\n)*'cupy'"):
        check_backends(nnx.ReLU(), backends=["numpy", "cupi"])
    with pytest.raises(ValueError, match="at least one backend"):
        check_backends(nnx.ReLU(), backends=[])


def test_what_cannot_be_checked_says_what_can():
    with pytest.raises(TypeError, match=r"Activation, Initializer.*got 3"):
        check_backends(3, backends="numpy")
    with pytest.raises(TypeError, match=r"SequentialNet.*got \[\]"):
        check_backends(list, backends="numpy")
    with pytest.raises(ValueError, match=r"DenseLayer: pass x"):
        check_backends(lambda: nnx.DenseLayer(2, 2), backends="numpy")


def test_an_error_on_numpy_itself_is_no_disagreement():
    with pytest.raises(ValueError, match=r"mismatch|matmul"):
        check_backends(lambda: nnx.DenseLayer(2, 2), np.ones((3, 4)), backends="numpy")


def test_a_backend_object_goes_by_its_name_and_device():
    usable("strict")
    backend = resolve("strict:device1", "float32")
    assert check_backends(nnx.ReLU(), backends=backend).backends == ["strict:device1"]


def test_usable_backends_begin_with_numpy():
    found = usable_backends()
    assert found[0] == "numpy"
    assert len(set(found)) == len(found)
