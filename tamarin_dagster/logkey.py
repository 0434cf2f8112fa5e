"""The value that travels between listing, fetching, loading and purging: one generation of an object."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime

from tamarin_dagster.logformat import DeliveryHour, DeliveryPeriod, delivery_day

CHANGED_SINCE_LOADED = "it was overwritten after it was loaded; the next pull loads the new generation"


def make_printable(name: str) -> str:
    """Return a name as text that is safe in any log, page and terminal.

    Everybody who can write to the log bucket chooses names. Control characters are escaped, so that a name does not
    look like several lines of a log, and so is what is not UTF-8, which a file's name may hold.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def count_periods(periods: Collection[DeliveryPeriod]) -> str:
    """Return the number of periods as text: `1 day`, `24 hours`."""
    noun = "hour" if any(isinstance(period, DeliveryHour) for period in periods) else "day"
    return f"{len(periods):,} {noun}{'' if len(periods) == 1 else 's'}"


@dataclass(frozen=True, slots=True)
class LogObject:
    """One generation of an object in a log bucket, as a listing shows it.

    Attributes:
        key: the object's name.
        etag: the ETag without its quotes. Together with the key it identifies the generation: an overwritten object has
            a new one.
        size: bytes, as stored (compressed objects are not decompressed).
        last_modified: aware, in UTC.
        version_id: in a versioned bucket, after the object was read; listings do not have it. "null" is the version of
            an
            object that was written before versioning was enabled, or while it was suspended.
        is_quiet: False for a file that may still be written and must not be read yet.
    """

    key: str
    etag: str
    size: int
    last_modified: datetime
    version_id: str | None = None
    is_quiet: bool = True


@dataclass(frozen=True, slots=True)
class LogKey:
    """An object with a log key's name, and the period in that name for which it was listed.

    `was_purged` is true if its generation was noted as purged when it was listed: it has come back, or was not deleted.
    """

    object: LogObject
    period: DeliveryPeriod
    was_purged: bool = False

    @property
    def delivery_date(self) -> date:
        """The day (UTC) in its name."""
        return delivery_day(self.period)


@dataclass(frozen=True, slots=True)
class KeyFailure:
    """A log key that was skipped. `error` names the cause and, if there is one, the remedy."""

    key: str
    delivery_date: date
    error: str
