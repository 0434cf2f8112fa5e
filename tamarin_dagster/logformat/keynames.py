"""Parse log key names, and make the prefix that the names of a day or an hour begin with.

Two layouts (S3 user guide, "Logging requests with server access logging"); S3 adds no separator after the prefix:

    simple       <prefix>YYYY-mm-DD-HH-MM-SS-<unique>
    partitioned  <prefix><folders>/YYYY/mm/DD/YYYY-mm-DD-HH-MM-SS-<unique>

In the partitioned layout the folders are `<account>/<region>/<source bucket>` if S3 delivers. Other stores have their
own (`<zone>/<user>/<bucket>` on Dell OneFS, `<user>/<bucket>` on VAST), so any folders are accepted, or none. The
folders end at the first `YYYY/mm/DD/`, whose date must be that of the name. Folders that begin with an account and a
region are S3's, and there are three of them.

After the unique part a name may have a suffix that a copy gets: `.txt` or `.log` from a browser or an editor, `.gz` or
`.zst` from a compressor, or one of each.

A key with any other name is a stray: somebody else's object, which is never read or deleted.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Literal, TypeAlias

_SUFFIX = r"\.(?:txt|log)(?:\.(?:gz|zst))?|\.(?:gz|zst)(?:\.(?:txt|log))?"
_NAME = re.compile(
    r"(?P<time>[0-9]{4}-[0-9]{2}-[0-9]{2}-[0-9]{2}-[0-9]{2}-[0-9]{2})"
    rf"-(?P<unique>[0-9A-Za-z]{{16}})(?P<suffix>{_SUFFIX})?"
)
# Recognised by the shape alone, even if the date does not exist. The second one begins a folder's name.
_AT_DATE = re.compile(r"(?P<year>[0-9]{4}/)(?P<day>[0-9]{2}/[0-9]{2}/)")
_DATE = re.compile(f"(?<=/){_AT_DATE.pattern}")
_ACCOUNT_AND_REGION = re.compile(r"[0-9]{12}/[a-z0-9-]+/")
_S3_FOLDERS = re.compile(r"(?:.*/)?[0-9]{12}/[a-z0-9-]+/(?P<source>[A-Za-z0-9._-]+)/", re.DOTALL)
# Account, region and bucket.
_S3_FOLDER_COUNT = 3


@dataclass(frozen=True, order=True, slots=True)
class DeliveryHour:
    """An hour (UTC, 0 to 23) of a day of deliveries; as text `2026-03-01-14`, like in the names."""

    day: date
    hour: int

    def __str__(self) -> str:
        return f"{self.day}-{self.hour:02}"


# The unit of a look, a load, a check and a purge: a day (UTC) or an hour of deliveries, by the date in the names.
DeliveryPeriod: TypeAlias = date | DeliveryHour


def delivery_day(period: DeliveryPeriod) -> date:
    """Return the day that a period is, or is part of."""
    return period.day if isinstance(period, DeliveryHour) else period


@dataclass(frozen=True)
class LogKeyName:
    """The parts of a log key's name."""

    key: str
    delivery_time: datetime
    """UTC, about the time of delivery; midnight if S3 delivers by event date."""
    unique: str
    source_bucket: str | None
    """The bucket whose requests are logged; only S3's partitioned layout has it."""
    compression: Literal["gz", "zst"] | None
    """The suffix of a compressed copy. Only a hint: `decompress` checks the bytes."""

    @property
    def delivery_date(self) -> date:
        """The day (UTC) of the log key."""
        return self.delivery_time.date()

    @property
    def delivery_hour(self) -> DeliveryHour:
        """The hour (UTC) of the log key; the day's first one if S3 delivers by event date."""
        return DeliveryHour(self.delivery_time.date(), self.delivery_time.hour)

    def is_of(self, period: DeliveryPeriod) -> bool:
        """Return whether the log key belongs to that day or hour."""
        return period == (self.delivery_hour if isinstance(period, DeliveryHour) else self.delivery_date)


@dataclass(frozen=True, slots=True)
class DatedFolders:
    """The folders of a name in the partitioned layout. Says nothing about the rest of the name.

    Attributes:
        root: the prefix and the folders before the year; the argument of `partitioned_prefix`.
        year: the root and the folder of the year.
        source_bucket: the bucket in the folders, if they end like S3's (`<account>/<region>/<bucket>/`).
        is_of_s3: whether they begin like S3's; then only the bucket's own folder can be the root of a tree.
    """

    root: str
    year: str
    source_bucket: str | None
    is_of_s3: bool


def dated_folders(key: str, prefix: str = "") -> DatedFolders | None:
    """Return the folders of `key` up to its first `YYYY/mm/DD/` after `prefix`; None if it has none."""
    found = _date_folders(key, prefix) if key.startswith(prefix) else None
    if found is None:
        return None
    folders = key[len(prefix) : found.start()]
    is_of_s3 = folders.count("/") >= _S3_FOLDER_COUNT and _ACCOUNT_AND_REGION.match(folders) is not None
    return DatedFolders(key[: found.start()], key[: found.end("year")], _source(folders), is_of_s3)


def _date_folders(key: str, prefix: str) -> re.Match[str] | None:
    return _AT_DATE.match(key, len(prefix)) or _DATE.search(key, len(prefix))


def _source(folders: str) -> str | None:
    of_s3 = _S3_FOLDERS.fullmatch(folders)
    return of_s3["source"] if of_s3 else None


def parse_key_name(key: str, prefix: str = "") -> LogKeyName | None:
    """Return the parts of the name `key`, or None if the key is a stray.

    The key must consist of `prefix` and exactly one of the two layouts: a prefix may hold dates itself, and
    `<prefix>backup/2026-...` is somebody's copy.
    """
    if not key.startswith(prefix):
        return None
    dated = _date_folders(key, prefix)
    found = _NAME.fullmatch(key, dated.end() if dated else len(prefix))
    if found is None:
        return None
    try:
        # strptime takes ten times as long, and a tick reads a hundred thousand names.
        delivery_time = datetime(*map(int, found["time"].split("-")), tzinfo=UTC)  # type: ignore[misc, arg-type]
    except ValueError:
        return None
    source = None
    if dated:
        folders = key[len(prefix) : dated.start()]
        if (dated["year"] + dated["day"]).replace("/", "-") != found["time"][:10] + "-":
            return None
        if folders.count("/") > _S3_FOLDER_COUNT and _ACCOUNT_AND_REGION.match(folders):
            return None
        source = _source(folders)
    suffix = found["suffix"] or ""
    compression: Literal["gz", "zst"] | None = "gz" if ".gz" in suffix else "zst" if ".zst" in suffix else None
    return LogKeyName(key, delivery_time, found["unique"], source, compression)


def simple_prefix(prefix: str, period: DeliveryPeriod) -> str:
    """Return the period's prefix in the simple layout: `<prefix>YYYY-mm-DD-`, for an hour with `HH-`."""
    return f"{prefix}{period}-"


def partitioned_prefix(root: str, period: DeliveryPeriod) -> str:
    """Return the period's prefix in the partitioned layout: `<root>YYYY/mm/DD/`.

    For an hour, `YYYY-mm-DD-HH-` follows. `root` is `<prefix><folders>/`, with its last slash, or the prefix alone.
    """
    folder = root + delivery_day(period).isoformat().replace("-", "/") + "/"
    return simple_prefix(folder, period) if isinstance(period, DeliveryHour) else folder
