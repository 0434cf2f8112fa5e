"""The report's asset, and when it is made."""

import sys
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from tamarin_dagster.analytics import report
from tamarin_dagster.analytics.rollups import roll_up
from tamarin_dagster.definitions import build_definitions
from tamarin_dagster.orchestration.naming import report_key, rollups_key
from tamarin_dagster.pipeline.pull import pull_bucket
from tamarin_dagster_tests.lines import line
from tamarin_dagster_tests.runs import job_of


@pytest.fixture
def definitions(settings, tmp_path) -> dg.Definitions:
    return build_definitions(settings.model_copy(update={"reports": tmp_path / "reports", "anonymize_ips": True}))


def test_a_month_is_written_with_its_summary(definitions, instance, engine, folder_place, put_key, tmp_path) -> None:
    put_key(line(user_agent="![x](https://evil.example/x.png)", key="<script>`") * 3, day="2026-03-05")
    pull_bucket(folder_place.bucket, folder_place.store, engine)
    roll_up(engine)

    job = job_of(definitions, "report")
    result = job.execute_in_process(instance=instance, partition_key="2026-03")

    [materialized] = result.asset_materializations_for_node("traffic_reports_1")
    metadata = {name: value.value for name, value in materialized.metadata.items()}
    path = Path(metadata["report"])
    assert path == tmp_path / "reports/media-2026-03.html"
    assert (metadata["requests"], metadata["bytes sent"], metadata["IP addresses"]) == (3, 339, 1)
    assert metadata["bytes of the file"] == path.stat().st_size
    assert metadata["summary"].startswith("**March 2026**: 3 requests, 339 bytes sent, 0.0 % errors.\n")
    assert "1. `` <script>` `` 339 bytes" in metadata["summary"]
    text = path.read_text("utf-8")
    assert "&lt;script&gt;`" in text
    assert "192.0.2.3" not in text + metadata["summary"]


def test_it_stands_behind_the_rollups_and_outside_the_load(definitions) -> None:
    graph = definitions.resolve_asset_graph()
    assert graph.get(report_key("media")).parent_keys == {rollups_key("media")}
    groups = {graph.get(key).group_name for key in graph.get_all_asset_keys() - {report_key("media")}}
    assert graph.get(report_key("media")).group_name not in groups, "Materialize all is for days"
    load = job_of(definitions, "load")
    assert report_key("media") not in load.asset_layer.executable_asset_keys


@pytest.mark.parametrize(
    ("day", "months"),
    [
        ((2026, 3, 3), ["2026-02", "2026-03"]),
        ((2026, 3, 4), ["2026-03"]),
        ((2026, 3, 31), ["2026-03"]),
        ((2027, 1, 1), ["2026-12", "2027-01"]),
        # the bucket's first month has none before it
        ((2026, 1, 1), ["2026-01"]),
    ],
)
def test_the_present_month_is_made_daily_and_the_one_before_while_it_is_late(
    definitions, stored_instance, day, months
) -> None:
    schedule = definitions.resolve_schedule_def("traffic_reports_daily")
    context = dg.build_schedule_context(
        instance=stored_instance,
        repository_def=definitions.get_repository_def(),
        scheduled_execution_time=datetime(*day, 5, 40, tzinfo=UTC),
    )
    assert [request.partition_key for request in schedule.evaluate_tick(context).run_requests] == months


def test_it_is_made_if_the_bucket_is_monitored(settings) -> None:
    for monitored, status in (
        (True, dg.DefaultScheduleStatus.RUNNING),
        (False, dg.DefaultScheduleStatus.STOPPED),
    ):
        bucket = settings.buckets[0].model_copy(update={"monitor_bucket": monitored})
        definitions = build_definitions(settings.model_copy(update={"buckets": (bucket,)}))
        assert definitions.resolve_schedule_def("traffic_reports_daily").default_status == status


def test_without_its_extra_the_report_fails_in_a_line_and_its_schedule_skips(
    definitions, stored_instance, monkeypatch
) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    for name in ("page", "charts"):
        monkeypatch.delitem(sys.modules, f"tamarin_dagster.analytics.report.{name}", raising=False)
        monkeypatch.delattr(report, name, raising=False)
    schedule = definitions.resolve_schedule_def("traffic_reports_daily")
    context = dg.build_schedule_context(
        instance=stored_instance,
        repository_def=definitions.get_repository_def(),
        scheduled_execution_time=datetime(2026, 3, 4, 5, 40, tzinfo=UTC),
    )
    skipped = schedule.evaluate_tick(context)
    assert skipped.run_requests == []
    assert skipped.skip_message.endswith("pip install 'tamarin-dagster[report]'")

    job = job_of(definitions, "report")
    result = job.execute_in_process(instance=stored_instance, partition_key="2026-03", raise_on_error=False)
    [failed] = result.get_step_failure_events()
    assert failed.step_failure_data.user_failure_data.description.endswith("pip install 'tamarin-dagster[report]'")
    assert result.get_step_success_events() == []
    assert [event for event in result.all_events if event.is_step_up_for_retry] == []
