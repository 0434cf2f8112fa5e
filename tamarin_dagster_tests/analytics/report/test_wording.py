"""Numbers as people read them."""

from datetime import date, timedelta

import pytest

from tamarin_dagster.analytics.report import wording


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.00 kB"),
        (999_499, "999 kB"),
        (999_500, "1.00 MB"),
        (12_345_678, "12.3 MB"),
        (5 * 10**12, "5.00 TB"),
        (10**22, "10,000 EB"),
    ],
)
def test_bytes_have_three_digits(number, text) -> None:
    assert wording.as_bytes(number) == text


@pytest.mark.parametrize(
    ("now", "before", "text"),
    [(110, 100, "+10 %"), (97, 100, "−3 %"), (0, 100, "−100 %"), (2000, 100, "20 ×"), (5, 0, ""), (999, 100, "+899 %")],
)
def test_a_change_is_written_in_percent_up_to_tenfold(now, before, text) -> None:
    assert wording.as_change(now, before) == text


@pytest.mark.parametrize(("share", "text"), [(0, "0.0 %"), (0.0004, "< 0.1 %"), (0.123, "12.3 %"), (1, "100.0 %")])
def test_a_small_share_is_not_nothing(share, text) -> None:
    assert wording.as_share(share) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(-5, "0 s"), (29, "29 s"), (60, "1 min"), (3 * 3600 + 300, "3 h 5 min"), (90_000, "1 d 1 h")]
)
def test_a_duration_has_two_units(seconds, text) -> None:
    assert wording.as_duration(timedelta(seconds=seconds)) == text


def test_days_are_written_by_their_numbers() -> None:
    days = tuple(date(2026, 3, number) for number in range(1, 9))
    assert wording.as_days(days[:2]) == "1, 2"
    assert wording.as_days(days[:6]) == "1, 2, 3, 4, 5 and 1 other"
    assert wording.as_days(days) == "1, 2, 3, 4, 5 and 3 others"


def test_dollars_below_a_cent_are_not_nothing() -> None:
    assert [wording.as_dollars(each) for each in (0, 0.001, 0.005, 1234.5)] == [
        "$ 0.00",
        "< $ 0.01",
        "$ 0.01",
        "$ 1,234.50",
    ]
