"""Ports of 127.0.0.1: free ones, and who has one that is not."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Collection

import psutil

from relevo import errors

__all__ = ["free_ports", "is_free", "owner", "require_free"]


def free_ports(count: int, *, avoid: Collection[int] = ()) -> tuple[int, ...]:
    """Different ports, picked by the operating system, none of them in `avoid`."""
    with contextlib.ExitStack() as held:
        found: list[int] = []
        while len(found) < count:
            one = held.enter_context(socket.socket())  # held until all are found, so that none comes twice
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            if port not in avoid:
                found.append(port)
        return tuple(found)


def is_free(port: int) -> bool:
    """True where a server could listen at this port now."""
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", port))
            one.listen(1)
        except OSError:
            return False
    return True


def owner(port: int) -> str:
    """Who listens at this port, as "name (pid 12)", or "" where that cannot be told."""
    with contextlib.suppress(psutil.Error, OSError):
        for one in psutil.net_connections("tcp"):
            if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port and one.pid is not None:
                return f"{psutil.Process(one.pid).name()} (pid {one.pid})"
    return ""


def require_free(port: int, *, option: str) -> None:
    """Refuse a port at which one could not listen.

    Raises:
        errors.BadInput: out of range, not ours to take, or somebody has it; `option` is how the user names another.
    """
    if not 1 <= port <= 65535:
        raise errors.BadInput(f"{option} {port}: a port is a number from 1 to 65535")
    if not is_free(port):
        who = owner(port)
        raise errors.BadInput(
            f"port {port} on 127.0.0.1 is in use{f' by {who}' if who else ''}, or may not be opened by this user",
            next_step=f"Name another with `{option} PORT`, or end what uses it.",
        )
