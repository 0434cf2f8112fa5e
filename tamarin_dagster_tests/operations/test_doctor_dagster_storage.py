"""The doctor's finding on the size of Dagster's own storage."""

import sqlalchemy as sa

from tamarin_dagster.operations.doctor.dagster_storage import storage_findings
from tamarin_dagster.settings import Settings


def engine_on(url: str) -> sa.Engine:
    return sa.create_engine("postgresql+psycopg" + url.removeprefix("postgresql"))


def test_it_has_the_size_of_the_database_and_how_many_events_the_last_day_wrote(empty_url) -> None:
    """Some have been pruned since: ids tell how many were written."""
    settings = Settings(dagster_database_url=empty_url, dagster_event_retention_days=9)
    assert list(storage_findings(settings)) == []  # no run yet
    engine = engine_on(empty_url)
    with engine.begin() as connection:
        connection.execute(
            sa.text("CREATE TABLE event_logs (id bigserial PRIMARY KEY, timestamp timestamp, event text)")
        )
        connection.execute(
            sa.text(
                "INSERT INTO event_logs (timestamp, event)"
                " SELECT (now() AT TIME ZONE 'UTC') - make_interval(mins => 3000 - n), repeat('x', 900)"
                " FROM generate_series(1, 2999) n"
            )
        )
        connection.execute(sa.text("DELETE FROM event_logs WHERE id % 3 = 0 OR id BETWEEN 2000 AND 2500"))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("ANALYZE event_logs"))
    engine.dispose()

    (finding,) = storage_findings(settings)

    assert finding.status.value == "ok"
    assert "MB; 1,4" in finding.text
    written = int(finding.text.split("; ")[1].split(" ")[0].replace(",", ""))
    assert 1438 <= written <= 1442
    assert "deleted after 9 days" in finding.text


def test_a_server_that_does_not_answer_is_left_to_the_other_findings() -> None:
    settings = Settings(dagster_database_url="postgresql://nobody@127.0.0.1:9/dagster")
    assert list(storage_findings(settings)) == []
