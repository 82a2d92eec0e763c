"""Rollouts in SQLite: specs and states under optimistic locking, and the lease that lets one process drive one rollout."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from relevo.errors import Conflict, Permanent
from relevo.rollout.commands import Command, Verb
from relevo.rollout.spec import Rollout
from relevo.rollout.state import RolloutState, dump_state, load_state
from relevo.store.schema import Database

if TYPE_CHECKING:
    from relevo.rollout.decision import Transition

__all__ = ["Record", "RolloutStore"]


@dataclass(frozen=True, slots=True)
class Record:
    """A rollout as it is stored. `version` grows with each change; a writer must know the one it changes."""

    rollout: Rollout
    state: RolloutState
    version: int
    driver: str
    lease_until: float
    created_at: datetime


class RolloutStore:
    """All rollouts of one RELEVO_HOME.

    Every method raises `Transient` when the file is busy or the disk full, `Permanent` when it cannot be written; then nothing has changed.
    """

    def __init__(self, home: Path) -> None:
        self._database = Database(home / "relevo.db")

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def create(self, rollout: Rollout, state: RolloutState, now: datetime) -> Record:
        """Store a new rollout.

        Raises:
            Conflict: one of the same target has not ended.
        """
        target = rollout.spec.target
        try:
            with self._database.transaction() as connection:
                connection.execute(
                    "INSERT INTO rollouts (uid, target, created_at, rollout, state, phase, version) VALUES (?, ?, ?, ?, ?, ?, 1)",
                    (state.uid, target, now.isoformat(), _dump_rollout(rollout), dump_state(state), state.phase.value),
                )
        except sqlite3.IntegrityError as error:
            running = self.latest(target)
            what = f" to {running.rollout.spec.storage_uri} ({running.state.shown_phase})" if running else ""
            raise Conflict(
                f"{target}: a rollout{what} has not ended",
                next_step=f"Follow it with `relevo status {target} -w`, or end it with `relevo rollback {target}`.",
            ) from error
        return self.get(state.uid)

    def get(self, uid: str) -> Record:
        """Read one rollout.

        Raises:
            Permanent: there is none, or it was stored by another version.
        """
        with self._database.transaction(write=False) as connection:
            row = connection.execute("SELECT * FROM rollouts WHERE uid = ?", (uid,)).fetchone()
        if row is None:
            raise Permanent(f"rollout {uid}: is not stored here", next_step="`relevo history` lists those that are.")
        return _record(row)

    def latest(self, target: str | None = None) -> Record | None:
        """The rollout that began last, of one target or of all."""
        records = self.find(target, limit=1)
        return records[0] if records else None

    def find(self, target: str | None = None, *, limit: int = 1000) -> list[Record]:
        """Rollouts, newest first."""
        with self._database.transaction(write=False) as connection:
            rows = connection.execute(
                "SELECT * FROM rollouts WHERE ?1 IS NULL OR target = ?1 ORDER BY created_at DESC, rowid DESC LIMIT ?2",
                (target, limit),
            ).fetchall()
        return [_record(row) for row in rows]

    def save(
        self,
        record: Record,
        state: RolloutState,
        transitions: Iterable[Transition],
        *,
        sample: dict[str, Any] | None = None,
        at: datetime,
        lease_until: float,
    ) -> Record:
        """Store a tick: the new state, its transitions, a sample for the report, and the renewed lease; all or nothing.

        Raises:
            Conflict: somebody else has stored a state since `record` was read.
        """
        with self._database.transaction() as connection:
            changed = connection.execute(
                "UPDATE rollouts SET state = ?, phase = ?, version = version + 1, lease_until = ? "
                "WHERE uid = ? AND version = ? AND driver = ?",
                (dump_state(state), state.phase.value, lease_until, state.uid, record.version, record.driver),
            )
            if changed.rowcount != 1:
                raise Conflict(
                    f"{record.rollout.spec.target}: another process drives this rollout now",
                    next_step=f"Follow it with `relevo status {record.rollout.spec.target} -w`.",
                )
            for t in transitions:
                connection.execute(
                    "INSERT INTO transitions (uid, at, who, rule, before, after, message, facts) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (state.uid, t.at.isoformat(), t.who, t.rule, t.before, t.after, t.message, json.dumps(t.facts)),
                )
            if sample is not None:
                connection.execute(
                    "INSERT INTO samples (uid, at, sample) VALUES (?, ?, ?)",
                    (state.uid, at.isoformat(), json.dumps(sample)),
                )
        return Record(record.rollout, state, record.version + 1, record.driver, lease_until, record.created_at)

    def acquire(self, uid: str, driver: str, *, now: float, seconds: float, abandoned: bool = False) -> Record:
        """Take the lease for a driver; whoever had it before can store nothing more.

        `now` is a time stamp in seconds; `abandoned` says that the holder is known to be dead.

        Raises:
            Conflict: another driver holds the lease.
        """
        with self._database.transaction() as connection:
            changed = connection.execute(
                "UPDATE rollouts SET driver = ?1, lease_until = ?2, version = version + 1 "
                "WHERE uid = ?3 AND (driver IN ('', ?1) OR lease_until < ?4 OR ?5)",
                (driver, now + seconds, uid, now, abandoned),
            )
        record = self.get(uid)
        if changed.rowcount != 1:
            target = record.rollout.spec.target
            raise Conflict(
                f"{target}: {record.driver} drives this rollout already",
                next_step=f"Follow it with `relevo status {target} -w`.",
            )
        return record

    def release(self, record: Record) -> None:
        """Give the lease back."""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE rollouts SET driver = '', lease_until = 0 WHERE uid = ? AND driver = ?",
                (record.state.uid, record.driver),
            )

    def order(self, uid: str, verb: Verb, *, by: str, at: datetime) -> Command:
        """Store what a human asks of a rollout; its driver hears it at the next tick."""
        with self._database.transaction() as connection:
            cursor = connection.execute(
                "INSERT INTO commands (uid, verb, by, at) VALUES (?, ?, ?, ?)", (uid, verb.value, by, at.isoformat())
            )
        return Command(cursor.lastrowid or 0, verb, by, at)

    def commands(self, uid: str, after: int) -> tuple[Command, ...]:
        """What was asked of a rollout since a command, oldest first."""
        with self._database.transaction(write=False) as connection:
            rows = connection.execute(
                "SELECT * FROM commands WHERE uid = ? AND seq > ? ORDER BY seq", (uid, after)
            ).fetchall()
        return tuple(Command(r["seq"], Verb(r["verb"]), r["by"], datetime.fromisoformat(r["at"])) for r in rows)

    def transitions(self, uid: str) -> list[Transition]:
        """A rollout's audit log, oldest first."""
        from relevo.rollout.decision import Transition  # only who asks for the log needs the decisions

        with self._database.transaction(write=False) as connection:
            rows = connection.execute("SELECT * FROM transitions WHERE uid = ? ORDER BY id", (uid,)).fetchall()
        return [
            Transition(
                datetime.fromisoformat(r["at"]),
                r["who"],
                r["rule"],
                r["before"],
                r["after"],
                r["message"],
                json.loads(r["facts"]),
            )
            for r in rows
        ]

    def samples(self, uid: str) -> list[dict[str, Any]]:
        """What each tick saw, oldest first, for plots."""
        with self._database.transaction(write=False) as connection:
            rows = connection.execute("SELECT sample FROM samples WHERE uid = ? ORDER BY id", (uid,)).fetchall()
        return [json.loads(r["sample"]) for r in rows]

    def last_sample(self, uid: str) -> dict[str, Any] | None:
        """What the last tick saw; None before the first."""
        with self._database.transaction(write=False) as connection:
            row = connection.execute(
                "SELECT sample FROM samples WHERE uid = ? ORDER BY id DESC LIMIT 1", (uid,)
            ).fetchone()
        return json.loads(row["sample"]) if row else None


def _dump_rollout(rollout: Rollout) -> str:
    return rollout.model_dump_json(by_alias=True)


def _record(row: sqlite3.Row) -> Record:
    try:
        rollout, state = Rollout.model_validate_json(row["rollout"]), load_state(row["state"])
    except ValidationError as error:
        raise Permanent(
            f"rollout {row['uid']}: was stored by another version of relevo", next_step="Use that version to end it."
        ) from error
    return Record(
        rollout, state, row["version"], row["driver"], row["lease_until"], datetime.fromisoformat(row["created_at"])
    )
