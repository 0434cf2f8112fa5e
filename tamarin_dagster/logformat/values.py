"""Convert texts to typed values, for the regex reader, and find values that disqualify the line."""

import ipaddress
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from tamarin_dagster.logformat.fields import FIELDS, NUMBER_NAMES, TEXT_NAMES
from tamarin_dagster.logformat.reasons import RejectReason
from tamarin_dagster.logformat.regex_reader import RAW_NAMES, Columns, Rejected

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EARLIEST_REQUEST = datetime(2006, 1, 1, tzinfo=UTC)
"""S3 opened in March 2006."""
MAX_AHEAD = timedelta(days=1)
"""How far in the future a request time may be, because of the clocks and time zones of S3-compatible stores."""
MAX_BIGINT = 2**63 - 1
_MAX_DIGITS = len(str(MAX_BIGINT))

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_MICROSECOND = timedelta(microseconds=1)
_MONTHS = {name: number for number, name in enumerate(MONTHS, 1)}
_QUOTED = {"request_method", *(field.name for field in FIELDS if field.quoted)}
_TIME, _ZONE, _ADDRESS = (RAW_NAMES.index(name) for name in ("time", "zone", "remote_ip"))
_NUMBERS = tuple(RAW_NAMES.index(name) for name in NUMBER_NAMES)
_TEXTS = tuple((RAW_NAMES.index(name), ("-", "") if name in _QUOTED else ("-",)) for name in TEXT_NAMES)


class Typed(NamedTuple):
    """The typed values of a record's columns."""

    time: int
    """Microseconds since 1970, UTC."""
    numbers: list[int | None]
    """The columns of NUMBER_NAMES."""
    texts: list[str | None]
    """The columns of TEXT_NAMES."""


def to_microseconds(when: datetime) -> int:
    """Return microseconds since 1970."""
    return (when - EPOCH) // _MICROSECOND


def convert_columns(columns: Columns, first_time: int, last_time: int) -> Typed:
    """Return the typed values of the columns from `regex_reader.read_line`; `-` and empty text in quotes are null.

    Args:
        columns: the texts of RAW_NAMES.
        first_time: microseconds since 1970; an earlier request is out of range.
        last_time: microseconds since 1970; a later request is out of range.

    Raises:
        Rejected: the line is not a record; with the first fault.
    """
    time = _time(str(columns[_TIME]), str(columns[_ZONE]))
    if time is None:
        raise Rejected(RejectReason.BAD_TIME)
    if not first_time <= time <= last_time:
        raise Rejected(RejectReason.TIME_OUT_OF_RANGE)
    address = _address(str(columns[_ADDRESS]))
    columns = (*columns[:_ADDRESS], address, *columns[_ADDRESS + 1 :])
    numbers = [_number(str(columns[index])) for index in _NUMBERS]
    texts = [None if columns[index] in nulls else columns[index] for index, nulls in _TEXTS]
    return Typed(time, numbers, texts)


def _number(text: str) -> int | None:
    if text == "-":
        return None
    digits = text.lstrip("0") or "0"
    if len(digits) > _MAX_DIGITS or int(digits) > MAX_BIGINT:
        raise Rejected(RejectReason.BAD_NUMBER)
    return int(digits)


@lru_cache(maxsize=4096)
def _time(time: str, zone: str) -> int | None:
    """Return the time of texts like `06/Feb/2019:00:00:38` and `-0530`; None if there is no such time."""
    try:
        when = datetime(
            int(time[7:11]),
            _MONTHS[time[3:6]],
            int(time[:2]),
            int(time[12:14]),
            int(time[15:17]),
            int(time[18:20]),
            tzinfo=UTC,
        )
    except (KeyError, ValueError):
        return None
    ahead = timedelta(hours=int(zone[1:3]), minutes=int(zone[3:5])) // _MICROSECOND
    return to_microseconds(when) - (-ahead if zone.startswith("-") else ahead)


@lru_cache(maxsize=4096)
def _address(text: str) -> str:
    """Return the address; an IPv4-mapped one (`::ffff:198.51.100.7`) as IPv4. Raises Rejected."""
    if text == "-":
        return text
    # Postgres has no zone IDs (fe80::1%eth0).
    if "%" in text:
        raise Rejected(RejectReason.BAD_ADDRESS)
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise Rejected(RejectReason.BAD_ADDRESS) from None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped) if mapped else text
