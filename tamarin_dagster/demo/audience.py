"""The clients of the demo's site: visitors by the thousand, and named clients that a report should find."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from tamarin_dagster.demo.draws import Draws
from tamarin_dagster.demo.site import MONITOR_USER_AGENT, SCRAPER_IP, DemoSite

VISITORS = 12_000
WEIGHTED_CIPHERS = (
    ("TLS_AES_128_GCM_SHA256", "TLSv1.3", 58),
    ("TLS_AES_256_GCM_SHA384", "TLSv1.3", 14),
    ("ECDHE-RSA-AES128-GCM-SHA256", "TLSv1.2", 22),
    ("ECDHE-RSA-AES256-GCM-SHA384", "TLSv1.2", 4),
    ("ECDHE-RSA-AES128-SHA", "TLSv1.2", 2),
)
# First octets in public use, without private ranges and ranges for documentation.
FIRST_OCTETS = (
    2,
    5,
    24,
    31,
    37,
    46,
    62,
    71,
    77,
    80,
    82,
    84,
    86,
    87,
    88,
    91,
    93,
    94,
    95,
    99,
    109,
    151,
    176,
    178,
    188,
    212,
)

_ANY_BROWSER = "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible;"
_ANY_PHONE = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.7390.122 Mobile Safari/537.36 (compatible;"
SEARCH_BOTS = (
    ("192.0.2.17", "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"),
    ("192.0.2.18", f"Mozilla/5.0 (Linux; Android 6.0.1) {_ANY_PHONE} Googlebot/2.1; +http://www.google.com/bot.html)"),
    ("192.0.2.19", "Googlebot-Image/1.0"),
    ("192.0.2.33", "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)"),
    ("192.0.2.41", "DuckDuckBot/1.1; (+http://duckduckgo.com/duckduckbot.html)"),
    ("192.0.2.50", "Mozilla/5.0 (compatible; YandexBot/3.0; +http://yandex.com/bots)"),
    ("2001:db8:5ea::7", "Mozilla/5.0 (compatible; SeznamBot/4.0; +https://o-seznam.cz/napoveda/seznambot-crawler/)"),
)
AI_CRAWLERS = (
    ("198.51.100.65", f"{_ANY_BROWSER} GPTBot/1.2; +https://openai.com/gptbot)"),
    ("198.51.100.66", f"{_ANY_BROWSER} GPTBot/1.2; +https://openai.com/gptbot)"),
    ("198.51.100.80", f"{_ANY_BROWSER} ClaudeBot/1.0; +claudebot@anthropic.com)"),
    ("198.51.100.96", "CCBot/2.0 (https://commoncrawl.org/faq/)"),
    ("198.51.100.97", f"Mozilla/5.0 (Linux; Android 5.0) {_ANY_PHONE} Bytespider; spider-feedback@bytedance.com)"),
    ("198.51.100.98", f"{_ANY_BROWSER} PerplexityBot/1.0; +https://perplexity.ai/perplexitybot)"),
    ("2001:db8:a1::c0de", f"{_ANY_BROWSER} Amazonbot/0.1; +https://developer.amazon.com/amazonbot)"),
)
MONITORS = (
    ("198.51.100.10", MONITOR_USER_AGENT),
    ("198.51.100.11", MONITOR_USER_AGENT),
    ("2001:db8:53::10", MONITOR_USER_AGENT),
)
SCRAPER_USER_AGENT = "python-requests/2.32.5"
PODCAST_USER_AGENTS = (
    "AppleCoreMedia/1.0.0.22H20 (iPhone; U; CPU OS 18_7 like Mac OS X; en_us)",
    "Podcasts/1820.2.1 CFNetwork/1568.300.101 Darwin/24.2.0",
    "Spotify/9.0.88 Android/35 (SM-S928B)",
    "AntennaPod/3.9.0",
    "Overcast/2025.9 (+http://overcast.fm/; iOS podcast app)",
    "VLC/3.0.21 LibVLC/3.0.21",
    "Lavf/61.7.100",
    "-",
)
ORIGIN_ACCESS_IDENTITY = "arn:aws:iam::cloudfront:user/CloudFront Origin Access Identity E2EXAMPLE1OAI7"


@dataclass(frozen=True)
class Client:
    """What a client's lines have in common, as text in log format."""

    who: str
    """remote_ip and requester"""
    agent: str
    """user_agent with its quotes, and version_id"""
    tail: str
    """everything after host_id"""


@dataclass(frozen=True)
class Audience:
    """All clients in one list, ordinary visitors first, and the positions of the named groups."""

    clients: tuple[Client, ...]
    search_bots: range
    ai_crawlers: range
    monitors: range
    scraper: range
    origin_access: range


@lru_cache(maxsize=8)
def make_audience(site: DemoSite) -> Audience:
    """Return the site's audience, made once for each process and site."""
    clients = list(_visitors(site))
    groups = []
    for named in (SEARCH_BOTS, AI_CRAWLERS, MONITORS, ((SCRAPER_IP, SCRAPER_USER_AGENT),)):
        groups.append(range(len(clients), len(clients) + len(named)))
        clients += [Client(f"{ip} -", f'"{agent}" -', _anonymous_tail(site, 0)) for ip, agent in named]
    groups.append(range(len(clients), len(clients) + 4))
    tail = signed_tail(site, source_region="-")
    clients += [
        Client(f"10.0.31.{host} {ORIGIN_ACCESS_IDENTITY}", '"Amazon CloudFront" -', tail) for host in range(11, 15)
    ]
    return Audience(tuple(clients), *groups)


def signed_tail(
    site: DemoSite, *, authentication: str = "AuthHeader", access_point: str = "-", source_region: str | None = None
) -> str:
    """Return the fields after host_id on the line of a signed request, by default from inside the site's region."""
    host = f"{site.bucket}.s3.{site.region}.amazonaws.com"
    region = site.region if source_region is None else source_region
    return f"SigV4 TLS_AES_128_GCM_SHA256 {authentication} {host} TLSv1.3 {access_point} - {region}"


def _anonymous_tail(site: DemoSite, cipher: int, host: str = "", acl: str = "-") -> str:
    suite, tls, _ = WEIGHTED_CIPHERS[cipher]
    return f"- {suite} - {host or f'{site.bucket}.s3.amazonaws.com'} {tls} - {acl} -"


def _visitors(site: DemoSite) -> Iterator[Client]:
    """Yield visitors of every kind: a sixth uses IPv6, a twelfth the bucket's own host name without TLS."""
    draws = site.draws("visitors")
    browsers = tuple(_browsers())
    agents = [*(browsers[i] for i in draws.below(len(browsers), VISITORS * 9 // 10).tolist())]
    agents += [PODCAST_USER_AGENTS[i] for i in draws.below(len(PODCAST_USER_AGENTS), VISITORS - len(agents)).tolist()]
    ciphers = draws.by_weight([weight for _, _, weight in WEIGHTED_CIPHERS], VISITORS).tolist()
    endpoints = ("s3", f"s3.{site.region}", f"s3.dualstack.{site.region}")
    hosts = [f"{site.bucket}.{endpoint}.amazonaws.com" for endpoint in endpoints]
    tails = [[_anonymous_tail(site, cipher, host) for cipher in range(len(WEIGHTED_CIPHERS))] for host in hosts]
    plain_tail = "- - - media.example.org - - - -"
    places = draws.below(12, VISITORS).tolist()
    for ip, agent, cipher, place in zip(_visitor_addresses(draws), agents, ciphers, places, strict=True):
        tail = plain_tail if place == 0 else tails[0 if place < 8 else 1 if place < 11 else 2][cipher]
        yield Client(f"{ip} -", f'"{agent}" -', tail)


def _visitor_addresses(draws: Draws) -> Iterator[str]:
    octets = draws.below(254, VISITORS * 3).reshape(VISITORS, 3).tolist()
    firsts = draws.below(len(FIRST_OCTETS), VISITORS).tolist()
    groups = draws.below(0xFFFF, VISITORS * 4).reshape(VISITORS, 4).tolist()
    for index in range(VISITORS):
        if index % 6 == 5:
            a, b, c, d = groups[index]
            yield f"2a0{a % 8}:{b + 1:x}:{c + 1:x}::{d + 1:x}"
        else:
            b, c, d = octets[index]
            yield f"{FIRST_OCTETS[firsts[index]]}.{b + 1}.{c}.{d + 1}"


def _browsers() -> Iterator[str]:
    desktops = (
        "Windows NT 10.0; Win64; x64",
        "Macintosh; Intel Mac OS X 10_15_7",
        "X11; Linux x86_64",
        "X11; CrOS x86_64 14541.0.0",
    )
    phones = (
        "Linux; Android 10; K",
        "Linux; Android 14; Pixel 8",
        "Linux; Android 15; SM-A556B",
        "Linux; Android 13; moto g54 5G",
    )
    engine = "AppleWebKit/537.36 (KHTML, like Gecko)"
    for version in range(128, 143):
        for desktop in desktops:
            yield f"Mozilla/5.0 ({desktop}) {engine} Chrome/{version}.0.0.0 Safari/537.36"
        yield f"Mozilla/5.0 ({desktops[0]}) {engine} Chrome/{version}.0.0.0 Safari/537.36 Edg/{version}.0.0.0"
        yield f"Mozilla/5.0 ({desktops[0]}) {engine} Chrome/{version}.0.0.0 Safari/537.36 OPR/{version - 16}.0.0.0"
        for phone in phones:
            yield f"Mozilla/5.0 ({phone}) {engine} Chrome/{version}.0.0.0 Mobile Safari/537.36"
        yield f"Mozilla/5.0 ({phones[0]}) {engine} SamsungBrowser/28.0 Chrome/{version}.0.0.0 Mobile Safari/537.36"
        for desktop in ("Windows NT 10.0; Win64; x64", "X11; Ubuntu; Linux x86_64", "Macintosh; Intel Mac OS X 10.15"):
            yield f"Mozilla/5.0 ({desktop}; rv:{version + 2}.0) Gecko/20100101 Firefox/{version + 2}.0"
    for major in (16, 17, 18):
        for minor in range(6):
            webkit = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
            for device in ("iPhone; CPU iPhone OS", "iPad; CPU OS"):
                system = f"{device} {major}_{minor} like Mac OS X"
                yield f"Mozilla/5.0 ({system}) {webkit} Version/{major}.{minor} Mobile/15E148 Safari/604.1"
            yield f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {webkit} Version/{major}.{minor} Safari/605.1.15"
    yield f"Mozilla/5.0 (SMART-TV; Linux; Tizen 7.0) {engine} 94.0.4606.31/7.0 TV Safari/537.36"
    yield f"Mozilla/5.0 (Web0S; Linux/SmartTV) {engine} Chrome/108.0.5359.211 Safari/537.36 WebAppManager"
    yield "Roku/DVP-14.5 (14.5.0.4205-46)"
    yield f"Mozilla/5.0 (PlayStation; PlayStation 5/9.60) {engine} Chrome/120.0.0.0 Safari/537.36"
