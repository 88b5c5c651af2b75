"""The contenders of benchmark.py: nnx, and the same training written in other libraries.

Each is a class with `build`, `train`, `weights` and `predict`, written as in the documentation of
its library. All of them get the same initial weights, and the same order of batches if the library
allows it. `work` is what a worker process does.
"""

import contextlib
import importlib
import json
import os
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np

ETA = {"SGD": 0.01, "Adam": 0.001}
BETA1, BETA2, EPS = 0.9, 0.999, 1e-8  # Adam's


class Problem:
    """Data, initial weights and orders of batches from one seed: the same for all contenders."""

    def __init__(self, sizes, batch, optimizer, steps, task, target=None, seed=0):
        self.sizes, self.batch, self.optimizer, self.task = sizes, batch, optimizer, task
        self.target, self.seed = target, seed
        rng = np.random.default_rng(seed)
        if target:
            self.x, self.y, *self.test = mnist()
        else:
            # As in MNIST, four of five pixels are 0. Without zeros all units soon die under Adam,
            # and its averages become subnormal, with which a processor computes slowly.
            samples = 10_000 if task == "predict" else steps * batch
            self.x = np.maximum(5 * rng.random((samples, sizes[0]), dtype=np.float32) - 4, 0)
            self.y = rng.integers(0, sizes[-1], samples)
        self.samples = len(self.x)
        self.eta = ETA[optimizer]
        self.parameters = [
            (
                (rng.standard_normal((no, ni)) * (2 / ni) ** 0.5).astype(np.float32),
                np.zeros(no, "f"),
            )
            for ni, no in pairwise(sizes)
        ]

    def batches(self):
        return [slice(i, i + self.batch) for i in range(0, self.samples, self.batch)]

    def loss(self, parameters):
        """Return the mean cross-entropy on the first samples, computed in float64 for everyone."""
        a = self.logits(parameters, self.x[:2000].astype(np.float64))
        a = a - a.max(axis=1, keepdims=True)
        chosen = a[np.arange(len(a)), self.y[: len(a)]]
        return float(np.mean(np.log(np.exp(a).sum(axis=1)) - chosen))

    def accuracy(self, parameters):
        """Return the accuracy on the test images of MNIST."""
        x, y = self.test
        return float(np.mean(self.logits(parameters, x).argmax(axis=1) == y))

    def logits(self, parameters, a):
        for layer, (W, b) in enumerate(parameters, start=1):
            a = a @ np.asarray(W, a.dtype).T + np.asarray(b, a.dtype)
            a = np.maximum(a, 0) if layer < len(parameters) else a
        return a


def mnist():
    """Return x_train, y_train, x_test, y_test, with whole batches of 128 for training."""
    from nnx import datasets

    x, y, *test = datasets.load("mnist")
    return x[:59_904], y[:59_904], *test


class Contender:
    """Base class: trains epoch after epoch."""

    def train(self, rng, epochs):
        for _ in range(epochs):
            self.epoch(rng)


class NNX(Contender):
    """nnx on a backend: `net.train`, with loss and accuracy of every epoch."""

    def __init__(self, backend):
        import nnx

        self.backend = nnx.set_backend(backend, dtype="float32")

    def build(self, problem):
        import nnx

        self.problem, eta = problem, problem.eta
        *hidden, last = pairwise(problem.sizes)
        layers = [nnx.DenseLayer(ni, no, nnx.ReLU()) for ni, no in hidden]
        layers.append(nnx.DenseLayer(*last, nnx.SoftMax()))
        optim = nnx.SGD(eta) if problem.optimizer == "SGD" else nnx.Adam(eta)
        self.net = nnx.SequentialNet(problem.sizes[0], layers, nnx.CrossEntropy(), optim)
        for layer, (W, b) in zip(layers, problem.parameters, strict=True):
            layer.W, layer.b = self.backend.asarray(W), self.backend.asarray(b)
        self.x, self.y = self.backend.asarray(problem.x), self.backend.asarray(problem.y)

    def train(self, rng, epochs):
        self.net.train(self.x, self.y, self.problem.batch, epochs, progress=False, rng=rng)
        self.wait(self.net.layers[-1].b)

    def predict(self):
        self.wait(self.net.predict(self.x, self.problem.batch)[-1, ...])

    def wait(self, last):
        """Wait until the device has computed everything, including this last array."""
        self.backend.synchronize()
        self.backend.to_numpy(last)

    def weights(self):
        to_numpy = self.backend.to_numpy
        return [(to_numpy(layer.W), to_numpy(layer.b)) for layer in self.net.layers]


class Bare(Contender):
    """A plain training loop on the arrays of NumPy or CuPy."""

    library = "numpy"

    def __init__(self, device):
        self.xp = importlib.import_module(self.library)

    def build(self, problem):
        xp = self.xp
        self.problem, self.t = problem, 0
        self.x, self.rows = xp.asarray(problem.x), xp.eye(problem.sizes[-1], dtype="f")[problem.y]
        self.layers = [(xp.array(W), xp.array(b)) for W, b in problem.parameters]
        self.flat = [p for layer in self.layers for p in layer]
        self.m, self.v = ([xp.zeros_like(p) for p in self.flat] for _ in range(2))
        self.update = getattr(self, problem.optimizer.lower())

    def epoch(self, rng):
        xp, order = self.xp, self.xp.asarray(rng.permutation(self.problem.samples))
        for batch in self.problem.batches():
            index = order[batch]
            inputs, y = [self.x[index]], self.rows[index]
            for W, b in self.layers[:-1]:
                inputs.append(xp.maximum(inputs[-1] @ W.T + b, 0))
            delta = (self.softmax(inputs[-1]) - y) / len(index)
            gradients = []
            for layer in range(len(self.layers) - 1, -1, -1):
                gradients[:0] = delta.T @ inputs[layer], delta.sum(axis=0)
                if layer:
                    delta = (delta @ self.layers[layer][0]) * (inputs[layer] > 0)
            self.update(gradients)
        self.wait()

    def softmax(self, a):
        W, b = self.layers[-1]
        z = a @ W.T + b
        e = self.xp.exp(z - z.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    def sgd(self, gradients):
        eta = self.problem.eta
        for p, g in zip(self.flat, gradients, strict=True):
            p -= eta * g

    def adam(self, gradients):
        """Algorithm 1 of Kingma and Ba, line by line."""
        xp, eta, m, v = self.xp, self.problem.eta, self.m, self.v
        self.t += 1
        for i, (p, g) in enumerate(zip(self.flat, gradients, strict=True)):
            m[i] = BETA1 * m[i] + (1 - BETA1) * g
            v[i] = BETA2 * v[i] + (1 - BETA2) * g**2
            m_hat, v_hat = m[i] / (1 - BETA1**self.t), v[i] / (1 - BETA2**self.t)
            p -= eta * m_hat / (xp.sqrt(v_hat) + EPS)

    def predict(self):
        outputs = []
        for batch in self.problem.batches():
            a = self.x[batch]
            for W, b in self.layers[:-1]:
                a = self.xp.maximum(a @ W.T + b, 0)
            outputs.append(self.softmax(a))
        self.xp.concatenate(outputs)
        self.wait()

    def weights(self):
        return [tuple(getattr(p, "get", lambda p=p: p)() for p in layer) for layer in self.layers]

    def wait(self):
        if self.library == "cupy":
            self.xp.cuda.Device().synchronize()


class BareCuPy(Bare):
    """The same loop on a GPU."""

    library = "cupy"


class Torch(Contender):
    """PyTorch as in its tutorials: eager, nn.Sequential, an optimizer with its defaults."""

    options = ()  # of the optimizer

    def __init__(self, device):
        import torch

        self.device = torch.device(device or "cpu")
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

    def build(self, problem):
        import torch

        self.problem, nn, layers = problem, torch.nn, []
        for W, b in problem.parameters:
            linear = nn.Linear(W.shape[1], W.shape[0])
            linear.load_state_dict({"weight": torch.tensor(W), "bias": torch.tensor(b)})
            layers += [linear, nn.ReLU()]
        self.model = nn.Sequential(*layers[:-1]).to(self.device)
        rule = getattr(torch.optim, problem.optimizer)
        self.optimizer = rule(self.model.parameters(), lr=problem.eta, **dict(self.options))
        self.loss = nn.CrossEntropyLoss()
        self.x = torch.from_numpy(problem.x).to(self.device)
        self.y = torch.from_numpy(problem.y).to(self.device)

    def epoch(self, rng):
        import torch

        order = torch.from_numpy(rng.permutation(self.problem.samples)).to(self.device)
        for batch in self.problem.batches():
            index = order[batch]
            self.optimizer.zero_grad()
            self.loss(self.model(self.x[index]), self.y[index]).backward()
            self.optimizer.step()
        self.wait()

    def predict(self):
        import torch

        with torch.inference_mode():
            outputs = [self.model(self.x[batch]) for batch in self.problem.batches()]
            torch.softmax(torch.cat(outputs), dim=1)
        self.wait()

    def weights(self):
        p = [p.detach().cpu().numpy() for p in self.model.parameters()]
        return list(zip(p[::2], p[1::2], strict=True))

    def wait(self):
        import torch

        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


class TorchFused(Torch):
    """The same with the optimizer as one C++ function over all parameters."""

    options = (("fused", True),)


class JAX(Contender):
    """JAX: one compiled step with donated buffers; the batch is picked on the device."""

    def __init__(self, device):
        import jax

        kind, _, number = (device or "").partition(":")
        self.device = jax.devices(kind or None)[int(number or 0)]

    def build(self, problem):
        import jax

        self.jax, self.problem = jax, problem
        # Copies: a donated buffer must not be shared.
        put = lambda tree: jax.tree.map(lambda a: jax.numpy.array(a, device=self.device), tree)
        self.x, self.y = put(problem.x), put(problem.y.astype(np.int32))
        self.params = put([(W.T, b) for W, b in problem.parameters])
        zeros = jax.tree.map(np.zeros_like, self.params)
        self.state = () if problem.optimizer == "SGD" else put((np.int32(0), zeros, zeros))
        self.forward = jax.jit(lambda params, x: jax.nn.softmax(self.logits(params, x)))
        self.compile()

    def compile(self):
        jax, batch = self.jax, self.problem.batch

        def step(params, state, i, order, x, y):
            index = jax.lax.dynamic_slice(order, (i,), (batch,))
            return *self.update(params, state, self.take(x, index), self.take(y, index)), i + batch

        self.step = jax.jit(step, donate_argnums=(0, 1, 2))

    def epoch(self, rng):
        order = self.jax.device_put(self.order(rng), self.device)
        i = self.jax.device_put(np.int32(0), self.device)
        for _ in self.problem.batches():
            arguments = (self.params, self.state, i, order, self.x, self.y)
            self.params, self.state, i = self.step(*arguments)
        self.jax.block_until_ready(self.params)

    def order(self, rng):
        return rng.permutation(self.problem.samples).astype(np.int32)

    def take(self, array, index):
        return self.jax.numpy.take(array, index, axis=0, mode="clip")

    def logits(self, params, x):
        *hidden, (W, b) = params
        for V, c in hidden:
            x = self.jax.nn.relu(x @ V + c)
        return x @ W + b

    def loss(self, params, x, y):
        log_p = self.jax.nn.log_softmax(self.logits(params, x))
        return -self.jax.numpy.take_along_axis(log_p, y[:, None], axis=1).mean()

    def update(self, params, state, x, y):
        each, eta = self.jax.tree.map, self.problem.eta
        g = self.jax.grad(self.loss)(params, x, y)
        if not state:
            return each(lambda p, g: p - eta * g, params, g), state
        t, m, v = state
        t = t + 1
        m = each(lambda m, g: BETA1 * m + (1 - BETA1) * g, m, g)
        v = each(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, v, g)
        c1, c2 = 1 - BETA1**t, 1 - BETA2**t
        root = self.jax.numpy.sqrt
        rule = lambda p, m, v: p - eta * (m / c1) / (root(v / c2) + EPS)
        return each(rule, params, m, v), (t, m, v)

    def predict(self):
        outputs = [self.forward(self.params, self.x[batch]) for batch in self.problem.batches()]
        self.jax.numpy.concatenate(outputs).block_until_ready()

    def weights(self):
        return [(np.asarray(W).T, np.asarray(b)) for W, b in self.params]


class JAXScan(JAX):
    """JAX with the whole epoch compiled into one loop."""

    def compile(self):
        def epoch(params, state, order, x, y):
            def step(carry, index):
                return self.update(*carry, self.take(x, index), self.take(y, index)), None

            return self.jax.lax.scan(step, (params, state), order)[0]

        self.run = self.jax.jit(epoch, donate_argnums=(0, 1))

    def epoch(self, rng):
        order = self.jax.device_put(self.order(rng).reshape(-1, self.problem.batch), self.device)
        self.params, self.state = self.run(self.params, self.state, order, self.x, self.y)
        self.jax.block_until_ready(self.params)


class Keras(Contender):
    """Keras on JAX: compile and fit."""

    def __init__(self, device):
        import keras  # the driver has set KERAS_BACKEND

        self.keras = keras

    def build(self, problem):
        keras, self.problem = self.keras, problem
        dense = keras.layers.Dense
        layers = [dense(n, activation="relu") for n in problem.sizes[1:-1]]
        layers.append(dense(problem.sizes[-1], activation="softmax"))
        self.model = keras.Sequential([keras.Input(problem.sizes[:1]), *layers])
        optimizer = getattr(keras.optimizers, problem.optimizer)(problem.eta)
        self.model.compile(optimizer, loss="sparse_categorical_crossentropy")
        self.model.set_weights([p for W, b in problem.parameters for p in (W.T, b)])

    def epoch(self, rng):
        self.model.fit(self.problem.x, self.problem.y, self.problem.batch, epochs=1, verbose=0)

    def predict(self):
        self.model.predict(self.problem.x, self.problem.batch, verbose=0)

    def weights(self):
        p = self.model.get_weights()
        return [(W.T, b) for W, b in zip(p[::2], p[1::2], strict=True)]


class SciKit(Contender):
    """scikit-learn's MLPClassifier, one epoch at a time."""

    def __init__(self, device):
        from sklearn.neural_network import MLPClassifier

        self.kind = MLPClassifier

    def build(self, problem):
        self.problem, self.classes = problem, np.arange(problem.sizes[-1])
        self.model = self.kind(
            problem.sizes[1:-1],
            solver=problem.optimizer.lower(),
            alpha=0,
            batch_size=problem.batch,
            learning_rate_init=problem.eta,
            momentum=0,
            nesterovs_momentum=False,
            tol=0,
            early_stopping=False,
            random_state=0,
        )
        if problem.task == "predict":  # it has no weights before
            self.model.set_params(batch_size=10)
            self.model.partial_fit(problem.x[:10], problem.y[:10], classes=self.classes)

    def epoch(self, rng):
        self.model.partial_fit(self.problem.x, self.problem.y, classes=self.classes)

    def predict(self):
        outputs = [self.model.predict_proba(self.problem.x[b]) for b in self.problem.batches()]
        np.concatenate(outputs)

    def weights(self):
        pairs = zip(self.model.coefs_, self.model.intercepts_, strict=True)
        return [(W.T, b) for W, b in pairs]


PEERS = {
    "nnx": NNX,
    "numpy": Bare,
    "cupy": BareCuPy,
    "torch": Torch,
    "torch-fused": TorchFused,
    "jax": JAX,
    "jax-scan": JAXScan,
    "keras": Keras,
    "sklearn": SciKit,
}


def work(contender, problem, threads, start):
    """Build, warm up and report; then run a round for each line that comes in.

    Answers are lines of JSON; what libraries print goes to the standard error. `start` is the
    clock before any library was imported.
    """
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def tell(**facts):
        print(json.dumps(facts), file=out, flush=True)

    try:
        name, _, device = contender.partition(":")
        peer = PEERS[name](device or None)
    except Exception as error:
        tell(unusable=reason(error))
        return
    try:
        problem = Problem(**problem)
        before = memory("VmRSS")
        peer.build(problem)
        if problem.target:
            tell(**reach(peer, problem))
            return
        run = peer.train if problem.task == "train" else lambda rng, epochs: peer.predict()
        run(np.random.default_rng([1, 0]), 1)
        first = time.perf_counter() - start
        tell(first=first, loss=problem.loss(peer.weights()), threads=thread_facts(threads))
        for line in sys.stdin:
            number, epochs = map(int, line.split())
            rng = np.random.default_rng([1, number])
            forget_peak()
            start = time.perf_counter()
            run(rng, epochs)
            seconds = time.perf_counter() - start
            peak = memory("VmHWM")
            tell(seconds=seconds, memory=peak and peak - before)
    except Exception as error:
        tell(error=reason(error))


def reach(peer, problem):
    """Train until the accuracy is reached; return the seconds of the training, and the epochs."""
    seconds = 0.0
    for epoch in range(1, 101):
        start = time.perf_counter()
        peer.train(np.random.default_rng([1, problem.seed, epoch]), 1)
        seconds += time.perf_counter() - start
        if problem.accuracy(peer.weights()) >= problem.target:
            return {"seconds": seconds, "epochs": epoch}
    return {"error": f"has not reached {100 * problem.target:g} % in 100 epochs"}


def reason(error):
    return f"{type(error).__name__}: {error}"


def memory(key):
    """Resident memory of this process in bytes, VmRSS now or VmHWM at most; only Linux tells."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    return 1024 * int(status.partition(f"{key}:")[2].split()[0])


def forget_peak():
    """The most memory counts from now on."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def thread_facts(threads):
    """How many threads the libraries of this process use, as far as they tell."""
    facts = {"cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None}
    if "torch" in sys.modules:
        facts["torch"] = sys.modules["torch"].get_num_threads()
    with contextlib.suppress(ImportError):
        from threadpoolctl import threadpool_info

        facts |= {pool["internal_api"]: pool["num_threads"] for pool in threadpool_info()}
    return facts
