"""How simulated rollouts ended, and what a table says of them, with Monte Carlo standard errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relevo.statistics.counts import Floats

__all__ = ["End", "Outcomes", "Summary", "summarise"]


class End(IntEnum):
    """How a rollout ended."""

    OPEN = 0
    """Not at all within the simulated time: it was held."""
    PROMOTED = 1
    ROLLED_BACK = 2
    INCONCLUSIVE = 3


@dataclass(frozen=True, slots=True)
class Outcomes:
    """One entry per rollout, shapes (rollouts,)."""

    end: NDArray[np.int8]
    seconds: Floats
    """From the start to the decision."""
    requests: Floats
    """Users' requests to both arms from the first step to the decision."""
    exposed: Floats
    """Users' requests that the candidate had until the decision."""
    step: NDArray[np.int16]
    """At which the decision fell; 0 in the shadow stage or before."""
    split_held: NDArray[np.bool_]
    """Whether it was ever held because the split did not match."""

    @classmethod
    def joined(cls, parts: Sequence[Outcomes]) -> Outcomes:
        """All parts, one after another. There must be at least one."""
        return cls(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)))

    def __len__(self) -> int:
        return len(self.end)


@dataclass(frozen=True, slots=True)
class Summary:
    """Shares with standard errors, and quantiles; None where no rollout has the number."""

    runs: int
    promoted: tuple[float, float]
    rolled_back: tuple[float, float]
    inconclusive: tuple[float, float]
    open: tuple[float, float]
    split_held: tuple[float, float]
    seconds_to_promote: tuple[float, float] | None
    """Median and 90th percentile of those promoted."""
    requests_to_promote: tuple[float, float] | None
    exposed: tuple[float, float]
    """Mean of the candidate's requests until the decision, whichever it was, with its standard error."""
    exposed_at_rollback: tuple[float, float] | None
    """The same of those rolled back for a regression."""
    seconds_to_rollback: tuple[float, float] | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON and YAML. A standard error that one run alone cannot tell is None."""

        def number(value: float) -> float | None:
            return None if math.isnan(value) else float(f"{value:.6g}")

        def named(value: Any, names: tuple[str, str]) -> dict[str, float | None] | None:
            return None if value is None else {n: number(v) for n, v in zip(names, value, strict=True)}

        share, spread, mean = ("share", "standard_error"), ("median", "p90"), ("mean", "standard_error")
        kinds = {
            **dict.fromkeys(("promoted", "rolled_back", "inconclusive", "open", "split_held"), share),
            **dict.fromkeys(("seconds_to_promote", "requests_to_promote", "seconds_to_rollback"), spread),
            **dict.fromkeys(("exposed", "exposed_at_rollback"), mean),
        }
        return {"runs": self.runs, **{name: named(getattr(self, name), names) for name, names in kinds.items()}}


def summarise(outcomes: Outcomes) -> Summary:
    """The numbers of a table's row."""

    def share(flags: NDArray[np.bool_]) -> tuple[float, float]:
        return binomial(int(flags.sum()), len(flags))

    promoted, failed = outcomes.end == End.PROMOTED, outcomes.end == End.ROLLED_BACK
    return Summary(
        runs=len(outcomes),
        promoted=share(promoted),
        rolled_back=share(failed),
        inconclusive=share(outcomes.end == End.INCONCLUSIVE),
        open=share(outcomes.end == End.OPEN),
        split_held=share(outcomes.split_held),
        seconds_to_promote=_spread(outcomes.seconds[promoted]),
        requests_to_promote=_spread(outcomes.requests[promoted]),
        exposed=_mean(outcomes.exposed) or (math.nan, math.nan),
        exposed_at_rollback=_mean(outcomes.exposed[failed]),
        seconds_to_rollback=_spread(outcomes.seconds[failed]),
    )


def binomial(hits: int, runs: int) -> tuple[float, float]:
    """A share and its standard error; that of a share of 0 or 1 is taken as if one run had come out otherwise."""
    share = hits / runs
    likely = min(max(share, 1 / (runs + 1)), 1 - 1 / (runs + 1)) if runs > 1 else 0.5
    return share, math.sqrt(likely * (1 - likely) / runs)


def _spread(values: Floats) -> tuple[float, float] | None:
    if not values.size:
        return None
    median, p90 = np.quantile(values, [0.5, 0.9])
    return float(median), float(p90)


def _mean(values: Floats) -> tuple[float, float] | None:
    if not values.size:
        return None
    error = values.std(ddof=1) / math.sqrt(values.size) if values.size > 1 else math.nan
    return float(values.mean()), float(error)
