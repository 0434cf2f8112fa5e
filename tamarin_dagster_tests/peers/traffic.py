"""The compared figures: requests, bytes, statuses and files, from a program or from our tables."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote

import sqlalchemy as sa

from tamarin_dagster.recordstore.schema.tables import s3_log_record
from tamarin_dagster.recordstore.schema.traffic_tables import traffic_daily_by_key, traffic_hourly


@dataclass
class Traffic:
    """Traffic of a month: requests, bytes, requests by status (`-` if there was none), requests by file.

    `refused` are lines that are no request for the program.
    """

    requests: int = 0
    refused: int = 0
    bytes: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    files: Counter[str] = field(default_factory=Counter)

    def top_files(self) -> set[tuple[str, int]]:
        """The twenty files with most requests, and those with as many as the last of them."""
        least = min((count for _, count in self.files.most_common(20)), default=0)
        return {(file, count) for file, count in self.files.items() if count >= least}


@dataclass(frozen=True)
class Rule:
    """Some records, by a condition in SQL, with which a program does otherwise, and why."""

    why: str
    where: str


@dataclass(frozen=True)
class Request:
    """The parts of a record that decide how a program names its status and its file. None is `-`."""

    status: str
    method: str | None
    uri: str | None
    version: str | None

    @property
    def path(self) -> str:
        """The URI without its query; `-` if there was no request."""
        return (self.uri or "-").partition("?")[0]

    @property
    def line(self) -> str:
        """As the combined format has it, before anything is escaped."""
        return " ".join(part for part in (self.method, self.uri, self.version) if part) or "-"


_RECORDS = """SELECT coalesce(CAST(http_status AS text), '-'), request_method, request_uri, http_version,
count(*), coalesce(sum(bytes_sent), 0) FROM s3_log_record WHERE NOT coalesce({}, false) GROUP BY 1, 2, 3, 4"""
_FOUND = "SELECT count(*), coalesce(sum(bytes_sent), 0) FROM s3_log_record WHERE {} AND NOT coalesce({}, false)"


def records(engine: sa.Engine, *without: Rule) -> Iterator[tuple[Request, int, int]]:
    """Requests, each with how often it is there and its bytes, without what the rules are about."""
    with engine.connect() as connection:
        for *request, count, sent in connection.execute(sa.text(_RECORDS.format(_any(without)))):
            yield Request(*request), count, int(sent)


def left_out(engine: sa.Engine, rule: Rule, *without: Rule) -> tuple[int, int]:
    """Return the number and bytes of the rule's records, without those of other rules."""
    with engine.connect() as connection:
        count, sent = connection.execute(sa.text(_FOUND.format(f"({rule.where})", _any(without)))).one()
        return count, int(sent)


def rejected_lines(engine: sa.Engine) -> int:
    """Return the number of lines that we have rejected."""
    with engine.connect() as connection:
        return int(connection.scalar(sa.text("SELECT count(*) FROM s3_rejected_line")) or 0)


def _any(rules: Sequence[Rule]) -> str:
    return "(" + " OR ".join(f"({rule.where})" for rule in (*rules, Rule("", "false"))) + ")"


def ours(engine: sa.Engine) -> Traffic:
    """All traffic that we have: requests and bytes by the rollups; statuses and paths, which these lack, by records."""
    whole = rolled_up(engine)
    traffic = Traffic(requests=whole.requests, bytes=whole.bytes)
    for request, count, _ in records(engine):
        traffic.statuses[request.status] += count
        if request.uri is not None:
            traffic.files[request.path] += count
    return traffic


def rolled_up(engine: sa.Engine) -> Traffic:
    """Return the figures of the rollups: statuses by their first digit, and files by their keys, spelled as in URIs.

    Files are less what was no request: S3's own actions on a key, and the keys of a batch delete.
    """
    hour, day = traffic_hourly.c, traffic_daily_by_key.c
    by_status = sa.select(hour.status_class, sa.func.sum(hour.requests), sa.func.sum(hour.bytes_sent))
    by_key = sa.select(day.key, sa.func.sum(day.requests)).where(day.key.is_not(None))
    record = s3_log_record.c
    by_none = sa.select(record.key, sa.func.count()).where(record.key.is_not(None), record.request_method.is_(None))
    traffic = Traffic()
    with engine.connect() as connection:
        for status, count, sent in connection.execute(by_status.group_by(hour.status_class)):
            traffic.requests += int(count)
            traffic.bytes += int(sent)
            traffic.statuses["-" if status is None else str(status)] += int(count)
        for key, count in connection.execute(by_key.group_by(day.key)):
            traffic.files[f"/{unquote(key)}"] += int(count)
        for key, count in connection.execute(by_none.group_by(record.key)):
            traffic.files[f"/{unquote(key)}"] -= int(count)
    return traffic
