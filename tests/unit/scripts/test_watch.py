"""scripts.watch: what must be seen of Envoy, and what must not be held against it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from scripts.watch import EnvoyWatch, Seen, read_weights
from tests.unit.scripts.stub_envoy import StubEnvoy, StubServer, routes_dump


def watched(envoy: StubEnvoy, until: Callable[[EnvoyWatch, Seen], bool], *, probe: bool = True) -> Seen:
    """Everything that a watch sees until a condition holds; a few looks more, so that what would follow is seen too."""
    total = Seen()
    with EnvoyWatch(envoy.port, "iris", every_seconds=0.005, probe=probe) as watch:
        deadline, left = time.monotonic() + 60, 3
        while left and time.monotonic() < deadline:
            seen = watch.take()
            for name in ("looks", "not_answered", "became_ready", "slow_answers"):
                setattr(total, name, getattr(total, name) + getattr(seen, name))
            total.wrong_sums += seen.wrong_sums
            total.not_ready += seen.not_ready
            total.changes += seen.changes
            left -= until(watch, total)
            time.sleep(0.02)
    return total


@contextmanager
def serving(one: int, two: int, *, ready: bool = True) -> Iterator[tuple[StubEnvoy, StubServer]]:
    """Envoy with these weights for two revisions that answer, and the second's server."""
    with StubServer("one") as first, StubServer("two", ready=ready) as second:
        ports = {"one": first.port, "two": second.port}
        with StubEnvoy("iris", {"one": one, "two": two}, ports) as envoy:
            yield envoy, second


def test_weights_and_label_are_read_from_envoys_own_dump() -> None:
    """A weight of zero, which Envoy leaves out of its dump, is a zero; another service's route is not read."""
    dump = routes_dump("iris", {"one": 100, "two": 0}, "uid/0")
    assert read_weights(dump, "iris") == ({"one": 100, "two": 0}, "uid/0")
    assert read_weights(dump, "digits") is None
    assert read_weights(None, "iris") is None


def test_weights_that_do_not_sum_to_100_are_a_violation() -> None:
    """Every look at which the weights sum to another number than 100 is told."""
    with serving(90, 5) as (envoy, _):
        seen = watched(envoy, lambda _, s: s.looks > 3)
    assert len(seen.wrong_sums) == seen.looks
    assert not seen.not_ready


def test_weight_for_a_revision_that_is_not_ready_is_a_violation() -> None:
    """A revision that is not ready before and after its weight was seen is told by name, also one that nobody listens for."""
    with StubServer("one") as one, StubServer("two", ready=False) as two:
        ports = {"one": one.port, "two": two.port}
        with StubEnvoy("iris", {"one": 99, "two": 1}, ports) as envoy:
            refused = watched(envoy, lambda _, s: len(s.not_ready) > 1)
        two.__exit__()
        with StubEnvoy("iris", {"one": 99, "two": 1}, ports) as envoy:
            gone = watched(envoy, lambda _, s: len(s.not_ready) > 1)
    assert "two has 1 %" in refused.not_ready[0]
    assert "answered 503" in refused.not_ready[0]
    assert "did not answer" in gone.not_ready[0]


def test_a_revision_that_waits_at_zero_need_not_be_ready() -> None:
    """Readiness is asked of what has weight alone."""
    with serving(100, 0, ready=False) as (envoy, _):
        seen = watched(envoy, lambda _, s: s.looks > 5)
    assert not seen.violations


def test_ready_servers_with_right_weights_are_no_violation() -> None:
    """What is as it should be is not told, and a change of weights is kept once."""
    with serving(100, 0) as (envoy, _):

        def shift(_: EnvoyWatch, seen: Seen) -> bool:
            if seen.looks > 3:
                envoy.weights = {"one": 50, "two": 50}
            return len(seen.changes) == 2

        seen = watched(envoy, shift)
    assert not seen.violations
    assert [dict(look.weights) for look in seen.changes] == [{"one": 100, "two": 0}, {"one": 50, "two": 50}]


def test_a_revision_that_stops_being_ready_with_weight_is_told() -> None:
    """A revision with weight is asked again and again, not only when it gets its weight."""
    with serving(50, 50) as (envoy, two):

        def fall(_: EnvoyWatch, seen: Seen) -> bool:
            two.ready = seen.looks <= 3
            return bool(seen.not_ready)

        seen = watched(envoy, fall)
    assert all(line.startswith("two has 50 %") for line in seen.not_ready)
    assert seen.not_ready


def test_an_envoy_that_does_not_answer_is_counted_apart() -> None:
    """No answer is no look: it proves nothing, and is not lost either."""
    with StubEnvoy("iris", {"one": 100}, {}) as envoy:
        pass
    seen = watched(envoy, lambda _, s: s.not_answered > 2, probe=False)
    assert seen.looks == 0
    assert seen.not_answered > 2


def test_a_watch_that_has_ended_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch whose thread has died does not look like one that saw nothing wrong."""
    monkeypatch.setattr("scripts.watch.read_weights", lambda *_: 1 / 0)
    with StubEnvoy("iris", {"one": 100}, {}) as envoy, EnvoyWatch(envoy.port, "iris", every_seconds=0.005) as watch:

        def take_until_it_raises() -> None:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                watch.take()
                time.sleep(0.01)

        with pytest.raises(ZeroDivisionError):
            take_until_it_raises()


def test_a_watch_that_hardly_looked_is_told() -> None:
    """Fewer looks than seconds, or a look without an answer, is a problem of its own; a busy watch is none."""
    assert Seen(looks=100).blindness(10) == []
    assert "only 5 looks" in Seen(looks=5).blindness(10)[0]
    assert "did not answer 2" in Seen(looks=100, not_answered=2).blindness(10)[0]
