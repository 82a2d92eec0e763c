"""`make demo`: from nothing to a verdict on this machine. Only the trainer's arguments and the killed monitor know the scenario.

python -m scripts.demo errors --shadow off
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time
from pathlib import Path

from relevo.cli.exit_codes import ExitCode
from scripts.monitor_fault import kill_monitor
from scripts.scenarios import STABLE, TRAINER_ARGUMENTS

__all__ = ["EXPECTED", "main"]

RELEVO = (sys.executable, "-m", "relevo")
SAMPLES = Path("k8s/samples")

EXPECTED = {
    "healthy": ExitCode.OK,
    "errors": ExitCode.ROLLED_BACK,
    "slow": ExitCode.ROLLED_BACK,
    "wrong": ExitCode.ROLLED_BACK,
    "flaky-monitor": ExitCode.OK,
}
"""What `relevo deploy-canary` must answer in each scenario."""


def main(arguments: list[str] | None = None) -> int:
    """Run one scenario. 0 when the verdict is the right one, 1 when it is not or something failed."""
    parser = argparse.ArgumentParser(prog="python -m scripts.demo", description="Decide one rollout on this machine.")
    parser.add_argument("scenario", choices=sorted(EXPECTED))
    parser.add_argument("--model", default="iris", choices=["iris", "digits"])
    parser.add_argument("--shadow", default="on", choices=["on", "off"], help="with or without the shadow stage")
    parser.add_argument("--port", default="8080", help="where users send their requests (default: 8080)")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    candidate = "2" if options.scenario == "healthy" else f"2-{options.scenario}"

    _say("Ending what an earlier demo left running")
    _relevo("down")
    _say("Training the stable version and the candidate")
    for version, extra in (("1", STABLE), (candidate, TRAINER_ARGUMENTS[options.scenario])):
        _relevo("train", options.model, "--version", version, "--", "--replace", *extra)
    _say("Serving version 1 behind Envoy")
    _relevo("up", "-f", str(SAMPLES / f"{options.model}.yaml"), "--port", options.port)
    _say(f"Rolling version {candidate} out by canary")
    code, seconds = rollout(options.scenario, options.model, candidate, shadow=options.shadow == "on")
    _relevo("report", options.model)
    right = code == EXPECTED[options.scenario]
    _say(f"{'The right verdict' if right else 'NOT the expected verdict'}: exit code {code}, {seconds:.0f} s for the rollout, "
         f"{time.monotonic() - began:.0f} s in all")  # fmt: skip
    _say(
        "It still serves. Look around with `relevo status`, `relevo history`; end it with `relevo down`. (They are in .venv/bin.)"
    )
    return 0 if right else 1


def rollout(scenario: str, model: str, version: str, *, shadow: bool) -> tuple[int, float]:
    """Run `relevo deploy-canary` to its end, with the monitor killed for a while where the scenario says so. Exit code and seconds."""
    ended = threading.Event()
    fault = threading.Thread(target=kill_monitor, args=(model, ended), daemon=True)
    if scenario == "flaky-monitor":
        fault.start()
    began = time.monotonic()
    flag = "--shadow" if shadow else "--no-shadow"
    command = [
        *RELEVO,
        "deploy-canary",
        model,
        "-f",
        str(SAMPLES / f"rollout-{model}.yaml"),
        "--version",
        version,
        flag,
    ]
    code = subprocess.run(command, check=False).returncode
    ended.set()
    if fault.is_alive():
        fault.join()
    return code, time.monotonic() - began


def _relevo(*arguments: str) -> None:
    code = subprocess.run([*RELEVO, *arguments], check=False).returncode
    if code:
        sys.exit(code)


def _say(line: str) -> None:
    print(f"\n== {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
