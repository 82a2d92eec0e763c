"""Many e-values into one."""

from __future__ import annotations

import numpy as np
import pytest

from relevo.statistics.combine import log_limit, weakest, weighted_mean

WEIGHTS = [0.4, 0.3, 0.2, 0.1]


def test_is_the_weighted_average_of_the_e_values():
    """The combined e-value is sum(w E) / sum(w), also where single ones overflow a float."""
    e = np.array([[2.0, 0.5, 8.0, 1.0], [0.1, 0.1, 0.1, 30.0]])
    np.testing.assert_allclose(weighted_mean(np.log(e), WEIGHTS), np.log(e @ WEIGHTS))
    assert float(weighted_mean([5000.0, 0.0, 0.0, 0.0], WEIGHTS)) == pytest.approx(5000 + np.log(0.4))
    assert float(weighted_mean(np.log([3.0, 5.0]))) == pytest.approx(np.log(4.0))
    assert float(weighted_mean([-np.inf, 0.0])) == pytest.approx(np.log(0.5))


def test_missing_streams_are_left_out_and_the_rest_scaled():
    """A nan stream has no say; with no stream at all the result is nan."""
    log_e = [[np.log(3.0), np.nan, np.log(9.0), np.nan], [np.nan] * 4]
    combined = weighted_mean(log_e, WEIGHTS)
    assert combined[0] == pytest.approx(np.log((0.4 * 3 + 0.2 * 9) / 0.6))
    assert np.isnan(combined[1])


def test_one_stream_that_seems_bad_cannot_be_outvoted_for_ever():
    """Evidence is averaged, not multiplied: one stream of 1/(w alpha) suffices whatever the others say."""
    assert weighted_mean([-900.0, -900.0, -900.0, np.log(20 / 0.1)], WEIGHTS) >= log_limit(0.05) - 1e-12


def test_the_weakest_decides_what_must_hold_everywhere():
    """All hypotheses are rejected only when the smallest e-value is large; an unmeasured one cannot pass."""
    assert weakest([[3.0, 9.0], [4.0, 2.0]]).tolist() == [3.0, 2.0]
    assert np.isnan(weakest([3.0, np.nan]))


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: weighted_mean([1.0, 2.0], [1.0]), "weights"),
        (lambda: weighted_mean([1.0, 2.0], [1.0, 0.0]), "weights"),
        (lambda: weighted_mean([1.0, 2.0], [1.0, np.nan]), "weights"),
        (lambda: weighted_mean([]), "log_e"),
        (lambda: weakest(3.0), "log_e"),
        (lambda: log_limit(0.0), "alpha"),
    ],
)
def test_bad_input_is_named(call, named):
    """A wrong argument raises ValueError with the argument's name."""
    with pytest.raises(ValueError, match=named):
        call()
