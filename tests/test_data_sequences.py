"""Free axes: sequences of any length become parts of equal shape, and come back in order."""

import numpy as np
import pytest

import nnx
from nnx.checks import ShapeError
from nnx.data import (
    as_inputs,
    checked_samples,
    described,
    equal_parts,
    in_order,
    training_data,
)

RNG = np.random.default_rng(5)
LENGTHS = (3, 1, 4, 1, 3)
FRAMES = [RNG.integers(0, 9, (n, 2)).astype("float32") for n in LENGTHS]
LABELS = [RNG.integers(0, 3, n) for n in LENGTHS]
TOKENS = [RNG.integers(0, 7, n) for n in LENGTHS]
# In the order in which the lengths 3, 1 and 4 first occur.
GROUPS = [[0, 4], [1, 3], [2]]


def with_free_axes(shape, layers, *arguments):
    """A network whose input_shape is the shape; None in it is a free axis."""
    net = nnx.SequentialNet(tuple(size or 8 for size in shape), layers, *arguments)
    vars(net)["input_shape"] = shape
    return net


def tagger():
    """A class for each time step."""
    layers = [nnx.LSTMLayer(2, 4, return_sequences=True), nnx.DenseLayer(4, 3, afun=nnx.SoftMax())]
    return with_free_axes((None, 2), layers, nnx.CrossEntropy())


def classifier():
    """A class for each sequence."""
    layers = [nnx.LSTMLayer(2, 4), nnx.DenseLayer(4, 3, afun=nnx.SoftMax())]
    return with_free_axes((None, 2), layers, nnx.CrossEntropy())


def reader():
    """A class for each token of a sequence."""
    layers = [nnx.EmbeddingLayer(7, 4), nnx.DenseLayer(4, 3, afun=nnx.SoftMax())]
    return with_free_axes((None,), layers, nnx.CrossEntropy())


def pictures():
    """A class for each image of any size."""
    layers = [
        nnx.Conv2DLayer(1, 2, 3),
        nnx.GlobalAvgPoolLayer(),
        nnx.DenseLayer(2, 3, afun=nnx.SoftMax()),
    ]
    return with_free_axes((1, None, None), layers, nnx.CrossEntropy())


def objects(values):
    made = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):
        made[i] = value
    return made


def column(values):
    return pytest.importorskip("pandas", reason="needs pandas (extra dev)").Series(list(values))


CONTAINERS = {
    "list of arrays": list,
    "tuple of arrays": tuple,
    "list of lists": lambda values: [value.tolist() for value in values],
    "tuple of tuples": lambda values: tuple(tuple(value.tolist()) for value in values),
    "objects": objects,
    "pandas column": column,
    "several dtypes": lambda values: [v.astype(d) for v, d in zip(values, ["i1", "i8", "u2"] * 2)],
    "arrays of the backend": lambda values, backend: [backend.from_numpy(v) for v in values],
    "some of the backend": lambda values, backend: [backend.from_numpy(values[0]), *values[1:]],
}


def made(case, values, backend):
    make = CONTAINERS[case]
    return make(values, backend) if "backend" in case else make(values)


def compare(backend, arrays, values, groups=GROUPS):
    assert len(arrays) == len(groups)
    for array, group in zip(arrays, groups, strict=True):
        assert backend.owns(array)
        np.testing.assert_array_equal(backend.to_numpy(array), np.stack([values[i] for i in group]))


@pytest.mark.parametrize("case", CONTAINERS)
@pytest.mark.parametrize(("make", "x"), [(tagger, FRAMES), (reader, TOKENS)])
def test_samples_of_one_shape_become_a_part(make, x, case, backend):
    parts, indices = equal_parts(make(), made(case, x, backend))
    assert [group.tolist() for group in indices] == GROUPS
    compare(backend, parts, x)
    assert all(part.dtype == backend.dtype for part in parts)


@pytest.mark.parametrize("case", CONTAINERS)
def test_targets_and_weights_of_time_steps_go_with_their_samples(case, backend):
    weights = [np.arange(n) + 1 for n in LENGTHS]
    y, w = made(case, LABELS, backend), made(case, weights, backend)
    parts = checked_samples(tagger(), FRAMES, y, w)
    for column, values in enumerate((FRAMES, LABELS, weights)):
        compare(backend, [part[column] for part in parts], values)


@pytest.mark.parametrize("kind", ["indices", "list", "rows", "list of rows", "of the backend"])
def test_targets_of_whole_sequences_go_with_their_samples(kind, backend):
    labels = np.array([0, 2, 1, 1, 2])
    rows = np.eye(3)[labels]
    y, expected = {
        "indices": (labels, labels),
        "list": (labels.tolist(), labels),
        "rows": (rows, rows),
        "list of rows": (list(rows), rows),
        "of the backend": (backend.from_numpy(labels), labels),
    }[kind]
    parts = checked_samples(classifier(), FRAMES, y, np.arange(5.0))
    compare(backend, [part[1] for part in parts], expected)
    compare(backend, [part[2] for part in parts], np.arange(5.0))


def test_images_of_several_sizes(backend):
    sizes = [(5, 4), (3, 3), (5, 4)]
    x = [RNG.random((1, *size)).astype("float32") for size in sizes]
    parts = checked_samples(pictures(), x, [0, 1, 2])
    compare(backend, [part[0] for part in parts], x, [[0, 2], [1]])
    compare(backend, [part[1] for part in parts], [0, 1, 2], [[0, 2], [1]])


def test_one_array_is_one_part_with_the_shapes_of_its_own(backend):
    x, y = RNG.random((4, 5, 2)).astype("float32"), RNG.integers(0, 3, (4, 5))
    ((inputs, targets),) = checked_samples(tagger(), x, y)
    np.testing.assert_array_equal(backend.to_numpy(inputs), x)
    np.testing.assert_array_equal(backend.to_numpy(targets), y)
    assert equal_parts(tagger(), x)[1] is None
    with pytest.raises(ShapeError, match=r"\(samples, 5\), got shape \(4, 3\)"):
        checked_samples(tagger(), x, y[:, :3])
    ((first, *_),) = [equal_parts(tagger(), list(x))[0]]
    np.testing.assert_array_equal(backend.to_numpy(first), x)


def predicted(net, x):
    parts, indices = equal_parts(net, x)
    return in_order(net, [net.forward(part)[0] for part in parts], indices)


def test_outputs_return_in_the_order_of_the_samples(backend):
    net = tagger()
    outputs = predicted(net, FRAMES)
    assert [tuple(a.shape) for a in outputs] == [(n, 3) for n in LENGTHS]
    for a, x in zip(outputs, FRAMES, strict=True):
        alone = net.forward(backend.asarray(x[None]))[0]
        np.testing.assert_allclose(backend.to_numpy(a), backend.to_numpy(alone)[0], rtol=1e-5)
    net = classifier()
    outputs = predicted(net, FRAMES)  # of one shape: one array
    assert tuple(outputs.shape) == (5, 3)
    alone = [backend.to_numpy(net.forward(backend.asarray(x[None]))[0])[0] for x in FRAMES]
    np.testing.assert_allclose(backend.to_numpy(outputs), alone, rtol=1e-5)


def replaced(values, i, value):
    return [value if k == i else one for k, one in enumerate(values)]


NAN = np.array([[1, 2], [3, 4], [np.nan, 5]], "float32")
MISTAKES = {
    "too few targets": ({"y": LABELS[:4]}, ["as many samples in y as in x, got 4 and 5"]),
    "too few weights": ({"weights": np.ones(4)}, ["in sample_weights as in x, got 4 and 5"]),
    "a single target": ({"y": 3}, ["y with one entry for each sample"]),
    "targets of another length": (
        {"y": replaced(LABELS, 4, [0, 1])},
        [r"y\[4\] of shape \(3,\), as y\[0\]", r"got \(2,\)", "each time step"],
    ),
    "targets of the wrong length everywhere": (
        {"y": [label[:1] for label in LABELS]},
        [r"\(samples, 3\), got shape \(2, 1\)"],
    ),
    "features": (
        {"x": replaced(FRAMES, 2, np.ones((4, 3)))},
        [r"x\[2\] of shape \(None, 2\), got \(4, 3\)", "where it says None"],
    ),
    "no time steps": (
        {"x": replaced(FRAMES, 3, np.ones((0, 2)))},
        [r"x\[3\] of shape \(None, 2\), got \(0, 2\)", "drop the samples without"],
    ),
    "a number among them": ({"x": [*FRAMES[:4], 3]}, ["expected x with rows of one length"]),
    "NaN": ({"x": replaced(FRAMES, 4, NAN)}, [r"x\[4\]\[2, 0\] = nan"]),
    "text": ({"x": replaced(FRAMES, 1, [["a", "b"]])}, [r"expected x\[1\] .* got dtype <U1"]),
    "label": ({"y": replaced(LABELS, 4, [0, 1, 7])}, [r"y\[4\]\[2\] = 7", "8 outputs$"]),
    "label of a class": (
        {"net": classifier, "y": [0, 1, 2, 5, 1]},
        [r"y\[3\] = 5", "6 outputs$"],
    ),
    "weight": (
        {"weights": [-np.arange(n) for n in LENGTHS]},
        [r"sample_weights\[0\]\[1\] = -1"],
    ),
    "validation": (
        {"x": replaced(FRAMES, 4, NAN), "owner": "validation"},
        [r"validation\[0\]\[4\]\[2, 0\] = nan"],
    ),
    "too few targets of the validation": (
        {"y": LABELS[:4], "owner": "validation"},
        [r"in validation\[1\] as in validation\[0\], got 4 and 5"],
    ),
    "too small an image": (
        {"net": pictures, "x": [np.ones((1, n, n)) for n in (5, 3, 2, 3, 5)]},
        [r"^x\[2\]: .*Conv2DLayer"],
    ),
    "token": (
        {"net": reader, "x": replaced(TOKENS, 4, [1, 9, 2])},
        [r"^x\[4\]: .* got 9 at x\[0, 1\]", "ni=10"],
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_in_a_list_of_samples_is_named_with_its_sample(case, backend):
    wrong, words = MISTAKES[case]
    make = wrong.get("net", tagger)
    y = LABELS if make in (tagger, reader) else [0, 1, 2, 0, 1]
    arguments = {"x": FRAMES, "y": y} | {k: v for k, v in wrong.items() if k != "net"}
    with pytest.raises((ValueError, TypeError)) as caught:
        checked_samples(make(), **arguments)
    for word in words:
        assert caught.match(word)


@pytest.mark.parametrize(
    ("shape", "given", "advice"),
    [
        ((None, 2), (5, 2), "for a single sample: write x[None]"),
        ((None, 1), (4, 5), "write numpy.expand_dims(x, 2)"),
        ((1, None, None), (4, 6, 5), "write numpy.expand_dims(x, 1)"),
        ((3, None, None), (4, 6, 5, 3), "write numpy.transpose(x, (0, 3, 1, 2))"),
        ((None, 2), (0, 5, 2), "there are no samples: check the selection of the data"),
        ((None, 2), (4, 0, 2), "an axis of the samples is empty: check the selection of the data"),
        ((None, 2), (4, 5, 3), "or make it anew: SequentialNet((5, 3), ...)"),
        ((None, 2), (4, 5, 3, 2), "pass one sample per row"),
        ((6,), (4, 5), "or make it anew: SequentialNet(5, ...)"),
        ((6,), (6, 5), "pass one sample per row: write x.T"),
    ],
)
def test_inputs_for_free_axes_are_told_what_to_do(shape, given, advice, backend):
    x = np.ones(given)
    with pytest.raises(ShapeError) as caught:
        as_inputs(backend, shape, x)
    assert f"(samples, {', '.join(map(str, shape))}), got {given}" in str(caught.value)
    assert str(caught.value).endswith(advice)
    if "write" in advice:
        made = eval(advice.partition("write ")[2], {"numpy": np, "x": x})
        assert as_inputs(backend, shape, made).shape == made.shape


@pytest.mark.parametrize("make", [list, np.ndarray.tolist, objects])
def test_a_list_that_is_a_single_sample_is_told_so(make, backend):
    x = make(FRAMES[0])
    while True:
        try:
            inputs = as_inputs(backend, (None, 2), x)
            break
        except (ShapeError, TypeError) as error:
            last, x = str(error), eval(str(error).partition("write ")[2], {"numpy": np, "x": x})
    assert last.endswith("for a single sample: write numpy.asarray(x)[None]") or make is objects
    np.testing.assert_array_equal(backend.to_numpy(inputs), FRAMES[0][None])
    with pytest.raises((ShapeError, TypeError), match=r"single sample|numpy\.stack"):
        equal_parts(tagger(), make(FRAMES[0]))


def test_a_network_without_free_axes_says_which_has_them(backend):
    net = nnx.SequentialNet((4, 2), [nnx.LSTMLayer(2, 3)])
    with pytest.raises(ValueError, match=r"need a network of input_shape=\(None, \.\.\.\)"):
        checked_samples(net, FRAMES, np.zeros((5, 3)))
    net = nnx.SequentialNet(4, [nnx.EmbeddingLayer(7, 3)])
    with pytest.raises(ValueError, match=r"need a network of input_shape=\(None, \.\.\.\)"):
        checked_samples(net, [token.tolist() for token in TOKENS], np.zeros((5, 4, 3)))


def test_a_fraction_of_sequences_keeps_targets_with_inputs(backend):
    x = [np.full((n % 3 + 1, 2), n) for n in range(20)]
    y = [np.full(n % 3 + 1, n % 2) for n in range(20)]
    weights = np.arange(20.0)
    seen = []
    for side in training_data(tagger(), x, y, weights, validation=0.3):
        for inputs, targets, w in side:
            number = backend.to_numpy(inputs)[:, 0, 0]
            np.testing.assert_array_equal(number, backend.to_numpy(w))
            labels = backend.to_numpy(targets)
            np.testing.assert_array_equal(
                labels, np.broadcast_to(number[:, None] % 2, labels.shape)
            )
            assert all(n % 3 + 1 == inputs.shape[1] for n in number)
            seen.append(number)
    assert sorted(np.concatenate(seen)) == list(range(20))
    assert sum(len(n) for n in seen[-3:]) == 6


def test_data_is_described_as_it_was_given(backend):
    x, y = np.zeros((6, 5, 2), "uint8"), np.zeros((6, 5), "int16")
    assert described(checked_samples(tagger(), x, y), x, y) == {
        "samples": 6,
        "x": {"shapes": [[6, 5, 2]], "dtype": "uint8"},
        "y": {"shapes": [[6, 5]], "dtype": "int16"},
        "weights": False,
    }
    own = backend.asarray(x, dtype=backend.dtype)
    parts = checked_samples(tagger(), own, y, np.ones(6))
    found = described(parts, own, y)
    assert (found["x"]["dtype"], found["weights"]) == ("float32", True)
    found = described(checked_samples(tagger(), FRAMES, LABELS), FRAMES, LABELS)
    assert found["samples"] == 5
    assert found["x"] == {"shapes": [[2, 3, 2], [2, 1, 2], [1, 4, 2]], "dtype": "list"}
