"""Write lists of consumers for bucket policies, AWS WAF IP sets and nginx. These are texts only: nobody is banned here.

The lists are made from parsed addresses and ARNs, never from the text of a log line.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tamarin_dagster.analytics.consumers import Address

# S3 user guide, "Bucket policies": 20 KB.
MAX_POLICY_BYTES = 20 * 1024
# AWS WAF developer guide, "AWS WAF quotas".
MAX_WAF_ADDRESSES = 10_000
# In characters: AWS WAF API reference, CreateIPSet.
MAX_DESCRIPTION = 256

_SESSION = re.compile(r"arn:(aws[a-z-]*):sts::(\d{12}):assumed-role/([\w+=,.@-]+)/[\w+=,.@-]+", re.ASCII)
_USER = re.compile(r"arn:aws[a-z-]*:(iam::\d{12}:user|sts::\d{12}:federated-user)/[\w+=,.@/-]+", re.ASCII)


def find_principals(requester: str) -> tuple[str, ...]:
    """Return the patterns of the requester's `aws:PrincipalArn`; none if it is not the ARN of a user or role.

    For a session it is the ARN of its role (IAM user guide, "Global condition context keys"). That ARN includes the
    role's path, which the session's ARN lacks: hence a pattern with a path.
    """
    if session := _SESSION.fullmatch(requester):
        partition, account, role = session.groups()
        return tuple(f"arn:{partition}:iam::{account}:role/{path}{role}" for path in ("", "*/"))
    return (requester,) if _USER.fullmatch(requester) else ()


def make_address_policy(bucket_arn: str, addresses: Iterable[Address]) -> dict[str, Any]:
    """Return a bucket policy that stops these addresses from reading objects."""
    return _denial(bucket_arn, {"IpAddress": {"aws:SourceIp": _ranges(addresses)}})


def make_principal_policy(bucket_arn: str, principals: Iterable[str]) -> dict[str, Any]:
    """Return a bucket policy that stops these principals (ARNs, or patterns of ARNs) from reading objects."""
    return _denial(bucket_arn, {"ArnLike": {"aws:PrincipalArn": sorted(set(principals))}})


def make_waf_ip_sets(name: str, description: str, addresses: Sequence[Address]) -> Iterator[dict[str, Any]]:
    """Yield inputs for `aws wafv2 create-ip-set --cli-input-json`, one for each IP version, which a set requires.

    The scope is CLOUDFRONT, because WAF can protect a bucket only through CloudFront.
    """
    for version in (4, 6):
        if ranges := _ranges(address for address in addresses if address.version == version):
            yield {
                "Name": f"{name}-ipv{version}",
                "Scope": "CLOUDFRONT",
                "Description": description,
                "IPAddressVersion": f"IPV{version}",
                "Addresses": ranges,
            }


def make_nginx_lines(addresses: Iterable[Address]) -> Iterator[str]:
    """Yield `deny` directives of nginx's ngx_http_access_module."""
    for address in _in_order(addresses):
        yield f"deny {address};"


def _denial(bucket_arn: str, condition: dict[str, Any]) -> dict[str, Any]:
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "TamarinHogs",
                "Effect": "Deny",
                "Principal": "*",
                "Action": ["s3:GetObject", "s3:GetObjectVersion"],
                "Resource": f"{bucket_arn}/*",
                "Condition": condition,
            }
        ],
    }


def _ranges(addresses: Iterable[Address]) -> list[str]:
    return [f"{address}/{address.max_prefixlen}" for address in _in_order(addresses)]


def _in_order(addresses: Iterable[Address]) -> list[Address]:
    return sorted(set(addresses), key=lambda address: (address.version, int(address)))
