"""The command that downloads log keys."""

from datetime import date
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from tamarin_dagster.cli.app import (
    EXIT_LEFT_UNDONE,
    BucketOption,
    FromOption,
    JsonOption,
    ToOption,
    command,
    told_if_interrupted,
)
from tamarin_dagster.cli.configured import load_settings
from tamarin_dagster.cli.documents import MirroredBucket, mirrored_bucket, show_documents
from tamarin_dagster.cli.shared import asked_days, chosen_buckets
from tamarin_dagster.cli.terminal import bar, complain, err, printable
from tamarin_dagster.logstore import LogStoreError
from tamarin_dagster.logstore.copies import CopiesError
from tamarin_dagster.logstore.opening import open_log_store
from tamarin_dagster.pipeline.discover import count_strays, describe_waiting
from tamarin_dagster.pipeline.mirror import Mirrored, mirror
from tamarin_dagster.settings import LoggedBucket


@command(
    "mirror",
    ("mirror --out /srv/logs", "all log keys of all buckets; again, only what is new"),
    ("mirror --out /srv/logs --bucket media --from 2026-01-01", "one bucket, from a day on"),
)
def mirror_command(
    out: Annotated[Path, typer.Option(help="The folder to download to.", file_okay=False, metavar="DIR")],
    bucket: BucketOption = None,
    from_: FromOption = None,
    to: ToOption = None,
    as_json: JsonOption = False,
) -> None:
    """Downloads log keys as they are, those that are not there yet.

    They lie under DIR by the name of their log bucket; a file:// URL of that folder, which is told, serves as
    log_bucket_name, with the same log_prefix. Nothing is loaded, nothing is deleted, and no database is needed. A key
    of which a copy of the same size and ETag is there costs a listing; one that was overwritten is fetched again.

    Without --from it begins with each bucket's start_date, without --to it ends with today. The status is 0 only if
    each log key has its copy.
    """
    settings = load_settings()
    buckets = chosen_buckets(settings, bucket)
    first, last = asked_days(from_, to)
    with told_if_interrupted("What was fetched stays and is not fetched again; run mirror to go on."):
        done = [_mirror_bucket(each, out, first, last) for each in buckets]
    if as_json:
        show_documents(done)
    if any(each.error or each.failures or each.waiting for each in done):
        raise typer.Exit(EXIT_LEFT_UNDONE)


def _mirror_bucket(bucket: LoggedBucket, out: Path, first: date | None, last: date | None) -> MirroredBucket:
    """Mirrors one bucket, and says so."""
    try:
        with bar(bucket.name, "days") as advance:
            mirrored = mirror(
                bucket,
                open_log_store(bucket),
                out,
                first=first,
                last=last,
                progress=lambda p: advance(p.looked, p.periods, f"{p.period}: {p.keys:,} keys, {p.bytes:,} bytes"),
            )
    except (LogStoreError, CopiesError) as error:
        complain(f"bucket {bucket.name}: {error}")
        return MirroredBucket(bucket=bucket.name, error=str(error), log_prefix=bucket.log_prefix)
    _summarise(bucket, mirrored)
    return mirrored_bucket(bucket, mirrored)


def _summarise(bucket: LoggedBucket, mirrored: Mirrored) -> None:
    """What the mirror did, and how its folder is used; what is left undone comes last."""
    err.print(
        f"[bold]{escape(bucket.name)}[/]: {mirrored.keys:,} keys fetched ({mirrored.bytes:,} bytes),"
        f" {mirrored.present:,} were there already; {mirrored.seconds:.1f} s",
        highlight=False,
    )
    place = f"log_bucket_name: {mirrored.folder.as_uri()}"
    prefix = f", log_prefix: {bucket.log_prefix}" if bucket.log_prefix else ""
    err.print(f"  to load from there: {printable(place + prefix)}", highlight=False)
    if strays := [*mirrored.outside, *mirrored.strays]:
        count = count_strays(mirrored.outside, len(mirrored.strays))
        err.print(f"  {count} strays were skipped, for example '{printable(strays[0])}'", highlight=False)
    if mirrored.waiting:
        complain(describe_waiting(bucket, mirrored.waiting).replace("the next pull", "the next mirror"))
    for failure in mirrored.failures:
        complain(f"bucket {bucket.name}, key {failure.key}: {failure.error}")
