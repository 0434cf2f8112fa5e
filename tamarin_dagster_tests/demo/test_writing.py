import re
from datetime import UTC, date, datetime

import pytest

from tamarin_dagster.demo import WrittenLogKeys, write_log_keys

END = datetime(2026, 11, 20, 15, 30, 12, tzinfo=UTC)
LOG_KEY = re.compile(r"\d{4}(-\d{2}){5}-[0-9A-F]{16}")


def contents(directory):
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("lines", "keys", "days"), [(1, 1, 1), (10, 10, 3), (2_003, 17, 5), (3_000, None, 30), (100, None, 1)]
)
def test_exactly_so_many_lines_in_so_many_keys(tmp_path, lines, keys, days):
    written = write_log_keys(tmp_path, lines=lines, keys=keys, days=days, end=END)
    files = contents(tmp_path)
    assert len(files) == written.keys == (keys or max(1, round(lines / 500)))
    assert sum(body.count(b"\n") for body in files.values()) == written.lines == lines
    assert sum(map(len, files.values())) == written.bytes
    assert all(body.endswith(b"\n") and body.strip() for body in files.values())


def test_names_are_log_key_names_of_the_days_asked_for(tmp_path):
    written = write_log_keys(tmp_path, lines=400, keys=40, days=10, end=END, prefix="logs/")
    names = [name.removeprefix("logs/") for name in sorted(contents(tmp_path))]
    assert all(LOG_KEY.fullmatch(name) for name in names)
    assert len({name[:10] for name in names}) == 10
    assert (written.first_day, written.last_day) == (date(2026, 11, 11), date(2026, 11, 20))
    assert names[-1][:19] < f"{END:%Y-%m-%d-%H-%M-%S}"


def test_requests_are_older_than_the_key_that_holds_them(tmp_path):
    write_log_keys(tmp_path, lines=300, keys=6, days=2, end=END, prefix="")
    for name, body in contents(tmp_path).items():
        delivered = datetime.strptime(name[:19], "%Y-%m-%d-%H-%M-%S").replace(tzinfo=UTC)
        times = re.findall(rb"\[(\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d \+0000)\]", body)
        ages = [
            (delivered - datetime.strptime(found.decode(), "%d/%b/%Y:%H:%M:%S %z")).total_seconds() for found in times
        ]
        assert 0 < min(ages) <= max(ages) <= 3_600


def test_the_same_arguments_write_the_same_tree(tmp_path):
    first, second, other = (
        write_log_keys(tmp_path / str(number), lines=900, keys=9, days=4, end=END, seed=seed)
        for number, seed in enumerate((1, 1, 2))
    )
    assert isinstance(first, WrittenLogKeys)
    assert first == second
    assert contents(tmp_path / "0") == contents(tmp_path / "1")
    assert not contents(tmp_path / "0").keys() & contents(tmp_path / "2").keys()
    times = [[path.stat().st_mtime for path in sorted((tmp_path / tree).rglob("*-*"))] for tree in ("0", "1")]
    assert times[0] == times[1]
    assert other.lines == 900


def test_busy_hours_have_more_lines(tmp_path):
    write_log_keys(tmp_path, lines=24_000, keys=24, days=1, end=datetime(2026, 11, 20, tzinfo=UTC), prefix="")
    lines = [body.count(b"\n") for _, body in sorted(contents(tmp_path).items())]
    assert sum(lines[18:22]) > 2 * sum(lines[1:5])


def test_an_end_at_midnight_ends_the_day_before(tmp_path):
    written = write_log_keys(tmp_path, lines=10, keys=5, days=1, end=datetime(2026, 11, 20, tzinfo=UTC))
    assert (written.first_day, written.last_day) == (date(2026, 11, 19), date(2026, 11, 19))


def test_a_prefix_needs_no_slash(tmp_path):
    write_log_keys(tmp_path, lines=3, keys=3, days=1, end=END, prefix="s3")
    assert all(
        LOG_KEY.fullmatch(name.removeprefix("s3")) and name.startswith("s32026-11-20-") for name in contents(tmp_path)
    )


def test_nothing_but_log_keys_is_left_and_older_files_stay(tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "mine.txt").write_text("mine")
    write_log_keys(tmp_path, lines=50, keys=5, days=2, end=END)
    assert [path.name for path in tmp_path.iterdir()] == ["logs"]
    assert len(list((tmp_path / "logs").iterdir())) == 6


def test_no_unfinished_file_is_ever_to_be_seen_among_the_log_keys(tmp_path):
    """A sensor may list the directory while it is being filled."""
    seen = []

    def look(lines_written):
        finished = [path for path in (tmp_path / "logs").rglob("*") if path.is_file()]
        assert all(LOG_KEY.fullmatch(path.name) for path in finished)
        seen.append((lines_written, sum(path.read_bytes().count(b"\n") for path in finished)))

    write_log_keys(tmp_path, lines=120, keys=6, days=2, end=END, progress=look)
    assert len(seen) == 6
    assert all(reported == there for reported, there in seen)
    assert seen[-1][0] == 120


def test_without_an_end_it_ends_now(tmp_path):
    assert write_log_keys(tmp_path, lines=2, keys=2, days=2).last_day <= datetime.now(UTC).date()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lines": 0}, "at least one"),
        ({"lines": 5, "keys": 6}, "at least one"),
        ({"lines": 5, "keys": 0}, "at least one"),
        ({"lines": 5, "days": 0}, "at least one"),
        ({"lines": 5, "prefix": "../logs/"}, "leads out of"),
        ({"lines": 5, "prefix": "/logs/"}, "leads out of"),
        ({"lines": 5, "end": datetime(2026, 11, 20)}, "no time zone"),  # noqa: DTZ001 - the mistake to find
    ],
)
def test_numbers_and_prefixes_that_make_no_sense_are_refused(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        write_log_keys(tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()
