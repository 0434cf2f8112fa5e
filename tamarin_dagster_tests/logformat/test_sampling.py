"""The compiled reader is compared with the regex reader, including line shapes, and replaced by it."""

import logging
import sys

import numpy as np
import pyarrow as pa
import pytest

from tamarin_dagster.logformat import compiled, engine, parse_logs, parser, sampling
from tamarin_dagster.logformat.compiled import new_shapes, pieces
from tamarin_dagster_tests.logformat.found import records_of, rejected_of
from tamarin_dagster_tests.logformat.invariants import NOW
from tamarin_dagster_tests.logformat.lines_written import BASES, line


@pytest.fixture(autouse=True)
def trusted(monkeypatch):
    """Start each test with a trusted compiled reader, and without known shapes."""
    monkeypatch.setattr(parser, "_distrusted", [])
    new_shapes.forget_shapes()
    yield
    new_shapes.forget_shapes()


@pytest.fixture
def faulty(monkeypatch):
    """Make the compiled reader take 201 for 200, in lines with a version ID."""
    read_lines = pieces.read_lines

    def misreading(*arguments):
        read_lines(*arguments)
        numbers, spans = arguments[-4], arguments[-3]
        has_version = spans[:, pieces.TEXT_NAMES.index("version_id"), 1] != pieces.NULL
        numbers[has_version, 0] += 1

    monkeypatch.setattr(pieces, "read_lines", misreading)


ORDINARY = line(tail="- hostid=")
VERSIONED = line(tail="3HL4kqtJvjVBH40Nrjfkd hostid=")


def test_a_misread_line_is_found_by_its_shape_and_the_batch_is_read_again(faulty, caplog):
    """The one line of its shape among a thousand."""
    lines = [ORDINARY] * 1000
    lines[501] = VERSIONED
    with caplog.at_level(logging.ERROR):
        parsed = parse_logs([b"", "\n".join(lines).encode()], now=NOW)
    (difference,) = parsed.differences
    assert (difference.log_index, difference.line_number) == (1, 502)
    assert set(records_of(parsed)["http_status"].to_pylist()) == {200}
    assert len(parsed.records) == 1000
    assert "read line 502 of a log key differently" in caplog.text
    assert "hostid" not in caplog.text


def test_after_a_difference_the_process_reads_with_the_regex_reader(faulty):
    """The shape is known by then, and would not be compared again."""
    assert parse_logs([VERSIONED.encode()], now=NOW).differences
    again = parse_logs([("\n".join([ORDINARY] * 99 + [VERSIONED] + [ORDINARY] * 99)).encode()], now=NOW)
    assert again.differences == ()
    assert set(records_of(again)["http_status"].to_pylist()) == {200}


def test_a_shape_is_looked_at_once(monkeypatch):
    rows = []
    read_row = sampling.read_row
    monkeypatch.setattr(
        sampling, "read_row", lambda piece, row, *times: (rows.append(row), read_row(piece, row, *times))[1]
    )
    lines = [ORDINARY] * 1000
    lines[501], lines[502] = VERSIONED, VERSIONED
    body = "\n".join(lines).encode() + b"\n"
    parse_logs([body], now=NOW)
    assert 501 in rows
    assert 502 not in rows
    assert len(rows) <= sampling.SAMPLED_LINES + 1
    rows.clear()
    parse_logs([body], now=NOW)
    assert 501 not in rows
    assert len(rows) == sampling.SAMPLED_LINES


def test_a_flood_of_shapes_is_bounded():
    """Every combination of null columns is a shape, but only a limited number of lines is read twice."""
    rng = np.random.default_rng(7)
    lines = [
        line(
            tail=" ".join("-" if dash else word for dash, word in zip(row, ["v" * 32, "h" * 8, "SigV4"], strict=True))
        ).replace(" 200 ", f" {status} ")
        for row in rng.integers(0, 2, (500, 3)).tolist()
        for status in ("200", "-")
    ]
    reading = compiled.read_piece(next(parser.cut_pieces(["\n".join(lines).encode()])), 0, 2**62)
    assert 0 < len(reading.new_shapes) <= new_shapes.MAX_NEW_SHAPES


@pytest.mark.parametrize("text", BASES)
def test_the_regex_reader_alone_gives_the_same_frames(text):
    body = f"{text}\njunk\n\n{text}".encode()
    compiled_logs, regex_logs = (parse_logs([body], now=NOW, parser=name) for name in ("compiled", "regex"))
    assert records_of(regex_logs).equals(records_of(compiled_logs))
    assert rejected_of(regex_logs) == rejected_of(compiled_logs)
    assert regex_logs.counts == compiled_logs.counts


def test_without_numba_lines_are_read_by_the_regex_reader_and_that_is_said(monkeypatch, caplog):
    body = "\n".join([*BASES, "junk", "", *BASES]).encode()
    expected = records_of(parse_logs([body], now=NOW))
    for name in [each for each in sys.modules if each.startswith("tamarin_dagster.logformat.compiled")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("tamarin_dagster.logformat.compiled")
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.setattr(engine, "_engines", [])
    monkeypatch.setattr(engine, "_read_bytes", engine.LOADING_PAYS_BYTES)
    engine.load_engine.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            parsed = parse_logs([body], now=NOW).redact()
        assert records_of(parsed).select(["key", "bytes_sent"]).equals(expected.select(["key", "bytes_sent"]))
        assert "numba is not installed" in caplog.text
        assert isinstance(records_of(parsed), pa.Table)
    finally:
        engine.load_engine.cache_clear()
