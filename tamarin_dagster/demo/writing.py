"""Write log keys as files: a directory tree of any size that can be a `file://` log bucket."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import accumulate, pairwise
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from tamarin_dagster.demo.deliveries import log_key_name, make_body
from tamarin_dagster.demo.draws import hex_name
from tamarin_dagster.demo.log_lines import make_lines_between
from tamarin_dagster.demo.site import DemoSite, rhythm
from tamarin_dagster.settings import DEFAULT_QUIET_SECONDS

LINES_PER_KEY = 500
DEFAULT_DAYS = 30
LOG_PREFIX = "logs/"
LONGEST_SPAN_SECONDS, SHORTEST_SPAN_SECONDS = 3_600, 60


@dataclass(frozen=True)
class WrittenLogKeys:
    """What `write_log_keys` wrote. `bytes` is the sum of the files' sizes, the days are those in the names."""

    keys: int
    lines: int
    bytes: int
    first_day: date
    last_day: date


@dataclass(frozen=True)
class _Planned:
    """A log key to write: its delivery time, its number of lines, and how many seconds its requests span."""

    number: int
    delivered: datetime
    lines: int
    seconds: int


def write_log_keys(
    out: Path,
    *,
    lines: int,
    keys: int | None = None,
    days: int = DEFAULT_DAYS,
    end: datetime | None = None,
    seed: int = DemoSite.seed,
    bucket: str = DemoSite.bucket,
    prefix: str = LOG_PREFIX,
    broken_share: float = 0.0,
    progress: Callable[[int], None] | None = None,
) -> WrittenLogKeys:
    """Write exactly `lines` lines of access log into exactly `keys` log keys below the directory `out`.

    The names are spread evenly over `days` days (UTC), and busier hours have more lines. The same arguments give the
    same names, bytes and modification times. Existing files in `out` stay.

    Each file appears as a whole: it is written in a hidden directory of `out` and then renamed. (Not in the system's
    temporary directory, because a rename must stay on one file system.)

    Args:
        out: the directory; created if it does not exist.
        lines: the total number of lines, at least one for each log key.
        keys: the total number of log keys; default: one for about 500 lines.
        days: the number of days with log keys; the last one is the day of `end`.
        end: an aware time that all requests and names are before; default: a minute ago, so that a pull takes all files
            at once.
        seed: another seed gives other lines.
        bucket: the logged bucket that the lines name.
        prefix: the prefix of the names, for example `logs/`; relative, and nothing is added after it.
        broken_share: the share of broken lines, 0.0 to 1.0. With 0 every line is a record.
        progress: called after each log key with the number of lines written so far.

    Raises:
        ValueError: a number or the prefix is out of range.
        OSError: `out` cannot be written.
    """
    wanted = max(1, round(lines / LINES_PER_KEY)) if keys is None else keys
    site = DemoSite(bucket=bucket, seed=seed, broken_share=broken_share)
    plan = list(_plan(site, lines, wanted, days, end or datetime.now(UTC) - timedelta(seconds=DEFAULT_QUIET_SECONDS)))
    folder = PurePosixPath(prefix)
    if folder.is_absolute() or ".." in folder.parts:
        raise ValueError(f"the prefix {prefix!r} leads out of {out}: use a relative one, for example {LOG_PREFIX!r}")
    out.mkdir(parents=True, exist_ok=True)
    written_lines = written_bytes = 0
    with TemporaryDirectory(prefix=".incoming-", dir=out) as incoming:
        for item in plan:
            body = _body(site, item)
            name = log_key_name(
                prefix, item.delivered, hex_name(site.draws("file", item.number, item.delivered.isoformat()))
            )
            _write_whole(Path(incoming) / "part", out / name, body, item.delivered)
            written_lines += item.lines
            written_bytes += len(body)
            if progress is not None:
                progress(written_lines)
    return WrittenLogKeys(len(plan), written_lines, written_bytes, plan[0].delivered.date(), plan[-1].delivered.date())


def _plan(site: DemoSite, lines: int, keys: int, days: int, end: datetime) -> Iterator[_Planned]:
    """Spread the log keys evenly over the days, and the lines over the log keys by the site's rhythm."""
    if keys < 1 or lines < keys or days < 1:
        raise ValueError(
            f"{lines} lines in {keys} keys over {days} days is not possible: use at least one key, one"
            " line for each key, and one day"
        )
    if end.tzinfo is None:
        raise ValueError(
            f"the end {end.isoformat()} has no time zone: give an aware datetime, for example datetime.now(UTC)"
        )
    until = end.astimezone(UTC).replace(microsecond=0)
    last_day = (until - timedelta(seconds=1)).date()
    first = datetime.combine(last_day - timedelta(days=days - 1), time(), UTC)
    seconds = int((until - first).total_seconds())
    moments = [first + timedelta(seconds=seconds * (2 * number + 1) // (2 * keys)) for number in range(keys)]
    jitter = site.draws("plan", keys).below(61, keys).tolist()
    cumulated = list(
        accumulate((rhythm(moment) * (70 + luck) for moment, luck in zip(moments, jitter, strict=True)), initial=0)
    )
    # One line each, and the others by weight: differences of rounded sums add up exactly.
    shares = [
        1 + (after * (lines - keys) // cumulated[-1] - before * (lines - keys) // cumulated[-1])
        for before, after in pairwise(cumulated)
    ]
    span = min(max(seconds // keys, SHORTEST_SPAN_SECONDS), LONGEST_SPAN_SECONDS)
    for number, (moment, share) in enumerate(zip(moments, shares, strict=True)):
        yield _Planned(number, moment, share, span)


def _body(site: DemoSite, item: _Planned) -> bytes:
    start = item.delivered - timedelta(seconds=item.seconds)
    return make_body(make_lines_between(site, start, item.delivered, item.lines, name=f"file {item.number}"))


def _write_whole(part: Path, target: Path, body: bytes, delivered: datetime) -> None:
    """Write and rename. The file's time is the delivery time, as an object's would be."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part.write_bytes(body)
    os.utime(part, (delivered.timestamp(), delivered.timestamp()))
    part.replace(target)
