"""Files: what is written can be read, by others too; what is damaged is one clear error."""

import contextlib
import errno
import importlib
import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from saving_tools import data

import nnx
from nnx import saving
from nnx.commands.files import read as read_data
from nnx.commands.show import show
from nnx.saving import files


@pytest.fixture
def file(tmp_path):
    return tmp_path / "net.safetensors"


def a_net():
    layers = [nnx.DenseLayer(3, 4, nnx.TanH()), nnx.BatchNormLayer(4), nnx.DenseLayer(4, 2)]
    net = nnx.SequentialNet(3, layers, optim=nnx.Adam())
    x, _ = data(3)
    net.train(x, x[:, :2], batch_size=8, progress=False)
    return net


# The format.


def parts(raw):
    """The header and the numbers of a file, read by hand."""
    length = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def whole(header, numbers):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + numbers


ARRAYS = {
    "bool": np.array([True, False, True]),
    "int8": np.array([[-128, 127]], "int8"),
    "uint16": np.arange(5, dtype="uint16"),
    "int64": np.array(-(2**62)),
    "float16": np.array([0.1, 6e4], "float16"),
    "float32": np.arange(12, dtype="float32").reshape(3, 4).T,
    "float64": np.array([np.pi, -0.0, np.inf, np.nan, 5e-324]),
    "big-endian": np.arange(3, dtype=">f8"),
    "strided": np.arange(20, dtype="float32")[::-3],
    "none": np.zeros((0, 3), "float32"),
}
DATA = {
    "text": 'ä "quoted" \ud800 \n',
    "numbers": [0, -1, 2**70, 0.1, 1e-320, -0.0, 1e308],
    "others": {"float": [float("inf"), -float("inf")], "none": None, "yes": True},
}


def test_arrays_and_plain_data_come_back(file):
    saving.write_file(file, ARRAYS, DATA)
    with saving.read_file(file) as opened:
        assert opened.data == DATA
        assert str(opened.data["numbers"]) == str(DATA["numbers"])
        assert set(opened.shapes) == set(ARRAYS)
        for name, array in ARRAYS.items():
            found = opened.read(name)
            assert opened.shapes[name] == found.shape == array.shape
            assert opened.dtypes[name] == found.dtype.name == array.dtype.name
            assert found.tobytes() == array.astype(array.dtype.newbyteorder("=")).tobytes()
            assert found.flags.owndata
            assert found.flags.writeable
        with pytest.raises(saving.FileError, match="expected an array 'W', got none"):
            opened.read("W")


def test_not_a_number_comes_back(file):
    saving.write_file(file, {}, {"loss": [float("nan")]})
    with saving.read_file(file) as opened:
        assert np.isnan(opened.data["loss"][0])


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_any_reader_of_the_format_opens_the_file(library, file):
    pytest.importorskip(library)
    reader = importlib.import_module(f"safetensors.{library}")
    net = a_net()
    saving.save(net, file)
    expected = {name: nnx.to_numpy(array) for name, array in net.parameters.items()}
    expected |= {name: nnx.to_numpy(array) for name, array in net.buffers.items()}
    for name, state in net.states.items():
        for i, array in enumerate(state.arrays):
            expected[f"optimizer/{name}/{i}"] = nnx.to_numpy(array)
    found = {name: np.asarray(array) for name, array in reader.load_file(file).items()}
    assert {name: (a.dtype, a.shape, a.tobytes()) for name, a in found.items()} == {
        name: (a.dtype, a.shape, a.tobytes()) for name, a in expected.items()
    }
    header, _ = parts(file.read_bytes())
    assert set(header) == {"__metadata__", *expected}
    assert set(header["__metadata__"]) == {"nnx"}
    assert b"pickle" not in file.read_bytes()


def test_pytorch_computes_the_same_from_the_file(file):
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file

    layers = [
        nnx.Conv2DLayer(2, 3, 3, nnx.TanH(), padding=1),
        nnx.BatchNormLayer(3),
        nnx.FlattenLayer(),
        nnx.DenseLayer(48, 5, nnx.SoftMax()),
    ]
    net = nnx.SequentialNet((2, 4, 4), layers, nnx.CrossEntropy())
    x, y = data(32, 5)
    x = x.reshape(-1, 2, 4, 4)
    net.train(x, y, progress=False)
    saving.save(net, file)
    found = load_file(file)
    names = {"weight": "W", "bias": "b"}
    norm = {"weight": "gamma", "bias": "beta", "running_mean": "mean", "running_var": "variance"}
    other = torch.nn.Sequential(
        torch.nn.Conv2d(2, 3, 3, padding=1),
        torch.nn.Tanh(),
        torch.nn.BatchNorm2d(3),
        torch.nn.Flatten(),
        torch.nn.Linear(48, 5),
        torch.nn.Softmax(dim=1),
    )
    states = {f"0.{its}": found[f"0.{own}"] for its, own in names.items()}
    states |= {f"2.{its}": found[f"1.{own}"] for its, own in norm.items()}
    states |= {f"4.{its}": found[f"3.{own}"] for its, own in names.items()}
    states["2.num_batches_tracked"] = torch.tensor(0)
    other.load_state_dict(states)
    with torch.no_grad():
        its = other.eval()(torch.asarray(x, dtype=torch.float32)).numpy()
    assert np.abs(nnx.to_numpy(net.predict(x)) - its).max() < 1e-6


@pytest.mark.parametrize(
    ("arrays", "plain", "error", "message"),
    [
        ({"a": [1.0]}, {}, TypeError, "a: expected a NumPy array of one of bool, .*, got"),
        ({"a": np.zeros(2, complex)}, {}, TypeError, "got an array of complex128.*array.astype"),
        ({"a": np.array(["x"])}, {}, TypeError, "got an array of <U1"),
        ({"__metadata__": np.zeros(2)}, {}, ValueError, "rename it"),
        ({}, {"a": {1: 2}}, TypeError, "data/a: expected text as the keys of a dict, got 1"),
        ({}, {"a": [object()]}, TypeError, "data/a/0: expected numbers, text, None"),
        ({}, {"a": np.zeros(2)}, TypeError, "data/a: expected numbers"),
        ({}, {"a": {"float": 1}}, TypeError, "data/a: expected a dict with other keys"),
        ({}, {"format": 1}, ValueError, "expected data without the key 'format'"),
        ({}, {"a": "x" * (1 << 24)}, ValueError, "expected a description of at most"),
    ],
)
def test_what_no_file_can_hold_is_refused(arrays, plain, error, message, file):
    saving.write_file(file, {}, {"good": 1})
    with pytest.raises(error, match=message):
        saving.write_file(file, arrays, plain)
    with saving.read_file(file) as opened:
        assert opened.data == {"good": 1}
    assert os.listdir(file.parent) == [file.name]


def test_data_with_arrays_is_split_and_joined(backend):
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((2, 3)).astype("float32") for _ in range(2))
    whole = {"loss": [1.5, (backend.asarray(a), {"last": b})], "n": np.int64(3), "x": None}
    plain, arrays = saving.split(whole)
    assert plain == {
        "loss": [1.5, [{"array": "data/loss/1/0"}, {"last": {"array": "data/loss/1/1/last"}}]],
        "n": 3,
        "x": None,
    }
    assert {name: type(array) for name, array in arrays.items()} == dict.fromkeys(
        ["data/loss/1/0", "data/loss/1/1/last"], np.ndarray
    )
    joined = saving.join(json.loads(json.dumps(plain)), arrays)
    assert joined["loss"][0] == 1.5
    assert joined["loss"][1][0].tobytes() == a.tobytes()
    assert joined["loss"][1][1]["last"].tobytes() == b.tobytes()
    assert (joined["n"], joined["x"]) == (3, None)
    with pytest.raises(saving.FileError, match="expected an array named 'data/loss/1/0'"):
        saving.join(plain, {})
    with pytest.raises(TypeError, match="expected a dict with other keys"):
        saving.split({"a": {"array": "b"}})


def test_two_arrays_of_one_name_are_refused():
    with pytest.raises(TypeError, match="data/a/b: expected arrays in places of their own"):
        saving.split({"a/b": np.zeros(2), "a": {"b": np.ones(2)}})


def test_a_split_copies():
    array = np.zeros(3)
    _, arrays = saving.split([array])
    array += 1
    assert not arrays["data/0"].any()


# Writing.


def test_permissions_are_those_of_any_new_file(file):
    before = os.umask(0o027)
    try:
        saving.write_file(file, {}, {})
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_a_link_stays_a_link(file):
    link = file.with_name("link")
    link.symlink_to(file)
    saving.write_file(link, {}, {"n": 1})
    assert link.is_symlink()
    with saving.read_file(file) as opened:
        assert opened.data == {"n": 1}


def test_the_file_is_on_the_disk_before_it_gets_its_name(file, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace

    def flushed(number):
        calls.append("directory" if stat.S_ISDIR(os.fstat(number).st_mode) else "file")
        fsync(number)

    def replaced(one, other):
        assert os.path.dirname(one) == str(file.parent)
        calls.append("rename")
        replace(one, other)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", replaced)
    saving.write_file(file, ARRAYS, {})
    assert calls == ["file", "rename", "directory"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, OSError(errno.EIO, "broken")])
@pytest.mark.parametrize("place", ["fsync", "replace"])
def test_any_error_leaves_the_last_good_file_alone(place, error, file, monkeypatch):
    saving.write_file(file, {}, {"good": 1})
    good = file.read_bytes()

    def broken(*arguments):
        raise error

    monkeypatch.setattr(os, place, broken)
    with pytest.raises(type(error) if isinstance(error, OSError) else error):
        saving.write_file(file, ARRAYS, {})
    assert file.read_bytes() == good
    assert os.listdir(file.parent) == [file.name]


def run(script, *arguments, **options):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        **options,
    )


FULL = """
    import errno, resource, sys
    import numpy as np
    from nnx import saving
    if sys.argv[2] == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
    saving.write_file(sys.argv[1], {}, {"good": 1})
    try:
        saving.write_file(sys.argv[1], {"a": np.ones(1_000_000)}, {})
    except OSError as error:
        print(errno.errorcode[error.errno], error)
"""


def check_full(directory, how, code):
    file = directory / "net.safetensors"
    found = run(FULL, file, how)
    assert found.stdout.startswith(f"{code} "), found.stderr
    assert "cannot write: " in found.stdout
    assert str(file) in found.stdout
    with saving.read_file(file) as opened:
        assert opened.data == {"good": 1}
    assert os.listdir(directory) == [file.name]


def test_a_file_that_grows_too_large_leaves_nothing_behind(tmp_path):
    check_full(tmp_path, "limit", "EFBIG")


def test_a_full_disk_leaves_nothing_behind(tmp_path):
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", tmp_path], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here; the limit of a file's size is tested")
    try:
        check_full(tmp_path, "disk", "ENOSPC")
    finally:
        subprocess.run(["umount", tmp_path], check=True)


@pytest.mark.parametrize("kind", ["directory", "device", "pipe"])
def test_what_is_not_a_file_is_not_replaced(kind, tmp_path):
    target = tmp_path / "target"
    if kind == "directory":
        target.mkdir()
    elif kind == "pipe":
        os.mkfifo(target)
    else:
        target.symlink_to("/dev/null")
    expected = IsADirectoryError if kind == "directory" else OSError
    with pytest.raises(expected, match=r"cannot write: .*target"):
        saving.write_file(target, {}, {})
    assert os.listdir(tmp_path) == ["target"]
    with pytest.raises((IsADirectoryError, saving.FileError), match=r"a folder|device or a pipe"):
        saving.load(target)


# What is asked for in a folder with a, b, c, d and data (all .safetensors), and more.csv.
MISSING = {
    "dato.safetensors": "found none; write 'data.safetensors' instead of this: 'dato.safetensors'",
    "data": "found none; write 'data.safetensors' instead of this: 'data'",
    "sub/in": "found none; write 'sub/in.safetensors' instead of this: 'sub/in'",
    "xyz123.safetensors": "write one of those in '{}', a.safetensors, b.safetensors, c.safetensors "
    "and 2 more, instead of this: 'xyz123.safetensors'",
    "x.h5": "found nothing at '{}/x.h5'; write another path instead of this: 'x.h5'",
    "no/a.safetensors": "found no folder '{}/no'; write another path instead of this: 'no/a.s",
    "~/a.safetensors": "found none; write os.path.expanduser('~/a.safetensors') instead of this: '",
    "sub": "[Errno 21] expected a file, found a folder; write the path of a file in it instead of",
}
READERS = [
    saving.load,
    lambda path: saving.load_weights(nnx.DenseLayer(2, 2), path),
    lambda path: nnx.interchange.load_torch(nnx.DenseLayer(2, 2), path),
    show,
    lambda path: read_data([f"{path}.csv"], False),
]


@pytest.mark.parametrize(("asked", "said"), MISSING.items(), ids=MISSING)
def test_a_file_that_is_not_there_is_an_error_with_what_is(asked, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    names = [*(f"{name}.safetensors" for name in ("a", "b", "c", "d", "data")), "more.csv"]
    for name in (*names, "sub/in.safetensors", ".hidden.safetensors"):
        (tmp_path / name).write_bytes(b"")
    for read in READERS[:-1]:
        with pytest.raises(OSError, match="expected a file, found ") as caught:
            read(asked)
        assert said.format(tmp_path) in str(caught.value)
        assert caught.value.filename == asked
    with pytest.raises(
        FileNotFoundError, match=f"expected a file, found .* of this: '{asked}.csv'"
    ):
        READERS[-1](asked)


@pytest.mark.parametrize("path", [None, 3, "", ["a"]], ids=str)
def test_what_is_not_a_path_is_an_error_that_says_so(path):
    for call in (*READERS[:2], show, lambda path: saving.write_file(path, {}, {})):
        with pytest.raises(
            (TypeError, ValueError), match=r"expected the path of a file, got .*; w"
        ):
            call(path)


def test_a_directory_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"make its directory first.*nowhere"):
        saving.save(a_net(), tmp_path / "nowhere" / "net")
    assert os.listdir(tmp_path) == []


def test_a_directory_without_permission(tmp_path, monkeypatch):
    """The system's answer is made up, as a test may run as root, whom nothing is forbidden."""
    built = open

    def refused(path, mode="r", *arguments, **options):
        if "x" in mode:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return built(path, mode, *arguments, **options)

    monkeypatch.setattr("builtins.open", refused)
    with pytest.raises(PermissionError, match="cannot write: Permission denied"):
        saving.save(a_net(), tmp_path / "net.safetensors")


def test_what_a_killed_process_has_left_is_removed(file, tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    stem = files._stem(file)
    stale = tmp_path / f"{stem}{gone.pid}.0123abcd.tmp"
    running = tmp_path / f"{stem}{os.getpid()}.0123abcd.tmp"
    other = tmp_path / f"{files._stem(file.with_name('other'))}{gone.pid}.0123abcd.tmp"
    for path in (stale, running, other):
        path.write_bytes(b"half")
    saving.write_file(file, {}, {})
    assert sorted(tmp_path.iterdir()) == sorted([file, running, other])


@pytest.mark.parametrize("name", ["[1]*?.x", "a" * 255, "ä" * 120, " ", "-rf"])
def test_odd_names_of_files_work(name, tmp_path):
    file = tmp_path / name
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (tmp_path / f"{files._stem(file)}{gone.pid}.0.tmp").write_bytes(b"half")
    saving.write_file(file, {"a": np.ones(3)}, {})
    assert os.listdir(tmp_path) == [name]
    with saving.read_file(str(file)) as opened:
        assert opened.read("a").tolist() == [1, 1, 1]


WRITER = """
    import sys
    import numpy as np
    from nnx import saving
    for n in range(10**6):
        a = np.full(2_500_000, float(n))  # 20 MB
        saving.write_file(sys.argv[1], {"a": a}, {"n": n})
        if n == 0:
            print("ready", flush=True)
"""


def test_a_kill_at_any_moment_leaves_a_whole_file(file, tmp_path):
    rng = np.random.default_rng()
    for _ in range(10):
        writer = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), file], stdout=subprocess.PIPE
        )
        with contextlib.closing(writer.stdout):
            assert writer.stdout.readline() == b"ready\n"
            time.sleep(rng.uniform(0.0, 0.15))
            writer.send_signal(signal.SIGKILL)
            writer.wait()
        with saving.read_file(file) as opened:
            a = opened.read("a")
            assert a.shape == (2_500_000,)
            assert (a == opened.data["n"]).all()
        assert len(os.listdir(tmp_path)) <= 2  # the next writer removes what this one has left
    saving.write_file(file, {}, {})
    assert os.listdir(tmp_path) == [file.name]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"a text of several words\n", "text"),
        (b"\x08\x0a\x12\x07pytorch" + bytes(40), "an ONNX file"),
        (b"PK\x03\x04" + bytes(40), "a zip archive"),
    ],
    ids=["text", "onnx", "zip"],
)
def test_a_file_that_is_no_network_is_called_what_it_is(tmp_path, content, what):
    path = tmp_path / "net"
    path.write_bytes(content)
    with pytest.raises(
        nnx.FileError, match=f"got {what}.*; name a file that net.save has written$"
    ):
        nnx.load(path)
