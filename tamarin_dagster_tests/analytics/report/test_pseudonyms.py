"""Other names for addresses."""

import re

import pytest

from tamarin_dagster.analytics.report.pseudonyms import make_pseudonyms

ADDRESSES = [f"192.0.2.{number}" for number in range(256)] + [f"2001:db8::{number:x}" for number in range(256)]


def test_a_name_holds_within_a_report_and_tells_addresses_apart() -> None:
    name = make_pseudonyms()
    names = [name(address) for address in ADDRESSES]
    assert names == [name(address) for address in ADDRESSES]
    assert len(set(names)) == len(ADDRESSES)
    assert all(re.fullmatch("ip-[0-9a-f]{8}", each) for each in names)


def test_another_report_has_other_names_unless_the_key_is_the_same() -> None:
    assert make_pseudonyms()("192.0.2.3") != make_pseudonyms()("192.0.2.3")
    key = b"a secret of some length"
    assert (
        make_pseudonyms(key)("192.0.2.3")
        == make_pseudonyms(key)("192.0.2.3")
        != make_pseudonyms(key + b"2")("192.0.2.3")
    )


def test_an_address_has_one_name_however_it_is_written() -> None:
    name = make_pseudonyms()
    assert name("2001:db8::1") == name("2001:0DB8:0:0:0:0:0:1")


def test_what_is_no_address_is_refused() -> None:
    with pytest.raises(ValueError, match="does not appear to be an IPv4 or IPv6 address"):
        make_pseudonyms()("<script>")
