"""Answer the compiled reader's questions about bytes: a column's end, whether it has a field's shape, its time."""

import numpy as np
import numpy.typing as npt

from tamarin_dagster.logformat.compiled.automata import ENDS_HERE, START, automaton, difference
from tamarin_dagster.logformat.compiled.compiling import Octets, compiled, eight_octets, inlined, signed
from tamarin_dagster.logformat.fields import (
    LONG_HOST_ID_PATTERN,
    MARCH_2019_PATTERN,
    TAIL_FIELDS,
    TIME_PATTERN,
    ZONE_PATTERN,
    get_excludes,
    get_pattern,
)
from tamarin_dagster.logformat.values import MONTHS

NO = -1
"""No position: the search found nothing."""
NO_TIME = np.iinfo(np.int64).min
"""A time that does not exist."""

BLANK, QUOTE, DASH, OPEN, CLOSE = b' "-[]'
TIME_BYTES = len("06/Feb/2019:00:00:38")
ZONE_BYTES = len("+0000")

_TABLE_PATTERNS = [TIME_PATTERN, ZONE_PATTERN, MARCH_2019_PATTERN, LONG_HOST_ID_PATTERN]
_SHAPED_FIELDS = (
    "bucket_owner",
    "operation",
    "request_method",
    "http_version",
    "http_status",
    "error_code",
    "bytes_sent",
    *TAIL_FIELDS,
)
(
    TIME, ZONE, MARCH_2019, LONG_HOST_ID, OWNER, OPERATION, METHOD, VERSION, STATUS, ERROR_CODE, NUMBER, FIRST_OF_TAIL,
) = range(12)  # fmt: skip
"""Indices of shapes in `SHAPES`; FIRST_OF_TAIL + n is that of the tail's column n."""

Shapes = npt.NDArray[np.uint16]


def _shapes() -> Shapes:
    """Return all automata in one table. Row s is state s, with the next state for each byte; row 0 has the start
    states.
    """
    rows = [np.zeros((1, 256), np.uint16)]
    states = 1
    patterns = [(pattern, "") for pattern in _TABLE_PATTERNS]
    patterns += [(get_pattern(name), get_excludes(name)) for name in _SHAPED_FIELDS]
    for number, (pattern, excluded) in enumerate(patterns):
        table = difference(pattern, excluded) if excluded else automaton(pattern)
        renumbered = np.arange(len(table), dtype=np.uint16) + states - 1
        renumbered[0] = 0
        renumbered[table[:, ENDS_HERE] == 1] |= _MAY_END
        rows[0][0, number] = renumbered[START]
        rows.append(renumbered[table[1:, :256]])
        states += len(table) - 1
    return np.concatenate(rows)


_MAY_END = 0x8000
_STATE = _MAY_END - 1

SHAPES = _shapes()
"""The field table's automata by which a line is cut, (states, 256). A state is its row's number, with `_MAY_END` if a
text may end there. It is handed to compiled functions, so that nothing of it is frozen into what numba keeps on disk.
"""

_MONTH_LETTERS = np.array([int.from_bytes(name.encode()) for name in MONTHS])
_MONTH_DAYS = np.array([31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
_0 = ord("0")
_NEAR_BYTES = 8

_EIGHT_LOW_BITS, _EIGHT_HIGH_BITS, _EIGHT_BLANKS, _EIGHT_QUOTES, _EIGHT_BRACKETS = (
    np.uint64(octet * 0x0101010101010101) for octet in (0x7F, 0x80, BLANK, QUOTE, OPEN)
)


@inlined
def skip_blanks(octets: Octets, at: int, end: int) -> int:
    """Return the first byte from `at` on that is not a blank."""
    while at < end and octets[at] == BLANK:
        at += 1
    return at


# Below, the first bytes are tested one by one: near matches are common, and testing eight together costs more there.


@inlined
def column_end(octets: Octets, at: int, end: int) -> int:
    """Return the next blank; here and below, `end` if there is none."""
    near = min(at + _NEAR_BYTES, end)
    while at < near and octets[at] != BLANK:
        at += 1
    if at < near:
        return at
    while at + 8 <= end and not _is_among(_EIGHT_BLANKS, eight_octets(octets, at)):
        at += 8
    while at < end and octets[at] != BLANK:
        at += 1
    return at


@inlined
def next_quote(octets: Octets, at: int, end: int) -> int:
    """Return the first quote from `at` on."""
    near = min(at + _NEAR_BYTES, end)
    while at < near and octets[at] != QUOTE:
        at += 1
    if at < near:
        return at
    while at + 8 <= end and not _is_among(_EIGHT_QUOTES, eight_octets(octets, at)):
        at += 8
    while at < end and octets[at] != QUOTE:
        at += 1
    return at


@inlined
def _is_among(eight_alike: np.uint64, eight: np.uint64) -> bool:
    """Return whether the octet of `eight_alike` is one of the `eight`.

    See S. E. Anderson, "Bit Twiddling Hacks", a zero byte; in the form without overflow, of which numpy would warn.
    """
    differences = eight ^ eight_alike
    return bool(~(((differences & _EIGHT_LOW_BITS) + _EIGHT_LOW_BITS) | differences) & _EIGHT_HIGH_BITS)


@inlined
def next_opening(octets: Octets, at: int, end: int) -> int:
    """Return the first opening bracket from `at` on."""
    near = min(at + _NEAR_BYTES, end)
    while at < near and octets[at] != OPEN:
        at += 1
    if at < near:
        return at
    while at + 8 <= end and not _is_among(_EIGHT_BRACKETS, eight_octets(octets, at)):
        at += 8
    while at < end and octets[at] != OPEN:
        at += 1
    return at


@inlined
def next_bracket(octets: Octets, at: int, end: int) -> int:
    """Return the first bracket of either kind from `at` on."""
    while at < end and octets[at] != OPEN and octets[at] != CLOSE:
        at += 1
    return at


@inlined
def quote_before(octets: Octets, at: int, opening: int) -> int:
    """Return the last quote between `opening` and `at`, both excluded; NO if there is none."""
    at -= 1
    while at > opening and octets[at] != QUOTE:
        at -= 1
    return at if at > opening else NO


@inlined
def shape_end(octets: Octets, at: int, end: int, shapes: Shapes, which: int) -> int:
    """Return the end of the column at `at` if the whole column has the shape; otherwise NO."""
    state = shapes[which]
    row = 256 * signed(state & _STATE)
    while at < end and octets[at] != BLANK:
        following = shapes[row + octets[at]]
        if following == 0:
            return NO
        at += 1
        if following == state:
            # A run of bytes of one class: no step depends on the one before. No shape has a blank.
            while at < end and shapes[row + octets[at]] == state:
                at += 1
        else:
            state = following
            row = 256 * signed(state & _STATE)
    return at if state & _MAY_END else NO


@inlined
def is_time(octets: Octets, at: int, end: int, shapes: Shapes) -> bool:
    """Return whether an opening bracket, a time and a blank are at `at`."""
    blank = at + 1 + TIME_BYTES
    return bool(
        blank < end
        and octets[at] == OPEN
        and octets[blank] == BLANK
        and shape_end(octets, at + 1, blank, shapes, TIME) == blank
    )


@compiled
def read_time(octets: Octets, at: int, zone: int) -> int:
    """Return the time at `at`, which has the shape, in the zone at `zone`: microseconds since 1970; or NO_TIME."""
    letters = (signed(octets[at + 3]) << 16) | (signed(octets[at + 4]) << 8) | signed(octets[at + 5])
    month = 0
    while month < len(_MONTH_LETTERS) and _MONTH_LETTERS[month] != letters:
        month += 1
    day, year = _two_digits(octets, at), 100 * _two_digits(octets, at + 7) + _two_digits(octets, at + 9)
    hour, minute, second = _two_digits(octets, at + 12), _two_digits(octets, at + 15), _two_digits(octets, at + 18)
    if month == len(_MONTH_LETTERS) or day == 0 or year == 0 or hour > 23:
        return NO_TIME
    is_leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if day > _MONTH_DAYS[month] or (month == 1 and day == 29 and not is_leap):
        return NO_TIME
    ahead = 60 * _two_digits(octets, zone + 1) + _two_digits(octets, zone + 3)
    minutes = 60 * hour + minute - (-ahead if octets[zone] == DASH else ahead)
    return (86_400 * _days_since_1970(year, month + 1, day) + 60 * minutes + second) * 1_000_000


@inlined
def _two_digits(octets: Octets, at: int) -> int:
    return 10 * (signed(octets[at]) - _0) + signed(octets[at + 1]) - _0


@compiled
def _days_since_1970(year: int, month: int, day: int) -> int:
    """Return the day number of a Gregorian date (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms")."""
    year -= month <= 2
    era = year // 400
    year_of_era = year - 400 * era
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return 146_097 * era + 365 * year_of_era + year_of_era // 4 - year_of_era // 100 + day_of_year - 719_468
