"""Layers, by concept: one module each."""

from nnx.layers.base import AffineLayer, Layer, Parameter, ShapeError
from nnx.layers.dense import DenseLayer
from nnx.layers.noise import DropoutLayer, GaussianNoiseLayer
from nnx.layers.normalization import BatchNormLayer, GroupNormLayer, LayerNormLayer

__all__ = [
    "AffineLayer",
    "BatchNormLayer",
    "DenseLayer",
    "DropoutLayer",
    "GaussianNoiseLayer",
    "GroupNormLayer",
    "Layer",
    "LayerNormLayer",
    "Parameter",
    "ShapeError",
]
