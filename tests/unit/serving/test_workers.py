"""The parent of several workers, with workers that do as a test says: real processes, no server."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PROGRAM = """
import os, select, signal, sys, time
from relevo.serving import workers
workers._SILENT_SECONDS = 5.0

def serve(index, until, alive):
{serve}

sys.exit(workers.Workers(2, serve, end_seconds={end_seconds}, final=frozenset([3])).run(lambda: print("closed", flush=True)))
"""


def run(serve: str, *, end_seconds: float = 60) -> subprocess.CompletedProcess[str]:
    """Run two workers that do this, to their end."""
    program = PROGRAM.format(serve=textwrap.indent(textwrap.dedent(serve), "    "), end_seconds=end_seconds)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)


def test_an_exit_code_that_is_final_ends_all() -> None:
    """A package that is refused by one is refused by all; the others are ended, and the parent ends with the same code."""
    done = run(
        """
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        alive(True)
        if index == 1:
            return 3
        time.sleep(600)
        """
    )
    assert (done.returncode, done.stdout) == (3, "closed\n")


def test_workers_that_never_serve_end_the_parent() -> None:
    """After a few tries it is not tried again: exit code 1, try later."""
    done = run("return 1")
    assert done.returncode == 1
    assert "ended before they served" in done.stderr


@pytest.mark.parametrize(
    "last", ["time.sleep(600)", "alive(False); time.sleep(600)", "os.kill(os.getpid(), 9)", "raise ValueError"]
)
def test_one_that_shows_no_life_or_dies_is_replaced(last: str, tmp_path: Path) -> None:
    """The second worker of its number ends the parent, which proves that there was one."""
    done = run(
        f"""
        alive(True)
        mark = {str(tmp_path / "first")!r}
        if index == 0:
            try:
                os.mkdir(mark)
            except FileExistsError:
                os.kill(os.getppid(), signal.SIGTERM)
                return 0
            {last}
        while True:
            alive(True)
            time.sleep(0.1)
        """
    )
    assert done.returncode == 0, done.stderr


def test_one_that_does_not_end_in_time_is_killed() -> None:
    """The parent does not wait for ever."""
    done = run(
        """
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        alive(True)
        if index == 1:
            os.kill(os.getppid(), signal.SIGTERM)
        time.sleep(600)
        """,
        end_seconds=1,
    )
    assert done.returncode == 0
