"""Rollouts as the store has them, read without relevo's own code: the file is opened read-only while others write it.

For those who judge a rollout from outside (`soak`, `kills`, the benchmarks).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Ended", "Store"]

TERMINAL = frozenset({"Promoted", "RolledBack"})


@dataclass(frozen=True, slots=True)
class Ended:
    """One rollout as it is stored now."""

    uid: str
    phase: str
    driver: str
    """HOST:PID:BEGAN of the process that drives it, empty where none does."""
    state: Mapping[str, Any]

    @property
    def is_terminal(self) -> bool:
        """Whether its verdict has been carried out."""
        return self.phase in TERMINAL

    @property
    def driver_pid(self) -> int | None:
        """The process that drives it."""
        parts = self.driver.rsplit(":", 2)
        return int(parts[1]) if len(parts) == 3 else None

    @property
    def exit_code(self) -> int | None:
        """What `relevo deploy-canary` has to end with, by the documented table; None before the end."""
        if not self.is_terminal:
            return None
        if self.phase == "Promoted":
            return 0
        return 11 if self.state.get("verdict") == "inconclusive" else 10

    @property
    def cause(self) -> str:
        """Why it ended as it did: the check for a rollback on evidence, else the stored cause."""
        cause = str(self.state.get("cause") or "none")
        if cause == "evidence" and self.phase == "RolledBack":
            return str(self.state.get("reason", "")).partition(".")[0] or cause
        return cause


class Store:
    """A RELEVO_HOME's relevo.db. Every call opens it anew: it may not be there yet, or be another file now."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def _ask(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        if not self._path.exists():
            return []
        with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, timeout=5.0)) as connection:
            try:
                return connection.execute(sql, values).fetchall()
            except sqlite3.OperationalError as error:
                if "no such table" in str(error):  # made, and not yet filled
                    return []
                raise

    def count(self) -> int:
        """How many rollouts there have been."""
        rows = self._ask("SELECT count(*) FROM rollouts")
        return int(rows[0][0]) if rows else 0

    def last(self) -> Ended | None:
        """The rollout that began last."""
        rows = self._ask("SELECT uid, phase, driver, state FROM rollouts ORDER BY rowid DESC LIMIT 1")
        return Ended(rows[0][0], rows[0][1], rows[0][2], json.loads(rows[0][3])) if rows else None

    def progress(self) -> tuple[str, str, int]:
        """Of the rollout that began last: its uid, its driver, and how many transitions it has made. Cheap."""
        rows = self._ask(
            "SELECT uid, driver, (SELECT count(*) FROM transitions t WHERE t.uid = r.uid) FROM rollouts r "
            "ORDER BY r.rowid DESC LIMIT 1"
        )
        return (rows[0][0], rows[0][1], rows[0][2]) if rows else ("", "", 0)

    def transitions(self, uid: str) -> list[dict[str, str]]:
        """Every transition: at, rule, before, after, message; oldest first."""
        rows = self._ask("SELECT at, rule, before, after, message FROM transitions WHERE uid = ? ORDER BY id", uid)
        return [dict(zip(("at", "rule", "before", "after", "message"), row, strict=True)) for row in rows]

    def samples(self, uid: str) -> list[dict[str, Any]]:
        """What every tick saw, oldest first."""
        return [json.loads(r[0]) for r in self._ask("SELECT sample FROM samples WHERE uid = ? ORDER BY id", uid)]
