"""What to write to the Route so that it becomes as a rollout wants it. Pure: one merge patch, in which traffic and marks change together.

A colour that no rollout needs is not named, so that nobody asks for it and it can sleep. It is named again, with a preview host of its own,
only once it has a ready revision, or Knative would refuse the whole Route.
"""

from __future__ import annotations

from typing import Any

from relevo.platforms.blue_green.objects import CANDIDATE, LABEL, PERCENT, Marks, World, configuration_of
from relevo.platforms.colours import COLOURS

__all__ = ["ACTIVE", "change_to_settle", "change_to_split"]

ACTIVE = "relevo.dev/active"
"""The label by which people find the active colour; charts/model-route writes it too."""

Json = dict[str, Any]


def change_to_split(world: World, percent: int, label: str) -> Json | None:
    """Both colours named, the candidate with this share; None where it is so already."""
    candidate = world.idle
    colour = world.colours.get(candidate)
    revision = colour.revision if colour is not None else None
    nameable = candidate in world.asked or (revision is not None and revision.ready.status == "True")
    shares = {world.stable: 100 - percent, candidate: percent} if nameable else {world.stable: 100}
    wanted = Marks(candidate, percent if nameable else 0, label)
    if world.asked == shares and world.marks == wanted:
        return None
    notes = {CANDIDATE: candidate, PERCENT: str(wanted.percent), LABEL: label}
    return {"metadata": {"annotations": notes}, "spec": {"traffic": _traffic(world.target, shares)}}


def change_to_settle(world: World, keep: str) -> Json | None:
    """This colour alone, and no rollout any more; None where it is so already."""
    if world.asked == {keep: 100} and not world.marks.candidate:
        return None
    gone = dict.fromkeys((CANDIDATE, PERCENT, LABEL))
    metadata = {"annotations": gone, "labels": {ACTIVE: keep}}
    return {"metadata": metadata, "spec": {"traffic": _traffic(world.target, {keep: 100})}}


def _traffic(target: str, shares: dict[str, int]) -> list[Json]:
    """In the order of charts/model-route, on which the kubectl command of a switch counts."""
    return [
        {
            "tag": colour,
            "configurationName": configuration_of(target, colour),
            "latestRevision": True,
            "percent": shares[colour],
        }
        for colour in COLOURS
        if colour in shares
    ]
