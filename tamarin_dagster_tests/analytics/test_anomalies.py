"""Spikes, error rates, newcomers and top talkers, on rollups whose answers are known."""

import itertools
from datetime import UTC, date, datetime

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from tamarin_dagster.analytics import anomalies
from tamarin_dagster.analytics.anomalies import Rise, find_bandwidth_spikes, find_error_rate_jumps, find_request_spikes
from tamarin_dagster.analytics.consumers import ConsumerKind
from tamarin_dagster.analytics.past import find_last_settled_day, list_known_days_before, waiting_days
from tamarin_dagster.analytics.rise_reasons import Reason
from tamarin_dagster.recordstore.schema.traffic_tables import traffic_day, traffic_hourly, traffic_pending_day
from tamarin_dagster.settings.models import DEFAULT_ALARM_THRESHOLD
from tamarin_dagster_tests.analytics.traffic_rows import DAY, GB, HOUR, Traffic, midnight
from tamarin_dagster_tests.examples import at_least

# A Friday.
NOW = datetime(2026, 3, 20, 12, 30, tzinfo=UTC)
TODAY = NOW.date()
YESTERDAY = TODAY - DAY
PRESENT = datetime(2026, 3, 20, 12, tzinfo=UTC)
COUNTED = {"requests": 1, "bytes_sent": 1, "seconds": 0.1}


def by_turns(hour: datetime) -> int:
    """10 GB and 12 GB an hour on alternate days: the usual is 11, the limit 22."""
    return (10 if hour.toordinal() % 2 else 12) * GB


def fill(traffic: Traffic, days: int = 30, *, spikes: dict[datetime, int] | None = None, usual=by_turns) -> None:
    spikes = spikes or {}
    traffic.days(TODAY - days * DAY, TODAY, rolled_up_at=NOW)
    traffic.hours(midnight(TODAY - days * DAY), PRESENT, lambda hour: spikes.get(hour, usual(hour)))


def test_an_hour_of_more_than_the_limit_is_a_spike_and_one_of_the_limit_is_none(traffic, connection) -> None:
    above, at = PRESENT - 5 * HOUR, PRESENT - 6 * HOUR
    fill(traffic, spikes={above: 22 * GB + 1, at: 22 * GB})

    found = find_bandwidth_spikes(connection, traffic.bucket, NOW, 6)

    assert found.rises == (Rise(above, 22 * GB + 1, 11 * GB, 22 * GB),)
    assert (found.days, found.judged) == (28, 25)


def test_the_threshold_is_how_many_deviations_are_usual(traffic, connection) -> None:
    """The median deviation is 1 GB: 11 + 8 * 1.4826 is 22.86."""
    fill(traffic, spikes={PRESENT: 22_500_000_000})

    assert len(find_bandwidth_spikes(connection, traffic.bucket, NOW, 6).rises) == 1
    assert find_bandwidth_spikes(connection, traffic.bucket, NOW, 8).rises == ()


def test_a_spike_is_told_at_once_and_for_a_day(traffic, connection) -> None:
    """Late records only raise the sums of an hour, so it need not be over."""
    fill(traffic, spikes={PRESENT - 24 * HOUR: 50 * GB, PRESENT: 60 * GB})

    assert [rise.value for rise in find_bandwidth_spikes(connection, traffic.bucket, NOW, 6).rises] == [
        50 * GB,
        60 * GB,
    ]
    assert [rise.value for rise in find_bandwidth_spikes(connection, traffic.bucket, NOW + HOUR, 6).rises] == [60 * GB]
    assert find_bandwidth_spikes(connection, traffic.bucket, NOW + 25 * HOUR, 6).rises == ()


def test_what_comes_each_week_is_no_spike(traffic, connection) -> None:
    weekly = {PRESENT - 7 * number * DAY: 90 * GB for number in range(5)}
    fill(traffic, spikes=weekly)
    assert find_bandwidth_spikes(connection, traffic.bucket, NOW, 6).rises == ()

    other = Traffic(traffic.engine, f"{traffic.bucket}-other")
    fill(other, spikes={PRESENT: 90 * GB, PRESENT - 7 * DAY: 90 * GB})
    assert [rise.usual for rise in find_bandwidth_spikes(connection, other.bucket, NOW, 6).rises] == [11 * GB]


def test_a_quiet_bucket_has_no_small_anomalies(traffic, connection) -> None:
    fill(traffic, usual=lambda _: 1000, spikes={PRESENT: GB, PRESENT - HOUR: GB + 1001})

    assert find_bandwidth_spikes(connection, traffic.bucket, NOW, 6).rises == (
        Rise(PRESENT - HOUR, GB + 1001, 1000, GB + 1000),
    )


def test_requests_have_a_habit_of_their_own(traffic, connection) -> None:
    traffic.days(TODAY - 30 * DAY, TODAY)
    present = {PRESENT - HOUR: 11_001, PRESENT: 11_002}
    traffic.hours(midnight(TODAY - 30 * DAY), PRESENT, requests=lambda hour: present.get(hour, 1001))

    assert find_request_spikes(connection, traffic.bucket, NOW, 6).rises == (Rise(PRESENT, 11_002, 1001, 11_001),)
    assert find_bandwidth_spikes(connection, traffic.bucket, NOW, 6).rises == ()


def test_an_hour_without_requests_counts_as_none(traffic, connection) -> None:
    """A job on every second day is not usual: the median includes the days without it."""
    traffic.days(TODAY - 30 * DAY, TODAY)
    traffic.hours(PRESENT - 4 * DAY, PRESENT - 4 * DAY, lambda _: 30 * GB)
    traffic.hours(PRESENT, PRESENT, lambda _: 30 * GB)

    assert find_bandwidth_spikes(connection, traffic.bucket, NOW, 6).rises == (Rise(PRESENT, 30 * GB, 0, GB),)


@pytest.mark.parametrize(("days", "judged"), [(13, 0), (14, 13), (15, 25)])
def test_two_weeks_are_history_enough(traffic, connection, days, judged) -> None:
    """With 14 days before today, yesterday's hours have only 13."""
    fill(traffic, days, spikes={PRESENT: 500 * GB})

    found = find_bandwidth_spikes(connection, traffic.bucket, NOW, 6)

    assert (found.days, found.judged, len(found.rises)) == (days, judged, min(judged, 1))


def test_a_bucket_without_any_traffic_is_not_judged(traffic, connection) -> None:
    assert find_bandwidth_spikes(connection, traffic.bucket, NOW, 6) == anomalies.Rises(0)
    assert anomalies.find_new_top_consumers(connection, traffic.bucket, NOW).is_judged is False


def test_a_day_without_rollups_was_quiet_if_somebody_was_loading_by_then(traffic, connection) -> None:
    """Otherwise a backfill has not reached it: its hours would count as 0, and each later hour would be a spike."""
    traffic.days(TODAY - 20 * DAY, TODAY - 19 * DAY, rolled_up_at=midnight(TODAY - 6 * DAY))
    assert list_known_days_before(connection, traffic.bucket, TODAY) == {
        *(TODAY - number * DAY for number in (20, 19)),
        *(TODAY - number * DAY for number in range(1, 6)),
    }


def test_another_buckets_traffic_is_its_own(traffic, connection) -> None:
    fill(traffic)
    other = Traffic(traffic.engine, f"{traffic.bucket}-other")
    fill(other, spikes={PRESENT: 90 * GB})

    assert find_bandwidth_spikes(connection, traffic.bucket, NOW, 6).rises == ()
    assert len(find_bandwidth_spikes(connection, other.bucket, NOW, 6).rises) == 1


def test_a_spike_has_reasons_the_largest_difference_first(traffic, connection) -> None:
    """A key that always has the most traffic is no reason, and neither is one with less than usual."""
    spike = midnight(YESTERDAY) + 20 * HOUR
    fill(traffic, spikes={spike: 90 * GB})
    for number in range(1, 29):
        traffic.daily("key", YESTERDAY - number * DAY, **{"daily.iso": 200 * GB, "often.zip": number * GB})
    traffic.daily("key", YESTERDAY, **{"daily.iso": 200 * GB, "often.zip": 60 * GB, "new%0A.bin": 70 * GB, "": 1000})
    traffic.daily("remote_ip", YESTERDAY, **{"203.0.113.9": 80 * GB, "2001:db8::9": 3})
    traffic.daily("user_agent", YESTERDAY - DAY, wget=5000)
    traffic.daily("user_agent", YESTERDAY, wget=5000, **{"": 80 * GB})

    assert find_bandwidth_spikes(connection, traffic.bucket, NOW, 6).reasons == (
        Reason("key", "new%0A.bin", 70 * GB, 0),
        Reason("key", "often.zip", 60 * GB, 14.5 * GB),
        Reason("key", None, 1000, 0),
        Reason("remote_ip", "203.0.113.9", 80 * GB, 0),
        Reason("remote_ip", "2001:db8::9", 3, 0),
        Reason("user_agent", None, 80 * GB, 0),
        Reason("user_agent", "wget", 5000, 0),
    )


def test_reasons_of_today_are_beside_as_much_of_a_usual_day(traffic, connection) -> None:
    """13 of 24 hours; the last one is not over."""
    fill(traffic, spikes={PRESENT: 90 * GB})
    for number in range(29):
        traffic.daily("key", TODAY - number * DAY, **{"a.iso": 240 * GB})

    assert find_bandwidth_spikes(connection, traffic.bucket, NOW, 6).reasons == (
        Reason("key", "a.iso", 240 * GB, pytest.approx(130 * GB)),
    )


_viewed = itertools.count(1)
HOURS = st.integers(0, 40 * 24 - 1)


@given(
    bytes_sent=st.dictionaries(HOURS, st.integers(0, 40 * GB), max_size=60),
    usual=st.integers(0, 5 * GB),
    known=st.sets(st.integers(0, 39), min_size=12),
)
@at_least(20)
def test_the_view_of_spikes_and_the_check_agree(shared_engine, bytes_sent, usual, known) -> None:
    """Each had its own definition: after a warning, the view gave another answer, or none."""
    traffic = Traffic(shared_engine, f"viewed-{next(_viewed)}")
    first = TODAY - 39 * DAY
    days = sorted(first + number * DAY for number in known)
    traffic.insert(traffic_day, [{"request_date": day, **COUNTED, "rolled_up_at": NOW} for day in days])
    hours = [midnight(first) + number * HOUR for number in range(40 * 24)]
    traffic.insert(
        traffic_hourly,
        [
            {"hour": hour, "operation_class": "read", "requests": 1, "error_count": 0}
            | {"bytes_sent": bytes_sent.get(number, usual + number % 7)}
            for number, hour in enumerate(hours)
            if hour.date() in days and hour <= PRESENT and number % 11
        ],
    )
    with shared_engine.connect() as connection:
        judged = find_bandwidth_spikes(connection, traffic.bucket, NOW, DEFAULT_ALARM_THRESHOLD).rises
        query = "SELECT hour, value, usual FROM s3_spike WHERE bucket = :bucket AND measure = 'bytes_sent'"
        found = connection.execute(
            sa.text(f"{query} AND hour BETWEEN :first AND :last ORDER BY hour"),
            {"bucket": traffic.bucket, "first": PRESENT - DAY, "last": PRESENT},
        ).all()
    assert [tuple(row) for row in found] == [(rise.hour, rise.value, rise.usual) for rise in judged]


def errors(traffic: Traffic, present: dict[datetime, tuple[int, int]]) -> None:
    """Each hour has 20 errors in 1,000 requests; the arguments are requests and errors of the present hours."""
    traffic.days(TODAY - 30 * DAY, TODAY)
    traffic.hours(
        midnight(TODAY - 30 * DAY),
        PRESENT,
        requests=lambda hour: present.get(hour, (1000, 20))[0],
        error_count=lambda hour: present.get(hour, (1000, 20))[1],
    )


def test_a_jump_of_the_error_rate_is_told_once_its_hour_is_settled(traffic, connection) -> None:
    settled, fresh = PRESENT - 4 * HOUR, PRESENT - 3 * HOUR
    errors(traffic, {settled: (2000, 300), fresh: (2000, 300)})
    traffic.daily("key", TODAY, **{"gone.html": 10 * GB})

    found = find_error_rate_jumps(connection, traffic.bucket, NOW, 6)

    assert found.rises == (Rise(settled, 0.15, 0.02, pytest.approx(0.12)),)
    assert found.reasons == (Reason("key", "gone.html", 1_000_000, 0),)
    assert len(find_error_rate_jumps(connection, traffic.bucket, NOW + HOUR, 6).rises) == 2


@pytest.mark.parametrize(("requests", "count"), [(500, 99), (2000, 240), (10, 10), (0, 0)])
def test_few_errors_or_a_small_rise_are_no_jump(traffic, connection, requests, count) -> None:
    errors(traffic, {PRESENT - 5 * HOUR: (requests, count)})

    found = find_error_rate_jumps(connection, traffic.bucket, NOW, 6)

    assert (found.rises, found.judged) == ((), 25)


def test_a_rate_is_known_of_hours_with_requests_alone(traffic, connection) -> None:
    traffic.days(TODAY - 30 * DAY, TODAY)
    traffic.hours(PRESENT - 4 * HOUR, PRESENT - 4 * HOUR, requests=lambda _: 1000, error_count=lambda _: 1000)

    assert find_error_rate_jumps(connection, traffic.bucket, NOW, 6).judged == 0


def settled(traffic: Traffic, **taken: int) -> None:
    """20 usual addresses take 5 GB a day each; on the last day, the given ones take these bytes."""
    traffic.days(YESTERDAY - 28 * DAY, YESTERDAY)
    usual = {f"198.51.100.{number}": 5 * GB + number for number in range(20)}
    for number in range(29):
        traffic.daily("remote_ip", YESTERDAY - number * DAY, **usual)
    traffic.daily("remote_ip", YESTERDAY, **taken)


def test_who_was_never_seen_and_takes_much_is_new(traffic, connection) -> None:
    new, seen, small = "203.0.113.1", "203.0.113.2", "203.0.113.3"
    settled(traffic, **{new: 40 * GB, seen: 40 * GB + 1, small: 6 * GB})
    traffic.daily("remote_ip", YESTERDAY - 28 * DAY, **{seen: 1})
    traffic.daily("requester", YESTERDAY, **{"arn:aws:iam::123456789012:user/new": 30 * GB, "": 60 * GB})

    found = anomalies.find_new_top_consumers(connection, traffic.bucket, NOW)

    assert (found.day, found.days) == (YESTERDAY, 28)
    assert [(each.by, each.rank, each.consumer.name) for each in found.newcomers] == [
        (ConsumerKind.ip, 2, new),
        (ConsumerKind.requester, 1, "arn:aws:iam::123456789012:user/new"),
    ]
    assert found.newcomers[0].consumer.share == pytest.approx(40 / 186, abs=1e-6)
    assert found.newcomers[1].consumer.share == pytest.approx(1 / 3)


def test_who_was_seen_longer_ago_is_new_again(traffic, connection) -> None:
    settled(traffic, **{"203.0.113.1": 40 * GB})
    traffic.daily("remote_ip", YESTERDAY - 29 * DAY, **{"203.0.113.1": 40 * GB})

    assert len(anomalies.find_new_top_consumers(connection, traffic.bucket, NOW).newcomers) == 1


def test_nobody_is_new_while_there_are_but_13_days(traffic, connection) -> None:
    traffic.days(YESTERDAY - 13 * DAY, YESTERDAY)
    traffic.daily("remote_ip", YESTERDAY, **{"203.0.113.1": 40 * GB})

    assert not anomalies.find_new_top_consumers(connection, traffic.bucket, NOW).is_judged


@pytest.mark.parametrize(
    ("now", "day"),
    [
        (datetime(2026, 3, 20, 2, 59, tzinfo=UTC), date(2026, 3, 18)),
        (datetime(2026, 3, 20, 3, 0, tzinfo=UTC), date(2026, 3, 19)),
        (datetime(2026, 3, 20, 23, 59, tzinfo=UTC), date(2026, 3, 19)),
    ],
)
def test_a_day_is_settled_hours_after_its_end(now, day) -> None:
    assert find_last_settled_day(now) == day


def found_top_talkers(traffic, connection, share: float) -> list[tuple[str, date, str]]:
    return [
        (each.by.value, each.first, consumer.name)
        for each in anomalies.top_talkers(connection, traffic.bucket, NOW, share)
        for consumer in each.largest
    ]


def test_a_hog_is_above_its_share_of_a_day_or_of_seven(traffic, connection) -> None:
    settled(traffic, **{"203.0.113.1": 100 * GB})
    for number in range(1, 7):
        traffic.daily("remote_ip", YESTERDAY - number * DAY, **{"203.0.113.2": 60 * GB})
    week = YESTERDAY - 6 * DAY

    assert found_top_talkers(traffic, connection, 0.3) == [
        ("ip", YESTERDAY, "203.0.113.1"),
        ("ip", week, "203.0.113.2"),
    ]
    assert found_top_talkers(traffic, connection, 0.5) == []


def test_your_own_consumers_are_no_top_talkers(traffic, connection) -> None:
    settled(traffic, **{"10.0.0.7": 100 * GB, "203.0.113.1": (100 * GB, 99 * GB)})
    requesters = {f"arn:aws:iam::123456789012:user/{number}": GB for number in range(20)}
    cloudfront = "arn:aws:iam::cloudfront:user/CloudFront Origin Access Identity E2EXAMPLE1OAI7"
    traffic.daily("requester", YESTERDAY, **requesters, **{cloudfront: 900 * GB, "": 50 * GB})

    assert found_top_talkers(traffic, connection, 0.2) == []


def test_among_fewer_than_ten_nobody_is_a_top_talker(traffic, connection) -> None:
    traffic.daily("remote_ip", YESTERDAY, **{f"203.0.113.{number}": 10 * GB for number in range(8)})
    traffic.daily("remote_ip", YESTERDAY, **{"198.51.100.1": 100 * GB})
    assert found_top_talkers(traffic, connection, 0.2) == []

    traffic.daily("remote_ip", YESTERDAY, **{"203.0.113.8": 10 * GB})
    assert found_top_talkers(traffic, connection, 0.2) == [
        ("ip", YESTERDAY, "198.51.100.1"),
        ("ip", YESTERDAY - 6 * DAY, "198.51.100.1"),
    ]


def test_days_that_wait_for_their_rollups_are_named(traffic, connection) -> None:
    traffic.insert(traffic_pending_day, [{"request_date": day} for day in (TODAY, TODAY, TODAY - 9 * DAY)])
    traffic.insert(traffic_pending_day, [{"request_date": YESTERDAY, "bucket": "another"}])
    assert waiting_days(connection, traffic.bucket, YESTERDAY, TODAY) == (TODAY,)

    traffic.insert(traffic_pending_day, [{"request_date": YESTERDAY, "bucket": None}])
    assert waiting_days(connection, traffic.bucket, YESTERDAY, TODAY) == (YESTERDAY, TODAY)
