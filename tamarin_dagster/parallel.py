"""Iterators whose items are made in other threads, so that the steps of a pipeline overlap."""

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

# How often, in seconds, a thread that waits for room checks whether it is still needed.
_POLL_SECONDS = 0.1
_END = object()


def prefetch(items: Iterable[T], limit: int = 1) -> Generator[T]:
    """Yield the same items, made in another thread, at most `limit` in advance; see `parallel_map`."""
    return parallel_map(items, lambda item: (item,), threads=1, limit=limit)


def parallel_map(
    items: Iterable[T], work: Callable[[T], Iterable[R]], *, threads: int, limit: int | None = None
) -> Generator[R]:
    """Yield what `work` makes of each item, in this many threads, in the order of completion.

    Each thread takes the next item when it is free; at most `limit` results (default: one per thread) wait for the
    consumer. An error in a thread is raised here, in its place. Closing the iterator ends each thread at its next
    result.
    """
    crew = _Crew(items, work, limit or threads)
    workers = [threading.Thread(target=crew.run, name="pipeline", daemon=True) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        while threads:
            result = crew.ready.get()
            if result is _END:
                threads -= 1
            elif isinstance(result, BaseException):
                raise result
            else:
                yield result  # type: ignore[misc]
            del result  # a batch is too large to keep while waiting for the next one
    finally:
        crew.stopped.set()
        for worker in workers:
            worker.join()


class _Crew(Generic[T, R]):
    """The shared state of an iterator's threads."""

    def __init__(self, items: Iterable[T], work: Callable[[T], Iterable[R]], limit: int) -> None:
        self.ready: queue.Queue[object] = queue.Queue(limit)
        self.stopped = threading.Event()
        self._work = work
        self._items = iter(items)
        self._taking = threading.Lock()

    def run(self) -> None:
        """Work until there are no more items; the body of each thread."""
        try:
            while self._one():
                pass
            self._put(_END)
        except BaseException as error:  # noqa: BLE001 - raised where the results are used
            self._put(error)

    def _one(self) -> bool:
        """Work on the next item, without keeping a reference; return whether there may be another one."""
        with self._taking:
            if self.stopped.is_set():
                return False
            try:
                item = next(self._items)
            except StopIteration:
                return False
        for result in self._work(item):
            self._put(result)
            if self.stopped.is_set():
                return False
        return True

    def _put(self, result: object) -> None:
        while not self.stopped.is_set():
            try:
                self.ready.put(result, timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            return
