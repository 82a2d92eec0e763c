"""A real fault of the monitor: Locust is killed, and again whenever it has been brought back, for a while."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time

from relevo.cli.wiring import LOCUST, Local
from relevo.platforms.cluster_api import PODS, ROLLOUTS, Objects
from relevo.rollout.ramp import expand
from relevo.rollout.spec import RolloutSpec
from relevo.rollout.state import Phase

__all__ = ["kill_monitor", "kill_monitor_on"]

OUTAGE_SECONDS = 10.0
AT_STEP = 2
POLL_SECONDS = 0.2


def kill_monitor_on(cluster: Objects, namespace: str, rollout: str, ended: threading.Event) -> None:
    """On a cluster: wait for the same step, then delete the pod of Locust's master whenever there is one, for OUTAGE_SECONDS."""
    while not ended.wait(POLL_SECONDS):
        status = (cluster.get(ROLLOUTS, namespace, rollout) or {}).get("status", {})
        if status.get("phase") == Phase.SHIFTING and status.get("step", 0) >= AT_STEP:
            break
    until = time.monotonic() + OUTAGE_SECONDS
    master = {"app.kubernetes.io/instance": rollout, "app.kubernetes.io/component": "master"}
    while time.monotonic() < until and not ended.wait(POLL_SECONDS):
        for pod in cluster.list(PODS, namespace, {"app.kubernetes.io/name": "relevo-load", **master}):
            if "deletionTimestamp" not in pod["metadata"]:
                cluster.delete(PODS, namespace, pod["metadata"]["name"])


def _at_step(spec: RolloutSpec) -> int:
    return min(AT_STEP, len(expand(spec)))


def kill_monitor(target: str, ended: threading.Event) -> None:
    """Wait until the rollout has reached a step in the middle of its ramp, or its only one, then keep Locust dead for OUTAGE_SECONDS."""
    local = Local.open()
    while not ended.wait(POLL_SECONDS):
        record = local.store.latest(target)
        if (
            record is not None
            and record.state.phase is Phase.SHIFTING
            and record.state.step >= _at_step(record.rollout.spec)
        ):
            break
    until = time.monotonic() + OUTAGE_SECONDS
    while time.monotonic() < until and not ended.wait(POLL_SECONDS):
        status = local.platform.program_status(LOCUST)
        if status is not None and status.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(status.pid, signal.SIGKILL)
