"""From cumulative readings to counts per step and arm: epochs, restarts, changes of route, histograms."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from relevo.rollout.ledger import Ledger
from relevo.rollout.observation import Arm, Counts, Pairs, Reading, RevisionStatus, Routes

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ARMS = {"s": Arm.STABLE, "c": Arm.CANDIDATE}
EDGES = (1.0, 2.0)


def routes(label: str) -> Routes:
    return Routes(RevisionStatus("s", "x", ready=True), RevisionStatus("c", "y", ready=True), 10, label)


def envoy(
    n: int, *, epoch: str = "a", errors: int = 0, latency: tuple[int, ...] = (), edges: tuple[float, ...] = ()
) -> Reading:
    return Reading("envoy", epoch, NOW, edges, revisions={"c": Counts(n, errors, latency)})


def locust(n: int, *, epoch: str = "a", label: str = "u/1", edges: tuple[float, ...] = EDGES) -> Reading:
    counts = Counts(n, 0, (n, *(0 for _ in edges)))
    return Reading(
        "locust", epoch, NOW, edges, steps={(label, "c"): counts} if n else {}, pairs={label: Pairs(n, 1)} if n else {}
    )


def absorb(*seen: tuple[Reading | None, str]) -> Ledger:
    ledger = Ledger("u")
    for reading, label in seen:
        ledger = ledger.absorb([reading] if reading else [], routes(label), ARMS)
    return ledger


def candidate(ledger: Ledger, source: str, step: str = "1") -> Counts:
    return ledger.total(source, Arm.CANDIDATE, [step])


def test_counts_without_labels_are_read_as_differences() -> None:
    """What a source counted before the step, or between two looks with different labels, belongs to no step."""
    ledger = absorb(
        (envoy(100), "u/0"), (envoy(110), "u/1"), (envoy(130), "u/1"), (envoy(135), "u/2"), (envoy(142), "u/2")
    )
    assert candidate(ledger, "envoy", "1").requests == 20
    assert candidate(ledger, "envoy", "2").requests == 7


def test_a_route_that_changed_and_came_back_during_a_silence_is_not_read_across() -> None:
    """A source silent while the label went away and came back has counted under both: that difference is dropped."""
    ledger = absorb((envoy(10), "u/1"), (envoy(20), "u/1"), (None, "u/0"), (envoy(99), "u/1"), (envoy(100), "u/1"))
    assert candidate(ledger, "envoy").requests == 10 + 1


def test_a_silence_under_one_label_loses_nothing() -> None:
    """A source that was silent while the route stayed is read across the silence."""
    assert candidate(absorb((envoy(10), "u/1"), (None, "u/1"), (envoy(30), "u/1")), "envoy").requests == 20


@pytest.mark.parametrize(
    "second", [envoy(5, epoch="b"), envoy(5), envoy(12, errors=0), envoy(12, errors=3, latency=(1, 0, 0), edges=EDGES)]
)
def test_a_counter_that_falls_is_never_a_negative_count(second: Reading) -> None:
    """A new epoch, or any number that fell without one, begins anew: nothing is subtracted, nothing counted twice."""
    first = envoy(10, errors=3, latency=(5, 2, 3), edges=EDGES)
    third = replace(second, revisions={"c": second.revisions["c"] + Counts(4, 1)})
    ledger = absorb((first, "u/1"), (second, "u/1"), (third, "u/1"))
    assert candidate(ledger, "envoy").requests == 4
    assert candidate(ledger, "envoy").errors == 1


def test_a_histogram_that_trails_its_requests_is_counted() -> None:
    """Latencies that a source merges later than the requests, in a reading with no new request, are not lost."""
    ledger = absorb(
        (envoy(0), "u/1"),
        (envoy(10, edges=EDGES, latency=(0, 0, 0)), "u/1"),
        (envoy(10, edges=EDGES, latency=(7, 2, 1)), "u/1"),
    )
    assert candidate(ledger, "envoy").latency == (7, 2, 1)


def test_histograms_of_other_edges_are_left_out_and_not_added_up() -> None:
    """When a source's edges change or vanish, its histogram stands still; requests and errors go on."""
    ledger = absorb(
        (envoy(0, edges=EDGES, latency=(0, 0, 0)), "u/1"),
        (envoy(10, edges=EDGES, latency=(10, 0, 0)), "u/1"),
        (envoy(20), "u/1"),
        (envoy(30, edges=(5.0,), latency=(9, 9)), "u/1"),
        (envoy(40, edges=EDGES, latency=(30, 5, 5)), "u/1"),
    )
    assert candidate(ledger, "envoy") == Counts(40, 0, (30, 5, 5))
    ledger = absorb((locust(5), "u/1"), (locust(7, epoch="b", edges=(9.0,)), "u/1"))
    assert candidate(ledger, "locust").latency == (5, 0, 0)
    assert candidate(ledger, "locust").requests == 12


def test_epochs_are_added() -> None:
    """A restarted source that knows labels keeps what its old epochs counted, pairs too, also when it first has nothing to say."""
    ledger = absorb(
        (locust(5), "u/1"), (locust(0, epoch="b"), "u/1"), (locust(3, epoch="b"), "u/1"), (locust(4, epoch="c"), "u/1")
    )
    assert candidate(ledger, "locust").requests == 12
    assert ledger.pairs() == Pairs(12, 3)


def test_other_rollouts_and_other_revisions_do_not_count() -> None:
    """Labels of another rollout, and revisions that are no arm of this one, are left out."""
    reading = Reading(
        "locust", "a", NOW, (), steps={("v/1", "c"): Counts(9), ("u/1", "z"): Counts(9), ("u/1", "c"): Counts(1)}
    )
    assert candidate(absorb((reading, "u/1")), "locust").requests == 1
