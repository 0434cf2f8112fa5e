"""The contents of a lake and of Postgres, as digests that do not depend on the order of rows."""

import hashlib
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from tamarin_dagster.lake import schema
from tamarin_dagster.lake.place import LakePlace
from tamarin_dagster.lake.tables import LEDGER, RECORDS, REJECTED

# What says when and by what a row was written.
_OF_THE_WRITING = {"loaded_at", "loaded_by"}
_COLUMNS = {
    RECORDS: schema.RECORDS.names,
    REJECTED: schema.REJECTED.names,
    LEDGER: [name for name in schema.LEDGER.names if name not in _OF_THE_WRITING],
}
_PLACE = {"logged_bucket": "k.bucket", "delivery_day": "k.delivery_date", "log_key": "k.key"}


def digest(rows: Iterable[tuple[Any, ...]]) -> tuple[int, str]:
    """Return the number of rows, and the sum of their digests."""
    count = total = 0
    for row in rows:
        count += 1
        total += int.from_bytes(hashlib.sha256(repr(row).encode()).digest())
    return count, f"{total % 2**256:064x}"


def digest_of_lake(lake: LakePlace, engine: sa.Engine) -> dict[str, tuple[int, str]]:
    """Return the digest of each table of the lake."""
    tables = lake.open(engine)
    found = {}
    for name, columns in _COLUMNS.items():
        table = tables.table(name).scan(selected_fields=tuple(columns)).to_arrow().select(columns)
        found[name] = digest(_plain(row) for row in zip(*table.to_pydict().values(), strict=True))
    return found


def digest_of_postgres(engine: sa.Engine) -> dict[str, tuple[int, str]]:
    """Return the digest of each table in Postgres, with the columns of the lake."""
    found = {}
    for name, columns in _COLUMNS.items():
        own = "k" if name == LEDGER else "r"
        texts = [_PLACE.get(column) or f"{own}.{column}" for column in columns]
        texts = ["host(r.remote_ip)" if text == "r.remote_ip" else text for text in texts]
        joined = "s3_log_key k" if name == LEDGER else f"{name} r JOIN s3_log_key k ON k.id = r.log_key_id"
        statement = f"SELECT {', '.join(texts)} FROM {joined} WHERE k.superseded_at IS NULL"
        with engine.connect() as connection:
            found[name] = digest(_plain(row) for row in connection.execute(sa.text(statement)))
    return found


def _plain(row: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(value.isoformat() if hasattr(value, "isoformat") else value for value in row)
