"""Iterators with threads: nothing is lost, nothing comes twice, and no thread is left."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import count

import pytest

from tamarin_dagster.parallel import parallel_map, prefetch


@pytest.fixture(autouse=True)
def no_thread_is_left():
    """However an iterator ended, its threads have ended."""
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name == "pipeline"] == []


def test_items_come_in_their_order_from_one_thread():
    assert list(prefetch(range(1000))) == list(range(1000))
    assert list(prefetch([])) == []


def test_items_are_made_elsewhere_and_not_further_ahead_than_asked():
    made = []

    def items() -> Iterator[int]:
        for number in range(10):
            made.append((number, threading.current_thread() is not threading.main_thread()))
            yield number

    with closing(prefetch(items(), limit=2)) as taken:
        assert next(taken) == 0
        time.sleep(0.3)
        # One was taken, two wait, and one is in the thread's hand.
        assert made == [(number, True) for number in range(4)]
        assert list(taken) == list(range(1, 10))


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_each_item_is_worked_on_once_whatever_the_threads(threads):
    results = list(parallel_map(range(500), lambda number: [number] * (number % 3), threads=threads))
    assert sorted(results) == [number for number in range(500) for _ in range(number % 3)]


def test_threads_work_at_the_same_time():
    barrier = threading.Barrier(3, timeout=10)

    def meet(number: int) -> list[int]:
        barrier.wait()
        return [number]

    assert sorted(parallel_map(range(6), meet, threads=3)) == list(range(6))


def test_items_are_never_taken_by_two_threads_at_once():
    inside = threading.Lock()

    def items() -> Iterator[int]:
        for number in range(200):
            assert inside.acquire(blocking=False)
            time.sleep(0)
            inside.release()
            yield number

    assert sorted(parallel_map(items(), lambda number: (number,), threads=4)) == list(range(200))


def test_an_error_of_the_items_is_raised_in_its_place():
    def items() -> Iterator[int]:
        yield from range(3)
        raise ValueError("the fourth")

    found = []
    with pytest.raises(ValueError, match="the fourth"):
        found.extend(prefetch(items()))
    with closing(prefetch(items())) as taken:
        assert [next(taken), next(taken), next(taken)] == [0, 1, 2]


def test_an_error_of_the_work_ends_all_threads():
    def work(number: int) -> list[int]:
        if number == 5:
            raise KeyError(number)
        return [number]

    with pytest.raises(KeyError):
        list(parallel_map(count(), work, threads=3))


def test_closing_ends_endless_work():
    """Also work that never ends by itself, and threads that wait for room."""
    for threads in (1, 3):
        with closing(parallel_map(count(), count, threads=threads)) as taken:
            assert isinstance(next(taken), int)


def test_what_a_thread_had_in_hand_is_closed():
    closed = threading.Event()

    def work(_: int) -> Iterator[int]:
        try:
            yield from count()
        finally:
            closed.set()

    with closing(parallel_map([0], work, threads=1)) as taken:
        next(taken)
    assert closed.is_set()


def test_no_item_is_kept_while_the_next_is_waited_for():
    """A batch is many megabytes."""

    class Item:
        alive = 0

        def __init__(self) -> None:
            Item.alive += 1

        def __del__(self) -> None:
            Item.alive -= 1

    go_on = threading.Event()

    def items() -> Iterator[Item]:
        yield Item()
        go_on.wait(10)

    with closing(parallel_map(items(), lambda _: (True,), threads=1)) as taken:
        assert next(taken)
        deadline = time.monotonic() + 5
        while Item.alive and time.monotonic() < deadline:
            time.sleep(0.01)
        assert Item.alive == 0
        go_on.set()
