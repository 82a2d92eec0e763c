"""benchmarks.rollback_delay: the delay is taken from the looks around the crossing of the limit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from benchmarks.rollback_delay import delay
from scripts.watch import Look

START = datetime(2026, 1, 1, tzinfo=UTC)


def sample(seconds: float, e: float, weight: int = 12) -> dict[str, Any]:
    return {
        "at": (START + timedelta(seconds=seconds)).isoformat(),
        "e_against": e,
        "limit_against": 20.0,
        "weight_live_percent": weight,
    }


def look(seconds: float, weights: dict[str, int]) -> Look:
    return Look(START.timestamp() + seconds, weights, "")


SAMPLES = [sample(0.0, 1), sample(0.4, 2), sample(0.8, 15), sample(1.2, 60), sample(1.3, 60)]


def test_delays_run_from_the_look_of_the_crossing_and_the_two_before() -> None:
    """Decided, counted and strictly counted are measured to the first look at Envoy after the decision that shows 0 %."""
    looks = [look(0.1, {"a": 100, "b": 0}), look(0.2, {"a": 88, "b": 12}), look(1.25, {"a": 100, "b": 0})]
    found = delay(SAMPLES, looks, "b")
    assert found is not None
    assert (found.decided, found.counted, found.counted_strictly) == pytest.approx((0.05, 0.45, 0.85), abs=1e-5)
    assert found.weight_percent == 12


def test_a_candidate_that_is_gone_from_the_routes_has_no_weight() -> None:
    """0 % and absent are the same."""
    found = delay(SAMPLES, [look(1.5, {"a": 100})], "b")
    assert found is not None
    assert found.decided == pytest.approx(0.3, abs=1e-5)


def test_a_rollout_that_never_crossed_or_had_no_users_gives_no_delay() -> None:
    """Nothing is measured where the limit was not reached, where it was reached in the shadow, or where 0 % was never seen."""
    zero = [look(1.5, {"a": 100})]
    assert delay(SAMPLES[:3], zero, "b") is None
    assert delay([*SAMPLES[:3], sample(1.2, 60, weight=0)], zero, "b") is None
    assert delay(SAMPLES, [look(0.2, {"a": 88, "b": 12})], "b") is None
