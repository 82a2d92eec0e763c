"""What to write next, so that the cluster becomes as a rollout wants it. Pure: one change at a time, from one look at the world.

Each function answers a `Change`, or None when all is as it should be, and raises what keeps it from going on. docs/kserve.md tells
why each step is as it is; the three rules behind them are

- weights below 100 % only ever go together with a model that is not the stable one, or KServe takes them for the wish to go back to the
  revision before the stable one (`previousRolledoutRevision`), and would send it all the traffic;
- `canaryTrafficPercent` is removed only when the newest revision is the one that shall have all the traffic;
- traffic first, then the model, then the field: nothing that starts or stops a pod stands between a verdict and its 0 %.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from relevo import errors
from relevo.platforms.kserve.objects import World
from relevo.platforms.kserve.routes import Written, candidate_of, edited, is_ready
from relevo.platforms.kserve.service import TAG_ROUTING
from relevo.rollout.observation import Arm

__all__ = ["Change", "change_for_settling", "change_for_weight", "change_to_prepare"]

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Change:
    """A merge patch of an InferenceService, made only if nobody changed it since. `is_last`: nothing needs to follow."""

    patch: Json
    is_status: bool = False
    is_last: bool = True


def change_to_prepare(world: World, storage_uri: str, written: Written | None) -> Change | None:
    """Ask for a revision of this model beside the stable one, at 0 %.

    Raises:
        errors.BadInput: the service serves this model already.
        errors.Conflict: a canary that is not ours is under way.
        errors.Transient: the change before is not through, or somebody edited the service.
    """
    service, route = world.service, world.route
    where = _where(world)
    stable = world.stable
    if stable is None:
        return None if service.storage_uri == storage_uri else Change(_spec(model={"storageUri": storage_uri}))
    if stable.storage_uri == storage_uri:
        raise errors.BadInput(
            f"{where} serves {storage_uri} already ({stable.name})",
            next_step="Name another model version in storageUri.",
        )
    if service.storage_uri == storage_uri and service.canary_percent is not None:
        return None
    _refuse_edited(world, written)
    if service.storage_uri == storage_uri:
        raise errors.Conflict(
            f"{where} asks for {storage_uri} without canaryTrafficPercent: KServe gives it all traffic as soon as it is ready",
            next_step=f"Let it come up, or put {stable.storage_uri} back and try again.",
        )
    candidate = candidate_of(world)
    if candidate is not None and route.weights.get(candidate.name):
        raise errors.Conflict(
            f"{where}: {candidate.name} ({candidate.storage_uri}) has {route.weights[candidate.name]} % of the traffic",
            next_step="Finish that canary first, or roll it back.",
        )
    if route.weights.get(stable.name) != 100 or not route.confirmed:
        raise errors.Transient(
            f"{where}: the change of traffic before is not through yet ({route.detail or route.weights})"
        )
    if service.rolled_out_before not in ("", service.rolled_out):
        # KServe's memory of the revision before the stable one is put out first: see the first rule above.
        forget = {"components": {"predictor": {"previousRolledoutRevision": service.rolled_out}}}
        return Change({"status": forget}, is_status=True, is_last=False)
    change = _spec(canaryTrafficPercent=0, model={"storageUri": storage_uri})
    if not service.has_tags:
        # In the same write, for it is part of what a revision is made from: later it would make one more.
        change["metadata"] = {"annotations": {TAG_ROUTING: "true"}}
    return Change(change)


def change_for_weight(world: World, percent: int, written: Written | None) -> Change | None:
    """Give the candidate this share.

    Raises:
        errors.BadInput: a weight that KServe has no way to route.
        errors.Transient: the candidate is not ready for a share above 0, or somebody edited the service.
        errors.Permanent: there is no candidate to give a share to.
    """
    service = world.service
    where = _where(world)
    if not 0 <= percent <= 100:
        raise errors.BadInput(f"{where}: weight {percent}: a weight is a percentage, 0 to 100")
    if percent == 100:
        raise errors.BadInput(
            f"{where}: at 100 % KServe takes the candidate for promoted, and forgets the stable revision",
            next_step="Let the ramp end below 100 %; the promotion gives it all traffic.",
        )
    if service.canary_percent == percent:
        return None  # as it should be, whoever wrote it
    _refuse_edited(world, written)
    stable, candidate = world.stable, candidate_of(world)
    if stable is None:
        return None  # the first revision gets all the traffic there is
    if service.storage_uri == stable.storage_uri:
        if percent:
            raise errors.Permanent(f"{where}: there is no candidate to give traffic to")
        return None  # by the first rule: it has 100 % by itself
    if percent and (candidate is None or not is_ready(world, candidate)):
        name = candidate.name if candidate is not None else f"the revision of {service.storage_uri}"
        raise errors.Transient(f"{where}: {name} is not ready and gets no traffic")
    return Change(_spec(canaryTrafficPercent=percent))


def change_for_settling(world: World, keep: Arm) -> Change | None:
    """Give all traffic to one arm, make its model the one that the spec names, and let KServe retire the other.

    Raises:
        errors.Transient: what is to be kept is not ready, or a step before is not through; call again.
    """
    if world.stable is None:
        return None
    return _promotion(world) if keep is Arm.CANDIDATE else _return(world)


def _promotion(world: World) -> Change | None:
    service, candidate = world.service, candidate_of(world)
    if service.canary_percent is None:
        return None
    if candidate is None:
        # Promoted already, and the field was set again since; or nothing was ever prepared.
        newest = world.newest
        done = newest is not None and newest.name == service.rolled_out
        return Change(_spec(canaryTrafficPercent=None)) if done else None
    if not is_ready(world, candidate):
        raise errors.Transient(f"{_where(world)}: {candidate.name} is not ready and gets no traffic")
    return Change(_spec(canaryTrafficPercent=None))


def _return(world: World) -> Change | None:
    service, route, stable, newest = world.service, world.route, world.stable, world.newest
    if stable is None or newest is None:
        return None
    home = service.storage_uri == stable.storage_uri
    if service.canary_percent is None:
        return None if home else Change(_spec(canaryTrafficPercent=0), is_last=False)
    if service.canary_percent > 0 and not (home and newest.name == stable.name):
        return Change(_spec(canaryTrafficPercent=0), is_last=False)
    if not home:
        if not route.confirmed or route.weights.get(stable.name) != 100:
            return None  # wait until no request goes to it
        return Change(_spec(model={"storageUri": stable.storage_uri}), is_last=False)
    if newest.name == stable.name:
        # Nothing newer was ever made: without the field all is as it was before.
        return Change(_spec(canaryTrafficPercent=None))
    if newest.storage_uri == stable.storage_uri and is_ready(world, newest):
        return Change(_spec(canaryTrafficPercent=None))
    return None


def _refuse_edited(world: World, written: Written | None) -> None:
    if meddled := edited(world, written):
        raise errors.Transient(
            f"{_where(world)}: {meddled}; relevo does not change it back",
            next_step="Undo that change, or end the rollout with `relevo rollback`.",
        )


def _where(world: World) -> str:
    return f"InferenceService {world.service.namespace}/{world.service.name}"


def _spec(**fields: object) -> Json:
    return {"spec": {"predictor": fields}}
