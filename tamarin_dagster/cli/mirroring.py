"""The command that downloads log keys."""

from datetime import date
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from tamarin_dagster.cli.app import (
    EXIT_INCOMPLETE,
    BucketOption,
    FromOption,
    JsonOption,
    ToOption,
    command,
    explain_interrupt,
)
from tamarin_dagster.cli.configured import load_settings
from tamarin_dagster.cli.documents import MirroredBucket, make_document, show_documents
from tamarin_dagster.cli.shared import check_days, describe_strays, select_buckets
from tamarin_dagster.cli.terminal import bar, complain, err, printable
from tamarin_dagster.logstore import LogStoreError
from tamarin_dagster.logstore.copies import CopiesError
from tamarin_dagster.logstore.opening import open_log_store
from tamarin_dagster.pipeline.discover import count_strays, describe_waiting
from tamarin_dagster.pipeline.mirror import Mirrored, mirror_bucket
from tamarin_dagster.plurals import count_noun
from tamarin_dagster.settings import LoggedBucket


@command(
    "mirror",
    ("mirror --out /srv/logs", "all log keys of all buckets; repeated, only what is new"),
    ("mirror --out /srv/logs --bucket media --from 2026-01-01", "one bucket, from a day on"),
)
def mirror_command(
    out: Annotated[Path, typer.Option(help="The folder to download to.", file_okay=False, metavar="DIR")],
    bucket: BucketOption = None,
    from_: FromOption = None,
    to: ToOption = None,
    as_json: JsonOption = False,
) -> None:
    """Download log keys unchanged, unless a copy is there already.

    The copies are in a folder under DIR that has the name of their log bucket. The command prints the folder's file://
    URL, which you can use as log_bucket_name, with the same log_prefix. It loads and deletes nothing, and needs no
    database. If a copy of the same size and ETag exists, a key costs only a listing; an overwritten key is fetched
    again.

    Without --from it begins with each bucket's start_date, without --to it ends with today. The exit status is 0 only
    if every log key has its copy.
    """
    settings = load_settings()
    buckets = select_buckets(settings, bucket)
    first, last = check_days(from_, to)
    with explain_interrupt("What was fetched stays and is not fetched again; run mirror to continue."):
        done = [_mirror_bucket(each, out, first, last) for each in buckets]
    if as_json:
        show_documents(done)
    if any(each.error or each.failures or each.waiting for each in done):
        raise typer.Exit(EXIT_INCOMPLETE)


def _mirror_bucket(bucket: LoggedBucket, out: Path, first: date | None, last: date | None) -> MirroredBucket:
    """Mirror one bucket, and report it."""
    try:
        with bar(bucket.name, "days") as advance:
            mirrored = mirror_bucket(
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
    return make_document(
        MirroredBucket,
        mirrored,
        bucket=bucket.name,
        log_bucket_name=mirrored.folder.as_uri(),
        log_prefix=bucket.log_prefix,
        strays=(*mirrored.outside, *mirrored.strays),
    )


def _summarise(bucket: LoggedBucket, mirrored: Mirrored) -> None:
    """Report what the mirror did and how to use its folder; what is incomplete comes last."""
    err.print(
        f"[bold]{escape(bucket.name)}[/]: {count_noun(mirrored.keys, 'key')} fetched ({mirrored.bytes:,} bytes),"
        f" {mirrored.present:,} were there already; {mirrored.seconds:.1f} s",
        highlight=False,
    )
    place = f"log_bucket_name: {mirrored.folder.as_uri()}"
    prefix = f", log_prefix: {bucket.log_prefix}" if bucket.log_prefix else ""
    err.print(f"  to load from there: {printable(place + prefix)}", highlight=False)
    if strays := [*mirrored.outside, *mirrored.strays]:
        err.print(describe_strays(strays[0], count_strays(mirrored.outside, len(mirrored.strays))), highlight=False)
    if mirrored.waiting:
        complain(describe_waiting(bucket, mirrored.waiting).replace("the next pull", "the next mirror"))
    for failure in mirrored.failures:
        complain(f"bucket {bucket.name}, key {failure.key}: {failure.error}")
