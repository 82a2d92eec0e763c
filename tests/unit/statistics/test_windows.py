"""Latency by windows of time."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import binom, hypergeom

from relevo.statistics.windows import (
    CHANCES,
    KEPT,
    compared,
    correlation,
    correlations,
    log_e_slower_in_windows,
    witnesses,
)


def test_agrees_with_the_formula() -> None:
    """The e-value is the weighted mean over p of (2p)^won (2(1-p))^lost."""
    logs = CHANCES.log_weights + 7 * np.log(2 * CHANCES.effects) + 3 * np.log(2 * (1 - CHANCES.effects))
    assert float(log_e_slower_in_windows(7, 3)) == pytest.approx(logsumexp(logs))


def test_the_mean_is_one_where_slower_and_faster_are_equally_likely() -> None:
    """Exactly, over all outcomes of 12 windows; below 1 where the candidate is slower in fewer than half, above where in more."""
    won = np.arange(13)
    e_values = np.exp(log_e_slower_in_windows(won, 12 - won))
    assert float(binom.pmf(won, 12, 0.5) @ e_values) == pytest.approx(1)
    assert float(binom.pmf(won, 12, 0.4) @ e_values) < 1
    assert float(binom.pmf(won, 12, 0.6) @ e_values) > 1


@pytest.mark.parametrize("rate", [0.6, 0.5, 0.25, 0.1, 0.05, 0.01, 0.001])
@pytest.mark.parametrize("candidate", [10, 11, 20, 41])
@pytest.mark.parametrize("times", [1, 1.03, 1.4, 2.2, 3, 19])
def test_an_equal_candidate_wins_no_more_windows_than_it_loses(rate: float, candidate: int, times: float) -> None:
    """Exact for independent requests, at all rates at which thresholds are bet on, with as many or fewer requests to the candidate."""
    stable = round(candidate * times)
    over_stable, over_candidate = np.arange(stable + 1)[:, None], np.arange(candidate + 1)
    chance = binom.pmf(over_stable, stable, rate) * binom.pmf(over_candidate, candidate, rate)
    verdict = compared(np.array(stable), np.array(candidate), over_stable, over_candidate)
    assert chance[verdict > 0].sum() <= chance[verdict < 0].sum() + 1e-12


@pytest.mark.parametrize(("rate", "most"), [(0.5, 0.02), (0.25, 0.02), (0.1, 0.02), (0.01, 0.12)])
def test_with_most_of_the_traffic_it_wins_hardly_more(rate: float, most: float) -> None:
    """At weights above one half the same holds up to a little: by how much is exact, and bounded here."""
    for stable, candidate in ((40, 41), (40, 55), (40, 70), (20, 60), (10, 90)):
        over_stable, over_candidate = np.arange(stable + 1)[:, None], np.arange(candidate + 1)
        chance = binom.pmf(over_stable, stable, rate) * binom.pmf(over_candidate, candidate, rate)
        verdict = compared(np.array(stable), np.array(candidate), over_stable, over_candidate)
        assert chance[verdict > 0].sum() - chance[verdict < 0].sum() <= most


def test_who_was_slower_in_a_window() -> None:
    """By more than half a request of the arm that has fewer; equal shares are a tie, also where they are no round fractions."""
    assert compared(100, 10, 20, 3) == 1
    assert compared(100, 10, 26, 3) == 0
    assert compared(100, 10, 31, 3) == -1
    assert compared(30, 10, 9, 3) == 0
    assert compared(10, 10, 3, 4) == 1
    assert compared(10, 100, 3, 34) == 0
    assert compared(10, 100, 3, 36) == 1


def test_it_holds_given_how_many_were_slow_in_the_window() -> None:
    """Given any total of slow requests of up to half of all, as where the load makes both arms slow at once, with equal arms."""
    for slow in range(1, 41):
        over = np.arange(min(slow, 20) + 1)
        chance = hypergeom.pmf(over, 40, slow, 20)
        assert chance[2 * over > slow].sum() == pytest.approx(chance[2 * over < slow].sum())


def test_false_alarms_are_rarer_than_alpha_where_requests_are_independent() -> None:
    """Over 300 windows with changing sizes, at most alpha of healthy candidates ever cross 1/alpha; a slower one does."""
    rng = np.random.default_rng(4)
    runs, windows = 600, 300
    stable = np.repeat([190, 73, 22, 10], windows // 4)
    for rate, expected in ((0.25, (0.0, 0.05 + 3 * np.sqrt(0.05 * 0.95 / runs))), (0.4, (0.9, 1.0))):
        over_stable, over = rng.binomial(stable, 0.25, (runs, windows)), rng.binomial(10, rate, (runs, windows))
        verdict = compared(stable, np.array(10), over_stable, over)
        won, lost = (verdict > 0).cumsum(axis=1), (verdict < 0).cumsum(axis=1)
        crossed = (log_e_slower_in_windows(won, lost) >= np.log(20)).any(axis=1).mean()
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
        assert np.mean(found) == pytest.approx(r, abs=0.09)
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


def test_bad_input_is_named() -> None:
    """A wrong argument raises ValueError with the argument's name."""
    for won, lost, name in (([1, 2], [1], "lost"), (-1, 2, "won"), (1, np.inf, "lost")):
        with pytest.raises(ValueError, match=name):
            log_e_slower_in_windows(won, lost)
