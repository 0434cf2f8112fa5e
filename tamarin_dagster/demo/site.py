"""The media site whose log the demo writes: its names, its named visitors, and the rhythm of its days and weeks."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tamarin_dagster.demo.draws import Draws

# The named clients use addresses of the ranges for documentation (RFC 5737, RFC 3849), so that nobody real is accused.
SCRAPER_IP = "203.0.113.77"
HOTLINK_REFERRER_HOST = "forum.example.com"
MONITOR_USER_AGENT = "UptimeWatch/3.1 (+https://uptime.example.net/about)"
OWNER = "79a59df900b949e55d96a1e698fbacedfd6e09d98eacf8f8d5218e7cd47ef2be"
ACCOUNT = "111122223333"

# One request in 5,000 is a broken line: rare enough to be a surprise, frequent enough to be in every larger load.
DEFAULT_BROKEN_SHARE = 1 / 5_000

# Percent of an average hour, by hour of day (UTC): a European audience, busiest in the evening.
HOUR_PERCENT = (
    *(45, 32, 26, 24, 27, 38, 58, 80, 98, 108, 114, 124),
    *(128, 126, 124, 124, 132, 140, 154, 168, 176, 160, 120, 74),
)
# Percent of an average day, Monday first: weekends bring more viewers.
WEEKDAY_PERCENT = (92, 90, 91, 94, 104, 118, 111)

AVERAGE_RHYTHM = 10_000


@dataclass(frozen=True)
class DemoSite:
    """A media site in one bucket. Its log depends only on these values and on the hour.

    Attributes:
        bucket: the logged bucket that the lines name.
        seed: another seed gives another audience and other files.
        lines_per_hour: requests in an average hour; the rhythm of day and week varies it.
        region: the bucket's region.
        broken_share: the share of lines cut in the middle, 0.0 to 1.0; 0 for well-formed lines only.
    """

    bucket: str = "media-example-org"
    seed: int = 2011
    lines_per_hour: int = 100
    region: str = "us-east-1"
    broken_share: float = DEFAULT_BROKEN_SHARE

    def __post_init__(self) -> None:
        if self.lines_per_hour < 1:
            raise ValueError(f"lines_per_hour is {self.lines_per_hour}: it must be at least 1")
        if not 0.0 <= self.broken_share <= 1.0:
            raise ValueError(f"broken_share is {self.broken_share}: it must be from 0.0 to 1.0")

    def draws(self, *purpose: object) -> Draws:
        """Return the stream of draws for one purpose, for example `site.draws("hour", hour)`."""
        return Draws(self.seed, self.bucket, *purpose)


def rhythm(moment: datetime) -> int:
    """Return how busy the site is at a moment, in hundredths of a percent of an average hour (`AVERAGE_RHYTHM`)."""
    utc = moment.astimezone(UTC)
    return HOUR_PERCENT[utc.hour] * WEEKDAY_PERCENT[utc.weekday()]


def requests_in_hour(site: DemoSite, hour: datetime) -> int:
    """Return the number of requests in the hour that begins at `hour`: the rhythm, plus or minus 15 %; at least one."""
    jitter_percent = 85 + site.draws("volume", start_of_hour(hour).isoformat()).one_below(31)
    return max(1, site.lines_per_hour * rhythm(hour) * jitter_percent // 1_000_000)


def start_of_hour(moment: datetime) -> datetime:
    """Return the beginning of the moment's hour, in UTC. Raises ValueError for a moment without a time zone."""
    if moment.tzinfo is None:
        raise ValueError(
            f"{moment.isoformat()} has no time zone: give an aware datetime, for example datetime.now(UTC)"
        )
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def epoch_day(moment: datetime) -> int:
    """Return the days since 1970-01-01, UTC."""
    return (moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(days=1)
