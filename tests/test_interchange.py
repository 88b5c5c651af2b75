"""Weights and modules from and to PyTorch: the same bits, and the same outputs as PyTorch's."""

import re

import numpy as np
import pytest

import nnx
from nnx.interchange import from_torch, kinds, load_torch, state_dicts, to_torch_state_dict

torch = pytest.importorskip("torch", reason='pip install "nnx-array[torch]"')
nn = torch.nn

# Module -> the shape of a sample.
MODULES = {
    "Linear": (lambda: nn.Linear(5, 4), (5,)),
    "Linear without bias": (lambda: nn.Linear(5, 4, bias=False), (5,)),
    "Conv1d": (lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2), (4, 9)),
    "Conv2d": (lambda: nn.Conv2d(3, 4, (3, 2), padding=(1, 0), dilation=(1, 2)), (3, 6, 7)),
    "Conv2d same": (lambda: nn.Conv2d(2, 4, 4, padding="same", bias=False, groups=2), (2, 6, 7)),
    "ConvTranspose2d": (
        lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2),
        (4, 5, 4),
    ),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(5, eps=1e-3, momentum=0.3), (5,)),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(3, affine=False), (3, 4, 4)),
    "BatchNorm3d": (lambda: nn.BatchNorm3d(3), (3, 2, 4, 4)),
    "LayerNorm": (lambda: nn.LayerNorm((4, 3), eps=1e-3), (2, 4, 3)),
    "LayerNorm without bias": (lambda: nn.LayerNorm(4, bias=False), (2, 4)),
    "GroupNorm": (lambda: nn.GroupNorm(2, 6), (6, 3, 3)),
    "Embedding": (lambda: nn.Embedding(7, 4), (5,)),
    "LSTM": (lambda: nn.LSTM(4, 3, batch_first=True), (6, 4)),
    "LSTM of two layers": (
        lambda: nn.LSTM(4, 3, 2, batch_first=True, bidirectional=True, dropout=0.2),
        (6, 4),
    ),
    "GRU": (lambda: nn.GRU(4, 3, batch_first=True), (6, 4)),
    "GRU in both directions": (lambda: nn.GRU(4, 3, batch_first=True, bidirectional=True), (6, 4)),
    "GRU without bias": (lambda: nn.GRU(4, 3, bias=False, batch_first=True), (6, 4)),
    "RNN": (lambda: nn.RNN(4, 3, batch_first=True), (6, 4)),
    "RNN with ReLU": (lambda: nn.RNN(4, 3, nonlinearity="relu", batch_first=True), (6, 4)),
    "MultiheadAttention": (lambda: nn.MultiheadAttention(6, 2, batch_first=True), (5, 6)),
    "MaxPool2d": (lambda: nn.MaxPool2d(3, 2, padding=1, dilation=1), (2, 7, 6)),
    "AvgPool2d": (lambda: nn.AvgPool2d((2, 3), padding=1, count_include_pad=False), (2, 7, 6)),
    "Flatten": (lambda: nn.Flatten(), (2, 3, 4)),
    "Unflatten": (lambda: nn.Unflatten(1, (2, 3)), (6,)),
    "Dropout": (lambda: nn.Dropout(0.25), (6,)),
    "Upsample": (lambda: nn.Upsample(scale_factor=2), (2, 3, 4)),
    "ZeroPad2d": (lambda: nn.ZeroPad2d((1, 2, 3, 4)), (2, 3, 4)),
}
ACTIVATIONS = {
    "CELU": lambda: nn.CELU(0.7),
    "ELU": lambda: nn.ELU(0.7),
    "GELU": lambda: nn.GELU(),
    "GELU, tanh": lambda: nn.GELU("tanh"),
    "Hardshrink": lambda: nn.Hardshrink(0.3),
    "Hardsigmoid": lambda: nn.Hardsigmoid(),
    "Hardswish": lambda: nn.Hardswish(),
    "Hardtanh": lambda: nn.Hardtanh(),
    "Identity": lambda: nn.Identity(),
    "LeakyReLU": lambda: nn.LeakyReLU(0.2),
    "LogSigmoid": lambda: nn.LogSigmoid(),
    "LogSoftmax": lambda: nn.LogSoftmax(dim=-1),
    "Mish": lambda: nn.Mish(),
    "ReLU": lambda: nn.ReLU(),
    "ReLU6": lambda: nn.ReLU6(),
    "SELU": lambda: nn.SELU(),
    "SiLU": lambda: nn.SiLU(),
    "Sigmoid": lambda: nn.Sigmoid(),
    "Softmax": lambda: nn.Softmax(dim=-1),
    "Softplus": lambda: nn.Softplus(2),
    "Softshrink": lambda: nn.Softshrink(0.3),
    "Softsign": lambda: nn.Softsign(),
    "Tanh": lambda: nn.Tanh(),
    "Tanhshrink": lambda: nn.Tanhshrink(),
    "Threshold": lambda: nn.Threshold(0.3, 0),
}
WITH_WEIGHTS = [name for name, (make, _) in MODULES.items() if make().state_dict()]


def first_word(name):
    return re.split(r"\W", name)[0]


def test_the_tables_of_these_tests_are_complete():
    assert {first_word(name) for name in MODULES} == {*kinds.LAYERS, *kinds.RECURRENT}
    assert {first_word(name) for name in ACTIVATIONS} == set(kinds.ACTIVATIONS)
    made = {type(leaf) for n in WITH_WEIGHTS for leaf in leaves(from_torch(MODULES[n][0]()))}
    assert set(state_dicts.NAMES) <= made


def test_the_table_of_the_page_has_a_row_with_the_names_of_every_layer():
    rows = [line for line in nnx.interchange.__doc__.splitlines() if line.startswith("| ")]
    for kind, names in state_dicts.NAMES.items():
        (row,) = (row for row in rows if re.search(rf"\b{kind.__name__}\b", row.split("|")[1]))
        assert all(name in row.split("|")[2] for name in names)
        others = row.split("|")[3]
        assert others.strip() == "the same" or all(
            name in others for short in names.values() for name in short.split("+")
        )


def leaves(layers):
    return [leaf for _, leaf in nnx.interchange.arrays.leaves(nnx.SequentialLayer(layers))]


def drawn(make):
    """A module with weights that are all different, as it is used after training."""
    module = make if isinstance(make, nn.Module) else make()
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                low = 0.5 if name.endswith("running_var") else -0.5
                value.uniform_(low, low + 1.0)
    return module.eval()


def inputs(name, shape, samples=4):
    rng = np.random.default_rng(0)
    if first_word(name) == "Embedding":
        return rng.integers(0, 7, (samples, *shape))
    return rng.standard_normal((samples, *shape)).astype("float32")


def output_of(module, x):
    x = torch.from_numpy(x)
    with torch.no_grad():
        kind = type(module).__name__
        y = module(x, x, x) if kind == "MultiheadAttention" else module(x)
    return (y[0] if isinstance(y, tuple) else y).numpy()


def close(found, expected):
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def same_weights(found, module):
    """The same names, and the same bits, the two biases of an RNN taken together."""
    expected = {k: v.numpy() for k, v in module.state_dict().items() if v.is_floating_point()}
    for key in [key for key in found if re.search(r"bias_[ih]h_l|bias$", key)]:
        expected.setdefault(key, np.zeros_like(found[key]))  # a bias that is switched off
    if any(type(m).__name__ == "RNN" for m in module.modules()):
        for weights in (found, expected):
            for key in [key for key in weights if "bias_ih" in key]:
                weights[key] = weights[key] + weights.pop(key.replace("_ih", "_hh"))
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key].dtype == value.dtype
        np.testing.assert_array_equal(found[key], value, key)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("name", MODULES)
def test_a_module_becomes_layers_with_the_same_outputs(name, backend):
    if backend.name == "jax" and name not in ("Linear", "BatchNorm2d", "LSTM of two layers"):
        pytest.skip("each kind of layer once, where nothing compiles; here those with more arrays")
    make, shape = MODULES[name]
    module, x = drawn(make), inputs(name, shape)
    before = nnx.randomness.state()
    net = from_torch(module, shape)
    assert nnx.randomness.state() == before
    close(nnx.to_numpy(net.predict(x)), output_of(module, x))


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("alone", [True, False])
def test_an_activation_is_a_layer_or_that_of_the_layer_before(name, alone):
    modules = [ACTIVATIONS[name]()] if alone else [nn.Linear(5, 8), ACTIVATIONS[name]()]
    module = drawn(nn.Sequential(*modules))
    x = 3 * inputs(name, (8 if alone else 5,), 50)
    net = from_torch(module, x.shape[1])
    assert len(net.layers) == (2 if name == "Identity" and not alone else 1)
    close(nnx.to_numpy(net.predict(x)), output_of(module, x))
    same_weights(to_torch_state_dict(net), module)


def alone(make):
    return nn.Sequential(make())


def nested(make):
    return nn.Sequential(nn.Sequential(nn.Identity(), make()), nn.Identity(), nn.Sequential(make()))


def shared(make):
    module = make()
    return nn.Sequential(module, nn.Sequential(module))


@pytest.mark.parametrize("placed", [alone, nested, shared])
@pytest.mark.parametrize("name", [n for n in WITH_WEIGHTS if "two layers" not in n])
def test_weights_come_and_go_without_a_change_of_bits(name, placed, tmp_path, backend_spec):
    with nnx.use_backend(backend_spec):
        there_and_back(drawn(placed(MODULES[name][0])), placed, tmp_path / "weights.safetensors")


def there_and_back(module, placed, file):
    from safetensors.numpy import save_file

    layers = nnx.SequentialLayer(from_torch(module))
    weights = to_torch_state_dict(layers)
    same_weights(dict(weights), module)
    with torch.no_grad():
        for value in module.parameters():
            value.zero_()
    module.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()}, strict=False)
    same_weights(dict(weights), module)

    fresh = layers.clone()
    assert not load_torch(fresh, {k: torch.from_numpy(v) for k, v in weights.items()})
    same_weights(to_torch_state_dict(fresh), module)
    save_file({key: value.copy() for key, value in weights.items()}, file)
    fresh = layers.clone()
    assert not load_torch(fresh, file)
    same_weights(to_torch_state_dict(fresh), module)
    assert len({id(leaf) for leaf in leaves(fresh.layers) if leaf.parameters}) == len(
        {id(leaf) for leaf in leaves(layers.layers) if leaf.parameters}
    )
    if placed is shared:
        assert fresh.layers[0] is fresh.layers[1].layers[0]


def test_load_state_dict_takes_exactly_the_names():
    module = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Dropout(), nn.Sequential(nn.Linear(3, 4), nn.Tanh()), nn.Linear(4, 2), nn.Softmax(-1),
    )  # fmt: skip
    layers = [
        nnx.Conv2DLayer(1, 3, 3, nnx.Linear()), nnx.BatchNormLayer(3),
        nnx.ActivationLayer(nnx.ReLU()), nnx.GlobalAvgPoolLayer(), nnx.DropoutLayer(),
        [nnx.DenseLayer(3, 4, nnx.TanH())], nnx.DenseLayer(4, 2, nnx.SoftMax()),
    ]  # fmt: skip
    net = nnx.SequentialNet((1, 6, 6), layers, nnx.CrossEntropy())
    weights = {k: torch.from_numpy(v) for k, v in to_torch_state_dict(net).items()}
    module.load_state_dict(weights, strict=True)
    x = inputs("", (1, 6, 6))
    close(output_of(module.eval(), x), nnx.to_numpy(net.predict(x)))
    net = from_torch(module, (1, 6, 6), nnx.CrossEntropy())
    kinds = [type(layer).__name__ for layer in net.layers]
    assert kinds == ["Conv2DLayer", "BatchNormLayer", "ActivationLayer", "GlobalAvgPoolLayer",
                     "DropoutLayer", "SequentialLayer", "DenseLayer"]  # fmt: skip
    close(nnx.to_numpy(net.predict(x)), output_of(module, x))
    net.train(x, np.asarray([0, 1, 0, 1]), 2, 1, progress=False)


class Branched(nn.Module):
    """A module of a user's own."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 3))
        self.encoder = nn.Linear(8, 5)
        self.classifier = nn.Linear(5, 3)

    def forward(self, x):
        h = torch.tanh(self.encoder(torch.flatten(self.features(x), 1)))
        return self.classifier(h)


def branched():
    conv = [nnx.Conv2DLayer(1, 2, 3), nnx.Conv2DLayer(2, 2, 3, nnx.Linear())]
    dense = [nnx.DenseLayer(8, 5, nnx.TanH()), nnx.DenseLayer(5, 3, nnx.Linear())]
    return nnx.SequentialNet((1, 6, 6), [conv, nnx.FlattenLayer(), *dense])


MAPPING = {"features": "0", "encoder": "2", "classifier": "3"}


@pytest.mark.parametrize("mapping", [None, MAPPING, {"classifier": "3"}])
def test_a_module_with_names_by_order_and_by_mapping(mapping):
    module, x = drawn(Branched), inputs("", (1, 6, 6))
    net = branched()
    load_torch(net, module.state_dict(), mapping)
    close(nnx.to_numpy(net.predict(x)), output_of(module, x))
    same_weights(to_torch_state_dict(net, MAPPING), module)


def test_a_file_with_names_needs_the_mapping(tmp_path):
    from safetensors.torch import load_file, save_file

    module, x, file = drawn(Branched), inputs("", (1, 6, 6)), tmp_path / "weights.safetensors"
    save_file(module.state_dict(), file)
    net = branched()
    before = to_torch_state_dict(net, MAPPING)
    for source in (file, load_file(file)):
        with pytest.raises(ValueError, match=r"expected names that tell the order.*mapping=\{"):
            load_torch(net, source)
    after = to_torch_state_dict(net, MAPPING)
    assert all((before[key] == after[key]).all() for key in before)
    load_torch(net, file, MAPPING)
    close(nnx.to_numpy(net.predict(x)), output_of(module, x))


def test_more_than_ten_layers_of_a_file_are_in_the_order_of_their_numbers(tmp_path):
    from safetensors.torch import save_file

    module = drawn(nn.Sequential(*[nn.Linear(3, 3) for _ in range(12)]))
    save_file(module.state_dict(), tmp_path / "weights.safetensors")
    net = nnx.SequentialLayer([nnx.DenseLayer(3, 3, nnx.Linear()) for _ in range(12)])
    load_torch(net, tmp_path / "weights.safetensors")
    same_weights(to_torch_state_dict(net), module)


def test_old_names_and_half_precision():
    net = nnx.SequentialLayer([nnx.LayerNormLayer(3)])
    gamma = torch.tensor([1.0, 2.5, -3.0]).bfloat16()
    load_torch(net, {"norm.gamma": gamma, "norm.beta": np.asarray([0.5, 1, 2], "float16")})
    np.testing.assert_array_equal(nnx.to_numpy(net.layers[0].gamma), [1.0, 2.5, -3.0])
    np.testing.assert_array_equal(nnx.to_numpy(net.layers[0].beta), [0.5, 1.0, 2.0])


def test_the_weights_of_a_shared_layer_may_be_there_once():
    layer = nnx.DenseLayer(2, 2)
    net = nnx.SequentialNet(2, [layer, [layer], nnx.DenseLayer(2, 1)])
    weights = {"0.weight": np.eye(2), "0.bias": np.ones(2), "4.weight": np.ones((1, 2))}
    load_torch(net, {**weights, "4.bias": np.zeros(1)})
    np.testing.assert_array_equal(nnx.to_numpy(net.predict(np.ones((1, 2)))), [[6.0]])


def test_what_fits_is_taken_if_not_strict():
    module = drawn(nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 10)))
    net = nnx.SequentialNet(5, [nnx.DenseLayer(5, 4), nnx.DenseLayer(4, 2)])
    found = load_torch(net, module.state_dict(), strict=False)
    assert found.shapes == {"1.W": ((2, 4), (10, 4)), "1.b": ((2,), (10,))}
    assert found[:2] == ((), ())
    np.testing.assert_array_equal(nnx.to_numpy(net.layers[0].W), module[0].weight.detach().numpy())


def two():
    return nnx.SequentialNet(3, [nnx.DenseLayer(3, 2), nnx.DenseLayer(2, 1)])


def state(**changes):
    good = {"0.weight": (2, 3), "0.bias": (2,), "2.weight": (1, 2), "2.bias": (1,)}
    arrays = {key: np.ones(shape, "float32") for key, shape in good.items()} | changes
    return {key: value for key, value in arrays.items() if value is not None}


ones = np.ones((1, 2), "float32")
SHARED = nnx.DenseLayer(2, 2)
WRONG = {
    "missing": (two, state(**{"2.bias": None}), {}, ["missing: 1.b", "give zeros for a bias"]),
    "left over": (two, state(**{"4.weight": ones}), {}, ["left over: 4.weight", "mapping="]),
    "shape": (two, state(**{"0.weight": ones}), {}, ["0.W (2, 3), given (1, 2)", "strict=False"]),
    "several": (
        two,
        state(**{"0.weight": ones, "2.bias": None, "7.bias": ones}),
        {},
        ["missing: 1.b", "left over: 7.bias", "0.W (2, 3), given (1, 2)"],
    ),
    "parametrized": (
        two,
        state(**{"0.weight": None, "0.weight_g": ones}),
        {},
        ["missing: 0.W", "left over: 0.weight_g"],
    ),
    "NaN": (two, state(**{"2.weight": ones * np.nan}), {}, ["1.W: expected finite numbers"]),
    "integers": (two, state(**{"2.weight": np.ones((1, 2), int)}), {}, ["floating-point", "2.we"]),
    "no array": (two, state(**{"2.weight": "abc"}), {}, ["2.weight: expected"]),
    "no dict": (two, [1, 2], {}, ["module.state_dict()"]),
    "no such module": (two, state(), {"mapping": {"head": "1"}}, ["'head'", "the modules are '0'"]),
    "no such path": (two, state(), {"mapping": {"0": "7"}}, ["'7'", "'0', '1'"]),
    "strict": (two, state(), {"strict": 1}, ["strict to be True or False"]),
    "too large": (
        two,
        state(**{"2.weight": np.full((1, 2), 1e300)}),
        {},
        ["that float32 can hold"],
    ),
}
WRONG["shared"] = (
    lambda: nnx.SequentialNet(2, [SHARED, SHARED]),
    {
        "0.weight": np.ones((2, 2)),
        "0.bias": np.ones(2),
        "1.weight": np.zeros((2, 2)),
        "1.bias": np.ones(2),
    },
    {},
    ["equal weights for the places of the shared layer 0"],
)


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_listed_and_changes_nothing(case):
    make, arrays, options, words = WRONG[case]
    net = make()
    before = {path: nnx.to_numpy(p).copy() for path, p in net.parameters.items()}
    with pytest.raises((ValueError, TypeError)) as raised:
        load_torch(net, arrays, **options)
    assert all(word in str(raised.value) for word in words), raised.value
    for path, p in net.parameters.items():
        np.testing.assert_array_equal(nnx.to_numpy(p), before[path])


REFUSED = {
    "PReLU": (lambda: nn.PReLU(), ["one of the modules", "got PReLU", "load_torch(net"]),
    "own": (Branched, ["got Branched"]),
    "inside": (lambda: nn.Sequential(nn.Sequential(nn.PReLU())), ["PReLU at '0.0'"]),
    "dim": (lambda: nn.Sequential(nn.Linear(3, 2), nn.Softmax(dim=1)), ["dim=1", "input_shape"]),
    "dim 0": (lambda: nn.Sequential(nn.Softmax(dim=0)), ["dim=0"]),
    "reflect": (lambda: nn.Conv2d(1, 1, 3, padding_mode="reflect"), ["padding_mode='zeros'"]),
    "ceil": (lambda: nn.MaxPool2d(2, ceil_mode=True), ["ceil_mode=False"]),
    "divisor": (lambda: nn.AvgPool2d(2, divisor_override=3), ["divisor_override=None"]),
    "momentum": (lambda: nn.BatchNorm1d(3, momentum=None), ["momentum=0.1"]),
    "statistics": (lambda: nn.BatchNorm1d(3, track_running_stats=False), ["track_running_stats"]),
    "projection": (lambda: nn.LSTM(4, 3, proj_size=2), ["proj_size=0"]),
    "kdim": (lambda: nn.MultiheadAttention(4, 2, kdim=3), ["_qkv_same_embed_dim=True"]),
    "bias_k": (lambda: nn.MultiheadAttention(4, 2, add_bias_kv=True), ["bias_k=None"]),
    "max_norm": (lambda: nn.Embedding(4, 2, max_norm=1.0), ["max_norm=None"]),
    "padding row": (
        lambda: drawn(nn.Embedding(4, 2, padding_idx=1)),
        ["expected zeros in row 1 of weight"],
    ),
    "flatten": (lambda: nn.Flatten(0), ["start_dim=1"]),
    "pool": (lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.ReLU()), ["nn.Flatten() after"]),
    "pool 2": (lambda: nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten()), ["output_size=1"]),
    "bilinear": (lambda: nn.Upsample(scale_factor=2, mode="bilinear"), ["mode='nearest'"]),
    "threshold": (lambda: nn.Threshold(1, 2), ["value=0"]),
    "hardtanh": (lambda: nn.Hardtanh(-2, 2), ["min_val=-1"]),
    "softplus": (lambda: nn.Softplus(threshold=2), ["threshold=20"]),
    "empty": (lambda: nn.Sequential(), ["an empty one"]),
    "parametrization": (
        lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))),
        ["ParametrizedLinear at '0'"],
    ),
    "older parametrization": (
        lambda: nn.Sequential(nn.utils.spectral_norm(nn.Linear(2, 2))),
        ["left over: 0.weight_orig, 0.weight_u", "missing: 0.W", "remove parametrizations"],
    ),
    "not a module": (lambda: 3, ["got int"]),
    "NaN": (lambda: not_finite(nn.Linear(2, 2)), ["0.W: expected finite numbers"]),
}


def not_finite(module):
    with torch.no_grad():
        module.weight[1, 0] = float("nan")
    return module


@pytest.mark.parametrize("case", REFUSED)
def test_a_module_without_a_layer_is_refused_by_name(case):
    make, words = REFUSED[case]
    module = make()
    before = nnx.randomness.state()
    with pytest.raises(ValueError, match="expected") as raised:
        from_torch(module)
    assert all(word in str(raised.value) for word in words), raised.value
    assert str(raised.value).startswith("from_torch: ")
    assert nnx.randomness.state() == before


def test_a_softmax_along_axis_1_is_that_of_vectors_and_of_nothing_else():
    module = drawn(nn.Sequential(nn.Linear(3, 2), nn.Softmax(dim=1)))
    x = inputs("", (3,))
    close(nnx.to_numpy(from_torch(module, 3).predict(x)), output_of(module, x))
    with pytest.raises(ValueError, match="along the last axis, got dim=1; write dim=-1"):
        from_torch(module, (7, 3))


@pytest.mark.parametrize(
    ("layers", "mapping", "words"),
    [
        ([nnx.ResidualLayer(nnx.DenseLayer(2, 2))], None, ["ResidualLayer at 0", "mapping={"]),
        ([nnx.PermuteLayer((2, 1))], None, ["PermuteLayer"]),
        ([nnx.LSTMLayer(2, 2, reverse=True)], None, ["reverse=True", "BidirectionalLayer"]),
        ([nnx.DenseLayer(2, 2), nnx.DenseLayer(2, 2)], {"a": "0"}, ["none for 1"]),
        ([nnx.DenseLayer(2, 2)], {"a": "5"}, ["'5'", "'0'"]),
    ],
)  # fmt: skip
def test_a_network_that_no_sequential_can_hold_needs_names(layers, mapping, words):
    with pytest.raises(ValueError, match=r"^to_torch_state_dict: expected") as raised:
        to_torch_state_dict(nnx.SequentialLayer(layers), mapping)
    assert all(word in str(raised.value) for word in words), raised.value


def test_names_for_what_no_sequential_holds():
    net = nnx.SequentialLayer([nnx.ResidualLayer([nnx.DenseLayer(2, 2), nnx.DenseLayer(2, 2)])])
    weights = to_torch_state_dict(net, {"block": "0.0"})
    assert list(weights) == ["block.0.weight", "block.0.bias", "block.2.weight", "block.2.bias"]
    other = net.clone()
    load_torch(other, weights, {"block": "0.0"})
    for path, p in net.parameters.items():
        np.testing.assert_array_equal(nnx.to_numpy(other.parameters[path]), nnx.to_numpy(p))


def test_training_goes_on_with_the_weights_of_a_module():
    net = two()
    x = np.eye(3, dtype="float32")
    net.train(x, x[:, :1], 3, 1, progress=False)
    plan = net.plan()
    load_torch(net, state())
    np.testing.assert_array_equal(nnx.to_numpy(net.predict(x)), np.full((3, 1), 5.0))
    plan.step(*map(net.backend.asarray, (x, x[:, :1])))
    assert not (nnx.to_numpy(net.layers[1].W) == 1).all()


@pytest.mark.parametrize("ending", ["pt", "pth", "bin", "ckpt"])
def test_a_file_of_torch_save_is_told_how_to_be_read(tmp_path, ending):
    path = tmp_path / f"w.{ending}"
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(nnx.FileError) as caught:
        nnx.interchange.load_torch(nnx.DenseLayer(2, 3), path)
    assert f'write load_torch(net, torch.load("{path}", weights_only=True))' in str(caught.value)
