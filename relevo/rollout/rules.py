"""The four sets of rules that `plan` asks in order. Each looks at the same `Look` and answers what changes, or None."""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from relevo.rollout.assessment import exposed_requests, has_baseline, with_baseline
from relevo.rollout.commands import Command, Verb
from relevo.rollout.look import Look, Outcome
from relevo.rollout.messages import explain_failure, explain_limit, explain_promotion, explain_split
from relevo.rollout.observation import Reading
from relevo.rollout.state import Cause, HoldReason, Phase, Verdict

__all__ = ["judge", "obey", "progress", "protect"]

EXTENSION = 1.5
"""At a limit the rollout is extended once, to this multiple of it."""


def obey(look: Look) -> Outcome | None:
    """What a human ordered and has not been done yet, one order a tick."""
    for command in look.seen.commands:
        if command.seq > look.state.command_seq:
            heard = replace(look, state=replace(look.state, command_seq=command.seq))
            if command.verb in (Verb.PROMOTE, Verb.PROMOTE_FULL) and (proven := judge(heard)):
                return proven
            return _obey_one(heard, command)
    return None


def _obey_one(look: Look, command: Command) -> Outcome:
    state, who = look.state, command.by
    if state.phase.is_decided:
        return look.note(
            state, "refused", f"{command.verb} came after the decision ({state.phase}) and changes nothing.", who=who
        )
    match command.verb:
        case Verb.ROLLBACK:
            message = f"{who} ordered the rollback. {_exposure(look)}"
            return look.decide(Phase.ROLLING_BACK, None, Cause.ORDERED, message, who=who)
        case Verb.PROMOTE | Verb.PROMOTE_FULL:
            return _promote(look, command)
        case Verb.PAUSE:
            message = f"{who} paused it. Traffic stays as it is; a proven regression still rolls back."
            return look.hold(HoldReason.PAUSED, message, who=who) or look.note(
                state, "pause", "It is paused already.", who=who
            )
        case Verb.RESUME:
            if look.spec.paused:
                message = "resume: spec.paused is true; set it to false."
                return look.note(state, "refused", message, who=who)
            if state.hold is None or state.hold.reason is not HoldReason.PAUSED:
                return look.note(state, "refused", "resume: it is not paused.", who=who)
            return look.release(f"{who} resumed it.", who=who)
        case _:
            assert_never(command.verb)


def _promote(look: Look, command: Command) -> Outcome:
    """The next step now, or all traffic at once; that only to a candidate that is ready and is known to answer."""
    state, who = look.state, command.by
    at_last_step = state.phase is Phase.SHIFTING and state.step == len(look.steps)
    if command.verb is Verb.PROMOTE and not at_last_step:
        return look.note(replace(state, prompted=True), "promote", f"{who} asked for the next step now.", who=who)
    smoke = look.seen.smoke
    untried = state.phase in (Phase.PENDING, Phase.PREPARING) and (smoke is None or smoke.failed == smoke.requests)
    if untried or not look.candidate_ready:
        return look.note(state, "refused", f"{command.verb}: {_name(look)} is not ready to take all traffic.", who=who)
    how = "at the last step" if command.verb is Verb.PROMOTE else "without waiting for the checks"
    message = f"{who} ordered the promotion of {state.candidate} {how}."
    return look.decide(Phase.PROMOTING, None, Cause.ORDERED, message, who=who)


def judge(look: Look) -> Outcome | None:
    """What the evidence proves against the candidate. Also while held: what is proven is proven.

    Where the traffic does not arrive in the shares that were set, nothing is: every bet rests on them.
    """
    if look.state.phase not in (Phase.SHADOWING, Phase.SHIFTING) or look.assessment.split_mismatch:
        return None
    if look.assessment.failed:
        message = explain_failure(look.spec, look.state, look.assessment)
        return look.decide(Phase.ROLLING_BACK, Verdict.FAIL, Cause.EVIDENCE, f"{message} {_exposure(look)}")
    return None


def protect(look: Look) -> Outcome | None:
    """What makes going on unsafe or meaningless: a revision that is down, a silent source, a split that is not the one asked for."""
    state = look.state
    if state.phase in (Phase.PENDING, Phase.ROLLING_BACK) or state.phase.is_terminal:
        return None
    if outcome := _protect_from_unready(look):
        return outcome
    if state.phase.is_decided:
        return None
    if state.hold is not None and state.hold.reason is HoldReason.PAUSED:
        return None
    if look.spec.paused:
        message = "spec.paused is true. Traffic stays as it is; a proven regression still rolls back."
        return look.hold(HoldReason.PAUSED_BY_SPEC, message)
    if trouble := _trouble(look):
        return look.hold(*trouble)
    if state.hold is not None:
        return look.release("What it was held for is over; it goes on.")
    return None


def _protect_from_unready(look: Look) -> Outcome | None:
    """A candidate that will not become ready, answers nothing, or crashes again and again is rolled back.

    Also one that was to be promoted, as long as it has not all the traffic: a verdict on its answers does not bring it back to life.
    """
    limits, candidate, smoke = look.spec.limits, look.candidate, look.seen.smoke
    if look.state.phase is Phase.PROMOTING and look.seen.routes.stable.name != look.state.stable:
        return None
    if look.seen.routes.edited:
        return None  # what somebody put there in its place is none of its failures
    if candidate is not None and candidate.failed:
        return _not_ready(look, f"{_name(look)} cannot start: {candidate.detail}")
    if candidate is not None and candidate.restarts > limits.candidate_restarts:
        return _not_ready(
            look, f"{candidate.name} crashed {candidate.restarts} times: {candidate.detail or 'see its log'}"
        )
    if smoke is not None and smoke.requests and smoke.failed == smoke.requests and look.state.phase is Phase.PREPARING:
        message = f"{_name(look)} answered none of {smoke.requests} smoke requests ({smoke.detail}). No user met it."
        return look.decide(Phase.ROLLING_BACK, Verdict.FAIL, Cause.SMOKE, message)
    if look.unready_seconds > limits.preparation_seconds:
        return _not_ready(look, f"{_name(look)} was not ready within {limits.preparation_seconds:g} s: {_detail(look)}")
    return None


def _not_ready(look: Look, message: str) -> Outcome:
    return look.decide(Phase.ROLLING_BACK, Verdict.FAIL, Cause.NOT_READY, f"{message}. {_exposure(look)}")


def _trouble(look: Look) -> tuple[HoldReason, str] | None:
    """The first thing for which the rollout must be held now, with its sentence."""
    state, routes = look.state, look.seen.routes
    here = f"Traffic stays at {routes.weight_percent} %. "
    if routes.edited:
        message = f"{routes.edited}. It is not changed back. {here}Undo that change and it goes on; "
        return HoldReason.EDITED_BY_HAND, f"{message}`relevo rollback {look.spec.target}` ends the rollout."
    if state.is_first:
        return None
    if routes.stable.name != state.stable:
        message = f"{routes.stable.name} took the place of {state.stable}, so there is nothing to compare with. {here}"
        return HoldReason.STABLE_NOT_READY, message + f"`relevo rollback {look.spec.target}` ends the rollout."
    if state.phase is not Phase.PREPARING and not look.candidate_ready:
        message = f"{_name(look)} is not ready ({_detail(look)}). All traffic goes to {state.stable} until it is."
        return HoldReason.CANDIDATE_NOT_READY, message
    if not routes.stable.ready:
        return HoldReason.STABLE_NOT_READY, f"{state.stable} is not ready, so there is nothing to compare with. {here}"
    for silence in look.silences:
        seconds = (look.now - state.silent_since[silence.source]).total_seconds()
        limits = look.spec.limits
        heard = silence.source in state.ledger.sources
        # A source that this rollout has not heard of yet is starting, like the candidate.
        if seconds > (limits.evidence_timeout_seconds if heard else limits.preparation_seconds):
            continues = "It continues by itself when evidence returns"
            rollback = f"`relevo rollback {look.spec.target}` gives all traffic to {state.stable} now."
            message = f"no evidence from {silence.source} for {seconds:.0f} s ({silence.reason}). {here}{continues}; {rollback}"
            return HoldReason.UNMEASURABLE, message
    if look.silences and state.hold is not None and state.hold.reason is HoldReason.UNMEASURABLE:
        return HoldReason.UNMEASURABLE, state.hold.message
    if look.assessment.split_mismatch:
        return HoldReason.SPLIT_MISMATCH, f"{explain_split(look.assessment)} {here}"
    return None


def progress(look: Look) -> Outcome | None:
    """What comes next, when its conditions are met and nothing holds."""
    state = look.state
    if state.hold is not None and not state.phase.is_decided:
        return None
    if look.silences and not state.phase.is_decided and state.phase is not Phase.PENDING and not state.is_first:
        return None  # not held yet, but nothing is decided on half of the evidence
    match state.phase:
        case Phase.PENDING:
            what = "is the first to be served" if state.is_first else f"is to replace what {state.stable} serves"
            return look.to_phase(Phase.PREPARING, "start", f"{look.spec.storage_uri} {what}.")
        case Phase.PREPARING:
            return _after_preparing(look) or _at_limit(look)
        case Phase.SHADOWING:
            return _after_shadowing(look) or _at_limit(look)
        case Phase.SHIFTING:
            return _after_step(look) or _at_limit(look)
        case Phase.PROMOTING | Phase.ROLLING_BACK:
            return _settled(look)
        case Phase.PROMOTED | Phase.ROLLED_BACK:
            return None
        case _:
            assert_never(state.phase)


def _after_preparing(look: Look) -> Outcome | None:
    if not look.candidate_ready or look.seen.smoke is None:
        return None
    sent, failed = look.seen.smoke.requests, look.seen.smoke.failed
    smoke = f"{look.state.candidate} is ready; {sent - failed} of {sent} smoke requests answered."
    if look.state.is_first:
        return look.decide(Phase.PROMOTING, None, Cause.NO_COMPARISON, f"{smoke} There is nothing to compare it with.")
    if not look.steps:
        return look.decide(Phase.PROMOTING, None, Cause.NO_COMPARISON, f"{smoke} No comparison was asked for.")
    if not has_baseline(look.spec, look.state):
        return None
    measured = replace(look, state=with_baseline(look.spec, look.state))
    if look.spec.has_shadow_stage:
        return measured.to_phase(Phase.SHADOWING, "prepared", smoke)
    return measured.to_phase(
        Phase.SHIFTING, "prepared", f"{smoke} First step: {look.steps[0].weight_percent} %.", step=1
    )


def _after_shadowing(look: Look) -> Outcome | None:
    pairs = look.state.ledger.pairs()
    predictions = look.assessment.check("predictions")
    # Disagreement is only measured here: what the gate needs must be gathered before the first user is shifted.
    open_gate = predictions is not None and predictions.gated and predictions.verdict is not Verdict.PASS
    waiting = pairs.compared < look.spec.shadow.requests or open_gate or not _may_go_to(look, 1)
    if waiting and not look.state.prompted:
        return None
    differed = f"{pairs.compared} rows went to both revisions and {pairs.disagreed} were answered differently."
    message = f"{differed} {_announced(look, 1)}"
    if open_gate:
        message += " The disagreement is not proven to be below its limit, so only a human can promote it."
    return look.to_phase(Phase.SHIFTING, "shadowed", message, step=1)


def _after_step(look: Look) -> Outcome | None:
    state, strategy = look.state, look.spec.strategy
    requests = exposed_requests(state, [str(state.step)])
    seconds = (look.now - state.step_since).total_seconds()
    waited = seconds >= strategy.least_seconds(at_switch=look.at_switch) and requests >= strategy.pace.step_requests
    if state.step < len(look.steps):
        if not (waited and _may_go_to(look, state.step + 1)) and not state.prompted:
            return None
        here = look.steps[state.step - 1].weight_percent
        message = f"{requests} candidate requests at {here} % and nothing failed. {_announced(look, state.step + 1)}"
        return look.to_phase(Phase.SHIFTING, "advance", message, step=state.step + 1)
    if waited and look.assessment.passed:
        return look.decide(
            Phase.PROMOTING, Verdict.PASS, Cause.EVIDENCE, explain_promotion(look.spec, state, look.assessment)
        )
    return None


def _may_go_to(look: Look, step: int) -> bool:
    """A switch is too much to try out: every gated check must have passed before all users are sent to the candidate."""
    return not look.steps[step - 1].is_switch or look.assessment.passed


def _announced(look: Look, step: int) -> str:
    if not look.steps[step - 1].is_switch:
        return f"{'First step' if step == 1 else 'Next'}: {look.steps[step - 1].weight_percent} %."
    return f"All users go to {look.state.candidate} now; {look.state.stable} stays warm."


def _at_limit(look: Look) -> Outcome | None:
    """At a limit: extend once, then give all traffic back, as inconclusive and never as a regression."""
    limits, state = look.spec.limits, look.state
    scale = EXTENSION if state.extended else 1.0
    requests = exposed_requests(state)
    # All users are with the candidate during the watch, and it lasts as long as it was asked to.
    watch_seconds = look.spec.strategy.least_seconds(at_switch=True) if look.at_switch else 0.0
    max_seconds = limits.max_seconds * scale + watch_seconds
    over_time = look.active_seconds > max_seconds
    if not over_time and (look.at_switch or requests <= limits.max_candidate_requests * scale):
        return None
    what = f"{max_seconds:g} s" if over_time else f"{limits.max_candidate_requests * scale:g} candidate requests"
    missing = explain_limit(look.assessment)
    if not state.extended:
        return look.note(
            replace(state, extended=True), "extend", f"No decision within {what} ({missing}); extended once by half."
        )
    message = f"No decision within {what}: {missing}. That is no proof of a regression. {_exposure(look)}"
    return look.decide(Phase.ROLLING_BACK, Verdict.INCONCLUSIVE, Cause.LIMIT, message)


def _settled(look: Look) -> Outcome | None:
    """The verdict is carried out when the routes say so and the load has ended."""
    routes, state = look.seen.routes, look.state
    if state.is_first and state.phase is Phase.ROLLING_BACK:
        return look.to_phase(Phase.ROLLED_BACK, "settled", "There is no revision before it to give traffic back to.")
    still_loading = any(isinstance(e, Reading) and e.users for e in look.seen.evidence)
    if routes.candidate is not None or routes.weight_percent or still_loading:
        return None
    serves = routes.stable.name
    if state.phase is Phase.PROMOTING:
        if serves != state.candidate:
            return None
        return look.to_phase(Phase.PROMOTED, "settled", f"All traffic goes to {serves}.", step=state.step)
    # Somebody else may have put another revision in the stable one's place meanwhile; there is nothing left to give back then.
    outside = f" {state.stable} was replaced from outside this rollout."
    if serves == state.stable:
        outside = ""
    elif (
        routes.stable.storage_uri == state.stable_uri
    ):  # where what serves is what the manifest names, the model is put back there
        outside = f" It serves the same model as {state.stable}."
    return look.to_phase(Phase.ROLLED_BACK, "settled", f"All traffic goes to {serves}.{outside}", step=state.step)


def _exposure(look: Look) -> str:
    requests = exposed_requests(look.state)
    if requests == 0:
        return "No user's request reached it."
    return f"{requests:,} users' requests reached it at up to {max(s.weight_percent for s in look.steps[: look.state.step])} %."


def _detail(look: Look) -> str:
    """Why the candidate is not ready."""
    if look.candidate is None:
        other = look.seen.routes.candidate
        return f"{other.name} is in its place" if other is not None else "there is no such revision"
    return look.candidate.detail or "it did not answer its health check"


def _name(look: Look) -> str:
    return look.state.candidate or f"the revision of {look.spec.storage_uri}"
