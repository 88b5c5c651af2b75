"""Several forked processes with a communicator of pipes: what MPI does, in tenths of a second."""

import multiprocessing
import os
import traceback
import warnings
from contextlib import ExitStack
from multiprocessing.connection import wait

import numpy as np

from nnx.communication import Communicator

ABORTED = 7  # exit status of processes that `abort` has ended


class PipeCommunicator(Communicator):
    """Everything goes through rank 0, which adds up in the order of the ranks."""

    name = "pipes"

    def __init__(self, rank, size, pipes):
        self.rank, self.size, self.pipes = rank, size, pipes
        self.messages = 0

    def gather(self, thing):
        if self.rank:
            self.pipes[0].send(thing)
            return self.pipes[0].recv()
        things = [thing, *(pipe.recv() for pipe in self.pipes)]
        for pipe in self.pipes:
            pipe.send(things)
        return things

    def start_sum(self, array, total):
        assert array.ndim == 1
        assert array.shape == total.shape
        assert array.dtype == total.dtype
        self.messages += 1
        every = self.gather(np.array(array))
        total[...] = sum(every[1:], start=every[0])
        return lambda: None

    def abort(self, message):
        print(message, flush=True)
        os._exit(ABORTED)


def together(size, function, *arguments, seconds=60):
    """Return [function(communicator, *arguments)] of so many processes.

    What a process has raised is an AssertionError with its traceback. What ended without an answer
    is its exit status as text: "ended with 7".
    """
    context = multiprocessing.get_context("fork")
    with ExitStack() as stack, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python and JAX warn of a fork beside threads
        ends = [context.Pipe() for _ in range(size - 1)]
        answers = [context.Pipe(duplex=False) for _ in range(size)]
        processes = []
        for rank in range(size):
            pipes = [end for end, _ in ends] if rank == 0 else [ends[rank - 1][1]]
            work = (rank, size, pipes, answers[rank][1], function, arguments)
            process = context.Process(target=_work, args=work, daemon=True)
            process.start()
            processes.append(process)
            stack.callback(process.kill)
        found = {}
        while len(found) < size:
            pending = {
                thing: rank
                for rank in range(size)
                if rank not in found
                for thing in (answers[rank][0], processes[rank].sentinel)
            }
            ready = wait(pending, seconds)
            assert ready, f"processes hang: {sorted(set(pending.values()))}"
            for rank in {pending[thing] for thing in ready}:
                if answers[rank][0].poll():
                    error, found[rank] = answers[rank][0].recv()
                    assert error is None, error
                    continue
                processes[rank].join(seconds)
                found[rank] = f"ended with {processes[rank].exitcode}"
                if processes[rank].exitcode == ABORTED:  # as a launcher does
                    return [found.get(rank, "ended") for rank in range(size)]
        return [found[rank] for rank in range(size)]


def _work(rank, size, pipes, answer, function, arguments):
    try:
        result = function(PipeCommunicator(rank, size, pipes), *arguments)
        answer.send((None, result))
    except BaseException:
        answer.send((traceback.format_exc(), None))
    finally:
        os._exit(0)
