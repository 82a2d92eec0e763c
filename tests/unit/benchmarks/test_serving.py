"""What the comparison of servers says of what it measured, and how it makes its load."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from benchmarks.serving import Asked, Compared, page_of
from benchmarks.serving_load import Load, Measured, send_load, send_steadily


def asked(per_second: float, per_cpu_second: float, p99_ms: float = 1.0) -> Asked:
    """A server that was asked for a second."""
    return Asked(Measured(int(per_second), per_second, 1.0, p99_ms), per_cpu_second)


def compared(
    rows: int, ours: list[float], theirs: list[float], *, model: str = "rf100", p99_ms: float = 1.0
) -> Compared:
    """relevo and the stock servers, in as many rounds as there are speeds."""
    stock = [asked(speed, speed) for speed in theirs]
    return Compared(
        model, rows, "JSON", {"relevo": [asked(s, s, p99_ms) for s in ours], "kserve": stock, "mlserver": stock}
    )


def test_ratios_are_of_one_round_and_told_with_their_spread() -> None:
    """Each round compares what ran side by side; the page has the median, the smallest and the largest."""
    page, missed = page_of([compared(1, [9000, 8000, 1000], [100, 100, 10])], [], 0.7, ["rf100: onnx"], "how")
    assert "90.0 (80.0 to 100.0)" in page
    assert missed == []
    assert "all reached" in page


def test_a_goal_that_is_missed_is_named() -> None:
    """Too few times as fast, too long a tail, too late ready: each is told with its number, and the run fails."""
    all_compared = [compared(1, [7000], [100], p99_ms=9.0), compared(1000, [30], [10])]
    page, missed = page_of(all_compared, [], 4.0, [], "how")
    assert len(missed) == 5
    assert "1 rows, JSON: 70.0 times KServe, not 75" in missed
    assert "p99 9.0 ms" in missed
    assert "ready after 4.0 s" in missed
    assert "1000 rows, JSON: 3.0 times MLServer, not 5" in page


def test_where_nothing_is_won_is_said() -> None:
    """Whatever model and form: below one and a half times is no win, and no goal of other models than rf100 is judged."""
    page, missed = page_of([compared(1000, [12], [10], model="boosting")], [], 0.7, [], "how")
    assert "Where we do not win: boosting, 1000 rows, JSON: 1.2 times KServe" in page
    assert missed == []


@contextmanager
def serving(status: bytes) -> Iterator[int]:
    """A server that answers every request with this status; yields its port."""
    ports: list[int] = []
    ready, stop = threading.Event(), threading.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await reader.readuntil(b"{}")
                writer.write(b"HTTP/1.1 %b\r\ncontent-length: 2\r\n\r\n{}" % status)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def run() -> None:
        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        ports.append(server.sockets[0].getsockname()[1])
        ready.set()
        while not stop.is_set():
            await asyncio.sleep(0.01)
        server.close()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    assert ready.wait(60)
    try:
        yield ports[0]
    finally:
        stop.set()
        thread.join(60)


def test_the_open_loop_sends_what_is_due_and_no_more() -> None:
    """As many requests as fall due at the rate, each answered and timed; the closed loop ends by time."""
    with serving(b"200 OK") as port:
        steady = send_steadily(Load(port, "/", b"{}", connections=4, seconds=0.5), 100.0)
        assert steady.requests == 50
        assert 0 < steady.p50_ms <= steady.p99_ms
        assert send_load(Load(port, "/", b"{}", connections=2, seconds=0.2)).requests > 0


def test_an_answer_that_is_no_answer_ends_the_load() -> None:
    """Errors are quick to answer: they must not be taken for speed."""
    with serving(b"500 Internal Server Error") as port:
        for send in (send_load, lambda load: send_steadily(load, 100.0)):
            with pytest.raises(RuntimeError, match="not 200"):
                send(Load(port, "/", b"{}", connections=2, seconds=0.2))
