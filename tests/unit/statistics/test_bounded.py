"""One rate against a limit."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from relevo.statistics.bounded import BELOW, log_e_rate_above, log_e_rate_below, rate_interval


def mean_e(test, rate: float, limit: float, requests: int = 60) -> float:
    bad = np.arange(requests + 1)
    log_e = test(bad, np.full_like(bad, requests), limit)
    return float((binom.pmf(bad, requests, rate) * np.exp(log_e)).sum())


@pytest.mark.parametrize("limit", [0.01, 0.1, 0.6])
def test_mean_capital_is_one_at_the_limit_and_below_one_inside_the_hypothesis(limit):
    """Both e-values have the exact mean 1 at the limit and less inside their hypotheses, and more outside."""
    assert mean_e(log_e_rate_above, limit, limit) == pytest.approx(1)
    assert mean_e(log_e_rate_below, limit, limit) == pytest.approx(1)
    assert mean_e(log_e_rate_above, limit / 2, limit) < 1 < mean_e(log_e_rate_below, limit / 2, limit)
    assert mean_e(log_e_rate_below, limit * 1.5, limit) < 1 < mean_e(log_e_rate_above, limit * 1.5, limit)


def test_a_candidate_without_errors_passes_after_the_promised_number_of_requests():
    """With no bad one, log(2 / alpha) / limit requests suffice to show that the rate is below the limit, and a third does not."""
    limit, enough = 0.01, int(np.log(2 / 0.05) / 0.01) + 1
    assert log_e_rate_below(0, enough, limit) >= np.log(20)
    assert log_e_rate_below(0, enough // 3, limit) < np.log(20)


def test_bad_ones_never_speak_for_the_candidate():
    """Turning a good one into a bad one raises the evidence above the limit and lowers the evidence below it."""
    bad, total = np.arange(0, 51), np.full(51, 50)
    assert (np.diff(log_e_rate_above(bad, total, 0.1)) > 0).all()
    assert (np.diff(log_e_rate_below(bad, total, 0.1)) < 0).all()


def test_no_requests_are_no_evidence():
    """With nothing counted both e-values are 1, and a limit per element is allowed."""
    assert float(log_e_rate_above(0, 0, 0.1)) == pytest.approx(0, abs=1e-12)
    assert log_e_rate_below([0, 3], [0, 900], [0.1, 0.02]).shape == (2,)
    assert np.isfinite(log_e_rate_below([900], [900], 0.001)).all()
    assert float(np.exp(BELOW.log_weights).sum()) == pytest.approx(1)


def test_false_alarms_are_rarer_than_alpha_at_every_look():
    """At the limit, at most alpha of the runs ever cross 1/alpha, in either direction."""
    bad = (np.random.default_rng(8).random((500, 300)) < 0.05).cumsum(axis=1)
    total = np.broadcast_to(np.arange(1, 301), bad.shape)
    for test in (log_e_rate_above, log_e_rate_below):
        crossed = (test(bad, total, 0.05) >= np.log(20)).any(axis=1).mean()
        assert crossed <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 500)


def test_interval_covers_at_all_looks_at_once():
    """The true rate is ever outside the interval in at most alpha of the runs; the ends are 0 and 1 where nothing or all was bad."""
    bad = (np.random.default_rng(9).random((300, 200)) < 0.2).cumsum(axis=1)
    total = np.broadcast_to(np.arange(1, 201), bad.shape)
    low, high = rate_interval(bad[:, 9::10], total[:, 9::10], alpha=0.1)
    assert ((low > 0.2) | (high < 0.2)).any(axis=1).mean() <= 0.1 + 3 * np.sqrt(0.1 * 0.9 / 300)
    low, high = rate_interval([0, 10, 0], [10, 10, 0])
    assert low[0] == 0 < high[0] < 1
    assert low[1] < high[1] == 1
    assert (low[2], high[2]) == (0, 1)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: log_e_rate_above(3, 2, 0.1), "bad"),
        (lambda: log_e_rate_above(-1, 2, 0.1), "bad"),
        (lambda: log_e_rate_above([1, 2], 2, 0.1), "total"),
        (lambda: log_e_rate_above(1, np.nan, 0.1), "total"),
        (lambda: log_e_rate_below(1, 2, 0.0), "limit"),
        (lambda: log_e_rate_below(1, 2, 1.0), "limit"),
        (lambda: rate_interval(1, 2, alpha=2.0), "alpha"),
    ],
)
def test_bad_input_is_named(call, named):
    """A wrong argument raises ValueError with the argument's name."""
    with pytest.raises(ValueError, match=named):
        call()
