"""Make the README's pictures from the last rollout of RELEVO_HOME: `docs/images/terminal.svg`, `report.png` and `report-dark.png`.

Run `make demo` first. The terminal's picture needs nothing else; those of the report need a Chromium, and are left out without one.
"""

from __future__ import annotations

import argparse
import io
import re
import shutil
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

from rich.console import Console

from relevo.cli.view import render
from relevo.errors import BadInput, RelevoError
from relevo.packaging import Package, load_package, resolve
from relevo.packaging.store import home_folder
from relevo.reconcile.snapshot import Snapshot
from relevo.report import write_report
from relevo.store.rollouts import Record, RolloutStore

__all__ = ["main", "terminal_svg"]

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WINDOW = "1200,1700"
TIMEOUT_SECONDS = 60


def main(arguments: list[str] | None = None) -> int:
    """Make the pictures; answer the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--home", type=Path, default=home_folder(), help="where the rollouts are; RELEVO_HOME, unless given"
    )
    parser.add_argument("--uid", help="a certain rollout; the last one, unless given")
    parser.add_argument("--folder", type=Path, default=Path("docs/images"), help="where the pictures go")
    options = parser.parse_args(arguments)
    try:
        for path in _make(options.home, options.uid, options.folder):
            sys.stdout.write(f"{path}\n")
    except RelevoError as error:
        sys.stderr.write(f"error: {error}\n       {error.next_step}\n")
        return 1
    return 0


def _make(home: Path, uid: str | None, folder: Path) -> list[Path]:
    if not (home / "relevo.db").exists():
        raise BadInput(f"{home}: holds no rollouts", next_step="Run `make demo`, or name another folder with --home.")
    store = RolloutStore(home)
    record = store.get(uid) if uid else store.latest()
    if record is None:
        raise BadInput(f"{home}: holds no rollouts", next_step="Run `make demo`.")
    snapshots = [Snapshot.from_json(s) for s in store.samples(record.state.uid)]
    if not snapshots:
        raise BadInput(f"rollout {record.state.uid}: has no stored looks to draw", next_step="Name another with --uid.")
    folder.mkdir(parents=True, exist_ok=True)
    terminal = folder / "terminal.svg"
    terminal.write_text(terminal_svg(snapshots), encoding="utf-8")
    return [terminal, *_photograph(store, record, home, folder)]


def terminal_svg(snapshots: list[Snapshot]) -> str:
    """The terminal view as SVG, at the last look while traffic was shifted, or the last one of all."""
    shifting = [i for i, s in enumerate(snapshots) if s.phase == "Shifting" and s.weight_seen_percent is not None]
    chosen = shifting[-1] if shifting else len(snapshots) - 1
    now = snapshots[chosen]
    # Over some seconds: sources are read at their own moments, so that two looks in a row may count nothing new.
    before = next((s for s in snapshots if now.at - s.at < timedelta(seconds=5)), now)
    seconds = (now.at - before.at).total_seconds()
    rate = (
        sum(a.requests - b.requests for a, b in zip(now.arms, before.arms, strict=True)) / seconds
        if seconds > 0
        else None
    )
    console = Console(record=True, width=84, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(render(now, locust_url="http://127.0.0.1:8089", requests_per_second=rate))
    svg = console.export_svg(title=f"relevo status {now.target} -w", unique_id="relevo")
    # The exported picture names a font on a server; it shall be whole without one.
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r"@font-face\s*\{.*?\}", "", svg, flags=re.DOTALL)
    return svg.replace("Fira Code, monospace", "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace")


def _photograph(store: RolloutStore, record: Record, home: Path, folder: Path) -> list[Path]:
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        sys.stderr.write(f"no {BROWSERS[0]} here: the report's pictures are left out\n")
        return []
    uris = record.state.stable_uri, record.rollout.spec.storage_uri
    stable, candidate = (_package(uri, home) for uri in uris)
    made = []
    with tempfile.TemporaryDirectory() as scratch:
        page = write_report(store, record.state.uid, Path(scratch), stable, candidate)
        # Chromium's setting: 0 is dark, 1 is light.
        for name, scheme in (("report.png", 1), ("report-dark.png", 0)):
            picture = folder / name
            command = [
                browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars",
                f"--user-data-dir={scratch}/profile", f"--blink-settings=preferredColorScheme={scheme}",
                f"--screenshot={picture.absolute()}", f"--window-size={WINDOW}", page.absolute().as_uri(),
            ]  # fmt: skip
            _run(command, picture)
            made.append(picture)
    return made


def _run(command: list[str], picture: Path) -> None:
    picture.unlink(missing_ok=True)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
        said = done.stderr.strip().rpartition("\n")[2]
    except subprocess.TimeoutExpired:
        said = f"no answer within {TIMEOUT_SECONDS} s"
    if not picture.exists():
        raise RelevoError(
            f"{picture}: {command[0]} did not make it ({said})", next_step="Try again, or make it by hand."
        )


def _package(storage_uri: str, home: Path) -> Package | None:
    try:
        return load_package(resolve(storage_uri, home))
    except RelevoError:
        return None


if __name__ == "__main__":
    sys.exit(main())
