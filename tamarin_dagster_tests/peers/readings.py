"""The programs, what each reads, and the rules that explain each difference from our numbers to the last request.

A rule is a condition on our records, found in the program's source or documentation, or by trying.
"""

from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from tamarin_dagster_tests.peers import names, programs
from tamarin_dagster_tests.peers.month import Month
from tamarin_dagster_tests.peers.traffic import Request, Rule, Traffic, ours, records, rejected_lines


@dataclass(frozen=True)
class Reading:
    """A program that reads the month.

    Attributes:
        name: the program, and what it reads.
        run: what it says.
        unread: lines that are no request for it.
        unsized: requests whose bytes it leaves out of the sum.
        uncoded: requests whose status it does not report; `status_of` returns its status for the others.
        unnamed: requests whose file it does not tell; `file_of` is what it calls those of the others.
        calls: how it calls files, in words, where that is not as they are.
        status_notes: what there is to say of its statuses.
        takes_rejected: whether the lines that we have rejected are in what it reads.
    """

    name: str
    run: Callable[[Month], Traffic]
    unread: tuple[Rule, ...]
    unsized: tuple[Rule, ...]
    uncoded: tuple[Rule, ...]
    unnamed: tuple[Rule, ...]
    file_of: Callable[[Request], str]
    calls: str
    status_of: Callable[[Request], str] = lambda request: request.status
    status_notes: tuple[str, ...] = ()
    takes_rejected: bool = False

    def expected(self, engine: sa.Engine) -> Traffic:
        """Return the expected values, from its rules and our records."""
        traffic = Traffic(
            requests=sum(count for _, count, _ in records(engine, *self.unread)),
            bytes=sum(sent for _, _, sent in records(engine, *self.unread, *self.unsized)),
        )
        traffic.refused = ours(engine).requests - traffic.requests
        traffic.refused += rejected_lines(engine) if self.takes_rejected else 0
        for request, count, _ in records(engine, *self.unread, *self.uncoded):
            traffic.statuses[self.status_of(request)] += count
        for request, count, _ in records(engine, *self.unread, *self.unnamed):
            traffic.files[self.file_of(request)] += count
        return traffic


_NO_REQUEST = "request_method IS NULL"
_WITHOUT_HTTP = Rule("no HTTP request: lifecycle, and the keys of a batch delete", _NO_REQUEST)

_GOACCESS = Reading(
    "GoAccess, the combined export",
    lambda month: programs.goaccess(month.combined, month.folder),
    unread=(Rule("no host: S3's own actions, such as lifecycle", "remote_ip IS NULL"),),
    unsized=(),
    uncoded=(),
    unnamed=(),
    file_of=names.goaccess_file,
    calls="decoded, without line feeds; quote and backslash as in the line, after a backslash; a request"
    " without an HTTP version is `-`, one with a method that it does not know is unchanged",
)

_AWSTATS_METHODS = (
    "^(GET|POST|HEAD|PROPFIND|CHECKOUT|LOCK|PROPPATCH|OPTIONS|MKACTIVITY|PUT|MERGE|DELETE|REPORT|MKCOL|COPY|RPC_IN_DATA"
    "|RPC_OUT_DATA|[Gg][Ee][Tt])$"
)
_FAVICON = r"request_uri ~* '/favicon\.ico([?;]|$)'"
_AWSTATS_ERROR = "http_status NOT IN (200, 204, 206, 304)"
_AWSTATS = Reading(
    "AWStats, the combined export",
    lambda month: programs.awstats(month.combined, month.folder),
    unread=(
        _WITHOUT_HTTP,
        Rule("a method that it does not know: PATCH, and what is none", f"request_method !~ '{_AWSTATS_METHODS}'"),
        Rule("a quote in the URI, after a blank", """request_uri ~ ' .*"'"""),
    ),
    unsized=(
        Rule("a 304 has no bytes for it", "http_status = 304"),
        Rule("a favicon that is not there has none", f"{_FAVICON} AND http_status = 404"),
    ),
    uncoded=(
        Rule("it gives errors only", f"NOT {_AWSTATS_ERROR}"),
        Rule("a favicon is no error for it", f"{_FAVICON} AND {_AWSTATS_ERROR}"),
    ),
    unnamed=(
        Rule("it lists no files of errors", _AWSTATS_ERROR),
        Rule("nor a favicon", f"{_FAVICON} AND NOT {_AWSTATS_ERROR}"),
        Rule("nor robots.txt: whoever asks for it is a robot", r"request_uri ~* '/robots\.txt([?;]|$)'"),
    ),
    file_of=names.awstats_file,
    calls="letters, digits and `-._~` decoded; without anchor, and without what follows a semicolon; up to the first"
    " blank; two slashes are one, `index.html` is its folder",
)
# It reports the others as 2xx, 4xx and so on. From its language file.
_ANALOG_STATUSES = {
    "1": range(100, 102),
    "2": range(200, 207),
    "3": range(300, 308),
    "4": range(400, 418),
    "5": range(500, 507),
}


def _analog_status(request: Request) -> str:
    if request.status == "-":
        return "200"
    known = int(request.status) in _ANALOG_STATUSES.get(request.status[0], ())
    return request.status if known else f"{request.status[0]}xx"


_ANALOG_UNSIZED = (
    Rule("it sums up the bytes of successes: not of errors", "http_status >= 400"),
    Rule("nor of redirections", "http_status BETWEEN 300 AND 399 AND http_status <> 304"),
)
_ANALOG_LUMPS = "it counts unknown statuses together"
_ANALOG_CALLS = (
    "ASCII decoded but for `%&;=?`; without anchor, and without what follows a semicolon; a backslash is a slash, two"
    " slashes are one, `.` and `..` are resolved, `index.html` is its folder"
)
_ANALOG = Reading(
    "Analog, the combined export",
    lambda month: programs.analog(month.combined, month.folder),
    unread=(
        Rule("a quote in the referrer or the user agent", """referrer ~ '"' OR user_agent ~ '"'"""),
        Rule(
            "a quote in the URI, and a blank in it or no HTTP version",
            """request_uri ~ '"' AND (request_uri ~ ' ' OR http_version IS NULL)""",
        ),
    ),
    unsized=_ANALOG_UNSIZED,
    uncoded=(),
    unnamed=(Rule("no HTTP request: no file", _NO_REQUEST),),
    file_of=names.analog_file,
    calls=_ANALOG_CALLS,
    status_of=_analog_status,
    status_notes=("a line without a status is a `200` for it", _ANALOG_LUMPS),
)
_ANALOG_RAW = Reading(
    "Analog with the published S3 `LOGFORMAT`, S3's own lines",
    lambda month: programs.analog(month.keys / "*", month.folder, programs.S3_RECIPE),
    unread=(
        _WITHOUT_HTTP,
        Rule("a blank in the requester: a CloudFront origin access identity", f"requester ~ ' ' AND NOT {_NO_REQUEST}"),
        Rule("no HTTP version", f"http_version IS NULL AND request_uri !~ ' ' AND NOT {_NO_REQUEST}"),
        Rule("a quote in the URI, after a blank", """request_uri ~ ' .*"'"""),
        Rule("a quote in the referrer", """referrer ~ '^[^"]*"' AND referrer !~ '^[^"]*" "'"""),
        Rule("a quote in the user agent, without a blank after it", """user_agent ~ '^[^"]*"([^ ]|$)'"""),
    ),
    unsized=_ANALOG_UNSIZED,
    uncoded=(),
    unnamed=(),
    file_of=names.analog_raw_file,
    calls=_ANALOG_CALLS,
    status_of=_analog_status,
    status_notes=(_ANALOG_LUMPS,),
    takes_rejected=True,
)

READINGS = (_GOACCESS, _AWSTATS, _ANALOG, _ANALOG_RAW)
