"""Wait for a package that comes a moment after the server: `wait_for_package`.

On KServe an `oci://` model is a container of its own beside the server's. It starts at the same time and only then links its files to
where the server looks for them; KServe says so by the environment variable MODEL_INIT_MODE. Neighbour: `__main__`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from relevo import errors
from relevo.packaging.manifest import MANIFEST

__all__ = ["ARRIVAL_SECONDS", "wait_for_package"]

ARRIVAL_SECONDS = 60.0
_POLL_SECONDS = 0.05


def wait_for_package(
    folder: Path,
    environment: Mapping[str, str],
    *,
    timeout_seconds: float = ARRIVAL_SECONDS,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Return once `folder` holds a package's manifest; at once where nobody said that it comes later.

    Raises:
        errors.Transient: it did not come in time.
    """
    if environment.get("MODEL_INIT_MODE") != "async":
        return
    waited = 0.0
    while not (folder / MANIFEST).is_file():
        if waited >= timeout_seconds:
            raise errors.Transient(
                f"model package {folder}: there is no {MANIFEST} after {timeout_seconds:g} s",
                next_step="Look at the container beside this one that holds the model: its image must have the package in /models.",
            )
        sleep(_POLL_SECONDS)
        waited += _POLL_SECONDS
