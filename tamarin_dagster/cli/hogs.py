"""Who takes more of the bytes than others, as a table or as what others ban by."""

import json
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Annotated

import sqlalchemy as sa
import typer
from pydantic import ByteSize, TypeAdapter, ValidationError
from rich.filesize import decimal

from tamarin_dagster.analytics import bans
from tamarin_dagster.analytics.consumers import (
    Address,
    Consumer,
    ConsumerKind,
    Consumers,
    as_address,
    largest_consumers,
)
from tamarin_dagster.analytics.past import incomplete_warning, waiting_days
from tamarin_dagster.cli.app import BucketOption, command, day_option, flag, told_if_interrupted
from tamarin_dagster.cli.configured import load_settings
from tamarin_dagster.cli.documents import hogs_of_bucket, show_documents
from tamarin_dagster.cli.misnamed import complain_of_foreign_records
from tamarin_dagster.cli.shared import chosen_buckets
from tamarin_dagster.cli.terminal import complain, err, printable, show_rows
from tamarin_dagster.logstore.arns import bucket_arn
from tamarin_dagster.recordstore.database import open_database
from tamarin_dagster.settings import LoggedBucket, Settings, SettingsError

# Whole days before today, and what there is of today.
DEFAULT_DAYS = 7


class HogFormat(StrEnum):
    """How hogs are shown."""

    table = "table"
    json = "json"
    bucket_policy = "bucket-policy"
    waf_ipset = "waf-ipset"
    nginx = "nginx"


_BANS = {HogFormat.bucket_policy, HogFormat.waf_ipset, HogFormat.nginx}


@command(
    "hogs",
    ("hogs", "who takes more than hog_share of the bytes?"),
    ("hogs --above 50GB --by requester", "by who signed the requests"),
    ("hogs --bucket media --format bucket-policy > deny.json", "a policy, to be read before it is put"),
    ("hogs --format nginx > hogs.conf", "for a proxy before the bucket"),
)
def hogs_command(
    bucket: BucketOption = None,
    since: Annotated[
        date | None,
        day_option(
            "--since", f"First day of the requests (UTC); without it the {DEFAULT_DAYS} days before today, and today."
        ),
    ] = None,
    above: Annotated[
        str | None,
        typer.Option(
            "--above",
            metavar="SHARE|BYTES",
            help="More than this share of the bytes (0.2, 20%), or so many bytes (50GB); without it hog_share.",
        ),
    ] = None,
    by: Annotated[
        ConsumerKind, typer.Option("--by", metavar="ip|requester", help="What consumers are told by.")
    ] = ConsumerKind.ip,
    format_: Annotated[
        HogFormat,
        typer.Option("--format", metavar="table|json|bucket-policy|waf-ipset|nginx", help="How to show them."),
    ] = HogFormat.table,
    include_own: Annotated[
        bool, flag("--include-own", "Ban lists name private addresses, and what belongs to AWS, too.")
    ] = False,
) -> None:
    """Shows who takes more of a bucket's bytes than others, or writes a list to ban them by.

    It writes text, and bans nobody. Who they are is for you to find out first: an address may be a company's way out,
    a crawler that you want, or yourself. What is private, or free of charge as CloudFront and AWS in the region are, or
    a service of AWS, is marked, and stands in no ban list without --include-own.

    bucket-policy denies reading to these addresses (IpAddress) or, with --by requester, to users and roles by their
    ARNs, and to nobody else; other requesters are named on standard error. Put the statement beside those that the
    policy has: put-bucket-policy replaces all. Do not turn it into NotIpAddress, which shuts out AWS's services and VPC
    endpoints.

    waf-ipset is a line of JSON for IPv4 and one for IPv6, each for aws wafv2 create-ip-set --cli-input-json; nginx is
    deny directives. The log of a bucket behind CloudFront or a proxy has their addresses, not those of their visitors;
    any other address in it went past them. The figures come from the rollups; days that are not rolled up are named.
    """
    settings = load_settings()
    buckets = chosen_buckets(settings, bucket)
    if by is ConsumerKind.requester and format_ in {HogFormat.waf_ipset, HogFormat.nginx}:
        raise SettingsError(f"--format {format_.value} takes addresses: leave --by requester out")
    today = datetime.now(UTC).date()
    first = since or today - timedelta(days=DEFAULT_DAYS)
    if first > today:
        raise SettingsError(f"--since {first}: is after today ({today}, UTC)")
    asked = _threshold(above)
    with told_if_interrupted("Nothing was changed."):
        engine = open_database(settings)
        looked = [_look(settings, each, engine, by, first, today, asked) for each in buckets]
        engine.dispose()
    found = [consumers for consumers, _ in looked]
    if format_ is HogFormat.table:
        _show_table(found)
    elif format_ is HogFormat.json:
        show_documents([hogs_of_bucket(*each) for each in looked])
    else:
        for line in _ban(format_, found, {each.name: each for each in buckets}, include_own=include_own):
            sys.stdout.write(f"{line}\n")


def _threshold(text: str | None) -> tuple[float | None, int]:
    """The share, or the least bytes. Raises SettingsError."""
    if text is None:
        return None, 0
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1
    if 0 <= share <= 1:
        return share, 0
    try:
        if text[-1:].isalpha():
            return 0, TypeAdapter(ByteSize).validate_python(text)
    except ValidationError:
        pass
    raise SettingsError(f"--above {text}: must be a share from 0 to 1 or in % (0.2, 20%), or bytes with a unit (50GB)")


def _look(
    settings: Settings,
    bucket: LoggedBucket,
    engine: sa.Engine,
    by: ConsumerKind,
    first: date,
    last: date,
    asked: tuple[float | None, int],
) -> tuple[Consumers, tuple[date, ...]]:
    """Who took how much, and the days that the answer lacks."""
    share, least_bytes = asked
    share = settings.hog_share_of(bucket) if share is None else share
    with err.status("Asking the rollups"), engine.connect() as connection:
        found = largest_consumers(connection, bucket.name, by, first, last, share=share, min_bytes=least_bytes)
        waiting = waiting_days(connection, bucket.name, first, last)
    limit = f"{decimal(least_bytes)} or more" if least_bytes else f"more than {share:.1%}"
    count = f"{found.count:,}" if found.fold is None else f"at least {found.count:,}"
    median = f"; the median {decimal(int(found.median_bytes))}" if found.median_bytes is not None else ""
    err.print(
        f"{printable(bucket.name)}: {len(found.largest):,} of {count} took {limit} of"
        f" {decimal(found.bytes_sent)} since {first}{median}",
        highlight=False,
    )
    if found.fold is not None:
        complain(
            f"bucket {bucket.name}: {found.fold} Their {decimal(found.fold.bytes_sent)} count for the whole. The median"
            f" is not known, and each figure may be up to {decimal(found.fold.missing_bytes)} too low"
        )
    complain_of_foreign_records(engine, bucket.name)
    if waiting:
        complain(incomplete_warning(bucket.name, waiting))
    return found, waiting


def _show_table(found: Sequence[Consumers]) -> None:
    names = ("bucket", "who", "requests", "bytes", "share", "of the median", "")
    rows = [
        (
            each.bucket,
            consumer.name,
            f"{consumer.requests:,}",
            decimal(consumer.bytes_sent),
            f"{consumer.share:.1%}",
            f"{consumer.times_median:,.1f} times" if consumer.times_median is not None else "",
            consumer.own.value if consumer.own else "",
        )
        for each in found
        for consumer in each.largest
    ]
    if rows:
        show_rows(names, rows, (False, False, True, True, True, True, False))


def _ban(
    format_: HogFormat, found: Sequence[Consumers], buckets: dict[str, LoggedBucket], *, include_own: bool
) -> Iterator[str]:
    """The lines of a ban list. Raises SettingsError for a policy of several buckets."""
    banned = {each.bucket: [*_strangers(each, include_own=include_own)] for each in found}
    banned = {bucket: consumers for bucket, consumers in banned.items() if consumers}
    if not banned:
        err.print("There is nobody to ban.")
        return
    if format_ is HogFormat.bucket_policy:
        if len(banned) > 1:
            raise SettingsError(f"a policy is of one bucket: choose one with --bucket, of {', '.join(sorted(banned))}")
        ((bucket, consumers),) = banned.items()
        yield from _policy(buckets[bucket], found[0].by, consumers)
        return
    addresses = [as_address(consumer.name) for consumers in banned.values() for consumer in consumers]
    if format_ is HogFormat.nginx:
        yield from bans.nginx_lines(addresses)
        return
    about = f"Hogs of {', '.join(sorted(banned))} since {found[0].first}"
    for ip_set in bans.waf_ip_sets("tamarin-hogs", about[: bans.MAX_DESCRIPTION], addresses):
        _warn_of_many(len(ip_set["Addresses"]), bans.MAX_WAF_ADDRESSES, "addresses are more than an IP set takes")
        yield json.dumps(ip_set)


def _policy(bucket: LoggedBucket, by: ConsumerKind, consumers: Sequence[Consumer]) -> Iterator[str]:
    arn = bucket_arn(bucket.name, bucket.region)
    if by is ConsumerKind.ip:
        addresses: list[Address] = [as_address(consumer.name) for consumer in consumers]
        policy = bans.policy_of_addresses(arn, addresses)
    else:
        principals = {consumer.name: bans.principals_of(consumer.name) for consumer in consumers}
        for name, patterns in principals.items():
            if not patterns:
                complain(f"{name} is left out: it is no ARN of a user or a role, by which a policy could name it")
        if not any(principals.values()):
            err.print("There is nobody to ban.")
            return
        policy = bans.policy_of_principals(arn, (each for patterns in principals.values() for each in patterns))
    size = len(json.dumps(policy, separators=(",", ":")))
    _warn_of_many(size, bans.MAX_POLICY_BYTES, "bytes are more than a bucket policy takes")
    yield json.dumps(policy, indent=2)


def _strangers(found: Consumers, *, include_own: bool) -> Iterator[Consumer]:
    for consumer in found.largest:
        if consumer.own is None or include_own:
            yield consumer
        else:
            complain(f"{found.bucket}: {consumer.name} is left out: {consumer.own.value}")


def _warn_of_many(number: int, most: int, what: str) -> None:
    if number > most:
        complain(f"{number:,} {what} ({most:,}): raise --above")
