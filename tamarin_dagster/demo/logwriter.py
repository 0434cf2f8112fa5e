"""Simulate S3's log delivery for the demo: write the history of a log bucket, then keep delivering."""

import logging
import time
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import TYPE_CHECKING

import boto3
import obstore
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from obstore.exceptions import BaseError
from obstore.store import S3Store

from tamarin_dagster.demo.deliveries import DemoObject, history, live_deliveries, stray_objects
from tamarin_dagster.demo.site import DemoSite
from tamarin_dagster.homes import ACCESS_KEY_ID, SECRET_ACCESS_KEY

if TYPE_CHECKING:  # stubs, which only a development environment has
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import TagTypeDef

logger = logging.getLogger(__name__)

LOG_BUCKET = "tamarin-demo-logs"
LOG_PREFIX = "logs/"
# How many of the newest log keys must exist before the endpoint is ready: slightly more than a day's.
RECENT_KEYS = 30
# A tag on the log bucket, from which another process can read the progress of the history over HTTP.
PROGRESS_TAG = "tamarin-demo"
RECENT, COMPLETE = "recent", "complete"


def demo_client(endpoint_url: str, region: str) -> "S3Client":
    """Return a boto3 client for the endpoint."""
    return boto3.client(
        "s3",
        endpoint_url=endpoint_url,
        region_name=region,
        aws_access_key_id=ACCESS_KEY_ID,
        aws_secret_access_key=SECRET_ACCESS_KEY,
        config=Config(proxies={}, connect_timeout=2, read_timeout=10, retries={"max_attempts": 1}),
    )


class LogWriter:
    """Writes log keys to the log bucket of a demo endpoint until it is stopped."""

    def __init__(self, endpoint_url: str, site: DemoSite, *, interval_seconds: float, history_days: int) -> None:
        self._site = site
        self._interval_seconds = interval_seconds
        self._history_days = history_days
        self._stop = Event()
        self._client = demo_client(endpoint_url, site.region)
        # 210 PUTs a second to moto, where boto3 does 65: the history takes 4 seconds instead of 9.
        self._store = S3Store(
            LOG_BUCKET,
            endpoint=endpoint_url,
            region=site.region,
            access_key_id=ACCESS_KEY_ID,
            secret_access_key=SECRET_ACCESS_KEY,
            client_options={"allow_http": True, "timeout": timedelta(seconds=10)},
            retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=5)},
        )

    def run(self) -> None:
        """Write the history, newest first, and then one to three log keys in each interval, until `stop` is called.

        What cannot be written is logged and left out, and the demo continues, like S3's best-effort delivery.
        """
        try:
            self._write_history(datetime.now(UTC))
        except (BaseError, BotoCoreError, ClientError):
            logger.exception("the history of %s could not be written", LOG_BUCKET)
        delivered = 0
        while not self._stop.is_set():
            # The slot comes from the clock, so after a night's sleep of the laptop the demo continues with the present.
            slot = int(time.time() / self._interval_seconds)
            if slot > delivered:
                self._deliver(slot)
                delivered = slot
            self._stop.wait(max(0.05, (slot + 1) * self._interval_seconds - time.time()))

    def stop(self) -> None:
        """Make `run` return soon."""
        self._stop.set()

    def _write_history(self, now: datetime) -> None:
        started = time.monotonic()
        self._client.create_bucket(Bucket=LOG_BUCKET)
        for stray in stray_objects(now, self._history_days, LOG_PREFIX):
            self._put(stray)
        count = 0
        for count, item in enumerate(history(self._site, now, self._history_days, LOG_PREFIX), start=1):
            if self._stop.is_set():
                return
            self._put(item)
            if count == RECENT_KEYS:
                self._report(RECENT)
        self._report(COMPLETE)
        seconds = time.monotonic() - started
        logger.info("%s has %d log keys of %d days after %.1f s", LOG_BUCKET, count, self._history_days, seconds)

    def _deliver(self, slot: int) -> None:
        try:
            for item in live_deliveries(self._site, slot, self._interval_seconds, LOG_PREFIX):
                self._put(item)
                logger.debug("delivered %s", item.key)
        except BaseError:
            logger.exception("new log keys could not be written to %s", LOG_BUCKET)

    def _put(self, item: DemoObject) -> None:
        attributes = {"Content-Type": "text/plain"}
        obstore.put(self._store, item.key, item.body, use_multipart=False, attributes=attributes)

    def _report(self, state: str) -> None:
        tags: list[TagTypeDef] = [{"Key": PROGRESS_TAG, "Value": state}]
        self._client.put_bucket_tagging(Bucket=LOG_BUCKET, Tagging={"TagSet": tags})
