"""What a generator yields, made in a thread while the one before is used."""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Iterator
from typing import TypeVar

__all__ = ["ahead"]

T = TypeVar("T")


def ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield the items of a generator, which runs in a thread of its own, one item ahead.

    At most two items exist at a time: the one that is used and the next. An error of the generator
    is raised here as it is. Closing ends the thread, after the item that it is making.
    """
    made: queue.SimpleQueue[tuple[str, T | BaseException | None]] = queue.SimpleQueue()
    wanted, ended = threading.Semaphore(1), threading.Event()

    def work() -> None:
        try:
            while True:
                wanted.acquire()
                if ended.is_set():
                    return
                try:
                    item = next(items)
                except StopIteration:
                    made.put(("end", None))
                    return
                made.put(("item", item))
                del item
        except BaseException as error:
            made.put(("error", error))
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()

    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(work,), name="nnx source", daemon=True)
    thread.start()
    try:
        while True:
            kind, item = made.get()
            if kind == "end":
                return
            if kind == "error":
                raise item  # type: ignore[misc]
            wanted.release()
            yield item  # type: ignore[misc]
            del item
    finally:
        ended.set()
        wanted.release()
        thread.join()
