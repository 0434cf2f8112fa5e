"""Judge a generation of a log key against the ledger: new, already loaded, returned, or older than a purged one.

First compare the bytes, then the time. If a row of its name has the same bytes, the generation is the same delivery:
the row takes over the new ETag and nothing is loaded. Other bytes are another delivery, unless a purged row of the name
is as new or newer. In that case an older object has appeared (a version under the one that was purged), or the object
was read before the newer one was loaded and purged. Its lines were superseded when the newer one took its place, so it
is never loaded.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

import sqlalchemy as sa

from tamarin_dagster.logkey import LogKey, LogObject
from tamarin_dagster.recordstore.schema.tables import s3_log_key

# MD5 of the object, or of the MD5s of its parts. Some stores send zeros where they have no ETag.
_DIGEST_ETAG = re.compile(r"(?!0{32})[0-9a-f]{32}(?:-[0-9]+)?")


class DigestNeededError(Exception):
    """The object must be read to know whether it has the bytes of a row of its name."""


class Verdict(Enum):
    """What to do with a generation."""

    LOAD = "it is new"
    LOADED = "it is loaded, or a newer one is"
    SAME = "a row has its bytes, and takes over its ETag"
    OUTDATED = "a newer one of its name is loaded and purged"


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the ledger that is not superseded."""

    id: int
    key: str
    etag: str
    version_id: str | None
    size: int
    last_modified: datetime
    purged_at: datetime | None
    purge_error: str | None
    content_sha256: bytes | None
    first_request_dtime: datetime | None
    last_request_dtime: datetime | None


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict, with the row that has the bytes (SAME), and the live row that is replaced (LOAD, SAME)."""

    verdict: Verdict
    same: Row | None = None
    outgoing: Row | None = None


def lock_rows(connection: sa.Connection, log_bucket_name: str, names: Sequence[str]) -> dict[str, list[Row]]:
    """Return the rows of these names that are not superseded, purged or not, locked in the order of the names."""
    key = s3_log_key.c
    columns = [key[name] for name in Row.__slots__]
    found = connection.execute(
        sa.select(*columns)
        .where(
            key.log_bucket_name == log_bucket_name,
            key.key == sa.any_(sa.bindparam("names", type_=sa.ARRAY(sa.Text))),
            key.superseded_at.is_(None),
        )
        .order_by(key.key, key.id)
        .with_for_update(),
        {"names": list(names)},
    )
    rows: dict[str, list[Row]] = {}
    for values in found:
        row = Row(*values)
        rows.setdefault(row.key, []).append(row)
    return rows


def has_unknown_rows(
    connection: sa.Connection, log_bucket_name: str, names: Sequence[str], known: Sequence[int]
) -> bool:
    """Return whether a purged row of these names exists that is not `known`.

    Call it after our rows are written: then a later load waits for us, by the index of live rows.
    """
    key = s3_log_key.c
    statement = (
        sa.select(key.id)
        .where(
            key.log_bucket_name == log_bucket_name,
            key.key == sa.any_(sa.bindparam("names", type_=sa.ARRAY(sa.Text))),
            key.superseded_at.is_(None),
            key.purged_at.is_not(None),
            key.id != sa.all_(sa.bindparam("known", type_=sa.ARRAY(sa.BigInteger))),
        )
        .limit(1)
    )
    return connection.scalar(statement, {"names": list(names), "known": list(known)}) is not None


def judge(key: LogKey, digest: bytes | None, rows: Sequence[Row], *, asks_digest: bool = False) -> Judgement:
    """Decide what to do with a generation, given the rows of its name.

    `digest` is the SHA-256 of its bytes as stored; None if it is not known yet. Raises DigestNeededError if
    `asks_digest` and the digest is needed.
    """
    item = key.object
    same = _same(item, digest, rows)
    if same is None and asks_digest and digest is None and any(_may_be_same(item, row) for row in rows):
        raise DigestNeededError
    live = next((row for row in rows if row.purged_at is None), None)
    if same is not None and _is_done(key, same):
        return Judgement(Verdict.LOADED)
    outgoing = live if live is not same else None
    if outgoing is not None and outgoing.last_modified > item.last_modified:
        return Judgement(Verdict.LOADED)
    if same is not None:
        return Judgement(Verdict.SAME, same, outgoing)
    # An ETag that two deliveries share cannot be stored twice.
    if any(row.purged_at and (row.last_modified >= item.last_modified or row.etag == item.etag) for row in rows):
        return Judgement(Verdict.OUTDATED)
    return Judgement(Verdict.LOAD, outgoing=outgoing)


def _same(item: LogObject, digest: bytes | None, rows: Sequence[Row]) -> Row | None:
    """Return the row with the object's bytes: the one with its ETag, if it has them."""
    alike = [row for row in rows if row.size == item.size and _has_bytes(row, item, digest)]
    return max(alike, key=lambda row: (row.etag == item.etag, row.purged_at is None, row.last_modified), default=None)


def _has_bytes(row: Row, item: LogObject, digest: bytes | None) -> bool:
    if row.content_sha256 is not None and digest is not None:
        return row.content_sha256 == digest
    if row.etag != item.etag:
        return False
    # Loaded by an earlier version: a live row of the same ETag counts as the same generation, as it did then.
    is_old = row.purged_at is not None and row.last_modified != item.last_modified
    return not is_old or _DIGEST_ETAG.fullmatch(row.etag) is not None


def _may_be_same(item: LogObject, row: Row) -> bool:
    return row.size == item.size and row.content_sha256 is not None


def _is_done(key: LogKey, row: Row) -> bool:
    """Return whether the row is of that very generation, so that there is nothing to note.

    If it is purged but was not when the key was listed, another pull has loaded and purged it since.
    """
    item = key.object
    if (row.etag, row.version_id, row.last_modified) != (item.etag, item.version_id, item.last_modified):
        return False
    return not key.was_purged if row.purged_at else row.purge_error is None


def take_over(
    connection: sa.Connection, log_bucket_name: str, chosen: Sequence[tuple[Row, LogObject, bytes | None]]
) -> None:
    """Give rows the generation that now has their bytes, so that the next purge deletes exactly that one.

    If a row's ETag changes, its day is archived again, unless retention has dropped records of that day.
    """
    if not chosen:
        return
    key = s3_log_key.c
    changed = [(row.key, item.etag) for row, item, _ in chosen if row.etag != item.etag]
    if changed:  # bytes that returned a second time: a superseded row may have the ETag
        connection.execute(
            _GIVE_UP_ETAG,
            {
                "log_bucket_name": log_bucket_name,
                "keys": [name for name, _ in changed],
                "etags": [etag for _, etag in changed],
            },
        )
    new_etag = sa.bindparam("new_etag", type_=sa.Text)
    other = s3_log_key.alias()
    has_expired = sa.exists().where(
        other.c.bucket == key.bucket,
        other.c.delivery_date == key.delivery_date,
        other.c.superseded_at.is_(None),
        other.c.expired_at.is_not(None),
    )
    stays_archived = sa.or_(key.etag == new_etag, has_expired)
    returned_at = sa.case((key.purged_at.is_not(None), sa.func.now()), else_=key.returned_at)
    connection.execute(
        sa.update(s3_log_key)
        .where(key.id == sa.bindparam("row", type_=sa.BigInteger))
        .values(
            etag=new_etag,
            version_id=sa.bindparam("new_version", type_=sa.Text),
            last_modified=sa.func.greatest(key.last_modified, sa.bindparam("modified", type_=key.last_modified.type)),
            content_sha256=sa.func.coalesce(key.content_sha256, sa.bindparam("digest", type_=sa.LargeBinary)),
            returned_at=returned_at,
            purged_at=None,
            purge_error=None,
            purge_failed_at=None,
            archived_at=sa.case((stays_archived, key.archived_at), else_=None),
            archive_place=sa.case((stays_archived, key.archive_place), else_=None),
        ),
        [
            {
                "row": row.id,
                "new_etag": item.etag,
                "new_version": item.version_id,
                "modified": item.last_modified,
                "digest": digest,
            }
            for row, item, digest in chosen
        ],
    )


_GIVE_UP_ETAG = sa.text(
    """
    UPDATE s3_log_key k SET etag = k.etag || ' of row ' || k.id
    FROM unnest(:keys, :etags) AS taken (key, etag)
    WHERE k.log_bucket_name = :log_bucket_name AND k.key = taken.key AND k.etag = taken.etag
      AND k.superseded_at IS NOT NULL
    """
).bindparams(sa.bindparam("keys", type_=sa.ARRAY(sa.Text)), sa.bindparam("etags", type_=sa.ARRAY(sa.Text)))
