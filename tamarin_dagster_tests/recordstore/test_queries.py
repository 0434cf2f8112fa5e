"""The amount that a query reads in a year of records, and an index that a user adds."""

import re
from datetime import date, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from benchmarks.queries import INDEXES, ONE_DAY, blocks_of, fill_month, touched
from tamarin_dagster.analytics.rollups import roll_up
from tamarin_dagster.pipeline.retain import expire
from tamarin_dagster.recordstore.ledger import count_differences
from tamarin_dagster.recordstore.partitions import ensure_partitions, partition_name
from tamarin_dagster_tests.lines import lines
from tamarin_dagster_tests.recordstore.log_keys import load_keys, log_key

PAGE = (Path(__file__).parents[2] / "docs/how-to/indexes.md").read_text("utf-8")
MONTHS = [date(2026, month, 1) for month in range(1, 13)]
ROWS = 20_000


def test_a_day_of_one_bucket_touches_one_of_twelve_months_and_few_of_its_blocks(engine):
    """The partitions exclude the other months, the BRIN index nearly all other days of the month."""
    for month in MONTHS:
        fill_month(engine, month, ROWS)
    with engine.connect() as connection:
        table = blocks_of(connection, *map(partition_name, MONTHS))
        month = blocks_of(connection, "s3_log_record_2026_03")
        for day in (1, 14, 31):
            first = date(2026, 3, day)
            found = touched(connection, ONE_DAY.format(first=first, following=first + timedelta(days=1)))
            assert found.partitions == {"s3_log_record_2026_03"}
            assert month / 31 / 3 < found.blocks < month / 8, day
            assert found.blocks < table / 90, day


def test_a_key_is_counted_in_few_blocks_too(engine, rows):
    """The proof before a purge, and the superseding of a generation."""
    fill_month(engine, MONTHS[2], ROWS)
    ((id_, first, last),) = rows(
        "SELECT log_key_id, min(request_dtime), max(request_dtime) FROM s3_log_record GROUP BY 1 ORDER BY 1 OFFSET 20"
        " LIMIT 1"
    )
    with engine.connect() as connection:
        query = f"SELECT count(*) FROM s3_log_record WHERE request_dtime BETWEEN '{first}' AND '{last}'"
        found = touched(connection, f"{query} AND log_key_id = {id_}")
        assert found.blocks < blocks_of(connection, "s3_log_record_2026_03") / 8


def statements() -> list[str]:
    """Return the SQL on the page that creates indexes."""
    blocks = re.findall(r"^```sql\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    found = [statement.strip() for block in blocks for statement in re.split(r";\n", block) if "INDEX" in statement]
    assert len(found) > 5
    return found


def indexes_of(rows, table: str) -> set[str]:
    """Return their definitions without name and table."""
    found = rows("SELECT indexdef FROM pg_indexes WHERE tablename = :table", table=table)
    return {definition.partition(" USING ")[2] for (definition,) in found}


def test_the_indexes_on_the_page_are_those_that_were_measured():
    for column, definition in INDEXES.items():
        assert f"CREATE INDEX s3_log_record_{column} ON s3_log_record {definition};" in PAGE


@pytest.mark.parametrize("column", INDEXES)
def test_an_index_that_a_user_adds_is_on_new_months_too_and_loads_and_retention_go_on(engine, rows, column):
    old, new = log_key("old"), log_key("new", day=date(2026, 4, 5))
    load_keys(engine, [old], [lines(3)])
    rows(f"CREATE INDEX s3_log_record_{column} ON s3_log_record {INDEXES[column]}")

    load_keys(engine, [new], [lines(4, "05/Apr/2026:09:58:01 +0000")])

    assert len(indexes_of(rows, "s3_log_record_2026_04")) == 2
    assert indexes_of(rows, "s3_log_record_2026_04") == indexes_of(rows, "s3_log_record_2026_03")
    attached = "SELECT count(*) FROM pg_inherits WHERE inhparent = CAST(:name AS regclass)"
    assert rows(attached, name=f"s3_log_record_{column}") == [(2,)]
    with engine.connect() as connection:
        ids = [id_ for (id_,) in rows("SELECT id FROM s3_log_key")]
        assert count_differences(connection, ids) == []
    roll_up(engine)
    assert [each.name for each in expire(engine, 1, today=date(2026, 5, 1)).partitions] == ["s3_log_record_2026_03"]
    assert rows("SELECT count(*) FROM s3_log_record") == [(4,)]


def test_the_statements_of_the_page_index_each_month_without_stopping_loads(engine, rows):
    """Use the statements for one partition at a time as they are on the page; a month is created in between."""
    ensure_partitions(engine, MONTHS[:2])
    (on_the_parent,) = [each for each in statements() if "ON ONLY" in each]
    rows(on_the_parent)
    ensure_partitions(engine, MONTHS[2:3])
    (naming, attaching) = [each.removesuffix("\\gexec").strip() for each in statements() if "\\gexec" in each]
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for generating in (naming, attaching):
            for (statement,) in connection.execute(sa.text(generating)).all():
                connection.exec_driver_sql(statement)
    valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 's3_log_record_remote_ip'::regclass"
    assert rows(valid) == [(True,)]
    for month in MONTHS[:3]:
        assert any("(remote_ip)" in each for each in indexes_of(rows, partition_name(month)))


def test_a_long_name_of_a_key_does_not_fit_into_a_btree_and_fits_into_what_the_page_says(engine, rows):
    """Otherwise the load of a log key would be refused because of the name that one client made up."""
    body = lines(1).replace(b"video/intro.mp4", "".join(f"{n * 7919 % 65521:x}" for n in range(2000)).encode())
    rows("CREATE INDEX as_btree ON s3_log_record (key)")
    with pytest.raises(Exception, match="exceeds btree version 4 maximum 2704"):
        load_keys(engine, [log_key("a")], [body])
    rows("DROP INDEX as_btree")
    rows(f"CREATE INDEX s3_log_record_key ON s3_log_record {INDEXES['key']}")
    load_keys(engine, [log_key("a")], [body])
    assert rows("SELECT length(key) > 7000 FROM s3_log_record") == [(True,)]


def test_names_that_begin_alike_are_found_by_the_index_on_the_page(engine, rows):
    (making,) = [each for each in statements() if "key_start" in each and each.startswith("CREATE")]
    rows(making)
    fill_month(engine, MONTHS[2], ROWS)
    (asking,) = re.findall(r"^SELECT \* FROM s3_log_record WHERE left.*;$", PAGE, re.MULTILINE)
    plan = rows(f"EXPLAIN {asking.replace('photos/2026/', 'photos/2026/471')}")
    assert any("Index Cond" in row[0] and "~>=~" in row[0] for row in plan), plan
