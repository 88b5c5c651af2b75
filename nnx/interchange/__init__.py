"""Weights and networks from and to PyTorch, Hugging Face and Keras.

No library need be installed: what is read and written are NumPy arrays and safetensors files.

    net = from_torch(nn.Sequential(nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 10)), 784)
    load_torch(net, module.state_dict())             a state dict, or the path of a safetensors file
    module.load_state_dict({k: torch.from_numpy(v) for k, v in to_torch_state_dict(net).items()})
    from_keras_weights(net, model.get_weights())
    model.set_weights(to_keras_weights(net))

| layer | its arrays | PyTorch | Keras |
|---|---|---|---|
| DenseLayer | W, b | Linear: weight, bias | Dense: kernel W^T, bias |
| Conv1DLayer, Conv2DLayer | W, b | Conv1d, Conv2d: weight, bias | kernel, channels last; bias |
| ConvTranspose2DLayer | W, b | ConvTranspose2d: weight, bias | kernel, channels last; bias |
| BatchNormLayer | gamma, beta, mean, variance | weight, bias, running_mean, running_var | \
gamma, beta, moving_mean, moving_variance |
| LayerNormLayer, GroupNormLayer | gamma, beta | weight, bias | gamma, beta |
| EmbeddingLayer | E | weight | embeddings |
| LSTMLayer | W_ih, W_hh, b_ih, b_hh | weight_ih, weight_hh, bias_ih, bias_hh | kernel W_ih^T, \
recurrent kernel W_hh^T, bias b_ih + b_hh |
| GRULayer | W_ih, W_hh, b_ih, b_hh | the same | the same, with the gates in the order z, r, n and \
both biases |
| RNNLayer | W_ih, W_hh, b | weight_ih, weight_hh, bias_ih + bias_hh | SimpleRNN: as LSTM |
| BidirectionalLayer | those of both | ..._l0 and ..._l0_reverse | forward, then backward |
| MultiHeadAttentionLayer | W_in, b_in, W_out, b_out | in_proj_weight, in_proj_bias, \
out_proj.weight, out_proj.bias | query, key, value and output: kernel, bias |

A layer's other arguments are not part of weights. Keras's BatchNormalization and
LayerNormalization have epsilon=1e-3 if nothing else is said, and the momentum there is 1 minus the
one here.
"""

from nnx.interchange.keras import from_keras_weights, to_keras_weights
from nnx.interchange.modules import from_torch
from nnx.interchange.state_dicts import load_torch, to_torch_state_dict
from nnx.synonyms import asked

__all__ = [
    "from_keras_weights",
    "from_torch",
    "load_torch",
    "to_keras_weights",
    "to_torch_state_dict",
]

__getattr__ = asked(__name__, __all__)
