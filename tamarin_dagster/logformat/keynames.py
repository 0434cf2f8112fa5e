"""Log key names: what a name says of its delivery, and the prefix under which a day's or an hour's names stand.

Two layouts (S3 user guide, "Logging requests with server access logging"); S3 adds no separator behind the prefix:

    simple       <prefix>YYYY-mm-DD-HH-MM-SS-<unique>
    partitioned  <prefix><account>/<region>/<source bucket>/YYYY/mm/DD/YYYY-mm-DD-HH-MM-SS-<unique>

A key with any other name is a stray: it is somebody else's object, never to be read or deleted.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Literal, TypeAlias

_UNIQUE = r"[0-9A-Za-z]{16}"
_NAME = re.compile(
    r"(?:(?P<account>[0-9]{12})/(?P<region>[a-z0-9-]+)/(?P<source>[A-Za-z0-9._-]+)/(?P<folder>[0-9]{4}/[0-9]{2}/[0-9]{2})/)?"
    r"(?P<time>[0-9]{4}-[0-9]{2}-[0-9]{2}-[0-9]{2}-[0-9]{2}-[0-9]{2})"
    rf"-(?P<unique>{_UNIQUE})(?:\.(?P<compression>gz|zst))?"
)


@dataclass(frozen=True, order=True, slots=True)
class DeliveryHour:
    """An hour (UTC, 0 to 23) of a day in which log keys are delivered; as text `2026-03-01-14`, as names have it."""

    day: date
    hour: int

    def __str__(self) -> str:
        return f"{self.day}-{self.hour:02}"


# What is looked at, loaded, checked and purged together: a day (UTC) or an hour of deliveries, as the names tell it.
DeliveryPeriod: TypeAlias = date | DeliveryHour


def delivery_day(period: DeliveryPeriod) -> date:
    """The day that a period is, or lies in."""
    return period.day if isinstance(period, DeliveryHour) else period


@dataclass(frozen=True)
class LogKeyName:
    """What the name of a log key says."""

    key: str
    delivery_time: datetime
    """UTC, about the time of delivery; midnight if S3 delivers by event date."""
    unique: str
    source_bucket: str | None
    """The bucket whose requests are logged; only the partitioned layout says it."""
    compression: Literal["gz", "zst"] | None
    """The suffix of a compressed copy. Only a hint: `decompress` looks at the bytes."""

    @property
    def delivery_date(self) -> date:
        """The day (UTC) that the log key belongs to."""
        return self.delivery_time.date()

    @property
    def delivery_hour(self) -> DeliveryHour:
        """The hour (UTC) that the log key belongs to; the day's first if S3 delivers by event date."""
        return DeliveryHour(self.delivery_time.date(), self.delivery_time.hour)

    def is_of(self, period: DeliveryPeriod) -> bool:
        """Whether the log key belongs to that day, or hour."""
        return period == (self.delivery_hour if isinstance(period, DeliveryHour) else self.delivery_date)


def parse_key_name(key: str, prefix: str = "") -> LogKeyName | None:
    """What the name of `key` says, or None if the key is a stray.

    Between `prefix` and the end of the key there must be exactly one of the two layouts: a prefix may hold dates
    itself, and `<prefix>backup/2026-...` is somebody's copy.
    """
    if not key.startswith(prefix):
        return None
    found = _NAME.fullmatch(key, len(prefix))
    if found is None:
        return None
    try:
        # strptime takes ten times as long, and a tick reads a hundred thousand names.
        delivery_time = datetime(*map(int, found["time"].split("-")), tzinfo=UTC)  # type: ignore[misc, arg-type]
    except ValueError:
        return None
    if found["folder"] is not None and found["folder"].replace("/", "-") != found["time"][:10]:
        return None
    compression: Literal["gz", "zst"] | None = None
    if found["compression"] is not None:
        compression = "gz" if found["compression"] == "gz" else "zst"
    return LogKeyName(key, delivery_time, found["unique"], found["source"], compression)


def simple_prefix(prefix: str, period: DeliveryPeriod) -> str:
    """What the period's log keys begin with in the simple layout: `<prefix>YYYY-mm-DD-`, of an hour with `HH-`."""
    return f"{prefix}{period}-"


def partitioned_prefix(root: str, period: DeliveryPeriod) -> str:
    """What the period's log keys begin with in the partitioned layout: `<root>YYYY/mm/DD/`.

    Of an hour with `YYYY-mm-DD-HH-` behind it. `root` is `<prefix><account>/<region>/<source bucket>/`, with its last
    slash.
    """
    folder = root + delivery_day(period).isoformat().replace("-", "/") + "/"
    return simple_prefix(folder, period) if isinstance(period, DeliveryHour) else folder
