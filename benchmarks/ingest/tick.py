"""Measure a sensor's tick that finds nothing new, by the size of the ledger.

    .venv/bin/python -m benchmarks.ingest.tick [--keys 100000] [--ledger 100000,1000000,10000000] [--ticks 5]

The three days of the sensor's lookback have loaded keys that are not purged, in a folder (file://) and in a bucket
(over HTTP, with nginx and a listing process of ours). The ledger has these keys, and purged keys of earlier years, half
of them from each log bucket. A tick is what Dagster evaluates: the sensor's function with its resources and the cursor
of an earlier tick. The baseline is the listing of the same pages by the same store.

The other table is about the ledger's look-up of one page of 1,000 listed keys: its time, and the buffers that it reads.
"""

import json
import logging
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import sqlalchemy as sa

from benchmarks.command_line import command_line, show, whole_numbers
from benchmarks.ingest.endpoint import NGINX, NO_NGINX, endpoint
from benchmarks.ingest.ledgers import add_listed, add_past
from benchmarks.ingest.repeated import day_folder, key_names
from benchmarks.ingest.stage import LOG_BUCKET, LOG_PREFIX, LOGGED_BUCKET, Stage, stage
from benchmarks.sheet import Sheet
from tamarin_dagster.definitions import build_definitions
from tamarin_dagster.logformat import parse_key_name
from tamarin_dagster.logkey import LogKey, LogObject
from tamarin_dagster.logstore import LogStore
from tamarin_dagster.orchestration.resources import LogBuckets, RecordDatabase
from tamarin_dagster.recordstore import ledger
from tamarin_dagster.settings import LoggedBucket, Settings

_DAYS = 3
_UNSEEN_CALLS = 21
_TICK_HEADINGS = (
    *("listed over", "rows in the ledger", "each tick, s", "median", "bare listing, s", "tick / listing"),
    "to the smallest ledger",
)
_UNSEEN_HEADINGS = ("listed over", "rows in the ledger", "ms a page", "to the smallest ledger", "buffers a page")
_TEXTS = ("listed over", "each tick, s")


@dataclass(frozen=True)
class Place:
    """A log bucket, its store, and the definitions with its sensor."""

    name: str
    bucket: LoggedBucket
    store: LogStore
    engine: sa.Engine
    definitions: dg.Definitions


@dataclass(frozen=True)
class Look:
    """The results for one place and size of the ledger: seconds, and buffers."""

    place: str
    ledger_rows: int
    ticks: list[float]
    listings: list[float]
    unseen: float
    buffers: int


def main() -> None:
    """Print a table with a row for each place and size."""
    parser = command_line(__doc__)
    parser.add_argument("--keys", type=int, default=100_000, help="that lie there, loaded: %(default)s")
    parser.add_argument(
        "--ledger", type=whole_numbers, default="100000,1000000,10000000", help="purged keys in the ledger"
    )
    parser.add_argument("--ticks", type=int, default=5)
    options = parser.parse_args()
    if NGINX is None:
        print(f"Only file:// is measured: {NO_NGINX}")
    logging.disable(logging.INFO)  # each tick logs its result
    with stage() as staged:
        first_day = datetime.now(UTC).date() - timedelta(days=_DAYS - 1)
        _write_keys(staged.log_folder, first_day, options.keys)
        with endpoint(staged.log_folder) if NGINX else nullcontext() as url:
            places = list(_places(staged, first_day, url))
            for place in places:
                _load_all(staged, place)
            looks = list(_looks(staged, places, options.keys, options.ledger, options.ticks))
    looks.sort(key=lambda look: look.place)
    title = (
        f"A tick that finds nothing new among {options.keys:,} loaded keys in {_DAYS} days;"
        f" {options.ticks} ticks, {os.cpu_count()} cores"
    )
    sheets = [
        Sheet(title, _TICK_HEADINGS, list(_tick_rows(looks)), texts=_TEXTS),
        Sheet("The ledger's look-up of one listed page", _UNSEEN_HEADINGS, list(_unseen_rows(looks)), texts=_TEXTS),
    ]
    show(sheets, options.markdown)


def _write_keys(log_folder: Path, first_day: date, keys: int) -> None:
    """Write empty files, because nobody reads them."""
    folder = day_folder(log_folder)
    for number in range(_DAYS):
        count = keys * (number + 1) // _DAYS - keys * number // _DAYS
        for name in key_names(first_day + timedelta(days=number), count):
            (folder / name).touch()


def _places(staged: Stage, first_day: date, url: str | None) -> Iterator[Place]:
    of_folder: dict[str, object] = {"log_bucket_name": staged.log_folder.as_uri()}
    of_endpoint: dict[str, object] = {"log_bucket_name": LOG_BUCKET, "endpoint_url": url}
    for name, where in (("file://", of_folder), *([("HTTP", of_endpoint)] if url else [])):
        entries = {"name": LOGGED_BUCKET, "log_prefix": LOG_PREFIX, "monitor_from": first_day, **where}
        bucket = LoggedBucket.model_validate(entries)
        settings = Settings(database_url=staged.url, buckets=(bucket,))
        definitions = build_definitions(settings)
        resources: dict[str, Any] = dict(definitions.resources or {})
        buckets, database = resources["tamarin_log_buckets"], resources["tamarin_database"]
        assert isinstance(buckets, LogBuckets)
        assert isinstance(database, RecordDatabase)
        yield Place(name, bucket, buckets.store(bucket), database.open(settings), definitions)


def _load_all(staged: Stage, place: Place) -> None:
    """Insert everything that the store lists into the ledger."""
    listed = (item for page in place.store.pages(LOG_PREFIX) for item in page)
    add_listed(staged.url, place.store.name, (_log_key(item) for item in listed))


def _log_key(item: LogObject) -> LogKey:
    name = parse_key_name(item.key, LOG_PREFIX)
    assert name is not None
    return LogKey(item, name.delivery_date)


def _looks(staged: Stage, places: list[Place], keys: int, sizes: list[int], ticks: int) -> Iterator[Look]:
    before = 0
    for size in sorted(sizes):
        add_past(staged.url, [place.store.name for place in places], before + 1, size)
        before = size
        for place in places:
            seconds = _tick_seconds(place, keys, ticks)
            listings = [_seconds(partial(_listed, place)) for _ in range(ticks)]
            yield Look(place.name, size, seconds, listings, *_unseen(place))


def _tick_seconds(place: Place, keys: int, ticks: int) -> list[float]:
    """Return the seconds of each tick after a first one, which opens connections and sets a cursor."""
    sensor = place.definitions.resolve_sensor_def(f"{LOGGED_BUCKET}__new_log_keys")
    cursor: str | None = None
    taken = []
    with dg.DagsterInstance.ephemeral() as instance:
        for _ in range(ticks + 1):
            with dg.build_sensor_context(
                instance=instance, cursor=cursor, resources=place.definitions.resources, definitions=place.definitions
            ) as context:
                started = time.perf_counter()
                evaluated = sensor.evaluate_tick(context)
                taken.append(time.perf_counter() - started)
            cursor = evaluated.cursor
            said = evaluated.skip_message or ""
            if evaluated.run_requests or not said.startswith(f"{keys:,} log keys in {_DAYS} "):
                raise SystemExit(f"{place.name}: {keys:,} loaded keys were expected; the tick: {evaluated}")
    return taken[1:]


def _listed(place: Place) -> int:
    return sum(len(page) for page in place.store.pages(LOG_PREFIX))


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _unseen(place: Place) -> tuple[float, int]:
    """Return the seconds of the look-up of a page, and the buffers that it reads."""
    pages = list(place.store.pages(LOG_PREFIX))
    page = pages[len(pages) // 2]
    statements: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        statements.append((statement, parameters))

    with place.engine.connect() as connection:
        if ledger.list_unseen(connection, place.store.name, page):
            raise SystemExit(f"{place.name}: the ledger does not know what it was reported")
        taken = [_seconds(lambda: ledger.list_unseen(connection, place.store.name, page)) for _ in range(_UNSEEN_CALLS)]
        sa.event.listen(connection, "before_cursor_execute", note)
        ledger.list_unseen(connection, place.store.name, page)
        ((statement, parameters),) = statements
        explained = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT json) {statement}", parameters)
        plan = explained.scalar_one()
        plan = (json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]
    return statistics.median(taken), plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]


def _tick_rows(looks: list[Look]) -> Iterator[list[str]]:
    smallest = {look.place: statistics.median(look.ticks) for look in reversed(looks)}
    for look in looks:
        tick, listing = statistics.median(look.ticks), statistics.median(look.listings)
        yield [
            look.place,
            f"{look.ledger_rows:,}",
            " ".join(f"{seconds:.2f}" for seconds in look.ticks),
            f"{tick:.2f}",
            f"{listing:.2f}",
            f"{tick / listing:.2f}",
            f"{tick / smallest[look.place]:.2f}",
        ]


def _unseen_rows(looks: list[Look]) -> Iterator[list[str]]:
    smallest = {look.place: look.unseen for look in reversed(looks)}
    for look in looks:
        ratio = f"{look.unseen / smallest[look.place]:.2f}"
        yield [look.place, f"{look.ledger_rows:,}", f"{1e3 * look.unseen:.1f}", ratio, f"{look.buffers:,}"]


if __name__ == "__main__":
    main()
