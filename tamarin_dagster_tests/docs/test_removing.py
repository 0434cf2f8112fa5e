"""The statements by which a reader removes a bucket's records."""

from tamarin_dagster.analytics.rollups import roll_up
from tamarin_dagster.logstore.opening import open_log_store
from tamarin_dagster.pipeline.pull import pull_bucket
from tamarin_dagster_tests.docs.blocks import blocks_of
from tamarin_dagster_tests.lines import lines

PAGE = "docs/how-to/buckets.md"
COUNTS = "SELECT (SELECT count(*) FROM s3_log_record), (SELECT sum(requests) FROM traffic_hourly)"


def test_records_that_are_removed_leave_the_rollups_and_count_once_when_they_are_loaded_again(
    engine, folder_bucket, put_key, rows
) -> None:
    def load() -> None:
        pull_bucket(folder_bucket, open_log_store(folder_bucket), engine)
        roll_up(engine)

    put_key(lines(4))
    put_key(lines(3, "06/Mar/2026:09:58:01 +0000"), day="2026-03-06")
    load()
    assert rows(COUNTS) == [(7, 7)]
    (removal,) = [block.text for block in blocks_of(PAGE) if "DELETE FROM s3_log_key" in block.text]
    for statement in removal.replace("films.example.org", folder_bucket.name).split(";"):
        if statement.strip() not in ("", "BEGIN", "COMMIT"):
            rows(statement)

    assert len(roll_up(engine).days) == 2
    assert rows(COUNTS) == [(0, None)]
    load()
    assert rows(COUNTS) == [(7, 7)]
