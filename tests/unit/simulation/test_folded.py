"""The folded bets are the bets of `relevo.statistics`, summed in another order."""

from __future__ import annotations

import numpy as np
import pytest

from relevo.simulation.folded import FoldedBets
from relevo.statistics import betting, exceedance
from relevo.statistics.mixture import LATE_SHARE

RHO = (0.5, 0.05, 0.2, 0.5)


@pytest.mark.parametrize("step", [0, 1, 3])
@pytest.mark.parametrize("held_back", [0.0, LATE_SHARE])
def test_folding_changes_nothing_for_label_bets(step: int, held_back: float) -> None:
    """At any step, with and without capital held back, the log e-value is that of `log_e_worse` on all counts so far."""
    rng = np.random.default_rng(step)
    bad = rng.poisson(4.0, (7, step + 1, 2)).astype(float)
    factors = np.stack([betting.worse_bets((r,), 1.0, betting.WORSE, 0.0).log_factors for r in RHO])
    folded = FoldedBets(np.broadcast_to(factors[:, None], (7, 4, 1, *factors.shape[1:])), betting.WORSE, held_back)
    every = np.arange(7)
    folded.fold(every, bad[:, :, None], step)
    capital = folded.log_capital(bad[:, step][:, None])
    expected = betting.log_e_worse(bad, RHO[: step + 1], held_back=held_back)
    assert folded.log_e(capital, every)[:, 0] == pytest.approx(expected)
    assert (np.log(folded.bound(capital)[:, 0]) >= expected - 1e-9).all()


def test_folding_changes_nothing_for_latency_bets() -> None:
    """The same for bets that differ from threshold to threshold."""
    rng = np.random.default_rng(5)
    rates = (0.5, 0.1, 0.02)
    total = rng.integers(50, 90, (6, 4, 2)).astype(float)
    over = rng.binomial(total[:, None].astype(int), np.array(rates)[:, None, None]).astype(float)
    per_step = [exceedance.slower_bets((r,), rates, exceedance.SLOWER, 0.0).log_factors for r in RHO]
    factors = np.stack(per_step)[None].repeat(6, axis=0)
    folded = FoldedBets(factors, exceedance.SLOWER, LATE_SHARE)
    events = np.moveaxis(np.concatenate((over, total[:, None] - over), axis=-1), 2, 1)
    folded.fold(np.arange(6), events, 3)
    capital = folded.log_capital(events[:, 3])
    average = np.log(np.exp(folded.log_e(capital, np.arange(6))).mean(axis=1))
    assert average == pytest.approx(exceedance.log_e_slower(over, total, RHO, rates))
