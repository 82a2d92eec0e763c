"""Draws what one tick of traffic brings to many rollouts, as counts.

Requests come at random at a steady rate (Poisson), so the counts of disjoint outcomes are independent and each is drawn by itself. Where
requests have something in common (`Conditions.cluster_requests`), they are drawn one by one.
"""

from __future__ import annotations

import numpy as np

from relevo.simulation.accounts import Increments, Indices
from relevo.simulation.conditions import Conditions
from relevo.simulation.traffic import Effect, Traffic
from relevo.statistics.counts import Floats

__all__ = ["Streams", "shares_between"]

_ENDLESS_MS, _APART = 1e15, 100.0
"""No request takes so long; and logs of latencies, in ms, are closer together than this."""


class Streams:
    """The traffic of many rollouts. `sources`, `thresholds`: how many there are."""

    def __init__(
        self,
        rng: np.random.Generator,
        traffic: Traffic,
        effect: Effect,
        conditions: Conditions,
        *,
        sources: int,
        thresholds: int,
        with_answers: bool,
    ) -> None:
        self._rng, self._traffic, self._effect, self._conditions = rng, traffic, effect, conditions
        self._sources, self._thresholds, self._with_answers = sources, thresholds, with_answers
        self._error_rates = np.array([traffic.error_rate, effect.error_rate(traffic)])
        self._wrong_rates = np.array([traffic.wrong_rate or 0.0, effect.wrong_rate(traffic)])
        self._disagreement = effect.disagreement(traffic)
        self._shares = np.array(traffic.class_shares)

    def _errors_at(self, seconds: float) -> Floats:
        second = self._conditions.in_second_half(seconds, self._conditions.cycle_seconds)
        return np.minimum(self._error_rates * (self._conditions.cycle_error_factor if second else 1.0), 1.0)

    def shift_at(self, seconds: float) -> float:
        """By how much the log latency of both arms is up at this time."""
        second = self._conditions.in_second_half(seconds, self._conditions.cycle_seconds)
        return float(np.log(self._conditions.cycle_latency_factor)) if second else 0.0

    def requests_in(self, seconds: float, length_seconds: float) -> float:
        """How many requests are to be expected from `seconds` on."""
        stopped = self._conditions.in_second_half(seconds, self._conditions.stop_every_seconds)
        return 0.0 if stopped else self._traffic.requests_per_second * length_seconds

    def baseline(self, rollouts: int, seconds: float, length_seconds: float) -> tuple[Floats, Indices, Floats]:
        """Traffic of the stable arm alone: all requests (rollouts,), and each success by its rollout's index and latency in ms."""
        requests = self._rng.poisson(self.requests_in(seconds, length_seconds), rollouts)
        good = requests - self._rng.binomial(requests, self._errors_at(seconds)[0])
        owner = np.repeat(np.arange(rollouts), good)
        traffic, conditions = self._traffic, self._conditions
        shared = np.zeros(owner.size)
        if conditions.has_clusters:
            cluster = np.arange(owner.size) // conditions.cluster_requests
            shared = self._rng.normal(size=cluster.max(initial=0) + 1)[cluster]
        own = self._rng.normal(size=owner.size)
        mixed = np.sqrt(conditions.shared_latency) * shared + np.sqrt(1 - conditions.shared_latency) * own
        log_ms = traffic.log_median + self.shift_at(seconds) + traffic.log_spread * mixed
        return requests.astype(np.float64), owner, np.exp(log_ms)

    def shadowed(self, survival: Floats, seconds: float, length_seconds: float) -> Increments:
        """Pairs of the same row to both arms; every other request is one. `survival`: (rollouts, cuts, 2)."""
        rollouts = len(survival)
        pairs = self._rng.poisson(self.requests_in(seconds, length_seconds) / 2, rollouts)
        requests = np.repeat(pairs[:, None], 2, axis=1)
        errors = self._rng.binomial(requests, self._errors_at(seconds))
        order = np.argsort(-survival, axis=1)
        buckets = shares_between(np.take_along_axis(survival, order, axis=1))
        drawn = self._rng.multinomial(requests - errors, np.moveaxis(buckets, 1, -1))
        over = _unsorted(_cumulated(np.moveaxis(drawn, -1, 1).astype(np.float64)), order)
        disagreed = self._rng.binomial(pairs, self._disagreement).astype(np.float64)
        return self._answered(
            requests.astype(np.float64), errors.astype(np.float64), over, pairs.astype(np.float64), disagreed
        )

    def routed(
        self,
        share: Floats,
        between: Floats,
        order: Indices,
        cuts_ms: Floats,
        seconds: float,
        length_seconds: float,
    ) -> Increments:
        """Requests through the proxy. `share`: the candidate's, (rollouts,). `between`: by `shares_between`, with the cuts' `order`."""
        if self._conditions.has_clusters:
            return self._clustered(share, cuts_ms, seconds, length_seconds)
        expected = self.requests_in(seconds, length_seconds) * np.stack((1 - share, share), axis=1)
        error_rates = self._errors_at(seconds)
        errors = self._rng.poisson(expected * error_rates).astype(np.float64)
        good = expected * (1 - error_rates)
        drawn = self._rng.poisson(good[:, None] * between).astype(np.float64)
        over = _cumulated(drawn)
        requests = errors + drawn[:, 0]
        if over.shape[1]:
            requests += over[:, 0]
        nothing = np.zeros(len(share))
        return self._answered(requests, errors, _unsorted(over, order), nothing, nothing)

    def _answered(
        self, requests: Floats, errors: Floats, over: Floats, compared: Floats, disagreed: Floats
    ) -> Increments:
        """With what the successful answers say."""
        rollouts, good = len(requests), (requests - errors).astype(np.int64)
        predicted = np.zeros(
            (rollouts, self._shares.size + 1, 2)
        )  # the last class: those that the baseline did not have
        wrong, labelled = np.zeros((rollouts, 2)), np.zeros((rollouts, 2))
        if self._with_answers:
            predicted[:, :-1] = np.moveaxis(self._rng.multinomial(good, self._shares), -1, 1)
            if self._traffic.wrong_rate is not None:
                wrong, labelled = (
                    self._rng.binomial(good, self._wrong_rates).astype(np.float64),
                    good.astype(np.float64),
                )
        shaped = over.reshape(rollouts, self._sources, self._thresholds, 2)
        return Increments(requests, errors, shaped, predicted, wrong, labelled, compared, disagreed)

    def _clustered(self, share: Floats, cuts_ms: Floats, seconds: float, length_seconds: float) -> Increments:
        """Requests one by one. A cluster has a normal shift of its log latency in common, and its errors; sticky ones the arm.

        Else a cluster is a stretch of one arm's queue: the requests that are routed there one after another.
        """
        conditions, traffic, rng = self._conditions, self._traffic, self._rng
        rollouts, size = len(share), conditions.cluster_requests
        arrived = rng.poisson(self.requests_in(seconds, length_seconds) / size, rollouts)
        routed, each = (arrived, size) if conditions.sticky else (arrived * size, 1)
        to_candidate = rng.binomial(routed, share)
        counts = each * np.stack((routed - to_candidate, to_candidate), axis=1).ravel()  # by place: rollout, arm
        place = np.repeat(np.arange(2 * rollouts), counts)
        begins = np.concatenate(([0], np.cumsum(counts)[:-1]))
        clusters = -(-counts // size)
        cluster = np.repeat(np.concatenate(([0], np.cumsum(clusters)[:-1])), counts)
        cluster += (np.arange(place.size) - begins[place]) // size
        arm = place % 2
        prone = (rng.random(int(clusters.sum())) < conditions.error_prone_share)[cluster]
        rate = np.minimum(self._errors_at(seconds) / conditions.error_prone_share, 1.0)
        failed = prone & (rng.random(place.size) < rate[arm])
        log_ms = np.sqrt(1 - conditions.shared_latency) * rng.normal(size=place.size)
        if conditions.shared_latency:
            log_ms += np.sqrt(conditions.shared_latency) * rng.normal(size=int(clusters.sum()))[cluster]
        log_ms *= traffic.log_spread
        log_ms += traffic.log_median + self.shift_at(seconds)
        log_ms += np.array([0.0, np.log(self._effect.latency_factor)])[arm]
        if self._effect.stalled_share:
            stalls = (arm == 1) & (rng.random(place.size) < self._effect.stalled_share)
            log_ms[stalls] = np.log(np.exp(log_ms[stalls]) + self._effect.stalled_ms)
        answered = ~failed
        over = _over_cuts(place[answered], log_ms[answered], cuts_ms)
        requests = counts.reshape(rollouts, 2).astype(np.float64)
        errors = np.bincount(place[failed], minlength=2 * rollouts).reshape(rollouts, 2).astype(np.float64)
        nothing = np.zeros(rollouts)
        return self._answered(requests, errors, over, nothing, nothing)


def shares_between(sorted_survival: Floats) -> Floats:
    """From falling shares over cuts, (rollouts, cuts, 2), the shares between them, (rollouts, cuts + 1, 2), which sum to 1."""
    whole = np.ones((len(sorted_survival), 1, 2))
    padded = np.concatenate((whole, sorted_survival, np.zeros_like(whole)), axis=1)
    return np.maximum(padded[:, :-1] - padded[:, 1:], 0.0)


def _cumulated(drawn: Floats) -> Floats:
    """From counts between cuts, (rollouts, cuts + 1, 2), the counts over each, (rollouts, cuts, 2)."""
    return drawn[:, :0:-1].cumsum(axis=1)[:, ::-1]


def _unsorted(values: Floats, order: Indices) -> Floats:
    """Back from the order of falling shares to the order of the cuts."""
    result = np.empty_like(values)
    np.put_along_axis(result, order, values, axis=1)
    return result


def _over_cuts(place: Indices, log_ms: Floats, cuts_ms: Floats) -> Floats:
    """How many requests of each rollout and arm are over its cuts, (rollouts, cuts, 2). `place`: twice the rollout plus the arm."""
    rollouts, cuts, _ = cuts_ms.shape
    if not cuts:
        return np.zeros(cuts_ms.shape)
    log_cuts = np.log(np.minimum(cuts_ms, _ENDLESS_MS)).transpose(0, 2, 1).reshape(2 * rollouts, cuts)
    order = np.argsort(log_cuts, axis=1)
    # One search for all: each place has a stretch of its own on one long line.
    line = np.take_along_axis(log_cuts, order, axis=1) + _APART * np.arange(2 * rollouts)[:, None]
    passed = np.searchsorted(line.ravel(), log_ms + _APART * place) - cuts * place
    found = np.bincount(place * (cuts + 1) + passed, minlength=2 * rollouts * (cuts + 1)).reshape(-1, cuts + 1)
    rising = found[:, :0:-1].cumsum(axis=1)[:, ::-1].astype(np.float64)
    over = np.empty_like(rising)
    np.put_along_axis(over, order, rising, axis=1)
    return over.reshape(rollouts, 2, cuts).transpose(0, 2, 1)
