"""What the benchmarks hold parsers to is what the lines hold."""

from collections import Counter
from datetime import UTC, datetime
from functools import cache

import numpy as np
import pandas as pd
import pytest

from benchmarks.parse.adversarial import adversarial_lines, average_line
from benchmarks.parse.mixes import nasty_lines
from benchmarks.parse.odd_lines import KINDS, NO_RECORD_KINDS, no_record, odd_record
from benchmarks.parse.truth import compared, compared_demo_line, digests, mistakes
from tamarin_dagster.demo import DemoSite, lines_between
from tamarin_dagster.logformat import FIELD_NAMES, parse_log, unescape_text

NUMBERS = ("http_status", "bytes_sent", "object_size", "total_time", "turnaround_time")


def records(lines):
    """Line number -> the fields of its record, as the line writes them; the time as a time."""
    frame = parse_log(b"\n".join(lines)).records
    return {
        row["line_number"]: {name: as_written(row[name]) for name in FIELD_NAMES} for row in frame.to_dict("records")
    }


def as_written(value):
    if pd.isna(value):
        return None
    if isinstance(value, str):
        return unescape_text(value).decode("utf-8", "surrogateescape")
    return value if isinstance(value, datetime) else str(value)


def demo_lines(count):
    start, end = datetime(2025, 12, 26, tzinfo=UTC), datetime(2025, 12, 27, tzinfo=UTC)
    return lines_between(DemoSite(broken_share=0.0), start, end, count)


@cache
def odd_records():
    return records(odd_record(kind, number).line for number, kind in enumerate(KINDS))


@pytest.mark.parametrize(("number", "kind"), list(enumerate(KINDS)))
def test_an_odd_line_holds_the_fields_that_it_is_said_to_hold(number, kind):
    expected = dict(odd_record(kind, number).fields)
    expected["request_dtime"] = datetime.strptime(expected["request_dtime"], "%d/%b/%Y:%H:%M:%S %z")
    assert odd_records()[number + 1] == expected


def test_no_kind_is_another_in_disguise():
    assert len(
        {odd_record(kind, 0).line for kind in KINDS} | {no_record(kind, 0).line for kind in NO_RECORD_KINDS}
    ) == (len(KINDS) + len(NO_RECORD_KINDS))


def test_lines_that_are_no_records_are_rejected():
    lines = [no_record(kind, number).line for number, kind in enumerate(NO_RECORD_KINDS)]
    parsed = parse_log(b"\n".join(lines))
    assert parsed.records.empty
    assert parsed.rejected["line"].tolist() == lines


def test_the_truth_of_an_ordinary_line_is_what_the_parser_reads():
    lines = demo_lines(2_000)
    found = records(line.encode() for line in lines)
    assert [compared_demo_line(line) for line in lines] == [compared(found[n + 1]) for n in range(len(lines))]


def test_one_line_in_twenty_is_odd_and_one_odd_line_in_ten_no_record():
    ordinary = [line.encode() for line in demo_lines(20_000)]
    nasty = list(nasty_lines(line.decode() for line in ordinary))
    changed = [after for before, after in zip(ordinary, nasty, strict=True) if before != after[0]]
    assert len(changed) == 1_000
    assert sum(truth is None for _, truth in changed) == sum(truth is None for _, truth in nasty) == 100
    operations = Counter(truth.operation for _, truth in changed if truth)
    assert operations["BATCH.DELETE.OBJECT"] == pytest.approx(900 / len(KINDS), abs=1)


def test_mistakes_are_lost_and_wrong_lines():
    truth = digests([compared_demo_line(line) for line in demo_lines(4)] + [None, None])
    answers = np.array([truth[0], 0, 7, truth[3], 7, 0], np.uint64)
    assert (mistakes(truth, truth).lost, mistakes(truth, truth).wrong) == (0, 0)
    assert (mistakes(truth, answers).lost, mistakes(truth, answers).wrong) == (2, 1)


@pytest.mark.parametrize("length", [600, 8192])
def test_adversarial_lines_are_as_long_as_the_average_line(length):
    assert {len(line) for _, line in adversarial_lines(length)} == {len(average_line(length))} == {length}
    assert len(parse_log(average_line(length)).records) == 1
