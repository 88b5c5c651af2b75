"""Layers, by concept: one module each."""

from nnx.layers.base import AffineLayer, Layer, Parameter, ShapeError
from nnx.layers.convolution import (
    Conv1DLayer,
    Conv2DLayer,
    ConvolutionLayer,
    ConvTranspose2DLayer,
)
from nnx.layers.dense import DenseLayer
from nnx.layers.pooling import AvgPool2DLayer, GlobalAvgPoolLayer, MaxPool2DLayer, PoolingLayer
from nnx.layers.shape import FlattenLayer, ReshapeLayer, UpSampling2DLayer, ZeroPadding2DLayer

__all__ = [
    "AffineLayer",
    "AvgPool2DLayer",
    "Conv1DLayer",
    "Conv2DLayer",
    "ConvTranspose2DLayer",
    "ConvolutionLayer",
    "DenseLayer",
    "FlattenLayer",
    "GlobalAvgPoolLayer",
    "Layer",
    "MaxPool2DLayer",
    "Parameter",
    "PoolingLayer",
    "ReshapeLayer",
    "ShapeError",
    "UpSampling2DLayer",
    "ZeroPadding2DLayer",
]
