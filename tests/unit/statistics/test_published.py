"""Agreement with published reference values of the methods that the tests rest on.

- Howard and Ramdas, "Sequential estimation of quantiles with applications to A/B testing and best-arm identification" (Bernoulli 28(3),
  2022): the beta-binomial mixture. The numbers are those of the authors' package `confseq` (test/uniform_boundaries_unittest.cpp), which
  has them from a reference implementation of its own.
- Turner, Ly and Grünwald, "Generic E-variables for exact sequential k-sample tests that allow for optional stopping" (J. Stat. Plan.
  Inference 230, 2024): the e-variables of 2x2 tables. The numbers are those of the authors' package `safestats`
  (tests/testthat/test-savi2x2Helpers.R), each derived there by hand.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from relevo.statistics import log_e_slower, log_e_split_differs, log_e_worse
from relevo.statistics.bounded import rate_interval
from relevo.statistics.mixture import Prior

# confseq's BetaBinomialMixture(v_opt=100, alpha_opt=0.05, g=0.2, h=0.8, is_one_sided=false)
RHO, VARIANCE, TUNED_FOR = 0.2, 100.0, 12.60056
LOG_SUPERMARTINGALE_AT_10, BOUND_AT_LOG_20 = -0.6941012, 31.4308


def _only(effect: float) -> Prior:
    return Prior.of(np.array([effect]), np.array([1.0]))


def _excess_over_expected(excess: float, spread: float) -> float:
    """The log e-value after so many requests that their variance is VARIANCE, with `excess` more than RHO of them to the candidate."""
    requests = VARIANCE / (RHO * (1 - RHO))
    candidate = RHO * requests + excess
    return float(log_e_split_differs([[requests - candidate, candidate]], RHO, concentrations=(spread,)))


def _concentration() -> float:
    """Of the beta around RHO that is tuned for a variance of 100 at alpha 0.05, by their formula."""
    tuned = VARIANCE / (2 * math.log(20) + math.log(1 + 2 * math.log(20)))
    assert tuned == pytest.approx(TUNED_FOR, abs=1e-5)
    variance = RHO * (1 - RHO)
    return (tuned - variance) / variance


def test_the_split_test_is_the_beta_binomial_mixture_of_howard_and_ramdas() -> None:
    """At the published point the log of the supermartingale is the published one, and at the published bound it is log(1/alpha)."""
    assert _excess_over_expected(10.0, _concentration()) == pytest.approx(LOG_SUPERMARTINGALE_AT_10, abs=1e-6)
    assert _excess_over_expected(BOUND_AT_LOG_20, _concentration()) == pytest.approx(math.log(20), abs=1e-5)


def test_the_interval_of_a_rate_inverts_the_same_mixture() -> None:
    """At both ends of the interval, the beta-binomial mixture with a beta of (1/2, 1/2) against that end is log(1/alpha)."""
    bad, good = 37.0, 163.0
    for end in rate_interval(bad, bad + good, 0.05):
        # A beta of (1/2, 1/2) is one of concentration 1 around 1/2; only against 1/2 itself does the split test use it,
        # so the evidence against `end` is that against 1/2, times how much more likely the counts are under 1/2 than under `end`.
        against_half = float(log_e_split_differs([[good, bad]], 0.5, concentrations=(1.0,)))
        moved = -(bad + good) * math.log(2) - bad * math.log(end) - good * math.log1p(-end)
        assert against_half + moved == pytest.approx(math.log(20), abs=1e-6)


def test_label_betting_is_the_safe_test_given_the_total() -> None:
    """Blocks of one request per arm in which only the candidate fails, bet on at odds 3: the published e-values (3/2)^t, t = 1 to 5."""
    e_values = [math.exp(log_e_worse([[0, t]], 0.5, prior=_only(3.0))) for t in range(1, 6)]
    assert e_values == pytest.approx([1.5**t for t in range(1, 6)])
    alpha = math.exp(-(3 / 4 * math.log(3 / 2) + 1 / 4 * math.log(1 / 2)))  # for which odds of 3 are the best bet
    growth = 3 / 4 * float(log_e_worse([[0, 1]], 0.5, prior=_only(3.0))) + 1 / 4 * float(
        log_e_worse([[1, 0]], 0.5, prior=_only(3.0))
    )
    assert growth == pytest.approx(math.log(1 / alpha))


def test_the_latency_bet_is_the_e_variable_of_turner_ly_and_grunwald() -> None:
    """With rates 2/3 and 1/3 and a block in which only the candidate is over, the published e-value 16/9; the pool's rate is the mean."""
    log_e = log_e_slower([[[0, 1]]], [[1, 1]], 0.5, [1 / 3], prior=_only(4.0), held_back=0.0)
    assert math.exp(log_e) == pytest.approx(16 / 9)


@pytest.mark.parametrize(("stable", "candidate"), [(1 / 4, 3 / 4), (0.01, 0.05), (0.2, 0.5)])
@pytest.mark.parametrize("blocks", [(1, 1), (2, 1), (9, 1)])
def test_any_block_has_their_e_value(stable: float, candidate: float, blocks: tuple[int, int]) -> None:
    """For every table of a block of so many requests per arm: the likelihood under both rates over that under the pooled rate."""
    n_stable, n_candidate = blocks
    rho = n_candidate / (n_stable + n_candidate)
    pooled = (n_stable * stable + n_candidate * candidate) / (n_stable + n_candidate)
    odds = candidate / (1 - candidate) / (stable / (1 - stable))
    for y_stable in range(n_stable + 1):
        for y_candidate in range(n_candidate + 1):
            alternative = (
                stable**y_stable * (1 - stable) ** (n_stable - y_stable)
                * candidate**y_candidate * (1 - candidate) ** (n_candidate - y_candidate)
            )  # fmt: skip
            over, total = y_stable + y_candidate, n_stable + n_candidate
            null = pooled**over * (1 - pooled) ** (total - over)
            ours = log_e_slower(
                [[[y_stable, y_candidate]]], [[n_stable, n_candidate]], rho, [stable], prior=_only(odds), held_back=0.0
            )
            assert math.exp(ours) == pytest.approx(alternative / null)
