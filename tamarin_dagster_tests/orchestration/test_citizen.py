"""Our definitions in somebody else's: merged, prefixed, twice, from scripts, and as a component of a `dg` project."""

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
import yaml

from tamarin_dagster.component import LoggedBucketsComponent
from tamarin_dagster.definitions import build_definitions
from tamarin_dagster.orchestration.naming import make_slugs
from tamarin_dagster.orchestration.resources import LogBuckets, RecordDatabase
from tamarin_dagster.settings import LoggedBucket, Settings, SettingsError
from tamarin_dagster_tests.lines import lines

PROJECT = Path(__file__).parents[2]
MEDIA = LoggedBucket(name="media", log_bucket_name="log-bucket")
RECORDS = dg.AssetKey(["media", "log_records"])


def names(definitions: dg.Definitions) -> set[str]:
    repository = definitions.get_repository_def()
    kinds = (repository.sensor_defs, repository.schedule_defs, repository.get_all_jobs())
    assets = {key.to_user_string() for key in repository.asset_graph.get_all_asset_keys()}
    return assets | {each.name for kind in kinds for each in kind}


def test_they_merge_into_definitions_with_an_executor_loggers_and_resources_of_their_own() -> None:
    @dg.asset
    def theirs(database: dg.ResourceParam[str]) -> None: ...

    mine = dg.Definitions(
        assets=[theirs],
        resources={"database": "their database", "s3": "their client", "log_buckets": 1},
        executor=dg.multiprocess_executor,
        loggers={"console": dg.colored_console_logger},
    )

    merged = dg.Definitions.merge(mine, build_definitions(Settings(buckets=(MEDIA,))))

    dg.Definitions.validate_loadable(merged)
    assert merged.executor is dg.multiprocess_executor
    assert merged.resources["database"] == "their database"
    assert {"theirs", "media/log_records", "media__new_log_keys"} <= names(merged)


def test_two_sets_of_buckets_merge_with_a_prefix_each_with_runs_of_their_own() -> None:
    """Also of the same bucket, in two databases: the runs of one are no attempts of the other."""
    ours, other = Settings(buckets=(MEDIA,)), Settings(buckets=(MEDIA,), database_url="postgresql://elsewhere/b")
    merged = dg.Definitions.merge(
        build_definitions(ours), build_definitions(other, prefix="acme/logs"), build_definitions(other, prefix="b")
    )

    dg.Definitions.validate_loadable(merged)
    found = names(merged)
    assert {"media/log_records", "acme/logs/media/log_records", "b/media/log_records"} <= found
    assert {"media__new_log_keys", "acme__logs__media__new_log_keys", "doctor", "acme__logs__doctor"} <= found
    assert len(names(build_definitions(ours)) - {"__ASSET_JOB"}) * 3 + 1 == len(found)


def test_a_prefix_that_dagster_does_not_allow_is_refused() -> None:
    with pytest.raises(ValueError, match="prefix 'a-b': use letters, digits and underscores"):
        make_slugs([MEDIA], "a-b")


def test_to_import_and_to_build_reads_no_settings_warns_of_nothing_and_changes_no_process(tmp_path) -> None:
    (tmp_path / "tamarin.yaml").write_text("buckets: [this is wrong]")
    script = (
        "import sys, warnings; before = list(warnings.filters)\n"
        "from tamarin_dagster.definitions import build_definitions\n"
        "from tamarin_dagster.settings import LoggedBucket, Settings\n"
        "import dagster\n"
        "after = [each for each in warnings.filters if each[2] in (dagster.PreviewWarning, dagster.BetaWarning)]\n"
        "assert after == [], after\n"
        "assert not hasattr(sys, 'tracebacklimit')\n"
        "assert 'tamarin_dagster.code_location' not in sys.modules\n"
        "bucket = LoggedBucket(name='media', log_bucket_name='log-bucket')\n"
        "with warnings.catch_warnings(record=True) as said:\n"
        "    warnings.simplefilter('always', dagster.PreviewWarning)\n"
        "    warnings.simplefilter('always', dagster.BetaWarning)\n"
        "    build_definitions(Settings(buckets=(bucket,)))\n"
        "assert said == [], [str(each.message) for each in said]\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=PROJECT,
        env=os.environ | {"TAMARIN_CONFIG": str(tmp_path / "tamarin.yaml")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def settings(folder_bucket) -> Settings:
    """Without a database: the resource has it."""
    return Settings(buckets=(folder_bucket,))


def unbound(settings: Settings, key: dg.AssetKey) -> dg.AssetsDefinition:
    """An asset without resources yet."""
    (found,) = (
        each
        for each in build_definitions(settings).assets
        if isinstance(each, dg.AssetsDefinition) and key in each.keys
    )
    return found


def test_materialize_takes_our_resources_and_a_partition(settings, database_url, put_key, rows) -> None:
    put_key(lines(3))
    assets = [unbound(settings, RECORDS)]
    resources = {"tamarin_database": RecordDatabase(database_url=database_url), "tamarin_log_buckets": LogBuckets()}

    assert dg.materialize(assets, partition_key="2026-03-05", resources=resources).success

    assert rows("SELECT count(*) FROM s3_log_record") == [(3,)]


def test_an_asset_can_be_called_with_a_context_of_its_own(settings, database_url, put_key, rows) -> None:
    put_key(lines(3))
    resources = {"tamarin_database": RecordDatabase(database_url=database_url), "tamarin_log_buckets": LogBuckets()}
    for name in ("log_records", "purged_log_keys", "traffic_rollups"):
        context = dg.build_asset_context(partition_key="2026-03-05", resources=resources)
        result = unbound(settings, dg.AssetKey(["media", name]))(context)
        assert isinstance(result, dg.MaterializeResult)
    assert rows("SELECT count(*) FROM s3_log_record") == [(3,)]
    assert rows("SELECT count(purged_at), count(run_id) FROM s3_log_key") == [(1, 0)]
    assert rows("SELECT sum(requests) FROM traffic_hourly") == [(3,)]


def test_the_url_of_the_database_may_come_from_the_environment(
    settings, database_url, put_key, rows, monkeypatch
) -> None:
    put_key(lines(2))
    monkeypatch.setenv("THE_RECORDS", database_url)
    database = RecordDatabase(database_url=dg.EnvVar("THE_RECORDS"))
    definitions = build_definitions(settings, resources={"tamarin_database": database})
    shown = definitions.get_repository_def().get_top_level_resources()["tamarin_database"]

    job = definitions.resolve_implicit_global_asset_job_def().get_subset(asset_selection={RECORDS})
    assert job.execute_in_process(partition_key="2026-03-05").success

    assert rows("SELECT count(*) FROM s3_log_record") == [(2,)]
    assert shown.config_schema.as_field().config_type.fields.keys() == {"database_url"}


def test_a_run_without_a_partition_says_what_to_do(settings, database_url) -> None:
    resources = {"tamarin_database": RecordDatabase(database_url=database_url), "tamarin_log_buckets": LogBuckets()}
    for name, said in (
        ("log_records", "no partition was chosen, but a run needs delivery days"),
        ("purged_log_keys", "no partition was chosen, but a run needs delivery days"),
        ("traffic_rollups", "no partition was chosen, but a run needs delivery days"),
        ("traffic_report", "no month was chosen"),
    ):
        assets = [unbound(settings, dg.AssetKey(["media", name]))]
        result = dg.materialize(assets, resources=resources, raise_on_error=False)
        (failed,) = result.get_step_failure_events()
        assert said in failed.step_failure_data.user_failure_data.description
        assert not [event for event in result.all_events if event.is_step_up_for_retry]


def component(**attributes: object) -> LoggedBucketsComponent:
    return LoggedBucketsComponent.resolve_from_yaml(yaml.safe_dump(attributes))


def test_the_component_has_the_settings_as_attributes(tmp_path) -> None:
    made = component(
        prefix="acme",
        database_url="postgresql://u@h/d",
        pull_parse_interval=7,
        reports="reports",
        buckets=[{"name": "media", "log_bucket_name": "log-bucket", "start_date": "2026-01-01", "partition": "daily"}],
    )

    settings = made.settings(tmp_path)

    assert settings.pull_parse_interval == 7
    assert settings.reports == tmp_path / "reports"
    assert settings.buckets[0].start_date.isoformat() == "2026-01-01"
    schema = LoggedBucketsComponent.get_model_cls().model_json_schema()
    assert set(Settings.model_fields) | {"config", "prefix"} == set(schema["properties"])


def test_the_component_takes_a_file_of_settings_and_says_what_is_wrong(tmp_path) -> None:
    (tmp_path / "tamarin.yaml").write_text("buckets: [{name: media, log_bucket_name: log-bucket}]")
    assert [bucket.name for bucket in component(config="tamarin.yaml").settings(tmp_path).buckets] == ["media"]
    wrong = component(buckets=[{"name": "media", "log_bucket_name": "log-bucket", "owners": ["anna"]}])
    with pytest.raises(SettingsError, match=r"defs\.yaml: buckets\[0\] 'media': owners: must be e-mail addresses"):
        wrong.settings(tmp_path)


@pytest.mark.slow
def test_a_fresh_dg_project_lists_scaffolds_checks_and_loads_the_component(tmp_path) -> None:
    pytest.importorskip("dagster_dg_cli", reason="not installed: pip install dagster-dg-cli")
    installed = tmp_path / "installed"
    entry_points = installed / "tamarin_dagster-0.dist-info"
    entry_points.mkdir(parents=True)
    (entry_points / "METADATA").write_text("Metadata-Version: 2.1\nName: tamarin-dagster\nVersion: 0\n")
    (entry_points / "entry_points.txt").write_text(
        "[dagster_dg_cli.registry_modules]\ntamarin_dagster = tamarin_dagster\n"
    )
    project = tmp_path / "theirs"
    (project / "src" / "theirs" / "defs").mkdir(parents=True)
    for folder in ("theirs", "theirs/defs"):
        (project / "src" / folder / "__init__.py").touch()
    (project / "src" / "theirs" / "definitions.py").write_text(
        "from pathlib import Path\n\nimport dagster as dg\n\n\n@dg.definitions\ndef defs():\n"
        "    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)\n"
    )
    (project / "pyproject.toml").write_text(
        '[project]\nname = "theirs"\nversion = "0"\n\n[tool.dg]\ndirectory_type = "project"\n\n'
        '[tool.dg.project]\nroot_module = "theirs"\nregistry_modules = []\n'
    )
    path = os.pathsep.join((str(project / "src"), str(installed), str(PROJECT)))

    def dg_says(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "dagster_dg_cli.cli", *command],
            cwd=project,
            env=os.environ | {"PYTHONPATH": path, "COLUMNS": "300", "DAGSTER_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "tamarin_dagster.LoggedBucketsComponent" in dg_says("list", "components")
    dg_says("scaffold", "defs", "tamarin_dagster.LoggedBucketsComponent", "logs")
    written = project / "src" / "theirs" / "defs" / "logs" / "defs.yaml"
    scaffolded = yaml.safe_load(written.read_text())
    assert scaffolded["type"] == "tamarin_dagster.LoggedBucketsComponent"
    assert [bucket["name"] for bucket in scaffolded["attributes"]["buckets"]] == ["example-bucket"]
    assert "example_bucket/log_records" in dg_says("list", "defs")
    written.write_text(
        "type: tamarin_dagster.LoggedBucketsComponent\n\nattributes:\n  buckets:\n"
        "    - {name: media, log_bucket_name: log-bucket, start_date: 2026-01-01}\n"
    )
    dg_says("check", "yaml")
    dg_says("check", "defs")
    assert "media/log_records" in dg_says("list", "defs")
