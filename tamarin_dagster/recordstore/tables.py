"""The tables of the database `tamarin`. The record table's columns are those of `logformat.fields`."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from tamarin_dagster.logformat.fields import FIELDS

# What the newest file under migrations/versions makes of a database.
SCHEMA_REVISION = "0001"

metadata = sa.MetaData()

_SQL_TYPES: dict[str, sa.types.TypeEngine[Any]] = {
    "text": sa.Text(),
    "timestamptz": sa.TIMESTAMP(timezone=True),
    "inet": postgresql.INET(),
    "smallint": sa.SmallInteger(),
    "bigint": sa.BigInteger(),
}

s3_logged_bucket = sa.Table(
    "s3_logged_bucket",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("log_bucket_name", sa.Text, nullable=False),
    sa.Column("log_prefix", sa.Text, nullable=False),
    sa.Column("monitor_bucket", sa.Boolean, nullable=False),
    comment="The configured buckets, for joins. Mirrors the settings.",
)

s3_log_key = sa.Table(
    "s3_log_key",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("bucket", sa.Text, nullable=False, comment="the configured bucket that loaded it"),
    sa.Column("log_bucket_name", sa.Text, nullable=False),
    # Names compare byte by byte, as S3 lists them.
    sa.Column("key", sa.Text(collation="C"), nullable=False),
    sa.Column("etag", sa.Text, nullable=False, comment="with the key, the generation that was read"),
    sa.Column("version_id", sa.Text, comment="the version that was read, on a versioned bucket"),
    sa.Column("size", sa.BigInteger, nullable=False, comment="bytes, as stored"),
    sa.Column("last_modified", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("delivery_date", sa.Date, nullable=False, comment="the UTC day in the key's name: its partition"),
    sa.Column("line_count", sa.BigInteger, nullable=False),
    sa.Column("record_count", sa.BigInteger, nullable=False),
    sa.Column("rejected_count", sa.BigInteger, nullable=False),
    sa.Column("blank_count", sa.BigInteger, nullable=False),
    sa.Column("first_request_dtime", sa.TIMESTAMP(timezone=True)),
    sa.Column("last_request_dtime", sa.TIMESTAMP(timezone=True)),
    sa.Column("run_id", sa.Text, comment="the Dagster run that loaded it; NULL for the command line"),
    sa.Column("loaded_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=sa.func.now()),
    sa.Column("purged_at", sa.TIMESTAMP(timezone=True), comment="when it was deleted from the log bucket"),
    sa.Column("purge_error", sa.Text, comment="why its deletion failed; it will be tried again"),
    sa.Column(
        "superseded_at",
        sa.TIMESTAMP(timezone=True),
        comment="when a newer generation's lines took the place of this one's; its counts are 0 since",
    ),
    sa.UniqueConstraint("log_bucket_name", "key", "etag", name="s3_log_key_generation"),
    sa.CheckConstraint("line_count = record_count + rejected_count + blank_count", name="s3_log_key_counts"),
    sa.Index("s3_log_key_delivery", "bucket", "delivery_date"),
    sa.Index(
        "s3_log_key_unpurged",
        "bucket",
        "delivery_date",
        postgresql_where=sa.text("purged_at IS NULL AND superseded_at IS NULL"),
    ),
    comment="The ledger: one row per generation of a log key. The only truth of what is loaded.",
)

s3_log_record = sa.Table(
    "s3_log_record",
    metadata,
    sa.Column("log_key_id", sa.BigInteger, nullable=False, comment="Log key that the line stood in (s3_log_key.id)."),
    sa.Column("line_number", sa.Integer, nullable=False, comment="Number of the line in that log key, from 1."),
    *(
        sa.Column(field.name, _SQL_TYPES[field.sql_type], nullable=field.name != "request_dtime", comment=field.meaning)
        for field in FIELDS
    ),
    # Nearly free, and a day's or a key's rows lie together. Each B-tree would cost about a fifth of the load speed.
    sa.Index("s3_log_record_brin", "request_dtime", "log_key_id", postgresql_using="brin"),
    postgresql_partition_by="RANGE (request_dtime)",
    comment="One row per request. `-` in the line is NULL here.",
)

s3_rejected_line = sa.Table(
    "s3_rejected_line",
    metadata,
    sa.Column("log_key_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("line_number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("line", sa.LargeBinary, nullable=False, comment="the line, byte for byte; of an oversized one the start"),
    sa.Column("line_bytes", sa.BigInteger, nullable=False, comment="length of the whole line"),
    sa.Column("sha256", sa.LargeBinary, nullable=False, comment="of the whole line"),
    comment="Every non-blank line that is no record, with the reason.",
)

RECORD_COLUMNS: tuple[str, ...] = tuple(column.name for column in s3_log_record.columns)
