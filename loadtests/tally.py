"""The counts, cumulative since the process began: per (route label, revision) what became of the requests, and the shadow pairs.

One greenlet runs at a time and none yields while it counts, so there are no locks. Neighbours: `v2` counts, `web` shows,
`distributed` moves the counts of workers to the master.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loadtests.answers import Answer
from relevo.evidence.counts import LATENCY_EDGES_MS, latency_bucket

__all__ = ["Tally"]

_MOST_CLASSES = 256
_OTHER_CLASSES = "(other)"


class _Cell:
    """The counts of one (label, revision); mutable, for this is the hot path."""

    __slots__ = ("errors", "labelled", "latency", "predictions", "requests", "wrong")

    def __init__(self) -> None:
        self.requests = 0
        self.errors = 0
        self.latency = [0] * (len(LATENCY_EDGES_MS) + 1)
        self.predictions: dict[str, int] = {}
        self.labelled = 0
        self.wrong = 0

    def predict(self, name: str, count: int) -> None:
        # A regression model, or a broken one, predicts ever new values: the counts must stay small all the same.
        if name not in self.predictions and len(self.predictions) >= _MOST_CLASSES:
            name = _OTHER_CLASSES
        self.predictions[name] = self.predictions.get(name, 0) + count


class Tally:
    """Counts that only grow (but for `take`, with which a worker hands them over)."""

    def __init__(self) -> None:
        self._cells: dict[tuple[str, str], _Cell] = {}
        self._pairs: dict[str, list[int]] = {}

    def record(self, label: str, revision: str, answer: Answer, latency_ms: float, right: str | None) -> None:
        """Count one request. `right` is the row's label, None where there is none. Latency counts for successes only."""
        cell = self._cell(label, revision)
        cell.requests += 1
        if answer.problem:
            cell.errors += 1
            return
        cell.latency[latency_bucket(latency_ms)] += 1
        cell.predict(answer.predicted, 1)
        if right is not None:
            cell.labelled += 1
            cell.wrong += answer.predicted != right

    def record_pair(self, label: str, stable: Answer, candidate: Answer) -> None:
        """Count a row that both revisions got, if both answered it."""
        if stable.problem or candidate.problem:
            return
        pair = self._pairs.setdefault(label, [0, 0])
        pair[0] += 1
        pair[1] += stable.predicted != candidate.predicted

    def counts(self) -> list[dict[str, Any]]:
        """Give the counts as `relevo.evidence.wire.CountsEntry` has them."""
        return [
            {
                "label": label,
                "revision": revision,
                "requests": cell.requests,
                "errors": cell.errors,
                "latency": cell.latency,
                "predictions": cell.predictions,
                "labelled": cell.labelled,
                "wrong": cell.wrong,
            }
            for (label, revision), cell in self._cells.items()
        ]

    def pairs(self) -> list[dict[str, Any]]:
        """Give the shadow pairs as `relevo.evidence.wire.PairsEntry` has them."""
        return [{"label": label, "compared": pair[0], "disagreed": pair[1]} for label, pair in self._pairs.items()]

    @property
    def is_empty(self) -> bool:
        """Whether nothing was counted since `take`."""
        return not self._cells and not self._pairs

    def take(self) -> dict[str, Any]:
        """Hand over what was counted since the last call, and start again from nothing."""
        taken = {"counts": self.counts(), "pairs": self.pairs()}
        self._cells, self._pairs = {}, {}
        return taken

    def merge(self, taken: Mapping[str, Any]) -> None:
        """Add what another tally handed over."""
        for entry in taken["counts"]:
            cell = self._cell(entry["label"], entry["revision"])
            for name in ("requests", "errors", "labelled", "wrong"):
                setattr(cell, name, getattr(cell, name) + entry[name])
            cell.latency = [mine + theirs for mine, theirs in zip(cell.latency, entry["latency"], strict=True)]
            for name, count in entry["predictions"].items():
                cell.predict(name, count)
        for entry in taken["pairs"]:
            pair = self._pairs.setdefault(entry["label"], [0, 0])
            pair[0] += entry["compared"]
            pair[1] += entry["disagreed"]

    def _cell(self, label: str, revision: str) -> _Cell:
        cell = self._cells.get((label, revision))
        if cell is None:
            cell = self._cells[label, revision] = _Cell()
        return cell
