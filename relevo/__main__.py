"""The entry of the process: `python -m relevo`, and the `relevo` script. `relevo.cli.main` is the command line itself."""

from __future__ import annotations

import sys

__all__ = ["run"]


def run() -> None:
    """Run the command line; a Ctrl-C while Python still imports it ends as quietly as a later one."""
    try:
        from relevo.cli.main import run as run_command_line
    except KeyboardInterrupt:
        sys.exit(130)  # ExitCode.INTERRUPTED, which may not be imported yet
    run_command_line()


if __name__ == "__main__":
    run()
