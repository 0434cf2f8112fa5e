"""look_up: country and network of each distinct address in the rollups, from MMDB files that the user names.

GeoLite2, GeoIP2 and DB-IP have the same fields; IPinfo has others, which are read too.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from tamarin_dagster.analytics.unseen_days import REMEDY, UnseenDay, alone, is_unseen, note_days, unseen_days
from tamarin_dagster.extras import MissingExtraError, needing
from tamarin_dagster.recordstore.failures import DayFailure, isolate_failure
from tamarin_dagster.recordstore.schema.dimension_tables import remote_ip_network
from tamarin_dagster.recordstore.schema.traffic_tables import traffic_daily_by_remote_ip
from tamarin_dagster.settings import SettingsError

if TYPE_CHECKING:
    from maxminddb import Reader

DIMENSION = "remote_ip"
PAGE_ADDRESSES = 10_000
_REMEDY = "geoip_database must name an MMDB file, as GeoLite2-Country.mmdb and GeoLite2-ASN.mmdb are"

_NETWORKS = remote_ip_network.c
_UPSERT = sa.text("""
INSERT INTO remote_ip_network (remote_ip, country, asn, network_name, database_build, looked_up_at)
SELECT CAST(told.remote_ip AS inet), told.country, told.asn, told.network_name, :build, now()
FROM unnest(
    CAST(:addresses AS text[]), CAST(:countries AS text[]), CAST(:asns AS bigint[]), CAST(:names AS text[])
) AS told (remote_ip, country, asn, network_name)
ON CONFLICT (remote_ip) DO UPDATE
SET country = excluded.country, asn = excluded.asn, network_name = excluded.network_name,
    database_build = excluded.database_build, looked_up_at = excluded.looked_up_at
""")


class Network(NamedTuple):
    """Where an address is, as far as the databases know."""

    country: str | None = None
    asn: int | None = None
    name: str | None = None


@dataclass(slots=True)
class LookedUp:
    """What a look-up did.

    Attributes:
        days: buckets' days of rollups that were looked at.
        addresses: distinct addresses that were new.
        again: those that other databases, or older ones, had told.
        failures: days whose addresses could not be looked up; they stay pending.
        seconds: how long it took.
    """

    days: int = 0
    addresses: int = 0
    again: int = 0
    failures: list[DayFailure] = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self) -> str:
        """In a line, for a person."""
        return (
            f"{self.addresses:,} addresses looked up, {self.again:,} once more, of {self.days:,} days;"
            f" {self.seconds:.1f} s"
        )


class NetworkDatabases:
    """Open MMDB files, asked as if they were one: of each field the first that knows it."""

    def __init__(self, readers: "Sequence[Reader]") -> None:
        self._readers = readers

    @property
    def build(self) -> str:
        """Their types and when they were built (UTC)."""
        told = (reader.metadata() for reader in self._readers)
        return ", ".join(
            f"{each.database_type} {datetime.fromtimestamp(each.build_epoch, UTC):%Y-%m-%d %H:%M:%S}" for each in told
        )

    def network(self, address: str) -> Network:
        """Where the address is. An IPv6 address in a database of IPv4 is unknown."""
        networks = [_network(self._record(reader, address)) for reader in self._readers]
        return Network(*(next((each for each in field if each is not None), None) for field in zip(*networks)))  # noqa: B905

    @staticmethod
    def _record(reader: "Reader", address: str) -> Mapping[str, Any]:
        try:
            record = reader.get(address)
        except ValueError:  # how it says that the database is of IPv4 alone
            return {}
        return record if isinstance(record, dict) else {}


@contextmanager
def open_networks(paths: Sequence[Path]) -> Iterator[NetworkDatabases]:
    """The databases of these files. Raises SettingsError for one that is missing or is none, or without the extra."""
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
                raise SettingsError(f"geoip_database: {path}: is no MMDB file; {_REMEDY}") from None
        yield NetworkDatabases(readers)


def look_up(engine: sa.Engine, paths: Sequence[Path]) -> LookedUp:
    """Looks up the addresses of days that are rolled up anew, and those that other databases have told.

    A day is a transaction: if the process is interrupted, the next one goes on with that day. Raises SettingsError.
    """
    done = LookedUp()
    start = time.perf_counter()
    with open_networks(paths) as databases:
        with engine.connect() as connection:
            days = unseen_days(connection, DIMENSION)
        for day in days:
            with isolate_failure(done.failures, "look up the addresses", day.bucket, day.request_date, REMEDY):
                with alone(engine) as connection:
                    if not is_unseen(connection, DIMENSION, day):
                        continue
                    addresses = _look_up(connection, _unknown_of(day), databases)
                    note_days(connection, DIMENSION, [day])
                done.addresses += addresses
                done.days += 1
        with alone(engine) as connection:
            outdated = sa.select(_text(_NETWORKS.remote_ip)).where(_NETWORKS.database_build != databases.build)
            done.again = _look_up(connection, outdated, databases)
    done.seconds = time.perf_counter() - start
    return done


def is_outdated(connection: sa.Connection, databases: NetworkDatabases) -> bool:
    """Whether addresses are there that other databases, or older ones, have told."""
    return bool(connection.scalar(sa.select(sa.exists().where(_NETWORKS.database_build != databases.build))))


def _unknown_of(day: UnseenDay) -> sa.Select[str]:
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
    """Writes where these addresses are, a page at a time; says of how many."""
    count = 0
    found = connection.scalars(addresses, execution_options={"yield_per": PAGE_ADDRESSES})
    for page in found.partitions():
        networks = [databases.network(address) for address in page]
        told = {
            "addresses": list(page),
            "countries": [each.country for each in networks],
            "asns": [each.asn for each in networks],
            "names": [each.name for each in networks],
            "build": databases.build,
        }
        connection.execute(_UPSERT, told)
        count += len(page)
    return count


def _network(record: Mapping[str, Any]) -> Network:
    country = record.get("country") or record.get("registered_country")
    asn = record.get("autonomous_system_number", record.get("asn"))
    name = record.get("autonomous_system_organization") or record.get("as_name")
    return Network(
        country=_filled(country.get("iso_code") if isinstance(country, dict) else record.get("country_code", country)),
        asn=_number(asn),
        name=_filled(name),
    )


def _filled(value: object) -> str | None:
    return value.replace("\0", "") if isinstance(value, str) and value else None


def _number(asn: object) -> int | None:
    """15169, or AS15169, as a number."""
    if isinstance(asn, str):
        digits = asn.removeprefix("AS")
        return int(digits) if digits.isascii() and digits.isdigit() else None
    return asn if isinstance(asn, int) else None
