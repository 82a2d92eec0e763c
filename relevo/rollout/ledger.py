"""The ledger: from the sources' cumulative readings to counts per (source, step, arm). Pure.

A source is in one of two forms. One that knows the route label of every request (Locust, which reads it off the answer) is taken as it
is. One that only counts per revision (Envoy) is read as differences: what was added between two readings belongs to a step if the
proxy was seen to route by that step's label at both; what falls across a change of weight is dropped, never guessed. One that tells what it
heard some time ago (Prometheus, by scrapes) says when that was: what was added between two such moments belongs to a step if that step's
label held, as far as it was seen, from before the first until after the second.

A source that restarts begins a new epoch (or its counters fall, as Prometheus would notice): what the old epoch had counted is kept
and the new one is added to it.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TypeVar

from relevo.rollout.observation import Arm, Counts, Pairs, Reading, Routes

__all__ = ["SHADOW", "WATCH", "Ledger", "SourceLedger", "cell", "route_label"]

SHADOW = "shadow"
"""The step key of shadow traffic. Others are "0" (all traffic to the stable revision) and the steps' numbers from "1"."""

WATCH = "watch"
"""The step key of the rows that go to both revisions while all users are with the candidate."""

Key = str
"""A cell of the table, "STEP/ARM", as `cell` writes it."""

CLOCKS_AGREE = timedelta(seconds=1)
"""How far the clock of a source that dates its counts may be off ours, with the time that it takes to ask for them."""

_SPANS_KEPT = 16

K = TypeVar("K")


@lru_cache(maxsize=1024)
def cell(step: int | str, arm: Arm) -> Key:
    """The table's key for one arm of one step."""
    return f"{step}/{arm.value}"


def route_label(uid: str, step: int | str) -> str:
    """The label that the proxy stamps on what it routes in this step of this rollout."""
    return f"{uid}/{step}"


@dataclass(frozen=True, slots=True)
class SourceLedger:
    """What one source has told so far."""

    epoch: str = ""
    edges_ms: tuple[float, ...] = ()
    closed: Mapping[Key, Counts] = field(default_factory=dict)
    """Settled counts: earlier epochs, and all differences of a source that counts per revision."""
    open: Mapping[Key, Counts] = field(default_factory=dict)
    """The present epoch of a source that knows labels."""
    pairs_closed: Pairs = field(default_factory=Pairs)
    pairs_open: Pairs = field(default_factory=Pairs)
    last: Mapping[str, Counts] = field(default_factory=dict)
    """The last cumulative counts per revision, of a source that knows no labels."""
    last_label: str = ""
    last_as_of: tuple[datetime, datetime] | None = None
    """Between when `last` was true, of a source that dates its counts."""

    @property
    def table(self) -> Mapping[Key, Counts]:
        """All counts by `cell`."""
        if not self.open or not self.closed:
            return self.open or self.closed
        return _add(self.closed, self.open)

    def counts(self, key: Key) -> Counts:
        """The counts of one `cell`, zeros where there are none."""
        closed, current = self.closed.get(key), self.open.get(key)
        return closed + current if closed and current else closed or current or Counts()

    @property
    def pairs(self) -> Pairs:
        """Shadow pairs."""
        return self.pairs_closed + self.pairs_open


@dataclass(frozen=True, slots=True)
class Span:
    """A time in which the proxy was seen to route by one label, and by no other in between."""

    label: str
    since: datetime
    until: datetime

    def covers(self, first: datetime, second: datetime) -> bool:
        """Whether all between two moments of another clock lies in it."""
        return self.since + CLOCKS_AGREE <= first and second + CLOCKS_AGREE <= self.until


@dataclass(frozen=True, slots=True)
class Ledger:
    """All sources' counts in one rollout."""

    uid: str
    sources: Mapping[str, SourceLedger] = field(default_factory=dict)
    spans: tuple[Span, ...] = ()
    """The last spans of labels, oldest first; kept where a source dates its counts. The last is open while `label` is its label."""
    label: str = ""
    """The label at the last look."""

    def absorb(
        self, readings: Iterable[Reading], routes: Routes, arms: Mapping[str, Arm], now: datetime | None = None
    ) -> Ledger:
        """Take in new readings. `arms` says which revision is which arm; counts of other revisions are not ours.

        `now`: when the routes were looked at. Without it nothing is taken in from sources that date their counts.
        """
        readings = tuple(readings)
        spans = self._seen(routes.label, now) if any(r.as_of for r in readings) or self.spans else ()
        # A source that says nothing now cannot be read across a change of route, not even when the route has come back by then.
        sources = {
            name: replace(known, last_label="") if known.last_label != routes.label else known
            for name, known in self.sources.items()
        }
        for reading in readings:
            before = self.sources.get(reading.source, SourceLedger())
            if reading.as_of is not None:
                known = replace(before, last_label="")
                sources[reading.source] = _absorb_dated(
                    known, reading, reading.as_of, spans, routes.label, self.uid, arms
                )
            elif reading.steps or before.open:
                sources[reading.source] = _absorb_labelled(before, reading, self.uid, arms)
            else:
                sources[reading.source] = _absorb_unlabelled(before, reading, routes.label, self.uid, arms)
        return Ledger(self.uid, sources, spans, routes.label)

    def _seen(self, label: str, now: datetime | None) -> tuple[Span, ...]:
        """The spans with what is seen now."""
        if now is None or not label:
            return self.spans
        if self.spans and label == self.label == self.spans[-1].label and now >= self.spans[-1].until:
            return (*self.spans[:-1], replace(self.spans[-1], until=now))
        return (*self.spans, Span(label, now, now))[-_SPANS_KEPT:]

    def total(self, source: str, arm: Arm, steps: Iterable[str]) -> Counts:
        """The sum of one arm's counts over some steps."""
        total = Counts()
        if known := self.sources.get(source):
            for step in steps:
                total = total + known.counts(cell(step, arm))
        return total

    def pairs(self) -> Pairs:
        """Shadow pairs over all sources (one of them sends shadow traffic)."""
        total = Pairs()
        for source in self.sources.values():
            total = total + source.pairs
        return total


def _absorb_labelled(before: SourceLedger, reading: Reading, uid: str, arms: Mapping[str, Arm]) -> SourceLedger:
    prefix = route_label(uid, "")
    current: dict[Key, Counts] = {}
    for (label, revision), counts in reading.steps.items():
        if label.startswith(prefix) and (arm := arms.get(revision)):
            current[cell(label.removeprefix(prefix), arm)] = counts
    pairs = sum((p for label, p in reading.pairs.items() if label.startswith(prefix)), Pairs())
    edges_ms = before.edges_ms or reading.edges_ms
    if reading.edges_ms != edges_ms:
        current = {key: replace(counts, latency=()) for key, counts in current.items()}
    after = replace(before, epoch=reading.epoch, edges_ms=edges_ms, open=current, pairs_open=pairs)
    if before.epoch in ("", reading.epoch) and not _fell(before.open, current):
        return after
    return replace(after, closed=_add(before.closed, before.open), pairs_closed=before.pairs)


def _absorb_dated(
    before: SourceLedger,
    reading: Reading,
    as_of: tuple[datetime, datetime],
    spans: tuple[Span, ...],
    label: str,
    uid: str,
    arms: Mapping[str, Arm],
) -> SourceLedger:
    """Take in counts that were true at `as_of`, by the label that held from the counts before until then."""
    since = before.last_as_of[0] if before.last_as_of is not None else None
    if before.last_as_of is not None and since is not None and before.epoch == reading.epoch:
        if as_of[1] <= before.last_as_of[1]:
            return before
        present = spans[-1] if spans and spans[-1].label == label else None
        if present is not None and present.since + CLOCKS_AGREE <= since and not present.covers(since, as_of[1]):
            return before  # too young to be told from what comes next: it is read again
    whole = next((s for s in spans if since is not None and s.covers(since, as_of[1])), None)
    told = replace(before, last_label=whole.label if whole is not None else "")
    return replace(
        _absorb_unlabelled(told, reading, whole.label if whole is not None else "", uid, arms),
        last_label="",
        last_as_of=as_of,
    )


def _absorb_unlabelled(
    before: SourceLedger, reading: Reading, label: str, uid: str, arms: Mapping[str, Arm]
) -> SourceLedger:
    edges_ms, revisions = before.edges_ms or reading.edges_ms, reading.revisions
    if reading.edges_ms != edges_ms:
        # Buckets that cannot be compared: the histogram stands still, so that no difference is made of it.
        revisions = {r: replace(c, latency=before.last.get(r, Counts()).latency) for r, c in revisions.items()}
    after = replace(before, epoch=reading.epoch, edges_ms=edges_ms, last=revisions, last_label=label)
    prefix = route_label(uid, "")
    if before.epoch != reading.epoch or label != before.last_label or not label.startswith(prefix):
        return after
    if any(_shrank(counts, revisions.get(revision, Counts())) for revision, counts in before.last.items()):
        return after
    step = label.removeprefix(prefix)
    added = {
        cell(step, arm): counts - before.last.get(revision, Counts())
        for revision, counts in revisions.items()
        if (arm := arms.get(revision))
    }
    return replace(after, closed=_add(before.closed, added))


def _fell(before: Mapping[K, Counts], after: Mapping[K, Counts]) -> bool:
    return any(counts.requests > after.get(key, Counts()).requests for key, counts in before.items())


def _shrank(before: Counts, after: Counts) -> bool:
    """Whether any of the numbers fell, so that no difference can be made."""
    return (
        before.requests > after.requests
        or before.errors > after.errors
        or before.labelled > after.labelled
        or before.wrong > after.wrong
        or any(map(operator.gt, before.latency, after.latency))
        or any(n > after.predictions.get(name, 0) for name, n in before.predictions.items())
    )


def _add(left: Mapping[Key, Counts], right: Mapping[Key, Counts]) -> dict[Key, Counts]:
    added = dict(left)
    for key, counts in right.items():
        added[key] = added[key] + counts if key in added else counts
    return added
