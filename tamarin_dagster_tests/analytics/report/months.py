"""A month of a media site's rollups for reports, the same each time, with texts from a hostile client."""

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from tamarin_dagster.analytics.report import Month
from tamarin_dagster.recordstore.schema.dimension_tables import s3_monthly_price, user_agent_kind
from tamarin_dagster.recordstore.schema.tables import s3_log_key
from tamarin_dagster.recordstore.schema.traffic_tables import (
    traffic_daily_by_key,
    traffic_daily_by_referrer,
    traffic_daily_by_remote_ip,
    traffic_daily_by_requester,
    traffic_daily_by_user_agent,
    traffic_day,
    traffic_hourly,
)

MEASURES = (
    "requests",
    "bytes_sent",
    "error_count",
    "put_requests",
    "unbilled_requests",
    "unbilled_bytes",
    "interregion_bytes",
)
_SHARES = {("read", 2): 0.83, ("read", 3): 0.09, ("read", 4): 0.045, ("read", 5): 0.003, ("list", 2): 0.012}
_SHARES |= {("write", 2): 0.018, ("delete", 2): 0.002}
_MEDIAN_FILE = 350_000


def insert(connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Return the rows, with 0 for each missing measure."""
    zeros = {name: 0 for name in (*MEASURES, "reads", "deletes") if name in table.c}
    connection.execute(sa.insert(table), [zeros | dict(row) for row in rows])


def days_of(month: Month) -> Iterator[date]:
    """Its days."""
    return (month.first + timedelta(days=number) for number in range((month.last - month.first).days + 1))


def fill(connection: sa.Connection, bucket: str, month: Month, scale: float = 1.0) -> None:
    """Insert all rollups of the month, which is busier in the evening and at the weekend."""
    for day in days_of(month):
        hours = [_hour(bucket, day, hour, scale) for hour in range(24)]
        rows = [row for each in hours for row in each]
        insert(connection, traffic_hourly, rows)
        requests, sent = (sum(row[name] for row in rows) for name in ("requests", "bytes_sent"))
        at = {"bucket": bucket, "request_date": day}
        insert(
            connection,
            traffic_day,
            [
                {
                    **at,
                    "requests": requests,
                    "bytes_sent": sent,
                    "rolled_up_at": datetime.combine(day + timedelta(days=1), datetime.min.time(), UTC),
                    "seconds": 0.1,
                }
            ],
        )
        for table, values in _DIMENSIONS.items():
            insert(connection, table, list(_parted(at, values, requests, sent, day)))


def fill_ledger(connection: sa.Connection, bucket: str, month: Month) -> None:
    """A log key for each hour of the month."""
    times = [month.start + timedelta(hours=number) for number in range(24 * (month.last - month.first).days + 24)]
    counts = {"line_count": 1000, "record_count": 1000, "rejected_count": 0, "blank_count": 0}
    rows = [
        {
            "bucket": bucket,
            "log_bucket_name": "logs",
            "key": f"logs/{time:%Y-%m-%d-%H-%M-%S}-0123456789ABCDEF",
            "etag": "e",
            "size": 400_000,
            "last_modified": time,
            "delivery_date": time.date(),
            **counts,
        }
        for time in times
    ]
    connection.execute(sa.insert(s3_log_key), rows)


def _hour(bucket: str, day: date, hour: int, scale: float) -> list[dict[str, Any]]:
    weight = 1.2 - math.cos((hour - 8) / 24 * 2 * math.pi) + 0.5 * (day.weekday() >= 5) * (hour > 9)
    wave = 1 + 0.25 * math.sin(day.day * 1.7) + 0.6 * (day.day == 19)
    requests = round(1400 * weight * wave * scale)
    start = datetime.combine(day, datetime.min.time(), UTC) + timedelta(hours=hour)
    rows = []
    for (kind, status), share in _SHARES.items():
        count = round(requests * share)
        rows.append(
            {
                "bucket": bucket,
                "hour": start,
                "operation_class": kind,
                "status_class": status,
                "requests": count,
                "bytes_sent": count * _MEDIAN_FILE if (kind, status) == ("read", 2) else count * 300,
                "error_count": count if status >= 4 else 0,
                "p50_total_time": round(28 + 9 * weight + day.day % 4),
                "p95_total_time": round(190 + 80 * weight + 15 * (day.day % 6)),
                "max_total_time": 4000,
            }
        )
    return rows


def _parted(
    at: Mapping[str, Any], values: Sequence[Mapping[str, Any]], requests: int, sent: int, day: date
) -> Iterator[dict[str, Any]]:
    """Divide the day's traffic among the values; the first one gets the most."""
    weights = [1 / (number + 1.5) * (1 + 0.3 * math.sin(day.day + number)) for number in range(len(values))]
    total = sum(weights)
    for value, weight in zip(values, weights, strict=True):
        share = weight / total
        count = round(requests * share)
        yield {
            **at,
            **value,
            "requests": count,
            "bytes_sent": round(sent * share),
            "error_count": round(count * value.get("error_share", 0.02)),
        } | ({"reads": count} if "key" in value else {})


_FOLDERS = ("films/the-long-way-home", "films/nordlicht", "podcasts/2026/episode", "press/kit", "img/posters/large")
_KEYS: list[dict[str, Any]] = [
    {
        "key": f"{_FOLDERS[number % 5]}-{number:02}{('.mp4', '.mp4', '.mp3', '.zip', '.jpg')[number % 5]}",
        "object_size": (1_800_000_000, 740_000_000, 48_000_000, 9_300_000, 310_000)[number % 5] + number * 7919,
    }
    for number in range(45)
]
_KEYS.insert(6, {"key": "img/posters/large/" + "a-very-long-name-" * 8 + "v2.jpg", "object_size": 12_000})
_ADDRESSES = [{"remote_ip": f"203.0.113.{number * 7 % 250 + 1}"} for number in range(30)]
_ADDRESSES += [{"remote_ip": f"2001:db8:{number * 977 % 65536:x}::{number:x}"} for number in range(30)]
_REQUESTERS: list[dict[str, Any]] = [
    {"requester": None},
    {"requester": "arn:aws:iam::123456789012:user/press-office"},
    {"requester": "arn:aws:sts::123456789012:assumed-role/transcoder/i-0abc"},
    {"requester": "svc:lifecycle.s3.amazonaws.com"},
]
_REFERRERS: list[dict[str, Any]] = [
    {"referrer": None},
    {"referrer": "https://www.example.org/films/"},
    {"referrer": "https://www.example.org/"},
    {"referrer": "https://news.example.com/2026/best-films"},
    {"referrer": "https://forum.example.net:8443/t/1234"},
    {"referrer": "android-app://org.example.reader"},
    {"referrer": "http://blog.example.com/"},
]
_AGENTS: list[dict[str, Any]] = [
    {"user_agent": "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/131.0.0.0 Safari/537.36"},
    {"user_agent": "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) Version/18.1 Mobile/15E148 Safari/604.1"},
    {"user_agent": "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"},
    {"user_agent": "AppleCoreMedia/1.0.0.22B83"},
    {"user_agent": "python-requests/2.32.3"},
    {"user_agent": None},
    {"user_agent": "curl/8.9.1"},
    {"user_agent": "Mozilla/5.0 (compatible; GPTBot/1.2; +https://openai.com/gptbot)"},
]
_DIMENSIONS: dict[sa.Table, list[dict[str, Any]]] = {
    traffic_daily_by_key: _KEYS,
    traffic_daily_by_remote_ip: _ADDRESSES,
    traffic_daily_by_requester: _REQUESTERS,
    traffic_daily_by_referrer: _REFERRERS,
    traffic_daily_by_user_agent: _AGENTS,
}

_KINDS = ("browser", "browser", "search engine", "app", "library/CLI", None, "library/CLI", "AI crawler")


def fill_dimensions(connection: sa.Connection, bucket: str, month: Month) -> None:
    """Kinds of the user agents, and prices of the month."""
    connection.execute(
        sa.insert(user_agent_kind),
        [
            {**agent, "kind": kind, "rules": "1", "classified_at": month.end}
            for agent, kind in zip(_AGENTS, _KINDS, strict=True)
            if kind
        ],
    )
    price(connection, bucket, month)


def price(connection: sa.Connection, bucket: str, month: Month) -> None:
    """Prices of the month."""
    connection.execute(
        sa.insert(s3_monthly_price).values(
            bucket=bucket,
            month=month.first,
            region="eu-central-1",
            region_is_assumed=False,
            price_date=date(2026, 9, 1),
            put_request_usd=Decimal("0.0000054"),
            get_request_usd=Decimal("0.00000043"),
            internet_byte_usd=Decimal("0.0000000000838"),
            interregion_byte_usd=Decimal("0.0000000000186"),
            internet_bytes=0,
        )
    )


HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    "<svg/onload=alert(3)>",
    "\"' onmouseover=alert(4) x='",
    "</code></td></table></style><style>*{display:none}</style>",
    "]]><!-- --><!DOCTYPE html><base href=https://evil.example/>",
    "<meta http-equiv=refresh content='0;url=https://evil.example/'>",
    "<a href='javascript:alert(5)'>x</a><form action=https://evil.example/><button>",
    "&lt;script&gt;alert(6)&lt;/script&gt;&amp;#x3c;",
    "{{ 7*7 }}{% raw %}${7*7}",
    "\u202egnp.exe\u2066\u200b\ufeff\x1b[31m\u2028\u0085\t\n",
    "%3Cscript%3Ealert(7)%3C/script%3E%00\\x00\\u0000",
    "[link](https://evil.example/)![image](https://evil.example/i.png)`code`",
    "\u05e9\u05dc\u05d5\u05dd/\u0645\u0631\u062d\u0628\u0627/A" + "\u0301" * 60,
    "W" * 8000,
)
"""Texts that a client may send as a name, a referrer or a user agent."""
SECRET = "5ec4e7" * 10


def fill_hostile(connection: sa.Connection, bucket: str, day: date) -> None:
    """Insert each text as an object key, a referrer, a user agent and a requester, with more bytes than all others."""
    at = {"bucket": bucket, "request_date": day}
    much = {"requests": 900, "bytes_sent": 9 * 10**13, "error_count": 899}
    signed = f"?X-Amz-Signature={SECRET}&x=<script>"
    insert(connection, traffic_daily_by_key, [{**at, "key": text + signed, **much} for text in HOSTILE])
    insert(
        connection,
        traffic_daily_by_referrer,
        [{**at, "referrer": text, **much} for text in HOSTILE]
        + [{**at, "referrer": f"https://{text}/{signed}", **much} for text in HOSTILE]
        + [{**at, "referrer": "javascript:alert(8)", **much}],
    )
    insert(
        connection,
        traffic_daily_by_user_agent,
        [{**at, "user_agent": f"{text} https://a.example/{signed}", **much} for text in HOSTILE],
    )
    insert(connection, traffic_daily_by_requester, [{**at, "requester": text, **much} for text in HOSTILE])
