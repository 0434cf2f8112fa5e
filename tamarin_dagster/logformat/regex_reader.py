"""The regex reader: split one line of any shape into its fields, or find the reason why it is not a record.

This module is the definition of the format; `compiled` reads by the same rules, faster. Client-made text (URI,
referrer, user agent) is in the line unchanged, with raw quotes, so a line cannot be split at its quotes. It is read
from both ends, by these rules:

1. Columns are separated by one or more blanks (U+0020 only; every other character is data). Blanks around the line are
   dropped.
2. From the left: owner, bucket, [time], address, requester, request ID, operation, key. None holds a blank, except a
   requester that begins with `arn:` and holds no `[`, `]` or `"` (CloudFront's origin access identities): it and the
   request ID extend to the first column that is an operation.
3. The request is a bare `-`, or begins with a quote. `"-"` and `""`, followed by the numeric block, are null. Otherwise
   it ends at the FIRST ` HTTP/n[.n]" ` that is followed by the numeric block (status, error code, bytes, size, total
   and turnaround time) and the beginning of a referrer (a quote or `-`); otherwise at the first `" ` that is.
4. Referrer and user agent are a bare `-` or quoted. A quoted referrer ends at the first quote that is followed by
   blanks and a quote. If there is none, the user agent must be a bare `-`.
5. A tail is the columns from the version ID on, as many as there are, each in its documented shape; after the tenth and
   last known one, any text at all, which is kept verbatim as extra fields. The host header may be quoted (Dell OneFS).
   Lines of March 2019 have a column between version ID and host ID: it is recognised by its shape and by the long
   base64 host ID after it, and kept with the extra fields unless it is `-`. Missing columns are null (older lines have
   fewer).
6. A quoted user agent ends at the RIGHTMOST quote that is followed by a tail which reaches the host header. So a client
   that writes a whole tail into its user agent changes nothing. If there is none, it ends at the last quote, and a tail
   of fewer columns must follow. There is no third way: no column is filled by a guess. At most `MAX_QUOTES` quotes are
   tried, which bounds the work for a line.
7. One line is at most one record. A line that reads cleanly by these rules stays one record even if a quoted field
   holds what looks like a second record: that is a lost newline or a forgery. Splitting it would let a client invent
   requests, and rejecting it would let a client hide its own. All bytes are kept, in that field. A second record that
   begins outside of quotes makes the line a spliced one, which is rejected.

Every pattern is anchored, or searched for with classes that match in only one way, so the time for a line is
proportional to its length, whatever it holds.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from tamarin_dagster.logformat.fields import (
    BLOCK_FIELDS,
    HEAD_FIELDS,
    LONG_HOST_ID_PATTERN,
    MARCH_2019_PATTERN,
    REQUEST_FIELDS,
    TAIL_FIELDS,
    TIME_PATTERN,
    ZONE_PATTERN,
    get_column_pattern,
    get_pattern,
)
from tamarin_dagster.logformat.reasons import RejectReason

MAX_LINE_BYTES = 1024**2
"""A longer line is not a record. S3 limits a request's headers to 8 KB and its URI to about the same."""
MAX_QUOTES = 36
"""How many quotes, from the right, are tried as the end of the user agent: those of a quoted host header and of 16
quoted extra fields. S3 has appended no quoted field so far.
"""

Columns = tuple[str | None, ...]
"""The texts of `RAW_NAMES`, in that order; `-` and empty text are not yet null."""

RAW_NAMES: tuple[str, ...] = (
    *HEAD_FIELDS[:2], "time", "zone", *HEAD_FIELDS[3:],
    *REQUEST_FIELDS, *BLOCK_FIELDS, "referrer", "user_agent", *TAIL_FIELDS, "extra_fields",
)  # fmt: skip
"""The pieces of a line: the fields, with the request time in two texts, `06/Feb/2019:00:00:38` and `+0000`."""

_BLOCK = "  *".join(f"({get_pattern(name)})" for name in BLOCK_FIELDS) + '  *(?="|-(?: |$))'
_VERSION = get_pattern("http_version")

_OPENING = re.compile(r"([^ ]+)  *([^ ]+)  *\[([^\]]*)\](?:  *|$)")
_TORN_OPENING = re.compile(r"[^ ]+  *[^ ]+  *\[[0-9A-Za-z/: +-]*")
_TIME = re.compile(rf"({TIME_PATTERN})  *({ZONE_PATTERN})")
_COLUMN = re.compile(r"([^ ]+)(?:  *|$)")
_OPERATION = re.compile(get_pattern("operation"))
_NEXT_OPERATION = re.compile(f" ({get_pattern('operation')})  *")
_NAME = re.compile(get_pattern("request_id"))
_REQUESTER = re.compile(get_pattern("requester"))
_ANY_TIME = re.compile(rf"\[{TIME_PATTERN} ")
_SECOND_RECORD = re.compile(rf"\[{TIME_PATTERN} {ZONE_PATTERN}\](?: *$| [0-9A-Fa-f]*[.:])")

_NULL_REQUEST = re.compile(f'(?:"-?"|-)  *{_BLOCK}')
_VERSIONED_END = re.compile(f' ({_VERSION})"  *{_BLOCK}')
_BARE_END = re.compile(f'"  *{_BLOCK}')
_ANY_END = re.compile(f'(?: {_VERSION})?"  *(?=[^ ])')
_METHOD = re.compile(rf"({get_pattern('request_method')}) ")
_PART = re.compile('"  *"')

_MARCH_2019_COLUMN = f"(?:  *({MARCH_2019_PATTERN})(?=  *{LONG_HOST_ID_PATTERN}(?: |$)))?"


def _tail_pattern(names: tuple[str, ...]) -> str:
    """Return a pattern of the columns `names`, as many as there are, each a group; after the last of all, any text."""
    if not names:
        return "(?:  *([^ ].*))?"
    name, *rest = names
    column = f"({get_column_pattern(name)})"
    if name == "host_header":
        column = f'(?:{column}|"({get_column_pattern(name)})"(?= |$))'
    march_2019 = _MARCH_2019_COLUMN if name == "version_id" else ""
    return f"(?:  *{column}{march_2019}{_tail_pattern(tuple(rest))})?"


_TAIL = re.compile(f"{_tail_pattern(TAIL_FIELDS)} *", re.DOTALL)
_HOST_HEADER = TAIL_FIELDS.index("host_header")
_NULL_COLUMN = re.compile("-(?= |$)")
_NULL_USER_AGENT = re.compile("  *-(?= |$)")
_NOTHING = re.compile("")
_OWNER = re.compile(get_pattern("bucket_owner"))


class Rejected(Exception):  # noqa: N818  # a result, not a fault
    """The line is not a record."""

    def __init__(self, reason: RejectReason) -> None:
        super().__init__(reason.description)
        self.reason = reason


class _Request(NamedTuple):
    method: str | None
    uri: str | None
    version: str | None
    block: tuple[str, ...]
    end: int
    """Where the referrer begins."""


def read_line(line: str) -> Columns:
    """Return the columns of `RAW_NAMES` in the line.

    Raises:
        Rejected: the line is not a record; with the reason.
    """
    text = line.strip(" ")
    try:
        head, position = _read_head(text)
        request = _read_request(text, position)
        referrer, user_agent, columns = _read_agents(text, request.end)
    except Rejected as rejected:
        if rejected.reason is not RejectReason.NOT_A_RECORD and _holds_two_times(text):
            raise Rejected(RejectReason.SPLICED) from rejected
        raise
    return (*head, request.method, request.uri, request.version, *request.block, referrer, user_agent, *columns)


def count_tail_columns(line: str) -> int:
    """Return the number of columns after the user agent of a line that is a record; extra fields count as one."""
    return sum(column is not None for column in read_line(line)[-len(TAIL_FIELDS) - 1 :])


def is_cut_in_last_column(line: str) -> bool:
    """Return whether a line that is rejected for its tail would be a record without its last column."""
    try:
        read_line(line.rstrip(" ").rpartition(" ")[0])
    except Rejected:
        return False
    return True


def _holds_two_times(text: str) -> bool:
    first = _ANY_TIME.search(text)
    return first is not None and _ANY_TIME.search(text, first.end()) is not None


def _read_head(text: str) -> tuple[Columns, int]:
    """Rule 2: return the columns from the owner to the key, and where the request begins."""
    opening = _OPENING.match(text)
    if opening is None:
        torn = _TORN_OPENING.fullmatch(text)
        raise Rejected(RejectReason.TOO_FEW_FIELDS if torn else RejectReason.NOT_A_RECORD)
    owner, bucket, when = opening.groups()
    if not (_OWNER.fullmatch(owner) and _NAME.fullmatch(bucket)):
        raise Rejected(RejectReason.NOT_A_RECORD)
    time = _TIME.fullmatch(when)
    if time is None:
        raise Rejected(RejectReason.BAD_TIME)
    address, position = _column(text, opening.end())
    requester, request_id, operation, position = _read_requester(text, position)
    if not (_NAME.fullmatch(request_id) and _REQUESTER.fullmatch(requester)):
        raise Rejected(RejectReason.BAD_REQUESTER)
    key, position = _column(text, position)
    return (owner, bucket, time[1], time[2], address, requester, request_id, operation, key), position


def _read_requester(text: str, start: int) -> tuple[str, str, str, int]:
    """Return requester, request ID, operation, and where the key begins."""
    requester, position = _column(text, start)
    request_id, position = _column(text, position)
    operation, position = _column(text, position)
    if _OPERATION.fullmatch(operation):
        return requester, request_id, operation, position
    found = _NEXT_OPERATION.search(text, start) if requester.startswith("arn:") else None
    if found is None:
        raise Rejected(RejectReason.BAD_OPERATION)
    requester, _, request_id = text[start : found.start()].rstrip(" ").rpartition(" ")
    return requester.rstrip(" "), request_id, found[1], found.end()


def _column(text: str, position: int) -> tuple[str, int]:
    """Return the unquoted column at `position`, and where the next one begins."""
    found = _COLUMN.match(text, position)
    if found is None:
        raise Rejected(RejectReason.TOO_FEW_FIELDS)
    return found[1], found.end()


def _read_request(text: str, start: int) -> _Request:
    """Rule 3: return the request and the numeric block."""
    found = _NULL_REQUEST.match(text, start)
    if found:
        return _Request(None, None, None, found.groups(), found.end())
    if not text.startswith('"', start):
        raise Rejected(_what_is_wrong(text, start))
    version = None
    found = _VERSIONED_END.search(text, start + 1)
    if found:
        version, *block = found.groups()
    else:
        found = _BARE_END.search(text, start + 1)
        if found is None:
            raise Rejected(_what_is_wrong(text, start))
        block = list(found.groups())
    target = text[start + 1 : found.start()]
    method = _METHOD.match(target)
    if method is None or method.end() == len(target):
        return _Request(None, target, version, tuple(block), found.end())
    return _Request(method[1], target[method.end() :], version, tuple(block), found.end())


def _what_is_wrong(text: str, start: int) -> RejectReason:
    """Return why no numeric block follows the request that begins at `start`."""
    if text.startswith('"', start):
        end = _ANY_END.search(text, start + 1)
        position = end.end() if end else len(text)
    else:
        position = _column(text, start)[1] if start < len(text) else start
    for name in BLOCK_FIELDS:
        found = _COLUMN.match(text, position)
        if found is None:
            return RejectReason.TOO_FEW_FIELDS
        if not re.fullmatch(get_pattern(name), found[1]):
            return _WRONG.get(name, RejectReason.BAD_NUMBER)
        position = found.end()
    return RejectReason.TOO_FEW_FIELDS


_WRONG = {"http_status": RejectReason.BAD_STATUS, "error_code": RejectReason.BAD_ERROR_CODE}


def _read_agents(text: str, start: int) -> tuple[str, str, Columns]:
    """Rules 4 to 6: return referrer, user agent, and the columns from the version ID on."""
    if text[start] == '"':
        part = _PART.search(text, start + 1)
        if part is None:
            end, tail = _find_end(text, start, _NULL_USER_AGENT)
            return text[start + 1 : end], "-", tail
        referrer, position = text[start + 1 : part.start()], part.end() - 1
    else:
        referrer, position = _column(text, start)
        if referrer != "-":
            raise Rejected(RejectReason.TOO_FEW_FIELDS)
    if text.startswith('"', position):
        end, tail = _find_end(text, position, _NOTHING)
        return referrer, text[position + 1 : end], tail
    null = _NULL_COLUMN.match(text, position)
    if null is None:
        raise Rejected(RejectReason.TOO_FEW_FIELDS)
    bare_tail = _read_tail(text, null.end())
    if bare_tail is None:
        raise Rejected(RejectReason.BAD_TAIL)
    return referrer, "-", bare_tail


def _find_end(text: str, opening: int, before_tail: re.Pattern[str]) -> tuple[int, Columns]:
    """Rule 6: return the position of the quote that closes the one at `opening`, and the columns of the tail.

    `before_tail` must match between that quote and the tail.
    """
    closing, gap, shorter = -1, None, None
    for quote in _quotes_from_the_right(text, opening):
        found = before_tail.match(text, quote + 1)
        tail = _read_tail(text, found.end()) if found else None
        if tail is not None and tail[_HOST_HEADER] is not None:
            return quote, tail
        if closing < 0:
            closing, gap, shorter = quote, found, tail
    if gap is None or text[closing + 1 : closing + 2] not in ("", " "):
        raise Rejected(RejectReason.TOO_FEW_FIELDS)
    if shorter is None:
        raise Rejected(RejectReason.BAD_TAIL)
    return closing, shorter


def _quotes_from_the_right(text: str, opening: int) -> Iterator[int]:
    """Yield the last `MAX_QUOTES` quotes after `opening`, the rightmost first."""
    quote = len(text)
    for _ in range(MAX_QUOTES):
        quote = text.rfind('"', opening + 1, quote)
        if quote < 0:
            return
        yield quote


def _read_tail(text: str, start: int) -> Columns | None:
    """Rule 5: return the columns from the version ID on, and the extra fields; None if it is not a tail."""
    found = _TAIL.fullmatch(text, start)
    if found is None:
        return None
    version_id, march_2019, *columns, extra = found.groups()
    quoted_host = columns.pop(_HOST_HEADER)
    columns[_HOST_HEADER - 1] = columns[_HOST_HEADER - 1] or quoted_host
    if extra and _SECOND_RECORD.search(extra.partition('"')[0]):
        raise Rejected(RejectReason.SPLICED)
    kept = [part for part in (None if march_2019 == "-" else march_2019, extra) if part]
    return (version_id, *columns, " ".join(kept) or None)
