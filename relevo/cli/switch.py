"""A switch by hand on this machine, and the history of it: behind `relevo switch`, and `relevo undo` where there are colours.

No rollout and no evidence: whoever orders it knows better. Both colours stay up, so that the way back takes no longer.
"""

from __future__ import annotations

import getpass
import time
from dataclasses import replace

from relevo.cli.exit_codes import ExitCode
from relevo.cli.output import Output, tell
from relevo.cli.watch import conclude
from relevo.cli.wiring import NO_LOCUST, Local, clock, new_uid
from relevo.errors import BadInput, Permanent, RelevoError
from relevo.platforms.colours import other, parse_colour
from relevo.platforms.local.platform import no_colours
from relevo.reconcile.lease import take
from relevo.rollout.decision import Transition
from relevo.rollout.observation import RevisionStatus
from relevo.rollout.platform import ModelRef
from relevo.rollout.spec import parse_rollout
from relevo.rollout.state import Cause, Phase, RolloutState, new_state

__all__ = ["switch", "switch_to"]

WAKE_SECONDS = 120.0
_POLL_SECONDS = 0.05


def switch(target: str | None, to: str | None, output: Output) -> ExitCode:
    """Send all users to the other colour, or to the one that is named, now.

    Raises:
        BadInput: there are no colours, or no such one, or it has nothing to serve, or a rollout is under way.
    """
    local = Local.open()
    name = local.target(target)
    wanted = parse_colour(to) if to is not None else None
    colours = local.platform.colours(name)
    if not colours:
        raise no_colours(name)
    active = next(iter(colours))
    wanted = wanted or other(active)
    if wanted == active:
        tell(f"{name}: users are with {active} already.")
        return ExitCode.OK
    return switch_to(local, name, wanted, output)


def switch_to(local: Local, name: str, colour: str, output: Output) -> ExitCode:
    """Wake the colour if it sleeps, send all users to it, and write that down."""
    latest = local.store.latest(name)
    if latest is not None and not latest.state.phase.is_terminal:
        raise BadInput(
            f"{name}: a rollout is under way ({latest.state.shown_phase})",
            next_step=f"`relevo promote --full {name}` or `relevo rollback {name}` ends it.",
        )
    uri = local.platform.colours(name)[colour]
    if not uri:
        raise BadInput(
            f"{name}: {colour} has nothing to serve yet",
            next_step=f"`relevo deploy-blue-green {name} --version N` brings it a version.",
        )
    woken = _wake(local, name, colour, uri)
    stable = local.platform.observe(name).stable
    spec = {"target": name, "storageUri": uri, "strategy": {"immediate": {}}}
    rollout = parse_rollout({"metadata": {"name": name}, "spec": spec}, where="switch")
    state = new_state(new_uid(name), stable, clock())
    local.store.create(rollout, state, clock())
    record = take(local.store, state.uid, now=clock().timestamp())
    who = getpass.getuser()
    try:
        local.platform.switch(name, colour)
        message = f"{who} sent all users from {stable.name} to {woken.name} ({colour}). {stable.name} stays up."
        after = _ended(state, woken, Phase.PROMOTED, message)
    except RelevoError as error:
        message = f"{who} asked for {colour}, and it was not done: {error.message}"
        after = _ended(state, woken, Phase.ROLLED_BACK, message)
        raise
    finally:
        line = Transition(clock(), who, "switch", state.phase.value, after.phase.value, message)
        record = local.store.save(record, after, [line], at=clock(), lease_until=0)
        local.store.release(record)
    return conclude(after, output)


def _ended(state: RolloutState, woken: RevisionStatus, phase: Phase, reason: str) -> RolloutState:
    now = clock()
    return replace(
        state, candidate=woken.name, phase=phase, phase_since=now, cause=Cause.ORDERED, reason=reason, decided_at=now
    )


def _wake(local: Local, name: str, colour: str, uri: str) -> RevisionStatus:
    """The idle colour, ready. One that had no process is started, and must answer before users are sent to it."""
    slept = local.platform.observe(name).candidate is None
    local.platform.prepare(name, ModelRef(uri))
    if slept:
        tell(f"Waking {colour} ({uri}).")
    deadline = time.monotonic() + WAKE_SECONDS
    while True:
        seen = local.platform.observe(name).candidate
        if seen is not None and seen.ready:
            break
        if (seen is not None and seen.failed) or time.monotonic() > deadline:
            what = (seen.detail if seen else "") or f"it is not ready after {WAKE_SECONDS:g} s"
            log = local.platform.log_path(seen.name) if seen else "none"
            raise Permanent(f"{name}: {colour} cannot take users: {what}", next_step=f"Its log: {log}")
        time.sleep(_POLL_SECONDS)
    if slept:
        spec = parse_rollout({"metadata": {"name": name}, "spec": {"target": name, "storageUri": uri}}, where="switch")
        package = local.package(local.platform.observe(name).stable.storage_uri)
        smoke = local.reconciler(spec.spec, package, NO_LOCUST).smoke_test.run(seen.address)
        if smoke.failed == smoke.requests:
            raise Permanent(
                f"{name}: {colour} answered none of {smoke.requests} smoke requests ({smoke.detail})",
                next_step=f"Users stay where they are. Its log: {local.platform.log_path(seen.name)}",
            )
    return seen
