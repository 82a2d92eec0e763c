"""The estimate and the interval of the risk ratio."""

from __future__ import annotations

import numpy as np
import pytest

from relevo.statistics.confidence import ratio_estimate, ratio_interval


def test_estimate_of_one_step_is_the_ratio_of_the_odds():
    """With one share of traffic the estimate is (candidate / rho) / (stable / (1 - rho))."""
    assert float(ratio_estimate([[9, 31]], 0.1)) == pytest.approx(31.0)
    assert float(ratio_estimate([[20, 20]], 0.5)) == pytest.approx(1.0)


def test_estimate_without_events_in_an_arm():
    """No bad event in the candidate: 0; none in the stable arm: infinite; none at all: unknown."""
    estimate = ratio_estimate([[[5, 0]], [[0, 5]], [[0, 0]]], 0.1)
    assert estimate[0] == 0
    assert estimate[1] == np.inf
    assert np.isnan(estimate[2])


def test_estimate_weighs_steps_by_their_shares():
    """Over several shares the estimate makes the expected number of the candidate's bad events the observed one."""
    bad, rho = np.array([[90, 31], [40, 60]]), np.array([0.1, 0.4])
    ratio = float(ratio_estimate(bad, rho))
    expected = (bad.sum(axis=1) * rho * ratio / (rho * ratio + 1 - rho)).sum()
    assert expected == pytest.approx(91)


def test_interval_holds_the_estimate_and_is_open_where_an_arm_has_no_event():
    """The interval encloses the estimate; without events of an arm its end is 0 or infinite, and never nan."""
    bad = np.array([[[9, 31]], [[5, 0]], [[0, 5]], [[0, 0]], [[100000, 1]], [[10**7, 10**7]]])
    low, high = ratio_interval(bad, 0.1)
    assert 5 < low[0] < 31 < high[0] < 200
    assert low[1] == 0
    assert 0 < high[1] < np.inf
    assert low[2] > 0
    assert high[2] == np.inf
    assert (low[3], high[3]) == (0, np.inf)
    assert not np.isnan(low).any()
    assert not np.isnan(high).any()
    assert high[5] / low[5] < 1.02


def test_interval_narrows_with_events_and_widens_with_confidence():
    """Ten times the events give a narrower interval, and a smaller alpha a wider one inside which the other lies."""
    low, high = ratio_interval([[90, 31]], 0.1)
    more_low, more_high = ratio_interval([[900, 310]], 0.1)
    sure_low, sure_high = ratio_interval([[90, 31]], 0.1, alpha=0.001)
    assert sure_low < low < more_low < more_high < high < sure_high


def test_exchanging_arms_inverts_the_interval():
    """With arms and shares exchanged the interval is that of the inverse ratio."""
    low, high = ratio_interval([[40, 31], [10, 9]], [0.1, 0.3])
    other_low, other_high = ratio_interval([[31, 40], [9, 10]], [0.9, 0.7])
    assert other_low == pytest.approx(1 / high, rel=1e-6)
    assert other_high == pytest.approx(1 / low, rel=1e-6)


def test_steps_with_one_arm_only_are_left_out():
    """Bad events from steps with rho 0 or 1 do not move the interval."""
    assert ratio_interval([[9, 31]], 0.1) == ratio_interval([[500, 0], [9, 31], [0, 70]], [0.0, 0.1, 1.0])


@pytest.mark.parametrize("ratio", [0.5, 1.0, 4.0])
def test_interval_covers_at_all_looks_at_once(ratio):
    """Over 150 looks with changing shares, the true ratio is ever outside in at most alpha of the runs."""
    rng = np.random.default_rng(3)
    runs, looks, rho = 300, 150, np.array([0.05, 0.2, 0.5])
    step = np.repeat([0, 1, 2], looks // 3)
    candidate = rng.binomial(3, (rho * ratio / (rho * ratio + 1 - rho))[step], (runs, looks))
    bad = np.zeros((runs, looks, 3, 2))
    bad[:, np.arange(looks), step, 0] = 3 - candidate
    bad[:, np.arange(looks), step, 1] = candidate
    low, high = ratio_interval(bad.cumsum(axis=1)[:, 4::5], rho, alpha=0.1)
    missed = ((low > ratio) | (high < ratio)).any(axis=1).mean()
    assert missed <= 0.1 + 3 * np.sqrt(0.1 * 0.9 / runs)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: ratio_interval([[1, -1]], 0.1), "bad"),
        (lambda: ratio_interval([[1, 1]], 2.0), "rho"),
        (lambda: ratio_interval([[1, 1]], 0.1, alpha=0.0), "alpha"),
        (lambda: ratio_interval([[1, 1]], 0.1, alpha=1.0), "alpha"),
        (lambda: ratio_estimate([1, 1], 0.1), "bad"),
    ],
)
def test_bad_input_is_named(call, named):
    """A wrong argument raises ValueError with the argument's name."""
    with pytest.raises(ValueError, match=named):
        call()
