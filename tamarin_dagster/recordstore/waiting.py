"""Waits that say what they wait for. A command that is silent for minutes looks as if it hangs."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_log = logging.getLogger(__name__)

# A healthy start of the embedded server takes less. After it a person begins to wonder.
FIRST_WORD_SECONDS = 3.0
NEXT_WORD_SECONDS = 10.0
# Seconds to wait for the thread, which may be reading the processes of this machine.
_JOIN_SECONDS = 1.0


@contextmanager
def announce_wait(what: str | Callable[[int], str]) -> Iterator[None]:
    """Log what the body waits for: after FIRST_WORD_SECONDS, then every NEXT_WORD_SECONDS.

    Args:
        what: the text, or a function of the seconds waited so far that returns it. The function runs in another thread.
    """
    done = threading.Event()

    def speak() -> None:
        waited = FIRST_WORD_SECONDS
        while not done.wait(FIRST_WORD_SECONDS if waited == FIRST_WORD_SECONDS else NEXT_WORD_SECONDS):
            # A warning, because both the command line and Dagster show warnings.
            _log.warning("%s", what(int(waited)) if callable(what) else f"{what} ({waited:.0f} s so far)")
            waited += NEXT_WORD_SECONDS

    speaker = threading.Thread(target=speak, name="waiting", daemon=True)
    speaker.start()
    try:
        yield
    finally:
        done.set()
        speaker.join(_JOIN_SECONDS)
