"""The commands that start and steer a rollout."""

from __future__ import annotations

import getpass
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from relevo.cli.exit_codes import ExitCode
from relevo.cli.output import Output, OutputOption, err
from relevo.cli.session import conclude, drive, follow
from relevo.cli.wiring import Local, clock, new_uid
from relevo.errors import BadInput, Conflict
from relevo.packaging import PackageRef, list_packages
from relevo.reconcile.driver import is_dead
from relevo.rollout.commands import Verb
from relevo.rollout.spec import Rollout, load_rollout, parse_rollout
from relevo.rollout.state import Phase, RolloutState, new_state
from relevo.store.rollouts import Record

__all__ = ["deploy_canary", "pause", "promote", "resume", "retry", "rollback", "undo"]

TargetArgument = Annotated[
    str | None, typer.Argument(help="Name of the InferenceService; not needed when there is one.")
]
LocustPortOption = Annotated[int, typer.Option("--locust-port", help="Port of Locust's web UI.", min=1, max=65535)]


class PlatformName(StrEnum):
    """Where the model is served."""

    LOCAL = "local"


PlatformOption = Annotated[
    PlatformName, typer.Option("--platform", help="Where the model is served.", envvar="PLATFORM")
]
HoldOption = Annotated[
    float | None,
    typer.Option(
        "--hold-timeout", help="Leave with exit code 12 when held as unmeasurable for this many seconds.", min=0
    ),
]


def deploy_canary(
    target: TargetArgument = None,
    version: Annotated[
        str | None, typer.Option(help="The candidate's version: the stable model's URI with this tag.")
    ] = None,
    storage_uri: Annotated[str | None, typer.Option(help="The candidate's model, instead of --version.")] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="A Rollout, for everything but the defaults.")
    ] = None,
    shadow: Annotated[
        bool | None, typer.Option("--shadow/--no-shadow", help="With or without the shadow stage.")
    ] = None,
    locust_port: LocustPortOption = 8089,
    hold_timeout: HoldOption = None,
    platform: PlatformOption = PlatformName.LOCAL,
    output: OutputOption = Output.TABLE,
) -> None:
    """Roll a version out by canary and follow it to its verdict. Called again, it goes on with a rollout that was left."""
    local = Local.open()
    wish = Wish(target, version, storage_uri, file, shadow)
    record = _unfinished(local, wish)
    if record is None:
        record = _begin(local, _rollout(local, wish))
    else:
        err.print(f"Going on with the rollout to {record.rollout.spec.storage_uri} ({record.state.shown_phase}).")
    _follow_through(local, record, locust_port, hold_timeout, output)


@dataclass(frozen=True, slots=True)
class Wish:
    """What deploy-canary was asked for."""

    target: str | None
    version: str | None
    storage_uri: str | None
    file: Path | None
    shadow: bool | None

    def overrides(self) -> dict[str, Any]:
        """What the options put in the place of the file's fields."""
        return {} if self.shadow is None else {"shadow": {"enabled": self.shadow}}


def _rollout(local: Local, wish: Wish) -> Rollout:
    if wish.version is not None and wish.storage_uri is not None:
        raise BadInput("--version and --storage-uri name the candidate twice", next_step="Give one of them.")
    if wish.file is not None:
        overrides = wish.overrides()
        rollout = load_rollout(wish.file, overrides)
        if wish.target not in (None, rollout.spec.target):
            raise BadInput(f"{wish.file}: its target is {rollout.spec.target}, not {wish.target}")
        uri = (
            _candidate_uri(local, rollout.spec.target, wish)
            if wish.version or wish.storage_uri
            else rollout.spec.storage_uri
        )
        return rollout.model_copy(update={"spec": rollout.spec.model_copy(update={"storage_uri": uri})})
    target = local.target(wish.target)
    spec = {"target": target, "storageUri": _candidate_uri(local, target, wish), **wish.overrides()}
    return parse_rollout({"metadata": {"name": target}, "spec": spec}, where="the command line")


def _candidate_uri(local: Local, target: str, wish: Wish) -> str:
    if wish.storage_uri is not None:
        return wish.storage_uri
    stable = local.platform.observe(target).stable.storage_uri
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
    target = wish.target or (load_rollout(wish.file).spec.target if wish.file else local.target(None))
    record = local.store.latest(target)
    if record is None or record.state.phase.is_terminal:
        return None
    running = record.rollout.spec.storage_uri
    asked = wish.storage_uri or (f"{running.rpartition(':')[0]}:{wish.version}" if wish.version else running)
    if asked != running:
        raise Conflict(
            f"{target}: the rollout to {running} has not ended ({record.state.shown_phase})",
            next_step=f"Go on with it by `relevo deploy-canary {target}`, or end it with `relevo rollback {target}`.",
        )
    return record


def _begin(local: Local, rollout: Rollout) -> Record:
    spec = rollout.spec
    stable = local.platform.observe(spec.target).stable
    local.check(spec, stable.storage_uri)
    now = clock()
    return local.store.create(rollout, new_state(new_uid(spec.target), stable, now), now)


def _follow_through(local: Local, record: Record, locust_port: int, hold_timeout: float | None, output: Output) -> None:
    """Drive to the end, in the foreground; Ctrl-C leaves it as it is."""
    spec, state = record.rollout.spec, record.state
    locust_url = ""
    try:
        if spec.strategy.immediate is None:
            locust = local.start_locust(spec, state.uid, local.package(state.stable_uri), locust_port)
            locust_url = locust.web_url
            err.print(
                f"Locust's dashboard: {locust_url}   Requests: {local.platform.proxy_url}/v2/models/{spec.target}/infer"
            )
        record = drive(local, record, locust_url=locust_url or "http://127.0.0.1:9", hold_timeout_seconds=hold_timeout)
    except KeyboardInterrupt:
        _say_interrupted(local, state)
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    raise typer.Exit(conclude(record.state, output))


def _say_interrupted(local: Local, state: RolloutState) -> None:
    record = local.store.get(state.uid)
    target = record.rollout.spec.target
    weight = local.platform.observe(target).weight_percent
    err.print(
        f"\nInterrupted in {record.state.shown_phase}. Traffic stays at {weight} % and nobody watches it.\n"
        f"Go on with `relevo deploy-canary {target}`; `relevo rollback {target}` gives all traffic back now.",
        soft_wrap=True,
    )


def _order(target: str | None, verb: Verb, *, to_the_end: bool, output: Output) -> None:
    """Hand an order to whoever drives the rollout; where nobody does, carry it out here."""
    local = Local.open()
    name = local.target(target)
    record = local.store.latest(name)
    if record is None or record.state.phase.is_terminal:
        what = f"the last rollout has ended ({record.state.phase})" if record else "there has been no rollout"
        raise BadInput(
            f"{name}: nothing to {verb.value.removesuffix('-full')}, {what}",
            next_step=_after_the_end(name, verb, record),
        )
    command = local.store.order(record.state.uid, verb, by=getpass.getuser(), at=clock())
    locust_url = local.locust_url() or "http://127.0.0.1:9"
    if record.driver and not is_dead(record.driver) and record.lease_until > clock().timestamp():
        record = follow(
            local,
            record,
            lambda r: r.state.command_seq >= command.seq and (not to_the_end or r.state.phase.is_terminal),
        )
    else:
        record = drive(
            local,
            record,
            locust_url=locust_url,
            until=lambda t: not to_the_end and t.record.state.command_seq >= command.seq,
        )
    if record.state.phase.is_terminal:
        raise typer.Exit(conclude(record.state, output))
    last = local.store.transitions(record.state.uid)[-1]
    err.print(f"{last.after}: {last.message}", soft_wrap=True)
    if last.rule == "refused":
        raise typer.Exit(ExitCode.BAD_INPUT)
    if not local.store.get(record.state.uid).driver:
        err.print(f"No process drives this rollout; `relevo deploy-canary {name}` goes on with it.")


def _after_the_end(name: str, verb: Verb, record: Record | None) -> str:
    if record is not None and verb is Verb.ROLLBACK and record.state.phase is Phase.PROMOTED:
        return f"`relevo undo {name}` brings the version before it back."
    return f"`relevo deploy-canary {name} --version N` begins one."


def promote(
    target: TargetArgument = None,
    full: Annotated[bool, typer.Option("--full", help="All traffic now, without waiting for the checks.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Go on to the next step now, or with --full give the candidate all traffic."""
    _order(target, Verb.PROMOTE_FULL if full else Verb.PROMOTE, to_the_end=full, output=output)


def rollback(target: TargetArgument = None, output: OutputOption = Output.TABLE) -> None:
    """Give all traffic back to the stable revision, now."""
    _order(target, Verb.ROLLBACK, to_the_end=True, output=output)


def pause(target: TargetArgument = None) -> None:
    """Stay at this step. A proven regression still rolls back."""
    _order(target, Verb.PAUSE, to_the_end=False, output=Output.TABLE)


def resume(target: TargetArgument = None) -> None:
    """Go on after a pause."""
    _order(target, Verb.RESUME, to_the_end=False, output=Output.TABLE)


def retry(
    target: TargetArgument = None,
    locust_port: LocustPortOption = 8089,
    hold_timeout: HoldOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Begin the last rollout anew, after it was rolled back. The old verdict stands in the history."""
    local = Local.open()
    name = local.target(target)
    record = local.store.latest(name)
    if record is None or record.state.phase is not Phase.ROLLED_BACK:
        what = f"the last one is {record.state.shown_phase}" if record else "there has been none"
        raise BadInput(f"{name}: no rolled back rollout to try again, {what}", next_step="See `relevo history`.")
    _follow_through(local, _begin(local, record.rollout), locust_port, hold_timeout, output)


def undo(
    target: TargetArgument = None,
    to: Annotated[
        int | None, typer.Option(help="Number of the revision to go back to; the one before, unless given.", min=1)
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Bring an earlier version back: all traffic at once, when it is ready and answers."""
    local = Local.open()
    name = local.target(target)
    latest = local.store.latest(name)
    if latest is not None and not latest.state.phase.is_terminal:
        raise BadInput(f"{name}: a rollout is under way", next_step=f"`relevo rollback {name}` ends it.")
    stable = local.platform.observe(name).stable
    uri = _earlier(local, name, stable.name, to)
    if uri == stable.storage_uri:
        raise BadInput(f"{name}: {uri} is what it serves already", next_step="See `relevo history` for the others.")
    spec = {"target": name, "storageUri": uri, "strategy": {"immediate": {}}}
    rollout = parse_rollout({"metadata": {"name": name}, "spec": spec}, where="undo")
    _follow_through(local, _begin(local, rollout), 8089, None, output)


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
        raise BadInput(f"{target}: {serving} is the first version, there is nothing to undo")
    return promoted.state.stable_uri
