"""Views and functions that answer the usual questions; hosts that are a bucket's own."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# Each after what it is made of; the first two make columns.
_MADE_FIRST = (("FUNCTION", "s3_referrer_host"), ("FUNCTION", "s3_key_digest"))
_MADE = (
    ("VIEW", "s3_request_day"),
    ("VIEW", "s3_download"),
    ("VIEW", "s3_hotlink"),
    ("FUNCTION", "s3_hogs"),
    ("FUNCTION", "s3_cold_objects"),
    ("VIEW", "s3_cold_object"),
    ("VIEW", "s3_error"),
    ("VIEW", "s3_spike"),
    ("FUNCTION", "s3_spike_causes"),
    ("VIEW", "s3_change"),
    ("VIEW", "s3_anonymous_access"),
    ("VIEW", "s3_old_tls"),
    ("VIEW", "s3_acl_dependent"),
)


_STATEMENTS = (
    "ALTER TABLE s3_logged_bucket ADD COLUMN own_hosts TEXT[] NOT NULL DEFAULT '{}'",
    """
ALTER TABLE traffic_daily_by_key ADD COLUMN key_digest BYTEA
    GENERATED ALWAYS AS (s3_key_digest(key)) STORED
    """,
    """
CREATE INDEX traffic_daily_by_key_digest ON traffic_daily_by_key (bucket, key_digest, request_date)
    INCLUDE (put_requests, reads, deletes, object_size)
    """,
    """
CREATE INDEX traffic_daily_by_remote_ip_address ON traffic_daily_by_remote_ip (bucket, remote_ip, request_date)
    INCLUDE (requests, bytes_sent)
    """,
    """
ALTER TABLE traffic_daily_by_referrer ADD COLUMN referrer_host TEXT
    GENERATED ALWAYS AS (s3_referrer_host(referrer)) STORED
    """,
)
_FORMER_STATEMENTS = (
    "ALTER TABLE traffic_daily_by_key DROP COLUMN key_digest",
    "DROP INDEX traffic_daily_by_remote_ip_address",
    "ALTER TABLE traffic_daily_by_referrer DROP COLUMN referrer_host",
    "ALTER TABLE s3_logged_bucket DROP COLUMN own_hosts",
)


def upgrade() -> None:
    _make(_MADE_FIRST)
    for statement in _STATEMENTS:
        op.execute(statement)
    _make(_MADE)


def downgrade() -> None:
    _drop(_MADE)
    for statement in _FORMER_STATEMENTS:
        op.execute(statement)
    _drop(_MADE_FIRST)


def _make(made: Iterable[tuple[str, str]]) -> None:
    for _, name in made:
        op.get_bind().exec_driver_sql((Path(__file__).parents[2] / "views" / f"{name}.sql").read_text("utf-8"))


def _drop(made: Sequence[tuple[str, str]]) -> None:
    for kind, name in reversed(made):
        op.execute(f"DROP {kind} {name}")
