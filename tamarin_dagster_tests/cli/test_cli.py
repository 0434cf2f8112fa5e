"""The command line as a shell or cron runs it: its output and exit status; as a process where that matters."""

import contextlib
import io
import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from tamarin_dagster.cli.terminal import complain, show_csv, show_json, show_rows
from tamarin_dagster.recordstore.connections import dagster_url
from tamarin_dagster.recordstore.database import open_database
from tamarin_dagster.settings import Settings
from tamarin_dagster_tests.lines import line, lines
from tamarin_dagster_tests.older_parser import reject

# Unicode marks, embeddings, overrides and isolates.
BIDI = "\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@pytest.fixture
def shell(tmp_path: Path, database_url: str):
    """Return shell("tamarin-dagster pull | …"), which runs a shell in `tmp_path` on the test's database."""

    def shell(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
        program = f'tamarin-dagster() {{ "{sys.executable}" -m tamarin_dagster.cli "$@"; }}'
        return subprocess.run(
            ["bash", "-c", f"set -o pipefail; {program}; {script}"],
            cwd=tmp_path,
            env=_environment(database_url) | environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return shell


def _environment(database_url: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TAMARIN_")}
    return clean | {"TAMARIN_QUIET_SECONDS": "0", "TAMARIN_DATABASE_URL": database_url, "COLUMNS": "200"}


def test_pull_loads_purges_and_says_so(run, configured, put_key, log_folder, engine) -> None:
    put_key(lines(3))
    put_key(lines(4) + b"no record\n")

    done = run("pull")

    assert done.returncode == 0, done.stderr
    assert "2 keys loaded (0 loaded before); 8 lines = 7 records + 1 rejected + 0 blank" in done.stderr
    assert "purged 1 key" in done.stderr
    assert len(list(log_folder.glob("logs/*"))) == 1
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM s3_log_record")) == 7


def test_a_second_pull_has_nothing_to_do(run, configured, put_key) -> None:
    put_key(lines(3))
    run("pull", "--no-purge")

    again = run("pull", "--no-purge")

    assert again.returncode == 0
    assert "0 keys loaded (1 loaded before)" in again.stderr


def test_reparse_moves_what_the_present_parser_can_read_and_says_so(run, configured, put_key, rows) -> None:
    key = put_key(lines(4) + b"no record\n")
    run("pull")
    reject(rows, key, lines(4), [1, 3])

    done, again = run("reparse"), run("reparse")

    assert done.returncode == 0, done.stderr
    assert (
        "media: changed 1 of 1 log key with rejected lines; 3 lines = 2 records now + 1 still rejected"
        " (0 for another reason) + 0 oversized or torn, not read again;"
    ) in done.stderr
    assert rows("SELECT line_count, record_count, rejected_count FROM s3_log_key") == [(5, 4, 1)]
    assert rows("SELECT line_number FROM s3_log_record ORDER BY 1") == [(1,), (2,), (3,), (4,)]
    assert again.returncode == 0
    assert (
        "media: changed 0 of 1 log key with rejected lines; 1 line = 0 records now + 1 still rejected" in again.stderr
    )


def test_reparse_keeps_to_the_bucket_and_the_days_asked_for(
    run, tmp_path, configured, put_key, log_folder, rows
) -> None:
    configured.write_text(
        configured.read_text() + f"  - {{name: films, log_bucket_name: '{log_folder.as_uri()}', log_prefix: films/}}\n"
    )
    keys = [put_key(lines(1), day=day) for day in ("2026-03-04", "2026-03-05", "2026-03-06")]
    run("pull", "--no-purge")
    for key in keys:
        reject(rows, key, lines(1), [1])

    films = run("reparse", "--bucket", "films")
    day = run("reparse", "--bucket", "media", "--from", "2026-03-05", "--to", "2026-03-05")

    assert (films.returncode, day.returncode) == (0, 0)
    assert "films: changed 0 of 0 log keys" in films.stderr
    assert "media: changed 1 of 1 log key" in day.stderr
    assert "films" not in day.stderr
    assert rows("SELECT delivery_date::text FROM s3_log_key WHERE rejected_count = 0") == [("2026-03-05",)]
    assert "media: changed 2 of 2 log keys" in run("reparse").stderr


def test_a_key_that_cannot_be_reparsed_is_named_and_gives_status_1(run, configured, put_key, rows) -> None:
    bad, good = put_key(line(request_id="BADBADBADBADBAD0")), put_key(lines(1))
    run("pull", "--no-purge")
    reject(rows, bad, line(request_id="BADBADBADBADBAD0"), [1])
    reject(rows, good, lines(1), [1])
    rows("ALTER TABLE s3_log_record ADD CONSTRAINT refuse CHECK (request_id <> 'BADBADBADBADBAD0')")

    done = run("reparse")

    assert done.returncode == 1
    assert f"bucket media, key {bad}: Postgres refuses it: " in done.stderr
    assert "Traceback" not in done.stderr
    assert rows("SELECT key FROM s3_log_key WHERE rejected_count = 0") == [(good,)]


def test_reparse_of_an_unknown_bucket_says_which_there_are(run, configured) -> None:
    done = run("reparse", "--bucket", "flims")

    assert done.returncode == 2
    assert "bucket 'flims' is not configured; configured buckets: media" in done.stderr


OLD = "2019-02-06"


@pytest.fixture
def retained(configured, put_key, today) -> None:
    """Keep twelve months; there is a key of 2019 and one of today."""
    configured.write_text(configured.read_text().replace("2026-01-01", "2019-01-01") + "retention_months: 12\n")
    put_key(lines(3, "06/Feb/2019:00:00:38 +0000"), day=OLD)
    put_key(lines(2, f"{today:%d/%b/%Y}:00:00:00 +0000"), day=today.isoformat())


def test_expire_drops_old_months_and_says_what_is_left_in_the_log_bucket(run, retained, rows) -> None:
    assert run("pull", "--no-purge", "--from", OLD).returncode == 0

    dry, done, again = run("expire", "--dry-run"), run("expire"), run("expire")

    assert (dry.returncode, done.returncode, again.returncode) == (0, 0, 0), dry.stderr + done.stderr
    assert "s3_log_record_2019_02" in dry.stdout
    assert "1 month would be dropped, 1 key marked as expired, 0 rejected lines deleted" in dry.stderr
    assert done.stderr.startswith("dropped 1 month (s3_log_record_2019_02), ")
    assert "marked 1 log key as expired" in done.stderr
    assert "1 expired log key of media is still in the log bucket" in done.stderr
    assert again.stderr.startswith("dropped 0 months, 0 bytes; marked 0 log keys")
    assert rows("SELECT count(*) FROM s3_log_record") == [(2,)]


def test_a_dry_run_of_expire_drops_nothing(run, retained, rows) -> None:
    run("pull", "--no-purge", "--from", OLD)
    assert run("expire", "--dry-run").returncode == 0
    assert rows("SELECT count(*), (SELECT count(expired_at) FROM s3_log_key) FROM s3_log_record") == [(5, 0)]


def test_expire_without_months_of_retention_is_refused(run, configured) -> None:
    done = run("expire")

    assert done.returncode == 2
    assert "retention_months is not set, so records are kept forever" in done.stderr


def test_a_pull_begins_with_what_retention_keeps_unless_it_is_told_to_begin_earlier(run, retained, rows, today) -> None:
    assert run("pull", "--no-purge").returncode == 0
    assert rows("SELECT delivery_date::text FROM s3_log_key") == [(today.isoformat(),)]
    assert run("pull", "--no-purge", "--from", OLD).returncode == 0
    assert rows("SELECT delivery_date::text FROM s3_log_key ORDER BY 1") == [(OLD,), (today.isoformat(),)]


@pytest.mark.parametrize("sign", [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGKILL])
def test_an_expire_that_is_killed_before_the_drop_leaves_true_counts_and_the_next_goes_on(
    run, tmp_path, database_url, retained, engine, rows, sign
) -> None:
    run("pull", "--no-purge", "--from", OLD)
    with engine.connect() as reading:
        reading.execute(sa.text("SELECT count(*) FROM s3_log_record"))
        process = subprocess.Popen(
            [sys.executable, "-m", "tamarin_dagster.cli", "expire"],
            cwd=tmp_path,
            env=_environment(database_url),
            stderr=subprocess.PIPE,
            text=True,
        )
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 's3_log_record'::regclass"
        deadline = time.monotonic() + 60
        while rows(waiting) == [(0,)] and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(sign)
        said = process.communicate(timeout=60)[1]
        assert ("run expire to continue" in said) == (sign == signal.SIGTERM)
        assert reading.scalar(sa.text("SELECT count(*) FROM s3_log_record")) == 5
    assert rows("SELECT delivery_date::text FROM s3_log_key WHERE expired_at IS NOT NULL") == [(OLD,)]
    assert run("expire").returncode == 0
    assert rows("SELECT count(*) FROM s3_log_record") == [(2,)]


def test_no_purge_leaves_the_keys(run, configured, put_key, log_folder) -> None:
    key = put_key(lines(1))

    assert run("pull", "--no-purge").returncode == 0

    assert (log_folder / key).exists()


def test_from_and_to_are_delivery_days(run, configured, put_key, engine) -> None:
    for day in ("2026-03-04", "2026-03-05", "2026-03-06"):
        put_key(lines(1), day=day)

    run("pull", "--from", "2026-03-05", "--to", "2026-03-05")

    with engine.connect() as connection:
        assert connection.scalars(sa.text("SELECT delivery_date::text FROM s3_log_key")).all() == ["2026-03-05"]


def test_what_is_left_undone_is_named_and_gives_status_1(run, configured, put_key, engine) -> None:
    bad = put_key(b"\x1f\x8b\x08 no gzip at all", suffix=".gz")
    put_key(lines(2))

    done = run("pull")

    assert done.returncode == 1
    assert f"bucket media, key {bad}:" in done.stderr
    assert "Traceback" not in done.stderr
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM s3_log_record")) == 2


def test_a_bucket_that_cannot_be_listed_does_not_stop_the_others(run, tmp_path, configured, put_key, engine) -> None:
    configured.write_text(
        configured.read_text() + f"  - {{name: gone, log_bucket_name: 'file://{tmp_path}/nowhere'}}\n"
    )
    put_key(lines(2))

    done = run("pull")

    assert done.returncode == 1
    assert "nowhere: the folder does not exist" in done.stderr
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM s3_log_record")) == 2


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("buckets: [{name: media}]", "buckets[0] 'media': log_bucket_name: is missing"),
        ("bucket: []", "bucket: unknown setting (did you mean buckets?)"),
        ("buckets: [", "is not valid YAML"),
        ("buckets: [{name: media, log_bucket_name: media}]", "is the logged bucket itself"),
    ],
)
def test_wrong_settings_are_lines_without_a_traceback(run, tmp_path, settings, said) -> None:
    (tmp_path / "tamarin.yaml").write_text(settings)

    done = run("pull")

    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_pull_without_buckets_says_where_to_list_them(run) -> None:
    done = run("pull")

    assert done.returncode == 2
    assert "no buckets are configured; list one in tamarin.yaml" in done.stderr


def test_an_unreachable_database_is_one_line_without_the_password(run, configured) -> None:
    done = run("pull", TAMARIN_DATABASE_URL="postgresql://someone:topsecret@127.0.0.1:1/records")

    assert done.returncode == 1
    assert "127.0.0.1:1/records" in done.stderr
    assert "topsecret" not in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_sql_answers_as_table_csv_and_json(run) -> None:
    query = "SELECT 1 AS one, NULL AS nothing, 'a,b' AS text"

    assert "│   1 │         │ a,b  │" in run("sql", query).stdout
    assert run("sql", query, "--format", "csv").stdout.splitlines() == ["one,nothing,text", '1,,"a,b"']
    assert json.loads(run("sql", query, "--format", "json").stdout) == [{"one": 1, "nothing": None, "text": "a,b"}]


def test_a_query_means_what_it_means_in_psql(run, configured, put_key) -> None:
    put_key(lines(2))
    run("pull")

    liked = run("sql", "SELECT count(*) FROM s3_log_record WHERE key LIKE '%.mp4'", "--format", "csv")
    several = run(
        "sql", "CREATE TABLE aside (n int); INSERT INTO aside VALUES (7); SELECT n FROM aside", "--format", "csv"
    )

    assert liked.stdout.splitlines() == ["count", "2"]
    assert several.stdout.splitlines() == ["n", "7"]
    assert several.stderr.splitlines() == ["CREATE TABLE", "INSERT 0 1"]
    assert run("sql", "VACUUM s3_log_key").returncode == 0


def test_a_wrong_query_is_told_without_a_traceback(run) -> None:
    done = run("sql", "SELECT nonsense")

    assert done.returncode == 1
    assert 'column "nonsense" does not exist' in done.stderr
    assert "Traceback" not in done.stderr


def test_fields_of_a_log_line_cannot_reach_the_terminal_as_control_sequences(run, configured, put_key) -> None:
    put_key(line(user_agent="\x1b[31mred [bold]fat[/bold]"))
    run("pull")

    shown = run("sql", "SELECT user_agent FROM s3_log_record").stdout

    assert "\x1b" not in shown
    assert r"\x1b[31mred [bold]fat[/bold]" in shown


def test_sql_url_is_the_configured_database(run, database_url) -> None:
    assert run("sql", "--url").stdout.strip() == database_url


@pytest.mark.parametrize("threshold", ["", "&prepare_threshold=0", "&prepare_threshold=none"])
def test_parameters_of_the_database_url_reach_the_server(run, database_url, tmp_path, threshold):
    """Each use of the database accepts the same URL, although only psycopg knows prepare_threshold."""
    joint = "&" if "?" in database_url else "?"
    plain = f"{database_url}{joint}options=-c%20statement_timeout%3D7s&connect_timeout=3&application_name=mine"
    set_ = {"TAMARIN_DATABASE_URL": plain + threshold}
    query = "SELECT current_setting('statement_timeout'), current_setting('application_name')"

    answer = run("sql", query, "--format", "csv", **set_).stdout.splitlines()[1]
    engine = open_database(Settings(database_url=plain + threshold))
    with engine.connect() as connection:
        for _ in range(7):
            asked = connection.execute(sa.text(query)).one()
        prepared = connection.scalar(sa.text("SELECT count(*) FROM pg_prepared_statements WHERE NOT from_sql"))
    engine.dispose()

    assert (answer, tuple(asked)) == ("7s,mine", ("7s", "mine"))
    assert bool(prepared) == (threshold == "&prepare_threshold=0")
    assert run("sql", "--url", **set_).stdout.strip() == plain
    assert "prepare_threshold" not in dagster_url(Settings(dagster_database_url=plain + threshold))
    said = run("doctor", **set_).stdout
    assert "database: Postgres" in said


def test_migrate_says_what_it_did(run) -> None:
    assert "was already at revision" in run("migrate").stderr


def test_demo_logs_are_what_pull_can_load(run, tmp_path, engine) -> None:
    written = run("demo-logs", "--lines", "500", "--keys", "7", "--out", "demo keys")
    assert written.returncode == 0
    (tmp_path / "tamarin.yaml").write_text(written.stderr.partition("tamarin.yaml:\n\n")[2])

    done = run("pull")

    assert done.returncode == 0, done.stderr
    assert "media-example-org: 7 keys loaded" in done.stderr
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM s3_log_record")) == 500


@pytest.mark.parametrize("sign", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_an_interrupted_pull_keeps_what_it_committed_and_the_next_goes_on(
    run, tmp_path, database_url, configured, log_folder, put_key, engine, sign
) -> None:
    body = lines(6_000)  # three keys fill a batch
    for number in range(40):
        put_key(body, unique=f"{number:016X}")
    process = subprocess.Popen(
        [sys.executable, "-m", "tamarin_dagster.cli", "pull"],
        cwd=tmp_path,
        env=_environment(database_url),
        stderr=subprocess.PIPE,
        text=True,
    )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        deadline = time.monotonic() + 60
        while not connection.scalar(sa.text("SELECT count(*) FROM s3_log_key")) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(sign)
        said = process.communicate(timeout=60)[1]

        assert process.returncode == 130, said
        assert "1 of 1 day incomplete, from 2026-03-05 on" in said
        assert "run pull to continue" in said
        loaded = connection.scalar(sa.text("SELECT count(*) FROM s3_log_key"))
        assert 0 < loaded < 40
        assert connection.scalar(sa.text("SELECT count(*) FROM s3_log_record")) == loaded * 6_000
        assert run("pull").returncode == 0
        assert connection.scalar(sa.text("SELECT count(*) FROM s3_log_record")) == 40 * 6_000
    assert not list(log_folder.glob("logs/*"))


@pytest.mark.parametrize(
    ("sign", "status"),
    [
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, 130, marks=pytest.mark.slow),
        (signal.SIGKILL, -9),
    ],
)
def test_a_reparse_that_is_killed_leaves_the_key_at_hand_as_it_was(
    run, tmp_path, database_url, configured, put_key, engine, rows, contents, sign, status
) -> None:
    """Stop where it has deleted the rejected lines, and waits to copy their records."""
    key = put_key(lines(9))
    run("pull", "--no-purge")
    undisturbed = contents()
    reject(rows, key, lines(9), [2, 5])
    before = contents()

    with engine.connect() as blocking:
        blocking.execute(sa.text("LOCK TABLE s3_log_record IN SHARE MODE"))
        process = subprocess.Popen(
            [sys.executable, "-m", "tamarin_dagster.cli", "reparse"],
            cwd=tmp_path,
            env=_environment(database_url),
            stderr=subprocess.PIPE,
            text=True,
        )
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 's3_log_record'::regclass"
        deadline = time.monotonic() + 60
        while rows(waiting) == [(0,)] and time.monotonic() < deadline:
            time.sleep(0.02)
        assert rows(waiting) == [(1,)]
        process.send_signal(sign)
        said = process.communicate(timeout=60)[1]

    assert process.returncode == status, said
    assert ("run reparse to continue" in said) == (status == 130)
    assert contents() == before
    assert run("reparse").returncode == 0
    assert contents() == undisturbed


def test_purge_shows_what_would_go_and_then_deletes_it(run, configured, put_key, log_folder) -> None:
    gone, kept = put_key(lines(3)), put_key(lines(1) + b"no record\n")
    run("pull", "--no-purge")

    dry = run("purge", "--dry-run")

    assert (dry.returncode, len(list((log_folder / "logs").iterdir()))) == (0, 2)
    assert "media: would purge 1 key" in dry.stderr
    assert "proved by 3 rows; 1 key with rejected lines stays" in dry.stderr
    assert "2026-03-05" in dry.stdout

    done = run("purge", "--from", "2026-03-05")

    assert done.returncode == 0
    assert "media: purged 1 key" in done.stderr
    assert [path.name for path in (log_folder / "logs").iterdir()] == [kept.removeprefix("logs/")]
    assert gone not in done.stderr

    rejected_too = run("purge", TAMARIN_PURGE_REJECTED="true")

    assert "media: purged 1 key" in rejected_too.stderr
    assert list((log_folder / "logs").iterdir()) == []


def test_purge_leaves_a_bucket_alone_that_is_not_to_be_purged(run, configured, put_key, log_folder) -> None:
    put_key(lines(3))
    run("pull", "--no-purge")

    done = run("purge", TAMARIN_PURGE_PARSED_KEYS="false")

    assert done.returncode == 0
    assert "media: purge_parsed_keys is off, its log keys stay" in done.stderr
    assert len(list((log_folder / "logs").iterdir())) == 1


def test_purge_that_cannot_prove_a_key_says_so_and_fails(run, configured, put_key, log_folder, rows) -> None:
    key = put_key(lines(3))
    run("pull", "--no-purge")
    rows("DELETE FROM s3_log_record WHERE line_number = 2")

    done = run("purge")

    assert done.returncode == 1
    assert f"bucket media, key {key}: its rows differ from the ledger" in done.stderr
    assert len(list((log_folder / "logs").iterdir())) == 1


def test_query_secrets_are_redacted_unless_the_settings_say_otherwise(run, configured, put_key, rows) -> None:
    put_key(line(key="a?Signature=s3cret&x=1"))
    run("pull")
    assert rows("SELECT request_uri FROM s3_log_record") == [("/a?Signature=REDACTED&x=1",)]
    put_key(line(key="b?Signature=s3cret&x=1"))
    run("pull", TAMARIN_REDACT_QUERY_SECRETS="false")
    assert rows("SELECT request_uri FROM s3_log_record WHERE request_uri ~ '^/b'") == [("/b?Signature=s3cret&x=1",)]


def test_values_of_all_types_are_as_postgres_writes_them(run) -> None:
    query = r"""SELECT '2026-03-05 10:00+00'::timestamptz t, '192.0.2.3'::inet i, '\x00ff1b'::bytea b, 1.50::numeric n,
        NULL x, 'NaN'::float8 nan, interval '1 day 2h' iv, '{1,2}'::int[] a, '{"k": 1}'::jsonb j, true bo,
        12345678901234567890::numeric big, 'infinity'::timestamptz inf, '0044-03-15 BC'::date bc, 2 AS x"""

    csv, json_ = run("sql", query, "--format", "csv"), run("sql", query, "--format", "json")

    assert csv.stdout == (
        "t,i,b,n,x,nan,iv,a,j,bo,big,inf,bc,x\n"
        r"""2026-03-05 10:00:00+00,192.0.2.3,\x00ff1b,1.50,,NaN,1 day 02:00:00,"{1,2}","{""k"": 1}",t,"""
        "12345678901234567890,infinity,0044-03-15 BC,2\n"
    )
    (row,) = json.loads(json_.stdout, parse_constant=pytest.fail)
    assert row == {
        "t": "2026-03-05T10:00:00+00:00",
        "i": "192.0.2.3",
        "b": r"\x00ff1b",
        "n": 1.5,
        "x": None,
        "nan": "NaN",
        "iv": "1 day 02:00:00",
        "a": [1, 2],
        "j": {"k": 1},
        "bo": True,
        "big": 12345678901234567890,
        "inf": "infinity",
        "bc": "0044-03-15 BC",
        "x_2": 2,
    }
    assert r"\x00ff1b" in run("sql", query).stdout


def test_answers_to_several_statements_are_one_json_document(run) -> None:
    def answer(query: str) -> object:
        return json.loads(run("sql", query, "--format", "json").stdout)

    assert answer("SELECT 1 AS a; SELECT 2 AS b WHERE false; SELECT 3 AS c") == [[{"a": 1}], [], [{"c": 3}]]
    assert answer("CREATE TEMP TABLE t (n int); INSERT INTO t VALUES (1)") == []
    assert answer("SELECT 1 AS a WHERE false") == []
    assert run("sql", "SELECT 1 AS a; SELECT 2 AS b", "--format", "csv").stdout == "a\n1\n\nb\n2\n"


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT 1; SELEC 2", 'database: syntax error at or near "SELEC"'),
        ("SELECT 1; SELECT 1/0", "database: division by zero"),
        ("COPY s3_log_key TO STDOUT", "is psql's: start tamarin-dagster sql without a query"),
        ("COPY s3_log_key FROM STDIN", "is psql's: start tamarin-dagster sql without a query"),
    ],
)
def test_a_query_that_fails_is_a_line_and_half_a_document_is_none(run, query, said) -> None:
    done = run("sql", query, "--format", "json")

    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr


def test_a_query_without_a_statement_has_no_answer(run) -> None:
    assert [run("sql", query).returncode for query in ("", " ; ")] == [0, 0]


def test_a_notice_of_the_server_is_shown(run) -> None:
    assert 'NOTICE: table "gone" does not exist, skipping' in run("sql", "DROP TABLE IF EXISTS gone").stderr


def test_a_table_in_a_pipe_is_as_wide_as_it_is(run) -> None:
    shown = run("sql", "SELECT repeat('wide ', 100) AS wide, 1 AS one").stdout
    assert "wide " * 100 in shown


def test_control_characters_reach_a_terminal_in_no_format(monkeypatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    hostile = "\x1b[31m\x9b2J\x07" + BIDI
    for show in (
        show_rows,
        show_csv,
        lambda names, rows: show_json([dict(zip(names, row, strict=True)) for row in rows]),
    ):
        monkeypatch.setattr(sys, "stdout", Terminal())
        show([f"name {hostile}"], [[f"cell {hostile}"], [None]])
        shown = sys.stdout.getvalue()
        assert "cell" in shown
        assert "31m" in shown
        assert not set(shown.replace("\x1b[1m", "").replace("\x1b[0m", "")) & set(hostile) - set("[312mJ")


def on_terminal(script: list[str], tmp_path: Path, database_url: str) -> str:
    """Return all output and errors that a command writes to a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "tamarin_dagster.cli", *script],
        cwd=tmp_path,
        env=_environment(database_url) | {"TERM": "dumb"},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    said = b""
    with contextlib.suppress(OSError):  # the terminal has no writer left
        while piece := os.read(ours, 65536):
            said += piece
    os.close(ours)
    assert process.wait(60) == 0, said
    return said.decode()


@pytest.mark.parametrize(
    "script",
    [
        ["export", "--format", "csv"],
        pytest.param(["export", "--format", "combined"], marks=pytest.mark.slow),
        pytest.param(["export", "--format", "csv", "--out", "/dev/stdout"], marks=pytest.mark.slow),
        ["sql", "SELECT user_agent FROM s3_log_record"],
        pytest.param(["sql", "--format", "csv", "SELECT user_agent FROM s3_log_record"], marks=pytest.mark.slow),
        pytest.param(["sql", "--format", "json", "SELECT user_agent FROM s3_log_record"], marks=pytest.mark.slow),
    ],
    ids=" ".join,
)
def test_what_turns_the_direction_of_text_is_escaped_on_a_terminal(
    run, configured, put_key, tmp_path, database_url, script
) -> None:
    """Such characters display `exe.gpj` as another name."""
    put_key(line(user_agent=f"a{BIDI}b"))
    assert run("pull", "--no-purge").returncode == 0
    shown = on_terminal(script, tmp_path, database_url)
    assert not set(shown) & set(BIDI)
    assert r"\u202e" in shown


def test_what_is_no_terminal_gets_the_text_as_it_is(run, configured, put_key, tmp_path) -> None:
    put_key(line(user_agent=f"a{BIDI}b"))
    run("pull", "--no-purge")
    run("export", "--format", "csv", "--out", "a.csv")
    assert f"a{BIDI}b" in (tmp_path / "a.csv").read_text("utf-8")


def test_a_complaint_is_one_line_whatever_a_name_holds(capsys) -> None:
    complain("bucket media: a\u2028b\x85c\x0bd is left out")
    assert capsys.readouterr().err == "bucket media: a\\u2028b\\x85c\\x0bd is left out\n"


def test_a_reader_that_goes_ends_a_query_quietly(shell) -> None:
    done = shell('tamarin-dagster sql "SELECT generate_series(1, 3000000) AS n" --format csv | head -2')

    assert (done.returncode, done.stdout, done.stderr) == (141, "n\n1\n", "")


@pytest.mark.slow
def test_an_output_that_takes_nothing_is_told_and_one_that_is_closed_does_no_harm(shell) -> None:
    full = shell('tamarin-dagster sql "SELECT 1" --format csv > /dev/full')
    closed = shell('tamarin-dagster sql "SELECT 1" --format csv >&-')

    assert (full.returncode, full.stderr) == (1, "No space left on device\n")
    assert (closed.returncode, closed.stderr) == (0, "")


def test_ctrl_c_cancels_a_query_on_the_server(tmp_path, database_url, rows) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tamarin_dagster.cli", "sql", "SELECT pg_sleep(300)"],
        cwd=tmp_path,
        env=_environment(database_url),
        stderr=subprocess.PIPE,
        text=True,
    )
    sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(300)' AND state = 'active'"
    deadline = time.monotonic() + 60
    while rows(sleeping) == [(0,)] and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]

    assert (process.returncode, said) == (130, "Interrupted. The query is cancelled.\n")
    assert rows(sleeping) == [(0,)]


def test_psql_is_asked_what_is_typed_and_gets_no_password_on_its_command_line(shell, database_url) -> None:
    url = sa.make_url(database_url).set(password="topsecret").render_as_string(hide_password=False)
    typed = r"printf '%s\n' 'SELECT 6 * 7 AS answer;' '\! ps -ww -o args= -p $PPID' | tamarin-dagster sql"

    done = shell(typed, TAMARIN_DATABASE_URL=url)

    assert done.returncode == 0, done.stderr
    assert "42" in done.stdout
    assert "psql" in done.stdout
    assert "topsecret" not in done.stdout


def test_a_pull_tells_a_script_what_it_did(run, configured, put_key, log_folder, tmp_path) -> None:
    configured.write_text(configured.read_text() + f"  - {{name: gone, log_bucket_name: '{tmp_path.as_uri()}/no'}}\n")
    put_key(lines(3))
    kept = put_key(lines(1) + b"no record\n")
    bad = put_key(b"\x1f\x8b\x08 no gzip at all", suffix=".gz")

    done = run("pull", "--json")

    assert done.returncode == 1
    media, gone = json.loads(done.stdout)
    (day,) = media["days"]
    assert {name: day[name] for name in ("day", "listed", "seen", "keys", "lines", "records", "rejected", "blank")} == {
        "day": "2026-03-05",
        "listed": 3,
        "seen": 0,
        "keys": 2,
        "lines": 5,
        "records": 4,
        "rejected": 1,
        "blank": 0,
    }
    assert day["first_request"] == "2026-03-05T09:58:01Z"
    assert [failure["key"] for failure in day["failures"]] == [bad]
    assert (media["error"], media["purged"]["keys"], media["purged"]["kept_keys"]) == (None, 1, 1)
    assert media["purged"]["by_day"] == {"2026-03-05": 1}
    assert gone["bucket"] == "gone"
    assert "the folder does not exist" in gone["error"]
    assert (log_folder / kept).exists()


def test_purge_reparse_and_expire_tell_a_script_what_they_did(run, retained, put_key, rows) -> None:
    key = put_key(lines(4) + b"no record\n", day=OLD)
    run("pull", "--no-purge", "--from", OLD)
    reject(rows, key, lines(4), [1, 3])

    (reparsed,) = json.loads(run("reparse", "--json").stdout)
    (dry,) = json.loads(run("purge", "--dry-run", "--json").stdout)
    would = json.loads(run("expire", "--dry-run", "--json").stdout)
    (purged,) = json.loads(run("purge", "--json").stdout)
    (off,) = json.loads(run("purge", "--json", TAMARIN_PURGE_PARSED_KEYS="false").stdout)
    expired = json.loads(run("expire", "--json").stdout)

    assert [reparsed[name] for name in ("keys", "changed", "lines", "moved", "rejected")] == [1, 1, 3, 2, 1]
    assert (dry["dry_run"], dry["purged"]["keys"], dry["purged"]["kept_keys"]) == (True, 2, 1)
    assert (purged["dry_run"], purged["purged"]["keys"]) == (False, 2)
    assert off["purged"] is None
    assert (would["dry_run"], would["unpurged"], expired["dry_run"]) == (True, None, False)
    assert [month["name"] for month in would["partitions"]] == [month["name"] for month in expired["partitions"]]
    assert "s3_log_record_2019_02" in [month["name"] for month in expired["partitions"]]
    assert expired["unpurged"] == {}


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("pull", "--from", "2026-02-30"), 2, "2026-02-30"),
        (("pull", "--from", "2026-03-05", "--to", "2026-03-04"), 2, "--from 2026-03-05 is after --to 2026-03-04"),
        (("purge", "--from", "2026-03-05", "--to", "2026-03-04"), 2, "--from 2026-03-05 is after --to 2026-03-04"),
        (("reparse", "--from", "2026-03-05", "--to", "2026-03-04"), 2, "--from 2026-03-05 is after --to 2026-03-04"),
        (("pull", "--bucket", ""), 2, "bucket '' is not configured; configured buckets: media"),
        (("purge", "--bucket", "flims"), 2, "bucket 'flims' is not configured; configured buckets: media"),
        (("buckets", "--bucket", "flims"), 2, "bucket 'flims' is not configured; configured buckets: media"),
        (("--config", "nowhere.yaml", "buckets"), 2, "nowhere.yaml: no such file"),
        (("sql", "SELECT 1", "--format", "xml"), 2, "xml"),
        (("stop",), 2, "database_url is set: there is no embedded Postgres to stop"),
        (("demo-logs", "--lines", "5", "--out", "tamarin.yaml/keys"), 1, "tamarin.yaml"),
        (("demo-logs", "--lines", "0", "--out", "keys"), 2, "--lines"),
        (("puli",), 2, "No such command 'puli'"),
    ],
)
def test_a_mistake_is_told_without_a_traceback(run, configured, monkeypatch, arguments, status, said) -> None:
    monkeypatch.setenv("TERMINAL_WIDTH", "200")

    done = run(*arguments)

    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr


@pytest.mark.parametrize("command", ["pull", "purge", "reparse", "buckets", "migrate", "sql --url"])
def test_a_database_that_is_not_there_is_a_line_without_the_password(run, configured, command) -> None:
    done = run(*command.split(), TAMARIN_DATABASE_URL="postgresql://someone:topsecret@127.0.0.1:1/records")

    assert (done.returncode, done.stdout) == (1, "")
    assert "127.0.0.1:1/records" in done.stderr
    assert "check that the server is running and that TAMARIN_DATABASE_URL is right" in done.stderr
    assert "topsecret" not in done.stderr


def test_a_home_that_cannot_be_made_is_told(run, configured) -> None:
    done = run("pull", TAMARIN_DATABASE_URL="", TAMARIN_HOME="tamarin.yaml/home")

    assert done.returncode == 1
    assert "Not a directory" in done.stderr
    assert "set TAMARIN_DATABASE_URL" in done.stderr


def test_export_writes_lines_csv_or_files_and_says_how_many(run, configured, put_key, tmp_path) -> None:
    put_key(lines(3))
    put_key(line("06/Mar/2026:00:00:00 +0000", bucket="films"), day="2026-03-06")
    run("pull", "--no-purge")

    combined = run("export", "--format", "combined")
    day = run("export", "--format", "csv", "--bucket", "media", "--to", "2026-03-05", "--out", "day.csv")
    files = run("export", "--format", "parquet", "--out", "records")

    assert (combined.returncode, day.returncode, files.returncode) == (0, 0, 0), files.stderr
    assert len(combined.stdout.splitlines()) == 4
    assert combined.stderr.startswith("4 records, ")
    assert len((tmp_path / "day.csv").read_text().splitlines()) == 1 + 3
    assert files.stderr.startswith("4 records in 2 files, ")
    assert (tmp_path / "records/logged_bucket=media/delivery_day=2026-03-06/part-0.parquet").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--format", "parquet"], "--format parquet writes files: name a folder with --out"),
        (["--format", "combined", "--formula-safe"], "--formula-safe works only with --format csv"),
        (["--format", "csv", "--bucket", "flims"], "bucket 'flims' is not configured; configured buckets: media"),
        (["--format", "csv", "--from", "2026-03-02", "--to", "2026-03-01"], "there is no day between them"),
    ],
)
def test_an_export_of_nothing_that_there_is_is_refused(run, configured, arguments, said) -> None:
    done = run("export", *arguments)
    assert done.returncode == 2
    assert said in done.stderr


def test_an_export_into_a_folder_that_may_not_be_written_is_one_line(run, configured, put_key, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    put_key(lines(1))
    run("pull", "--no-purge")
    done = run("export", "--format", "parquet", "--out", "file")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_an_export_whose_reader_has_gone_ends_with_141(run, shell, configured, put_key) -> None:
    put_key(lines(5_000))
    run("pull", "--no-purge")
    done = shell("tamarin-dagster export --format combined | head -1")
    assert done.returncode == 141
    assert len(done.stdout.splitlines()) == 1
    assert "Traceback" not in done.stderr


def test_pull_and_purge_archive_first_where_an_archive_is_set(run, configured, put_key, tmp_path, log_folder) -> None:
    configured.write_text(configured.read_text() + f"archive: '{tmp_path}/archive'\n")
    put_key(lines(3))
    put_key(lines(2), day="2026-03-06")

    pulled = run("pull", "--to", "2026-03-05", "--json")
    run("pull", "--no-purge")
    dry, purged = run("purge", "--dry-run"), run("purge")

    assert pulled.returncode == 0, pulled.stderr
    assert "media: archived 1 log key: wrote 1 day, 3 records in 1 file" in pulled.stderr
    (reported,) = json.loads(pulled.stdout)
    assert (reported["archived"]["days"], reported["archived"]["rows"], reported["purged"]["keys"]) == (
        ["2026-03-05"],
        3,
        1,
    )
    assert "would purge 1 key" in dry.stderr
    assert "purged 1 key" in purged.stderr
    assert list(log_folder.glob("logs/*")) == []


def test_an_archive_that_cannot_be_written_is_named_and_nothing_is_purged(
    run, configured, put_key, tmp_path, log_folder
) -> None:
    configured.write_text(configured.read_text() + f"archive: '{tmp_path}/archive'\n")
    (tmp_path / "archive").write_text("no folder")
    put_key(lines(3))

    done = run("pull")

    assert done.returncode == 1
    assert f"bucket media: archive {tmp_path}/archive: " in done.stderr
    assert len(list(log_folder.glob("logs/*"))) == 1
