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
        """Requests one by one. A cluster has a normal shift of its log latency in common, and its errors; sticky ones the arm."""
        conditions, traffic, rng = self._conditions, self._traffic, self._rng
        rollouts, size = len(share), conditions.cluster_requests
        expected = self.requests_in(seconds, length_seconds)
        arrived = rng.poisson(expected / size, rollouts)
        owner_of_cluster = np.repeat(np.arange(rollouts), arrived)
        clusters = owner_of_cluster.size
        owner = np.repeat(owner_of_cluster, size)
        if conditions.sticky:
            arm = np.repeat((rng.random(clusters) < share[owner_of_cluster]).astype(np.intp), size)
            common = np.repeat(rng.normal(size=clusters), size)
        else:  # a cluster is a stretch of one arm's queue: the requests that are routed there one after another
            arm = (rng.random(owner.size) < share[owner]).astype(np.intp)
            place = _rank_within(owner * 2 + arm, rollouts * 2)
            queue = (owner * 2 + arm) * (int(place.max(initial=0)) // size + 1) + place // size
            common = rng.normal(size=int(queue.max(initial=0)) + 1)[queue]
        prone = np.repeat(rng.random(clusters) < conditions.error_prone_share, size)
        rate = np.minimum(self._errors_at(seconds)[arm] / conditions.error_prone_share, 1.0)
        failed = prone & (rng.random(owner.size) < rate)
        mixed = np.sqrt(conditions.shared_latency) * common + np.sqrt(1 - conditions.shared_latency) * rng.normal(
            size=owner.size
        )
        slower = np.where(arm == 1, np.log(self._effect.latency_factor), 0.0)
        ms = np.exp(traffic.log_median + self.shift_at(seconds) + slower + traffic.log_spread * mixed)
        if self._effect.stalled_share:
            ms += np.where(
                (arm == 1) & (rng.random(owner.size) < self._effect.stalled_share), self._effect.stalled_ms, 0
            )
        place_of = owner * 2 + arm

        def per_arm(flags: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Floats:
            return np.bincount(place_of[flags], minlength=rollouts * 2).reshape(rollouts, 2).astype(np.float64)

        requests, errors = per_arm(np.ones(owner.size, dtype=bool)), per_arm(failed)
        over = np.zeros((rollouts, cuts_ms.shape[1], 2))
        for k in range(cuts_ms.shape[1]):
            over[:, k] = per_arm(~failed & (ms > cuts_ms[owner, k, arm]))
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


def _rank_within(group: Indices, groups: int) -> Indices:
    """The place of each element among those of its group, in their order."""
    order = np.argsort(group, kind="stable")
    counts = np.bincount(group, minlength=groups)
    begins = np.concatenate(([0], np.cumsum(counts)[:-1]))
    rank = np.empty_like(group)
    rank[order] = np.arange(group.size) - begins[group[order]]
    return rank
