"""Look up the country and network of each distinct address in the rollups, in MMDB files that the user names.

GeoLite2, GeoIP2 and DB-IP have the same fields. IPinfo has other fields, which are read too.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from tamarin_dagster.analytics.unseen_days import (
    REMEDY,
    UnseenDay,
    is_unseen,
    list_unseen_days,
    lock_dimensions,
    note_days,
)
from tamarin_dagster.extras import MissingExtraError, needing
from tamarin_dagster.plurals import count_noun
from tamarin_dagster.recordstore.failures import DayFailure, isolate_failure
from tamarin_dagster.recordstore.schema.dimension_tables import remote_ip_network
from tamarin_dagster.recordstore.schema.traffic_tables import traffic_daily_by_remote_ip
from tamarin_dagster.settings import SettingsError

if TYPE_CHECKING:
    from maxminddb import Reader

DIMENSION = "remote_ip"
PAGE_ADDRESSES = 10_000
_REMEDY = "geoip_database must name an MMDB file, such as GeoLite2-Country.mmdb or GeoLite2-ASN.mmdb"

_NETWORKS = remote_ip_network.c
_UPSERT = sa.text("""
INSERT INTO remote_ip_network (remote_ip, country, asn, network_name, database_build, looked_up_at)
SELECT CAST(given.remote_ip AS inet), given.country, given.asn, given.network_name, :build, now()
FROM unnest(
    CAST(:addresses AS text[]), CAST(:countries AS text[]), CAST(:asns AS bigint[]), CAST(:names AS text[])
) AS given (remote_ip, country, asn, network_name)
ON CONFLICT (remote_ip) DO UPDATE
SET country = excluded.country, asn = excluded.asn, network_name = excluded.network_name,
    database_build = excluded.database_build, looked_up_at = excluded.looked_up_at
""")


class Network(NamedTuple):
    """The country and the autonomous system (ASN) of an address; None if no database knows it."""

    country: str | None = None
    asn: int | None = None
    name: str | None = None


@dataclass(slots=True)
class LookedUp:
    """The result of a look-up.

    Attributes:
        days: number of buckets' days whose rollups were read.
        addresses: number of distinct addresses that were new.
        again: number of addresses looked up again because other or older databases had answered for them.
        failures: days whose addresses could not be looked up; they stay pending.
        seconds: duration.
    """

    days: int = 0
    addresses: int = 0
    again: int = 0
    failures: list[DayFailure] = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self) -> str:
        """Return one line for a person."""
        return (
            f"{self.addresses:,} address{'es' * (self.addresses != 1)} looked up, {self.again:,} looked up again, from"
            f" {count_noun(self.days, 'day')}; {self.seconds:.1f} s"
        )


class NetworkDatabases:
    """Open MMDB files as one database: each field comes from the first file that knows it."""

    def __init__(self, readers: "Sequence[Reader]") -> None:
        self._readers = readers

    @property
    def build(self) -> str:
        """Return the types of the files, and when they were built (UTC)."""
        files = (reader.metadata() for reader in self._readers)
        return ", ".join(
            f"{each.database_type} {datetime.fromtimestamp(each.build_epoch, UTC):%Y-%m-%d %H:%M:%S}" for each in files
        )

    def network(self, address: str) -> Network:
        """Return where the address is. An IPv6 address is unknown to a database of IPv4 addresses."""
        networks = [_network(self._record(reader, address)) for reader in self._readers]
        return Network(*(next((each for each in field if each is not None), None) for field in zip(*networks)))  # noqa: B905

    @staticmethod
    def _record(reader: "Reader", address: str) -> Mapping[str, Any]:
        try:
            record = reader.get(address)
        except ValueError:  # the reader's answer to an IPv6 address if the database has only IPv4
            return {}
        return record if isinstance(record, dict) else {}


@contextmanager
def open_networks(paths: Sequence[Path]) -> Iterator[NetworkDatabases]:
    """Open these files. Raises SettingsError if one is missing or not an MMDB file, or if the extra is missing."""
    try:
        with needing("geoip", "geoip_database"):
            import maxminddb  # noqa: PLC0415 - an extra
    except MissingExtraError as error:
        raise SettingsError(str(error)) from None
    with ExitStack() as stack:
        readers = []
        for path in paths:
            try:
                readers.append(stack.enter_context(maxminddb.open_database(path)))
            except OSError as error:
                raise SettingsError(f"geoip_database: {path}: {error.strerror or error}; {_REMEDY}") from None
            except maxminddb.InvalidDatabaseError:
                raise SettingsError(f"geoip_database: {path}: this is not an MMDB file; {_REMEDY}") from None
        yield NetworkDatabases(readers)


def look_up(engine: sa.Engine, paths: Sequence[Path]) -> LookedUp:
    """Look up the addresses of days with new rollups, and those that other databases answered for.

    Each day is a transaction: if the process is interrupted, the next one continues with that day. Raises
    SettingsError.
    """
    done = LookedUp()
    start = time.perf_counter()
    with open_networks(paths) as databases:
        with engine.connect() as connection:
            days = list_unseen_days(connection, DIMENSION)
        for day in days:
            with isolate_failure(done.failures, "look up the addresses", day.bucket, day.request_date, REMEDY):
                with lock_dimensions(engine) as connection:
                    if not is_unseen(connection, DIMENSION, day):
                        continue
                    addresses = _look_up(connection, _find_unknown(day), databases)
                    note_days(connection, DIMENSION, [day])
                done.addresses += addresses
                done.days += 1
        with lock_dimensions(engine) as connection:
            outdated = sa.select(_text(_NETWORKS.remote_ip)).where(_NETWORKS.database_build != databases.build)
            done.again = _look_up(connection, outdated, databases)
    done.seconds = time.perf_counter() - start
    return done


def is_outdated(connection: sa.Connection, databases: NetworkDatabases) -> bool:
    """Return whether any address was looked up in other or older databases."""
    return bool(connection.scalar(sa.select(sa.exists().where(_NETWORKS.database_build != databases.build))))


def _find_unknown(day: UnseenDay) -> sa.Select[str]:
    seen = traffic_daily_by_remote_ip.c
    return sa.select(_text(seen.remote_ip)).where(
        seen.bucket == day.bucket,
        seen.request_date == day.request_date,
        seen.remote_ip.is_not(None),
        seen.folded_values.is_(None),
        ~sa.exists().where(_NETWORKS.remote_ip == seen.remote_ip),
    )


def _text(address: sa.ColumnElement[Any]) -> sa.ColumnElement[str]:
    return sa.func.host(address, type_=sa.Text)


def _look_up(connection: sa.Connection, addresses: sa.Select[str], databases: NetworkDatabases) -> int:
    """Write where these addresses are, a page at a time; return their number."""
    count = 0
    found = connection.scalars(addresses, execution_options={"yield_per": PAGE_ADDRESSES})
    for page in found.partitions():
        networks = [databases.network(address) for address in page]
        parameters = {
            "addresses": list(page),
            "countries": [each.country for each in networks],
            "asns": [each.asn for each in networks],
            "names": [each.name for each in networks],
            "build": databases.build,
        }
        connection.execute(_UPSERT, parameters)
        count += len(page)
    return count


def _network(record: Mapping[str, Any]) -> Network:
    country = record.get("country") or record.get("registered_country")
    asn = record.get("autonomous_system_number", record.get("asn"))
    name = record.get("autonomous_system_organization") or record.get("as_name")
    return Network(
        country=_text_or_none(
            country.get("iso_code") if isinstance(country, dict) else record.get("country_code", country)
        ),
        asn=_number(asn),
        name=_text_or_none(name),
    )


def _text_or_none(value: object) -> str | None:
    return value.replace("\0", "") if isinstance(value, str) and value else None


def _number(asn: object) -> int | None:
    """Return the number of an ASN, which may be written as 15169 or AS15169."""
    if isinstance(asn, str):
        digits = asn.removeprefix("AS")
        return int(digits) if digits.isascii() and digits.isdigit() else None
    return asn if isinstance(asn, int) else None
