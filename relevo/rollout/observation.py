"""What a reconcile tick has seen: where traffic goes, and what became of it. The vocabulary that all adapters share.

Evidence is cumulative: within one `epoch` of a source, counts only grow. Attribution of counts to steps and arms is exact where the
source can say it (`Reading.steps`), and inferred by the ledger (`relevo.rollout.ledger`) where it only counts per revision
(`Reading.revisions`).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from relevo.rollout.commands import Command

__all__ = ["Arm", "Counts", "Observation", "Pairs", "Reading", "RevisionStatus", "Routes", "Silence", "Smoke"]


class Arm(StrEnum):
    """Which side of the comparison a request went to."""

    STABLE = "stable"
    CANDIDATE = "candidate"


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of a set of requests, all answered by one revision.

    `latency` counts successful requests per bucket: `latency[i]` those at most `edges_ms[i]` of the reading's edges and above the edge
    before; the last entry, one longer than the edges, those above every edge. Empty where the source keeps no histogram.
    """

    requests: int = 0
    errors: int = 0
    latency: tuple[int, ...] = ()
    predictions: Mapping[str, int] = field(default_factory=dict)
    labelled: int = 0
    wrong: int = 0

    def __add__(self, other: Counts) -> Counts:
        return self._combine(other, operator.add)

    def __sub__(self, other: Counts) -> Counts:
        return self._combine(other, operator.sub)

    def _combine(self, other: Counts, by: Callable[[int, int], int]) -> Counts:
        if not other.requests and not any(other.latency):  # a histogram may trail the requests
            return self
        width = max(len(self.latency), len(other.latency))
        mine = self.latency + (0,) * (width - len(self.latency))
        theirs = other.latency + (0,) * (width - len(other.latency))
        classes = {**self.predictions, **other.predictions}
        return Counts(
            requests=by(self.requests, other.requests),
            errors=by(self.errors, other.errors),
            latency=tuple(map(by, mine, theirs)),
            predictions={c: by(self.predictions.get(c, 0), other.predictions.get(c, 0)) for c in classes},
            labelled=by(self.labelled, other.labelled),
            wrong=by(self.wrong, other.wrong),
        )


@dataclass(frozen=True, slots=True)
class Pairs:
    """Rows that were sent to both revisions in the shadow stage, and on how many of them the predictions differed."""

    compared: int = 0
    disagreed: int = 0

    def __add__(self, other: Pairs) -> Pairs:
        return Pairs(self.compared + other.compared, self.disagreed + other.disagreed)


@dataclass(frozen=True, slots=True)
class Reading:
    """One answer of an evidence source: cumulative counts since its epoch began.

    `steps` maps a route label (see `Routes.label`; shadow traffic has the label "UID/shadow") and a revision name to counts.
    `revisions` maps a revision name to counts for sources that do not know the label. A source fills one of the two.
    """

    source: str
    epoch: str
    taken_at: datetime
    edges_ms: tuple[float, ...] = ()
    steps: Mapping[tuple[str, str], Counts] = field(default_factory=dict)
    revisions: Mapping[str, Counts] = field(default_factory=dict)
    pairs: Mapping[str, Pairs] = field(default_factory=dict)
    """Shadow pairs by label."""
    as_of: tuple[datetime, datetime] | None = None
    """Between when the counts were what they are, for a source that tells what it heard some time ago (Prometheus); None: just now."""
    users: int = 0
    """Simulated users at work, for a source that is also the load generator."""


@dataclass(frozen=True, slots=True)
class Silence:
    """A source that did not answer, and why, in words a person can act on."""

    source: str
    taken_at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class RevisionStatus:
    """One revision of a model as the platform sees it."""

    name: str
    storage_uri: str
    ready: bool
    address: str = ""
    """Its direct address, `http://127.0.0.1:PORT`: reaches this revision alone, whatever the weights say."""
    restarts: int = 0
    detail: str = ""
    """Why it is not ready, in words; empty when it is."""
    failed: bool = False
    """True when it will not become ready by waiting: a package that is refused, say."""


@dataclass(frozen=True, slots=True)
class Routes:
    """How the proxy splits traffic right now, read back from the proxy itself."""

    stable: RevisionStatus
    candidate: RevisionStatus | None
    weight_percent: int
    """Of all requests, how many go to the candidate."""
    label: str
    """The label that the proxy stamps on what it routes with this split: "UID/STEP", or "" where nobody set one."""
    edited: str = ""
    """What somebody else changed of what a rollout sets, in words; "" where nobody did."""


@dataclass(frozen=True, slots=True)
class Smoke:
    """What became of the first requests to a candidate that is ready, sent to its direct address. No part of the evidence."""

    requests: int
    failed: int
    detail: str = ""
    """What the last failed one was answered."""


@dataclass(frozen=True, slots=True)
class Observation:
    """All that one tick saw. `evidence` has one entry per source that the spec names."""

    routes: Routes
    evidence: tuple[Reading | Silence, ...] = ()
    commands: tuple[Command, ...] = ()
    smoke: Smoke | None = None
    """Present while the candidate is prepared, once it is ready."""
