"""What happens between two looks: the proxy follows, requests come, sources count them and tell what they counted.

What production's platforms, load and ledger (`relevo.rollout.ledger`) do, for many rollouts at once. `streams` draws the requests,
`engine` looks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import numpy as np

from relevo.rollout.checks import CLIENT
from relevo.simulation.accounts import Accounts, Increments, Indices
from relevo.simulation.evidence import Evidence
from relevo.simulation.live import DECIDED, PREPARING, SHADOWING, US, Flags, Live
from relevo.simulation.streams import Streams, shares_between
from relevo.simulation.thresholds import Cuts, choose
from relevo.simulation.world import World
from relevo.statistics.counts import Floats

__all__ = ["Flow", "Watcher"]

Watcher = Callable[[int, Live, str, Indices, Increments], None]
"""Sees what each tick brings to which rollouts, for the tests."""


class Flow:
    """The traffic and the sources of many rollouts. It changes `live` (what is routed) and `told` (what sources have told)."""

    def __init__(
        self,
        world: World,
        live: Live,
        told: Accounts,
        evidence: Evidence,
        rho: Floats,
        rng: np.random.Generator,
        watcher: Watcher | None,
    ) -> None:
        spec, conditions = world.spec, world.conditions
        self._world, self._live, self._told, self._evidence, self._rho = world, live, told, evidence, rho
        self._rng, self._watcher = rng, watcher
        self._sources = spec.counting_sources
        self._tick, self._tick_us = 0, round(spec.tick_seconds * US)
        self._untold = Accounts(*(np.zeros_like(getattr(told, f.name)) for f in fields(Accounts)))
        check = spec.checks.latency
        most = len(check.quantiles) if check else 0
        self._cuts = Cuts(world.traffic, world.effect, self._sources, check.tolerance if check else 0.0, most)
        with_answers = spec.has_client and (spec.checks.predictions is not None or spec.checks.accuracy is not None)
        self._streams = Streams(
            rng,
            world.traffic,
            world.effect,
            conditions,
            sources=len(self._sources),
            thresholds=most,
            with_answers=with_answers,
        )
        self._drifts = conditions.cycle_seconds > 0 and conditions.cycle_latency_factor != 1
        self._direct = conditions.scrape_seconds == 0 and conditions.silent_seconds == 0

    def take(self, kept: Indices) -> None:
        """Keep these rollouts' accounts only."""
        self._told.take(kept)
        self._untold.take(kept)

    def fix_thresholds(self, which: Indices) -> None:
        """Of these rollouts, which have their baseline now."""
        check = self._world.spec.checks.latency
        if check is None or not which.size:
            return
        live = self._live
        chosen = choose(check, [histogram[which] for histogram in live.histograms])
        live.edge[which] = chosen.edge
        self._evidence.fix_latency(which, chosen.rate)
        cuts = self._cuts.ms(chosen.edge)
        live.cuts_ms[which] = cuts
        self._sort_survival(which, self._cuts.survival(cuts))

    def _sort_survival(self, which: Indices, survival: Floats) -> None:
        order = np.argsort(-survival, axis=1)
        self._live.order[which] = order
        self._live.between[which] = shares_between(np.take_along_axis(survival, order, axis=1))

    def pass_time(self, tick: int) -> None:
        """Traffic until the next look, as the proxy now splits it."""
        self._tick, now_us = tick, tick * self._tick_us
        live, at, length = self._live, now_us / US, self._tick_us / US
        took_effect = (live.ordered_row != live.routed_row) & (live.effective_us <= now_us)
        live.routed_row = np.where(took_effect, live.ordered_row, live.routed_row)
        mislabelled_us = round(self._world.conditions.mislabelled_seconds * US)
        late = took_effect if mislabelled_us else None
        if late is not None:
            live.weight_us[took_effect] = now_us + mislabelled_us
            live.weight_row = np.where(live.weight_us <= now_us, live.routed_row, live.weight_row)
        else:
            live.weight_row = live.routed_row
        undecided = live.phase != DECIDED
        through_proxy = np.flatnonzero(undecided & (live.routed_row > 0))
        baseline = np.flatnonzero(undecided & (live.routed_row == 0) & (live.phase == PREPARING))
        if baseline.size:
            self._flow_baseline(baseline, at, length)
        shadowing = np.flatnonzero(live.phase == SHADOWING)
        if shadowing.size:
            survival = self._survival(shadowing, at)
            self._count(shadowing, self._streams.shadowed(survival, at, length), "shadow")
        if through_proxy.size:
            if self._drifts:
                self._sort_survival(through_proxy, self._survival(through_proxy, at))
            everything = through_proxy.size == len(live.phase)
            pick = slice(None) if everything else through_proxy
            share = self._rho[live.weight_row[pick]] * (live.weight_row[pick] > 0)
            added = self._streams.routed(share, live.between[pick], live.order[pick], live.cuts_ms[pick], at, length)
            live.requests[through_proxy] += added.requests
            self._count(through_proxy, added, "proxy")
        live.routed_label = live.routed_row.copy()

    def _survival(self, which: Indices, at: float) -> Floats:
        return self._cuts.survival(self._live.cuts_ms[which], self._streams.shift_at(at))

    def _flow_baseline(self, which: Indices, at: float, length: float) -> None:
        """All traffic to the stable revision. A source that only counts per revision has nothing to say of its first tick."""
        live = self._live
        requests, owner, ms = self._streams.baseline(len(which), at, length)
        for index, source in enumerate(self._sources):
            if source != CLIENT and self._tick == 0:
                continue
            live.baseline[which, index] += requests
            histogram = live.histograms[index]
            width = histogram.shape[1]
            bucket = np.searchsorted(self._world.traffic.edges_ms[source], ms)
            counts = np.bincount(owner * width + bucket, minlength=len(which) * width)
            histogram[which] += counts.reshape(len(which), width)
        if self._watcher is not None:
            self._watcher(self._tick, live, "baseline", which, _baseline_increments(requests, owner, ms))

    def _count(self, which: Indices, added: Increments, kind: str) -> None:
        """Hand what came to the sources: what they tell at the next look, or at their next scrape."""
        live = self._live
        accounts = self._told if self._direct else self._untold
        restarts = self._world.conditions.restart_every_seconds
        for index, source in enumerate(self._sources):
            client = source == CLIENT
            if kind == "shadow" and not client:
                continue
            heard = which
            part = added
            # A source that only counts per revision cannot be read across a change of label.
            keep = np.ones(which.size, dtype=bool)
            if not client and self._direct:
                keep &= live.routed_label[which] == live.routed_row[which]
            if restarts:
                keep &= self._rng.random(which.size) >= self._tick_us / US / restarts
            if not keep.all():
                heard, part = which[keep], _part(added, keep)
            row = live.routed_row[heard] if kind == "proxy" else np.zeros(heard.size, dtype=np.intp)
            accounts.add(heard, row, index, part, as_client=client)
            behind = heard[row != live.row[heard]]
            if behind.size:
                self._evidence.outdate(behind)
        if self._watcher is not None:
            self._watcher(self._tick, live, kind, which, added)

    def tell(self, tick: int, *, silent: bool) -> None:
        """Sources that are scraped, or were silent, tell what they have counted since."""
        if self._direct:
            return
        now_us = tick * self._tick_us
        live, every_us = self._live, round(self._world.conditions.scrape_seconds * US)
        steady = live.heard_label == live.routed_label
        live.heard_label = np.where(steady | (not silent), live.routed_label, -1)
        due = not every_us or now_us // every_us != (now_us - self._tick_us) // every_us
        if silent or not due:
            return
        undecided = np.flatnonzero(live.phase != DECIDED)
        for index, source in enumerate(self._sources):
            if source == CLIENT:
                self._told.move(self._untold, undecided, index, as_client=True)
                continue
            # All that was added since is put down to the label seen now, if it was there at the look before.
            kept = undecided[steady[undecided] & (live.routed_label[undecided] > 0)]
            self._told.move(self._untold, kept, index, as_client=False, into=live.routed_label[kept])
            self._untold.requests[undecided, index] = 0
            self._untold.errors[undecided, index] = 0
            self._untold.over[undecided, index] = 0
        self._evidence.outdate(undecided)


def _part(added: Increments, keep: Flags) -> Increments:
    return Increments(*(getattr(added, f.name)[keep] for f in fields(Increments)))


def _baseline_increments(requests: Floats, owner: Indices, ms: Floats) -> Increments:
    """For the tests: the owners and latencies of single requests in place of thresholds."""
    single = np.stack((owner.astype(np.float64), ms), axis=-1)[:, None, None]
    nothing = np.zeros(0)
    return Increments(requests[:, None], nothing, single, nothing, nothing, nothing, nothing, nothing)
