"""What is simulated: a policy, the traffic, a candidate, and what goes wrong; and for how long."""

from __future__ import annotations

from dataclasses import dataclass, field

from relevo.errors import BadInput
from relevo.rollout.ramp import expand
from relevo.rollout.rules import EXTENSION
from relevo.rollout.spec import RolloutSpec
from relevo.simulation.conditions import Conditions
from relevo.simulation.traffic import HEALTHY, Effect, Traffic

__all__ = ["World"]

GRACE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class World:
    """What is simulated: a policy, the traffic, a candidate, and what goes wrong."""

    spec: RolloutSpec
    traffic: Traffic
    effect: Effect = HEALTHY
    conditions: Conditions = field(default_factory=Conditions)

    def __post_init__(self) -> None:
        if not expand(self.spec):
            raise BadInput(
                "strategy: an immediate strategy compares nothing, so there is nothing to simulate",
                next_step="Give a canary strategy.",
            )
        for source in self.spec.counting_sources:
            if source not in self.traffic.edges_ms:
                raise BadInput(
                    f"source {source}: its latency edges are not given", next_step="Name them in the traffic."
                )
        self.effect.error_rate(self.traffic)
        self.effect.wrong_rate(self.traffic)

    @property
    def horizon_seconds(self) -> float:
        """After which no rollout that is not held for good is still open."""
        held = self.conditions.silent_seconds + GRACE_SECONDS
        return float(EXTENSION * self.spec.limits.max_seconds + held)
