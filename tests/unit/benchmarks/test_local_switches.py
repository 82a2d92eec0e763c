"""benchmarks.local_switches: when a switch was effective is told from who answered."""

from __future__ import annotations

from benchmarks.local_switches import _page, effects
from benchmarks.shift_traffic import Change, Sent

REVISIONS = ("blue-1", "green-2")
CHANGES = [Change(0, 0.0, 0.1), Change(1, 10.0, 10.02), Change(0, 20.0, 20.05)]


def answer(sent_at: float, who: str, status: int = 200) -> Sent:
    return Sent(sent_at, sent_at + 0.001, -1, who, status)


GOOD = [answer(1, "blue-1"), answer(10.01, "blue-1"), answer(10.03, "green-2"), answer(20.2, "blue-1")]


def test_a_switch_is_effective_when_the_old_colour_gets_no_more() -> None:
    """Last old: the latest sending after the call that the old colour answered; 0 where there is none."""
    first, second = effects(CHANGES, GOOD, REVISIONS)
    assert abs(first.last_old - 0.01) < 1e-9
    assert abs(first.first_new - 0.031) < 1e-9
    assert (first.late, second.last_old, second.late) == (0, 0.0, 0)


def test_a_failure_a_straggler_or_a_slow_switch_spoils_it() -> None:
    """Each is told on the page, and is a failure of the benchmark."""
    assert _page(effects(CHANGES, GOOD, REVISIONS), GOOD, "c")[1]
    for bad in (answer(11, "green-2", 503), answer(10.2, "blue-1"), answer(10.9, "blue-1")):
        sent = [*GOOD, bad]
        page, fine = _page(effects(CHANGES, sent, REVISIONS), sent, "c")
        assert not fine
        assert "1 failed" in page or "1 were sent after" in page
