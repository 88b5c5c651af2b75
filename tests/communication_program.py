"""What the tests of several processes run by MPI: python communication_program.py MODE FILE ..."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

import nnx

os.environ.setdefault("JAX_ENABLE_X64", "1")
RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((128, 16)), RNG.integers(0, 4, 128)


def network():
    first = [
        nnx.ReshapeLayer((1, 4, 4)),
        nnx.Conv2DLayer(1, 3, 3, bias=False),
        nnx.BatchNormLayer(3),
        nnx.ActivationLayer(nnx.ReLU()),
        nnx.FlattenLayer(),
    ]
    if nnx.get_backend().name == "jax":  # which compiles every operation of a step by itself
        first = [nnx.DenseLayer(16, 12), nnx.BatchNormLayer(12)]
    layers = [
        *first,
        nnx.DenseLayer(12, 8, nnx.TanH(), kernel_regularizer=nnx.L2Regularizer(0.01)),
        nnx.DropoutLayer(0.3),
        nnx.DenseLayer(8, 4, nnx.SoftMax()),
    ]
    return nnx.SequentialNet(16, layers, nnx.CrossEntropy(), nnx.SGD(0.1, momentum=0.9))


def train(communicator, **options):
    nnx.seed(1)
    net = network()
    options = {"batch_size": 32, "epochs": 2, "progress": False, **options}
    history = net.train(X, Y, communicator=communicator, **options)
    arrays = [*net.parameters.values(), *net.buffers.values()]
    return [nnx.to_numpy(a) for a in arrays], history


def agree(file, *specs):
    """Compare with one process, on each backend, and write the largest difference."""
    found = {}
    for spec in specs:
        name, dtype, *which = spec.split("/")
        with nnx.use_backend(name, dtype):
            communicator = nnx.communicator(*which, timeout=60.0)
            together, history = train(communicator)
            alone, expected = train(None)
            error = max(np.abs(a - b).max() for a, b in zip(together, alone))
            losses = np.abs(np.subtract(history.loss, expected.loss)).max()
            facts = communicator.gather([communicator.name, float(error), float(losses)])
            found[spec] = {"size": communicator.size, "of": facts}
    if communicator.rank == 0:
        Path(file).write_text(json.dumps(found))


class Fault(nnx.Callback):
    """Goes wrong on rank 1 in the middle of the second epoch."""

    interval = 2

    def __init__(self, what):
        self.what = what

    def after_batches(self, run):
        if run.communicator.rank != 1 or run.epoch != 1:
            return
        now()
        if self.what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.what == "stop":  # as seen from the others, a cut connection
            os.kill(os.getpid(), signal.SIGSTOP)
        elif self.what == "error":
            raise ValueError("the battery is empty")


def now():
    """Print the time, for the test to know when it went wrong."""
    print(f"\nat {time.time()} s\n", flush=True)


def fault(what, timeout):
    """Train, and fail on rank 1."""
    communicator = nnx.communicator("mpi", timeout=float(timeout))
    if communicator.rank == 1:
        now()
    if communicator.rank == 1 and what == "data":
        np.load("/nowhere/x.npy")
    if communicator.rank == 1 and what == "exit":
        sys.exit(3)
    train(communicator, callbacks=[Fault(what)], epochs=4)


def finish(file):
    """Write a line, and end with a status of 0."""
    communicator = nnx.communicator()
    sizes = communicator.gather([communicator.rank, sys.argv[2:], os.environ["OMP_NUM_THREADS"]])
    communicator.barrier()
    if communicator.rank == 0:
        Path(file).write_text(json.dumps(sizes))


def nccl(file):
    """Train on the simulated GPU with a stand-in for the few functions of NCCL that are used."""
    import ctypes

    import cupy
    from mpi4py import MPI

    class Stand:
        """Adds up memory of the host, which that of the simulated GPU is."""

        def __init__(self, size, identity, rank):
            assert identity == (7, 7, 7)
            assert (size, rank) == (MPI.COMM_WORLD.size, MPI.COMM_WORLD.rank)

        def allReduce(self, send, receive, count, kind, operation, stream):  # noqa: N802
            assert operation == "sum"
            assert stream != cupy.cuda.get_current_stream().ptr
            cupy.cuda.ExternalStream(stream).synchronize()
            calls.append(count)
            size = np.dtype(kind).itemsize
            given, total = (
                np.frombuffer((ctypes.c_char * (count * size)).from_address(p), kind)
                for p in (send, receive)
            )
            MPI.COMM_WORLD.Allreduce(given, total)

    from cupy.cuda import nccl

    calls = []
    nccl.available = True
    nccl.get_unique_id = lambda: (7, 7, 7) if MPI.COMM_WORLD.rank == 0 else None
    nccl.NcclCommunicator = Stand
    nccl.NCCL_FLOAT32, nccl.NCCL_FLOAT64, nccl.NCCL_SUM = "float32", "float64", "sum"
    agree(file, "cupy/float64", "cupy/float64/mpi")
    assert calls


if __name__ == "__main__":
    {f.__name__: f for f in (agree, fault, finish, nccl)}[sys.argv[1]](*sys.argv[2:])
