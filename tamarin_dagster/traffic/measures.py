"""Compute the measures of each record that all sums are made of, as one array for each measure."""

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_network

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tamarin_dagster.logformat.packing import pack_addresses
from tamarin_dagster.traffic.cutting import cut
from tamarin_dagster.traffic.keys import rest_spelling
from tamarin_dagster.traffic.operations import describe_operation
from tamarin_dagster.traffic.requesters import (
    ANONYMOUS_ID,
    ANONYMOUS_WORD,
    CLOUDFRONT_AGENT,
    CLOUDFRONT_REQUESTER,
    PRIVATE_NETWORKS,
)
from tamarin_dagster.traffic.unbilled import UNBILLED_ERROR_CODES

COUNTS = (
    "requests",
    "error_count",
    "put_requests",
    "unbilled_requests",
    "ia_transitions",
    "gir_transitions",
    "glacier_transitions",
    "deep_archive_transitions",
    "reads",
    "deletes",
)
"""Measures that count records."""
BYTES = ("bytes_sent", "unbilled_bytes", "interregion_bytes")
"""Measures in bytes."""

RECORD_COLUMNS = (
    "request_dtime",
    "remote_ip",
    "requester",
    "operation",
    "key",
    "http_status",
    "error_code",
    "bytes_sent",
    "object_size",
    "total_time",
    "referrer",
    "user_agent",
    "source_region",
)
"""The columns of a record that the measures need."""

IPV4_LEAD, IPV6_LEAD = bytes((2, 32, 0, 4)), bytes((3, 128, 0, 16))
"""The bytes before an address in Postgres' binary form: family, bits of the mask, is_cidr, length."""

Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Encoded:
    """A column as codes into its distinct values; null is one of them.

    Attributes:
        codes: (rows,), int32.
        values: the distinct values.
    """

    codes: npt.NDArray[np.int32]
    values: pa.Array

    def look_up(self, of_values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """Return, for each row, the item of `of_values` for its value."""
        return of_values[self.codes]

    def map(self, change: Callable[[pa.Array], pa.Array]) -> "Encoded":
        """Return the column with changed values. Values that become equal share a code."""
        changed = change(self.values)
        if changed is self.values:
            return self
        again = encode(changed)
        return Encoded(again.codes[self.codes], again.values)


def encode(column: pa.Array | pa.ChunkedArray) -> Encoded:
    """Return the column by its distinct values."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(whole, pa.ChunkedArray):  # of no chunk
        whole = pa.array([], column.type)
    encoded = whole.dictionary_encode(null_encoding="encode")
    return Encoded(np.asarray(encoded.indices), encoded.dictionary)


@dataclass(frozen=True, slots=True)
class Measured:
    """The measures of records. All arrays have a row for each record.

    Attributes:
        counts: flags by the names of COUNTS, without `requests`, which every record counts for; a name is left out if
            no record has it.
        sizes: numbers by the names of BYTES; a name is left out if all are 0.
        object_sizes: bytes, -1 for none.
        dimensions: the values of the record by the names of DIMENSIONS.
        kinds: operation classes.
        statuses: HTTP status, -1 for none.
        times: response times in ms, -1 for none.
        hours: the hour of the request's UTC day, 0 to 23.
    """

    counts: dict[str, Flags]
    sizes: dict[str, Integers]
    object_sizes: Integers
    dimensions: dict[str, Encoded]
    kinds: Encoded
    statuses: Integers
    times: Integers
    hours: Integers


def measure(records: pa.Table, region: str | None = None) -> Measured:
    """Return the measures of records.

    Transfer is free to CloudFront and within a region. Within a region, the address is private, or S3 names the region.

    Args:
        records: RECORD_COLUMNS, as in `logformat.RECORDS_SCHEMA`.
        region: the bucket's region. If it is None (not known), a request whose region S3 names counts as a request from
            the bucket's region.
    """
    operations = encode(records["operation"])
    known = [describe_operation(name) for name in operations.values.to_pylist()]
    statuses = integers_of(records["http_status"], -1)
    errors = encode(records["error_code"])
    requesters = encode(records["requester"])
    agents = encode(records["user_agent"])
    addresses = encode(records["remote_ip"]).map(_pack)

    anonymous = _anonymous(requesters.values)
    is_anonymous = anonymous[requesters.codes]
    succeeded = (statuses >= 200) & (statuses < 300)
    error_codes = errors.values.to_pylist()
    has_code = np.array([code is not None for code in error_codes], bool)[errors.codes]
    is_unbilled_code = np.array([code in _UNBILLED for code in error_codes], bool)[errors.codes]
    is_denied = np.array([code == "AccessDenied" for code in error_codes], bool)[errors.codes]

    billing = np.array([_BILLING.index(each.billing) for each in known], np.int8)[operations.codes]
    unbilled = (billing == _BILLING.index("free")) | (statuses >= 500)
    unbilled |= ~succeeded & (is_unbilled_code | (is_denied & is_anonymous))
    is_read = np.array([each.is_read for each in known], bool)
    is_delete = np.array([each.is_delete for each in known], bool)
    flags = {
        "error_count": (statuses >= 400) | (succeeded & has_code),
        "put_requests": (billing == _BILLING.index("put")) & ~unbilled,
        "unbilled_requests": unbilled,
        **{f"{name}s": (billing == _BILLING.index(name)) & ~unbilled for name in _BILLING[3:]},
        "reads": is_read[operations.codes] & (statuses >= 0) & (statuses < 400),
        "deletes": is_delete[operations.codes] & (statuses < 300),
    }

    sent = integers_of(records["bytes_sent"], 0)
    free = _is_private(addresses.values)[addresses.codes] | _from_cloudfront(requesters, anonymous, agents)
    sizes = {"bytes_sent": sent}
    if records["source_region"].null_count < records.num_rows:
        regions = encode(records["source_region"])
        names = regions.values.to_pylist()
        is_named = np.array([name is not None for name in names], bool)[regions.codes]
        is_own = np.array([region is None or name == region for name in names], bool)[regions.codes]
        free = np.where(is_named, is_own, free)
        sizes["interregion_bytes"] = np.where(is_named & ~is_own & ~unbilled, sent, 0)
    sizes["unbilled_bytes"] = np.where(free | unbilled, sent, 0)

    micros = np.asarray(records["request_dtime"].cast(pa.int64()))
    return Measured(
        counts={name: each for name, each in flags.items() if each.any()},
        sizes={name: each for name, each in sizes.items() if each.any()},
        object_sizes=integers_of(records["object_size"], -1),
        dimensions={
            "key": encode(rest_spelling(records["key"], records["operation"])),
            "remote_ip": addresses,
            "requester": requesters.map(lambda values: _without(values, anonymous)),
            "referrer": encode(records["referrer"]).map(short_referrers),
            "user_agent": agents,
        },
        kinds=Encoded(operations.codes, pa.array([each.kind for each in known], pa.string())),
        statuses=statuses,
        times=integers_of(records["total_time"], -1),
        hours=micros // 3_600_000_000 % 24,
    )


def integers_of(column: pa.ChunkedArray | pa.Array, missing: int) -> Integers:
    """Return a column of integers as an array, with `missing` for null."""
    filled = pc.fill_null(column, missing) if column.null_count else column
    return np.asarray(filled).astype(np.int64, copy=False)


def short_referrers(referrers: pa.Array) -> pa.Array:
    """Return referrers without query and fragment, which may hold secrets, and are often different each time."""
    return cut(referrers, b"?#")


_UNBILLED = frozenset(UNBILLED_ERROR_CODES)
_BILLING = (
    "get",
    "put",
    "free",
    "ia_transition",
    "gir_transition",
    "glacier_transition",
    "deep_archive_transition",
)


def _mask_of(network: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], int]:
    """Return the mask and the address of a network, and the number of bytes before an address of its family."""
    parsed = ip_network(network)
    return (
        np.frombuffer(parsed.netmask.packed, np.uint8),
        np.frombuffer(parsed.network_address.packed, np.uint8),
        len(IPV4_LEAD if parsed.version == 4 else IPV6_LEAD),
    )


_MASKS = tuple(map(_mask_of, PRIVATE_NETWORKS))


def _pack(addresses: pa.Array) -> pa.Array:
    """Return addresses in Postgres' binary form: texts of one address become one value."""
    known = addresses.drop_null() if addresses.null_count else addresses
    packed = pack_addresses(known, IPV4_LEAD, IPV6_LEAD)
    if not addresses.null_count:
        return packed
    places = np.cumsum(np.asarray(addresses.is_valid())) - 1
    return packed.take(pa.array(places, mask=~np.asarray(addresses.is_valid())))


def _anonymous(requesters: pa.Array) -> Flags:
    lower = pc.ascii_lower(requesters)
    found = pc.or_(pc.equal(requesters, ANONYMOUS_ID), pc.equal(lower, ANONYMOUS_WORD))
    return np.asarray(pc.fill_null(found, True))


def _without(values: pa.Array, flags: Flags) -> pa.Array:
    """Return the values with null for the flagged ones."""
    if not (flags & np.asarray(values.is_valid())).any():
        return values
    return pc.if_else(pa.array(flags), pa.scalar(None, values.type), values)


def _from_cloudfront(requesters: Encoded, anonymous: Flags, agents: Encoded) -> Flags:
    by_requester = pc.fill_null(pc.match_substring(pc.ascii_lower(requesters.values), CLOUDFRONT_REQUESTER), False)
    by_agent = pc.fill_null(pc.equal(agents.values, CLOUDFRONT_AGENT), False)
    is_authenticated = ~anonymous[requesters.codes]
    found: Flags = np.asarray(by_requester)[requesters.codes] & is_authenticated
    if np.asarray(by_agent).any():
        found |= np.asarray(by_agent)[agents.codes] & ~is_authenticated
    return found


def _is_private(addresses: pa.Array) -> Flags:
    """Return which addresses (packed) lie in one of PRIVATE_NETWORKS."""
    found = np.zeros(len(addresses), bool)
    lengths = np.asarray(pc.fill_null(pc.binary_length(addresses), 0))
    for mask, expected, lead in _MASKS:
        chosen = np.flatnonzero(lengths == lead + len(mask))
        octets = fixed_octets(addresses.take(pa.array(chosen)), lead + len(mask))[:, lead:]
        found[chosen] |= ((octets & mask) == expected).all(axis=1)
    return found


def fixed_octets(values: pa.Array, width: int) -> npt.NDArray[np.uint8]:
    """Return binary values that all have `width` bytes as (values, width)."""
    if not len(values):
        return np.empty((0, width), np.uint8)
    start = np.frombuffer(values.buffers()[1], np.int32)[values.offset]
    return np.frombuffer(values.buffers()[2], np.uint8, len(values) * width, start).reshape(-1, width)


def from_octets(rows: npt.NDArray[np.uint8]) -> pa.Array:
    """Return (values, bytes) as binary values."""
    count, width = rows.shape
    offsets = pa.py_buffer(np.arange(count + 1, dtype=np.int32) * width)
    return pa.BinaryArray.from_buffers(pa.binary(), count, [None, offsets, pa.py_buffer(rows)])
