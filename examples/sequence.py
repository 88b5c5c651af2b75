"""Long addition by a recurrent network, the way it is done on paper: digit by digit, with a carry.

python examples/sequence.py
python examples/sequence.py --backend jax --cell lstm --digits 12

In every step of time the network reads one digit of each number, the least significant first, and
says a digit of the sum. Nobody tells it that there is a carry: it has to keep that in its state.
It is then asked for sums that it has not seen, and for sums of numbers twice as long as any of
its training.
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
    parser.add_argument("--digits", type=int, default=8, help="of the numbers to learn from")
    parser.add_argument("--samples", type=int, default=10000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--eta", type=float, default=0.01, help="learning rate, at first")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def additions(samples, digits, rng):
    """Sums to do: x (samples, digits + 1, 20), one-hot digits of a and b; y, digits of a + b.

    Digits are in the order of the work on paper, the last one of a number first.
    """
    pairs = rng.integers(0, 10, (samples, digits + 1, 2))
    pairs[:, digits] = 0  # there the last carry goes
    carry = np.zeros(samples, dtype=int)
    y = np.empty((samples, digits + 1), dtype=int)
    for t in range(digits + 1):
        total = pairs[:, t].sum(axis=1) + carry
        y[:, t], carry = total % 10, total // 10
    return one_hot(pairs).reshape(samples, digits + 1, 20), y


def one_hot(digits):
    return np.eye(10)[digits]


def build(cell, digits, hidden, eta):
    """A recurrent layer, and at every step of time one output for each possible digit."""
    optim = nnx.Adam(eta)
    layers = [
        CELLS[cell](20, hidden, optim=optim, return_sequences=True),
        nnx.DenseLayer(hidden, 10, nnx.SoftMax(), optim),
    ]
    return nnx.SequentialNet((digits + 1, 20), layers, nnx.CrossEntropy())


def longer(net, digits):
    """The same layers as a network for numbers of another length."""
    return nnx.SequentialNet((digits + 1, 20), net.layers, net.cost)


def whole_sums(net, x, y):
    """The digits that the network says, and which of its sums are right from end to end."""
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
    print(f"{args.samples} sums of numbers of {args.digits} digits to learn from")
    net.train(x, y, args.batch_size, args.epochs, validation=(x_new, y_new))

    answers, right = whole_sums(net, x_new, y_new)
    show(x_new[:5], y_new[:5], answers[:5])
    print(f"whole sums right, of {len(right)} new ones: {100 * right.mean():.1f} %")
    x_long, y_long = additions(1000, 2 * args.digits, rng)
    answers, right = whole_sums(longer(net, 2 * args.digits), x_long, y_long)
    show(x_long[:1], y_long[:1], answers[:1])
    print(f"and of numbers of {2 * args.digits} digits: {100 * right.mean():.1f} %")


if __name__ == "__main__":
    main()
