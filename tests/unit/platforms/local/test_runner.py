"""How one program is kept running: a state machine with its clock, its processes and its health checks given."""

from __future__ import annotations

import signal
from concurrent.futures import Future

import pytest

from relevo.platforms.local import process, runner
from relevo.platforms.local.program import Layout, Program
from relevo.platforms.local.runner import Runner, backoff_seconds

PROGRAM = Program("server", ("run",), health_url="http://127.0.0.1:1/ready", stop_grace_seconds=5)


class FakeProcess:
    """Runs until told otherwise."""

    def __init__(self, pid):
        self.pid, self.create_time, self.exit_code, self.signals = pid, 0.0, None, []
        self.gone = False

    def ended(self):
        return self.gone

    def end(self, code):
        self.gone, self.exit_code = True, code

    def send(self, signum, *, group=False):
        self.signals.append(signum)


class Now:
    """An executor that answers at once with `answer`."""

    def __init__(self):
        self.answer, self.asked = (False, "no answer from there (refused)"), 0

    def submit(self, _check, _url):
        self.asked += 1
        future = Future()
        future.set_result(self.answer)
        return future


@pytest.fixture
def started(monkeypatch):
    """All processes that were started, in order."""
    found = []

    def start(_program, _layout):
        found.append(FakeProcess(len(found) + 1))
        return found[-1]

    monkeypatch.setattr(process, "start", start)
    return found


@pytest.fixture
def health():
    return Now()


@pytest.fixture
def one(tmp_path, health):
    layout = Layout.of(tmp_path)
    layout.log("server").parent.mkdir(parents=True)
    layout.log("server").write_text("hello\nlast words\n")
    return Runner(PROGRAM, layout, health)


def run(one, start, end, step=0.1):
    """Tick from `start` to `end`."""
    now = start
    while now < end:
        one.tick(now)
        now = round(now + step, 3)
    return now


def test_back_off_doubles_up_to_five_seconds():
    """0.2 s after the first failure, never more than 5."""
    assert [backoff_seconds(failures) for failures in range(1, 8)] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert backoff_seconds(10_000) == 5.0


def test_a_program_is_ready_once_its_health_check_says_so(one, started, health):
    """Not ready with the reason, then ready without one."""
    run(one, 0, 0.5)
    assert len(started) == 1
    assert (one.status.ready, one.status.detail) == (False, "no answer from there (refused)")
    health.answer = (True, "")
    run(one, 0.5, 1)
    assert (one.status.ready, one.status.detail) == (True, "")


def test_a_ready_program_is_asked_about_once_a_second(one, started, health):
    """Idling costs little."""
    health.answer = (True, "")
    run(one, 0, 10)
    assert 9 <= health.asked <= 12


def test_an_unwanted_end_is_followed_by_a_start_after_the_back_off(one, started, health):
    """Each further failure waits longer; restarts are counted; the last words are told."""
    now = run(one, 0, 0.2)
    starts = []
    for _ in range(4):
        ended_at = now
        started[-1].end(1)
        count = len(started)
        while len(started) == count:
            one.tick(now)
            now = round(now + 0.01, 3)
        starts.append(now - ended_at)
    assert starts == pytest.approx([0.2, 0.4, 0.8, 1.6], abs=0.03)
    assert (one.status.restarts, one.status.last_exit_code) == (4, 1)
    started[-1].end(-9)
    one.tick(now)
    assert "ended with exit code -9" in one.status.detail
    assert "last words" in one.status.detail


def test_the_last_words_stay_until_the_program_is_ready(one, started, health):
    """A program that crashes at each start says why at every moment, also while it is starting again; once ready, nothing."""
    now = run(one, 0, 0.2)
    assert "last words" not in one.status.detail
    for _ in range(3):
        started[-1].end(1)
        now = run(one, now, now + 2)
        assert one.status.pid is not None
        assert one.status.detail.startswith("ended with exit code 1: last words; now: ")
    health.answer = (True, "")
    now = run(one, now, now + 0.5)
    assert one.status.detail == ""
    health.answer = (False, "answers 503")
    run(one, now, now + 10)
    assert one.status.detail == "answers 503"


def test_after_a_steady_while_failures_are_forgotten(one, started, health):
    """A program that was ready for ten seconds is restarted as fast as at the first failure."""
    for _ in range(3):
        run(one, 0, 0.1)
        one.tick(100)
        started[-1].end(1)
        one.tick(100.1)
    health.answer = (True, "")
    run(one, 200, 215)
    started[-1].end(1)
    one.tick(215.1)
    assert "after 0.2 s" in one.status.detail


def test_exit_code_3_is_for_good(one, started, health):
    """No restart, `failed`, and the last line of the log as the detail."""
    run(one, 0, 0.2)
    started[0].end(3)
    run(one, 0.2, 60)
    assert len(started) == 1
    assert (one.status.failed, one.status.ready, one.status.detail) == (True, False, "last words")
    one.replace(Program("server", ("run", "better")), 60)
    run(one, 60, 61)
    assert (len(started), one.status.failed) == (2, False)


def test_one_missed_check_does_not_take_readiness_away_and_three_do(one, started, health):
    """A busy machine is not a dead server."""
    health.answer = (True, "")
    run(one, 0, 2)
    health.answer = (False, "no answer")
    asked = health.asked
    now = 2.0
    while health.asked < asked + 2:
        one.tick(now)
        now += 0.1
    one.tick(now)
    assert one.status.ready
    run(one, now, now + 3)
    assert not one.status.ready


def test_a_program_that_hangs_is_killed_and_restarted(one, started, health):
    """Ready once, then no answer at all for thirty seconds: SIGKILL. One that answers 503 is left alone."""
    health.answer = (True, "")
    run(one, 0, 2)
    health.answer = (False, "http://127.0.0.1:1/ready answers 503")
    run(one, 2, 60)
    assert started[0].signals == []
    health.answer = (False, "no answer from there (timed out)")
    run(one, 60, 88)
    assert started[0].signals == []
    run(one, 88, 92)
    assert signal.SIGKILL in started[0].signals


def test_stopping_is_sigterm_then_sigkill_after_the_grace(one, started, health):
    """The program has its grace, and not more; what ended by itself is not restarted."""
    run(one, 0, 0.2)
    one.stop(1)
    run(one, 1, 5.9)
    assert started[0].signals == [signal.SIGTERM]
    run(one, 6, 6.2)
    assert started[0].signals[:2] == [signal.SIGTERM, signal.SIGKILL]
    started[0].end(-9)
    run(one, 6.2, 20)
    assert one.stopped
    assert len(started) == 1


def test_a_changed_program_takes_the_place_of_the_old_one_when_that_has_ended(one, started, health):
    """Never two at a time: the old process first ends, then the new one starts."""
    run(one, 0, 0.2)
    one.replace(Program("server", ("run", "other")), 1)
    run(one, 1, 2)
    assert len(started) == 1
    started[0].end(0)
    run(one, 2, 2.3)
    assert len(started) == 2
    assert one.program.argv == ("run", "other")
    assert one.status.restarts == 0


def test_a_program_that_cannot_be_started_is_tried_again(one, started, monkeypatch, health):
    """No such file, or no room for its log: said in the status, tried again with back-off."""

    def refuse(_program, _layout):
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(process, "start", refuse)
    one.tick(0)
    assert "cannot be started" in one.status.detail
    monkeypatch.setattr(process, "start", lambda _program, _layout: FakeProcess(1))
    run(one, 0, 0.4)
    assert one.status.pid == 1


def test_a_check_says_why_it_failed():
    """Nothing listens: the first words are "no answer", which is how a hanging server is told from an unready one."""
    well, why = runner.check_health("http://127.0.0.1:9/ready", 0.5)
    assert not well
    assert why.startswith("no answer from http://127.0.0.1:9/ready")
