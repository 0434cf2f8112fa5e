"""Settings: one clear line for each wrong entry, no secret in any text, the environment before the file."""

import os
from datetime import date
from pathlib import Path

import pytest

from tamarin_dagster.settings import FIRST_LOG_DATE, LoggedBucket, Settings, SettingsError, load_settings

MEDIA = "buckets:\n- name: media\n  log_bucket_name: my-logs\n"
DATABASE = "postgresql://tamarin:s3cret@db.example.org:5432/tamarin"


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch, tmp_path):
    """Remove the caller's TAMARIN_ variables, and work in a directory without tamarin.yaml."""
    for name in [name for name in os.environ if name.upper().startswith("TAMARIN_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def load(tmp_path):
    def load(text: str) -> Settings:
        (tmp_path / "tamarin.yaml").write_text(text, "utf-8")
        return load_settings()

    return load


@pytest.fixture
def complaint(load):
    """complaint(text): return the text of the one SettingsError that a file causes."""

    def complaint(text: str) -> str:
        with pytest.raises(SettingsError) as caught:
            load(text)
        return str(caught.value)

    return complaint


def bucket_with(entry: str) -> str:
    return f"{MEDIA}  {entry}\n"


def test_without_a_file_everything_has_its_default(tmp_path):
    settings = load_settings()
    assert settings.home == tmp_path / ".tamarin"
    assert (settings.database_url, settings.dagster_database_url) == (None, None)
    assert (settings.pull_parse_interval, settings.purge_parsed_keys, settings.buckets) == (5, True, ())


@pytest.mark.parametrize("text", ["", "# nothing\n", "home:\nbuckets:\ndatabase_url:\n"])
def test_an_empty_file_and_empty_entries_mean_the_defaults(load, text):
    settings = load(text)
    assert (settings.database_url, settings.buckets, settings.home.name) == (None, (), ".tamarin")


def test_a_bucket_needs_two_entries_only(load):
    (bucket,) = load(MEDIA).buckets
    assert bucket == LoggedBucket(
        name="media",
        log_bucket_name="my-logs",
        log_prefix="",
        monitor_bucket=True,
        start_date=FIRST_LOG_DATE,
        monitor_from=None,
        purge_parsed_keys=None,
        endpoint_url=None,
        region=None,
        profile=None,
        role_arn=None,
    )
    assert bucket.log_folder is None
    assert bucket.first_monitored_date == FIRST_LOG_DATE


def test_every_entry_of_a_bucket_is_taken(load):
    (bucket,) = load(
        MEDIA + "  log_prefix: logs/\n  monitor_bucket: false\n  start_date: 2026-01-31\n  monitor_from: 2026-03-01\n"
        "  purge_parsed_keys: no\n  endpoint_url: http://127.0.0.1:9000\n  region: eu-west-1\n  profile: logs\n"
        "  role_arn: arn:aws:iam::123456789012:role/logs\n"
    ).buckets
    assert (bucket.log_prefix, bucket.monitor_bucket, bucket.purge_parsed_keys) == ("logs/", False, False)
    assert (bucket.start_date, bucket.monitor_from) == (date(2026, 1, 31), date(2026, 3, 1))
    assert (bucket.endpoint_url, bucket.region, bucket.profile) == ("http://127.0.0.1:9000", "eu-west-1", "logs")
    assert bucket.role_arn == "arn:aws:iam::123456789012:role/logs"


def test_a_bucket_may_log_into_itself_under_a_prefix_of_its_own(load):
    """S3 allows it."""
    (bucket,) = load("buckets:\n- name: media\n  log_bucket_name: media\n  log_prefix: access-logs/\n").buckets
    assert bucket.logs_into_itself
    assert not load(MEDIA).buckets[0].logs_into_itself


def test_a_tree_belongs_to_the_bucket_that_its_last_folder_names_or_to_the_longest_prefix(load):
    def bucket(name: str, prefix: str, more: str = "") -> str:
        return f"- name: {name}\n  log_bucket_name: logs\n  log_prefix: {prefix!r}\n{more}"

    settings = load(
        "buckets:\n"
        + bucket("media", "")
        + bucket("films", "z/")
        + bucket("zoo", "z/")
        + bucket("away", "z/u/", "  endpoint_url: http://127.0.0.1:9000\n")
    )
    owners = {
        root: [
            each.name for each in settings.buckets if each.is_owner_of_tree(root) and root.startswith(each.log_prefix)
        ]
        for root in ("", "a/b/", "z/u/media/", "z/u/films/", "z/u/x/", "z/", "films/", "a/zoo/", "media/")
    }
    assert owners == {
        "": ["media"],
        "a/b/": ["media"],
        "z/u/media/": ["media", "away"],
        "z/u/films/": ["films", "away"],
        "z/u/x/": ["films", "zoo", "away"],
        "z/": ["films", "zoo"],
        "films/": ["media"],
        "a/zoo/": ["media"],
        "media/": ["media"],
    }


@pytest.mark.parametrize(
    ("start", "monitor_from", "first"),
    [
        ("2026-01-01", None, date(2026, 1, 1)),
        ("2026-01-01", "2026-02-01", date(2026, 2, 1)),
        ("2026-01-01", "2025-02-01", date(2026, 1, 1)),
    ],
)
def test_a_sensor_never_looks_before_the_start_date(start, monitor_from, first):
    bucket = LoggedBucket(name="media", log_bucket_name="logs", start_date=start, monitor_from=monitor_from)
    assert bucket.first_monitored_date == first


def test_a_file_url_names_a_folder_whatever_its_name(tmp_path):
    folder = tmp_path / "log keys ü%20#"
    bucket = LoggedBucket(name="media", log_bucket_name=folder.as_uri())
    assert bucket.log_folder == folder


def test_the_purge_flag_of_a_bucket_goes_before_the_global_one(load):
    settings = load(
        "purge_parsed_keys: false\nbuckets:\n"
        "- {name: one, log_bucket_name: logs}\n"
        "- {name: two, log_bucket_name: logs, purge_parsed_keys: true}\n"
        "- {name: three, log_bucket_name: logs, purge_parsed_keys: false}\n"
    )
    assert [settings.should_purge(bucket) for bucket in settings.buckets] == [False, True, False]
    assert load(MEDIA).should_purge(load(MEDIA).bucket("media")) is True


def test_the_archive_of_a_bucket_goes_before_the_global_one(load):
    settings = load(
        "archive: /srv/archive/\n" + MEDIA + "- name: films\n  log_bucket_name: logs\n  archive: s3://logs-kept/a\n"
    )
    assert [settings.archive_of(bucket) for bucket in settings.buckets] == ["/srv/archive", "s3://logs-kept/a"]
    assert load(MEDIA).archive_of(load(MEDIA).buckets[0]) is None


def test_home_is_meant_from_the_folder_of_the_file(tmp_path):
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / "t.yaml").write_text("home: state/here\n")
    assert load_settings(folder / "t.yaml").home == folder / "state" / "here"
    assert load_settings(Path("etc/t.yaml")).home == folder / "state" / "here"
    (folder / "t.yaml").write_text("home: /var/lib/tamarin\n")
    assert load_settings(folder / "t.yaml").home == Path("/var/lib/tamarin")
    (folder / "t.yaml").write_text("home: ~/tamarin\n")
    assert load_settings(folder / "t.yaml").home == Path.home() / "tamarin"


def test_reports_lie_in_home_unless_a_folder_is_named(load, tmp_path):
    assert load("home: here\n").reports_folder == tmp_path / "here" / "reports"
    assert load("reports: reported\n").reports_folder == tmp_path / "reported"
    with pytest.raises(SettingsError, match=r"anonymize_key: .*at least 16 characters") as refused:
        load("anonymize_key: too short\n")
    assert "too short" not in str(refused.value)


def test_files_are_meant_from_the_folder_of_the_settings_one_or_several(load, tmp_path, monkeypatch):
    assert load("").geoip_database == ()
    assert load("geoip_database: a.mmdb\n").geoip_database == (tmp_path / "a.mmdb",)
    settings = load("geoip_database: [a.mmdb, /b.mmdb]\nprices: p/prices.yaml\n")
    assert settings.geoip_database == (tmp_path / "a.mmdb", Path("/b.mmdb"))
    assert settings.prices == tmp_path / "p/prices.yaml"
    monkeypatch.setenv("TAMARIN_GEOIP_DATABASE", "/c.mmdb")
    assert load("").geoip_database == (Path("/c.mmdb"),)
    monkeypatch.setenv("TAMARIN_GEOIP_DATABASE", '["/c.mmdb", "d.mmdb"]')
    assert load("").geoip_database == (Path("/c.mmdb"), tmp_path / "d.mmdb")


def test_tamarin_config_names_the_file(tmp_path, monkeypatch):
    (tmp_path / "other.yaml").write_text("pull_parse_interval: 7\n")
    (tmp_path / "tamarin.yaml").write_text("pull_parse_interval: 3\n")
    assert load_settings().pull_parse_interval == 3
    monkeypatch.setenv("TAMARIN_CONFIG", "other.yaml")
    assert load_settings().pull_parse_interval == 7
    assert load_settings(tmp_path / "tamarin.yaml").pull_parse_interval == 3


def test_the_environment_wins_over_the_file(load, monkeypatch, tmp_path):
    monkeypatch.setenv("TAMARIN_PULL_PARSE_INTERVAL", "7")
    monkeypatch.setenv("TAMARIN_PURGE_PARSED_KEYS", "false")
    monkeypatch.setenv("TAMARIN_DATABASE_URL", DATABASE)
    monkeypatch.setenv("TAMARIN_HOME", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("TAMARIN_BUCKETS", '[{"name": "films", "log_bucket_name": "logs"}]')
    settings = load("pull_parse_interval: 3\nhome: here\ndatabase_url: postgresql://a@b/c\n" + MEDIA)
    assert (settings.pull_parse_interval, settings.purge_parsed_keys) == (7, False)
    assert (settings.database_url, settings.home) == (DATABASE, tmp_path / "elsewhere")
    assert [bucket.name for bucket in settings.buckets] == ["films"]


def test_records_are_kept_for_ever_unless_months_are_given(load, monkeypatch):
    assert load("").retention_months is None
    assert load("retention_months: 12\n").retention_months == 12
    monkeypatch.setenv("TAMARIN_RETENTION_MONTHS", "3")
    assert load("retention_months: 12\n").retention_months == 3


def test_an_empty_variable_counts_as_none(load, monkeypatch):
    monkeypatch.setenv("TAMARIN_PULL_PARSE_INTERVAL", "")
    monkeypatch.setenv("TAMARIN_DATABASE_URL", "")
    settings = load("pull_parse_interval: 3\n")
    assert (settings.pull_parse_interval, settings.database_url) == (3, None)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg2"])
def test_a_database_url_is_brought_to_one_scheme(load, scheme):
    settings = load(f"database_url: {scheme}://tamarin:s3cret@db/tamarin\n")
    assert settings.database_url == "postgresql://tamarin:s3cret@db/tamarin"


SERVER = "postgresql://tamarin:s3cret@db/tamarin"


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("?sslmod=require", "has the parameter sslmod, which is not supported; use only: application_name, "),
        ("?client_encoding=latin1", "has the parameter client_encoding, which is not supported"),
        ("?sslmode=require&sslmode=disable", "has the parameter sslmode twice"),
        ("?prepare_threshold=s3cret", "has the parameter prepare_threshold, which must be a number, or none"),
        ("?prepare_threshold=-1", "has the parameter prepare_threshold, which must be a number, or none"),
        ("?s3cret", "must have parameters like ?sslmode=require; write ? in a password as %3F"),
        ("?S3CRET=s3cret", "must have parameters like ?sslmode=require"),
        (
            "#s3cret",
            "must be a URL like postgresql://user:password@host:5432/database; a password with / @ : # ? must be",
        ),
    ],
)
@pytest.mark.parametrize("setting", ["database_url", "dagster_database_url"])
def test_a_parameter_of_a_database_url_that_cannot_work_is_named_without_its_value(complaint, setting, query, said):
    """The drivers ended with a traceback each, or silently used another driver's parameter."""
    text = complaint(f"{setting}: {SERVER}{query}\n")
    assert text.startswith(f"{setting}: {said}") or f"{setting}: {said}" in text
    assert "s3cret" not in text.lower()


def test_parameters_of_a_database_url_that_libpq_knows_are_kept(load):
    query = "?sslmode=disable&options=-c%20statement_timeout%3D5s&connect_timeout=3&prepare_threshold=none"
    assert load(f"database_url: {SERVER}{query}\n").database_url == SERVER + query


def test_an_unknown_bucket_is_answered_with_the_known_ones(load):
    with pytest.raises(SettingsError, match=r"^bucket 'films' is not configured; configured buckets: media$"):
        load(MEDIA).bucket("films")
    with pytest.raises(SettingsError, match="configured buckets: none"):
        Settings().bucket("films")


IN_BUCKET = "buckets[0] 'media': "
WRONG = {
    "an unknown setting": ("bukets: []\n", "bukets: ", "did you mean buckets?"),
    "an unknown setting of a bucket": (bucket_with("start_dat: 2026-01-01"), IN_BUCKET + "start_dat: ", "start_date?"),
    "a setting like no other": ("colour: red\n", "colour: unknown setting; ", "the settings are: home, database_url"),
    "no log bucket": ("buckets:\n- name: media\n", IN_BUCKET + "log_bucket_name: ", "is missing"),
    "no name": ("buckets:\n- log_bucket_name: logs\n", "buckets[0]: name: ", "is missing"),
    "a bucket listed twice": (MEDIA + "- name: media\n  log_bucket_name: x-logs\n", "buckets: ", "'media' is listed 2"),
    "logs in the logged bucket": (
        "buckets:\n- name: media\n  log_bucket_name: media\n",
        IN_BUCKET + "log_bucket_name: ",
        "name another bucket",
    ),
    "logs among its own objects": (
        "buckets:\n- name: media\n  log_bucket_name: media\n  log_prefix: ''\n",
        IN_BUCKET + "log_bucket_name: ",
        "or set log_prefix to a prefix that only log keys have, such as access-logs/",
    ),
    "a name with a blank": ("buckets:\n- name: my media\n  log_bucket_name: logs\n", "name: ", "3 to 255 letters"),
    "a name of two letters": ("buckets:\n- name: ab\n  log_bucket_name: logs\n", "name: ", "3 to 255 letters"),
    "a number as name": ("buckets:\n- name: 123\n  log_bucket_name: logs\n", "buckets[0]: name: ", "string"),
    "an s3 URL": (
        "buckets:\n- name: media\n  log_bucket_name: s3://logs\n",
        "log_bucket_name: ",
        "bucket name without a prefix",
    ),
    "a prefix in the bucket": (
        "buckets:\n- name: media\n  log_bucket_name: logs/2026\n",
        IN_BUCKET + "log_bucket_name: ",
        "log_prefix",
    ),
    "a file URL of a host": (
        "buckets:\n- name: media\n  log_bucket_name: file://host/logs\n",
        IN_BUCKET + "log_bucket_name: ",
        "file:///path",
    ),
    "a relative file URL": (
        "buckets:\n- name: media\n  log_bucket_name: file:logs\n",
        IN_BUCKET + "log_bucket_name: ",
        "file:///path",
    ),
    "a day that does not exist": (bucket_with("start_date: 2026-02-30"), IN_BUCKET + "start_date: ", "2026-01-31"),
    "a number as day": (bucket_with("start_date: 20260101"), IN_BUCKET + "start_date: ", "2026-01-31"),
    "a word as day": (bucket_with("monitor_from: yesterday"), IN_BUCKET + "monitor_from: ", "2026-01-31"),
    "a time as day": (bucket_with("start_date: 2026-01-01T10:00:00"), IN_BUCKET + "start_date: ", "2026-01-31"),
    "an unknown partition": (bucket_with("partition: weekly"), IN_BUCKET + "partition: ", "'daily' or 'hourly'"),
    "an owner that is none": (bucket_with("owners: [anna]"), IN_BUCKET + "owners: ", "e-mail addresses, or teams"),
    "a host with its scheme": (
        bucket_with("own_hosts: ['https://a.example']"),
        IN_BUCKET + "own_hosts: ",
        "host names",
    ),
    "no time to be fresh": (bucket_with("freshness_hours: 0"), IN_BUCKET + "freshness_hours: ", "greater than 0"),
    "a day before S3": (bucket_with("start_date: 2001-01-01"), IN_BUCKET + "start_date: ", "2006-03-14"),
    "a strange endpoint": (bucket_with("endpoint_url: ftp://x"), IN_BUCKET + "endpoint_url: ", "http:// or https://"),
    "an endpoint without scheme": (bucket_with("endpoint_url: localhost:9000"), "endpoint_url: ", "http://"),
    "a role that is none": (bucket_with("role_arn: admin"), IN_BUCKET + "role_arn: ", "arn:aws:iam::123456789012"),
    "a flag that is none": (bucket_with("monitor_bucket: maybe"), IN_BUCKET + "monitor_bucket: ", "valid boolean"),
    "a prefix that is a number": (bucket_with("log_prefix: 5"), IN_BUCKET + "log_prefix: ", "valid string"),
    "an interval of zero": ("pull_parse_interval: 0\n", "pull_parse_interval: ", "greater than 0"),
    "an interval of two days": ("pull_parse_interval: 2880\n", "pull_parse_interval: ", "1440"),
    "an interval in words": ("pull_parse_interval: often\n", "pull_parse_interval: ", "valid number"),
    "an interval that is no number": ("pull_parse_interval: .nan\n", "pull_parse_interval: ", "1440"),
    "months of retention that are none": ("retention_months: 0\n", "retention_months: ", "greater than or equal to 1"),
    "a part of a month": ("retention_months: 1.5\n", "retention_months: ", "valid integer"),
    "a retention that is switched on": ("retention_months: yes\n", "retention_months: ", "a whole number of months"),
    "a relative archive": ("archive: records\n", "archive: ", "an absolute folder, or a URL like s3://my-archive"),
    "an archive on a web server": (bucket_with("archive: https://x/y"), IN_BUCKET + "archive: ", "an absolute folder"),
    "an archive without a bucket": ("archive: s3:///records\n", "archive: ", "3 to 255 letters"),
    "an archive among log keys": (
        bucket_with("archive: s3://my-logs/records"),
        "buckets: archive: of bucket 'media' lies under its log_prefix",
        "choose another place",
    ),
    "another database": ("database_url: mysql://tamarin:s3cret@db/t\n", "database_url: ", "postgresql://user:"),
    "a server without database": ("database_url: postgresql://u:s3cret@db\n", "database_url: ", "/database"),
    "a database without scheme": ("database_url: tamarin:s3cret@db/tamarin\n", "database_url: ", "postgresql://user:"),
    "buckets that are no list": ("buckets: media\n", "buckets: ", "should be a valid"),
    "a bucket that is a name": ("buckets: [media]\n", "buckets[0]: ", "should be a valid dict"),
    "files that are none": (
        "geoip_database: [3]\n",
        "geoip_database: ",
        "must be the name of a file, or a list of such names",
    ),
    "a file that is none": ("prices: 3\n", "prices: ", "must be the name of a file"),
    "an entry given twice": ("home: a\nhome: b\n", " line 2 ", "'home' occurs twice"),
    "an entry of a bucket given twice": (bucket_with("name: films"), " line 4 ", "'name' occurs twice"),
    "a bracket left open": ("buckets: [\n", " line 2 ", "not valid YAML"),
    "a tab": ("buckets:\n\t- name: media\n", " line 2 ", "not valid YAML"),
    "a list": ("- media\n", "must hold settings as ", "the settings are: home"),
    "a word": ("media\n", "must hold settings as ", "the settings are: home"),
    "a number as setting": ("1: 2\n", "must hold settings as ", "the settings are: home"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_entry_gives_one_line_that_names_file_entry_and_what_is_allowed(complaint, case):
    text, entry, allowed = WRONG[case]
    said = complaint(text)
    assert said.count("\n") == 0, said
    assert said.startswith("tamarin.yaml:")
    assert entry in said
    assert allowed in said
    assert "s3cret" not in said


def test_each_of_several_wrong_entries_has_its_line(complaint):
    said = complaint("purge_parsed_keys: nope\nbuckets:\n- {name: q, colour: red}\n").splitlines()
    assert len(said) == 4
    assert [line.split(": ")[1] for line in said] == ["purge_parsed_keys", *["buckets[0] 'q'"] * 3]


def test_a_file_that_was_named_must_be_there(tmp_path, monkeypatch):
    with pytest.raises(SettingsError, match=r"other\.yaml: no such file; --config or TAMARIN_CONFIG names it"):
        load_settings(tmp_path / "other.yaml")
    monkeypatch.setenv("TAMARIN_CONFIG", "third.yaml")
    with pytest.raises(SettingsError, match=r"third\.yaml: no such file; --config or TAMARIN_CONFIG names it"):
        load_settings()


def test_what_cannot_be_read_is_named(tmp_path):
    folder, binary = tmp_path / "folder.yaml", tmp_path / "binary.yaml"
    folder.mkdir()
    binary.write_bytes(b"\xff\xfe\xff")
    for path in (folder, binary):
        with pytest.raises(SettingsError, match=f"{path.name}: cannot be read: "):
            load_settings(path)


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("TAMARIN_PULL_PARSE_INTERVAL", "often", "valid number"),
        ("TAMARIN_PURGE_PARSED_KEYS", "perhaps", "valid boolean"),
        ("TAMARIN_DATABASE_URL", "mysql://tamarin:s3cret@db/tamarin", "postgresql://user"),
        ("TAMARIN_DAGSTER_DATABASE_URL", "s3cret", "postgresql://user"),
        ("TAMARIN_BUCKETS", '[{"name": "media"}]', "is missing"),
        ("TAMARIN_BUCKETS", "{}", "should be a valid"),
    ],
)
def test_a_wrong_variable_is_named_not_the_file(complaint, monkeypatch, variable, value, allowed):
    monkeypatch.setenv(variable, value)
    said = complaint("")
    assert said.startswith(f"{variable}: ")
    assert allowed in said
    assert said.count("\n") == 0
    assert "s3cret" not in said


def test_buckets_that_are_no_json_are_named_by_their_variable(complaint, monkeypatch):
    monkeypatch.setenv("TAMARIN_BUCKETS", "[{")
    said = complaint(MEDIA)
    assert "TAMARIN_BUCKETS" in said
    assert "must be JSON" in said
    assert said.count("\n") == 0


@pytest.mark.parametrize("text", ["[1, 2]: 3\n", "buckets: {{ buckets }}\n", "name: 0x_\n"])
def test_yaml_with_odd_keys_or_numbers_is_an_error_of_the_file(complaint, text):
    """A template that was not filled in holds {{ … }}: to YAML a mapping whose key is a mapping."""
    said = complaint(text)
    assert said.startswith("tamarin.yaml:")
    assert said.count("\n") == 0


def test_no_repr_shows_the_password(load):
    settings = load(f"database_url: {DATABASE}\ndagster_database_url: {DATABASE}\n")
    assert settings.database_url == DATABASE
    assert "s3cret" not in repr(settings) + str(settings) + f"{settings!r}"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql//tamarin:s3cret@db/tamarin",
        pytest.param("postgresql://tamarin:s3cret℀@db/tamarin"),
        "postgresql://tamarin:[s3cret@db/tamarin",
        pytest.param("postgresql://tamarin:s3cret@db:54x32/tamarin"),
        "[postgresql://tamarin:s3cret@db/tamarin]",
        "'postgresql://tamarin:s3cret@db/tamarin",
        "postgresql://tamarin: s3cret: @db/tamarin",
    ],
)
def test_no_error_shows_the_password(complaint, url):
    said = complaint(f"database_url: {url}\n")
    assert "s3cret" not in said
    assert said.count("\n") == 0


def test_no_error_shows_the_credentials_in_an_endpoint(complaint):
    assert "s3cret" not in complaint(bucket_with("endpoint_url: http://key:s3cret℀@host"))


def test_no_cause_behind_an_error_shows_the_password(load):
    """A traceback prints causes too, and pydantic's holds the value."""
    with pytest.raises(SettingsError) as caught:
        load("database_url: mysql://tamarin:s3cret@db/tamarin\n")
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
