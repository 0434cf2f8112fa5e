"""deploy/'s own dagster.yaml files: what Dagster says of them, and that they stay with that of `make dev`."""

import re
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.storage.noop_compute_log_manager import NoOpComputeLogManager

from tamarin_dagster.operations import dev
from tamarin_dagster.orchestration.patches import celery_worker
from tamarin_dagster.orchestration.patches.celery_run_launcher import CELERY_CONFIG, WatchedCeleryRunLauncher
from tamarin_dagster.orchestration.patches.run_launcher import ServedRunLauncher

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
    (home / "dagster.yaml").write_text(yaml.safe_dump(config), "utf-8")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert isinstance(instance.run_launcher, launcher)
        assert isinstance(instance.compute_log_manager, NoOpComputeLogManager)
        assert instance.run_launcher.supports_check_run_worker_health
        assert instance.run_monitoring_enabled
        assert instance.run_monitoring_max_resume_run_attempts == 0
        assert instance.run_retries_max_retries == 2
        assert not instance.run_retries_retry_on_asset_or_op_failure


def test_a_worker_has_the_configuration_of_the_launcher_that_it_works_for(home) -> None:
    config = loaded(DEPLOY / "celery" / "dagster.yaml")
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
    assert different(local, compose) == {"run_launcher.class"}
    assert different(compose, celery) == {
        "run_launcher.module",
        "run_launcher.class",
        "run_launcher.config",
        "concurrency.runs.max_concurrent_runs",
        "concurrency.pools.default_limit",
        "run_monitoring.start_timeout_seconds",
    }


_FILES = ("dagster.yaml", "celery/dagster.yaml")


def test_all_four_instances_protect_runs_alike(values_of_the_chart) -> None:
    """One of four kept queued runs when the code server was killed; with the others 81 queued runs failed at once."""
    local, compose, celery = (protections(loaded(path)) for path in (dev._DAGSTER_YAML, *map(DEPLOY.joinpath, _FILES)))
    assert local == compose == celery == protections(values_of_the_chart)
    assert local["compute_logs"]["class"] == "NoOpComputeLogManager"
    assert local["run_coordinator"]["max_user_code_failure_retries"] == 360
    assert local["run_coordinator"]["user_code_failure_retry_delay"] == 10
    assert local["run_retries"] == {"enabled": True, "max_retries": 2, "retry_on_asset_or_op_failure": False}


def protections(config: dict[str, Any]) -> dict[str, Any]:
    """The settings of an instance against lost runs, late sensors and growing tables."""
    coordinator = config["run_coordinator"]
    monitoring = dict(config["run_monitoring"])
    # Machines differ in how long a run takes to start, and in how many they take at once.
    del monitoring["start_timeout_seconds"]
    queue = {name: value for name, value in coordinator["config"].items() if name != "max_concurrent_runs"}
    return {
        "run_coordinator": {"module": coordinator["module"], "class": coordinator["class"], **queue},
        "run_monitoring": {"max_resume_run_attempts": 0} | monitoring,
        **{name: config[name] for name in ("run_retries", "sensors", "schedules", "retention", "python_logs")},
        "compute_logs": config["compute_logs"],
    }


@pytest.fixture
def values_of_the_chart() -> dict[str, Any]:
    """deploy/helm/values.yaml as the dagster.yaml that the chart makes of it."""
    values = loaded(DEPLOY / "helm" / "values.yaml")
    daemon = snake_case(values["dagsterDaemon"])
    assert daemon["run_coordinator"]["type"] == "CustomRunCoordinator"
    return {
        "run_coordinator": daemon["run_coordinator"]["config"]["custom_run_coordinator"],
        **{name: daemon[name] for name in ("run_monitoring", "run_retries", "sensors", "schedules")},
        "retention": {name: snake_case(values["retention"][name]) for name in ("sensor", "schedule")},
        "python_logs": snake_case(values["pythonLogs"]),
        # The chart knows Dagster's own classes by their names.
        "compute_logs": {"module": NoOpComputeLogManager.__module__, "class": values["computeLogManager"]["type"]},
    }


def snake_case(tree: Any) -> Any:
    """The chart writes camelCase."""
    if not isinstance(tree, dict):
        return tree
    return {re.sub("([A-Z])", lambda found: f"_{found[1].lower()}", name): snake_case(tree[name]) for name in tree}
