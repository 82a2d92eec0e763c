"""What the exit code of `relevo` says. Scripts may rely on it; docs/cli.md has the same table."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from relevo.rollout.state import RolloutState

__all__ = ["ExitCode", "exit_code_of"]


class ExitCode(IntEnum):
    """One number for one outcome."""

    OK = 0
    """Done; for a rollout: promoted."""
    FAILURE = 1
    """It could not be done, through no fault of the input: something does not answer, the disk is full."""
    BAD_INPUT = 2
    """An option, a file, a manifest or a package is wrong, or does not fit the present state."""
    ROLLED_BACK = 10
    INCONCLUSIVE = 11
    """No decision within the limits; all traffic is with the stable revision."""
    UNMEASURABLE = 12
    """Held because evidence is missing. The rollout goes on when the command is called again."""
    INTERNAL = 70
    """A fault of relevo's own."""
    INTERRUPTED = 130


def exit_code_of(state: RolloutState) -> ExitCode:
    """What a rollout's end, or where it was left, means for a script."""
    from relevo.rollout.state import HoldReason, Phase, Verdict  # `relevo --help` needs no state

    if state.phase is Phase.PROMOTED:
        return ExitCode.OK
    if state.phase is Phase.ROLLED_BACK:
        return ExitCode.INCONCLUSIVE if state.verdict is Verdict.INCONCLUSIVE else ExitCode.ROLLED_BACK
    if state.hold is not None and state.hold.reason is HoldReason.UNMEASURABLE:
        return ExitCode.UNMEASURABLE
    return ExitCode.OK
