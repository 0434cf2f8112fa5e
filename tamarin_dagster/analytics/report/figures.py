"""What a report tells of a bucket and month, as values: counts, UTC days, bytes and milliseconds.

Texts in them are as the client sent them, and so hostile: `texts` makes them fit to be shown.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from tamarin_dagster.analytics.folds import Fold
from tamarin_dagster.analytics.report.month import Month


@dataclass(frozen=True, slots=True)
class Traffic:
    """Requests, the bytes of their responses, and those of them that were answered with a 4xx or 5xx."""

    requests: int = 0
    bytes_sent: int = 0
    error_count: int = 0

    @property
    def error_share(self) -> float:
        """Errors of all requests: 0 to 1."""
        return self.error_count / self.requests if self.requests else 0.0

    def __add__(self, other: "Traffic") -> "Traffic":
        return Traffic(
            self.requests + other.requests,
            self.bytes_sent + other.bytes_sent,
            self.error_count + other.error_count,
        )


@dataclass(frozen=True, slots=True)
class DayTraffic:
    """A day's traffic of a kind of operation and a class of status (2 for 2xx; None: there was none)."""

    day: date
    operation_class: str
    status_class: int | None
    traffic: Traffic


@dataclass(frozen=True, slots=True)
class HourOfWeek:
    """The requests and bytes that an hour of the week has on average.

    Attributes:
        weekday: 1 for Monday to 7.
        hour: 0 to 23 (UTC).
    """

    weekday: int
    hour: int
    requests: float
    bytes_sent: float


@dataclass(frozen=True, slots=True)
class DayLatency:
    """How long reads took on a day, in ms: of its hours' medians, and of their 95th percentiles, the middle one."""

    day: date
    p50_ms: int
    p95_ms: int


@dataclass(frozen=True, slots=True)
class File:
    """An object's traffic; its key is URL-encoded, as S3 logs it.

    Attributes:
        object_size: the largest seen, in bytes, if any was.
        dollars: what it is estimated to cost; None if no prices are known.
    """

    key: str
    traffic: Traffic
    object_size: int | None
    dollars: float | None = None


@dataclass(frozen=True, slots=True)
class SizeClass:
    """Objects of a size from `least` to below `below` bytes (None: any above), and their traffic."""

    least: int
    below: int | None
    files: int
    traffic: Traffic


@dataclass(frozen=True, slots=True)
class Files:
    """The objects that were asked for: how many, those with the most bytes, with the most errors, and by their size."""

    count: int = 0
    largest: tuple[File, ...] = ()
    failing: tuple[File, ...] = ()
    sizes: tuple[SizeClass, ...] = ()


@dataclass(frozen=True, slots=True)
class Consumer:
    """Somebody's traffic, and what it is estimated to cost, if prices are known.

    An IP address, or its pseudonym, or a requester.
    """

    name: str
    traffic: Traffic
    dollars: float | None = None


@dataclass(frozen=True, slots=True)
class Consumers:
    """How many there are, the median of what each took (None: not known), and those with the most bytes.

    `nobody` is the traffic of no consumer: without an address, or not authenticated.
    """

    count: int = 0
    median_bytes: float | None = 0
    largest: tuple[Consumer, ...] = ()
    nobody: Traffic = Traffic()

    def multiple_of_median(self, consumer: Consumer) -> float | None:
        """How often the median's bytes it has taken; None if the median is nothing, or not known."""
        return consumer.traffic.bytes_sent / self.median_bytes if self.median_bytes else None


@dataclass(frozen=True, slots=True)
class Referrer:
    """The traffic from a site's pages: its host name; empty if it was no web address, None if none was sent."""

    site: str | None
    traffic: Traffic


@dataclass(frozen=True, slots=True)
class Agent:
    """The traffic of a user agent, and its kind; None if none was sent, or it is not known."""

    name: str | None
    kind: str | None
    traffic: Traffic


@dataclass(frozen=True, slots=True)
class Agents:
    """User agents by kind, if these are known, and those with the most bytes."""

    kinds: tuple[tuple[str, Traffic], ...] = ()
    largest: tuple[Agent, ...] = ()


@dataclass(frozen=True, slots=True)
class Prices:
    """What a request and a byte are estimated to cost in the month, in US dollars; see s3_monthly_price.

    Attributes:
        region: whose prices these are.
        is_assumed: whether that only stands for the bucket's own.
        price_date: as of which they are right.
        transitions: in the order of `traffic.operations.TRANSITIONS`; None for one without a price.
    """

    region: str
    is_assumed: bool
    price_date: date
    put_request: float
    get_request: float
    internet_byte: float
    interregion_byte: float
    transitions: tuple[float | None, ...] = (None, None, None, None)


@dataclass(frozen=True, slots=True)
class Billed:
    """What is paid for, of some traffic: requests by their prices, bytes by where they went."""

    put_requests: int
    get_requests: int
    internet_bytes: int
    interregion_bytes: int
    transitions: tuple[int, ...] = (0, 0, 0, 0)


_TRANSITIONS = tuple(
    f"Lifecycle transitions to {target}"
    for target in ("Infrequent Access and Intelligent-Tiering", "Glacier Instant", "Glacier Flexible", "Deep Archive")
)


@dataclass(frozen=True, slots=True)
class Cost:
    """What the month's traffic is estimated to cost."""

    prices: Prices
    billed: Billed

    @property
    def parts(self) -> tuple[tuple[str, int, float], ...]:
        """For what: how many requests or bytes, and US dollars."""
        prices, billed = self.prices, self.billed
        return (
            ("Bytes to the internet", billed.internet_bytes, billed.internet_bytes * prices.internet_byte),
            ("Bytes to other regions", billed.interregion_bytes, billed.interregion_bytes * prices.interregion_byte),
            ("GET and other requests", billed.get_requests, billed.get_requests * prices.get_request),
            ("PUT, COPY, POST and LIST requests", billed.put_requests, billed.put_requests * prices.put_request),
            *(
                (name if price is not None else f"{name}, without a price", count, count * (price or 0))
                for name, count, price in zip(_TRANSITIONS, billed.transitions, prices.transitions, strict=True)
                if count
            ),
        )

    @property
    def dollars(self) -> float:
        """All of it."""
        return sum(dollars for _, _, dollars in self.parts)


@dataclass(frozen=True, slots=True)
class Lateness:
    """How late the records of a usual day came: half of them within `median`, 95 of 100 within `p95`."""

    median: timedelta
    p95: timedelta


@dataclass(frozen=True, slots=True)
class Completeness:
    """How much of the month the figures have.

    Attributes:
        days: of the month, up to the present one.
        rolled_up_days: those of them that have any record; the others have none, or are not rolled up yet.
        pending_days: those whose records have changed since they were rolled up.
        open_days: those for which S3 may still deliver records.
        log_keys: delivered in the month and loaded.
        rejected_lines: of these log keys; they are lines that are no records.
        measured_from: the first day that lateness and duplicates were looked for in; None if in none: the records of a
            day were too many, or are gone.
        lateness: None if it was not measured.
        duplicate_records: rows too many, which S3 delivered twice; None if it was not measured.
    """

    days: int
    rolled_up_days: int
    pending_days: tuple[date, ...] = ()
    open_days: tuple[date, ...] = ()
    log_keys: int = 0
    rejected_lines: int = 0
    measured_from: date | None = None
    lateness: Lateness | None = None
    duplicate_records: int | None = None

    @property
    def is_complete(self) -> bool:
        """Whether the figures are final, and nothing is missing that is known of."""
        return self.rolled_up_days == self.days and not (self.pending_days or self.open_days or self.rejected_lines)


@dataclass(frozen=True, slots=True)
class Before:
    """The month before, for comparison: all of it, or only as much of it as this month has so far."""

    month: Month
    traffic: Traffic
    is_part: bool


@dataclass(frozen=True, slots=True)
class Report:
    """All that is told of a bucket and month, as one snapshot of the database has it.

    Attributes:
        made_at: aware, in UTC.
        anonymous: whether addresses are pseudonyms.
        before: None if nothing is known of the month before.
        cost: None if no prices are known.
        foreign: what is said if all that was loaded for the bucket is of others: its name may be wrong.
        folds: what is folded, by dimension; empty if every value has rows of its own.
    """

    bucket: str
    month: Month
    made_at: datetime
    anonymous: bool
    before: Before | None
    days: tuple[DayTraffic, ...]
    hours: tuple[HourOfWeek, ...]
    latencies: tuple[DayLatency, ...]
    files: Files
    addresses: Consumers
    requesters: Consumers
    referrers: tuple[Referrer, ...]
    agents: Agents
    cost: Cost | None
    completeness: Completeness
    foreign: str | None = None
    folds: Mapping[str, Fold] = field(default_factory=dict)

    @property
    def traffic(self) -> Traffic:
        """All of the month."""
        return sum((each.traffic for each in self.days), Traffic())
