"""The careful reader: one line of any shape -> its fields, or the reason why it is no record.

Client-made text (URI, referrer, user agent) stands in the line as it came, raw quotes included, so a line cannot be
cut at its quotes. It is read from both ends. These are the rules; `quick` follows them too.

1. Columns are separated by one or more blanks (U+0020 alone; every other character is data). Blanks around the line are
   dropped.
2. From the left: owner, bucket, [time], address, requester, request id, operation, key. None holds a blank, but for a
   requester that begins with `arn:` and holds no `[`, `]` or `"` (CloudFront's origin access identities): it and the
   request id reach up to the first column that is an operation.
3. The request is a bare `-`, or begins with a quote. `"-"` and `""`, with the numeric block behind, are null. Else it
   ends at the FIRST ` HTTP/n[.n]" ` that has the numeric block (status, error code, bytes, size, total and turnaround
   time) and the beginning of a referrer (a quote or `-`) behind it; else at the first `" ` that has.
4. Referrer and user agent are a bare `-` or quoted. A quoted referrer ends at the first quote that has blanks and a
   quote behind it. If there is none, the user agent must be a bare `-`.
5. A quoted user agent ends at the RIGHTMOST quote behind which the columns of the tail (version id to host header at
   least) have their documented shapes; else at the last quote. So a client that writes a whole tail into its user agent
   changes nothing. Behind all ten columns of the tail, further fields may be quoted (at most `MAX_QUOTED_EXTRAS` such);
   they are kept verbatim.
6. The tail is cut at blanks. Columns that are missing are null (older lines have fewer). What stands behind the last
   known column is kept verbatim as extra fields. In lines of March 2019 a column stands between version id and host id:
   known by its shape and by the long base64 host id behind it, and kept with the extra fields unless it is `-`.
7. One line is at most one record. A line that reads cleanly by these rules stays one record even if a quoted field
   holds what looks like a second record: that is a lost newline or a forgery, and to split it would let a client invent
   requests, to reject it would let a client hide its own. The bytes are all kept, in that field. A second record that
   begins outside of quotes makes the line a spliced one, which is rejected.

Every pattern is anchored, or searched for with classes that cannot be re-read in a second way, so that a line costs
time in proportion to its length, whatever it holds.
"""

import re
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
    pattern_of,
)
from tamarin_dagster.logformat.reasons import RejectReason

MAX_QUOTED_EXTRAS = 16
"""Quoted fields behind the tail that are looked through; S3 has appended none so far. Bounds the work per line."""

Columns = tuple[str | None, ...]
"""The texts of `RAW_NAMES`, in that order; `-` and empty text not yet null."""

RAW_NAMES: tuple[str, ...] = (
    *HEAD_FIELDS[:2], "time", "zone", *HEAD_FIELDS[3:],
    *REQUEST_FIELDS, *BLOCK_FIELDS, "referrer", "user_agent", *TAIL_FIELDS, "extra_fields",
)  # fmt: skip
"""What a line is cut into: the fields, the request time in two texts, `06/Feb/2019:00:00:38` and `+0000`."""

_BLOCK = "  *".join(f"({pattern_of(name)})" for name in BLOCK_FIELDS) + '  *(?="|-(?: |$))'
_VERSION = pattern_of("http_version")

_OPENING = re.compile(r"([^ ]+)  *([^ ]+)  *\[([^\]]*)\](?:  *|$)")
_TORN_OPENING = re.compile(r"[^ ]+  *[^ ]+  *\[[0-9A-Za-z/: +-]*")
_TIME = re.compile(rf"({TIME_PATTERN})  *({ZONE_PATTERN})")
_COLUMN = re.compile(r"([^ ]+)(?:  *|$)")
_OPERATION = re.compile(pattern_of("operation"))
_NEXT_OPERATION = re.compile(f" ({pattern_of('operation')})  *")
_NAME = re.compile(pattern_of("request_id"))
_REQUESTER = re.compile(pattern_of("requester"))
_ANY_TIME = re.compile(rf"\[{TIME_PATTERN} ")
_SECOND_RECORD = re.compile(rf"\[{TIME_PATTERN} {ZONE_PATTERN}\](?: *$| [0-9A-Fa-f]*[.:])")

_NULL_REQUEST = re.compile(f'(?:"-?"|-)  *{_BLOCK}')
_VERSIONED_END = re.compile(f' ({_VERSION})"  *{_BLOCK}')
_BARE_END = re.compile(f'"  *{_BLOCK}')
_ANY_END = re.compile(f'(?: {_VERSION})?"  *(?=[^ ])')
_METHOD = re.compile(rf"({pattern_of('request_method')}) ")
_PART = re.compile('"  *"')

_SHAPES = [pattern_of(name) for name in TAIL_FIELDS]
_LEAST_TAIL = TAIL_FIELDS.index("host_header") + 1
_MARCH_2019_COLUMN = f"(?:  *{MARCH_2019_PATTERN}(?=  *{LONG_HOST_ID_PATTERN} ))?"
_LEAST_COLUMNS = f"  *{_SHAPES[0]}{_MARCH_2019_COLUMN}" + "".join(f"  *{shape}" for shape in _SHAPES[1:_LEAST_TAIL])
_ALL_COLUMNS = re.compile(_LEAST_COLUMNS + "".join(f"  *{shape}" for shape in _SHAPES[_LEAST_TAIL:]) + " ")


def _optional(shapes: list[str]) -> str:
    """A pattern of the columns of `shapes`, as many as there are; behind the last, what S3 appends one day."""
    if not shapes:
        return '(?: [^"]*)?'
    return f"(?:  *{shapes[0]}(?=[ ]|$){_optional(shapes[1:])})?"


_UNQUOTED_TAIL = re.compile(f"{_LEAST_COLUMNS}(?=[ ]|$){_optional(_SHAPES[_LEAST_TAIL:])} *$")
_BLANKS = re.compile("  *")
_LONG_HOST_ID = re.compile(LONG_HOST_ID_PATTERN)
_MARCH_2019 = re.compile(MARCH_2019_PATTERN)


class Rejected(Exception):  # noqa: N818  # a finding, not a fault
    """The line is no record."""

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
    """The columns of `RAW_NAMES` that the line holds.

    Raises:
        Rejected: the line is no record; with the reason.
    """
    text = line.strip(" ")
    try:
        head, position = _read_head(text)
        request = _read_request(text, position)
        referrer, user_agent, tail = _read_agents(text, request.end)
        columns = _read_tail(tail)
    except Rejected as rejected:
        if rejected.reason is not RejectReason.NOT_A_RECORD and _holds_two_times(text):
            raise Rejected(RejectReason.SPLICED) from rejected
        raise
    return (*head, request.method, request.uri, request.version, *request.block, referrer, user_agent, *columns)


def _holds_two_times(text: str) -> bool:
    first = _ANY_TIME.search(text)
    return first is not None and _ANY_TIME.search(text, first.end()) is not None


def _read_head(text: str) -> tuple[Columns, int]:
    """Rule 2: the columns from the owner to the key, and where the request begins."""
    opening = _OPENING.match(text)
    if opening is None:
        torn = _TORN_OPENING.fullmatch(text)
        raise Rejected(RejectReason.TOO_FEW_FIELDS if torn else RejectReason.NOT_A_RECORD)
    owner, bucket, when = opening.groups()
    if not (_NAME.fullmatch(owner) and _NAME.fullmatch(bucket)):
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
    """Requester, request id, operation, and where the key begins."""
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
    """The unquoted column at `position`, and where the next one begins."""
    found = _COLUMN.match(text, position)
    if found is None:
        raise Rejected(RejectReason.TOO_FEW_FIELDS)
    return found[1], found.end()


def _read_request(text: str, start: int) -> _Request:
    """Rule 3: the request and the numeric block."""
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
    """Why no numeric block stands behind the request that begins at `start`."""
    if text.startswith('"', start):
        end = _ANY_END.search(text, start + 1)
        position = end.end() if end else len(text)
    else:
        position = _column(text, start)[1] if start < len(text) else start
    for name in BLOCK_FIELDS:
        found = _COLUMN.match(text, position)
        if found is None:
            return RejectReason.TOO_FEW_FIELDS
        if not re.fullmatch(pattern_of(name), found[1]):
            return _WRONG.get(name, RejectReason.BAD_NUMBER)
        position = found.end()
    return RejectReason.TOO_FEW_FIELDS


_WRONG = {"http_status": RejectReason.BAD_STATUS, "error_code": RejectReason.BAD_ERROR_CODE}


def _read_agents(text: str, start: int) -> tuple[str, str, str]:
    """Rules 4 and 5: referrer, user agent, and the text of the tail."""
    if text[start] == '"':
        part = _PART.search(text, start + 1)
        if part is None:
            referrer, position = _only_quoted(text, start + 1)
        else:
            referrer, position = text[start + 1 : part.start()], part.end() - 1
    else:
        referrer, position = _column(text, start)
        if referrer != "-":
            raise Rejected(RejectReason.TOO_FEW_FIELDS)
    if text.startswith('"', position):
        end = _user_agent_end(text, position)
        return referrer, text[position + 1 : end], text[end + 1 :]
    user_agent, position = _column(text, position)
    if user_agent != "-":
        raise Rejected(RejectReason.TOO_FEW_FIELDS)
    return referrer, user_agent, text[position:]


def _only_quoted(text: str, start: int) -> tuple[str, int]:
    """A quoted referrer with a bare user agent behind it, and where that begins."""
    end = text.rfind('"', start)
    if end < 0 or not text.startswith(" ", end + 1):
        raise Rejected(RejectReason.TOO_FEW_FIELDS)
    blanks = _BLANKS.match(text, end + 1)
    return text[start:end], blanks.end() if blanks else len(text)


def _user_agent_end(text: str, opening: int) -> int:
    """Rule 5: where the quote stands that closes the user agent opened at `opening`."""
    last = text.rfind('"', opening + 1)
    if last < 0 or text[last + 1 : last + 2] not in ("", " "):
        raise Rejected(RejectReason.TOO_FEW_FIELDS)
    if _UNQUOTED_TAIL.match(text, last + 1):
        return last
    closing = last
    for _ in range(MAX_QUOTED_EXTRAS):
        # `closing` would close a quoted extra field, `opened` open it, and `end` close the user agent or another extra
        opened = text.rfind('"', opening + 1, closing)
        end = text.rfind('"', opening + 1, opened) if opened > 0 else -1
        if end < 0 or text[opened - 1] != " " or text[end + 1] != " ":
            break
        if _ALL_COLUMNS.match(text[end + 1 : opened]):
            return end
        closing = end
    return last


def _read_tail(tail: str) -> Columns:
    """Rule 6: the columns from the version id on, and the extra fields."""
    unquoted = tail.partition('"')[0]
    if _SECOND_RECORD.search(unquoted):
        raise Rejected(RejectReason.SPLICED)
    tail = tail.strip(" ")
    count = len(TAIL_FIELDS)
    columns: list[str | None] = list(_BLANKS.split(tail, maxsplit=count + 1)) if tail else []
    march_2019 = None
    if len(columns) > 2 and _is_march_2019(str(columns[1]), str(columns[2])):
        column = columns.pop(1)
        march_2019 = None if column == "-" else column
        rest = columns[count] if len(columns) > count else None
    else:
        rest = _BLANKS.split(tail, maxsplit=count)[count] if len(columns) > count else None
    known = columns[:count]
    if any(column and '"' in column for column in known):
        raise Rejected(RejectReason.TOO_FEW_FIELDS)
    extra = " ".join(text for text in (march_2019, rest) if text)
    return (*known, *[None] * (count - len(known)), extra or None)


def _is_march_2019(column: str, after: str) -> bool:
    return bool(_MARCH_2019.fullmatch(column) and _LONG_HOST_ID.fullmatch(after))
