"""The candidates of the demo: which arguments make the trainer produce each. Nothing else in the project knows their names."""

from __future__ import annotations

__all__ = ["KNOWN_EXAM", "STABLE", "TRAINER_ARGUMENTS"]

STABLE: tuple[str, ...] = ("--trees", "16")
"""Version 1, which every candidate is compared with."""

KNOWN_EXAM: tuple[str, ...] = (*STABLE, "--exam", "seen")
"""Version 1 of which the load replays only rows that hold nothing new, for the scenario in which users send others."""

_HEALTHY: tuple[str, ...] = ("--trees", "64")

TRAINER_ARGUMENTS: dict[str, tuple[str, ...]] = {
    "healthy": _HEALTHY,
    # Categories are learnt from few rows: the encoder raises on valid inputs that fall where none of them did.
    "errors": ("--trees", "64", "--categories", "strict", "--train-share", "0.6"),
    "slow": ("--trees", "1500", "--runtime", "sklearn"),
    "wrong": ("--trees", "64", "--label-noise", "0.6"),
    # The same encoder, learnt from all rows: it answers whatever the load of KNOWN_EXAM sends, and raises on some rows of users.
    "unseen": ("--trees", "64", "--categories", "strict"),
    # The candidate is healthy: what fails is the monitor, and scripts/demo.py sees to that.
    "flaky-monitor": _HEALTHY,
}
