"""The dimension of user agents: each is classified once, and again by other rules."""

from concurrent.futures import ThreadPoolExecutor
from datetime import date

import pytest
import sqlalchemy as sa

from tamarin_dagster.analytics import agents
from tamarin_dagster.analytics.agent_kinds import rules_version
from tamarin_dagster.analytics.agents import classify
from tamarin_dagster_tests.analytics.rollups import put_rollup, roll_up_again, select_rows

KINDS = 'SELECT user_agent, kind, name FROM user_agent_kind ORDER BY user_agent COLLATE "C"'
LONG = "Mozilla/5.0 (compatible; Googlebot/2.1) " + "é" * 4000


@pytest.fixture
def agents_of_a_day(engine):
    put_rollup(engine, "user_agent", {"curl/8.5.0": {}, LONG: {}, "Wget/1.21": {}, None: {}})


def test_each_agent_is_classified_once_whatever_its_length_or_days(engine, agents_of_a_day) -> None:
    put_rollup(engine, "user_agent", {"curl/8.5.0": {}, "\x01": {}}, day=date(2026, 3, 6))
    done = classify(engine)
    assert (done.days, done.agents, done.again) == (2, 4, 0)
    assert select_rows(engine, KINDS) == [
        ("\x01", "unknown", None),
        (LONG, "search engine", "Googlebot"),
        ("Wget/1.21", "library/CLI", "Wget"),
        ("curl/8.5.0", "library/CLI", "curl"),
    ]
    done = classify(engine)
    assert (done.days, done.agents, done.again) == (0, 0, 0)


def test_a_day_that_is_rolled_up_again_is_looked_at_again(engine, agents_of_a_day) -> None:
    classify(engine)
    put_rollup(engine, "user_agent", {"rclone/v1.68": {}})
    done = classify(engine)
    assert (done.days, done.agents) == (1, 1)
    roll_up_again(engine)
    done = classify(engine)
    assert (done.days, done.agents) == (1, 0)


def test_other_rules_classify_all_agents_again(engine, agents_of_a_day, monkeypatch) -> None:
    classify(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE user_agent_kind SET rules = 'older', kind = 'browser' WHERE user_agent LIKE 'Moz%%'"
        )
        assert agents.is_outdated(connection)
    done = classify(engine)
    assert (done.days, done.agents, done.again) == (0, 0, 1)
    assert select_rows(engine, "SELECT DISTINCT rules FROM user_agent_kind") == [(rules_version(),)]
    assert (LONG, "search engine", "Googlebot") in select_rows(engine, KINDS)


def test_what_is_interrupted_goes_on_where_it_was(engine, monkeypatch) -> None:
    """A day is a transaction: the next process continues with the day at which this one was interrupted."""
    put_rollup(engine, "user_agent", {"Wget/1.21": {}}, day=date(2026, 3, 4))
    put_rollup(engine, "user_agent", {f"curl/8.{number}": {} for number in range(5)})
    monkeypatch.setattr(agents, "PAGE_AGENTS", 2)
    real, pages = agents._parameters, []

    def falls_over(page):
        pages.append(len(page))
        if len(pages) == 4:
            raise KeyboardInterrupt
        return real(page)

    monkeypatch.setattr(agents, "_parameters", falls_over)
    with pytest.raises(KeyboardInterrupt):
        classify(engine)
    assert (pages, select_rows(engine, "SELECT user_agent FROM user_agent_kind")) == ([1, 2, 2, 1], [("Wget/1.21",)])
    done = classify(engine)
    assert (done.days, done.agents) == (1, 5)


def test_several_processes_at_once_need_one_connection_each(engine) -> None:
    """Each process held one connection, with the lock, and waited for a second one."""
    put_rollup(engine, "user_agent", {f"curl/8.{number}": {} for number in range(50)})
    small = sa.create_engine(engine.url, pool_size=2, max_overflow=0, pool_timeout=20)
    with ThreadPoolExecutor(2) as threads:
        done = list(threads.map(lambda _: classify(small), range(2)))
    small.dispose()
    assert sorted((each.days, each.agents) for each in done) == [(0, 0), (1, 50)]


def test_a_day_whose_agents_cannot_be_classified_stops_only_itself(engine) -> None:
    for day, agent in ((date(2026, 3, 4), "curl/8"), (date(2026, 3, 5), "bad"), (date(2026, 3, 6), "Wget/1")):
        put_rollup(engine, "user_agent", {agent: {}}, day=day)
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE user_agent_kind ADD CONSTRAINT refuse CHECK (user_agent <> 'bad')")

    done = classify(engine)

    assert [(each.doing, each.bucket, each.day) for each in done.failures] == [
        ("classify the user agents", "media", date(2026, 3, 5))
    ]
    assert select_rows(engine, "SELECT user_agent FROM user_agent_kind ORDER BY 1") == [("Wget/1",), ("curl/8",)]
    assert classify(engine).days == 0


def test_two_processes_at_once_classify_each_agent_once(engine) -> None:
    put_rollup(engine, "user_agent", {f"curl/8.{number}": {} for number in range(500)})
    with ThreadPoolExecutor(2) as threads:
        done = list(threads.map(lambda _: classify(engine), range(2)))
    assert sorted((each.days, each.agents) for each in done) == [(0, 0), (1, 500)]
    assert select_rows(engine, "SELECT count(*) FROM user_agent_kind") == [(500,)]


def test_bots_are_told_from_people_with_what_they_fetch(engine) -> None:
    put_rollup(
        engine,
        "user_agent",
        {
            "Googlebot-Image/1.0": {"requests": 3, "bytes_sent": 30},
            "Mozilla/5.0 (compatible; Googlebot/2.1)": {"requests": 4, "bytes_sent": 40, "error_count": 1},
            "curl/8.5.0": {"requests": 5, "bytes_sent": 50},
            None: {"requests": 6, "bytes_sent": 60},
        },
    )
    classify(engine)
    traffic = (
        "SELECT kind, name, user_agents, requests, bytes_sent, error_count FROM s3_bot_traffic"
        " WHERE bucket = 'media' AND request_date = '2026-03-05' ORDER BY requests"
    )
    assert select_rows(engine, traffic) == [
        ("library/CLI", "curl", 1, 5, 50, 0),
        ("unknown", None, 0, 6, 60, 0),
        ("search engine", "Googlebot", 2, 7, 70, 1),
    ]
