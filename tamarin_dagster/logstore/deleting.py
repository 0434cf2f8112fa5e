"""Deleting generations from S3: each request names the very generation that may go, and the store must heed that.

S3 does (user guide, "Conditional deletes"), for single keys and for batches of them. Some compatible stores heed it for
single keys only, some not at all, and none of them says so: they delete whatever has the name by then. So a store is
tried first, on names that no object has: one that takes a name without a condition, and refuses one with a condition,
has looked at the condition.
"""

import contextlib
import logging
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING
from uuid import uuid4

from botocore.exceptions import BotoCoreError, ClientError

from tamarin_dagster.logkey import CHANGED_SINCE_LOADED, LogObject
from tamarin_dagster.logstore.errors import brief, code_of, status_of
from tamarin_dagster.logstore.store import Deleted
from tamarin_dagster.logstore.threads import Threads

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ErrorTypeDef, HeadObjectOutputTypeDef, ObjectIdentifierTypeDef

_log = logging.getLogger(__name__)

# A single DELETE is a request per key; boto3 does about 1,000/s from 16 threads.
DELETE_THREADS = 16
# S3's own limit for DeleteObjects.
BATCH_KEYS = 1000
# For fewer keys the question whether the store heeds conditions of a batch costs more than it saves.
_WORTH_A_BATCH = 50

_CHANGED_CODES = ("PreconditionFailed", "ConditionalRequestConflict")
# The version of what was written before the bucket was versioned, or while that was suspended.
NULL_VERSION = "null"
_NO_ETAG = '"00000000000000000000000000000000"'


class Conditions(IntEnum):
    """Which conditions the store has been seen to heed."""

    NONE = 0
    SINGLE = 1
    BATCH = 2


class Deleter:
    """Deletes generations in the quickest way that the store has been seen to do without harm.

    On a versioned bucket the version that was read names the generation. Else it is the ETag: in batches where the
    store heeds conditions there, else key by key; and where it heeds none, with a HEAD just before, which leaves the
    moment between the two requests unguarded.
    """

    def __init__(self, client: "S3Client", bucket: str, threads: Threads) -> None:
        self._client = client
        self._bucket = bucket
        self._threads = threads
        self._heeds_single: bool | None = None
        self._heeds_batch: bool | None = None

    def delete(self, objects: Sequence[LogObject]) -> list[Deleted]:
        """See LogStore.delete."""
        plain = [item for item in objects if item.version_id is None]
        versions = [item for item in objects if item.version_id is not None]
        done = {id(deleted.object): deleted for deleted in self._delete_plain(plain)}
        done |= {id(d.object): d for d in self._threads.map(self._delete_version, versions, lambda: DELETE_THREADS)}
        return [done[id(item)] for item in objects]

    def _delete_plain(self, objects: Sequence[LogObject]) -> list[Deleted]:
        heeded = self._conditions(objects)
        if heeded is Conditions.BATCH:
            batches = [objects[start : start + BATCH_KEYS] for start in range(0, len(objects), BATCH_KEYS)]
            return self._each_refusal_tried([deleted for batch in batches for deleted in self._delete_batch(batch)])
        one = self._delete_one if heeded is Conditions.SINGLE else self._look_and_delete
        return self._threads.map(one, objects, lambda: DELETE_THREADS)

    def _delete_batch(self, objects: Sequence[LogObject]) -> list[Deleted]:
        wanted: list[ObjectIdentifierTypeDef] = [{"Key": item.key, "ETag": f'"{item.etag}"'} for item in objects]
        try:
            answer = self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": wanted, "Quiet": False})
        except (ClientError, BotoCoreError, ValueError) as error:
            return [Deleted(item, f"DeleteObjects failed: {brief(error)}") for item in objects]
        gone = {deleted.get("Key") for deleted in answer.get("Deleted", [])}
        errors = {error.get("Key"): _judged(error) for error in answer.get("Errors", [])}
        silence = "DeleteObjects said nothing of it"
        markers = {
            d.get("Key"): d.get("DeleteMarkerVersionId") for d in answer.get("Deleted", []) if d.get("DeleteMarker")
        }
        return [
            self._delete_below(item, markers[item.key])
            if item.key in markers
            else Deleted(item, errors.get(item.key, None if item.key in gone else silence))
            for item in objects
        ]

    def _each_refusal_tried(self, results: list[Deleted]) -> list[Deleted]:
        """A key that a batch says was overwritten is asked for by itself: the store may read ETags there otherwise.

        If one of them goes then, batches are not sent any more.
        """
        refused = [deleted.object for deleted in results if deleted.error == CHANGED_SINCE_LOADED]
        again = {id(d.object): d for d in self._threads.map(self._delete_one, refused, lambda: DELETE_THREADS)}
        if any(deleted.error is None for deleted in again.values()):
            self._heeds_batch = False
        return [again.get(id(deleted.object), deleted) for deleted in results]

    def _look_and_delete(self, item: LogObject) -> Deleted:
        try:
            found = self._client.head_object(Bucket=self._bucket, Key=item.key)["ETag"].strip('"')
        except ClientError as error:
            # A HEAD has no body: a bucket that is not there looks like a key that is not there. The DELETE tells.
            if status_of(error) != 404:
                return Deleted(item, f"DELETE failed: the HEAD before it: {brief(error)}")
        except (BotoCoreError, ValueError) as error:
            return Deleted(item, f"DELETE failed: the HEAD before it: {brief(error)}")
        else:
            if found != item.etag:
                return Deleted(item, CHANGED_SINCE_LOADED)
        return self._delete_one(item)

    def _delete_one(self, item: LogObject) -> Deleted:
        try:
            answer = self._client.delete_object(Bucket=self._bucket, Key=item.key, IfMatch=f'"{item.etag}"')
        except (ClientError, BotoCoreError, ValueError) as error:
            return Deleted(item, _refused(error))
        return self._delete_below(item, answer.get("VersionId")) if answer.get("DeleteMarker") else Deleted(item)

    def _delete_version(self, item: LogObject) -> Deleted:
        """An overwritten version goes too, else it would come to light again when the newer one is deleted.

        But the ledger must keep it as unpurged, for the newer one to take its place. What comes to light below is older
        than what is purged then, so it is never loaded; its history is not asked for, which takes a request a key and
        the permission s3:ListBucketVersions.
        """
        try:
            current = self._version(item.key)
            # An older one came to light: a purge that was killed has deleted ours already.
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
            return Deleted(item, _refused(error))
        return Deleted(item, CHANGED_SINCE_LOADED if overwritten else None)

    def _delete_null_version(self, item: LogObject) -> bool:
        """Deletes what was written before the bucket was versioned, and now lies below a version or a delete marker.

        An object that is written while versioning is suspended becomes the version "null", so the ETag identifies it.
        No condition: a store may hold it against what the name means now. Returns whether it was there.
        """
        found = self._version(item.key, NULL_VERSION)
        if found is None or found["ETag"].strip('"') != item.etag:
            return False
        self._client.delete_object(Bucket=self._bucket, Key=item.key, VersionId=NULL_VERSION)
        return True

    def _delete_below(self, item: LogObject, marker: str | None) -> Deleted:
        """A deletion without a version has put a delete marker above the object: its bucket is versioned by now.

        So the object goes by its version, and then the marker.
        """
        try:
            if marker != NULL_VERSION and self._delete_null_version(item):
                self._remove_marker(item.key, marker)
        except (ClientError, BotoCoreError, ValueError) as error:
            return Deleted(item, _refused(error))
        return Deleted(item)

    def _version(self, key: str, version: str | None = None) -> "HeadObjectOutputTypeDef | None":
        """That version of the key, or the one that its name means now; None if there is none."""
        try:
            if version is None:
                return self._client.head_object(Bucket=self._bucket, Key=key)
            return self._client.head_object(Bucket=self._bucket, Key=key, VersionId=version)
        except ClientError as error:
            # A delete marker has no content: S3 answers 405 if it is asked for by its version.
            if status_of(error) in (404, 405) and code_of(error) != "NoSuchBucket":
                return None
            raise

    def _conditions(self, objects: Sequence[LogObject]) -> Conditions:
        """What the store heeds. It is asked at its first deletion; an answer that tells nothing is asked for again."""
        if not objects:
            return Conditions.NONE
        base = objects[0].key
        if self._heeds_single is None:
            self._heeds_single = self._asked(self._heeds_single_conditions, base)
            if self._heeds_single is False:
                _log.info("%s heeds no conditions of DELETE: each key is looked at just before", self._bucket)
        if self._heeds_single and self._heeds_batch is None and len(objects) >= _WORTH_A_BATCH:
            self._heeds_batch = self._asked(self._heeds_batch_conditions, base)
        if self._heeds_batch:
            return Conditions.BATCH
        return Conditions.SINGLE if self._heeds_single else Conditions.NONE

    def _asked(self, question: Callable[[str], bool], base: str) -> bool | None:
        try:
            return question(base)
        except (ClientError, BotoCoreError, ValueError):
            return None

    def _heeds_single_conditions(self, base: str) -> bool:
        answer = self._client.delete_object(Bucket=self._bucket, Key=(name := _nobodys(base)))
        self._remove_marker(name, answer.get("VersionId") if answer.get("DeleteMarker") else None)
        try:
            answer = self._client.delete_object(Bucket=self._bucket, Key=(name := _nobodys(base)), IfMatch=_NO_ETAG)
        except ClientError as error:
            if status_of(error) in (404, 412) and code_of(error) != "NoSuchBucket":
                return True
            raise
        self._remove_marker(name, answer.get("VersionId") if answer.get("DeleteMarker") else None)
        return False

    def _heeds_batch_conditions(self, base: str) -> bool:
        free, bound = _nobodys(base), _nobodys(base)
        wanted: list[ObjectIdentifierTypeDef] = [{"Key": free}, {"Key": bound, "ETag": _NO_ETAG}]
        answer = self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": wanted, "Quiet": False})
        for deleted in answer.get("Deleted", []):
            self._remove_marker(deleted.get("Key", ""), deleted.get("DeleteMarkerVersionId"))
        gone = [deleted.get("Key") for deleted in answer.get("Deleted", [])]
        refused = [(error.get("Key"), _judged(error)) for error in answer.get("Errors", [])]
        return gone == [free] and refused in ([(bound, CHANGED_SINCE_LOADED)], [(bound, None)])

    def _remove_marker(self, name: str, version: str | None) -> None:
        """On a versioned bucket even a name that no object has leaves a delete marker."""
        if version:
            with contextlib.suppress(ClientError, BotoCoreError):
                self._client.delete_object(Bucket=self._bucket, Key=name, VersionId=version)


def _is_of(found: "HeadObjectOutputTypeDef", item: LogObject) -> bool:
    """Whether that is the very version. A store that names none has ceased to be versioned: then the ETag tells."""
    version = found.get("VersionId")
    if version not in (item.version_id, None):
        return False
    return version not in (NULL_VERSION, None) or found["ETag"].strip('"') == item.etag


def _nobodys(base: str) -> str:
    """A name beside `base` that no object has, and that the same permissions cover."""
    return f"{base}.tamarin-probe-{uuid4().hex}"


def _refused(error: Exception) -> str | None:
    """Why a DELETE was refused; None if the generation was gone already."""
    if isinstance(error, ClientError):
        if status_of(error) in (409, 412):
            return CHANGED_SINCE_LOADED
        # A bucket that is not there answers 404 too, and says nothing of the key.
        if status_of(error) == 404 and code_of(error) != "NoSuchBucket":
            return None
    return f"DELETE failed: {brief(error)}"


def _judged(error: "ErrorTypeDef") -> str | None:
    """An error of a batch, as `_refused` says it."""
    code = error.get("Code", "")
    if code in _CHANGED_CODES:
        return CHANGED_SINCE_LOADED
    return None if code == "NoSuchKey" else f"DeleteObjects failed: {code or 'no reason given'}"
