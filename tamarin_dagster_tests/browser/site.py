"""The site of the browser tests: a `dev` with four buckets, their log buckets, and their databases.

The first is the demo's: three weeks of a media site's log. To the log bucket of the second somebody hostile could
write. The log bucket of the third does not exist. Nothing is wrong with the fourth: each of its checks passes.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import psycopg

from tamarin_dagster.demo import endpoint
from tamarin_dagster.demo.logwriter import demo_client
from tamarin_dagster.recordstore.connections import DAGSTER_DATABASE, RECORDS_DATABASE
from tamarin_dagster.recordstore.server.embedded import EmbeddedPostgres
from tamarin_dagster_tests.browser.hostile import PRESS, PRESS_PREFIX, press_objects
from tamarin_dagster_tests.dev_process import DevProcess, dev_process
from tamarin_dagster_tests.lines import line

MEDIA, MEDIA_GROUP = endpoint.DEMO_SITE.bucket, "media_example_org"
PRESS_GROUP = "press_example_org"
SHOP, SHOP_GROUP = "shop.example.org", "shop_example_org"
PHOTOS, PHOTOS_GROUP = "photos.example.org", "photos_example_org"
PRESS_LOG_BUCKET, SHOP_LOG_BUCKET, PHOTOS_LOG_BUCKET = "press-logs", "no-such-log-bucket", "photos-logs"
PHOTOS_PREFIX = "photos/"
# Log keys of each of the bucket's days, and the lines of each.
_PHOTOS_KEYS, _PHOTOS_LINES = 12, 50

_SENSOR_MINUTES = 0.25
# The demo's own live keys would make runs all the time: after those at its start none for an hour.
_DELIVERY_SECONDS = 3600
_MONITORED_DAYS = 2
_RUN_SECONDS = 120

Found = TypeVar("Found")


@dataclass(frozen=True)
class Site:
    """A running `dev`, and what a test may look at in addition to the UI."""

    url: str
    dev: DevProcess
    server: EmbeddedPostgres
    s3: Any
    today: date

    def records(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Return the rows of a query on the records' database."""
        return self._rows(RECORDS_DATABASE, query, values)

    def dagster(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Return the rows of a query on Dagster's own database."""
        return self._rows(DAGSTER_DATABASE, query, values)

    def day(self, ago: int) -> date:
        """The day so many days ago."""
        return self.today - timedelta(days=ago)

    def delivered(self, first: date, last: date) -> dict[str, int]:
        """The lines of each log key of these days that lies in the demo's log bucket."""
        found = {}
        for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=endpoint.LOG_BUCKET):
            for key in (item["Key"] for item in page.get("Contents", [])):
                day = key.removeprefix(endpoint.LOG_PREFIX)[:10]
                if first.isoformat() <= day <= last.isoformat() and not key.endswith(".txt"):
                    found[key] = self.s3.get_object(Bucket=endpoint.LOG_BUCKET, Key=key)["Body"].read().count(b"\n")
        return found

    def wait_for(self, what: str, probe: Callable[[], Found], seconds: float = _RUN_SECONDS) -> Found:
        """Wait until the probe finds something, and return it. After the limit, fail with the output of `dev`."""
        deadline = time.monotonic() + seconds
        while not (found := probe()):
            assert time.monotonic() < deadline, f"{what}: not within {seconds} s. `dev` says:\n{self.dev.reported()}"
            assert self.dev.process.poll() is None, f"{what}: `dev` has ended. It says:\n{self.dev.reported()}"
            time.sleep(0.3)
        return found

    def wait_until_loaded(self, bucket: str) -> None:
        """Until runs that the bucket's sensor asked for have loaded the days that surely have log keys."""
        ago = {MEDIA: (1, _MONITORED_DAYS), PRESS: (0,), PHOTOS: (0, 1, _MONITORED_DAYS)}[bucket]
        days = [self.day(number).isoformat() for number in ago]
        query = (
            "SELECT count(DISTINCT day.value) FROM runs"
            " JOIN run_tags bucket USING (run_id) JOIN run_tags day USING (run_id)"
            " WHERE bucket.key = 'tamarin/bucket' AND bucket.value = %s"
            " AND day.key = 'dagster/partition' AND day.value = ANY (%s) AND status = 'SUCCESS'"
        )
        self.wait_for(f"the runs of {bucket}", lambda: self.dagster(query, bucket, days) == [(len(days),)])

    def _rows(self, database: str, query: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.server.url(database, "postgresql"), autocommit=True) as connection:
            return connection.execute(query, values or None).fetchall()


@contextlib.contextmanager
def site(folder: Path) -> Iterator[Site]:
    """All of it, in this folder."""
    today = datetime.now(UTC).date()
    port = endpoint.free_port()
    url = f"http://{endpoint.LOOPBACK}:{port}"
    home, config = folder / "home", folder / "tamarin.yaml"
    config.write_text(json.dumps(_settings(home, url, today)), "utf-8")
    environment = endpoint.demo_environment()
    with (
        _demo(port, folder / "demo.log", environment) as demo,
        dev_process(config, folder / "dev.log", environment) as dev,
    ):
        endpoint.wait_until_ready(url, complete=True, timeout_seconds=120, alive=lambda: demo.poll() is None)
        s3 = demo_client(url, endpoint.DEMO_SITE.region)
        s3.create_bucket(Bucket=PRESS_LOG_BUCKET)
        s3.create_bucket(Bucket=PHOTOS_LOG_BUCKET)
        for key, body in press_objects(today).items():
            s3.put_object(Bucket=PRESS_LOG_BUCKET, Key=key, Body=body)
        for key, body in _photos_objects(today).items():
            s3.put_object(Bucket=PHOTOS_LOG_BUCKET, Key=key, Body=body)
        yield Site(dev.page(), dev, EmbeddedPostgres(home), s3, today)


def _photos_objects(today: date) -> dict[str, bytes]:
    """Log keys of today and of the days that are monitored, each line a record."""
    found = {}
    for day in (today - timedelta(days=ago) for ago in range(_MONITORED_DAYS + 1)):
        for hour in range(_PHOTOS_KEYS):
            lines = (
                line(
                    f"{day:%d/%b/%Y}:{hour // 2:02}:{minute:02}:00 +0000",
                    bucket=PHOTOS,
                    request_id=f"{day:%Y%m%d}{hour:04X}{minute:04X}",
                )
                for minute in range(_PHOTOS_LINES)
            )
            found[f"{PHOTOS_PREFIX}{day}-{hour:02}-00-00-{hour:016X}"] = b"".join(lines)
    return found


def _settings(home: Path, endpoint_url: str, today: date) -> dict[str, Any]:
    def bucket(name: str, log_bucket: str, prefix: str, **more: object) -> dict[str, object]:
        return {
            "name": name,
            "log_bucket_name": log_bucket,
            "log_prefix": prefix,
            "endpoint_url": endpoint_url,
            "region": endpoint.DEMO_SITE.region,
            "start_date": (today - timedelta(days=endpoint.DEFAULT_HISTORY_DAYS)).isoformat(),
            "monitor_from": (today - timedelta(days=_MONITORED_DAYS)).isoformat(),
            **more,
        }

    buckets = [
        bucket(MEDIA, endpoint.LOG_BUCKET, endpoint.LOG_PREFIX),
        bucket(PRESS, PRESS_LOG_BUCKET, PRESS_PREFIX),
        bucket(SHOP, SHOP_LOG_BUCKET, "shop/", monitor_bucket=False),
        bucket(PHOTOS, PHOTOS_LOG_BUCKET, PHOTOS_PREFIX, start_date=f"{today - timedelta(days=_MONITORED_DAYS)}"),
    ]
    return {"home": str(home), "pull_parse_interval": _SENSOR_MINUTES, "buckets": buckets}


@contextlib.contextmanager
def _demo(port: int, log: Path, environment: dict[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    """The demo's S3 endpoint, which ends with this process too."""
    command = [sys.executable, "-m", "tamarin_dagster.demo", "--port", str(port)]
    command += ["--interval", str(_DELIVERY_SECONDS), "--parent-pid", str(os.getpid())]
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=os.environ | environment, stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)
