"""When a window closes, and what it says."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevo.rollout.state import dump_state, load_state
from relevo.rollout.windowing import with_counts
from relevo.rollout.windows import Windows
from relevo.statistics.windows import ODDS, STEEPNESS, dealt, prior, rank_factor, standing, tail_factor
from tests.unit.rollout.world import Behaviour, World, make_spec

RATES = (0.5, 0.01)
RANKS = len(STEEPNESS)


def _product(*factors: tuple[float, ...]) -> list[float]:
    return [math.prod(each) for each in zip(*factors, strict=True)]


def _window(stable: int, candidate: int, over: tuple[int, int], rare: tuple[int, int]) -> tuple[float, ...]:
    """What one window multiplies each bet's capital by."""
    z = standing(stable, candidate, (over[0], rare[0]), (over[1], rare[1]))
    return (*rank_factor(z), *tail_factor(stable, candidate, *rare))


def test_a_window_closes_when_both_arms_have_enough_answers() -> None:
    """Nothing is said before; then every bet wins or loses, and the next window begins there."""
    windows = with_counts(Windows(), "1", (90, 9, 45, 9, 2, 4), RATES, 10)
    assert (windows.closed, windows.log_e) == (0, 0.0)
    windows = with_counts(windows, "1", (100, 10, 50, 10, 1, 0), RATES, 10)
    assert windows.closed == 1
    assert windows.capitals == pytest.approx(_product(prior(1), _window(100, 10, (50, 10), (1, 0))))
    assert windows.capitals[0] > prior(1)[0]
    assert windows.capitals[-1] < prior(1)[-1]
    assert windows.log_e == pytest.approx(math.log(sum(windows.capitals)))
    assert windows.opened == (100, 10, 50, 10, 1, 0)
    assert windows.scores == (pytest.approx(standing(100, 10, (50, 1), (10, 0))),)
    assert with_counts(windows, "1", (190, 19, 50, 10, 1, 0), RATES, 10).closed == 1


def test_a_window_that_has_lasted_long_enough_closes_with_one_answer_of_each() -> None:
    """A revision that answers seldom is a witness at each of its answers; sooner, or without an answer of it, nothing is said."""
    began, second = datetime(2026, 1, 1, tzinfo=UTC), timedelta(seconds=1)

    def look(windows: Windows, counted: tuple[int, ...], at: float) -> Windows:
        return with_counts(windows, "1", counted, RATES, 10, longest=second, now=began + at * second)

    opened = look(Windows(), (0, 0, 0, 0, 0, 0), 0)
    assert look(opened, (90, 1, 45, 1, 2, 1), 0.9) == opened
    assert look(opened, (90, 0, 45, 0, 2, 0), 1.5) == opened
    closed = look(opened, (90, 1, 45, 1, 2, 1), 1.5)
    assert closed.closed == 1
    assert closed.capitals == pytest.approx(_product(prior(1), _window(90, 1, (45, 1), (2, 1))))
    assert look(closed, (180, 2, 90, 2, 4, 2), 2.4).closed == 1, "the next second begins where this window closed"
    assert look(closed, (180, 2, 90, 2, 4, 2), 2.5).closed == 2


def test_the_capital_multiplies_from_window_to_window() -> None:
    """Each bet stakes all that it has; splitting the looks at a window changes nothing."""
    windows = with_counts(Windows(), "1", (20, 10, 10, 10, 1, 2), RATES, 10)
    windows = with_counts(windows, "1", (30, 14, 12, 12, 1, 2), RATES, 10)
    windows = with_counts(windows, "1", (40, 20, 20, 20, 2, 4), RATES, 10)
    factors = _window(20, 10, (10, 10), (1, 2))
    assert windows.closed == 2
    assert windows.capitals == pytest.approx(_product(prior(1), factors, factors))


def test_a_window_lies_in_one_step() -> None:
    """What a step's last window has not filled is dropped, and the next step's counts begin at nothing."""
    windows = with_counts(Windows(), "1", (100, 9, 0, 9, 0, 9), RATES, 10)
    windows = with_counts(windows, "2", (5, 1, 0, 1, 0, 1), RATES, 10)
    assert windows.closed == 0
    windows = with_counts(windows, "2", (20, 10, 5, 10, 0, 1), RATES, 10)
    assert windows.capitals == pytest.approx(_product(prior(1), _window(20, 10, (5, 10), (0, 1))))


def test_with_a_step_capital_is_dealt_anew_and_standings_start_at_their_mean() -> None:
    """So a fault that shows under load finds bets, and the jump that it makes is not taken for a busy period."""
    windows = Windows()
    for n in range(1, 7):
        windows = with_counts(windows, "1", (10 * n, 10 * n, 5 * n, 4 * n + n % 2, 0, 0), RATES, 10)
    after = with_counts(windows, "2", (0, 0, 0, 0, 0, 0), RATES, 10)
    assert after.capitals == pytest.approx(dealt(windows.capitals, prior(1)))
    assert sum(after.capitals) == pytest.approx(sum(windows.capitals))
    assert (after.fresh, after.closed, after.log_e) == (0, 6, windows.log_e)
    assert sum(after.scores) == pytest.approx(0)
    for n in range(1, 7):
        after = with_counts(after, "2", (10 * n, 10 * n, 4 * n, 9 * n + n % 2, 0, 0), RATES, 10)
    assert after.alike < 0.35


def test_a_rare_threshold_that_the_stable_revision_has_outgrown_is_not_bet_on() -> None:
    """Whether it is bet on is known before the window: by what the stable revision did before it, or usually does."""
    windows = with_counts(Windows(), "1", (100, 10, 95, 9, 90, 1), RATES, 10)
    assert windows.capitals[RANKS:] != pytest.approx(prior(1)[RANKS:])  # known only now
    after = with_counts(windows, "1", (200, 20, 190, 18, 180, 2), RATES, 10)
    assert after.capitals[RANKS:] == windows.capitals[RANKS:]
    assert after.capitals[:RANKS] != windows.capitals[:RANKS]


def test_common_thresholds_have_no_bets_of_their_own() -> None:
    """Ranks look at all of them; a source without rare ones bets all of its capital on ranks."""
    windows = with_counts(Windows(), "1", (20, 10, 10, 9, 5, 9), (0.5, 0.25), 10)
    assert windows.capitals == pytest.approx(_product(prior(0), rank_factor(standing(20, 10, (10, 5), (9, 9)))))
    assert len(prior(2)) == RANKS + 2 * len(ODDS)


def test_counts_that_fall_open_the_window_anew() -> None:
    """Counts that were taken back are compared with nothing."""
    windows = with_counts(Windows(), "1", (9, 9, 1, 1, 1, 1), RATES, 10)
    fallen = with_counts(windows, "1", (11, 11, 2, 0, 2, 2), RATES, 10)
    again = with_counts(fallen, "1", (5, 5, 0, 0, 0, 0), RATES, 10)
    assert again.opened == (5, 5, 0, 0, 0, 0)
    assert again.capitals == fallen.capitals


def test_windows_that_are_all_alike_are_few_witnesses() -> None:
    """A candidate that is slow for a long while and fast for a long while has no more against it than a few windows say."""
    windows, alternating = Windows(), Windows()
    for n in range(1, 31):
        slow_run = 8 * min(n, 15)
        windows = with_counts(windows, "1", (10 * n, 10 * n, 4 * n, slow_run), (0.4,), 10)
        alternating = with_counts(alternating, "1", (10 * n, 10 * n, 4 * n, 8 * ((n + 1) // 2)), (0.4,), 10)
    assert windows.alike > 0.8
    assert alternating.alike < 0.1
    assert sum(windows.capitals) == pytest.approx(sum(alternating.capitals))
    assert abs(windows.log_e) < abs(alternating.log_e) / 5


def test_the_windows_live_in_the_state() -> None:
    """Written as JSON and read again they are the same, so that a restarted relevo goes on with them."""
    world = World(make_spec(), Behaviour(), seed=1)
    while world.state.step < 2:
        world.tick()
        world.pass_time(0.5)
    assert world.state.windows["locust"].closed > 5
    assert load_state(dump_state(world.state)) == world.state


def test_windows_that_were_stored_before_ranks_begin_anew() -> None:
    """A rollout under way when relevo is brought up to date goes on: its windows keep their place and their bets start again."""
    world = World(make_spec(), Behaviour(), seed=1)
    while world.state.step < 2:
        world.tick()
        world.pass_time(0.5)
    stored = json.loads(dump_state(world.state))
    for windows in stored["windows"].values():
        for new in ("capitals", "scores", "fresh"):
            del windows[new]
        windows |= {"log_capitals": [[0.1] * 5] * 6, "differences": [0.01, -0.02], "log_e": 0.7}
    world.state = load_state(json.dumps(stored))
    before = world.state.windows["locust"]
    assert (before.capitals, before.scores) == ((), ())
    while world.state.windows["locust"].closed == before.closed:
        world.tick()
        world.pass_time(0.5)
    after = world.state.windows["locust"]
    assert len(after.scores) == 1
    assert 0 < sum(after.capitals) < 3


@given(st.lists(st.tuples(*(st.integers(0, 40) for _ in range(4))), min_size=1, max_size=60), st.integers(1, 30))
def test_every_window_has_its_answers(added: list[tuple[int, ...]], least: int) -> None:
    """Whatever comes when, each closed window has at least so many answers of each arm, and no answer is in two."""
    windows, counted, seen = Windows(), [0, 0, 0, 0], 0
    for more_stable, more_candidate, slow_stable, slow_candidate in added:
        more = (more_stable, more_candidate, min(slow_stable, more_stable), min(slow_candidate, more_candidate))
        counted = [a + b for a, b in zip(counted, more, strict=True)]
        before, windows = windows, with_counts(windows, "1", tuple(counted), (0.3,), least)
        if windows.closed > before.closed:
            opened = before.opened or (0,) * 4
            assert min(counted[0] - opened[0], counted[1] - opened[1]) >= least
            seen += counted[1] - opened[1]
            assert windows.opened == tuple(counted)
    assert seen <= counted[1]
    assert windows.closed * least <= seen or windows.closed == 0
