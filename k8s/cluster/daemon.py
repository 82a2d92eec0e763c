"""Starts the Docker daemon by hand, where no systemd does: containers and machines of a CI. Copes with what an earlier one left behind.

A machine without CAP_SYS_RESOURCE gets `runc_shim` for a runtime, as kind's nodes are privileged and runc would refuse them.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from k8s.cluster import docker
from k8s.cluster.commands import find, run, succeeds
from k8s.cluster.progress import say, step
from relevo.errors import BadInput, Permanent

__all__ = ["clear_stale_pid", "configure_runtime", "lacks_sys_resource", "start"]

_CAP_SYS_RESOURCE = 24
_PID_FILE = Path("/var/run/docker.pid")
_CONFIGURATION = Path("/etc/docker/daemon.json")
_START_SECONDS = 60.0


def start(cache: Path) -> None:
    """Have a Docker daemon that answers and can run kind's nodes.

    Args:
        cache: the cache's folder; the shim and the daemon's log go there.

    Raises:
        BadInput: not root, or Docker is not installed.
        Permanent: the daemon does not come up, with the last lines of its log.
    """
    if docker.answers() and _is_fit():
        say("Docker runs already")
        return
    if Path("/run/systemd/system").exists():
        run(["systemctl", "start", "docker"])
        return
    if os.geteuid() != 0:
        raise BadInput("Docker is not running, and only root may start it.", next_step="Run `sudo make docker`.")
    program = find("dockerd", "Install Docker (on Debian: `apt-get install docker.io`).")
    folder = cache / "docker"
    folder.mkdir(parents=True, exist_ok=True)
    if lacks_sys_resource():
        configure_runtime(folder, _CONFIGURATION)
    if docker.answers():
        _reload()
        return
    clear_stale_pid(_PID_FILE)
    _mount_cgroups()
    log = folder / "dockerd.log"
    with step("Starting the Docker daemon"), log.open("w") as output:
        process = subprocess.Popen(
            [program], stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
        _wait(docker.answers, lambda: process.poll() is not None, log)


def _is_fit() -> bool:
    """Whether the daemon's runtime can run a privileged container here."""
    return not lacks_sys_resource() or run(["docker", "info", "--format", "{{.DefaultRuntime}}"]).strip() != "runc"


def _reload() -> None:
    """Have a running daemon read its configuration again: installing a package may have started it before there was one."""
    say("Telling the running Docker daemon its new runtime")
    os.kill(int(_PID_FILE.read_text()), signal.SIGHUP)
    _wait(_is_fit, lambda: False, _CONFIGURATION)


def _wait(done: Callable[[], bool], hopeless: Callable[[], bool], file: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not done():
        if hopeless() or time.monotonic() > deadline:
            last = "\n".join(f"  {line}" for line in file.read_text().splitlines()[-8:])
            raise Permanent(f"The Docker daemon did not come up; the end of {file}:\n{last}")
        time.sleep(0.3)


def lacks_sys_resource(status: Path = Path("/proc/self/status")) -> bool:
    """Whether this machine cannot grant CAP_SYS_RESOURCE, even to root."""
    for line in status.read_text().splitlines():
        if line.startswith("CapBnd:"):
            return not int(line.split()[1], 16) >> _CAP_SYS_RESOURCE & 1
    return False


def configure_runtime(folder: Path, configuration: Path) -> None:
    """Name the shim as default runtime in the daemon's configuration; a copy of it goes where it outlives the checkout.

    A default runtime that is named there already stays, as long as its program exists.
    """
    settings = json.loads(configuration.read_text() or "{}") if configuration.exists() else {}
    runtimes = settings.setdefault("runtimes", {})
    named = runtimes.get(settings.get("default-runtime"), {}).get("path")
    if named and Path(named).exists():
        return
    shim = folder / "runc-without-sys-resource"
    shutil.copy(Path(__file__).parent / "runc_shim.py", shim)
    shim.chmod(0o755)
    runtimes["restricted"] = {"path": str(shim)}
    settings["default-runtime"] = "restricted"
    configuration.parent.mkdir(parents=True, exist_ok=True)
    configuration.write_text(json.dumps(settings, indent=2) + "\n")


def clear_stale_pid(pid_file: Path) -> None:
    """Remove the PID file of a daemon that is no more: its number may be another program's by now, and dockerd would not start."""
    if not pid_file.exists():
        return
    text = pid_file.read_text().strip()
    name = Path("/proc") / text / "comm"
    if not text.isdigit() or not name.exists() or name.read_text().strip() != "dockerd":
        pid_file.unlink()


def _mount_cgroups() -> None:
    """Mount the control groups where nobody has: Debian's cgroupfs-mount knows how."""
    root = Path("/sys/fs/cgroup")
    if not any(root.glob("*")) and shutil.which("cgroupfs-mount"):
        succeeds(["cgroupfs-mount"])
