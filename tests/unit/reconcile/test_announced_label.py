"""What a tick tells a load generator that no proxy tells of splits: which label is in force, and in which order."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from relevo.errors import Transient
from relevo.evidence.source import LoadPlan
from relevo.reconcile.tick import Reconciler
from relevo.rollout.decision import Desired
from relevo.rollout.observation import RevisionStatus, Routes
from relevo.rollout.platform import ModelRef, Split
from tests.unit.reconcile.test_driver import make_rollout

SPEC = make_rollout().spec
STABLE = RevisionStatus("iris-predictor-00001", "oci://x/y:1", ready=True)
CANDIDATE = RevisionStatus("iris-predictor-00002", SPEC.storage_uri, ready=True)


@dataclass
class Parts:
    """Platform and load generator in one, which note what is asked of them."""

    calls: list[str] = field(default_factory=list)
    deaf: bool = False

    def set_weight(self, target: str, split: Split) -> None:
        self.calls.append(f"weight {split.weight_percent}")

    def ensure(self, plan: LoadPlan) -> None:
        self.calls.append("ensure")

    def announce(self, label: str) -> None:
        if self.deaf:
            raise Transient("the load generator does not answer")
        self.calls.append(f"announce {label!r}")

    def prepare(self, target: str, candidate: ModelRef) -> None:
        """It is there."""


def make_so(parts: Parts, wished: Split, weight: int, label: str) -> str:
    """Make a split so, where the routes are seen like this; what went wrong."""
    anything: Any = parts
    reconciler = Reconciler(anything, anything, (), anything, anything, lambda: datetime.now(UTC))
    routes = Routes(STABLE, CANDIDATE, weight, label)
    trouble = cast(Any, reconciler)._make_so(SPEC, Desired(prepare=True, split=wished, users=5), routes)
    return str(trouble or "")


def test_the_label_is_withdrawn_before_the_split_changes() -> None:
    """In between, no request is counted under either."""
    parts = Parts()
    assert make_so(parts, Split(12, "u/2"), 5, "u/1") == ""
    assert parts.calls == ["announce ''", "weight 12", "ensure", "announce ''"]


def test_the_label_is_announced_when_the_routes_say_so() -> None:
    """Not when it was asked for."""
    parts = Parts()
    make_so(parts, Split(12, "u/2"), 12, "u/2")
    assert parts.calls == ["ensure", "announce 'u/2'"]


def test_no_weight_rises_while_the_old_label_cannot_be_withdrawn() -> None:
    """Users' requests would be counted to a step that they do not belong to."""
    parts = Parts(deaf=True)
    assert "does not answer" in make_so(parts, Split(12, "u/2"), 5, "u/1")
    assert parts.calls == []


@pytest.mark.parametrize("weight", [0, 5])
def test_taking_traffic_away_waits_for_nobody(weight: int) -> None:
    """A load generator that does not answer keeps no candidate in traffic."""
    parts = Parts(deaf=True)
    make_so(parts, Split(weight, "u/0"), 5, "u/1")
    assert parts.calls[0] == f"weight {weight}"
