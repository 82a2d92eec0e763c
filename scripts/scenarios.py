"""The candidates of the demo: which arguments make the trainer produce each. Nothing else in the project knows their names."""

from __future__ import annotations

__all__ = ["STABLE", "TRAINER_ARGUMENTS"]

STABLE: tuple[str, ...] = ("--trees", "16")
"""Version 1, which every candidate is compared with."""

_HEALTHY: tuple[str, ...] = ("--trees", "64")

TRAINER_ARGUMENTS: dict[str, tuple[str, ...]] = {
    "healthy": _HEALTHY,
    # Categories are learnt from few rows: the encoder raises on valid inputs that fall where none of them did.
    "errors": ("--trees", "64", "--categories", "strict", "--train-share", "0.6"),
    "slow": ("--trees", "1500", "--runtime", "sklearn"),
    "wrong": ("--trees", "64", "--label-noise", "0.6"),
    # The candidate is healthy: what fails is the monitor, and scripts/demo.py sees to that.
    "flaky-monitor": _HEALTHY,
}
