"""Latency by windows of time."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, hypergeom, mannwhitneyu

from relevo.statistics.windows import (
    DEALT_ANEW,
    KEPT,
    ODDS,
    RANKS_SHARE,
    RARE,
    STEEPNESS,
    compared,
    correlation,
    correlations,
    dealt,
    prior,
    rank_factor,
    rank_factors,
    standing,
    standings,
    tail_factor,
    tail_factors,
    witnesses,
)

ARMS = [(10, 10), (21, 20), (41, 40), (14, 10), (22, 10), (30, 10), (190, 10), (180, 20)]
RATES = [0.6, 0.5, 0.25, 0.1, 0.05, 0.01, 0.001]
USUAL = (0.75, 0.5, 0.25, 0.1, 0.05, 0.01, 0.001)
"""How often the stable revision exceeds the default policy's thresholds."""


def _drawn(rng: np.random.Generator, n: int, rates: tuple[float, ...], runs: int) -> np.ndarray:
    """Of `n` requests, how many are over thresholds that are exceeded at these falling rates; (runs, thresholds)."""
    between = rng.multinomial(n, -np.diff((1.0, *rates, 0.0)), runs)
    return between[:, :0:-1].cumsum(axis=1)[:, ::-1].astype(float)


def _of_all(n: int, runs: int) -> np.ndarray:
    return np.full(runs, float(n))


def _all_windows(n: int, buckets: int) -> list[tuple[int, ...]]:
    """All ways in which `n` requests can fall into so many buckets."""
    return [counts for counts in product(range(n + 1), repeat=buckets) if sum(counts) == n]


def _chance(counts: tuple[int, ...], shares: tuple[float, ...]) -> float:
    ways = math.factorial(sum(counts)) / math.prod(math.factorial(c) for c in counts)
    return ways * math.prod(p**c for p, c in zip(shares, counts, strict=True))


def _over(counts: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sum(counts[k:]) for k in range(1, len(counts)))


@pytest.mark.parametrize("shares", [(0.5, 0.3, 0.2), (0.8, 0.15, 0.05), (0.05, 0.15, 0.8)])
@pytest.mark.parametrize(("stable", "candidate", "most"), [(5, 5, 0.0), (3, 3, 0.0), (8, 4, 0.02), (4, 8, 0.02)])
def test_the_mean_factor_of_equal_arms_by_brute_force(
    stable: int, candidate: int, most: float, shares: tuple[float, ...]
) -> None:
    """Over every window there can be: exactly 1 where the arms have as many requests, and hardly more where they have not."""
    mean = np.zeros(len(STEEPNESS))
    for of_stable in _all_windows(stable, len(shares)):
        for of_candidate in _all_windows(candidate, len(shares)):
            z = standing(stable, candidate, _over(of_stable), _over(of_candidate))
            mean += _chance(of_stable, shares) * _chance(of_candidate, shares) * np.array(rank_factor(z))
    assert (mean <= 1 + most + 1e-12).all()
    if stable == candidate:
        assert mean == pytest.approx(np.ones(len(STEEPNESS)))


@pytest.mark.parametrize(("stable", "candidate"), [*ARMS, (40, 60), (20, 60), (20, 180)])
def test_ranks_are_fair_with_any_numbers_of_requests(stable: int, candidate: int) -> None:
    """At the default thresholds, also once the stable revision has become three times as slow, in 100,000 windows each."""
    rng, runs = np.random.default_rng(stable * 1000 + candidate), 100_000
    for rates in (USUAL, (0.97, 0.95, 0.85, 0.6, 0.45, 0.15, 0.03)):
        z = standings(
            _of_all(stable, runs), _of_all(candidate, runs),
            _drawn(rng, stable, rates, runs), _drawn(rng, candidate, rates, runs),
        )  # fmt: skip
        factors = rank_factors(z)
        error = factors.std(axis=0) / math.sqrt(runs)
        assert (factors.mean(axis=0) <= 1 + 4.5 * error).all()
        assert z.std() <= 1.0 + 4.5 / math.sqrt(runs)


def test_a_single_threshold_that_nearly_all_exceed_is_hardly_unfair() -> None:
    """The worst case of skew, nine times as many requests to the stable arm: the mean factor is above 1, by at most 0.025."""
    for rate in (0.9, 0.95, 0.98):
        over_stable, over_candidate, chance = _tables(180, 20, rate)
        z = standings(
            np.full(chance.shape, 180.0), np.full(chance.shape, 20.0), over_stable[:, None], over_candidate[:, None]
        )
        assert (chance @ rank_factors(z)).max() <= 1.025


def test_clumps_make_ranks_no_less_fair() -> None:
    """As in a queue, each window of each arm has a rate of its own: standings get larger, in both directions."""
    rng, runs = np.random.default_rng(3), 60_000
    for stable, candidate in ((40, 40), (180, 20)):
        z = []
        for _ in range(runs // 20):
            shifts = np.exp(rng.normal(0, 0.7, 2))
            over = [_drawn(rng, n, tuple(1 - (1 - np.array(USUAL)) ** (1 / s)), 20) for n, s in
                    zip((stable, candidate), shifts, strict=True)]  # fmt: skip
            z.append(standings(_of_all(stable, 20), _of_all(candidate, 20), *over)[0])
        factors = rank_factors(np.array(z))
        assert np.std(z) > 1.3
        assert (factors.mean(axis=0) <= 1 + 4.5 * factors.std(axis=0) / math.sqrt(len(z))).all()


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=2, max_size=8))
def test_a_standing_is_mann_and_whitneys_statistic(buckets: list[tuple[int, int]]) -> None:
    """As SciPy has it from the single requests, centred and in units of its standard deviation without ties."""
    stable, candidate = (tuple(pair[arm] for pair in buckets) for arm in (0, 1))
    n, m = sum(stable), sum(candidate)
    if not (n and m):
        return
    values = [np.repeat(np.arange(len(buckets)), counts) for counts in (stable, candidate)]
    u = mannwhitneyu(values[1], values[0], method="asymptotic", use_continuity=False).statistic
    expected = (u - n * m / 2) / math.sqrt(n * m * (n + m) / 12)
    assert standing(n, m, _over(stable), _over(candidate)) == pytest.approx(expected, abs=1e-9)


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=2, max_size=8),
    st.integers(0, 7),
    st.integers(0, 7),
)
def test_a_slower_candidate_never_stands_better(buckets: list[tuple[int, int]], which: int, up: int) -> None:
    """One of its answers moved to a slower bucket lowers neither its standing nor any bet; the arms exchanged turn the sign."""
    stable, candidate = ([pair[arm] for pair in buckets] for arm in (0, 1))
    n, m = sum(stable), sum(candidate)
    which %= len(buckets)
    if not (n and m and candidate[which]):
        return
    before = standing(n, m, _over(tuple(stable)), _over(tuple(candidate)))
    assert standing(m, n, _over(tuple(candidate)), _over(tuple(stable))) == pytest.approx(-before, abs=1e-9)
    candidate[which] -= 1
    candidate[min(which + up, len(buckets) - 1)] += 1
    after = standing(n, m, _over(tuple(stable)), _over(tuple(candidate)))
    assert after >= before - 1e-9
    assert all(b >= a - 1e-9 for a, b in zip(rank_factor(before), rank_factor(after), strict=True))


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=2, max_size=8))
def test_many_standings_at_once_are_as_each_by_itself(buckets: list[tuple[int, int]]) -> None:
    """The arrays of the simulation and the numbers of a decision are the same; a threshold that no source has changes nothing."""
    stable, candidate = (tuple(pair[arm] for pair in buckets) for arm in (0, 1))
    n, m = sum(stable), sum(candidate)
    if not (n and m):
        return
    alone = standing(n, m, _over(stable), _over(candidate))
    over = [np.array([*_over(counts), 0.0], dtype=float) for counts in (stable, candidate)]
    together = standings(np.array(float(n)), np.array(float(m)), *over)
    assert float(together) == pytest.approx(alone, abs=1e-9)
    assert rank_factors(together) == pytest.approx(rank_factor(alone), abs=1e-12)


def test_the_bets_on_ranks_are_between_nothing_and_twice() -> None:
    """A tie says nothing, opposite standings add up to 2, and the clearest window wins twice the capital and no more."""
    assert rank_factor(0.0) == pytest.approx([1.0] * len(STEEPNESS))
    assert np.add(rank_factor(1.3), rank_factor(-1.3)) == pytest.approx(2)
    assert rank_factor(1e9) == pytest.approx([2.0] * len(STEEPNESS))
    assert all(0 <= f < 1e-9 for f in rank_factor(-1e9))


def test_the_capital_is_dealt_out_whole() -> None:
    """At the start it is 1 in all; what is dealt anew with a step is taken from nobody else, and ruined bets are on again."""
    for tails in (0, 1, 2, 5):
        shares = prior(tails)
        assert len(shares) == len(STEEPNESS) + tails * len(ODDS)
        assert sum(shares) == pytest.approx(1)
        assert sum(shares[: len(STEEPNESS)]) == pytest.approx(RANKS_SHARE if tails else 1)
    after = dealt((0.0, 40.0), (0.5, 0.5))
    assert sum(after) == pytest.approx(40)
    assert after[0] == pytest.approx(DEALT_ANEW * 20)
    assert dealt(prior(2), prior(2)) == pytest.approx(prior(2))


def _tables(stable: int, candidate: int, rate: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Slow requests of both arms, and the chance of each table where requests are independent."""
    over_stable, over_candidate = (g.ravel() for g in np.meshgrid(np.arange(stable + 1.0), np.arange(candidate + 1.0)))
    return (
        over_stable,
        over_candidate,
        binom.pmf(over_stable, stable, rate) * binom.pmf(over_candidate, candidate, rate),
    )


def _factors(stable: int, candidate: int, over_stable: np.ndarray, over_candidate: np.ndarray) -> np.ndarray:
    return tail_factors(np.array(float(stable)), np.array(float(candidate)), over_stable, over_candidate)


@pytest.mark.parametrize(("stable", "candidate"), ARMS)
@pytest.mark.parametrize("rate", RATES)
def test_the_mean_factor_of_the_tail_is_at_most_one(rate: float, stable: int, candidate: int) -> None:
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


def test_slow_requests_that_come_in_clumps_of_one_arm_do_no_harm_where_they_are_common() -> None:
    """As in a queue: the mean factor stays at most 1 at the common thresholds, and everywhere where the arms are equal."""
    for stable, candidate, rate in ((190, 10, 0.25), (30, 10, 0.1), (40, 40, 0.25), (40, 40, 0.02), (40, 40, 0.01)):
        assert (_clumped(stable, candidate, rate) <= 1.01).all()


def test_in_the_tail_clumps_do_little_harm() -> None:
    """Many times as many requests to the stable arm and few slow ones: the mean factor is above 1, for small bets by a little."""
    for stable, candidate, rate in ((190, 10, 0.01), (190, 10, 0.001), (30, 10, 0.01)):
        mean = _clumped(stable, candidate, rate)
        assert mean[0] <= 1.2
        assert mean.mean() <= 1.4


def test_the_chance_that_any_slow_request_is_the_candidates_is_exact() -> None:
    """That of drawing none of its requests among the slow ones, without replacement."""
    stable, candidate, over, odds = 190, 10, 5, np.array(ODDS)
    chance = 1 - hypergeom.pmf(0, stable + candidate, candidate, over)
    assert over * candidate / (stable + candidate) < RARE
    assert tail_factor(stable, candidate, 4, 1) == pytest.approx(odds / (1 - chance + chance * odds))
    assert tail_factor(stable, candidate, 5, 0) == pytest.approx(1 / (1 - chance + chance * odds))
    assert tail_factor(stable, candidate, 0, 0) == (1.0,) * len(ODDS)


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
    together = tail_factors(*(np.array(float(n)) for n in window))
    assert together == pytest.approx(tail_factor(*window), abs=1e-9)


def test_false_alarms_are_rarer_than_alpha_where_requests_are_independent() -> None:
    """Over 300 windows with changing sizes, at most alpha of healthy candidates ever cross 1/alpha; a slower one does."""
    rng = np.random.default_rng(4)
    runs, windows, candidate = 600, 300, 10
    for slower, expected in ((1.0, (0.0, 0.05 + 3 * np.sqrt(0.05 * 0.95 / runs))), (1.8, (0.9, 1.0))):
        capitals = np.tile(prior(2), (runs, 1))
        crossed = np.zeros(runs, dtype=bool)
        rates = tuple(min(rate * slower, 0.999 - rate / 1e3) for rate in USUAL)
        for stable in np.repeat([190, 73, 22, 10], windows // 4):
            sent = _of_all(stable, runs), _of_all(candidate, runs)
            over = _drawn(rng, stable, USUAL, runs), _drawn(rng, candidate, rates, runs)
            tails = [tail_factors(*sent, over[0][:, k], over[1][:, k]) for k in (-2, -1)]
            capitals = capitals * np.concatenate((rank_factors(standings(*sent, *over)), *tails), axis=1)
            crossed |= capitals.sum(axis=1) >= 20
        assert expected[0] <= crossed.mean() <= expected[1]


def test_alike_neighbours_are_fewer_witnesses() -> None:
    """The correlation of an AR(1) series is found again, and as the theory has it (1 - r) / (1 + r) of its windows are witnesses."""
    rng = np.random.default_rng(5)
    for r in (0.0, 0.5, 0.8):
        found = []
        for _ in range(400):
            series = [rng.normal()]
            for _ in range(KEPT - 1):
                series.append(r * series[-1] + np.sqrt(1 - r * r) * rng.normal())
            found.append(correlation(series, KEPT))
        assert np.mean(found) == pytest.approx(r, abs=0.12)
    assert witnesses(0.0) == 1
    assert witnesses(0.5) == pytest.approx(1 / 3)


def test_a_steady_difference_is_not_a_busy_period() -> None:
    """That the candidate is slower by the same in every window, more or less, does not make its windows alike."""
    rng = np.random.default_rng(6)
    assert correlation((3 + 0.1 * rng.normal(size=KEPT)).tolist(), KEPT) < 0.4
    assert correlation([3.0] * KEPT, KEPT) == pytest.approx(1 / KEPT)
    assert correlation([1.0, 9.0], 2) == 0


def test_a_candidate_that_turns_slow_with_a_step_is_not_a_busy_period() -> None:
    """The windows of a step are taken around their own mean; taken around one mean they would look alike."""
    rng = np.random.default_rng(8)
    earlier = rng.normal(size=KEPT // 2)
    slow = 3 + rng.normal(size=KEPT // 2)
    series = [*(earlier - earlier.mean()), *slow]
    assert correlation(series, KEPT // 2) < 0.4 < correlation(series, KEPT)


def test_many_series_at_once_are_as_each_by_itself() -> None:
    """With any number of windows known so far, and any number of them new."""
    rng = np.random.default_rng(7)
    series, count = rng.normal(size=(KEPT + 1, KEPT)), np.arange(KEPT + 1.0)
    fresh = np.minimum(rng.integers(0, KEPT, KEPT + 1), count).astype(float)
    together = correlations(series, count, fresh)
    alone = [
        correlation(row[KEPT - int(n) :].tolist(), int(new)) for row, n, new in zip(series, count, fresh, strict=True)
    ]
    assert together == pytest.approx(alone)
