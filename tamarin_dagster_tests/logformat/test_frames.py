"""A DataFrame of records from any source is checked before it is loaded."""

from datetime import UTC, date, datetime

import pandas as pd
import pyarrow as pa
import pytest

from tamarin_dagster.logformat import FIELDS, RECORDS_SCHEMA, REJECTED_SCHEMA, FrameError, parse_logs
from tamarin_dagster.logformat.frames import group_by_day, list_months, to_frame, to_table
from tamarin_dagster_tests.logformat.found import records_of, rejected_of
from tamarin_dagster_tests.logformat.lines_written import line


def body(*lines):
    return "".join(f"{each}\n" for each in lines).encode()


TWO = parse_logs([body(line(), line()), body("junk", line())]).records


def test_a_frame_of_records_has_the_documented_columns_all_of_them_arrows():
    assert list(TWO.columns) == ["log_index", "line_number", *(field.name for field in FIELDS)]
    assert all(isinstance(dtype, pd.ArrowDtype) for dtype in TWO.dtypes)
    assert [dtype.pyarrow_dtype for dtype in TWO.dtypes] == RECORDS_SCHEMA.types


def test_a_frame_of_rejected_lines_has_the_documented_columns():
    rejected = parse_logs([body("junk")]).rejected
    assert [dtype.pyarrow_dtype for dtype in rejected.dtypes] == REJECTED_SCHEMA.types
    assert list(rejected.columns) == REJECTED_SCHEMA.names


def test_a_frame_and_its_table_share_their_memory():
    table = to_table(TWO, RECORDS_SCHEMA)
    again = to_table(to_frame(table), RECORDS_SCHEMA)
    for name in RECORDS_SCHEMA.names:
        old, new = table[name].chunk(0).buffers(), again[name].chunk(0).buffers()
        assert [buffer and buffer.address for buffer in old] == [buffer and buffer.address for buffer in new]


def test_a_frame_of_other_dtypes_is_taken_if_its_values_are_of_the_schema():
    plain = pd.DataFrame(records_of(parse_logs([body(line(), line())])).to_pylist())
    assert not any(isinstance(dtype, pd.ArrowDtype) for dtype in plain.dtypes)
    plain["more"] = 1
    assert to_table(plain, RECORDS_SCHEMA).equals(records_of(parse_logs([body(line(), line())])))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.drop(columns="operation"), "the DataFrame has no column operation"),
        (lambda frame: frame.assign(http_status="2oo"), "column http_status of the DataFrame is not of the type"),
        (
            lambda frame: frame.assign(http_status=70_000),
            "column http_status of the DataFrame is not of the type",
        ),
        (
            lambda frame: frame.assign(request_dtime=pd.NaT),
            "column request_dtime of the DataFrame has 3 missing values",
        ),
        (lambda frame: frame.assign(line_number=None), "column line_number of the DataFrame has 3 missing values"),
    ],
)
def test_a_frame_that_is_not_one_of_records_is_refused_by_column(change, message):
    with pytest.raises(FrameError, match=message):
        to_table(change(TWO), RECORDS_SCHEMA)


def test_months_and_request_days_are_those_of_the_times():
    times = ["31/Dec/2025:23:59:59 +0000", "01/Jan/2026:00:00:00 +0000", "31/Dec/2025:22:00:00 -0300"]
    lines = [line().replace("06/Feb/2019:00:00:38 +0000", time) for time in times]
    records = records_of(parse_logs([body(*lines)], now=datetime(2026, 2, 1, tzinfo=UTC)))
    (bucket,) = set(records["bucket"].to_pylist())
    assert list_months(records) == (date(2025, 12, 1), date(2026, 1, 1))
    assert [(each.bucket, each.day) for each in group_by_day(records)] == [
        (bucket, date(2025, 12, 31)),
        (bucket, date(2026, 1, 1)),
    ]


def test_a_part_of_a_batch_is_numbered_anew():
    parsed = parse_logs([body(line(), line()), body("junk", line()), body("more junk"), body(line(), line(), line())])
    part = parsed.select([1, 3])
    assert records_of(part).select(["log_index", "line_number"]).to_pydict() == {
        "log_index": [0, 1, 1, 1],
        "line_number": [2, 1, 2, 3],
    }
    assert [(line.log_index, line.line) for line in rejected_of(part)] == [(0, b"junk")]
    assert part.counts == (parsed.counts[1], parsed.counts[3])
    assert pa.concat_tables(records_of(parsed.select([log])) for log in range(4)).num_rows == 6
