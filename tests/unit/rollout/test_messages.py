"""The sentences of a verdict, on the simulated world."""

from __future__ import annotations

import re

import pytest

from tests.unit.rollout.world import Behaviour, World, make_spec

E_VALUES = r"e-value [\d.,e]+, limit 20\)\."
COUNTS = (
    r"iris-predictor-00002 {} [\d,]+ of [\d,]+ requests, iris-predictor-00001 [\d,]+ of [\d,]+: "
    r"[\d.,]+ times as often \(95 % interval [\d.,]+ to [\d.,]+; " + E_VALUES
)


@pytest.mark.parametrize(
    ("bad", "check", "event"),
    [
        (Behaviour(errors=0.1), "errors", "failed"),
        (Behaviour(median_ms=40), "latency", r"took over [\d.]+ ms \(the candidate: over [\d.]+ ms\)"),
        (Behaviour(wrong=0.3), "accuracy", "answered wrongly"),
        (Behaviour(shares=(0.7, 0.2, 0.1)), "predictions", "predicted class [012] for"),
    ],
)
def test_a_rollback_says_which_check_how_many_requests_and_the_effect_with_its_interval(
    bad: Behaviour, check: str, event: str
) -> None:
    """One sentence: the check, the counts of both arms, the ratio with its interval, the e-value and its limit, then who was exposed."""
    world = World(make_spec(shadow={"enabled": False}), bad, seed=2)
    state = world.run()
    pattern = rf"{check}\. {COUNTS.format(event)} [\d,]+ users' requests reached it at up to \d+ %\."
    assert re.fullmatch(pattern, state.reason), state.reason


def test_a_rollback_for_disagreement_gives_the_share_and_its_interval() -> None:
    """Shadowed rows that are answered differently are told with their share, its interval and the limit."""
    state = World(make_spec(), Behaviour(), disagreement=0.4, seed=3).run()
    pattern = (
        r"predictions\. iris-predictor-00002 answered \d+ of \d+ shadowed rows differently from iris-predictor-00001: [\d.]+ % "
        r"\(95 % interval [\d.]+ to [\d.]+ %; limit 15 %; " + E_VALUES + r" No user's request reached it\."
    )
    assert re.fullmatch(pattern, state.reason), state.reason


def test_a_promotion_says_what_was_proven_over_how_many_requests() -> None:
    """Each gated check is named with its e-value, and what each needed."""
    state = World(make_spec(), Behaviour(), seed=1).run()
    pattern = (
        r"iris-predictor-00002 is no worse than iris-predictor-00001 over [\d,]+ requests: errors \(e-value [\d.,e]+\), "
        r"latency \(e-value [\d.,e]+\), predictions \(e-value [\d.,e]+\), accuracy \(e-value [\d.,e]+\); each needed 20\."
    )
    assert re.fullmatch(pattern, state.reason), state.reason


def test_the_audit_log_tells_how_alike_neighbouring_windows_were() -> None:
    """Per source, how many windows of latency were compared, and how far requests queue."""
    world = World(make_spec(), Behaviour(), seed=1)
    world.run()
    last = next(t for d in reversed(world.decisions) for t in d.transitions if t.rule == "evidence")
    windows = last.facts["latency"]["windows"]
    assert set(windows) == set(world.state.thresholds)
    assert all(w["compared"] > 0 and 0 <= w["alike"] < 1 for w in windows.values())
