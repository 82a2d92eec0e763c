"""Latency by windows of time."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, hypergeom

from relevo.statistics.windows import (
    KEPT,
    RARE,
    RATIOS,
    compared,
    correlation,
    correlations,
    log_e_of_windows,
    log_factor,
    log_factors,
    witnesses,
)

ARMS = [(10, 10), (21, 20), (41, 40), (14, 10), (22, 10), (30, 10), (190, 10), (180, 20)]
RATES = [0.6, 0.5, 0.25, 0.1, 0.05, 0.01, 0.001]


def _tables(stable: int, candidate: int, rate: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Slow requests of both arms, and the chance of each table where requests are independent."""
    over_stable, over_candidate = (g.ravel() for g in np.meshgrid(np.arange(stable + 1.0), np.arange(candidate + 1.0)))
    return (
        over_stable,
        over_candidate,
        binom.pmf(over_stable, stable, rate) * binom.pmf(over_candidate, candidate, rate),
    )


def _factors(stable: int, candidate: int, over_stable: np.ndarray, over_candidate: np.ndarray) -> np.ndarray:
    return np.exp(log_factors(np.array(float(stable)), np.array(float(candidate)), over_stable, over_candidate))


@pytest.mark.parametrize(("stable", "candidate"), ARMS)
@pytest.mark.parametrize("rate", RATES)
def test_the_mean_factor_of_an_equal_candidate_is_at_most_one(rate: float, stable: int, candidate: int) -> None:
    """Exactly, for every bet and at all rates at which thresholds are bet on, with as many or fewer requests to the candidate."""
    over_stable, over_candidate, chance = _tables(stable, candidate, rate)
    mean = chance @ _factors(stable, candidate, over_stable, over_candidate)
    assert (mean <= 1 + 1e-9).all()


@pytest.mark.parametrize(("stable", "candidate"), ARMS)
def test_a_slower_candidate_makes_the_capital_grow(stable: int, candidate: int) -> None:
    """Over the threshold ten times as often, the best of the bets gains in every window on average, also far out in the tail."""
    for rate in (0.05, 0.01):
        over_stable, over_candidate, _ = _tables(stable, candidate, rate)
        chance = binom.pmf(over_stable, stable, rate) * binom.pmf(over_candidate, candidate, 10 * rate)
        growth = chance @ np.log(_factors(stable, candidate, over_stable, over_candidate))
        assert growth.max() > 0.05


@pytest.mark.parametrize(
    ("stable", "candidate", "most"), [(40, 41, 0.01), (40, 55, 0.03), (40, 70, 0.03), (20, 60, 0.05), (10, 90, 0.1)]
)
def test_with_most_of_the_traffic_it_wins_hardly_more(stable: int, candidate: int, most: float) -> None:
    """At weights above one half the mean factor may be above 1 by a little: by how much is exact, and bounded here."""
    for rate in RATES:
        over_stable, over_candidate, chance = _tables(stable, candidate, rate)
        assert (chance @ _factors(stable, candidate, over_stable, over_candidate)).max() <= 1 + most


def _clumped(stable: int, candidate: int, rate: float) -> np.ndarray:
    """The mean factors, by simulation, where the rate of slow requests is another in each window of each arm (beta, concentration 10)."""
    rng = np.random.default_rng(3)
    rates = rng.beta(rate * 10, (1 - rate) * 10, (2, 60_000))
    over_stable, over_candidate = rng.binomial(stable, rates[0]), rng.binomial(candidate, rates[1])
    return _factors(stable, candidate, over_stable.astype(float), over_candidate.astype(float)).mean(axis=0)


def test_slow_requests_that_come_in_clumps_of_one_arm_do_no_harm_near_the_middle() -> None:
    """As in a queue: the mean factor stays at most 1 at the common thresholds, and everywhere where the arms are equal."""
    for stable, candidate, rate in ((190, 10, 0.25), (30, 10, 0.1), (40, 40, 0.25), (40, 40, 0.02), (40, 40, 0.01)):
        assert (_clumped(stable, candidate, rate) <= 1.01).all()


def test_in_the_tail_clumps_do_little_harm() -> None:
    """Many times as many requests to the stable arm and few slow ones: the mean factor is above 1, for small bets by a little."""
    for stable, candidate, rate in ((190, 10, 0.01), (190, 10, 0.001), (30, 10, 0.01), (190, 10, 0.05)):
        mean = _clumped(stable, candidate, rate)
        assert (mean[:3] <= 1.15).all()
        assert mean.mean() <= 1.3


def test_the_chance_that_any_slow_request_is_the_candidates_is_exact() -> None:
    """That of drawing none of its requests among the slow ones, without replacement."""
    stable, candidate, over = 190, 10, 5
    chance = 1 - hypergeom.pmf(0, stable + candidate, candidate, over)
    assert over * candidate / (stable + candidate) < RARE
    assert log_factor(stable, candidate, 4, 1) == pytest.approx(np.log(RATIOS / (1 - chance + chance * RATIOS)))
    assert log_factor(stable, candidate, 5, 0) == pytest.approx(-np.log(1 - chance + chance * RATIOS))
    assert log_factor(stable, candidate, 0, 0) == (0.0,) * len(RATIOS)


def test_who_was_slower_in_a_window() -> None:
    """By more than half a request of the arm that has fewer; equal shares are a tie, also where they are no round fractions."""
    for *window, verdict in (
        (100, 10, 20, 3, 1),
        (100, 10, 26, 3, 0),
        (100, 10, 31, 3, -1),
        (30, 10, 9, 3, 0),
        (10, 10, 3, 4, 1),
        (10, 100, 3, 34, 0),
        (10, 100, 3, 36, 1),
    ):
        assert compared(*(np.array(float(n)) for n in window)) == verdict


@given(st.integers(1, 400), st.integers(1, 400), st.floats(0, 1), st.floats(0, 1))
def test_many_windows_at_once_are_as_each_by_itself(stable: int, candidate: int, slow: float, slower: float) -> None:
    """The arrays of the simulation and the numbers of a decision are the same."""
    over_stable, over_candidate = round(slow * stable), round(slower * candidate)
    window = (stable, candidate, over_stable, over_candidate)
    together = log_factors(*(np.array(float(n)) for n in window))
    assert together == pytest.approx(log_factor(*window), abs=1e-9)


def test_the_capitals_are_averaged_over_bets_and_thresholds() -> None:
    """Without windows the e-value is 1; capital that one threshold has won is shared with the others."""
    none = (0.0,) * len(RATIOS)
    assert log_e_of_windows((none, none)) == pytest.approx(0)
    won = tuple(np.log(RATIOS).tolist())
    assert math.exp(log_e_of_windows((won, none))) == pytest.approx((RATIOS.mean() + 1) / 2)
    for wrong in ((), ((0.0,),)):
        with pytest.raises(ValueError, match="log_capitals"):
            log_e_of_windows(wrong)


def test_false_alarms_are_rarer_than_alpha_where_requests_are_independent() -> None:
    """Over 300 windows with changing sizes, at most alpha of healthy candidates ever cross 1/alpha; a slower one does."""
    rng = np.random.default_rng(4)
    runs, windows = 600, 300
    stable, candidate = np.repeat([190.0, 73.0, 22.0, 10.0], windows // 4), np.array(10.0)
    for slower, expected in ((1.0, (0.0, 0.05 + 3 * np.sqrt(0.05 * 0.95 / runs))), (1.8, (0.9, 1.0))):
        capitals = []
        for rate in (0.25, 0.05, 0.01):
            over = rng.binomial(10, rate * slower, (runs, windows))
            factors = log_factors(stable, candidate, rng.binomial(stable.astype(int), rate, (runs, windows)), over)
            capitals.append(factors.cumsum(axis=1))
        e_values = np.exp(np.stack(capitals)).mean(axis=(0, -1))
        crossed = (e_values >= 20).any(axis=1).mean()
        assert expected[0] <= crossed <= expected[1]


def test_alike_neighbours_are_fewer_witnesses() -> None:
    """The correlation of an AR(1) series is found again, and as the theory has it (1 - r) / (1 + r) of its windows are witnesses."""
    rng = np.random.default_rng(5)
    for r in (0.0, 0.5, 0.8):
        found = []
        for _ in range(400):
            series = [rng.normal()]
            for _ in range(KEPT - 1):
                series.append(r * series[-1] + np.sqrt(1 - r * r) * rng.normal())
            found.append(correlation(series))
        assert np.mean(found) == pytest.approx(r, abs=0.12)
    assert witnesses(0.0) == 1
    assert witnesses(0.5) == pytest.approx(1 / 3)


def test_a_steady_difference_is_not_a_busy_period() -> None:
    """That the candidate is slower by the same in every window, more or less, does not make its windows alike."""
    rng = np.random.default_rng(6)
    assert correlation((0.3 + 0.01 * rng.normal(size=KEPT)).tolist()) < 0.4
    assert correlation([0.3] * KEPT) == pytest.approx(1 / KEPT)
    assert correlation([0.1, 0.9]) == 0


def test_many_series_at_once_are_as_each_by_itself() -> None:
    """With any number of windows known so far."""
    rng = np.random.default_rng(7)
    series, count = rng.normal(size=(KEPT + 1, KEPT)), np.arange(KEPT + 1.0)
    together = correlations(series, count)
    alone = [correlation(row[KEPT - int(n) :].tolist()) for row, n in zip(series, count, strict=True)]
    assert together == pytest.approx(alone)
