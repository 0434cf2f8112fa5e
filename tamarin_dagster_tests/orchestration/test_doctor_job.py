"""The job `doctor`: each finding is logged and shown, and one that fails fails the run."""

import dagster as dg

from tamarin_dagster.orchestration.doctor_job import build_doctor_job
from tamarin_dagster.orchestration.resources import LogBuckets
from tamarin_dagster_tests.lines import lines


def run(settings, instance) -> dg.ExecuteInProcessResult:
    definitions = dg.Definitions(jobs=[build_doctor_job(settings)], resources={"tamarin_log_buckets": LogBuckets()})
    return definitions.resolve_job_def("doctor").execute_in_process(instance=instance, raise_on_error=False)


def logged(instance, result) -> list[tuple[str, str]]:
    entries = [entry for entry in instance.all_logs(result.run_id) if not entry.is_dagster_event]
    return [(dg_level(entry.level), entry.user_message) for entry in entries]


def dg_level(level: int | str) -> str:
    return {20: "info", 30: "warning", 40: "error"}[int(level)]


def test_findings_are_logged_counted_and_shown_in_a_table(settings, instance, put_key, log_folder) -> None:
    put_key(lines(1))
    (log_folder / "logs" / "notes").write_bytes(b"x")

    result = run(settings, instance)

    assert result.success
    assert ("info", "media: get: a log key was read") in logged(instance, result)
    stray = (
        "media: strays: names that are not log keys: 1, for example 'logs/notes'"
        " - they are never read nor deleted; if they should be log keys, check log_prefix"
    )
    assert [message for level, message in logged(instance, result) if level == "warning"] == [stray]
    (output,) = result.filter_events(lambda event: event.is_successful_output)
    metadata = {name: value.value for name, value in output.step_output_data.metadata.items()}
    assert (metadata["ok"], metadata["warn"], metadata["fail"]) == (11, 1, 0)
    records, _ = metadata["findings"]
    assert [record.data["subject"] for record in records if record.data["status"] == "warn"] == ["media: strays"]


def test_what_fails_fails_the_run_at_once_with_its_remedy(settings, instance, log_folder) -> None:
    log_folder.rmdir()

    result = run(settings, instance)

    assert not result.success
    assert not any(event.is_step_up_for_retry for event in result.all_events)
    failure = next(event for event in result.all_events if event.is_step_failure)
    data = failure.step_failure_data.user_failure_data
    assert data.description == (
        f"media: log bucket: the folder {str(log_folder)!r} does not exist - check log_bucket_name, or mount it"
    )
    assert data.metadata["fail"].value == 1
    assert ("error", data.description) in logged(instance, result)
