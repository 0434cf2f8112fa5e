"""Lines with a rare shape: presigned, signed and batch requests, and S3's own actions without a request.

They are two lines in a hundred, so they can be written one by one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

import numpy as np

from tamarin_dagster.demo.audience import signed_tail
from tamarin_dagster.demo.catalogue import SiteFile
from tamarin_dagster.demo.draws import host_ids, request_ids
from tamarin_dagster.demo.log_times import compact_day, line_start
from tamarin_dagster.demo.requests import Span
from tamarin_dagster.demo.site import ACCOUNT, OWNER

SIGNER = f"arn:aws:iam::{ACCOUNT}:user/media-shop"
BACKUP = f"arn:aws:sts::{ACCOUNT}:assumed-role/nightly-backup/i-0abcd1234ef567890"
CLEANER = f"arn:aws:iam::{ACCOUNT}:user/cleanup-job"
ACCESS_POINT = "arn:aws:s3:{region}:" + ACCOUNT + ":accesspoint/editors"
# The requesters of uploads: the owner's canonical ID, a user, a single-sign-on session with an @, and a service role.
UPLOADERS = (
    OWNER,
    f"arn:aws:iam::{ACCOUNT}:user/editor",
    f"arn:aws:sts::{ACCOUNT}:assumed-role/AWSReservedSSO_Editors_0123456789abcdef/jane.doe@example.org",
    f"arn:aws:sts::{ACCOUNT}:assumed-role/transcoder/transcoder-7f9c",
)
TOOLS = (
    "aws-cli/2.31.12 md/awscrt#0.27.6 ua/2.1 os/linux#6.1.148-173.267.amzn2023.x86_64 md/arch#x86_64",
    "Boto3/1.40.55 md/Botocore#1.40.55 ua/2.1 os/macos#24.6.0 md/arch#arm64 lang/python#3.12.11 cfg/retry-mode#legacy",
    "aws-sdk-go-v2/1.39.2 ua/2.1 os/linux lang/go#1.25.1 md/GOOS#linux md/GOARCH#arm64 api/s3#1.88.3",
    "S3Console/0.4, aws-internal/3 aws-sdk-java/1.12.750 Linux/5.10.240 OpenJDK_64-Bit_Server_VM/25.462-b08",
)


@dataclass(frozen=True)
class RareLines:
    """Lines and the seconds (since 1970) of their requests."""

    seconds: list[int]
    lines: list[str]


@dataclass(frozen=True)
class _Request:
    """What the parts of one rare line may draw from; `chance` is a number from 0 to 999,999."""

    start: str
    second: int
    chance: int
    request_id: str
    host_id: str
    file: SiteFile
    visitor: str
    agent: str


def presigned_download(span: Span, request: _Request) -> str:
    """Return a download by a link that the shop has signed; half of the links have a file name in raw double quotes."""
    day = compact_day(request.second)
    signature = (
        f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F{day}%2F{span.site.region}%2Fs3%2Faws4_request"
        f"&X-Amz-Date={day}T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=XXXXXXXX"
    )
    file = request.file
    base = quote(file.name.rsplit("/", 1)[-1], safe="()")
    query = (
        f'response-content-disposition=attachment;%20filename="{base}"&{signature}' if request.chance % 2 else signature
    )
    outcome = (
        "403 AccessDenied 391 -" if request.chance % 17 == 0 else f"200 - {file.size} {file.size}"
    )  # 403: the link has expired
    tail = signed_tail(span.site, authentication="QueryString", source_region="-")
    address = request.visitor.split(" ", 1)[0]
    return (
        f"{request.start} {address} {SIGNER} {request.request_id} REST.GET.OBJECT {file.logged_key} "
        f'"GET /{file.uri}?{query} HTTP/1.1" {outcome} {40 + file.size // 9_000} {20 + request.chance % 60} '
        f'"https://shop.example.org/orders/{request.chance}" {request.agent} {request.host_id} {tail}'
    )


def upload(span: Span, request: _Request) -> str:
    """Return the upload of a new or changed file, by one of four kinds of requester."""
    which = request.chance % len(UPLOADERS)
    file = request.file
    access_point = ACCESS_POINT.format(region=span.site.region) if which == 2 else "-"
    tail = signed_tail(span.site, access_point=access_point, source_region=None if which == 3 else "-")
    address, times = f"192.0.2.{200 + request.chance % 8}", f"{90 + file.size // 40_000} {30 + request.chance % 60}"
    return (
        f"{request.start} {address} {UPLOADERS[which]} {request.request_id} REST.PUT.OBJECT {file.logged_key} "
        f'"PUT /{file.uri}?x-id=PutObject HTTP/1.1" 200 - - {file.size} {times} '
        f'"-" "{TOOLS[which]}" - {request.host_id} {tail}'
    )


def bucket_operation(span: Span, request: _Request) -> str:
    """Return a bucket operation of the nightly backup: requests without a key."""
    operation, call, status, sent = (
        (
            "REST.GET.BUCKET",
            "GET /?list-type=2&prefix=podcasts%2F&encoding-type=url",
            "200 -",
            str(20_000 + request.chance % 80_000),
        ),
        ("REST.HEAD.BUCKET", "HEAD /", "200 -", "-"),
        ("REST.GET.LOCATION", "GET /?location", "200 -", "142"),
        ("REST.GET.BUCKETPOLICY", "GET /?policy", "404 NoSuchBucketPolicy", "318"),
    )[request.chance % 4]
    times = f"{40 + request.chance % 40} {8 + request.chance % 30}"
    return (
        f'{request.start} 192.0.2.220 {BACKUP} {request.request_id} {operation} - "{call} HTTP/1.1" {status} {sent} - '
        f'{times} "-" "{TOOLS[0]}" - {request.host_id} {signed_tail(span.site)}'
    )


def lifecycle(span: Span, request: _Request) -> str:
    """Return an action of S3's own that removes or moves an object: no address, no request, no times."""
    del span
    operation = ("S3.EXPIRE.OBJECT", "S3.EXPIRE.OBJECT", "S3.TRANSITION_INT.OBJECT")[request.chance % 3]
    key = f"tmp/render-{request.chance:06d}.part" if operation == "S3.EXPIRE.OBJECT" else request.file.logged_key
    size = 1_000 + request.chance
    return (
        f'{request.start} - AmazonS3 {request.request_id} {operation} {key} "-" - - - {size} - - "-" "-" - '
        f"{request.host_id} - - - - - - - -"
    )


_ONE_BY_ONE: tuple[Callable[[Span, _Request], str], ...] = (presigned_download, upload, bucket_operation, lifecycle)
BATCH_LINES = 8


def batch_deletes(span: Span, count: int) -> RareLines:
    """Return multi-object deletes: the line of the request and one for each key, with the same request ID and host ID.

    The lines of the keys have bare nulls, as S3 writes them, where other lines have quoted ones.
    """
    groups = -(-count // BATCH_LINES)
    ids, hosts = request_ids(span.draws, groups), host_ids(span.draws, groups)
    chances, moments = span.draws.below(1_000_000, groups).tolist(), span.moments(groups).tolist()
    tail = signed_tail(span.site)
    seconds: list[int] = []
    lines: list[str] = []
    for request_id, host_id, chance, second in zip(ids, hosts, chances, moments, strict=True):
        start = f"{line_start(span.site, second)} 192.0.2.221 {CLEANER} {request_id}"
        lines.append(
            f'{start} REST.POST.MULTI_OBJECT_DELETE - "POST /?delete HTTP/1.1" 200 - {400 + chance % 900} - '
            f'{30 + chance % 90} - "-" "{TOOLS[1]}" - {host_id} {tail}'
        )
        keys = (f"tmp/upload-{chance:06d}-{part}.part" for part in range(BATCH_LINES - 1))
        lines += [
            f"{start} BATCH.DELETE.OBJECT {key} - 204 - - {chance + 17} - - - - - {host_id} {tail}" for key in keys
        ]
        seconds += [second] * BATCH_LINES
    return RareLines(seconds[:count], lines[:count])


def rare_lines(span: Span, counts: list[int]) -> RareLines:
    """Return rare lines, as many of each kind as `counts` says, in the order of `RARE_KINDS`."""
    batch = batch_deletes(span, counts[-1])
    total = sum(counts[:-1])
    writers = np.repeat(np.arange(len(_ONE_BY_ONE)), counts[:-1]).tolist()
    seconds = span.moments(total).tolist()
    columns = zip(
        writers,
        seconds,
        span.draws.below(1_000_000, total).tolist(),
        request_ids(span.draws, total),
        host_ids(span.draws, total),
        span.files_by_popularity(total).tolist(),
        span.visitors(total).tolist(),
        strict=True,
    )
    lines = []
    for writer, second, chance, request_id, host_id, file, visitor in columns:
        client = span.people.clients[visitor]
        start = line_start(span.site, second)
        request = _Request(start, second, chance, request_id, host_id, span.files.files[file], client.who, client.agent)
        lines.append(_ONE_BY_ONE[writer](span, request))
    return RareLines(batch.seconds + seconds, batch.lines + lines)


# Lines per 1,000, in the order of `_ONE_BY_ONE`, the batch deletes last. Half of the first kind have raw quotes in the
# URI.
RARE_KINDS = (6, 4, 2, 3, 3)
