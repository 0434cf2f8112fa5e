"""Log objects as S3 would deliver them to the demo's log bucket: names, bodies, and other objects next to them.

Everything depends only on the site and the time, so a restarted demo delivers the same history, byte for byte.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tamarin_dagster.demo.draws import Draws, hex_name
from tamarin_dagster.demo.log_lines import make_hour_lines, make_lines_between, tear_line
from tamarin_dagster.demo.site import AVERAGE_RHYTHM, DemoSite, rhythm, start_of_hour

HOUR = timedelta(hours=1)
# One log key in each 61 hours of history has a broken line. 61 is a prime, so it falls on a different hour each day.
BROKEN_KEY_EVERY_HOURS, BROKEN_KEY_AT = 61, 17
# Requests of this hour of each day (UTC) are partly delivered hours late, often on the next day.
LATE_HOUR, LATE_BY_AT_LEAST, LATE_BY_MINUTES = 15, timedelta(hours=5), 540
LIVE_LINES = 8
LIVE_REQUESTS_BEFORE = timedelta(seconds=90)
LIVE_BROKEN_ONE_IN, LIVE_LATE_ONE_IN = 40, 20


@dataclass(frozen=True)
class DemoObject:
    """One object to deliver to the log bucket."""

    key: str
    body: bytes
    delivered: datetime


def log_key_name(prefix: str, delivered: datetime, unique: str) -> str:
    """Return the name that S3 gives a log key in the simple layout, with nothing between the prefix and the date."""
    return f"{prefix}{delivered.astimezone(UTC):%Y-%m-%d-%H-%M-%S}-{unique}"


def make_body(lines: Iterable[str]) -> bytes:
    """Return the body of a log object: the lines in UTF-8, each ended by LF."""
    return ("\n".join(lines) + "\n").encode()


def make_hour_deliveries(site: DemoSite, hour: datetime, prefix: str) -> list[DemoObject]:
    """Return the log keys of one hour's requests: one delivered within the next hour; for one hour a day, a second much
    later.
    """
    start = start_of_hour(hour)
    epoch_hour = int(start.timestamp()) // 3600
    draws = site.draws("delivery", start.isoformat())
    lines = make_hour_lines(site, start)
    if epoch_hour % BROKEN_KEY_EVERY_HOURS == BROKEN_KEY_AT:
        _break_one(lines, draws)
    delivered = start + HOUR + timedelta(seconds=200 + draws.one_below(3_000))
    if start.hour != LATE_HOUR or len(lines) < 2:
        return [DemoObject(log_key_name(prefix, delivered, hex_name(draws)), make_body(lines), delivered)]
    late_by = LATE_BY_AT_LEAST + timedelta(minutes=draws.one_below(LATE_BY_MINUTES))
    in_time, late = lines[: -max(1, len(lines) // 4)], lines[-max(1, len(lines) // 4) :]
    return [
        DemoObject(log_key_name(prefix, delivered, hex_name(draws)), make_body(in_time), delivered),
        DemoObject(log_key_name(prefix, delivered + late_by, hex_name(draws)), make_body(late), delivered + late_by),
    ]


def history(site: DemoSite, now: datetime, days: int, prefix: str) -> Iterator[DemoObject]:
    """Yield what was delivered by `now` for the last `days` days, newest hours first; about 25 log keys a day."""
    newest = start_of_hour(now) - HOUR
    for back in range(days * 24):
        yield from (item for item in make_hour_deliveries(site, newest - back * HOUR, prefix) if item.delivered <= now)


def live_deliveries(site: DemoSite, slot: int, interval_seconds: float, prefix: str) -> list[DemoObject]:
    """Return the one to three log keys of one slot, as if S3 delivered now. Slot n begins n intervals after 1970.

    One log key in 20 has a name and requests of some hours ago, as if S3 had delivered it late. One in 40 has a broken
    line.
    """
    draws = site.draws("live", slot, interval_seconds)
    now = datetime.fromtimestamp(int(slot * interval_seconds), UTC)
    return [_live_delivery(site, now, prefix, f"{slot} {number}") for number in range(1 + draws.one_below(3))]


def _live_delivery(site: DemoSite, now: datetime, prefix: str, name: str) -> DemoObject:
    draws = site.draws("live key", now.isoformat(), name)
    is_late, is_broken = draws.one_below(LIVE_LATE_ONE_IN) == 0, draws.one_below(LIVE_BROKEN_ONE_IN) == 0
    named = now - (2 + draws.one_below(8)) * HOUR if is_late else now
    count = max(1, (2 + draws.one_below(2 * LIVE_LINES)) * rhythm(named) // AVERAGE_RHYTHM)
    lines = make_lines_between(site, named - LIVE_REQUESTS_BEFORE, named, count, name=f"live {name}")
    if is_broken:
        _break_one(lines, draws)
    return DemoObject(log_key_name(prefix, named, hex_name(draws)), make_body(lines), delivered=now)


def _break_one(lines: list[str], draws: Draws) -> None:
    chosen = draws.one_below(len(lines))
    lines[chosen] = tear_line(lines[chosen], draws.one_below(1 << 30))


def stray_objects(now: datetime, days: int, prefix: str) -> list[DemoObject]:
    """Return what people leave in a log bucket: a note at the top, and one next to the log keys of every Monday."""
    readme = b"Server access logs of the media site. Kept for 90 days. Questions: webmaster@example.org\n"
    strays = [DemoObject(f"{prefix}README.txt", readme, now)]
    for back in range(days):
        day = now.astimezone(UTC).date() - timedelta(days=back)
        if day.weekday() == 0:
            note = f"{day.isoformat()}: looked into the slow downloads, see the ticket.\n".encode()
            strays.append(DemoObject(f"{prefix}{day.isoformat()}-notes.txt", note, now))
    return strays
