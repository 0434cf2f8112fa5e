"""The compiled reader: the rules of `regex_reader`, as loops over bytes.

It walks the fields' regular expressions as automata, made from the same table. Each text is a span of the line's bytes,
times and numbers are integers, and a line that is not a record has its reason. Lines whose fields are not spans of the
line (a column of March 2019 followed by extra fields, an IPv4-mapped address in hexadecimal groups) are left to
`regex_reader`. Tests compare both readers on every line, and each load does so on some (`sampling`).
"""

import numpy as np
import numpy.typing as npt

from tamarin_dagster.logformat.compiled.addresses import IPV6_BYTES, is_ipv4_mapped, pack_address
from tamarin_dagster.logformat.compiled.compiling import Octets, compiled, inlined, moved, pointer, signed
from tamarin_dagster.logformat.compiled.escaping import needs_escapes
from tamarin_dagster.logformat.compiled.scanning import (
    BLANK,
    CLOSE,
    DASH,
    ERROR_CODE,
    FIRST_OF_TAIL,
    LONG_HOST_ID,
    MARCH_2019,
    METHOD,
    NO,
    NO_TIME,
    NUMBER,
    OPEN,
    OPERATION,
    OWNER,
    QUOTE,
    STATUS,
    TIME,
    TIME_BYTES,
    VERSION,
    ZONE,
    ZONE_BYTES,
    Shapes,
    column_end,
    is_time,
    next_bracket,
    next_opening,
    next_quote,
    quote_before,
    read_time,
    shape_end,
    skip_blanks,
)
from tamarin_dagster.logformat.fields import NUMBER_NAMES, TAIL_FIELDS, TEXT_NAMES
from tamarin_dagster.logformat.reading import BLANK_LINE, REASONS, RECORD, REJECTED
from tamarin_dagster.logformat.regex_reader import MAX_LINE_BYTES, MAX_QUOTES

Integers = npt.NDArray[np.int64]
Spans = npt.NDArray[np.int32]

NULL = -1
"""A null number, and the length of a null text."""

LEFT = 255
"""The outcome of a line that is left to `regex_reader`."""
(
    _NOT_A_RECORD, _TOO_FEW_FIELDS, _SPLICED, _BAD_TIME, _TIME_OUT_OF_RANGE, _BAD_ADDRESS, _BAD_REQUESTER,
    _BAD_OPERATION, _BAD_STATUS, _BAD_ERROR_CODE, _BAD_NUMBER, _BAD_TAIL, _TORN, _OVERSIZED,
) = range(REJECTED, REJECTED + len(REASONS))  # fmt: skip
# The functions below return a position, or an outcome of the line, negated; positions are never negative. Their
# arguments are pointers: to the bytes, the shapes, and the line's own row of times, numbers and spans.

_SHORTEST_IPV4 = len("1.1.1.1")
_FIRST_COLUMNS = TEXT_NAMES.index("remote_ip")
_ADDRESS, _REQUESTER, _REQUEST_ID, _OPERATION, _KEY, _METHOD, _URI, _VERSION, _ERROR_CODE, _REFERRER, _USER_AGENT = (
    TEXT_NAMES.index(name)
    for name in (
        "remote_ip", "requester", "request_id", "operation", "key", "request_method", "request_uri", "http_version",
        "error_code", "referrer", "user_agent",
    )
)  # fmt: skip
_TAIL = TEXT_NAMES.index(TAIL_FIELDS[0])
_TAIL_COLUMNS = len(TAIL_FIELDS)
_EXTRA = TEXT_NAMES.index("extra_fields")
_HOST_HEADER = TAIL_FIELDS.index("host_header")

_NUMBERS, _TEXTS = len(NUMBER_NAMES), len(TEXT_NAMES)
_STATUS_DIGITS = 3
_CLOSE_AT = 1 + TIME_BYTES + 1 + ZONE_BYTES
_VERSION_BYTES = len("HTTP/1.1")
_MAX_BIGINT = 2**63 - 1
_SAFE_DIGITS = 18
"""A number with at most this many digits always fits a bigint."""
_TOO_BIG = -2
"""A number that does not fit a bigint."""

_TAB, _CR, _SLASH, _COLON, _PLUS, _DOT = b"\t\r/:+."
_0, _9, _A, _F, _Z = b"09afz"
_LOWER = ord("a") - ord("A")
_ARN = b"arn:"


@compiled
def read_lines(
    octets: Octets,
    starts: Integers,
    ends: Integers,
    first_time: int,
    last_time: int,
    shapes: Shapes,
    packed: Octets,
    times: Integers,
    numbers: Integers,
    spans: Spans,
    outcomes: Octets,
    odd: npt.NDArray[np.bool_],
) -> None:
    """Read the lines `octets[starts[i]:ends[i]]`, and write the results to row i of the last five arguments.

    Args:
        octets: (bytes,).
        starts: (lines,), after a byte order mark if there is one.
        ends: (lines,), before the LF.
        first_time: an earlier request is out of range. Microseconds since 1970, like all times here.
        last_time: a later request is out of range.
        shapes: `scanning.SHAPES`.
        packed: (IPV6_BYTES,): scratch space.
        times: (lines,).
        numbers: (lines, columns of NUMBER_NAMES).
        spans: (lines, columns of TEXT_NAMES, 2): start and length of each text.
        outcomes: (lines,): see `reading`, or LEFT. The other arrays are only valid for a RECORD.
        odd: (lines,): whether a record holds something that must be escaped.
    """
    text, table, room = pointer(octets), pointer(shapes), pointer(packed)
    for row in range(len(starts)):
        at, end = starts[row], ends[row]
        odd[row] = False
        if _is_blank(text, at, end):
            outcomes[row] = BLANK_LINE
        elif end - at > MAX_LINE_BYTES:
            outcomes[row] = _OVERSIZED
        else:
            found = (
                moved(pointer(times), row),
                moved(pointer(numbers), row * _NUMBERS),
                moved(pointer(spans), row * 2 * _TEXTS),
            )
            end = _text_end(text, end)
            at = skip_blanks(text, at, end)
            outcomes[row] = _read_line(text, at, end, table, *found)
            if outcomes[row] == RECORD:
                outcomes[row] = _judge(text, first_time, last_time, room, *found)
                odd[row] = needs_escapes(text, at, end)


@inlined
def _is_blank(octets: Octets, at: int, end: int) -> bool:
    """Return whether there are only blanks, tabs and CRs."""
    while at < end and (octets[at] == BLANK or octets[at] == _TAB or octets[at] == _CR):
        at += 1
    return at >= end


@inlined
def _text_end(octets: Octets, end: int) -> int:
    """Return the end without trailing CRs, and without the blanks before them. The line is not blank."""
    while octets[end - 1] == _CR:
        end -= 1
    while octets[end - 1] == BLANK:
        end -= 1
    return end


@compiled
def _judge(
    octets: Octets,
    first_time: int,
    last_time: int,
    packed: Octets,
    times: Integers,
    numbers: Integers,
    spans: Spans,
) -> int:
    """Check the values of a line that is cut like a record; return the outcome."""
    if times[0] == NO_TIME:
        return _BAD_TIME
    if not first_time <= times[0] <= last_time:
        return _TIME_OUT_OF_RANGE
    start, length = spans[2 * _ADDRESS], spans[2 * _ADDRESS + 1]
    if length != NULL:
        size = pack_address(octets, start, start + length, packed)
        if size == 0:
            return _BAD_ADDRESS
        if size == IPV6_BYTES and is_ipv4_mapped(packed):
            # The IPv4 address is a part of the text, unless it is written in hexadecimal groups.
            at = start + length - 1
            while octets[at] != _COLON:
                at -= 1
            if start + length - at <= _SHORTEST_IPV4:
                return LEFT
            spans[2 * _ADDRESS], spans[2 * _ADDRESS + 1] = at + 1, start + length - at - 1
    for column in range(_NUMBERS):
        if numbers[column] == _TOO_BIG:
            return _BAD_NUMBER
    return RECORD


@compiled
def _read_line(
    octets: Octets, at: int, end: int, shapes: Shapes, times: Integers, numbers: Integers, spans: Spans
) -> int:
    """Cut the line, which has no blank at either end; return the outcome."""
    found = _read_opening(octets, at, end, shapes, times, spans)
    if found >= 0:
        found = _read_head(octets, found, end, shapes, spans)
    if found >= 0:
        found = _read_request(octets, found, end, shapes, numbers, spans)
    if found >= 0:
        referrer = found
        found = _read_referrer(octets, referrer, end, spans)
        if found >= 0:
            found = _read_user_agent_and_tail(octets, referrer, found, end, shapes, spans)
    if found >= 0:
        return RECORD
    if found not in (-LEFT, -_NOT_A_RECORD) and _holds_two_times(octets, at, end, shapes):
        return _SPLICED
    return -found


@compiled
def _holds_two_times(octets: Octets, at: int, end: int, shapes: Shapes) -> bool:
    found = False
    at = next_opening(octets, at, end - 1 - TIME_BYTES)
    while at < end - 1 - TIME_BYTES:
        if octets[at + 1 + TIME_BYTES] == BLANK and is_time(octets, at, end, shapes):
            if found:
                return True
            found = True
        at = next_opening(octets, at + 1, end - 1 - TIME_BYTES)
    return False


@inlined
def _put(octets: Octets, start: int, stop: int, spans: Spans, column: int) -> None:
    """Write the span of a text; `-` and empty text are null."""
    spans[2 * column] = start
    is_null = stop == start or (stop == start + 1 and octets[start] == DASH)
    spans[2 * column + 1] = NULL if is_null else stop - start


@compiled
def _read_opening(octets: Octets, at: int, end: int, shapes: Shapes, times: Integers, spans: Spans) -> int:
    """Read owner, bucket and time; return where the address begins."""
    odd = False
    for column in range(_FIRST_COLUMNS):
        stop = column_end(octets, at, end)
        if stop == end:
            return -_NOT_A_RECORD
        odd |= (next_quote(octets, at, stop) if column else shape_end(octets, at, stop, shapes, OWNER)) != stop
        _put(octets, at, stop, spans, column)
        at = skip_blanks(octets, stop, end)
    if octets[at] != OPEN:
        return -_NOT_A_RECORD
    at += 1
    close = at
    while close < end and octets[close] != CLOSE:
        close += 1
    if close == end:
        return -_TOO_FEW_FIELDS if _may_be_torn(octets, at, end) else -_NOT_A_RECORD
    if odd or (close + 1 < end and octets[close + 1] != BLANK):
        return -_NOT_A_RECORD
    stop = shape_end(octets, at, close, shapes, TIME)
    if stop == NO:
        return -_BAD_TIME
    zone = skip_blanks(octets, stop, close)
    if zone == stop or shape_end(octets, zone, close, shapes, ZONE) != close:
        return -_BAD_TIME
    times[0] = read_time(octets, at, zone)
    return skip_blanks(octets, close + 1, end)


@compiled
def _may_be_torn(octets: Octets, at: int, end: int) -> bool:
    """Return whether the bytes there may be the beginning of a time."""
    while at < end:
        octet = signed(octets[at])
        sign = octet in (_SLASH, _COLON, BLANK, _PLUS, DASH)
        if not (sign or _0 <= octet <= _9 or _A <= octet <= _Z or _A <= octet + _LOWER <= _Z):
            return False
        at += 1
    return True


@compiled
def _read_head(octets: Octets, at: int, end: int, shapes: Shapes, spans: Spans) -> int:
    """Read from the address to the key; return where the request begins."""
    stop = column_end(octets, at, end)
    _put(octets, at, stop, spans, _ADDRESS)
    requester = skip_blanks(octets, stop, end)
    requester_end = column_end(octets, requester, end)
    request_id = skip_blanks(octets, requester_end, end)
    request_id_end = column_end(octets, request_id, end)
    at = skip_blanks(octets, request_id_end, end)
    if at == end:
        return -_TOO_FEW_FIELDS
    stop = shape_end(octets, at, end, shapes, OPERATION)
    if stop == NO:
        if not _begins_with_arn(octets, requester, requester_end):
            return -_BAD_OPERATION
        if shape_end(octets, request_id, end, shapes, OPERATION) != NO:
            return -_BAD_REQUESTER
        while stop == NO:
            requester_end, request_id, request_id_end = request_id_end, at, column_end(octets, at, end)
            at = skip_blanks(octets, request_id_end, end)
            stop = shape_end(octets, at, end, shapes, OPERATION) if at < end else end
        if stop == end:
            return -_BAD_OPERATION
        if next_bracket(octets, requester, requester_end) < requester_end:
            return -_BAD_REQUESTER
    if next_quote(octets, requester, request_id_end) < request_id_end:
        return -_BAD_REQUESTER
    _put(octets, requester, requester_end, spans, _REQUESTER)
    _put(octets, request_id, request_id_end, spans, _REQUEST_ID)
    _put(octets, at, stop, spans, _OPERATION)
    at = skip_blanks(octets, stop, end)
    if at == end:
        return -_TOO_FEW_FIELDS
    stop = column_end(octets, at, end)
    _put(octets, at, stop, spans, _KEY)
    return skip_blanks(octets, stop, end)


@inlined
def _begins_with_arn(octets: Octets, at: int, end: int) -> bool:
    if end - at < len(_ARN):
        return False
    same = True
    for index in range(len(_ARN)):
        same &= octets[at + index] == _ARN[index]
    return same


@compiled
def _read_request(octets: Octets, at: int, end: int, shapes: Shapes, numbers: Integers, spans: Spans) -> int:
    """Read the request and the numeric block after it; return where the referrer begins."""
    if at == end:
        return -_TOO_FEW_FIELDS
    for column in (_METHOD, _URI, _VERSION):
        _put(octets, at, at, spans, column)
    null_end = at if octets[at] == DASH else NO  # a bare dash, or the second quote of `"-"` or `""`
    if octets[at] == QUOTE:
        second = at + 2 if at + 1 < end and octets[at + 1] == DASH else at + 1
        null_end = second if second < end and octets[second] == QUOTE else NO
    if null_end != NO:
        after = _read_block(octets, null_end + 1, end, shapes, numbers, spans)
        if after != NO:
            return after
    if octets[at] != QUOTE:
        return _what_is_wrong(octets, skip_blanks(octets, column_end(octets, at, end), end), end, shapes)
    return _read_quoted_request(octets, at, end, shapes, numbers, spans)


@compiled
def _read_quoted_request(octets: Octets, at: int, end: int, shapes: Shapes, numbers: Integers, spans: Spans) -> int:
    """Read the request whose quote opens at `at`, and the block; return where the referrer begins.

    It ends at the first quote after a version that the block follows, otherwise at the first quote that the block
    follows.
    """
    uri, quote, version, bare, after, first = at + 1, at + 1, NO, NO, NO, end
    while quote + 1 < end:
        if octets[quote] == QUOTE and octets[quote + 1] == BLANK:
            first = min(first, quote)
            may_end = _may_begin_block(octets, quote + 1, end)
            if may_end and (bare == NO or _version_before(octets, quote, at, shapes) != NO):
                after = _read_block(octets, quote + 1, end, shapes, numbers, spans)
                if after != NO:
                    version = _version_before(octets, quote, at, shapes)
                    if version != NO:
                        break
                    bare = quote
        quote += 1
    if version != NO:
        stop = version - 1
        _put(octets, version, quote, spans, _VERSION)
    elif bare != NO:
        stop = bare
        after = _read_block(octets, bare + 1, end, shapes, numbers, spans)
    else:
        return _what_is_wrong(octets, skip_blanks(octets, first + 1, end), end, shapes)
    method_end = shape_end(octets, uri, stop, shapes, METHOD)
    if method_end != NO and method_end + 1 < stop:
        _put(octets, uri, method_end, spans, _METHOD)
        uri = method_end + 1
    _put(octets, uri, stop, spans, _URI)
    return after


@inlined
def _may_begin_block(octets: Octets, at: int, end: int) -> bool:
    """Return whether a blank, a status and a blank are there: a fast test, for many quotes."""
    at = skip_blanks(octets, at, end)
    if at == end or (octets[at] != DASH and not _0 <= octets[at] <= _9):
        return False
    at += 1 if octets[at] == DASH else _STATUS_DIGITS
    return bool(at < end and octets[at] == BLANK)


@compiled
def _version_before(octets: Octets, quote: int, opening: int, shapes: Shapes) -> int:
    """Return where the version begins that ends at the quote and has a blank before it; NO if there is none."""
    at = quote - 1
    while at > opening and octets[at] != BLANK and quote - at <= _VERSION_BYTES:
        at -= 1
    if at == opening or octets[at] != BLANK or shape_end(octets, at + 1, quote, shapes, VERSION) != quote:
        return NO
    return at + 1


@inlined
def _read_block(octets: Octets, at: int, end: int, shapes: Shapes, numbers: Integers, spans: Spans) -> int:
    """Read status, error code, bytes, size and the two durations, each after a blank, and the beginning of a referrer.

    Returns where the referrer begins; NO if anything else is there.
    """
    for column in range(_NUMBERS):
        start = skip_blanks(octets, at, end)
        if start in (at, end):
            return NO
        at = _read_number(octets, start, end, numbers, column)
        if column == 0:
            if octets[start] != DASH and at != start + _STATUS_DIGITS:
                return NO
            start = skip_blanks(octets, at, end)
            if start == at:
                return NO
            at = shape_end(octets, start, end, shapes, ERROR_CODE)
            _put(octets, start, at, spans, _ERROR_CODE)
        if at == NO:
            return NO
    start = skip_blanks(octets, at, end)
    if start in (at, end):
        return NO
    is_null = octets[start] == DASH and (start + 1 == end or octets[start + 1] == BLANK)
    return start if is_null or octets[start] == QUOTE else NO


@inlined
def _read_number(octets: Octets, at: int, end: int, numbers: Integers, column: int) -> int:
    """Read a number or a dash; return where it ends, or NO."""
    if octets[at] == DASH:
        numbers[column] = NULL
        return at + 1
    start, value = at, 0
    while at < end and _0 <= octets[at] <= _9:
        digit = signed(octets[at]) - _0
        if at - start < _SAFE_DIGITS:
            value = 10 * value + digit
        elif value == _TOO_BIG or value > (_MAX_BIGINT - digit) // 10:
            value = _TOO_BIG
        else:
            value = 10 * value + digit
        at += 1
    numbers[column] = value
    return at if at > start else NO


@compiled
def _what_is_wrong(octets: Octets, at: int, end: int, shapes: Shapes) -> int:
    """Return why the bytes at `at`, after a request, are not a numeric block."""
    if at < end and shape_end(octets, at, end, shapes, STATUS) == NO:
        return -_BAD_STATUS
    at = skip_blanks(octets, column_end(octets, at, end), end)
    if at < end and shape_end(octets, at, end, shapes, ERROR_CODE) == NO:
        return -_BAD_ERROR_CODE
    for _ in range(4):
        at = skip_blanks(octets, column_end(octets, at, end), end)
        if at < end and shape_end(octets, at, end, shapes, NUMBER) == NO:
            return -_BAD_NUMBER
    return -_TOO_FEW_FIELDS


@compiled
def _read_referrer(octets: Octets, at: int, end: int, spans: Spans) -> int:
    """Read the referrer, bare or in quotes; return where the user agent begins.

    If no quoted user agent follows a quoted referrer, its end is not known yet; then it returns where the referrer
    begins.
    """
    if octets[at] != QUOTE:
        _put(octets, at, at + 1, spans, _REFERRER)
        return skip_blanks(octets, at + 1, end)
    quote = next_quote(octets, at + 1, end)
    while quote < end:
        next_column = skip_blanks(octets, quote + 1, end)
        if next_column > quote + 1 and next_column < end and octets[next_column] == QUOTE:
            _put(octets, at + 1, quote, spans, _REFERRER)
            return next_column
        quote = next_quote(octets, quote + 1, end)
    _put(octets, at, at, spans, _REFERRER)
    return at


@compiled
def _read_user_agent_and_tail(octets: Octets, referrer: int, at: int, end: int, shapes: Shapes, spans: Spans) -> int:
    """Read everything after the referrer, which begins at `referrer`; return `end`."""
    if at == end:
        return -_TOO_FEW_FIELDS
    if octets[at] != QUOTE:
        if not _is_null_column(octets, at, end):
            return -_TOO_FEW_FIELDS
        _put(octets, at, at + 1, spans, _USER_AGENT)
        found = _read_tail(octets, at + 1, end, shapes, spans)
        return found if found < 0 else end
    if at == referrer:
        _put(octets, at, at, spans, _USER_AGENT)
        return _read_quoted_and_tail(octets, at, end, shapes, spans, _REFERRER)
    stop = next_quote(octets, at + 1, end)
    if stop < end and (stop + 1 == end or octets[stop + 1] == BLANK):
        found = _read_tail(octets, stop + 1, end, shapes, spans)
        # The only quote: a tail that ends with its known columns holds none, except around the host header.
        if (0 <= found <= _TAIL_COLUMNS and not _is_host_quoted(octets, spans)) or next_quote(
            octets, stop + 1, end
        ) == end:
            _put(octets, at + 1, stop, spans, _USER_AGENT)
            return found if found < 0 else end
    return _read_quoted_and_tail(octets, at, end, shapes, spans, _USER_AGENT)


@inlined
def _is_null_column(octets: Octets, at: int, end: int) -> bool:
    return bool(at < end and octets[at] == DASH and (at + 1 == end or octets[at + 1] == BLANK))


@inlined
def _is_host_quoted(octets: Octets, spans: Spans) -> bool:
    host = 2 * (_TAIL + _HOST_HEADER)
    return bool(spans[host + 1] != NULL and octets[spans[host] - 1] == QUOTE)


@compiled
def _read_quoted_and_tail(octets: Octets, opening: int, end: int, shapes: Shapes, spans: Spans, column: int) -> int:
    """Read the text of `column`, whose quote opens at `opening`, and the tail; return `end`.

    The text ends at the rightmost quote that is followed by a tail which reaches the host header. If there is none, it
    ends at the last quote, which must be followed by a tail of fewer columns. Between a referrer and its tail comes a
    bare user agent.
    """
    last = quote = quote_before(octets, end, opening)
    for _ in range(MAX_QUOTES):
        if quote == NO:
            break
        tail = _tail_start(octets, quote, end, column)
        if tail != NO:
            found = _read_tail(octets, tail, end, shapes, spans)
            if found in (-_SPLICED, -LEFT) or found > _HOST_HEADER:
                _put(octets, opening + 1, quote, spans, column)
                return found if found < 0 else end
        quote = quote_before(octets, quote, opening)
    tail = _tail_start(octets, last, end, column) if last != NO else NO
    if tail == NO:
        return -_TOO_FEW_FIELDS
    found = _read_tail(octets, tail, end, shapes, spans)
    _put(octets, opening + 1, last, spans, column)
    return found if found < 0 else end


@inlined
def _tail_start(octets: Octets, quote: int, end: int, column: int) -> int:
    """Return where the tail may begin if `quote` closes the user agent, or the referrer before a bare one; otherwise
    NO.
    """
    if quote + 1 < end and octets[quote + 1] != BLANK:
        return NO
    if column == _USER_AGENT:
        return quote + 1
    at = skip_blanks(octets, quote + 1, end)
    return at + 1 if _is_null_column(octets, at, end) else NO


@inlined
def _skip_march_2019(octets: Octets, at: int, end: int, shapes: Shapes) -> int:
    """Return where the host ID begins if the column of March 2019 is at `at`; otherwise `at`."""
    stop = shape_end(octets, at, end, shapes, MARCH_2019)
    if stop == NO:
        return at
    host_id = skip_blanks(octets, stop, end)
    return host_id if shape_end(octets, host_id, end, shapes, LONG_HOST_ID) != NO else at


@compiled
def _read_tail(octets: Octets, at: int, end: int, shapes: Shapes, spans: Spans) -> int:
    """Read the columns from the version ID on, each in its shape, as many as there are, and the extra fields.

    Returns the number of columns, plus one if there are extra fields.
    """
    _put(octets, end, end, spans, _EXTRA)
    columns = 0
    for column in range(_TAIL_COLUMNS):
        start = skip_blanks(octets, at, end)
        if start == end:
            _put(octets, end, end, spans, _TAIL + column)
            at = end
            continue
        if start == at:
            return -_BAD_TAIL
        if column == 1:
            host_id = _skip_march_2019(octets, start, end, shapes)
            if host_id != start:
                _put(octets, start, column_end(octets, start, end), spans, _EXTRA)
                start = host_id
        if column == _HOST_HEADER and octets[start] == QUOTE:
            stop = next_quote(octets, start + 1, end)
            if stop == end or shape_end(octets, start + 1, stop, shapes, FIRST_OF_TAIL + column) != stop:
                return -_BAD_TAIL
            _put(octets, start + 1, stop, spans, _TAIL + column)
            at = stop + 1
        else:
            at = shape_end(octets, start, end, shapes, FIRST_OF_TAIL + column)
            if at == NO:
                return -_BAD_TAIL
            _put(octets, start, at, spans, _TAIL + column)
        columns = column + 1
    start = skip_blanks(octets, at, end)
    if start == end:
        return columns
    if start == at:
        return -_BAD_TAIL
    quote = next_quote(octets, start, end)
    bracket = next_opening(octets, start, quote)
    while bracket < quote:
        if _may_be_second_record(octets, bracket, end) and _is_second_record(octets, bracket, end, shapes):
            return -_SPLICED
        bracket = next_opening(octets, bracket + 1, quote)
    if spans[2 * _EXTRA + 1] != NULL:
        return -LEFT
    _put(octets, start, end, spans, _EXTRA)
    return columns + 1


@inlined
def _may_be_second_record(octets: Octets, at: int, end: int) -> bool:
    """Return whether the bracket at `at` closes where that of a time does: a fast test, for many brackets."""
    close = at + _CLOSE_AT
    return bool(close < end and octets[close] == CLOSE)


@compiled
def _is_second_record(octets: Octets, at: int, end: int, shapes: Shapes) -> bool:
    """Return whether the brackets at `at` hold a time, followed by an address, a quote or nothing."""
    zone, close = at + _CLOSE_AT - ZONE_BYTES, at + _CLOSE_AT
    if not is_time(octets, at, end, shapes) or shape_end(octets, zone, close, shapes, ZONE) != close:
        return False
    at = skip_blanks(octets, close + 1, end)
    if at == end or octets[at] == QUOTE:
        return True
    if at != close + 2:
        return False
    while at < end and (_0 <= octets[at] <= _9 or _A <= octets[at] | _LOWER <= _F):
        at += 1
    return bool(at < end and (octets[at] == _DOT or octets[at] == _COLON))
