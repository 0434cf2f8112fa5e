"""A finding: what was looked at, how it is, and what to do about it."""

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """How serious a finding is: what fails keeps logs from being loaded or purged, or loses them."""

    ok = "ok"
    warn = "warn"
    fail = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one subject. `remedy` is what to do; nothing if it is ok."""

    subject: str
    status: Status
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.subject}: {self.text}" + f" - {self.remedy}" * bool(self.remedy)


def ok(subject: str, text: str) -> Finding:
    """A finding that is as it should be."""
    return Finding(subject, Status.ok, text)


def warn(subject: str, text: str, remedy: str) -> Finding:
    """A finding that may do harm, or could not be looked at."""
    return Finding(subject, Status.warn, text, remedy)


def fail(subject: str, text: str, remedy: str) -> Finding:
    """A finding that does harm."""
    return Finding(subject, Status.fail, text, remedy)
