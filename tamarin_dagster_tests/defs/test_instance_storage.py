"""Dagster's own storage in Postgres, where runs that begin at once make the same pools."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dagster as dg
import pytest
import yaml

from tamarin_dagster import dev


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
