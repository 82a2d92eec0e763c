"""Label betting on bad events."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp
from scipy.stats import binom

from relevo.statistics.betting import NOT_WORSE, WORSE, WORSE_BY_LITTLE, log_e_not_worse, log_e_worse
from relevo.statistics.mixture import Prior

RHO = [0.0, 0.1, 0.5, 1.0]

counts = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=4, max_size=4).map(np.array)


def expected_e(log_e, ratio: float, rho: list[float], events: tuple[int, ...]) -> float:
    """The exact mean of the e-value when step s has events[s] bad ones and the candidate's risk is `ratio` times the stable's."""
    total = 0.0
    for candidate in product(*(range(n + 1) for n in events)):
        chance = np.prod(
            [binom.pmf(a, n, p * ratio / (p * ratio + 1 - p)) for a, n, p in zip(candidate, events, rho, strict=True)]
        )
        bad = np.array([[n - a, a] for a, n in zip(candidate, events, strict=True)])
        total += float(chance * np.exp(log_e(bad, rho)))
    return total


@pytest.mark.parametrize("held_back", [0.0, 0.3])
@pytest.mark.parametrize("null", [1.0, 1.1])
def test_mean_capital_against_is_one_at_the_limit_and_below_one_inside(null, held_back):
    """Under "at most `null` times as often" the e-value's exact mean is at most 1, and 1 where the ratio equals the limit."""

    def log_e(bad, rho):
        return log_e_worse(bad, rho, null, held_back=held_back)

    rho, events = [0.05, 0.3, 0.5], (4, 5, 3)
    assert expected_e(log_e, null, rho, events) == pytest.approx(1, rel=1e-9)
    assert expected_e(log_e, null * 0.7, rho, events) < 1
    assert expected_e(log_e, null * 2, rho, events) > 1


@pytest.mark.parametrize("held_back", [0.0, 0.3])
def test_mean_capital_for_is_one_at_the_margin_and_below_one_beyond(held_back):
    """Under "at least `margin` times as often" the e-value's exact mean is at most 1, and 1 where the ratio equals the margin."""

    def log_e(bad, rho):
        return log_e_not_worse(bad, rho, 2.0, held_back=held_back)

    rho, events = [0.05, 0.3, 0.5], (4, 5, 3)
    assert expected_e(log_e, 2.0, rho, events) == pytest.approx(1, rel=1e-9)
    assert expected_e(log_e, 3.0, rho, events) < 1
    assert expected_e(log_e, 1.0, rho, events) > 1


@given(bad=counts, step=st.sampled_from([0, 1, 2, 3]))
@settings(max_examples=60)
def test_one_more_event_is_a_fair_bet(bad, step):
    """From any history, the mean capital after the next bad event is the capital before it, when the ratio is at the limit."""
    rho = RHO[step]
    outcomes = []
    for arm, chance in ((0, 1 - rho), (1, rho)):
        after = bad.copy()
        after[step, arm] += 1
        outcomes.append(chance * np.exp(log_e_worse(after, RHO, held_back=0.2) - log_e_worse(bad, RHO, held_back=0.2)))
    assert sum(outcomes) == pytest.approx(1, rel=1e-6)


def test_shadow_pairs_do_not_break_the_guarantee():
    """With both arms answering each row at rho 0.5, a pair's mean factor is at most 1 however the two answers depend on each other."""
    for ratio in (1.0, 1.1, 1.5):
        both = np.exp(log_e_worse([[1, 1]], 0.5, ratio))
        only_stable, only_candidate = (np.exp(log_e_worse([[1 - arm, arm]], 0.5, ratio)) for arm in (0, 1))
        for p_stable in (0.05, 0.3, 0.6):
            p_candidate = ratio * p_stable
            for p_both in np.linspace(max(0, p_stable + p_candidate - 1), min(p_stable, p_candidate), 7):
                mean = (
                    p_both * both
                    + (p_stable - p_both) * only_stable
                    + (p_candidate - p_both) * only_candidate
                    + (1 - p_stable - p_candidate + p_both)
                )
                assert mean <= 1 + 1e-12


def test_agrees_with_the_formula():
    """The e-value is the weighted mean over r of (r/r0)^A (rho r0 + 1 - rho) / (rho r + 1 - rho), multiplied over the events."""
    bad, rho, r0 = [[7, 2], [3, 9]], [0.2, 0.6], 1.3
    logs = []
    for effect, log_weight in zip(WORSE.effects, WORSE.log_weights, strict=True):
        r = r0 * effect
        steps = [
            a * np.log(r / r0) + (a + b) * np.log((p * r0 + 1 - p) / (p * r + 1 - p))
            for (b, a), p in zip(bad, rho, strict=True)
        ]
        logs.append(log_weight + sum(steps))
    assert float(log_e_worse(bad, rho, r0)) == pytest.approx(logsumexp(logs))


def test_held_back_capital_is_worth_what_bets_on_later_steps_make_of_it():
    """With a share h held back, the e-value is the mean over bets from step k on, of weights 1 - h, h/2, h/6, and a rest in cash."""
    bad, rho, h = np.array([[9, 0], [4, 5], [1, 7]]), [0.1, 0.3, 0.5], 0.4
    from_step = [float(log_e_worse(bad[k:], rho[k:])) for k in range(3)]
    expected = (1 - h) * np.exp(from_step[0]) + h / 2 * np.exp(from_step[1]) + h / 6 * np.exp(from_step[2]) + h / 3
    assert float(np.exp(log_e_worse(bad, rho, held_back=h))) == pytest.approx(expected)
    longer = np.vstack([bad, [[0, 0]]])
    assert float(log_e_worse(longer, [*rho, 0.7], held_back=h)) == pytest.approx(np.log(expected))


@given(bad=counts, step=st.sampled_from([1, 2]))
@settings(max_examples=60)
def test_more_failures_of_the_candidate_never_speak_for_it(bad, step):
    """One more bad event of the candidate raises the evidence against it and lowers the evidence for it; of the stable arm, the reverse."""
    worse, better = bad.copy(), bad.copy()
    worse[step, 1] += 1
    better[step, 0] += 1
    assert log_e_worse(worse, RHO) >= log_e_worse(bad, RHO) >= log_e_worse(better, RHO)
    assert log_e_not_worse(worse, RHO, 2.0) <= log_e_not_worse(bad, RHO, 2.0) <= log_e_not_worse(better, RHO, 2.0)


@given(bad=counts, parts=counts)
@settings(max_examples=60)
def test_splitting_a_step_in_two_changes_nothing(bad, parts):
    """Only the sums per share of traffic count: the same events as two steps of the same rho give the same evidence."""
    split = np.minimum(parts, bad)
    doubled = np.concatenate([split, bad - split])
    assert float(log_e_worse(doubled, RHO + RHO)) == pytest.approx(float(log_e_worse(bad, RHO)), abs=1e-9)


@given(bad=counts)
@settings(max_examples=60)
def test_exchanging_arms_and_shares_turns_the_question_round(bad):
    """Evidence that the candidate is worse is the evidence that the stable arm is better, with arms and shares exchanged."""
    prior = Prior.of(np.array([2.0]), np.array([1.0]))  # r = 2 against 1
    swapped = Prior.of(np.array([0.5]), np.array([1.0]))  # r = 1/2 against 1
    exchanged = log_e_worse(bad[:, ::-1], [1 - r for r in RHO], prior=swapped)
    assert float(log_e_worse(bad, RHO, prior=prior)) == pytest.approx(float(exchanged), abs=1e-9)


def test_steps_that_cannot_tell_the_arms_apart_carry_no_evidence():
    """With all the traffic on one arm, or no bad event, the e-value stays 1."""
    assert float(log_e_worse([[500, 3], [2, 900]], [0.0, 1.0])) == pytest.approx(0, abs=1e-12)
    assert float(log_e_not_worse([[500, 3], [2, 900]], [0.0, 1.0], 1.5)) == pytest.approx(0, abs=1e-12)
    assert float(log_e_worse([[0, 0]], 0.3)) == pytest.approx(0, abs=1e-12)
    assert np.isfinite(log_e_worse([[0, 10**9]], 1e-6))


def test_batches_are_kept_in_the_result():
    """Any axes in front of (steps, 2) are a batch, each element judged as if alone."""
    bad = np.random.default_rng(1).integers(0, 30, (3, 5, 4, 2))
    for test in (lambda b: log_e_worse(b, RHO, held_back=0.2), lambda b: log_e_not_worse(b, RHO, 1.5)):
        together = test(bad)
        assert together.shape == (3, 5)
        assert together[2, 4] == pytest.approx(float(test(bad[2, 4])))


def test_false_alarms_are_rarer_than_alpha_at_every_look():
    """With base rates that swing tenfold, shares that change and 240 looks, at most alpha of healthy candidates ever cross 1/alpha."""
    rng = np.random.default_rng(11)
    runs, looks, rho = 800, 240, np.array([0.02, 0.1, 0.25, 0.5])
    step_of_look = np.repeat(np.arange(4), looks // 4)
    rate = 2.0 * (1.2 + np.sin(np.arange(looks) / 9)) ** 2  # bad events per look
    events = rng.poisson(rate, (runs, looks))
    candidate = rng.binomial(events, rho[step_of_look])
    bad = np.zeros((runs, looks, 4, 2))
    bad[:, np.arange(looks), step_of_look, 0] = events - candidate
    bad[:, np.arange(looks), step_of_look, 1] = candidate
    crossed = (log_e_worse(bad.cumsum(axis=1), rho) >= np.log(20)).any(axis=1).mean()
    assert crossed <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / runs)
    assert crossed > 0.005, "a rule that never fires proves nothing"


def test_a_candidate_that_fails_more_often_is_found():
    """31 bad events of 412 requests against 9 of 3,702 are overwhelming; 1 of 412 is not."""
    assert log_e_worse([[9, 31]], 0.1) > np.log(1e9)
    assert log_e_worse([[9, 1]], 0.1) < np.log(2)


def test_priors_bet_on_the_right_side():
    """Every bet against is on a worse candidate than the limit, every bet for on a better one than the margin; weights sum to 1."""
    assert (WORSE.effects > 1).all()
    assert (WORSE_BY_LITTLE.effects > 1).all()
    assert (NOT_WORSE.effects > 0).all()
    for prior in (WORSE, WORSE_BY_LITTLE, NOT_WORSE):
        assert float(np.exp(prior.log_weights).sum()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: log_e_worse([1, 2, 3], 0.1), "bad"),
        (lambda: log_e_worse([[1, -2]], 0.1), "bad"),
        (lambda: log_e_worse([[1, np.nan]], 0.1), "bad"),
        (lambda: log_e_worse([[1, np.inf]], 0.1), "bad"),
        (lambda: log_e_worse([[1, 2]], 10), "rho"),
        (lambda: log_e_worse([[1, 2]], np.nan), "rho"),
        (lambda: log_e_worse([[1, 2]], [0.1, 0.2]), "rho"),
        (lambda: log_e_worse([[1, 2]], 0.1, 0.0), "ratio"),
        (lambda: log_e_worse([[1, 2]], 0.1, held_back=1.0), "held_back"),
        (lambda: log_e_not_worse([[1, 2]], 0.1, 1.0), "margin"),
        (lambda: log_e_not_worse([[1, 2]], 0.1, np.inf), "margin"),
        (lambda: Prior.of(np.array([1.0]), np.array([0.0])), "weights"),
    ],
)
def test_bad_input_is_named(call, named):
    """A wrong argument raises ValueError with the argument's name."""
    with pytest.raises(ValueError, match=named):
        call()
