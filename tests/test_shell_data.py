"""`nnx train`, `evaluate` and `predict`: inputs that are standardized, and files that are large."""

import numpy as np
import pytest
from shell_tools import done

import nnx
from nnx.data import training_data

pytestmark = pytest.mark.usefixtures("folder")
CLASSES = "dense 3 softmax"


def measured(samples=40):
    """Measurements in units of their own, the third the same for all, and their classes."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((samples, 3)) * [1.0, 1e4, 0.0] + [0.0, 1e5, 7.0]
    return x.round(2), rng.permutation(np.arange(samples) % 3)


def as_table(name, x, y):
    rows = [",".join(map(str, [*row, f"kind {k}"])) for row, k in zip(x.tolist(), y.tolist())]
    with open(name, "w") as file:
        file.write("\n".join(["a,b,c,kind", *rows]) + "\n")


def test_a_table_is_standardized_and_the_file_has_it(capsys):
    x, y = measured()
    as_table("wine.csv", x, y)
    words = ["--layers", f"dense 8 relu, {CLASSES}", "--optimizer", "adam 0.01", "--epochs", 3]
    done("train", "wine.csv", *words, "--save", "net.safetensors")
    said = capsys.readouterr().out.splitlines()
    assert said[0] == (
        "the inputs are standardized: each of the 3 features gets mean 0 and deviation 1; "
        "--no-standardize leaves them as they are"
    )
    net = nnx.load("net.safetensors")
    first = net.layers[0]
    mean, deviation = (nnx.to_numpy(first.buffers[name]) for name in ("mean", "deviation"))
    np.testing.assert_allclose(mean, x.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(deviation, [*x[:, :2].std(axis=0), 1.0], rtol=1e-6)
    # As in Python, with inputs that are standardized by hand.
    nnx.seed(0)
    layers = [nnx.DenseLayer(3, 8), nnx.DenseLayer(8, 3, nnx.SoftMax())]
    other = nnx.SequentialNet(3, layers, nnx.CrossEntropy(), nnx.Adam(0.01))
    z = (x - x.mean(axis=0)) / [*x[:, :2].std(axis=0), 1.0]
    other.train(z, y, 10, 3, progress=False)
    done("predict", "net.safetensors", "wine.csv", "--output", "out.npy")
    np.testing.assert_allclose(np.load("out.npy"), nnx.to_numpy(other.predict(z)), atol=1e-3)
    done("evaluate", "net.safetensors", "wine.csv")
    loss = float(capsys.readouterr().out.split()[1])
    assert loss == pytest.approx(other.score(z, y).loss, abs=1e-3)


def test_samples_of_the_validation_do_not_count():
    x, y = measured(41)
    as_table("wine.csv", x, y)
    for layers, index in ((CLASSES, 0), (f"rescaling 1/4, standardize, {CLASSES}", 1)):
        words = ["--layers", layers, "--validation", 0.3, "--quiet"]
        done("train", "wine.csv", *words, "--save", "net.safetensors")
        net = nnx.load("net.safetensors")
        (kept, *_), *_ = training_data(net, x, y, validation=0.3)[0]
        kept = nnx.to_numpy(kept).astype("float64")
        assert kept.shape == (29, 3)
        expected = kept.mean(axis=0) / (4 if index else 1)
        found = nnx.to_numpy(net.layers[index].buffers["mean"])
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        assert abs(expected / found[1] - x.mean(axis=0) / found[1])[1] > 1e-5


def arrays(x, y):
    np.save("x.npy", x)
    np.save("y.npy", y)
    return ["x.npy", "y.npy"]


def floats():
    return arrays(*measured())


def table():
    as_table("wine.csv", *measured())
    return ["wine.csv"]


def archive():
    x, y = measured()
    np.savez("both.npz", x=x, y=y)
    return ["both.npz"]


def of_shape(dtype, *shape):
    values = np.random.default_rng(0).integers(0, 5, (12, *shape))
    return lambda: arrays(values.astype(dtype), np.arange(12) % 3)


def toml():
    table()
    with open("run.toml", "w") as file:
        file.write(f'data = "wine.csv"\nstandardize = false\nlayers = "{CLASSES}"\n')
    return ["run.toml"]


FLAT = f"flatten, {CLASSES}"
YES = "the inputs are standardized: each of the {} gets mean 0 and deviation 1"
AUTOMATIC = "; --no-standardize leaves them as they are"
AS_THEY_ARE = "the inputs, {}, are taken as they are; "
RESCALE = "numbers from 0 to 1 are better: begin --layers with rescaling 1/255"
ASK = "--standardize gives each feature or channel mean 0 and deviation 1"

# The data, layers, options; the first line of the output, and the layer that standardizes.
DECISIONS = {
    "table": (table, CLASSES, [], YES.format("3 features") + AUTOMATIC, "(3)"),
    "arrays": (floats, CLASSES, [], YES.format("3 features") + AUTOMATIC, "(3)"),
    "archive": (archive, CLASSES, [], YES.format("3 features") + AUTOMATIC, "(3)"),
    "integers": (of_shape("int64", 4), CLASSES, [], YES.format("4 features") + AUTOMATIC, "(4)"),
    "asked": (floats, CLASSES, ["--standardize"], YES.format("3 features"), "(3)"),
    "off": (table, CLASSES, ["--no-standardize"], "", ""),
    "toml off": (toml, "", [], "", ""),
    "toml, and on": (toml, "", ["--standardize"], YES.format("3 features"), "(3)"),
    "word": (table, f"standardize, {CLASSES}", [], "", "(3)"),
    "rescaled": (table, f"rescaling 0.1, {CLASSES}", [], "", ""),
    "tokens": (of_shape("int64", 4), f"embedding 5 2, {FLAT}", [], "", ""),
    "bytes": (
        of_shape("uint8", 4),
        CLASSES,
        [],
        AS_THEY_ARE.format("uint8 of shape (4,)") + RESCALE,
        "",
    ),
    "images": (
        of_shape("float32", 2, 4, 4),
        FLAT,
        [],
        AS_THEY_ARE.format("float32 of shape (2, 4, 4)") + ASK,
        "",
    ),
    "images, asked": (
        of_shape("uint8", 2, 4, 4), FLAT, ["--standardize"], YES.format("2 channels"), "(2)"
    ),
    "sequences, asked": (
        of_shape("float32", 4, 2), "gru 3, " + CLASSES, ["--standardize"],
        YES.format("2 features"), "(2, axis=-1)",
    ),
    "signals, asked": (
        of_shape("float32", 2, 4), "conv1d 3 2, " + FLAT, ["--standardize"],
        YES.format("2 channels"), "(2)",
    ),
    "digits": (lambda: ["digits"], "dense 10 softmax", [], "", ""),
    "digits, asked": (
        lambda: ["digits"], "dense 10 softmax", ["--standardize"], YES.format("64 features"),
        "(64)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DECISIONS)
def test_one_line_says_what_is_done_with_the_inputs(name, capsys):
    data, layers, options, line, arguments = DECISIONS[name]
    if name.startswith("digits"):
        pytest.importorskip("sklearn", reason='pip install "nnx-array[digits]"')
    words = [*data(), *(["--layers", layers] if layers else []), *options]
    done("train", *words, "--batch-size", 100)
    said = capsys.readouterr().out.splitlines()
    assert [text for text in said if text.startswith("the inputs")] == [line] * bool(line)
    assert not line or said[0] == line
    network = next(text for text in said if text.startswith("SequentialNet("))
    assert ("StandardizeLayer" in network) == bool(arguments)
    assert f"StandardizeLayer{arguments}" in network or not arguments


def test_files_of_numpy_stay_on_disk(capsys, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (30, 2, 3, 3), dtype=np.uint8)
    data = arrays(images, np.arange(30) % 3)
    given = []

    def recorded(name):
        method = getattr(nnx.SequentialNet, name)

        def call(self, x, *more, **options):
            given.append((name, type(x), x.dtype, type(options.get("out"))))
            return method(self, x, *more, **options)

        monkeypatch.setattr(nnx.SequentialNet, name, call)

    for name in ("train", "score", "predict"):
        recorded(name)
    layers = f"rescaling 1/255, {FLAT}"
    done("train", *data, "--layers", layers, "--save", "net.safetensors", "--quiet")
    done("evaluate", "net.safetensors", *data)
    done("predict", "net.safetensors", "x.npy", "--output", "out.npy")
    assert given == [
        ("train", np.memmap, np.uint8, type(None)),
        ("score", np.memmap, np.uint8, type(None)),
        ("predict", np.memmap, np.uint8, np.memmap),
    ]
    out = np.load("out.npy")
    assert (out.shape, out.dtype) == ((30, 3), np.float32)
    whole = nnx.to_numpy(nnx.load("net.safetensors").predict(images))
    np.testing.assert_array_equal(out, whole)


def test_a_prediction_that_fails_leaves_no_file(folder, capsys):
    x, y = measured()
    done("train", *arrays(x, y), "--layers", CLASSES, "--save", "net.safetensors", "--quiet")
    np.save("x.npy", x[:, :2])
    before = sorted(folder.iterdir())
    done("predict", "net.safetensors", "x.npy", "--output", "out.npy", status=2)
    assert "3" in capsys.readouterr().err
    assert sorted(folder.iterdir()) == before


def test_python_keeps_what_the_shell_wrote_about_the_data(capsys):
    as_table("wine.csv", *measured())
    words = ["--layers", CLASSES, "--quiet", "--save", "net.safetensors"]
    done("train", "wine.csv", *words)
    net = nnx.load("net.safetensors")
    assert net.about["labels"] == ["kind 0", "kind 1", "kind 2"]
    net.step(*(net.backend.asarray(a) for a in (np.ones((1, 3), "float32"), np.asarray([1]))))
    net.save("again.safetensors")
    done("predict", "again.safetensors", "wine.csv", "--classes")
    assert set(capsys.readouterr().out.splitlines()) <= {"kind 0", "kind 1", "kind 2"}
    net.about = None
    net.save("again.safetensors")
    assert nnx.load("again.safetensors").about is None


def test_a_comma_in_a_number_is_told(folder, capsys):
    (folder / "comma.csv").write_text("a;kind\n1,5;cat\n2,5;dog\n")
    done("train", "comma.csv", "--layers", "dense 2 softmax", status=2)
    said = "got '1,5' in line 2, column 'a'; numbers have a point: 1.5\n"
    assert capsys.readouterr().err.endswith(said)
