"""What a human orders of a running rollout: promote, rollback, pause, resume. Whoever drives it carries it out; if nobody, we do."""

from __future__ import annotations

import getpass
from collections.abc import Sequence

from relevo.cli.exit_codes import ExitCode
from relevo.cli.output import Output, tell
from relevo.cli.session import drive, follow
from relevo.cli.watch import conclude, nothing_to, what_came_of_it
from relevo.cli.wiring import NO_LOCUST, Local, clock
from relevo.reconcile.lease import is_dead
from relevo.rollout.commands import Verb
from relevo.rollout.decision import Transition
from relevo.rollout.state import RolloutState
from relevo.rollout.wording import deploy_verb

__all__ = ["order"]


def order(target: str | None, verb: Verb, *, to_the_end: bool, output: Output) -> ExitCode:
    """Store the order and wait until it is carried out; `to_the_end`, until the rollout has ended.

    Raises:
        BadInput: nothing is up, or there is no rollout under way.
    """
    local = Local.open()
    name = local.target(target)
    record = local.store.latest(name)
    if record is None or record.state.phase.is_terminal:
        raise nothing_to(verb, name, record)
    uid = record.state.uid
    known = len(local.store.transitions(uid))
    command = local.store.order(uid, verb, by=getpass.getuser(), at=clock())

    def is_done(state: RolloutState) -> bool:
        # An order that should end the rollout and left it undecided was refused: there is nothing to wait for.
        return state.command_seq >= command.seq and not (to_the_end and state.phase.is_decided)

    if record.driver and not is_dead(record.driver) and record.lease_until > clock().timestamp():
        record = follow(local, record, lambda r: r.state.phase.is_terminal or is_done(r.state))
    else:
        record = drive(
            local,
            record,
            locust_url=local.locust_url() or NO_LOCUST,
            until=lambda t: is_done(t.record.state),
        )
    if record.state.phase.is_terminal:
        return conclude(record.state, output)
    return _tell_what_came_of_it(local, name, uid, local.store.transitions(uid)[known:])


def _tell_what_came_of_it(local: Local, name: str, uid: str, since: Sequence[Transition]) -> ExitCode:
    code = what_came_of_it(since)
    record = local.store.get(uid)
    if code is ExitCode.OK and not record.driver:
        tell(f"No process drives this rollout; `relevo {deploy_verb(record.rollout.spec)} {name}` goes on with it.")
    return code
