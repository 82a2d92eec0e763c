"""The evidence of many rollouts at once: `relevo.rollout.assessment` and `checks` with an axis of rollouts in front.

Which statistics make up a check, and how checks are weighed, is said there; this module says it again for arrays, and
`tests/unit/simulation/test_engine.py` holds the two equal, tick by tick. A look first asks for a bound on the evidence, which is cheap, and
works the evidence out only where the bound reaches the limit.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

from relevo.rollout.assessment import SPLIT_LOG_LIMIT
from relevo.rollout.checks import LEAST_GATED_RATE, MOST_GATED_RATE
from relevo.rollout.spec import AccuracyCheck, ErrorsCheck, LatencyCheck, RolloutSpec
from relevo.simulation.accounts import Accounts, Indices
from relevo.simulation.folded import FoldedBets
from relevo.simulation.windows import SlowWindows
from relevo.statistics import betting, bounded, combine, exceedance, sample_ratio
from relevo.statistics.counts import Floats
from relevo.statistics.mixture import LATE_SHARE, Prior, log_mean_exp

__all__ = ["Evidence"]

Flags = NDArray[np.bool_]


class Evidence:
    """What the counts of `rollouts` rollouts say. `rho`: the candidate's share per row, the shadow stage first."""

    def __init__(self, spec: RolloutSpec, rho: Floats, accounts: Accounts) -> None:
        self._spec, self._rho, self._accounts = spec, rho, accounts
        rollouts, sources, thresholds = accounts.over.shape[:3]
        checks, rows = spec.checks, rho.size
        self._row = np.zeros(rollouts, dtype=np.intp)
        self._stale = np.ones(rollouts, dtype=bool)
        self._log_above = np.zeros(rollouts)
        self._valid = np.zeros((rollouts, sources, thresholds), dtype=bool)
        self._gated = np.zeros((rollouts, sources, thresholds), dtype=bool)
        self._allowed = np.full((rollouts, sources, thresholds), 0.5)
        self.makes_predictions = checks.predictions is not None and spec.has_client
        self.makes_accuracy = checks.accuracy is not None and spec.has_client
        self._clustering = checks.latency.clustering if checks.latency is not None else 1.0
        latency = checks.latency or LatencyCheck()
        longest_us = round(latency.window_seconds * 1_000_000) if latency.window_seconds is not None else None
        self._windows = SlowWindows(rollouts, sources, thresholds, latency.window, longest_us)
        self._max_disagreement = spec.shadow.max_disagreement if spec.has_shadow_stage else None

        def shared(per_row: list[Floats]) -> Floats:
            """(rows) of (streams, events, effects), for every rollout."""
            return np.broadcast_to(np.stack(per_row), (rollouts, rows, *per_row[0].shape))

        def label_bets(ratio: float, streams: int, prior: Prior) -> FoldedBets:
            one = [betting.worse_bets((float(r),), ratio, prior, 0.0).log_factors for r in rho]
            return FoldedBets(shared([np.repeat(f[None], streams, axis=0) for f in one]), prior, 0.0)

        self._bets: dict[str, FoldedBets] = {}
        if checks.errors is not None:
            self._bets["errors"] = label_bets(checks.errors.tolerance, sources, betting.WORSE)
        if checks.latency is not None:
            self._latency_for = np.zeros((rollouts, sources * thresholds, 4, betting.NOT_WORSE.effects.size))
        if checks.predictions is not None and self.makes_predictions:
            ratio, classes = 1.0 + checks.predictions.tolerance, accounts.predicted.shape[1]
            both, prior = [], betting.WORSE_BY_LITTLE
            for r in rho:
                rise = betting.worse_bets((float(r),), ratio, prior, 0.0).log_factors
                fall = betting.worse_bets((1 - float(r),), ratio, prior, 0.0).log_factors[::-1]
                both.append(np.concatenate((np.repeat(rise[None], classes, 0), np.repeat(fall[None], classes, 0))))
            self._bets["predictions"] = FoldedBets(shared(both), prior, LATE_SHARE)
        if checks.accuracy is not None and self.makes_accuracy:
            self._bets["accuracy"] = label_bets(checks.accuracy.tolerance, 1, betting.WORSE_BY_LITTLE)
        weights = spec.decision.weights
        named = [n for n in ("errors", "latency", "predictions", "accuracy") if n in self._bets or n == "latency"]
        self._weights = {
            n: w for n in named if getattr(checks, n) is not None and (w := float(getattr(weights, n))) > 0
        }

    def take(self, kept: Indices) -> None:
        """Keep these rollouts only. The accounts are taken by their owner."""
        for bets in self._bets.values():
            bets.take(kept)
        self._windows.take(kept)
        if self._spec.checks.latency is not None:
            self._latency_for = self._latency_for[kept]
        for name in ("_row", "_stale", "_log_above", "_valid", "_gated", "_allowed"):
            setattr(self, name, getattr(self, name)[kept])

    def fix_latency(self, which: Indices, rates: Floats) -> None:
        """The thresholds' usual rates, (len(which), sources, thresholds); nan where a source has no such threshold."""
        check = self._spec.checks.latency
        if check is None:
            return
        valid = np.isfinite(rates)
        usual = np.where(valid, rates, 0.5)
        flat = tuple(usual.ravel().tolist())
        margins = tuple(exceedance.margin_at(check.margin, usual.ravel()).tolist())
        shape = (len(which), valid.shape[1] * valid.shape[2], 4, -1)
        # Past the caches: every rollout has rates of its own, which no other will ask for. Proof is taken from the last step alone.
        last = (float(self._rho[-1]),)
        in_favour = exceedance.not_slower_bets.__wrapped__(last, flat, margins, betting.NOT_WORSE, 0.0)
        self._latency_for[which] = in_favour.log_factors.reshape(shape)
        self._windows.fix(which, rates)
        gated = valid & (usual >= LEAST_GATED_RATE) & (usual <= MOST_GATED_RATE)
        self._valid[which] = valid
        self._gated[which] = np.where(gated.any(axis=(1, 2), keepdims=True), gated, valid)
        self._allowed[which] = np.array(margins).reshape(valid.shape) * usual

    def enter(self, which: Indices, row: Indices) -> None:
        """These rollouts are now in another row."""
        self._row[which] = row
        self._stale[which] = True

    def outdate(self, which: Indices) -> None:
        """Counts of an earlier row than the present have changed."""
        self._stale[which] = True

    def advance(self, judged: Indices, now_us: int) -> None:
        """Take in what the sources have told of the present row, for the windows of time."""
        if self._spec.checks.latency is not None:
            self._windows.advance(judged, self._row[judged], self._accounts, now_us)

    def failed(self, judged: Indices) -> Flags:
        """Which of the rollouts `judged` are proven worse, shape (len(judged),)."""
        if not self._weights:
            return np.zeros(len(judged), dtype=bool)
        self._fold()
        capitals = self._capitals()
        limit = 1 / self._spec.decision.alpha
        present = {name: self._present(name) for name in self._weights}
        with np.errstate(over="ignore", invalid="ignore"):
            bounds = {n: self._mean(n, self._bets[n].bound(capital)) for n, capital in capitals.items()}
            if "latency" in self._weights:
                bounds["latency"] = np.exp(self._windows.highest).max(axis=-1, initial=1.0)
            total = sum(w * np.where(present[n], bounds[n], 0.0) for n, w in self._weights.items())
            shares = sum(w * present[n] for n, w in self._weights.items())
        likely = judged[np.asarray(total)[judged] >= limit * (1 - 1e-9) * np.asarray(shares)[judged]]
        failed = np.zeros(len(self._row), dtype=bool)
        if likely.size:
            failed[likely] = self._log_against(capitals, likely) >= combine.log_limit(self._spec.decision.alpha)
        return failed[judged]

    def log_against(self, which: Indices) -> Floats:
        """The weighted evidence against the candidate, shape (len(which),)."""
        self._fold()
        return self._log_against(self._capitals(), which)

    def _capitals(self) -> dict[str, Floats]:
        """Of the bets that are linear in the counts; latency's are of windows."""
        return {n: self._bets[n].log_capital(self._events(n)) for n in self._weights if n in self._bets}

    def _log_against(self, capitals: dict[str, Floats], which: Indices) -> Floats:
        streams = []
        for name in self._weights:
            if name == "latency":
                log_e = self._log_slower(which)
            elif name == "predictions":
                log_e = self._with_disagreement(
                    combine.weighted_mean(self._bets[name].log_e(capitals[name], which)), which
                )
            else:
                log_e = combine.weighted_mean(self._bets[name].log_e(capitals[name], which))
            streams.append(np.where(self._present(name)[which], log_e, np.nan))
        return combine.weighted_mean(np.stack(streams, axis=-1), list(self._weights.values()))

    def _log_slower(self, which: Indices) -> Floats:
        """Evidence against the candidate's latency, from the windows: the average over the sources that have thresholds."""
        has_thresholds = self._valid[which].any(axis=-1)
        logs = np.where(has_thresholds, self._windows.log_e(which), np.nan)
        mean: Floats = np.where(has_thresholds.any(axis=-1), combine.weighted_mean(logs), 0.0)
        return mean

    def _with_disagreement(self, shifted: Floats, which: Indices) -> Floats:
        if self._max_disagreement is None:
            return shifted
        return combine.weighted_mean(np.stack((shifted, self._log_above[which]), axis=-1))

    def _mean(self, name: str, bounds: Floats) -> Floats:
        """The check's e-value from its streams'."""
        mean: Floats = bounds.mean(axis=-1)
        return mean if name != "predictions" or self._max_disagreement is None else (mean + np.exp(self._log_above)) / 2

    def _present(self, name: str) -> Flags:
        """Whether the check can be made at all: thresholds are known, an answer has a label."""
        if name == "latency":
            return np.asarray(self._valid.any(axis=(1, 2)))
        if name == "accuracy":
            return np.asarray(self._accounts.labelled.any(axis=(1, 2)))
        return np.ones(len(self._row), dtype=bool)

    def _events(self, name: str) -> Floats:
        """Counts of the present row, (rollouts, streams, events)."""
        accounts, row, each = self._accounts, self._row, np.arange(len(self._row))
        if name == "errors":
            return accounts.errors[each, :, row]
        if name == "accuracy":
            return accounts.wrong[each, row][:, None]
        if name == "predictions":
            counts = accounts.predicted[each, :, row]
            return np.concatenate((counts, counts), axis=1)
        raise ValueError(name)

    def _all_events(self, name: str, which: Indices, rows: int) -> Floats:
        """Counts of the first rows, (len(which), rows, streams, events)."""
        accounts = self._accounts
        if name == "errors":
            return np.moveaxis(accounts.errors[which, :, :rows], 2, 1)
        if name == "accuracy":
            return accounts.wrong[which, :rows][:, :, None]
        if name == "predictions":
            counts = np.moveaxis(accounts.predicted[which, :, :rows], 2, 1)
            return np.concatenate((counts, counts), axis=2)
        raise ValueError(name)

    def _fold(self) -> None:
        for step in np.unique(self._row[self._stale]):
            which = np.flatnonzero(self._stale & (self._row == step))
            for name, bets in self._bets.items():
                bets.fold(which, self._all_events(name, which, int(step)), int(step))
        self._stale[:] = False

    def judge_pairs(self, which: Indices) -> Flags:
        """Take the shadow pairs in; which of the rollouts `which` have proven that the arms disagree less than the limit."""
        if self._max_disagreement is None or not self.makes_predictions:
            return np.ones(len(which), dtype=bool)
        compared = self._accounts.compared[which]
        disagreed = np.minimum(self._accounts.disagreed[which], compared)
        self._log_above[which] = bounded.log_e_rate_above(disagreed, compared, self._max_disagreement)
        log_below = bounded.log_e_rate_below(disagreed, compared, self._max_disagreement)
        return np.asarray(log_below >= self._limit_for)

    @property
    def _limit_for(self) -> float:
        return float(combine.log_limit(self._spec.decision.promotion_alpha))

    def passed(self, which: Indices) -> Flags:
        """Which of the rollouts `which`, none of which has failed, are proven no worse by every gated check."""
        checks, accounts = self._spec.checks, self._accounts
        passed = np.ones(len(which), dtype=bool)

        def gate(proven: Callable[[Indices], Flags]) -> None:
            left = np.flatnonzero(passed)  # one open gate is enough to wait, so the others need not be asked
            if left.size:
                passed[left] = proven(which[left])

        errors, accuracy = checks.errors, checks.accuracy
        if errors is not None and errors.gate:
            gate(lambda some: self._passed_failures(errors, accounts.errors[some], accounts.requests[some]))
        if accuracy is not None and self.makes_accuracy and accuracy.gate:
            gate(lambda some: self._present("accuracy")[some])
            gate(
                lambda some: self._passed_failures(accuracy, accounts.wrong[some, None], accounts.labelled[some, None])
            )
        if checks.predictions is not None and self.makes_predictions and checks.predictions.gate:
            gate(self.judge_pairs)
        if checks.latency is not None and checks.latency.gate:
            gate(lambda some: self._present("latency")[some])
            gate(lambda some: self._log_not_slower(some) >= self._limit_for)
        return passed

    def _log_not_slower(self, which: Indices) -> Floats:
        """Evidence for the candidate's latency, from the last step, in which these are: the weakest of the gated thresholds."""
        accounts, row = self._accounts, self._row[which]
        over = accounts.over[which, :, :, row]
        timed = (accounts.requests[which, :, row] - accounts.errors[which, :, row])[:, :, None]
        events = np.concatenate((over, timed - over), axis=-1).reshape(len(which), -1, 1, 4)
        capital = (events @ self._latency_for[which])[:, :, 0]
        not_slower = log_mean_exp(capital, betting.NOT_WORSE.log_weights)
        of_candidate = events[:, :, 0, 1], events[:, :, 0, 1] + events[:, :, 0, 3]
        below = bounded.log_e_rate_below(*of_candidate, self._allowed[which].reshape(not_slower.shape))
        either = combine.weighted_mean(np.stack((not_slower, below), axis=-1)).reshape(self._gated[which].shape)
        weakest: Floats = np.where(self._gated[which], either, np.inf).min(axis=(1, 2))
        return weakest / self._clustering

    def _passed_failures(self, check: ErrorsCheck | AccuracyCheck, bad: Floats, total: Floats) -> Flags:
        """`bad`, `total`: (len(which), sources, rows, 2)."""
        bad = np.minimum(bad, total)
        ratio = betting.log_e_not_worse(bad, self._rho, check.margin)
        rate = bounded.log_e_rate_below(bad[..., 1].sum(axis=-1), total[..., 1].sum(axis=-1), check.objective)
        either = np.logaddexp(ratio, rate) - np.log(2)
        return np.asarray(either.min(axis=-1) >= self._limit_for)

    def split_differs(self, judged: Indices) -> Flags:
        """For which of the rollouts the traffic does not arrive in the shares that were set."""
        requests = self._accounts.requests[judged][:, :, 1:]
        total = requests.sum(axis=-1)
        rho = self._rho[1:]
        # No mixture of alternatives does better than the split as it was seen.
        with np.errstate(divide="ignore", invalid="ignore"):
            best = xlogy(requests[..., 1], requests[..., 1] / (total * rho)) + xlogy(
                requests[..., 0], requests[..., 0] / (total * (1 - rho))
            )
        bound = np.where(total > 0, best, 0.0).sum(axis=-1).max(axis=-1)
        differs = np.zeros(len(judged), dtype=bool)
        likely = np.flatnonzero(~(bound < SPLIT_LOG_LIMIT * (1 - 1e-9)))
        if likely.size:
            per_source = sample_ratio.log_e_split_differs(requests[likely], rho)
            differs[likely] = combine.weighted_mean(per_source) >= SPLIT_LOG_LIMIT
        return differs
