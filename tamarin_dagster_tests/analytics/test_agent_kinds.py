"""The kinds that user agents claim to be."""

import time

import pytest

from tamarin_dagster.analytics.agent_kinds import AgentKind, UserAgent, classify_agent

CHROME = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.7390.122"


@pytest.mark.parametrize(
    ("user_agent", "kind", "name"),
    [
        ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "search engine", "Googlebot"),
        ("Googlebot-Image/1.0", "search engine", "Googlebot"),
        ("Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)", "search engine", "Bingbot"),
        (f"Mozilla/5.0 {CHROME} Safari/537.36; compatible; GPTBot/1.2; +https://x.org)", "AI crawler", "GPTBot"),
        ("CCBot/2.0 (https://commoncrawl.org/faq/)", "AI crawler", "CCBot"),
        ("Mozilla/5.0 (compatible; Applebot-Extended/0.1)", "AI crawler", "Applebot-Extended"),
        ("Mozilla/5.0 (compatible; Applebot/0.1)", "search engine", "Applebot"),
        ("Mozilla/5.0 (compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)", "monitoring", "UptimeRobot"),
        ("Pingdom.com_bot_version_1.4_(http://www.pingdom.com/)", "monitoring", "Pingdom"),
        ("UptimeWatch/3.1 (+https://uptime.example.net/about)", "monitoring", "UptimeWatch"),
        ("Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)", "other bot", "AhrefsBot"),
        ("Mozilla/5.0 (compatible; NobodyKnowsBot/1.0)", "other bot", "NobodyKnowsBot"),
        (f"Mozilla/5.0 (X11; Linux x86_64) {CHROME} HeadlessChrome/120 Safari/537.36", "other bot", "HeadlessChrome"),
        ("curl/8.5.0", "library/CLI", "curl"),
        ("python-requests/2.32.5", "library/CLI", "python-requests"),
        ("aws-cli/2.15.30 Python/3.11.8 Linux/6.1 exe/x86_64", "library/CLI", "aws-cli"),
        ("[aws-sdk-go-v2/1.30.1 os/linux lang/go]", "library/CLI", "aws-sdk"),
        ("Go-http-client/1.1", "library/CLI", "Go-http-client"),
        ("Amazon CloudFront", "AWS service", "CloudFront"),
        ("S3Console/0.4, aws-internal/3 aws-sdk-java/1.11", "AWS service", "S3Console"),
        ("Podcasts/1820.2.1 CFNetwork/1568.300.101 Darwin/24.2.0", "app", "Podcasts"),
        (f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {CHROME} Safari/537.36", "browser", "Chrome"),
        (f"Mozilla/5.0 (Linux; Android 9; CUBOT) {CHROME} Mobile Safari/537.36", "browser", "Chrome Mobile"),
        ("Opera/9.80 (Windows NT 6.1) Presto/2.12 Version/12.16", "browser", "Opera"),
        ("Mozilla/5.0", "unknown", None),
        ("", "unknown", None),
        ("\x01\x02 'or 1=1--", "unknown", None),
        ("=cmd|' /C calc'!A0", "unknown", None),
    ],
)
def test_kinds_and_names(user_agent, kind, name) -> None:
    assert classify_agent(user_agent) == UserAgent(AgentKind(kind), name)


def test_a_name_is_short_whatever_the_client_sends() -> None:
    assert classify_agent("x" * 8000 + "bot") == UserAgent(AgentKind.UNKNOWN, None)
    assert classify_agent("x" * 500 + "bot") == UserAgent(AgentKind.OTHER_BOT, "x" * 80)


@pytest.mark.parametrize("bait", ["(" * 8000, "a-" * 4000, "a." * 4000, "bot " * 2000, "Mozilla/5.0 (" + ";" * 8000])
def test_no_agent_takes_long(bait) -> None:
    """A hundred thousand user agents of 8 KB each must be classified within minutes."""
    classify_agent("warm")
    start = time.process_time()
    for _ in range(20):
        classify_agent(bait)
    assert time.process_time() - start < 20 * 0.02
