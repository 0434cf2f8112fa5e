"""What travels between listing, fetching, loading and purging: one generation of an object in a log bucket."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime

from tamarin_dagster.logformat import DeliveryHour, DeliveryPeriod, delivery_day

CHANGED_SINCE_LOADED = "it was overwritten since it was loaded; the next pull loads the new generation"


def shown(name: str) -> str:
    """A name as text that any log, page and terminal can take.

    Whoever may write to the log bucket chooses names: without control characters, else a name could pass for several
    lines of a log; and in UTF-8, which a file's name need not be.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def counted(periods: Collection[DeliveryPeriod]) -> str:
    """How many periods, in words: `1 day`, `24 hours`."""
    noun = "hour" if any(isinstance(period, DeliveryHour) for period in periods) else "day"
    return f"{len(periods):,} {noun}{'' if len(periods) == 1 else 's'}"


@dataclass(frozen=True, slots=True)
class LogObject:
    """One generation of an object in a log bucket, as a listing shows it.

    Attributes:
        key: the object's name.
        etag: the entity tag without its quotes. With the key it names the generation: an overwritten object has a
            new one.
        size: bytes, as stored (compressed objects are not unpacked).
        last_modified: aware, in UTC.
        version_id: on a versioned bucket, once the object was read; listings do not tell it. "null" is the version of
            what was written before the bucket was versioned, or while versioning was suspended.
        is_quiet: False of a file that may still be written; it is not to be read yet.
    """

    key: str
    etag: str
    size: int
    last_modified: datetime
    version_id: str | None = None
    is_quiet: bool = True


@dataclass(frozen=True, slots=True)
class LogKey:
    """An object whose name is a log key's name, and the period in that name in which it was looked for.

    `was_purged` says that its generation was noted as purged when it was listed: so it has come back, or is not gone.
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
    """A key that was left alone, and why. `error` names the cause and, where there is one, the remedy."""

    key: str
    delivery_date: date
    error: str
