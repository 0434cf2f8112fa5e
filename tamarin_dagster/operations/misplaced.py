"""Find log keys that are not where the settings say: under another prefix, or in another bucket's folder.

Each search is limited to a number of requests. It is for a person who wonders why nothing is loaded, not for each tick.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tamarin_dagster.logformat import parse_key_name
from tamarin_dagster.logkey import make_printable
from tamarin_dagster.logstore import LogStore, find_first_object
from tamarin_dagster.settings import LoggedBucket

# Listings of one search.
MAX_REQUESTS = 20
# Prefixes or buckets that are named.
MAX_NAMED = 5

_ACCOUNT = re.compile(r"\d{12}/")
_REGION = re.compile(r"[a-z0-9-]+/")
_SOURCE = re.compile(r"[A-Za-z0-9._-]+/")
# What follows the log prefix in a name, in either layout. In the partitioned one only the folders that S3 makes match.
_REST = re.compile(
    r"(?:(?:[0-9]{12}/[a-z0-9-]+/[A-Za-z0-9._-]+/)?[0-9]{4}/[0-9]{2}/[0-9]{2}/)?"
    r"[0-9]{4}(?:-[0-9]{2}){5}-[0-9A-Za-z]{16}(?:\.[.a-z]+)?$"
)
_LAST = "\U0010ffff"


@dataclass(frozen=True, slots=True)
class Places:
    """Prefixes or buckets that were found, in order; at most MAX_NAMED.

    `is_complete` says whether there are no others.
    """

    names: tuple[str, ...]
    is_complete: bool

    def __str__(self) -> str:
        return ", ".join(f"'{make_printable(name)}'" for name in self.names) + ", and perhaps more" * (
            not self.is_complete
        )


class _Requests:
    """Counts the requests that a search has left."""

    def __init__(self) -> None:
        self.left = MAX_REQUESTS

    def take(self) -> bool:
        self.left -= 1
        return self.left >= 0


def find_prefixes_elsewhere(store: LogStore, bucket: LoggedBucket, others: frozenset[str] = frozenset()) -> Places:
    """Search the whole log bucket for prefixes of log keys, without the bucket's own and `others`.

    Raises LogStoreError.
    """
    requests, after = _Requests(), ""
    found: dict[str, None] = {}
    while len(found) <= MAX_NAMED and requests.take():
        page = next(store.pages("", after), None)
        if page is None:
            return _places(found, others | {bucket.log_prefix}, is_complete=True)
        after = page[-1].key
        for item in page:
            rest = _REST.search(item.key)
            if rest and parse_key_name(item.key, prefix := item.key[: rest.start()]):
                found[prefix] = None
                after = f"{prefix}9{_LAST}"  # a log key goes on with a digit, of a year or of an account
                break
    return _places(found, others | {bucket.log_prefix}, is_complete=False)


def find_sources_elsewhere(store: LogStore, bucket: LoggedBucket) -> Places:
    """Find buckets with folders in the partitioned layout under the bucket's prefix; none if its own is there.

    Raises LogStoreError.
    """
    requests = _Requests()
    found: dict[str, None] = {}
    for account in _folders(store, bucket.log_prefix, _ACCOUNT, requests):
        for region in _folders(store, account, _REGION, requests):
            for source in _folders(store, region, _SOURCE, requests):
                found[source[len(region) : -1]] = None
                if len(found) > MAX_NAMED:
                    break
    if bucket.name in found:
        return Places((), is_complete=True)
    return _places(found, frozenset(), is_complete=requests.left > 0 and len(found) <= MAX_NAMED)


def _folders(store: LogStore, base: str, pattern: re.Pattern[str], requests: _Requests) -> Iterator[str]:
    """Yield the folders below `base` whose names match, each found with one request."""
    after = base
    while requests.take() and (item := find_first_object(store, base, after)):
        rest = item.key[len(base) :]
        if match := pattern.match(rest):
            yield base + match[0]
        # in the simple layout, skip a whole year at once
        passed = match[0] if match else rest.partition("/")[0] + "/" if "/" in rest else rest[:5]
        after = f"{base}{passed}{_LAST}"


def _places(found: dict[str, None], without: frozenset[str], *, is_complete: bool) -> Places:
    names = tuple(name for name in found if name not in without)
    return Places(names[:MAX_NAMED], is_complete and len(names) <= MAX_NAMED)
