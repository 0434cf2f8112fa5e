"""Find how much of a bucket's traffic is folded: that of values without rows of their own (see traffic_fold)."""

from dataclasses import dataclass
from datetime import date

import sqlalchemy as sa

from tamarin_dagster.recordstore.schema.traffic_tables import traffic_fold
from tamarin_dagster.recordstore.whole_numbers import total

_WHAT = {
    "key": ("object key", "object keys"),
    "remote_ip": ("IP address", "IP addresses"),
    "requester": ("requester", "requesters"),
    "referrer": ("referrer", "referrers"),
    "user_agent": ("user agent", "user agents"),
}


@dataclass(frozen=True, slots=True)
class Fold:
    """The folded traffic of a dimension over some days.

    Attributes:
        dimension: key, remote_ip, requester, referrer or user_agent.
        days: number of UTC days with folded rows.
        values: number of values without rows of their own; a value that is folded on several days counts on each.
        missing_bytes: the maximum number of bytes that the rows of one value may lack.
    """

    dimension: str
    days: int
    values: int
    requests: int
    bytes_sent: int
    missing_bytes: int

    def __str__(self) -> str:
        """Return a sentence for a person."""
        days = "1 day" if self.days == 1 else f"{self.days:,} days"
        one, several = _WHAT[self.dimension]
        values = (
            f"1 {one} has no row of its" if self.values == 1 else f"{self.values:,} {several} have no rows of their"
        )
        requests = "1 request" if self.requests == 1 else f"{self.requests:,} requests"
        return f"On {days} with too many {several}, {values} own in the rollups ({requests})."


def find_folds(connection: sa.Connection, bucket: str, first: date, last: date) -> dict[str, Fold]:
    """Return what is folded from `first` to `last`, by dimension; dimensions without folded values are left out."""
    fold = traffic_fold.c
    names = ("folded_values", "requests", "bytes_sent", "missing_bytes")
    statement = (
        sa.select(fold.dimension, sa.func.count(), *(total(fold[name]) for name in names))
        .where(fold.bucket == bucket, fold.request_date.between(first, last), fold.folded_values > 0)
        .group_by(fold.dimension)
    )
    return {row[0]: Fold(row[0], *map(int, row[1:])) for row in connection.execute(statement)}
