"""A report with a single row of each kind, which tests change."""

from datetime import UTC, date, datetime

import pytest

from tamarin_dagster.analytics.report import Month
from tamarin_dagster.analytics.report.figures import (
    Agents,
    AgentTraffic,
    Completeness,
    ConsumerTraffic,
    DayTraffic,
    File,
    Files,
    HourOfWeek,
    Referrer,
    Report,
    SizeClass,
    TopConsumers,
)
from tamarin_dagster_tests.analytics.report.figures import TRAFFIC


@pytest.fixture(scope="session")
def report() -> Report:
    file = File("video/intro.mp4", TRAFFIC, 200)
    return Report(
        bucket="media",
        month=Month(2026, 3),
        made_at=datetime(2026, 4, 5, 6, 7, tzinfo=UTC),
        anonymous=False,
        before=None,
        days=(DayTraffic(date(2026, 3, 5), "read", 2, TRAFFIC),),
        hours=(HourOfWeek(4, 9, 10.0, 2_000.0),),
        latencies=(),
        files=Files(1, (file,), (file,), (SizeClass(0, None, 1, TRAFFIC),)),
        addresses=TopConsumers(1, 1_000, (ConsumerTraffic("192.0.2.3", TRAFFIC),)),
        requesters=TopConsumers(1, 2_000, (ConsumerTraffic("arn:aws:iam::123456789012:user/anna", TRAFFIC),)),
        referrers=(Referrer("www.example.org", TRAFFIC),),
        agents=Agents((), (AgentTraffic("curl/8.5.0", None, TRAFFIC),)),
        cost=None,
        completeness=Completeness(days=31, rolled_up_days=1),
    )
