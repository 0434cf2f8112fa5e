"""A dagster.yaml that was written for an earlier release names our classes by their former modules."""

import importlib

import dagster as dg
import pytest
import yaml

from tamarin_dagster.operations import dev


@pytest.mark.parametrize("name", ["instance_storage", "run_launcher", "celery_run_launcher", "celery_worker"])
def test_a_former_module_has_the_very_objects_of_the_present_one(name) -> None:
    former = importlib.import_module(f"tamarin_dagster.defs.{name}")
    present = importlib.import_module(f"tamarin_dagster.orchestration.patches.{name}")
    assert former.__all__
    for each in former.__all__:
        assert getattr(former, each) is getattr(present, each)


def test_dagster_takes_a_dagster_yaml_with_the_former_names(tmp_path, empty_url, monkeypatch) -> None:
    """Of a home whose dagster.yaml was copied before the upgrade: `make dev` does not touch that file."""
    monkeypatch.setenv("TAMARIN_DAGSTER_DATABASE_URL", empty_url)
    monkeypatch.chdir(tmp_path)
    config = yaml.safe_load(dev._DAGSTER_YAML.read_text("utf-8"))
    config["storage"]["custom"]["module"] = "tamarin_dagster.defs.instance_storage"
    config["run_launcher"]["module"] = "tamarin_dagster.defs.run_launcher"
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(config), "utf-8")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert instance.run_launcher.supports_check_run_worker_health
        assert instance.get_runs() == []
