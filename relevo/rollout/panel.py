"""All the bets of a rollout side by side: made once per ramp, judged each tick by one product of matrices.

The log of a bet's capital is linear in the counts (`relevo.statistics.mixture`), and all sources and checks share the candidate's shares of
the traffic. So what `relevo.statistics` would be asked one by one, each time with checks of its input, is here one question. The
bets themselves are those of `relevo.statistics`; `tests/unit/rollout/test_checks.py` holds the answers against theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from inspect import signature

import numpy as np

from relevo.statistics import betting, bounded, exceedance, mix
from relevo.statistics.counts import Floats
from relevo.statistics.mixture import Bets

__all__ = ["Panel", "label_panel", "not_slower_panel", "rate_panel"]


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """Several sets of bets on the same events. `log_factors`: as in `Bets`, with the sets' bets one after the other."""

    log_factors: Floats
    log_weights: Floats
    starts: tuple[int, ...]
    """Where each set begins among the bets."""
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, sets: Sequence[Bets]) -> Panel:
        """A panel of sets that bet on events of the same shape."""
        sizes = tuple(bets.log_weights.size for bets in sets)
        starts = tuple(sum(sizes[:i]) for i in range(len(sizes)))
        factors = np.concatenate([bets.log_factors for bets in sets], axis=-1)
        return cls(factors, np.concatenate([bets.log_weights for bets in sets]), starts, sizes)

    def log_e(self, events: Floats) -> Floats:
        """The log e-value of each stream by each set.

        `events`: shape (streams, events), or (streams, looks, events) where each stream has bets of its own. Result: the same shape with
        the sets in the place of the events.
        """
        terms = events @ self.log_factors
        terms += self.log_weights
        highest = np.maximum.reduceat(terms, self.starts, axis=-1)
        terms -= np.repeat(highest, self.sizes, axis=-1)
        np.exp(terms, out=terms)
        total: Floats = np.log(np.add.reduceat(terms, self.starts, axis=-1))
        total += highest
        return total


@lru_cache(maxsize=64)
def label_panel(
    rho: tuple[float, ...], ratios: tuple[tuple[float, float], tuple[float, float]], mix_ratio: float
) -> Panel:
    """Bets on the arm of each event, in the order (step, arm).

    The sets: for each (tolerance, margin) of `ratios`, those of failures and those of wrong answers, "risk ratio above the tolerance" and
    "risk ratio below the margin"; then "a class's share rose by more than `mix_ratio`" and "it fell by more".
    """
    held_back, held_back_for = _held_back(betting.log_e_worse), _held_back(betting.log_e_not_worse)
    sets = []
    for (tolerance, margin), prior in zip(ratios, (betting.WORSE, betting.WORSE_BY_LITTLE), strict=True):
        sets.append(betting.worse_bets(rho, tolerance, prior, held_back))
        sets.append(betting.not_worse_bets(rho, margin, betting.NOT_WORSE, held_back_for))
    held_back = _held_back(mix.log_e_mix_shifted)
    sets.append(betting.worse_bets(rho, mix_ratio, betting.WORSE_BY_LITTLE, held_back))
    fell = betting.worse_bets(tuple(1 - share for share in rho), mix_ratio, betting.WORSE_BY_LITTLE, held_back)
    # A fall is a rise with the arms' roles exchanged: the same bets with each step's two rows exchanged.
    exchanged = np.arange(2 * len(rho)).reshape(-1, 2)[:, ::-1].ravel()
    sets.append(Bets(fell.log_factors[exchanged], fell.log_weights))
    return Panel.of(sets)


@lru_cache(maxsize=64)
def not_slower_panel(rho: float, usual_rates: tuple[float, ...], margin: float) -> Panel:
    """For each threshold, by its usual rate, the set "not slower by the margin", on one step's events (over or not, arm)."""
    margins = tuple(exceedance.margin_at(margin, usual_rates).tolist())
    held_back = _held_back(exceedance.log_e_not_slower)
    return Panel.of((exceedance.not_slower_bets((rho,), usual_rates, margins, betting.NOT_WORSE, held_back),))


@lru_cache(maxsize=64)
def rate_panel(limits: tuple[float, ...]) -> Panel:
    """For each limit the two sets "the rate is above it" and "it is below it", on events (bad, all)."""
    return Panel.of((bounded.rate_bets(limits, bounded.ABOVE), bounded.rate_bets(limits, bounded.BELOW)))


def _held_back(test: object) -> float:
    """How much of its capital a test holds back for later steps, unless it is told."""
    return float(signature(test).parameters["held_back"].default)  # type: ignore[arg-type]
