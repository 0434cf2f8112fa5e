r"""The fields of a log line: the only place that lists them.

Column order, names, Postgres types, descriptions and the shapes for both readers derive from `FIELDS`.
Source: S3 user guide, "Amazon S3 server access log format" (LogFormat), 2006 to 2026.

The patterns are simple enough for automata: no look-around, no `\d` (which matches digits of any script), no capture
group. A pattern describes the field as written in the line, including `-` (null), without the quotes of a
quoted field.
"""

from dataclasses import dataclass
from typing import Literal

SqlType = Literal["timestamptz", "inet", "smallint", "bigint", "text"]


@dataclass(frozen=True)
class Field:
    """One field of a log line, and column of the record table."""

    name: str
    pattern: str
    sql_type: SqlType
    meaning: str
    quoted: bool = False
    """Written in double quotes; nulls are then `"-"`, `""` or a bare `-`."""
    excludes: str = ""
    """A pattern of texts that match `pattern` but belong to another column."""


TIME_PATTERN = r"[0-3][0-9]/[A-Z][a-z]{2}/[0-9]{4}:[0-2][0-9]:[0-5][0-9]:[0-5][0-9]"
ZONE_PATTERN = r"[+-][01][0-9][0-5][0-9]"
_NAME = r'[^ "]+'
_NUMBER = r"(?:[0-9]+|-)"
_SIGNATURE_VERSION = r"SigV[0-9][0-9A-Za-z]*"
_TLS_VERSION = r"(?:TLS|SSL)[vV]?[0-9](?:\.[0-9])?"
# The beginnings of cipher names; another store's host ID may also consist of capitals and dashes.
_CIPHER_SUITE = r"(?:ECDHE|DHE|AES[0-9]*|TLS|DES|RC4|CHACHA20|CAMELLIA[0-9]*)[_-][A-Z0-9_-]+"
# Columns of the tail that are recognised by their shape. Otherwise, a tail that lacks a column would be read one column
# further on. Truncated TLS versions are among them.
_TOLD_APART = rf"{_SIGNATURE_VERSION}|{_CIPHER_SUITE}|AuthHeader|QueryString|(?:TLS|SSL)[vV]?[0-9.]*|Yes|arn:.*"

FIELDS: tuple[Field, ...] = (
    # A canonical ID, or another store's user (`name`, `tenant$name`): printable ASCII without a backslash, which marks
    # bytes that are not text.
    Field(
        "bucket_owner",
        r"[!#-\[\]-~]+",
        "text",
        "Canonical user id of the owner of the requested bucket.",
    ),
    Field("bucket", _NAME, "text", "Bucket that the request was made to."),
    Field(
        "request_dtime", f"{TIME_PATTERN} {ZONE_PATTERN}", "timestamptz", "Time at which S3 received the request (UTC)."
    ),
    Field("remote_ip", r"[0-9A-Fa-f.:]+|-", "inet", "Apparent IP address of the requester; null for S3's own actions."),
    Field(
        "requester",
        rf'(?:{_NAME}|arn:[^"\[\]]+)',
        "text",
        "Canonical user id, ARN or service of the requester, may contain blanks; null if not authenticated.",
    ),
    Field("request_id", _NAME, "text", "Id that S3 gave the request; several lines may share one."),
    Field(
        "operation",
        r"(?:REST|WEBSITE|SOAP|BATCH|S3)(?:\.[A-Za-z0-9_]+){1,3}",
        "text",
        "Operation, as INTERFACE.METHOD.RESOURCE, e.g. REST.GET.OBJECT.",
    ),
    Field("key", r"[^ ]+", "text", "Object key, URL-encoded as S3 logs it; null for operations on the bucket."),
    Field("request_method", r"[A-Za-z][A-Za-z_-]*", "text", "HTTP method; null if there was no HTTP request."),
    Field("request_uri", r".*", "text", "Request target alone, as the client sent it, query string included.", True),
    Field("http_version", r"HTTP/[0-9](?:\.[0-9])?", "text", "HTTP version of the request, e.g. HTTP/1.1."),
    Field("http_status", r"(?:[0-9]{3}|-)", "smallint", "HTTP status of the response."),
    Field("error_code", r"(?:[A-Za-z0-9_.]+|-)", "text", "S3 error code, e.g. NoSuchKey; null if there was no error."),
    Field("bytes_sent", _NUMBER, "bigint", "Bytes of the response without the HTTP headers; null if none were sent."),
    Field("object_size", _NUMBER, "bigint", "Total size of the object, in bytes."),
    Field(
        "total_time", _NUMBER, "bigint", "Time from receiving the request to sending the response's last byte, in ms."
    ),
    Field("turnaround_time", _NUMBER, "bigint", "Time that S3 spent on the request before it answered, in ms."),
    Field("referrer", r".*", "text", "HTTP Referer header, as the client sent it.", True),
    Field("user_agent", r".*", "text", "HTTP User-Agent header, as the client sent it.", True),
    # S3's have 32 characters, which may be dots; those of other stores and of the documentation have no dots. With a
    # dot, a host name would match.
    Field(
        "version_id",
        r"[A-Za-z0-9_-]+|[A-Za-z0-9._-]{32}|~|x-amz-copy-source:[!#-Z^-~]+",
        "text",
        "Version of the object that was requested.",
        excludes=_TOLD_APART,
    ),
    Field("host_id", r"[A-Za-z0-9+/=._-]+", "text", "Extended request id (x-amz-id-2).", excludes=_TOLD_APART),
    Field(
        "signature_version",
        rf"(?:{_SIGNATURE_VERSION}|-)",
        "text",
        "Signature version, SigV2 or SigV4; null if unsigned.",
    ),
    Field(
        "cipher_suite",
        r"(?:[A-Z0-9]+(?:[_-][A-Z0-9]+)*|-)",
        "text",
        "TLS cipher that was negotiated; null for plain HTTP.",
        excludes=_TLS_VERSION,
    ),
    Field(
        "authentication_type",
        r"(?:[A-Za-z]{4,}|-)",
        "text",
        "AuthHeader, QueryString (presigned URL), or null if unsigned.",
    ),
    # Dell OneFS writes it in quotes, which are not part of the value.
    Field(
        "host_header",
        r"(?:[A-Za-z0-9._:%*~-]+|\[[0-9A-Fa-f:.]+\](?::[0-9]+)?)",
        "text",
        "Endpoint that was used to connect to S3 (the Host header).",
        excludes=_TOLD_APART,
    ),
    Field(
        "tls_version",
        rf"(?:{_TLS_VERSION}|-)",
        "text",
        "TLS version, e.g. TLSv1.3; null for plain HTTP.",
    ),
    Field(
        "access_point_arn", r'(?:arn:[^ "\[\]]+|-)', "text", "ARN of the access point that the request came through."
    ),
    Field("acl_required", r"(?:Yes|-)", "text", "Yes if the request needed an ACL to be authorised, else null."),
    Field("source_region", r"(?:[a-z]+(?:-[a-z0-9]+)*-[0-9]+|-)", "text", "AWS region that the request came from."),
    Field("extra_fields", r".*", "text", "Verbatim text after the last field known here."),
)

FIELD_NAMES: tuple[str, ...] = tuple(field.name for field in FIELDS)
NUMBER_NAMES = tuple(field.name for field in FIELDS if field.sql_type in ("smallint", "bigint"))
TEXT_NAMES = tuple(field.name for field in FIELDS if field.sql_type in ("text", "inet"))
_BY_NAME = {field.name: field for field in FIELDS}


def get_pattern(name: str) -> str:
    """Return the pattern of the field `name`, grouped so that it can be a part of a larger one."""
    return f"(?:{_BY_NAME[name].pattern})"


def get_column_pattern(name: str) -> str:
    """Return a pattern for `re` of a whole unquoted column `name`, without the texts that the field excludes."""
    field = _BY_NAME[name]
    excluded = f'(?!(?:{field.excludes})(?:[ "]|$))' if field.excludes else ""
    return f'{excluded}(?:{field.pattern})(?=[ "]|$)'


def get_excludes(name: str) -> str:
    """Return the pattern of the texts that the field `name` excludes; empty if there are none."""
    return _BY_NAME[name].excludes


def list_names_between(first: str, last: str) -> tuple[str, ...]:
    """Return the names of the fields from `first` to `last`, both included, in the line's order."""
    return FIELD_NAMES[FIELD_NAMES.index(first) : FIELD_NAMES.index(last) + 1]


HEAD_FIELDS = list_names_between("bucket_owner", "key")
"""Before the request; unquoted."""
REQUEST_FIELDS = list_names_between("request_method", "http_version")
"""The one quoted request, in three columns."""
BLOCK_FIELDS = list_names_between("http_status", "turnaround_time")
"""The numeric block after the request; unquoted."""
TAIL_FIELDS = list_names_between("version_id", "source_region")
"""After the user agent; unquoted. Older lines have fewer of them."""

LONG_HOST_ID_PATTERN = r"[A-Za-z0-9+/]{74,}={0,2}"
"""A host ID as S3 writes it: base64 of at least 56 bytes, so at least 76 characters."""
MARCH_2019_PATTERN = r"(?:-|AIDA[A-Z0-9]{17})"
"""The column between version_id and host_id of the lines of 14 to 20 March 2019."""
