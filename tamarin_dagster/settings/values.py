"""Validate single values: bucket names, URLs, folders and files. An error never repeats the value."""

import json
import re
from pathlib import Path
from typing import Annotated
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import AfterValidator, BeforeValidator

from tamarin_dagster.urls import parse_database_url

_ENCODING_HINT = "a password with / @ : # ? must be percent-encoded: / is %2F, @ is %40, : is %3A, # is %23, ? is %3F"
# A `%` that begins no encoded character, and characters that a URL may not hold unencoded.
_UNENCODED = re.compile(r"%(?![0-9A-Fa-f]{2})|[\x01-\x20\x7f]")
_BUCKET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")


def is_bucket_name(value: str) -> bool:
    """Return whether a bucket can have that name. Such a name is safe in a path."""
    return _BUCKET_NAME.fullmatch(value) is not None


def _check_bucket_name(value: str) -> str:
    if not is_bucket_name(value):
        raise ValueError("must be a bucket name: 3 to 255 letters, digits, dots, dashes or underscores")
    return value


def _check_log_bucket_name(value: str) -> str:
    if value.startswith("file:"):
        parts = urlsplit(value)
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            raise ValueError("a file:// URL must name an absolute folder: file:///path/to/log/keys")
        return value
    if "/" in value or ":" in value:
        raise ValueError(
            "must be a bucket name without a prefix (set log_prefix for that), or the file:///… URL of a folder"
        )
    return _check_bucket_name(value)


def _check_http_url(value: str) -> str:
    if "@" in value:
        raise ValueError(
            "must hold no user or password: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile in"
            " `profile`"
        )
    parts = _split_url(value)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be a URL that starts with http:// or https://")
    if "?" in value or "#" in value:
        raise ValueError("must be a URL without a query, such as https://host:9000/path")
    return value


def _check_archive(value: str) -> str:
    if value.startswith("s3://"):
        parts = urlsplit(value)
        if parts.query or parts.fragment:
            raise ValueError("an s3:// URL must name a bucket and a prefix: s3://my-archive/records")
        _check_bucket_name(parts.netloc)
    elif urlsplit(value).scheme == "file":
        _check_log_bucket_name(value)
    elif not value.startswith("/"):
        raise ValueError("must be an absolute folder, or a URL like s3://my-archive/records")
    return value.rstrip("/")


def _check_lake(value: str) -> str:
    """Return the URL of a lake's warehouse. Engines read it as it is, so nothing in it is percent-encoded."""
    value = _check_archive(value)
    if not value.startswith("s3:"):
        value = f"file://{unquote(urlsplit(value).path) if value.startswith('file:') else value}"
    if re.search(r"[#?%]", value):
        raise ValueError("must hold none of the characters # ? %")
    return value


def _check_database_url(value: str) -> str:
    value = value.strip()
    parts, read = _split_url(value), parse_database_url(value)
    if parts is None or read is None or not read.database.strip("/"):
        hint = f"; {_ENCODING_HINT}" if "://" in value else ""
        raise ValueError(f"must be a URL like postgresql://user:password@host:5432/database{hint}")
    try:
        decoded = unquote(value, errors="strict")
    except UnicodeDecodeError:
        # libpq would repeat the password in its error.
        raise ValueError("its percent-encoded characters must be UTF-8") from None
    if "\0" in decoded:
        raise ValueError("must not hold %00")
    _check_parameters(parts)
    return "postgresql" + _UNENCODED.sub(lambda found: f"%{ord(found[0][0]):02X}", value[len(parts.scheme) :])


# Parameters that libpq has had since Postgres 14 (its manual, "Parameter Key Words"), so that psql, psycopg and
# psycopg2 all accept them. client_encoding is missing because records are sent as UTF-8; replication, service and
# passfile are not supported.
_LIBPQ_PARAMETERS = frozenset(
    [
        "application_name",
        "channel_binding",
        "connect_timeout",
        "dbname",
        "fallback_application_name",
        "gssencmode",
        "host",
        "hostaddr",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "krbsrvname",
        "options",
        "password",
        "port",
        "requirepeer",
        "sslcert",
        "sslcompression",
        "sslcrl",
        "sslcrldir",
        "sslkey",
        "sslmode",
        "sslpassword",
        "sslrootcert",
        "sslsni",
        "ssl_max_protocol_version",
        "ssl_min_protocol_version",
        "target_session_attrs",
        "tcp_user_timeout",
        "user",
    ]
)
_PREPARE_THRESHOLD = "prepare_threshold"
_PARAMETER_NAME = re.compile(r"[a-z_]{1,40}")


def _check_parameters(parts: SplitResult) -> None:
    """Raise ValueError for a query string that the drivers would reject with a traceback.

    The error never shows a value. It shows a parameter's name only if it is a plain word, because a password with a raw
    `?` in it looks like a name.
    """
    if parts.fragment:
        raise ValueError("has a raw # in it; write # in a password as %23")
    seen: set[str] = set()
    for piece in filter(None, parts.query.split("&")):
        name, equals, value = piece.partition("=")
        if not equals or not _PARAMETER_NAME.fullmatch(name):
            raise ValueError("must have parameters like ?sslmode=require; write ? in a password as %3F")
        if name not in _LIBPQ_PARAMETERS | {_PREPARE_THRESHOLD}:
            known = ", ".join(sorted(_LIBPQ_PARAMETERS | {_PREPARE_THRESHOLD}))
            raise ValueError(f"has the parameter {name}, which is not supported; use only: {known}")
        if name in seen:
            raise ValueError(f"has the parameter {name} twice; separate several hosts or ports by commas")
        if name == _PREPARE_THRESHOLD and not (value.isascii() and (value.isdigit() or value.lower() == "none")):
            raise ValueError(f"has the parameter {name}, which must be a number, or none")
        seen.add(name)


def drop_prepare_threshold(url: str) -> str:
    """Return a database URL without the parameter that only psycopg knows, for psql and other drivers."""
    place, _, query = url.partition("?")
    kept = [piece for piece in query.split("&") if piece and not piece.startswith(f"{_PREPARE_THRESHOLD}=")]
    return place + ("?" + "&".join(kept) if kept else "")


def read_prepare_threshold(url: str) -> int | None:
    """Return after how many uses psycopg prepares a statement on the server; None, the default, means never.

    The default is never because a pooler such as PgBouncer hands a server connection, with its prepared statements,
    from client to client.
    """
    found = re.search(rf"[?&]{_PREPARE_THRESHOLD}=([0-9]+)", url)
    return int(found[1]) if found else None


def has_parameter(url: str, name: str) -> bool:
    """Return whether the query of a database URL has that parameter."""
    return any(piece.startswith(f"{name}=") for piece in url.partition("?")[2].split("&"))


def _split_url(url: str) -> SplitResult | None:
    """Return the parts of a URL, or None if it is malformed. The standard library's own errors repeat the password."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts


def _to_path(value: object) -> Path:
    if not isinstance(value, str | Path):
        raise ValueError("must be the name of a file")  # noqa: TRY004 - pydantic expects ValueError
    return Path(value)


def _to_paths(value: object) -> tuple[Path, ...]:
    if isinstance(value, str) and value.startswith("["):  # from the environment
        value = json.loads(value)
    if isinstance(value, str | Path):
        return (Path(value),)
    if not isinstance(value, list | tuple) or not all(isinstance(each, str | Path) for each in value):
        raise ValueError("must be the name of a file, or a list of such names")
    return tuple(map(Path, value))


def normalize_place(url: str) -> str:
    """Return a folder or bucket, given as a path or a URL, as one comparable text."""
    parts = urlsplit(url)
    return unquote(parts.path) if parts.scheme == "file" else url.removeprefix("s3://")


BucketName = Annotated[str, AfterValidator(_check_bucket_name)]
LogBucketName = Annotated[str, AfterValidator(_check_log_bucket_name)]
HttpUrl = Annotated[str, AfterValidator(_check_http_url)]
ArchiveUrl = Annotated[str, AfterValidator(_check_archive)]
LakeUrl = Annotated[str, AfterValidator(_check_lake)]
DatabaseUrl = Annotated[str, AfterValidator(_check_database_url)]
FileName = Annotated[Path, BeforeValidator(_to_path)]
FileNames = Annotated[tuple[Path, ...], BeforeValidator(_to_paths)]
