"""What the cluster's objects mean for a rollout: stable and candidate, the live weight, whose label it is, who meddled. Pure.

The stable revision is KServe's `latestRolledoutRevision`, for that is where KServe sends the rest of the traffic. The candidate is the
newest revision of the model that the spec asks for, if that is not the stable one's. Between the two there are moments in which no revision
of what is asked for exists yet, or in which a rollback brings the stable model back: neither ever passes for a candidate that could
be given traffic.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from relevo.platforms.kserve.address import AddressStyle
from relevo.platforms.kserve.objects import Revision, World
from relevo.platforms.kserve.service import InferenceService, Writer
from relevo.rollout.observation import RevisionStatus, Routes

__all__ = ["Written", "answers", "candidate_of", "edited", "has_failed", "is_ready", "is_returning", "read_routes"]

_HOPELESS = frozenset({"ContainerMissing", "ProgressDeadlineExceeded", "RevisionFailed"})
"""Reasons of Knative's for a revision that is not ready, for which waiting does not help."""


@dataclass(frozen=True, slots=True)
class Written:
    """What this process last wrote to an InferenceService; what it reads back from it should be the same."""

    storage_uri: str
    canary_percent: int | None
    label: str = ""


def read_routes(world: World, written: Written | None, style: AddressStyle) -> Routes:
    """The live split and both revisions, as a rollout needs them."""
    service, stable = world.service, world.stable
    if stable is None:
        blank = RevisionStatus(
            "", "", ready=False, detail="no revision has had all the traffic yet: this is the first deployment"
        )
        newest = world.newest
        first = _status(world, newest, style) if newest is not None else _pending(service)
        return Routes(blank, first, 0, "", edited="")
    meddled = edited(world, written)
    return Routes(
        stable=_status(world, stable, style),
        candidate=_shown_candidate(world, stable, style),
        weight_percent=_elsewhere(world, stable),
        label="" if meddled or written is None else _label(world, written),
        edited=meddled,
    )


def _elsewhere(world: World, stable: Revision) -> int:
    """Percent of the users' requests that others than the stable model answer.

    A rollback ends with a new revision of that model, and for a moment KServe still names the one before as stable.
    """
    if not world.route.targets:
        return 0
    models = {revision.name: revision.storage_uri for revision in world.revisions}
    at_home = (w for name, w in world.route.weights.items() if models.get(name) == stable.storage_uri)
    return 100 - sum(at_home)


def candidate_of(world: World) -> Revision | None:
    """The revision that may be given traffic once it is ready: the newest, of the model asked for, and not the stable one's."""
    newest, stable = world.newest, world.stable
    if newest is None or stable is None or newest.name == stable.name:
        return None
    wanted = world.service.storage_uri
    return newest if newest.storage_uri == wanted != stable.storage_uri else None


def is_returning(world: World) -> bool:
    """Whether a rollback is under way that brings the stable model back into the spec, or KServe has yet to take its last step."""
    stable, newest = world.stable, world.newest
    if stable is None or newest is None or world.service.storage_uri != stable.storage_uri:
        return False
    # Without the field, KServe is about to make the newest revision the stable one: who begins before that compares with one that goes.
    return world.service.canary_percent is not None or newest.storage_uri == stable.storage_uri


def is_ready(world: World, revision: Revision) -> bool:
    """Whether a revision can take requests now.

    Knative's own Ready stays True when a pod dies, so the pods are asked as well. A revision that Knative scaled to zero because nobody
    asked for it is ready: the first request starts it. One that may get traffic must also be the one that the Route means by "latest".
    """
    if revision.ready.status != "True" or not answers(revision):
        return False
    if revision.name == world.service.rolled_out:
        return True
    route = world.route
    # Between 0 % and a step the Route is confirmed, or its addresses still reach what they reached before.
    reached = route.confirmed or bool(world.service.canary_percent)
    return route.latest == revision.name and reached


def answers(revision: Revision) -> bool:
    here = [pod for pod in revision.pods if not pod.ending]
    if here:
        return any(pod.ready for pod in here)
    return revision.active.status == "False" and revision.active.reason == "NoTraffic"


def _shown_candidate(world: World, stable: Revision, style: AddressStyle) -> RevisionStatus | None:
    """The candidate, or what has its place: one that is asked for and not made yet, or one that is being retired."""
    candidate = candidate_of(world)
    if candidate is not None:
        return _status(world, candidate, style)
    service, newest = world.service, world.newest
    if service.storage_uri != stable.storage_uri:
        return _pending(service)  # the newest revision is of a rollout before; ours is about to be made
    if is_returning(world) and newest is not None and newest.name != stable.name:
        return _retiring(world, stable, newest)
    before = world.revision(service.rolled_out_before)
    if before is not None and before.name != stable.name and not world.route.confirmed:
        detail = f"requests may still reach it: {world.route.detail}"
        return RevisionStatus(before.name, before.storage_uri, ready=False, detail=detail)
    return None


def _retiring(world: World, stable: Revision, newest: Revision) -> RevisionStatus | None:
    """What a rollback still has to put away; None when nothing more will come of it."""
    if newest.storage_uri == stable.storage_uri and has_failed(newest):
        return None  # the stable revision keeps the traffic, and the spec names its model: there is nothing to gain by waiting
    leaving = [r for r in world.revisions if r.storage_uri != stable.storage_uri and r.number > stable.number]
    shown = leaving[-1] if leaving else newest
    detail = f"it is being retired; {newest.name} brings the stable model back at 0 %"
    return RevisionStatus(shown.name, shown.storage_uri, ready=False, detail=detail)


def _pending(service: InferenceService) -> RevisionStatus:
    """A candidate that has no revision yet, and so no name."""
    detail = service.failure or "KServe has made no revision of it yet"
    return RevisionStatus("", service.storage_uri, ready=False, detail=detail, failed=bool(service.failure))


def _status(world: World, revision: Revision, style: AddressStyle) -> RevisionStatus:
    ready = is_ready(world, revision)
    return RevisionStatus(
        name=revision.name,
        storage_uri=revision.storage_uri,
        ready=ready,
        address=_address(world, revision, style),
        restarts=sum(pod.restarts for pod in revision.pods),
        detail="" if ready else _why_not_ready(world, revision),
        failed=not ready and has_failed(revision),
    )


def _address(world: World, revision: Revision, style: AddressStyle) -> str:
    """What reaches this revision alone: its tag, or the users' address while it has all the traffic."""
    route, name, namespace = world.route, f"{world.service.name}-predictor", world.service.namespace
    if (target := route.tag_of(revision.name)) is not None:
        return style.direct(target, name, namespace)
    return style.users(route.host, name, namespace) if route.weights.get(revision.name) == 100 else ""


def has_failed(revision: Revision) -> bool:
    if revision.ready.status == "True":
        return False
    return any(pod.hopeless for pod in revision.pods) or (
        revision.ready.status == "False"
        and revision.ready.reason in _HOPELESS
        and not any(p.ready for p in revision.pods)
    )


def _why_not_ready(world: World, revision: Revision) -> str:
    """The nearest to the cause: the containers' own words, then Knative's, then what it waits for."""
    if told := _first(pod.detail for pod in sorted(revision.pods, key=lambda p: not p.hopeless)):
        return told
    if revision.ready.status != "True":
        return revision.ready.text or "it is starting"
    if not answers(revision):
        return "none of its pods is ready" if revision.pods else "it has no pod"
    return f"the route does not lead to it yet ({world.route.detail or world.route.latest or 'nothing is ready'})"


def _first(texts: Iterable[str]) -> str:
    return next((text for text in texts if text), "")


def _label(world: World, written: Written) -> str:
    """The label of what was set, if the gateway is known to route by exactly that; else ""."""
    service, route = world.service, world.route
    percent = service.canary_percent
    if (service.storage_uri, percent) != (written.storage_uri, written.canary_percent):
        return ""
    if not route.confirmed or route.weights.get(service.rolled_out, 0) != 100 - (percent or 0):
        return ""
    if percent is None:  # nothing is prepared: all traffic goes to the stable revision, as it is labelled
        newest = world.newest
        return written.label if newest is not None and newest.name == service.rolled_out else ""
    if route.asked_percent != percent or route.asked_rest != service.rolled_out:
        return ""
    candidate = candidate_of(world)
    reached = percent == 0 or (candidate is not None and route.weights.get(candidate.name, 0) == percent)
    return written.label if reached else ""


def edited(world: World, written: Written | None) -> str:
    """What somebody else changed of what a rollout sets, in words; "" where nobody did.

    This process knows what it wrote. One that has just taken over knows from the cluster who wrote each field.
    """
    service = world.service
    if written is not None:
        found = []
        if service.canary_percent != written.canary_percent:
            found.append(
                _change("canaryTrafficPercent", written.canary_percent, service.canary_percent, service.percent_writer)
            )
        if service.storage_uri != written.storage_uri:
            found.append(_change("model.storageUri", written.storage_uri, service.storage_uri, service.uri_writer))
        return " and ".join(found)
    stable, newest = world.stable, world.newest
    if stable is None or newest is None or newest.name == stable.name:
        return ""
    if service.canary_percent is None:
        if service.storage_uri == stable.storage_uri:
            return ""
        return f"spec.predictor.canaryTrafficPercent is not set{_by(service.percent_writer)}"
    if service.percent_writer is not None and not service.percent_writer.is_us:
        return f"spec.predictor.canaryTrafficPercent is {service.canary_percent}{_by(service.percent_writer)}"
    if service.uri_writer is not None and not service.uri_writer.is_us:
        return f"spec.predictor.model.storageUri is {service.storage_uri}{_by(service.uri_writer)}"
    return ""


def _change(name: str, before: object, after: object, writer: Writer | None) -> str:
    was, now = ("unset" if value is None else str(value) for value in (before, after))
    return f"spec.predictor.{name} was changed from {was} to {now}{_by(writer)}"


def _by(writer: Writer | None) -> str:
    if writer is None or writer.is_us:
        return ""
    return f" by {writer.manager}" + (f" at {writer.at}" if writer.at else "")
