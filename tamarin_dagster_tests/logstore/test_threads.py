"""Work on many objects by threads that are kept."""

import gc
import threading
import time

import pytest

from tamarin_dagster.logstore.threads import Threads


class Work:
    """Work that notes its threads, and how many work at a time."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.most = self.at_a_time = 0
        self.threads: set[int] = set()
        self._lock = threading.Lock()

    def __call__(self, item: int) -> int:
        with self._lock:
            self.at_a_time += 1
            self.most = max(self.most, self.at_a_time)
            self.threads.add(threading.get_ident())
        time.sleep(self.seconds)
        with self._lock:
            self.at_a_time -= 1
        return -item


def test_results_come_in_the_order_of_the_items():
    items = list(range(1000))
    assert Threads(8).map(lambda item: time.sleep(item % 3 / 10000) or -item, items, lambda: 8) == [-i for i in items]
    assert Threads(8).map(Work(), [], lambda: 8) == []


@pytest.mark.parametrize("width", [1, 3, 8])
def test_so_many_threads_work_as_there_is_width(width):
    work = Work(0.01)
    Threads(8).map(work, range(40), lambda: width)
    assert work.most == width


def test_no_more_threads_work_than_there_are_items():
    work = Work(0.01)
    Threads(8).map(work, range(3), lambda: 8)
    assert work.most == 3


def test_a_width_that_changes_is_followed():
    """The width is compared as items begin; one that has begun may pause while others continue."""
    width = 2
    begun: list[tuple[int, int]] = []
    working = 0
    counting = threading.Lock()

    def done(item: int) -> None:
        nonlocal width, working
        with counting:
            working += 1
            if item == 20:
                width = 8
            elif width == 8 and working == 8:
                width = 3
            begun.append((width, working))
        time.sleep(0.01)
        with counting:
            working -= 1

    Threads(16).map(done, range(300), lambda: width)
    narrow = [count for allowed, count in begun if allowed == 3]
    assert max(count for allowed, count in begun if allowed == 2) == 2
    assert max(count for allowed, count in begun if allowed == 8) == 7
    # The other threads may have taken one of the eight items before they noticed the width.
    assert max(narrow[8:]) == 3


def test_a_width_that_grows_while_all_threads_are_busy_is_followed():
    width = 2
    widened = threading.Event()

    def done(item: int) -> None:
        nonlocal width
        width = 3
        if item == 2:
            widened.set()
        assert widened.wait(10)

    Threads(4).map(done, range(3), lambda: width)


def test_threads_stay_for_the_next_work():
    threads, work = Threads(4), Work(0.002)
    for _ in range(10):
        threads.map(work, range(20), lambda: 4)
    assert len(work.threads) <= 4


def test_one_item_needs_no_thread():
    work = Work()
    assert Threads(4).map(work, [7], lambda: 4) == [-7]
    assert work.threads == {threading.get_ident()}


def test_after_an_error_the_others_take_nothing_new():
    done = []

    def fail_at(item: int) -> None:
        if item == 5:
            raise ValueError("five")
        time.sleep(0.01)
        done.append(item)

    with pytest.raises(ValueError, match="five"):
        Threads(2).map(fail_at, range(1000), lambda: 2)
    time.sleep(0.1)
    assert len(done) < 30


def test_results_are_not_kept():
    """A batch of bodies is 8 MiB, and must not wait for the garbage collector."""

    class Body:
        pass

    alive = []
    threads = Threads(4)
    gc.disable()
    try:
        for _ in range(3):
            threads.map(lambda _: Body(), range(10), lambda: 4)
            time.sleep(0.01)
            alive.append(sum(type(item) is Body for item in gc.get_objects()))
    finally:
        gc.enable()
    assert max(alive) == 0
