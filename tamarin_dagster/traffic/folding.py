"""Limit the number of a day's sums: the largest values keep rows of their own, the others are folded.

A folded row has the sums of all folded values of one parent (see `dimensions`). So totals always add up, and those of
prefixes, networks, roles, hosts and products stay exact. Parents are limited too: the smallest are folded into their
root.
"""

from dataclasses import dataclass
from zlib import crc32

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tamarin_dagster.traffic.dimensions import Dimension
from tamarin_dagster.traffic.sums import concat, merge, split

Flags = npt.NDArray[np.bool_]

# A dimension's day has at most one folded row for this many rows of single values.
PARENTS_SHARE = 4


@dataclass(frozen=True, slots=True)
class Folded:
    """Sums with a limited number of rows.

    Attributes:
        sums: rows of single values, and folded rows.
        largest_requests: the maximum number of requests of a value that was folded now; 0 if none was.
        largest_bytes: the maximum number of bytes of a value that was folded now; 0 if none was.
    """

    sums: pa.Table
    largest_requests: int = 0
    largest_bytes: int = 0


def fold(sums: pa.Table, dimension: Dimension, limit: int) -> Folded:
    """Return the sums with at most `limit` rows of single values, and at most a quarter as many folded rows.

    One half of the rows goes to the values with the most bytes, the other to those with the most requests. The missing
    value (no referrer, not authenticated) always keeps its row.
    """
    own, folded = split(sums)
    if own.num_rows <= limit:
        return Folded(concat([own, _limit_folded(folded, dimension, limit)]) if folded.num_rows else sums)
    keeps = _choose(own, limit)
    tail = own.filter(pa.array(~keeps))
    parents = _set(tail, "value", dimension.parents(_one(tail["value"])))
    parents = parents.append_column("folded_values", pa.array(np.ones(tail.num_rows, np.int64)))
    return Folded(
        concat([own.filter(pa.array(keeps)), _limit_folded(merge([folded, parents]), dimension, limit)]),
        largest_requests=int(pc.max(tail["requests"]).as_py()),
        largest_bytes=int(pc.max(tail["bytes_sent"]).as_py()) if "bytes_sent" in tail.column_names else 0,
    )


def _choose(own: pa.Table, limit: int) -> Flags:
    """Return the flags of the values that keep a row of their own."""
    keeps = np.zeros(own.num_rows, bool)
    keeps[np.asarray(pc.is_null(own["value"]))] = True
    for first, second in (("bytes_sent", "requests"), ("requests", "bytes_sent")):
        keeps[_largest(own, first, second, limit // 2)] = True
    # Values that are among the largest by both measures leave room for more.
    left = limit - int(keeps.sum())
    if left > 0:
        rest = np.flatnonzero(~keeps)
        keeps[rest[_largest(own.take(pa.array(rest)), "bytes_sent", "requests", left)]] = True
    return keeps


def _largest(sums: pa.Table, first: str, second: str, count: int) -> npt.NDArray[np.int64]:
    """Return the places of the `count` rows with the largest first measure.

    Among equal rows, the second measure decides, and then the values' checksums.
    """
    if count >= sums.num_rows:
        return np.arange(sums.num_rows)
    if count <= 0:
        return np.empty(0, np.int64)
    tie_breaks = _ranks(sums, second)
    ranks = _ranks(sums, first) + tie_breaks / (tie_breaks.max() + 1)
    threshold = np.partition(ranks, -count)[-count]
    above = np.flatnonzero(ranks > threshold)
    level = np.flatnonzero(ranks == threshold)
    wanted = count - len(above)
    if wanted < len(level):
        # Any of them will do, but the choice must not depend on their order. Sorting texts takes ten times as long.
        digests = _digests(sums["value"].take(pa.array(level)))
        level = level[np.argsort(digests, kind="stable")[:wanted]]
    return np.concatenate([above, level])


def _digests(values: pa.ChunkedArray) -> npt.NDArray[np.uint32]:
    texts = values.cast(pa.binary()).to_pylist()
    return np.fromiter((crc32(text or b"") for text in texts), np.uint32, len(texts))


def _ranks(sums: pa.Table, name: str) -> npt.NDArray[np.float64]:
    if name not in sums.column_names:
        return np.zeros(sums.num_rows)
    return np.asarray(pc.fill_null(sums[name], 0).cast(pa.float64()))


def _limit_folded(folded: pa.Table, dimension: Dimension, limit: int) -> pa.Table:
    """Return the folded rows, limited in their number: the smallest are folded into their roots."""
    maximum = max(limit // PARENTS_SHARE, 4)
    if folded.num_rows <= maximum:
        return folded
    keeps = np.zeros(folded.num_rows, bool)
    keeps[_largest(folded, "bytes_sent", "requests", maximum - 2)] = True
    tail = folded.filter(pa.array(~keeps))
    roots = _set(tail, "value", dimension.roots(_one(tail["value"])))
    return merge([folded.filter(pa.array(keeps)), roots])


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _set(table: pa.Table, name: str, column: pa.Array) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, column)
