"""What becomes of errors: one message, the next step, a documented code, and a traceback only in a file."""

from __future__ import annotations

import errno
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from relevo.cli import dashboard, main, models, platform, rollouts, show
from relevo.errors import BadInput, Conflict, Permanent, Transient

COMMANDS = {"train", "up", "down", "deploy-canary", "status", "promote", "rollback", "pause", "resume", "retry", "undo",
            "loadtest", "dashboard", "history", "report", "package", "access"}  # fmt: skip


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """Run the command line in this process; its exit code."""
    monkeypatch.setenv("RELEVO_HOME", str(tmp_path / "home"))

    def call(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["relevo", *arguments])
        with pytest.raises(SystemExit) as end:
            main.run()
        return int(end.value.code or 0)

    return call


@pytest.fixture
def failing(run: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], int]:
    """Run a command that raises this."""

    def call(error: BaseException) -> int:
        def raise_it(*_: object) -> None:
            raise error

        monkeypatch.setattr("relevo.packaging.store.home_folder", raise_it)
        return run("package", "list")

    return call


@pytest.mark.parametrize(("kind", "code"), [(BadInput, 2), (Conflict, 2), (Permanent, 1), (Transient, 1)])
def test_an_error_of_ours_is_a_message_and_a_next_step(
    failing: Callable[[BaseException], int], capsys: pytest.CaptureFixture[str], kind: type[BadInput], code: int
) -> None:
    """The user's mistakes give 2, what the world refuses 1; brackets and long sentences come out as they are."""
    message = "thing [red]x[/red]: " + "a long sentence " * 20
    assert failing(kind(message, next_step="Do [this].")) == code
    seen = capsys.readouterr()
    assert seen.err == f"error: {message}\n       Do [this].\n"
    assert seen.out == ""


def test_a_fault_of_our_own_keeps_its_traceback_in_a_file(
    failing: Callable[[BaseException], int],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """70, one line, and the file with the details."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert failing(ZeroDivisionError("oh")) == 70
    err = capsys.readouterr().err
    assert "internal error: ZeroDivisionError: oh" in err
    assert "Traceback" not in err
    assert "Traceback" in Path(err.split("Details: ")[1].strip()).read_text()


def test_a_fault_that_cannot_be_kept_is_still_said(
    failing: Callable[[BaseException], int],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where no file can be written there is no second traceback."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    assert failing(ZeroDivisionError("oh")) == 70
    assert "no file could be written" in capsys.readouterr().err


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_full_or_closed_disk_is_no_fault_of_ours(
    failing: Callable[[BaseException], int], capsys: pytest.CaptureFixture[str], number: int
) -> None:
    """1, with the path and the system's own words."""
    assert failing(OSError(number, "the system's words", "/some/path")) == 1
    assert "/some/path: the system's words" in capsys.readouterr().err


def test_ctrl_c_gives_130(failing: Callable[[BaseException], int]) -> None:
    """As every shell expects."""
    assert failing(KeyboardInterrupt()) == 130


@pytest.mark.parametrize(
    "arguments", [["nosuch"], ["up"], ["status", "--nosuch"], ["status", "-o", "xml"], ["promote", "a", "b"]]
)
def test_a_wrong_option_is_bad_input(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    """2, and how to get help."""
    assert run(*arguments) == 2
    assert "--help" in capsys.readouterr().err


def test_help_lists_every_command(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    """And the exit codes."""
    assert run("--help") == 0
    shown = capsys.readouterr().out
    assert {line.split()[0] for line in shown.splitlines() if line.startswith("  ") and line.split()} >= COMMANDS
    assert "10 rolled back" in shown


def test_the_version_is_printed(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    """Alone, for scripts."""
    assert run("--version") == 0
    assert capsys.readouterr().out.count(".") >= 1


HEAVY = ("numpy", "scipy", "sklearn", "joblib", "matplotlib", "kserve", "onnxruntime", "httpx", "jinja2")


@pytest.mark.parametrize(
    ("arguments", "forbidden"),
    [
        (["--help"], (*HEAVY, "pydantic", "yaml")),
        (["deploy-canary", "--help"], (*HEAVY, "yaml")),  # typer itself brings pydantic, to read options
        (["status"], HEAVY),
        (["package", "list"], HEAVY),
    ],
)
def test_a_command_that_only_looks_imports_no_more_than_it_needs(
    tmp_path: Path, arguments: list[str], forbidden: tuple[str, ...]
) -> None:
    """What takes a second to import is imported by those who use it."""
    program = (
        f"import sys; sys.argv = ['relevo', *{arguments!r}]\nfrom relevo.cli.main import run\n"
        f"try: run()\nexcept SystemExit: print('loaded', *(m for m in {forbidden!r} if m in sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"RELEVO_HOME": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.splitlines()[-1] == "loaded"


def test_reading_the_audit_log_needs_no_statistics(tmp_path: Path) -> None:
    """`relevo history` reads transitions, which were decided long ago: no SciPy."""
    program = (
        "import sys\nfrom pathlib import Path\nfrom relevo.store.rollouts import RolloutStore\n"
        f"assert RolloutStore(Path({str(tmp_path)!r})).transitions('u1') == []\n"
        f"sys.exit(' '.join(m for m in {HEAVY!r} if m in sys.modules) or None)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("module", [dashboard, models, platform, rollouts, show])
def test_every_command_says_what_it_does(module: object) -> None:
    """Each name that a module of commands exports has a sentence for `--help`."""
    for name in module.__all__:  # type: ignore[attr-defined]
        what = getattr(module, name)
        assert (getattr(what, "__doc__", "") or "").strip(), name
