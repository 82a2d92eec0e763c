"""The blue/green platform: `relevo.rollout.platform.Platform` on one namespace of a cluster.

It writes one object, the Knative Route of charts/model-route. What each colour serves is its Helm release's to say (`helm`): whoever asks
for a rollout installs the idle colour first, with rights that the operator need not have. A thin shell around `objects` and `changes`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from relevo import errors
from relevo.platforms.blue_green.changes import Json, change_to_settle, change_to_split
from relevo.platforms.blue_green.objects import Colour, Marks, World, configuration_of
from relevo.platforms.cluster_api import FIELD_MANAGER, INFERENCE_SERVICES, PODS, REVISIONS, ROUTES, Objects
from relevo.platforms.colours import COLOURS
from relevo.platforms.kserve.address import AddressStyle, InCluster
from relevo.platforms.kserve.documents import at
from relevo.platforms.kserve.objects import Route
from relevo.platforms.kserve.routes import answers, has_failed
from relevo.rollout.observation import Arm, RevisionStatus, Routes
from relevo.rollout.platform import ModelRef, Split

__all__ = ["BlueGreenPlatform", "is_coloured", "is_ours"]

_TRIES: Final = 5


def is_ours(objects: Objects, namespace: str, target: str) -> bool:
    """Whether a model is served by two colours: there is a Route over them. Raises as `Objects.get`."""
    route = objects.get(ROUTES, namespace, target)
    return route is not None and bool(_asked(target, route))


def is_coloured(objects: Objects, namespace: str, target: str) -> bool:
    """Whether either colour of a model is installed, with a Route over them or not yet. Raises as `Objects.get`."""
    return any(objects.get(INFERENCE_SERVICES, namespace, f"{target}-{colour}") is not None for colour in COLOURS)


class BlueGreenPlatform:
    """The colours of models in one namespace. `addresses`: how revisions are reached from where we are."""

    def __init__(self, namespace: str, cluster: Objects, *, addresses: AddressStyle | None = None) -> None:
        self._namespace = namespace
        self._cluster = cluster
        self._addresses = addresses or InCluster()

    # -- relevo.rollout.platform.Platform ------------------------------------------------------------------------------------------

    def observe(self, target: str) -> Routes:
        """Read back the live split and the state of both colours.

        Raises:
            errors.BadInput: there is no Route, or neither colour. errors.Transient: the API does not answer.
        """
        world = self._look(target)
        marks, edited = world.marks, world.edited
        live = world.live(world.idle)
        # Until the candidate is named as well, nothing is as it was asked for.
        as_set = world.route.confirmed and not edited and world.idle in world.asked and live == marks.percent
        return Routes(
            stable=self._status(world, world.stable),
            candidate=self._shown_candidate(world),
            weight_percent=live,
            label=marks.label if as_set else "",
            edited=edited,
        )

    def prepare(self, target: str, candidate: ModelRef) -> None:
        """See to it that the idle colour, as its release has it, is woken and named at 0 %. Does not wait for it to be ready.

        Raises:
            errors.Transient: its release does not serve this model, yet.
        """
        world = self._look(target)
        colour = world.colours.get(world.idle)
        if colour is None or colour.storage_uri != candidate.storage_uri:
            has = f"has {colour.storage_uri}" if colour is not None else "is not installed"
            raise errors.Transient(
                f"{target}: {world.idle} {has}, and the Rollout names {candidate.storage_uri}",
                next_step=f"`{helm_command(target, world.idle, candidate.storage_uri, self._namespace)}`; "
                "`relevo deploy-blue-green` does that itself.",
            )
        if not world.marks.candidate:
            self._make(
                target, lambda now: change_to_split(now, 0, now.marks.label) if not now.marks.candidate else None
            )

    def set_weight(self, target: str, split: Split) -> None:
        """Give the idle colour this share of the traffic. `observe` says when the gateway does so.

        Raises:
            errors.Transient: it is not ready, or somebody changed the Route. errors.Permanent: nothing is prepared.
        """

        def change(world: World) -> Json | None:
            if not world.marks.candidate:
                raise errors.Permanent(f"{target}: no colour is prepared that could be given traffic")
            if world.edited:
                raise errors.Transient(
                    f"{target}: {world.edited}; relevo does not change it back",
                    next_step="Undo that change, or end the rollout with `relevo rollback`.",
                )
            if split.weight_percent and not self._status(world, world.idle).ready:
                raise errors.Transient(f"{target}: {world.idle} is not ready and gets no traffic")
            return change_to_split(world, split.weight_percent, split.label)

        self._make(target, change)

    def settle(self, target: str, keep: Arm) -> None:
        """All traffic to `keep`, and the other colour out of the Route and with no least scale: Knative puts it to sleep.

        Overrides what anybody else wrote meanwhile: this is the verdict.

        Raises:
            errors.Transient: the candidate is to be kept and is not ready.
        """

        def change(world: World) -> Json | None:
            if not world.marks.candidate:
                return None  # it is done
            kept = world.idle if keep is Arm.CANDIDATE else world.stable
            if keep is Arm.CANDIDATE and not self._status(world, kept).ready:
                raise errors.Transient(f"{target}: {kept} is not ready and gets no traffic")
            return change_to_settle(world, kept)

        self._make(target, change)
        self._put_to_sleep(target)

    # -- beyond the protocol -------------------------------------------------------------------------------------------------------

    def colours(self, target: str) -> dict[str, Colour | None]:
        """What each colour has, the active one first; None for one that is not installed. Raises as `observe`."""
        world = self._look(target)
        return {colour: world.colours.get(colour) for colour in (world.stable, world.idle)}

    # -- how -----------------------------------------------------------------------------------------------------------------------

    def _look(self, target: str) -> World:
        services = {c: self._cluster.get(INFERENCE_SERVICES, self._namespace, f"{target}-{c}") for c in COLOURS}
        known = {}
        for colour, service in services.items():
            if service is not None:
                labels = {"serving.knative.dev/configuration": configuration_of(target, colour)}
                revisions = self._cluster.list(REVISIONS, self._namespace, labels)
                known[colour] = Colour.read(
                    colour, service, revisions, self._cluster.list(PODS, self._namespace, labels)
                )
        # The route last: what it says of the weights is then no older than all the rest.
        route = self._cluster.get(ROUTES, self._namespace, target)
        if not known:
            raise errors.BadInput(
                f"{target}: neither {' nor '.join(f'{target}-{c}' for c in COLOURS)} is installed in namespace {self._namespace}",
                next_step=f"`{helm_command(target, COLOURS[0], '', self._namespace)}` installs the first.",
            )
        if route is None:
            first = next(iter(known))
            raise errors.BadInput(
                f"{target}: there is no Route {target} in namespace {self._namespace}, so users have no way to its colours",
                next_step=f"`helm install {target} charts/model-route --namespace {self._namespace} --set model.name={target} "
                f"--set active={first} --set colours={{{','.join(known)}}}` makes it.",
            )
        metadata = route.get("metadata") or {}
        return World(
            target=target,
            namespace=self._namespace,
            resource_version=str(metadata.get("resourceVersion", "")),
            route=Route.read(route),
            asked=_asked(target, route),
            marks=Marks.read(route),
            colours=known,
            writer=_writer(route),
        )

    def _make(self, target: str, next_change: Callable[[World], Json | None]) -> None:
        """Write what is missing, against what was just read."""
        for _ in range(_TRIES):
            world = self._look(target)
            change = next_change(world)
            if change is None:
                return
            metadata = {**change["metadata"], "resourceVersion": world.resource_version}
            try:
                self._cluster.patch(ROUTES, self._namespace, target, {**change, "metadata": metadata})
            except errors.Conflict:
                continue
            return
        raise errors.Transient(
            f"Route {self._namespace}/{target} is changed so often by others that no change of ours got through"
        )

    def _put_to_sleep(self, target: str) -> None:
        """Let Knative scale the colour to zero that users have left: KServe's own route names it too, so its least scale must be 0."""
        world = self._look(target)
        colour = world.colours.get(world.idle)
        if not world.marks.candidate and world.idle not in world.asked and colour is not None and colour.least_replicas:
            changes = {"spec": {"predictor": {"minReplicas": 0}}}
            self._cluster.patch(INFERENCE_SERVICES, self._namespace, f"{target}-{world.idle}", changes)

    def _shown_candidate(self, world: World) -> RevisionStatus | None:
        if world.marks.candidate:
            return self._status(world, world.idle)
        if world.route.confirmed and not world.live(world.idle):
            return None
        colour = world.colours.get(world.idle)
        revision = colour.newest if colour is not None else None
        if revision is None or not world.live(world.idle):
            return None
        detail = f"requests may still reach it: {world.route.detail}"
        return RevisionStatus(revision.name, revision.storage_uri, ready=False, detail=detail)

    def _status(self, world: World, name: str) -> RevisionStatus:
        colour = world.colours.get(name)
        if colour is None:
            return RevisionStatus("", "", ready=False, detail=f"InferenceService {world.target}-{name} is not there")
        revision = colour.revision
        if revision is None:
            detail = colour.failure or "KServe has made no revision of it yet"
            return RevisionStatus("", colour.storage_uri, ready=False, detail=detail, failed=bool(colour.failure))
        target = next((t for t in world.route.targets if t.tag == name), None)
        # A Route is not confirmed for a while after each change of a weight; what users were sent to before is reached all the same.
        trusted = world.route.confirmed or name == world.stable or world.marks.percent > 0
        reached = target is not None and target.revision == revision.name and trusted
        ready = revision.ready.status == "True" and answers(revision) and reached
        told = next((pod.detail for pod in revision.pods if pod.detail), "")
        waits = "" if reached else f"the route does not lead to it yet ({world.route.detail or 'it is not named'})"
        return RevisionStatus(
            name=revision.name,
            storage_uri=revision.storage_uri,
            ready=ready,
            address=self._addresses.direct(target, world.target, world.namespace) if target is not None else "",
            restarts=sum(pod.restarts for pod in revision.pods),
            detail=""
            if ready
            else told or (revision.ready.text if revision.ready.status != "True" else "") or waits or "it is starting",
            failed=not ready and has_failed(revision),
        )


def helm_command(target: str, colour: str, storage_uri: str, namespace: str) -> str:
    """How a colour is installed by hand."""
    model = f" --set model.storageUri={storage_uri}" if storage_uri else ""
    return (
        f"helm upgrade --install {target}-{colour} charts/model --namespace {namespace} "
        f"--values charts/model/values-{colour}.yaml{model}"
    )


def _asked(target: str, route: Json) -> dict[str, int]:
    """Percent per colour in the Route's spec."""
    configurations = {configuration_of(target, colour): colour for colour in COLOURS}
    wanted = at(route, "spec", "traffic") or ()
    return {
        configurations[t["configurationName"]]: int(t.get("percent") or 0)
        for t in wanted
        if t.get("configurationName") in configurations
    }


def _writer(route: Json) -> str:
    """The last to have written the Route's traffic, unless it was we."""
    entries = [
        e
        for e in at(route, "metadata", "managedFields") or ()
        if at(e, "fieldsV1", "f:spec", "f:traffic") is not None and not e.get("subresource")
    ]
    newest = max(entries, key=lambda e: str(e.get("time", "")), default=None)
    manager = str(newest.get("manager", "")) if newest is not None else ""
    return "" if manager == FIELD_MANAGER else manager
