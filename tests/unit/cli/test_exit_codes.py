"""What a script is told by the number."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from relevo.cli.exit_codes import ExitCode, exit_code_of
from relevo.rollout.observation import RevisionStatus
from relevo.rollout.state import Hold, HoldReason, Phase, Verdict, new_state

NOW = datetime(2026, 1, 1, tzinfo=UTC)
STATE = new_state("iris-1", RevisionStatus("iris-predictor-00001", "oci://dev.local/iris:1", ready=True), NOW)


@pytest.mark.parametrize(
    ("phase", "verdict", "code"),
    [
        (Phase.PROMOTED, Verdict.PASS, 0),
        (Phase.PROMOTED, None, 0),
        (Phase.ROLLED_BACK, Verdict.FAIL, 10),
        (Phase.ROLLED_BACK, None, 10),
        (Phase.ROLLED_BACK, Verdict.INCONCLUSIVE, 11),
        (Phase.SHIFTING, None, 0),
    ],
)
def test_every_end_has_its_code(phase: Phase, verdict: Verdict | None, code: int) -> None:
    """Promoted is 0; rolled back is 10, whoever asked for it; no decision is 11."""
    assert exit_code_of(replace(STATE, phase=phase, verdict=verdict)) == code


@pytest.mark.parametrize("reason", list(HoldReason))
def test_only_missing_evidence_makes_a_hold_unmeasurable(reason: HoldReason) -> None:
    """12 says that evidence is missing; a pause is nobody's fault."""
    held = replace(STATE, phase=Phase.SHIFTING, hold=Hold(reason, NOW, "it is held"))
    assert exit_code_of(held) == (12 if reason is HoldReason.UNMEASURABLE else 0)


def test_a_hold_does_not_hide_an_end() -> None:
    """A state that ended while it was held answers with its end."""
    ended = replace(STATE, phase=Phase.PROMOTED, hold=Hold(HoldReason.UNMEASURABLE, NOW, "it was held"))
    assert exit_code_of(ended) is ExitCode.OK
