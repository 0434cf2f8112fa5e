"""Checks that must hold for any bytes: nothing is lost, both readers agree. For property tests and for fuzzing."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime

from tamarin_dagster.logformat import NUMBER_NAMES, TEXT_NAMES, ParsedLogs, RejectReason, parse_logs, regex_reader
from tamarin_dagster.logformat.frames import get_times
from tamarin_dagster.logformat.lines import KEPT_BYTES
from tamarin_dagster.logformat.regex_reader import MAX_LINE_BYTES
from tamarin_dagster.logformat.values import EARLIEST_REQUEST, MAX_AHEAD, Typed, convert_columns, to_microseconds
from tamarin_dagster_tests.logformat.found import records_of, rejected_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
"""The time of the checks."""

Finding = Typed | RejectReason | None
"""A record's values, why the line is none, or None for a blank line."""
Place = tuple[int, int]
"""Log index and line number."""


def lines_of(body: bytes) -> list[bytes]:
    """Return the lines of a log object, without their LF."""
    lines = body.split(b"\n")
    return lines if lines[-1] else lines[:-1]


def escaped(data: bytes) -> str:
    r"""Return the expected result of `escape_bytes`, computed in another way."""
    return data.replace(rb"\x", rb"\x5cx").replace(b"\0", rb"\x00").decode("utf-8", "backslashreplace")


def findings(parsed: ParsedLogs) -> dict[Place, Finding]:
    """Return the result for each line that is not blank."""
    found: dict[Place, Finding] = {(line.log_index, line.line_number): line.reason for line in rejected_of(parsed)}
    table = records_of(parsed)
    columns = (get_times(table).tolist(), *(table[name].to_pylist() for name in (*NUMBER_NAMES, *TEXT_NAMES)))
    places = zip(table["log_index"].to_pylist(), table["line_number"].to_pylist(), strict=True)
    for place, (when, *values) in zip(places, zip(*columns, strict=True), strict=True):
        found[place] = Typed(when, values[: len(NUMBER_NAMES)], values[len(NUMBER_NAMES) :])
    return found


def found_by_rules(line: bytes) -> Finding:
    """Return the regex reader's result for a line."""
    if not line.strip(b" \t\r"):
        return None
    if len(line) > MAX_LINE_BYTES:
        return RejectReason.OVERSIZED
    try:
        columns = regex_reader.read_line(escaped(line.rstrip(b"\r")))
        return convert_columns(columns, to_microseconds(EARLIEST_REQUEST), to_microseconds(NOW + MAX_AHEAD))
    except regex_reader.Rejected as rejected:
        return rejected.reason


def check_readers_agree(bodies: Sequence[bytes], parsed: ParsedLogs) -> None:
    """Check that both readers have the same result for every line, including reasons."""
    assert not parsed.differences
    found = findings(parsed)
    for log, body in enumerate(bodies):
        for number, line in enumerate(lines_of(body), 1):
            text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            finding, expected = found.get((log, number)), found_by_rules(text)
            if finding is RejectReason.TORN:
                assert number == len(lines_of(body)), line
                assert not body.endswith(b"\n"), line
                assert isinstance(expected, Typed) or expected is RejectReason.BAD_TAIL, line
            else:
                assert finding == expected, line


def check_nothing_is_lost(bodies: Sequence[bytes], parsed: ParsedLogs) -> None:
    """Check that each line is a record, a rejected line with all its bytes, or blank, and is counted as such."""
    lines = [lines_of(body) for body in bodies]
    found = findings(parsed)
    assert [count.line_count for count in parsed.counts] == [len(each) for each in lines]
    assert len(found) == len(parsed.rejected) + len(parsed.records)
    assert [(line.log_index, line.line_number) for line in rejected_of(parsed)] == sorted(
        place for place, finding in found.items() if isinstance(finding, RejectReason)
    )
    for log, count in enumerate(parsed.counts):
        mine = [found.get((log, number)) for number in range(1, len(lines[log]) + 1)]
        times = [finding.time for finding in mine if isinstance(finding, Typed)]
        rejected = sum(isinstance(finding, RejectReason) for finding in mine)
        assert (count.record_count, count.rejected_count, count.blank_count) == (len(times), rejected, mine.count(None))
        assert count.line_count == count.record_count + count.rejected_count + count.blank_count
        first, last = count.first_request_dtime, count.last_request_dtime
        assert [to_microseconds(when) for when in (first, last) if when] == ([min(times), max(times)] if times else [])
        for number, (line, finding) in enumerate(zip(lines[log], mine, strict=True), 1):
            text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            assert (finding is None) == (not text.strip(b" \t\r")), line
    for rejected_line in rejected_of(parsed):
        line = lines[rejected_line.log_index][rejected_line.line_number - 1]
        kept = line[:KEPT_BYTES] if rejected_line.reason is RejectReason.OVERSIZED else line
        assert rejected_line[3:] == (kept, len(line), hashlib.sha256(line).digest())
    # Postgres text refuses NUL
    texts = (text for finding in found.values() if isinstance(finding, Typed) for text in finding.texts)
    assert not any("\0" in text for text in texts if text)


def check(bodies: Sequence[bytes]) -> ParsedLogs:
    """Run all checks; return what was parsed."""
    parsed = parse_logs(bodies, now=NOW)
    check_nothing_is_lost(bodies, parsed)
    check_readers_agree(bodies, parsed)
    return parsed
