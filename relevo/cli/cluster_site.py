"""Rollouts on a cluster: written as Rollout resources, which the operator there carries. Implements `Site`.

People who write the resources themselves, by kubectl or from a repository, go the same way: spec, annotation, status.
"""

from __future__ import annotations

import getpass
import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from relevo.cli.cluster_colours import Colours
from relevo.cli.cluster_follow import Follower, lines_of
from relevo.cli.cluster_records import ClusterJournal, ClusterRecord, Json, record_of, storage_uri_of
from relevo.cli.exit_codes import ExitCode
from relevo.cli.output import Output, tell
from relevo.cli.site import Watching, Where, Wish
from relevo.cli.watch import conclude, nothing_to, what_came_of_it
from relevo.errors import BadInput, Conflict
from relevo.operator.resource import COMMAND
from relevo.platforms.blue_green.helm import Helm
from relevo.platforms.cluster_api import REVISIONS, ROLLOUTS, Objects, connect
from relevo.rollout.commands import Verb
from relevo.rollout.spec import Rollout, load_rollout, parse_rollout
from relevo.rollout.state import Phase

__all__ = ["ClusterSite"]

RETRY = "retry"
"""Orders a run anew; it is no order to a running one, so it is no `Verb`."""


class ClusterSite:
    """The Rollouts of one namespace."""

    def __init__(
        self,
        objects: Objects,
        namespace: str,
        flags: str = " --platform kserve",
        *,
        helm: Helm | None = None,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._objects = objects
        self._namespace = namespace
        self._flags = flags
        self._journal = ClusterJournal(objects, namespace, flags)
        self._colours = Colours(objects, namespace, helm or Helm(namespace))
        self._follower = Follower(self._journal, sleep=sleep, monotonic=monotonic)

    @classmethod
    def open(cls, where: Where) -> ClusterSite:
        """The cluster and namespace that are meant. Raises `BadInput`."""
        cluster = connect(where.context)
        flags = f" --context {where.context}" if where.context else " --platform kserve"
        flags += f" --namespace {where.namespace}" if where.namespace else ""
        namespace = where.namespace or cluster.namespace
        return cls(cluster, namespace, flags, helm=Helm(namespace, context=where.context))

    def journal(self) -> ClusterJournal:
        """What the resources say."""
        return self._journal

    def deploy(self, wish: Wish, watching: Watching) -> ExitCode:
        """Write the Rollout that is wished for and follow it, or follow the one that is under way.

        Raises:
            BadInput: it cannot be meant. Conflict: another rollout of the same target is under way.
        """
        rollout = wish.check(self._rollout(wish))
        spec = rollout.spec
        colours = self._colours.of(spec.target)
        if not colours:
            self._journal.service(spec.target)
        self._colours.check(spec, colours)
        record = next((r for r in self._journal.find(spec.target) if not r.state.phase.is_terminal), None)
        if record is not None and record.rollout.spec.storage_uri != spec.storage_uri:
            raise Conflict(
                f"{spec.target}: the rollout to {record.rollout.spec.storage_uri} has not ended ({record.state.shown_phase})",
                next_step=f"Follow it with `relevo status {spec.target}{self._flags} -w`, "
                f"or end it with `relevo rollback {spec.target}{self._flags}`.",
            )
        if record is not None:
            tell(f"Following the rollout to {spec.storage_uri} ({record.state.shown_phase}).")
            return self._follower.follow(record.name, watching)
        if colours:
            self._colours.install(spec.target, colours, spec.storage_uri)
        before = self._journal.read(rollout.metadata.name)
        if before is None:
            self._objects.apply(ROLLOUTS, self._namespace, _manifest(rollout))
        else:
            self._write_over(before, rollout)
        return self._follower.follow(rollout.metadata.name, watching, after=before)

    def retry(self, target: str | None, watching: Watching) -> ExitCode:
        """Have the last rollout begun anew. Raises `BadInput` where it was not rolled back."""
        name = self._journal.known(target)
        record = self._journal.latest(name)
        if record is None or record.state.phase is not Phase.ROLLED_BACK:
            what = f"the last one is {record.state.shown_phase}" if record else "there has been none"
            raise BadInput(
                f"{name}: no rolled back rollout to try again, {what}", next_step=f"See `relevo history{self._flags}`."
            )
        self._send(record, RETRY)
        return self._follower.follow(record.name, watching, after=record)

    def undo(self, target: str | None, to: int | None, watching: Watching) -> ExitCode:
        """Have an earlier version brought back, at once. Raises `BadInput` where there is none, or a rollout is under way."""
        name = self._journal.known(target)
        record = self._journal.latest(name)
        if record is not None and not record.state.phase.is_terminal:
            raise BadInput(
                f"{name}: a rollout is under way", next_step=f"`relevo rollback {name}{self._flags}` ends it."
            )
        return self._at_once(name, record, self._earlier(name, record, to), watching)

    def _at_once(self, name: str, record: ClusterRecord | None, uri: str, watching: Watching) -> ExitCode:
        """Have the operator bring a model to all users, as soon as it is ready and answers."""
        spec = {"target": name, "storageUri": uri, "strategy": {"immediate": {}}}
        resource = record.name if record else name
        rollout = parse_rollout({"metadata": {"name": resource}, "spec": spec}, where="undo")
        if record is None:
            self._objects.apply(ROLLOUTS, self._namespace, _manifest(rollout))
        else:
            # The rest of the spec stays for the next rollout; only how this one goes is another.
            changes = {"storageUri": uri, "strategy": {"immediate": {}, "canary": None, "blueGreen": None}}
            self._change(record, {"spec": changes})
        return self._follower.follow(resource, watching, after=record)

    def order(self, target: str | None, verb: str, *, to_the_end: bool, output: Output) -> ExitCode:
        """Write the order and wait until the operator has carried it out.

        Raises:
            BadInput: there is no rollout under way. Transient: the operator has not answered in time.
        """
        name = self._journal.known(target)
        record = self._journal.latest(name)
        if record is None or record.state.phase.is_terminal:
            raise nothing_to(Verb(verb), name, record)
        known = lines_of(record)
        seq = self._send(record, verb)
        record = self._follower.wait_for(record.name, seq, to_the_end=to_the_end)
        if record.state.phase.is_terminal:
            return conclude(record.state, output)
        return what_came_of_it([line for line in lines_of(record) if line not in known])

    def _rollout(self, wish: Wish) -> Rollout:
        """The Rollout that is wished for. A file's namespace is only a proposal: it is made in the namespace that is meant."""
        if wish.file is not None:
            rollout = load_rollout(wish.file, wish.overrides())
            target = rollout.spec.target
            if wish.target not in (None, target):
                raise BadInput(
                    f"{wish.file}: its target is {target}, not {wish.target}", next_step="Leave the argument out."
                )
            if not (wish.version or wish.storage_uri):
                return rollout
            uri = wish.storage_uri or self._with_tag(target, wish.version)
            return rollout.model_copy(update={"spec": rollout.spec.model_copy(update={"storage_uri": uri})})
        target = self._journal.known(wish.target)
        running = self._journal.latest(target)
        if running is not None and not running.state.phase.is_terminal and not (wish.version or wish.storage_uri):
            return running.rollout
        uri = wish.storage_uri or self._with_tag(target, wish.version)
        name = running.name if running is not None else target
        spec = {"target": target, "storageUri": uri, **wish.overrides()}
        return parse_rollout({"metadata": {"name": name}, "spec": spec}, where="the command line")

    def _with_tag(self, target: str, version: str | None) -> str:
        serves = self._serves(target)
        repository, colon, tag = serves.rpartition(":")
        if not serves.startswith("oci://") or not colon or "/" in tag:
            raise BadInput(
                f"{target}: serves {serves or 'no model by a storageUri'}, which has no tag",
                next_step="Name the candidate with --storage-uri.",
            )
        if version is None:
            raise BadInput(f"{target}: which version?", next_step="Name it with --version.")
        return f"{repository}:{version}"

    def _write_over(self, before: ClusterRecord, rollout: Rollout) -> None:
        """Make the resource's spec be this one; where that alone would begin nothing, order it."""
        spec, state = rollout.spec, before.state
        if before.rollout.spec.target != spec.target:
            raise Conflict(
                f"Rollout {before.name} is of {before.rollout.spec.target}, not of {spec.target}",
                next_step="Give yours another name (metadata.name).",
            )
        again = before.run is not None and before.run.pinned.storage_uri == spec.storage_uri
        if again and state.phase is Phase.PROMOTED:
            raise BadInput(
                f"{spec.target}: {spec.storage_uri} was promoted and is what it serves",
                next_step="Name another version.",
            )
        wanted = _manifest(rollout)["spec"]
        changed = self._change(before, {"spec": _instead_of(before.body.get("spec", {}), wanted)})
        if again:
            self._send(changed, RETRY)

    def _change(self, record: ClusterRecord, changes: Mapping[str, Any]) -> ClusterRecord:
        """Change the resource, if nobody was faster. Raises `Conflict`."""
        version = record.body["metadata"].get("resourceVersion")
        metadata = {**changes.get("metadata", {}), "resourceVersion": version}
        return record_of(self._objects.patch(ROLLOUTS, self._namespace, record.name, {**changes, "metadata": metadata}))

    def _send(self, record: ClusterRecord, verb: str) -> int:
        """Write an order into the annotation; its number."""
        for _ in range(10):
            annotations = record.body["metadata"].get("annotations") or {}
            seq = 1 + max(record.state.command_seq, _seq(annotations.get(COMMAND, "")))
            order = {"verb": verb, "by": getpass.getuser(), "at": datetime.now(UTC).isoformat(), "seq": seq}
            try:
                self._change(record, {"metadata": {"annotations": {COMMAND: json.dumps(order)}}})
            except Conflict:
                # The operator has just stored a tick; an order says nothing about what it found, so it is simply written again.
                record = self._journal.get(record.name)
                continue
            return seq
        raise Conflict(f"Rollout {record.name}: it changes faster than an order can be written", next_step="Try again.")

    def switch(self, target: str | None, to: str | None, watching: Watching) -> ExitCode:
        """Send all users to the other colour, or to the one that is named: the operator does it, and so it is in the history.

        Raises:
            BadInput: there are no colours, or no such one, or it is not installed, or a rollout is under way.
        """
        name = self._journal.known(target)
        colours = self._colours.of(name)
        wanted = self._colours.wanted(name, colours, to)
        if wanted is None:
            tell(f"{name}: users are with {next(iter(colours))} already.")
            return ExitCode.OK
        record = self._journal.latest(name)
        if record is not None and not record.state.phase.is_terminal:
            raise BadInput(
                f"{name}: a rollout is under way ({record.state.shown_phase})",
                next_step=f"`relevo promote --full {name}{self._flags}` or `relevo rollback {name}{self._flags}` ends it.",
            )
        return self._at_once(name, record, wanted.storage_uri, watching)

    def _serves(self, target: str) -> str:
        """The model that users are answered by."""
        active = next(iter(self._colours.of(target).values()), None)
        return active.storage_uri if active is not None else storage_uri_of(self._journal.service(target))

    def _earlier(self, target: str, record: ClusterRecord | None, to: int | None) -> str:
        """The model of an earlier revision."""
        serves = self._serves(target)
        if to is not None:
            revision = f"{target}-predictor-{to:05}"
            found = self._objects.get(REVISIONS, self._namespace, revision)
            if found is None:
                raise BadInput(
                    f"{target}: there is no revision {revision} any more",
                    next_step=f"`kubectl get revisions -n {self._namespace}` lists those that are; or roll the version out again.",
                )
            uri = revision_uri(found)
        elif record is not None and record.state.phase is Phase.PROMOTED and record.state.stable_uri:
            uri = record.state.stable_uri
        else:
            raise BadInput(
                f"{target}: {serves} is the first version that is known here, there is nothing to undo",
                next_step=f"See `relevo history{self._flags}`; --to names a revision.",
            )
        if uri == serves:
            raise BadInput(
                f"{target}: {uri} is what it serves already", next_step=f"See `relevo history{self._flags}`."
            )
        return uri


def revision_uri(revision: Mapping[str, Any]) -> str:
    """The model that a Knative revision serves, as KServe noted it there. Raises `BadInput`."""
    annotations = revision["metadata"].get("annotations", {})
    uri = annotations.get("internal.serving.kserve.io/storage-initializer-sourceuri", "")
    if uri:
        return str(uri)
    for container in revision.get("spec", {}).get("containers", ()):
        if container.get("name") == "modelcar":
            return f"oci://{container['image']}"
    raise BadInput(
        f"{revision['metadata']['name']}: does not say which model it serves",
        next_step="Name the model: relevo deploy-canary --storage-uri.",
    )


def _manifest(rollout: Rollout) -> Json:
    """The resource as its author wrote it: the cluster fills in the defaults, and knows the namespace."""
    document = rollout.model_dump(mode="json", by_alias=True, exclude_unset=True)
    metadata = {key: value for key, value in document["metadata"].items() if key != "namespace"}
    return {
        "apiVersion": rollout.api_version,
        "kind": rollout.kind,
        "metadata": metadata,
        "spec": document["spec"],
    }


def _instead_of(old: Mapping[str, Any], new: Mapping[str, Any]) -> Json:
    """A merge patch that makes `new` of `old`: what `new` does not have goes."""
    gone = {key: None for key in old if key not in new}
    both = {
        key: _instead_of(old[key], value) if isinstance(value, Mapping) and isinstance(old.get(key), Mapping) else value
        for key, value in new.items()
    }
    return {**gone, **both}


def _seq(text: str) -> int:
    """The number of the order that the annotation holds; 0 where it holds none."""
    try:
        return int(json.loads(text)["seq"])
    except (ValueError, KeyError, TypeError):
        return 0
