"""A log object read in parts has the same content as when it is read at once, and is never in memory as a whole."""

import hashlib
import re
import tracemalloc
from itertools import chain, repeat

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tamarin_dagster.logformat import (
    DecompressionError,
    LogCounts,
    RejectReason,
    lines,
    parse_logs,
    parse_parts,
    parser,
)
from tamarin_dagster.logformat.lines import KEPT_BYTES, PIECE_BYTES, PIECE_LINES, LongLine, cut_pieces, whole_lines
from tamarin_dagster.logformat.regex_reader import MAX_LINE_BYTES
from tamarin_dagster_tests.examples import at_least
from tamarin_dagster_tests.logformat.cuts import chunks_of, sizes
from tamarin_dagster_tests.logformat.found import records_of, rejected_of
from tamarin_dagster_tests.logformat.invariants import NOW, lines_of
from tamarin_dagster_tests.logformat.lines_written import BASES, line
from tamarin_dagster_tests.logformat.mutations import mutated_lines

MIB = 1024**2
BOM = b"\xef\xbb\xbf"
RECORD = line().encode() + b"\n"
ANY_LINE = st.one_of(
    st.binary(max_size=60),
    mutated_lines(),
    st.sampled_from([b"", b" ", b"\t\r", BOM, BOM + b" \r", BOM + BASES[0].encode(), BASES[0].encode() + b"\r"]),
)
ENDS = st.sampled_from([b"", b"\n", b"\r\n"])
BODIES = st.builds(lambda texts, end: b"\n".join(texts) + end, st.lists(ANY_LINE, max_size=8), ENDS)


def check(body, chunks):
    """Check that the parts of the chunks together equal the body read at once; return them."""
    parts = list(parse_parts(chunks, now=NOW))
    whole = parse_logs([body], now=NOW)
    assert all(len(part.counts) == 1 and part.counts[0].line_count for part in parts)
    assert sum((part.counts[0] for part in parts), LogCounts()) == whole.counts[0]
    is_same = tuple(chain.from_iterable(map(rejected_of, parts))) == tuple(rejected_of(whole))
    assert is_same  # pytest would show the difference, of lines of megabytes
    assert pa.concat_tables([records_of(whole).slice(0, 0), *map(records_of, parts)]).equals(records_of(whole))
    return parts


@at_least(250)
@given(BODIES, sizes(400), st.integers(0, 300), st.integers(1, 8))
@example(BOM + b"\n" + BOM, [1], 0, 1)
@example(BOM, [1, 0], 0, 1)
def test_parts_hold_the_same_lines_wherever_chunks_and_parts_are_cut(body, cuts, more_bytes, piece_lines):
    with pytest.MonkeyPatch.context() as patch:
        longest = max(map(len, lines_of(body)), default=0)
        patch.setattr(parser, "PIECE_BYTES", longest + 1 + more_bytes)
        patch.setattr(lines, "PIECE_LINES", piece_lines)
        parts = check(body, chunks_of(body, cuts))
    assert max((part.counts[0].line_count for part in parts), default=0) <= piece_lines


LONG_LINES = st.tuples(
    st.sampled_from([b"", BOM, b" ", b"x"]),
    st.sampled_from([b"x", b" ", b"\t \r", b"\r", b"\x0b"]),
    st.sampled_from([MAX_LINE_BYTES + count for count in (-3, -1, 0, 1, 2, 3, 4, 5, 300_000)]),
    st.sampled_from([b"", b"\r", b"x"]),
)


@at_least(60)
@given(st.lists(st.one_of(LONG_LINES, ANY_LINE), max_size=3), ENDS, st.sampled_from([[400_000], [9, 1_100_000], []]))
def test_lines_too_long_to_be_held_are_what_they_are_when_read_at_once(texts, end, cuts):
    def written(text):
        if isinstance(text, bytes):
            return text
        start, fill, length, stop = text
        return start + fill * (length // len(fill)) + stop

    body = b"\n".join(map(written, texts)) + end
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parser, "PIECE_BYTES", MAX_LINE_BYTES + len(BOM) + 1)
        check(body, chunks_of(body, cuts))


def test_what_is_held_of_a_line_is_more_than_a_record_may_have():
    assert MAX_LINE_BYTES + len(BOM) < PIECE_BYTES


WORDS = st.sampled_from([b"\n", b"\n\n", b"\r", b" ", b"   ", b"\t", b"\x0b", b"x", b"abcd", BOM])


@at_least(500)
@given(st.lists(WORDS, max_size=40).map(b"".join), sizes(12), st.integers(5, 20))
@example(BOM + b"  \n" + BOM + b"  ", [1], 5)
def test_whole_lines_are_all_lines_and_only_long_ones_are_not_held(body, cuts, block_bytes):
    expected = iter(enumerate(re.findall(rb"[^\n]*\n|[^\n]+", body)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "KEPT_BYTES", 5)
        found = list(whole_lines(chunks_of(body, cuts), block_bytes))
    for item in found:
        if isinstance(item, LongLine):
            number, text = next(expected)
            text = text.removesuffix(b"\n")
            is_blank = not (text.removeprefix(BOM) if number == 0 else text).strip(b" \t\r")
            assert len(text) >= block_bytes
            assert item == LongLine(text[:5], len(text), hashlib.sha256(text).digest(), is_blank)
        else:
            assert 0 < len(item) <= block_bytes
            for held in re.findall(rb"[^\n]*\n|[^\n]+", item):
                _, text = next(expected)
                assert held == text
                assert len(text.removesuffix(b"\n")) < block_bytes
    assert next(expected, None) is None


@at_least(100)
@given(st.lists(BODIES, max_size=4), st.integers(1, 5), st.integers(1, 2000))
def test_pieces_of_few_lines_hold_the_same_lines(bodies, piece_lines, piece_bytes):
    def found(**options):
        return [
            (log, number, piece.raw(row), piece.text(row), len(piece.starts) <= piece_lines)
            for piece in cut_pieces(bodies, **options)
            for row, (log, number) in enumerate(zip(piece.log_index.tolist(), piece.line_number.tolist(), strict=True))
        ]

    expected = [(*line, True) for *line, _ in found()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "PIECE_LINES", piece_lines)
        assert found(piece_bytes=piece_bytes) == expected


@pytest.mark.parametrize(("fill", "is_blank"), [(b"x", False), (b" ", True)])
def test_a_line_of_64_mib_is_not_held(fill, is_blank):
    parse_logs([RECORD])
    text, digest = fill * MIB, hashlib.sha256()
    for _ in range(64):
        digest.update(text)
    tracemalloc.start()
    try:
        first, long, last = parse_parts(chain([RECORD], repeat(text, 64), [b"\n" + RECORD]))
        grown = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert grown < 3 * PIECE_BYTES
    assert first.records["line_number"].tolist() + last.records["line_number"].tolist() == [1, 3]
    if is_blank:
        assert (rejected_of(long), long.counts) == ([], (LogCounts(line_count=1, blank_count=1),))
    else:
        (rejected,) = rejected_of(long)
        assert rejected == (0, 2, RejectReason.OVERSIZED, fill * KEPT_BYTES, 64 * MIB, digest.digest())
        assert long.counts == (LogCounts(line_count=1, rejected_count=1),)


@pytest.mark.slow
def test_lines_in_plenty_are_not_held():
    """Parts of bytes that are all LFs would have eight million lines, with a few hundred bytes of ours for each."""
    parse_logs([RECORD])
    tracemalloc.start()
    try:
        counts = [part.counts[0].line_count for part in parse_parts(repeat(b"\n" * MIB, 10))]
        grown = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert grown < 6 * PIECE_BYTES
    assert (sum(counts), max(counts)) == (10 * MIB, PIECE_LINES)


def test_a_part_is_read_as_soon_as_it_has_come():
    come = []

    def chunks():
        for _ in range(100):
            come.append(1)
            yield RECORD * (MIB // len(RECORD))

    parts = parse_parts(chunks())
    assert not come
    assert next(parts).counts[0].record_count > 0.9 * PIECE_BYTES / len(RECORD)
    assert len(come) <= PIECE_BYTES / MIB + 1


class Counted(bytes):
    """A chunk that counts how many of its bytes are searched."""

    searched = 0

    def find(self, text, start=0, end=None):
        found = super().find(text, start, end)
        Counted.searched += (len(self) if found < 0 else found) - start
        return found

    def rfind(self, text, start, end):
        Counted.searched += end - start
        return super().rfind(text, start, end)


@pytest.mark.parametrize("body", [RECORD * 400, b"x" * 200_000, b"x" * 150_000 + b"\n" + RECORD * 100])
@pytest.mark.parametrize("size", [1, pytest.param(7, marks=pytest.mark.slow), 10_000, 10**9])
@pytest.mark.parametrize("block_bytes", [1000, 10**6])
def test_no_byte_is_searched_or_moved_over_and_over(monkeypatch, body, size, block_bytes):
    moved = []

    def taken(block, count):
        moved.append(block.held_bytes)
        return take(block, count)

    take = lines._Block.taken
    monkeypatch.setattr(lines._Block, "taken", taken)
    monkeypatch.setattr(Counted, "searched", 0)
    found = list(whole_lines(map(Counted, chunks_of(body, [size])), block_bytes))
    assert sum(item.line_bytes if isinstance(item, LongLine) else len(item) for item in found) >= len(body) - 1
    assert Counted.searched <= len(body)
    assert sum(moved) <= 2 * len(body) + block_bytes


def test_the_clock_is_read_once(monkeypatch):
    read = []

    def latest(now):
        read.append(now)
        return now_read(now)

    now_read = parser._latest
    monkeypatch.setattr(parser, "_latest", latest)
    monkeypatch.setattr(parser, "PIECE_BYTES", len(RECORD))
    assert len(list(parse_parts([RECORD] * 5))) == 5
    assert read == [None]


@pytest.mark.parametrize("chunks", [[], [b""], [b"", b""]])
def test_an_empty_object_has_no_parts(chunks):
    assert list(parse_parts(chunks)) == []


def test_what_the_chunks_raise_comes_behind_the_parts_before_it(monkeypatch):
    monkeypatch.setattr(parser, "PIECE_BYTES", len(RECORD))

    def chunks():
        yield RECORD * 3
        raise DecompressionError("cut short")

    found = []
    with pytest.raises(DecompressionError):
        found.extend(part.counts[0].record_count for part in parse_parts(chunks()))
    assert found == [1, 1, 1]
