"""Threads that are kept, for work on many objects at a time."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

# How long a wider window may go unnoticed.
_LOOK_SECONDS = 0.1


class Threads:
    """A pool with a maximum number of threads; each is started when it is first needed."""

    def __init__(self, limit: int) -> None:
        self._pool = ThreadPoolExecutor(limit, thread_name_prefix="logstore")

    def map(self, work: Callable[[T], R], items: Sequence[T], width: Callable[[], int]) -> list[R]:
        """Return the results of `work` for the items, in order. `width` says how many threads to use, and may change
        meanwhile.
        """
        if len(items) == 1:
            return [work(items[0])]
        return _Batch(self._pool, work, items, width).results()


class _Batch(Generic[T, R]):
    """Work in progress. Its threads share one iterator, because a future for each object cost a third of the rate."""

    def __init__(
        self, pool: ThreadPoolExecutor, work: Callable[[T], R], items: Sequence[T], width: Callable[[], int]
    ) -> None:
        self._pool = pool
        self._work = work
        self._items = items
        self._width = width
        self._numbers = iter(range(len(items)))
        self._results: dict[int, R] = {}
        self._threads: list[Future[None]] = []
        self._running = 0
        self._counting = threading.Lock()

    def results(self) -> list[R]:
        """Return the results of all items, in order."""
        try:
            self._start_missing()
            for thread in self._threads:
                # All threads may be waiting to retry, and none of them would start more.
                while not wait((thread,), _LOOK_SECONDS).done:
                    self._start_missing()
                thread.result()
        finally:
            self._stop()
        return [self._results[number] for number in range(len(self._items))]

    def _start_missing(self) -> None:
        with self._counting:
            missing = min(self._width(), len(self._items)) - self._running
            self._threads.extend(self._pool.submit(self._run) for _ in range(missing))
            self._running += max(missing, 0)

    def _run(self) -> None:
        try:
            for number in self._numbers:
                self._results[number] = self._work(self._items[number])
                if self._running > self._width() and self._is_spare():
                    return
        except BaseException:
            self._stop()
            raise

    def _is_spare(self) -> bool:
        """Return whether there is a thread too many, which must end then."""
        with self._counting:
            spare = self._running > self._width()
            self._running -= spare
            return spare

    def _stop(self) -> None:
        """After an error or an interrupt, let each thread finish its current item."""
        deque(self._numbers, maxlen=0)
