"""`make e2e`: the tests that need a cluster, on the one that `make cluster` made, or on another by CONTEXT.

python -m scripts.e2e [--context CONTEXT] [--gateway HOST:PORT] [-- PYTEST-ARGUMENTS]

On a kind cluster the models' images are built and loaded first. Elsewhere they must be there already: dev.local/iris in the versions 1, 2,
2-errors, 2-slow and 2-wrong.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

from scripts.arena import PROJECT, ArenaError, say
from scripts.lab import models
from scripts.lab.faults import wait_for_operator
from scripts.lab.kube import GATEWAY, Lab, LabError

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run them. pytest's exit code, or 2 where they cannot be run."""
    parser = argparse.ArgumentParser(prog="python -m scripts.e2e", description=__doc__.partition("\n")[0])
    cluster = os.environ.get("CLUSTER") or "relevo"
    parser.add_argument("--context", default=os.environ.get("CONTEXT") or f"kind-{cluster}")
    parser.add_argument("--gateway", default=GATEWAY, help="HOST:PORT")
    parser.add_argument("pytest", nargs="*", help="arguments for pytest, after --")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    try:
        lab = Lab(options.context, options.gateway)
        _check(lab)
        models.train()
        if options.context.startswith("kind-"):
            models.load_models(options.context.removeprefix("kind-"))
        wait_for_operator(lab)
    except (LabError, ArenaError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    say(f"models and operator are ready after {time.monotonic() - began:.0f} s")
    environment = {**os.environ, "E2E_CONTEXT": options.context, "E2E_GATEWAY": options.gateway}
    chosen = options.pytest or ["tests/e2e"]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-m",
        "e2e",
        "-o",
        "addopts=--strict-markers --strict-config -p no:cacheprovider",
        "-v",
        "--durations=0",
        "--durations-min=1",
        *chosen,
    ]
    code = subprocess.run(command, cwd=PROJECT, env=environment, check=False).returncode
    say(f"{time.monotonic() - began:.0f} s in all")
    return code


def _check(lab: Lab) -> None:
    """Say what is missing in one sentence. Raises `LabError`."""
    if lab.try_kubectl("get", "--raw", "/readyz", timeout_seconds=15).returncode:
        raise LabError(f"no cluster answers in context {lab.context}; `make cluster` makes one, CONTEXT= names another")
    for crd, remedy in (
        ("inferenceservices.serving.kserve.io", "install KServe"),
        ("rollouts.relevo.dev", "helm install relevo charts/relevo"),
    ):
        if lab.try_kubectl("get", "crd", crd).returncode:
            raise LabError(f"the cluster of {lab.context} has no {crd}: {remedy}")


if __name__ == "__main__":
    sys.exit(main())
