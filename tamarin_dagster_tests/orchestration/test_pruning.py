"""The pruning of Dagster's storage keeps everything that the UI shows of assets, checks and backfills."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
import yaml
from dagster._core.execution.asset_backfill import AssetBackfillData
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.scheduler.instigation import InstigatorType, TickData, TickStatus
from dagster._core.storage.compute_log_manager import ComputeIOType
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value

from tamarin_dagster.definitions import build_definitions
from tamarin_dagster.operations import dev
from tamarin_dagster.orchestration.pruning import UnsupportedStorageError, is_run_of, prune
from tamarin_dagster.orchestration.tick_logs import prune_tick_logs
from tamarin_dagster_tests.lines import lines
from tamarin_dagster_tests.runs import job_of

LOCATION = "__repository__@tamarin_dagster"
TAGS = {".dagster/repository": LOCATION, "tamarin/bucket": "media", "tamarin/kind": "load"}
RECORDS, PURGED, ROLLUPS = (
    dg.AssetKey(["media", name]) for name in ("log_records", "purged_log_keys", "traffic_rollups")
)


@pytest.fixture
def books(tmp_path, empty_url, monkeypatch):
    """An instance with the storage of `make dev`, in a database of its own."""
    monkeypatch.setenv("TAMARIN_DAGSTER_DATABASE_URL", empty_url)
    home = tmp_path / "dagster-home"
    home.mkdir()
    config = yaml.safe_load(dev._DAGSTER_YAML.read_text("utf-8"))
    (home / "dagster.yaml").write_text(yaml.safe_dump(config), "utf-8")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


def later(days: float = 1) -> datetime:
    return datetime.now(UTC) + timedelta(days=days)


def prune_ours(instance: dg.DagsterInstance, before: datetime | None = None, repository: str = LOCATION):
    return prune(instance, before=before or later(), repository=repository, is_ours=lambda _: True)


def load(definitions: dg.Definitions, instance: dg.DagsterInstance, day: str, **tags: str) -> dg.ExecuteInProcessResult:
    return job_of(definitions, "load").execute_in_process(
        instance=instance, partition_key=day, tags=TAGS | tags, raise_on_error=False
    )


def kinds(instance: dg.DagsterInstance, run_id: str) -> Counter[str | None]:
    with instance.event_log_storage.index_connection() as connection:
        found = connection.execute(
            sa.text("SELECT dagster_event_type, count(*) FROM event_logs WHERE run_id = :run GROUP BY 1"),
            {"run": run_id},
        )
        return Counter({row[0]: row[1] for row in found})


def shown(definitions: dg.Definitions, instance: dg.DagsterInstance) -> dict[str, Any]:
    """Return everything that the UI shows of the assets and checks."""
    graph = definitions.resolve_asset_graph()
    found: dict[str, Any] = {}
    for key in (RECORDS, PURGED, ROLLUPS):
        event = instance.get_latest_materialization_event(key)
        cache = get_and_update_asset_status_cache_value(instance, key, graph.get(key).partitions_def)
        found[key.to_user_string()] = (
            event and (event.run_id, event.timestamp, event.asset_materialization.metadata),
            sorted(instance.get_materialized_partitions(key)),
            cache and (cache.serialized_materialized_partition_subset, cache.serialized_failed_partition_subset),
            instance.get_asset_records([key])[0].asset_entry.last_run_id,
            [record.storage_id for record in instance.fetch_materializations(key, limit=100).records],
        )
    keys = list(graph.asset_check_keys)
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
    found["checks"] = {
        key.to_user_string(): (each.status.value, each.run_id, each.event and each.event.timestamp)
        for key, each in latest.items()
    }
    return found


def test_what_the_ui_shows_of_assets_and_checks_is_the_same_after_pruning(definitions, books, put_key) -> None:
    for day in ("2026-03-04", "2026-03-05", "2026-03-05"):
        put_key(lines(5), day=day)
        assert load(definitions, books, day).success
    before = shown(definitions, books)
    events = sum((kinds(books, run.run_id) for run in books.get_runs()), Counter())

    done = prune_ours(books)

    assert shown(definitions, books) == before
    left = sum((kinds(books, run.run_id) for run in books.get_runs()), Counter())
    assert set(left) == {"ASSET_MATERIALIZATION", "ASSET_CHECK_EVALUATION"}
    assert left == Counter({kind: number for kind, number in events.items() if kind in left})
    assert (done.runs_looked_at, done.runs) == (3, 0)
    assert done.events == events.total() - left.total()
    assert done.events > 2 * left.total()
    assert prune_ours(books).runs_looked_at == 0
    # and the next load goes on as if nothing had been
    put_key(lines(5), day="2026-03-06")
    assert load(definitions, books, "2026-03-06").success
    assert "2026-03-06" in books.get_materialized_partitions(RECORDS)


@pytest.fixture
def books_with_logs(books, tmp_path):
    """The same with Dagster's compute logs, in files."""
    home = tmp_path / "dagster-home"
    config = yaml.safe_load((home / "dagster.yaml").read_text("utf-8"))
    config["compute_logs"] = {
        "module": "dagster._core.storage.local_compute_log_manager",
        "class": "LocalComputeLogManager",
        "config": {"base_dir": str(tmp_path / "compute logs")},
    }
    (home / "dagster.yaml").write_text(yaml.safe_dump(config), "utf-8")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


def runs_with_logs(folder: Path) -> set[str]:
    return {path.relative_to(folder).parts[0] for path in folder.rglob("*") if path.is_file()}


def test_compute_logs_of_pruned_runs_are_deleted_and_those_of_other_runs_stay(
    definitions, books_with_logs, put_key, tmp_path
) -> None:
    folder = tmp_path / "compute logs"
    put_key(lines(1), day="2026-03-04")
    ours = load(definitions, books_with_logs, "2026-03-04")
    theirs = load(definitions, books_with_logs, "2026-03-05", **{".dagster/repository": "__repository__@theirs"})
    assert ours.success
    assert runs_with_logs(folder) == {ours.run_id, theirs.run_id}

    assert prune_ours(books_with_logs).runs_looked_at == 1

    assert runs_with_logs(folder) == {theirs.run_id}


def log_of_a_tick(instance: dg.DagsterInstance, sensor: str, when: datetime) -> int:
    """A tick at this time, and a line that it logged, as Dagster's daemon writes them."""
    data = TickData(
        instigator_origin_id=sensor,
        instigator_name=sensor,
        instigator_type=InstigatorType.SENSOR,
        status=TickStatus.SKIPPED,
        timestamp=when.timestamp(),
        selector_id=sensor,
    )
    number = int(instance.create_tick(data).tick_id)
    with instance.compute_log_manager.open_log_stream(
        ["__repository__", sensor, str(number)], ComputeIOType.STDERR
    ) as stream:
        assert stream is not None
        stream.write("looked\n")
    return number


def test_logs_of_old_ticks_are_deleted_which_dagster_never_does(books_with_logs, tmp_path) -> None:
    now = datetime.now(UTC)
    old = log_of_a_tick(books_with_logs, "media__new_log_keys", now - timedelta(days=9))
    theirs = log_of_a_tick(books_with_logs, "their_sensor", now - timedelta(days=9))
    new = log_of_a_tick(books_with_logs, "media__new_log_keys", now - timedelta(days=1))
    folder = tmp_path / "compute logs" / "__repository__"

    deleted = prune_tick_logs(
        books_with_logs,
        before=now - timedelta(days=7),
        repository=LOCATION,
        names=["media__new_log_keys", "a_sensor_that_never_ticked"],
    )

    assert deleted == 1
    left = {(path.parent.name, path.stem) for path in folder.rglob("*.err")}
    assert left == {("media__new_log_keys", str(new)), ("their_sensor", str(theirs))}
    assert old < theirs < new


def test_without_compute_logs_there_is_nothing_to_delete_of_ticks(books) -> None:
    assert prune_tick_logs(books, before=later(), repository=LOCATION, names=["media__new_log_keys"]) == 0


def test_a_failed_partition_stays_failed_and_the_run_still_says_why(definitions, books, put_key, engine) -> None:
    put_key(lines(1), day="2026-03-04")
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE s3_log_record RENAME TO gone"))
    failed = load(definitions, books, "2026-03-04")
    assert not failed.success
    before = shown(definitions, books)
    assert before["media/log_records"][2] is None or before["media/log_records"][2][1]

    done = prune_ours(books)

    assert (done.runs_looked_at, done.runs) == (1, 0)
    assert shown(definitions, books) == before
    left = kinds(books, failed.run_id)
    assert {"PIPELINE_FAILURE", "STEP_FAILURE", "ASSET_MATERIALIZATION_PLANNED"} <= set(left)
    assert "ENGINE_EVENT" not in left


def test_only_runs_that_ended_long_ago_in_our_own_code_location_are_touched(definitions, books, put_key) -> None:
    put_key(lines(1), day="2026-03-04")
    run = load(definitions, books, "2026-03-04")
    foreign = load(definitions, books, "2026-03-05", **{".dagster/repository": "__repository__@theirs"})
    unfinished = books.create_run_for_job(job_of(definitions, "load"), tags=TAGS)
    books.report_engine_event("waits", unfinished)
    before = {each.run_id: kinds(books, each.run_id) for each in books.get_runs()}

    assert prune_ours(books, before=later(-1)).runs_looked_at == 0
    assert prune_ours(books, repository="__repository__@another").runs_looked_at == 0
    assert {each.run_id: kinds(books, each.run_id) for each in books.get_runs()} == before

    assert prune_ours(books).runs_looked_at == 1
    assert kinds(books, foreign.run_id) == before[foreign.run_id]
    assert kinds(books, unfinished.run_id) == before[unfinished.run_id]
    assert kinds(books, run.run_id) != before[run.run_id]


def test_runs_of_a_backfill_stay_and_wait_for_its_end(definitions, books, put_key) -> None:
    put_key(lines(1), day="2026-03-04")
    graph = definitions.resolve_asset_graph()
    backfill = PartitionBackfill.from_asset_partitions(
        backfill_id="back",
        asset_graph=graph,
        partition_names=["2026-03-04"],
        asset_selection=[RECORDS],
        backfill_timestamp=datetime.now(UTC).timestamp(),
        tags={},
        dynamic_partitions_store=books,
        all_partitions=False,
        title=None,
        description=None,
        run_config=None,
    )
    books.add_backfill(backfill)
    run = load(definitions, books, "2026-03-04", **{"dagster/backfill": "back"})
    assert prune_ours(books).runs_looked_at == 0
    assert kinds(books, run.run_id)["ENGINE_EVENT"]

    ended = books.get_backfill("back").with_status(BulkActionStatus.COMPLETED_SUCCESS)
    books.update_backfill(ended)
    assert prune_ours(books).runs_looked_at == 1
    assert books.get_backfill("back") == ended
    assert isinstance(books.get_backfill("back").asset_backfill_data, AssetBackfillData)
    assert [each.run_id for each in books.get_runs(dg.RunsFilter(tags={"dagster/backfill": "back"}))] == [run.run_id]


def test_a_run_that_nothing_refers_to_goes_and_its_retry_keeps_the_first_attempt(definitions, books) -> None:
    job = definitions.resolve_job_def("roll_up_traffic")
    tags = {".dagster/repository": LOCATION}
    plain, first = (job.execute_in_process(instance=books, tags=tags) for _ in range(2))
    parent = {"dagster/parent_run_id": first.run_id, "dagster/root_run_id": first.run_id}
    retried = job.execute_in_process(instance=books, tags=tags | parent)

    done = prune_ours(books)

    assert (done.runs_looked_at, done.runs) == (3, 2)
    assert not books.has_run(plain.run_id)
    assert not books.has_run(retried.run_id)
    assert books.has_run(first.run_id)
    assert kinds(books, plain.run_id) == Counter()


def test_many_runs_are_pruned_in_batches(definitions, books, monkeypatch) -> None:
    monkeypatch.setattr("tamarin_dagster.orchestration.pruning.RUNS_PER_BATCH", 2)
    job = definitions.resolve_job_def("roll_up_traffic")
    for _ in range(5):
        job.execute_in_process(instance=books, tags={".dagster/repository": LOCATION})
    done = prune_ours(books)
    assert (done.runs_looked_at, done.runs) == (5, 5)
    assert books.get_runs() == []


def test_the_job_prunes_the_code_location_that_it_runs_in(settings, definitions, books) -> None:
    tags = {".dagster/repository": LOCATION}
    old = definitions.resolve_job_def("roll_up_traffic").execute_in_process(instance=books, tags=tags)
    job = definitions.resolve_job_def("prune_dagster_storage")
    untagged = job.execute_in_process(instance=books)
    assert untagged.success
    assert untagged.get_asset_materialization_events() == []
    assert job.execute_in_process(instance=books, tags=tags).success
    assert books.has_run(old.run_id)  # it ended just now

    with books.run_storage.connect() as connection:
        ago = {"ago": (later(-8)).timestamp(), "at": later(-8).replace(tzinfo=None), "run": old.run_id}
        connection.execute(sa.text("UPDATE runs SET end_time = :ago, update_timestamp = :at WHERE run_id = :run"), ago)
    assert job.execute_in_process(instance=books, tags=tags).success
    assert not books.has_run(old.run_id)

    schedule = definitions.resolve_schedule_def("prune_dagster_storage_nightly")
    assert (schedule.job_name, schedule.default_status.value) == ("prune_dagster_storage", "RUNNING")


def test_another_storage_is_left_alone_and_the_run_says_so(definitions, stored_instance) -> None:
    with pytest.raises(UnsupportedStorageError, match="SqliteEventLogStorage; only the storage of dagster-postgres"):
        prune_ours(stored_instance)
    job = definitions.resolve_job_def("prune_dagster_storage")
    result = job.execute_in_process(instance=stored_instance, tags={".dagster/repository": LOCATION})
    assert result.success
    said = [entry.user_message for entry in stored_instance.all_logs(result.run_id)]
    assert any("nothing is pruned: Dagster's storage is SqliteEventLogStorage" in text for text in said)


def test_other_peoples_jobs_and_assets_in_a_merged_location_are_not_ours(settings) -> None:
    keys = {RECORDS, PURGED}
    theirs = dg.AssetKey("theirs")

    def run(job: str, *assets: dg.AssetKey) -> dg.DagsterRun:
        return dg.DagsterRun(job_name=job, asset_selection=frozenset(assets) or None)

    assert is_run_of(run("doctor"), keys, {"doctor"})
    assert is_run_of(run("__ASSET_JOB", RECORDS), keys, {"doctor"})
    assert not is_run_of(run("their_job", RECORDS), keys, {"doctor"})
    assert not is_run_of(run("__ASSET_JOB", RECORDS, theirs), keys, {"doctor"})
    assert not is_run_of(run("__ASSET_JOB"), keys, {"doctor"})


def test_with_a_prefix_only_its_own_jobs_and_assets_are_pruned(settings) -> None:
    merged = dg.Definitions.merge(build_definitions(settings, prefix="a"), build_definitions(settings, prefix="b"))
    names = {job.name for job in merged.resolve_all_job_defs()}
    assert {"a__prune_dagster_storage", "b__prune_dagster_storage"} <= names
