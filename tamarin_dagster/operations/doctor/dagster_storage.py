"""The finding on the size of Dagster's own storage, and on its growth."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from tamarin_dagster.operations.doctor.finding import Finding, ok
from tamarin_dagster.plurals import count_noun
from tamarin_dagster.recordstore.connections import CONNECT_TIMEOUT_SECONDS, DAGSTER_DATABASE
from tamarin_dagster.recordstore.database import create_engine
from tamarin_dagster.recordstore.server.embedded import EmbeddedPostgres, EmbeddedPostgresError
from tamarin_dagster.recordstore.server.place import has_cluster
from tamarin_dagster.settings import Settings
from tamarin_dagster.settings.values import drop_prepare_threshold

GROWTH_DAYS = 1


def storage_findings(settings: Settings) -> Iterator[Finding]:
    """Yield the size of Dagster's database and its growth; nothing if the database is missing or cannot be read.

    If it cannot be reached, dagster_findings and examine_database report that.
    """
    try:
        url = _url(settings)
        if url is None:
            return
        # A database in SQL_ASCII returns bytes unless the client names an encoding.
        options = {"connect_timeout": CONNECT_TIMEOUT_SECONDS, "client_encoding": "UTF8"}
        engine = create_engine(url, connect_args=options)
        try:
            with engine.connect() as connection:
                if connection.scalar(sa.select(sa.func.to_regclass("event_logs"))) is not None:
                    yield _finding(connection, settings.dagster_event_retention_days, datetime.now(UTC))
        finally:
            engine.dispose()
    except (sa.exc.DBAPIError, EmbeddedPostgresError, OSError):
        return


def _url(settings: Settings) -> str | None:
    if url := settings.dagster_database_url:
        return "postgresql+psycopg" + drop_prepare_threshold(url).removeprefix("postgresql")
    # The examination of the records' database keeps the embedded server running.
    return EmbeddedPostgres(settings.home).url(DAGSTER_DATABASE) if has_cluster(settings.home) else None


def _finding(connection: sa.Connection, retention_days: int, now: datetime) -> Finding:
    size, table, rows = connection.execute(
        sa.text(
            "SELECT pg_database_size(current_database()), pg_total_relation_size('event_logs'),"
            " (SELECT greatest(reltuples, 0) FROM pg_class WHERE oid = 'event_logs'::regclass)"
        )
    ).one()
    last = connection.scalar(sa.text("SELECT max(id) FROM event_logs"))
    text = f"{size / 1e6:,.0f} MB"
    if last is not None:
        written = last - _last_id_before(connection, last, now - timedelta(days=GROWTH_DAYS))
        # Before the first ANALYZE Postgres does not know how many rows there are.
        bytes_per_row = table / rows if rows else 0
        growth = f" (about {written * bytes_per_row / 1e6:,.0f} MB)" if bytes_per_row else ""
        text += f"; {count_noun(written, 'event')} in the last day{growth}"
    return ok(
        "dagster database",
        f"{text}; step events and logs are deleted after {retention_days} days (dagster_event_retention_days)",
    )


def _last_id_before(connection: sa.Connection, last: int, moment: datetime) -> int:
    """Return the id of the last event before the moment, by a binary search: the time has no index, but ids grow."""
    probe = sa.text("SELECT id, timestamp FROM event_logs WHERE id >= :id ORDER BY id LIMIT 1")
    low, high = 0, last + 1  # events up to `low` are older than the moment, events from `high` on are not
    while high - low > 1:
        middle = (low + high) // 2
        found = connection.execute(probe, {"id": middle}).first()
        if found is not None and found.timestamp.replace(tzinfo=UTC) < moment:
            low = found.id
        else:
            high = middle
    return low
