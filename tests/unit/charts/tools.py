"""Where the tests find helm and promtool: where `make cluster` puts them, or on PATH."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from k8s.cluster.settings import cache_folder
from k8s.cluster.tools import tool as make_tool

ROOT = Path(__file__).parents[3]
CHARTS = ROOT / "charts"


def tool(name: str) -> str:
    """The path of a program. Where it is missing a test is skipped; in CI, where it must run, the program is made."""
    own = cache_folder() / "bin" / name
    found = str(own) if own.exists() else shutil.which(name)
    if found:
        return found
    if os.environ.get("CI"):
        return str(make_tool(name))
    pytest.skip(f"{name} is neither on PATH nor in {own.parent}; `make cluster` puts it there")


def run(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, its output kept."""
    command = [tool(name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
