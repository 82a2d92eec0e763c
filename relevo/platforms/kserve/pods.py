"""A pod's status: can it take requests, how often did its containers restart, and why does it not start. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["PodStatus"]

Json = Mapping[str, Any]

_HOPELESS: Final = frozenset({"ErrImageNeverPull", "ImageInspectError", "ImagePullBackOff", "InvalidImageName"})
"""Waiting for these does not help: the kubelet has tried, more than once where that makes sense, and tells the reason."""

_STARTING: Final = frozenset({"", "ContainerCreating", "PodInitializing"})

_REVISION: Final = "serving.knative.dev/revision"


@dataclass(frozen=True, slots=True)
class PodStatus:
    """One pod of a revision."""

    name: str
    revision: str
    ready: bool
    restarts: int
    detail: str = ""
    """Why it is not ready, by its containers' own states; empty where they say nothing."""
    hopeless: bool = False
    """True when it will not start by waiting."""
    ending: bool = False

    @classmethod
    def read(cls, document: Json) -> PodStatus:
        """From the object."""
        metadata, status = document.get("metadata") or {}, document.get("status") or {}
        conditions = {c.get("type"): c for c in status.get("conditions") or ()}
        containers = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
        problems = list(_problems(containers))
        ready = conditions.get("Ready", {}).get("status") == "True"
        scheduled = conditions.get("PodScheduled", {})
        if not problems and scheduled.get("status") == "False":
            problems = [(f"{scheduled.get('reason', '')}: {scheduled.get('message', '')}", False)]
        problems.sort(key=lambda p: not p[1])  # what is hopeless first
        return cls(
            name=metadata.get("name", ""),
            revision=(metadata.get("labels") or {}).get(_REVISION, ""),
            ready=ready and not metadata.get("deletionTimestamp"),
            restarts=sum(int(c.get("restartCount") or 0) for c in containers),
            detail=problems[0][0] if problems and not ready else "",
            hopeless=bool(problems) and problems[0][1] and not ready,
            ending=bool(metadata.get("deletionTimestamp")),
        )


def _problems(containers: list[Json]) -> Iterator[tuple[str, bool]]:
    """What the containers say of themselves, and whether it is hopeless."""
    for container in containers:
        state, name = container.get("state") or {}, container.get("name", "")
        waiting = state.get("waiting") or {}
        ended = state.get("terminated") or (container.get("lastState") or {}).get("terminated") or {}
        reason = str(waiting.get("reason") or "")
        if reason == "CrashLoopBackOff" or (ended and not state.get("running") and _failed(ended)):
            yield f"container {name} ended: {_ending(ended) or reason}", False
        elif reason not in _STARTING:
            message = " ".join(str(waiting.get("message") or "").split())
            yield f"container {name}: {reason}{': ' if message else ''}{message[:400]}", reason in _HOPELESS


def _failed(ended: Json) -> bool:
    return bool(ended.get("exitCode"))


def _ending(ended: Json) -> str:
    """How a container ended: reason, exit code, and the last line it left."""
    if not ended:
        return ""
    lines = [line.strip() for line in str(ended.get("message") or "").splitlines() if line.strip()]
    said = f": {lines[-1][:300]}" if lines else ""
    return f"{ended.get('reason') or 'Error'}, exit code {ended.get('exitCode')}{said}"
