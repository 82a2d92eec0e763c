"""From a compact strategy to explicit steps: the weight and the load of each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from relevo.rollout.spec import Canary, Load, Ramp, RolloutSpec, Strategy

__all__ = ["Step", "expand"]


@dataclass(frozen=True, slots=True)
class Step:
    """One step: the candidate's share of the traffic, and how many simulated users send load meanwhile."""

    weight_percent: int
    users: int

    @property
    def is_switch(self) -> bool:
        """Whether all traffic goes to the candidate, so that no user's request tells how the stable revision does meanwhile."""
        return self.weight_percent == 100


def expand(spec: RolloutSpec) -> tuple[Step, ...]:
    """Expand the strategy: strictly rising weights, users rising evenly from `usersFrom` to `usersTo`.

    A blue/green strategy ends with the switch, a step of 100 %, and has all its users from the start. An immediate strategy has no steps.
    """
    return _expand(spec.strategy, spec.load)


@lru_cache(maxsize=64)
def _expand(strategy: Strategy, load: Load) -> tuple[Step, ...]:
    if strategy.immediate is not None:
        return ()
    if strategy.blue_green is not None:
        return tuple(Step(weight, load.users_to) for weight in (*(strategy.blue_green.weights or ()), 100))
    canary = strategy.canary or Canary()
    weights = canary.weights or _expand_ramp(canary.ramp or Ramp())
    last = len(weights) - 1
    return tuple(
        Step(
            weight,
            load.users_to if last == 0 else round(load.users_from + (load.users_to - load.users_from) * i / last),
        )
        for i, weight in enumerate(weights)
    )


def _expand_ramp(ramp: Ramp) -> tuple[int, ...]:
    weights: list[int] = []
    weight = float(ramp.from_percent)
    while weight < ramp.to_percent:
        # Rounding may repeat a small weight; a step must rise by at least one point.
        weights.append(max(round(weight), weights[-1] + 1 if weights else 1))
        weight = max(weight * ramp.factor, weights[-1] + 1)
    return (*(w for w in weights if w < ramp.to_percent), ramp.to_percent)
