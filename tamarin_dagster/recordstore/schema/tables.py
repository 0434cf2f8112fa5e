"""Define the tables of the database `tamarin`. The columns of the record table are those of `logformat.fields`."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from tamarin_dagster.logformat.fields import FIELDS

# The revision of the newest file under migrations/versions.
SCHEMA_REVISION = "0012"

metadata = sa.MetaData()

_SQL_TYPES: dict[str, sa.types.TypeEngine[Any]] = {
    "text": sa.Text(),
    "timestamptz": sa.TIMESTAMP(timezone=True),
    "inet": postgresql.INET(),
    "smallint": sa.SmallInteger(),
    "bigint": sa.BigInteger(),
}

# The same rule as in logformat.keynames. Postgres computes the column, so it is right in every row.
_HOUR_IN_NAME = r"CAST(substring(key, '([0-9]{2})-[0-9]{2}-[0-9]{2}-[0-9A-Za-z]{16}(?:[.](?:gz|zst))?$') AS smallint)"

s3_logged_bucket = sa.Table(
    "s3_logged_bucket",
    metadata,
    sa.Column("name", sa.Text, primary_key=True, comment="Bucket whose requests are logged."),
    sa.Column(
        "log_bucket_name", sa.Text, nullable=False, comment="Bucket or folder that its log keys are delivered to."
    ),
    sa.Column("log_prefix", sa.Text, nullable=False, comment="Prefix of the names of its log keys."),
    sa.Column("monitor_bucket", sa.Boolean, nullable=False, comment="Whether its sensor is on by default."),
    sa.Column("region", sa.Text, comment="Region of both buckets, if it is set. S3 requires the same region."),
    sa.Column(
        "own_hosts",
        sa.ARRAY(sa.Text),
        nullable=False,
        server_default="{}",
        comment="Hosts whose pages may link to it: names, and *.example.org for all below example.org.",
    ),
    comment="The configured buckets, for joins: a copy of the settings.",
)

s3_log_key = sa.Table(
    "s3_log_key",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True, comment="The id that log_key_id refers to."),
    sa.Column("bucket", sa.Text, nullable=False, comment="Configured bucket that loaded it."),
    sa.Column("log_bucket_name", sa.Text, nullable=False, comment="Bucket or folder that it was delivered to."),
    # Names compare byte by byte, as S3 lists them.
    sa.Column("key", sa.Text(collation="C"), nullable=False, comment="Name of the log key."),
    sa.Column("etag", sa.Text, nullable=False, comment="Entity tag: with the key, the generation that was read."),
    sa.Column("version_id", sa.Text, comment="Version that was read, on a versioned bucket."),
    sa.Column("size", sa.BigInteger, nullable=False, comment="Bytes, as stored in the log bucket."),
    sa.Column("last_modified", sa.TIMESTAMP(timezone=True), nullable=False, comment="When it was written."),
    sa.Column("delivery_date", sa.Date, nullable=False, comment="UTC day in the key's name."),
    sa.Column("delivery_hour", sa.SmallInteger, sa.Computed(_HOUR_IN_NAME), comment="UTC hour in the key's name."),
    sa.Column("line_count", sa.BigInteger, nullable=False, comment="Lines: records, rejected and blank."),
    sa.Column("record_count", sa.BigInteger, nullable=False, comment="Rows in s3_log_record."),
    sa.Column("rejected_count", sa.BigInteger, nullable=False, comment="Rows in s3_rejected_line."),
    sa.Column("blank_count", sa.BigInteger, nullable=False, comment="Blank lines."),
    sa.Column("first_request_dtime", sa.TIMESTAMP(timezone=True), comment="Time of its earliest record."),
    sa.Column("last_request_dtime", sa.TIMESTAMP(timezone=True), comment="Time of its latest record."),
    sa.Column("run_id", sa.Text, comment="Dagster run that loaded it; NULL for the command line."),
    sa.Column(
        "loaded_at",
        sa.TIMESTAMP(timezone=True),
        nullable=False,
        server_default=sa.func.now(),
        comment="When its rows were committed.",
    ),
    sa.Column("purged_at", sa.TIMESTAMP(timezone=True), comment="When it was deleted from the log bucket."),
    sa.Column("purge_error", sa.Text, comment="Why its deletion failed. The next purge tries again."),
    sa.Column("purge_failed_at", sa.TIMESTAMP(timezone=True), comment="When its deletion failed for the first time."),
    sa.Column(
        "superseded_at",
        sa.TIMESTAMP(timezone=True),
        comment="When the rows of a newer generation replaced its rows. Its counts are 0 from then on.",
    ),
    sa.Column(
        "expired_at",
        sa.TIMESTAMP(timezone=True),
        comment="When retention dropped its records, or the older ones. They are not counted from then on.",
    ),
    sa.Column(
        "archived_at",
        sa.TIMESTAMP(timezone=True),
        comment="When its records were written to the archive; NULL if they are not there, or have changed since.",
    ),
    sa.Column("archive_place", sa.Text, comment="Folder or URL of that archive; NULL if an earlier version wrote it."),
    sa.Column(
        "content_sha256",
        sa.LargeBinary,
        comment="SHA-256 of its bytes, as stored in the log bucket; NULL if an earlier version loaded it.",
    ),
    sa.Column(
        "returned_at",
        sa.TIMESTAMP(timezone=True),
        comment="When the same bytes were found under its name again, after it was purged.",
    ),
    sa.Column(
        "outdated_at",
        sa.TIMESTAMP(timezone=True),
        comment="When it was skipped because a newer generation of its name was purged. It was never loaded.",
    ),
    sa.UniqueConstraint("log_bucket_name", "key", "etag", name="s3_log_key_generation"),
    sa.CheckConstraint("line_count = record_count + rejected_count + blank_count", name="s3_log_key_counts"),
    sa.Index("s3_log_key_delivery", "bucket", "delivery_date", "delivery_hour"),
    sa.Index(
        "s3_log_key_unpurged",
        "bucket",
        "delivery_date",
        "delivery_hour",
        postgresql_where=sa.text("purged_at IS NULL AND superseded_at IS NULL"),
    ),
    # A name has one object at a time. If two loads enter it at the same time, only one of them can succeed.
    sa.Index(
        "s3_log_key_live",
        "log_bucket_name",
        "key",
        unique=True,
        postgresql_where=sa.text("purged_at IS NULL AND superseded_at IS NULL"),
    ),
    # Few log keys have rejected lines. This index finds them without a scan of the others.
    sa.Index("s3_log_key_rejected", "bucket", "id", postgresql_where=sa.text("rejected_count > 0")),
    # Retention looks for the rows to mark while it holds a lock that loads wait for.
    sa.Index(
        "s3_log_key_unexpired",
        "first_request_dtime",
        postgresql_where=sa.text("superseded_at IS NULL AND expired_at IS NULL"),
    ),
    # Few deletions fail, and a check looks for them every hour.
    sa.Index(
        "s3_log_key_purge_failed",
        "bucket",
        "purge_failed_at",
        postgresql_where=sa.text("purge_failed_at IS NOT NULL AND superseded_at IS NULL"),
    ),
    # By default, Postgres vacuums and analyzes a table when a fifth of it has changed: two million of ten million rows.
    postgresql_with={
        "autovacuum_vacuum_scale_factor": 0.02,
        "autovacuum_vacuum_insert_scale_factor": 0.02,
        "autovacuum_analyze_scale_factor": 0.02,
    },
    comment="The ledger: one row for each generation of a log key. It alone decides what counts as loaded.",
)

s3_archived_day = sa.Table(
    "s3_archived_day",
    metadata,
    sa.Column("bucket", sa.Text, primary_key=True, comment="Configured bucket."),
    sa.Column("delivery_date", sa.Date, primary_key=True, comment="UTC day in the log keys' names."),
    sa.Column(
        "place",
        sa.Text,
        primary_key=True,
        comment="Folder or URL of the archive; empty if an earlier version wrote it without noting the place.",
    ),
    sa.Column(
        "key_digest",
        sa.Text,
        comment="Digest of the log keys and ETags in the archive, or of those before the current writing.",
    ),
    sa.Column("writing_digest", sa.Text, comment="Digest of those that are being written; NULL after the writing."),
    sa.Column("written_at", sa.TIMESTAMP(timezone=True), comment="When the last writing was complete."),
    comment="What this database last wrote to an archive: one row for each delivery day and place.",
)

tamarin_database = sa.Table(
    "tamarin_database",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True, server_default=sa.func.gen_random_uuid(), comment="Its identity."),
    sa.Column(
        "created_at",
        sa.TIMESTAMP(timezone=True),
        nullable=False,
        server_default=sa.func.now(),
        comment="When the identity was created.",
    ),
    sa.Column("views_digest", sa.Text, comment="Digest of its views, functions and comments."),
    sa.Column("views_version", sa.Text, comment="Version of tamarin_dagster that made them."),
    sa.Column("backed_up_at", sa.TIMESTAMP(timezone=True), comment="When its last backup began."),
    sa.Index("tamarin_database_single_row", sa.text("(true)"), unique=True),
    comment="One row: the identity of this database. An archive is marked with it.",
)

s3_log_record = sa.Table(
    "s3_log_record",
    metadata,
    sa.Column("log_key_id", sa.BigInteger, nullable=False, comment="Log key of the line (s3_log_key.id)."),
    sa.Column("line_number", sa.Integer, nullable=False, comment="Number of the line in that log key, from 1."),
    *(
        sa.Column(field.name, _SQL_TYPES[field.sql_type], nullable=field.name != "request_dtime", comment=field.meaning)
        for field in FIELDS
    ),
    # BRIN costs nearly nothing, because the rows of a day or of a log key are stored together. With a B-tree, COPY
    # takes 1.4 to 2.2 times as long. 32 pages: one day in a month of 20,000 rows was 74 blocks; with the default of 128
    # pages it was 202, and loads took the same time. No autosummarize: Postgres queues 256 requests for it a minute,
    # and logs three lines for each further one, of which a backfill makes thousands. The vacuum of the partitions
    # summarizes instead (see partitions.py).
    sa.Index(
        "s3_log_record_brin",
        "request_dtime",
        "log_key_id",
        postgresql_using="brin",
        postgresql_with={"pages_per_range": 32},
    ),
    postgresql_partition_by="RANGE (request_dtime)",
    comment="One row for each request. `-` in the line is NULL here.",
)

s3_rejected_line = sa.Table(
    "s3_rejected_line",
    metadata,
    sa.Column("log_key_id", sa.BigInteger, primary_key=True, autoincrement=False, comment="Log key of the line."),
    sa.Column("line_number", sa.Integer, primary_key=True, autoincrement=False, comment="Number of the line, from 1."),
    sa.Column("reason", sa.Text, nullable=False, comment="Why it is not a record: one word of a fixed list."),
    sa.Column(
        "line", sa.LargeBinary, nullable=False, comment="The line, byte for byte; of an oversized one its first 64 KiB."
    ),
    sa.Column("line_bytes", sa.BigInteger, nullable=False, comment="Length of the whole line."),
    sa.Column("sha256", sa.LargeBinary, nullable=False, comment="Digest of the whole line."),
    comment="Every line that is neither blank nor a record, with the reason.",
)

# Columns and comments of the views under views/. repeatable.py writes the comments into the database.
views = sa.MetaData()

s3_duplicate_record = sa.Table(
    "s3_duplicate_record",
    views,
    sa.Column("bucket", sa.Text, comment="Bucket that the request was made to."),
    sa.Column("request_dtime", sa.TIMESTAMP(timezone=True), comment="Time at which S3 received the request (UTC)."),
    sa.Column("request_id", sa.Text, comment="S3's id of the request; several lines may share one."),
    sa.Column("operation", sa.Text, comment="Operation, as INTERFACE.METHOD.RESOURCE."),
    sa.Column("key", sa.Text, comment="Object key; null for operations on the bucket."),
    sa.Column("http_status", sa.SmallInteger, comment="HTTP status of the response."),
    sa.Column("copies", sa.BigInteger, comment="Surplus rows: all rows, minus the maximum in one log key."),
    sa.Column("log_key_ids", sa.ARRAY(sa.BigInteger), comment="Log keys that hold it (s3_log_key.id), in order."),
    comment="Records that S3 delivered more than once: all fields are the same, in different log keys."
    " Query it with bounds on request_dtime.",
)

s3_delivery_lateness = sa.Table(
    "s3_delivery_lateness",
    views,
    sa.Column("bucket", sa.Text, comment="Configured bucket that loaded the log keys."),
    sa.Column("request_date", sa.Date, comment="UTC day on which the requests were made."),
    sa.Column("records", sa.BigInteger, comment="Number of records of that day."),
    sa.Column("median_lateness", sa.Interval, comment="50 % of the records arrived within this time of the request."),
    sa.Column("p95_lateness", sa.Interval, comment="95 % of the records arrived within this time of the request."),
    sa.Column("max_lateness", sa.Interval, comment="All records arrived within this time of the request."),
    sa.Column(
        "first_delivery",
        sa.TIMESTAMP(timezone=True),
        comment="Delivery of the first log key with a record of that day.",
    ),
    sa.Column("last_delivery", sa.TIMESTAMP(timezone=True), comment="Delivery of the last one."),
    sa.Column(
        "is_open",
        sa.Boolean,
        comment="Whether more may come: until 24 hours after the later of the day's end and the last delivery.",
    ),
    comment="Time from the requests of a day to the delivery of their log keys. Query it with bounds on request_date.",
)

RECORD_COLUMNS: tuple[str, ...] = tuple(column.name for column in s3_log_record.columns)
