"""Malformed files: one clear error each; nothing is executed, changed or left behind."""

import contextlib
import json
import os
import pickle
import sys
import time
import tracemalloc

import numpy as np
import pytest
from saving_tools import data, held

import nnx
from nnx import saving
from nnx.commands.check import items
from nnx.config import plain


def a_net():
    layers = [
        nnx.DenseLayer(3, 4, nnx.TanH(), kernel_regularizer=nnx.L2Regularizer()),
        nnx.BatchNormLayer(4),
        nnx.DenseLayer(4, 2),
    ]
    net = nnx.SequentialNet(3, layers, optim=nnx.Adam())
    x, _ = data(3)
    net.train(x, x[:, :2], batch_size=8, progress=False)
    net.optim.update([np.ones(3, "float32")], [np.ones(3, "float32")])
    return net


def raw_of(net, path):
    saving.save(net, path)
    raw = path.read_bytes()
    path.unlink()
    return raw


def parts(raw):
    length = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def whole(header, numbers):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + numbers


# How a good file is changed. Each returns a function raw -> raw.


def in_header(change):
    def changed(raw):
        header, numbers = parts(raw)
        return whole(change(header) or header, numbers)

    return changed


def in_text(change):
    """Change the description as text."""

    def changed(header):
        header["__metadata__"]["nnx"] = change(header["__metadata__"]["nnx"])

    return in_header(changed)


def put(*place, value):
    """Put a value in a place of the description."""

    def changed(text):
        described = json.loads(text)
        inside = described
        for key in place[:-1]:
            inside = inside[key]
        inside[place[-1]] = value
        return json.dumps(described)

    return in_text(changed)


def taken(*place):
    """Take something out of the description."""

    def changed(text):
        described = json.loads(text)
        inside = described
        for key in place[:-1]:
            inside = inside[key]
        del inside[place[-1]]
        return json.dumps(described)

    return in_text(changed)


def entry(name, **values):
    """Change what the header says of one array."""
    return in_header(lambda header: header[name].update(values))


def number(name, value):
    """Write another number over the first of an array."""

    def changed(raw):
        header, numbers = parts(raw)
        start = header[name]["data_offsets"][0]
        other = np.float32(value).tobytes()
        return whole(header, numbers[:start] + other + numbers[start + 4 :])

    return changed


def without(name):
    """Leave an array out, and close the gap."""

    def changed(raw):
        header, numbers = parts(raw)
        start, end = header.pop(name)["data_offsets"]
        for other in header.values():
            if "data_offsets" in other and other["data_offsets"][0] >= end:
                other["data_offsets"] = [offset - (end - start) for offset in other["data_offsets"]]
        return whole(header, numbers[:start] + numbers[end:])

    return changed


def typed(name, code, size):
    """Give an array a smaller type, and close the gap."""

    def changed(raw):
        header, numbers = parts(raw)
        start, end = header[name]["data_offsets"]
        new = start + size * int(np.prod(header[name]["shape"]))
        for other in header.values():
            if "data_offsets" in other and other["data_offsets"][0] >= end:
                other["data_offsets"] = [offset - (end - new) for offset in other["data_offsets"]]
        header[name].update(dtype=code, data_offsets=[start, new])
        return whole(header, numbers[:new] + numbers[end:])

    return changed


def renamed(name, other):
    return in_header(lambda header: header.update({other: header.pop(name)}))


def added(name):
    def changed(raw):
        header, numbers = parts(raw)
        end = len(numbers)
        header[name] = {"dtype": "F32", "shape": [2], "data_offsets": [end, end + 8]}
        return whole(header, numbers + bytes(8))

    return changed


def twice(raw):
    """An array's name twice in the header."""
    length = int.from_bytes(raw[:8], "little")
    header = raw[8 : 8 + length].strip()
    first = json.dumps({"0.W": json.loads(header)["0.W"]}).encode()
    return whole(first[:-1] + b"," + header[1:], raw[8 + length :])


def header_of(length):
    return lambda raw: length.to_bytes(8, "little") + raw[8:]


def many_places(raw):
    """A network of forty layers that a walk meets a million million times."""
    layer = plain(nnx.DenseLayer(3, 3))
    for level in range(40):
        layer = {"class": "ParallelLayer", "branches": [layer, {"shared": 1 + 40 - level}]}
    layer = {"class": "SequentialLayer", "layers": [layer]}
    return put("architecture", value=layer)(raw)


class Evil:
    def __reduce__(self):
        return os.system, ("touch executed",)


DENSE = ("architecture", "layers", 0)
FILE = "expected a whole safetensors file, got "
MADE = "expected the description of an object of kind Layer, got one that cannot be: "
MALFORMED = {
    # Not this format at all.
    "empty": (lambda raw: b"", FILE + "one of 0 bytes"),
    "four bytes": (lambda raw: raw[:4], FILE + "one of 4 bytes"),
    "length alone": (lambda raw: raw[:8], FILE + "one whose header"),
    "zeros": (lambda raw: bytes(1000), FILE + "one whose header would have 0 of"),
    "wrong magic": (lambda raw: raw[:8] + b"[" + raw[9:], FILE + "one whose header"),
    "pickle": (lambda raw: pickle.dumps(Evil()), FILE + "a pickle; nnx reads none"),
    "old pickle": (lambda raw: pickle.dumps(Evil(), 0), FILE + "text"),
    "web page": (lambda raw: b"<!DOCTYPE html><html></html>", FILE + "a web page"),
    "zip": (lambda raw: b"PK\x03\x04" + bytes(99), FILE + "a zip archive"),
    "numpy": (lambda raw: b"\x93NUMPY" + bytes(99), FILE + "a file of numpy.save"),
    "Git LFS": (lambda raw: b"version https://git-lfs.github.com/spec", FILE + "a pointer"),
    "JSON": (lambda raw: b'{"class": "ReLU"}', FILE + "JSON text"),
    # A damaged one.
    "truncated in the header": (lambda raw: raw[:100], FILE + "one whose header"),
    "truncated after the header": (
        lambda raw: whole(parts(raw)[0], b""),
        "expected a whole safetensors file, got one that is damaged",
    ),
    "truncated in the numbers": (lambda raw: raw[:-5], "one that is damaged"),
    "longer than it says": (lambda raw: raw + b"more", "one that is damaged"),
    "length of a header 10^12": (header_of(10**12), FILE + "one whose header would have 1,000,000"),
    "length of a header 2^64 - 1": (header_of(2**64 - 1), FILE + "one whose header would have 18"),
    "header is no JSON": (lambda raw: whole(b"{nonsense}", b""), "one that is damaged"),
    "header is no UTF-8": (lambda raw: whole(b'{"\xff": 1}', b""), "one that is damaged"),
    "header is nested deep": (
        lambda raw: whole(b'{"a":' * 10**5 + b"1" + b"}" * 10**5, b""),
        "one that is damaged",
    ),
    "offsets overlap": (entry("0.b", data_offsets=[0, 16]), "one that is damaged"),
    "offsets are beyond the end": (entry("0.b", data_offsets=[10**9, 10**9 + 16]), "damaged"),
    "offsets are negative": (entry("0.b", data_offsets=[-16, 0]), "one that is damaged"),
    "offsets are in reverse": (entry("0.b", data_offsets=[16, 0]), "one that is damaged"),
    "shape does not fit the bytes": (entry("0.b", shape=[5]), "one that is damaged"),
    "shape overflows": (entry("0.b", shape=[2**62, 2**62]), "one that is damaged"),
    "unknown type": (entry("0.b", dtype="F31"), "one that is damaged"),
    "an array twice": (twice, "expected each name once, got '0.W' several times"),
    "metadata is not text": (
        in_header(lambda header: header.update(__metadata__={"nnx": 1})),
        "one that is damaged",
    ),
    # Another file of this format.
    "no description": (
        in_header(lambda header: header.pop("__metadata__") and None),
        "expected a file with the description of a network, got one without it",
    ),
    "weights": (put("kind", value="weights"), "got one of kind 'weights'"),
    "kind is a list": (put("kind", value=[]), r"got one of kind \[\]"),
    "newer version": (put("format", value=2), "version 1 or older, got version 2.*update nnx"),
    "version is text": (put("format", value="1"), "the version of its format, got '1'"),
    "version is true": (put("format", value=True), "the version of its format, got True"),
    "version 0": (put("format", value=0), "the version of its format, got 0"),
    "no version": (taken("format"), "the version of its format, got None"),
    # A description that is not JSON as it should be.
    "description is empty": (in_text(lambda text: ""), "expected a description as JSON"),
    "description is truncated": (in_text(lambda text: text[:99]), "expected a description as JSON"),
    "description is a list": (in_text(lambda text: "[1]"), "the version of its format, got None"),
    "nested deep": (in_text(lambda text: "[" * 10**6), "nested too deep"),
    "nested deep in the architecture": (
        in_text(
            lambda text: text.replace('"TanH"', '"TanH","a":' + '{"a":' * 9999 + "1" + "}" * 9999)
        ),
        "nested too deep",
    ),
    "too long": (in_text(lambda text: text + " " * (1 << 24)), "a description of at most"),
    "huge integer": (in_text(lambda text: text.replace('"ni":3', '"ni":' + "9" * 5000)), "JSON"),
    "a name twice": (
        in_text(lambda text: '{"dtype":"float32",' + text[1:]),
        "expected each name once, got 'dtype' several times",
    ),
    "NaN as a number": (in_text(lambda t: t.replace('"ni":3', '"ni":NaN')), "finite.*got NaN"),
    "infinity as a number": (
        in_text(lambda text: text.replace('"ni":3', '"ni":-Infinity')),
        "expected finite numbers, got -Infinity",
    ),
    "coded number that is none": (put("a", value={"float": "1.5"}), "expected one of inf, -inf"),
    "coded number of a wrong type": (put("a", value={"float": []}), "expected one of inf, -inf"),
    # An architecture that is none.
    "no architecture": (taken("architecture"), "architecture: expected dict, got None"),
    "architecture is text": (put("architecture", value="net"), "architecture: expected dict"),
    "architecture is an activation": (
        put("architecture", value={"class": "ReLU"}),
        r"expected the description of an object of kind Layer, got ReLU\(\)",
    ),
    "architecture without a class": (put("architecture", value={}), "object of kind Layer, got {}"),
    "unknown class": (put(*DENSE, "class", value="DanceLayer"), MADE + ".*'DanceLayer'.*layers="),
    "a builtin": (put(*DENSE, "class", value="os.system"), MADE + ".*unknown class 'os.system'"),
    "eval": (put(*DENSE, "class", value="eval"), MADE + ".*unknown class 'eval'"),
    "a class of nnx that is no part of networks": (
        put(*DENSE, "class", value="Configured"),
        MADE + ".*unknown class 'Configured'",
    ),
    "class is a list": (put(*DENSE, "class", value=["DenseLayer"]), MADE + ".*unknown class"),
    "base class": (put(*DENSE, "class", value="Container"), MADE),
    "unknown argument": (put(*DENSE, "n", value=1), MADE + ".*no argument n"),
    "missing argument": (taken(*DENSE, "ni"), MADE + ".*DenseLayer: expected the argument ni"),
    "argument of a wrong type": (put(*DENSE, "ni", value="3"), MADE + ".*expected ni to be"),
    "argument out of range": (put(*DENSE, "ni", value=-3), MADE + ".*expected ni to be"),
    "NaN as an argument": (
        put("optimizers", 0, "made", "eta", value={"float": "nan"}),
        "object of kind Optimizer, got one that cannot be: .*eta",
    ),
    "generator as an argument": (
        put(*DENSE, "initializer", "rng", value=1),
        MADE + ".*argument rng",
    ),
    "layers that do not fit": (put(*DENSE, "no", value=5), MADE + "ShapeError"),
    "shared index out of range": (put(*DENSE[:2], 2, value={"shared": 9}), MADE + ".*index of one"),
    "shared index negative": (put(*DENSE[:2], 2, value={"shared": -1}), MADE + ".*index of one"),
    "shared index true": (put(*DENSE[:2], 2, value={"shared": True}), MADE + ".*index of one"),
    "shared index a list": (put(*DENSE[:2], 2, value={"shared": []}), MADE + ".*index of one"),
    "shared with itself": (put(*DENSE[:2], 2, value={"shared": 0}), MADE + ".*index of one"),
    "more than the file holds": (
        put("architecture", value=plain(nnx.DenseLayer(1, 1)) | {"ni": 10**9, "no": 10**9}),
        "expected layers for the 1.. numbers in the file, got layers that need 1,000,000,000",
    ),
    "a bit more than the file holds": (
        put("architecture", value=plain(nnx.DenseLayer(1, 1)) | {"ni": 10, "no": 20}),
        "expected the arrays of the layers described",
    ),
    "waves that take for ever": (
        put(
            "architecture",
            value={"class": "PositionalEncodingLayer", "ni": 10**5, "max_time": 10**5},
        ),
        "expected layers for the",
    ),
    "more places than anyone can walk": (many_places, "at most 10,000 places"),
    # Arrays that are not those of the architecture.
    "array missing": (without("0.b"), "missing: 0.b"),
    "buffer missing": (without("1.mean"), "missing: 1.mean"),
    "array left over": (added("7.W"), "left over: 7.W"),
    "array of another name": (renamed("0.b", "0.c"), "missing: 0.b; left over: 0.c"),
    "array of another shape": (entry("0.W", shape=[3, 4]), r"0.W \(4, 3\), in the file \(3, 4\)"),
    "array of integers": (
        entry("0.W", dtype="I32"),
        "0.W: expected numbers of type float32 or float64, got int32",
    ),
    "array of half the bytes": (
        typed("0.W", "F16", 2),
        "0.W: expected numbers .*float32 or float64",
    ),
    "array of a type that NumPy has not": (typed("0.W", "BF16", 2), "0.W: expected .*, got BF16"),
    "NaN in weights": (number("0.W", np.nan), r"0.W: expected finite numbers, got nan at \[0, 0\]"),
    "infinity in a buffer": (number("1.variance", np.inf), "1.variance: expected finite numbers"),
    # States.
    "no optimizers": (taken("optimizers"), "optimizers: expected list, got None"),
    "optimizer is text": (put("optimizers", 0, value="Adam"), r"optimizers\[0\]: expected a dict"),
    "optimizer is a layer": (
        put("optimizers", 0, "made", value=plain(nnx.FlattenLayer())),
        "object of kind Optimizer, got FlattenLayer",
    ),
    "index of an optimizer": (put("layers", "0", "optimizer", value=9), "index of one of 4"),
    "index of an optimizer is negative": (put("optimizer", value=-1), "index of one of 4 optim"),
    "layer missing": (taken("layers", "1"), "an entry for each layer.*: 1"),
    "layer left over": (put("layers", "9", value={}), "an entry for each layer.*: 9"),
    "frozen is a number": (put("layers", "0", "frozen", value=1), "frozen: expected bool, got 1"),
    "penalty on nothing": (
        put("layers", "0", "regularizers", "V", value=plain(nnx.L2Regularizer())),
        "layers.0: expected penalties on parameters, got V",
    ),
    "penalty of another kind": (
        put("layers", "0", "regularizers", "W", value=plain(nnx.ReLU())),
        "object of kind Regularizer, got ReLU",
    ),
    "count is negative": (put("states", "0.W", "t", value=-1), "t: expected a number of steps"),
    "count is a fraction": (put("states", "0.W", "t", value=1.5), "t: expected int, got 1.5"),
    "count is true": (put("states", "0.W", "t", value=True), "t: expected int, got True"),
    "count is enormous": (put("states", "0.W", "t", value=10**30), "t: expected a number of steps"),
    "count of an optimizer": (put("optimizers", 0, "t", value=None), "t: expected int, got None"),
    "state missing": (without("optimizer/0.W/1"), "array 'optimizer/0.W/1', got none"),
    "state left over": (added("optimizer/0.W/2"), "no more states.*optimizer/0.W/2"),
    "state of nothing": (
        put("states", "5.W", value={"t": 1, "arrays": 0}),
        "expected states of parameters, got 5.W",
    ),
    "state of another shape": (
        entry("optimizer/0.W/1", shape=[3, 4]),
        r"optimizer/0.W/1: expected the shape of the parameter, \(4, 3\), got \(3, 4\)",
    ),
    "state of another type": (
        entry("optimizer/0.W/1", dtype="I32"),
        "optimizer/0.W/1: expected numbers of type float32 or float64, got int32",
    ),
    "too few arrays of a state": (put("states", "0.W", "arrays", value=1), "2 arrays, as Adam"),
    "own state missing": (taken("optimizers", 0, "state"), "expected a state or None"),
    "own state of another kind": (put("optimizers", 0, "state", value=5), "a state of tuples"),
    "own state of numbers": (put("optimizers", 0, "state", value=[[1]]), "a state of tuples"),
    "own state that is a parameter": (
        put("optimizers", 0, "state", value=[[{"array": "0.W"}]]),
        "expected arrays of its own, got '0.W'",
    ),
    "own state twice": (
        put("optimizers", 0, "state", value=[[{"array": "optimizers/0/0/0"}] * 2]),
        "an array that is in no other place, got 'optimizers/0/0/0'",
    ),
    "own state of another optimizer": (
        put("optimizers", 1, "state", value=[[{"array": "optimizers/0/0/1"}]]),
        r"optimizers\[1\]: expected arrays of its own, got 'optimizers/0/0/1'",
    ),
    "own state without a name": (
        put("optimizers", 0, "state", value=[[{"array": [1]}]]),
        "expected the name of an array",
    ),
    "type of the arrays": (
        put("dtype", value="float16"),
        "dtype: expected one of float32, float64",
    ),
    "type of the arrays is none": (put("dtype", value=None), "dtype: expected one of float32"),
    "classes are text": (put("classes", value="ReLU"), "classes: expected list"),
    "classes are unknown": (put("classes", value=["os.system"]), r"layers=\[os.system\]"),
    "classes are numbers": (put("classes", value=[[1]]), "expected the classes of your own"),
}


class _Watch:
    """Notes what the interpreter is asked to do besides computing."""

    FORBIDDEN = ("os.system", "os.exec", "subprocess.Popen", "pickle.find_class", "exec", "import")
    FORBIDDEN += ("os.remove", "os.rename", "os.mkdir", "socket.connect", "ctypes.dlopen")

    def __init__(self):
        self.on, self.seen = False, []
        sys.addaudithook(self)

    def __call__(self, event, arguments):
        if not self.on:
            return
        writes = event == "open" and arguments[1] is not None and set(arguments[1]) & set("wax+")
        if event in self.FORBIDDEN or writes:
            self.seen.append((event, arguments))


@pytest.fixture(scope="module")
def watch():
    return _Watch()


@contextlib.contextmanager
def watched(watch):
    watch.seen, watch.on = [], True
    try:
        yield
    finally:
        watch.on = False
    assert watch.seen == []


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_file_is_one_clear_error(name, tmp_path, watch):
    change, message = MALFORMED[name]
    net, file = a_net(), tmp_path / "net.safetensors"
    raw = raw_of(net, file)
    file.write_bytes(raw)
    saving.load(file)  # the file is good, and all that loading imports is there
    bad = change(raw)
    assert bad != raw
    file.write_bytes(bad)
    streams, before = nnx.randomness.state(), held(net)
    with watched(watch), pytest.raises(saving.FileError, match=message) as caught:
        saving.load(file)
    assert str(caught.value).startswith(str(file))
    assert len(str(caught.value)) < 1000

    def restored():
        with saving.read_file(file) as opened:
            saving.restore(net, opened.data, opened)

    with watched(watch), pytest.raises(saving.FileError):
        restored()
    assert held(net) == before
    with watched(watch), contextlib.suppress(saving.FileError):
        saving.load_weights(net, file)  # it reads no description
    assert {keys: v for keys, v in held(net).items() if "state" in keys} == {
        keys: v for keys, v in before.items() if "state" in keys
    }
    assert nnx.randomness.state() == streams
    assert file.read_bytes() == bad
    assert os.listdir(tmp_path) == [file.name]
    assert not os.path.exists("executed")


@pytest.mark.parametrize("seed", range(8))
def test_a_file_with_a_few_other_bytes_is_one_clear_error_or_a_network(seed, tmp_path):
    rng, file = np.random.default_rng(seed), tmp_path / "net.safetensors"
    raw = raw_of(a_net(), file)
    length = int.from_bytes(raw[:8], "little")
    characters = np.frombuffer(b'{}[],:".-0123456789eE naif\\\xff\x00', "uint8")
    refused = 0
    for _ in range(40):
        bad = bytearray(raw)
        for place in rng.integers(0, 8 + length, rng.integers(1, 4)):
            bad[place] = rng.choice(characters)
        file.write_bytes(bad)
        try:
            net = saving.load(file)
        except saving.FileError:
            refused += 1
        else:
            assert isinstance(net, nnx.SequentialNet)
    assert refused > 20


VALUES = [None, True, False, 0, -1, 1, 10**30, 1.5, "", "a", [], {}, [1], {"a": 1}, [[[]]]]
VALUES += [{"class": "ReLU"}, {"class": "DenseLayer", "ni": 3, "no": 4}, {"shared": 0}]
VALUES += [{"array": "0.W"}, {"float": "nan"}, {"float": "inf"}]


def places_in(described, place=()):
    """All places of a description."""
    if isinstance(described, dict | list):
        pairs = described.items() if isinstance(described, dict) else enumerate(described)
        for key, value in pairs:
            yield (*place, key)
            yield from places_in(value, (*place, key))


def test_any_value_in_any_place_is_one_clear_error_or_a_network(tmp_path):
    file = tmp_path / "net.safetensors"
    raw = raw_of(a_net(), file)
    described = json.loads(parts(raw)[0]["__metadata__"]["nnx"])
    rng, tried, refused, longest = np.random.default_rng(0), 0, 0, 0
    for place in places_in(described):
        changes = [put(*place, value=VALUES[i]) for i in rng.choice(len(VALUES), 5, replace=False)]
        for change in [*changes, taken(*place)]:
            file.write_bytes(change(raw))
            tried += 1
            try:
                net = saving.load(file)
            except saving.FileError as error:
                refused, longest = refused + 1, max(longest, len(str(error)))
            else:
                assert isinstance(net, nnx.SequentialNet)
    assert longest < 1000
    assert tried > 800
    assert tried > refused > 0.8 * tried


def test_there_are_enough_of_them():
    assert len(MALFORMED) >= 60


LAYERS = {item.name: item.make for item in items() if item.kind == "Layer"}


def sizes_in(described, place=()):
    """The places of all integers in a description."""
    if isinstance(described, dict | list):
        pairs = described.items() if isinstance(described, dict) else enumerate(described)
        for key, value in pairs:
            yield from sizes_in(value, (*place, key))
    elif type(described) is int:
        yield place


@pytest.mark.parametrize("huge", [10**5, 10**9, 10**400])
@pytest.mark.parametrize("name", LAYERS)
def test_no_argument_makes_a_layer_take_much_memory_or_time(name, huge, tmp_path):
    layer, file = LAYERS[name](), tmp_path / "layer.safetensors"
    data, arrays = saving.pack(layer)
    for place in sizes_in(data["architecture"]):
        changed = json.loads(json.dumps(data))
        inside = changed["architecture"]
        for key in place[:-1]:
            inside = inside[key]
        inside[place[-1]] = huge
        saving.write_file(file, arrays, changed)
        tracemalloc.start()
        began = time.process_time()
        try:
            with contextlib.suppress(saving.FileError):
                saving.load(file)
            assert tracemalloc.get_traced_memory()[1] < 50e6, place
            assert time.process_time() - began < 2.0, place
        finally:
            tracemalloc.stop()


def test_a_network_nested_deep_is_saved_and_loaded_or_refused(tmp_path):
    file = tmp_path / "net.safetensors"
    layer = nnx.DenseLayer(2, 2)
    for _ in range(30):
        layer = nnx.ResidualLayer(layer)
    saving.save(layer, file)
    assert held(saving.load(file)) == held(layer)


def test_what_must_not_be_read_is_an_error_of_the_system(tmp_path, monkeypatch):
    path = tmp_path / "net.safetensors"
    path.write_bytes(bytes(99))

    def refused(name, *arguments):
        raise PermissionError(13, "Permission denied", name)

    monkeypatch.setattr("builtins.open", refused)
    with pytest.raises(PermissionError, match=r"cannot read: .*: .*" + path.name):
        saving.load(path)
    with pytest.raises(PermissionError, match="cannot read: "):
        saving.load_weights(nnx.DenseLayer(2, 2), path)
