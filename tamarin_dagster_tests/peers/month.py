"""A month of log keys: the demo's, and a key of lines as they are seldom, on which programs differ."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from urllib.parse import quote, unquote

import sqlalchemy as sa

from tamarin_dagster.analytics.rollups import roll_up
from tamarin_dagster.demo.site import DemoSite
from tamarin_dagster.demo.writing import LOG_PREFIX, write_log_keys
from tamarin_dagster.logstore import FolderLogStore
from tamarin_dagster.pipeline.export.text import combined_lines
from tamarin_dagster.pipeline.pull import pull_bucket
from tamarin_dagster.recordstore.database import open_database
from tamarin_dagster.recordstore.server.embedded import EmbeddedPostgres
from tamarin_dagster.settings import LoggedBucket, Settings
from tamarin_dagster_tests.folders import make_short_folder
from tamarin_dagster_tests.lines import HOST_ID, OWNER

LINES = 30_000
BROKEN_SHARE = 0.005
END = datetime(2026, 4, 1, tzinfo=UTC)
DAYS = 31
_ODD_KEY = f"{LOG_PREFIX}2026-03-15-13-00-00-0DD0DD0DD0DD0DD0"

# Request, status, error and bytes, referrer, user agent.
_ODD: tuple[tuple[str, str, str, str], ...] = (
    ("GET /odd/http2.mp4 HTTP/2", "200 - 1000", "-", "curl/8.5.0"),
    ("GET /odd/http2.mp4 HTTP/2.0", "200 - 1000", "-", "curl/8.5.0"),
    ("GET /odd/http3.mp4 HTTP/3", "200 - 1000", "-", "curl/8.5.0"),
    ("GET /odd/old.mp4 HTTP/1.0", "200 - 1000", "-", "curl/8.5.0"),
    ("GET /odd/versionless.mp4", "200 - 1000", "-", "curl/8.5.0"),
    ("PROPFIND /odd/dav HTTP/1.1", "405 MethodNotAllowed 300", "-", "davfs2/1.6"),
    ("FOO /odd/foo HTTP/1.1", "405 MethodNotAllowed 300", "-", "-"),
    ("get /odd/lower.mp4 HTTP/1.1", "400 BadRequest 300", "-", "-"),
    ("DELETE /odd/gone.mp4 HTTP/1.1", "204 - -", "-", "aws-cli/2.31.12"),
    ("OPTIONS /odd/preflight.mp4 HTTP/1.1", "200 - -", "https://www.example.org/", "Mozilla/5.0"),
    ("PATCH /odd/patch.mp4 HTTP/1.1", "405 MethodNotAllowed 300", "-", "-"),
    ("GET /odd/resumed.mp4 HTTP/1.1", "206 - 1000", "-", "curl/8.5.0"),
    ("GET /odd/same.mp4 HTTP/1.1", "304 NotModified 241", "-", "curl/8.5.0"),
    ("GET /odd/moved HTTP/1.1", "301 - 500", "-", "curl/8.5.0"),
    ("GET /odd/moved HTTP/1.1", "302 - 500", "-", "curl/8.5.0"),
    ("GET /odd/elsewhere HTTP/1.1", "307 TemporaryRedirect 500", "-", "curl/8.5.0"),
    ("GET /odd/busy.mp4 HTTP/1.1", "503 SlowDown 300", "-", "curl/8.5.0"),
    ("GET /odd/broken.mp4 HTTP/1.1", "500 InternalError 300", "-", "curl/8.5.0"),
    ("GET /odd/given-up.mp4 HTTP/1.1", "499 - 300", "-", "curl/8.5.0"),
    ("GET /odd/range.mp4 HTTP/1.1", "416 InvalidRange 300", "-", "curl/8.5.0"),
    ("PUT /odd/condition.mp4 HTTP/1.1", "412 PreconditionFailed 300", "-", "aws-cli/2.31.12"),
    ("GET /favicon.ico HTTP/1.1", "200 - 1000", "-", "Mozilla/5.0"),
    ("GET /favicon.ico HTTP/1.1", "404 NoSuchKey 300", "-", "Mozilla/5.0"),
    ("GET /odd/robots.txt HTTP/1.1", "200 - 1000", "-", "Mozilla/5.0"),
    ("GET /odd/ HTTP/1.1", "200 - 1000", "-", "Mozilla/5.0"),
    ("GET /odd/index.html HTTP/1.1", "200 - 1000", "-", "Mozilla/5.0"),
    ("GET /odd//double.mp4 HTTP/1.1", "200 - 1000", "-", "Mozilla/5.0"),
    ("GET /odd/./dot.mp4 HTTP/1.1", "200 - 1000", "-", "Mozilla/5.0"),
    ("GET /odd/x/../up.mp4 HTTP/1.1", "200 - 1000", "-", "Mozilla/5.0"),
    ("GET /odd/%7Euser/~user HTTP/1.1", "200 - 1000", "-", "Mozilla/5.0"),
    ("GET /odd/plus+and%2Bplus%3Fno-query HTTP/1.1", "200 - 1000", "-", "Mozilla/5.0"),
    ("GET /odd/parameter.mp4;version=1 HTTP/1.1", "200 - 1000", "-", "Mozilla/5.0"),
    ("GET /odd/page#anchor HTTP/1.1", "200 - 1000", "-", "Mozilla/5.0"),
    ("GET /odd/100% HTTP/1.1", "200 - 1000", "-", "Mozilla/5.0"),
    ("GET /odd/%zz HTTP/1.1", "200 - 1000", "-", "Mozilla/5.0"),
    ("GET /odd/%E4%F6%FC.mp4 HTTP/1.1", "200 - 1000", "-", "Mozilla/5.0"),
    ("GET /odd/%22quoted%22.mp4 HTTP/1.1", "200 - 1000", "-", "Mozilla/5.0"),
    ("GET /odd/tab%09line%0A.mp4 HTTP/1.1", "200 - 1000", "-", "Mozilla/5.0"),
    ("GET /ODD/UPPER.MP4 HTTP/1.1", "200 - 1000", "-", "Mozilla/5.0"),
    ("GET http://media.example.org/odd/absolute.mp4 HTTP/1.1", "200 - 1000", "-", "Mozilla/5.0"),
    ("GET odd/no-slash.mp4 HTTP/1.1", "400 BadRequest 300", "-", "Mozilla/5.0"),
    ("OPTIONS * HTTP/1.1", "400 BadRequest 300", "-", "Mozilla/5.0"),
    ("GET /odd/a blank.mp4 HTTP/1.1", "400 BadRequest 300", "-", "Mozilla/5.0"),
    ('GET /odd/"raw quotes".mp4 HTTP/1.1', "400 BadRequest 300", "-", "Mozilla/5.0"),
    ('GET /odd/"raw".mp4 HTTP/1.1', "200 - 1000", "-", "Mozilla/5.0"),
    ('GET /odd/"raw-versionless".mp4', "400 BadRequest 300", "-", "Mozilla/5.0"),
    ('GET /odd/"raw" behind.mp4 HTTP/1.1', "400 BadRequest 300", "-", "Mozilla/5.0"),  # codespell:ignore behind
    ("GET /odd/back\\slash.mp4 HTTP/1.1", "200 - 1000", "-", "Mozilla/5.0"),
    ("GET /odd/trailing\\ HTTP/1.1", "200 - 1000", "-", "Mozilla/5.0"),
    ("GET /odd/agent.mp4 HTTP/1.1", "200 - 1000", "-", 'pip/25.2 {"ci":null,"cpu":"x86_64"}'),
    ("GET /odd/agent.mp4 HTTP/1.1", "200 - 1000", "-", '"Mozilla/5.0 (X11)'),
    ("GET /odd/agent.mp4 HTTP/1.1", "200 - 1000", "-", "ends with a backslash\\"),
    ("GET /odd/referrer.mp4 HTTP/1.1", "200 - 1000", 'https://www.example.org/?q="a b"', "Mozilla/5.0"),
    ("GET /odd/referrer.mp4 HTTP/1.1", "200 - 1000", "https://www.example.org/a b", "Mozilla/5.0"),
    ("GET /odd/agent.mp4 HTTP/1.1", "200 - 1000", "-", 'quote" and blank'),
    ("GET /odd/empty.mp4 HTTP/1.1", "200 - 0", "", ""),
    ("GET /odd/control.mp4 HTTP/1.1", "200 - 1000", "-", "a\ttab and \x7f"),
    ("GET /odd/huge.mp4 HTTP/1.1", "200 - 5497558138880", "-", "Mozilla/5.0"),
)


@dataclass(frozen=True)
class Month:
    """The month, loaded.

    Attributes:
        engine: the records' database.
        keys: S3's lines as they were delivered, a folder of log keys.
        combined: our combined export.
        folder: where programs may write.
    """

    engine: sa.Engine
    keys: Path
    combined: Path
    folder: Path


@contextmanager
def month() -> Iterator[Month]:
    """Write the month, load it into a separate Postgres, and export it."""
    folder = make_short_folder()
    bucket = LoggedBucket(
        name=DemoSite.bucket,
        log_bucket_name=(folder / "log").as_uri(),
        log_prefix=LOG_PREFIX,
        start_date=END.date().replace(month=1),
    )
    try:
        _write(folder / "log")
        with EmbeddedPostgres(folder / "home") as server:
            server.ensure_databases("tamarin")
            engine = open_database(Settings(database_url=server.url("tamarin", driver="postgresql")))
            pulled = pull_bucket(bucket, FolderLogStore(folder / "log", bucket.log_bucket_name), engine, last=date.max)
            assert not pulled.failures
            roll_up(engine)
            combined = folder / "combined.log"
            combined.write_bytes(b"".join(combined_lines(engine)))
            yield Month(engine, folder / "log" / LOG_PREFIX, combined, folder)
            engine.dispose()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write(folder: Path) -> None:
    write_log_keys(folder, lines=LINES, days=DAYS, end=END, broken_share=BROKEN_SHARE)
    odd = b"".join(_line(number, *each) for number, each in enumerate(_ODD))
    (folder / _ODD_KEY).write_bytes(odd)


def _line(number: int, request: str, outcome: str, referrer: str, agent: str) -> bytes:
    method, target, *_ = request.split(" ")
    key = quote(unquote(target, errors="surrogateescape").lstrip("/"), safe="/", errors="surrogateescape")
    return (
        f"{OWNER} {DemoSite.bucket} [15/Mar/2026:12:{number:02}:00 +0000] 192.0.2.3 - {number:016X}"
        f" REST.{method.upper()}.OBJECT {key.replace('%', '%25')}"
        f' "{request}" {outcome} 1000 7 6 "{referrer}" "{agent}" - {HOST_ID} - - - - - - - -\n'
    ).encode()
