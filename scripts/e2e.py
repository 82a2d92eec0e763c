"""`make e2e`: the tests that need a cluster, on the one that `make cluster` made, or on another by CONTEXT.

python -m scripts.e2e [--context CONTEXT] [--gateway HOST:PORT] [--one-by-one] [-- PYTEST-ARGUMENTS]

On a kind cluster the models' images are built and loaded first. Elsewhere they must be there already: dev.local/iris in the versions 1,
1-known, 2, 2-errors, 2-slow, 2-unseen and 2-wrong. Most of a test's time is waiting for pods and steps, so streams of modules run side by
side; what takes a part of the cluster away from everybody, or needs all of it, runs alone.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from scripts.arena import PROJECT, say
from scripts.lab.kube import GATEWAY, Lab, LabError
from scripts.lab.ready import make_ready

__all__ = ["main", "stages"]

TESTS = PROJECT / "tests" / "e2e"
STAGES = (
    (("use", "operator", "bad_input"), ("verdicts", "edits")),
    (("kills",), ("blue_green",)),
    (("blue_green_faults",), ("kserve_platform",)),
    (("faults",), ("without_kserve",)),
    (("detection", "at_once"),),
)
"""Stages one after the other; in each, streams side by side; in each of these, modules one after the other."""
PYTEST = (
    sys.executable,
    "-m",
    "pytest",
    "-m",
    "e2e",
    "-v",
    "--durations=0",
    "--durations-min=1",
    "-rfEP",
    "--color=no",
)
NO_TESTS_EXIT_CODE = 5


def main(arguments: list[str] | None = None) -> int:
    """Run them. 0 when all passed, 1 when some did not, 2 where they cannot be run."""
    parser = argparse.ArgumentParser(prog="python -m scripts.e2e", description=__doc__.partition("\n")[0])
    cluster = os.environ.get("CLUSTER") or "relevo"
    parser.add_argument("--context", default=os.environ.get("CONTEXT") or f"kind-{cluster}")
    parser.add_argument("--gateway", default=GATEWAY, help="HOST:PORT")
    parser.add_argument("--one-by-one", action="store_true", help="no modules side by side")
    parser.add_argument("pytest", nargs="*", help="arguments for pytest, after --: then it is one stream")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    try:
        lab = Lab(options.context, options.gateway)
        make_ready(lab)
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    say(f"models and operator are ready after {time.monotonic() - began:.0f} s")
    environment = {**os.environ, "E2E_CONTEXT": options.context, "E2E_GATEWAY": options.gateway}
    failed = []
    for streams in [[options.pytest]] if options.pytest else stages(_modules(), side_by_side=not options.one_by_one):
        failed += _run(streams, environment)
    say(f"{time.monotonic() - began:.0f} s in all{f'; failed: {chr(44).join(failed)}' if failed else ''}")
    return 1 if failed else 0


def stages(modules: Sequence[str], *, side_by_side: bool = True) -> Iterator[list[list[str]]]:
    """The modules to run: stages of streams of paths. Those that no stage names come last, alone."""
    named = [name for stage in STAGES for stream in stage for name in stream]
    rest = tuple((name,) for name in modules if name not in named)
    for stage in (*STAGES, *((stream,) for stream in rest)):
        there = [[_path(name) for name in stream if name in modules] for stream in stage]
        streams = [stream for stream in there if stream]
        if side_by_side and streams:
            yield streams
        else:
            yield from ([stream] for stream in streams)


def _modules() -> list[str]:
    return sorted(file.stem.removeprefix("test_") for file in TESTS.glob("test_*.py"))


def _path(name: str) -> str:
    return f"tests/e2e/test_{name}.py"


def _run(streams: Sequence[Sequence[str]], environment: dict[str, str]) -> list[str]:
    """Run some streams side by side; those that failed. The output of each is shown as a whole when it has ended, alone as it comes."""
    if len(streams) == 1:
        code = subprocess.run([*PYTEST, *streams[0]], cwd=PROJECT, env=environment, check=False).returncode
        return [" ".join(streams[0])] if code not in (0, NO_TESTS_EXIT_CODE) else []
    failed = []
    with tempfile.TemporaryDirectory(prefix="relevo-e2e-") as folder:
        running = []
        for number, stream in enumerate(streams):
            log = Path(folder) / f"{number}.log"
            say(f"running {' '.join(stream)}")
            with log.open("wb") as output:
                process = subprocess.Popen(
                    [*PYTEST, *stream],
                    cwd=PROJECT,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                )
            running.append((process, stream, log))
        try:
            for process, stream, log in running:
                code = process.wait()
                print(log.read_text(encoding="utf-8", errors="replace"), flush=True)
                if code not in (0, NO_TESTS_EXIT_CODE):
                    failed.append(" ".join(stream))
        finally:
            for process, _, _ in running:
                if process.poll() is None:
                    process.terminate()
                    process.wait()
    return failed


if __name__ == "__main__":
    sys.exit(main())
