"""The linter warns of policies that cannot work, and of no others."""

from __future__ import annotations

import math
from typing import Any

import pytest

from relevo.simulation.lint import lint, needs
from relevo.simulation.traffic import Traffic
from tests.unit.simulation.replay import EDGES, make_spec


def _lint(rate: float = 200, error_rate: float = 0.005, wrong_rate: float | None = 0.05, **fields: Any) -> str:
    return "\n".join(lint(make_spec(**fields), Traffic(rate, error_rate, EDGES, wrong_rate=wrong_rate)))


def test_the_defaults_work_at_a_brisk_pace() -> None:
    """With 200 requests per second the default policy has nothing to warn of."""
    assert _lint() == ""


def test_too_little_traffic_is_told_with_how_long_it_takes() -> None:
    """With 5 requests per second the proof takes longer than the rollout lasts."""
    assert "and the last step needs 20 minutes to prove errors no worse" in _lint(rate=5)
    assert "to prove errors no worse" in _lint(rate=5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"wrong_rate": None}, "no labels"),
        ({"shadow": {"maxDisagreement": 0.02}}, "shadow stage never ends"),
        ({"strategy": {"canary": {"weights": [10, 100]}}}, "nothing to compare with"),
        ({"tickSeconds": 10, "limits": {"evidenceTimeoutSeconds": 5}}, "tickSeconds"),
        ({"limits": {"maxSeconds": 3}}, "the ramp alone takes"),
        ({"limits": {"maxCandidateRequests": 100}}, "maxCandidateRequests"),
        (
            {
                "rate": 20,
                "limits": {"maxSeconds": 60},
                "strategy": {"canary": {"weights": [1]}},
                "shadow": {"enabled": False},
            },
            "is not found within",
        ),
        (
            {"shadow": {"enabled": False}, "checks": {"latency": {"window": 300}}},
            "time for 2 windows of checks.latency.window answers, and a slower candidate must lose at least 7",
        ),
    ],
)
def test_each_impossible_setting_is_named(fields: dict[str, Any], message: str) -> None:
    """A setting with which no rollout can work is told by its name."""
    assert message in _lint(**fields)


def test_a_proof_takes_longer_the_stricter_the_margin() -> None:
    """The time to a proof falls as the margin grows, and is infinite where there are no labels."""
    traffic = Traffic(100, 0.02, EDGES, wrong_rate=None)
    strict, lax = (needs(make_spec(checks={"errors": {"margin": m}}), traffic) for m in (1.5, 4.0))
    assert strict.proof_seconds["errors"] > lax.proof_seconds["errors"]
    assert math.isinf(strict.seconds)
