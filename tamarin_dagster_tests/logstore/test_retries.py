"""The waits of requests before they are retried."""

import pytest

from tamarin_dagster.logstore.retries import Outage, Retries, StoreDownError, TransientError


def test_waits_are_spread_from_nothing_to_a_backoff_that_doubles():
    retries = Retries(first_backoff_seconds=0.2, max_backoff_seconds=20)
    for attempt, most in ((1, 0.2), (2, 0.4), (3, 0.8), (7, 12.8), (8, 20), (50, 20)):
        waits = [retries.wait_after(attempt) for _ in range(500)]
        assert 0 <= min(waits) < 0.05 * most
        assert 0.95 * most < max(waits) <= most


def test_the_usual_waits_are_as_said():
    retries = Retries()
    most = sum(min(retries.max_backoff_seconds, 0.2 * 2**n) for n in range(retries.attempts - 1))
    assert most == pytest.approx(25.4)
    assert most < retries.deadline_seconds


def test_an_outage_begins_when_nothing_was_answered_for_its_time():
    outage = Outage(60)
    for now in range(100, 161):
        outage.failed(now, TransientError("503"))
        outage.check(now)
    outage.failed(161, TransientError("503"))
    outage.check(161)  # a probe
    with pytest.raises(StoreDownError, match="503"):
        outage.check(165)
    outage.check(166)
    outage.over()
    outage.check(166.1)


def test_a_failure_long_ago_is_no_outage():
    outage = Outage(60)
    outage.failed(100, TransientError("503"))
    outage.failed(300, TransientError("503"))
    assert not outage.is_down(300)
    for now in range(301, 370):
        outage.failed(now, TransientError("503"))
    assert outage.is_down(369)
    assert not outage.is_down(500)
