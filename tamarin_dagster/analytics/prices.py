"""Read price lists (prices.yaml), and store the prices of each bucket's month. Every cost from them is an estimate."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Self

import sqlalchemy as sa
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tamarin_dagster.analytics.unseen_days import list_unseen_days, lock_dimensions, note_days
from tamarin_dagster.plurals import count_noun
from tamarin_dagster.recordstore.schema.dimension_tables import s3_monthly_price, s3_price
from tamarin_dagster.settings import SettingsError
from tamarin_dagster.traffic.operations import TRANSITIONS

DIMENSION = "price"
SHIPPED = "prices.yaml"

_Usd = Annotated[Decimal, Field(ge=0, le=1000)]
_Gb = Annotated[Decimal, Field(ge=0)]


class RegionPrices(BaseModel):
    """The prices of a region in USD: per 1,000 requests, and per GB of 2^30 bytes.

    Transitions without a price are left out of estimates, and counted as unpriced.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    put_requests: _Usd
    get_requests: _Usd
    internet_gb: dict[_Gb, _Usd]
    interregion_gb: _Usd
    ia_transitions: _Usd | None = None
    gir_transitions: _Usd | None = None
    glacier_transitions: _Usd | None = None
    deep_archive_transitions: _Usd | None = None

    @model_validator(mode="after")
    def _from_the_first_byte(self) -> Self:
        if 0 not in self.internet_gb:
            raise ValueError("internet_gb must begin with 0, as in {0: 0.09, 10240: 0.085}")
        return self


class PriceList(BaseModel):
    """A price list as of a day. The free GB come before a region's first tier."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    as_of: date
    source: tuple[str, ...] = ()
    default_region: str
    free_internet_gb: _Gb = Decimal(0)
    regions: dict[str, RegionPrices]

    @model_validator(mode="after")
    def _check_default(self) -> Self:
        if self.default_region not in self.regions:
            raise ValueError(
                f"default_region must be one of the regions: {', '.join(self.regions) or 'none is listed'}"
            )
        return self

    def rows(self) -> list[dict[str, object]]:
        """Return the rows of s3_price."""
        return [
            {"region": region, "item": item, "from_gb": from_gb, "usd": usd, "price_date": self.as_of}
            for region, prices in self.regions.items()
            for item, from_gb, usd in self._items(prices)
        ]

    def _items(self, prices: RegionPrices) -> Iterator[tuple[str, Decimal, Decimal]]:
        yield "put_requests", Decimal(0), prices.put_requests
        yield "get_requests", Decimal(0), prices.get_requests
        yield "interregion_gb", Decimal(0), prices.interregion_gb
        for name in (f"{each}s" for each in TRANSITIONS):
            if (usd := getattr(prices, name)) is not None:
                yield name, Decimal(0), usd
        if self.free_internet_gb:
            yield "internet_gb", Decimal(0), Decimal(0)
        for from_gb, usd in prices.internet_gb.items():
            yield "internet_gb", from_gb + self.free_internet_gb, usd


def read_prices(path: Path | None = None) -> PriceList:
    """Return the price list of the file; without a path, the one in this package. Raises SettingsError."""
    try:
        source = path or files(__package__).joinpath(SHIPPED)
        entries = yaml.safe_load(source.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"prices: {path}: {error.strerror or error}; it must name a file like {SHIPPED}") from None
    except (UnicodeDecodeError, ValueError, yaml.YAMLError) as error:
        raise SettingsError(f"prices: {path}: this is not valid YAML: {str(error).splitlines()[0]}") from None
    try:
        return PriceList.model_validate(entries)
    except ValidationError as error:
        raise SettingsError("\n".join(_lines(path, error))) from None


def _lines(path: Path | None, error: ValidationError) -> Iterator[str]:
    for each in error.errors(include_url=False):
        place = ".".join(str(part) for part in each["loc"] if part != "[key]")
        problem = each["msg"].removeprefix("Value error, ")
        yield f"prices: {path}: {place + ': ' if place else ''}{problem}"


@dataclass(slots=True)
class Priced:
    """The result of pricing.

    Attributes:
        price_date: the day of the price list.
        months: number of buckets' months whose prices were stored.
        seconds: duration.
    """

    price_date: date
    months: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        """Return one line for a person."""
        return f"{count_noun(self.months, 'month')} priced as of {self.price_date}; {self.seconds:.1f} s"


# The months of buckets that have another region than when they were priced.
_MONTHS = sa.text("""
SELECT DISTINCT p.month
FROM s3_monthly_price p
LEFT JOIN s3_logged_bucket b ON b.name = p.bucket
WHERE p.region IS DISTINCT FROM coalesce((SELECT min(s.region) FROM s3_price s WHERE s.region = b.region), :default)
   OR p.region_is_assumed <> NOT EXISTS (SELECT FROM s3_price s WHERE s.region = b.region)
""")
# Tiers apply to the month of a region, all logged buckets together. So each byte has the average price of that month.
_PRICE = sa.text("""
INSERT INTO s3_monthly_price (
    bucket, month, region, region_is_assumed, price_date,
    put_request_usd, get_request_usd, internet_byte_usd, interregion_byte_usd, internet_bytes,
    ia_transition_usd, gir_transition_usd, glacier_transition_usd, deep_archive_transition_usd
)
WITH sent AS (
    SELECT
        d.bucket,
        CAST(date_trunc('month', CAST(d.request_date AS timestamp)) AS date) AS month,
        coalesce(sum(t.bytes_sent - t.unbilled_bytes - t.interregion_bytes), 0) AS bytes
    FROM traffic_day d
    LEFT JOIN traffic_daily_by_requester t ON t.bucket = d.bucket AND t.request_date = d.request_date
    WHERE date_trunc('month', CAST(d.request_date AS timestamp)) = ANY (CAST(:months AS date[]))
    GROUP BY 1, 2
), placed AS (
    SELECT
        s.bucket,
        s.month,
        coalesce(listed.region, :default) AS region,
        listed.region IS NULL AS region_is_assumed,
        sum(s.bytes) OVER (PARTITION BY s.month, coalesce(listed.region, :default)) AS bytes
    FROM sent s
    LEFT JOIN s3_logged_bucket b ON b.name = s.bucket
    LEFT JOIN (SELECT DISTINCT region FROM s3_price) listed ON listed.region = b.region
), tier AS (
    SELECT region, from_gb, usd, lead(from_gb) OVER (PARTITION BY region ORDER BY from_gb) AS to_gb
    FROM s3_price
    WHERE item = 'internet_gb'
)
SELECT
    p.bucket,
    p.month,
    p.region,
    p.region_is_assumed,
    put.price_date,
    put.usd / 1000,
    get.usd / 1000,
    coalesce(internet.usd / nullif(p.bytes, 0), 0),
    interregion.usd / 1073741824,
    p.bytes,
    transition.ia / 1000,
    transition.gir / 1000,
    transition.glacier / 1000,
    transition.deep_archive / 1000
FROM placed p
JOIN s3_price put ON put.region = p.region AND put.item = 'put_requests'
JOIN s3_price get ON get.region = p.region AND get.item = 'get_requests'
JOIN s3_price interregion ON interregion.region = p.region AND interregion.item = 'interregion_gb'
CROSS JOIN LATERAL (
    SELECT sum(t.usd * greatest(0, least(p.bytes / 1073741824, coalesce(t.to_gb, 'infinity')) - t.from_gb)) AS usd
    FROM tier t
    WHERE t.region = p.region
) internet
CROSS JOIN LATERAL (
    SELECT
        max(s.usd) FILTER (WHERE s.item = 'ia_transitions') AS ia,
        max(s.usd) FILTER (WHERE s.item = 'gir_transitions') AS gir,
        max(s.usd) FILTER (WHERE s.item = 'glacier_transitions') AS glacier,
        max(s.usd) FILTER (WHERE s.item = 'deep_archive_transitions') AS deep_archive
    FROM s3_price s
    WHERE s.region = p.region
) transition
ON CONFLICT (bucket, month) DO UPDATE
SET region = excluded.region, region_is_assumed = excluded.region_is_assumed, price_date = excluded.price_date,
    put_request_usd = excluded.put_request_usd, get_request_usd = excluded.get_request_usd,
    internet_byte_usd = excluded.internet_byte_usd, interregion_byte_usd = excluded.interregion_byte_usd,
    internet_bytes = excluded.internet_bytes, ia_transition_usd = excluded.ia_transition_usd,
    gir_transition_usd = excluded.gir_transition_usd, glacier_transition_usd = excluded.glacier_transition_usd,
    deep_archive_transition_usd = excluded.deep_archive_transition_usd
""")


def price(engine: sa.Engine, prices: PriceList) -> Priced:
    """Price the months of days with new rollups; all months if the price list has changed."""
    done = Priced(price_date=prices.as_of)
    start = time.perf_counter()
    with lock_dimensions(engine) as connection:
        days = list_unseen_days(connection, DIMENSION)
        months = {day.request_date.replace(day=1) for day in days}
        if _replace(connection, prices):
            months |= set(connection.scalars(sa.select(s3_monthly_price.c.month).distinct()))
        months |= set(connection.scalars(_MONTHS, {"default": prices.default_region}))
        if months:
            parameters = {"months": sorted(months), "default": prices.default_region}
            done.months = connection.execute(_PRICE, parameters).rowcount
        note_days(connection, DIMENSION, days)
    done.seconds = time.perf_counter() - start
    return done


def is_outdated(connection: sa.Connection, prices: PriceList) -> bool:
    """Return whether the stored prices are others, or a bucket has another region than when it was priced."""
    return not _holds(connection, prices.rows()) or bool(
        connection.scalars(_MONTHS, {"default": prices.default_region}).first()
    )


def _replace(connection: sa.Connection, prices: PriceList) -> bool:
    """Make s3_price hold these prices; return whether it held others."""
    rows = prices.rows()
    if _holds(connection, rows):
        return False
    connection.execute(sa.delete(s3_price))
    connection.execute(sa.insert(s3_price), rows)
    return True


def _holds(connection: sa.Connection, rows: list[dict[str, object]]) -> bool:
    held = [dict(row) for row in connection.execute(sa.select(s3_price)).mappings()]
    return sorted(held, key=_place) == sorted(rows, key=_place)


def _place(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["region"], row["item"], row["from_gb"]
