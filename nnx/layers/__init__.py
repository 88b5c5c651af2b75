"""Layers, by concept: one module each."""

from nnx.layers.activation import ActivationLayer
from nnx.layers.base import AffineLayer, Layer, Parameter, ShapeError
from nnx.layers.container import Container, ParallelLayer, ResidualLayer, SequentialLayer
from nnx.layers.dense import DenseLayer

__all__ = [
    "ActivationLayer",
    "AffineLayer",
    "Container",
    "DenseLayer",
    "Layer",
    "ParallelLayer",
    "Parameter",
    "ResidualLayer",
    "SequentialLayer",
    "ShapeError",
]
