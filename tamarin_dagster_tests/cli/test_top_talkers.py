"""Run tamarin-dagster top-talkers as a shell does: tables, documents, ban lists, and what no ban list may contain."""

import json
from ipaddress import ip_address, ip_network

import pytest
import sqlalchemy as sa
import yaml
from typer.testing import CliRunner

from tamarin_dagster.cli import app
from tamarin_dagster.homes import CONFIG_VARIABLE
from tamarin_dagster.recordstore.schema.traffic_tables import traffic_pending_day
from tamarin_dagster_tests.analytics.traffic_rows import DAY, GB, Traffic

TALKER, SIX, OWN, SMALL = "203.0.113.7", "2001:db8::7", "10.0.0.7", "198.51.100.1"
ROLE = "arn:aws:sts::123456789012:assumed-role/Scraper/session"
CANONICAL = "79a59df900b949e55d96a1e698fbacedfd6e09d98eacf8f8d5218e7cd47ef2be"


@pytest.fixture
def run(tmp_path, monkeypatch, shared_engine):
    """Return run("--by", "ip", …), which returns the output and the exit status of the command."""
    with shared_engine.begin() as connection:
        connection.execute(
            sa.text("TRUNCATE traffic_daily_by_remote_ip, traffic_daily_by_requester, traffic_pending_day")
        )
    config = {
        "database_url": shared_engine.url.set(drivername="postgresql").render_as_string(hide_password=False),
        "buckets": [
            {"name": "media", "log_bucket_name": "logs"},
            {"name": "films", "log_bucket_name": "logs", "region": "cn-north-1", "hog_share": 0.9},
        ],
    }
    (tmp_path / "tamarin.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.setenv(CONFIG_VARIABLE, str(tmp_path / "tamarin.yaml"))
    return lambda *arguments: CliRunner().invoke(app, ["top-talkers", *arguments])


@pytest.fixture
def media(run, shared_engine, today) -> Traffic:
    """Write 100 GB of the last week, of them 40, 25 and 25 GB by three; before that, another one took more."""
    media = Traffic(shared_engine, "media")
    media.daily("remote_ip", today - 8 * DAY, **{"192.0.2.99": 900 * GB})
    media.daily("remote_ip", today - 7 * DAY, **{TALKER: 30 * GB, SMALL: 5 * GB})
    media.daily("remote_ip", today, **{TALKER: 10 * GB, SIX: 25 * GB, OWN: 25 * GB, SMALL: 5 * GB})
    media.daily("requester", today, **{ROLE: 40 * GB, CANONICAL: 30 * GB, "AmazonS3": 30 * GB})
    return media


def test_the_table_has_who_is_above_the_share_and_how_far_above_the_others(run, media) -> None:
    done = run()

    assert done.exit_code == 0, done.stderr
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.stdout.splitlines() if "│" in line]
    assert rows == [
        ["media", TALKER, "40,000,000", "40.0 GB", "40.0%", "1.6 times", ""],
        [
            "media",
            OWN,
            "25,000,000",
            "25.0 GB",
            "25.0%",
            "1.0 times",
            "a private address: of a VPC, or of this network",
        ],
        ["media", SIX, "25,000,000", "25.0 GB", "25.0%", "1.0 times", ""],
    ]
    assert "media: 3 of 4 took more than 20.0% of 100.0 GB since" in done.stderr
    assert "films: 0 of 0 took more than 90.0% of 0 bytes" in done.stderr


def test_the_old_name_hogs_gives_the_same_answers(run, media) -> None:
    for arguments in (["--format", "json"], ["--above", "0.3", "--bucket", "media"], ["--format", "nginx"]):
        new, old = run(*arguments), CliRunner().invoke(app, ["hogs", *arguments])
        assert (old.exit_code, old.stdout, old.stderr) == (new.exit_code, new.stdout, new.stderr)
    described = CliRunner().invoke(app, ["--help"]).stdout
    assert "top-talkers" in described
    assert "hogs" not in described
    assert "The old name of top-talkers." in CliRunner().invoke(app, ["hogs", "--help"]).stdout


def test_json_has_the_numbers(run, media, today) -> None:
    films, media_ = sorted(json.loads(run("--format", "json").stdout), key=lambda each: each["bucket"])

    assert media_ == {
        "bucket": "media",
        "by": "ip",
        "first_day": str(today - 7 * DAY),
        "last_day": str(today),
        "consumers": 4,
        "bytes": 100 * GB,
        "median_bytes": 25 * GB,
        "pending_days": [],
        "folded_bytes": 0,
        "missing_bytes": 0,
        "hogs": [
            {"name": TALKER, "requests": 40_000_000, "bytes": 40 * GB, "share": 0.4, "times_median": 1.6, "own": None},
            *(
                {"name": name, "requests": 25_000_000, "bytes": 25 * GB, "share": 0.25, "times_median": 1.0, "own": own}
                for name, own in ((OWN, "a private address: of a VPC, or of this network"), (SIX, None))
            ),
        ],
    }
    assert films["hogs"] == []


@pytest.mark.parametrize(
    ("above", "names"),
    [
        ("0.3", [TALKER]),
        ("30%", [TALKER]),
        ("26 GB", [TALKER]),
        ("10GB", [TALKER, OWN, SIX, SMALL]),
        ("0", [TALKER, OWN, SIX, SMALL]),
        ("1", []),
    ],
)
def test_above_is_a_share_or_bytes(run, media, above, names) -> None:
    (found,) = json.loads(run("--bucket", "media", "--format", "json", "--above", above).stdout)
    assert [each["name"] for each in found["hogs"]] == names


@pytest.mark.parametrize("above", ["20", "-1", "2.5", "nan", "much", "120%", "", "5 Gold"])
def test_above_must_say_which_it_is(run, media, above) -> None:
    done = run("--above", above)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "must be a share from 0 to 1 or in % (0.2, 20%), or bytes with a unit (50GB)" in done.stderr


def test_since_is_the_first_day(run, media, today) -> None:
    (found,) = json.loads(run("--bucket", "media", "--format", "json", "--since", str(today - 8 * DAY)).stdout)
    assert [each["name"] for each in found["hogs"]] == ["192.0.2.99"]

    done = run("--since", str(today + DAY))
    assert (done.exit_code, "is after today" in done.stderr) == (2, True)


def test_the_policy_is_of_strangers_alone(run, media) -> None:
    done = run("--format", "bucket-policy")

    assert done.exit_code == 0, done.stderr
    (statement,) = json.loads(done.stdout)["Statement"]
    assert statement["Resource"] == "arn:aws:s3:::media/*"
    assert statement["Condition"] == {"IpAddress": {"aws:SourceIp": [f"{TALKER}/32", f"{SIX}/128"]}}
    assert f"media: {OWN} is omitted: a private address" in done.stderr


def test_ones_own_is_banned_if_that_is_asked_for(run, media) -> None:
    lines = run("--format", "nginx", "--include-own").stdout.splitlines()
    assert [ip_address(line.removeprefix("deny ").removesuffix(";")) for line in lines] == [
        ip_address(each) for each in (OWN, TALKER, SIX)
    ]
    assert all(line.startswith("deny ") and line.endswith(";") for line in lines)


def test_waf_is_told_a_version_a_line(run, media, today) -> None:
    four, six = [json.loads(line) for line in run("--format", "waf-ipset").stdout.splitlines()]

    assert {each: four[each] for each in ("Name", "Scope", "IPAddressVersion", "Description")} == {
        "Name": "tamarin-hogs-ipv4",
        "Scope": "CLOUDFRONT",
        "IPAddressVersion": "IPV4",
        "Description": f"Top talkers of media since {today - 7 * DAY}",
    }
    assert [ip_network(each) for each in four["Addresses"]] == [ip_network(TALKER)]
    assert [ip_network(each) for each in six["Addresses"]] == [ip_network(SIX)]


def test_requesters_are_denied_by_their_arns(run, media) -> None:
    done = run("--by", "requester", "--format", "bucket-policy", "--bucket", "media")

    (statement,) = json.loads(done.stdout)["Statement"]
    assert statement["Condition"] == {
        "ArnLike": {
            "aws:PrincipalArn": [
                "arn:aws:iam::123456789012:role/*/Scraper",
                "arn:aws:iam::123456789012:role/Scraper",
            ]
        }
    }
    assert f"{CANONICAL} is omitted: a policy can name only the ARN" in done.stderr
    assert "AmazonS3 is omitted: a service of AWS" in done.stderr


@pytest.mark.parametrize("format_", ["nginx", "waf-ipset"])
def test_lists_of_addresses_take_no_requesters(run, format_) -> None:
    done = run("--by", "requester", "--format", format_)
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"--format {format_} takes addresses" in done.stderr


def test_a_policy_is_of_one_bucket(run, media, shared_engine, today) -> None:
    Traffic(shared_engine, "films").daily("remote_ip", today, **{TALKER: 10 * GB})

    done = run("--format", "bucket-policy")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "choose one with --bucket, of films, media" in done.stderr

    (statement,) = json.loads(run("--format", "bucket-policy", "--bucket", "films").stdout)["Statement"]
    assert statement["Resource"] == "arn:aws-cn:s3:::films/*"
    assert run("--format", "nginx").stdout == f"deny {TALKER};\ndeny {SIX};\n"


@pytest.mark.parametrize("format_", ["bucket-policy", "waf-ipset", "nginx"])
def test_without_hogs_no_list_is_written(run, format_) -> None:
    """An empty policy is invalid, and an empty list would unban those that the last one banned."""
    done = run("--format", format_)
    assert (done.exit_code, done.stdout) == (0, "")
    assert "There is nobody to ban." in done.stderr


def test_a_requester_from_elsewhere_cannot_write_to_the_terminal(run, shared_engine, today) -> None:
    Traffic(shared_engine, "media").daily("requester", today, **{"[red]x\x1b[2J": 10 * GB})
    for arguments in ((), ("--format", "json"), ("--format", "bucket-policy")):
        done = run("--by", "requester", *arguments)
        assert "\x1b[2J" not in done.stdout + done.stderr
    assert "[red]x\\x1b[2J" in run("--by", "requester").stdout


def test_records_that_wait_for_their_rollups_are_told(run, media, today) -> None:
    media.insert(traffic_pending_day, [{"request_date": today}])
    said = run().stderr
    assert f"bucket media: totals are incomplete: records of {today} are not in the rollups yet; run" in said
