"""Recognize requesters: those that are not authenticated, and those to which transfer is free."""

import re

# Not authenticated: S3 wrote this id from 2006 to 2009, and other stores write this word, in any case.
ANONYMOUS_ID = "65a011a29cdf8ec533ec3d1ccaae921c"
ANONYMOUS_WORD = "anonymous"

CLOUDFRONT_AGENT = "Amazon CloudFront"
CLOUDFRONT_REQUESTER = r"cloudfront"

# A request through a gateway endpoint shows a private address: it came from within the region.
PRIVATE_NETWORKS = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")


def is_anonymous(requester: str | None) -> bool:
    """Return whether the requester (as logged) was not authenticated."""
    return requester is None or requester == ANONYMOUS_ID or requester.lower() == ANONYMOUS_WORD


def is_cloudfront(requester: str | None, user_agent: str | None) -> bool:
    """Return whether the request came from CloudFront: by its requester or, for a public bucket, by its user agent."""
    if is_anonymous(requester):
        return user_agent == CLOUDFRONT_AGENT
    return re.search(CLOUDFRONT_REQUESTER, requester or "", re.IGNORECASE) is not None
