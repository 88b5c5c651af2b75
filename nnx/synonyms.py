"""What other libraries call an argument or a method, for the errors of those that are not there."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ParamSpec, TypeVar

__all__ = ["CALLBACKS", "METHODS", "check_names", "named", "of_argument", "remedy"]

# Names of Keras, PyTorch and scikit-learn -> what to write. The first that begins with an argument
# that is there counts, or the first that is not of the form name=value. {} is the value.
ELSEWHERE: dict[str, tuple[str, ...]] = {
    "activation": ("afun=ReLU()", "DenseLayer(..., afun=ReLU())"),
    "alpha": ("rho={}", "l2={}", "kernel_regularizer=L2Regularizer({})"),
    "batch": ("batch_size={}",),
    "betas": ("beta1=0.9, beta2=0.999",),
    "bias": ("leave it out: a layer without a bias is Conv2DLayer(..., bias=False) alone",),
    "callback": ("callbacks=[...]",),
    "class_weight": ("class_weights={}",),
    "clipnorm": ("clip=ClipNorm({})",),
    "clipvalue": ("clip=ClipValue({})",),
    "device": ("backend={}", "nnx.set_backend({}) before"),
    "dilation_rate": ("dilation={}",),
    "dropout": ("DropoutLayer({}) as a layer of its own",),
    "epsilon": ("eps={}",),
    "eps": ("epsilon={}",),
    "filters": ("no={}",),
    "filepath": ("path={}",),
    "features": ("ni={}", "n={}", "input_shape={}"),
    "hidden_layer_sizes": ("hidden={}", "layers=[DenseLayer(...), ...]"),
    "hidden_size": ("no={}",),
    "input_dim": ("ni={}", "n={}", "input_shape={}"),
    "input_size": ("ni={}", "n={}", "input_shape={}"),
    "kernel_initializer": ("initializer=HeNormal()",),
    "lambda": ("lambd={}", "l2={}", "l1={}"),
    "learning_rate": (
        "eta={}", "optim=SGD(eta={})", "SequentialNet(..., optim=SGD(eta={})) before",
    ),
    "loss": ("cost=CrossEntropy()", "SequentialNet(..., cost=CrossEntropy()) before"),
    "max_iter": ("epochs={}",),
    "metrics": ("net.train(..., metrics={})",),
    "momentum": ("optim=SGD(momentum={})", "beta1={}"),
    "nesterov": ("optim=SGD(momentum=0.9, nesterov={})",),
    "normalized_shape": ("shape={}",),
    "num_features": ("n={}", "ni={}"),
    "num_groups": ("groups={}",),
    "num_heads": ("heads={}",),
    "optimizer": ("optim=Adam(0.001)", "SequentialNet(..., optim=Adam(0.001)) before"),
    "output_dim": ("no={}",),
    "p": ("rate={}",),
    "restore_best_weights": ("restore={}",),
    "save_best_only": ("best=\"validation_loss\"",),
    "seed": ("random_state={}", "nnx.seed({}) before"),
    "stddev": ("deviation={}", "std={}"),
    "strides": ("stride={}",),
    "validation_data": ("validation={}",),
    "validation_split": ("validation={}", "validation_fraction={}"),
    "verbose": ("progress=True or progress=False",),
    "vocab_size": ("ni={}",),
    "weight_decay": (
        "l2={}", "kernel_regularizer=L2Regularizer({})", "AdamW(weight_decay={})",
    ),
    "weights": ("sample_weights={}",),
}  # fmt: skip
# More names, and those above that stand for them.
ALIASES = {
    "act": "activation",
    "activation_function": "activation",
    "class_weights": "class_weight",
    "criterion": "loss",
    "embedding_dim": "output_dim",
    "embeddings_initializer": "kernel_initializer",
    "features_in": "input_dim",
    "in_channels": "input_dim",
    "in_features": "input_dim",
    "init": "kernel_initializer",
    "input_shape": "input_dim",
    "l2": "weight_decay",
    "learning_rate_init": "learning_rate",
    "loss_fn": "loss",
    "lr": "learning_rate",
    "n_epochs": "max_iter",
    "n_iter": "max_iter",
    "nb_epoch": "max_iter",
    "nonlinearity": "activation",
    "num_embeddings": "vocab_size",
    "num_epochs": "max_iter",
    "opt": "optimizer",
    "out_channels": "output_dim",
    "out_features": "output_dim",
    "output_size": "output_dim",
    "random_state": "seed",
    "reg": "weight_decay",
    "regularizer": "weight_decay",
    "sample_weight": "weights",
    "solver": "optimizer",
    "std": "stddev",
    "units": "output_dim",
    "use_bias": "bias",
    "val_data": "validation_data",
    "val_split": "validation_split",
}

# Methods of networks and layers of other libraries -> what to write.
METHODS = {
    "add": "SequentialNet(input_shape, [layer, ...])",
    "call": "net.predict(x)",
    "compile": "SequentialNet(..., cost=CrossEntropy(), optim=Adam(0.001))",
    "cuda": 'net.to("cupy")',
    "eval": "net.predict(x) or net.score(x, y), in which nothing is random",
    "fit": "net.train(x, y)",
    "get_weights": "net.parameters, a dict by path",
    "load_state_dict": "net.load_weights(path)",
    "loss": "net.cost",
    "optimizer": "net.optim",
    "partial_fit": "net.train(x, y), which goes on where it stood",
    "predict_proba": "net.predict(x)",
    "save_model": "net.save(path)",
    "set_weights": "net.load_weights(path)",
    "state_dict": "net.parameters, a dict by path",
    "train_on_batch": "net.step(x, y)",
    "trainable": "layer.frozen",
    "weights": "net.parameters, a dict by path",
    "zero_grad": "net.step(x, y), in which every gradient is new",
}
# Methods of callbacks of other libraries -> those of `Callback`.
CALLBACKS = {
    "on_batch_end": "after_batches, with interval = 1",
    "on_epoch_begin": "after_epoch, or begin for the first epoch",
    "on_epoch_end": "after_epoch",
    "on_epoch_start": "after_epoch, or begin for the first epoch",
    "on_fit_end": "end",
    "on_fit_start": "begin",
    "on_train_batch_end": "after_batches, with interval = 1",
    "on_train_begin": "begin",
    "on_train_end": "end",
    "on_train_epoch_end": "after_epoch",
    "on_train_start": "begin",
    "on_validation_end": "after_epoch",
    "on_validation_epoch_end": "after_epoch",
}

P = ParamSpec("P")
R = TypeVar("R")


def of_argument(name: str, known: Iterable[str]) -> str:
    """Return the argument among the known ones that stands for a name; empty if there is none."""
    there = list(known)
    for text in _texts(name):
        if (target := text.partition("=")[0]) in there:
            return target
    close = difflib.get_close_matches(name.lower(), there, n=1, cutoff=0.75)
    return close[0] if close else ""


def remedy(name: str, known: Iterable[str], value: Any = ...) -> str:
    """Return what to write for an argument that is not among the known ones.

    Args:
        name: the argument that came.
        known: those that are there.
        value: what it was given; shown if it is short.
    """
    there = list(known)
    shown = repr(value) if isinstance(value, bool | int | float | str) else "..."
    for text in _texts(name):
        target = text.partition("=")[0]
        if target in there or not target.isidentifier():
            return text.format(shown) if text.startswith("leave") else f"write {text.format(shown)}"
    if close := of_argument(name, there):
        return f"did you mean {close}={shown}?"
    return "leave it out"


def check_names(owner: str, given: Mapping[str, Any], known: Iterable[str]) -> None:
    """Refuse named arguments that are not among the known ones.

    Raises:
        TypeError: the first of them, and what to write.
    """
    there = [name for name in known if name != "self"]
    for name, value in given.items():
        if name not in there:
            these = f"one of the arguments {', '.join(there)}" if there else "no arguments"
            raise TypeError(f"{owner}: expected {these}, got {name}; {remedy(name, there, value)}")


def named(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function say, of a named argument that it does not have, what to write instead."""
    known = frozenset(inspect.signature(function).parameters)

    @functools.wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        if kwargs and not kwargs.keys() <= known:
            name, parameters = function.__name__, inspect.signature(function).parameters
            check_names(type(args[0]).__name__ if name == "__init__" else name, kwargs, parameters)
        return function(*args, **kwargs)

    return called


def _texts(name: str) -> tuple[str, ...]:
    key = name.lower()
    return ELSEWHERE.get(ALIASES.get(key, key), ())
