"""scripts.kills: every combination is met, and a page that does not hide what was wrong."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

from scripts.kills import _enough, _plan
from scripts.kills_results import Killed, Result, render
from scripts.soak_results import Cell

RESULT = Result(
    cell=Cell("iris", "healthy", True),
    way="transition",
    exit_code=0,
    expected=0,
    seconds=50.0,
    phase="Promoted",
    cause="evidence",
    kills=(Killed("Preparing", True), Killed("Shifting", False)),
    looks=900,
    longest_gap_seconds=0.2,
    between=0,
    slow=0,
    requests=1000,
    failed_by_design=0,
    failed_otherwise=0,
    problems=(),
)


def test_every_round_meets_every_combination_once() -> None:
    """Each scenario, with and without shadow, is killed in both ways before any is met again; one seed gives one order."""
    plan = _plan("iris", ["healthy", "errors"], (True, False), None, random.Random(1))
    rounds = [list(itertools.islice(plan, 8)) for _ in range(2)]
    assert all(len(set(one)) == 8 for one in rounds)
    again = _plan("iris", ["healthy", "errors"], (True, False), None, random.Random(1))
    assert list(itertools.islice(again, 8)) == rounds[0]


def test_it_ends_when_both_numbers_are_reached() -> None:
    """Enough kills do not end it before every combination was met, nor the other way round."""
    assert not _enough([RESULT] * 3, kills=2, combinations=4)
    assert not _enough([RESULT] * 4, kills=100, combinations=4)
    assert _enough([RESULT] * 4, kills=8, combinations=4)


def test_the_page_counts_kills_and_tells_what_was_wrong() -> None:
    """Kills are counted in all and while driving; a wrong verdict and a violation are both listed."""
    wrong = replace(RESULT, exit_code=10, phase="RolledBack", problems=("two has 5 %",), failed_otherwise=3)
    page = render([RESULT, wrong], command="c", commit="abc", seed=1)
    assert "4 kills in 2 rollouts; 2 met a process that drove" in page
    assert "1 of 2 rollouts ended" in page
    assert "exit code 10, expected 0" in page
    assert "two has 5 %" in page
    assert "| healthy | on | at transition | 2 | 4 | 1 of 2 |" in page


def test_the_right_verdict_with_a_violation_is_not_right() -> None:
    """A violation spoils a rollout whatever its verdict."""
    assert RESULT.right
    assert not replace(RESULT, problems=("weights 99",)).right
    assert not replace(RESULT, exit_code=-1).right
