"""Teach a recurrent network long addition, as on paper: digit by digit, with a carry.

python examples/sequence.py
python examples/sequence.py --backend jax --cell lstm --digits 12

In every time step the network reads one digit of each number, the least significant first, and
gives a digit of the sum. Nothing tells it about the carry: it has to learn to keep it in its state.
The test asks for sums that it has not seen, and for sums of numbers twice as long.
"""

import argparse

import numpy as np

import nnx

CELLS = {"rnn": nnx.RNNLayer, "lstm": nnx.LSTMLayer, "gru": nnx.GRULayer}


def arguments():
    parser = argparse.ArgumentParser(description="Teach a recurrent network long addition.")
    parser.add_argument("--backend", help="numpy (default), cupy, cupy:1, torch, jax, strict")
    parser.add_argument("--dtype", choices=["float32", "float64"])
    parser.add_argument("--cell", choices=CELLS, default="gru")
    parser.add_argument("--hidden", type=int, default=32, help="size of the state")
    parser.add_argument("--digits", type=int, default=8, help="length of the numbers in training")
    parser.add_argument("--samples", type=int, default=10000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--eta", type=float, default=0.01, help="learning rate of the first step")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def additions(samples, digits, rng):
    """Draw sums: x (samples, digits + 1, 20), one-hot digits of a and b; y, the digits of a + b.

    Digits are in the order in which one adds on paper: the last digit of a number comes first.
    """
    pairs = rng.integers(0, 10, (samples, digits + 1, 2))
    pairs[:, digits] = 0  # the place of the last carry
    carry = np.zeros(samples, dtype=int)
    y = np.empty((samples, digits + 1), dtype=int)
    for t in range(digits + 1):
        total = pairs[:, t].sum(axis=1) + carry
        y[:, t], carry = total % 10, total // 10
    return one_hot(pairs).reshape(samples, digits + 1, 20), y


def one_hot(digits):
    return np.eye(10)[digits]


def build(cell, digits, hidden, eta):
    """Build a recurrent layer, and a layer with an output for each digit at every time step."""
    optim = nnx.Adam(eta)
    layers = [
        CELLS[cell](20, hidden, optim=optim, return_sequences=True),
        nnx.DenseLayer(hidden, 10, nnx.SoftMax(), optim),
    ]
    return nnx.SequentialNet((digits + 1, 20), layers, nnx.CrossEntropy())


def longer(net, digits):
    """Return a network of the same layers for numbers of another length."""
    return nnx.SequentialNet((digits + 1, 20), net.layers, net.cost)


def whole_sums(net, x, y):
    """Return the digits that the network gives, and which of its sums are right in all digits."""
    answers = nnx.to_numpy(net.predict(x)).argmax(axis=-1)
    return answers, (answers == y).all(axis=1)


def as_number(digits):
    return int("".join(map(str, digits[::-1])))


def show(x, y, answers):
    width = y.shape[1]
    for pair, right, answer in zip(x.reshape(len(x), width, 2, 10), y, answers, strict=True):
        a, b = (as_number(pair[:, k].argmax(axis=-1)) for k in range(2))
        said, correct = as_number(answer), as_number(right)
        verdict = "right" if said == correct else f"wrong, it is {correct}"
        print(f"{a:>{width}} + {b:>{width}} = {said:>{width}}  {verdict}")


def main():
    args = arguments()
    backend = nnx.set_backend(args.backend, dtype=args.dtype)
    nnx.seed(args.seed)
    where = f"{backend.name} {backend.version}, {backend.device_name()}, {backend.dtype_name}"
    print(f"backend {where}")

    rng = np.random.default_rng(args.seed)
    x, y = additions(args.samples, args.digits, rng)
    x_new, y_new = additions(1000, args.digits, rng)
    steps = args.epochs * -(-args.samples // args.batch_size)
    net = build(args.cell, args.digits, args.hidden, nnx.CosineSchedule(args.eta, steps))
    print(f"training on {args.samples} sums of numbers of {args.digits} digits")
    net.train(x, y, args.batch_size, args.epochs, validation=(x_new, y_new))

    answers, right = whole_sums(net, x_new, y_new)
    show(x_new[:5], y_new[:5], answers[:5])
    print(f"right sums of {len(right)} new ones: {100 * right.mean():.1f} %")
    x_long, y_long = additions(1000, 2 * args.digits, rng)
    answers, right = whole_sums(longer(net, 2 * args.digits), x_long, y_long)
    show(x_long[:1], y_long[:1], answers[:1])
    print(f"right sums of numbers of {2 * args.digits} digits: {100 * right.mean():.1f} %")


if __name__ == "__main__":
    main()
