"""Log keys as files: a directory tree that serves as a `file://` log bucket, of any size."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import accumulate, pairwise
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from tamarin_dagster.demo.deliveries import body_of, log_key_name
from tamarin_dagster.demo.draws import hex_name
from tamarin_dagster.demo.site import DemoSite, rhythm
from tamarin_dagster.demo.traffic import lines_between
from tamarin_dagster.settings import DEFAULT_QUIET_SECONDS

LINES_PER_KEY = 500
DEFAULT_DAYS = 30
LOG_PREFIX = "logs/"
LONGEST_SPAN_SECONDS, SHORTEST_SPAN_SECONDS = 3_600, 60


@dataclass(frozen=True)
class WrittenLogKeys:
    """What `write_log_keys` wrote. `bytes` is the sum of the files' sizes, the days are those in the keys' names."""

    keys: int
    lines: int
    bytes: int
    first_day: date
    last_day: date


@dataclass(frozen=True)
class _Planned:
    """A log key to write: when it is delivered, how many lines it holds and how many seconds of requests."""

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

    The keys' names spread evenly over `days` days (UTC), and busier hours hold more lines. The same arguments write the
    same names, bytes and modification times. Files that are in `out` already stay.

    Each file appears at once and whole: it is written in a hidden directory of `out` and then renamed. (Not in the
    system's temporary directory: a rename must stay on one file system.)

    Args:
        out: directory; made if it does not exist.
        lines: lines in all, at least one per key.
        keys: log keys in all; about 500 lines a key if not given.
        days: days that have log keys, the last of them the day of `end`.
        end: an aware time that all requests and names are before; if not given, a minute ago, so that a pull takes all
            files at once.
        seed: another seed, other lines.
        bucket: the logged bucket that the lines name.
        prefix: of the names, e.g. `logs/`; relative, and nothing is added after it.
        broken_share: share of broken lines, 0.0 to 1.0. With 0 every line is a record.
        progress: called after each key with the lines written so far.

    Raises:
        ValueError: a number or the prefix makes no sense.
        OSError: `out` cannot be written.
    """
    wanted = max(1, round(lines / LINES_PER_KEY)) if keys is None else keys
    site = DemoSite(bucket=bucket, seed=seed, broken_share=broken_share)
    plan = list(_plan(site, lines, wanted, days, end or datetime.now(UTC) - timedelta(seconds=DEFAULT_QUIET_SECONDS)))
    folder = PurePosixPath(prefix)
    if folder.is_absolute() or ".." in folder.parts:
        raise ValueError(f"the prefix {prefix!r} leads out of {out}: give a relative one, e.g. {LOG_PREFIX!r}")
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
    """Spread the keys evenly over the days, and the lines over the keys as the site's rhythm wants it."""
    if keys < 1 or lines < keys or days < 1:
        raise ValueError(f"{lines} lines in {keys} keys over {days} days: at least one key, one line a key and one day")
    if end.tzinfo is None:
        raise ValueError(f"the end {end.isoformat()} has no time zone: give an aware datetime, e.g. datetime.now(UTC)")
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
    return body_of(lines_between(site, start, item.delivered, item.lines, name=f"file {item.number}"))


def _write_whole(part: Path, target: Path, body: bytes, delivered: datetime) -> None:
    """Write and rename. The file's time is the delivery's, as an object's would be."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part.write_bytes(body)
    os.utime(part, (delivered.timestamp(), delivered.timestamp()))
    part.replace(target)
