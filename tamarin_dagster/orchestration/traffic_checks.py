"""The checks for anomalies in a bucket's traffic. They warn, and their metadata shows who and what caused the anomaly.

The checks belong to the external asset `traffic`. If they belonged to the rollups, each load would hide their results
and plan a result for each partition (see tamarin_dagster_tests/upstream). A check at each load would also report one
spike a hundred times a day, so they run hourly.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import sqlalchemy as sa

from tamarin_dagster.analytics import anomalies
from tamarin_dagster.analytics.consumers import Consumer, ConsumerKind, Consumers
from tamarin_dagster.analytics.past import SETTLED_AFTER, find_last_settled_day, waiting_days
from tamarin_dagster.analytics.rise_reasons import Reason
from tamarin_dagster.logkey import make_printable
from tamarin_dagster.orchestration.naming import get_group, rollups_key, traffic_key
from tamarin_dagster.recordstore.failures import DATABASE_ERRORS, describe_cause, raise_if_lost
from tamarin_dagster.settings import LoggedBucket, Settings
from tamarin_dagster.traffic.baseline import PAST_DAYS

BANDWIDTH_ANOMALY = "bandwidth_anomaly"
REQUEST_ANOMALY = "request_anomaly"
ERROR_RATE_ANOMALY = "error_rate_anomaly"
NEW_TOP_TALKER = "new_top_talker"
TOP_TALKER_SHARE = "top_talker_share"

TOO_LITTLE_HISTORY = "too little history for a baseline"
# The maximum length of a key, agent or referrer in a table. Longer values are attacks, and would fill the page.
SHOWN_CHARACTERS = 200

_KINDS = {ConsumerKind.ip: "IP address", ConsumerKind.requester: "requester"}
_SETTLED_HOURS = SETTLED_AFTER // timedelta(hours=1)
_BASELINE = (
    f" The baseline is the median of the same hour on the {PAST_DAYS} days before, or on the same days of the week,"
    " whichever is higher. An hour may exceed it by alarm_threshold median absolute deviations. The metadata shows the"
    " hours, and the clients and files that took more than before on that day. The check warns for a day."
)
_DESCRIPTIONS: Mapping[str, str] = {
    BANDWIDTH_ANOMALY: (
        f"No hour of the last {anomalies.JUDGED_HOURS} sent far more bytes than its baseline. To see who takes them,"
        " run `tamarin-dagster top-talkers --bucket {bucket}`." + _BASELINE
    ),
    REQUEST_ANOMALY: (
        f"No hour of the last {anomalies.JUDGED_HOURS} had far more requests than its baseline. Look for new addresses"
        " and user agents in the metadata." + _BASELINE
    ),
    ERROR_RATE_ANOMALY: (
        f"No hour of the last {anomalies.JUDGED_HOURS} had a far larger share of 4xx and 5xx answers than its baseline."
        " An object key with many errors is missing or not readable; an address with many errors is guessing names."
        f" An hour is judged {_SETTLED_HOURS} hours after its end." + _BASELINE
    ),
    NEW_TOP_TALKER: (
        f"The {anomalies.TOP} addresses and requesters with the most bytes of the last day, if they took"
        f" {anomalies.MIN_NEW_SHARE:.0%} of the bytes or more, were all seen in the {PAST_DAYS} days before. If this"
        " fails, find out who the new one is; s3_log_record has its requests."
    ),
    TOP_TALKER_SHARE: (
        f"No address and no requester took more than hog_share of the bytes of the last day, or of the last"
        f" {anomalies.TOP_TALKER_DAYS} days. Private addresses, AWS itself, and buckets with fewer than"
        f" {anomalies.MIN_CONSUMERS} consumers are not judged. If this fails, `tamarin-dagster top-talkers --bucket"
        " {bucket}` compares it with the others and writes ban lists. If it is expected, give the bucket a larger"
        " hog_share."
    ),
}
ANOMALY_CHECKS = tuple(_DESCRIPTIONS)


@dataclass(frozen=True, slots=True)
class _Judgement:
    """The outcome of a check."""

    passed: bool
    metadata: Mapping[str, Any]
    description: str | None = None


def build_traffic(bucket: LoggedBucket, slug: str) -> dg.AssetSpec:
    """Return the external asset for the requests that are made to the bucket."""
    return dg.AssetSpec(
        traffic_key(slug),
        deps=[rollups_key(slug)],
        description=(
            f"Requests to {bucket.name}, as its rollups count them.\n\nNo run makes this asset. Its checks look for"
            " anomalies every hour, and show the clients and files that caused them."
        ),
        group_name=get_group(slug),
        owners=list(bucket.owners),
        kinds={"s3"},
    )


def anomaly_check_specs(bucket: LoggedBucket, slug: str) -> list[dg.AssetCheckSpec]:
    """Return the Dagster specs of the checks for anomalies."""
    return [
        dg.AssetCheckSpec(name, asset=traffic_key(slug), description=text.replace("{bucket}", bucket.name))
        for name, text in _DESCRIPTIONS.items()
    ]


def anomaly_results(
    bucket: LoggedBucket, slug: str, settings: Settings, wanted: Collection[str], engine: sa.Engine
) -> Iterator[dg.AssetCheckResult]:
    """Judge the bucket's traffic and yield the results of the wanted checks. This reads only the rollups."""
    threshold, share = settings.get_alarm_threshold(bucket), settings.get_hog_share(bucket)
    now = datetime.now(UTC)
    first = find_last_settled_day(now) - timedelta(days=anomalies.TOP_TALKER_DAYS - 1)
    with engine.connect() as connection:
        waiting = waiting_days(connection, bucket.name, first, now.date())
    for name in sorted(set(ANOMALY_CHECKS) & set(wanted)):
        try:
            with engine.connect() as connection:
                judged = _judge(connection, name, bucket.name, now, threshold, share)
        except DATABASE_ERRORS as error:
            raise_if_lost(error)
            judged = _Judgement(False, {}, f"the traffic could not be judged: {describe_cause(error)}")
        judged = _note_waiting_days(judged, waiting)
        yield dg.AssetCheckResult(
            passed=judged.passed,
            asset_key=traffic_key(slug),
            check_name=name,
            severity=dg.AssetCheckSeverity.WARN,
            metadata=dict(judged.metadata),
            description=judged.description,
        )


def _note_waiting_days(judged: _Judgement, waiting: Sequence[date]) -> _Judgement:
    """Return the judgement with a note about the days whose records are not in the rollups yet."""
    if not waiting:
        return judged
    days = ", ".join(map(str, waiting))
    unknown = f"records of {days} are not in the rollups yet, and were not judged"
    description = f"{judged.description}; {unknown}" if judged.description else unknown
    return replace(
        judged, metadata={**judged.metadata, "days that wait for their rollups": days}, description=description
    )


def _judge(
    connection: sa.Connection, name: str, bucket: str, now: datetime, threshold: float, share: float
) -> _Judgement:
    """Return the judgement of the check with this name."""
    if name == BANDWIDTH_ANOMALY:
        return _judge_rises(anomalies.find_bandwidth_spikes(connection, bucket, now, threshold), int)
    if name == REQUEST_ANOMALY:
        return _judge_rises(anomalies.find_request_spikes(connection, bucket, now, threshold), int)
    if name == ERROR_RATE_ANOMALY:
        return _judge_rises(anomalies.find_error_rate_jumps(connection, bucket, now, threshold), _percent)
    if name == NEW_TOP_TALKER:
        return _judge_newcomers(anomalies.find_new_top_consumers(connection, bucket, now))
    return _judge_top_talkers(anomalies.top_talkers(connection, bucket, now, share), share)


def _judge_rises(found: anomalies.Rises, as_cell: Callable[[float], int | str]) -> _Judgement:
    metadata: dict[str, Any] = {"days known": found.days, "hours judged": found.judged}
    largest = found.largest
    if largest is None:
        return _Judgement(True, metadata, None if found.judged else TOO_LITTLE_HISTORY)
    hours = [
        {
            "hour": f"{rise.hour:%Y-%m-%d %H:%M}",
            "found": as_cell(rise.value),
            "usual": as_cell(rise.usual),
            "limit": as_cell(rise.limit),
        }
        for rise in found.rises
    ]
    metadata |= {"hours": _table(hours), "day": f"{largest.hour:%Y-%m-%d}"}
    metadata["more than usual on that day"] = _table([_reason_cells(reason) for reason in found.reasons])
    return _Judgement(
        False,
        metadata,
        f"{largest.hour:%Y-%m-%d %H:%M} UTC: {as_cell(largest.value)}, usually {as_cell(largest.usual)}",
    )


def _percent(rate: float) -> str:
    return f"{rate:.1%}"


def _reason_cells(reason: Reason) -> dict[str, int | str]:
    name = reason.name
    if name and reason.dimension == "referrer":
        name = name.partition("?")[0]
    return {
        "what": reason.dimension.replace("_", " "),
        "who": format_cell(name),
        "that day": reason.value,
        "usual": int(reason.usual),
        "more": int(reason.more),
    }


def _judge_newcomers(found: anomalies.Newcomers) -> _Judgement:
    metadata: dict[str, Any] = {"days known": found.days, "day": found.day.isoformat()}
    if not found.is_judged:
        return _Judgement(True, metadata, TOO_LITTLE_HISTORY)
    rows = [_consumer_cells(each.by, each.consumer) | {"rank": each.rank} for each in found.newcomers]
    return _Judgement(not rows, metadata | ({"new consumers": _table(rows)} if rows else {}))


def _judge_top_talkers(found: Sequence[Consumers], share: float) -> _Judgement:
    rows = [
        _consumer_cells(each.by, consumer) | {"from": each.first.isoformat(), "to": each.last.isoformat()}
        for each in found
        for consumer in each.largest
    ]
    return _Judgement(not rows, {"share allowed": share} | ({"top talkers": _table(rows)} if rows else {}))


def _consumer_cells(by: ConsumerKind, consumer: Consumer) -> dict[str, int | str]:
    multiple = consumer.times_median
    return {
        "what": _KINDS[by],
        "who": format_cell(consumer.name),
        "requests": consumer.requests,
        "bytes": consumer.bytes_sent,
        "share": _percent(consumer.share),
        "of the median": "" if multiple is None else f"{multiple:,.1f} times",
        "its own": consumer.own.value if consumer.own else "",
    }


def format_cell(name: str | None) -> str:
    """Return a client's text for a table: printable and not too long."""
    text = "(none)" if name is None else make_printable(name[:SHOWN_CHARACTERS])
    return text if name is None or len(name) <= SHOWN_CHARACTERS else f"{text}…"


def _table(rows: Sequence[Mapping[str, int | str]]) -> dg.TableMetadataValue:
    return dg.MetadataValue.table(records=[dg.TableRecord(dict(row)) for row in rows])
