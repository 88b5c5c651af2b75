"""Layers, by concept: one module each."""

from nnx.layers.base import AffineLayer, Layer, Parameter, ShapeError
from nnx.layers.dense import DenseLayer

__all__ = ["AffineLayer", "DenseLayer", "Layer", "Parameter", "ShapeError"]
