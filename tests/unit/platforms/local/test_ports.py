"""Ports of loopback."""

from __future__ import annotations

import os
import socket

import pytest

from relevo import errors
from relevo.platforms.local import ports


def test_free_ports_are_different_and_avoid_the_taken():
    """Twenty at once are twenty different ones."""
    found = ports.free_ports(20)
    assert len(set(found)) == 20
    assert not set(ports.free_ports(20, avoid=found)) & set(found)


def test_a_port_in_use_is_told_with_its_owner_and_the_option():
    """Who, where and what to do about it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert not ports.is_free(port)
        with pytest.raises(errors.BadInput, match=rf"port {port} .*\(pid {os.getpid()}\)") as told:
            ports.require_free(port, option="--port")
    assert "--port PORT" in told.value.next_step
    ports.require_free(port, option="--port")


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_number_that_is_no_port_is_refused(port):
    """From 1 to 65535."""
    with pytest.raises(errors.BadInput, match="1 to 65535"):
        ports.require_free(port, option="--port")
