"""The local platform when something is killed with -9 under load: who notices, and for how long."""

from __future__ import annotations

import os
import signal
import time

import httpx
import pytest
from stub_platform import manifest, processes, running, until, users, with_candidate

from relevo import errors
from relevo.platforms.local import deployment as deployments
from relevo.platforms.local import files, supervisor
from relevo.platforms.local.program import Layout, Program
from relevo.platforms.local.proxy import Proxy
from relevo.rollout.observation import Arm
from relevo.rollout.platform import ModelRef, Split

pytestmark = pytest.mark.component


@pytest.fixture
def platform(tmp_path):
    with running(tmp_path) as one:
        yield one


def kill(home, name):
    """kill -9 of a program; its pid."""
    pid = processes(home)[name]
    os.kill(pid, signal.SIGKILL)
    return pid


def test_no_user_notices_that_the_candidate_died(platform, tmp_path):
    """kill -9 of the candidate at 50 %: the stable revision answers for it, 0 requests fail, and the restart is counted."""
    with_candidate(platform)
    platform.set_weight("iris", Split(50, "u1/1"))
    with users(platform.proxy_url, 6) as tally:
        until(lambda: sum(tally.outcomes.values()) > 200, "load")
        for _ in range(3):
            old = kill(tmp_path, "iris-predictor-00002")
            until(lambda old=old: processes(tmp_path).get("iris-predictor-00002", old) != old, "restarted")
            until(lambda: platform.observe("iris").candidate.ready, "ready again")
    assert tally.failed == 0, tally.outcomes
    assert tally.answered_by["iris-predictor-00001"] > tally.assigned["iris-predictor-00001"]
    assert platform.observe("iris").candidate.restarts == 3
    assert platform.observe("iris").weight_percent == 50


def test_a_dead_stable_revision_never_falls_back_on_the_candidate(platform, tmp_path):
    """While the stable process is away its users wait or get Envoy's 503, stamped with its name; none is sent to the candidate."""
    with_candidate(platform)
    platform.set_weight("iris", Split(0, "u1/0"))
    with users(platform.proxy_url, 3) as tally:
        until(lambda: sum(tally.outcomes.values()) > 50, "load")
        for _ in range(4):  # each restart takes longer than the one before
            old = kill(tmp_path, "iris-predictor-00001")
            until(lambda old=old: processes(tmp_path).get("iris-predictor-00001", old) != old, "restarted")
        count = sum(tally.outcomes.values())
        until(lambda: platform.observe("iris").stable.ready, "ready again")
        until(lambda: sum(tally.outcomes.values()) > count + 50, "load goes on")
    assert set(tally.outcomes) == {"200", "503"}, tally.outcomes
    assert set(tally.assigned) == {"iris-predictor-00001"}, "also on Envoy's own answers"
    assert set(tally.labels) == {"u1/0"}
    assert tally.answered_by["iris-predictor-00002"] == 0
    assert tally.times[-1][1] == "200"


def test_envoy_comes_back_with_the_same_split(platform, tmp_path):
    """kill -9 of Envoy: observe says so as transient, it is restarted at the same port with the split it had, within two seconds."""
    with_candidate(platform)
    platform.set_weight("iris", Split(30, "u1/3"))
    kill(tmp_path, "envoy")
    with pytest.raises(errors.Transient, match="Envoy does not answer"):
        platform.observe("iris")

    def back():
        try:
            return platform.observe("iris")
        except errors.Transient:
            return None

    assert until(back, "Envoy is back", 10) < 2
    seen = platform.observe("iris")
    assert (seen.weight_percent, seen.label) == (30, "u1/3")
    until(lambda: platform.observe("iris").candidate.ready, "candidate found healthy again")
    platform.set_weight("iris", Split(40, "u1/4"))


def test_a_dead_supervisor_takes_nothing_with_it_and_its_successor_adopts(platform, tmp_path):
    """kill -9 of the supervisor: no request fails, the next observe starts another, no process is started twice or replaced."""
    with_candidate(platform)
    layout = Layout.of(tmp_path)
    before = processes(tmp_path)
    with users(platform.proxy_url) as tally:
        os.kill(int(layout.supervisor_lock.read_text()), signal.SIGKILL)
        until(lambda: not supervisor.is_running(layout), "dead")
        platform.observe("iris")
        assert supervisor.is_running(layout)
        until(lambda: platform.observe("iris").candidate.ready, "adopted")
        count = sum(tally.outcomes.values())
        until(lambda: sum(tally.outcomes.values()) > count + 100, "load goes on")
    assert tally.failed == 0, tally.outcomes
    assert processes(tmp_path) == before
    old = kill(tmp_path, "iris-predictor-00002")
    until(lambda: processes(tmp_path).get("iris-predictor-00002", old) != old, "an adopted process is restarted too")


def test_down_leaves_nothing_also_without_a_supervisor(platform, tmp_path):
    """Down after kill -9 of the supervisor ends Envoy and the servers, and calling it again is fine."""
    layout = Layout.of(tmp_path)
    os.kill(int(layout.supervisor_lock.read_text()), signal.SIGKILL)
    until(lambda: not supervisor.is_running(layout), "dead")
    assert set(processes(tmp_path)) == {"envoy", "iris-predictor-00001"}
    platform.down()
    assert processes(tmp_path) == {}
    platform.down()


def test_up_again_after_the_supervisor_died_adopts_everything(platform, tmp_path):
    """`relevo up` with the same manifest is idempotent, also when only the supervisor is gone."""
    layout = Layout.of(tmp_path)
    before = processes(tmp_path)
    os.kill(int(layout.supervisor_lock.read_text()), signal.SIGKILL)
    until(lambda: not supervisor.is_running(layout), "dead")
    platform.up(manifest(), proxy_port=httpx.URL(platform.proxy_url).port, timeout_seconds=20)
    assert processes(tmp_path) == before


def test_a_program_that_keeps_ending_is_restarted_with_back_off(platform, tmp_path):
    """A crashing program is started again, ever later, and its last words are told; removing it ends it."""
    platform.ensure_program(Program("crasher", ("/bin/sh", "-c", "echo no luck; exit 7")))
    until(lambda: (status := platform.program_status("crasher")) and status.restarts >= 3, "three restarts")
    status = platform.program_status("crasher")
    assert status.last_exit_code == 7
    assert "no luck" in status.detail
    platform.remove_program("crasher", wait_seconds=5)
    assert platform.program_status("crasher") is None
    assert platform.log_path("crasher").read_text().count("no luck") <= status.restarts + 2


def test_a_program_that_ignores_sigterm_is_killed_with_its_children(platform, tmp_path):
    """After its grace a stubborn program gets SIGKILL, and so does what it started."""
    script = "trap '' TERM; sleep 300 & while true; do sleep 0.1; done"
    platform.ensure_program(Program("stubborn", ("/bin/sh", "-c", script), stop_grace_seconds=0.5))
    until(lambda: (status := platform.program_status("stubborn")) and status.ready, "runs")
    started = time.monotonic()
    platform.remove_program("stubborn", wait_seconds=60)
    assert time.monotonic() - started < 60  # far below the 300 s that it would live
    assert "stubborn" not in processes(tmp_path)


class CutOffError(BaseException):
    """Stands for kill -9: nothing catches it."""


@pytest.fixture
def cut_off_at(monkeypatch):
    """A function that lets the n-th of all writes, confirmations and removals from now on be the last thing that happens."""
    calls = {"left": -1}

    def cut(original):
        def wrapped(*arguments, **options):
            calls["left"] -= 1
            if calls["left"] == 0:
                raise CutOffError
            return original(*arguments, **options)

        return wrapped

    monkeypatch.setattr(deployments, "save", cut(deployments.save))
    monkeypatch.setattr(files, "remove", cut(files.remove))
    monkeypatch.setattr(files, "write_atomic", cut(files.write_atomic))
    monkeypatch.setattr(Proxy, "apply_routes", cut(Proxy.apply_routes))
    monkeypatch.setattr(Proxy, "apply_clusters", cut(Proxy.apply_clusters))
    return lambda number: calls.update(left=number)


@pytest.mark.parametrize("keep", list(Arm))
def test_a_rollout_that_is_cut_off_anywhere_is_completed_by_calling_again(platform, tmp_path, cut_off_at, keep):
    """Prepare and settle, interrupted before each of their steps in turn, end right when called again; no request fails."""
    with users(platform.proxy_url, 2) as tally:
        for number in range(1, 30):
            model = ModelRef(f"oci://dev.local/iris:{number + 1}")
            old = platform.observe("iris").stable.name
            cut_off_at(number)
            whole = attempt(lambda model=model: platform.prepare("iris", model))
            cut_off_at(-1)
            platform.prepare("iris", model)
            until(lambda: platform.observe("iris").candidate.ready, "candidate ready")
            platform.set_weight("iris", Split(50, "u/1"))
            new = platform.observe("iris").candidate.name
            cut_off_at(number)
            whole = attempt(lambda: platform.settle("iris", keep)) and whole
            cut_off_at(-1)
            platform.settle("iris", keep)
            kept = new if keep is Arm.CANDIDATE else old
            seen = platform.observe("iris")
            assert (seen.stable.name, seen.candidate, seen.weight_percent, seen.label) == (kept, None, 0, "")
            until(lambda kept=kept: set(processes(tmp_path)) == {"envoy", kept}, "only the kept revision runs")
            if whole:
                break
    assert whole, "every step was cut off once"
    assert number > 5
    assert tally.failed == 0, tally.outcomes


def attempt(call):
    """True when `call` got to its end."""
    try:
        call()
    except CutOffError:
        return False
    return True
