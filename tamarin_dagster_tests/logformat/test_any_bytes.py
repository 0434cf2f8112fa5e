"""For any bytes: no line is lost, none is counted twice, and it does not matter where log objects are cut."""

import itertools
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tamarin_dagster.logformat import parse_logs
from tamarin_dagster.logformat.lines import cut_pieces
from tamarin_dagster.logformat.regex_reader import MAX_LINE_BYTES
from tamarin_dagster_tests.examples import at_least
from tamarin_dagster_tests.logformat.found import records_of, rejected_of
from tamarin_dagster_tests.logformat.invariants import NOW, check, check_nothing_is_lost, findings, lines_of
from tamarin_dagster_tests.logformat.lines_written import BASES
from tamarin_dagster_tests.logformat.mutations import mutated_lines

BOM = b"\xef\xbb\xbf"
LINES = st.lists(
    st.one_of(
        st.binary(max_size=60),
        mutated_lines(),
        mutated_lines(),
        st.sampled_from([b"", b" ", b"\t\r", b"\r", BOM, BOM + BASES[0].encode(), BASES[0].encode() + b"\r"]),
    ),
    max_size=6,
)
BODIES = st.builds(
    lambda lines, separator, end: separator.join(lines) + end,
    LINES,
    st.sampled_from([b"\n", b"\n", b"\r\n"]),
    st.sampled_from([b"", b"\n"]),
)


@at_least(250)
@given(BODIES)
@example(BOM)
@example(BOM + b"\r\n")
def test_any_bytes_are_records_rejected_lines_and_blanks(body):
    bodies = [body, b"", body]
    parsed = parse_logs(bodies, now=NOW)
    check_nothing_is_lost(bodies, parsed)
    places = records_of(parsed).select(["log_index", "line_number"]).to_pydict()
    assert list(zip(*places.values(), strict=True)) == sorted(
        set(findings(parsed)) - {(line.log_index, line.line_number) for line in rejected_of(parsed)}
    )


@pytest.mark.parametrize("length", [MAX_LINE_BYTES - 1, MAX_LINE_BYTES, MAX_LINE_BYTES + 1])
@pytest.mark.parametrize("start", [b"", BOM])
@pytest.mark.parametrize("end", [b"", b"\r", b" "])
def test_lines_about_as_long_as_may_be_are_read_alike_and_whole(length, start, end):
    before, after = BASES[0].encode().split(b"curl")
    long = before + b"x" * (length - len(before + after + end)) + after + end
    parsed = check([b"\n".join([start + long, BASES[0].encode(), long])])
    assert [line.line_number for line in rejected_of(parsed)] == ([] if length <= MAX_LINE_BYTES else [1, 3])


@at_least(250)
@given(BODIES, st.lists(st.booleans(), max_size=20))
def test_a_log_cut_at_line_ends_holds_the_same_lines(body, cuts):
    whole = findings(parse_logs([body], now=NOW))
    lines = re.findall(rb"[^\n]*\n|[^\n]+", body)
    parts = [b""]
    for text, cut in itertools.zip_longest(lines, cuts[: len(lines)], fillvalue=False):
        if cut:
            parts.append(b"")
        parts[-1] += text or b""
    counts = [len(lines_of(part)) for part in parts]
    before = [0, *itertools.accumulate(counts)][: len(parts)]
    continued = findings(parse_logs(parts, now=NOW, first_lines=[count + 1 for count in before]))
    assert {number: finding for (_, number), finding in continued.items()} == {
        number: finding for (_, number), finding in whole.items()
    }
    # As logs of their own: the same, except for a byte order mark that is now at the start of one.
    alone = findings(parse_logs(parts, now=NOW))
    for (log, number), finding in alone.items():
        if number > 1 or log == 0 or not parts[log].startswith(BOM):
            assert finding == whole[0, before[log] + number]


@at_least(250)
@given(LINES)
def test_line_ends_of_windows_change_no_record(lines):
    lines = [text.replace(b"\n", b"").rstrip(b"\r") for text in lines]
    plain, windows = (parse_logs([end.join(lines) + end], now=NOW) for end in (b"\n", b"\r\n"))
    assert findings(windows) == findings(plain)
    assert windows.counts == plain.counts


@at_least(100)
@given(st.lists(st.lists(st.sampled_from([*BASES, "", "rubbish"]), max_size=6), max_size=6), st.integers(1, 2000))
def test_pieces_of_any_size_hold_the_same_lines(logs, piece_bytes):
    bodies = ["\n".join(lines).encode() for lines in logs]
    found = [
        (log, number, piece.raw(row))
        for piece in cut_pieces(bodies, piece_bytes)
        for row, (log, number) in enumerate(zip(piece.log_index.tolist(), piece.line_number.tolist(), strict=True))
    ]
    assert found == [
        (log, number, text)
        for log, body in enumerate(bodies)
        for number, text in enumerate(re.findall(rb"[^\n]*\n|[^\n]+", body), 1)
        for text in [text.removesuffix(b"\n")]
    ]
