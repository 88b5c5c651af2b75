"""The LSTM that a library has of its own, the hook `lstm`, gives the numbers of the loop over time.

Both compute in float32. The reference is the loop in float64 on NumPy, which has no such operator.
"""

import copy
from functools import partial

import numpy as np
import pytest

import nnx

EPSILON = np.finfo(np.float32).eps
NAMES = ["y", "dx", "W_ih", "W_hh", "b_ih", "b_hh"]
SHAPES = {  # samples, time, ni, no, and what x is multiplied by
    "usual": (4, 6, 3, 4, 1.0),
    "one sample": (1, 7, 5, 3, 1.0),
    "one step": (3, 1, 2, 1, 1.0),
    "large": (32, 20, 16, 64, 1.0),
    "saturated": (4, 6, 3, 20, 1e4),
}
WAYS = [
    {"return_sequences": sequences, "reverse": reverse}
    for sequences in (False, True)
    for reverse in (False, True)
]


@pytest.fixture
def torch():
    torch = pytest.importorskip("torch")
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this PyTorch is built without oneDNN")
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        pytest.skip("this processor has no AVX")
    return torch


@pytest.fixture
def answers(torch, monkeypatch):
    """Whether there was an operator, for each time that a layer asked."""
    kind, answers = type(nnx.backend.resolve("torch")), []

    def spy(self, *arguments, own=kind.lstm):
        result = own(self, *arguments)
        answers.append(result is not None)
        return result

    monkeypatch.setattr(kind, "lstm", spy)
    return answers


def case(size="usual", return_sequences=True, **options):
    """A layer on PyTorch, an x and a delta."""
    (samples, time, ni, no, factor), draw = SHAPES[size], np.random.default_rng(3).standard_normal
    with nnx.use_backend("torch", dtype="float32") as backend:
        layer = nnx.LSTMLayer(ni, no, return_sequences=return_sequences, **options)
        layer.b_ih, layer.b_hh = draw(4 * no), draw(4 * no)
        x = backend.asarray(factor * draw((samples, time, ni)))
        y_shape = (samples, time, no) if return_sequences else (samples, no)
        return layer, x, backend.asarray(draw(y_shape))


def by_loop(layer):
    """The same layer, which loops: it has a truncation that cuts nothing."""
    layer = copy.copy(layer)
    layer.truncate = 1000
    return layer


def results(layer, x, delta, training=True):
    """NAMES -> arrays on the host."""
    y, backward = layer.forward(x, training)
    dx, gradients = backward(delta)
    arrays = {"y": y, "dx": dx, **gradients}
    return {name: np.array(nnx.to_numpy(arrays[name])) for name in NAMES}


def too_far(layer, x, delta):
    """The names of the results whose error is too large.

    The largest error is at most four times that of the loop, or epsilon. The gradient of b is
    allowed 16 times: oneDNN adds it up number by number, and the loop in pairs.
    """
    with nnx.use_backend("numpy", dtype="float64"):
        ways = {"return_sequences": layer.return_sequences, "reverse": layer.reverse}
        reference = nnx.LSTMLayer(layer.ni, layer.no, **ways)
    for name, parameter in layer.parameters.items():
        setattr(reference, name, nnx.to_numpy(parameter))
    exact = results(reference, *(nnx.to_numpy(array).astype(float) for array in (x, delta)))

    def errors(layer):
        found = results(layer, x, delta)
        return {n: np.max(abs(found[n] - e)) / (np.max(abs(e)) or 1.0) for n, e in exact.items()}

    own, loop = errors(layer), errors(by_loop(layer))
    allowed = {name: 16 if name.startswith("b_") else 4 for name in NAMES}
    return [name for name in NAMES if not own[name] <= allowed[name] * max(loop[name], EPSILON)]


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("size", SHAPES)
def test_an_operator_gives_the_numbers_of_the_loop(size, way, answers):
    assert too_far(*case(size, **way)) == []
    assert answers == [True]


def swapped(p):
    """The parameter with its blocks in the order f, i, g, o."""
    i, f, g, o = np.split(nnx.to_numpy(p), 4)
    return nnx.backend.resolve("torch").from_numpy(np.concatenate([f, i, g, o]))


def scaled(name, own, *arguments):
    """The hook with one result off by 1e-4 of itself."""
    y, backward = own(*arguments)

    def planted(delta, need_dx=True):
        dx, gradients = backward(delta, need_dx)
        factors = {n: 1.0 + 1e-4 * (n == name) for n in NAMES}
        return dx * factors["dx"], {n: g * factors[n] for n, g in gradients.items()}

    return y * (1.0 + 1e-4 * (name == "y")), planted


PLANTED = {
    "order of gates": lambda own, x, p, *way: own(x, {n: swapped(a) for n, a in p.items()}, *way),
    "direction": lambda own, x, p, reverse, *way: own(x, p, not reverse, *way),
    "one bias": lambda own, x, p, *way: own(x, {**p, "b_hh": p["b_ih"]}, *way),
    **{name: partial(scaled, name) for name in NAMES},
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_difference_is_caught(name, torch, monkeypatch):
    kind = type(nnx.backend.resolve("torch"))
    own = kind.lstm
    planted = lambda self, *arguments: PLANTED[name](partial(own, self), *arguments)
    monkeypatch.setattr(kind, "lstm", planted)
    found = too_far(*case())
    assert found == [name] if name in NAMES else "y" in found


def test_training_and_predictions_take_it(answers):
    with nnx.use_backend("torch", dtype="float32"):
        layers = [
            nnx.LSTMLayer(3, 4, return_sequences=True),
            nnx.BidirectionalLayer(nnx.LSTMLayer(4, 2), nnx.LSTMLayer(4, 2, reverse=True)),
        ]
        net = nnx.SequentialNet((6, 3), layers, optim=nnx.Adam(0.01))
        x, y = np.ones((8, 6, 3)), np.zeros((8, 4))
        net.train(x, y, batch_size=4, epochs=2, progress=False)
        assert answers == [True] * 3 * 4
        net.predict(x)
    assert answers == [True] * 3 * 5


@pytest.mark.parametrize("options", [{"mask_value": 0.0}, {"truncate": 2}], ids=str)
def test_padding_and_truncation_are_left_to_the_loop(options, answers):
    layer, x, delta = case(**options)
    layer.forward(x)[1](delta)
    assert answers == []


def cut(a):
    return a[..., :-1]


@pytest.mark.parametrize("name", ["W_ih", "W_hh", "b_ih", "b_hh"])
def test_parameters_that_do_not_fit_are_refused(name, torch):
    layer, x, _ = case()
    layer.parameters[name] = cut(layer.parameters[name])
    with pytest.raises(RuntimeError, match=r"shape|size"):
        layer.forward(x)


@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("change", [cut, lambda a: a[:1], lambda a: a.half()])
def test_a_delta_that_does_not_fit_is_refused(change, sequences, torch):
    layer, x, delta = case(return_sequences=sequences)
    with pytest.raises(ValueError, match="expected delta like its value, "):
        layer.forward(x)[1](change(delta))


REFUSED = {
    "float64": lambda a: a.double(),
    "another device": lambda a: a.to("meta"),
    "no samples": lambda a: a[:0],
    "a tensor that autograd records": lambda a: a.clone().requires_grad_(),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_the_operators_do_not_take_is_left_to_the_loop(why, torch):
    layer, x, _ = case()
    ask, how, change = layer.backend.lstm, (False, True, True), REFUSED[why]
    assert ask(x, layer.parameters, *how) is not None
    assert ask(change(x), layer.parameters, *how) is None
    if why != "no samples":
        assert ask(x, {n: change(p) for n, p in layer.parameters.items()}, *how) is None


def test_without_one_dnn_there_is_the_loop(torch, monkeypatch):
    layer, x, delta = case()
    expected = results(by_loop(layer), x, delta)
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    found = results(layer, x, delta)
    assert all(np.array_equal(found[name], expected[name]) for name in NAMES)


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf], ids=str)
def test_numbers_that_are_not_finite_come_out_where_they_come_out_of_the_loop(number, way, torch):
    layer, x, delta = case(**way)
    x[2, 3, 1] = number
    found, expected = results(layer, x, delta), results(by_loop(layer), x, delta)
    assert not all(np.all(np.isfinite(array)) for array in expected.values())
    for name, array in expected.items():
        close = np.isclose(found[name], array, rtol=1e-4, atol=1e-5, equal_nan=True)
        assert np.all(close), name


LAYOUTS = {
    "time first": lambda a: a.transpose(0, 1).contiguous().transpose(0, 1),
    "samples last": lambda a: a.permute(1, 2, 0).contiguous().permute(2, 0, 1),
    "with gaps": lambda a: a.repeat_interleave(2, 2)[:, :, ::2],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layout_of_arrays_does_not_matter(layout, torch):
    layer, x, delta = case()
    there = LAYOUTS[layout]
    found, expected = results(layer, there(x), there(delta)), results(layer, x, delta)
    assert all(np.array_equal(found[name], expected[name]) for name in NAMES)


@pytest.mark.parametrize("mode", ["enable_grad", "no_grad", "inference_mode"])
@pytest.mark.parametrize("size", ["usual", "one sample"])
def test_gradients_have_the_same_bits_in_each_mode(size, mode, torch):
    layer, x, delta = case(size)
    expected = results(layer, x, delta)
    with getattr(torch, mode)():
        found = results(layer, x, delta), results(layer, x, delta, training=False)
    for arrays in found:
        np.testing.assert_allclose(arrays["y"], expected["y"], rtol=0, atol=2 * EPSILON)
        assert all(np.array_equal(arrays[name], expected[name]) for name in NAMES[1:])


def test_gradients_may_be_written_to(torch):
    layer, x, delta = case()
    _, backward = layer.forward(x)
    dx, gradients = backward(delta)
    arrays = [dx, *gradients.values()]
    kept = [array.clone() for array in arrays]
    for i, array in enumerate(arrays):
        array += 1.0
        others = zip(arrays[i + 1 :], kept[i + 1 :], strict=True)
        assert all(torch.equal(other, before) for other, before in others)
    again, gradients = backward(delta)
    for array, before in zip([again, *gradients.values()], kept, strict=True):
        assert torch.equal(array, before)
    assert backward(delta, need_dx=False)[0] is None
