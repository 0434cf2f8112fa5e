"""Texts from clients, made safe to show."""

from hypothesis import given

from tamarin_dagster.analytics.report.texts import (
    LONG_CHARACTERS,
    SHORT_CHARACTERS,
    clean_key,
    clean_text,
    shorten,
)
from tamarin_dagster_tests.analytics.report.hostile_texts import TEXTS
from tamarin_dagster_tests.analytics.report.months import SECRET


def test_a_query_is_cut() -> None:
    assert clean_key(f"a/b?X-Amz-Signature={SECRET}") == "a/b?…"
    assert clean_key("a/b?") == "a/b?…"
    assert clean_key("a%3FX-Amz-Signature%3D5ec4e7") == "a%3FX-Amz-Signature%3DREDACTED"
    agent = f"bot (+https://a.example/x?token={SECRET}) and HTTP://b.example?q=1 why?"
    assert clean_text(agent) == "bot (+https://a.example/x?…) and HTTP://b.example?… why?"


def test_what_is_not_seen_or_turns_the_direction_is_written_out() -> None:
    assert clean_text("a\u202eb\u200b\n\x1b[31m\u2028\ufeff\0") == r"a\u202eb\u200b\n\x1b[31m\u2028\ufeff\x00"
    assert clean_key("\u05e9\u05dc\u05d5\u05dd") == "\u05e9\u05dc\u05d5\u05dd"


@given(TEXTS)
def test_any_text_is_one_printable_line_of_bounded_length(text) -> None:
    for shown in (clean_key(text), clean_text(text)):
        assert shown.isprintable()
        assert len(shown) <= LONG_CHARACTERS
        assert len(shorten(shown)) <= SHORT_CHARACTERS


def test_a_long_text_keeps_its_start_and_its_end() -> None:
    assert shorten("a" * 80) == "a" * 80
    assert shorten("a" * 60 + "b" * 60) == "a" * 52 + "…" + "b" * 27
