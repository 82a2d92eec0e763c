"""An operator of which each pause of the command line is one step: it stores what a script says, in the words of the real one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from relevo.operator.resource import COMMAND, Pinned, read_resource, rollout_of, run_name
from relevo.operator.status import Run, with_tick, write_status
from relevo.platforms.cluster_api import INFERENCE_SERVICES, ROLLOUTS
from relevo.rollout.decision import Transition
from relevo.rollout.observation import RevisionStatus
from relevo.rollout.state import Cause, Phase, RolloutState, Verdict, new_state
from tests.unit.load.objects import World

__all__ = ["NAMESPACE", "Operator", "service"]

NAMESPACE = "team-a"
Change = Callable[[RolloutState], RolloutState]


def service(name: str = "iris", uri: str = "oci://dev.local/iris:1") -> dict[str, Any]:
    """An InferenceService that serves."""
    return {
        "metadata": {"name": name},
        "spec": {"predictor": {"model": {"storageUri": uri}}},
        "status": {
            "components": {"predictor": {"latestRolledoutRevision": f"{name}-predictor-00001"}},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


class Operator:
    """Carries the Rollout "iris": each `step` stores the next state of the script, and hears orders."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.script: list[tuple[Change, str]] = []
        self.heard: list[dict[str, Any]] = []
        self.began = datetime.now(UTC)
        self.steps = 0
        self.pauses = 0
        self.seconds = 0.0
        self.reject = False
        world.put(INFERENCE_SERVICES, NAMESPACE, service())

    def sleep(self, seconds: float) -> None:
        """What the command line calls between two looks."""
        self.seconds += seconds
        self.pauses += 1
        assert self.pauses < 1000, "the command line waits for what does not come"
        self.step()

    def step(self) -> None:
        """Do one thing. It takes a second."""
        body = self.world.objects.get(("rollouts", NAMESPACE, "iris"))
        if body is None or not self.script:
            return
        self.steps += 1
        change, message = self.script.pop(0)
        run = self._run(body)
        order = json.loads(body["metadata"].get("annotations", {}).get(COMMAND, "{}"))
        if order and order["seq"] > run.state.command_seq:
            self.heard.append(order)
            run = replace(run, state=replace(run.state, command_seq=order["seq"]))
        after = change(run.state)
        now = after.looked_at or run.state.started_at
        line = Transition(
            now, "relevo", "refused" if self.reject else "rule", run.state.shown_phase, after.shown_phase, message
        )
        run = with_tick(run, after, (line,) if message else (), None)
        self._write(body, run)

    def say(self, phase: Phase, message: str = "", **changes: Any) -> None:
        """Add a step to the script: go to a phase."""

        def change(state: RolloutState) -> RolloutState:
            at = self._now()
            return replace(state, phase=phase, phase_since=at, looked_at=at, **changes)

        self.script.append((change, message))

    def promote(self) -> None:
        """Add the steps of a rollout that is promoted."""
        self.say(Phase.PREPARING, "It begins.")
        self.say(Phase.SHIFTING, "First step.", step=1, candidate="iris-predictor-00002")
        self.say(Phase.PROMOTED, "All traffic.", verdict=Verdict.PASS, cause=Cause.EVIDENCE, reason="It is as good.")

    def roll_back(self) -> None:
        """Add the steps of a rollout that is rolled back."""
        self.say(Phase.PREPARING, "It begins.")
        self.say(Phase.ROLLED_BACK, "Back.", verdict=Verdict.FAIL, cause=Cause.EVIDENCE, reason="It fails.")

    def promote_at_once(self) -> None:
        """Add the steps of a rollout with no comparison."""
        self.say(Phase.PREPARING, "It begins.")
        self.say(Phase.PROMOTED, "All traffic.", cause=Cause.NO_COMPARISON, reason="No comparison was asked for.")

    def _now(self) -> datetime:
        return self.began + timedelta(seconds=self.steps)

    def _run(self, body: dict[str, Any]) -> Run:
        resource = read_resource(body)
        rollout = rollout_of(resource)
        status = body.get("status", {})
        stored: Run | None = body.get("_run")
        order = json.loads(resource.order_text or "{}")
        retried = stored is not None and order.get("verb") == "retry" and order["seq"] > stored.state.command_seq
        if stored is not None and not retried and stored.pinned.storage_uri == rollout.spec.storage_uri:
            return stored
        number = int(status.get("runs", 0)) + 1
        stable = RevisionStatus(f"iris-predictor-{number:05}", "oci://dev.local/iris:1", ready=True)
        state = new_state(run_name(resource, number), stable, self._now())
        if stored is not None:
            state = replace(state, command_seq=stored.state.command_seq)
        return Run(
            state, number, Pinned.of(rollout.spec), resource.generation, history=stored.history if stored else ()
        )

    def _write(self, body: dict[str, Any], run: Run) -> None:
        resource = read_resource(body)
        body["status"] = write_status(run, resource, None, {}, run.state.started_at)
        body["_run"] = run
        self.world.put(ROLLOUTS, NAMESPACE, body)
