"""Places where a test can make the program die, fail or sleep, to check that nothing is lost or done twice.

`TAMARIN_FAILPOINT=name:action[:nth]` arms one, or several with commas between: `commit.before:kill`,
`mark_purged.before:raise:2`. An unarmed one costs one lookup in an empty dict. The names are those of `FailPoint`.
"""

import os
import signal
import threading
import time
from dataclasses import dataclass
from enum import StrEnum

VARIABLE = "TAMARIN_FAILPOINT"
SLEEP_SECONDS = 5.0


class FailPoint(StrEnum):
    """The places, in the order in which a log key's bytes pass them. `nth` counts from 1, over all threads."""

    LIST_BEFORE = "list.before"
    LIST_AFTER = "list.after"
    FETCH_BEFORE = "fetch.before"
    FETCH_AFTER = "fetch.after"
    PARSE_BEFORE = "parse.before"
    PARSE_AFTER = "parse.after"
    COPY_BEFORE = "copy.before"
    COPY_AFTER = "copy.after"
    COMMIT_BEFORE = "commit.before"
    COMMIT_AFTER = "commit.after"
    PURGE_QUERY_BEFORE = "purge_query.before"
    PURGE_QUERY_AFTER = "purge_query.after"
    DELETE_BEFORE = "delete.before"
    DELETE_AFTER = "delete.after"
    MARK_PURGED_BEFORE = "mark_purged.before"
    MARK_PURGED_AFTER = "mark_purged.after"
    # Only for a bucket with an archive, between the load and the purge.
    ARCHIVE_NOTE_BEFORE = "archive_note.before"
    ARCHIVE_NOTE_AFTER = "archive_note.after"
    ARCHIVE_RECORD_BEFORE = "archive_record.before"
    ARCHIVE_RECORD_AFTER = "archive_record.after"
    ARCHIVE_FILE_BEFORE = "archive_file.before"
    ARCHIVE_FILE_AFTER = "archive_file.after"
    ARCHIVE_COMMIT_BEFORE = "archive_commit.before"
    ARCHIVE_COMMIT_AFTER = "archive_commit.after"
    ARCHIVE_PROOF_BEFORE = "archive_proof.before"
    ARCHIVE_PROOF_AFTER = "archive_proof.after"
    # Only in a load or an archiving into a lake.
    LAKE_PARSE_AFTER = "lake_parse.after"
    LAKE_FILE_BEFORE = "lake_file.before"
    LAKE_FILE_AFTER = "lake_file.after"
    LAKE_COMMIT_BEFORE = "lake_commit.before"
    LAKE_TABLE_AFTER = "lake_table.after"
    LAKE_COMMIT_AFTER = "lake_commit.after"

    @property
    def is_of_archive(self) -> bool:
        """Whether only buckets with an archive pass this place."""
        return self.startswith("archive_")

    @property
    def is_of_lake(self) -> bool:
        """Whether only what goes into a lake passes this place."""
        return self.startswith("lake_")


class Action(StrEnum):
    """What happens there: SIGKILL to this process, a FailPointError, or a sleep of SLEEP_SECONDS."""

    KILL = "kill"
    RAISE = "raise"
    SLEEP = "sleep"


class FailPointError(Exception):
    """Raised where `raise` is armed."""


@dataclass(slots=True)
class _Armed:
    action: Action
    countdown: int


_armed: dict[FailPoint, _Armed] = {}
_counting = threading.Lock()


def hit(point: FailPoint) -> None:
    """Mark a place. Do what is armed there at its nth passing, otherwise nothing."""
    if _armed:
        _pass(point)


def _pass(point: FailPoint) -> None:
    with _counting:
        armed = _armed.get(point)
        if armed is None:
            return
        armed.countdown -= 1
        if armed.countdown:
            return
    if armed.action is Action.KILL:
        os.kill(os.getpid(), signal.SIGKILL)
    if armed.action is Action.SLEEP:
        time.sleep(SLEEP_SECONDS)
    else:
        raise FailPointError(f"the fail point {point} is armed by {VARIABLE}")


def arm(specification: str) -> None:
    """Arm exactly what the text says (see above). Raises ValueError for an invalid text."""
    armed = {}
    for entry in filter(None, specification.split(",")):
        name, _, rest = entry.partition(":")
        action, _, nth = rest.partition(":")
        try:
            armed[FailPoint(name)] = _Armed(Action(action), max(1, int(nth or 1)))
        except ValueError:
            known = ", ".join(FailPoint)
            raise ValueError(
                f"{VARIABLE}: {entry!r} is not name:action[:nth]; names are {known}; actions {', '.join(Action)}"
            ) from None
    _armed.clear()
    _armed.update(armed)


arm(os.environ.get(VARIABLE, ""))
