"""Hosts of referrers that are IPv6 addresses, prices of transitions, and indexes without folded rows.

Rollups are indexed again, which are small compared with the records.
"""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

# The header is whatever a client writes. A backslash ends the host, as browsers have it; what then has anything but
# letters, digits, dots, dashes and underscores in it is no host, except an IPv6 address in brackets. Cut with
# functions: one pattern with groups takes a hundred times as long. split_part cuts at a colon, which an IPv6 address
# has, so an address is taken by a pattern of its own.
_REFERRER_HOST = r"""
CREATE OR REPLACE FUNCTION s3_referrer_host(referrer text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN referrer ~ '^[A-Za-z][A-Za-z0-9+.-]*://[^/?#\\]*\[' THEN
        lower(substring(
            split_part(split_part(translate(left(referrer, 1024), '?#\', '///'), '/', 3), '@', -1)
            FROM '^(\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?$'
        ))
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
_PRICES = (
    "ia_transition_usd",
    "gir_transition_usd",
    "glacier_transition_usd",
    "deep_archive_transition_usd",
)
_STATEMENTS = (
    _REFERRER_HOST,
    # A stored column is computed when its row is written.
    r"UPDATE traffic_daily_by_referrer SET referrer = referrer WHERE referrer ~ '\[' AND referrer_host IS NULL",
    f"ALTER TABLE s3_monthly_price {', '.join(f'ADD COLUMN {name} NUMERIC' for name in _PRICES)}",
    "DROP INDEX traffic_daily_by_key_digest",
    """
CREATE INDEX traffic_daily_by_key_digest ON traffic_daily_by_key (bucket, key_digest, request_date)
    INCLUDE (put_requests, reads, deletes, object_size) WHERE folded_values IS NULL
    """,
    "DROP INDEX traffic_daily_by_remote_ip_address",
    """
CREATE INDEX traffic_daily_by_remote_ip_address ON traffic_daily_by_remote_ip (bucket, remote_ip, request_date)
    INCLUDE (requests, bytes_sent) WHERE folded_values IS NULL
    """,
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.get_bind().exec_driver_sql(statement)
