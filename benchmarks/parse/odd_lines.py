r"""Make odd lines of different kinds, each with its true fields, and lines that are not records.

A record is written from its fields, so its content is known without reading it. S3 has been seen to write lines of
these kinds, or a client can make S3 write them. Bytes that are not UTF-8 are surrogates in the texts
(`errors="surrogateescape"`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from tamarin_dagster.logformat import FIELD_NAMES

OWNER = "79a59df900b949e55d96a1e698fbacedfd6e09d98eacf8f8d5218e7cd47ef2be"
HOST_ID = "s9lzHYrFp76ZVxRcpX9+5cjAnEH2ROuNkd2BHfIa6UkFVdtjf5mKR3/eTPFvsiP/XV/VLi31234="
TAIL = (
    f"- {HOST_ID} SigV4 TLS_AES_128_GCM_SHA256 AuthHeader media-example-org.s3.us-east-1.amazonaws.com TLSv1.3"
    " - - us-east-1"
)
FALSE_BLOCK = 'HTTP/1.1" 404 - 1 1 1 1'
FIELDS_TODAY = 27
"""The number of fields of a line. The request counts as one."""
_AFTER_AGENT = FIELD_NAMES.index("version_id")
_FIELDS_TO_AGENT = 17

Fields = dict[str, str | None]
"""The text of each of `FIELD_NAMES`; None is null. The request time is `06/Feb/2019:00:00:38 +0000`."""


@dataclass(frozen=True)
class OddLine:
    """One line, without its LF."""

    kind: str
    line: bytes
    fields: Fields | None
    """None means that the line is not a record."""


@dataclass(frozen=True)
class _Kind:
    """How the lines of a kind differ from the common one."""

    changes: Fields = field(default_factory=dict)
    quoted_null: str = '"-"'
    count: int = FIELDS_TODAY
    """The number of fields of the line. All fields after them are null."""
    edit: Callable[[str], str] = str
    """A change of the written line that does not change a field."""


def _common(number: int) -> Fields:
    """Return the fields of a common line. Each `number` is another request."""
    key = f"images/2025/{1 + number % 12:02d}/harbour-{number % 1000:04d}.jpg"
    moment = f"26/Dec/2025:{number // 3600 % 24:02d}:{number // 60 % 60:02d}:{number % 60:02d} +0000"
    return dict.fromkeys(FIELD_NAMES) | {
        "bucket_owner": OWNER,
        "bucket": "media-example-org",
        "request_dtime": moment,
        "remote_ip": f"192.0.2.{number % 256}",
        "requester": f"arn:aws:iam::111122223333:user/editor-{number % 7}",
        "request_id": f"{number:016X}",
        "operation": "REST.GET.OBJECT",
        "key": key,
        "request_method": "GET",
        "request_uri": f"/{key}",
        "http_version": "HTTP/1.1",
        "http_status": "200",
        "bytes_sent": str(10_000 + number),
        "object_size": str(10_000 + number),
        "total_time": str(20 + number % 90),
        "turnaround_time": str(10 + number % 10),
        "referrer": "https://www.example.org/gallery/2025/",
        "user_agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        "host_id": HOST_ID,
        "signature_version": "SigV4",
        "cipher_suite": "TLS_AES_128_GCM_SHA256",
        "authentication_type": "AuthHeader",
        "host_header": "media-example-org.s3.us-east-1.amazonaws.com",
        "tls_version": "TLSv1.3",
        "source_region": "us-east-1",
    }


def _written(fields: Fields, quoted_null: str, count: int) -> str:
    """Return the line with `count` fields, and with the extra fields if there are any."""

    def plain(*names: str) -> list[str]:
        return [fields[name] or "-" for name in names]

    def quoted(text: str | None) -> str:
        return quoted_null if text is None else f'"{text}"'

    request = [fields[name] for name in ("request_method", "request_uri", "http_version")]
    owner, bucket, moment, *head = plain(*FIELD_NAMES[: FIELD_NAMES.index("request_method")])
    columns = [
        *(owner, bucket, f"[{moment}]", *head),
        quoted(" ".join(part for part in request if part is not None) or None),
        *plain("http_status", "error_code", "bytes_sent", "object_size", "total_time", "turnaround_time"),
        quoted(fields["referrer"]),
        quoted(fields["user_agent"]),
        *plain(*FIELD_NAMES[_AFTER_AGENT : _AFTER_AGENT + count - _FIELDS_TO_AGENT]),
    ]
    return " ".join([*columns, *filter(None, [fields["extra_fields"]])])


def _without_request(operation: str, **changes: str | None) -> Fields:
    """Return the differences in lines of S3's own actions, which have no HTTP request."""
    names = ("request_method", "request_uri", "http_version", "http_status", "bytes_sent", "total_time",
             "turnaround_time", "referrer", "user_agent")  # fmt: skip
    nothing: Fields = dict.fromkeys(names)
    return nothing | {"operation": operation} | changes


def _behind_version_id(column: str) -> Callable[[str], str]:
    """Return a function that inserts the column of March 2019."""
    return lambda line: line.replace(f" - {HOST_ID} ", f" - {column} {HOST_ID} ")


_UNSIGNED: Fields = dict.fromkeys(("signature_version", "cipher_suite", "authentication_type"))
_NO_HOST: Fields = dict.fromkeys(FIELD_NAMES[FIELD_NAMES.index("signature_version") : -1])
_AGENT_OF_PIP = (
    'pip/24.0 {"ci":null,"cpu":"x86_64","distro":{"id":"jammy","libc":{"lib":"glibc","version":"2.35"},'
    '"name":"Ubuntu"},"implementation":{"name":"CPython","version":"3.10.12"},"installer":{"name":"pip"}}'
)

_KINDS: dict[str, _Kind] = {
    "quotes in a presigned URI": _Kind(
        {
            "request_uri": '/reel.mov?response-content-disposition=attachment;%20filename="x y.mov"&X-Amz-Expires=60',
            "authentication_type": "QueryString",
        }
    ),
    "blanks in the URI": _Kind({"request_uri": "/a file with blanks.txt"}),
    "false status in the URI": _Kind({"request_uri": f"/a {FALSE_BLOCK} b"}),
    "attack in the URI": _Kind({"request_uri": '/?x="><script>$(id);\\"', "http_status": "403"}),
    "URI of 8 KB": _Kind({"request_uri": "/search?q=" + "harbour%20lights+" * 500}),
    "no HTTP version": _Kind({"http_version": None}),
    "HTTP/2": _Kind({"http_version": "HTTP/2"}),
    "OPTIONS *": _Kind({"operation": "REST.OPTIONS.PREFLIGHT", "key": None, "request_method": "OPTIONS",
                        "request_uri": "*"}),
    "OPTIONS": _Kind({"operation": "REST.OPTIONS.PREFLIGHT", "request_method": "OPTIONS", "bytes_sent": None,
                      "object_size": None}),
    "quotes in the referrer": _Kind({"referrer": 'https://example.org/?q="old harbour" lights'}),
    "blanks in the referrer": _Kind({"referrer": "https://example.org/two words"}),
    "false status in the referrer": _Kind({"referrer": f'https://example.org/ {FALSE_BLOCK} "x'}),
    "JSON of pip": _Kind({"user_agent": _AGENT_OF_PIP}),
    "agent that begins with a quote": _Kind({"user_agent": '"Mozilla/5.0 (Windows NT 10.0; Win64; x64)'}),
    "agent in quotes of its own": _Kind({"user_agent": '"Mozilla/5.0 (Windows NT 10.0; Win64; x64)"'}),
    "false tail in the agent": _Kind({"user_agent": f'curl/8.5.0" {TAIL}'}),
    "false tail and quotes in the agent": _Kind({"user_agent": f'curl/8.5.0" {TAIL} "x" -'}),
    "UTF-8 in the agent": _Kind({"user_agent": "Kamera-Ü/2.1 (日本語; Zürich) 🎬"}),
    "no UTF-8 in the agent": _Kind({"user_agent": "M\udcfcnchner Player/1.0 \udcff\udcfe"}),
    "NUL in the agent": _Kind({"user_agent": "scanner/1.0 \0\0 probe"}),
    "backslashes in the agent": _Kind({"user_agent": r"probe\x41\"\\ \n"}),
    "TAB, VT and U+2028 in the agent": _Kind({"user_agent": "a\tb\x0bc\u2028d\x85e"}),
    "batch delete": _Kind(
        _without_request("BATCH.DELETE.OBJECT", http_status="204", bytes_sent=None), quoted_null="-"
    ),
    "copy's source": _Kind(
        _without_request("REST.COPY.OBJECT_GET", http_status="200", total_time="12", turnaround_time="9"),
        quoted_null="-",
    ),
    "lifecycle": _Kind(
        _without_request("S3.EXPIRE.OBJECT", remote_ip=None, requester="AmazonS3") | _NO_HOST
    ),
    "four-part operation": _Kind(
        _without_request("S3.COMPUTE.OBJECT.CHECKSUM", request_id="0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0ff",
                         remote_ip=None, requester="svc:s3.amazonaws.com") | _NO_HOST,
        quoted_null="-",
    ),
    "empty nulls": _Kind({"referrer": None, "user_agent": None}, quoted_null='""'),
    "bare nulls": _Kind({"referrer": None, "user_agent": None}, quoted_null="-"),
    "CloudFront's requester": _Kind(
        {"requester": "arn:aws:iam::cloudfront:user/CloudFront Origin Access Identity E2EXAMPLE1OAI7",
         "remote_ip": "10.0.31.14", "user_agent": "Amazon CloudFront"}
    ),
    "requester with an @": _Kind(
        {"requester": "arn:aws:sts::111122223333:assumed-role/AWSReservedSSO_Editors_0123456789abcdef/jane@example.org"}
    ),
    "IPv6": _Kind({"remote_ip": "2001:db8:85a3::8a2e:370:7334"}),
    "zone": _Kind({"request_dtime": "26/Dec/2025:12:34:56 +0200"}),
    "sizes over 2^31": _Kind({"bytes_sent": "5368709120", "object_size": "5497558138880", "total_time": "2147483648"}),
    "17 fields": _Kind(count=17),
    "18 fields": _Kind(count=18),
    "24 fields": _Kind(count=24),
    "25 fields": _Kind(count=25),
    "26 fields": _Kind(count=26),
    "unknown fields": _Kind({"extra_fields": "new-1 - 17"}),
    "unknown quoted fields": _Kind({"extra_fields": '"new one" - "and another"'}),
    "March 2019, null": _Kind(count=23, edit=_behind_version_id("-")),
    "March 2019": _Kind(
        {"extra_fields": "AIDAEXAMPLE0123456789"}, count=23,
        edit=lambda line: _behind_version_id("AIDAEXAMPLE0123456789")(line.removesuffix(" AIDAEXAMPLE0123456789")),
    ),
    "website": _Kind({"operation": "WEBSITE.GET.OBJECT", "requester": None} | _UNSIGNED),
    "doubled blanks": _Kind(edit=lambda line: line.replace(" 192.", "  192.").replace(" 200 ", "   200 ")),
    "trailing blanks": _Kind(edit=lambda line: f"{line}  "),
    "CRLF": _Kind(edit=lambda line: f"{line}\r"),
}  # fmt: skip

_APACHE = (
    '192.0.2.7 - - [26/Dec/2025:00:00:38 +0000] "GET /a.png HTTP/1.1" 200 2326 "https://example.org/" "curl/8.5.0"'
)
_NO_RECORDS: dict[str, Callable[[str], str]] = {
    "torn in the head": lambda line: line[: len(OWNER) + 60],
    "torn in the request": lambda line: line[: line.index(" HTTP/")],
    "torn in the agent": lambda line: line[: line.index("Gecko")],
    "spliced records": lambda line: line[: line.index(" REST.")] + line,
    "30 February": lambda line: line.replace("[26/Dec/", "[30/Feb/"),
    "status OK": lambda line: line.replace(" 200 ", " OK "),
    "negative number": lambda line: line.replace(" 200 - ", " 200 - -"),
    "Apache's combined format": lambda _: _APACHE,
}

KINDS: tuple[str, ...] = tuple(_KINDS)
NO_RECORD_KINDS: tuple[str, ...] = tuple(_NO_RECORDS)


def odd_record(kind: str, number: int) -> OddLine:
    """Return a line of one of `KINDS`. Each `number` is another request."""
    made = _KINDS[kind]
    fields = _common(number) | made.changes
    # fields after the end of the line are null
    unwritten = FIELD_NAMES[_AFTER_AGENT + made.count - _FIELDS_TO_AGENT : -1]
    line = made.edit(_written(fields, made.quoted_null, made.count))
    return OddLine(kind, line.encode("utf-8", "surrogateescape"), fields | dict.fromkeys(unwritten))


def no_record(kind: str, number: int) -> OddLine:
    """Return a line of one of `NO_RECORD_KINDS`."""
    line = _written(_common(number), '"-"', FIELDS_TODAY)
    return OddLine(kind, _NO_RECORDS[kind](line).encode(), None)
