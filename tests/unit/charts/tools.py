"""Where the tests find helm and promtool: on PATH, or in the cache that `make cluster` fills."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CHARTS = ROOT / "charts"


def tool(name: str) -> str:
    """The path of a program. Without it a test is skipped, but fails in CI, where it must run."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "relevo"
    folder = Path(os.environ.get("RELEVO_CACHE") or cache) / "bin"
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), str(folder)]))
    if found:
        return found
    reason = f"{name} is neither on PATH nor in {folder}; `make cluster` puts it there"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def run(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, its output kept."""
    command = [tool(name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
