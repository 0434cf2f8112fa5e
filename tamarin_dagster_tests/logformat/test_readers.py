"""Properties of both readers: they agree, and no line takes long."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamarin_dagster.logformat import parse_logs
from tamarin_dagster.logformat.compiled import pieces
from tamarin_dagster_tests.examples import at_least
from tamarin_dagster_tests.logformat.invariants import NOW, check_readers_agree
from tamarin_dagster_tests.logformat.lines_written import BASES, HEAD, TAIL, line
from tamarin_dagster_tests.logformat.mutations import single_lines


def is_read_by_the_compiled_reader(line: bytes) -> bool:
    """Return whether the compiled reader reads the line."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "read_row", lambda *_: pytest.fail("left to the regex reader"))
        return len(parse_logs([line + b"\n"]).records) == 1


@at_least(700)
@given(st.lists(single_lines(), min_size=1, max_size=8))
def test_both_readers_agree_on_every_line(lines):
    body = b"\n".join(lines)
    check_readers_agree([body], parse_logs([body], now=NOW))


@pytest.mark.parametrize("text", BASES)
def test_records_of_all_shapes_are_read_by_the_compiled_reader(text):
    assert is_read_by_the_compiled_reader(text.encode())


BAIT = [
    '"', '" ', '" "', ' HTTP/1.1" ', ' HTTP/1.1" 200 - 1 1 1 ', '" 200 - 1 1 1 1 ', " ", f'" {TAIL} ', "[", "1 ", "\\x",
    "\0", "é", " REST.GET.OBJECT ", "a ", "- ",
]  # fmt: skip


@pytest.mark.parametrize("bait", BAIT)
def test_no_line_takes_longer_than_its_length_explains(bait):
    """If a hostile line gets four times longer, it may take four times as long; a factor of two is left for a busy
    machine.
    """

    def seconds(size: int) -> float:
        fill = (bait * (size // len(bait) + 1))[:size]
        lines = [line(f'"GET /{fill}"'), line(referrer=f'"{fill}'), line(user_agent=f'"{fill}"'), HEAD + fill, fill]
        data = "\n".join(lines).encode()
        best = float("inf")
        for _ in range(2):
            start = time.process_time()
            parse_logs([data])
            best = min(best, time.process_time() - start)
        return best

    assert seconds(160_000) < 8 * seconds(40_000) + 0.05
