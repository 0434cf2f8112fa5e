import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamarin_dagster.logformat import escape_bytes, unescape_text

TRICKY = st.lists(
    st.sampled_from([b"\\", b"x", b"\\x", b"\\x5c", b"\\x00", b"\0", b"\xff", b"\xc3", b"\xa9", b"5c", b"\xed\xa0\x80"])
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


@given(st.one_of(st.binary(), TRICKY.map(b"".join)))
def test_unescape_is_the_inverse_of_escape(line):
    text = escape_bytes(line)
    assert unescape_text(text) == line
    assert "\0" not in text
    text.encode("utf-8")
