"""Compare the lake's ledger with the one in Postgres, and both with the rows that the lake holds.

`compare` is for people: it names each log key that differs. `find_unproved` is for retention: it finds the log keys
whose records would be lost with a month.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa

from tamarin_dagster.lake.tables import RECORDS, REJECTED, LakeTables
from tamarin_dagster.plurals import count_noun
from tamarin_dagster.recordstore.archived import OwedKeys
from tamarin_dagster.recordstore.delivered import list_delivered_keys
from tamarin_dagster.recordstore.schema.tables import s3_log_key

_COUNTS = ("line_count", "record_count", "rejected_count", "blank_count")
_COMPARED = ("size", *_COUNTS)
# How many log keys that differ are named.
MAX_NAMED = 1000


@dataclass(frozen=True, slots=True)
class Difference:
    """A log key of which the lake and Postgres say different things. `what` says what."""

    bucket: str
    delivery_day: date
    log_key: str
    what: str


@dataclass(slots=True)
class Compared:
    """What a comparison found.

    Attributes:
        days, keys, records: what both ledgers have, and agree on.
        differing_keys: log keys on which they differ.
        differences: the first MAX_NAMED of these.
    """

    days: int = 0
    keys: int = 0
    records: int = 0
    differing_keys: int = 0
    differences: list[Difference] = field(default_factory=list)

    def __str__(self) -> str:
        """Return a summary in one line."""
        return (
            f"{count_noun(self.days, 'delivery day')}: the lake and Postgres agree on"
            f" {count_noun(self.keys, 'log key')} with {count_noun(self.records, 'record')}, and differ"
            f" on {count_noun(self.differing_keys, 'log key')}"
        )


def compare(
    buckets: Collection[str],
    tables: LakeTables,
    engine: sa.Engine,
    *,
    first: date | None = None,
    last: date | None = None,
    counts_rows: bool = True,
    progress: Callable[[Compared], None] | None = None,
) -> Compared:
    """Compare the log keys of these logged buckets' delivery days, from `first` to `last`.

    Superseded generations are left out. With `counts_rows`, the rows of each log key in the lake are counted too.
    Raises LakeError.
    """
    done = Compared()
    for bucket in sorted(buckets):
        with engine.connect() as connection:
            days = set(_postgres_days(connection, bucket, first, last))
        days |= set(tables.read_ledger(bucket, first, last, ("delivery_day",))["delivery_day"].to_pylist())
        for day in sorted(days):
            ours = _postgres_keys(engine, bucket, day)
            found = list(_differences(tables, bucket, day, ours, counts_rows=counts_rows, both_ways=True))
            done.days += 1
            differing = {each.log_key for each in found}
            done.differing_keys += len(differing)
            done.differences += found[: MAX_NAMED - len(done.differences)]
            same = [row for name, row in ours.items() if name not in differing]
            done.keys += len(same)
            done.records += sum(row["record_count"] for row in same)
            if progress:
                progress(done)
    return done


def _postgres_days(connection: sa.Connection, bucket: str, first: date | None, last: date | None) -> list[date]:
    key = s3_log_key.c
    statement = sa.select(key.delivery_date).distinct().where(key.bucket == bucket, key.superseded_at.is_(None))
    if first:
        statement = statement.where(key.delivery_date >= first)
    if last:
        statement = statement.where(key.delivery_date <= last)
    return list(connection.scalars(statement))


def _postgres_keys(engine: sa.Engine, bucket: str, day: date) -> dict[str, dict[str, Any]]:
    with engine.connect() as connection:
        return {
            row["log_key"]: row
            for row in list_delivered_keys(connection, bucket, day, "", with_expired=True).to_pylist()
        }


def _differences(
    tables: LakeTables, bucket: str, day: date, ours: dict[str, dict[str, Any]], *, counts_rows: bool, both_ways: bool
) -> Iterator[Difference]:
    """Yield how the lake differs from these rows of Postgres' ledger; with `both_ways`, also what only the lake has."""
    theirs = {row["log_key"]: row for row in tables.read_ledger(bucket, day, day).to_pylist()}
    rows = {name: _count_rows(tables, name, bucket, day) for name in (RECORDS, REJECTED)} if counts_rows else {}
    for name, row in sorted(ours.items()):
        if what := _describe(row, theirs.get(name), {table: counts[name] for table, counts in rows.items()}):
            yield Difference(bucket, day, name, what)
    if both_ways:
        for name in sorted(theirs.keys() - ours.keys()):
            yield Difference(bucket, day, name, "it is not in Postgres")
        for table, counts in rows.items():
            for name in sorted(counts.keys() - theirs.keys() - ours.keys()):
                yield Difference(
                    bucket, day, name, f"the lake holds rows of it in {table}, and its ledger has no such key"
                )


def _describe(ours: dict[str, Any], theirs: dict[str, Any] | None, rows: dict[str, int]) -> str:
    """Return how a log key's row in the lake's ledger differs; empty if it does not. `rows` are counts by table."""
    if theirs is None:
        return "it is not in the lake"
    what = [
        f"{each} is {theirs[each]} in the lake, {ours[each]} in Postgres"
        for each in _COMPARED
        if theirs[each] != ours[each]
    ]
    if theirs["etag"] != ours["etag"]:
        what.insert(0, f"the lake has another generation (ETag {theirs['etag']}, in Postgres {ours['etag']})")
    for table, count in rows.items():
        listed = theirs["record_count" if table == RECORDS else "rejected_count"]
        if count != listed:
            what.append(f"the lake holds {count_noun(count, 'row')} of it in {table}, and its ledger says {listed}")
    return "; ".join(what)


def _count_rows(tables: LakeTables, name: str, bucket: str, day: date) -> Counter[str]:
    """Return the number of rows of each log key in a table of the lake."""
    counts: Counter[str] = Counter()
    for log_key, rows in tables.count_rows(name, bucket, day):
        counts[log_key] += rows
    return counts


def find_unproved(buckets: Collection[str], tables: LakeTables, engine: sa.Engine, end: datetime) -> Sequence[OwedKeys]:
    """Return by bucket the log keys with a record before `end` that the lake does not hold as Postgres does.

    The rows of each log key in the lake are counted. Expired log keys are left out: they were proved before. Raises
    LakeError.
    """
    key = s3_log_key.c
    statement = (
        sa.select(key.bucket, key.delivery_date, key.key, key.first_request_dtime)
        .where(
            key.bucket.in_(buckets),
            key.first_request_dtime < end,
            key.superseded_at.is_(None),
            key.expired_at.is_(None),
        )
        .order_by(key.bucket, key.delivery_date)
    )
    with engine.connect() as connection:
        expiring: dict[tuple[str, date], dict[str, datetime]] = {}
        for row in connection.execute(statement):
            expiring.setdefault((row.bucket, row.delivery_date), {})[row.key] = row.first_request_dtime
    unproved: dict[str, list[tuple[date, datetime]]] = {}
    for (bucket, day), times in expiring.items():
        ours = {name: row for name, row in _postgres_keys(engine, bucket, day).items() if name in times}
        for each in _differences(tables, bucket, day, ours, counts_rows=True, both_ways=False):
            unproved.setdefault(bucket, []).append((day, times[each.log_key]))
    return [
        OwedKeys(bucket, len(found), min(time for _, time in found), min(found)[0], max(found)[0])
        for bucket, found in unproved.items()
    ]
