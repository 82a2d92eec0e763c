"""What is due is worked on, by one thread at a time per key, and soon after somebody prompts it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest

from relevo.operator.agenda import Agenda


@pytest.fixture
def agenda() -> Iterator[Agenda]:
    agenda = Agenda(4)
    agenda.start()
    yield agenda
    agenda.stop(5)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_work_is_repeated_after_the_pause_that_it_names(agenda: Agenda) -> None:
    """It says itself when it is due again."""
    times: list[float] = []

    def work() -> float | None:
        times.append(time.monotonic())
        return 0.05 if len(times) < 4 else None

    agenda.put("a", work)
    agenda.open()
    wait_for(lambda: len(times) == 4)
    assert all(later - sooner >= 0.05 for sooner, later in pairwise(times))


def test_nothing_is_worked_on_before_it_is_open_and_after_it_is_closed(agenda: Agenda) -> None:
    """A replica that does not act waits; when it acts, all is due."""
    done: list[str] = []
    agenda.put("a", lambda: done.append("a"))
    agenda.put("b", lambda: done.append("b"))
    time.sleep(0.05)
    assert done == []
    agenda.open()
    wait_for(lambda: sorted(done) == ["a", "b"])
    agenda.close()
    agenda.prompt("a")
    time.sleep(0.05)
    assert sorted(done) == ["a", "b"]


def test_one_key_is_worked_on_by_one_thread_at_a_time(agenda: Agenda) -> None:
    """A prompt meanwhile makes it due once more, after this time, however many prompts there were."""
    inside, most, runs = 0, 0, 0
    gate = threading.Event()

    def work() -> None:
        nonlocal inside, most, runs
        inside += 1
        most = max(most, inside)
        runs += 1
        gate.wait(5)
        inside -= 1

    agenda.put("a", work)
    agenda.open()
    wait_for(lambda: runs == 1)
    for _ in range(5):
        agenda.prompt("a")
    gate.set()
    wait_for(lambda: runs == 2)
    time.sleep(0.05)
    assert (most, runs) == (1, 2)


def test_work_that_fails_does_not_end_the_thread(agenda: Agenda, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again."""
    monkeypatch.setattr("relevo.operator.agenda.AGAIN_SECONDS", 0.01)
    runs: list[int] = []

    def work() -> None:
        runs.append(1)
        if len(runs) < 6:
            raise ZeroDivisionError

    agenda.put("a", work)
    agenda.open()
    wait_for(lambda: len(runs) == 6)


def test_what_is_removed_is_not_worked_on(agenda: Agenda) -> None:
    """Not even when it was due."""
    done: list[str] = []
    agenda.put("a", lambda: done.append("a"))
    agenda.remove("a")
    agenda.put("b", lambda: done.append("b"))
    agenda.open()
    wait_for(lambda: done == ["b"])


def test_overdue_work_is_known() -> None:
    """The health check asks it: threads that hang do not take what is due."""
    now = [0.0]
    agenda = Agenda(0, monotonic=lambda: now[0])
    agenda.put("a", lambda: None)
    now[0] = 90.0
    assert agenda.overdue_seconds() == 0.0
    agenda.open()
    now[0] = 200.0
    assert agenda.overdue_seconds() == 110.0
