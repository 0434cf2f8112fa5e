"""Make realistic access log lines of the demo's media site, the same for the same site and hour on any machine.

`make_hour_lines` returns the log of one hour; tests and benchmarks that need a certain number of lines call
`make_lines_between`.
"""

from datetime import UTC, datetime, timedelta

import numpy as np

from tamarin_dagster.demo.audience import make_audience
from tamarin_dagster.demo.draws import Ints, host_ids, request_ids
from tamarin_dagster.demo.log_times import MINUTE_SECOND, hour_start
from tamarin_dagster.demo.rare import RARE_KINDS, rare_lines
from tamarin_dagster.demo.requests import (
    COMMON_KINDS,
    OUTCOMES,
    REFERRERS,
    Columns,
    Kind,
    Span,
    hotlinker,
    join_columns,
    make_targets,
    scraper,
)
from tamarin_dagster.demo.site import DemoSite, epoch_day, requests_in_hour, start_of_hour

# S3 writes the lines of a log key roughly in order: requests this many seconds apart may be in either order.
DISORDER_SECONDS = 6
SHORTEST_BROKEN_LINE = 90


def make_hour_lines(site: DemoSite, hour: datetime) -> list[str]:
    """Return all lines of the hour that contains the moment `hour`, without line ends."""
    start = start_of_hour(hour)
    return make_lines_between(site, start, start + timedelta(hours=1), requests_in_hour(site, start), name="hour")


def make_lines_between(site: DemoSite, start: datetime, end: datetime, count: int, *, name: str = "") -> list[str]:
    """Return exactly `count` lines of requests from `start` (inclusive) to `end` (exclusive), without line ends.

    The times are whole seconds and aware datetimes. Another `name` gives other lines for the same span.
    """
    first, last = int(start.timestamp()), int(end.timestamp())
    if last <= first:
        raise ValueError(f"there is no time between {start.isoformat()} and {end.isoformat()}")
    if count < 1:
        return []
    span = Span(site, first, last - first, site.draws("lines", first, last, count, name))
    weights = _mix(start.astimezone(UTC))
    counts = np.bincount(span.draws.by_weight(weights, count), minlength=len(weights)).tolist()
    common, rare = counts[: len(COMMON_KINDS)], counts[len(COMMON_KINDS) :]
    columns = join_columns(
        [kind(span, wanted) for (kind, _), wanted in zip(COMMON_KINDS, common, strict=True) if wanted]
    )
    others = rare_lines(span, rare)
    lines = _common_lines(span, columns) + others.lines
    seconds: Ints = np.concatenate([columns.second, np.array(others.seconds, dtype=np.int64)])
    order = np.argsort(seconds + span.draws.below(DISORDER_SECONDS, count), kind="stable").tolist()
    lines = [lines[index] for index in order]
    if site.broken_share > 0:
        _break_some(span, lines)
    return lines


def _mix(start: datetime) -> list[int]:
    """Return the lines per 1,000 of every kind, rare ones last. Scraper and forum are active on some nights only."""
    special: dict[Kind, int] = {}
    if epoch_day(start) % 3 == 0 and 1 <= start.hour <= 4:
        special[scraper] = 250
    if epoch_day(start) % 5 == 0 and 18 <= start.hour <= 22:
        special[hotlinker] = 200
    return [special.get(kind, weight) for kind, weight in COMMON_KINDS] + list(RARE_KINDS)


def _common_lines(span: Span, columns: Columns) -> list[str]:
    """Return the lines of all requests of the common shape. This is the generator's inner loop: look-ups and one
    f-string.
    """
    draws, count = span.draws, len(columns.second)
    clients, target = make_audience(span.site).clients, make_targets(span.site)
    texts, sizes, minute_second = target.texts, target.sizes, MINUTE_SECOND
    turnaround = 6 + draws.below(60, count)
    total = turnaround + np.maximum(columns.sent, 0) // (1_500 + draws.below(20_000, count))
    first_hour = span.start // 3600
    starts = [hour_start(span.site, hour) for hour in range(first_hour, (span.start + span.seconds - 1) // 3600 + 1)]
    rows = zip(
        (columns.second // 3600 - first_hour).tolist(),
        (columns.second % 3600).tolist(),
        [clients[index] for index in columns.client.tolist()],
        request_ids(draws, count),
        columns.target.tolist(),
        columns.outcome.tolist(),
        columns.sent.tolist(),
        total.tolist(),
        turnaround.tolist(),
        columns.referrer.tolist(),
        host_ids(draws, count),
        strict=True,
    )
    return [
        f"{starts[hour]}{minute_second[second]} {client.who} {request_id} {texts[asked]} {OUTCOMES[outcome]} "
        f"{sent if sent >= 0 else '-'} {sizes[asked]} {whole} {before} {REFERRERS[referrer]} "
        f"{client.agent} {host_id} {client.tail}"
        for hour, second, client, request_id, asked, outcome, sent, whole, before, referrer, host_id in rows
    ]


def _break_some(span: Span, lines: list[str]) -> None:
    """Cut some lines in the middle, in place.

    The draws are separate from the span's, so that the other lines are the same as without broken lines.
    """
    draws = span.site.draws("broken", span.start, span.seconds, lines[0])
    # The share in whole millionths, so that every machine chooses the same lines.
    chosen = np.nonzero(draws.below(1_000_000, len(lines)) < round(span.site.broken_share * 1_000_000))[0].tolist()
    for index in chosen:
        lines[index] = tear_line(lines[index], draws.one_below(1 << 30))


def tear_line(line: str, chance: int) -> str:
    """Return the beginning of the line, cut before its status at a place that the number `chance` chooses."""
    longest = max(line.find(" HTTP/"), SHORTEST_BROKEN_LINE + 60)
    return line[: SHORTEST_BROKEN_LINE + chance % (longest - SHORTEST_BROKEN_LINE)].rstrip()
