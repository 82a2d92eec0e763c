"""The KServe platform: `relevo.rollout.platform.Platform` on one namespace of a cluster.

A thin shell: read the objects (`relevo.platforms.cluster_api`, `objects`), ask the pure parts what they mean (`routes`) and what to
write (`changes`), write it if nobody changed the object meanwhile. Nothing is stored on the cluster but the two fields that KServe itself
works by: an annotation on the InferenceService would become part of the revision template, so each weight would make a new
revision. What this process wrote last it remembers; who wrote what before it took over, the cluster's `managedFields` say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from relevo import errors
from relevo.platforms.cluster_api import INFERENCE_SERVICES, PODS, REVISIONS, ROUTES, Objects, connect
from relevo.platforms.kserve.address import AddressStyle, InCluster
from relevo.platforms.kserve.changes import Change, change_for_settling, change_for_weight, change_to_prepare
from relevo.platforms.kserve.objects import World
from relevo.platforms.kserve.routes import Written, read_routes
from relevo.rollout.observation import Arm, Routes
from relevo.rollout.platform import ModelRef, Split

__all__ = ["KServePlatform"]


_TRIES: Final = 5
"""How often a write is tried when KServe writes its status at the same moment."""


class KServePlatform:
    """InferenceServices of one namespace, in Knative mode. One thread at a time per InferenceService.

    `cluster`: the API to talk to; without it, the pod's own or the kubeconfig's. `addresses`: how revisions are reached from where we are.
    """

    def __init__(
        self, namespace: str, cluster: Objects | None = None, *, addresses: AddressStyle | None = None
    ) -> None:
        self._namespace = namespace
        self._cluster = cluster if cluster is not None else connect()
        self._addresses = addresses or InCluster()
        self._written: dict[str, Written] = {}

    # -- relevo.rollout.platform.Platform ------------------------------------------------------------------------------------------

    def observe(self, target: str) -> Routes:
        """Read back the live split and the state of both revisions.

        Raises:
            errors.BadInput: there is no such InferenceService, or none that a canary can be driven for.
            errors.Permanent: no permission. errors.Transient: the API does not answer.
        """
        return read_routes(self._look(target), self._written.get(target), self._addresses)

    def prepare(self, target: str, candidate: ModelRef) -> None:
        """See to it that a revision of `candidate` exists beside the stable one, at 0 %. Does not wait for it to be ready.

        Raises: as `observe` and `relevo.platforms.kserve.changes.change_to_prepare`.
        """
        uri = candidate.storage_uri
        world = self._make(target, lambda world: change_to_prepare(world, uri, self._written.get(target)))
        before = self._written.get(target)
        percent = world.service.canary_percent
        if before is None or before.storage_uri != uri:
            self._written[target] = Written(uri, percent, before.label if before is not None and percent == 0 else "")

    def set_weight(self, target: str, split: Split) -> None:
        """Ask KServe to give the candidate this share. `observe` says when the gateway does so.

        Raises: as `observe` and `relevo.platforms.kserve.changes.change_for_weight`.
        """
        weight = split.weight_percent
        world = self._make(target, lambda world: change_for_weight(world, weight, self._written.get(target)))
        service = world.service
        self._written[target] = Written(service.storage_uri, service.canary_percent, split.label)

    def settle(self, target: str, keep: Arm) -> None:
        """Take the next step towards all traffic for `keep`, as the only one left; `observe` says when there is none left to take.

        Overrides what anybody else wrote meanwhile: this is the verdict. Knative scales down what the Route no longer names once its
        requests have ended, and deletes old revisions by its own rules (config-gc).

        Raises: as `observe`; `errors.Transient` when the candidate is to be kept and is not ready.
        """
        self._written.pop(target, None)
        self._make(target, lambda world: change_for_settling(world, keep))

    # -- beyond the protocol -------------------------------------------------------------------------------------------------------

    def users_address(self, target: str) -> str:
        """Where users send their requests, and the weights apply. Raises as `observe`."""
        world = self._look(target)
        return self._addresses.users(world.route.host, f"{target}-predictor", self._namespace)

    # -- how -----------------------------------------------------------------------------------------------------------------------

    def _look(self, target: str) -> World:
        predictor = f"{target}-predictor"
        service = self._cluster.get(INFERENCE_SERVICES, self._namespace, target)
        if service is None:
            raise errors.BadInput(
                f"there is no InferenceService {target} in namespace {self._namespace}",
                next_step=f"`kubectl get inferenceservices -n {self._namespace}` lists what there is; deploy the first version "
                "with `kubectl apply`.",
            )
        revisions = self._cluster.list(REVISIONS, self._namespace, {"serving.knative.dev/service": predictor})
        pods = self._cluster.list(PODS, self._namespace, {"serving.knative.dev/service": predictor})
        # The route last: what it says of the weights is then no older than all the rest.
        route = self._cluster.get(ROUTES, self._namespace, predictor)
        world = World.read(service, route, revisions, pods)
        if world.service.problem:
            raise errors.BadInput(
                f"InferenceService {self._namespace}/{target} {world.service.problem}",
                next_step=world.service.next_step,
            )
        if world.service.deleting:
            raise errors.BadInput(
                f"InferenceService {self._namespace}/{target} is being deleted",
                next_step="Nothing is left to roll out.",
            )
        return world

    def _make(self, target: str, next_change: Callable[[World], Change | None]) -> World:
        """Make changes until one is the last, each against what was just read. Gives the world with what was asked for in it."""
        for _ in range(_TRIES):
            world = self._look(target)
            change = next_change(world)
            if change is None:
                return world
            try:
                after = self._write(target, change, world.service.resource_version)
            except errors.Conflict:
                continue
            if change.is_last or not change.is_status:
                return replace(world, service=after.service)
        raise errors.Transient(
            f"InferenceService {self._namespace}/{target} is changed so often by others that no change of ours got through"
        )

    def _write(self, target: str, change: Change, resource_version: str) -> World:
        metadata = {**change.patch.get("metadata", {}), "resourceVersion": resource_version}
        patch = {**change.patch, "metadata": metadata}
        name = f"{target}/status" if change.is_status else target
        after = self._cluster.patch(INFERENCE_SERVICES, self._namespace, name, patch)
        return World.read(after, None, (), ())
