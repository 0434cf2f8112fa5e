"""Months, at their edges."""

from datetime import UTC, date, datetime

import pytest

from tamarin_dagster.analytics.report import Month


@pytest.mark.parametrize(
    ("text", "last", "before"),
    [("2026-12", 31, "2026-11"), ("2027-01", 31, "2026-12"), ("2028-02", 29, "2028-01"), ("2026-02", 28, "2026-01")],
)
def test_a_month_ends_with_its_last_day(text, last, before) -> None:
    month = Month.parse(text)
    assert (str(month), month.last.day, str(month.before)) == (text, last, before)
    assert (month.before.end, Month.of(month.last)) == (month.start, month)


def test_a_month_begins_and_ends_at_midnight_in_utc() -> None:
    assert Month(2026, 12).start == datetime(2026, 12, 1, tzinfo=UTC)
    assert Month(2026, 12).end == datetime(2027, 1, 1, tzinfo=UTC)
    assert Month.of(date(2026, 12, 31)).name == "December 2026"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026",
        "2026-13",
        "2026-00",
        "2026-1",
        "2026-01-01",
        "0000-01",
        " 2026-01",
        "2026-\N{ARABIC-INDIC DIGIT ZERO}1",
    ],
)
def test_what_is_no_month_is_refused(text) -> None:
    with pytest.raises(ValueError, match="is not a month; write it like 2026-03"):
        Month.parse(text)
