"""Tests on counts that hold at every look: pure functions of NumPy arrays, independent of the rest of relevo.

Each returns the natural log of an e-value: how many times a bet against the hypothesis has multiplied its capital. If the hypothesis is
true, the chance of ever reaching 1/alpha is at most alpha, so one may look after every request and stop at will.

`betting` (bad events by arm), `exceedance` (latency), `mix` (predictions), `bounded` (one rate against a limit), `sample_ratio` (the
split), `combine` (many e-values into one), `confidence` (intervals for messages).
"""

from relevo.statistics.betting import log_e_not_worse, log_e_worse
from relevo.statistics.bounded import log_e_rate_above, log_e_rate_below, rate_interval
from relevo.statistics.combine import log_limit, weakest, weighted_mean
from relevo.statistics.confidence import ratio_estimate, ratio_interval
from relevo.statistics.exceedance import log_e_not_slower, log_e_slower, margin_at
from relevo.statistics.mix import log_e_mix_kept, log_e_mix_shifted
from relevo.statistics.sample_ratio import log_e_split_differs

__all__ = [
    "log_e_mix_kept",
    "log_e_mix_shifted",
    "log_e_not_slower",
    "log_e_not_worse",
    "log_e_rate_above",
    "log_e_rate_below",
    "log_e_slower",
    "log_e_split_differs",
    "log_e_worse",
    "log_limit",
    "margin_at",
    "rate_interval",
    "ratio_estimate",
    "ratio_interval",
    "weakest",
    "weighted_mean",
]
