"""Who drives a rollout: one process at a time, known by host, process id and when it began. `driver` is what it then does.

Free of the decision core, for `relevo status` asks the same question and should answer at once.
"""

from __future__ import annotations

import os
import socket

import psutil

from relevo.store.rollouts import Record, RolloutStore

__all__ = ["LEASE_SECONDS", "is_dead", "me", "take"]

LEASE_SECONDS = 10.0
"""How long a driver that says nothing keeps its rollout. One whose process is known to be dead loses it at once."""


def me() -> str:
    """This process's name as a driver: host, process id, and when it began, for ids are used again."""
    pid = os.getpid()
    return f"{socket.gethostname()}:{pid}:{psutil.Process(pid).create_time():.2f}"


def is_dead(driver: str) -> bool:
    """Whether a driver is known to be dead: it was a process of this host that is no longer there."""
    try:
        host, pid, created = driver.rsplit(":", 2)
    except ValueError:
        return False
    if host != socket.gethostname():
        return False
    try:
        return f"{psutil.Process(int(pid)).create_time():.2f}" != created
    except psutil.NoSuchProcess:
        return True
    except (ValueError, psutil.Error):
        return False


def take(store: RolloutStore, uid: str, *, now: float) -> Record:
    """Take a rollout's lease for this process; from a dead driver at once, from a living one never.

    Raises:
        Conflict: a living process drives it.
    """
    holder = store.get(uid).driver
    return store.acquire(uid, me(), now=now, seconds=LEASE_SECONDS, abandoned=is_dead(holder))
