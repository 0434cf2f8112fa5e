"""A peer: Python's `re` with the pattern that AWS documents for Athena. Each line is one match.

The pattern is that of "Using Amazon S3 server access logs to identify requests" in the S3 user guide, section "Using
Amazon Athena to query S3 server access logs" (`input.regex` of Hive's RegexSerDe, 2025, with the source region). The
RegexSerDe matches whole lines, hence the `^`; a line that does not match is a row of nulls in Athena, so it is lost.
"""

import re
from collections.abc import Iterator
from datetime import date, datetime, time, tzinfo
from functools import lru_cache
from pathlib import Path

from benchmarks.parse.truth import Compared, compared_columns, lines_of

PATTERN = (
    r'^([^ ]*) ([^ ]*) \[(.*?)\] ([^ ]*) ([^ ]*) ([^ ]*) ([^ ]*) ([^ ]*) ("[^"]*"|-) (-|[0-9]*) ([^ ]*) ([^ ]*)'
    r' ([^ ]*) ([^ ]*) ([^ ]*) ([^ ]*) ("[^"]*"|-) ([^ ]*)'
    r"(?: ([^ ]*) ([^ ]*) ([^ ]*) ([^ ]*) ([^ ]*) ([^ ]*) ([^ ]*) ([^ ]*) ([^ ]*))?.*$"
)
GROUPS = (
    *("bucketowner", "bucket_name", "requestdatetime", "remoteip", "requester", "requestid", "operation", "key"),
    *("request_uri", "httpstatus", "errorcode", "bytessent", "objectsize", "totaltime", "turnaroundtime", "referrer"),
    *("useragent", "versionid", "hostid", "sigv", "ciphersuite", "authtype", "endpoint", "tlsversion"),
    *("accesspointarn", "aclrequired", "sourceregion"),
)
COMPARED_GROUPS = ("remoteip", "operation", "key", "request_uri", "httpstatus", "bytessent", "useragent")
_TIME = GROUPS.index("requestdatetime")
_NUMBERS = [GROUPS.index(n) for n in ("httpstatus", "bytessent", "objectsize", "totaltime", "turnaroundtime")]
_COMPARED = [GROUPS.index(name) for name in COMPARED_GROUPS]

_match = re.compile(PATTERN).match


def read_groups(path: Path) -> int:
    """Return the number of matching lines, after making a tuple of the groups of each."""
    count = 0
    for line in lines_of(path):
        if found := _match(line):
            found.groups()
            count += 1
    return count


def read_typed(path: Path) -> int:
    """Return the same as `read_groups`, after also converting times and numbers."""
    count = 0
    for line in lines_of(path):
        if (found := _match(line)) and _typed(found.groups()):
            count += 1
    return count


def answers(path: Path) -> Iterator[Compared | None]:
    """Yield the result for each line."""
    for line in lines_of(path):
        found = _match(line)
        yield compared_columns(*(found[index + 1] for index in _COMPARED)) if found else None


def typed_answers(path: Path) -> Iterator[Compared | None]:
    """Yield the result for each line. A line with an invalid value is not a record."""
    for line in lines_of(path):
        found = _match(line)
        is_record = found is not None and _typed(found.groups()) is not None
        yield compared_columns(*(found[index + 1] for index in _COMPARED)) if found and is_record else None


def _typed(texts: tuple[str, ...]) -> list[object] | None:
    """Return the values of a line, or None if one is invalid."""
    values: list[object] = list(texts)
    try:
        values[_TIME] = _time(texts[_TIME])
        for index in _NUMBERS:
            text = texts[index]
            values[index] = None if text == "-" else int(text)
    except ValueError:
        return None
    return values


def _time(text: str) -> datetime:
    # Most lines have a new second but few a new day, so the day is cached: strptime takes longer than the match.
    clock = (int(text[12:14]), int(text[15:17]), int(text[18:20]))
    return datetime.combine(_day(text[:11]), time(*clock, tzinfo=_zone(text[21:])))


@lru_cache(maxsize=10_000)
def _day(text: str) -> date:
    return datetime.strptime(f"{text} +0000", "%d/%b/%Y %z").date()


@lru_cache(maxsize=100)
def _zone(text: str) -> tzinfo | None:
    return datetime.strptime(text, "%z").tzinfo
