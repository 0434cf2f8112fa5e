"""What an operation means: its class, its price, and whether it reads or deletes an object.

Source: S3 user guide, "Amazon S3 server access log format" (LogFormat), and S3 pricing ("Requests & data retrievals").
The patterns are read by Python and by Postgres (`recordstore.schema.functions`): use only what both understand.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

# The first pattern that matches decides. An operation without a pattern, or a missing one, is `other`.
# A copy is logged twice: REST.COPY.OBJECT writes the target, REST.COPY.OBJECT_GET reads the source.
OPERATION_CLASSES: tuple[tuple[str, str], ...] = (
    (r"^S3[.]", "lifecycle"),
    (r"[.]DELETE[.]|^REST[.]POST[.]MULTI_OBJECT_DELETE$", "delete"),
    (r"^(REST|SOAP)[.]COPY[.](OBJECT|PART)_GET$", "read"),
    (r"^(REST|SOAP)[.](PUT|POST|COPY)[.]", "write"),
    (r"^REST[.]GET[.](BUCKET|BUCKETVERSIONS|UPLOADS?)$", "list"),
    (r"[.](GET|HEAD)[.]OBJECT$", "read"),
)
OTHER = "other"

# The first pattern that matches decides. An operation without a pattern has the price of a GET.
# The read half of a copy is part of the copy, which is one request at the price of PUT. S3 charges a lifecycle
# transition per object, at the price of the class it goes to. Everything else that S3 does by itself is free, and so is
# a transition to a class that is not known here, since its price is not.
GET_PRICE = "get"
BILLING: tuple[tuple[str, str], ...] = (
    (r"^S3[.]TRANSITION_(SIA|ZIA|INT)[.]OBJECT$", "ia_transition"),
    (r"^S3[.]TRANSITION_GIR[.]OBJECT$", "gir_transition"),
    (r"^S3[.]TRANSITION[.]OBJECT$", "glacier_transition"),
    (r"^S3[.]TRANSITION_GDA[.]OBJECT$", "deep_archive_transition"),
    (r"[.]DELETE[.]|^REST[.]POST[.]MULTI_OBJECT_DELETE$|^S3[.]|^(REST|SOAP)[.]COPY[.](OBJECT|PART)_GET$", "free"),
    (r"^(REST|SOAP)[.](PUT|POST|COPY)[.]|^REST[.]GET[.](BUCKET|BUCKETVERSIONS|UPLOADS?)$", "put"),
)
TRANSITIONS = ("ia_transition", "gir_transition", "glacier_transition", "deep_archive_transition")

DOWNLOADS = r"^(REST|WEBSITE|SOAP)[.]GET[.]OBJECT$"
READS = rf"{DOWNLOADS}|^(REST|SOAP)[.]COPY[.](OBJECT|PART)_GET$"
DELETES = r"[.]DELETE[.]OBJECT$|^S3[.]EXPIRE[.]OBJECT$|^S3[.]CREATE[.]DELETEMARKER$"
DOWNLOADS = r"^(REST|WEBSITE|SOAP)[.]GET[.]OBJECT$"
# The first pattern that matches decides. An operation without a pattern changes no object.
CHANGES: tuple[tuple[str, str], ...] = (
    (r"^S3[.](EXPIRE[.]OBJECT|CREATE[.]DELETEMARKER)$", "expire"),
    (r"[.]DELETE[.]OBJECT$", "delete"),
    (r"^(REST|SOAP)[.]COPY[.]OBJECT$", "copy"),
    (r"^(REST|SOAP)[.](PUT|POST)[.]OBJECT$|^REST[.]POST[.]UPLOAD$", "write"),
)

ENCODED_ONCE = ("S3.", "BATCH.")
"""Beginnings of the operations that log an object key encoded once, see `keys`."""

# Operations of a hostile bucket may all be different.
_KNOWN_OPERATIONS = 4096


@dataclass(frozen=True, slots=True)
class Operation:
    """What an operation means.

    Attributes:
        kind: read, list, write, delete, lifecycle or other.
        billing: put, get, free, or one of TRANSITIONS.
        is_read: whether it reads an object's content.
        is_delete: whether it deletes an object.
    """

    kind: str
    billing: str
    is_read: bool
    is_delete: bool


@lru_cache(_KNOWN_OPERATIONS)
def describe_operation(name: str | None) -> Operation:
    """Return what an operation (the record's column `operation`) means."""
    if name is None:
        return Operation(OTHER, GET_PRICE, is_read=False, is_delete=False)
    return Operation(
        _first(OPERATION_CLASSES, name, OTHER),
        _first(BILLING, name, GET_PRICE),
        re.search(READS, name) is not None,
        re.search(DELETES, name) is not None,
    )


def _first(patterns: tuple[tuple[str, str], ...], name: str, otherwise: str) -> str:
    return next((meaning for pattern, meaning in patterns if re.search(pattern, name)), otherwise)
