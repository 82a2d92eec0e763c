"""Many rollouts of one policy at once, tick by tick: the rules of `relevo.rollout.rules` for arrays.

When a step is done, when a limit is reached and what holds is said there, and said again here for many rollouts at a time; nothing else
is. `tests/unit/simulation/test_engine.py` gives both the same counts and holds them equal: same verdict at the same tick, for policies
and traffic drawn at random. Simulated are ready revisions that answer their smoke requests, and no human: the other rules are idle then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields

import numpy as np

from relevo.errors import BadInput
from relevo.rollout.checks import CLIENT
from relevo.rollout.ramp import Step, expand
from relevo.rollout.rules import EXTENSION
from relevo.rollout.spec import Canary, RolloutSpec
from relevo.simulation.accounts import Accounts, Increments, Indices
from relevo.simulation.conditions import Conditions
from relevo.simulation.evidence import Evidence
from relevo.simulation.live import (
    DECIDED,
    NOT_HELD,
    PREPARING,
    SHADOWING,
    SHIFTING,
    SPLIT_MISMATCH,
    UNMEASURABLE,
    US,
    Flags,
    Live,
)
from relevo.simulation.outcomes import End, Outcomes
from relevo.simulation.streams import Streams
from relevo.simulation.thresholds import Cuts, choose
from relevo.simulation.traffic import HEALTHY, Effect, Traffic
from relevo.statistics.counts import Floats

__all__ = ["Batch", "World", "simulate"]

GRACE_SECONDS = 60.0
Watcher = Callable[["Batch", str, Indices, Increments], None]


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


def simulate(world: World, runs: int, seed: np.random.SeedSequence) -> Outcomes:
    """Run so many rollouts to their ends. Equal arguments give equal outcomes."""
    batch = Batch(world, runs, seed)
    while batch.step():
        pass
    return batch.outcomes()


class Batch:
    """Rollouts that go through the same ticks. `watcher` sees what each tick brings, for the tests."""

    def __init__(self, world: World, runs: int, seed: np.random.SeedSequence, watcher: Watcher | None = None) -> None:
        self.world, self._watcher = world, watcher
        spec, conditions = world.spec, world.conditions
        self._rng = np.random.default_rng(seed)
        self._steps: tuple[Step, ...] = expand(spec)
        self._canary = spec.strategy.canary or Canary()
        self._sources = spec.counting_sources
        self._rho = np.array([0.5, *(s.weight_percent / 100 for s in self._steps)])
        check = spec.checks.latency
        most = len(check.quantiles) if check else 0
        self._cuts = Cuts(world.traffic, world.effect, self._sources, check.tolerance if check else 0.0, most)
        needs_answers = spec.has_client and (spec.checks.predictions is not None or spec.checks.accuracy is not None)
        self._streams = Streams(
            self._rng, world.traffic, world.effect, conditions,
            sources=len(self._sources), thresholds=most, with_answers=needs_answers,
        )  # fmt: skip
        shape = (runs, len(self._sources), most, len(world.traffic.class_shares) + 1, len(self._rho))
        self._told, self._untold = Accounts.empty(*shape), Accounts.empty(*shape)
        self.evidence = Evidence(spec, self._rho, self._told)
        self._shadow_rows = spec.has_shadow_stage
        self.tick_us = round(spec.tick_seconds * US)
        self._tick = 0
        self._end_us = round(world.horizon_seconds * US)
        self._live = Live.start(runs, [world.traffic.edges_ms[s] for s in self._sources], most)
        self._ended: list[tuple[Indices, Outcomes]] = []
        self._drifts = conditions.cycle_seconds > 0 and conditions.cycle_latency_factor != 1
        self._direct = conditions.scrape_seconds == 0 and conditions.silent_seconds == 0

    @property
    def now_us(self) -> int:
        """The time of the present look."""
        return self._tick * self.tick_us

    def step(self) -> bool:
        """Look, decide, let traffic flow until the next look. False when all have ended."""
        live = self._live
        if self._tick > 0:
            self._look()
        if self._tick % 8 == 0:
            self._put_away()
        if not len(self._live.phase) or self.now_us >= self._end_us:
            self._put_away(everything=True)
            return False
        self._flow()
        self._tick += 1
        return live is not None

    # One look ------------------------------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """What `plan` does at this tick: judge, protect, progress; the first that changes a rollout ends its tick."""
        live, conditions = self._live, self.world.conditions
        silent_us = self.now_us - round(conditions.silent_from_seconds * US)
        silent = conditions.silent_seconds > 0 and 0 <= silent_us < round(conditions.silent_seconds * US)
        if not self._direct:
            self._tell(silent=silent)
        judged = np.flatnonzero((live.phase == SHADOWING) | (live.phase == SHIFTING))
        if judged.size:
            shadowing = judged[live.phase[judged] == SHADOWING]
            if shadowing.size:
                self.evidence.judge_pairs(shadowing)
            differs = self.evidence.split_differs(judged)
            failed = self.evidence.failed(judged) & ~differs
            self._decide(judged[failed], End.ROLLED_BACK)
        else:
            differs = np.zeros(0, dtype=bool)
        mismatch = np.zeros(len(live.phase), dtype=bool)
        mismatch[judged] = differs
        timeout = self.world.spec.limits.evidence_timeout_seconds
        too_silent = silent and silent_us > round(timeout * US)
        acted = self._protect(mismatch, silent=silent, too_silent=too_silent)
        if not silent:
            self._progress(~acted & (live.hold == NOT_HELD) & (live.phase != DECIDED))

    def _protect(self, mismatch: Flags, *, silent: bool, too_silent: bool) -> Flags:
        """Hold and release. Which rollouts had their tick by it."""
        live = self._live
        undecided = live.phase != DECIDED
        wanted = np.where(mismatch, SPLIT_MISMATCH, NOT_HELD)
        if too_silent:
            wanted = np.full_like(wanted, UNMEASURABLE)
        elif silent:  # not for long enough yet; who is held for an earlier silence stays so
            wanted = np.where(live.hold == UNMEASURABLE, UNMEASURABLE, wanted)
        begins = undecided & (wanted != NOT_HELD) & (wanted != live.hold)
        ends = undecided & (wanted == NOT_HELD) & (live.hold != NOT_HELD)
        changed = np.flatnonzero(begins | ends)
        if changed.size:
            was_held = changed[live.hold[changed] != NOT_HELD]
            live.held_us[was_held] += self.now_us - live.hold_since_us[was_held]
            live.hold[changed] = wanted[changed]
            live.hold_since_us[changed] = self.now_us
            live.split_held |= begins & (wanted == SPLIT_MISMATCH)
            live.step_since_us[ends] = self.now_us
        acted: Flags = begins | ends
        return acted

    def _progress(self, free: Flags) -> None:
        live, spec = self._live, self.world.spec
        moved = np.zeros(len(live.phase), dtype=bool)
        preparing = np.flatnonzero(free & (live.phase == PREPARING))
        if preparing.size:
            needed = [i for i, s in enumerate(self._sources) if s in spec.baseline_sources]
            ready = preparing[(live.baseline[preparing][:, needed] >= spec.baseline.requests).all(axis=1)]
            self._fix_thresholds(ready)
            self._enter(ready, 0 if self._shadow_rows else 1)
            moved[ready] = True
        shadowing = np.flatnonzero(free & (live.phase == SHADOWING) & ~moved)
        if shadowing.size:
            enough = self._told.compared[shadowing] >= spec.shadow.requests
            check = spec.checks.predictions
            if check is not None and check.gate:
                enough &= self.evidence.judge_pairs(shadowing)
            self._enter(shadowing[enough], 1)
            moved[shadowing[enough]] = True
        shifting = np.flatnonzero(free & (live.phase == SHIFTING) & ~moved)
        if shifting.size:
            self._after_step(shifting, moved)
        self._at_limit(np.flatnonzero(free & ~moved))

    def _after_step(self, which: Indices, moved: Flags) -> None:
        live = self._live
        row = live.row[which]
        requests = self._told.requests[which, :, row, 1].max(axis=1)
        lasted = self.now_us - live.step_since_us[which] >= round(self._canary.step_seconds * US)
        waited = lasted & (requests >= self._canary.step_requests)
        last = row == len(self._steps)
        advanced, steps = which[waited & ~last], row[waited & ~last]
        for step in np.unique(steps):
            self._enter(advanced[steps == step], int(step) + 1)
        moved[advanced] = True
        at_end = which[waited & last]
        if at_end.size:
            promoted = at_end[self.evidence.passed(at_end)]
            self._decide(promoted, End.PROMOTED)
            moved[promoted] = True

    def _at_limit(self, which: Indices) -> None:
        live, limits = self._live, self.world.spec.limits
        scale = np.where(live.extended[which], EXTENSION, 1.0)
        active_us = self.now_us - live.held_us[which]
        exposed = self._told.requests[which][:, :, 1:, 1].sum(axis=-1).max(axis=-1)
        at_limit = (active_us > limits.max_seconds * scale * US) | (exposed > limits.max_candidate_requests * scale)
        self._decide(which[at_limit & live.extended[which]], End.INCONCLUSIVE)
        live.extended[which[at_limit]] = True

    def _enter(self, which: Indices, row: int) -> None:
        """Go to the shadow stage (0) or a step. The proxy follows, at once or late."""
        if not which.size:
            return
        live, late = self._live, self.world.conditions.late_weight_seconds
        live.phase[which] = SHADOWING if row == 0 else SHIFTING
        live.row[which] = row
        live.step_since_us[which] = self.now_us
        if row > 0:
            live.ordered_row[which] = row
            live.effective_us[which] = self.now_us + round(late * US)
        self.evidence.enter(which, np.full(which.size, row))

    def _decide(self, which: Indices, end: End) -> None:
        live = self._live
        live.phase[which] = DECIDED
        live.end[which] = end
        live.decided_us[which] = self.now_us

    def _fix_thresholds(self, which: Indices) -> None:
        check = self.world.spec.checks.latency
        if check is None or not which.size:
            return
        live = self._live
        chosen = choose(check, [histogram[which] for histogram in live.histograms])
        live.edge[which] = chosen.edge
        self.evidence.fix_latency(which, chosen.rate)
        cuts = self._cuts.ms(chosen.edge)
        live.cuts_ms[which] = cuts
        self._sort_survival(which, self._cuts.survival(cuts))

    def _sort_survival(self, which: Indices, survival: Floats) -> None:
        order = np.argsort(-survival, axis=1)
        self._live.order[which] = order
        self._live.sorted_survival[which] = np.take_along_axis(survival, order, axis=1)

    # Traffic -------------------------------------------------------------------------------------------------------------------------

    def _flow(self) -> None:
        """Traffic until the next look, as the proxy now splits it."""
        live, at, length = self._live, self.now_us / US, self.tick_us / US
        took_effect = (live.ordered_row != live.routed_row) & (live.effective_us <= self.now_us)
        live.routed_row = np.where(took_effect, live.ordered_row, live.routed_row)
        mislabelled_us = round(self.world.conditions.mislabelled_seconds * US)
        late = took_effect if mislabelled_us else None
        if late is not None:
            live.weight_us[took_effect] = self.now_us + mislabelled_us
            live.weight_row = np.where(live.weight_us <= self.now_us, live.routed_row, live.weight_row)
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
            added = self._streams.routed(
                share, live.sorted_survival[pick], live.order[pick], live.cuts_ms[pick], at, length
            )
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
            bucket = np.searchsorted(self.world.traffic.edges_ms[source], ms)
            counts = np.bincount(owner * width + bucket, minlength=len(which) * width)
            histogram[which] += counts.reshape(len(which), width)
        if self._watcher is not None:
            self._watcher(self, "baseline", which, _baseline_increments(requests, owner, ms))

    def _count(self, which: Indices, added: Increments, kind: str) -> None:
        """Hand what came to the sources: what they tell at the next look, or at their next scrape."""
        live = self._live
        accounts = self._told if self._direct else self._untold
        restarts = self.world.conditions.restart_every_seconds
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
                keep &= self._rng.random(which.size) >= self.tick_us / US / restarts
            if not keep.all():
                heard, part = which[keep], _part(added, keep)
            row = live.routed_row[heard] if kind == "proxy" else np.zeros(heard.size, dtype=np.intp)
            accounts.add(heard, row, index, part, as_client=client)
            behind = heard[row != live.row[heard]]
            if behind.size:
                self.evidence.outdate(behind)
        if self._watcher is not None:
            self._watcher(self, kind, which, added)

    def _tell(self, *, silent: bool) -> None:
        """Sources that are scraped, or were silent, tell what they have counted since."""
        live, every_us = self._live, round(self.world.conditions.scrape_seconds * US)
        steady = live.heard_label == live.routed_label
        live.heard_label = np.where(steady | (not silent), live.routed_label, -1)
        due = not every_us or self.now_us // every_us != (self.now_us - self.tick_us) // every_us
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
        self.evidence.outdate(undecided)

    # Ends ----------------------------------------------------------------------------------------------------------------------------

    def _put_away(self, *, everything: bool = False) -> None:
        """Take the ended rollouts out, when they are many."""
        live = self._live
        ended = live.phase == DECIDED
        if everything:
            ended[:] = True
        if not ended.any() or (not everything and ended.mean() < 0.25):
            return
        gone, kept = np.flatnonzero(ended), np.flatnonzero(~ended)
        self._ended.append((live.number[gone], live.outcomes(gone, self.now_us)))
        live.take(kept)
        self._told.take(kept)
        self._untold.take(kept)
        self.evidence.take(kept)

    def outcomes(self) -> Outcomes:
        """Of all rollouts that have ended, in their order."""
        joined = Outcomes.joined([part for _, part in self._ended])
        order = np.argsort(np.concatenate([number for number, _ in self._ended]), kind="stable")
        return Outcomes(*(getattr(joined, f.name)[order] for f in fields(Outcomes)))


def _part(added: Increments, keep: Flags) -> Increments:
    return Increments(*(getattr(added, f.name)[keep] for f in fields(Increments)))


def _baseline_increments(requests: Floats, owner: Indices, ms: Floats) -> Increments:
    """For the tests: the owners and latencies of single requests in place of thresholds."""
    single = np.stack((owner.astype(np.float64), ms), axis=-1)[:, None, None]
    nothing = np.zeros(0)
    return Increments(requests[:, None], nothing, single, nothing, nothing, nothing, nothing, nothing)
