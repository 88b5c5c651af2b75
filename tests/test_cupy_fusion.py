"""Rules of optimizers as one kernel: nnx's own, and those of a user that cannot become one."""

import importlib.util
import logging

import numpy as np
import pytest
from conftest import usable
from optimizers_table import CASES

import nnx
from nnx import array_namespace

pytestmark = pytest.mark.gpu
SIMULATED = importlib.util.find_spec("cpusim") is not None


def finite_gradients(p, g, state, factors):
    xp = array_namespace(g)
    return g * xp.astype(xp.all(xp.isfinite(g)), g.dtype)


def centered(p, g, state, factors):
    xp = array_namespace(g)
    return g - xp.sum(g * 0.0)


def read_on_the_host(p, g, state, factors):
    return g * 0.0 if float(array_namespace(g).max(g)) > 1e30 else g


def computed_with_two_numbers(p, g, state, factors):
    """CuPy multiplies two numbers in half precision."""
    return (factors[0] * 0.3337) * g * 100.0


def elementwise(p, g, state, factors):
    xp = array_namespace(g)
    return xp.where(xp.abs(g) < 1e3, g, 0.0)


SUMS = [finite_gradients, centered]  # the simulated GPU compiles no sum within a fused kernel
UNFUSIBLE = [read_on_the_host, computed_with_two_numbers, *(SUMS if SIMULATED else ())]


def subclass(base, change):
    class Own(base):
        def rule(self, p, g, state, factors):
            return super().rule(p, change(p, g, state, factors), state, factors)

    return Own


def trained(optim, spec):
    nnx.seed(0)
    with nnx.use_backend(spec):
        layers = [nnx.DenseLayer(6, 5, nnx.TanH()), nnx.DenseLayer(5, 2, nnx.TanH())]
        net = nnx.SequentialNet(6, layers, optim=optim)
        x = np.random.default_rng(0).random((12, 6))
        net.train(x, x[:, :2], 4, 5, progress=False)
        return {path: nnx.to_numpy(p) for path, p in net.parameters.items()}


@pytest.mark.parametrize("base", [nnx.SGD, nnx.Adam])
@pytest.mark.parametrize("change", [*UNFUSIBLE[:2], *SUMS, elementwise], ids=lambda f: f.__name__)
def test_a_rule_of_the_user_trains_as_on_numpy_and_what_cannot_be_fused_is_told_once(
    base, change, caplog
):
    usable("cupy")
    own = subclass(base, change)
    caplog.set_level(logging.WARNING, "nnx")
    for _ in range(2):
        found, expected = (trained(own(0.05), spec) for spec in ("cupy", "numpy"))
        for path, p in expected.items():
            np.testing.assert_allclose(found[path], p, rtol=2e-5, atol=2e-6)
    told = [record.getMessage() for record in caplog.records]
    if change is elementwise:
        assert told == []
        assert own.fusible
    elif change in UNFUSIBLE:
        (message,) = told
        assert "Own.rule cannot be fused to one kernel" in message
        assert "fusible = False" in message
        assert not own.fusible
        assert base.fusible


@pytest.mark.parametrize("name", CASES)
def test_every_rule_of_nnx_is_one_kernel_for_each_parameter(name):
    counters = pytest.importorskip("cpusim", reason="no counters of CUDA calls here")
    with nnx.use_backend(usable("cupy")) as backend:
        layers = [nnx.DenseLayer(6, 5), nnx.DenseLayer(5, 2)]
        net = nnx.SequentialNet(6, layers, optim=CASES[name].make())
        (group,) = net.plan().groups
        gradients = [backend.xp.ones_like(slot.array) for slot in group.slots]
        group.step(list(gradients))
        counters.reset()
        group.step(list(gradients))
        counted = counters.stats()
    assert {n: k for n, k in counted.items() if not n.startswith("pinned")} == {"launches": 4}
