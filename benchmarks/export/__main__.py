r"""Measure `tamarin-dagster export` in records per second, compared with psql's `\copy (select …) to`.

    .venv/bin/python -m benchmarks.export [--lines 500000] [--keys 1000] [--days 10] [--rounds 5]

Each round runs all processes in turn; each writes to a file. The ratio is to psql in the same round. For the combined
format psql copies the ten columns of a line, for the others all columns. psql keeps the order of the table; an export
sorts the records of each day by the time of the request.
"""

import os
import shutil
import statistics
from collections.abc import Mapping

from benchmarks.command_line import command_line, show
from benchmarks.ingest.stage import COMMAND, Stage, Usage, stage
from benchmarks.sheet import Sheet

_LINE_COLUMNS = (
    "remote_ip, requester, request_dtime, request_method, request_uri, http_version, http_status, bytes_sent, referrer,"
    " user_agent"
)
_PSQL_LINE, _PSQL_ALL = r"psql, \copy of the 10 columns of a line", r"psql, \copy of all columns"
# The measured commands, and the baseline of each.
_BASELINES = {
    _PSQL_LINE: _PSQL_LINE,
    "export --format combined": _PSQL_LINE,
    _PSQL_ALL: _PSQL_ALL,
    "export --format csv": _PSQL_ALL,
    "export --format csv --formula-safe": _PSQL_ALL,
    "export --format parquet": _PSQL_ALL,
}


def main() -> None:
    """Print a table with a row for each program."""
    parser = command_line(__doc__)
    parser.add_argument("--lines", type=int, default=500_000)
    parser.add_argument("--keys", type=int, default=1_000)
    parser.add_argument("--days", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    usages: dict[str, list[Usage]] = {name: [] for name in _BASELINES}
    sizes: dict[str, int] = {}
    with stage() as staged:
        staged.write_keys(lines=options.lines, keys=options.keys, days=options.days)
        staged.pull(options.lines)
        staged.execute("VACUUM ANALYZE s3_log_record", "CHECKPOINT")
        for _ in range(options.rounds):
            for name, taken in usages.items():
                taken.append(staged.run(_command(staged, name)))
                sizes[name] = _forget(staged)
    title = f"{options.lines:,} records of {options.days} days; {options.rounds} rounds, {os.cpu_count()} cores"
    show([_sheet(title, options.lines, usages, sizes)], options.markdown)


def _command(staged: Stage, name: str) -> list[str]:
    if name in (_PSQL_LINE, _PSQL_ALL):
        columns = _LINE_COLUMNS if name == _PSQL_LINE else "*"
        copy = rf"\copy (SELECT {columns} FROM s3_log_record) TO '{staged.folder}/out' CSV"
        return [str(staged.server.psql), staged.url, "-c", copy]
    return [*COMMAND, *name.split(), "--out", f"{staged.folder}/out"]


def _forget(staged: Stage) -> int:
    """Remove the output, and return its size in bytes."""
    out = staged.folder / "out"
    files = [out] if out.is_file() else [path for path in out.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    if out.is_file():
        out.unlink()
    else:
        shutil.rmtree(out)
    return size


def _sheet(title: str, lines: int, usages: Mapping[str, list[Usage]], sizes: Mapping[str, int]) -> Sheet:
    rows = []
    for name, taken in usages.items():
        rates = [lines / usage.seconds for usage in taken]
        pairs = zip(usages[_BASELINES[name]], taken, strict=True)
        ratios = [baseline.seconds / usage.seconds for baseline, usage in pairs]
        rows.append(
            [
                name,
                *(f"{figure(rates):,.0f}" for figure in (statistics.median, min, max)),
                *(f"{figure(ratios):.2f}" for figure in (statistics.median, min, max)),
                f"{statistics.median(usage.peak_mib for usage in taken):,.0f}",
                f"{sizes[name] / 1e6:,.1f}",
            ]
        )
    headings = ("program", "records/s", "min", "max", "to psql", "min", "max", "peak MiB", "MB written")
    return Sheet(title, headings, rows, ["program"])


if __name__ == "__main__":
    main()
