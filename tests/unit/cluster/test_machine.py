"""What the machine lacks is said in one sentence with the next step."""

from __future__ import annotations

import json
import os
import socket
import stat
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from k8s.cluster import daemon, gomodules, kindcluster, preflight, published, runc_shim
from k8s.cluster.__main__ import main
from k8s.cluster.settings import Settings, read_settings
from relevo.errors import BadInput


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with a cache of their own."""
    return read_settings({"RELEVO_CACHE": str(tmp_path / "cache"), "IMAGES": "source"})


def test_docker_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The next step is to install it."""
    monkeypatch.setattr("shutil.which", lambda *a, **k: None)
    with pytest.raises(BadInput, match="docker is not installed") as caught:
        preflight.check_docker()
    assert "Install Docker" in caught.value.next_step


def test_docker_that_is_not_running(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next step is to start it, with systemd or without."""
    monkeypatch.setattr(preflight, "find", lambda *a: Path("/usr/bin/docker"))
    monkeypatch.setattr("k8s.cluster.docker.answers", lambda: False)
    with pytest.raises(BadInput, match="Docker is not running") as caught:
        preflight.check_docker()
    assert "systemctl start docker" in caught.value.next_step
    assert "make docker" in caught.value.next_step


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine on which Docker runs."""
    monkeypatch.setattr(preflight, "check_docker", lambda: None)
    monkeypatch.setattr("k8s.cluster.docker.root_folder", lambda: tmp_path)


@pytest.mark.usefixtures("running")
def test_too_little_memory(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    """What is needed and what is free are said."""
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=2 * 1024**3))
    with pytest.raises(BadInput, match=r"needs 4 GiB of memory, and 2\.0 GiB are free"):
        preflight.check(settings)


@pytest.mark.usefixtures("running")
def test_too_little_disk(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    """The folder is named, and how to move the cache."""
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=8 * 1024**3))
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1024**3))
    with pytest.raises(BadInput, match=r"needs 14 GiB of disk, and .* has 1\.0 GiB free") as caught:
        preflight.check(settings)
    assert "RELEVO_CACHE" in caught.value.next_step


def test_a_machine_without_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next step names the version."""
    monkeypatch.setattr("shutil.which", lambda *a, **k: None)
    with pytest.raises(BadInput, match="go is not installed") as caught:
        gomodules.go()
    assert "Go 1.25.8" in caught.value.next_step


def test_a_go_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both versions are named."""
    monkeypatch.setattr(gomodules, "find", lambda *a: Path("go"))
    monkeypatch.setattr(gomodules, "run", lambda *a, **k: "go1.19.8\n")
    with pytest.raises(BadInput, match=r"go1\.19\.8, and Kubernetes' modules need 1\.25\.8"):
        gomodules.go()


def test_no_registry_answers() -> None:
    """The next step is to build from source."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(BadInput, match=r"registry 127\.0\.0\.1 does not answer") as caught:
        published.check_registries((f"http://127.0.0.1:{port}/v2/",), timeout_seconds=2)
    assert "make cluster IMAGES=source" in caught.value.next_step


@pytest.mark.parametrize(("status", "is_one"), [(200, True), (401, True), (403, False), (404, False)])
def test_what_counts_as_a_registry(monkeypatch: pytest.MonkeyPatch, status: int, is_one: bool) -> None:
    """A registry says 200, or asks for a login; a proxy that refuses does not."""
    monkeypatch.setattr(httpx, "get", lambda *a, **k: httpx.Response(status))
    if is_one:
        published.check_registries(("https://r.example/v2/",))
        return
    with pytest.raises(BadInput, match=str(status)):
        published.check_registries(("https://r.example/v2/",))


def test_a_port_in_use() -> None:
    """The port is named, and how to choose another."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(BadInput, match=f"Port {port} of 127.0.0.1 is in use") as caught:
            kindcluster.check_port(port)
    assert "make cluster GATEWAY_PORT=" in caught.value.next_step
    kindcluster.check_port(port)


def test_a_cluster_at_another_port_is_left_alone(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    """Its port is named; nothing is deleted."""
    monkeypatch.setattr("k8s.cluster.docker.nodes", lambda name: [f"{name}-control-plane"])
    monkeypatch.setattr(kindcluster, "host_port", lambda node: 8080)
    monkeypatch.setattr(kindcluster, "delete", lambda *a: pytest.fail("deleted"))
    with pytest.raises(BadInput, match="port 8080, not 8090"):
        kindcluster.take_over(Path("kind"), settings, SimpleNamespace())  # type: ignore[arg-type]


def test_bad_input_is_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No traceback for a user's mistake."""
    monkeypatch.setenv("IMAGES", "both")
    assert main(["up"]) == 2
    assert capsys.readouterr().err == "error: IMAGES=both: must be registry or source\n"


def test_the_pid_file_of_a_dead_daemon_goes(tmp_path: Path) -> None:
    """Also where its number is another program's by now."""
    file = tmp_path / "docker.pid"
    for stale in ("999999999", str(os.getpid()), "nonsense", ""):
        file.write_text(stale)
        daemon.clear_stale_pid(file)
        assert not file.exists()
    daemon.clear_stale_pid(file)


@pytest.mark.parametrize(("bounding", "lacks"), [("000001ffffffffff", False), ("000001fffeffffff", True)])
def test_whether_the_machine_lacks_the_capability(tmp_path: Path, bounding: str, lacks: bool) -> None:
    """The bounding set decides what root can have."""
    status = tmp_path / "status"
    status.write_text(f"Name:\tx\nCapEff:\t000001ffffffffff\nCapBnd:\t{bounding}\n")
    assert daemon.lacks_sys_resource(status) is lacks


def test_docker_is_told_the_shim_as_its_runtime(tmp_path: Path) -> None:
    """What else its configuration says stays, and the shim's copy can be run."""
    configuration = tmp_path / "etc/daemon.json"
    configuration.parent.mkdir()
    configuration.write_text('{"log-level": "warn"}')
    daemon.configure_runtime(tmp_path, configuration)
    shim = tmp_path / "runc-without-sys-resource"
    assert json.loads(configuration.read_text()) == {
        "log-level": "warn",
        "runtimes": {"restricted": {"path": str(shim)}},
        "default-runtime": "restricted",
    }
    assert shim.stat().st_mode & stat.S_IXOTH


@pytest.mark.parametrize("exists", [True, False])
def test_a_runtime_that_is_named_already(tmp_path: Path, exists: bool) -> None:
    """It stays, unless its program is gone with an earlier run."""
    configuration = tmp_path / "daemon.json"
    named = {"runtimes": {"own": {"path": "/bin/sh" if exists else "/gone"}}, "default-runtime": "own"}
    configuration.write_text(json.dumps(named))
    daemon.configure_runtime(tmp_path, configuration)
    assert json.loads(configuration.read_text())["default-runtime"] == ("own" if exists else "restricted")


def test_the_shim_asks_for_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container and an exec lose the one capability and a negative OOM score, and nothing else; runc gets the same words."""
    process = {
        "args": ["sleep"],
        "capabilities": {"bounding": ["CAP_KILL", "CAP_SYS_RESOURCE"], "effective": ["CAP_SYS_RESOURCE"]},
        "oomScoreAdj": -999,
    }
    mended = {"args": ["sleep"], "capabilities": {"bounding": ["CAP_KILL"], "effective": []}, "oomScoreAdj": 0}
    called = []
    monkeypatch.setattr(os, "execv", lambda program, words: called.append(words))
    (tmp_path / "config.json").write_text(json.dumps({"root": "r", "process": process}))
    runc_shim.main(["create", "--bundle", str(tmp_path), "id"])
    assert json.loads((tmp_path / "config.json").read_text()) == {"root": "r", "process": mended}
    (tmp_path / "p.json").write_text(json.dumps(process))
    runc_shim.main(["exec", "--process", str(tmp_path / "p.json"), "id"])
    assert json.loads((tmp_path / "p.json").read_text()) == mended
    runc_shim.main(["kill", "id"])
    assert called[0] == ["runc", "create", "--bundle", str(tmp_path), "id"]
    assert called[2] == ["runc", "kill", "id"]
