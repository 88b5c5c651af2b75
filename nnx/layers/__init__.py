"""Layers, one module for each concept.

The exercise sheets of the course have L2Regularizer in their layers.py, so it is here too.
"""

from nnx.checks import ShapeError
from nnx.layers.activation import ActivationLayer
from nnx.layers.attention import MultiHeadAttentionLayer, PositionalEncodingLayer
from nnx.layers.augmentation import CutoutLayer, RandomFlipLayer, RandomShiftLayer
from nnx.layers.base import AffineLayer, Layer, Parameter
from nnx.layers.bidirectional import BidirectionalLayer
from nnx.layers.branches import ParallelLayer, ResidualLayer
from nnx.layers.container import Container, SequentialLayer
from nnx.layers.convolution import Conv1DLayer, Conv2DLayer, ConvolutionLayer
from nnx.layers.dense import DenseLayer
from nnx.layers.embedding import EmbeddingLayer
from nnx.layers.gated import GRULayer, LSTMLayer
from nnx.layers.masked import MaskedLayer
from nnx.layers.noise import DropoutLayer, GaussianNoiseLayer
from nnx.layers.normalization import BatchNormLayer, GroupNormLayer, LayerNormLayer
from nnx.layers.pooling import AvgPool2DLayer, GlobalAvgPoolLayer, MaxPool2DLayer, PoolingLayer
from nnx.layers.preparation import RescalingLayer, StandardizeLayer
from nnx.layers.recurrent import RecurrentLayer, RNNLayer
from nnx.layers.shape import (
    FlattenLayer,
    PermuteLayer,
    ReshapeLayer,
    UpSampling2DLayer,
    ZeroPadding2DLayer,
)
from nnx.layers.transposed import ConvTranspose2DLayer
from nnx.regularizers import L2Regularizer

__all__ = [
    "ActivationLayer",
    "AffineLayer",
    "AvgPool2DLayer",
    "BatchNormLayer",
    "BidirectionalLayer",
    "Container",
    "Conv1DLayer",
    "Conv2DLayer",
    "ConvTranspose2DLayer",
    "ConvolutionLayer",
    "CutoutLayer",
    "DenseLayer",
    "DropoutLayer",
    "EmbeddingLayer",
    "FlattenLayer",
    "GRULayer",
    "GaussianNoiseLayer",
    "GlobalAvgPoolLayer",
    "GroupNormLayer",
    "L2Regularizer",
    "LSTMLayer",
    "Layer",
    "LayerNormLayer",
    "MaskedLayer",
    "MaxPool2DLayer",
    "MultiHeadAttentionLayer",
    "ParallelLayer",
    "Parameter",
    "PermuteLayer",
    "PoolingLayer",
    "PositionalEncodingLayer",
    "RNNLayer",
    "RandomFlipLayer",
    "RandomShiftLayer",
    "RecurrentLayer",
    "RescalingLayer",
    "ReshapeLayer",
    "ResidualLayer",
    "SequentialLayer",
    "ShapeError",
    "StandardizeLayer",
    "UpSampling2DLayer",
    "ZeroPadding2DLayer",
]
