"""Wrong command lines, files and data: one line that says what to do, status 2, nothing written."""

import json
import re
import struct

import numpy as np
import pytest

import nnx
from nnx.commands.cli import main
from nnx.commands.parser import COMMANDS, OPTIONS

pytest.importorskip("sklearn", reason='pip install "nnx-array[digits]"')

TWO = "dense 8 relu, dense 10 softmax"
TRAIN = ["train", "digits", "--layers"]


def files():
    """The files that the mistakes are made with."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((20, 4)), rng.integers(0, 3, 20)
    np.save("x.npy", x)
    np.save("y.npy", y)
    np.save("short.npy", y[:7])
    np.save("images.npy", rng.integers(0, 255, (20, 8, 9), dtype=np.uint8))
    np.save("names.npy", np.asarray(["a", "b"])[y % 2])
    np.save("signs.npy", y % 2 * 2 - 1)
    np.save("text.npy", np.asarray(["a", "b"]))
    np.save("nan.npy", np.where(x > 2, np.nan, x) * np.nan)
    np.save("objects.npy", np.asarray([{}, 1], object), allow_pickle=True)
    np.savez("one.npz", x=x)
    np.savez("other.npz", inputs=x, outputs=y)
    np.savez("good.npz", x=x, y=y)
    np.save("infinite.npy", np.where(np.arange(20)[:, None] == 17, np.inf, x))
    np.save("series.npy", x.reshape(20, 2, 2))
    texts = {
        "broken.npy": "abc",
        "broken.npz": "abc",
        "photo.png": "abc",
        "empty.csv": "",
        "names.csv": "a,b\n",
        "words.csv": "a,species\n1,setosa\n2,virginica\n",
        "ragged.csv": "a,b\n1,2\n3\n",
        "single.csv": "a\n1\n2\n",
        "mixed.csv": "a,species\n1,setosa\n2,3\n",
        "input.csv": "sex,a,price\nmale,1,2\nfemale,2,3\n",
        "gap.csv": "a,b,price\n1,2,3\n1,,3\n",
        "nan.csv": "a,b,price\n1,2,3\nnan,4,3\n",
        "gap_label.csv": "a,species\n1,setosa\n2,\n3,virginica\n",
        "twice.csv": "a,a,c\n1,2,0\n",
        "index.csv": ",a,b\n0,1,2\n1,2,x\n",
        "other.csv": "d,e,f\n1,2,3\n",
        "iris.csv": "a,b,species\n1,2,setosa\n3,4,virginica\n5,6,setosa\n",
        "new.csv": "a,b,species\n1,2,tulip\n",
        "good.csv": "a,b,c\n1,2,0\n3,4,1\n5,6,2\n",
        "text.safetensors": "this is text and no network\n",
        "short.safetensors": "abc",
        "rate.toml": 'data = "digits"\nlearning_rate = 0.1\nlayers = "dense 10 softmax"\n',
        "list.toml": 'data = "good.csv"\ntarget = 3\nlayers = "dense 10 softmax"\n',
        "on.toml": 'data = "good.csv"\nlayers = "dense 3"\nstandardize = "yes"\n',
        "not.toml": "epochs = = 3\n",
        "key.toml": 'data = "digits"\nepoch = 3\nlayers = "dense 10 softmax"\n',
        "type.toml": 'data = "digits"\nepochs = "3"\nlayers = "dense 10 softmax"\n',
        "true.toml": 'data = "digits"\nepochs = true\nlayers = "dense 10 softmax"\n',
        "class.toml": 'data = "digits"\nlayers = [{no = 10}]\n',
        "number.toml": 'data = "digits"\nlayers = [10]\n',
        "nolayers.toml": 'data = "digits"\n',
        "nodata.toml": 'layers = "dense 10 softmax"\n',
        "code.toml": 'data = "digits"\nlayers = ["__import__(os)"]\n',
    }
    for name, text in texts.items():
        with open(name, "w") as file:
            file.write(text)
    with open("unknown.safetensors", "wb") as file:
        header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
        file.write(struct.pack("<Q", len(header)) + header + bytes(4))
    with open("latin.csv", "wb") as file:
        file.write(b"a,b\n\xff\xfe,2\n")
    with open("net.onnx", "wb") as file:
        file.write(b"\x08\x0a\x12\x03nnx" + bytes(90))
    made = [nnx.DenseLayer(2, 2, nnx.SoftMax())]
    about = {"inputs": ["a", "b"], "targets": ["species"], "labels": ["setosa", "virginica"]}
    iris = nnx.SequentialNet(2, made, nnx.CrossEntropy())
    nnx.saving.networks.save(iris, "iris.safetensors", {**about, "classes": True})
    nnx.saving.networks.save(iris, "broken.safetensors", {**about, "labels": ["one"]})
    nnx.SequentialNet(4, [nnx.DenseLayer(4, 2, nnx.Linear())]).save("price.safetensors")
    net = nnx.SequentialNet(4, [nnx.DenseLayer(4, 3, nnx.SoftMax())], nnx.CrossEntropy())
    net.save("net.safetensors")
    arrays = {"0.W": np.ones((2, 2), "float32")}
    nnx.saving.write_file("damaged.safetensors", arrays, {"kind": "network", "architecture": 3})
    nnx.saving.save(nnx.DenseLayer(4, 3), "layer.safetensors")
    nnx.seed(0)  # as the shell does
    other = nnx.Checkpoint("other.safetensors")
    net.train(x, y, callbacks=[other], progress=False)


# The command line, and words of the answer.
MISTAKES = [
    ([], "expected a command (backends, doctor, check, bench, train, evaluate, predict, show, "),
    (["trian"], "got 'trian'; did you mean nnx train?"),
    (["--verison"], "got '--verison'; did you mean nnx --version?"),
    (["bench", "jax"], "unrecognized arguments: jax; write --backends jax"),
    (["xyz"], "export, run), got 'xyz'; see nnx --help"),
    (["train"], "expected data, got none; name a data set"),
    (["train", "digits"], 'expected layers, got none; write --layers "dense 100 relu'),
    (["train", "--layers", TWO], "expected data, got none"),
    ([*TRAIN, TWO, "--epoch", "3"], "--epoch 3; did you mean --epochs?"),
    (
        [*TRAIN, TWO, "--epochs", "three"],
        "expected --epochs to be an integer, got 'three'; write a",
    ),
    ([*TRAIN, TWO, "--epochs"], "expected a value after --epochs, got none; write --epochs N"),
    ([*TRAIN, TWO, "--epochs", "-1"], "expected --epochs to be an integer >= 0, got -1"),
    ([*TRAIN, TWO, "--batch-size", "0"], "expected --batch-size to be a positive integer"),
    ([*TRAIN, TWO, "--seed", "-3"], "expected --seed to be an integer >= 0, got -3"),
    ([*TRAIN, TWO, "--validation", "2"], "fraction in (0, 1), got 2.0; write --validation 0.02"),
    ([*TRAIN, TWO, "--backend", "numpi"], "did you mean 'numpy'?"),
    ([*TRAIN, TWO, "--metrics", "recal"], "got 'recal'; write 'recall'"),
    ([*TRAIN, TWO, "--metrics", "f2"], "got 'f2'; choose one of these"),
    ([*TRAIN, TWO, "--backend", "cuda"], "cuda"),
    ([*TRAIN, TWO, "--dtype", "float16"], "; write --dtype float32 or write --dtype float64"),
    ([*TRAIN, TWO, "--target", "a"], "expected --target with a .csv or .tsv file"),
    ([*TRAIN, TWO, "--save", "no/net.safetensors"], "has no directory 'no'"),
    ([*TRAIN, TWO, "--save", "."], "is a directory"),
    ([*TRAIN, TWO, "--json", "no/r.json"], "expected --json in a directory that is there"),
    ([*TRAIN, TWO, "--checkpoint", "no/run"], "expected --checkpoint to be a file"),
    ([*TRAIN, TWO, "--checkpoint", "a", "--save", "a"], "to be two files, got 'a' twice"),
    ([*TRAIN, TWO, "--checkpoint", "text.safetensors"], "safetensors"),
    ([*TRAIN, TWO, "--checkpoint", "net.safetensors"], "net.safetensors"),
    ([*TRAIN, ""], "expected layers, got none"),
    ([*TRAIN, " "], "expected a word such as dense"),
    ([*TRAIN, ","], "at the beginning and after every comma"),
    ([*TRAIN, "dense 10 softmax,"], "expected a word after the last comma"),
    ([*TRAIN, "residual (dense 64"], "expected a ) for every ("),
    ([*TRAIN, "dense 10 leakyrelu(0.1"], "expected a ) for every ("),
    ([*TRAIN, "residual (" * 200], "expected at most 100 brackets, got 200"),
    ([*TRAIN, "dense 10)"], "expected a ( for every )"),
    ([*TRAIN, "dense no="], "expected a value after no="),
    ([*TRAIN, "= 3"], "expected a name before ="),
    ([*TRAIN, "10 dense"], "layer 1 (10): expected the name of a layer, got '10'"),
    ([*TRAIN, "dens 10"], "layer 1 (dens): expected the name of a layer, got 'dens'; did you"),
    ([*TRAIN, "linearlayer 10"], "did you mean linear?"),
    ([*TRAIN, "dense 10 sigmoid"], "an activation, got 'sigmoid'; did you mean logistic?"),
    ([*TRAIN, "dense"], "expected dense with the arguments no, afun=..."),
    ([*TRAIN, "dense relu"], "a positive integer, got 'relu'; write a number"),
    ([*TRAIN, "dense -3"], "expected no to be a positive integer, got -3"),
    ([*TRAIN, "dense 10 relu 3 4 5 6"], "initializer"),
    ([*TRAIN, "flatten 3"], "expected flatten with no arguments, got 3 more; leave it out"),
    ([*TRAIN, "dense 10 units=3"], "got 'units'; write no=3"),
    ([*TRAIN, "dense 10 no=3"], "expected dense once, got 'no'"),
    ([*TRAIN, "dropout 1.5"], "expected rate to be a number in [0, 1), got 1.5"),
    ([*TRAIN, "dense 8 relu, conv2d 4 3"], "1 (dense): expected input that dense takes"),
    ([*TRAIN, "conv2d 4 30, dense 10"], "layer 1 (conv2d)"),
    ([*TRAIN, "conv2d 4 3, dense 10 softmax"], "write flatten before it"),
    ([*TRAIN, "layernorm (3)"], "expected the name of"),
    ([*TRAIN, "dense(__import__('os').system('x'))"], "expected"),
    ([*TRAIN, "dense 9 softmax"], "9"),
    ([*TRAIN, TWO, "--optimizer", "adm 0.1"], "expected the name of an optimizer, got 'adm'; did"),
    ([*TRAIN, TWO, "--optimizer", "adam -1"], "expected eta to be a number >= 0, got -1"),
    ([*TRAIN, TWO, "--optimizer", "adam 0.1, sgd"], "expected one optimizer, got 2; name one"),
    ([*TRAIN, TWO, "--optimizer", "adam cosine"], "expected cosine with the arguments"),
    ([*TRAIN, TWO, "--loss", "nll"], "expected the name of a loss, got 'nll'; did you mean cross"),
    ([*TRAIN, TWO, "--loss", "huber -1"], "expected delta to be a number > 0, got -1"),
    ([*TRAIN, "lstm 3, lstm 4, dense 10 softmax"], "expected input that lstm takes, got samples"),
    (["train", "digit", "--layers", TWO], "unknown dataset 'digit'"),
    (
        ["train", "photo.png", "--layers", TWO],
        "expected a data set (mnist, fashion-mnist, cifar-10, digits)",
    ),
    (
        ["train", "no.csv", "--layers", TWO],
        "expected a file at 'no.csv', found none; write one of",
    ),
    (["train", "x.npy", "--layers", TWO], "expected two .npy files"),
    (
        ["train", "x.npy", "no.npy", "--layers", TWO],
        "expected a file at 'no.npy', found none; write",
    ),
    (["train", "x.npy", "good.csv", "--layers", TWO], "expected two .npy files, got 'good.csv'"),
    (["train", "digits", "mnist", "--layers", TWO], "got 'digits mnist'; name one"),
    (["train", "x.npy", "short.npy", "--layers", TWO], "20"),
    (["train", "text.npy", "y.npy", "--layers", TWO], "expected an array of numbers in text.npy"),
    (["train", "nan.npy", "y.npy", "--layers", TWO], "nan"),
    (["train", "objects.npy", "y.npy", "--layers", TWO], "write it with numpy.save"),
    (["train", "broken.npy", "y.npy", "--layers", TWO], "write it with numpy.save"),
    (["train", "broken.npz", "--layers", TWO], "write it with numpy.savez"),
    (["train", "one.npz", "--layers", TWO], "(y is missing)"),
    (["train", "other.npz", "--layers", TWO], "got inputs, outputs"),
    (["train", "empty.csv", "--layers", TWO], "expected a line with names and lines of numbers"),
    (["train", "names.csv", "--layers", TWO], "got names alone; add samples"),
    (
        ["train", "words.csv", "--layers", TWO],
        "column 'species' (setosa, virginica), got 10; end",
    ),
    (["train", "ragged.csv", "--layers", TWO], "expected 2 columns in every line"),
    (["train", "single.csv", "--layers", TWO], "expected a column of targets beside the inputs"),
    (["train", "good.csv", "--target", "d", "--layers", TWO], "its columns are a, b, c"),
    (["train", "no.toml"], "expected a file at 'no.toml', found none; write 'not.toml'"),
    (["train", "not.toml"], "expected TOML in 'not.toml'"),
    (["train", "key.toml"], "got 'epoch'; did you mean epochs?"),
    (["train", "type.toml"], "expected epochs in 'type.toml' to be an integer, got '3'"),
    (["train", "true.toml"], "expected epochs in 'true.toml' to be an integer, got True"),
    (["train", "class.toml"], 'write class = "dense"'),
    (["train", "number.toml"], "expected layers to be text or a list, got 10"),
    (["train", "nolayers.toml"], "expected layers, got none"),
    (["train", "nodata.toml"], "expected data, got none"),
    (["train", "code.toml"], "expected the name of a layer, got '__import__'"),
    (["evaluate"], "the following arguments are required: FILE, DATA"),
    (["evaluate", "net.safetensors"], "the following arguments are required: DATA"),
    (["evaluate", "no.safetensors", "digits"], "no.safetensors"),
    (["evaluate", "net.safetensors", "digits"], "64"),
    (["evaluate", "net.safetensors", "good.npz", "--metrics", "f2"], "f2"),
    (["evaluate", "text.safetensors", "digits"], "safetensors"),
    (["evaluate", "unknown.safetensors", "digits"], "expected a file with the description of a"),
    (["evaluate", "layer.safetensors", "digits"], "got DenseLayer; save a SequentialNet"),
    (["evaluate", "net.safetensors", "x.npy"], "expected two .npy files"),
    (["predict", "net.safetensors", "digits"], "64"),
    (["predict", "net.safetensors", "x.npy", "--output", "out.txt"], "end in .npy or .csv"),
    (["predict", "net.safetensors", "x.npy", "--output", "no/out.csv"], "has no directory 'no'"),
    (["predict", "net.safetensors", "good.csv", "--target", "d"], "its columns are a, b, c"),
    (["predict", "net.safetensors", "x.npy", "--backend", "cuda"], "cuda"),
    (["show"], "the following arguments are required: FILE"),
    (["show", "no.safetensors"], "no.safetensors"),
    (["show", "text.safetensors"], "text.safetensors"),
    (["show", "damaged.safetensors"], "got one that is damaged"),
    (["show", "."], "expected a file at '.', found a folder; write the path of a file in it"),
    ([*TRAIN, TWO, "--lr", "0.1"], '--lr 0.1; did you mean --optimizer "sgd 0.1"?'),
    ([*TRAIN, TWO, "--device", "cuda"], "did you mean --backend?"),
    ([*TRAIN, TWO, "--output", "a"], "did you mean --save?"),
    ([*TRAIN, TWO, "--ignore", "a"], "expected --ignore with a .csv or .tsv file, got 'digits'"),
    ([*TRAIN, TWO, "--optimizer", "adam lr=0.1"], "got 'lr'; write eta=0.1"),
    ([*TRAIN, TWO, "--optimizer", "sgd 0.1 momentun=0.9"], "got 'momentun'; write momentum=0.9"),
    ([*TRAIN, "dense 10 activation=softmax"], "got 'activation'; write afun=softmax"),
    ([*TRAIN, "dense 8 relu, dropout p=0.5"], "got 'p'; write rate=0.5"),
    ([*TRAIN, "conv2d 4 3 strides=2, flatten, dense 10 softmax"], "write stride=2"),
    ([*TRAIN, "dense 10", "--loss", "crossentropy"], "the last of --layers softmax, or, if the"),
    ([*TRAIN, "dense 1 logistic"], "for 10 classes, give the last of --layers 10 outputs and"),
    (["train", "rate.toml"], "got 'learning_rate'; did you mean optimizer \"sgd 0.1\"?"),
    (["train", "list.toml"], "expected target in 'list.toml' to be text or a list, got 3"),
    (["train", "iris.csv", "--layers", TWO], "(setosa, virginica), got 10; end --layers with"),
    (["train", "mixed.csv", "--layers", TWO], "'setosa' in line 2, column 'species'; write a n"),
    (["train", "gap_label.csv", "--layers", TWO], "got '' in line 3; fill it in, or delete"),
    (["train", "input.csv", "--layers", TWO], "'male' in line 2, column 'sex'; write numbers i"),
    (["train", "gap.csv", "--layers", TWO], "'' in line 3, column 'b'; fill it in, or delete"),
    (["train", "nan.csv", "--layers", TWO], "'nan' in line 3, column 'a'; fill it in, or del"),
    (["train", "twice.csv", "--layers", TWO], "columns of different names in 'twice.csv', got 'a'"),
    (["train", "latin.csv", "--layers", TWO], "save it as CSV in UTF-8"),
    (["train", "good.csv", "--target", "b,c", "--layers", TWO], "targets b, c, got 10; end --l"),
    (["train", "iris.csv", "--target", "b,species", "--layers", TWO], "text is for classes, which"),
    (["train", "good.csv", "--target", "a,d", "--layers", TWO], "got 'd'; its columns are a, b, c"),
    (["train", "good.csv", "--target", "a,b,c", "--layers", TWO], "expected a column of inputs"),
    (["train", "good.csv", "--ignore", "d", "--layers", TWO], "--ignore to be a column of 'good"),
    (["train", "good.csv", "--ignore", "c", "--target", "c", "--layers", TWO], "without a target"),
    (["evaluate", "iris.safetensors", "new.csv"], "expected one of setosa, virginica in column"),
    (["evaluate", "broken.safetensors", "iris.csv"], "the file is damaged: copy it or train again"),
    (["evaluate", "short.safetensors", "digits"], "got one of 3 bytes; name a file that"),
    (["evaluate", "net.onnx", "digits"], "got an ONNX file or other bytes of protocol buffers"),
    (["predict", "text.safetensors", "x.npy"], "expected a whole safetensors file, got text; name"),
    (["predict", "iris.safetensors", "other.csv"], "got d, e, f; 'a' is missing: rename or add it"),
    (["predict", "iris.safetensors", "x.npy", "--target", "a"], "expected --target with a .csv"),
    (
        ["predict", "price.safetensors", "x.npy", "--classes"],
        "leave --classes out",
    ),
    (["show", "net.safetensors", "--json", "no/x.json"], "expected --json in a directory"),
    ([*TRAIN, "rescaling 1/0, dense 10"], "expected scale to be a finite number, got '1/0'"),
    ([*TRAIN, "flip, dense 10"], "layer 1 (flip): expected the name of a layer, got 'flip'; did "),
    (["train", "good.csv", "--layers", "dens 3"], "layer 1 (dens): expected the name of a layer"),
    (
        ["train", "good.csv", "--layers", "rescaling 2, dense 3", "--standardize"],
        "leave one of the",
    ),
    ([*TRAIN, "residual (standardize), dense 10"], "got StandardizeLayer(64) inside of one; put"),
    (["train", "good.csv", "--layers", "dense", "3"], 'put a text between quotes: --layers "dense'),
    (["train", "good.csv", "--layers", "8 relu, 3"], "got '8'; did you mean dense 8?"),
    (["train", "good.csv", "--layers", "dense 8 relu dense 3"], "; write a comma before dense"),
    (["export", "net.safetensors", "net.txt"], "expected OUTPUT to end in .onnx, got 'net.txt'"),
    (["train", "images.npy", "y.npy", "--layers", "conv2d 4 3"], "write reshape 1x8x9 before it"),
    (
        ["train", "images.npy", "y.npy", "--layers", "dense 3 softmax"],
        "make one row of it: flatten,",
    ),
    (
        ["train", "x.npy", "names.npy", "--layers", "dense 3"],
        "write class indices: numpy.unique(y,",
    ),
    (["train", "x.npy", "signs.npy", "--layers", "dense 2 softmax"], "= -1; number the classes fr"),
    (["train", "x.npy", "signs.npy", "--layers", "dense 1 logistic"], "; --loss meansquarederror"),
    (["train", "input.csv", "--layers", TWO, "--ignore", "a"], "leave it out: --ignore a,sex"),
    ([*TRAIN, TWO, "--metrics", "acc"], "got 'acc'; write 'accuracy'"),
    ([*TRAIN, TWO, "--metrics", "rmse"], "got 'rmse'; write 'root_mean_squared_error'"),
    ([*TRAIN, TWO, "--normalize"], "--normalize; did you mean --standardize?"),
    (
        [
            "train",
            "x.npy",
            "y.npy",
            "--layers",
            "dense 3 softmax",
            "--checkpoint",
            "other.safetensors",
        ],
        "'DenseLayer' and 'StandardizeLayer'; train with the same, or name another file for --ch",
    ),
    (["train", "on.toml"], "expected standardize in 'on.toml' to be true or false, got 'yes'"),
    (["train", "infinite.npy", "y.npy", "--layers", "dense 3"], "got inf in sample 17"),
    (
        ["train", "infinite.npy", "y.npy", "--layers", "dense 3", "--validation", "0.3"],
        "got inf in sample 17",
    ),
    (
        ["train", "series.npy", "y.npy", "--layers", "lstm 3 mask_value=0", "--standardize"],
        "LSTMLayer: expected padding to be 0.0, its mask_value, got other values from "
        "StandardizeLayer(2, axis=-1), "
        "which does not keep it; standardize the data without its padding, or leave out mask_value",
    ),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mistakes")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        files()
    return folder


@pytest.mark.parametrize(("words", "said"), MISTAKES, ids=[" ".join(w)[:80] for w, _ in MISTAKES])
def test_a_mistake_is_one_line_that_says_what_to_do(words, said, folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    try:
        status = main(words)
    except SystemExit as ended:
        status = ended.code
    captured = capsys.readouterr()
    assert status == 2
    assert captured.out == ""
    assert captured.err.startswith("nnx")
    assert captured.err.count("\n") == 1
    assert captured.err.endswith("\n")
    assert said in captured.err
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def refused(words, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    return capsys.readouterr().err


def parsers(capsys):
    """The options of each command, as its own help prints them."""
    for command in ("doctor", "check", "bench", "train", "evaluate", "predict", "show", "run"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        usage = capsys.readouterr().out.partition("\n\n")[0]
        yield command, re.findall(r"--[a-z][\w-]+", usage)


def test_a_command_of_another_name_is_suggested(capsys):
    for names, command in COMMANDS.items():
        for name in names.split():
            assert f"got {name!r}; did you mean nnx {command}?" in refused([name], capsys)
    for command, _ in parsers(capsys):
        for name in (command[1:], command[:-1], command.upper(), f"--{command}"):
            assert f"did you mean nnx {command}?" in refused([name], capsys), name


def test_an_option_of_another_name_is_suggested(capsys):
    known = dict(parsers(capsys))
    for command, options in known.items():
        for option in options:
            wrong = option[:4] + option[5:]  # a letter is missing
            if len(option) > 6 and not any(one.startswith(wrong) for one in options):
                said = refused([command, "a", "b", wrong], capsys)
                assert f"{wrong}; did you mean {option}?" in said
    suggested = set()
    for names, text in OPTIONS.items():
        option, _, value = text.partition(" ")
        option = f"--{option.replace('_', '-')}"
        for command, options in known.items():
            for name in names.split() if option in options else ():
                if not any(one.startswith(f"--{name}") for one in options):
                    suggested.add(names)
                    answer = f"did you mean {f'{option} {value}'.strip()}?"
                    assert answer in refused([command, "a", "b", f"--{name}"], capsys)
    assert suggested == set(OPTIONS)


def test_there_are_many_of_them():
    assert len(MISTAKES) > 50
    assert len({tuple(words) for words, _ in MISTAKES}) == len(MISTAKES)


@pytest.mark.parametrize(
    "words",
    [
        ["train", "good.csv", "--layers", "dense 3 softmax", "--epochs", "1", "--save", "good.csv"],
        ["train", "good.csv", "--layers", "dense 3 softmax", "--json", "./good.csv"],
        ["predict", "net.safetensors", "good.csv", "--output", "good.csv"],
        ["evaluate", "net.safetensors", "good.csv", "--json", "net.safetensors"],
    ],
    ids=str,
)
def test_what_is_read_is_not_written_over(tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.csv").write_text("a,b,c\n1,2,0\n3,4,1\n5,6,2\n")
    nnx.SequentialNet(2, [nnx.DenseLayer(2, 3)]).save("net.safetensors")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert main(words) == 2
    assert "to be another file than the one that is read" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
