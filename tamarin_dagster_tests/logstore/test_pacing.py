"""The window of requests in flight, with a clock of the test's own."""

import threading
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamarin_dagster.logstore import FetchError
from tamarin_dagster.logstore.pacing import MAX_CEILING, MIN_CEILING, TARGET_PER_SECOND, Pacer
from tamarin_dagster.logstore.retries import Retries, TransientError
from tamarin_dagster_tests.examples import at_least

FAST = 0.001
ONCE = Retries(attempts=1)


class World:
    """A pacer whose requests take as long as the test says; nothing really waits."""

    def __init__(self, retries: Retries | None = None) -> None:
        self.now = 1000.0
        self.waits: list[float] = []
        self.sent = 0
        self.pacer = Pacer(retries, clock=lambda: self.now, sleep=self.wait)

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds

    def answer(self, seconds: float = FAST, times: int = 1) -> None:
        for _ in range(times):
            self.pacer.send(lambda: self.wait_for_answer(seconds))

    def wait_for_answer(self, seconds: float) -> None:
        self.sent += 1
        self.now += seconds

    def fail(self, error: Exception, seconds: float = FAST) -> None:
        with pytest.raises(type(error)):
            self.pacer.send(self.failing(error, seconds))

    def failing(self, error: Exception, seconds: float = FAST) -> Callable[[], None]:
        def request() -> None:
            self.wait_for_answer(seconds)
            raise error

        return request


def test_fast_answers_need_no_more_than_the_window_has_at_first():
    world = World()
    world.answer(FAST, times=500)
    assert world.pacer.window == world.pacer.ceiling == MIN_CEILING == 16


def test_slow_answers_open_the_window_by_one_each_up_to_what_the_target_needs():
    world = World()
    for number in range(1, 85):
        world.answer(0.020)
        assert world.pacer.window == 16 + number
    world.answer(0.020, times=100)
    assert world.pacer.window == world.pacer.ceiling == TARGET_PER_SECOND * 0.020 == 100


def test_the_window_never_opens_over_its_ceiling():
    world = World()
    world.answer(2.0, times=500)
    assert world.pacer.window == MAX_CEILING == 128


def test_the_window_closes_again_when_answers_get_fast():
    world = World()
    world.answer(0.020, times=200)
    assert world.pacer.window == 100
    world.answer(FAST, times=300)
    assert world.pacer.window == 16


def test_waits_for_our_own_processor_open_the_window_little():
    """With the plain mean, requests that waited for each other's Python widened the window up to the ceiling."""
    world = World()
    for _ in range(200):
        world.answer(0.001, times=8)
        world.answer(0.010, times=2)
    assert world.pacer.window == 16


def test_a_busy_store_halves_the_window_down_to_one():
    world = World(ONCE)
    windows = []
    for _ in range(6):
        world.fail(TransientError("busy"))
        windows.append(world.pacer.window)
    assert windows == [8, 4, 2, 1, 1, 1]


def test_after_a_halving_the_window_opens_by_one_with_each_window_of_answers():
    world = World(ONCE)
    world.fail(TransientError("busy"))
    opened = []
    for _ in range(100):
        before = world.pacer.window
        answers = 0
        while world.pacer.window == before and before < 16:
            world.answer()
            answers += 1
        opened.append((before, answers))
    assert opened[:8] == [(window, pytest.approx(window, abs=1)) for window in range(8, 16)]
    assert opened[8:] == [(16, 0)] * 92


def test_requests_that_fail_together_halve_the_window_once():
    world = World(ONCE)
    together = threading.Barrier(8)

    def request() -> None:
        together.wait(10)
        raise TransientError("busy")

    def send() -> None:
        with pytest.raises(TransientError):
            world.pacer.send(request)

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert world.pacer.window == 8
    world.fail(TransientError("busy"))
    assert world.pacer.window == 4


def test_what_no_retry_mends_is_sent_once_and_closes_nothing():
    world = World()
    for error in (FetchError("403"), ValueError("a mistake"), KeyboardInterrupt()):
        before = world.sent
        with pytest.raises(type(error)):
            world.pacer.send(world.failing(error))
        assert world.sent == before + 1
    assert world.pacer.window == 16
    assert world.waits == []


def test_a_request_is_sent_again_until_it_is_answered():
    world = World()
    answers = iter([TransientError("1"), TransientError("2"), "here"])

    def request() -> str:
        answer = next(answers)
        if isinstance(answer, TransientError):
            raise answer
        return answer

    assert world.pacer.send(request) == "here"
    assert len(world.waits) == 2
    assert world.pacer.window == 4


def test_attempts_end_and_the_last_error_is_told():
    world = World(Retries(attempts=5))
    errors = iter(TransientError(str(number)) for number in range(1, 99))

    def request() -> None:
        raise next(errors)

    with pytest.raises(TransientError, match="5"):
        world.pacer.send(request)
    assert len(world.waits) == 4


def test_no_attempt_begins_after_the_deadline():
    world = World(Retries(attempts=1000, deadline_seconds=60, first_backoff_seconds=8, max_backoff_seconds=8))
    started = world.now
    world.fail(TransientError("busy"), seconds=10)
    assert world.now - started <= 70
    assert world.sent >= 4


def test_a_store_that_is_down_fails_all_but_a_probe_at_once():
    """Each of a day's thousands of log keys would wait for its own deadline."""
    world = World(Retries(attempts=8, deadline_seconds=60, first_backoff_seconds=1))
    for _ in range(40):
        world.fail(TransientError("503"))
    started, sent, said = world.now, world.sent, Counter[str]()
    for _ in range(4000):
        with pytest.raises(TransientError) as caught:
            world.pacer.send(world.failing(TransientError("503")))
        said[str(caught.value)] += 1
        world.now += 0.01
    probes = world.sent - sent
    assert probes == pytest.approx((world.now - started) / 5, abs=2)
    assert said == {"503": probes, "503 (no other answer for 60 s)": 4000 - probes}
    world.now += 5
    world.answer(times=20)
    assert world.sent - sent == probes + 20


def test_a_store_that_says_no_is_not_down():
    world = World(Retries(attempts=8, deadline_seconds=60, first_backoff_seconds=1))
    for _ in range(40):
        world.fail(TransientError("503"))
        world.fail(FetchError("404"))
    sent = world.sent
    world.fail(TransientError("503"))
    assert world.sent == sent + 8


STEPS = st.sampled_from(["enter"] * 6 + ["answer", "slow answer", "fail", "leave"])


@given(st.lists(STEPS, min_size=50, max_size=300))
@at_least(300)
def test_no_more_than_the_window_is_ever_let_in(steps):
    """In whatever order events come, room is never lost, and a window that has narrowed is never exceeded again."""
    pacer = Pacer(ONCE)
    in_flight: list[int] = []
    for step in steps:
        if step == "enter":
            if pacer._tokens.empty():
                assert len(in_flight) >= pacer.window
            else:
                pacer._tokens.get_nowait()
                in_flight.append(pacer._halvings)
                assert len(in_flight) <= pacer.window
        elif in_flight:
            halvings = in_flight.pop()
            if step == "fail":
                pacer._note_failure(halvings, 0, TransientError("busy"))
            elif step != "leave":
                pacer._note_answer(FAST if step == "answer" else 0.030)
            pacer._give_back()
        assert pacer._tokens.qsize() + len(in_flight) - pacer._owed == pacer.window
