"""NetworkClassifier and NetworkRegressor beside scikit-learn's perceptrons, with the same budget.

python examples/estimators.py
python examples/estimators.py --sets digits friedman --threads 1 --backend torch

Both get the same hidden layer, optimizer (Adam), batches, number of epochs and float32 data, and
neither stops early. The score is the accuracy or R2 on samples that training has not seen.
"""

import argparse
import time
import warnings

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_diabetes, make_friedman1
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import scale
from threadpoolctl import threadpool_limits

import nnx
from nnx.estimators import NetworkClassifier, NetworkRegressor

SETS = {  # samples per step, epochs, and the data
    "digits": (32, 30, lambda: nnx.datasets.load("digits")),
    "mnist": (128, 10, lambda: nnx.datasets.load("mnist")),
    "diabetes": (32, 60, lambda: numbers(*load_diabetes(return_X_y=True))),
    "friedman": (64, 60, lambda: numbers(*make_friedman1(5000, noise=1.0, random_state=0))),
}


def arguments():
    parser = argparse.ArgumentParser(description="Compare estimators with those of scikit-learn.")
    parser.add_argument("--sets", nargs="*", choices=[*SETS], default=[*SETS])
    parser.add_argument("--hidden", type=int, nargs="*", default=[100], help="hidden units")
    parser.add_argument("--epochs", type=int, help="instead of those of each set")
    parser.add_argument("--batch-size", type=int, help="instead of that of each set")
    parser.add_argument("--limit", type=int, help="train only on this many samples, the first")
    parser.add_argument("--seeds", type=int, default=3, help="how many fits; medians are printed")
    parser.add_argument("--threads", type=int, help="threads of matrix products; all if not given")
    parser.add_argument("--backend", help="of nnx: numpy (default), cupy, cupy:1, torch, jax")
    return parser.parse_args()


def numbers(x, y):
    """Return data of a regression, scaled, with a quarter of it for the test."""
    x_train, x_test, y_train, y_test = train_test_split(scale(x), scale(y), random_state=0)
    return x_train, y_train, x_test, y_test


def models(y, budget, backend):
    """Return a function of the seed for each contender."""
    hidden, epochs, size = budget
    classes = y.dtype.kind in "iu"
    theirs, ours = (
        (MLPClassifier, NetworkClassifier) if classes else (MLPRegressor, NetworkRegressor)
    )
    same = {"batch_size": size, "learning_rate": 0.001}

    def perceptron(seed):
        return theirs(
            hidden_layer_sizes=hidden,
            max_iter=epochs,
            n_iter_no_change=epochs,
            alpha=0,
            batch_size=size,
            learning_rate_init=0.001,
            random_state=seed,
        )

    def network(seed):
        return ours(hidden, epochs=epochs, random_state=seed, backend=backend, **same)

    def dropout(seed):
        return network(seed).set_params(dropout=0.2)

    return {
        theirs.__name__: perceptron,
        ours.__name__: network,
        f"{ours.__name__}, dropout 0.2": dropout,
    }


def measured(make, data, seeds):
    """Return the median score, and the median seconds of a fit."""
    x_train, y_train, x_test, y_test = data
    scores, seconds = [], []
    for seed in range(seeds):
        start = time.perf_counter()
        model = make(seed).fit(x_train, y_train)
        seconds.append(time.perf_counter() - start)
        scores.append(model.score(x_test, y_test))
    return np.median(scores), np.median(seconds)


def main():
    args = arguments()
    warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is the budget
    table = Table("data", "samples", "estimator", "score", "seconds")
    with threadpool_limits(args.threads):
        for name in args.sets:
            size, epochs, load = SETS[name]
            try:
                x_train, y_train, x_test, y_test = load()
            except nnx.datasets.DatasetNotFoundError as error:
                print(f"{name} is left out: {error}")
                continue
            x_train, y_train = x_train[: args.limit].astype("float32"), y_train[: args.limit]
            size = min(args.batch_size or size, len(x_train))
            budget = tuple(args.hidden), args.epochs or epochs, size
            data = x_train, y_train, x_test.astype("float32"), y_test
            for title, make in models(y_train, budget, args.backend).items():
                score, seconds = measured(make, data, args.seeds)
                row = f"{score:.4f}", f"{seconds:.2f}"
                table.add_row(name, str(len(x_train)), title, *row)
            table.add_section()
    Console().print(table)


if __name__ == "__main__":
    main()
