"""Delete generations from S3. Each request names the exact generation to delete, and the store must honour that.

S3 does (user guide, "Conditional deletes"), for single log keys and for batches. Some compatible stores honour it for
single ones only, some not at all, and those silently delete whatever has the name by then. So a store is tested first,
on names that no object has. If it accepts a deletion without a condition, and refuses one with a condition, it honours
the condition.
"""

import contextlib
import logging
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING
from uuid import uuid4

from botocore.exceptions import BotoCoreError, ClientError

from tamarin_dagster.logkey import CHANGED_SINCE_LOADED, LogObject
from tamarin_dagster.logstore.errors import get_code, get_status, summarize_error
from tamarin_dagster.logstore.store import Deleted
from tamarin_dagster.logstore.threads import Threads

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ErrorTypeDef, HeadObjectOutputTypeDef, ObjectIdentifierTypeDef

_log = logging.getLogger(__name__)

# A single DELETE is one request for each log key; boto3 sends about 1,000/s from 16 threads.
DELETE_THREADS = 16
# S3's own limit for DeleteObjects.
BATCH_KEYS = 1000
# For fewer log keys, testing whether the store honours conditions in a batch costs more than batches save.
_WORTH_A_BATCH = 50

_CHANGED_CODES = ("PreconditionFailed", "ConditionalRequestConflict")
# The version ID of an object that was written before versioning was enabled, or while it was suspended.
NULL_VERSION = "null"
_NO_ETAG = '"00000000000000000000000000000000"'


class Conditions(IntEnum):
    """Which conditions the store honours, as far as tested."""

    NONE = 0
    SINGLE = 1
    BATCH = 2


class Deleter:
    """Delete generations in the fastest way that is safe with this store.

    In a versioned bucket, the version that was read identifies the generation. Otherwise the ETag does: in batches
    where the store honours conditions there, otherwise one by one. If it honours no conditions, a HEAD just before the
    deletion compares the ETag, which leaves the moment between the two requests unprotected.
    """

    def __init__(self, client: "S3Client", bucket: str, threads: Threads) -> None:
        self._client = client
        self._bucket = bucket
        self._threads = threads
        self._honours_single: bool | None = None
        self._honours_batch: bool | None = None

    def delete(self, objects: Sequence[LogObject]) -> list[Deleted]:
        """See LogStore.delete."""
        plain = [item for item in objects if item.version_id is None]
        versions = [item for item in objects if item.version_id is not None]
        done = {id(deleted.object): deleted for deleted in self._delete_plain(plain)}
        done |= {id(d.object): d for d in self._threads.map(self._delete_version, versions, lambda: DELETE_THREADS)}
        return [done[id(item)] for item in objects]

    def _delete_plain(self, objects: Sequence[LogObject]) -> list[Deleted]:
        honoured = self._conditions(objects)
        if honoured is Conditions.BATCH:
            batches = [objects[start : start + BATCH_KEYS] for start in range(0, len(objects), BATCH_KEYS)]
            return self._retry_refusals([deleted for batch in batches for deleted in self._delete_batch(batch)])
        one = self._delete_one if honoured is Conditions.SINGLE else self._look_and_delete
        return self._threads.map(one, objects, lambda: DELETE_THREADS)

    def _delete_batch(self, objects: Sequence[LogObject]) -> list[Deleted]:
        wanted: list[ObjectIdentifierTypeDef] = [{"Key": item.key, "ETag": f'"{item.etag}"'} for item in objects]
        try:
            answer = self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": wanted, "Quiet": False})
        except (ClientError, BotoCoreError, ValueError) as error:
            return [Deleted(item, f"DeleteObjects failed: {summarize_error(error)}") for item in objects]
        gone = {deleted.get("Key") for deleted in answer.get("Deleted", [])}
        errors = {error.get("Key"): _explain_batch_error(error) for error in answer.get("Errors", [])}
        silence = "DeleteObjects did not report on it"
        markers = {
            d.get("Key"): d.get("DeleteMarkerVersionId") for d in answer.get("Deleted", []) if d.get("DeleteMarker")
        }
        return [
            self._delete_below(item, markers[item.key])
            if item.key in markers
            else Deleted(item, errors.get(item.key, None if item.key in gone else silence))
            for item in objects
        ]

    def _retry_refusals(self, results: list[Deleted]) -> list[Deleted]:
        """Try again, one by one, the log keys that a batch reports as overwritten: some stores compare ETags
        differently there.

        If one of them is deleted then, no more batches are sent.
        """
        refused = [deleted.object for deleted in results if deleted.error == CHANGED_SINCE_LOADED]
        again = {id(d.object): d for d in self._threads.map(self._delete_one, refused, lambda: DELETE_THREADS)}
        if any(deleted.error is None for deleted in again.values()):
            self._honours_batch = False
        return [again.get(id(deleted.object), deleted) for deleted in results]

    def _look_and_delete(self, item: LogObject) -> Deleted:
        try:
            found = self._client.head_object(Bucket=self._bucket, Key=item.key)["ETag"].strip('"')
        except ClientError as error:
            # A HEAD has no body, so a missing bucket looks like a missing log key. The DELETE distinguishes them.
            if get_status(error) != 404:
                return Deleted(item, f"DELETE failed: the HEAD before it: {summarize_error(error)}")
        except (BotoCoreError, ValueError) as error:
            return Deleted(item, f"DELETE failed: the HEAD before it: {summarize_error(error)}")
        else:
            if found != item.etag:
                return Deleted(item, CHANGED_SINCE_LOADED)
        return self._delete_one(item)

    def _delete_one(self, item: LogObject) -> Deleted:
        try:
            answer = self._client.delete_object(Bucket=self._bucket, Key=item.key, IfMatch=f'"{item.etag}"')
        except (ClientError, BotoCoreError, ValueError) as error:
            return Deleted(item, _explain_refusal(error))
        return self._delete_below(item, answer.get("VersionId")) if answer.get("DeleteMarker") else Deleted(item)

    def _delete_version(self, item: LogObject) -> Deleted:
        """Delete the version that was read, even if it was overwritten; otherwise a later deletion would bring it back.

        The ledger must keep an overwritten one as unpurged, so that the newer one takes its place. An older version
        that reappears is older than what is purged, so it is never loaded. Its history is not read, because that takes
        one request for each log key and the permission s3:ListBucketVersions.
        """
        try:
            current = self._version(item.key)
            # An older version reappeared: a purge that was killed has already deleted ours.
            is_older = current is not None and current["LastModified"] < item.last_modified
            overwritten = current is not None and not _is_of(current, item) and not is_older
            if item.version_id != NULL_VERSION:
                self._client.delete_object(Bucket=self._bucket, Key=item.key, VersionId=item.version_id or "")
            elif current is None or current.get("VersionId") != NULL_VERSION:
                self._delete_null_version(item)
            elif not overwritten:
                self._client.delete_object(
                    Bucket=self._bucket, Key=item.key, VersionId=NULL_VERSION, IfMatch=f'"{item.etag}"'
                )
        except (ClientError, BotoCoreError, ValueError) as error:
            return Deleted(item, _explain_refusal(error))
        return Deleted(item, CHANGED_SINCE_LOADED if overwritten else None)

    def _delete_null_version(self, item: LogObject) -> bool:
        """Delete the object from before versioning, which is now below a version or a delete marker. Return whether it
        existed.

        An object that is written while versioning is suspended becomes the version "null", so the ETag identifies it.
        The request has no condition, because a store may compare it with the current version of that name.
        """
        found = self._version(item.key, NULL_VERSION)
        if found is None or found["ETag"].strip('"') != item.etag:
            return False
        self._client.delete_object(Bucket=self._bucket, Key=item.key, VersionId=NULL_VERSION)
        return True

    def _delete_below(self, item: LogObject, marker: str | None) -> Deleted:
        """Delete an object below the delete marker that a deletion without a version left; its bucket is versioned by
        now.

        Delete the object by its version first, and then the marker.
        """
        try:
            if marker != NULL_VERSION and self._delete_null_version(item):
                self._remove_marker(item.key, marker)
        except (ClientError, BotoCoreError, ValueError) as error:
            return Deleted(item, _explain_refusal(error))
        return Deleted(item)

    def _version(self, key: str, version: str | None = None) -> "HeadObjectOutputTypeDef | None":
        """Return that version of the log key, or its current version; None if it is missing."""
        try:
            if version is None:
                return self._client.head_object(Bucket=self._bucket, Key=key)
            return self._client.head_object(Bucket=self._bucket, Key=key, VersionId=version)
        except ClientError as error:
            # A delete marker has no content: S3 answers 405 to a request for its version.
            if get_status(error) in (404, 405) and get_code(error) != "NoSuchBucket":
                return None
            raise

    def _conditions(self, objects: Sequence[LogObject]) -> Conditions:
        """Return which conditions the store honours. Test at the first deletion; repeat the test if it was
        inconclusive.
        """
        if not objects:
            return Conditions.NONE
        base = objects[0].key
        if self._honours_single is None:
            self._honours_single = self._ask(self._honours_single_conditions, base)
            if self._honours_single is False:
                _log.info(
                    "%s honours no conditions on DELETE: each log key is compared just before its deletion",
                    self._bucket,
                )
        if self._honours_single and self._honours_batch is None and len(objects) >= _WORTH_A_BATCH:
            self._honours_batch = self._ask(self._honours_batch_conditions, base)
        if self._honours_batch:
            return Conditions.BATCH
        return Conditions.SINGLE if self._honours_single else Conditions.NONE

    def _ask(self, question: Callable[[str], bool], base: str) -> bool | None:
        try:
            return question(base)
        except (ClientError, BotoCoreError, ValueError):
            return None

    def _honours_single_conditions(self, base: str) -> bool:
        answer = self._client.delete_object(Bucket=self._bucket, Key=(name := _make_unused_name(base)))
        self._remove_marker(name, answer.get("VersionId") if answer.get("DeleteMarker") else None)
        try:
            answer = self._client.delete_object(
                Bucket=self._bucket, Key=(name := _make_unused_name(base)), IfMatch=_NO_ETAG
            )
        except ClientError as error:
            if get_status(error) in (404, 412) and get_code(error) != "NoSuchBucket":
                return True
            raise
        self._remove_marker(name, answer.get("VersionId") if answer.get("DeleteMarker") else None)
        return False

    def _honours_batch_conditions(self, base: str) -> bool:
        free, bound = _make_unused_name(base), _make_unused_name(base)
        wanted: list[ObjectIdentifierTypeDef] = [{"Key": free}, {"Key": bound, "ETag": _NO_ETAG}]
        answer = self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": wanted, "Quiet": False})
        for deleted in answer.get("Deleted", []):
            self._remove_marker(deleted.get("Key", ""), deleted.get("DeleteMarkerVersionId"))
        gone = [deleted.get("Key") for deleted in answer.get("Deleted", [])]
        refused = [(error.get("Key"), _explain_batch_error(error)) for error in answer.get("Errors", [])]
        return gone == [free] and refused in ([(bound, CHANGED_SINCE_LOADED)], [(bound, None)])

    def _remove_marker(self, name: str, version: str | None) -> None:
        """Remove a delete marker: a versioned bucket adds one even for a name that no object has."""
        if version:
            with contextlib.suppress(ClientError, BotoCoreError):
                self._client.delete_object(Bucket=self._bucket, Key=name, VersionId=version)


def _is_of(found: "HeadObjectOutputTypeDef", item: LogObject) -> bool:
    """Return whether that is the same version. A store without version IDs is not versioned any more; compare ETags
    then.
    """
    version = found.get("VersionId")
    if version not in (item.version_id, None):
        return False
    return version not in (NULL_VERSION, None) or found["ETag"].strip('"') == item.etag


def _make_unused_name(base: str) -> str:
    """Return a name next to `base` that no object has, and that the same permissions cover."""
    return f"{base}.tamarin-probe-{uuid4().hex}"


def _explain_refusal(error: Exception) -> str | None:
    """Return why a DELETE was refused; None if the generation was already gone."""
    if isinstance(error, ClientError):
        if get_status(error) in (409, 412):
            return CHANGED_SINCE_LOADED
        # A missing bucket also answers 404, and says nothing about the log key.
        if get_status(error) == 404 and get_code(error) != "NoSuchBucket":
            return None
    return f"DELETE failed: {summarize_error(error)}"


def _explain_batch_error(error: "ErrorTypeDef") -> str | None:
    """Return why a log key of a batch was refused, like `_explain_refusal`."""
    code = error.get("Code", "")
    if code in _CHANGED_CODES:
        return CHANGED_SINCE_LOADED
    return None if code == "NoSuchKey" else f"DeleteObjects failed: {code or 'no reason given'}"
