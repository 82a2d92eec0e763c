"""The entry of the command line, and what becomes of errors: one message, the next step, an exit code; never a traceback for a mistake."""

from __future__ import annotations

import errno
import os
import sys
from typing import Annotated

import typer
from rich.text import Text

import relevo
from relevo.cli import access, dashboard, loadtest, models, platform, rollouts, show, simulate
from relevo.cli.exit_codes import ExitCode
from relevo.cli.output import tell
from relevo.errors import BadInput, Conflict, RelevoError

__all__ = ["app", "run"]

THE_MACHINES = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EROFS,
        errno.EACCES,
        errno.EPERM,
        errno.EMFILE,
        errno.ENFILE,
        errno.EIO,
    }
)
"""Errors of the operating system that are neither the user's input nor a fault of relevo's."""

app = typer.Typer(
    name="relevo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # a box around the help is not worth the Markdown parser it takes to draw it
    help="Bring a new version of a scikit-learn model to all its users, on a decision that can be trusted, and back when it is worse.",
    epilog="Exit codes: 0 done or promoted, 1 failure, 2 bad input, 10 rolled back, 11 inconclusive, 12 held as unmeasurable, "
    "70 internal error, 130 interrupted.",
)
app.command("train", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(models.train)
app.add_typer(models.package_app, name="package")
app.command("up")(platform.up)
app.command("down")(platform.down)
app.command("deploy-canary")(rollouts.deploy_canary)
app.command("deploy-blue-green")(rollouts.deploy_blue_green)
app.command("switch")(rollouts.switch)
app.command("status")(show.status)
app.command("promote")(rollouts.promote)
app.command("rollback")(rollouts.rollback)
app.command("pause")(rollouts.pause)
app.command("resume")(rollouts.resume)
app.command("retry")(rollouts.retry)
app.command("undo")(rollouts.undo)
app.command("loadtest")(loadtest.loadtest)
app.command("dashboard")(dashboard.dashboard)
app.command("simulate")(simulate.simulate)
app.add_typer(access.access_app, name="access")
app.command("history")(show.history)
app.command("report")(show.report)


def _version(wanted: bool) -> None:
    if wanted:
        print(relevo.__version__)
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Options before the command."""


def run() -> None:
    """Run the command line and end the process with the documented exit code."""
    sys.exit(_run())


def _run() -> int:
    try:
        app(standalone_mode=True)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except RelevoError as error:
        _tell_error("error:", error.message, error.next_step)
        return ExitCode.BAD_INPUT if isinstance(error, BadInput | Conflict) else ExitCode.FAILURE
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; nothing more can be printed, and nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except OSError as error:
        return _storage_error(error) if error.errno in THE_MACHINES else _internal_error()
    except Exception:
        return _internal_error()
    return ExitCode.OK


def _internal_error() -> int:
    """Keep the traceback in a file: it is for whoever mends relevo."""
    import tempfile
    import traceback

    kind, problem, _ = sys.exc_info()
    try:
        with tempfile.NamedTemporaryFile("w", prefix="relevo-error-", suffix=".txt", delete=False) as file:
            traceback.print_exc(file=file)
        where = file.name
    except OSError as error:
        where = f"none, for no file could be written ({error.strerror})"
    _tell_error(
        "internal error:",
        f"{kind.__name__ if kind else ''}: {problem}",
        f"This is a fault of relevo's own. Details: {where}",
    )
    return ExitCode.INTERNAL


def _storage_error(error: OSError) -> int:
    """What the machine would not do, in its own words."""
    where = f"{error.filename}: " if error.filename else ""
    _tell_error(
        "error:", f"{where}{error.strerror}", "Make room or give access, then call again; nothing else was lost."
    )
    return ExitCode.FAILURE


def _tell_error(word: str, message: str, next_step: str) -> None:
    tell(Text(word, "bold red"), message)
    if next_step:
        tell(f"       {next_step}")


if __name__ == "__main__":
    run()
