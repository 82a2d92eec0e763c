"""A candidate is prepared to its end, also where whoever began it died in the middle."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from relevo.errors import Transient
from relevo.reconcile.tick import Reconciler
from relevo.rollout.observation import RevisionStatus, Routes
from relevo.rollout.platform import ModelRef
from tests.unit.reconcile.test_driver import make_rollout

SPEC = make_rollout().spec
STABLE = RevisionStatus("iris-predictor-00001", "oci://x/y:1", ready=True)
READY = RevisionStatus("iris-predictor-00002", SPEC.storage_uri, ready=True)
UNREADY = replace(READY, ready=False)


@dataclass
class Platform:
    """Counts how often it is asked to prepare."""

    asked: int = 0
    busy: bool = False

    def prepare(self, target: str, candidate: ModelRef) -> None:
        self.asked += 1
        if self.busy:
            raise Transient("not now")


def process(platform: Platform) -> Any:
    """A new process that drives a rollout there."""
    parts: Any = platform
    return cast(Any, Reconciler(parts, parts, (), parts, parts, lambda: datetime.now(UTC)))


def test_a_new_process_prepares_a_candidate_that_is_there_and_not_ready() -> None:
    """Once: the platform's file may name it while its program was never asked for. Then it is waited for."""
    platform = Platform()
    driver = process(platform)
    for _ in range(3):
        driver._prepare(SPEC, Routes(STABLE, UNREADY, 0, ""))
    assert platform.asked == 1
    process(platform)._prepare(SPEC, Routes(STABLE, UNREADY, 0, ""))
    assert platform.asked == 2


def test_a_candidate_that_is_ready_is_left_alone() -> None:
    """Nothing is asked of the platform."""
    platform = Platform()
    process(platform)._prepare(SPEC, Routes(STABLE, READY, 0, ""))
    assert platform.asked == 0


def test_what_was_not_prepared_to_the_end_is_tried_again() -> None:
    """A platform that did not answer is asked again at the next tick."""
    platform = Platform(busy=True)
    driver = process(platform)
    with pytest.raises(Transient):
        driver._prepare(SPEC, Routes(STABLE, UNREADY, 0, ""))
    platform.busy = False
    driver._prepare(SPEC, Routes(STABLE, UNREADY, 0, ""))
    assert platform.asked == 2
