"""The content of the tables, as digests that do not depend on the order."""

from collections.abc import Collection, Mapping

import sqlalchemy as sa

OURS = ("id", "run_id", "loaded_at", "purged_at", "superseded_at", "returned_at")
"""Columns of the ledger that tell of our runs, not of the log."""

_QUERIES = {
    "keys": "SELECT to_jsonb(k) - CAST(:less AS text[]) FROM s3_log_key k WHERE superseded_at IS NULL",
    "records": "SELECT to_jsonb(r) - 'log_key_id' || jsonb_build_object('log_key', k.key)"
    " || (jsonb_build_object('etag', k.etag) - CAST(:less AS text[]))"
    " FROM s3_log_record r JOIN s3_log_key k ON k.id = r.log_key_id",
    "rejected": "SELECT to_jsonb(r) - 'log_key_id' || jsonb_build_object('log_key', k.key)"
    " || (jsonb_build_object('etag', k.etag) - CAST(:less AS text[]))"
    " FROM s3_rejected_line r JOIN s3_log_key k ON k.id = r.log_key_id",
    "orphans": "SELECT to_jsonb(r) FROM s3_log_record r"
    " WHERE log_key_id NOT IN (SELECT id FROM s3_log_key) AND cardinality(CAST(:less AS text[])) > 0",
}
_DIGEST = "SELECT count(*), coalesce(md5(string_agg(md5(c::text), '' ORDER BY md5(c::text))), '') FROM ({}) t(c)"


def digests(connection: sa.Connection, less: Collection[str] = OURS) -> Mapping[str, tuple[int, str]]:
    """By table the number and the digest of its rows, `less` these columns of the ledger."""
    found = {}
    for table, query in _QUERIES.items():
        count, digest = connection.execute(sa.text(_DIGEST.format(query)), {"less": list(less)}).one()
        found[table] = (int(count), str(digest))
    return found
