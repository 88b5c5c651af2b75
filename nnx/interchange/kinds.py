"""Modules of PyTorch by the name of their class, and the layers and activations for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nnx.activations import (
    CELU,
    ELU,
    GELU,
    SELU,
    Activation,
    GELUTanh,
    HardShrink,
    HardSigmoid,
    HardSwish,
    HardTanh,
    LeakyReLU,
    Linear,
    Logistic,
    LogSigmoid,
    LogSoftmax,
    Mish,
    ReLU,
    ReLU6,
    SoftMax,
    SoftPlus,
    SoftShrink,
    SoftSign,
    Swish,
    TanH,
    TanhShrink,
    ThresholdedReLU,
)
from nnx.layers import (
    AvgPool2DLayer,
    BatchNormLayer,
    Conv1DLayer,
    Conv2DLayer,
    ConvTranspose2DLayer,
    DenseLayer,
    DropoutLayer,
    EmbeddingLayer,
    FlattenLayer,
    GroupNormLayer,
    GRULayer,
    Layer,
    LayerNormLayer,
    LSTMLayer,
    MaxPool2DLayer,
    MultiHeadAttentionLayer,
    ReshapeLayer,
    RNNLayer,
    UpSampling2DLayer,
    ZeroPadding2DLayer,
)

__all__ = ["ACTIVATIONS", "AFFINE", "GLOBAL", "LAYERS", "RECURRENT", "check_dim", "only", "told"]


def told(module: Any, name: str) -> str:
    """Return what a message calls a module."""
    return f"{type(module).__name__} at {name!r}" if name else type(module).__name__


def only(module: Any, name: str, **wanted: Any) -> None:
    """Check arguments that nnx knows one value of.

    Raises:
        ValueError: a module has another one.
    """
    for attribute, values in wanted.items():
        value = getattr(module, attribute, None)
        if value not in (values if isinstance(values, list) else [values]):
            first = values[0] if isinstance(values, list) else values
            raise ValueError(
                f"from_torch: expected {told(module, name)} with {attribute}={first!r}, got "
                f"{value!r}, which no layer here does; make the network by hand and use load_torch"
            )


def check_dim(module: Any, name: str, shape: Any) -> None:
    """Check that a softmax is along the last axis."""
    if module.dim in (-1, None if shape is None else len(shape)):
        return
    if module.dim is None and shape is not None and len(shape) == 1:
        return
    raise ValueError(
        f"from_torch: expected {told(module, name)} along the last axis, got dim={module.dim}"
        + ("; write dim=-1, or give an input_shape" if shape is None else "; write dim=-1")
    )


def _convolution(kind: Any, *more: str) -> Callable[[Any, str], Layer]:
    def make(module: Any, name: str) -> Layer:
        only(module, name, padding_mode="zeros")
        names = ("stride", "padding", "dilation", "groups", *more)
        arguments = {key: getattr(module, key) for key in names}
        no_bias = module.bias is None
        sizes = module.in_channels, module.out_channels, module.kernel_size
        return kind(*sizes, Linear(), bias=not no_bias, **arguments)

    return make


def _batch_norm(module: Any, name: str) -> Layer:
    only(module, name, track_running_stats=True)
    momentum, affine = module.momentum, module.affine
    if momentum is None:
        only(module, name, momentum=0.1)
    return BatchNormLayer(module.num_features, momentum, module.eps, affine)


def _max_pool(module: Any, name: str) -> Layer:
    only(module, name, ceil_mode=False, return_indices=False)
    return MaxPool2DLayer(module.kernel_size, module.stride, module.padding, module.dilation)


def _avg_pool(module: Any, name: str) -> Layer:
    only(module, name, ceil_mode=False, divisor_override=None)
    m = module
    return AvgPool2DLayer(m.kernel_size, m.stride, m.padding, m.count_include_pad)


def _attention(module: Any, name: str) -> Layer:
    only(module, name, _qkv_same_embed_dim=True, bias_k=None, add_zero_attn=False, dropout=0.0)
    return MultiHeadAttentionLayer(module.embed_dim, module.num_heads)


def _embedding(module: Any, name: str) -> Layer:
    only(module, name, max_norm=None)
    m = module
    return EmbeddingLayer(m.num_embeddings, m.embedding_dim, padding_index=m.padding_idx)


def _flatten(module: Any, name: str) -> Layer:
    only(module, name, start_dim=1, end_dim=-1)
    return FlattenLayer()


def _reshape(module: Any, name: str) -> Layer:
    only(module, name, dim=1)
    return ReshapeLayer(tuple(module.unflattened_size))


def _upsampling(module: Any, name: str) -> Layer:
    only(module, name, mode="nearest", size=None)
    factors = module.scale_factor
    factors = factors if isinstance(factors, tuple) else (factors, factors)
    if any(factor != int(factor) for factor in factors):
        only(module, name, scale_factor=2)
    return UpSampling2DLayer(tuple(map(int, factors)))


def _zero_padding(module: Any, name: str) -> Layer:
    left, right, top, bottom = module.padding
    return ZeroPadding2DLayer(((top, bottom), (left, right)))


AFFINE = ("Linear", "Conv1d", "Conv2d", "ConvTranspose2d")
GLOBAL: dict[str, Any] = {
    "AdaptiveAvgPool1d": [1, (1,)],
    "AdaptiveAvgPool2d": [1, (1, 1)],
    "AdaptiveAvgPool3d": [1, (1, 1, 1)],
}
RECURRENT: dict[str, Any] = {"LSTM": LSTMLayer, "GRU": GRULayer, "RNN": RNNLayer}
LAYERS: dict[str, Callable[[Any, str], Layer]] = {
    "Linear": lambda m, name: DenseLayer(m.in_features, m.out_features, Linear()),
    "Conv1d": _convolution(Conv1DLayer),
    "Conv2d": _convolution(Conv2DLayer),
    "ConvTranspose2d": _convolution(ConvTranspose2DLayer, "output_padding"),
    "BatchNorm1d": _batch_norm,
    "BatchNorm2d": _batch_norm,
    "BatchNorm3d": _batch_norm,
    "LayerNorm": lambda m, name: LayerNormLayer(m.normalized_shape, m.eps, m.elementwise_affine),
    "GroupNorm": lambda m, name: GroupNormLayer(m.num_groups, m.num_channels, m.eps, m.affine),
    "Embedding": _embedding,
    "MultiheadAttention": _attention,
    "MaxPool2d": _max_pool,
    "AvgPool2d": _avg_pool,
    "Flatten": _flatten,
    "Unflatten": _reshape,
    "Dropout": lambda m, name: DropoutLayer(m.p),
    "Upsample": _upsampling,
    "ZeroPad2d": _zero_padding,
}


def _plain(kind: Callable[..., Activation], *names: str) -> Callable[[Any, str], Activation]:
    """Return what makes an activation from the attributes of a module that have these names."""
    return lambda m, name: kind(*(getattr(m, n) for n in names))


def _threshold(module: Any, name: str) -> Activation:
    only(module, name, value=0)
    return ThresholdedReLU(module.threshold)


def _softplus(module: Any, name: str) -> Activation:
    only(module, name, threshold=20)  # from there on the bend is below the rounding of float32
    return SoftPlus(module.beta)


def _hard_tanh(module: Any, name: str) -> Activation:
    only(module, name, min_val=-1, max_val=1)
    return HardTanh()


ACTIVATIONS: dict[str, Callable[[Any, str], Activation]] = {
    "CELU": _plain(CELU, "alpha"),
    "ELU": _plain(ELU, "alpha"),
    "GELU": lambda m, name: GELUTanh() if m.approximate == "tanh" else GELU(),
    "Hardshrink": _plain(HardShrink, "lambd"),
    "Hardsigmoid": lambda m, name: HardSigmoid(1.0 / 6.0, 0.5),
    "Hardswish": _plain(HardSwish),
    "Hardtanh": _hard_tanh,
    "Identity": _plain(Linear),
    "LeakyReLU": _plain(LeakyReLU, "negative_slope"),
    "LogSigmoid": _plain(LogSigmoid),
    "LogSoftmax": _plain(LogSoftmax),
    "Mish": _plain(Mish),
    "ReLU": _plain(ReLU),
    "ReLU6": _plain(ReLU6),
    "SELU": _plain(SELU),
    "SiLU": _plain(Swish),
    "Sigmoid": _plain(Logistic),
    "Softmax": _plain(SoftMax),
    "Softplus": _softplus,
    "Softshrink": _plain(SoftShrink, "lambd"),
    "Softsign": _plain(SoftSign),
    "Tanh": _plain(TanH),
    "Tanhshrink": _plain(TanhShrink),
    "Threshold": _threshold,
}
