"""The requests of the audience, kind by kind, as columns of numbers; `traffic` turns them into lines.

All of these have the common shape: one HTTP request for one key. Lines of other shapes are in `rare`.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np

from tamarin_dagster.demo.audience import VISITORS, Audience, make_audience
from tamarin_dagster.demo.catalogue import Catalogue, make_catalogue
from tamarin_dagster.demo.draws import Draws, Ints
from tamarin_dagster.demo.site import HOTLINK_REFERRER_HOST, DemoSite

OUTCOMES = ("200 -", "206 -", "304 -", "404 NoSuchKey", "403 AccessDenied")
OK, PARTIAL, NOT_MODIFIED, NOT_FOUND, FORBIDDEN = range(len(OUTCOMES))

NO_REFERRER = 0
OWN_PAGES = (
    "",
    "videos/",
    "podcasts/",
    "gallery/2024/",
    "gallery/2025/",
    "about/",
    "press/",
    "search?q=harbour&sort=new",
    "en/",
    "de/",
)
FOREIGN_REFERRERS = (
    "https://search.example.net/",
    "https://news.example.net/culture/",
    "android-app://org.example.reader/",
)
HOTLINK_REFERRERS = tuple(f"https://{HOTLINK_REFERRER_HOST}/viewtopic.php?t={topic}" for topic in (4711, 5120, 60213))
REFERRERS = (
    '"-"',
    *(f'"https://www.example.org/{page}"' for page in OWN_PAGES),
    *(f'"{url}"' for url in FOREIGN_REFERRERS + HOTLINK_REFERRERS),
)
HOTLINKS = range(len(REFERRERS) - len(HOTLINK_REFERRERS), len(REFERRERS))

MISSING_KEYS = (
    "wp-login.php",
    ".env",
    ".git/config",
    "apple-touch-icon.png",
    "ads.txt",
    "sitemap.xml",
    "images/2017/old-logo.gif",
    "xmlrpc.php",
    "podcasts/season-00/trailer.mp3",
    "videos/harbour-999.mp4",
    ".well-known/security.txt",
    "wp-content/plugins/gallery/readme.txt",
)
FORBIDDEN_KEYS = (
    "private/contracts/2025.pdf",
    "private/masters/episode-241.wav",
    "backup/site.tar.gz",
    "private/accounts.xlsx",
)
HEALTH_KEY, HEALTH_BYTES = "status/health.txt", 3
ERROR_BODY_BYTES = 243


@dataclass(frozen=True)
class Targets:
    """Everything that can be requested: files first, then keys that are missing or forbidden, and the health check."""

    texts: tuple[str, ...]
    """operation, key and the quoted request, as in a line"""
    sizes: tuple[int | str, ...]
    """object_size in bytes, or `-`"""
    missing: range
    forbidden: range
    health: int


@lru_cache(maxsize=8)
def make_targets(site: DemoSite) -> Targets:
    """Return the site's targets, made once for each process and site."""
    files = make_catalogue(site).files
    texts = [f'REST.GET.OBJECT {file.logged_key} "GET /{file.uri} HTTP/1.1"' for file in files]
    texts += [f'REST.GET.OBJECT {key} "GET /{key} HTTP/1.1"' for key in MISSING_KEYS + FORBIDDEN_KEYS]
    texts.append(f'REST.HEAD.OBJECT {HEALTH_KEY} "HEAD /{HEALTH_KEY} HTTP/1.1"')
    missing = range(len(files), len(files) + len(MISSING_KEYS))
    forbidden = range(missing.stop, missing.stop + len(FORBIDDEN_KEYS))
    sizes: list[int | str] = [*(file.size for file in files), *("-" for _ in (*missing, *forbidden)), HEALTH_BYTES]
    return Targets(tuple(texts), tuple(sizes), missing, forbidden, health=forbidden.stop)


@dataclass(frozen=True)
class Columns:
    """Requests, with one array per column and one element per line."""

    second: Ints
    """time of the request, seconds since 1970"""
    client: Ints
    """index into `Audience.clients`"""
    target: Ints
    """index into `Targets.texts`"""
    outcome: Ints
    """index into `OUTCOMES`"""
    sent: Ints
    """bytes sent, -1 for none"""
    referrer: Ints
    """index into `REFERRERS`"""


@dataclass(frozen=True)
class Span:
    """The time span of the lines, in seconds (`start`: since 1970), and the draws for them."""

    site: DemoSite
    start: int
    seconds: int
    draws: Draws

    @property
    def files(self) -> Catalogue:
        """The site's catalogue."""
        return make_catalogue(self.site)

    @property
    def people(self) -> Audience:
        """The site's audience."""
        return make_audience(self.site)

    def moments(self, count: int) -> Ints:
        """Return random seconds of this span."""
        return self.start + self.draws.below(self.seconds, count)

    def visitors(self, count: int) -> Ints:
        """Return ordinary visitors: some come often, most rarely, and each day brings partly different ones."""
        often = self.draws.below(6_000, count) * self.draws.below(6_000, count) // 6_000
        return (often + self.start // 86_400 * 971) % VISITORS

    def files_by_popularity(self, count: int) -> Ints:
        """Return files by Zipf's law."""
        return self.draws.by_cumulated(self.files.zipf_cumulated, count)

    def among(self, indices: range, count: int) -> Ints:
        """Return indices from a range, all equally likely."""
        return indices.start + self.draws.below(len(indices), count)


def visits(span: Span, count: int) -> Columns:
    """Return visits by browsers and players: whole files, 304 for cached ones, and media in several ranges."""
    draws, files = span.draws, span.files
    target = span.files_by_popularity(count)
    chunk = files.range_bytes[target]
    wanted = np.where(chunk > 0, 1 + draws.below(7, count), 1)
    available = np.where(chunk > 0, -(-files.sizes[target] // np.maximum(chunk, 1)), 1)
    reads = np.minimum(wanted, available)
    # One row per view so far; from here on one row per line, cut to exactly `count`.
    view = np.repeat(np.arange(count), reads)[:count]
    nth = np.arange(count) - (np.cumsum(reads) - reads)[view]
    client, moment, referrer = span.visitors(count)[view], span.moments(count)[view], _referrers(draws, count)[view]
    gap = (2 + draws.below(20, count))[view]
    target, chunk = target[view], chunk[view]
    size = files.sizes[target]
    sent = np.where(chunk > 0, np.minimum(chunk, size - nth * chunk), size)
    luck = draws.below(100, count)
    sent = np.where((chunk > 0) & (luck < 12), sent * (luck + 20) // 100 + 1, sent)  # the viewer left
    cached = (files.cacheable[target] > 0) & (luck < 14)
    outcome = np.where(cached, NOT_MODIFIED, np.where(chunk > 0, PARTIAL, OK))
    second = np.minimum(moment + nth * gap, span.start + span.seconds - 1)
    return Columns(second, client, target, outcome, np.where(cached, -1, sent), referrer)


def _referrers(draws: Draws, count: int) -> Ints:
    """Return referrers: mostly one of the site's own pages, often none, rarely a foreign page."""
    return np.maximum(draws.below(HOTLINKS.start + 9, count) - 9, NO_REFERRER)


def _whole_files(span: Span, client: Ints, target: Ints, referrer: Ints | None = None) -> Columns:
    count = len(target)
    nothing = np.zeros(count, dtype=np.int64)
    return Columns(
        span.moments(count),
        client,
        target,
        nothing + OK,
        span.files.sizes[target],
        nothing if referrer is None else referrer,
    )


def search_bots(span: Span, count: int) -> Columns:
    """Return requests of search engines for popular files; many are answered that nothing has changed."""
    whole = _whole_files(span, span.among(span.people.search_bots, count), span.files_by_popularity(count))
    unchanged = span.draws.below(100, count) < 45
    outcome, sent = np.where(unchanged, NOT_MODIFIED, OK), np.where(unchanged, -1, whole.sent)
    return Columns(whole.second, whole.client, whole.target, outcome, sent, whole.referrer)


def ai_crawlers(span: Span, count: int) -> Columns:
    """Return requests of AI crawlers for whole files, popular or not."""
    return _whole_files(
        span, span.among(span.people.ai_crawlers, count), span.draws.below(len(span.files.files), count)
    )


def scraper(span: Span, count: int) -> Columns:
    """Return requests of one address that walks through all keys in order: about five hours at 8 keys a minute."""
    start = span.start // 60 * 8
    target = span.files.alphabetical[(start + np.arange(count)) % len(span.files.files)]
    walk = _whole_files(span, np.full(count, span.people.scraper.start), target)
    return Columns(np.sort(walk.second), walk.client, walk.target, walk.outcome, walk.sent, walk.referrer)


def hotlinker(span: Span, count: int) -> Columns:
    """Return requests by readers of a foreign forum that shows three of the images."""
    target = span.files.images[span.draws.below(len(HOTLINKS), count)]
    return _whole_files(span, span.visitors(count), target, span.among(HOTLINKS, count))


def origin_access(span: Span, count: int) -> Columns:
    """Return CloudFront's requests for its own cache, with an origin access identity: a requester with blanks."""
    return _whole_files(span, span.among(span.people.origin_access, count), span.files_by_popularity(count))


def monitoring(span: Span, count: int) -> Columns:
    """Return the uptime checks."""
    nothing = np.zeros(count, dtype=np.int64)
    client = span.among(span.people.monitors, count)
    return Columns(
        span.moments(count), client, nothing + make_targets(span.site).health, nothing + OK, nothing - 1, nothing
    )


def missing_files(span: Span, count: int) -> Columns:
    """Return requests for keys that do not exist."""
    return _make_refused(span, count, make_targets(span.site).missing, NOT_FOUND)


def forbidden_files(span: Span, count: int) -> Columns:
    """Return requests for keys that the public may not read."""
    return _make_refused(span, count, make_targets(span.site).forbidden, FORBIDDEN)


def _make_refused(span: Span, count: int, keys: range, outcome: int) -> Columns:
    nothing = np.zeros(count, dtype=np.int64)
    sent = nothing + ERROR_BODY_BYTES + span.draws.below(60, count)
    return Columns(span.moments(count), span.visitors(count), span.among(keys, count), nothing + outcome, sent, nothing)


def join_columns(parts: list[Columns]) -> Columns:
    """Return all parts as one, in their order; no parts give no requests."""
    none = np.empty(0, dtype=np.int64)
    return Columns(
        *(np.concatenate([none, *(getattr(part, field.name) for part in parts)]) for field in fields(Columns))
    )


Kind = Callable[[Span, int], Columns]

# The kinds of request, with their lines per 1,000 in an ordinary hour.
COMMON_KINDS: tuple[tuple[Kind, int], ...] = (
    (visits, 796),
    (search_bots, 40),
    (ai_crawlers, 45),
    (monitoring, 20),
    (hotlinker, 25),
    (scraper, 10),
    (missing_files, 20),
    (forbidden_files, 6),
    (origin_access, 20),
)
