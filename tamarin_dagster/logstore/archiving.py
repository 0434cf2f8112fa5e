"""Where records are archived: a folder, or a prefix of a bucket in S3. A file there is always complete."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote, urlsplit

from tamarin_dagster.logstore.store import LogStoreError
from tamarin_dagster.private_files import write_whole_file
from tamarin_dagster.settings import LAKE_SCHEME

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class ArchiveError(LogStoreError):
    """The archive cannot be written or read, or is not usable. The text names it, the cause and the remedy."""


def place_name(url: str) -> str:
    """Return one text for each place, whatever spelling the settings use: a folder's path, or an s3:// URL.

    A lake's URL is returned as it is.
    """
    if url.startswith(LAKE_SCHEME):
        return url
    parts = urlsplit(url)
    if parts.scheme == "s3":
        return f"s3://{parts.netloc}/{parts.path.strip('/')}".rstrip("/")
    return os.path.normpath(unquote(parts.path) if parts.scheme == "file" else url)


@dataclass(frozen=True, slots=True)
class FileEnd:
    """The last bytes of a file, and the size of the whole file."""

    data: bytes
    size: int


class ArchivePlace(Protocol):
    """What the project needs from an archive. Names are paths below it. All methods raise ArchiveError."""

    @property
    def url(self) -> str:
        """The place as written in the settings."""
        ...

    @property
    def name(self) -> str:
        """The comparable name; see place_name."""
        ...

    def writing(self, name: str) -> Any:
        """Return a context in which to write a file; it gets its name, and is durable, when the context ends without an
        error.
        """
        ...

    def end_of(self, name: str, size: int) -> FileEnd | None:
        """Return the last `size` bytes of a file, or all of a smaller one; None if there is no such file."""
        ...

    def has_files(self, folder: str) -> bool:
        """Return whether there is a file in that folder."""
        ...

    def remove(self, name: str) -> None:
        """Delete a file, if it exists."""
        ...


class FolderArchive:
    """A folder on this machine."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._folder = Path(unquote(urlsplit(url).path)) if url.startswith("file:") else Path(url)
        self.name = place_name(url)

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """See ArchivePlace."""
        with self._explain_errors(), write_whole_file(self._folder / name) as file:
            yield file

    def end_of(self, name: str, size: int) -> FileEnd | None:
        """See ArchivePlace."""
        with self._explain_errors():
            try:
                with (self._folder / name).open("rb") as file:
                    whole = file.seek(0, 2)
                    file.seek(max(0, whole - size))
                    return FileEnd(file.read(), whole)
            except FileNotFoundError:
                return None

    def has_files(self, folder: str) -> bool:
        """See ArchivePlace."""
        with self._explain_errors():
            try:
                with os.scandir(self._folder / folder) as found:
                    # Names that begin with a dot are files that a killed process was writing.
                    return any(not each.name.startswith(".") for each in found)
            except FileNotFoundError:
                return False

    def remove(self, name: str) -> None:
        """See ArchivePlace."""
        with self._explain_errors():
            (self._folder / name).unlink(missing_ok=True)

    @contextmanager
    def _explain_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            said = error.strerror or error
            raise ArchiveError(
                f"archive {self.url}: {said} - check this account's write permission and the free space"
            ) from error


class S3Archive:
    """A prefix of a bucket in S3 or a compatible store, reached with the log bucket's settings.

    A file is written to the local disk and then uploaded, in parts if it is large; S3 shows it when the upload is
    complete.
    """

    def __init__(self, client: "S3Client", url: str) -> None:
        self.url = url
        self._client = client
        parts = urlsplit(url)
        self._bucket, self._prefix = parts.netloc, f"{parts.path.strip('/')}/" if parts.path.strip("/") else ""
        self.name = place_name(url)

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """See ArchivePlace."""
        with tempfile.TemporaryFile(prefix="tamarin-archive-") as file:
            yield file
            file.seek(0)
            with self._explain_errors("s3:PutObject"):
                self._client.upload_fileobj(file, self._bucket, self._prefix + name)

    def end_of(self, name: str, size: int) -> FileEnd | None:
        """See ArchivePlace."""
        with self._explain_errors("s3:GetObject"):
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + name, Range=f"bytes=-{size}")
            except self._client.exceptions.NoSuchKey:
                return None
            data = answer["Body"].read()
            # The header looks like "bytes 0-99/1234". If the file is smaller, or the store ignores the range, all of it
            # is sent.
            whole = answer.get("ContentRange", "").rpartition("/")[2]
            return FileEnd(data[-size:], int(whole) if whole.isdigit() else len(data))

    def has_files(self, folder: str) -> bool:
        """See ArchivePlace."""
        with self._explain_errors("s3:ListBucket"):
            found = self._client.list_objects_v2(
                Bucket=self._bucket, Prefix=f"{self._prefix}{folder.rstrip('/')}/", MaxKeys=1
            )
            return bool(found.get("Contents"))

    def remove(self, name: str) -> None:
        """See ArchivePlace."""
        with self._explain_errors("s3:DeleteObject"):
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + name)

    @contextmanager
    def _explain_errors(self, action: str) -> Iterator[None]:
        # boto3 takes a fifth of a second to import, and is already imported if there is a client.
        from boto3.exceptions import Boto3Error  # noqa: PLC0415
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

        from tamarin_dagster.logstore.errors import summarize_error  # noqa: PLC0415

        try:
            yield
        except (BotoCoreError, ClientError, Boto3Error) as error:
            raise ArchiveError(
                f"archive {self.url}: {summarize_error(error)} - check that it exists, and that {action} is granted",
                transient=True,
            ) from error
