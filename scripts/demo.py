"""`make demo`: from nothing to a verdict on this machine. Only the trainer's arguments and the killed monitor know the scenario.

python -m scripts.demo errors --shadow off
python -m scripts.demo unseen --strategy blue-green
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from model.data import load_split
from relevo.cli.exit_codes import ExitCode
from scripts.monitor_fault import kill_monitor
from scripts.scenarios import KNOWN_EXAM, STABLE, TRAINER_ARGUMENTS
from scripts.users import Users, bodies_of

__all__ = ["BLUE_GREEN_EXPECTED", "EXPECTED", "Plan", "main", "rollout"]

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

BLUE_GREEN_EXPECTED = EXPECTED | {"unseen": ExitCode.ROLLED_BACK}
"""What `relevo deploy-blue-green` must answer: also where the fault begins with the users, after the switch."""

VALUES = Path("charts/model")


def main(arguments: list[str] | None = None) -> int:
    """Run one scenario. 0 when the verdict is the right one, 1 when it is not or something failed."""
    parser = argparse.ArgumentParser(prog="python -m scripts.demo", description="Decide one rollout on this machine.")
    parser.add_argument("scenario", choices=sorted(BLUE_GREEN_EXPECTED))
    parser.add_argument("--strategy", default="canary", choices=["canary", "blue-green"])
    parser.add_argument("--model", default="iris", choices=["iris", "digits"])
    parser.add_argument("--shadow", default="on", choices=["on", "off"], help="with or without the shadow stage")
    parser.add_argument("--port", default="8080", help="where users send their requests (default: 8080)")
    options = parser.parse_args(arguments)
    blue_green = options.strategy == "blue-green"
    if blue_green and (options.model != "iris" or options.shadow == "off"):
        parser.error("blue-green: charts/model has values for iris alone, and the rehearsal is a shadow stage")
    if options.scenario not in EXPECTED and not blue_green:
        parser.error(f"{options.scenario}: is a scenario of --strategy blue-green")
    began = time.monotonic()
    candidate = "2" if options.scenario == "healthy" else f"2-{options.scenario}"
    plan = Plan(options.scenario, options.model, candidate, shadow=options.shadow == "on", blue_green=blue_green)

    _say("Ending what an earlier demo left running")
    _relevo("down")
    _say("Training the stable version and the candidate")
    stable = KNOWN_EXAM if options.scenario == "unseen" else STABLE
    for version, extra in (("1", stable), (candidate, TRAINER_ARGUMENTS[options.scenario])):
        _relevo("train", options.model, "--version", version, "--", "--replace", *extra)
    _say("Serving version 1 behind Envoy")
    manifest = VALUES / "values-blue.yaml" if blue_green else SAMPLES / f"{options.model}.yaml"
    _relevo("up", "-f", str(manifest), "--port", options.port)
    _say(f"Rolling version {candidate} out by {options.strategy}")
    with _users(plan, int(options.port)):
        code, seconds = rollout(plan)
    _relevo("report", options.model)
    right = code == BLUE_GREEN_EXPECTED[options.scenario]
    _say(f"{'The right verdict' if right else 'NOT the expected verdict'}: exit code {code}, {seconds:.0f} s for the rollout, "
         f"{time.monotonic() - began:.0f} s in all")  # fmt: skip
    _say(
        "It still serves. Look around with `relevo status`, `relevo history`; end it with `relevo down`. (They are in .venv/bin.)"
    )
    return 0 if right else 1


@dataclass(frozen=True, slots=True)
class Plan:
    """One rollout of the demo."""

    scenario: str
    model: str
    version: str
    shadow: bool = True
    blue_green: bool = False

    @property
    def command(self) -> list[str]:
        """What a user types."""
        verb, suffix = ("deploy-blue-green", "-blue-green") if self.blue_green else ("deploy-canary", "")
        file = SAMPLES / f"rollout-{self.model}{suffix}.yaml"
        flags = [] if self.blue_green else ["--shadow" if self.shadow else "--no-shadow"]
        return [*RELEVO, verb, self.model, "-f", str(file), "--version", self.version, *flags]


def _users(plan: Plan, port: int) -> contextlib.AbstractContextManager[object]:
    """Users who send what the load does not, in the scenario that is about them."""
    if plan.scenario != "unseen":
        return contextlib.nullcontext()
    return Users(port, plan.model, bodies_of(load_split(plan.model).x_test))


def rollout(plan: Plan) -> tuple[int, float]:
    """Run the rollout to its end, with the monitor killed for a while where the scenario says so. Exit code and seconds."""
    ended = threading.Event()
    fault = threading.Thread(target=kill_monitor, args=(plan.model, ended), daemon=True)
    if plan.scenario == "flaky-monitor":
        fault.start()
    began = time.monotonic()
    command = plan.command
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
