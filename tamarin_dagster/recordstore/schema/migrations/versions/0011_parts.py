"""Partial sums of each load, rows that stand for many values, and lifecycle transitions.

Days that were rolled up before keep their rows. They have no part, so the next load of one sums its records up again.
"""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_DAILY = ("key", "remote_ip", "requester", "referrer", "user_agent")
_PARTS = ("hours", "keys", "remote_ips", "requesters", "referrers", "user_agents")
_ADDED = ("ia_transitions", "gir_transitions", "glacier_transitions", "deep_archive_transitions", "folded_values")


def upgrade() -> None:
    sums = ", ".join(f"{name} BYTEA NOT NULL" for name in _PARTS)
    op.execute(f"""
        CREATE TABLE traffic_part (
            id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            bucket TEXT NOT NULL,
            request_date DATE NOT NULL,
            requests BIGINT NOT NULL,
            is_merged BOOLEAN NOT NULL,
            made_at TIMESTAMPTZ NOT NULL DEFAULT now(),
            {sums}
        )
    """)
    # compressed already
    storage = ", ".join(f"ALTER COLUMN {name} SET STORAGE EXTERNAL" for name in _PARTS)
    op.execute(f"ALTER TABLE traffic_part {storage}")
    op.execute("CREATE INDEX traffic_part_day ON traffic_part (bucket, request_date)")
    op.execute("""
        CREATE TABLE traffic_fold (
            bucket TEXT NOT NULL,
            request_date DATE NOT NULL,
            dimension TEXT NOT NULL,
            folded_values BIGINT NOT NULL,
            requests BIGINT NOT NULL,
            bytes_sent NUMERIC NOT NULL,
            missing_requests BIGINT NOT NULL,
            missing_bytes NUMERIC NOT NULL,
            PRIMARY KEY (bucket, request_date, dimension)
        )
    """)
    for dimension in _DAILY:
        added = ", ".join(f"ADD COLUMN {name} BIGINT" for name in _ADDED)
        op.execute(f"ALTER TABLE traffic_daily_by_{dimension} {added}")
    # Functions that readers call select from traffic_fold, so each role that may read traffic_day may read it, too.
    op.execute("""
        DO $$
        DECLARE reader text;
        BEGIN
            FOR reader IN
                SELECT DISTINCT CAST(CAST(item.grantee AS regrole) AS text)
                FROM pg_class c, aclexplode(c.relacl) AS item
                WHERE c.oid = CAST('traffic_day' AS regclass) AND item.privilege_type = 'SELECT'
                  AND item.grantee NOT IN (0, c.relowner)
            LOOP
                EXECUTE 'GRANT SELECT ON traffic_fold, traffic_part TO ' || reader;
            END LOOP;
        END
        $$
    """)
