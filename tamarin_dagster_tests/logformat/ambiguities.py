"""Lines with two readings: those that the rules of `regex_reader` read differently from how they were meant.

There is one predicate for each rule, in the rules' order. They look at the written line, and know where each part of it
was meant to end.
"""

import re

from tamarin_dagster_tests.logformat.written_lines import Line

_OPERATION = re.compile(rb"(REST|WEBSITE|SOAP|BATCH|S3)(\.[A-Za-z0-9_]+){1,3}")
_BLOCK = rb' +([0-9]{3}|-) +([A-Za-z0-9_.]+|-)( +([0-9]+|-)){4} +("|-( |$))'
_END = re.compile(rb'"' + _BLOCK)
_END_BEHIND_A_VERSION = re.compile(rb' HTTP/[0-9](\.[0-9])?"' + _BLOCK)
_NULL_REQUEST = re.compile(rb'-?"' + _BLOCK)
_METHOD_AND_MORE = re.compile(rb"[A-Za-z][A-Za-z_-]* .", re.DOTALL)
_PART = re.compile(rb'" +"')
_COLUMNS_TO_THE_HOST = 6
_QUOTE_AND_A_TAIL = re.compile(rb'"( +[^ ]+){%d,}' % _COLUMNS_TO_THE_HOST)
_MAX_QUOTES = 36
_TIME = re.compile(rb"\[[0-3][0-9]/[A-Z][a-z]{2}/[0-9]{4}:[0-2][0-9]:[0-5][0-9]:[0-5][0-9] ")


def rule_1_the_end_of_the_line_is_data(line: Line) -> bool:
    """CRs at the end of a line are not data: a last column may end with one only if a blank follows."""
    return b"".join(line.parts()).endswith(b"\r") and not line.end.startswith(b" ")


def rule_2_an_operation_in_the_requester(line: Line) -> bool:
    """A requester with blanks extends to the first column that is an operation."""
    columns = [*line.requester.split(b" "), line.request_id]
    return len(columns) > 2 and any(map(_OPERATION.fullmatch, columns))


def rule_3_the_target_begins_with_a_method(line: Line) -> bool:
    """A word and a blank at the beginning of a request are its method."""
    return line.method is None and bool(_METHOD_AND_MORE.match(line.uri or b""))


def rule_3_the_request_is_null_by_what_it_begins_with(line: Line) -> bool:
    """`"-"` and `""` are null if a numeric block follows, whatever follows that."""
    _, *rest = line.parts()
    found = _NULL_REQUEST.match((line.request or b"") + b'"' + b"".join(rest))
    return line.request not in (None, b"", b"-") and found is not None


def rule_3_the_request_ends_elsewhere(line: Line) -> bool:
    """It ends at the first version, quote and block, otherwise at the first quote and block."""
    if line.request in (None, b"", b"-"):
        return False
    _, *rest = line.parts()
    text = line.request + b'"' + b"".join(rest)
    if line.version:
        end = _END_BEHIND_A_VERSION.search(text)
        return end is None or end.start() != len(line.request) - len(line.version) - 1
    end = _END.search(text)
    return _END_BEHIND_A_VERSION.search(text) is not None or end is None or end.start() != len(line.request)


def rule_4_the_referrer_ends_elsewhere(line: Line) -> bool:
    """It ends at the first quote followed by blanks and a quote; before a bare user agent, at the last quote."""
    if line.referrer is None:
        return False
    text = line.referrer + b'"'
    if line.user_agent is None:
        rest = b"".join(line.parts()[2:])
        return b'"' in rest or _PART.search(text + rest) is not None
    return _PART.search(text) is not None


def rule_6_the_user_agent_ends_elsewhere(line: Line) -> bool:
    """It ends at the rightmost quote that is followed by a tail which reaches the host header.

    That may be a quote of an extra field, or the host header's own. If the line's tail is shorter, it may be one in the
    user agent; otherwise it is the last quote.
    """
    if line.user_agent is None:
        return False
    *_, rest = line.parts()
    if rest.count(b'"') >= _MAX_QUOTES or _QUOTE_AND_A_TAIL.search(rest):
        return True
    is_short = len(line.tail) < _COLUMNS_TO_THE_HOST
    return is_short and _QUOTE_AND_A_TAIL.search(line.user_agent + b'"' + rest) is not None


def rule_7_a_second_record_begins(line: Line) -> bool:
    """A time in brackets outside of quotes belongs to another record."""
    return bool(_TIME.search(b" ".join([*line.tail, line.extra_text.partition(b'"')[0]]) + b" "))


PREDICATES = (
    rule_1_the_end_of_the_line_is_data,
    rule_2_an_operation_in_the_requester,
    rule_3_the_target_begins_with_a_method,
    rule_3_the_request_is_null_by_what_it_begins_with,
    rule_3_the_request_ends_elsewhere,
    rule_4_the_referrer_ends_elsewhere,
    rule_6_the_user_agent_ends_elsewhere,
    rule_7_a_second_record_begins,
)


def is_ambiguous(line: Line) -> bool:
    """Return whether a rule reads the line differently from how it was meant."""
    return any(predicate(line) for predicate in PREDICATES)
