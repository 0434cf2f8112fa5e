"""Country and network of addresses, from files that the user names."""

import pytest

from tamarin_dagster.analytics.networks import Network, look_up, open_networks
from tamarin_dagster.settings import SettingsError
from tamarin_dagster_tests.analytics.mmdb import write_mmdb
from tamarin_dagster_tests.analytics.rollups import put_rollup, roll_up_again, select_rows

NETWORKS = "SELECT host(remote_ip), country, asn, network_name FROM remote_ip_network ORDER BY remote_ip"


@pytest.fixture
def country(tmp_path):
    networks = {
        "192.0.2.0/24": {"country": {"iso_code": "CZ"}},
        "2001:db8::/32": {"registered_country": {"iso_code": "NO"}},
    }
    return write_mmdb(tmp_path / "country.mmdb", networks)


@pytest.fixture
def asn(tmp_path):
    networks = {
        "192.0.2.0/25": {"autonomous_system_number": 64500, "autonomous_system_organization": "Example Net"},
        "198.51.100.0/24": {"autonomous_system_number": 4200000000},
    }
    return write_mmdb(tmp_path / "asn.mmdb", networks, database_type="GeoLite2-ASN", ip_version=4)


def test_each_address_is_looked_up_once_in_all_files(engine, country, asn) -> None:
    addresses = ("192.0.2.7", "192.0.2.200", "198.51.100.1", "2001:db8::5", "10.0.0.1")
    put_rollup(engine, "remote_ip", {address: {} for address in (*addresses, None)})
    put_rollup(engine, "remote_ip", {"192.0.2.7": {}}, bucket="films")
    done = look_up(engine, (country, asn))
    assert (done.days, done.addresses, done.again) == (2, 5, 0)
    assert select_rows(engine, NETWORKS) == [
        ("10.0.0.1", None, None, None),
        ("192.0.2.7", "CZ", 64500, "Example Net"),
        ("192.0.2.200", "CZ", None, None),
        ("198.51.100.1", None, 4200000000, None),
        ("2001:db8::5", "NO", None, None),
    ]
    done = look_up(engine, (country, asn))
    assert (done.days, done.addresses, done.again) == (0, 0, 0)
    roll_up_again(engine)
    done = look_up(engine, (country, asn))
    assert (done.days, done.addresses, done.again) == (1, 0, 0)


def test_a_newer_file_tells_all_addresses_again(engine, country) -> None:
    put_rollup(engine, "remote_ip", {"192.0.2.7": {}})
    look_up(engine, (country,))
    write_mmdb(country, {"192.0.2.0/24": {"country": {"iso_code": "SK"}}}, built=1_780_000_000)
    done = look_up(engine, (country,))
    assert (done.days, done.addresses, done.again) == (0, 0, 1)
    assert select_rows(engine, "SELECT country, database_build FROM remote_ip_network") == [
        ("SK", "GeoLite2-Country 2026-05-28 20:26:40")
    ]


@pytest.mark.parametrize(
    ("record", "network"),
    [
        ({"country": "US", "asn": "AS15169", "as_name": "Example"}, Network("US", 15169, "Example")),
        ({"country": "United States", "country_code": "US", "asn": "none"}, Network("US", None, None)),
        ({"country": {"names": {"en": "Nowhere"}}, "autonomous_system_organization": ""}, Network()),
        ({"country": ["?"], "asn": {"number": 1}}, Network()),
    ],
)
def test_fields_of_other_makers_are_read_too(tmp_path, record, network) -> None:
    path = write_mmdb(tmp_path / "other.mmdb", {"192.0.2.0/24": record})
    with open_networks([path]) as databases:
        assert databases.network("192.0.2.1") == network


def test_a_wrong_file_is_one_clear_error(engine, tmp_path, country) -> None:
    remedy = "geoip_database must name an MMDB file, such as GeoLite2-Country.mmdb or GeoLite2-ASN.mmdb"
    missing, wrong = tmp_path / "missing.mmdb", tmp_path / "wrong.mmdb"
    wrong.write_bytes(b"<html>" * 100)
    for path, problem in (
        (missing, "No such file or directory"),
        (wrong, "this is not an MMDB file"),
        (tmp_path, "this is not an MMDB file"),
    ):
        with pytest.raises(SettingsError) as raised:
            look_up(engine, (country, path))
        assert str(raised.value) == f"geoip_database: {path}: {problem}; {remedy}"
