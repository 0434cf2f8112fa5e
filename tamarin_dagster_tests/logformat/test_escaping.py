import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamarin_dagster.logformat import escape_bytes, unescape_text
from tamarin_dagster_tests.examples import at_least
from tamarin_dagster_tests.logformat.invariants import escaped

TRICKY = st.lists(
    st.sampled_from([b"\\", b"x", b"\\x", b"\\x5c", b"\\x00", b"\0", b"\xff", b"\xc3", b"\xa9", b"5c", b"\xed\xa0\x80",
                     b"\xe0\x9f\xbf", b"\xef\xbf\xbf", b"\xf0\x8f", b"\xf0\x9f\x98\x80", b"\xf4\x90\x80\x80", b"\xbf"])
)  # fmt: skip
ANY_BYTES = st.one_of(
    st.binary(),
    TRICKY.map(b"".join),
    st.lists(st.one_of(st.binary(max_size=2), st.characters().map(lambda c: c.encode("utf-8", "surrogatepass")))).map(
        b"".join
    ),
)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"plain", "plain"),
        ("héllo \u2028".encode(), "héllo \u2028"),
        (b"a\0b", r"a\x00b"),
        (b"\xff\xfe", r"\xff\xfe"),
        (rb"literal \x41", r"literal \x5cx41"),
        (rb"C:\new", r"C:\new"),
    ],
)
def test_bytes_that_text_cannot_hold_are_written_in_hex(line, text):
    assert escape_bytes(line) == text
    assert unescape_text(text) == line


@at_least(300)
@given(ANY_BYTES)
def test_unescape_is_the_inverse_of_escape(line):
    text = escape_bytes(line)
    assert unescape_text(text) == line
    assert "\0" not in text
    text.encode("utf-8")


@at_least(300)
@given(ANY_BYTES)
def test_bytes_are_escaped_as_python_would_do_it(line):
    assert escape_bytes(line) == escaped(line)


def test_every_sequence_of_two_bytes_is_escaped_as_python_would_do_it():
    pairs = [bytes([first, second]) for first in range(256) for second in range(256)]
    assert [escape_bytes(pair) for pair in pairs] == [escaped(pair) for pair in pairs]
