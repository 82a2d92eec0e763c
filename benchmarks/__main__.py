"""`make bench`: the short form of every benchmark in turn, each a process of its own; its numbers are rough, its long form is its own.

`python -m benchmarks [NAME ...]`. The long forms are what docs/measured/ holds.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time

__all__ = ["SHORT", "main"]

SHORT: dict[str, tuple[str, ...]] = {
    "plan_time": ("--ticks", "300"),
    "operating_table": ("300",),
    "shift_traffic": ("--requests", "20000", "--changes", "25", "--every", "1"),
    "local_switches": ("--requests", "10000", "--changes", "40"),
    "rollback_delay": ("--runs", "3"),
    "engine_cost": ("--runs", "1"),
    "serving_access": ("--rounds", "3", "--seconds", "1"),
    "serving_fuzz": ("--requests", "5000"),
    "serving_operations": ("--seconds", "20", "--stops", "2"),
    "serving": ("--models", "rf100", "--rounds", "3", "--seconds", "2", "--no-open-loop"),
}
"""Each benchmark, and what makes it short."""

OWN_HOME = ("shift_traffic", "local_switches", "rollback_delay", "engine_cost")
"""Those that need trained models. They share a home, so that each model is trained once."""


def main(arguments: list[str] | None = None) -> int:
    """Run them. 1 if one failed or missed its goal."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Short forms of all benchmarks.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SHORT)}; all unless given")
    names = parser.parse_args(arguments).names or list(SHORT)
    if unknown := set(names) - SHORT.keys():
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(SHORT)}")
    bad = []
    with tempfile.TemporaryDirectory(prefix="relevo-bench-") as home:
        for name in names:
            print(f"== {name} {' '.join(SHORT[name])}", flush=True)
            began = time.monotonic()
            place = ("--home", home) if name in OWN_HOME else ()
            command = [sys.executable, "-m", f"benchmarks.{name}", *SHORT[name], *place]
            if subprocess.run(command, check=False).returncode:
                bad.append(name)
            print(f"   {time.monotonic() - began:.0f} s\n", flush=True)
    if bad:
        print(f"failed, or missed the goal: {', '.join(bad)}", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
