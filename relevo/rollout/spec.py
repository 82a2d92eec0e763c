"""The Rollout: what a user asks for. One pydantic model reads it from YAML here and later generates the CRD.

`relevo.rollout.ramp` expands the strategy to steps, `relevo.rollout.plan` acts on it. Field names are camelCase in YAML, snake_case here.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from relevo.errors import BadInput

__all__ = [
    "BlueGreen",
    "Canary",
    "Checks",
    "LatencyCheck",
    "Rollout",
    "RolloutSpec",
    "Strategy",
    "load_rollout",
    "parse_rollout",
]

API_VERSION: Literal["relevo.dev/v1alpha1"] = "relevo.dev/v1alpha1"
NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"

Weight = Annotated[int, Field(ge=1, le=100)]
Share = Annotated[float, Field(gt=0, lt=1)]
Seconds = Annotated[float, Field(gt=0, le=86_400 * 30)]


class Part(BaseModel):
    """What all parts share: unknown fields are refused, values are frozen."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True, allow_inf_nan=False
    )


class Ramp(Part):
    """A compact ramp: `from` percent, times `factor` at each step, up to `to` percent."""

    from_percent: Weight = Field(5, alias="from", description="Weight of the first step, in percent.")
    to_percent: Weight = Field(50, alias="to", description="Weight of the last step, in percent.")
    factor: float = Field(2.5, gt=1, le=100, description="How many times the weight grows from step to step.")

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if self.from_percent > self.to_percent:
            raise ValueError(f"from ({self.from_percent}) is above to ({self.to_percent}); weights must rise")
        return self


class Canary(Part):
    """Shift traffic in steps and judge at every look."""

    ramp: Ramp | None = Field(None, description="A compact ramp; the default is 5 to 50 percent by a factor of 2.5.")
    weights: tuple[Weight, ...] | None = Field(
        None, description="Explicit weights, in percent, strictly rising, instead of a ramp."
    )
    step_seconds: Seconds = Field(5, description="The least time that a step lasts, in seconds.")
    step_requests: int = Field(30, ge=1, description="The least number of candidate requests that a step needs.")

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if self.ramp is not None and self.weights is not None:
            raise ValueError("give either ramp or weights, not both")
        if self.weights is not None:
            if not self.weights:
                raise ValueError("weights is empty; a canary needs at least one step")
            _require_rising(self.weights)
        return self


def _require_rising(weights: tuple[int, ...]) -> None:
    for before, after in itertools.pairwise(weights):
        if after <= before:
            raise ValueError(f"weights must rise from step to step, but {after} follows {before}")


class BlueGreen(Part):
    """Rehearse the candidate in the idle colour, where no user meets it, then switch all traffic to it and keep the old colour warm."""

    weights: tuple[Annotated[int, Field(ge=1, le=99)], ...] | None = Field(
        None, description="Weights of the new colour on the way to 100 percent, strictly rising; without them at once."
    )
    step_seconds: Seconds = Field(5, description="The least time that each of these weights lasts, in seconds.")
    step_requests: int = Field(
        30,
        ge=1,
        description="The least number of requests that the new colour needs at each of them, and at 100 percent.",
    )
    keep_warm_seconds: Seconds = Field(
        60,
        alias="keepWarmFor",
        description="For how many seconds after the switch the old colour stays up and the new one is watched, before it is promoted.",
    )

    @model_validator(mode="after")
    def _rises(self) -> Self:
        _require_rising(self.weights or ())
        return self


class Immediate(Part):
    """No comparison: all traffic to the candidate as soon as it is ready and answers. What `relevo undo` uses."""


class Strategy(Part):
    """How the candidate comes to its users: exactly one of the fields."""

    canary: Canary | None = Field(None, description="Shift traffic in steps and judge at every look.")
    blue_green: BlueGreen | None = Field(
        None, description="Rehearse in the idle colour, switch all traffic, keep the old colour warm."
    )
    immediate: Immediate | None = Field(None, description="All traffic at once when ready, with no comparison.")

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if sum(one is not None for one in (self.canary, self.blue_green, self.immediate)) > 1:
            raise ValueError("give one strategy, canary, blueGreen or immediate, not several")
        return self

    @property
    def pace(self) -> Canary | BlueGreen:
        """What says how long a step lasts; a strategy without steps has the canary's defaults."""
        return self.blue_green or self.canary or Canary()

    def least_seconds(self, *, at_switch: bool) -> float:
        """The least time at a step below 100 percent, or for which a switch is watched."""
        switched = at_switch and self.blue_green is not None
        return self.blue_green.keep_warm_seconds if switched and self.blue_green else self.pace.step_seconds


class Shadow(Part):
    """Before any user meets the candidate, the same rows go to both revisions and the answers are compared."""

    enabled: bool = Field(True, description="Whether there is a shadow stage.")
    requests: int = Field(
        1000, ge=1, description="Pairs of answers to compare before the first user's request is shifted."
    )
    max_disagreement: Share = Field(0.15, description="The share of rows on which the predictions may differ.")


class Baseline(Part):
    """What is learnt of the stable revision before the candidate sees traffic: its latency thresholds."""

    requests: int = Field(
        200, ge=20, description="Requests to the stable revision that the latency thresholds rest on."
    )


class Load(Part):
    """The load that Locust adds, ramped with the steps. 0 users: judge by the users' own traffic alone."""

    users_from: int = Field(8, ge=0, le=100_000, description="Simulated users while preparing and at the first step.")
    users_to: int = Field(20, ge=0, le=100_000, description="Simulated users at the last step.")
    spawn_rate: float = Field(50, gt=0, description="Users started or ended per second.")
    workers: int = Field(
        1, ge=1, le=100, description="Processes that the users are spread over, on a cluster; on one machine it is one."
    )

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if self.users_to < self.users_from:
            raise ValueError(
                f"usersTo ({self.users_to}) is below usersFrom ({self.users_from}); the load must not fall"
            )
        return self


class ErrorsCheck(Part):
    """Failed requests: 5xx answers, no answer, an answer that is not valid V2."""

    gate: bool = Field(True, description="Whether promotion waits for this check to pass.")
    tolerance: float = Field(
        1.0, ge=1.0, le=1.1, description="Risk ratio up to which the candidate is never held worse."
    )
    margin: float = Field(2.0, gt=1.0, le=100, description="Promotion needs proof that the risk ratio is below this.")
    objective: Share = Field(0.01, description="An error rate that is acceptable whatever the stable revision's is.")


class LatencyCheck(Part):
    """Requests over thresholds near the stable revision's p25, p50, p75, p90, p95, p99 and p99.9."""

    gate: bool = Field(True, description="Whether promotion waits for this check to pass.")
    tolerance: float = Field(
        0.25, ge=0, le=10, description="How much slower is still as good: 0.25 is a quarter on every quantile."
    )
    margin: float = Field(
        2.0, gt=1.0, le=100, description="Promotion needs proof that the ratio of exceedances is below this."
    )
    window: int = Field(
        20,
        ge=1,
        le=1_000_000,
        description="Against the candidate count windows of at least so many answers of each revision: however alike they are, "
        "they are one witness.",
    )
    window_seconds: float | None = Field(
        None,
        gt=0,
        le=3600,
        description="A window also ends after so many seconds, if each revision has answered at all: longer than requests queue, and "
        "few answers tell sooner. Without it a window waits for its answers.",
    )
    clustering: float = Field(
        3.0,
        ge=1,
        le=1000,
        description="For the candidate, so many slow answers count as one: requests that wait behind one another are slow together.",
    )
    quantiles: tuple[Share, ...] = Field(
        (0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999), min_length=1, description="Where the thresholds are taken."
    )


class PredictionsCheck(Part):
    """The mix of predicted classes and, with a shadow stage, the share of rows predicted differently."""

    gate: bool = Field(
        True, description="Whether promotion waits for the shadowed disagreement to be proven below its limit."
    )
    tolerance: float = Field(
        0.25, ge=0, le=10, description="By how much a class's share may rise or fall: 0.25 is a quarter."
    )


class AccuracyCheck(Part):
    """Wrong answers, where the load carries labels."""

    gate: bool = Field(True, description="Whether promotion waits for this check to pass.")
    tolerance: float = Field(
        1.0, ge=1.0, le=2.0, description="Risk ratio up to which the candidate is never held worse."
    )
    margin: float = Field(2.0, gt=1.0, le=100, description="Promotion needs proof that the risk ratio is below this.")
    objective: Share = Field(
        0.01, description="A share of wrong answers that is acceptable whatever the stable revision's is."
    )


class Checks(Part):
    """The four checks. A check set to null is not made at all."""

    errors: ErrorsCheck | None = Field(default_factory=ErrorsCheck)
    latency: LatencyCheck | None = Field(default_factory=LatencyCheck)
    predictions: PredictionsCheck | None = Field(default_factory=PredictionsCheck)
    accuracy: AccuracyCheck | None = Field(default_factory=AccuracyCheck)

    @model_validator(mode="after")
    def _at_least_one(self) -> Self:
        if not any((self.errors, self.latency, self.predictions, self.accuracy)):
            raise ValueError("no check is left; a rollout needs at least one")
        return self


class CheckWeights(Part):
    """How the evidence against the candidate is shared out; those without evidence are left out and the rest scaled."""

    errors: float = Field(0.4, ge=0)
    latency: float = Field(0.3, ge=0)
    predictions: float = Field(0.2, ge=0)
    accuracy: float = Field(0.1, ge=0)

    @model_validator(mode="after")
    def _positive(self) -> Self:
        if self.errors + self.latency + self.predictions + self.accuracy <= 0:
            raise ValueError("all weights are zero; at least one must be positive")
        return self


class Decision(Part):
    """The error probabilities of the whole rollout."""

    alpha: Share = Field(
        0.05, description="Largest probability of rolling back a candidate that is not worse; the limit is 1/alpha."
    )
    promotion_alpha: Share = Field(
        0.05, description="Largest probability of promoting a candidate that is worse by a margin."
    )
    weights: CheckWeights = Field(default_factory=CheckWeights)


class Limits(Part):
    """When waiting ends."""

    max_seconds: Seconds = Field(
        600, description="Active time (not held) of a rollout; extended once by half, then inconclusive."
    )
    max_candidate_requests: int = Field(
        1_000_000, ge=1, description="Candidate requests; extended once by half, then inconclusive."
    )
    preparation_seconds: Seconds = Field(120, description="Within which the candidate must become ready.")
    evidence_timeout_seconds: Seconds = Field(
        5, description="A source silent for longer makes the rollout unmeasurable: it is held."
    )
    candidate_restarts: int = Field(
        3, ge=0, description="How often the candidate may crash and come back before it is rolled back."
    )


class RolloutSpec(Part):
    """What is rolled out, how, and what decides."""

    target: str = Field(pattern=NAME_PATTERN, description="Name of the InferenceService.")
    storage_uri: str = Field(min_length=1, description="The candidate's model, as an InferenceService names it.")
    strategy: Strategy = Field(default_factory=Strategy)
    shadow: Shadow = Field(default_factory=Shadow)
    baseline: Baseline = Field(default_factory=Baseline)
    load: Load = Field(default_factory=Load)
    checks: Checks = Field(default_factory=Checks)
    decision: Decision = Field(default_factory=Decision)
    limits: Limits = Field(default_factory=Limits)
    sources: tuple[Literal["locust", "envoy", "prometheus"], ...] = Field(
        ("locust", "envoy"),
        min_length=1,
        description="Where evidence comes from; prometheus, on a cluster only, needs steps of more than two scrapes.",
    )
    tick_seconds: float = Field(0.4, ge=0.05, le=60, description="How often the rollout is looked at, in seconds.")
    paused: bool = Field(False, description="Hold the rollout where it is; a proven regression still rolls back.")

    @property
    def baseline_sources(self) -> tuple[str, ...]:
        """The sources that see traffic before the first step: Locust counts its own load only."""
        return tuple(s for s in self.sources if s != "locust" or self.users_before > 0)

    @property
    def users_before(self) -> int:
        """Simulated users before the first step. A new colour is rehearsed with as many as it has to carry at once."""
        return self.load.users_to if self.strategy.blue_green is not None else self.load.users_from

    @property
    def counting_sources(self) -> tuple[str, ...]:
        """The sources that see traffic at some step."""
        return tuple(s for s in self.sources if s != "locust" or self.load.users_to > 0)

    @property
    def has_client(self) -> bool:
        """Whether a source sees answers as a client does: predictions, labels, shadow pairs."""
        return "locust" in self.counting_sources

    @property
    def has_shadow_stage(self) -> bool:
        """Whether rows are shadowed before the first step: asked for, and there is load to shadow."""
        return self.shadow.enabled and "locust" in self.baseline_sources

    @model_validator(mode="after")
    def _can_be_decided(self) -> Self:
        if len(set(self.sources)) != len(self.sources):
            raise ValueError("sources names one source twice")
        if self.strategy.immediate is not None:
            return self
        if not self.baseline_sources:
            raise ValueError(
                "sources has only locust and load.usersFrom is 0, so nothing can be measured before the first step"
            )
        if self.strategy.blue_green is not None and not self.has_shadow_stage:
            raise ValueError(
                "blueGreen rehearses the idle colour with shadowed rows, so shadow.enabled must be true, "
                "sources must have locust and load.usersTo be above 0"
            )
        checks = self.checks
        gates = {
            "errors": checks.errors is not None and checks.errors.gate,
            "latency": checks.latency is not None and checks.latency.gate,
            "predictions": checks.predictions is not None and checks.predictions.gate and self.has_shadow_stage,
            "accuracy": checks.accuracy is not None and checks.accuracy.gate and self.has_client,
        }
        if not any(gates.values()):
            raise ValueError(
                "checks has none that gates promotion and can be measured, so nothing could be promoted "
                "(predictions needs a shadow stage and accuracy labels, both of Locust's load)"
            )
        return self


class Metadata(Part):
    """The part of Kubernetes' metadata that a Rollout file uses."""

    name: str = Field(pattern=NAME_PATTERN)
    namespace: str = Field("default", pattern=NAME_PATTERN)
    labels: Mapping[str, str] = Field(default_factory=dict)
    annotations: Mapping[str, str] = Field(default_factory=dict)


class Rollout(Part):
    """The resource as a file holds it."""

    api_version: Literal["relevo.dev/v1alpha1"] = API_VERSION
    kind: Literal["Rollout"] = "Rollout"
    metadata: Metadata
    spec: RolloutSpec


def load_rollout(path: Path, overrides: Mapping[str, Any] | None = None) -> Rollout:
    """Read a Rollout from a YAML file; `overrides` replace fields of its spec, and of its parts where they are mappings.

    Raises:
        BadInput: the file cannot be read, is not YAML, or does not describe a Rollout; every wrong field is named.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})", next_step="Check the path.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: is not YAML: {error}", next_step="Mend the file.") from error
    if not isinstance(document, dict):
        raise BadInput(f"{path}: holds no Rollout", next_step=f"It must begin with apiVersion: {API_VERSION}.")
    if overrides and isinstance(document.get("spec"), dict):
        document = {**document, "spec": _merged(document["spec"], overrides)}
    return parse_rollout(document, where=str(path))


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        inner = merged.get(key)
        both = isinstance(inner, Mapping) and isinstance(value, Mapping)
        merged[key] = _merged(inner, value) if both else value  # type: ignore[arg-type]
    return merged


def parse_rollout(document: Mapping[str, Any], *, where: str) -> Rollout:
    """Validate a Rollout given as nested mappings. `where` names it in messages.

    Raises:
        BadInput: naming every wrong field by its path in the document, and what it may be.
    """
    try:
        return Rollout.model_validate(document)
    except ValidationError as error:
        lines = [f"  {'.'.join(str(p) for p in e['loc']) or '(whole)'}: {_reason(e)}" for e in error.errors()]
        raise BadInput(
            f"{where}: is not a valid Rollout:\n" + "\n".join(lines),
            next_step="docs/rollout.md lists every field with its default.",
        ) from error


def _reason(error: Mapping[str, Any]) -> str:
    if error["type"] == "extra_forbidden":
        return "no such field"
    message = str(error["msg"]).removeprefix("Value error, ")
    return message if error["type"] in ("missing", "value_error") else f"{message} (it is {error['input']!r})"
