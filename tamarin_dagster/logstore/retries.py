"""How often a request is sent again, and when no more."""

import random
from dataclasses import dataclass

# While the store is down a request is sent this often.
PROBE_SECONDS = 5


class TransientError(Exception):
    """A request failed in a way that may pass: the store is busy, or the connection broke."""


class StoreDownError(TransientError):
    """A request was not sent, since all others fail."""


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and how long a request is sent again. Waits are drawn from 0 to the backoff, which doubles.

    Attributes:
        attempts: requests in all. These eight wait 13 s on average, 25 s at most.
        deadline_seconds: no attempt begins later than this after the first one.
        first_backoff_seconds: the most that the second attempt waits.
        max_backoff_seconds: the most that any attempt waits.
    """

    attempts: int = 8
    deadline_seconds: float = 60
    first_backoff_seconds: float = 0.2
    max_backoff_seconds: float = 20

    def wait_after(self, attempt: int) -> float:
        """Seconds to wait after so many attempts. With full jitter, so that what failed together comes apart."""
        backoff = min(self.max_backoff_seconds, self.first_backoff_seconds * 2 ** (attempt - 1))
        return random.uniform(0, backoff)  # noqa: S311


class Outage:
    """Whether the store is down: for so many seconds it has answered nothing.

    Else each of a day's keys would wait for its own deadline.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: float | None = None
        self._last = 0.0
        self._probed = 0.0
        self._error = ""

    def failed(self, now: float, error: TransientError) -> None:
        """Notes that a request failed."""
        if self._since is None or now - self._last > self._seconds:
            self._since = now
        self._last = now
        self._error = str(error)

    def over(self) -> None:
        """Notes that a request was answered."""
        self._since = None

    def lasts(self, now: float) -> bool:
        """Whether the store is down."""
        since = self._since
        return since is not None and self._last - since > self._seconds >= now - self._last

    def check(self, now: float) -> None:
        """Raises StoreDownError if the store is down, except for a probe now and then."""
        if self.lasts(now):
            if now - self._probed < PROBE_SECONDS:
                raise StoreDownError(f"{self._error} (nothing else has come for {self._seconds:.0f} s)")
            self._probed = now
