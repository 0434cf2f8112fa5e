"""What values a setting may have: names of buckets, URLs, folders, files. What is wrong is said without the value."""

import json
import re
from pathlib import Path
from typing import Annotated
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import AfterValidator, BeforeValidator
from pydantic_settings import NoDecode

from tamarin_dagster.urls import parse_database_url

_ENCODING_HINT = "a password with / @ : # ? must be percent-encoded: / is %2F, @ is %40, : is %3A, # is %23, ? is %3F"
# A `%` that begins no encoded character, and what no URL may hold as it is.
_UNENCODED = re.compile(r"%(?![0-9A-Fa-f]{2})|[\x01-\x20\x7f]")
_BUCKET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")


def is_bucket_name(value: str) -> bool:
    """Whether a bucket may have that name. It can stand in a path then."""
    return _BUCKET_NAME.fullmatch(value) is not None


def _bucket_name(value: str) -> str:
    if not is_bucket_name(value):
        raise ValueError("must be a bucket name: 3 to 255 letters, digits, dots, dashes or underscores")
    return value


def _log_bucket_name(value: str) -> str:
    if value.startswith("file:"):
        parts = urlsplit(value)
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            raise ValueError("a file:// URL must name an absolute folder: file:///path/to/log/keys")
        return value
    if "/" in value or ":" in value:
        raise ValueError(
            "must be a bucket name alone (the prefix goes into log_prefix), or a file:///… URL of a folder"
        )
    return _bucket_name(value)


def _http_url(value: str) -> str:
    if "@" in value:
        raise ValueError(
            "must hold no user or password: put credentials into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or into"
            " the profile that `profile` names"
        )
    parts = _parts(value)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be a URL that starts with http:// or https://")
    if "?" in value or "#" in value:
        raise ValueError("must be a URL without a query: https://host, with a port and a path if need be")
    return value


def _archive(value: str) -> str:
    if value.startswith("s3://"):
        parts = urlsplit(value)
        if parts.query or parts.fragment:
            raise ValueError("an s3:// URL must name a bucket and a prefix: s3://my-archive/records")
        _bucket_name(parts.netloc)
    elif urlsplit(value).scheme == "file":
        _log_bucket_name(value)
    elif not value.startswith("/"):
        raise ValueError("must be an absolute folder, or a URL like s3://my-archive/records")
    return value.rstrip("/")


def _database_url(value: str) -> str:
    value = value.strip()
    parts, read = _parts(value), parse_database_url(value)
    if parts is None or read is None or not read.database.strip("/"):
        hint = f"; {_ENCODING_HINT}" if "://" in value else ""
        raise ValueError(f"must be a URL like postgresql://user:password@host:5432/database{hint}")
    try:
        decoded = unquote(value, errors="strict")
    except UnicodeDecodeError:
        # libpq would repeat the password in its error
        raise ValueError("its percent-encoded characters must be UTF-8") from None
    if "\0" in decoded:
        raise ValueError("must not hold %00")
    return "postgresql" + _UNENCODED.sub(lambda found: f"%{ord(found[0][0]):02X}", value[len(parts.scheme) :])


def _parts(url: str) -> SplitResult | None:
    """The URL's parts; None if it is none. The standard library's own errors repeat the password."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts


def _file(value: object) -> Path:
    if not isinstance(value, str | Path):
        raise ValueError("must be the name of a file")  # noqa: TRY004 - as pydantic wants it
    return Path(value)


def _files(value: object) -> tuple[Path, ...]:
    if isinstance(value, str) and value.startswith("["):  # from the environment
        value = json.loads(value)
    if isinstance(value, str | Path):
        return (Path(value),)
    if not isinstance(value, list | tuple) or not all(isinstance(each, str | Path) for each in value):
        raise ValueError("must be the name of a file, or a list of such names")
    return tuple(map(Path, value))


def spelled_out(url: str) -> str:
    """A folder or bucket as one text, however it is written."""
    parts = urlsplit(url)
    return unquote(parts.path) if parts.scheme == "file" else url.removeprefix("s3://")


BucketName = Annotated[str, AfterValidator(_bucket_name)]
LogBucketName = Annotated[str, AfterValidator(_log_bucket_name)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
ArchiveUrl = Annotated[str, AfterValidator(_archive)]
DatabaseUrl = Annotated[str, AfterValidator(_database_url)]
FileName = Annotated[Path, BeforeValidator(_file)]
FileNames = Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_files)]
