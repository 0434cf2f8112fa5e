"""The job `classify_user_agents`, and the hourly schedule that asks for it when anything is pending."""

import dagster as dg
import pytest

from tamarin_dagster.definitions import build_definitions
from tamarin_dagster.orchestration.resources import RecordDatabase
from tamarin_dagster_tests.analytics.mmdb import write_mmdb
from tamarin_dagster_tests.analytics.rollups import put_rollup, select_rows


@pytest.fixture
def located(settings, tmp_path):
    path = write_mmdb(tmp_path / "country.mmdb", {"192.0.2.0/24": {"country": {"iso_code": "CZ"}}})
    return settings.model_copy(update={"geoip_database": (path,)})


def tick(settings, instance) -> dg.SensorResult:
    schedule = build_definitions(settings).resolve_schedule_def("classify_user_agents_hourly")
    return schedule.evaluate_tick(
        dg.build_schedule_context(instance=instance, resources={"tamarin_database": RecordDatabase()})
    )


def run(settings, instance) -> dg.ExecuteInProcessResult:
    job = build_definitions(settings).resolve_job_def("classify_user_agents")
    return job.execute_in_process(instance=instance, raise_on_error=False)


def test_it_does_what_is_pending_and_is_asked_for_only_then(engine, settings, located, instance) -> None:
    put_rollup(engine, "user_agent", {"curl/8.5.0": {}, "Wget/1.21": {}})
    put_rollup(engine, "remote_ip", {"192.0.2.1": {}})
    assert len(tick(settings, instance).run_requests) == 1

    result = run(settings, instance)

    (output,) = result.filter_events(lambda event: event.is_successful_output)
    metadata = {name: value.value for name, value in output.step_output_data.metadata.items()}
    assert (metadata["user agents"], metadata["priced months"], metadata["addresses"]) == (2, 1, 0)
    skipped = tick(settings, instance)
    assert not skipped.run_requests
    assert skipped.skip_message == "all user agents and addresses are known, and all days are priced"
    assert len(tick(located, instance).run_requests) == 1
    assert run(located, instance).success
    assert select_rows(engine, "SELECT host(remote_ip), country FROM remote_ip_network") == [("192.0.2.1", "CZ")]
    assert not tick(located, instance).run_requests


def test_a_missing_file_fails_the_run_at_once(engine, settings, tmp_path, instance) -> None:
    put_rollup(engine, "user_agent", {"curl/8.5.0": {}})
    wrong = settings.model_copy(update={"geoip_database": (tmp_path / "gone.mmdb",)})

    result = run(wrong, instance)

    assert not result.success
    assert not any(event.is_step_up_for_retry for event in result.all_events)
    failure = next(event for event in result.all_events if event.is_step_failure)
    assert failure.step_failure_data.user_failure_data.description.startswith(
        f"geoip_database: {tmp_path}/gone.mmdb: No such file or directory; geoip_database must name"
    )
    assert select_rows(engine, "SELECT user_agent FROM user_agent_kind") == [("curl/8.5.0",)]
