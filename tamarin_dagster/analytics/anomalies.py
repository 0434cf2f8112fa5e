"""Find anomalies of a bucket's traffic in its rollups: spikes, error rates, new large consumers, top talkers.

If too few days before are known, nothing is judged: the answer says so, and no check warns.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from operator import attrgetter

import sqlalchemy as sa

from tamarin_dagster.analytics.consumers import Consumer, ConsumerKind, Consumers, find_largest_consumers, find_unseen
from tamarin_dagster.analytics.past import SETTLED_AFTER, find_last_settled_day, list_known_days, list_known_days_before
from tamarin_dagster.analytics.rise_reasons import Measure, Reason, find_reasons
from tamarin_dagster.recordstore.schema.traffic_tables import traffic_hourly
from tamarin_dagster.recordstore.whole_numbers import total
from tamarin_dagster.traffic.baseline import (
    MIN_BYTES_RISE,
    MIN_DAYS,
    MIN_MULTIPLE,
    MIN_REQUESTS_RISE,
    MIN_WEEKS,
    PAST_DAYS,
    Baseline,
    baseline_of,
)

# A spike at night is still reported in the morning, and so is one whose records came late.
JUDGED_HOURS = 24
# Errors in an hour, and the rise of the error rate above the usual. One visitor's dead link causes fewer.
MIN_ERRORS = 100
MIN_RATE_RISE = 0.1
# A public bucket has other large downloaders each day. Only a new one with this share of the bytes is worth a warning.
TOP = 10
MIN_NEW_SHARE = 0.05
# Among fewer consumers, each has a large share.
MIN_CONSUMERS = 10
TOP_TALKER_DAYS = 7


@dataclass(frozen=True, slots=True)
class Hour:
    """The sums of one hour."""

    requests: int = 0
    bytes_sent: int = 0
    error_count: int = 0


@dataclass(frozen=True, slots=True)
class Rise:
    """An hour that was above its limit. `value`, `usual` and `limit` are bytes, requests, or errors per request."""

    hour: datetime
    value: float
    usual: float
    limit: float


@dataclass(frozen=True, slots=True)
class Rises:
    """The judged hours, and those that were above their limits.

    Attributes:
        days: number of known days among the PAST_DAYS before today.
        judged: number of hours that have a baseline.
        rises: the hours above their limits, in the order of time.
        reasons: who and what brought more than usual on the day of the largest rise.
    """

    days: int
    judged: int = 0
    rises: tuple[Rise, ...] = ()
    reasons: tuple[Reason, ...] = ()

    @property
    def largest(self) -> Rise | None:
        """Return the rise that is furthest above its limit."""
        return max(self.rises, key=lambda rise: rise.value / rise.limit, default=None)


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A consumer among the TOP of a day that made no request in the PAST_DAYS before. `rank` begins with 1."""

    by: ConsumerKind
    rank: int
    consumer: Consumer


@dataclass(frozen=True, slots=True)
class Newcomers:
    """The newcomers of `day`; `days` is the number of known days before it."""

    day: date
    days: int
    newcomers: tuple[Newcomer, ...] = ()

    @property
    def is_judged(self) -> bool:
        """Return whether enough days before are known."""
        return self.days >= MIN_DAYS


def find_bandwidth_spikes(connection: sa.Connection, bucket: str, now: datetime, threshold: float) -> Rises:
    """Return the hours with unusually many bytes sent, of the last JUDGED_HOURS and the current one.

    `threshold` is in MADs, as standard deviations (see `baseline_of`). `now` is aware, in UTC.
    """
    return _spikes(connection, bucket, now, Measure.BYTES, threshold, MIN_BYTES_RISE)


def find_request_spikes(connection: sa.Connection, bucket: str, now: datetime, threshold: float) -> Rises:
    """Return the hours with unusually many requests; otherwise the same as `find_bandwidth_spikes`."""
    return _spikes(connection, bucket, now, Measure.REQUESTS, threshold, MIN_REQUESTS_RISE)


def find_error_rate_jumps(connection: sa.Connection, bucket: str, now: datetime, threshold: float) -> Rises:
    """Return the hours in which an unusually large share of the requests was answered with a 4xx or 5xx.

    While records are missing, a rate may have any value. So the hours are the last JUDGED_HOURS that ended at least
    SETTLED_AFTER ago.
    """
    last = _get_hour(now - SETTLED_AFTER) - timedelta(hours=1)
    past = _read_past(connection, bucket, last)
    found = _judge(last, past, _compute_error_rate, partial(baseline_of, threshold=threshold, min_rise=MIN_RATE_RISE))
    rises = tuple(rise for rise in found.rises if past.at(rise.hour).error_count >= MIN_ERRORS)
    return _add_reasons(connection, bucket, Measure.ERRORS, now, replace(found, rises=rises))


def find_new_top_consumers(connection: sa.Connection, bucket: str, now: datetime) -> Newcomers:
    """Return the consumers among the TOP of the last settled day that made no request in the PAST_DAYS before."""
    day = find_last_settled_day(now)
    found = Newcomers(day, len(list_known_days_before(connection, bucket, day)))
    if not found.is_judged:
        return found
    newcomers = []
    for by in ConsumerKind:
        top = find_largest_consumers(connection, bucket, by, day, day, limit=TOP).largest
        large = {
            rank: consumer
            for rank, consumer in enumerate(top, 1)
            if consumer.bytes_sent >= MIN_BYTES_RISE and consumer.share >= MIN_NEW_SHARE
        }
        names = [consumer.name for consumer in large.values()]
        past = (day - timedelta(days=PAST_DAYS), day - timedelta(days=1))
        new = find_unseen(connection, bucket, by, names, *past) if names else set()
        newcomers += [Newcomer(by, rank, consumer) for rank, consumer in large.items() if consumer.name in new]
    return replace(found, newcomers=tuple(newcomers))


def top_talkers(connection: sa.Connection, bucket: str, now: datetime, share: float) -> tuple[Consumers, ...]:
    """Return who took more than that share of the bytes on the last settled day, and in the last TOP_TALKER_DAYS.

    Your own consumers (see `consumers.Own`) are left out. A bucket with fewer than MIN_CONSUMERS has no top talkers.
    """
    last = find_last_settled_day(now)
    return tuple(
        _drop_own(find_largest_consumers(connection, bucket, by, first, last, share=share, min_bytes=MIN_BYTES_RISE))
        for by in ConsumerKind
        for first in (last, last - timedelta(days=TOP_TALKER_DAYS - 1))
    )


def _spikes(
    connection: sa.Connection, bucket: str, now: datetime, measure: Measure, threshold: float, min_rise: float
) -> Rises:
    """Return the rises; the current hour is judged too, because records that come late only raise its sums."""
    last = _get_hour(now)
    baseline = partial(baseline_of, threshold=threshold, min_rise=min_rise, min_multiple=MIN_MULTIPLE)
    found = _judge(last, _read_past(connection, bucket, last), attrgetter(measure), baseline)
    return _add_reasons(connection, bucket, measure, now, found)


def _compute_error_rate(hour: Hour) -> float | None:
    return hour.error_count / hour.requests if hour.requests else None


@dataclass(frozen=True, slots=True)
class _Past:
    """The known days, and the sums of the hours that had requests."""

    days: frozenset[date]
    hours: Mapping[datetime, Hour]

    def at(self, hour: datetime) -> Hour:
        """Return the sums of any hour of a known day."""
        return self.hours.get(hour, Hour())


def _read_past(connection: sa.Connection, bucket: str, last: datetime) -> _Past:
    """Return the days and hours that are needed to judge the hours up to `last`."""
    first = _list_judged_hours(last)[0] - timedelta(days=PAST_DAYS)
    hourly = traffic_hourly.c

    statement = (
        sa.select(hourly.hour, total(hourly.requests), total(hourly.bytes_sent), total(hourly.error_count))
        .where(hourly.bucket == bucket, hourly.hour.between(first, last))
        .group_by(hourly.hour)
    )
    hours = {hour.astimezone(UTC): Hour(*sums) for hour, *sums in connection.execute(statement)}
    return _Past(list_known_days(connection, bucket, first.date(), last.date() - timedelta(days=1)), hours)


def _get_hour(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _list_judged_hours(last: datetime) -> list[datetime]:
    return [last - timedelta(hours=number) for number in reversed(range(JUDGED_HOURS + 1))]


_ValueOf = Callable[[Hour], float | None]
_BaselineOf = Callable[[Sequence[float]], Baseline]


def _judge(last: datetime, past: _Past, value_of: _ValueOf, baseline: _BaselineOf) -> Rises:
    rises, judged = [], 0
    for hour in _list_judged_hours(last):
        usual = _find_baseline(hour, past, value_of, baseline)
        judged += usual is not None
        value = value_of(past.at(hour))
        if usual is not None and value is not None and value > usual.limit:
            rises.append(Rise(hour, value, usual.usual, usual.limit))
    days = sum(day >= last.date() - timedelta(days=PAST_DAYS) for day in past.days)
    return Rises(days, judged, tuple(rises))


def _find_baseline(hour: datetime, past: _Past, value_of: _ValueOf, baseline: _BaselineOf) -> Baseline | None:
    """Return the baseline of the hour on all days before, or on the same days of the week: whichever allows more.

    So neither traffic of every Sunday nor traffic of that hour on many days is a spike.
    """
    hours = (hour - timedelta(days=number) for number in range(1, PAST_DAYS + 1))
    values = {each: value_of(past.at(each)) for each in hours if each.date() in past.days}
    known = {each: value for each, value in values.items() if value is not None}
    if len(known) < MIN_DAYS:
        return None
    of_the_week = [value for each, value in known.items() if each.weekday() == hour.weekday()]
    chosen = [list(known.values())] + ([of_the_week] if len(of_the_week) >= MIN_WEEKS else [])
    baselines = [baseline(values) for values in chosen]
    return max(baselines, key=lambda each: each.limit)


def _add_reasons(connection: sa.Connection, bucket: str, measure: Measure, now: datetime, found: Rises) -> Rises:
    if found.largest is None:
        return found
    day = found.largest.hour.date()
    over = (_get_hour(now) + timedelta(hours=1) - datetime.combine(day, time(), UTC)) / timedelta(days=1)
    known = list_known_days_before(connection, bucket, day)
    return replace(found, reasons=find_reasons(connection, bucket, measure, day, known, part=min(over, 1)))


def _drop_own(found: Consumers) -> Consumers:
    of_several = found.count >= MIN_CONSUMERS
    return replace(found, largest=tuple(each for each in found.largest if of_several and each.own is None))
