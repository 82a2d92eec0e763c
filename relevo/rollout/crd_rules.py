"""What the API server checks across fields (CEL): for each validator of `relevo.rollout.spec`, the same rule in the cluster's words.

The messages are those of the pydantic validators as far as CEL can say them. `relevo.rollout.crd` writes the rules into the schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel

from relevo.rollout import spec

__all__ = ["NAME_RULE", "RULES", "TARGET_RULE", "Rule"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One entry of `x-kubernetes-validations`."""

    rule: str
    message: str

    def as_json(self) -> dict[str, str]:
        """As the schema holds it."""
        return {"rule": self.rule, "message": self.message}


def _made(check: str) -> str:
    """Whether a check is made: one that is set to null is not."""
    return f"(has(self.checks.{check}) && self.checks.{check} != null && self.checks.{check}.gate)"


_LOCUST_COUNTS = "('locust' in self.sources && self.load.usersTo > 0)"
_USERS_BEFORE = "(has(self.strategy.blueGreen) ? self.load.usersTo : self.load.usersFrom)"
_LOCUST_BASELINE = f"('locust' in self.sources && {_USERS_BEFORE} > 0)"
_COMPARES = "!has(self.strategy.immediate)"

NAME_RULE = Rule(
    "self.metadata.name.size() <= 52 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
    "metadata.name may have at most 52 characters (a-z, 0-9 and '-'): the load's Service and Pods are named after it",
)

TARGET_RULE = Rule("self == oldSelf", "target cannot be changed; make another Rollout for another InferenceService")

RULES: Mapping[type[BaseModel], tuple[Rule, ...]] = {
    spec.Ramp: (Rule("self.from <= self.to", "from is above to; weights must rise"),),
    spec.Canary: (
        Rule("!(has(self.ramp) && has(self.weights))", "give either ramp or weights, not both"),
        Rule(
            "!has(self.weights) || (self.weights.isSorted() && self.weights.all(w, self.weights.exists_one(v, v == w)))",
            "weights must rise from step to step",
        ),
    ),
    spec.BlueGreen: (
        Rule(
            "!has(self.weights) || (self.weights.isSorted() && self.weights.all(w, self.weights.exists_one(v, v == w)))",
            "weights must rise from step to step",
        ),
    ),
    spec.Strategy: (
        Rule(
            "!(has(self.canary) && has(self.immediate)) && !(has(self.blueGreen) && (has(self.canary) || has(self.immediate)))",
            "give one strategy, canary, blueGreen or immediate, not several",
        ),
    ),
    spec.Load: (Rule("self.usersTo >= self.usersFrom", "usersTo is below usersFrom; the load must not fall"),),
    spec.Checks: (
        Rule(
            "(has(self.errors) && self.errors != null) || (has(self.latency) && self.latency != null) || "
            "(has(self.predictions) && self.predictions != null) || (has(self.accuracy) && self.accuracy != null)",
            "no check is left; a rollout needs at least one",
        ),
    ),
    spec.CheckWeights: (
        Rule(
            "self.errors + self.latency + self.predictions + self.accuracy > 0.0",
            "all weights are zero; at least one must be positive",
        ),
    ),
    spec.RolloutSpec: (
        Rule("self.sources.all(s, self.sources.exists_one(t, t == s))", "sources names one source twice"),
        Rule(
            f"!({_COMPARES}) || self.sources.exists(s, s != 'locust') || {_USERS_BEFORE} > 0",
            "sources has only locust and load.usersFrom is 0, so nothing can be measured before the first step",
        ),
        Rule(
            f"!has(self.strategy.blueGreen) || (self.shadow.enabled && {_LOCUST_BASELINE})",
            "blueGreen rehearses the idle colour with shadowed rows, so shadow.enabled must be true, "
            "sources must have locust and load.usersTo be above 0",
        ),
        Rule(
            f"!({_COMPARES}) || {_made('errors')} || {_made('latency')} "
            f"|| ({_made('predictions')} && self.shadow.enabled && {_LOCUST_BASELINE}) "
            f"|| ({_made('accuracy')} && {_LOCUST_COUNTS})",
            "checks has none that gates promotion and can be measured, so nothing could be promoted "
            "(predictions needs a shadow stage and accuracy labels, both of Locust's load)",
        ),
    ),
}
