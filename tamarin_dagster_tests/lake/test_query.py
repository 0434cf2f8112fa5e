"""SQL over the lake: each record once, wherever it is; and it is said where that is."""

import json
import re
from datetime import date

import pytest

from tamarin_dagster.lake.place import LakeError, LakePlace
from tamarin_dagster.lake.query import open_lake
from tamarin_dagster.lake.tables import RECORDS
from tamarin_dagster.pipeline.archive import archive_bucket
from tamarin_dagster.settings import Lake
from tamarin_dagster_tests.lake.conftest import later
from tamarin_dagster_tests.lines import line, lines

DAY = date(2026, 3, 5)
OLD = "05/Jan/2025:09:58:01 +0000"
# Queries of the documentation on s3_log_record, which DuckDB and Postgres answer alike.
PLAIN_QUERIES = re.split(
    ";\n",
    """
SELECT count(*), sum(bytes_sent) FROM s3_log_record
WHERE bucket = 'media' AND request_dtime >= '2026-03-05' AND request_dtime < '2026-03-06';

SELECT key, count(*) FROM s3_log_record WHERE http_status = 404 GROUP BY key ORDER BY count(*) DESC, 1 LIMIT 5;

SELECT user_agent, referrer, operation, http_status, count(*), sum(bytes_sent) AS bytes FROM s3_log_record
WHERE bucket = 'media' AND remote_ip = '192.0.2.3' AND request_dtime >= timestamptz '2026-03-12' - interval '7 days'
GROUP BY 1, 2, 3, 4 ORDER BY bytes DESC NULLS LAST, 1 LIMIT 20;

SELECT count(*) FROM s3_log_record WHERE bucket = 'media' AND starts_with(key, 'access-logs/') IS NOT TRUE;

SELECT key, count(*) AS requests, pg_size_pretty(sum(bytes_sent)) <> '' AS sent
FROM s3_log_record GROUP BY key ORDER BY sum(bytes_sent) DESC NULLS LAST LIMIT 5;

SELECT date_trunc('hour', request_dtime) AS hour, count(*) FILTER (WHERE http_status < 400) FROM s3_log_record
GROUP BY 1 ORDER BY 1;

SELECT host(remote_ip), count(DISTINCT key) FROM s3_log_record GROUP BY 1 ORDER BY 2 DESC, 1
""",
)


def name(number: int = 0, day: date = DAY) -> str:
    return f"logs/{day}-10-00-00-{number:016X}"


def asked(lake, engine, query):
    with open_lake(lake.open(engine), engine) as found:
        (answer,) = found.ask(query)
        return [tuple(row) for row in answer.rows]


def test_plain_queries_have_the_same_answers_in_postgres_and_over_the_lake(load, lake, engine, rows, folder_place):
    load({
        name(): lines(5) + line(key="gone.mp4", status="404", remote_ip="2001:db8::7"),
        name(day=date(2026, 3, 6)): line("06/Mar/2026:00:00:00 +0000", bucket="films", user_agent="a,b"),
    })  # fmt: skip
    archive_bucket(folder_place.bucket, lake, engine, days=[DAY])
    for query in PLAIN_QUERIES:
        assert asked(lake, engine, query) == rows(query), query


def test_each_record_is_there_once_from_the_lake_or_from_postgres(load, lake, engine, folder_place, rows) -> None:
    """A late log key, and a newer generation of one that is in the lake: the day in the lake is not replaced yet."""
    load({name(0): lines(3) + b"no record\n", name(1): lines(2)})
    archive_bucket(folder_place.bucket, lake, engine)
    with open_lake(lake.open(engine), engine) as found:
        assert str(found.of_lake) == "5 records of 2 log keys, delivered 2026-03-05 to 2026-03-05"
        assert str(found.of_postgres) == "0 records of 0 log keys"

    load({name(0): lines(4), name(2): line(key="late.mp4")})
    where = "SELECT stored_in, log_key, count(*)::INT FROM s3_log_record GROUP BY ALL ORDER BY 2"
    assert asked(lake, engine, where) == [("postgres", name(0), 4), ("lake", name(1), 2), ("postgres", name(2), 1)]
    with open_lake(lake.open(engine), engine) as found:
        assert (found.of_lake.records, found.of_postgres.records, found.of_postgres.keys) == (2, 5, 2)

    archive_bucket(folder_place.bucket, lake, engine, now=later())
    assert {row[0] for row in asked(lake, engine, where)} == {"lake"}
    assert asked(lake, engine, "SELECT count(*)::INT FROM s3_log_record") == rows("SELECT count(*) FROM s3_log_record")


def test_months_that_postgres_dropped_stay_answerable(run, configured, put_key, tmp_path, rows) -> None:
    with configured.open("a") as file:
        file.write(f"lake: {{warehouse: '{tmp_path}/lake'}}\nretention_months: 3\n")
    put_key(lines(3, OLD), day="2025-01-05")
    put_key(lines(2), day="2026-03-05")
    count = "SELECT bucket, count(*) AS n FROM s3_log_record GROUP BY bucket"
    assert run("pull", "--from", "2025-01-01").returncode == 0
    assert run("expire", TAMARIN_RETENTION_MONTHS="12").returncode == 0
    assert rows("SELECT count(*) FROM s3_log_record") == [(2,)]

    done = run("sql", "--lake", "--format", "json", count)

    assert (done.returncode, json.loads(done.stdout)) == (0, [{"bucket": "media", "n": 5}])
    assert done.stderr.startswith(
        "s3_log_record: 5 records of 2 log keys, delivered 2025-01-05 to 2026-03-05 from the lake; 0 records of 0 log"
        " keys from Postgres"
    )
    assert run("sql", "--lake", "--format", "csv", f"{count}; SELECT true AS yes, NULL AS no").stdout == (
        "bucket,n\nmedia,5\n\nyes,no\nt,\n"
    )
    assert "media" in run("sql", "--lake", count).stdout
    wrong = run("sql", "--lake", "SELECT nothing FROM s3_log_record")
    assert (wrong.returncode, wrong.stderr.count("Traceback")) == (1, 0)
    assert run("sql", "--lake").returncode == 2


def test_a_lake_in_s3_is_asked_without_handing_credentials_to_the_engine(
    load, engine, folder_place, s3_bucket, s3_endpoint
) -> None:
    properties = {
        "s3.endpoint": s3_endpoint,
        "s3.access-key-id": "test",
        "s3.secret-access-key": "test-secret",
        "s3.region": "us-east-1",
    }
    lake = LakePlace(Lake(warehouse=f"s3://{s3_bucket}/some/where", properties=properties))
    load({name(number): lines(3) for number in range(3)})
    archive_bucket(folder_place.bucket, lake, engine)
    with open_lake(lake.open(engine), engine) as found:
        ((rows,),) = next(found.ask("SELECT count(*) FROM s3_log_record WHERE key = 'video/intro.mp4'")).rows
        assert rows == 9
        with pytest.raises(LakeError) as caught:
            list(found.ask("SELECT * FROM nowhere"))
        settings = next(found.ask("SELECT value FROM duckdb_settings()")).rows
        assert "test-secret" not in repr(list(settings))
    assert "test-secret" not in str(caught.value)


def test_an_empty_lake_answers_from_postgres(load, lake, engine) -> None:
    assert asked(lake, engine, "SELECT count(*)::INT FROM s3_log_record") == [(0,)]
    load({name(): lines(3)})
    assert asked(lake, engine, "SELECT stored_in, count(*)::INT FROM s3_log_record GROUP BY 1") == [("postgres", 3)]
    assert lake.open(engine).table(RECORDS).scan().count() == 0
