"""The operator's leading pod is deleted with force, at every phase and at random moments: another takes over, with the same verdict."""

from __future__ import annotations

import pytest

from scripts.lab.faults import OperatorKiller
from scripts.lab.rollouts import Site
from scripts.lab.users import GatewayUsers
from scripts.lab.watching import Watch

from .judging import assert_clean, ended, failures

TAKE_OVER_SECONDS = 15.0
"""In which another replica holds the lease, on two busy cores."""
PHASES = {
    "2": {"Preparing", "Shadowing", "Shifting", "Promoting"},
    "2-errors": {"Preparing", "Shifting", "RollingBack"},
}


@pytest.mark.parametrize(
    ("version", "spec", "verdict", "transition", "most"),
    [
        ("2-errors", {"shadow": {"enabled": False}}, "RolledBack", True, 8),
        ("2-wrong", {}, "RolledBack", False, 6),
        ("2", {}, "Promoted", True, 8),
        ("2", {}, "Promoted", False, 14),
    ],
    ids=["errors-at-every-phase", "wrong-at-random", "healthy-at-every-phase", "healthy-at-random"],
)
def test_the_verdict_is_right_whenever_the_operator_is_killed(
    site: Site,
    watch: Watch,
    users: GatewayUsers,
    version: str,
    spec: dict[str, object],
    verdict: str,
    transition: bool,
    most: int,
) -> None:
    """No weight is ever wrong, no user's request fails but by the candidate's own answer, and somebody takes over each time."""
    with OperatorKiller(site.lab, watch, most=most, transition=transition) as killer:
        site.roll_out(version, **spec)
        end = ended(watch, 420)
    assert end.phase == verdict, end.reason
    assert end.status["cause"] == "evidence"
    assert killer.problems == []
    assert killer.kills
    assert max(kill.seconds for kill in killer.kills) < TAKE_OVER_SECONDS
    if transition:
        assert PHASES[version] <= {kill.phase for kill in killer.kills}
    print(*(f"{kill.phase}: taken over after {kill.seconds:.1f} s" for kill in killer.kills), sep="\n")
    assert failures(users, but_of=end.status["candidate"] if version == "2-errors" else "") == []
    assert_clean(watch)
