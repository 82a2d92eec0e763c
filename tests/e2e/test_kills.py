"""The operator's leading pod is deleted with force, at every phase and at random moments: another takes over, with the same verdict."""

from __future__ import annotations

from typing import Any

import pytest

from scripts.lab.faults import Kill, OperatorKiller
from scripts.lab.rollouts import Site
from scripts.lab.users import GatewayUsers
from scripts.lab.watching import Watch

from .judging import assert_clean, ended, failures

TAKE_OVER_SECONDS = 30.0
"""In which another replica holds the lease, even where two cores are busy many times over. Usually it is a few seconds."""
ROLLOUT_SECONDS = 420.0

WITHOUT_SHADOW = {"shadow": {"enabled": False}}
AT_EVERY_PHASE = [
    pytest.param("2-errors", WITHOUT_SHADOW, "RolledBack", {"Preparing", "Shifting", "RollingBack"}, id="errors"),
    pytest.param("2", {}, "Promoted", {"Preparing", "Shadowing", "Shifting", "Promoting"}, id="healthy"),
]
AT_RANDOM = [
    pytest.param("2-wrong", WITHOUT_SHADOW, "RolledBack", 4, id="wrong"),
    pytest.param(
        "2", {"strategy": {"canary": {"weights": [5, 20, 50], "stepSeconds": 30}}}, "Promoted", 24, id="healthy"
    ),
]
LEAST_AT_RANDOM = 20

killed_at_random: list[Kill] = []


@pytest.mark.parametrize(("version", "spec", "verdict", "phases"), AT_EVERY_PHASE)
def test_the_verdict_is_right_if_the_operator_is_killed_at_every_phase(
    site: Site, watch: Watch, users: GatewayUsers, version: str, spec: dict[str, Any], verdict: str, phases: set[str]
) -> None:
    """Each time that the Rollout comes to a phase or a step, the replica that brought it there is gone."""
    kills = _under_kills(site, watch, users, version, spec, verdict, most=10, transition=True)
    assert phases <= {kill.phase for kill in kills}


@pytest.mark.parametrize(("version", "spec", "verdict", "most"), AT_RANDOM)
def test_the_verdict_is_right_whenever_the_operator_is_killed(
    site: Site, watch: Watch, users: GatewayUsers, version: str, spec: dict[str, Any], verdict: str, most: int
) -> None:
    """A few seconds after somebody took over, that one is gone too."""
    killed_at_random.extend(_under_kills(site, watch, users, version, spec, verdict, most=most, transition=False))


def test_there_were_enough_kills_at_random() -> None:
    """So few that say nothing do not pass for a test."""
    if killed_at_random:
        assert len(killed_at_random) >= LEAST_AT_RANDOM


def _under_kills(
    site: Site,
    watch: Watch,
    users: GatewayUsers,
    version: str,
    spec: dict[str, Any],
    verdict: str,
    *,
    most: int,
    transition: bool,
) -> list[Kill]:
    """One rollout under kills, judged: no weight is ever wrong, no request fails but by the candidate's own answer, somebody takes over."""
    with OperatorKiller(site.lab, watch, most=most, transition=transition) as killer:
        site.roll_out(version, **spec)
        end = ended(watch, ROLLOUT_SECONDS)
    print(*killer.kills, sep="\n")
    assert end.phase == verdict, end.reason
    assert end.status["cause"] == "evidence"
    assert killer.problems == []
    assert killer.kills
    assert max(kill.seconds for kill in killer.kills) < TAKE_OVER_SECONDS
    assert failures(users, but_of=end.status["candidate"] if version == "2-errors" else "") == []
    assert_clean(watch)
    return killer.kills
