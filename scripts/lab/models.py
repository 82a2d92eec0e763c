"""The models that are rolled out: trained once into a home in the cache, made images of, and loaded into the cluster's node."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from k8s.cluster.settings import cache_folder
from scripts.arena import Arena, say, version_of
from scripts.lab.kube import LabError

__all__ = ["MODEL", "SCENARIOS", "home", "load_models", "rows", "train"]

MODEL = "iris"
SCENARIOS = ("healthy", "errors", "slow", "wrong")


def home() -> Path:
    """The RELEVO_HOME that keeps the packages."""
    return cache_folder() / "e2e"


def rows() -> Path:
    """The held-out rows of version 1."""
    return _arena().rows


def train(scenarios: Sequence[str] = SCENARIOS) -> None:
    """Train version 1 and the scenarios' candidates, where they are not there yet. Raises `ArenaError`."""
    home().mkdir(parents=True, exist_ok=True)
    _arena().train(scenarios)


def load_models(cluster: str, scenarios: Sequence[str] = SCENARIOS) -> None:
    """Make an image of each package and load it into kind's cluster of that name.

    Raises:
        LabError: something failed.
    """
    for version in ("1", *map(version_of, scenarios)):
        say(f"loading {MODEL}:{version}")
        _must(sys.executable, "-m", "relevo", "package", "image", MODEL, version, "--load", cluster)


def _arena() -> Arena:
    return Arena(home(), MODEL, 0, 0)


def _must(*command: str) -> str:
    done = subprocess.run(command, env=_arena().environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout
