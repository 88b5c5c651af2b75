"""Every container is taken as it is meant, or refused with a line that can be typed in."""

import collections
import itertools
import re
import warnings

import numpy as np
import pytest
from conftest import usable

import nnx
from nnx.backend import BackendError, resolve
from nnx.checks import ShapeError
from nnx.data import (
    as_inputs,
    as_targets,
    as_weights,
    check_finite,
    is_classification,
    unreachable_targets,
)

# Whole numbers from 0 to 2, so that every dtype holds them; 0 comes first.
VALUES = {
    "x": np.array([[0, 1, 2, 1], [2, 2, 0, 1], [1, 0, 0, 2], [0, 0, 1, 1], [2, 1, 1, 0]]),
    "y": np.array([0, 2, 1, 1, 2]),
    "sample_weights": np.array([0, 1, 2, 2, 1]),
}
VALUES |= {f"validation[{i}]": values for i, values in enumerate(list(VALUES.values()))}


def door(name, backend, value):
    """The checks of the argument of this name, for a network of 4 inputs and 3 outputs."""
    if name in ("x", "validation[0]"):
        return as_inputs(backend, (4,), value, name)
    if name in ("y", "validation[1]"):
        return as_targets(backend, (3,), value, name)
    return as_weights(backend, value, [(5,)], name)


def follow(name, backend, value, passes=door):
    """Type in what each message says after "write" until the value is taken."""
    names = {"numpy": np, "nnx": nnx, "itertools": itertools}
    for library in ("pandas", "polars"):
        try:
            names[library] = __import__(library)
        except ImportError:
            continue
    messages = []
    while True:
        try:
            return passes(name, backend, value), messages
        except (TypeError, ValueError, BackendError) as error:
            messages.append(str(error))
        assert name in messages[-1]
        assert len(messages) < 5, messages
        advice = re.search(r"write (.*)$", messages[-1])
        assert advice, messages
        variable = name.partition("[")[0]
        given = value if variable == name else [value] * 3
        value = eval(advice[1], names | {variable: given})


def library(name):
    return pytest.importorskip(name, reason=f"needs {name} (extra dev)")


def table(values, dtype=None, index=None):
    pandas = library("pandas")
    kind = pandas.Series if values.ndim == 1 else pandas.DataFrame
    return kind(values, dtype=dtype, index=index)


def polars_table(values):
    polars = library("polars")
    return polars.Series(values) if values.ndim == 1 else polars.DataFrame(values)


def read_only(values):
    values = values.copy()
    values.flags.writeable = False
    return values


def memmap(values, tmp_path):
    np.save(tmp_path / "values.npy", values)
    return np.load(tmp_path / "values.npy", mmap_mode="r")


class HasArray:
    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return self.values


TAKEN = {
    "list": lambda v: v.tolist(),
    "tuple": lambda v: tuple(v.tolist()),
    "list of rows": list,
    "deque": lambda v: collections.deque(v.tolist()),
    **{
        f"dtype {dtype}": lambda v, dtype=dtype: v.astype(dtype)
        for dtype in ("int8", "uint8", "uint64", ">i4", ">i8")
    },
    "bool": lambda v: v > 0,
    "every other sample": lambda v: np.repeat(v, 2, axis=0)[::2],
    "reversed twice": lambda v: v[::-1].copy()[::-1],
    "column-major": lambda v: np.asfortranarray(v),
    "read-only": read_only,
    "memmap": memmap,
    "with __array__": HasArray,
    "masked, nothing masked": lambda v: np.ma.array(v),
    "pandas": table,
    "pandas, shuffled index": lambda v: table(v, index=[3, 1, 4, 0, 2]),
    "pandas, repeated index": lambda v: table(v, index=[0, 0, 1, 1, 1]),
    "pandas Int64": lambda v: table(v, "Int64"),
    "pandas boolean": lambda v: table(v > 0, "boolean"),
    "pandas sparse": lambda v: table(v, library("pandas").SparseDtype("int64", 0)),
    "polars": polars_table,
    "array of the backend": lambda v, backend: backend.from_numpy(v),
}
REALS = {
    **{
        f"dtype {dtype}": lambda v, dtype=dtype: v.astype(dtype)
        for dtype in ("float16", "float32", "float64", ">f4", ">f8", "longdouble")
    },
    "list of floats": lambda v: v.astype(float).tolist(),
    "pandas Float64": lambda v: table(v.astype(float), "Float64"),
    "polars": lambda v: polars_table(v.astype(float)),
    "array of the backend": lambda v, backend: backend.asarray(v.astype(float)),
}


def made(make, values, backend, tmp_path):
    extra = {"backend": backend, "tmp_path": tmp_path}
    wanted = make.__code__.co_varnames if hasattr(make, "__code__") else ()
    return make(values, **{key: extra[key] for key in wanted if key in extra})


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("case", TAKEN)
def test_a_container_of_integers_is_taken(case, name, backend, tmp_path):
    values = VALUES[name]
    result = door(name, backend, made(TAKEN[case], values, backend, tmp_path))
    assert backend.owns(result)
    expected = values > 0 if "bool" in case else values
    np.testing.assert_array_equal(backend.to_numpy(result), expected)


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("case", REALS)
def test_a_container_of_floats_is_taken_and_labels_are_told_how_to_be_integers(
    case, name, backend, tmp_path
):
    values = VALUES[name]
    result, messages = follow(name, backend, made(REALS[case], values, backend, tmp_path))
    np.testing.assert_array_equal(backend.to_numpy(result), values)
    if name in ("y", "validation[1]"):
        (message,) = messages
        assert message.endswith(".astype(int)")
    else:
        assert messages == []


def sparse(values):
    return library("scipy.sparse").csr_matrix(values)


def with_missing(values, dtype):
    frame = table(values, dtype)
    frame.iloc[(0,) * values.ndim] = None
    return frame


def masked_first(values):
    mask = np.zeros(values.shape, bool)
    mask[(0,) * values.ndim] = True
    return np.ma.array(values + 5, mask=mask) - 5


def structured(values):
    rows = values.reshape(len(values), -1)
    dtype = [(f"f{i}", float) for i in range(rows.shape[1])]
    return np.array([tuple(row) for row in rows.tolist()], dtype)


def mapping(values):
    """Features by name, or one value for each sample."""
    return dict(enumerate(values.T if values.ndim == 2 else values.tolist()))


def rows_as_objects(values):
    rows = np.empty(len(values), dtype=object)
    rows[:] = list(values) if values.ndim == 2 else [[value] for value in values.tolist()]
    return rows


def saved(values, tmp_path):
    np.save(tmp_path / "values.npy", values)
    return tmp_path / "values.npy"


def foreign(values, backend):
    other = "torch" if backend.name != "torch" else "strict"
    usable(other)
    return resolve(other).from_numpy(values)


DAYS = np.datetime64("2024-02-28")
# container; a word of the first message
REFUSED = {
    "sparse": (sparse, "toarray"),
    "list of sparse rows": (lambda v: [sparse(row) for row in np.atleast_2d(v)], "sparse"),
    "iterator": (lambda v: iter(v.tolist()), "list_iterator"),
    "generator": (lambda v: (row for row in v.tolist()), "a generator"),
    "map": (lambda v: map(list if v.ndim == 2 else int, v), "a map"),
    "values of a dict": (lambda v: dict(enumerate(v)).values(), "dict_values"),
    "dict": (mapping, "a dict"),
    "file name": (lambda v, tmp_path: str(saved(v, tmp_path)), "numpy.load"),
    "path": (saved, "numpy.load"),
    "complex": (lambda v: v + 0j, "complex128"),
    "dates": (lambda v: DAYS + v, "datetime64"),
    "list of dates": (lambda v: list(DAYS + v), "datetime64"),
    "durations": (lambda v: v.astype("m8[D]").astype("m8[s]"), "timedelta64"),
    "structured": (structured, "f0"),
    "objects": (lambda v: v.astype(object), "dtype object"),
    "text": (lambda v: v.astype(str), "<U"),
    "bytes": (lambda v: v.astype("S"), "|S"),
    "list of text": (lambda v: v.astype(str).tolist(), "<U"),
    "list of masked arrays": (lambda v: [np.ma.array(row) for row in v], "masked"),
    "array of another library": (foreign, "to_numpy"),
    "list of arrays of the backend": (
        lambda v, backend: [backend.from_numpy(np.asarray(row)) for row in v],
        "list of",
    ),
    "objects that are rows": (rows_as_objects, "array of"),
    "pandas column of rows": (lambda v: table(rows_as_objects(v)), "array of"),
    "pandas objects": (lambda v: table(v, object), "dtype object"),
    "pandas text": (lambda v: table(v.astype(str)), "dtype"),
    "pandas dates": (lambda v: table((DAYS + v).astype("M8[s]")), "datetime64"),
    "pandas durations": (lambda v: table(v.astype("m8[D]").astype("m8[s]")), "timedelta64"),
    "polars, lazy": (lambda v: library("polars").DataFrame(v).lazy(), "LazyFrame"),
}


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("case", REFUSED)
def test_a_container_is_refused_with_a_line_that_works(case, name, backend, tmp_path):
    make, word = REFUSED[case]
    values = VALUES[name]
    if case == "list of sparse rows" and values.ndim == 1:
        pytest.skip("a row of one number")
    if case == "list of arrays of the backend" and backend.name == "numpy":
        pytest.skip("rows of NumPy arrays are taken")
    if case == "polars, lazy" and values.ndim == 1:
        pytest.skip("a LazyFrame is a table")
    result, messages = follow(name, backend, made(make, values, backend, tmp_path))
    assert word in messages[0]
    np.testing.assert_array_equal(backend.to_numpy(result), values)


@pytest.mark.filterwarnings("ignore:Downcasting object dtype:FutureWarning")  # pandas 2
@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize(
    ("make", "word"),
    [
        (masked_first, "masked"),
        (lambda v: with_missing(v, "Int64"), "missing"),
        (lambda v: with_missing(v, "Float64"), "missing"),
        (lambda v: with_missing(v.astype(float), float), "missing"),
        (lambda v: with_missing(v, object), "missing"),
        (lambda v: polars_table(v.astype(float)).__class__(nulls(v)), "missing"),
    ],
    ids=["masked", "Int64", "Float64", "float", "object", "polars"],
)
def test_missing_values_are_found_and_only_targets_may_not_be_filled(make, word, name, backend):
    values = VALUES[name]
    found = lambda name, backend, value: (
        value if type(value) is np.ndarray else door(name, backend, value)
    )
    if name in ("y", "validation[1]"):
        places, (message,) = follow(name, backend, make(values), found)
        assert np.asarray(places)[0].tolist() == [0] * values.ndim
        assert "drop these samples" in message
    else:
        result, (message, *_) = follow(name, backend, make(values))
        np.testing.assert_array_equal(backend.to_numpy(result), values)
    assert f"expected {name} without {word} values, got 1 in 1 of 5 samples" in message
    assert "the first is sample 0" in message


def nulls(values):
    if values.ndim == 1:
        return [None, *values[1:].tolist()]
    rows = values.tolist()
    rows[0][0] = None
    return dict(zip("abcd", map(list, zip(*rows))))


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize(
    ("value", "word"),
    [
        ({1.0, 2.0}, "order of the samples"),
        (frozenset([1]), "order of the samples"),
        (None, "got None"),
        (object(), "an object"),
        (len, "a builtin_function_or_method"),
        ([None, 1.0, 2.0], "missing"),
        (np.array([1.0, None], dtype=object), "sample 1"),
    ],
    ids=["set", "frozenset", "None", "object", "function", "list", "objects"],
)
def test_what_no_line_can_repair_is_refused_in_words(value, word, name, backend):
    with pytest.raises((TypeError, ValueError), match=word) as caught:
        door(name, backend, value)
    assert f"expected {name} " in str(caught.value)


@pytest.mark.parametrize("name", ["y", "validation[1]"])
@pytest.mark.parametrize("kind", ["array", "list", "objects", "pandas", "categorical", "polars"])
def test_names_of_classes_become_indices(kind, name, backend):
    names = np.array(["ant", "bee", "cat"])[VALUES["y"]]
    value = {
        "array": lambda: names,
        "list": names.tolist,
        "objects": lambda: names.astype(object),
        "pandas": lambda: table(names.astype(object)),
        "categorical": lambda: table(names.astype(object), "category"),
        "polars": lambda: polars_table(names),
    }[kind]()
    result, (message,) = follow(name, backend, value)
    np.testing.assert_array_equal(backend.to_numpy(result), VALUES["y"])
    assert ("cat.codes" in message) == (kind == "categorical")


@pytest.mark.parametrize("kind", ["pandas", "categorical", "polars", "array"])
def test_text_among_the_features_is_encoded(kind, backend):
    pandas = library("pandas")
    columns = {"size": [1.5, 2.5, 3.5], "animal": ["ant", "bee", "ant"]}
    value = {
        "pandas": lambda: pandas.DataFrame(columns),
        "categorical": lambda: pandas.DataFrame(columns).astype({"animal": "category"}),
        "polars": lambda: library("polars").DataFrame(columns),
        "array": lambda: np.array([["ant", "bird"], ["bee", "bird"]]),
    }[kind]()
    passes = lambda name, backend, value: as_inputs(backend, (3,), value)
    result, _ = follow("x", backend, value, passes)
    expected = [[1.5, 1, 0], [2.5, 0, 1], [3.5, 1, 0]]
    if kind == "array":
        expected = [[1, 0, 1], [0, 1, 1]]
    np.testing.assert_array_equal(backend.to_numpy(result), expected)


def test_a_frame_with_a_column_of_dates_names_it(backend):
    frame = table(VALUES["x"]).astype(float)
    frame[2] = library("pandas").Timestamp("2024-02-28") + library("pandas").to_timedelta(
        VALUES["x"][:, 2], "D"
    )
    frame.columns = list("abcd")
    result, (message,) = follow("x", backend, frame)
    assert "in column 'c'" in message
    np.testing.assert_array_equal(backend.to_numpy(result), VALUES["x"])


def test_columns_of_several_types_keep_their_values(backend):
    pandas = library("pandas")
    frame = pandas.DataFrame(
        {
            "a": pandas.array([1, 2], "Int64"),
            "b": pandas.array([True, False], "boolean"),
            "c": np.array([0.5, 0.25], "float32"),
            "d": np.array([3, 255], "uint8"),
        }
    )
    result = as_inputs(backend, (4,), frame)
    np.testing.assert_array_equal(backend.to_numpy(result), [[1, 1, 0.5, 3], [2, 0, 0.25, 255]])


def test_ragged_features_are_padded(backend):
    result, (message,) = follow("x", backend, [[1, 2, 3, 4], [5]])
    assert "rows of one length" in message
    np.testing.assert_array_equal(backend.to_numpy(result), [[1, 2, 3, 4], [5, 0, 0, 0]])
    for name in ("y", "sample_weights"):
        with pytest.raises(ValueError, match=f"expected {name} with rows of one length") as caught:
            door(name, backend, [[1, 2], [3]])
        assert "write" not in str(caught.value)


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("kind", [np.asarray, np.ndarray.tolist, np.longdouble])
def test_numbers_too_large_for_the_dtype_are_told_and_scaled(kind, name, backend):
    rows = np.eye(3)[[0, 1, 1]] if name in ("y", "validation[1]") else np.ones((3, 4))
    values = {"sample_weights": np.ones(5), "validation[2]": np.ones(5)}.get(name, rows)
    result, (message,) = follow(name, backend, kind(values * 1e300))
    assert "range of float32, got numbers up to 1e+300" in message
    np.testing.assert_array_equal(backend.to_numpy(result), values)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_first_number_that_is_not_finite_is_named(bad, backend):
    values = VALUES["x"].astype(float)
    values[[2, 4], [3, 1]] = bad
    with pytest.raises(ValueError, match=rf"got 2 of .*float32.*x\[2, 3\] = {bad}") as caught:
        check_finite(as_inputs(backend, (4,), values), "x")
    advice = str(caught.value).rpartition("write ")[2]
    assert eval(advice, {"numpy": np, "nnx": nnx, "x": values}).tolist() == [[2, 3], [4, 1]]
    check_finite(backend.asarray(np.full(3, 3e38)), "x")  # whose sum overflows


def test_labels_out_of_range_name_the_first_and_the_line_renumbers_them(backend):
    result, (message,) = follow("y", backend, np.array([1, 3, 2, 2]))
    assert "from 0 to 2 in y" in message
    assert "got 1 to 3, the first one outside is y[1] = 3" in message
    assert "give the last layer 4 outputs" in message
    np.testing.assert_array_equal(backend.to_numpy(result), [0, 2, 1, 1])
    result, (message,) = follow("y", backend, [0, -1, 0])
    assert "y[1] = -1" in message
    assert "outputs, or" not in message
    sequences = backend.from_numpy(np.array([[0, 1], [2, 3]]))
    with pytest.raises(ValueError, match=r"y\[1, 1\] = 3; give the last layer 4 outputs$"):
        as_targets(backend, (2, 3), sequences)


def test_targets_of_sequences(backend):
    labels = np.array([[0, 1], [2, 0], [1, 1]])
    result = as_targets(backend, (2, 3), labels.tolist())
    np.testing.assert_array_equal(backend.to_numpy(result), labels)
    rows = np.eye(3)[labels]
    np.testing.assert_array_equal(backend.to_numpy(as_targets(backend, (2, 3), rows)), rows)
    with pytest.raises(ShapeError, match=r"class indices \(samples, 2\), got shape \(2, 3\)"):
        as_targets(backend, (2, 3), labels.T)


def test_targets_of_one_output(backend):
    result = as_targets(backend, (1,), [0.5, 1.5])
    np.testing.assert_array_equal(backend.to_numpy(result), [[0.5], [1.5]])


def test_labels_with_fractions_are_not_told_to_be_cut(backend):
    with pytest.raises(TypeError, match="not whole numbers") as caught:
        as_targets(backend, (3,), [0.5, 1.0])
    assert "astype" not in str(caught.value)


@pytest.mark.parametrize("make", [np.asarray, np.ndarray.tolist, table, "own"])
def test_a_column_of_labels_or_weights_is_flattened(make, backend):
    make = backend.from_numpy if make == "own" else make
    for name in ("y", "sample_weights", "validation[1]", "validation[2]"):
        result, (message,) = follow(name, backend, make(VALUES[name][:, None]))
        assert message.endswith(".ravel()")
        np.testing.assert_array_equal(backend.to_numpy(result), VALUES[name])


@pytest.mark.parametrize("make", [np.asarray, np.ndarray.tolist, "own"])
def test_a_shape_that_can_be_corrected_is(make, backend):
    make = backend.from_numpy if make == "own" else make
    values = np.arange(24.0).reshape(2, 3, 4)
    for shape, given, expected in [
        ((3, 4), values[0], values[:1]),
        ((12,), values, values.reshape(2, 12)),
        ((4, 3, 1), values.reshape(2, 3, 1, 4), values.reshape(2, 3, 1, 4).transpose(0, 3, 1, 2)),
    ]:
        passes = lambda name, backend, value, shape=shape: as_inputs(backend, shape, value)
        result, (message,) = follow("x", backend, make(given), passes)
        np.testing.assert_array_equal(backend.to_numpy(result), expected)
        assert f"(samples, {', '.join(map(str, shape))})" in message


def test_weights_of_time_steps_where_they_are_allowed(backend):
    weights = np.arange(10.0).reshape(5, 2)
    result = as_weights(backend, weights, [(5,), (5, 2)])
    np.testing.assert_array_equal(backend.to_numpy(result), weights)
    with pytest.raises(ShapeError, match=r"\(5,\) or \(5, 2\), got shape \(5, 3\)"):
        as_weights(backend, np.ones((5, 3)), [(5,), (5, 2)])


def test_negative_weights_name_the_first(backend):
    result, (message,) = follow("sample_weights", backend, [1.0, -2.0, 0.5, -1.0, 1.0])
    assert "sample_weights[1] = -2" in message
    np.testing.assert_array_equal(backend.to_numpy(result), [1.0, 0.0, 0.5, 0.0, 1.0])


def test_what_is_a_classification(backend):
    for shape, y, expected in [
        ((3,), [0, 2], True),
        ((3,), [[0.0, 1.0, 0.0]], True),
        ((3,), [[0.0, 1.0, 1.0]], False),
        ((3,), [[0.0, 0.5, 0.5]], False),
        ((1,), [0.0, 1.0], True),
        ((1,), [0.0, 2.0], False),
    ]:
        assert is_classification(backend, shape, as_targets(backend, shape, y)) is expected


def test_targets_that_the_last_activation_cannot_reach():
    y = np.array([[-1.5], [0.5], [2.0], [4.0]])
    message = unreachable_targets([y[:1], y[1:]], "layer 2, DenseLayer", nnx.ReLU())
    for word in ("[0, inf]", "ReLU()", "layer 2, DenseLayer", "-1.5 to 4", "25%", "Linear()"):
        assert word in message
    assert unreachable_targets([y], "layer 2", nnx.LeakyReLU(1.0)) is None
    assert unreachable_targets([y], "layer 2", nnx.Linear()) is None


def test_targets_of_softmax_that_are_several_answers():
    one, several = np.eye(3), np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    message = unreachable_targets([one, several], "layer 2", nnx.SoftMax())
    for word in ("rows sum to 1", "SoftMax()", "from 0 to 2, 33% of them", "Logistic(), and the"):
        assert word in message
    assert unreachable_targets([one, one[:, None]], "layer 2", nnx.SoftMax()) is None
    assert unreachable_targets([several], "layer 2", nnx.Logistic()) is None


@pytest.mark.parametrize("layout", ["to_sparse_coo", "to_sparse_csr"])
def test_sparse_arrays_of_the_backend(layout):
    usable("torch")
    with nnx.use_backend("torch", dtype="float32") as backend:
        dense = backend.asarray(VALUES["x"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch calls some layouts a beta
            value = getattr(dense, layout)()
        result, (message,) = follow("x", backend, value)
    assert "sparse" in message
    np.testing.assert_array_equal(backend.to_numpy(result), VALUES["x"])


@pytest.mark.parametrize("make", [np.asarray, list, table])
def test_objects_that_are_fractions_are_not_cut(make, backend):
    passes = lambda name, backend, value: as_targets(backend, (1,), value)
    result, _ = follow("y", backend, make(np.array([0.5, 1.5], dtype=object)), passes)
    np.testing.assert_array_equal(backend.to_numpy(result), [[0.5], [1.5]])
