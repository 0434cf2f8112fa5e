"""deploy/'s own dagster.yaml files: what Dagster says of them, and that they stay with that of `make dev`."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from tamarin_dagster import dev
from tamarin_dagster.defs import celery_worker
from tamarin_dagster.defs.celery_run_launcher import CELERY_CONFIG, WatchedCeleryRunLauncher
from tamarin_dagster.defs.run_launcher import ServedRunLauncher

DEPLOY = Path(__file__).parents[2] / "deploy"


def loaded(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text("utf-8"))


@pytest.fixture
def home(tmp_path: Path, empty_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Dagster's home, without a dagster.yaml yet."""
    monkeypatch.setenv("TAMARIN_DAGSTER_DATABASE_URL", empty_url)
    monkeypatch.setenv("TAMARIN_BROKER_URL", "redis://127.0.0.1:9/0")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("path", "launcher"), [("dagster.yaml", ServedRunLauncher), ("celery/dagster.yaml", WatchedCeleryRunLauncher)]
)
def test_dagster_takes_it(path, launcher, home) -> None:
    config = loaded(DEPLOY / path)
    config["compute_logs"]["config"]["base_dir"] = str(home)  # the other one is the image's
    (home / "dagster.yaml").write_text(yaml.safe_dump(config), "utf-8")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert isinstance(instance.run_launcher, launcher)
        assert instance.run_launcher.supports_check_run_worker_health
        assert instance.run_monitoring_enabled
        assert instance.run_monitoring_max_resume_run_attempts == 0
        assert instance.run_retries_max_retries == 2
        assert not instance.run_retries_retry_on_asset_or_op_failure


def test_a_worker_has_the_configuration_of_the_launcher_that_it_works_for(home) -> None:
    config = loaded(DEPLOY / "celery" / "dagster.yaml")
    del config["compute_logs"]
    (home / "dagster.yaml").write_text(yaml.safe_dump(config), "utf-8")
    app = celery_worker.worker_app()
    assert "execute_job" in app.tasks
    assert app.conf.broker_url == "redis://127.0.0.1:9/0"
    assert {name: app.conf[name] for name in CELERY_CONFIG} == dict(CELERY_CONFIG)


def test_a_worker_does_not_start_for_a_launcher_that_would_not_ask_it(home) -> None:
    (home / "dagster.yaml").write_text(dev._DAGSTER_YAML.read_text("utf-8"), "utf-8")
    with pytest.raises(SystemExit, match="LocalRunLauncher, not WatchedCeleryRunLauncher"):
        celery_worker.worker_app()


def test_a_worker_does_not_start_without_run_monitoring(home) -> None:
    """Dagster fails a run that is given out twice, instead of ignoring that, if nobody monitors it."""
    config = loaded(DEPLOY / "celery" / "dagster.yaml")
    del config["compute_logs"]
    config["run_monitoring"]["enabled"] = False
    (home / "dagster.yaml").write_text(yaml.safe_dump(config), "utf-8")
    with pytest.raises(SystemExit, match=r"run_monitoring in dagster\.yaml must be enabled"):
        celery_worker.worker_app()


def test_the_three_files_differ_only_where_their_machines_do() -> None:
    def different(one: Any, other: Any, at: str = "") -> set[str]:
        if isinstance(one, dict) and isinstance(other, dict):
            keys = one.keys() | other.keys()
            return {name for key in keys for name in different(one.get(key), other.get(key), f"{at}.{key}")}
        return set() if one == other else {at.removeprefix(".")}

    local, compose, celery = (loaded(dev._DAGSTER_YAML), *(loaded(DEPLOY / name) for name in _FILES))
    assert different(local, compose) == {"run_launcher.class", "compute_logs"}
    assert different(compose, celery) == {
        "run_launcher.module",
        "run_launcher.class",
        "run_launcher.config",
        "concurrency.runs.max_concurrent_runs",
        "concurrency.pools.default_limit",
        "run_coordinator.config.max_user_code_failure_retries",
        "run_coordinator.config.user_code_failure_retry_delay",
        "run_monitoring.start_timeout_seconds",
    }


_FILES = ("dagster.yaml", "celery/dagster.yaml")
