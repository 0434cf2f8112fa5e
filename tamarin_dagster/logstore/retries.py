"""How often a request is retried, and when retries end."""

import random
from dataclasses import dataclass

# While the store is down, one request is sent at this interval.
PROBE_SECONDS = 5


class TransientError(Exception):
    """A request failed in a way that may be temporary: the store is busy, or the connection broke."""


class StoreDownError(TransientError):
    """A request was not sent, because all others fail."""


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and how long a request is retried. Waits are drawn from 0 to the backoff, which doubles.

    Attributes:
        attempts: the number of requests in total. These eight wait 13 s on average, 25 s at most.
        deadline_seconds: no attempt begins later than this after the first one.
        first_backoff_seconds: the maximum wait before the second attempt.
        max_backoff_seconds: the maximum wait before any attempt.
    """

    attempts: int = 8
    deadline_seconds: float = 60
    first_backoff_seconds: float = 0.2
    max_backoff_seconds: float = 20

    def wait_after(self, attempt: int) -> float:
        """Return the seconds to wait after this many attempts. Full jitter spreads requests that failed together."""
        backoff = min(self.max_backoff_seconds, self.first_backoff_seconds * 2 ** (attempt - 1))
        return random.uniform(0, backoff)  # noqa: S311


class Outage:
    """Whether the store is down: it has answered nothing for this many seconds.

    Otherwise each of a day's log keys would wait for its own deadline.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: float | None = None
        self._last = 0.0
        self._probed = 0.0
        self._error = ""

    def failed(self, now: float, error: TransientError) -> None:
        """Note that a request failed."""
        if self._since is None or now - self._last > self._seconds:
            self._since = now
        self._last = now
        self._error = str(error)

    def over(self) -> None:
        """Note that a request was answered."""
        self._since = None

    def is_down(self, now: float) -> bool:
        """Return whether the store is down."""
        since = self._since
        return since is not None and self._last - since > self._seconds >= now - self._last

    def check(self, now: float) -> None:
        """Raise StoreDownError if the store is down, except for an occasional probe."""
        if self.is_down(now):
            if now - self._probed < PROBE_SECONDS:
                raise StoreDownError(f"{self._error} (no other answer for {self._seconds:.0f} s)")
            self._probed = now
