"""A role that may read, and nothing else."""

from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
import sqlalchemy as sa

from tamarin_dagster.recordstore.roles import grant_reading
from tamarin_dagster_tests.lines import lines
from tamarin_dagster_tests.recordstore.log_keys import load_keys, log_key


@pytest.fixture
def reader(engine: sa.Engine) -> Iterator[str]:
    """Return a new role that may read, whose name needs quotes."""
    role = f'reader "{uuid4().hex[:8]}"; --'
    assert grant_reading(engine, role)
    yield role
    quoted = role.replace('"', '""')
    with engine.begin() as connection:
        connection.exec_driver_sql(f'DROP OWNED BY "{quoted}"; DROP ROLE "{quoted}"')


def as_role(engine: sa.Engine, role: str, statement: str) -> list[tuple[object, ...]]:
    with engine.begin() as connection:
        connection.execute(sa.text("SELECT set_config('role', :role, true)"), {"role": role})
        result = connection.execute(sa.text(statement))
        return [tuple(row) for row in result] if result.returns_rows else []


def test_it_reads_records_of_any_month_and_the_ledger(engine, reader):
    load_keys(engine, [log_key("a"), log_key("b")], [lines(3), lines(2, "07/Apr/2026:09:58:01 +0000") + b"junk\n"])
    assert as_role(engine, reader, "SELECT count(*) FROM s3_log_record") == [(5,)]
    assert as_role(engine, reader, "SELECT count(*), sum(rejected_count) FROM s3_log_key") == [(2, 1)]
    assert as_role(engine, reader, "SELECT reason, line_bytes FROM s3_rejected_line") == [("not_a_record", 4)]
    assert as_role(engine, reader, "SELECT count(*) FROM s3_duplicate_record") == [(0,)]
    assert as_role(engine, reader, "SELECT sum(records) FROM s3_delivery_lateness") is not None


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT line FROM s3_rejected_line",
        "SELECT * FROM s3_rejected_line",
        "DELETE FROM s3_log_record",
        "UPDATE s3_log_key SET purged_at = now()",
        "INSERT INTO s3_logged_bucket VALUES ('a', 'b', '', true, NULL)",
        "DROP TABLE s3_log_key",
        "CREATE TABLE mine (a int)",
    ],
)
def test_it_neither_changes_anything_nor_reads_raw_lines(engine, reader, statement):
    with pytest.raises(sa.exc.ProgrammingError) as raised:
        as_role(engine, reader, statement)
    assert isinstance(raised.value.orig, psycopg.errors.InsufficientPrivilege)


def test_to_grant_again_changes_nothing(engine, reader):
    assert not grant_reading(engine, reader)
