"""The doctor on databases that are not UTF8, and on log buckets that log into each other."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from uuid import uuid4

import pytest
import sqlalchemy as sa

from tamarin_dagster.logstore.s3 import S3LogStore
from tamarin_dagster.operations.doctor import Finding, Status
from tamarin_dagster.operations.doctor.examination import examine
from tamarin_dagster.operations.doctor.log_loops import configured_loops
from tamarin_dagster.recordstore.database import DatabaseError, migrate, open_database
from tamarin_dagster.settings import LoggedBucket, Settings
from tamarin_dagster_tests.operations.delivery import log_to


@pytest.fixture
def database_in(server_url: sa.URL) -> Iterator[Callable[[str], str]]:
    """Return database_in("LATIN1"), which makes an empty database with that encoding and returns its URL."""
    engine = sa.create_engine(server_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection, ExitStack() as stack:

        def make(encoding: str) -> str:
            name = f"tamarin_test_{uuid4().hex[:8]}"
            options = f"ENCODING '{encoding}' TEMPLATE template0 LOCALE 'C' LOCALE_PROVIDER libc"
            connection.exec_driver_sql(f"CREATE DATABASE {name} {options}")
            stack.callback(connection.exec_driver_sql, f"DROP DATABASE {name} WITH (FORCE)")
            return server_url.set(database=name, drivername="postgresql").render_as_string(hide_password=False)

        yield make
    engine.dispose()


def examined(settings: Settings, s3=None) -> list[Finding]:
    def open_store(bucket: LoggedBucket) -> S3LogStore:
        return S3LogStore(s3, bucket.log_bucket_name)

    return list(examine(settings, open_store=open_store, client_of=lambda _: s3, clock=time.time))


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_that_is_not_utf8_is_a_finding_and_is_refused_while_it_is_empty(
    database_in, tmp_path, encoding
) -> None:
    """SQL_ASCII ended in a traceback, and LATIN1 was not reported."""
    url = database_in(encoding)
    found = {each.subject: each for each in examined(Settings(home=tmp_path, database_url=url))}
    assert found["database encoding"].status is Status.fail
    assert f"its encoding is {encoding}" in found["database encoding"].text
    assert "ENCODING 'UTF8' TEMPLATE template0" in found["database encoding"].remedy
    assert found["database"].status is Status.ok
    with pytest.raises(DatabaseError, match=f"encoding is {encoding}.* ENCODING 'UTF8' TEMPLATE template0"):
        open_database(Settings(home=tmp_path, database_url=url))


def test_a_latin1_database_that_is_in_use_is_not_locked(database_in, tmp_path) -> None:
    url = database_in("LATIN1")
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    migrate(engine)
    engine.dispose()
    open_database(Settings(home=tmp_path, database_url=url)).dispose()


def test_dagsters_database_is_looked_at_too(database_in, database_url, tmp_path) -> None:
    settings = Settings(home=tmp_path, database_url=database_url, dagster_database_url=database_in("SQL_ASCII"))
    found = {each.subject: each for each in examined(settings)}
    assert "database encoding" not in found
    assert "its encoding is SQL_ASCII" in found["dagster database encoding"].text


def bucket_of(name: str, log_bucket: str, s3_endpoint: str) -> LoggedBucket:
    return LoggedBucket(
        name=name, log_bucket_name=log_bucket, log_prefix="logs/", start_date="2026-01-01", endpoint_url=s3_endpoint
    )


@pytest.fixture
def three(s3_endpoint, s3) -> list[str]:
    """Make three buckets in the endpoint, and return their names."""
    names = [f"loop-{number}-{uuid4().hex[:8]}" for number in range(3)]
    for name in names:
        s3.create_bucket(Bucket=name)
    return names


def test_two_log_buckets_that_log_into_each_other_are_a_finding(s3, s3_endpoint, three, tmp_path, database_url) -> None:
    media, first, second = three
    log_to(s3, media, first, "logs/")
    log_to(s3, first, second, "x/")
    log_to(s3, second, first, "y/")
    settings = Settings(home=tmp_path, database_url=database_url, buckets=[bucket_of(media, first, s3_endpoint)])
    (found,) = [each for each in examined(settings, s3) if "log loop" in each.subject]
    assert (found.subject, found.status) == (f"{media}: log loop", Status.fail)
    assert f"{first} logs into {second} logs into {first}: each delivery is logged again" in found.text
    assert f"put-bucket-logging --bucket {second} " in found.remedy


def test_a_log_bucket_that_logs_into_the_bucket_whose_log_it_has_is_a_finding(
    s3, s3_endpoint, three, tmp_path, database_url
) -> None:
    media, log_bucket, _ = three
    log_to(s3, media, log_bucket, "logs/")
    log_to(s3, log_bucket, media, "access/")
    settings = Settings(home=tmp_path, database_url=database_url, buckets=[bucket_of(media, log_bucket, s3_endpoint)])
    (found,) = [each for each in examined(settings, s3) if "log loop" in each.subject]
    assert found.status is Status.fail
    assert f"{log_bucket} logs into {media} logs into {log_bucket}" in found.text


def test_a_chain_of_log_buckets_that_ends_is_no_finding(s3, s3_endpoint, three, tmp_path, database_url) -> None:
    media, first, second = three
    log_to(s3, media, first, "logs/")
    log_to(s3, first, second, "logs/")
    settings = Settings(home=tmp_path, database_url=database_url, buckets=[bucket_of(media, first, s3_endpoint)])
    assert [each for each in examined(settings, s3) if "log loop" in each.subject] == []


def test_the_settings_alone_show_a_loop(s3_endpoint, tmp_path, database_url) -> None:
    pairs = [("a-bucket", "b-bucket"), ("b-bucket", "c-bucket"), ("c-bucket", "b-bucket")]
    found = list(configured_loops([bucket_of(*pair, s3_endpoint) for pair in pairs]))
    assert [each.text.partition(":")[0] for each in found] == [
        "b-bucket logs into c-bucket logs into b-bucket",
    ]
