"""Limit how many requests are in flight, to what the store can take."""

import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TypeVar

from tamarin_dagster.logstore.retries import Outage, Retries, StoreDownError, TransientError
from tamarin_dagster.logstore.store import FetchError

T = TypeVar("T")

# Measured with GETs of 5 KB objects on loopback: 16 threads reach 21,000/s, and more gain nothing.
MIN_CEILING = 16
# 128 threads reach a tenth less than that rate; with a latency of 35 ms, they reach 2,800/s.
MAX_CEILING = 128
# S3 allows 5,500 GETs/s for each prefix. With a latency of 20 ms, 3,300/s are reached, because batches end and some
# answers are slow.
TARGET_PER_SECOND = 5000
# The weights of a new latency in the smoothed one. They favour shorter latencies: longer ones are mostly waits for our
# own processor, and more requests would make those longer still.
_WEIGHT_OF_SHORTER = 1 / 8
_WEIGHT_OF_LONGER = 1 / 64
# Once the window is wide enough, only one of this many answers is evaluated, because each evaluation delays the others.
_SAMPLED = 8


class Pacer:
    """Keep the requests in flight within a window that grows and shrinks with the store's answers. Threads share it.

    Like TCP's congestion window (RFC 5681), it grows by one with each answer until the store is first busy, and from
    then on by one with each window of answers. It halves when the store is busy, once for requests that were in flight
    together. Its ceiling is what TARGET_PER_SECOND needs at the observed latency.
    """

    def __init__(
        self,
        retries: Retries | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._retries = retries or Retries()
        self._outage = Outage(self._retries.deadline_seconds)
        self._clock = clock
        self._sleep = sleep
        self._changing = threading.Lock()
        self._window = float(MIN_CEILING)
        # One token for each request that may be sent now. After the window shrinks, some tokens are yet to be returned.
        self._tokens: SimpleQueue[None] = SimpleQueue()
        self._owed = 0
        self._put(MIN_CEILING)
        self._waiting = 0
        self._halvings = 0
        self._failing = False
        self._settled = False
        self._latency = 0.0
        self._answers = 0
        # How many threads the window has work for, plus those that wait to retry. Not a property, because it is read
        # for each object.
        self.threads = MIN_CEILING

    @property
    def window(self) -> int:
        """How many requests may be in flight."""
        return int(self._window)

    @property
    def ceiling(self) -> int:
        """How far the window may grow."""
        return min(MAX_CEILING, max(MIN_CEILING, round(TARGET_PER_SECOND * self._latency)))

    def send(self, request: Callable[[], T]) -> T:
        """Return the result of the request. Wait for room in the window, and retry after a TransientError.

        Raises the last TransientError; raises a FetchError, or anything else from the request, at once.
        """
        attempt = 0
        deadline = None
        while True:
            self._tokens.get()
            halvings = self._halvings
            sent = self._clock()
            deadline = deadline or sent + self._retries.deadline_seconds
            attempt += 1
            try:
                if self._failing:
                    self._outage.check(sent)
                answer = request()
            except FetchError:
                self._recover()
                raise
            except StoreDownError:
                raise
            except TransientError as error:
                now = self._clock()
                self._note_failure(halvings, now, error)
                wait = self._retries.wait_after(attempt)
                if attempt == self._retries.attempts or now + wait > deadline or self._outage.is_down(now):
                    raise
            else:
                self._note_answer(self._clock() - sent)
                return answer
            finally:
                self._give_back()
            self._wait(wait)

    def _note_answer(self, seconds: float) -> None:
        # Threads may overwrite each other's counts and means, which is harmless, because these are only samples.
        self._answers += 1
        if self._settled and self._answers % _SAMPLED:
            return
        self._recover()
        weight = _WEIGHT_OF_SHORTER if seconds < self._latency else _WEIGHT_OF_LONGER
        self._latency += (seconds - self._latency) * (weight if self._latency else 1)
        if self.window != self.ceiling:
            with self._changing:
                self._set_window(min(self.ceiling, self._window + (1 / self._window if self._halvings else 1)))
        self._settled = self.window == self.ceiling

    def _recover(self) -> None:
        self._failing = False
        self._outage.over()

    def _note_failure(self, halvings: int, now: float, error: TransientError) -> None:
        with self._changing:
            self._failing, self._settled = True, False
            self._outage.failed(now, error)
            if halvings == self._halvings:
                self._halvings += 1
                self._set_window(max(1, self._window / 2))

    def _wait(self, seconds: float) -> None:
        self._count_waiting(1)
        self._sleep(seconds)
        self._count_waiting(-1)

    def _count_waiting(self, more: int) -> None:
        with self._changing:
            self._waiting += more
            self.threads = self.window + self._waiting

    def _set_window(self, window: float) -> None:
        more = int(window) - int(self._window)
        self._window = window
        self.threads = self.window + self._waiting
        if more > 0:
            kept = min(more, self._owed)
            self._owed -= kept
            self._put(more - kept)
        for taken in range(-more):
            try:
                self._tokens.get_nowait()
            except Empty:
                self._owed += -more - taken
                break

    def _put(self, tokens: int) -> None:
        for _ in range(tokens):
            self._tokens.put(None)

    def _give_back(self) -> None:
        if self._owed:
            with self._changing:
                if self._owed:
                    self._owed -= 1
                    return
        self._tokens.put(None)
