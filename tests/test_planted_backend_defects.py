"""Each kind of disagreement, planted: the check that should see it does, and says what it is."""

import zlib

import numpy as np
import pytest
from conftest import usable

import nnx
from nnx.backend import get_backend
from nnx.testing import BackendMismatchError, check_backends


def failures(thing, x=None, *, backend, **options):
    """The results that did not pass; there must be one."""
    with pytest.raises(BackendMismatchError) as caught:
        check_backends(thing, x, backends=usable(backend), **options)
    return caught.value.report.failures


def planted(forward, backward=None):
    """An activation with this forward, of x and its namespace; its backward is that of 2x."""

    class Planted(nnx.Activation):
        def forward(self, x):
            xp = nnx.array_namespace(x)
            return forward(x, xp), lambda delta: (backward or (lambda d, xp: 2.0 * d))(delta, xp)

    return Planted()


def test_without_a_defect_nothing_is_found(backend_spec):
    check_backends(planted(lambda x, xp: 2.0 * x), backends=usable(backend_spec))


def test_a_leak_of_float64(backend_spec):
    leak = planted(lambda x, xp: xp.astype(x, xp.float64) * 2.0)
    (failure,) = failures(leak, backend=backend_spec, dtypes=["float32"])
    assert failure.quantity == "dtype of value"
    assert failure.expected == "float32"
    assert "float64" in failure.given


def test_a_leak_in_the_backward_alone(backend_spec):
    leak = planted(lambda x, xp: 2.0 * x, lambda d, xp: xp.astype(d, xp.float64) * 2.0)
    (failure,) = failures(leak, backend=backend_spec, dtypes=["float32"])
    assert failure.quantity == "dtype of gradient of x"


@pytest.mark.gpu
@pytest.mark.parametrize("spec", ["numpy", "strict", "cupy"])
def test_a_promotion_by_a_0d_array(spec):
    """NumPy, CuPy and the standard promote by it; PyTorch does not, and has another default."""
    promoted = planted(lambda x, xp: x * xp.asarray(2.0, device=x.device))
    assert failures(promoted, backend=spec)[0].quantity == "dtype of value"


@pytest.mark.gpu
@pytest.mark.parametrize("spec", ["strict", "strict:device1", "cupy"])
def test_a_numpy_operand_in_a_formula(spec):
    mixed = planted(lambda x, xp: x * np.full(6, 2.0, dtype=np.float32))
    failure = failures(mixed, backend=spec)[0]
    assert failure.quantity == "the first quantity"
    assert "TypeError" in failure.given
    assert "NumPy array" in failure.hint


def test_the_error_that_a_library_raised_is_kept():
    usable("strict")
    mixed = planted(lambda x, xp: x * np.full(6, 2.0, dtype=np.float32))
    with pytest.raises(BackendMismatchError) as caught:
        check_backends(mixed, backends="strict")
    assert isinstance(caught.value.__cause__, TypeError)


def test_a_result_that_is_numpys(backend_spec):
    if backend_spec == "numpy":
        pytest.skip("there it is the backend's own")
    host = planted(lambda x, xp: 2.0 * nnx.to_numpy(x))
    failure = failures(host, backend=backend_spec)[0]
    assert failure.quantity == "namespace of value"
    assert failure.given == "numpy.ndarray"


def test_a_creation_without_device():
    forgotten = planted(lambda x, xp: x + x * xp.ones(x.shape, dtype=x.dtype))
    failure = failures(forgotten, backend="strict:device1")[0]
    assert "devices" in failure.given
    result = planted(lambda x, xp: 2.0 * x, lambda d, xp: 2.0 * xp.ones(d.shape, dtype=d.dtype))
    # on one device it is another value, on another it is on the wrong one
    failure = failures(result, backend="strict:device1")[0]
    assert failure.quantity == "device of gradient of x"
    assert "device1" in failure.expected
    assert "device=" in failure.hint


def test_an_array_that_is_not_rebound():
    """+= works in place where arrays can be written, and is lost where they cannot."""

    def add(a, b):
        a += b

    def forward(x, xp):
        y = xp.asarray(x, copy=True)
        add(y, x)
        return y

    check_backends(planted(forward), backends="numpy")
    failure = failures(planted(forward), backend="jax")[0]
    assert failure.quantity == "value"
    assert "not rebound" in failure.hint


def test_an_argument_that_is_written_to():
    def forward(x, xp):
        x *= 2.0
        return x

    (failure,) = failures(planted(forward), backend="numpy", dtypes=["float32"])
    assert failure.quantity == "arguments"


def test_a_formula_of_too_few_digits(backend_spec):
    """Products in TF32 have 10 bits after the point."""

    def forward(x, xp):
        name = get_backend().dtype_name
        return 2.0 * x * (1.0 + 2.0**-11 if name == "float32" else 1.0)

    failure = failures(planted(forward), backend=backend_spec)[0]
    assert failure.quantity == "value"
    assert "TF32" in failure.hint


class DrawnOnTheDevice(nnx.Initializer):
    """Other numbers on every backend, as generators of their own give them."""

    def draw(self, shape, rng):
        rng = np.random.default_rng(zlib.crc32(get_backend().name.encode()))
        return rng.standard_normal(shape)


def test_weights_drawn_on_the_device(backend_spec):
    if backend_spec == "numpy":
        pytest.skip("its draws are the reference")
    failure = failures(DrawnOnTheDevice(), backend=backend_spec)[0]
    assert failure.quantity == "weights of wfun(6, 5)"
    assert len(failure.expected) == len(failure.given) == 64
    assert "nnx.randomness" in failure.hint
    layer = lambda: nnx.DenseLayer(5, 4, initializer=DrawnOnTheDevice())
    assert failures(layer, np.ones((3, 5)), backend=backend_spec)[0].quantity == "initial W"


def test_batches_in_an_order_of_the_devices_own(backend_spec, monkeypatch):
    if backend_spec == "numpy":
        pytest.skip("its draws are the reference")
    own = lambda purpose: np.random.default_rng(zlib.crc32(get_backend().name.encode()))
    monkeypatch.setattr("nnx.training.run.generator", own)
    net = lambda: nnx.SequentialNet(3, [nnx.DenseLayer(3, 2, nnx.SoftMax())], nnx.CrossEntropy())
    found = failures(net, backend=backend_spec, steps=5)
    assert "batches of an epoch" in {failure.quantity for failure in found}


class Momentum(nnx.Optimizer):
    """v <- gamma v + g, p <- p - eta v, as a person might write it."""

    def __init__(self, eta=0.1, clip=None):
        super().__init__(eta, clip)

    def init(self, p):
        return (nnx.array_namespace(p).zeros_like(p),)


class RightMomentum(Momentum):
    def rule(self, p, g, state, factors):
        (eta,) = factors
        v = 0.9 * state[0] + g
        return p - eta * v, (v,)


class StateRebound(Momentum):
    """The new v is in nobody's hands: on every backend momentum stays 0."""

    def rule(self, p, g, state, factors):
        (eta,) = factors
        (v,) = state
        v = 0.9 * v + g
        return p - eta * v, state


class StateInPlace(Momentum):
    """The same where arrays cannot be written; right where they can."""

    def rule(self, p, g, state, factors):
        (eta,) = factors
        (v,) = state
        v *= 0.9
        v += g
        return p - eta * v, state


class StateOnTheObject(Momentum):
    """It is not in the state, so it is not saved."""

    def rule(self, p, g, state, factors):
        (eta,) = factors
        self._count = getattr(self, "_count", 0) + 1
        return p - eta / self._count * g, (g,)


class ArgumentsNotKept(RightMomentum):
    """Its argument is not kept under its name, so it cannot be made anew."""

    def __init__(self, speed=0.1):
        super().__init__(speed)


def test_a_right_optimizer(backend_spec):
    check_backends(RightMomentum, backends=usable(backend_spec))


def test_an_optimizer_that_rebinds_its_state(backend_spec):
    """All backends give the same; what is seen is a state that never changes."""
    found = failures(StateRebound, backend=backend_spec, dtypes=["float32"])
    assert [failure.quantity for failure in found] == [
        "change of state 1 of parameter 1",
        "change of state 1 of parameter 2",
    ]
    assert "returns the state it was given" in found[0].hint


def test_an_optimizer_that_counts_on_writing_in_place():
    check_backends(StateInPlace, backends="numpy")
    found = [failure.quantity for failure in failures(StateInPlace, backend="jax")]
    assert "parameter 1 after step 2" in found
    assert "change of state 1 of parameter 1" in found


def test_an_optimizer_that_cannot_be_resumed(backend_spec):
    (failure,) = failures(StateOnTheObject, backend=backend_spec, dtypes=["float32"])
    assert failure.quantity == "training resumed"


def test_an_optimizer_that_does_not_keep_its_argument():
    with pytest.raises(TypeError, match=r"ArgumentsNotKept.*self\.speed = speed"):
        check_backends(ArgumentsNotKept, backends="numpy", dtypes=["float32"])


class Sum(nnx.Layer):
    """y = x + b, and on some backends a gradient is missing or has another shape."""

    b = nnx.Parameter()

    def __init__(self, fault):
        super().__init__()
        self.fault = fault
        self.b = self.backend.asarray([1.0, 2.0, 3.0])

    def forward(self, x, training=False):
        xp = nnx.array_namespace(x)

        def backward(delta):
            db = xp.sum(delta, axis=0)
            if get_backend().name != "numpy":
                if self.fault == "missing":
                    return delta, {}
                if self.fault == "shape":
                    db = db[None, :]
            return delta, {"b": db}

        return x + self.b, backward

    def output_shape(self, input_shape):
        return input_shape


def test_a_gradient_of_another_shape():
    failure = failures(lambda: Sum("shape"), np.ones((2, 3)), backend="strict")[0]
    assert failure.quantity == "what follows value in training"
    assert "the gradient of b to have its shape (3,), got (1, 3)" in failure.given


def test_a_gradient_that_is_missing():
    failure = failures(lambda: Sum("missing"), np.ones((2, 3)), backend="strict")[0]
    assert failure.item == "Sum('missing')"
    assert failure.quantity == "what follows value in training"
    assert "expected a gradient for each of the parameters ['b'], got []" in failure.given
    check_backends(lambda: Sum("none"), np.ones((2, 3)), backends="strict")
