"""A finding: what was checked, its state, and what to do about it."""

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """The severity of a finding: a failure prevents loading or purging of logs, or loses logs."""

    ok = "ok"
    warn = "warn"
    fail = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result for one subject. `remedy` says what to do; it is empty if the status is ok."""

    subject: str
    status: Status
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.subject}: {self.text}" + f" - {self.remedy}" * bool(self.remedy)


def ok(subject: str, text: str) -> Finding:
    """Return a finding without a fault."""
    return Finding(subject, Status.ok, text)


def warn(subject: str, text: str, remedy: str) -> Finding:
    """Return a finding that may do harm, or that could not be checked."""
    return Finding(subject, Status.warn, text, remedy)


def fail(subject: str, text: str, remedy: str) -> Finding:
    """Return a finding that does harm."""
    return Finding(subject, Status.fail, text, remedy)
