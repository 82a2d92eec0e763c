"""Begins a rollout, or goes on with one that was left, and follows it to its end: behind the deploy verbs, retry and undo."""

from __future__ import annotations

from relevo.cli.exit_codes import ExitCode
from relevo.cli.output import tell
from relevo.cli.session import drive
from relevo.cli.site import Watching, Wish
from relevo.cli.switch import switch_to
from relevo.cli.watch import conclude
from relevo.cli.wiring import NO_LOCUST, Local, clock, new_uid
from relevo.errors import BadInput, Conflict, RelevoError, Transient
from relevo.packaging import PackageRef, list_packages
from relevo.platforms.local.platform import no_colours
from relevo.reconcile.lease import take
from relevo.rollout.spec import Rollout, RolloutSpec, load_rollout, parse_rollout
from relevo.rollout.state import Phase, new_state
from relevo.rollout.wording import deploy_verb
from relevo.store.rollouts import Record

__all__ = ["deploy", "retry", "undo"]


def deploy(wish: Wish, watching: Watching) -> ExitCode:
    """Roll out what is wished for. Raises `BadInput` before anything is stored, `Conflict` where another rollout is under way."""
    local = Local.open()
    record = _unfinished(local, wish)
    if record is None:
        record = _begin(local, _rollout(local, wish), watching.locust_port)
    else:
        _require_same_stable(local, record)
        tell(f"Going on with the rollout to {record.rollout.spec.storage_uri} ({record.state.shown_phase}).")
    return _follow_through(local, record, watching)


def retry(target: str | None, watching: Watching) -> ExitCode:
    """Begin the last rollout anew. Raises `BadInput` where it was not rolled back."""
    local = Local.open()
    name = local.target(target)
    record = local.store.latest(name)
    if record is None or record.state.phase is not Phase.ROLLED_BACK:
        what = f"the last one is {record.state.shown_phase}" if record else "there has been none"
        raise BadInput(f"{name}: no rolled back rollout to try again, {what}", next_step="See `relevo history`.")
    record = _begin(local, record.rollout, watching.locust_port)
    return _follow_through(local, record, watching)


def undo(target: str | None, to: int | None, watching: Watching) -> ExitCode:
    """Bring an earlier version back. Raises `BadInput` where there is none, or a rollout is under way."""
    local = Local.open()
    name = local.target(target)
    latest = local.store.latest(name)
    if latest is not None and not latest.state.phase.is_terminal:
        raise BadInput(f"{name}: a rollout is under way", next_step=f"`relevo rollback {name}` ends it.")
    stable = local.platform.observe(name).stable
    uri = _earlier(local, name, stable.name, to)
    idle = [colour for colour, has in local.platform.colours(name).items() if has == uri != stable.storage_uri]
    if idle:
        return switch_to(local, name, idle[0], watching.output)
    if uri == stable.storage_uri:
        raise BadInput(f"{name}: {uri} is what it serves already", next_step="See `relevo history` for the others.")
    spec = {"target": name, "storageUri": uri, "strategy": {"immediate": {}}}
    rollout = parse_rollout({"metadata": {"name": name}, "spec": spec}, where="undo")
    return _follow_through(local, _begin(local, rollout, 0), watching)


def _rollout(local: Local, wish: Wish) -> Rollout:
    if wish.file is None:
        target = local.target(wish.target)
        spec = {"target": target, "storageUri": _candidate_uri(local, target, wish), **wish.overrides()}
        return parse_rollout({"metadata": {"name": target}, "spec": spec}, where="the command line")
    rollout = wish.check(load_rollout(wish.file, wish.overrides()))
    target = rollout.spec.target
    if not (wish.version or wish.storage_uri):
        return rollout
    uri = _candidate_uri(local, target, wish)
    return rollout.model_copy(update={"spec": rollout.spec.model_copy(update={"storage_uri": uri})})


def _candidate_uri(local: Local, target: str, wish: Wish) -> str:
    if wish.storage_uri is not None:
        return wish.storage_uri
    stable, *idle = local.platform.colours(target).values() or [local.platform.observe(target).stable.storage_uri]
    if wish.version is None and idle and idle[0]:
        return idle[0]  # what the idle colour's values say
    repository, colon, tag = stable.rpartition(":")
    if not stable.startswith("oci://") or not colon or "/" in tag:
        raise BadInput(
            f"{target}: serves {stable}, which has no tag", next_step="Name the candidate with --storage-uri."
        )
    if wish.version is None:
        versions = ", ".join(ref.version for ref in _versions(local, repository)) or "none yet"
        raise BadInput(f"{target}: which version? The store has {versions}", next_step="Name it with --version.")
    return f"{repository}:{wish.version}"


def _versions(local: Local, repository: str) -> list[PackageRef]:
    return list_packages(local.home, repository.rpartition("/")[2])


def _unfinished(local: Local, wish: Wish) -> Record | None:
    """The rollout that was left, if this is how to go on with it."""
    in_file = load_rollout(wish.file).spec if wish.file else None
    if in_file is not None and wish.target not in (None, in_file.target):
        raise BadInput(
            f"{wish.file}: its target is {in_file.target}, not {wish.target}", next_step="Leave the argument out."
        )
    target = in_file.target if in_file is not None else local.target(wish.target)
    record = local.store.latest(target)
    if record is None or record.state.phase.is_terminal:
        return None
    running = record.rollout.spec.storage_uri
    asked = wish.storage_uri or (f"{running.rpartition(':')[0]}:{wish.version}" if wish.version else None)
    asked = asked or (in_file.storage_uri if in_file is not None else running)
    if asked != running:
        raise Conflict(
            f"{target}: the rollout to {running} has not ended ({record.state.shown_phase})",
            next_step=f"Go on with it by `relevo {deploy_verb(record.rollout.spec)} {target}`, or end it with `relevo rollback {target}`.",
        )
    return record


def _require_same_stable(local: Local, record: Record) -> None:
    """Refuse to go on where the stable revision is another one: after `relevo down` and `relevo up` nothing of before is there.

    What was measured belongs to processes that are gone, and the candidate is gone with them. A decided one is still carried out.
    """
    state, target = record.state, record.rollout.spec.target
    if state.phase.is_decided:
        return
    try:
        serves = local.platform.observe(target).stable.name
    except Transient:
        return  # Envoy is being restarted: that is the driver's to wait for
    if serves != state.stable:
        raise Conflict(
            f"{target}: the rollout to {record.rollout.spec.storage_uri} cannot go on: it compared with {state.stable}, "
            f"which has ended, and {serves} serves now",
            next_step=f"End it with `relevo rollback {target}`; `relevo retry {target}` then begins it anew.",
        )


def _begin(local: Local, rollout: Rollout, locust_port: int) -> Record:
    """Store the rollout, after everything that can be refused has been."""
    spec = rollout.spec
    stable = local.platform.observe(spec.target).stable
    _require_strategy(local, spec, stable.storage_uri)
    local.check(spec, stable.storage_uri)
    if spec.strategy.immediate is None:
        local.require_locust_port(locust_port)
    now = clock()
    return local.store.create(rollout, new_state(new_uid(spec.target), stable, now), now)


def _require_strategy(local: Local, spec: RolloutSpec, stable_uri: str) -> None:
    """Refuse blueGreen where there are no colours, canary where there are, and the version that the active colour has."""
    colours, target = local.platform.colours(spec.target), spec.target
    if spec.strategy.immediate is not None:
        return
    if spec.strategy.blue_green is None and colours:
        raise BadInput(
            f"{target}: is served by two colours, and the strategy is canary",
            next_step=f"Use `relevo deploy-blue-green {target}`; strategy.blueGreen.weights switches step by step.",
        )
    if spec.strategy.blue_green is not None and not colours:
        raise no_colours(target)
    if spec.strategy.blue_green is not None and spec.storage_uri == stable_uri:
        active, idle = colours
        raise BadInput(
            f"{target}: {active} serves {stable_uri} already, so {idle} would be the same",
            next_step=f"Name another version with --version; `relevo switch {target}` sends users to {idle} as it is.",
        )


def _follow_through(local: Local, record: Record, watching: Watching) -> ExitCode:
    """Drive to the end, in the foreground; Ctrl-C leaves it as it is."""
    uid = record.state.uid
    try:
        # The lease comes first: whoever has it may have a Locust running, which must not be touched.
        record = take(local.store, uid, now=clock().timestamp())
        try:
            locust_url = _start_locust(local, record, watching.locust_port)
        except BaseException:
            local.store.release(record)
            raise
        record = drive(local, record, locust_url=locust_url, hold_timeout_seconds=watching.hold_timeout_seconds)
    except KeyboardInterrupt:
        _tell_interrupted(local, uid)
        return ExitCode.INTERRUPTED
    return conclude(record.state, watching.output)


def _start_locust(local: Local, record: Record, port: int) -> str:
    spec = record.rollout.spec
    if spec.strategy.immediate is not None:
        return NO_LOCUST
    if spec.load.workers > 1:
        tell(f"spec.load.workers is {spec.load.workers}: on this machine the load is one process.")
    program = local.start_locust(spec, record.state.uid, local.package(record.state.stable_uri), port)
    tell(f"Locust's dashboard: {program.web_url}   Requests: {local.platform.proxy_url}/v2/models/{spec.target}/infer")
    return program.web_url


def _tell_interrupted(local: Local, uid: str) -> None:
    record = local.store.get(uid)
    target = record.rollout.spec.target
    try:
        weight = f"Traffic stays at {local.platform.observe(target).weight_percent} %"
    except RelevoError:  # it is told anyway that nobody watches
        weight = "Traffic stays as it is"
    tell(f"\nInterrupted in {record.state.shown_phase}. {weight} and nobody watches it.")
    tell(
        f"Go on with `relevo {deploy_verb(record.rollout.spec)} {target}`; `relevo rollback {target}` gives all traffic back now."
    )


def _earlier(local: Local, target: str, serving: str, to: int | None) -> str:
    """The model of an earlier revision, from the history."""
    records = local.store.find(target)
    models = {r.state.stable: r.state.stable_uri for r in records}
    models |= {r.state.candidate: r.rollout.spec.storage_uri for r in records if r.state.phase is Phase.PROMOTED}
    if to is not None:
        for revision, uri in models.items():
            if int(revision.rpartition("-")[2]) == to:
                return uri
        known = ", ".join(sorted(models)) or "none"
        raise BadInput(f"{target}: revision {to} has never served it; {known} did", next_step="See `relevo history`.")
    promoted = next((r for r in records if r.state.phase is Phase.PROMOTED and r.state.candidate == serving), None)
    if promoted is None:
        raise BadInput(
            f"{target}: {serving} is the first version, there is nothing to undo",
            next_step="See `relevo history`.",
        )
    return promoted.state.stable_uri
