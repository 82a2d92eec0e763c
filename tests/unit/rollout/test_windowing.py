"""When a window closes, and what it says."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relevo.rollout.state import dump_state, load_state
from relevo.rollout.windowing import reference, with_counts
from relevo.rollout.windows import Windows
from tests.unit.rollout.world import Behaviour, World, make_spec

RATES = (0.5, 0.25)


def _counts(stable: int, candidate: int, *over: int) -> tuple[int, ...]:
    return (stable, candidate, *over)


def test_a_window_closes_when_both_arms_have_enough_answers() -> None:
    """Nothing is said before; then who had the larger share over each threshold, and the next window begins there."""
    windows = with_counts(Windows(), "1", _counts(90, 9, 45, 9, 20, 4), RATES, 10)
    assert windows.slower == windows.faster == (0, 0)
    windows = with_counts(windows, "1", _counts(100, 10, 50, 10, 25, 2), RATES, 10)
    assert (windows.slower, windows.faster) == ((1, 0), (0, 1))
    assert windows.opened == _counts(100, 10, 50, 10, 25, 2)
    assert windows.differences == (2 / 10 - 25 / 100,)
    assert with_counts(windows, "1", _counts(190, 19, 50, 10, 25, 2), RATES, 10).slower == (1, 0)


def test_equal_shares_say_nothing() -> None:
    """A tie is a tie, also where the shares are no round fractions."""
    windows = with_counts(Windows(), "1", _counts(30, 10, 9, 3, 0, 0), RATES, 10)
    assert windows.slower == windows.faster == (0, 0)
    assert windows.differences == (0.0,)


def test_a_window_lies_in_one_step() -> None:
    """What a step's last window has not filled is dropped, and the next step's counts begin at nothing."""
    windows = with_counts(Windows(), "1", _counts(100, 9, 0, 9, 0, 9), RATES, 10)
    windows = with_counts(windows, "2", _counts(5, 1, 0, 1, 0, 1), RATES, 10)
    assert windows.slower == (0, 0)
    windows = with_counts(windows, "2", _counts(20, 10, 0, 10, 0, 10), RATES, 10)
    assert windows.slower == (1, 1)


def test_a_threshold_that_the_stable_revision_has_outgrown_is_not_bet_on() -> None:
    """Whether it is bet on is known before the window: by what the stable revision did before it, or usually does."""
    windows = with_counts(Windows(), "1", _counts(100, 10, 90, 8, 20, 1), RATES, 10)
    assert windows.faster == (1, 1)  # known only now
    windows = with_counts(windows, "1", _counts(200, 20, 180, 18, 40, 1), RATES, 10)
    assert (windows.slower, windows.faster) == ((0, 0), (1, 2))


def test_counts_that_fall_open_the_window_anew() -> None:
    """Counts that were taken back are compared with nothing."""
    windows = with_counts(Windows(), "1", _counts(9, 9, 1, 1, 1, 1), RATES, 10)
    fallen = with_counts(windows, "1", _counts(11, 11, 2, 0, 2, 2), RATES, 10)
    again = with_counts(fallen, "1", _counts(5, 5, 0, 0, 0, 0), RATES, 10)
    assert again.opened == _counts(5, 5, 0, 0, 0, 0)
    assert again.slower == fallen.slower


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
    assert world.state.windows["locust"].differences
    assert load_state(dump_state(world.state)) == world.state


@given(st.lists(st.tuples(*(st.integers(0, 40) for _ in range(4))), min_size=1, max_size=60), st.integers(1, 30))
def test_every_window_counts_once(added: list[tuple[int, ...]], least: int) -> None:
    """Per threshold there are at most as many verdicts as windows, and each window has at least its answers."""
    windows, stable, candidate, over_stable, over_candidate, closed = Windows(), 0, 0, 0, 0, 0
    for more_stable, more_candidate, slow_stable, slow_candidate in added:
        stable, candidate = stable + more_stable, candidate + more_candidate
        over_stable += min(slow_stable, more_stable)
        over_candidate += min(slow_candidate, more_candidate)
        before = windows.opened
        windows = with_counts(windows, "1", _counts(stable, candidate, over_stable, over_candidate), (0.3,), least)
        if windows.opened != before and before:
            closed += 1
            assert min(windows.opened[0] - before[0], windows.opened[1] - before[1]) >= least
        elif windows.opened != before and any(windows.opened):
            closed += 1
    assert windows.slower[0] + windows.faster[0] <= closed
