"""The sample-ratio test."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from relevo.statistics.sample_ratio import log_e_split_differs


def test_mean_capital_is_one_when_the_split_is_right():
    """If each request goes to the candidate with chance rho, the e-value's exact mean is 1."""
    for rho in (0.01, 0.3, 0.5):
        candidate = np.arange(81)
        requests = np.stack((80 - candidate, candidate), axis=-1)[:, None, :]
        mean = (binom.pmf(candidate, 80, rho) * np.exp(log_e_split_differs(requests, rho))).sum()
        assert float(mean) == pytest.approx(1)


def test_finds_a_wrong_split_and_leaves_a_right_one_alone():
    """20 % where 10 % were set is found within 500 requests; 10.4 % is not; 11 % is within 50,000."""
    assert log_e_split_differs([[400, 100]], 0.1) > np.log(1000)
    assert log_e_split_differs([[448, 52]], 0.1) < 0
    assert log_e_split_differs([[44500, 5500]], 0.1) > np.log(1000)


def test_steps_multiply_and_those_without_a_choice_are_left_out():
    """The log e-value is the sum over the steps; steps with rho 0 or 1 add nothing."""
    one, other = log_e_split_differs([[70, 30]], 0.2), log_e_split_differs([[50, 60]], 0.5)
    both = log_e_split_differs([[900, 0], [70, 30], [50, 60], [0, 40]], [0.0, 0.2, 0.5, 1.0])
    assert float(both) == pytest.approx(float(one + other))
    assert float(log_e_split_differs([[900, 4]], 0.0)) == 0
    assert log_e_split_differs(np.ones((3, 4, 2, 2)), 0.5).shape == (3, 4)


def test_false_alarms_are_rarer_than_alpha_at_every_look():
    """With a right split and 300 looks at most alpha of the runs ever cross 1/alpha."""
    candidate = np.random.default_rng(4).binomial(7, 0.15, (500, 300)).cumsum(axis=1)
    requests = np.stack((7 * np.arange(1, 301) - candidate, candidate), axis=-1)[..., None, :]
    crossed = (log_e_split_differs(requests, 0.15) >= np.log(20)).any(axis=1).mean()
    assert crossed <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 500)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: log_e_split_differs([[1, -1]], 0.1), "requests"),
        (lambda: log_e_split_differs([[1, 1]], -0.1), "rho"),
        (lambda: log_e_split_differs([[1, 1]], 0.1, concentrations=(0.0,)), "concentrations"),
        (lambda: log_e_split_differs([[1, 1]], 0.1, concentrations=()), "concentrations"),
    ],
)
def test_bad_input_is_named(call, named):
    """A wrong argument raises ValueError with the argument's name."""
    with pytest.raises(ValueError, match=named):
        call()
