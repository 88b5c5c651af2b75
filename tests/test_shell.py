"""`nnx train`, `evaluate`, `predict` and `show`: right command lines from end to end."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from shell_tools import done

import nnx
from nnx.commands import shell
from nnx.commands.cli import main
from nnx.commands.words import KINDS, network_of, parse, words_of

pytest.importorskip("sklearn", reason='pip install "nnx-array[digits]"')
pytestmark = pytest.mark.usefixtures("folder")
DIGITS = "digits"
TWO = "dense 16 relu, dense 10 softmax"


def network(text, shape):
    """The network of a text for samples of a shape, as Python writes it."""
    layers = network_of(parse(text), shape, None, None)
    return repr(layers), layers


@pytest.mark.parametrize(
    ("text", "shape", "expected"),
    [
        (TWO, (64,), "SequentialNet((64,), [DenseLayer(64, 16), DenseLayer(16, 10, "
         "afun=SoftMax())], cost=CrossEntropy())"),
        ("DenseLayer 3 TanH, Dense(no=1, afun=logistic)", (2,), "SequentialNet((2,), [DenseLayer("
         "2, 3, afun=TanH()), DenseLayer(3, 1, afun=Logistic())], cost=BinaryCrossEntropy())"),
        ("conv2d 4 3x2 relu padding=same stride=2, batchnorm, relu, maxpool2d, dropout 0.2, "
         "flatten, dense 3 linear", (1, 8, 8), "SequentialNet((1, 8, 8), [Conv2DLayer(1, 4, (3, 2),"
         " stride=2, padding='same'), BatchNormLayer(4), ActivationLayer(ReLU()), MaxPool2DLayer(),"
         " DropoutLayer(rate=0.2), FlattenLayer(), DenseLayer(16, 3, afun=Linear())], "
         "cost=MeanSquaredError())"),
        ("embedding 9 4, bidirectional (lstm 3) (lstm 3 reverse), dense 1 logistic", (7,),
         "SequentialNet((7,), [EmbeddingLayer(9, 4), BidirectionalLayer(LSTMLayer(4, 3), "
         "LSTMLayer(4, 3, reverse=True)), DenseLayer(6, 1, afun=Logistic())], "
         "cost=BinaryCrossEntropy())"),
        ("gru 4 return_sequences mask_value=0, masked (layernorm), multiheadattention 2 "
         "mask_value=0, masked (dense 3, dense 5) 0, rnn 3 relu mask_value=0.0",
         (5, 2), "SequentialNet((5, 2), [GRULayer(2, 4, return_sequences=True, mask_value=0.0), "
         "MaskedLayer(LayerNormLayer((4,))), MultiHeadAttentionLayer(4, 2, mask_value=0.0), "
         "MaskedLayer(SequentialLayer([DenseLayer(4, 3), DenseLayer(3, 5)])), "
         "RNNLayer(5, 3, afun=ReLU(), mask_value=0.0)], cost=MeanSquaredError())"),
        ("residual (dense 3 leakyrelu(0.2), dense 2 linear), parallel (dense 2, dense 3) merge="
         "concat, groupnorm 5, reshape 5x1", (2,), "SequentialNet((2,), [ResidualLayer("
         "SequentialLayer([DenseLayer(2, 3, afun=LeakyReLU(alpha=0.2)), DenseLayer(3, 2, "
         "afun=Linear())])), ParallelLayer([DenseLayer(2, 2), DenseLayer(2, 3)]), GroupNormLayer("
         "5, 5), ReshapeLayer((5, 1))], cost=MeanSquaredError())"),
        ("rescaling 1/255, randomflip, randomshift 4, cutout 8x6, standardize, flatten, dense 2",
         (3, 8, 8), "SequentialNet((3, 8, 8), [RescalingLayer(0.00392156862745098), "
         "RandomFlipLayer(), RandomShiftLayer(), CutoutLayer(size=(8, 6)), StandardizeLayer(3), "
         "FlattenLayer(), DenseLayer(192, 2)], cost=MeanSquaredError())"),
        ("standardize, gru 2, dense 2", (5, 3), "SequentialNet((5, 3), [StandardizeLayer(3, "
         "axis=-1), GRULayer(3, 2), DenseLayer(2, 2)], cost=MeanSquaredError())"),
        ("standardize axis=1, gru 2, dense 2", (5, 3), "SequentialNet((5, 3), [StandardizeLayer("
         "5), GRULayer(3, 2), DenseLayer(2, 2)], cost=MeanSquaredError())"),
        ("standardize, residual (conv1d 5 1), flatten, dense 2", (5, 3), "SequentialNet((5, 3), "
         "[StandardizeLayer(5), ResidualLayer(Conv1DLayer(5, 5, 1)), "
         "FlattenLayer(), DenseLayer(15, 2)], cost=MeanSquaredError())"),
        ("standardize, gru 2, dense 2", (3, 3), "SequentialNet((3, 3), [StandardizeLayer(3, "
         "axis=-1), GRULayer(3, 2), DenseLayer(2, 2)], cost=MeanSquaredError())"),
        ("dense 2 kernel_regularizer=l2(0.1) initializer=henormal optim=adam(0.01)", (3,),
         "SequentialNet((3,), [DenseLayer(3, 2, optim=Adam(eta=0.01), initializer=HeNormal(), "
         "kernel_regularizer=L2Regularizer(lambd=0.1))], cost=MeanSquaredError())"),
    ],
)  # fmt: skip
def test_words_are_layers_whose_sizes_follow(text, shape, expected):
    before = nnx.randomness.state()
    network_of(parse(text), shape, None, None)
    assert nnx.randomness.state() != before  # weights are drawn, each once
    nnx.randomness.set_state(before)
    found, net = network(text, shape)
    assert found == expected.replace("L2Regularizer(lambd=0.1)", repr(nnx.L2Regularizer(0.1)))
    nnx.randomness.set_state(before)
    twin = net.clone()
    for path, p in net.parameters.items():
        np.testing.assert_array_equal(nnx.to_numpy(p), nnx.to_numpy(twin.parameters[path]))


def test_optimizers_and_losses_are_words_too():
    net = network_of(
        parse("dense 1 linear"),
        (3,),
        parse("huber 2")[0],
        parse("adam cosine(0.1 50) beta1=0.8")[0],
    )
    assert net.optim.arguments() == nnx.Adam(nnx.CosineSchedule(0.1, 50), beta1=0.8).arguments()
    assert net.cost == nnx.Huber(2)


def test_every_class_has_its_word():
    named = {kind.__name__ for name in KINDS for kind in words_of(name).values()}
    public = {getattr(nnx, name) for name in nnx.__all__}
    bases = tuple(KINDS.values())
    kinds = {k for k in public if isinstance(k, type) and issubclass(k, bases)}
    left = {kind.__name__ for kind in kinds} - named
    assert left == {*KINDS, "Container", "SequentialNet"}
    for name in KINDS:
        assert all(word == word.lower() for word in words_of(name))


def test_train_evaluate_predict_and_show(folder, capsys, backend_spec):
    backend = ["--backend", backend_spec]
    options = ["--optimizer", "adam 0.01", "--epochs", 2, "--seed", 3, *backend]
    done("train", DIGITS, "--layers", TWO, *options, "--save", "d.safetensors", "--json", "r.json")
    printed = capsys.readouterr().out
    assert printed.count("epoch ") == 2
    assert "written to d.safetensors" in printed

    data = nnx.datasets.load(DIGITS)
    with nnx.use_backend(backend_spec):
        nnx.seed(3)
        layers = [nnx.DenseLayer(64, 16), nnx.DenseLayer(16, 10, nnx.SoftMax())]
        net = nnx.SequentialNet(64, layers, nnx.CrossEntropy(), nnx.Adam(0.01))
        history = net.train(data.x_train, data.y_train, 10, 2, progress=False)
        score = net.score(data.x_test, data.y_test)
        outputs = nnx.to_numpy(net.predict(data.x_test))
    results = json.loads((folder / "r.json").read_text())
    assert results["history"]["loss"] == history.loss
    assert results["test"] == {"loss": score.loss, "accuracy": score.accuracy}
    assert results["network"] == repr(net)

    done("evaluate", "d.safetensors", DIGITS, *backend, "--json", "-")
    assert json.loads(capsys.readouterr().out) == {"loss": score.loss, "accuracy": score.accuracy}
    done("evaluate", "d.safetensors", DIGITS, *backend)
    assert capsys.readouterr().out.splitlines()[1] == f"accuracy  {score.accuracy:.6g}"

    done("predict", "d.safetensors", DIGITS, *backend, "--output", "out.npy")
    np.testing.assert_array_equal(np.load("out.npy"), outputs)
    done("predict", "d.safetensors", DIGITS, *backend, "--output", "out.csv")
    assert capsys.readouterr().out == ""
    done("predict", "d.safetensors", DIGITS, *backend)
    text = capsys.readouterr().out
    assert text == (folder / "out.csv").read_text()
    rows = [[float(cell) for cell in line.split(",")] for line in text.splitlines()]
    np.testing.assert_array_equal(np.asarray(rows, "float32"), outputs)
    done("predict", "d.safetensors", DIGITS, *backend, "--classes")
    printed = list(map(int, capsys.readouterr().out.split()))
    assert printed == outputs.argmax(axis=1).tolist()


def test_show_says_what_a_file_holds_without_running_anything(capsys, monkeypatch):
    layers = [nnx.Conv2DLayer(1, 2, 3), nnx.FlattenLayer(), nnx.DenseLayer(8, 3, nnx.SoftMax())]
    net = nnx.SequentialNet((1, 4, 4), layers, nnx.CrossEntropy(), nnx.Adam(0.01))
    net.save("net.safetensors")
    net.save_weights("weights.safetensors")
    nnx.saving.save(nnx.DenseLayer(3, 2), "layer.safetensors")
    x, y = np.zeros((4, 1, 4, 4)), np.asarray([0, 1, 2, 0])
    net.train(x, y, 2, 1, callbacks=[nnx.Checkpoint("run.safetensors")], progress=False)

    def never(*arguments, **named):
        raise AssertionError("it was built")

    monkeypatch.setattr(nnx.Layer, "__init__", never)
    done("show", "net.safetensors")
    assert capsys.readouterr().out.splitlines() == [
        "net.safetensors: network, 47 numbers, float32",
        "input  [1, 4, 4]",
        "0  Conv2DLayer(ni=1, no=2, kernel_size=3)  20",
        "1  FlattenLayer()  0",
        "2  DenseLayer(ni=8, no=3, afun=SoftMax())  27",
        "loss  CrossEntropy()",
        "optimizer  Adam(eta=0.01)",
        "0.W  (2, 1, 3, 3)  float32",
        "0.b  (2,)  float32",
        "2.W  (3, 8)  float32",
        "2.b  (3,)  float32",
    ]
    done("show", "weights.safetensors", "--json", "-")
    found = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["numbers"]) == ("weights", 47)
    done("show", "layer.safetensors")
    first, layer, *_ = capsys.readouterr().out.splitlines()
    assert first == "layer.safetensors: network, 8 numbers, float32"
    assert layer == "0  DenseLayer(ni=3, no=2)  8"
    done("show", "run.safetensors")
    assert "run  1 epochs finished, 0 batches of the next" in capsys.readouterr().out


def test_a_toml_file_has_the_same_words_and_the_command_line_wins(folder, capsys):
    (folder / "run.toml").write_text(
        'data = "digits"\nepochs = 5\noptimizer = {class = "adam", eta = 0.01}\nseed = 4\n'
        'layers = ["dense 8 relu", {class = "dense", no = 10, afun = "softmax"}]\n'
        'save = "a.safetensors"\nmetrics = ["f1"]\nbatch_size = 50\n'
    )
    done("train", "run.toml", "--epochs", 1, "--quiet")
    assert capsys.readouterr().out == ""
    words = ["--layers", "dense 8 relu, dense 10 softmax", "--optimizer", "adam 0.01"]
    more = ["--batch-size", 50, "--metrics", "f1", "--seed", 4, "--save", "b.safetensors"]
    done("train", DIGITS, *words, *more, "--json", "-")
    found = json.loads(capsys.readouterr().out)
    assert len(found["history"]["f1"]) == 1
    assert (folder / "a.safetensors").read_bytes() == (folder / "b.safetensors").read_bytes()


def test_a_checkpoint_goes_on(folder, capsys):
    words = ["train", DIGITS, "--layers", TWO, "--checkpoint", "run.safetensors", "--json", "-"]
    done(*words, "--epochs", 1)
    done(*words, "--epochs", 3)
    (folder / "run.safetensors").unlink()
    capsys.readouterr()
    done(*words, "--epochs", 3, "--save", "whole.safetensors")
    whole = json.loads(capsys.readouterr().out)
    done(*words, "--epochs", 3, "--save", "again.safetensors")
    again = json.loads(capsys.readouterr().out)
    assert again["history"] == whole["history"]
    (folder / "run.safetensors").unlink()
    done(*words, "--epochs", 1)
    done(*words, "--epochs", 3, "--save", "resumed.safetensors")
    for name in ("again", "resumed"):
        mine, other = (nnx.load(f"{n}.safetensors").parameters for n in (name, "whole"))
        for path in other:
            np.testing.assert_array_equal(nnx.to_numpy(mine[path]), nnx.to_numpy(other[path]))


def test_tables_arrays_and_targets(folder, capsys):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 3)).round(3)
    price = (x @ [1.0, -2.0, 0.5]).round(3)
    lines = [f"{a},{p},{b},{c}" for (a, b, c), p in zip(x.tolist(), price.tolist())]
    (folder / "table.csv").write_text("\n".join(["a,price,b,c", *lines]) + "\n")
    words = ["--layers", "dense 1 linear", "--optimizer", "sgd 0.1", "--epochs", 20, "--quiet"]
    words += ["--no-standardize"]  # the weights are those of the data
    whole = ["a,price", *(f"{i / 10},{2 * i}" for i in range(10))]  # numbers, and no classes
    (folder / "whole.csv").write_text("\n".join(whole) + "\n")
    done("train", "whole.csv", *words, "--save", "whole.safetensors")
    done("predict", "whole.safetensors", "whole.csv", "--classes", status=2)
    assert "expected --classes with a network of classes" in capsys.readouterr().err
    done("train", "table.csv", "--target", "price", *words, "--save", "net.safetensors")
    net = nnx.load("net.safetensors")
    np.testing.assert_allclose(nnx.to_numpy(net.layers[0].W), [[1.0, -2.0, 0.5]], atol=1e-2)
    done("evaluate", "net.safetensors", "table.csv", "--target", "price", "--metrics", "r2")
    r2 = dict(line.split() for line in capsys.readouterr().out.splitlines())["r2"]
    assert float(r2) > 0.999
    np.save("x.npy", x)
    np.save("y.npy", price)
    np.savez("both.npz", x=x, y=price)
    done("predict", "net.safetensors", "x.npy")
    by_array = capsys.readouterr().out
    for data in (["both.npz"], ["table.csv", "--target", "price"]):
        done("predict", "net.safetensors", *data)
        assert capsys.readouterr().out == by_array
    for data in (["x.npy", "y.npy"], ["both.npz"]):
        done("train", *data, *words, "--save", "other.safetensors")
        other = nnx.load("other.safetensors")
        np.testing.assert_array_equal(
            nnx.to_numpy(other.layers[0].W), nnx.to_numpy(net.layers[0].W)
        )
    # Columns without names, tabs, and classes; the last column is the target.
    labels = (x[:, 0] > 0).astype(int)
    rows = ["\t".join(map(str, [*row, label])) for row, label in zip(x.tolist(), labels.tolist())]
    (folder / "classes.tsv").write_text("\n".join(rows))
    for layers in ("dense 2 softmax", "dense 1 logistic"):
        words = ["--layers", layers, "--optimizer", "adam 0.1", "--epochs", 20, "--quiet"]
        done("train", "classes.tsv", *words, "--save", "net.safetensors")
        done("predict", "net.safetensors", "classes.tsv", "--classes")
        printed = np.asarray(capsys.readouterr().out.split(), int)
        assert (printed == labels).mean() > 0.9


FLOWERS = ["a,b,species"]
FLOWERS += [f"{i / 5 - 2},{i % 3 - 1},{'rose' if i < 10 else 'iris'}" for i in range(20)]


def as_pandas(lines):
    return [f"{'' if i == 0 else i - 1},{line}" for i, line in enumerate(lines)]


@pytest.mark.parametrize(
    "lines",
    [
        FLOWERS,
        as_pandas(FLOWERS),
        ["Unnamed: 0" + line if i == 0 else line for i, line in enumerate(as_pandas(FLOWERS))],
        [line.replace(",", ";") for line in FLOWERS],
        [line.replace(",", " , ") for line in FLOWERS],
        FLOWERS[1:],
    ],
    ids=["plain", "pandas", "pandas twice", "semicolons", "spaces", "no names"],
)
def test_labels_are_classes_whose_names_are_printed(folder, capsys, lines):
    (folder / "flowers.csv").write_text("\n".join(lines) + "\n")
    options = ["--optimizer", "adam 0.1", "--epochs", 40, "--save", "net.safetensors"]
    done("train", "flowers.csv", "--layers", "dense 2 softmax", *options)
    printed = capsys.readouterr().out
    assert ("the first column has no name and is left out" in printed) == lines[0].startswith(
        (",", "Un")
    )
    expected = [line.rpartition(",")[2] for line in FLOWERS[1:]]
    done("predict", "net.safetensors", "flowers.csv", "--classes")
    assert capsys.readouterr().out.split() == expected
    done("evaluate", "net.safetensors", "flowers.csv")
    assert "accuracy  1\n" in capsys.readouterr().out
    # Without the column of the targets, and with nothing in it.
    lines = [line.rpartition(",")[0] for line in FLOWERS]
    (folder / "new.csv").write_text("\n".join(lines) + "\n")
    (folder / "open.csv").write_text("".join(f"{line},\n" for line in lines[1:]))
    for name in ("new.csv", "open.csv"):
        done("predict", "net.safetensors", name, "--classes", "--output", "out.csv")
        assert (folder / "out.csv").read_text().split() == expected
    done("predict", "net.safetensors", "new.csv", "--classes", "--output", "out.npy")
    assert np.load("out.npy").tolist() == expected
    done("show", "net.safetensors")
    assert "classes  iris, rose\n" in capsys.readouterr().out


def test_inputs_are_found_by_their_names(folder, capsys):
    (folder / "flowers.csv").write_text("\n".join(FLOWERS) + "\n")
    words = ["--layers", "dense 1 logistic", "--epochs", 40, "--optimizer", "adam 0.1", "--quiet"]
    done("train", "flowers.csv", *words, "--save", "net.safetensors")
    rows = [line.split(",") for line in FLOWERS]
    # Other columns, in another order, of which some are no numbers.
    lines = [f"{'name' if i == 0 else f'n{i}'},{b},{c},{a}" for i, (a, b, c) in enumerate(rows)]
    (folder / "other.csv").write_text("\n".join(lines) + "\n")
    done("predict", "net.safetensors", "other.csv", "--classes")
    assert capsys.readouterr().out.split() == [row[2] for row in rows[1:]]
    done("evaluate", "net.safetensors", "other.csv")
    assert "accuracy  1\n" in capsys.readouterr().out
    words += ["--ignore", "name", "--target", "species"]
    done("train", "other.csv", *words, "--save", "other.safetensors")
    done("predict", "other.safetensors", "flowers.csv", "--classes")
    assert capsys.readouterr().out.split() == [row[2] for row in rows[1:]]


def test_several_targets_and_classes_with_other_numbers(folder, capsys):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 2)).round(3)
    y = (x @ [[1.0, 0.5], [-2.0, 1.0]]).round(3)
    table = np.concatenate([x, y], axis=1)
    np.savetxt("two.csv", table, delimiter=",", header="a,b,u,v", comments="", fmt="%.3f")
    words = ["--optimizer", "sgd 0.1", "--epochs", 30, "--quiet", "--save", "net.safetensors"]
    own = ["--target", "u,v", "--layers", "dense 2 linear", "--no-standardize"]
    done("train", "two.csv", *own, *words)
    weights = nnx.to_numpy(nnx.load("net.safetensors").layers[0].W)
    np.testing.assert_allclose(weights, [[1.0, -2.0], [0.5, 1.0]], atol=1e-2)
    done("evaluate", "net.safetensors", "two.csv", "--metrics", "r2")
    r2 = dict(line.split() for line in capsys.readouterr().out.splitlines())["r2"]
    assert float(r2) > 0.999
    done("predict", "net.safetensors", "two.csv")
    assert len(capsys.readouterr().out.splitlines()[0].split(",")) == 2
    # Classes 3 and 5 of a column of whole numbers.
    labels = np.where(x[:, 0] > 0, 5, 3)
    lines = [f"{a},{b},{c}" for (a, b), c in zip(x.tolist(), labels.tolist())]
    (folder / "odd.csv").write_text("\n".join(lines) + "\n")
    done("train", "odd.csv", "--layers", "dense 2 softmax", *words)
    done("predict", "net.safetensors", "odd.csv", "--classes")
    assert (np.asarray(capsys.readouterr().out.split(), int) == labels).mean() > 0.9
    done("evaluate", "net.safetensors", "odd.csv")
    assert capsys.readouterr().out.startswith("loss")


def test_what_nnx_warns_of_is_a_line_in_the_words_of_the_shell(capsys):
    done("train", DIGITS, "--layers", "dense 10 relu", "--checkpoint", "run.safetensors")
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("nnx train: expected a loss of classes, because the targets are ")
    assert said[0].endswith("give the last of --layers softmax, and --loss crossentropy")


def test_images_go_to_layers_of_images(capsys):
    layers = "conv2d 4 3 relu, maxpool2d, flatten, dense 10 softmax"
    done("train", DIGITS, "--layers", layers, "--save", "net.safetensors", "--json", "-")
    assert json.loads(capsys.readouterr().out)["network"].startswith("SequentialNet((1, 8, 8)")
    done("evaluate", "net.safetensors", DIGITS)


def test_numbers_that_become_infinite_end_with_status_1(capsys):
    words = ["train", DIGITS, "--layers", "dense 10 linear, dense 10 linear", "--quiet"]
    done(*words, "--optimizer", "sgd 1e30", "--epochs", 3, status=1)
    warned, ended = capsys.readouterr().err.splitlines()
    assert warned.startswith("nnx train: expected a loss of classes")
    assert ended.startswith("nnx train: the loss is ")


@pytest.mark.parametrize("command", ["train", "evaluate", "predict", "show"])
def test_the_help_has_examples_and_the_examples_parse(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"nnx {command} " in capsys.readouterr().out.partition("examples:")[2]


def test_the_command_pipes(folder):
    words = [sys.executable, "-m", "nnx.commands.cli"]
    env = {k: v for k, v in os.environ.items() if k not in ("NNX_BACKEND", "NNX_DTYPE")}
    train = [*words, "train", DIGITS, "--layers", TWO, "--save", "d.safetensors"]
    found = subprocess.run(train, capture_output=True, text=True, env=env, cwd=folder)
    assert (found.returncode, found.stderr) == (0, "")
    first, second, *_ = found.stdout.splitlines()
    assert first.startswith("epoch 1/1")
    assert second.startswith("SequentialNet((64,), [DenseLayer(64, 16), ")
    reader = "import sys; print(sys.stdin.readline().count(','))"
    predict = subprocess.Popen(
        [*words, "predict", "d.safetensors", DIGITS],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, cwd=folder,
    )  # fmt: skip
    head = subprocess.run(
        [sys.executable, "-c", reader], stdin=predict.stdout, capture_output=True, text=True
    )
    predict.stdout.close()
    assert head.stdout == "9\n"
    assert predict.stderr.read() == b""
    predict.stderr.close()
    assert predict.wait() == 0
    wrong = subprocess.run([*words, "show", "no"], capture_output=True, text=True, env=env)
    assert wrong.returncode == 2
    assert wrong.stderr.count("\n") == 1


def test_debug_shows_the_traceback():
    with pytest.raises(ValueError, match="did you mean dense"):
        main(["train", DIGITS, "--layers", "dens 3", "--debug"])


@pytest.mark.skipif(not shell.can_export(), reason="nnx.onnx is not there")
def test_export_writes_an_onnx_file(folder):
    pytest.importorskip("onnx")
    done("train", DIGITS, "--layers", TWO, "--save", "d.safetensors", "--quiet")
    done("export", "d.safetensors", "d.onnx")
    assert (folder / "d.onnx").stat().st_size > 1000
