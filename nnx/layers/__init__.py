"""Layers, by concept: one module each."""

from nnx.layers.activation import ActivationLayer
from nnx.layers.base import AffineLayer, Layer, Parameter, ShapeError
from nnx.layers.container import Container, ParallelLayer, ResidualLayer, SequentialLayer
from nnx.layers.dense import DenseLayer
from nnx.layers.noise import DropoutLayer, GaussianNoiseLayer
from nnx.layers.normalization import BatchNormLayer, GroupNormLayer, LayerNormLayer

__all__ = [
    "ActivationLayer",
    "AffineLayer",
    "BatchNormLayer",
    "Container",
    "DenseLayer",
    "DropoutLayer",
    "GaussianNoiseLayer",
    "GroupNormLayer",
    "Layer",
    "LayerNormLayer",
    "ParallelLayer",
    "Parameter",
    "ResidualLayer",
    "SequentialLayer",
    "ShapeError",
]
