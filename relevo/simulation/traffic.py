"""What is simulated: the traffic, and in which way a candidate differs from the stable revision.

`streams` draws counts from it. Every request is counted by every source of the policy. Bad values raise `BadInput` with the field's name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from relevo.errors import BadInput
from relevo.statistics.counts import Floats

__all__ = ["EFFECTS", "HEALTHY", "Effect", "Traffic"]


@dataclass(frozen=True, slots=True)
class Traffic:
    """How the stable revision's traffic is: how much, how often it fails, how long it takes, how it predicts."""

    requests_per_second: float
    error_rate: float
    edges_ms: Mapping[str, tuple[float, ...]]
    """Per source, the upper edges of its latency histogram in ms."""
    latency_p50_ms: float = 5.0
    latency_p99_ms: float = 16.0
    wrong_rate: float | None = 0.05
    """The share of wrong answers; None where the load carries no labels."""
    class_shares: tuple[float, ...] = (0.34, 0.33, 0.33)
    disagreement: float = 0.03
    """The share of shadowed rows that the two revisions answer differently, both being equally good."""

    def __post_init__(self) -> None:
        _at_least("rate", self.requests_per_second, 1e-3, "requests per second")
        _share("error rate", self.error_rate)
        _at_least("latency p50", self.latency_p50_ms, 1e-6, "ms")
        if not (math.isfinite(self.latency_p99_ms) and self.latency_p99_ms > self.latency_p50_ms):
            raise BadInput(
                f"latency p99: {self.latency_p99_ms:g} ms is not above the p50 of {self.latency_p50_ms:g} ms",
                next_step="Give both as measured on the stable revision.",
            )
        if self.wrong_rate is not None:
            _share("wrong rate", self.wrong_rate)
        _share("disagreement", self.disagreement)
        if min(self.class_shares, default=0) <= 0 or abs(sum(self.class_shares) - 1) > 1e-6:
            raise BadInput(
                f"class shares: {self.class_shares} are not above 0 with the sum 1",
                next_step="Give one share per class.",
            )

    @property
    def log_median(self) -> float:
        """Of the latency in ms, which is lognormal."""
        return math.log(self.latency_p50_ms)

    @property
    def log_spread(self) -> float:
        """The standard deviation of the logarithm of the latency."""
        return math.log(self.latency_p99_ms / self.latency_p50_ms) / float(ndtri(0.99))


@dataclass(frozen=True, slots=True)
class Effect:
    """In which way a candidate differs from the stable revision."""

    name: str
    error_ratio: float = 1.0
    latency_factor: float = 1.0
    stalled_share: float = 0.0
    """Of the requests, so many take `stalled_ms` longer."""
    stalled_ms: float = 400.0
    accuracy_drop: float = 0.0
    """So much larger is the share of wrong answers, and of answers that differ from the stable revision's."""

    @property
    def is_regression(self) -> bool:
        """Whether the candidate is worse in some respect."""
        return self.error_ratio > 1 or self.latency_factor > 1 or self.stalled_share > 0 or self.accuracy_drop > 0

    def is_possible(self, traffic: Traffic) -> bool:
        """Whether a candidate can be so with this traffic: no rate above 1, and labels where answers are to be wrong."""
        wrong = (traffic.wrong_rate or 0.0) + self.accuracy_drop
        labelled = traffic.wrong_rate is not None or not self.accuracy_drop
        return traffic.error_rate * self.error_ratio <= 1 and wrong <= 1 and labelled

    def error_rate(self, traffic: Traffic) -> float:
        """How often the candidate fails. Raises BadInput where that is impossible."""
        return _possible(self, "fails", traffic.error_rate * self.error_ratio)

    def wrong_rate(self, traffic: Traffic) -> float:
        """How often the candidate's answers are wrong. Raises BadInput where that is impossible."""
        return _possible(self, "answers wrongly", (traffic.wrong_rate or 0.0) + self.accuracy_drop)

    def disagreement(self, traffic: Traffic) -> float:
        """On which share of the rows the two revisions disagree."""
        return min(traffic.disagreement + self.accuracy_drop, 1.0)

    def survival(self, traffic: Traffic, threshold_ms: Floats, shift: Floats | float = 0.0) -> Floats:
        """The share of the candidate's requests over thresholds of any shape. `shift` is added to the log of the latency."""
        median = traffic.log_median + math.log(self.latency_factor)
        with np.errstate(divide="ignore"):
            plain = ndtr((median + shift - np.log(threshold_ms)) / traffic.log_spread)
            if not self.stalled_share:
                return np.asarray(plain)
            later = np.maximum(threshold_ms - self.stalled_ms, 0.0)
            stalled = ndtr((median + shift - np.log(later)) / traffic.log_spread)
        return np.asarray((1 - self.stalled_share) * plain + self.stalled_share * stalled)


HEALTHY = Effect("as good as the stable one")

EFFECTS = (
    HEALTHY,
    *(Effect(f"errors x{ratio:g}", error_ratio=ratio) for ratio in (1.5, 2.0, 3.0, 5.0, 10.0)),
    *(Effect(f"latency x{factor:g}", latency_factor=factor) for factor in (1.05, 1.1, 1.25)),
    Effect("1 % of requests +400 ms", stalled_share=0.01),
    Effect("3 % of requests +400 ms", stalled_share=0.03),
    *(Effect(f"accuracy -{100 * drop:g} points", accuracy_drop=drop) for drop in (0.01, 0.02, 0.05)),
)
"""The grid that `relevo simulate` asks about."""


def _at_least(name: str, value: float, least: float, unit: str) -> None:
    if not (math.isfinite(value) and value >= least):
        raise BadInput(
            f"{name}: {value:g} {unit} is not a number above 0", next_step=f"Give the stable revision's {name}."
        )


def _share(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise BadInput(
            f"{name}: {value:g} is not a share from 0 to below 1", next_step="A share, not percent: 0.005 is 0.5 %."
        )


def _possible(effect: Effect, what: str, rate: float) -> float:
    if not 0 <= rate <= 1:
        raise BadInput(
            f"effect {effect.name}: a candidate that {what} {100 * rate:g} % of the time is impossible",
            next_step="Give a smaller base rate or leave the effect out.",
        )
    return rate
