"""Dagster's own storage in Postgres: pools that runs make at once, connections that are kept."""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa
import yaml

from tamarin_dagster.operations import dev


@pytest.fixture
def home(tmp_path: Path, empty_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of Dagster's, with the dagster.yaml that `make dev` puts there, on an empty database."""
    monkeypatch.setenv("TAMARIN_DAGSTER_DATABASE_URL", empty_url)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dagster.yaml").write_text(dev._DAGSTER_YAML.read_text("utf-8"), "utf-8")
    return tmp_path


def pools(home: Path) -> dict[str, int]:
    with dg.DagsterInstance.from_config(str(home)) as instance:
        limits = instance.event_log_storage.get_pool_limits()
        return {limit.name: limit.limit for limit in limits}


def test_two_runs_that_make_the_same_pool_at_once_both_go_on(home):
    """An insert that loses the race spoiled its transaction, and the run failed (dagster #33552)."""
    with dg.DagsterInstance.from_config(str(home)) as instance:
        storage = instance.event_log_storage
        names = [f"pool_{number // 4}" for number in range(20)]
        with ThreadPoolExecutor(4) as threads:
            assert all(threads.map(storage.initialize_concurrency_limit_to_default, names))
    assert pools(home) == {f"pool_{number}": 2 for number in range(5)}


def test_another_default_limit_reaches_the_pools_that_are_there(home):
    with dg.DagsterInstance.from_config(str(home)) as instance:
        instance.event_log_storage.initialize_concurrency_limit_to_default("pool")
    config = yaml.safe_load((home / "dagster.yaml").read_text("utf-8"))
    config["concurrency"]["pools"]["default_limit"] = 5
    (home / "dagster.yaml").write_text(yaml.safe_dump(config), "utf-8")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert instance.event_log_storage.initialize_concurrency_limit_to_default("pool")
    assert pools(home) == {"pool": 5}


def connections(server_url: sa.URL, url: str) -> int:
    """Return the present number of connections of the database."""
    engine = sa.create_engine(server_url)
    with engine.connect() as connection:
        found = connection.scalar(
            sa.text("SELECT count(*) FROM pg_stat_activity WHERE datname = :name"), {"name": sa.make_url(url).database}
        )
    engine.dispose()
    return int(found)


def test_a_run_of_many_days_makes_few_connections(home, server_url, empty_url):
    """One for each statement, as dagster-postgres has it, was two thirds of a run's time over a month of small days."""

    days, month = dg.DailyPartitionsDefinition("2026-03-01"), dg.BackfillPolicy.multi_run(31)

    @dg.asset(partitions_def=days, backfill_policy=month)
    def daily() -> None: ...

    made = Counter()
    tags = {"dagster/asset_partition_range_start": "2026-03-01", "dagster/asset_partition_range_end": "2026-03-31"}
    with dg.DagsterInstance.from_config(str(home)) as instance:
        with listening(sa.pool.Pool, "connect", lambda *_: made.update(["connections"])):
            assert dg.materialize([daily], instance=instance, tags=tags).success
        assert len(instance.get_materialized_partitions(dg.AssetKey("daily"))) == 31
    assert made["connections"] <= 5
    assert connections(server_url, empty_url) == 0


def test_connections_that_postgres_has_ended_are_made_again(home, server_url, empty_url):
    """It was restarted between two events of a run."""
    with dg.DagsterInstance.from_config(str(home)) as instance:
        instance.add_dynamic_partitions("before", ["a"])
        engine = sa.create_engine(server_url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            name = {"name": sa.make_url(empty_url).database}
            ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"
            kept = connections(server_url, empty_url)
            assert connection.scalars(sa.text(ended), name).all() == [True] * kept
            assert kept > 0
        engine.dispose()
        instance.add_dynamic_partitions("after", ["b"])
        assert instance.get_runs() == []
        assert instance.get_dynamic_partitions("after") == ["b"]
        assert instance.all_instigator_state() == []


@contextmanager
def listening(target: object, name: str, listener: Callable[..., object]) -> Iterator[None]:
    sa.event.listen(target, name, listener)
    try:
        yield
    finally:
        sa.event.remove(target, name, listener)
