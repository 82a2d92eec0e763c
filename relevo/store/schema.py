"""The tables, and how the file is opened."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from relevo.errors import Permanent, Transient

__all__ = ["Database"]

VERSION = 1

BUSY_SECONDS = 5.0
"""How long to wait for another process to let go of the file."""

TABLES = """
CREATE TABLE IF NOT EXISTS rollouts (
    uid TEXT PRIMARY KEY,
    target TEXT NOT NULL,
    created_at TEXT NOT NULL,
    rollout TEXT NOT NULL,
    state TEXT NOT NULL,
    phase TEXT NOT NULL,
    version INTEGER NOT NULL,
    driver TEXT NOT NULL DEFAULT '',
    lease_until REAL NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS one_running ON rollouts (target) WHERE phase NOT IN ('Promoted', 'RolledBack');
CREATE TABLE IF NOT EXISTS transitions (
    id INTEGER PRIMARY KEY,
    uid TEXT NOT NULL REFERENCES rollouts (uid),
    at TEXT NOT NULL,
    who TEXT NOT NULL,
    rule TEXT NOT NULL,
    before TEXT NOT NULL,
    after TEXT NOT NULL,
    message TEXT NOT NULL,
    facts TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS commands (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    uid TEXT NOT NULL REFERENCES rollouts (uid),
    verb TEXT NOT NULL,
    by TEXT NOT NULL,
    at TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS samples (
    id INTEGER PRIMARY KEY,
    uid TEXT NOT NULL REFERENCES rollouts (uid),
    at TEXT NOT NULL,
    sample TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS samples_by_rollout ON samples (uid, id);
CREATE INDEX IF NOT EXISTS transitions_by_rollout ON transitions (uid, id);
"""


class Database:
    """One connection to the file, made when it is first needed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None

    @contextmanager
    def transaction(self, *, write: bool = True) -> Iterator[sqlite3.Connection]:
        """A transaction that is wholly stored or not at all. Only one process at a time has one that writes.

        Raises:
            Transient: another process holds the file for too long, or the disk is full.
            Permanent: the file cannot be opened or written, or is no database of ours.
        """
        try:
            connection = self._connect()
            with connection:
                connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
                yield connection
        except sqlite3.OperationalError as error:
            raise self._translated(error) from error
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.IntegrityError):
                raise
            raise Permanent(
                f"{self.path}: is damaged or no relevo database ({error})", next_step="Move it away; a new one is made."
            ) from error

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self) -> sqlite3.Connection:
        if self._connection is None:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                message = f"{self.path.parent}: cannot be made ({error.strerror})"
                raise Permanent(message, next_step="Set RELEVO_HOME to a folder that can be written.") from error
            connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None)
            connection.row_factory = sqlite3.Row
            # A killed process loses nothing in this mode; only a power cut may lose the last ticks, never consistency.
            _keep_a_journal(connection)
            connection.execute("PRAGMA synchronous = NORMAL")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, VERSION):
                raise Permanent(
                    f"{self.path}: was written by another version of relevo (schema {version}, this one knows {VERSION})",
                    next_step="Use that version, or set RELEVO_HOME to a new folder.",
                )
            if version == 0:
                connection.executescript(f"BEGIN IMMEDIATE; {TABLES} PRAGMA user_version = {VERSION}; COMMIT;")
            self._connection = connection
        return self._connection

    def _translated(self, error: sqlite3.OperationalError) -> Permanent | Transient:
        text = str(error)
        if "locked" in text or "busy" in text:
            return Transient(f"{self.path}: another process has held it for 5 s", next_step="Try again.")
        if "full" in text:
            return Transient(
                f"{self.path}: the disk is full; nothing was changed", next_step="Make room; it continues by itself."
            )
        if "readonly" in text or "unable to open" in text or "disk I/O" in text:
            return Permanent(
                f"{self.path}: cannot be written ({text}); nothing was changed",
                next_step="Make it writable, or set RELEVO_HOME to a folder that is.",
            )
        return Permanent(f"{self.path}: {text}", next_step="See docs/troubleshooting.md.")


def _keep_a_journal(connection: sqlite3.Connection) -> None:
    """Switch to a write-ahead journal. For this change SQLite does not wait for other processes by itself: we do."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return
