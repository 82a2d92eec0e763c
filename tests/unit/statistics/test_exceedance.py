"""Outcome betting on latency."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relevo.statistics.exceedance import log_e_not_slower, log_e_slower, margin_at

RATES = np.array([0.5, 0.1, 0.01])


def mean_factor(log_e, p_stable: float, p_candidate: float, rho: float) -> float:
    """The exact mean of the e-value after one request."""
    total = 0.0
    for arm, is_over in product((0, 1), (0, 1)):
        p_over = p_candidate if arm else p_stable
        chance = (rho if arm else 1 - rho) * (p_over if is_over else 1 - p_over)
        requests = np.zeros((1, 2))
        requests[0, arm] = 1
        total += chance * np.exp(float(log_e((requests * is_over)[None], requests, rho)))
    return total


@pytest.mark.parametrize("assumed", [0.0, 0.02, 0.3, 0.9])
@pytest.mark.parametrize("rho", [0.01, 0.3, 0.5])
def test_mean_capital_is_at_most_one_when_no_slower_whatever_rate_is_assumed(assumed, rho):
    """If the candidate exceeds at most as often, one request multiplies the mean capital by at most 1, even with a wrong usual rate."""

    def log_e(over, total, share):
        return log_e_slower(over, total, share, [assumed])

    for p_stable, p_candidate in ((0.3, 0.3), (0.3, 0.1), (0.02, 0.02), (0.9, 0.5), (1.0, 1.0), (0.5, 0.0)):
        assert mean_factor(log_e, p_stable, p_candidate, rho) <= 1 + 1e-12


def test_mean_log_capital_grows_when_slower():
    """A candidate that exceeds twice as often wins the bet on average."""
    over, total = np.array([[[500.0, 110.0]]]), np.array([[5000.0, 550.0]])
    assert log_e_slower(over, total, 0.1, [0.1]) > np.log(1e4)
    assert log_e_slower(over * [1, 0.5], total, 0.1, [0.1]) < 0


@pytest.mark.parametrize("assumed", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("margin", [1.2, 2.0])
def test_mean_capital_for_is_at_most_one_when_slower_than_the_margin(assumed, margin):
    """If the candidate exceeds at least `margin` times as often, one request multiplies the mean capital for it by at most 1."""

    def log_e(over, total, share):
        return log_e_not_slower(over, total, share, [assumed], margin)[0]

    for p_stable, p_candidate in ((0.1, 0.1 * margin), (0.3, 0.3 * margin), (0.02, 0.5), (0.4, 1.0)):
        for rho in (0.01, 0.3, 0.5):
            assert mean_factor(log_e, p_stable, p_candidate, rho) <= 1 + 1e-12


def test_shadow_pairs_keep_the_guarantee_when_a_rows_latencies_go_together():
    """With each row sent to both arms, a pair's mean factor is at most 1 unless the two latencies are negatively correlated."""
    for rate in (0.05, 0.5):
        factor = {
            (a, b): np.exp(float(log_e_slower([[[a, b]]], [[1, 1]], 0.5, [rate]))) for a, b in product((0, 1), (0, 1))
        }
        for p in (0.05, 0.3, 0.7):
            for p_both in np.linspace(p * p, p, 5):
                mean = p_both * factor[1, 1] + (p - p_both) * (factor[0, 1] + factor[1, 0])
                mean += (1 - 2 * p + p_both) * factor[0, 0]
                assert mean <= 1 + 1e-12


@given(
    over=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=2, max_size=2).map(np.array),
    under=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=2, max_size=2).map(np.array),
)
@settings(max_examples=60)
def test_slower_requests_of_the_candidate_never_speak_for_it(over, under):
    """When one of the candidate's requests goes from under to over, evidence against rises and evidence for falls."""
    total = over + under + 1
    slower = over + np.array([[0, 0], [0, 1]])
    against = [float(log_e_slower(o[None], total, [0.1, 0.5], [0.1])) for o in (over, slower)]
    in_favour = [float(log_e_not_slower(o[None], total, [0.1, 0.5], [0.1], 1.5)[0]) for o in (over, slower)]
    assert against[1] >= against[0]
    assert in_favour[1] <= in_favour[0]


def test_thresholds_are_averaged_against_and_kept_apart_for():
    """Against: the mean over the thresholds. For: one e-value each, as all must pass."""
    rng = np.random.default_rng(2)
    over = np.sort(rng.integers(0, 80, (4, 3, 2, 2)), axis=1)[:, ::-1]
    total = np.full((4, 2, 2), 100)
    rho = [0.1, 0.5]
    each = np.stack([log_e_slower(over[:, [t]], total, rho, RATES[[t]]) for t in range(3)], axis=-1)
    np.testing.assert_allclose(log_e_slower(over, total, rho, RATES), np.log(np.exp(each).mean(axis=-1)))
    margins = margin_at(2.0, RATES)
    in_favour = log_e_not_slower(over, total, rho, RATES, margins, held_back=0.1)
    assert in_favour.shape == (4, 3)
    alone = log_e_not_slower(over[1, [2]], total[1], rho, RATES[[2]], margins[[2]], held_back=0.1)
    assert in_favour[1, 2] == pytest.approx(alone[0])


def test_margins_are_the_same_odds_ratio_at_every_threshold():
    """margin_at turns an odds ratio into a risk ratio: near 1 for common outcomes, near the margin for rare ones."""
    margins = margin_at(2.0, RATES)
    stable = RATES / (1 - RATES)
    candidate = margins * RATES / (1 - margins * RATES)
    np.testing.assert_allclose(candidate / stable, 2.0)


def test_a_fault_that_shows_only_late_is_found_sooner_with_capital_held_back():
    """After a long healthy step the capital put in at the start is spent; what was held back finds a slow-down under load."""
    over = np.array([[[5000.0, 5000.0], [1000.0, 1150.0]]])
    total = np.array([[10000.0, 10000.0], [2000.0, 2000.0]])
    assert log_e_slower(over, total, 0.5, [0.5], held_back=0.0) < 0
    assert log_e_slower(over, total, 0.5, [0.5]) > np.log(20)


def test_steps_without_a_choice_carry_no_evidence():
    """Shares of 0 and 1 leave the e-value at 1, and rates of 0 are allowed."""
    total = np.array([[900.0, 3.0], [2.0, 800.0]])
    assert float(log_e_slower([total], total, [0.0, 1.0], [0.0])) == pytest.approx(0, abs=1e-12)
    assert float(log_e_not_slower([total], total, [0.0, 1.0], [0.5], 1.5)[0]) == pytest.approx(0, abs=1e-12)


def test_false_alarms_are_rarer_than_alpha_at_every_look():
    """With latencies that swing, wrong rates, changing shares and 200 looks, at most alpha of equally fast candidates cross 1/alpha."""
    rng = np.random.default_rng(5)
    runs, looks, rho = 800, 200, np.array([0.05, 0.3])
    step = np.repeat([0, 1], looks // 2)
    p = 0.2 + 0.15 * np.sin(np.arange(looks) / 7)
    total, over = np.zeros((runs, looks, 2, 2)), np.zeros((runs, looks, 2, 2))
    sent = rng.binomial(40, rho[step], (runs, looks))
    for arm, count in enumerate((40 - sent, sent)):
        total[:, np.arange(looks), step, arm] = count
        over[:, np.arange(looks), step, arm] = rng.binomial(count, p)
    log_e = log_e_slower(over.cumsum(axis=1)[:, :, None], total.cumsum(axis=1), rho, [0.1])
    crossed = (log_e >= np.log(20)).any(axis=1).mean()
    assert 0.002 < crossed <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / runs)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: log_e_slower([[1, 2]], [[3, 3]], 0.1, [0.1]), "over"),
        (lambda: log_e_slower([[[4, 2]]], [[3, 3]], 0.1, [0.1]), "over"),
        (lambda: log_e_slower([[[1, 2]]], [[3, 3], [3, 3]], 0.1, [0.1]), "total"),
        (lambda: log_e_slower([[[1, 2]]], [[3, -3]], 0.1, [0.1]), "total"),
        (lambda: log_e_slower([[[1, 2]]], [[3, 3]], 0.1, [0.1, 0.2]), "usual_rate"),
        (lambda: log_e_slower([[[1, 2]]], [[3, 3]], 0.1, [1.0]), "usual_rate"),
        (lambda: log_e_slower([[[1, 2]]], [[3, 3]], 1.1, [0.1]), "rho"),
        (lambda: log_e_not_slower([[[1, 2]]], [[3, 3]], 0.1, [0.1], 1.0), "margin"),
        (lambda: log_e_not_slower([[[1, 2]]], [[3, 3]], 0.1, [0.1], [2.0, 2.0]), "margin"),
        (lambda: margin_at(0.5, [0.1]), "margin"),
        (lambda: margin_at(2.0, [-0.1]), "usual_rate"),
    ],
)
def test_bad_input_is_named(call, named):
    """A wrong argument raises ValueError with the argument's name."""
    with pytest.raises(ValueError, match=named):
        call()
