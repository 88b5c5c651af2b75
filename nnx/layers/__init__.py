"""Layers, by concept: one module each."""

from nnx.layers.attention import MultiHeadAttentionLayer, PositionalEncodingLayer
from nnx.layers.base import AffineLayer, Layer, Parameter, ShapeError
from nnx.layers.dense import DenseLayer
from nnx.layers.embedding import EmbeddingLayer
from nnx.layers.recurrent import GRULayer, LSTMLayer, RecurrentLayer, RNNLayer

__all__ = [
    "AffineLayer",
    "DenseLayer",
    "EmbeddingLayer",
    "GRULayer",
    "LSTMLayer",
    "Layer",
    "MultiHeadAttentionLayer",
    "Parameter",
    "PositionalEncodingLayer",
    "RNNLayer",
    "RecurrentLayer",
    "ShapeError",
]
