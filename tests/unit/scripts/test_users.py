"""scripts.users: every failure is counted, with who failed."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np

from scripts.users import Client, Users, read_bodies
from tests.unit.scripts.stub_envoy import StubServer


def test_each_held_out_row_is_one_request(tmp_path: Path) -> None:
    """A body is one V2 request of shape [1, features] with the row's own numbers."""
    np.savez(tmp_path / "heldout.npz", x=np.array([[1.5, 2.0], [3.0, 4.0]]), y=np.array([0, 1]))
    first, second = map(json.loads, read_bodies(tmp_path / "heldout.npz"))
    assert first["inputs"] == [{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [1.5, 2.0]}]
    assert second["inputs"][0]["data"] == [3.0, 4.0]


def test_an_answer_names_who_gave_it() -> None:
    """Status, revision and Envoy's choice are read from the answer."""
    with StubServer("one") as server:
        client = Client(server.port, "iris")
        answer = client.send(b"{}")
        server.status = 500
        failed = client.send(b"{}")
        client.close()
    assert (answer.status, answer.revision, answer.assigned, answer.problem) == (200, "one", "one", "")
    assert (failed.status, failed.revision, failed.problem) == (500, "one", "HTTP 500")


def test_a_request_without_an_answer_is_a_failure_and_the_next_one_is_sent() -> None:
    """A refused connection is counted as a failure of nobody in particular; the client goes on."""
    with StubServer("one") as server:
        port = server.port
    client = Client(port, "iris")
    first, second = client.send(b"{}"), client.send(b"{}")
    assert first.status == second.status == 0
    assert first.revision == ""
    assert "refused" in first.problem.lower()


def test_users_count_failures_by_who_failed() -> None:
    """What a revision answered with an error is its own failure, and nothing else is."""
    with StubServer("one") as server, Users(server.port, "iris", [b"{}"], per_second=200) as users:
        total, failures, others = 0, 0, 0
        deadline = time.monotonic() + 60
        while (total < 5 or not failures) and time.monotonic() < deadline:
            server.status = 500 if total >= 5 else 200
            tally = users.take()
            total += tally.requests
            failures += tally.failures_of("one")
            others += tally.failures - tally.failures_of("one")
            time.sleep(0.01)
    assert total >= 5
    assert 0 < failures < total
    assert others == 0
