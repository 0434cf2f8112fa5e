"""The programs, each run with settings that leave nothing out, and its answer read."""

import json
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

from tamarin_dagster_tests.peers.traffic import Traffic

_PACKAGES = ("analog", "awstats", "goaccess")
_AWSTATS = Path("/usr/lib/cgi-bin/awstats.pl")
# What people have published for S3's logs since 2007, of 18 fields; the last %j takes the fields that were added later.
S3_RECIPE = '(%j %j [%d/%M/%Y:%h:%n:%j %j] %s %j %j %j %j "%j %r %j" %c %j %b %j %T %j "%f" "%B" %j)'

# GoAccess' panels, each with the requests of some files: those that it takes for pages, for static, with 404.
_GOACCESS_PANELS = ("requests", "static_requests", "not_found")

_AWSTATS_CONFIG = """
LogFile="{log}"
LogType=W
LogFormat=1
SiteDomain="example.org"
HostAliases="localhost"
DNSLookup=0
DirData="{folder}"
# Every file is a page; the statuses that S3 answers when all is well.
NotPageList=""
DefaultFile=""
ValidHTTPCodes="200 204 206 304"
TrapInfosForHTTPErrorCodes="400 403 404"
LevelForBrowsersDetection=0
LevelForOSDetection=0
LevelForRefererAnalyze=0
LevelForRobotsDetection=0
LevelForSearchEnginesDetection=0
LevelForKeywordsDetection=0
LevelForFileTypesDetection=0
LevelForWormsDetection=0
"""

_ANALOG_CONFIG = """
LOGFORMAT {log_format}
LOGFILE {log}
OUTFILE {out}
OUTPUT COMPUTER
COMPSEP \\t
ALL OFF
GENERAL ON
GENSUMLINES ALL
LASTSEVEN OFF
STATUS ON
STATUSCOLS R
STATUSFLOOR 1r
REQUEST ON
REQCOLS R
REQFLOOR 1r
REDIR ON
REDIRCOLS R
REDIRFLOOR 1r
FAILURE ON
FAILCOLS R
FAILFLOOR 1r
ARGSEXCLUDE *
CASE SENSITIVE
DNS NONE
WARNINGS OFF
"""


def missing_programs() -> list[str]:
    """The Debian packages of those programs that are not there."""
    found = {"analog": shutil.which("analog"), "awstats": _AWSTATS.exists(), "goaccess": shutil.which("goaccess")}
    return [package for package in _PACKAGES if not found[package]]


def versions() -> str:
    """Which they are, as `name version`, with commas between."""
    reported = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${Package} ${Version}, ", *_PACKAGES],
        capture_output=True,
        text=True,
        check=True,
    )
    return reported.stdout.rstrip(", ")


def goaccess(log: Path, folder: Path) -> Traffic:
    """GoAccess, with its predefined COMBINED format."""
    out = folder / "goaccess.json"
    _run(
        "goaccess", log, "--no-global-config", "--log-format=COMBINED", "--no-query-string", "--no-progress",
        "--max-items=1000000", "-o", out,
    )  # fmt: skip
    found = json.loads(out.read_text("utf-8", "surrogateescape"))
    general = found["general"]
    traffic = Traffic(general["valid_requests"], general["failed_requests"], general["bandwidth"])
    for panel in _GOACCESS_PANELS:
        for row in found[panel]["data"]:
            traffic.files[row["data"]] += row["hits"]["count"]
    for status_class in found["status_codes"]["data"]:
        for row in status_class["items"]:
            traffic.statuses[row["data"][:3]] += row["hits"]["count"]
    return traffic


def awstats(log: Path, folder: Path) -> Traffic:
    """AWStats, with its predefined format of combined lines.

    Statuses are those that it calls errors, files those of the others.
    """
    home = folder / "awstats"
    home.mkdir()
    config = _AWSTATS_CONFIG.format(log=log, folder=home)
    (home / "awstats.peers.conf").write_text(config, "utf-8")
    _run("perl", _AWSTATS, "-config=peers", f"-configdir={home}", "-update")
    (data,) = home.glob("awstats*.peers.txt")
    sections = _awstats_sections(data.read_text("utf-8", "surrogateescape"))
    # Parsed, old, new, corrupted and dropped lines, after the time.
    *_, corrupted, dropped = next(row for row in sections["GENERAL"] if row[0] == "LastUpdate")
    hours = [[int(number) for number in row[1:]] for row in sections["TIME"]]
    return Traffic(
        requests=sum(hour[1] + hour[4] for hour in hours),
        refused=int(corrupted) + int(dropped),
        bytes=sum(hour[2] + hour[5] for hour in hours),
        statuses=Counter({row[0]: int(row[1]) for row in sections["ERRORS"]}),
        files=Counter({row[0]: int(row[1]) for row in sections["SIDER"]}),
    )


def _awstats_sections(text: str) -> dict[str, list[list[str]]]:
    found = re.findall(r"^BEGIN_(\w+) \d+$\n(.*?)^END_\1$", text, re.MULTILINE | re.DOTALL)
    return {name: [row.split(" ") for row in body.splitlines()] for name, body in found}


def analog(log: Path, folder: Path, log_format: str = "COMBINED") -> Traffic:
    """Analog; the log may be several files, by a wildcard. Bytes are those of the requests that it calls successful."""
    out = folder / "analog.txt"
    config = folder / "analog.cfg"
    config.write_text(_ANALOG_CONFIG.format(log=log, out=out, log_format=log_format), "utf-8")
    _run("analog", "-G", f"+g{config}")
    traffic = Traffic()
    for row in out.read_text("iso-8859-1").splitlines():
        report, what, *cells = row.split("\t")
        if report == "x" and what in {"SR", "FL", "RR"}:
            traffic.requests += int(cells[0])
        elif report == "x" and what == "CL":
            traffic.refused = int(cells[0])
        elif report == "x" and what == "BT":
            traffic.bytes = int(cells[0])
        elif report == "c" and what == "R":
            traffic.statuses[cells[1][:3]] += int(cells[0])
        elif report in {"r", "I", "E"} and what == "lR" and cells[0] == "1":
            traffic.files[cells[2].encode("iso-8859-1").decode("utf-8", "surrogateescape")] += int(cells[1])
    return traffic


def _run(*command: str | Path) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
