"""What is done to a cluster while it rolls something out: pods that are deleted with force, the operator's own first of all."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from scripts.lab.diagnosis import OPERATOR_NAMESPACE
from scripts.lab.kube import Lab, LabError, until
from scripts.lab.rollouts import condition
from scripts.lab.watching import RolloutLook, Watch

__all__ = ["Kill", "OperatorKiller", "delete_pods", "leader", "wait_for_operator"]

LEASE = "relevo-operator"
TAKE_OVER_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill of the operator. Times are Unix time."""

    at: float
    phase: str
    pod: str
    taken_over_at: float
    """When another pod was seen to hold the lease."""
    standby: bool
    """Whether another replica was ready at that moment. Else somebody has to start first."""

    @property
    def seconds(self) -> float:
        """In which nobody drove."""
        return self.taken_over_at - self.at

    def __str__(self) -> str:
        who = "a replica that was ready" if self.standby else "a replica that had to start first"
        return f"{self.phase}: taken over after {self.seconds:.1f} s by {who}"


def delete_pods(lab: Lab, namespace: str, labels: str) -> list[str]:
    """Delete pods with force, as a node that dies would; their names.

    Raises:
        LabError: there are none.
    """
    names = [
        pod["metadata"]["name"]
        for pod in lab.items("pods", namespace, labels)
        if "deletionTimestamp" not in pod["metadata"]
    ]
    if not names:
        raise LabError(f"there is no pod with {labels} in {namespace}")
    for name in names:
        lab.kill_pod(namespace, name)
    return names


def leader(lab: Lab) -> str:
    """The operator's pod that holds the lease; "" where none does."""
    lease = lab.read(f"/apis/coordination.k8s.io/v1/namespaces/{OPERATOR_NAMESPACE}/leases/{LEASE}") or {}
    return str(lease.get("spec", {}).get("holderIdentity") or "").partition("_")[0]


def wait_for_operator(lab: Lab, *, seconds: float = 120.0) -> None:
    """Wait until all of the operator's replicas are up and one of them holds the lease."""
    lab.kubectl(
        "-n", OPERATOR_NAMESPACE, "rollout", "status", "deployment", "-l", "app.kubernetes.io/name=relevo", f"--timeout={seconds:.0f}s",
        timeout_seconds=seconds + 10,
    )  # fmt: skip

    def led() -> bool:
        holder = leader(lab)
        return bool(holder) and lab.get("pod", holder, OPERATOR_NAMESPACE) is not None

    until("one of the operator's pods holds the lease", led, seconds=seconds)


class OperatorKiller:
    """Deletes the operator's leading pod with force, again and again, while the context is open.

    `transition`: whenever the Rollout comes to a phase or a step that it was not seen in before. Else at random moments, the next one
    counted from when somebody had taken over. `most` bounds both.
    """

    def __init__(
        self, lab: Lab, watch: Watch, *, most: int, transition: bool = False, longest_pause: float = 3.0, seed: int = 1
    ) -> None:
        self._lab = lab
        self._watch = watch
        self._most = most
        self._transition = transition
        self._longest_pause = longest_pause
        self._random = random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.kills: list[Kill] = []
        self.problems: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(TAKE_OVER_SECONDS + 10)

    def _run(self) -> None:
        seen: set[tuple[str, int]] = set()
        try:
            while len(self.kills) < self._most and not self._stop.is_set():
                moment = self._await_transition(seen) if self._transition else self._await_random()
                if moment is not None:
                    self.kills.append(self._kill(moment))
        except Exception as error:  # kills that did not happen must not look like kills that did no harm
            self.problems.append(f"the killer ended: {type(error).__name__}: {error}")

    def _await_transition(self, seen: set[tuple[str, int]]) -> RolloutLook | None:
        while not self._stop.wait(0.02):
            last = self._last()
            if last is not None and last.phase and (last.phase, last.step) not in seen:
                seen.add((last.phase, last.step))
                return last
        return None

    def _await_random(self) -> RolloutLook | None:
        if self._stop.wait(self._random.uniform(0, self._longest_pause)):
            return None
        return self._last()

    def _last(self) -> RolloutLook | None:
        looks = self._watch.rollout
        return looks[-1] if looks else None

    def _kill(self, moment: RolloutLook) -> Kill:
        pod = self._leader()
        standby = any(name != pod for name in self._ready())
        at = time.time()
        self._lab.kill_pod(OPERATOR_NAMESPACE, pod)
        self._wait_for(lambda holder: holder not in ("", pod))
        return Kill(at, moment.phase, pod, time.time(), standby)

    def _ready(self) -> list[str]:
        pods = self._lab.items("pods", OPERATOR_NAMESPACE, "app.kubernetes.io/name=relevo")
        return [pod["metadata"]["name"] for pod in pods if condition(pod, "Ready").get("status") == "True"]

    def _leader(self) -> str:
        return self._wait_for(bool)

    def _wait_for(self, wanted: Callable[[str], bool]) -> str:
        def look() -> str:
            holder = leader(self._lab)
            return holder if wanted(holder) else ""

        return until("an operator holds the lease", look, seconds=TAKE_OVER_SECONDS, every_seconds=0.05)
