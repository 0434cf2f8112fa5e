"""Lists for bans, read as the programs that use them would read them."""

import re
from ipaddress import ip_address, ip_network

import pytest

from tamarin_dagster.analytics import bans

ADDRESSES = [ip_address(text) for text in ("203.0.113.9", "2001:db8::9", "192.0.2.1", "203.0.113.9")]


def test_a_policy_denies_reading_to_these_addresses_and_to_nobody_else() -> None:
    policy = bans.make_address_policy("arn:aws:s3:::media", ADDRESSES)

    assert policy["Version"] == "2012-10-17"
    (statement,) = policy["Statement"]
    assert (statement["Effect"], statement["Principal"]) == ("Deny", "*")
    assert statement["Action"] == ["s3:GetObject", "s3:GetObjectVersion"]
    assert statement["Resource"] == "arn:aws:s3:::media/*"
    assert statement["Condition"] == {
        "IpAddress": {"aws:SourceIp": ["192.0.2.1/32", "203.0.113.9/32", "2001:db8::9/128"]}
    }


def test_an_ip_set_holds_addresses_of_one_version() -> None:
    sets = list(bans.make_waf_ip_sets("top-talkers", "Top talkers of media", ADDRESSES))

    assert [(each["Name"], each["Scope"], each["IPAddressVersion"]) for each in sets] == [
        ("top-talkers-ipv4", "CLOUDFRONT", "IPV4"),
        ("top-talkers-ipv6", "CLOUDFRONT", "IPV6"),
    ]
    assert [[ip_network(each).version for each in ip_set["Addresses"]] for ip_set in sets] == [[4, 4], [6]]
    assert [
        each["IPAddressVersion"] for each in bans.make_waf_ip_sets("top-talkers", "Top talkers", ADDRESSES[1:2])
    ] == ["IPV6"]


def test_nginx_gets_each_address_once() -> None:
    assert list(bans.make_nginx_lines(ADDRESSES)) == ["deny 192.0.2.1;", "deny 203.0.113.9;", "deny 2001:db8::9;"]


@pytest.mark.parametrize(
    ("requester", "principals"),
    [
        ("arn:aws:iam::123456789012:user/team/anna", ("arn:aws:iam::123456789012:user/team/anna",)),
        (
            "arn:aws-cn:sts::123456789012:assumed-role/Loader/anna@example.org",
            ("arn:aws-cn:iam::123456789012:role/Loader", "arn:aws-cn:iam::123456789012:role/*/Loader"),
        ),
        ("arn:aws:sts::123456789012:federated-user/bob", ("arn:aws:sts::123456789012:federated-user/bob",)),
        ("79a59df900b949e55d96a1e698fbacedfd6e09d98eacf8f8d5218e7cd47ef2be", ()),
        ("arn:aws:iam::123456789012:user/*", ()),
        ("arn:aws:iam::*:user/anna", ()),
        ("arn:aws:iam::123456789012:user/${aws:username}", ()),
        ('arn:aws:iam::123456789012:user/a"],"x":["', ()),
        ("arn:aws:iam::123456789012:user/anna\n", ()),
        ("arn:aws:iam::cloudfront:user/CloudFront Origin Access Identity E2", ()),
    ],
)
def test_a_requester_is_named_by_its_arn_or_not_at_all(requester, principals) -> None:
    """A pattern in a requester's name never becomes a pattern of the policy."""
    assert bans.find_principals(requester) == principals


def test_a_policy_of_principals_matches_arns() -> None:
    (statement,) = bans.make_principal_policy("arn:aws:s3:::media", ["arn:b", "arn:a", "arn:b"])["Statement"]
    assert statement["Condition"] == {"ArnLike": {"aws:PrincipalArn": ["arn:a", "arn:b"]}}


def test_waf_gets_only_characters_that_it_accepts() -> None:
    """AWS WAF API reference, CreateIPSet."""
    (ip_set,) = bans.make_waf_ip_sets(
        "tamarin-hogs", "Top talkers of media.example.org, films since 2026-03-01", ADDRESSES[:1]
    )
    assert re.fullmatch(r"[\w\-]{1,128}", ip_set["Name"])
    assert re.fullmatch(r"[\w+=:#@/\-,\.][\w+=:#@/\-,\.\s]+[\w+=:#@/\-,\.]", ip_set["Description"])
