"""What stands around a step: calls of nnx's own functions, counted."""

import sys
from pathlib import Path

import numpy as np
import pytest

import nnx

ROOT = Path(nnx.__file__).parent
OWN = (str(ROOT), str(ROOT.parent / "backends"))
CHECKS = (str(ROOT / "data"), str(ROOT / "checks.py"))


def called(work, until=None, left_out=CHECKS):
    """The functions that are called, (file, name) each; what checks of data call does not count."""
    names, inside = [], []

    def profile(frame, event, argument):
        file, name = frame.f_code.co_filename, frame.f_code.co_name
        if event == "call":
            if inside or file.startswith(left_out):
                inside.append(name)
            else:
                names.append((file, name))
        elif event == "return" and inside:
            inside.pop()

    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
    ends = [i for i, (file, name) in enumerate(names) if name == until and file.endswith("plan.py")]
    return names[: ends[0]] if until else names


@pytest.fixture
def trained():
    with nnx.use_backend("numpy") as backend:
        layers = [nnx.DenseLayer(784, 100), nnx.DenseLayer(100, 10, nnx.SoftMax())]
        net = nnx.SequentialNet(784, layers, nnx.CrossEntropy())
        x, y = np.random.default_rng(0).random((100, 784)), np.arange(100) % 10
        net.train(x, y, 10, 1, progress=False)
        batch = backend.asarray(x[:10]), backend.asarray(np.eye(10)[y[:10]])
        yield net, x, y, batch


def test_little_is_called_before_the_first_step(trained):
    net, x, y, _ = trained
    net.layers[0].frozen = True
    net.layers[0].frozen = False  # assignments: the plan is made anew
    names = called(lambda: net.train(x, y, 10, 1, progress=False), "step")
    own = [name for file, name in names if file.startswith(OWN)]
    assert len(own) < 80, own


def test_a_step_is_few_calls(trained):
    """All functions count, NumPy's and array-api-compat's too."""
    net, _, _, batch = trained
    plan = net.plan()
    for step in (plan.step, net.step):
        step(*batch)
        names = called(lambda step=step: step(*batch))[1:]
        assert len(names) <= 41, names


@pytest.mark.parametrize(("dtype", "most"), [("float32", 12), ("float64", 28), ("uint8", 28)])
def test_a_prediction_of_one_sample_calls_little_beside_the_layers(trained, dtype, most):
    """All functions count, those of the checks too: they may cost as much as the layers."""
    net, x, _, (batch, _) = trained
    one = x[:1].astype(dtype)
    net.predict(one)  # its shape is known then
    layers = called(lambda: net.forward(batch), left_out=())
    names = called(lambda: net.predict(one), left_out=())
    assert len(names) - len(layers) <= most, names
