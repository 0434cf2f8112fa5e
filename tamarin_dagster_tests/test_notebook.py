"""The Python API: log keys and bytes as DataFrames, without a database or Dagster."""

import gzip
import subprocess
import sys
import warnings
from datetime import date

import pandas as pd
import pyarrow as pa
import pytest

import tamarin_dagster
from tamarin_dagster import LogKeyError, RejectedLinesWarning, notebook, parse_log, parse_logs, read_log_keys
from tamarin_dagster.logformat import FIELDS, RECORDS_SCHEMA
from tamarin_dagster_tests.lines import line, lines

NAME = "2026-03-{:02}-10-00-00-{:016X}"


@pytest.fixture
def where(place):
    """The place, and the arguments and options with which `read_log_keys` reads it."""
    bucket = place.bucket
    if bucket.log_folder is not None:
        return place, (bucket.log_folder,), {}
    url = f"s3://{bucket.log_bucket_name}/{bucket.log_prefix}"
    return place, (url,), {"endpoint_url": bucket.endpoint_url, "region": bucket.region}


def test_log_keys_of_all_layouts_and_suffixes_are_read_in_order_and_nothing_else(where):
    place, arguments, options = where
    partitioned = "logs/123456789012/eu-west-1/media/2026/03/06/"
    place.put(f"logs/{NAME.format(5, 1)}", lines(2))
    place.put(f"logs/{NAME.format(5, 2)}.gz", gzip.compress(lines(3)))
    place.put(partitioned + NAME.format(6, 3), lines(1))
    place.put("logs/notes.txt", lines(9))
    found = read_log_keys(*arguments, **options)
    assert list(found.columns) == ["log_key", "line_number", *(field.name for field in FIELDS)]
    assert [dtype.pyarrow_dtype for dtype in found.dtypes] == [pa.string(), *RECORDS_SCHEMA.types[1:]]
    places = list(zip(found["log_key"], found["line_number"], strict=True))
    names = {f"logs/{NAME.format(5, 1)}": 2, f"logs/{NAME.format(5, 2)}.gz": 3, partitioned + NAME.format(6, 3): 1}
    assert sorted(places) == sorted((name, number + 1) for name, count in names.items() for number in range(count))
    later = read_log_keys(*arguments, first=date(2026, 3, 6), last=date(2026, 3, 6), **options)
    assert later["log_key"].tolist() == [partitioned + NAME.format(6, 3)]


def test_large_keys_are_read_in_parts_and_small_ones_in_batches(where, monkeypatch):
    place, arguments, options = where
    monkeypatch.setattr(notebook, "_BATCH_BYTES", 3000)
    for number in range(5):
        place.put(f"logs/{NAME.format(5, number)}", lines(4 if number != 2 else 400))
    found = read_log_keys(*arguments, **options)
    assert found.groupby("log_key").size().tolist() == [4, 4, 400, 4, 4]


def test_rejected_lines_are_missing_which_a_warning_says(folder_place):
    folder_place.put(f"logs/{NAME.format(5, 1)}", lines(2) + b"junk\n\n")
    folder_place.put(f"logs/{NAME.format(5, 2)}", lines(2))
    with pytest.warns(RejectedLinesWarning, match="1 of 6 lines, in 1 log key, left out because they are not records"):
        found = read_log_keys(folder_place.bucket.log_folder)
    assert len(found) == 4


def test_a_key_that_cannot_be_read_is_named(folder_place):
    bad = f"logs/{NAME.format(5, 1)}.gz"
    folder_place.put(bad, b"\x1f\x8b\x08 not gzip")
    folder_place.put(f"logs/{NAME.format(5, 2)}", lines(2))
    with pytest.raises(LogKeyError, match=f"{bad}: gzip data"):
        read_log_keys(folder_place.bucket.log_folder)
    with pytest.warns(UserWarning, match=f"log key {bad} is skipped: gzip data"):
        assert len(read_log_keys(folder_place.bucket.log_folder, errors="warn")) == 2


def test_secrets_are_redacted_unless_asked_for(folder_place):
    folder_place.put(f"logs/{NAME.format(5, 1)}", line(key="k?X-Amz-Signature=abc"))
    folder = folder_place.bucket.log_folder
    assert read_log_keys(folder)["request_uri"].tolist() == ["/k?X-Amz-Signature=REDACTED"]
    assert read_log_keys(folder, redact=False)["request_uri"].tolist() == ["/k?X-Amz-Signature=abc"]


def test_both_parsers_give_the_same(folder_place):
    folder_place.put(f"logs/{NAME.format(5, 1)}", lines(20))
    folder = folder_place.bucket.log_folder
    pd.testing.assert_frame_equal(read_log_keys(folder), read_log_keys(folder, parser="regex"))


def test_an_empty_folder_is_an_empty_frame_of_the_same_columns(tmp_path):
    found = read_log_keys(tmp_path)
    assert len(found) == 0
    assert found["bytes_sent"].dtype == pd.ArrowDtype(pa.int64())


def test_what_is_public_is_listed():
    assert tamarin_dagster.__all__ == [
        "LogKeyError",
        "LoggedBucketsComponent",
        "ParsedLog",
        "ParsedLogs",
        "RejectedLinesWarning",
        "parse_log",
        "parse_logs",
        "read_log_keys",
    ]
    assert all(getattr(tamarin_dagster, name) for name in tamarin_dagster.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'read_everything'"):
        _ = tamarin_dagster.read_everything


def test_bytes_are_read_into_frames_of_the_documented_columns():
    parsed = parse_log(lines(2) + b"junk\n\n")
    assert list(parsed.records.columns) == ["line_number", *(field.name for field in FIELDS)]
    assert parsed.rejected.to_dict("records") == [{"line_number": 3, "reason": "not_a_record", "line": b"junk"}]
    assert (parsed.line_count, parsed.blank_count) == (4, 1)
    both = parse_logs([lines(2), lines(3)])
    assert both.records["log_index"].tolist() == [0, 0, 1, 1, 1]
    assert [counts.record_count for counts in both.counts] == [2, 3]


def test_importing_the_package_imports_none_of_its_parts():
    code = "import sys, tamarin_dagster; print({'pandas', 'pyarrow', 'numba', 'dagster'} & {*sys.modules})"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"


def test_no_warning_without_a_reason(folder_place):
    folder_place.put(f"logs/{NAME.format(5, 1)}", lines(2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(read_log_keys(folder_place.bucket.log_folder)) == 2
