"""The colours as Helm releases: what a release has, and `helm upgrade --install` of the idle one, by the helm CLI.

Helm has no client for Python that is kept; its command line is its stable interface. It has the rights of whoever asks for the rollout.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relevo import errors

__all__ = ["Helm", "Release", "values_of"]

COMMAND_SECONDS = 120.0

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Release:
    """One release as Helm knows it."""

    name: str
    status: str
    values: Json
    """What its user gave beside the chart's own values."""


class Helm:
    """The helm CLI on one namespace. Every method raises `errors.Permanent` where helm is missing or refuses."""

    def __init__(self, namespace: str, *, context: str | None = None, program: Sequence[str] = ("helm",)) -> None:
        self._program = tuple(program)
        self._where = ["--namespace", namespace, *(["--kube-context", context] if context else [])]

    def release(self, name: str) -> Release | None:
        """A release; None where there is none of that name."""
        done = self._run("status", name, "--output", "json")
        if done.returncode:
            if "not found" in done.stderr:
                return None
            raise _refused(done, f"release {name} cannot be read")
        values = self._run("get", "values", name, "--output", "json")
        if values.returncode:
            raise _refused(values, f"the values of release {name} cannot be read")
        status = json.loads(done.stdout).get("info", {}).get("status", "")
        return Release(name, str(status), json.loads(values.stdout) or {})

    def install(self, name: str, chart: Path, values: Mapping[str, Any]) -> None:
        """Make the release be of this chart with exactly these values.

        Raises:
            errors.BadInput: it is in a failed state, or another helm command is at work on it.
        """
        before = self.release(name)
        if before is not None and before.status != "deployed":
            raise _stuck(before, self._where)
        with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
            json.dump(dict(values), file)
            file.flush()
            options = ["--values", file.name, "--reset-values", "--history-max", "5"]
            done = self._run("upgrade", "--install", name, str(chart), *options)
        if done.returncode:
            raise _refused(done, f"release {name} cannot be installed")

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*self._program, *arguments, *self._where]
        try:
            return subprocess.run(command, capture_output=True, text=True, check=False, timeout=COMMAND_SECONDS)
        except FileNotFoundError:
            raise errors.Permanent(
                f"there is no {self._program[0]} on the PATH", next_step="Install helm; `make cluster` brings one."
            ) from None
        except subprocess.TimeoutExpired:
            raise errors.Transient(f"helm {arguments[0]} has not ended within {COMMAND_SECONDS:g} s") from None


def values_of(colour: str, own: Release | None, others: Release | None, storage_uri: str) -> Json:
    """The values of a colour that is to serve this model: its release's own, else the other colour's, with model and colour replaced."""
    base = own or others
    values: Json = dict(base.values) if base is not None else {}
    model = {key: value for key, value in dict(values.get("model") or {}).items() if key != "version"}
    tag = storage_uri.rpartition(":")[2]
    version = {"version": tag} if tag and "/" not in tag else {}
    return {**values, "colour": colour, "model": {**model, **version, "storageUri": storage_uri}}


def _stuck(release: Release, where: list[str]) -> errors.BadInput:
    flags = " ".join(where)
    if release.status.startswith("pending"):
        return errors.BadInput(
            f"release {release.name} is in state {release.status}: another helm command is at work on it, or was killed",
            next_step=f"Wait for it; if there is none, `helm rollback {release.name} {flags}` ends that state.",
        )
    return errors.BadInput(
        f"release {release.name} is in state {release.status}",
        next_step=f"`helm status {release.name} {flags}` says why; then `helm rollback {release.name} {flags}`, "
        f"or `helm uninstall {release.name} {flags}`, and call again.",
    )


def _refused(done: subprocess.CompletedProcess[str], what: str) -> errors.Permanent:
    said = " ".join(line.strip() for line in done.stderr.splitlines() if line.strip()) or f"exit code {done.returncode}"
    return errors.Permanent(f"{what}: {said[:600]}", next_step="Helm's own words; mend it and call again.")
