"""The command that shows top talkers: who takes a large share of the bytes, as a table, JSON or a ban list."""

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
    find_largest_consumers,
)
from tamarin_dagster.analytics.past import describe_incomplete, waiting_days
from tamarin_dagster.cli.app import BucketOption, command, day_option, explain_interrupt, flag
from tamarin_dagster.cli.configured import load_settings
from tamarin_dagster.cli.documents import describe_top_talkers, show_documents
from tamarin_dagster.cli.misnamed import complain_of_foreign_records
from tamarin_dagster.cli.shared import select_buckets
from tamarin_dagster.cli.terminal import complain, err, printable, show_rows
from tamarin_dagster.logstore.arns import bucket_arn
from tamarin_dagster.recordstore.database import open_database
from tamarin_dagster.settings import LoggedBucket, Settings, SettingsError

# Whole days before today; today so far is added.
DEFAULT_DAYS = 7


class TopTalkerFormat(StrEnum):
    """The format of the top talkers."""

    table = "table"
    json = "json"
    bucket_policy = "bucket-policy"
    waf_ipset = "waf-ipset"
    nginx = "nginx"


_BANS = {TopTalkerFormat.bucket_policy, TopTalkerFormat.waf_ipset, TopTalkerFormat.nginx}


@command(
    "top-talkers",
    ("top-talkers", "who takes more than hog_share of the bytes?"),
    ("top-talkers --above 50GB --by requester", "by the identity that signed the requests"),
    ("top-talkers --bucket media --format bucket-policy > deny.json", "a policy; read it before you apply it"),
    ("top-talkers --format nginx > top-talkers.conf", "for a proxy in front of the bucket"),
    old_name="hogs",
)
def top_talkers_command(
    bucket: BucketOption = None,
    since: Annotated[
        date | None,
        day_option(
            "--since", f"First day of the requests (UTC); default: the {DEFAULT_DAYS} days before today, and today."
        ),
    ] = None,
    above: Annotated[
        str | None,
        typer.Option(
            "--above",
            metavar="SHARE|BYTES",
            help="Minimum share of the bytes (0.2, 20%), or bytes (50GB); default: hog_share.",
        ),
    ] = None,
    by: Annotated[
        ConsumerKind, typer.Option("--by", metavar="ip|requester", help="Group requests by address or requester.")
    ] = ConsumerKind.ip,
    format_: Annotated[
        TopTalkerFormat,
        typer.Option("--format", metavar="table|json|bucket-policy|waf-ipset|nginx", help="The format of the answer."),
    ] = TopTalkerFormat.table,
    include_own: Annotated[bool, flag("--include-own", "Also ban private addresses and what belongs to AWS.")] = False,
) -> None:
    """Show who takes a large share of a bucket's bytes, or write a list that bans them.

    The command writes text and bans nobody. First find out who they are: an address may be the shared address of a
    company, a crawler that you want, or yourself. Private addresses, services of AWS, and readers that cost nothing
    (CloudFront, and AWS in the same region) are marked, and ban lists omit them without --include-own.

    bucket-policy denies reading to exactly these addresses (IpAddress) or, with --by requester, to exactly these users
    and roles by their ARNs; standard error names requesters that a policy cannot name. Add the statement to those that
    the policy has, because put-bucket-policy replaces the whole policy. Do not turn it into NotIpAddress, which shuts
    out AWS services and VPC endpoints.

    waf-ipset is one line of JSON for IPv4 and one for IPv6, each for aws wafv2 create-ip-set --cli-input-json. nginx is
    a list of deny directives. If CloudFront or a proxy is in front of a bucket, its log has their addresses, not
    those of their visitors; any other address in the log bypassed them. The figures come from the rollups; standard
    error names days that are not rolled up.
    """
    settings = load_settings()
    buckets = select_buckets(settings, bucket)
    if by is ConsumerKind.requester and format_ in {TopTalkerFormat.waf_ipset, TopTalkerFormat.nginx}:
        raise SettingsError(f"--format {format_.value} takes addresses: omit --by requester")
    today = datetime.now(UTC).date()
    first = since or today - timedelta(days=DEFAULT_DAYS)
    if first > today:
        raise SettingsError(f"--since {first}: is after today ({today}, UTC)")
    asked = _threshold(above)
    with explain_interrupt("Nothing was changed."):
        engine = open_database(settings)
        looked = [_find(settings, each, engine, by, first, today, asked) for each in buckets]
        engine.dispose()
    found = [consumers for consumers, _ in looked]
    if format_ is TopTalkerFormat.table:
        _show_table(found)
    elif format_ is TopTalkerFormat.json:
        show_documents([describe_top_talkers(*each) for each in looked])
    else:
        for line in _ban(format_, found, {each.name: each for each in buckets}, include_own=include_own):
            sys.stdout.write(f"{line}\n")


def _threshold(text: str | None) -> tuple[float | None, int]:
    """Return the minimum share, or the minimum bytes. Raises SettingsError."""
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


def _find(
    settings: Settings,
    bucket: LoggedBucket,
    engine: sa.Engine,
    by: ConsumerKind,
    first: date,
    last: date,
    asked: tuple[float | None, int],
) -> tuple[Consumers, tuple[date, ...]]:
    """Return who took how much, and the days that are missing from the answer."""
    share, min_bytes = asked
    share = settings.get_hog_share(bucket) if share is None else share
    with err.status("Asking the rollups"), engine.connect() as connection:
        found = find_largest_consumers(connection, bucket.name, by, first, last, share=share, min_bytes=min_bytes)
        waiting = waiting_days(connection, bucket.name, first, last)
    limit = f"{decimal(min_bytes)} or more" if min_bytes else f"more than {share:.1%}"
    count = f"{found.count:,}" if found.fold is None else f"at least {found.count:,}"
    median = f"; the median {decimal(int(found.median_bytes))}" if found.median_bytes is not None else ""
    err.print(
        f"{printable(bucket.name)}: {len(found.largest):,} of {count} took {limit} of"
        f" {decimal(found.bytes_sent)} since {first}{median}",
        highlight=False,
    )
    if found.fold is not None:
        complain(
            f"bucket {bucket.name}: {found.fold} Their {decimal(found.fold.bytes_sent)} are in the total. The median"
            f" is not known, and each figure may be up to {decimal(found.fold.missing_bytes)} too low"
        )
    complain_of_foreign_records(engine, bucket.name)
    if waiting:
        complain(describe_incomplete(bucket.name, waiting))
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
    format_: TopTalkerFormat, found: Sequence[Consumers], buckets: dict[str, LoggedBucket], *, include_own: bool
) -> Iterator[str]:
    """Yield the lines of a ban list. Raises SettingsError for a policy of several buckets."""
    banned = {each.bucket: [*_list_bannable(each, include_own=include_own)] for each in found}
    banned = {bucket: consumers for bucket, consumers in banned.items() if consumers}
    if not banned:
        err.print("There is nobody to ban.")
        return
    if format_ is TopTalkerFormat.bucket_policy:
        if len(banned) > 1:
            raise SettingsError(f"a policy is for one bucket: choose one with --bucket, of {', '.join(sorted(banned))}")
        ((bucket, consumers),) = banned.items()
        yield from _policy(buckets[bucket], found[0].by, consumers)
        return
    addresses = [as_address(consumer.name) for consumers in banned.values() for consumer in consumers]
    if format_ is TopTalkerFormat.nginx:
        yield from bans.make_nginx_lines(addresses)
        return
    about = f"Top talkers of {', '.join(sorted(banned))} since {found[0].first}"
    for ip_set in bans.make_waf_ip_sets("tamarin-hogs", about[: bans.MAX_DESCRIPTION], addresses):
        _warn_if_over(len(ip_set["Addresses"]), bans.MAX_WAF_ADDRESSES, "addresses do not fit into an IP set")
        yield json.dumps(ip_set)


def _policy(bucket: LoggedBucket, by: ConsumerKind, consumers: Sequence[Consumer]) -> Iterator[str]:
    arn = bucket_arn(bucket.name, bucket.region)
    if by is ConsumerKind.ip:
        addresses: list[Address] = [as_address(consumer.name) for consumer in consumers]
        policy = bans.make_address_policy(arn, addresses)
    else:
        principals = {consumer.name: bans.find_principals(consumer.name) for consumer in consumers}
        for name, patterns in principals.items():
            if not patterns:
                complain(f"{name} is omitted: a policy can name only the ARN of a user or a role")
        if not any(principals.values()):
            err.print("There is nobody to ban.")
            return
        policy = bans.make_principal_policy(arn, (each for patterns in principals.values() for each in patterns))
    size = len(json.dumps(policy, separators=(",", ":")))
    _warn_if_over(size, bans.MAX_POLICY_BYTES, "bytes do not fit into a bucket policy")
    yield json.dumps(policy, indent=2)


def _list_bannable(found: Consumers, *, include_own: bool) -> Iterator[Consumer]:
    for consumer in found.largest:
        if consumer.own is None or include_own:
            yield consumer
        else:
            complain(f"{found.bucket}: {consumer.name} is omitted: {consumer.own.value}")


def _warn_if_over(number: int, maximum: int, what: str) -> None:
    if number > maximum:
        complain(f"{number:,} {what} (maximum {maximum:,}): raise --above")
