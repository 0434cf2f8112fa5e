"""Times as written in log lines, from a cache: formatting one takes as long as the rest of a line."""

from datetime import UTC, datetime
from functools import lru_cache

from tamarin_dagster.demo.site import OWNER, DemoSite

# `%b` would depend on the locale.
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")  # fmt: skip
MINUTE_SECOND = tuple(f"{second // 60:02d}:{second % 60:02d} +0000]" for second in range(3600))


@lru_cache(maxsize=4096)
def hour_start(site: DemoSite, epoch_hour: int) -> str:
    """Return how all lines of one hour begin: owner, bucket, time up to the hour. `epoch_hour`: hours since 1970."""
    hour = datetime.fromtimestamp(epoch_hour * 3600, UTC)
    return f"{OWNER} {site.bucket} [{hour.day:02d}/{MONTHS[hour.month - 1]}/{hour.year}:{hour.hour:02d}:"


def line_start(site: DemoSite, second: int) -> str:
    """Return owner, bucket and time of one line. `second`: seconds since 1970."""
    return hour_start(site, second // 3600) + MINUTE_SECOND[second % 3600]


def compact_day(second: int) -> str:
    """Return the day as signatures write it, for example `20261120`."""
    return datetime.fromtimestamp(second, UTC).strftime("%Y%m%d")
