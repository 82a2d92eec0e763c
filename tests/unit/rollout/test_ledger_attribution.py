"""No count ever goes to a step that it does not belong to: properties over random traffic, changes of weight, looks and scrapes."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from relevo.rollout.ledger import Ledger
from relevo.rollout.observation import Arm, Counts, Reading, RevisionStatus, Routes

START = datetime(2026, 1, 1, tzinfo=UTC)
ARMS = {"s": Arm.STABLE, "c": Arm.CANDIDATE}
LABELS = ("u/0", "u/1", "u/2", "v/1", "")


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def routes(label: str) -> Routes:
    return Routes(RevisionStatus("s", "x", ready=True), RevisionStatus("c", "y", ready=True), 10, label)


@dataclass(frozen=True)
class Past:
    """What really happened: by which label the proxy routed from when on, and when it counted each request and for whom."""

    changes: tuple[tuple[float, str], ...]
    requests: tuple[tuple[float, str], ...]
    restarts: tuple[float, ...]

    def label(self, moment: float) -> str:
        """By which label the proxy routed at a moment."""
        return next((label for since, label in reversed(self.changes) if since <= moment), "")

    def counts(self, moment: float) -> tuple[str, dict[str, Counts]]:
        """What a counter shows at a moment, with the epoch: it began at zero at the last restart."""
        born = max((r for r in self.restarts if r <= moment), default=-1.0)
        times = [when for when, _ in self.requests]
        seen = Counter(who for _, who in self.requests[bisect_right(times, born) : bisect_right(times, moment)])
        return f"{born}", {revision: Counts(n) for revision, n in seen.items()}

    def foreign(self, label: str) -> Past:
        """The same past with many requests, and none of them routed by this label."""
        times = [tenth / 10 + 0.05 for tenth in range(-5, 700)]  # never at the very moment of a change
        kept = [(when, who) for when in times for who in ARMS if self.label(when) != label]
        return replace(self, requests=tuple(kept))


moments = st.integers(0, 600).map(lambda tenths: tenths / 10)


@st.composite
def pasts(draw: st.DrawFn, *, gap: float = 0.0) -> Past:
    """`gap`: after each change the proxy routes by no one's label for so long, as while a change takes effect."""
    times = sorted(draw(st.sets(moments, max_size=6)))
    changes: list[tuple[float, str]] = [(-1.0, draw(st.sampled_from(LABELS)))]
    for moment in times:
        changes += [(moment, ""), (moment + gap, draw(st.sampled_from(LABELS)))] if gap else [
            (moment, draw(st.sampled_from(LABELS)))
        ]  # fmt: skip
    changes.sort(key=lambda c: c[0])
    restarts = draw(st.lists(moments, max_size=2))
    return Past(tuple(changes), (), tuple(restarts))


STEPS = {"u/0": "0", "u/1": "1", "u/2": "2"}


def given_to(ledger: Ledger, source: str, step: str) -> int:
    """How many requests the ledger holds for a step, of both arms."""
    return sum(ledger.total(source, arm, [step]).requests for arm in Arm)


@settings(deadline=None)
@given(pasts(), st.sets(moments, min_size=2, max_size=40), st.sampled_from(sorted(STEPS)))
def test_live_counts_never_go_to_another_step(past: Past, looks: set[float], label: str) -> None:
    """Whoever changes a weight looks before and after; with looks at any other times as well, no step gets another's request."""
    past = past.foreign(label)
    changes = [when for when, _ in past.changes if when >= 0]
    ledger = Ledger("u")
    for moment in sorted({*looks, *changes}):
        epoch, counts = past.counts(moment)
        reading = Reading("envoy", epoch, at(moment), revisions=counts)
        ledger = ledger.absorb([reading], routes(past.label(moment)), ARMS, at(moment))
    assert given_to(ledger, "envoy", STEPS[label]) == 0


@settings(deadline=None, max_examples=120)
@given(
    pasts(gap=2.5),
    st.sampled_from([0.25, 0.4, 1.0, 2.0]),
    st.sampled_from([0.5, 1.0, 2.6, 7.0, 15.0]),
    st.integers(0, 30).map(lambda tenths: tenths / 10),
    st.sampled_from([-0.9, 0.0, 0.9]),
    st.sampled_from(sorted(STEPS)),
)
def test_dated_counts_never_go_to_another_step(
    past: Past, look_every: float, scrape_every: float, first_scrape: float, skew: float, label: str
) -> None:
    """However the scrapes fall, and with clocks up to a second apart, an increase that a scrape saw over a change of label is dropped."""
    past = past.foreign(label)
    ledger, moment = Ledger("u"), 0.0
    while moment < 70:
        scrapes = int((moment - 1.5 - first_scrape) // scrape_every)
        readings = []
        if scrapes >= 0:
            when = first_scrape + scrapes * scrape_every
            epoch, counts = past.counts(when)
            dated = (at(when + skew), at(when + skew))
            readings = [Reading("prometheus", epoch, at(moment), revisions=counts, as_of=dated)]
        ledger = ledger.absorb(readings, routes(past.label(moment)), ARMS, at(moment))
        moment += look_every
    assert given_to(ledger, "prometheus", STEPS[label]) == 0


def dated(n: int, second: float, now: float, *, epoch: str = "a") -> tuple[Reading, float]:
    reading = Reading("prometheus", epoch, at(now), revisions={"c": Counts(n)}, as_of=(at(second), at(second)))
    return reading, now


def absorb(*seen: tuple[tuple[Reading, float], str]) -> Ledger:
    ledger = Ledger("u")
    for (reading, now), label in seen:
        ledger = ledger.absorb([reading], routes(label), ARMS, at(now))
    return ledger


def test_dated_counts_within_a_step_are_taken_in() -> None:
    """Scrapes that lie well inside a step belong to it, also when they are told after the step has ended."""
    ledger = absorb(
        (dated(5, 0, 2), "u/1"),
        (dated(10, 4, 6), "u/1"),
        (dated(30, 8, 20), "u/1"),
        (dated(40, 15, 20.4), "u/2"),
    )
    assert ledger.total("prometheus", Arm.CANDIDATE, ["1"]).requests == 30
    assert ledger.total("prometheus", Arm.CANDIDATE, ["2"]).requests == 0


def test_an_increase_over_a_change_of_step_is_dropped() -> None:
    """What was counted between a scrape in one step and one in the next belongs to neither."""
    ledger = absorb(
        (dated(5, 0, 2), "u/1"), (dated(10, 5, 7), "u/1"), (dated(90, 12, 14), "u/2"), (dated(95, 20, 30), "u/2")
    )
    assert ledger.total("prometheus", Arm.CANDIDATE, ["1"]).requests == 0
    assert ledger.total("prometheus", Arm.CANDIDATE, ["2"]).requests == 0
    later = ledger.absorb([dated(100, 25, 31)[0]], routes("u/2"), ARMS, at(31))
    assert later.total("prometheus", Arm.CANDIDATE, ["2"]).requests == 5


def test_a_scrape_is_counted_once() -> None:
    """The same scrape told at every look adds nothing after the first time."""
    same = [(dated(50, 8, now), "u/1") for now in (10.0, 10.4, 10.8)]
    ledger = absorb((dated(5, 0, 0), "u/1"), (dated(5, 3, 5), "u/1"), *same)
    assert ledger.total("prometheus", Arm.CANDIDATE, ["1"]).requests == 45
