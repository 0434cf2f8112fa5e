"""The job that reads rejected lines again, of all buckets or as its config says."""

import dagster as dg
import pytest

from tamarin_dagster.definitions import build_definitions
from tamarin_dagster.settings import LoggedBucket
from tamarin_dagster_tests.lines import line, lines
from tamarin_dagster_tests.older_parser import reject
from tamarin_dagster_tests.recordstore.log_keys import DAY, load_keys, log_key

JUNK = b"no record\n"
BAD_ID = "BADBADBADBADBAD0"
FILMS = LoggedBucket(name="films", log_bucket_name="film-logs")


@pytest.fixture
def definitions(settings) -> dg.Definitions:
    """Of two buckets."""
    return build_definitions(settings.model_copy(update={"buckets": (*settings.buckets, FILMS)}))


@pytest.fixture
def older(engine, rows) -> None:
    """A key of each bucket and each of three days, with a line that is a record now and one that is none."""
    for bucket in ("media", "films"):
        for day in range(3):
            key = log_key(f"{bucket}/{day}", day=DAY.replace(day=5 + day))
            load_keys(engine, [key], [lines(3) + JUNK], bucket=bucket, log_bucket_name=f"{bucket}-logs")
            reject(rows, f"{bucket}/{day}", lines(3), [2])


def run(definitions, instance, **config: str) -> dg.ExecuteInProcessResult:
    return definitions.resolve_job_def("reparse_rejected_lines").execute_in_process(
        instance=instance,
        run_config={"ops": {"reparse_lines": {"config": config}}} if config else None,
        raise_on_error=False,
    )


def metadata(result: dg.ExecuteInProcessResult) -> dict[str, object]:
    (output,) = result.filter_events(lambda event: event.is_successful_output)
    return {name: value.value for name, value in output.step_output_data.metadata.items()}


def moved(rows) -> list[str]:
    return [row[0] for row in rows("SELECT key FROM s3_log_key WHERE rejected_count = 1 ORDER BY key")]


def test_all_buckets_and_days_are_reparsed(definitions, instance, older, rows) -> None:
    result = run(definitions, instance)

    assert result.success
    assert metadata(result) == {
        "keys with rejected lines": 6,
        "changed keys": 6,
        "lines": 12,
        "lines that are records now": 6,
        "lines still rejected": 6,
        "lines with another reason": 0,
        "oversized lines left alone": 0,
        "failed keys": 0,
    }
    assert rows("SELECT DISTINCT line_count, record_count, rejected_count FROM s3_log_key") == [(4, 3, 1)]
    assert rows("SELECT count(*) FROM s3_log_record") == [(18,)]
    logged = [entry.user_message for entry in instance.all_logs(result.run_id)]
    for bucket in ("media", "films"):
        said = f"{bucket}: 3 of 3 keys with rejected lines changed; 6 lines = 3 records now + 3 rejected still"
        assert any(message.startswith(said) for message in logged)
    assert metadata(run(definitions, instance))["changed keys"] == 0


def test_the_config_narrows_buckets_and_days(definitions, instance, older, rows) -> None:
    assert run(definitions, instance, bucket="films", **{"from": "2026-03-06", "to": "2026-03-06"}).success
    assert moved(rows) == ["films/1"]

    assert run(definitions, instance, **{"from": "2026-03-07"}).success
    assert moved(rows) == ["films/1", "films/2", "media/2"]

    assert run(definitions, instance, bucket="media", to="2026-03-05").success
    assert moved(rows) == ["films/1", "films/2", "media/0", "media/2"]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"bucket": "flims"}, "bucket 'flims' is not configured; configured are: media, films"),
        ({"from": "6 March"}, "from and to must be days like 2026-01-31"),
    ],
)
def test_a_wrong_config_fails_at_once_and_says_what_is_allowed(
    definitions, instance, older, rows, config, said
) -> None:
    result = run(definitions, instance, **config)

    assert not result.success
    assert not any(event.is_step_up_for_retry for event in result.all_events)
    failure = next(event for event in result.all_events if event.is_step_failure)
    assert said in failure.step_failure_data.user_failure_data.description
    assert moved(rows) == []


def test_a_key_that_cannot_be_reparsed_is_named_and_stops_no_other(definitions, instance, older, engine, rows) -> None:
    load_keys(engine, [log_key("media/bad")], [line(request_id=BAD_ID)])
    reject(rows, "media/bad", line(request_id=BAD_ID), [1])
    rows(f"ALTER TABLE s3_log_record ADD CONSTRAINT refuse CHECK (request_id <> '{BAD_ID}')")

    result = run(definitions, instance)

    assert result.success
    found = metadata(result)
    assert (found["failed keys"], found["changed keys"]) == (1, 6)
    records, _ = found["why they failed"]
    assert [record.data["key"] for record in records] == ["media/bad"]
    warnings = [entry.user_message for entry in instance.all_logs(result.run_id) if entry.level == 30]
    assert [message.split(":")[0] for message in warnings] == ["media/bad stays as it is"]
