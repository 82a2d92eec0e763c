"""Runs programs. A failure becomes one error with the program's own last words; the rest of its output is in the cache's log folder."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from relevo.errors import BadInput, Permanent

__all__ = ["find", "pipe", "run", "succeeds"]

_LAST_LINES = 12


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
    timeout_seconds: float | None = None,
) -> str:
    """Run a program to its end and return its stdout.

    Raises:
        Permanent: it failed, with the last lines that it wrote, or took too long.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words, cwd=cwd, env=env, input=stdin, text=True, capture_output=True, timeout=timeout_seconds, check=False
        )
    except FileNotFoundError:
        raise Permanent(f"{words[0]}: there is no such program") from None
    except subprocess.TimeoutExpired:
        raise Permanent(f"`{_short(words)}` did not end within {timeout_seconds:.0f} s") from None
    if done.returncode:
        raise Permanent(
            f"`{_short(words)}` failed with exit code {done.returncode}:\n{_tail(done.stderr or done.stdout)}"
        )
    return done.stdout


def succeeds(command: Sequence[str | Path], *, cwd: Path | None = None, timeout_seconds: float = 30) -> bool:
    """Whether a program ends well. A program that is not there does not."""
    try:
        done = subprocess.run(
            [str(word) for word in command], cwd=cwd, capture_output=True, timeout=timeout_seconds, check=False
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def pipe(source: Sequence[str | Path], sink: Sequence[str | Path]) -> None:
    """`source | sink`, of which both must succeed.

    Raises:
        Permanent: one of them failed.
    """
    first = [str(word) for word in source]
    second = [str(word) for word in sink]
    with subprocess.Popen(first, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as writer:
        reader = subprocess.run(second, stdin=writer.stdout, capture_output=True, text=True, check=False)
        if writer.stdout:
            writer.stdout.close()  # else a writer whose reader failed would wait for ever
        said = writer.stderr.read().decode(errors="replace") if writer.stderr else ""
    if reader.returncode:
        raise Permanent(f"`{_short(second)}` failed with exit code {reader.returncode}:\n{_tail(reader.stderr)}")
    if writer.returncode:
        raise Permanent(f"`{_short(first)}` failed with exit code {writer.returncode}:\n{_tail(said)}")


def find(program: str, next_step: str) -> Path:
    """Where a program is.

    Raises:
        BadInput: it is not installed, with what to do about it.
    """
    found = shutil.which(program, path=None) or shutil.which(program, path="/usr/sbin:/sbin:/usr/local/go/bin")
    if not found:
        raise BadInput(f"{program} is not installed.", next_step=next_step)
    return Path(found)


def _short(words: Sequence[str]) -> str:
    line = " ".join(words)
    return line if len(line) <= 100 else f"{line[:97]}..."


def _tail(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if not line.startswith("go: downloading")]
    return "\n".join(f"  {line}" for line in lines[-_LAST_LINES:])
