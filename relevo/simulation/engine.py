"""Many rollouts of one policy at once, tick by tick: the rules of `relevo.rollout.rules` for arrays.

When a step is done, when a limit is reached and what holds is said there, and said again here for many rollouts at a time; nothing else
is. `tests/unit/simulation/test_engine.py` gives both the same counts and holds them equal: same verdict at the same tick, for policies
and traffic drawn at random. Simulated are ready revisions that answer their smoke requests, and no human: the other rules are idle then.
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from relevo.rollout.ramp import Step, expand
from relevo.rollout.rules import EXTENSION
from relevo.rollout.spec import Canary
from relevo.simulation.accounts import Accounts, Indices
from relevo.simulation.evidence import Evidence
from relevo.simulation.flow import Flow, Watcher
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
from relevo.simulation.world import World

__all__ = ["Batch", "simulate"]


def simulate(world: World, runs: int, seed: np.random.SeedSequence) -> Outcomes:
    """Run so many rollouts to their ends. Equal arguments give equal outcomes."""
    batch = Batch(world, runs, seed)
    while batch.step():
        pass
    return batch.outcomes()


class Batch:
    """Rollouts that go through the same ticks. `watcher` sees what each tick brings, for the tests."""

    def __init__(self, world: World, runs: int, seed: np.random.SeedSequence, watcher: Watcher | None = None) -> None:
        self.world, spec = world, world.spec
        self._steps: tuple[Step, ...] = expand(spec)
        self._canary = spec.strategy.canary or Canary()
        self._sources = spec.counting_sources
        check = spec.checks.latency
        most = len(check.quantiles) if check else 0
        self.tick_us = round(spec.tick_seconds * US)
        self._tick = 0
        self._end_us = round(world.horizon_seconds * US)
        self._live = Live.start(runs, [world.traffic.edges_ms[s] for s in self._sources], most)
        rho = np.array([0.5, *(s.weight_percent / 100 for s in self._steps)])
        classes = len(world.traffic.class_shares) + 1
        self._told = Accounts.empty(runs, len(self._sources), most, classes, len(rho))
        self.evidence = Evidence(spec, rho, self._told)
        self._flow = Flow(world, self._live, self._told, self.evidence, rho, np.random.default_rng(seed), watcher)
        self._ended: list[tuple[Indices, Outcomes]] = []

    @property
    def now_us(self) -> int:
        """The time of the present look."""
        return self._tick * self.tick_us

    def step(self) -> bool:
        """Look, decide, let traffic flow until the next look. False when all have ended."""
        if self._tick > 0:
            self._look()
        if self._tick % 8 == 0:
            self._put_away()
        if not len(self._live.phase) or self.now_us >= self._end_us:
            self._put_away(everything=True)
            return False
        self._flow.pass_time(self._tick)
        self._tick += 1
        return True

    def _look(self) -> None:
        """What `plan` does at this tick: judge, protect, progress; the first that changes a rollout ends its tick."""
        live, conditions = self._live, self.world.conditions
        silent_us = self.now_us - round(conditions.silent_from_seconds * US)
        silent = conditions.silent_seconds > 0 and 0 <= silent_us < round(conditions.silent_seconds * US)
        self._flow.tell(self._tick, silent=silent)
        judged = np.flatnonzero((live.phase == SHADOWING) | (live.phase == SHIFTING))
        if judged.size:
            self.evidence.advance(judged, self.now_us)
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
            self._flow.fix_thresholds(ready)
            self._enter(ready, 0 if spec.has_shadow_stage else 1)
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
        self._flow.take(kept)
        self.evidence.take(kept)

    def outcomes(self) -> Outcomes:
        """Of all rollouts that have ended, in their order."""
        joined = Outcomes.joined([part for _, part in self._ended])
        order = np.argsort(np.concatenate([number for number, _ in self._ended]), kind="stable")
        return Outcomes(*(getattr(joined, f.name)[order] for f in fields(Outcomes)))
