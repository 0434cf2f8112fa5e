"""Classify user agents by what they claim to be: by the products that they name, otherwise by ua-parser.

A claim is no proof: a scraper may call itself Chrome, and anyone may call themselves Googlebot.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from functools import cache
from importlib.metadata import version
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from tamarin_dagster.extras import needing

if TYPE_CHECKING:
    from ua_parser import PartialResult

FEATURE = "The classification of user agents"
# Browsers send up to 300 characters. A client that sends many more only wants to cost us time.
READ_CHARACTERS = 512
_NAME_CHARACTERS = 80


class AgentKind(StrEnum):
    """The kind of client that a user agent claims to be."""

    SEARCH_ENGINE = "search engine"
    AI_CRAWLER = "AI crawler"
    MONITORING = "monitoring"
    OTHER_BOT = "other bot"
    LIBRARY = "library/CLI"
    BROWSER = "browser"
    APP = "app"
    AWS = "AWS service"
    UNKNOWN = "unknown"


class UserAgent(NamedTuple):
    """The kind of a user agent, and its name for itself without a version (None if it is not known)."""

    kind: AgentKind
    name: str | None


# Product names; `aws-sdk` covers `aws-sdk-go-v2` too. If an agent names several products, the kind that comes first
# here wins, because bots name a browser in addition to themselves.
_PRODUCTS = {
    AgentKind.AI_CRAWLER: (
        "AI2Bot Ai2Bot-Dolma Amazonbot anthropic-ai Applebot-Extended Brightbot Bytespider CCBot ChatGPT ChatGPT-User"
        " Claude-SearchBot Claude-User Claude-Web ClaudeBot cohere-ai cohere-training-data-crawler Crawlspace"
        " DeepSeekBot Diffbot DuckAssistBot FacebookBot FirecrawlAgent GoogleOther Google-CloudVertexBot"
        " Google-Extended GPTBot iaskspider ImagesiftBot img2dataset meta-externalagent meta-externalfetcher"
        " MistralAI-User NovaAct OAI-SearchBot omgili omgilibot PanguBot Perplexity-User PerplexityBot Timpibot"
        " TikTokSpider VelenPublicWebCrawler Webzio-Extended YouBot"
    ),
    AgentKind.SEARCH_ENGINE: (
        "360Spider AdsBot-Google Applebot AspiegelBot Baiduspider Bingbot BingPreview coccocbot Daum DuckDuckBot"
        " DuckDuckGo-Favicons-Bot Exabot Googlebot Google-InspectionTool ia_archiver Mediapartners-Google Mojeekbot"
        " msnbot Naverbot PetalBot Qwantbot Qwantify SeznamBot Slurp Sogou Sosospider Storebot-Google Teoma Yandex"
        " YandexBot YandexImages YandexMedia YandexMobileBot YandexVideo Yeti YisouSpider"
    ),
    AgentKind.MONITORING: (
        "Amazon-Route53-Health-Check-Service AppDynamics Blackbox-Exporter BetterStack Catchpoint check_http"
        " Checkly CloudWatchSynthetics Cloudflare-Traffic-Manager Datadog DatadogSynthetics DatadogUptimeRobot"
        " Dynatrace ELB-HealthChecker Elastic-Heartbeat Freshping GoogleStackdriverMonitoring HetrixTools hyperping"
        " kube-probe NewRelicPinger New-Relic NodePing Pingdom PingdomPageSpeed PingdomTMS PRTG Site24x7"
        " StatusCake Statuspage updown UptimeRobot Uptime-Kuma Uptimia Zabbix"
    ),
    AgentKind.OTHER_BOT: (
        "AhrefsBot AhrefsSiteAudit archive.org_bot Barkrowler BLEXBot CensysInspect DataForSeoBot DotBot Expanse"
        " facebookexternalhit HeadlessChrome Heritrix InternetMeasurement LinkedInBot masscan MJ12bot Nikto Nmap"
        " Nutch PhantomJS Playwright Puppeteer Screaming-Frog Selenium SemrushBot SiteAuditBot Slackbot"
        " Slackbot-LinkExpanding sqlmap TelegramBot trendictionbot Twitterbot WhatsApp zgrab Zoominfobot"
    ),
    AgentKind.AWS: (
        "AmazonAthena AWSSupport-TrustedAdvisor aws-internal AWSGlue CloudFront CloudTrail S3Console"
        " aws-datasync awsdatasync"
    ),
    AgentKind.LIBRARY: (
        "aiohttp Apache-HttpClient aria2 aws-cli aws-sdk aws-sdk-cpp aws-sdk-dotnet aws-sdk-java aws-sdk-js"
        " aws-sdk-nodejs aws-sdk-php aws-sdk-ruby aws-sdk-ruby3 aws-sdk-rust axios Axel azcopy Boto Boto3 Botocore"
        " cpp-httplib curl Cyberduck Deno duckdb Elastic-s3 ffmpeg git git-annex git-lfs go-resty Go-http-client got"
        " Guzzle GuzzleHttp Hadoop http_client HTTPie httpx httplib2 Java jakarta JetS3t Lavf lftp libcurl libwww-perl"
        " LWP mc MinIO node-fetch node-superagent obstore okhttp PHP PostmanRuntime pyarrow PycURL python-httpx"
        " python-requests Python-urllib python-urllib3 rclone reqwest restic Ruby s3cmd s3fs S3Browser s5cmd Scrapy"
        " s3transfer Symfony Trino undici unirest urllib3 Wget Wget2 WindowsPowerShell WinHTTP WinSCP yt-dlp"
    ),
    AgentKind.APP: (
        "AntennaPod AppleCoreMedia BeyondPod CastBox Castro CFNetwork Downcast ExoPlayer ExoPlayerLib GStreamer iTunes"
        " Kodi LibVLC Lavc mpv NSPlayer Overcast PlayerFM Podcasts PocketCasts RadioPublic Roku Sonos Spotify"
        " stagefright VLC WMPlayer"
    ),
}
# The number of parts of the longest name. Further parts are ignored: a word with hundreds would cost as many lookups.
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]*(?:[.-][A-Za-z0-9_]+){0,4}")
# Beginnings and ends of words that show the kind of a product that is not in the list. Alone they are not names, and
# `Cubot` makes phones.
_MONITORING_BEGINS = "uptime"
_MONITORING_ENDS = ("monitor", "monitoring", "healthcheck", "health-check", "healthchecker")
_BOT_ENDS = ("bot", "crawler", "spider", "scraper")
_NO_NAMES = {_MONITORING_BEGINS, *_MONITORING_ENDS, *_BOT_ENDS, "cubot"}
_BROWSERS = ("Mozilla/", "Opera/")


@cache
def rules_version() -> str:
    """Return the version of the rules: the release of ua-parser's rules, and a digest of ours.

    Raises MissingExtraError.
    """
    own = (
        _PRODUCTS,
        _WORD,
        _MONITORING_BEGINS,
        _MONITORING_ENDS,
        _BOT_ENDS,
        sorted(_NO_NAMES),
        _BROWSERS,
        READ_CHARACTERS,
    )
    with needing("agents", FEATURE):
        theirs = version("ua-parser-builtins")
    return f"ua-parser {theirs}, own {hashlib.sha256(repr(own).encode()).hexdigest()[:8]}"


def classify_agent(user_agent: str) -> UserAgent:
    """Return what the user agent claims to be, in time linear in its length: any client may send any 8 KB.

    Raises MissingExtraError.
    """
    text = user_agent[:READ_CHARACTERS]
    words = dict.fromkeys(_WORD.findall(text))
    if named := min(_find_products(words), key=itemgetter(0), default=None):
        return named[1]
    return next(_find_suffixes(words), None) or _parse(text)


def _find_products(words: Iterable[str]) -> Iterator[tuple[int, UserAgent]]:
    """Yield the known products among the words, each with the rank of its kind."""
    products = _products()
    for word in words:
        stem = word.lower()
        while stem not in products and (cut := max(stem.rfind("-"), stem.rfind("."))) > 0:
            stem = stem[:cut]
        if stem in products:
            yield products[stem]


def _find_suffixes(words: Iterable[str]) -> Iterator[UserAgent]:
    """Yield the agents whose kind is part of a word, as in UptimeWatch and SomeBot."""
    for word in words:
        lower = word.lower()
        if lower in _NO_NAMES:
            continue
        if lower.startswith(_MONITORING_BEGINS) or lower.endswith(_MONITORING_ENDS):
            yield UserAgent(AgentKind.MONITORING, word[:_NAME_CHARACTERS])
        if lower.endswith(_BOT_ENDS):
            yield UserAgent(AgentKind.OTHER_BOT, word[:_NAME_CHARACTERS])


@cache
def _products() -> dict[str, tuple[int, UserAgent]]:
    return {
        name.lower(): (rank, UserAgent(kind, name))
        for rank, (kind, names) in enumerate(_PRODUCTS.items())
        for name in names.split()
    }


def _parse(text: str) -> UserAgent:
    """Return what ua-parser finds: it knows browsers, and hundreds of less frequent bots."""
    parsed = _resolver()(text)
    name = parsed.user_agent.family[:_NAME_CHARACTERS] if parsed.user_agent else None
    if parsed.device and parsed.device.family == "Spider":
        return UserAgent(AgentKind.OTHER_BOT, name)
    if name is None:
        return UserAgent(AgentKind.UNKNOWN, None)
    return UserAgent(AgentKind.BROWSER if text.startswith(_BROWSERS) else AgentKind.APP, name)


@cache
def _resolver() -> Callable[[str], "PartialResult"]:
    """Return ua-parser on Rust's regular expressions, which no agent can make slow. Compiling them takes 0.17 s."""
    with needing("agents", FEATURE):
        from ua_parser import Domain  # noqa: PLC0415 - an extra
        from ua_parser.loaders import load_lazy_builtins  # noqa: PLC0415
        from ua_parser.regex import Resolver  # noqa: PLC0415
    resolve = Resolver(load_lazy_builtins())
    return lambda text: resolve(text, Domain.USER_AGENT | Domain.DEVICE)
