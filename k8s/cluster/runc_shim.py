#!/usr/bin/env python3
"""runc, asked only for what a restricted machine can grant: no CAP_SYS_RESOURCE, and no OOM score below zero.

Docker asks for every capability where a container is privileged, and runc refuses as a whole where one cannot be had. Docker calls this
as its runtime; it must stand alone.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from typing import Any

MISSING = "CAP_SYS_RESOURCE"


def trim(process: dict[str, Any]) -> None:
    """Take out of a process's specification what cannot be granted."""
    capabilities = process.get("capabilities") or {}
    for name, values in capabilities.items():
        capabilities[name] = [value for value in values if value != MISSING]
    if (process.get("oomScoreAdj") or 0) < 0:
        process["oomScoreAdj"] = 0


def main(arguments: list[str]) -> None:
    """Mend the specification that Docker wrote for runc, then become runc."""
    if "--bundle" in arguments and ({"create", "run"} & set(arguments)):
        path = os.path.join(arguments[arguments.index("--bundle") + 1], "config.json")
        mend(path, lambda specification: specification["process"])
    elif "exec" in arguments and "--process" in arguments:
        mend(arguments[arguments.index("--process") + 1], lambda specification: specification)
    runc = shutil.which("runc", path="/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin")
    os.execv(runc or "/usr/sbin/runc", ["runc", *arguments])


def mend(path: str, process_of: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Rewrite one file."""
    with open(path) as file:
        specification = json.load(file)
    trim(process_of(specification))
    with open(path, "w") as file:
        json.dump(specification, file)


if __name__ == "__main__":
    main(sys.argv[1:])
