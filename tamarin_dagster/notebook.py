"""Log keys as a DataFrame, for notebooks and scripts: no database, no Dagster, no settings."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import pandas as pd
import pyarrow as pa

from tamarin_dagster.logformat import (
    RECORDS_SCHEMA,
    DecompressionError,
    ParsedLogs,
    decompress,
    parse_key_name,
    parse_logs,
    parse_parts,
    unpacked,
)
from tamarin_dagster.logformat.engine import ParserName
from tamarin_dagster.logformat.frames import to_frame, to_table
from tamarin_dagster.logkey import LogObject
from tamarin_dagster.logstore import FetchError, LogStore
from tamarin_dagster.logstore.folder import FolderLogStore
from tamarin_dagster.logstore.opening import open_log_store
from tamarin_dagster.settings import LoggedBucket

_BATCH_BYTES = 8 * 1024 * 1024
_BATCH_KEYS = 1000
_ANY_NAME = "notebook"


class LogKeyError(Exception):
    """A log key that cannot be read; its text names the key."""


class RejectedLinesWarning(UserWarning):
    """Lines that are not records are missing from a DataFrame."""


def read_log_keys(
    place: str | Path,
    *,
    first: date | None = None,
    last: date | None = None,
    redact: bool = True,
    parser: ParserName = "compiled",
    errors: Literal["raise", "warn"] = "raise",
    region: str | None = None,
    profile: str | None = None,
    endpoint_url: str | None = None,
) -> pd.DataFrame:
    """Return the records of all log keys in a folder or under a prefix of a bucket.

    Objects whose names are not those of log keys are skipped. Nothing is stored, marked or deleted. The DataFrame is
    held in memory: a million lines take about 600 MB.

    Args:
        place: a folder, or `s3://BUCKET/PREFIX`, whose credentials are looked up as boto3 does it.
        first: the first delivery day (UTC), which is the day in a log key's name. Default: no limit.
        last: the last one.
        redact: whether secrets of presigned URLs are left out.
        parser: `compiled`, or `regex`, which gives the same and is slower.
        errors: whether a log key that cannot be read raises LogKeyError, or is skipped with a warning.
        region: of the bucket; default: as boto3 finds it.
        profile: of the AWS configuration.
        endpoint_url: of another S3-compatible store.

    Returns:
        `log_key` (string), `line_number` (int64, from 1) and the columns of a record (docs/reference/tables.md), all
        Arrow-backed; in the order of the names and lines. Lines that are not records are missing, which a
        RejectedLinesWarning says; `parse_log` shows such lines.

    Raises:
        LogKeyError: see `errors`.
        LogStoreError: the folder or bucket cannot be listed.
    """
    store, prefix = _opened(place, region, profile, endpoint_url)
    tables = [_TABLE_SCHEMA.empty_table()]
    lines = rejected = keys_with_rejected = 0
    for names, parsed in _parsed(store, _log_keys(store, prefix, first, last), parser, errors):
        wanted = parsed.redacted() if redact else parsed
        tables.append(_named(to_table(wanted.records, RECORDS_SCHEMA), names))
        lines += sum(counts.line_count for counts in parsed.counts)
        rejected += len(parsed.rejected)
        keys_with_rejected += sum(counts.rejected_count > 0 for counts in parsed.counts)
    if rejected:
        text = f"{rejected:,} of {lines:,} lines, in {keys_with_rejected:,} log keys, are not records and are left out"
        warnings.warn(text, RejectedLinesWarning, stacklevel=2)
    return to_frame(pa.concat_tables(tables))


_TABLE_SCHEMA = pa.schema([pa.field("log_key", pa.string(), nullable=False), *list(RECORDS_SCHEMA)[1:]])


def _opened(
    place: str | Path, region: str | None, profile: str | None, endpoint_url: str | None
) -> tuple[LogStore, str]:
    """Return the store, and the prefix in it."""
    if not str(place).startswith("s3://"):
        folder = Path(place)
        return FolderLogStore(folder, str(folder), quiet_seconds=0), ""
    parts = urlsplit(str(place))
    bucket = LoggedBucket(
        name=_ANY_NAME,
        log_bucket_name=parts.netloc,
        log_prefix=parts.path.removeprefix("/"),
        region=region,
        profile=profile,
        endpoint_url=endpoint_url,
    )
    return open_log_store(bucket), bucket.log_prefix


def _log_keys(store: LogStore, prefix: str, first: date | None, last: date | None) -> Iterator[LogObject]:
    for page in store.pages(prefix):
        for item in page:
            name = parse_key_name(item.key.removeprefix(prefix).rpartition("/")[2])
            if name and (first or date.min) <= name.delivery_date <= (last or date.max):
                yield item


def _parsed(
    store: LogStore, keys: Iterator[LogObject], parser: ParserName, errors: str
) -> Iterator[tuple[list[str], ParsedLogs]]:
    """Yield names of log keys, and what they hold: many small ones at once, a large one in parts."""
    batch: list[LogObject] = []
    for item in keys:
        if item.size > _BATCH_BYTES:
            yield from _parsed_large(store, item, parser, errors)
            continue
        batch.append(item)
        if len(batch) == _BATCH_KEYS or sum(each.size for each in batch) > _BATCH_BYTES:
            yield _parsed_batch(store, batch, parser, errors)
            batch = []
    if batch:
        yield _parsed_batch(store, batch, parser, errors)


def _parsed_batch(
    store: LogStore, batch: Sequence[LogObject], parser: ParserName, errors: str
) -> tuple[list[str], ParsedLogs]:
    names, bodies = [], []
    for fetched in store.fetch(batch):
        if fetched.error is not None:
            _fail(fetched.object.key, FetchError(fetched.error), errors)
            continue
        try:
            body = decompress(fetched.body)
        except DecompressionError as error:
            _fail(fetched.object.key, error, errors)
        else:
            bodies.append(body)
            names.append(fetched.object.key)
    return names, parse_logs(bodies, parser=parser)


def _parsed_large(
    store: LogStore, item: LogObject, parser: ParserName, errors: str
) -> Iterator[tuple[list[str], ParsedLogs]]:
    try:
        with closing(store.open(item)) as opened:
            for part in parse_parts(unpacked(opened.chunks, item.size), parser=parser):
                yield [item.key], part
    except (FetchError, DecompressionError) as error:
        _fail(item.key, error, errors)


def _fail(key: str, error: Exception, errors: str) -> None:
    if errors == "raise":
        raise LogKeyError(f"{key}: {error}") from error
    warnings.warn(f"log key {key} is skipped: {error}", stacklevel=2)


def _named(records: pa.Table, names: list[str]) -> pa.Table:
    """Return the records with the names of their log keys instead of their positions."""
    keys = pa.array(names, pa.string()).take(records["log_index"])
    return records.set_column(0, _TABLE_SCHEMA.field(0), keys).cast(_TABLE_SCHEMA)
