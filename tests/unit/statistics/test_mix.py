"""Shifts of the mix of predictions."""

from __future__ import annotations

import numpy as np
import pytest

from relevo.statistics.betting import WORSE_BY_LITTLE, log_e_not_worse, log_e_worse
from relevo.statistics.mix import log_e_mix_kept, log_e_mix_shifted

RHO = np.array([0.1, 0.5])


def predicted(shares) -> np.ndarray:
    """3,000 stable and 1,000 candidate answers per class and step, where the candidate's shares are given."""
    return np.stack([np.stack([[2700 / 3, 500 / 3], [300 * p, 500 * p]], axis=-1) for p in shares])


def test_is_the_average_over_classes_of_both_directions():
    """The e-value is the mean of label bets on each class, on more and (arms exchanged) on fewer."""
    counts = np.random.default_rng(1).integers(0, 60, (4, 3, 2, 2))
    bets = [
        np.exp(log_e_worse(arms, share, 1.1, prior=WORSE_BY_LITTLE, held_back=0.05))
        for arms, share in ((counts, RHO), (counts[..., ::-1], 1 - RHO))
    ]
    np.testing.assert_allclose(np.exp(log_e_mix_shifted(counts, RHO, 0.1)), np.concatenate(bets, axis=-1).mean(axis=-1))


def test_evidence_for_is_the_weaker_direction_of_each_class():
    """A class is kept when it is neither `margin` times as frequent nor as rare."""
    counts = np.random.default_rng(1).integers(0, 60, (4, 3, 2, 2))
    up, down = log_e_not_worse(counts, RHO, 1.5), log_e_not_worse(counts[..., ::-1], 1 - RHO, 1.5)
    np.testing.assert_allclose(log_e_mix_kept(counts, RHO, 1.5), np.minimum(up, down))


def test_a_shifted_mix_is_found_in_either_direction_and_a_kept_one_passes():
    """A class predicted twice as often or half as often is found; an unchanged mix is not, and is shown to be kept."""
    for shares in ([2 / 3, 1 / 6, 1 / 6], [1 / 6, 5 / 12, 5 / 12]):
        assert log_e_mix_shifted(predicted(shares), RHO) > np.log(100)
        assert log_e_mix_kept(predicted(shares), RHO, 1.5).min() < 0
    same = predicted([1 / 3, 1 / 3, 1 / 3])
    assert log_e_mix_shifted(same, RHO) < 0
    assert (log_e_mix_kept(same, RHO, 1.5) > np.log(20)).all()


def test_shifts_within_the_tolerance_are_no_evidence():
    """With 1.1 times as many of one class and a tolerance of 0.1 the e-value stays below 1."""
    assert log_e_mix_shifted(predicted([0.3667, 0.3167, 0.3167]), RHO, 0.1) < 0


def test_false_alarms_are_rarer_than_alpha_at_every_look():
    """With equal mixes, 200 looks and no tolerance at most alpha of the runs ever cross 1/alpha."""
    rng = np.random.default_rng(6)
    arms = rng.binomial(10, 0.2, (400, 200))
    answers = [rng.multinomial(n, [0.5, 0.3, 0.2]) for n in (10 - arms, arms)]
    counts = np.stack(answers, axis=-1).cumsum(axis=1)[..., None, :]
    crossed = (log_e_mix_shifted(counts, 0.2, 0.0) >= np.log(20)).any(axis=1).mean()
    assert crossed <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: log_e_mix_shifted([[1, 1]], 0.1), "predicted"),
        (lambda: log_e_mix_shifted(np.zeros((0, 1, 2)), 0.1), "predicted"),
        (lambda: log_e_mix_shifted([[[1, 1]]], 0.1, -0.1), "tolerance"),
        (lambda: log_e_mix_shifted([[[1, 1]]], 3.0), "rho"),
        (lambda: log_e_mix_kept([[[1, 1]]], 0.1, 1.0), "margin"),
    ],
)
def test_bad_input_is_named(call, named):
    """A wrong argument raises ValueError with the argument's name."""
    with pytest.raises(ValueError, match=named):
        call()
