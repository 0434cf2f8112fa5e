"""Define the values of a report about a bucket and month: counts, UTC days, bytes and milliseconds.

Texts in them are as the client sent them, and may be hostile: `texts` makes them safe to show.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from tamarin_dagster.analytics.folds import Fold
from tamarin_dagster.analytics.report.month import Month


@dataclass(frozen=True, slots=True)
class Traffic:
    """The number of requests, the bytes of their responses, and the number of requests answered with a 4xx or 5xx."""

    requests: int = 0
    bytes_sent: int = 0
    error_count: int = 0

    @property
    def error_share(self) -> float:
        """Return the share of errors in all requests: 0 to 1."""
        return self.error_count / self.requests if self.requests else 0.0

    def __add__(self, other: "Traffic") -> "Traffic":
        return Traffic(
            self.requests + other.requests,
            self.bytes_sent + other.bytes_sent,
            self.error_count + other.error_count,
        )


@dataclass(frozen=True, slots=True)
class DayTraffic:
    """A day's traffic of an operation class and a status class (2 for 2xx; None for requests without a status)."""

    day: date
    operation_class: str
    status_class: int | None
    traffic: Traffic


@dataclass(frozen=True, slots=True)
class HourOfWeek:
    """The average requests and bytes of an hour of the week.

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
    """The duration of reads on a day, in ms: the median of its hours' medians, and of their 95th percentiles."""

    day: date
    p50_ms: int
    p95_ms: int


@dataclass(frozen=True, slots=True)
class File:
    """An object's traffic; its key is URL-encoded, as S3 logs it.

    Attributes:
        object_size: the largest size seen, in bytes; None if none was logged.
        dollars: the estimated cost; None if no prices are known.
    """

    key: str
    traffic: Traffic
    object_size: int | None
    dollars: float | None = None


@dataclass(frozen=True, slots=True)
class SizeClass:
    """Objects of `min_bytes` or more and less than `below` bytes (None: no limit), and their traffic."""

    min_bytes: int
    below: int | None
    files: int
    traffic: Traffic


@dataclass(frozen=True, slots=True)
class Files:
    """The requested objects: their number, those with the most bytes, those with the most errors, and by size."""

    count: int = 0
    largest: tuple[File, ...] = ()
    failing: tuple[File, ...] = ()
    sizes: tuple[SizeClass, ...] = ()


@dataclass(frozen=True, slots=True)
class ConsumerTraffic:
    """The traffic of an IP address (or its pseudonym) or of a requester, and its estimated cost if prices are known."""

    name: str
    traffic: Traffic
    dollars: float | None = None


@dataclass(frozen=True, slots=True)
class TopConsumers:
    """The number of consumers, the median of their bytes (None: not known), and those with the most bytes.

    `nobody` is the traffic of no consumer: without an address, or not authenticated.
    """

    count: int = 0
    median_bytes: float | None = 0
    largest: tuple[ConsumerTraffic, ...] = ()
    nobody: Traffic = Traffic()

    def compare_with_median(self, consumer: ConsumerTraffic) -> float | None:
        """Return the consumer's bytes divided by the median; None if the median is 0 or not known."""
        return consumer.traffic.bytes_sent / self.median_bytes if self.median_bytes else None


@dataclass(frozen=True, slots=True)
class Referrer:
    """The traffic from a site's pages. `site` is its host name; '' if it was no web address, None if none was sent."""

    site: str | None
    traffic: Traffic


@dataclass(frozen=True, slots=True)
class AgentTraffic:
    """The traffic of a user agent: its name (None: none was sent), and its kind (None: not known)."""

    name: str | None
    kind: str | None
    traffic: Traffic


@dataclass(frozen=True, slots=True)
class Agents:
    """The traffic of each kind of user agent, if kinds are known, and the user agents with the most bytes."""

    kinds: tuple[tuple[str, Traffic], ...] = ()
    largest: tuple[AgentTraffic, ...] = ()


@dataclass(frozen=True, slots=True)
class MonthPrices:
    """The estimated prices of a request and a byte in the month, in US dollars; see s3_monthly_price.

    Attributes:
        region: the region of the prices.
        is_assumed: whether the bucket's own region is not set, or has no prices.
        price_date: the day for which the prices are right.
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
    """The billed part of some traffic: requests by their prices, bytes by where they went."""

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
    """The estimated cost of the month's traffic."""

    prices: MonthPrices
    billed: Billed

    @property
    def parts(self) -> tuple[tuple[str, int, float], ...]:
        """Return the parts of the cost: a name, the number of requests or bytes, and US dollars."""
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
        """Return the total in US dollars."""
        return sum(dollars for _, _, dollars in self.parts)


@dataclass(frozen=True, slots=True)
class Lateness:
    """The lateness of the records of a typical day: half arrived within `median`, 95 % within `p95`."""

    median: timedelta
    p95: timedelta


@dataclass(frozen=True, slots=True)
class Completeness:
    """How complete the month's figures are.

    Attributes:
        days: number of days of the month, up to the current one.
        rolled_up_days: number of these days with any record; the others have none, or are not rolled up yet.
        pending_days: days whose records have changed since they were rolled up.
        open_days: days for which S3 may still deliver records.
        log_keys: number of loaded log keys that were delivered in the month.
        rejected_lines: number of rejected lines in these log keys.
        measured_from: the first day whose records were searched for lateness and duplicates; None if there is none,
            because a day has too many records, or they were deleted.
        lateness: None if it was not measured.
        duplicate_records: number of surplus rows that S3 delivered twice; None if it was not measured.
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
        """Return whether the figures are final, and nothing is known to be missing."""
        return self.rolled_up_days == self.days and not (self.pending_days or self.open_days or self.rejected_lines)


@dataclass(frozen=True, slots=True)
class Before:
    """The month before, for comparison: all of it, or only the part that this month has reached so far."""

    month: Month
    traffic: Traffic
    is_part: bool


@dataclass(frozen=True, slots=True)
class Report:
    """All values of a report on a bucket and month, from one snapshot of the database.

    Attributes:
        made_at: aware, in UTC.
        anonymous: whether addresses are pseudonyms.
        before: None if the month before has no traffic.
        cost: None if no prices are known.
        foreign: a warning if all records loaded for the bucket are of other buckets: its name may be wrong.
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
    addresses: TopConsumers
    requesters: TopConsumers
    referrers: tuple[Referrer, ...]
    agents: Agents
    cost: Cost | None
    completeness: Completeness
    foreign: str | None = None
    folds: Mapping[str, Fold] = field(default_factory=dict)

    @property
    def traffic(self) -> Traffic:
        """Return the traffic of the whole month."""
        return sum((each.traffic for each in self.days), Traffic())
