"""Layers, by concept: one module each."""

from nnx.layers.activation import ActivationLayer
from nnx.layers.attention import MultiHeadAttentionLayer, PositionalEncodingLayer
from nnx.layers.base import AffineLayer, Layer, Parameter, ShapeError
from nnx.layers.bidirectional import BidirectionalLayer
from nnx.layers.container import Container, ParallelLayer, ResidualLayer, SequentialLayer
from nnx.layers.dense import DenseLayer
from nnx.layers.embedding import EmbeddingLayer
from nnx.layers.noise import DropoutLayer, GaussianNoiseLayer
from nnx.layers.normalization import BatchNormLayer, GroupNormLayer, LayerNormLayer
from nnx.layers.recurrent import GRULayer, LSTMLayer, RecurrentLayer, RNNLayer

__all__ = [
    "ActivationLayer",
    "AffineLayer",
    "BatchNormLayer",
    "BidirectionalLayer",
    "Container",
    "DenseLayer",
    "DropoutLayer",
    "EmbeddingLayer",
    "GRULayer",
    "GaussianNoiseLayer",
    "GroupNormLayer",
    "LSTMLayer",
    "Layer",
    "LayerNormLayer",
    "MultiHeadAttentionLayer",
    "ParallelLayer",
    "Parameter",
    "PositionalEncodingLayer",
    "RNNLayer",
    "RecurrentLayer",
    "ResidualLayer",
    "SequentialLayer",
    "ShapeError",
]
