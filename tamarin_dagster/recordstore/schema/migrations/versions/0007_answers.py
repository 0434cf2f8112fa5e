"""Hosts that are a bucket's own; the functions of generated columns, and these columns.

It made views and other functions, too, until these were repeatable (recordstore/repeatable.py). The two functions here
are not: Postgres does not compute a stored column again when its function changes. A change of one needs a migration
that makes it anew and writes the column again.
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# The header is whatever a client writes. A backslash ends the host, as browsers have it; what then has anything but
# letters, digits, dots, dashes and underscores in it is no host, nor is an IPv6 address. Cut with functions, not by one
# pattern with groups, which takes a hundred times as long.
_REFERRER_HOST = r"""
CREATE FUNCTION s3_referrer_host(referrer text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN referrer ~ '^[A-Za-z][A-Za-z0-9+.-]*://' THEN
        substring(
            rtrim(
                lower(split_part(split_part(split_part(translate(left(referrer, 1024), '?#\', '///'), '/', 3), '@', -1), ':', 1)),
                '.'
            )
            FROM '^[a-z0-9_.-]+$'
        )
END
"""  # noqa: E501
# convert_to is not called immutable by Postgres, since somebody may redefine a conversion.
_KEY_DIGEST = """
CREATE FUNCTION s3_key_digest(key text) RETURNS bytea
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN substr(sha256(convert_to(key, 'UTF8')), 1, 16)
"""
_STATEMENTS = (
    _REFERRER_HOST,
    """
COMMENT ON FUNCTION s3_referrer_host IS
    'The host that a Referer header names, in lower case, without user, port and final dot; null if it names none.'
    """,
    _KEY_DIGEST,
    """
COMMENT ON FUNCTION s3_key_digest IS
    'The first 16 bytes of the SHA-256 of a key''s name, which traffic_daily_by_key has.'
    """,
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


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.get_bind().exec_driver_sql(statement)
