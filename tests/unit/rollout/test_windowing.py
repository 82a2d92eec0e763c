"""When a window closes, and what it says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevo.rollout.state import dump_state, load_state
from relevo.rollout.windowing import reference, with_counts
from relevo.rollout.windows import Windows
from relevo.statistics.windows import RATIOS, log_factor
from tests.unit.rollout.world import Behaviour, World, make_spec

RATES = (0.5, 0.25)
NOTHING = (0.0,) * len(RATIOS)


def test_a_window_closes_when_both_arms_have_enough_answers() -> None:
    """Nothing is said before; then every threshold's bets win or lose, and the next window begins there."""
    windows = with_counts(Windows(), "1", (90, 9, 45, 9, 20, 4), RATES, 10)
    assert (windows.closed, windows.log_e) == (0, 0.0)
    windows = with_counts(windows, "1", (100, 10, 50, 10, 25, 2), RATES, 10)
    assert windows.closed == 1
    assert windows.log_capitals == (log_factor(100, 10, 50, 10), log_factor(100, 10, 25, 2))
    assert windows.log_capitals[0][0] > 0 > windows.log_capitals[1][0]
    assert windows.opened == (100, 10, 50, 10, 25, 2)
    assert windows.differences == (2 / 10 - 25 / 100,)
    assert with_counts(windows, "1", (190, 19, 50, 10, 25, 2), RATES, 10).closed == 1


def test_a_window_that_has_lasted_long_enough_closes_with_one_answer_of_each() -> None:
    """A revision that answers seldom is a witness at each of its answers; sooner, or without an answer of it, nothing is said."""
    began, second = datetime(2026, 1, 1, tzinfo=UTC), timedelta(seconds=1)

    def look(windows: Windows, counted: tuple[int, ...], at: float) -> Windows:
        return with_counts(windows, "1", counted, RATES, 10, longest=second, now=began + at * second)

    opened = look(Windows(), (0, 0, 0, 0, 0, 0), 0)
    assert look(opened, (90, 1, 45, 1, 20, 1), 0.9) == opened
    assert look(opened, (90, 0, 45, 0, 20, 0), 1.5) == opened
    closed = look(opened, (90, 1, 45, 1, 20, 1), 1.5)
    assert (closed.closed, closed.log_capitals) == (1, (log_factor(90, 1, 45, 1), log_factor(90, 1, 20, 1)))
    assert look(closed, (180, 2, 90, 2, 40, 2), 2.4).closed == 1, "the next second begins where this window closed"
    assert look(closed, (180, 2, 90, 2, 40, 2), 2.5).closed == 2


def test_the_capital_multiplies_from_window_to_window() -> None:
    """The logs of the factors add up."""
    windows = with_counts(Windows(), "1", (20, 10, 10, 10, 5, 9), RATES, 10)
    windows = with_counts(windows, "1", (40, 20, 20, 20, 10, 18), RATES, 10)
    assert windows.log_capitals[1] == pytest.approx([2 * x for x in log_factor(20, 10, 5, 9)])


def test_a_window_lies_in_one_step() -> None:
    """What a step's last window has not filled is dropped, and the next step's counts begin at nothing."""
    windows = with_counts(Windows(), "1", (100, 9, 0, 9, 0, 9), RATES, 10)
    windows = with_counts(windows, "2", (5, 1, 0, 1, 0, 1), RATES, 10)
    assert windows.closed == 0
    windows = with_counts(windows, "2", (20, 10, 0, 10, 0, 10), RATES, 10)
    assert windows.log_capitals[0] == log_factor(20, 10, 0, 10)


def test_a_threshold_that_the_stable_revision_has_outgrown_is_not_bet_on() -> None:
    """Whether it is bet on is known before the window: by what the stable revision did before it, or usually does."""
    windows = with_counts(Windows(), "1", (100, 10, 90, 8, 20, 1), RATES, 10)
    assert windows.log_capitals[0] == log_factor(100, 10, 90, 8)  # known only now
    after = with_counts(windows, "1", (200, 20, 180, 18, 40, 1), RATES, 10)
    assert after.log_capitals[0] == windows.log_capitals[0]
    assert after.log_capitals[1] != windows.log_capitals[1]


def test_counts_that_fall_open_the_window_anew() -> None:
    """Counts that were taken back are compared with nothing."""
    windows = with_counts(Windows(), "1", (9, 9, 1, 1, 1, 1), RATES, 10)
    fallen = with_counts(windows, "1", (11, 11, 2, 0, 2, 2), RATES, 10)
    again = with_counts(fallen, "1", (5, 5, 0, 0, 0, 0), RATES, 10)
    assert again.opened == (5, 5, 0, 0, 0, 0)
    assert again.log_capitals == fallen.log_capitals


def test_windows_that_are_all_alike_are_few_witnesses() -> None:
    """A candidate that is slow for a long while and fast for a long while has no more against it than a few windows say."""
    windows, alternating = Windows(), Windows()
    for n in range(1, 31):
        slow_run = 8 * min(n, 15)
        windows = with_counts(windows, "1", (10 * n, 10 * n, 4 * n, slow_run), (0.4,), 10)
        alternating = with_counts(alternating, "1", (10 * n, 10 * n, 4 * n, 8 * ((n + 1) // 2)), (0.4,), 10)
    assert windows.alike > 0.8
    assert alternating.alike < 0.1
    assert windows.log_capitals[0] == pytest.approx(alternating.log_capitals[0])
    assert abs(windows.log_e) < abs(alternating.log_e) / 5


def test_likeness_is_measured_at_the_threshold_that_a_quarter_exceeds() -> None:
    """Far out nothing happens, and at the median much is chance."""
    assert reference((0.5, 0.27, 0.1, 0.01)) == 1
    assert reference((0.01,)) == 0


def test_the_windows_live_in_the_state() -> None:
    """Written as JSON and read again they are the same, so that a restarted relevo goes on with them."""
    world = World(make_spec(), Behaviour(), seed=1)
    while world.state.step < 2:
        world.tick()
        world.pass_time(0.5)
    assert world.state.windows["locust"].closed > 5
    assert load_state(dump_state(world.state)) == world.state


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
