"""Bringing the local platform up and taking it down: what stands in the way is said, and nothing is left behind."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest
from stub_platform import STUB, make, manifest, processes, running, until, with_candidate

from relevo import errors
from relevo.platforms.local import deployment, files, supervisor
from relevo.platforms.local.platform import LocalPlatform
from relevo.platforms.local.ports import free_ports
from relevo.platforms.local.program import Layout, Program
from relevo.rollout.platform import Split

pytestmark = pytest.mark.component


@pytest.fixture
def home(tmp_path):
    yield tmp_path
    make(tmp_path).down()


def test_down_leaves_no_process_and_numbers_go_on(home):
    """After down nothing runs and the port is free; the next up starts at the next revision number."""
    with running(home) as platform:
        port = httpx.URL(platform.proxy_url).port
        assert set(processes(home)) == {"envoy", "iris-predictor-00001"}
    assert processes(home) == {}
    assert not supervisor.is_running(Layout.of(home))
    with pytest.raises(errors.BadInput, match="nothing is up"):
        make(home).observe("iris")
    platform = make(home)
    platform.up(manifest(), proxy_port=port, timeout_seconds=20)
    assert platform.observe("iris").stable.name == "iris-predictor-00002"


def test_up_twice_is_the_same_as_once_and_another_model_is_not_deployed_so(home):
    """The same manifest again changes nothing; another storageUri is a rollout and is refused with the command for it."""
    with running(home) as platform:
        port = httpx.URL(platform.proxy_url).port
        before = processes(home)
        assert platform.up(manifest(), proxy_port=port) == ("iris",)
        assert processes(home) == before
        with pytest.raises(errors.BadInput, match="already serves") as told:
            platform.up(manifest("iris:2"), proxy_port=port)
        assert "relevo deploy-canary" in told.value.next_step
        with pytest.raises(errors.BadInput, match=f"up on port {port}"):
            platform.up(manifest(), proxy_port=port + 1)
        assert processes(home) == before


def test_a_port_in_use_is_refused_by_number_and_owner(home):
    """The message names the port, who has it and the option; nothing was started."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(errors.BadInput, match=rf"port {port} .* in use.*pid {os.getpid()}") as told:
            make(home).up(manifest(), proxy_port=port)
    assert "--port" in told.value.next_step
    assert processes(home) == {}
    assert make(home).services() == ()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("refused:1", "cannot be started: model package iris: model.onnx was changed"),
        ("crashing:1", "without becoming ready.*\n.*\n(.*\n)*.*out of luck"),
        ("unready:1", "is not ready after 2 s: .* answers 503"),
    ],
)
def test_a_server_that_does_not_become_ready_is_told_with_its_last_words(home, model, message):
    """Refused, crashing or never ready: the error has the reason, the log's last lines and its path, and nothing is left running."""
    with pytest.raises(errors.Permanent, match=message) as told:
        make(home).up(manifest(model), proxy_port=free_ports(1)[0], timeout_seconds=2)
    assert "iris-predictor-00001.log" in told.value.next_step
    assert processes(home) == {}


def test_a_failed_addition_leaves_the_rest_as_it_was(home):
    """A second service that cannot start is taken away again; the first one keeps serving."""
    with running(home) as platform:
        port = httpx.URL(platform.proxy_url).port
        with pytest.raises(errors.Permanent, match="cannot be started"):
            platform.up(manifest("refused:1", "digits"), proxy_port=port, timeout_seconds=5)
        assert platform.services() == ("iris",)
        assert httpx.get(platform.proxy_url + "/v2/models/iris").status_code == 200
        until(lambda: set(processes(home)) == {"envoy", "iris-predictor-00001"}, "the failed service is gone")


def test_a_package_that_does_not_resolve_stops_up_before_anything_starts(home):
    """The resolver's own message is passed on."""

    def resolve(uri, _home):
        raise errors.BadInput(f"{uri}: no such package")

    with pytest.raises(errors.BadInput, match=r"oci://dev\.local/iris:1: no such package"):
        LocalPlatform(home, resolve=resolve, server_command=STUB).up(manifest(), proxy_port=free_ports(1)[0])
    assert not Layout.of(home).deployment.exists()


def test_there_is_one_supervisor_however_often_it_is_started(home):
    """Starting five at the same time ends with one."""
    layout = Layout.of(home)
    layout.root.mkdir(parents=True)
    command = [sys.executable, "-m", "relevo.platforms.local.supervisor", "--home", str(home)]
    starters = [subprocess.Popen(command) for _ in range(5)]
    assert {one.wait(20) for one in starters} == {0}

    def alive():
        found = []
        for one in psutil.process_iter(["cmdline", "status"]):
            line = one.info["cmdline"] or []
            if line[1:] == command[1:] and one.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(one.pid)
        return found

    until(lambda: len(alive()) == 1, "one supervisor left")
    assert alive() == [int(layout.supervisor_lock.read_text())]
    supervisor.stop_all(layout)


def test_an_idle_supervisor_waits_and_does_not_spin(home):
    """With three programs to look after, its checks included, it leaves the processor to others."""
    with running(home) as platform:
        one = psutil.Process(int(Layout.of(home).supervisor_lock.read_text()))
        platform.ensure_program(Program("sleeper", ("sleep", "60")))
        until(lambda: (status := platform.program_status("sleeper")) and status.ready, "runs")
        before, started = one.cpu_times(), time.monotonic()
        until(lambda: time.monotonic() - started > 2, "two seconds of idling")
        after = one.cpu_times()
        share = (after.user + after.system - before.user - before.system) / (time.monotonic() - started)
        assert share < 0.1


def test_a_full_disk_is_named_and_changes_nothing(home, monkeypatch):
    """Where a file cannot be written the error names it, nothing is half written, and the split stays until there is room again."""
    with running(home) as platform:
        with_candidate(platform)
        platform.set_weight("iris", Split(10, "u/1"))
        layout = Layout.of(home)
        before = sorted(layout.root.rglob("*.json"))

        def full(_descriptor):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr(files.os, "fsync", full)
            with pytest.raises(errors.Transient, match=r"deployment\.json: cannot write: No space left"):
                platform.set_weight("iris", Split(50, "u/2"))
        assert (platform.observe("iris").weight_percent, platform.observe("iris").label) == (10, "u/1")
        assert sorted(layout.root.rglob("*.json")) == before
        assert not [one for one in layout.root.iterdir() if one.name.startswith(".")]
        platform.set_weight("iris", Split(50, "u/2"))


def test_a_damaged_state_file_is_named_and_down_still_works(home):
    """Broken JSON in the deployment file: the message says so and what mends it, and `down` leaves no process."""
    with running(home) as platform:
        layout = Layout.of(home)
        layout.deployment.write_text("{")
        with pytest.raises(errors.Permanent, match=r"deployment\.json: is not JSON") as told:
            platform.observe("iris")
        assert "relevo down" in told.value.next_step
        layout.status.write_text("nonsense")
        platform.down()
        assert processes(home) == {}


def test_two_processes_may_change_the_split_at_the_same_time(home):
    """Changes are made one after the other: none is lost half-way, and what Envoy does is one of those that were asked for."""
    with running(home) as platform:
        with_candidate(platform)
        others = [make(home) for _ in range(4)]
        with ThreadPoolExecutor(4) as pool:
            asked = [Split(weight, f"u/{weight}") for weight in range(1, 41)]
            list(pool.map(lambda pair: pair[0].set_weight("iris", pair[1]), zip(others * 10, asked, strict=True)))
        seen = platform.observe("iris")
        assert Split(seen.weight_percent, seen.label) in asked
        service = deployment.load(Layout.of(home)).find("iris")
        assert (service.weight_percent, service.label) == (seen.weight_percent, seen.label)
