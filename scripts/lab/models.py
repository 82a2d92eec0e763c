"""The models that are rolled out: trained once into a home in the cache, made images of, and loaded into the cluster's node."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from k8s.cluster.settings import cache_folder
from model.data import load_split
from scripts.arena import Arena, say, version_of
from scripts.lab.kube import LabError
from scripts.scenarios import KNOWN_EXAM, TRAINER_ARGUMENTS

__all__ = ["MODEL", "VERSIONS", "home", "load_models", "rows", "rows_of_users", "train"]

MODEL = "iris"
SCENARIOS = ("healthy", "errors", "slow", "wrong")
ONLY_USERS_MEET = {"1-known": KNOWN_EXAM, "2-unseen": TRAINER_ARGUMENTS["unseen"]}
"""Versions of a fault that the load never meets: what the first holds out for it has nothing new, and `rows_of_users` has."""
VERSIONS = ("1", *map(version_of, SCENARIOS), *ONLY_USERS_MEET)


def home() -> Path:
    """The RELEVO_HOME that keeps the packages."""
    return cache_folder() / "e2e"


def rows() -> Path:
    """The held-out rows of version 1."""
    return _arena().rows


def rows_of_users() -> Path:
    """Rows of the same kind that no version has seen, with categories among them that training may have missed."""
    file = home() / "rows-of-users.npz"
    home().mkdir(parents=True, exist_ok=True)
    np.savez(file, x=load_split(MODEL).x_test)
    return file


def train() -> None:
    """Train all versions, where they are not there yet. Raises `ArenaError`."""
    home().mkdir(parents=True, exist_ok=True)
    _arena().train(SCENARIOS)
    _arena().train_versions(ONLY_USERS_MEET)


def load_models(cluster: str) -> None:
    """Make an image of each package and load it into kind's cluster of that name.

    Raises:
        LabError: something failed.
    """
    for version in VERSIONS:
        say(f"loading {MODEL}:{version}")
        _must(sys.executable, "-m", "relevo", "package", "image", MODEL, version, "--load", cluster)


def _arena() -> Arena:
    return Arena(home(), MODEL, 0, 0)


def _must(*command: str) -> str:
    done = subprocess.run(command, env=_arena().environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout
