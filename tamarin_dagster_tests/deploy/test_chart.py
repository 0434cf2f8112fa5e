"""The values for Dagster's chart, held to the launcher that they configure and to the dagster.yaml of `make dev`.

The chart itself and helm are not here. `helm template tamarin dagster/dagster --version 1.13.27 --values
deploy/helm/values.yaml` checks them against the chart's schema where both are.
"""

from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster._config import process_config, resolve_to_config_type

from tamarin_dagster.operations import dev
from tamarin_dagster.orchestration.naming import make_slugs
from tamarin_dagster.orchestration.purging import PURGE_POOL
from tamarin_dagster.settings import LoggedBucket, load_settings

VALUES = Path(__file__).parents[2] / "deploy" / "helm" / "values.yaml"
# As the chart calls them, and as dagster.yaml does.
_RUN_CONFIG = {
    "containerConfig": "container_config",
    "podSpecConfig": "pod_spec_config",
    "podTemplateSpecMetadata": "pod_template_spec_metadata",
    "jobSpecConfig": "job_spec_config",
    "jobMetadata": "job_metadata",
}


@pytest.fixture(scope="module")
def values() -> dict[str, Any]:
    return yaml.safe_load(VALUES.read_text("utf-8"))


def manifest(values: dict[str, Any], kind: str) -> dict[str, Any]:
    (found,) = (each for each in values["extraManifests"] if each["kind"] == kind)
    return found


def launcher_config(values: dict[str, Any]) -> dict[str, Any]:
    """Return the dagster.yaml that the chart makes from its values."""
    given = values["runLauncher"]["config"]["k8sRunLauncher"]
    return {
        "load_incluster_config": given["loadInclusterConfig"],
        "image_pull_policy": given["imagePullPolicy"],
        "dagster_home": "/opt/dagster/dagster_home",
        "instance_config_map": "tamarin-dagster-instance",
        "postgres_password_secret": values["global"]["postgresqlSecretName"],
        "job_namespace": "tamarin",
        "labels": given["labels"],
        "run_k8s_config": {_RUN_CONFIG[name]: config for name, config in given["runK8sConfig"].items()},
    }


def test_the_launcher_takes_its_configuration_and_each_run_has_limits(values) -> None:
    launcher = pytest.importorskip("dagster_k8s", reason="not installed; `make test-deploy` installs it").K8sRunLauncher
    config = process_config(resolve_to_config_type(launcher.config_type()), launcher_config(values))
    assert config.success, config.errors
    run = config.value["run_k8s_config"]
    assert run["container_config"]["resources"]["limits"] == {"cpu": "2", "memory": "1Gi"}
    assert run["pod_spec_config"]["security_context"]["run_as_non_root"]
    assert run["job_spec_config"]["backoff_limit"] == 0


def test_kubernetes_own_models_know_each_field_of_a_runs_pod(values) -> None:
    job = pytest.importorskip("dagster_k8s.job", reason="not installed; `make test-deploy` installs it")
    run = launcher_config(values)["run_k8s_config"]
    config = job.UserDefinedDagsterK8sConfig.from_dict(
        {"container_config": run["container_config"], "pod_spec_config": run["pod_spec_config"]}
    )
    made = job.construct_dagster_k8s_job(
        job.DagsterK8sJobConfig(job_image="tamarin-dagster", dagster_home="/opt/dagster/dagster_home"),
        ["dagster"],
        "run",
        user_defined_k8s_config=config,
    ).to_dict()["spec"]["template"]["spec"]
    (container,) = made["containers"]
    assert container["resources"]["requests"] == {"cpu": "500m", "memory": "512Mi"}
    assert container["security_context"]["capabilities"]["drop"] == ["ALL"]
    assert made["security_context"]["run_as_user"] == 10001
    assert made["termination_grace_period_seconds"] == 60


def test_dagster_is_configured_as_on_one_machine(values) -> None:
    local = yaml.safe_load(dev._DAGSTER_YAML.read_text("utf-8"))
    daemon, monitoring, retries = (
        values["dagsterDaemon"], values["dagsterDaemon"]["runMonitoring"], values["dagsterDaemon"]["runRetries"],
    )  # fmt: skip
    assert retries == {
        "enabled": True,
        "maxRetries": local["run_retries"]["max_retries"],
        "retryOnAssetOrOpFailure": local["run_retries"]["retry_on_asset_or_op_failure"],
    }
    assert monitoring["pollIntervalSeconds"] == local["run_monitoring"]["poll_interval_seconds"]
    assert monitoring["freeSlotsAfterRunEndSeconds"] == local["run_monitoring"]["free_slots_after_run_end_seconds"]
    assert daemon["sensors"]["numWorkers"] == local["sensors"]["num_workers"]
    assert daemon["schedules"]["numWorkers"] == local["schedules"]["num_workers"]
    for kind in ("sensor", "schedule"):
        assert values["retention"][kind]["purgeAfterDays"] == local["retention"][kind]["purge_after_days"]
    assert values["pythonLogs"] == {
        "pythonLogLevel": local["python_logs"]["python_log_level"],
        "managedPythonLoggers": local["python_logs"]["managed_python_loggers"],
    }
    assert values["telemetry"] == local["telemetry"]
    assert values["additionalInstanceConfig"] == {"nux": local["nux"]}


def test_the_settings_are_valid_and_each_pool_is_made_ahead(values, tmp_path) -> None:
    (tmp_path / "tamarin.yaml").write_text(manifest(values, "ConfigMap")["data"]["tamarin.yaml"], "utf-8")
    buckets: tuple[LoggedBucket, ...] = load_settings(tmp_path / "tamarin.yaml").buckets
    (container,) = manifest(values, "Job")["spec"]["template"]["spec"]["containers"]
    made = container["command"][-1].split(" in ")[1].split(";")[0].split()
    assert set(made) == {PURGE_POOL, *(f"tamarin_{slug}" for slug in make_slugs(buckets).values())}


def test_secrets_are_named_and_not_held_and_all_pods_have_one_image(values) -> None:
    assert not values["generatePostgresqlPasswordSecret"]
    assert "postgresqlPassword" not in values["postgresql"]
    (deployment,) = values["dagster-user-deployments"]["deployments"]
    assert deployment["envSecrets"] == [{"name": "tamarin-env"}]
    assert {entry["name"] for entry in deployment["env"]} == {"TAMARIN_DATABASE_URL", "TAMARIN_CONFIG"}
    image = values["dagsterWebserver"]["image"]
    assert image == values["dagsterDaemon"]["image"] == deployment["image"]
    (container,) = manifest(values, "Job")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"{image['repository']}:{image['tag']}"


def test_the_storages_driver_is_the_one_that_dagster_has(values) -> None:
    """Of a bare postgresql:// SQLAlchemy 2.1 makes psycopg 3."""
    assert values["postgresql"]["postgresqlScheme"] == "postgresql+psycopg2"
