"""One Rollout from its beginning to its end, and whatever may happen to it meanwhile; on a cluster on paper."""

from __future__ import annotations

import copy
import json
from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from relevo.errors import BadInput, Conflict, Forbidden, Transient
from relevo.operator.recording import HELD_WRITE_SECONDS
from relevo.operator.resource import FINALIZER
from relevo.platforms.cluster_api import CONFIG_MAPS, INFERENCE_SERVICES, ROLLOUTS
from relevo.rollout.observation import Arm
from tests.unit.operator.world import Paper

ALL_TO_STABLE = ("settle", Arm.STABLE)


@pytest.fixture
def paper() -> Paper:
    return Paper()


def test_a_healthy_candidate_is_promoted(paper: Paper) -> None:
    """Begun, shadowed, shifted, promoted; the status, the conditions and the Events say so; the load and the finalizer are gone."""
    paper.create()
    paper.run(until="Promoted")
    paper.run(1)
    status = paper.status()
    assert (status["verdict"], status["candidate"], status["weight"]) == ("pass", "sim-predictor-00002", 0)
    assert paper.condition("Promoted")["status"] == "True"
    assert paper.condition("Promoted")["reason"] == "Evidence"
    assert paper.condition("Progressing")["status"] == "False"
    assert paper.service().stable_uri == "sim://iris/2"
    assert paper.service().removed
    assert FINALIZER not in paper.body()["metadata"].get("finalizers", [])
    assert paper.events()[0] == "RolloutStarted"
    assert paper.events()[-2:] == ["Promoting", "Promoted"]
    assert paper.events().count("StepReached") == 2


def test_a_bad_candidate_is_rolled_back_with_its_numbers(paper: Paper) -> None:
    """A candidate that fails is rolled back, and the condition says by how much."""
    paper.create(uri="sim://iris/2?errors=0.5", shadow={"enabled": False})
    paper.run(until="RolledBack")
    assert paper.status()["verdict"] == "fail"
    assert "failed" in paper.condition("RolledBack")["message"]
    assert paper.service().stable_uri == "sim://iris/1"
    assert paper.events()[-1] == "RolledBack"


def test_an_ended_rollout_costs_nothing(paper: Paper) -> None:
    """Neither looks nor writes, however long it stays, and after a restart of the operator neither."""
    paper.create()
    paper.run(until="Promoted")
    paper.run(2)
    version = paper.body()["metadata"]["resourceVersion"]
    paper.run(30)
    assert all(entry.due is None for entry in paper.agenda._entries.values())
    paper.start_operator()
    paper.run(30)
    assert all(entry.due is None for entry in paper.agenda._entries.values())
    assert paper.body()["metadata"]["resourceVersion"] == version


def test_a_held_rollout_writes_nothing_while_nothing_changes(paper: Paper) -> None:
    """A clock that goes on is no news."""
    paper.create()
    paper.run(until="Shifting")
    paper.service().silent = True
    paper.run(until="Held")
    paper.run(5)
    writes = paper.api.status_writes
    paper.run(200)
    assert paper.api.status_writes == writes
    assert paper.status()["verdict"] == "unmeasurable"
    assert paper.condition("Held")["reason"] == "Unmeasurable"
    paper.service().silent = False
    paper.run(until="Promoted")
    assert "Resumed" in paper.events()


@pytest.mark.parametrize("phase", ["Preparing", "Shadowing", "Shifting", "Promoting"])
def test_killed_in_any_phase_it_goes_on(paper: Paper, phase: str) -> None:
    """Another process, which knows but the stored status, brings it to the same end."""
    paper.create()
    paper.run(until=phase)
    paper.start_operator()
    paper.run(until="Promoted")
    assert paper.status()["runs"] == 1
    assert paper.service().stable_uri == "sim://iris/2"


def test_killed_again_and_again_it_still_decides_rightly(paper: Paper) -> None:
    """Counts since the last write are read again from the cumulative sources; nothing is lost and nothing is counted twice."""
    paper.create(uri="sim://iris/2?errors=0.3", shadow={"enabled": False})
    for _ in range(40):
        paper.run(0.7)
        if paper.status().get("phase") == "RolledBack":
            break
        paper.start_operator()
    paper.run(until="RolledBack")
    assert paper.status()["verdict"] == "fail"


def test_nothing_is_done_before_it_is_stored(paper: Paper) -> None:
    """While the status cannot be written, no weight is set."""
    paper.create(shadow={"enabled": False})
    paper.run(until="Preparing")
    writes = list(paper.service().writes)
    paper.api.refuses["update", "rollouts"] = Transient("the cluster is in trouble")
    paper.run(20)
    assert [w for w in paper.service().writes if w not in writes and w[0] == "weight"] == []
    del paper.api.refuses["update", "rollouts"]
    paper.run(until="Promoted")


def test_who_does_not_lead_does_nothing(paper: Paper) -> None:
    """A replica without the lease neither writes nor shifts."""
    paper.leads = False
    paper.create()
    paper.run(10)
    assert paper.status() == {}
    assert paper.service().writes == []
    paper.leads = True
    paper.agenda._entries[next(iter(paper.agenda._entries))].due = 0.0
    paper.run(until="Promoted")


def test_a_lease_lost_between_look_and_write_stops_the_act(paper: Paper) -> None:
    """A tick that has begun while we led stores nothing and sets nothing when we do not any more."""
    paper.create(shadow={"enabled": False})
    paper.run(until="Preparing")
    steward = paper.stewards()[0]
    before = list(paper.service().writes)
    answers = iter([True, False])
    paper.shared.may_act = lambda: next(answers, False)
    steward._keeper.may_act = paper.shared.may_act
    paper.now += timedelta(seconds=5)
    steward.work()
    assert paper.service().writes == before


def test_an_edit_by_somebody_else_is_no_conflict_for_long(paper: Paper) -> None:
    """A label, an annotation or a status written by others makes us look again, not fail."""
    paper.create()
    paper.run(until="Shifting")
    paper.api.fails = [Conflict("the object has been modified")]
    paper.run(until="Promoted")


def settle_slowly(paper: Paper) -> None:
    """From now on a rollback takes the traffic away at once, and the candidate is there for long afterwards."""
    service = paper.service()

    def settle(target: str, keep: Arm) -> None:
        service.weight_percent, service.label = 0, ""
        service.writes.append(("settle", keep))

    service.settle = settle  # type: ignore[method-assign]


def test_late_news_are_no_news(paper: Paper) -> None:
    """A watch may tell of a version that we have overtaken; to act by it would bring a candidate back that was rolled back."""
    paper.create(shadow={"enabled": False})
    paper.run(until="Shifting")
    paper.run(3)
    late = copy.deepcopy(paper.body())
    settle_slowly(paper)
    paper.order("rollback")
    paper.run(until="RollingBack")
    paper.fleet.hear(late, deleted=False)
    paper.run(1)
    assert paper.service().weight_percent == 0
    assert paper.service().writes[-1] == ALL_TO_STABLE


def test_who_comes_back_to_the_lease_looks_before_it_acts(paper: Paper) -> None:
    """Another replica has rolled back meanwhile, and the watch has not told yet: nothing is given to the candidate."""
    paper.create(shadow={"enabled": False})
    paper.run(until="Shifting")
    paper.run(3)
    first, first_agenda, steward = paper.fleet, paper.agenda, paper.stewards()[0]
    settle_slowly(paper)
    paper.start_operator()
    paper.order("rollback")
    paper.run(until="RollingBack")
    first.distrust()
    steward.work()
    assert paper.service().weight_percent == 0
    paper.fleet, paper.agenda = first, first_agenda
    first_agenda.open()
    paper.run(5)
    assert paper.service().weight_percent == 0
    assert paper.status()["phase"] == "RollingBack"


def test_a_status_of_another_version_is_left_alone(paper: Paper) -> None:
    """It is told by an Event, and nothing is overwritten that another version may need."""
    paper.create()
    paper.run(until="Shifting")
    paper.body()["status"]["state"] = {"phase": "Dancing"}
    paper.body()["status"]["writes"] += 7
    stored = copy.deepcopy(paper.body())
    paper.start_operator()
    paper.run(60)
    assert paper.body() == stored
    assert paper.events()[-1] == "Unreadable"
    assert paper.events().count("Unreadable") == 1


# -- deletion ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["Preparing", "Shadowing", "Shifting"])
def test_deleted_half_way_the_traffic_goes_back(paper: Paper, phase: str) -> None:
    """The finalizer keeps the object until the stable revision has everything."""
    paper.create()
    paper.run(until=phase)
    paper.api.delete(ROLLOUTS, "default", "iris")
    assert "iris" in {key[2] for key in paper.api.objects if key[0] == "rollouts"}
    paper.run(10)
    assert ("rollouts", "default", "iris") not in paper.api.objects
    assert ALL_TO_STABLE in paper.service().writes
    assert paper.service().weight_percent == 0
    assert paper.service().removed
    assert paper.stewards() == []


def test_deleted_while_the_operator_is_down_the_traffic_goes_back(paper: Paper) -> None:
    """The next operator sees to it."""
    paper.create()
    paper.run(until="Shifting")
    paper.leads = False
    paper.api.delete(ROLLOUTS, "default", "iris")
    paper.run(5)
    paper.leads = True
    paper.start_operator()
    paper.run(10)
    assert ("rollouts", "default", "iris") not in paper.api.objects
    assert paper.service().stable_uri == "sim://iris/1"
    assert paper.service().candidate is None


def test_deleted_with_its_inference_service_it_may_go(paper: Paper) -> None:
    """There is no traffic to give back where there is no service."""
    paper.create()
    paper.run(until="Shifting")
    paper.service().gone = True
    paper.api.delete(INFERENCE_SERVICES, "default", "iris")
    paper.api.delete(ROLLOUTS, "default", "iris")
    paper.run(30)
    assert ("rollouts", "default", "iris") not in paper.api.objects


def test_deleted_before_it_began_it_goes_at_once(paper: Paper) -> None:
    """A Rollout that nobody has begun holds nothing."""
    paper.leads = False
    paper.create()
    paper.api.delete(ROLLOUTS, "default", "iris")
    assert ("rollouts", "default", "iris") not in paper.api.objects


# -- edits ---------------------------------------------------------------------------------------------------------------------------


def test_another_candidate_half_way_ends_this_run_and_begins_the_next(paper: Paper) -> None:
    """The running candidate is rolled back by the edit, then the new one is rolled out."""
    paper.create()
    paper.run(until="Shifting")
    paper.edit(storageUri="sim://iris/3")
    paper.run(until="RolledBack")
    assert paper.status()["storageUri"] == "sim://iris/2"
    assert "edit of spec.storageUri to sim://iris/3" in paper.status()["reason"]
    paper.run(until="Promoted")
    status = paper.status()
    assert (status["runs"], status["storageUri"], status["verdict"]) == (2, "sim://iris/3", "pass")
    assert status["uid"] != status["history"][0].get("uid")
    assert paper.service().stable_uri == "sim://iris/3"


def test_a_policy_edited_half_way_is_taken_up_and_told(paper: Paper) -> None:
    """The history and one Event say what changed; observedGeneration follows."""
    paper.create()
    paper.run(until="Shifting")
    paper.edit(decision={"alpha": 0.01})
    paper.run(2)
    assert paper.events().count("PolicyChanged") == 1
    line = next(line for line in paper.status()["history"] if line["rule"] == "edited")
    assert line["message"] == "spec.decision.alpha: (none) -> 0.01. Taken up from now on."
    assert paper.status()["observedGeneration"] == paper.body()["metadata"]["generation"] == 2


def test_steps_edited_half_way_are_for_the_next_run(paper: Paper) -> None:
    """Evidence is kept by step: a step that became another would make a lie of it."""
    paper.create()
    paper.run(until="Shifting")
    paper.edit(strategy={"canary": {"weights": [30]}}, sources=["locust", "envoy"])
    paper.run(1)
    assert paper.status()["weights"] == [5, 50]
    assert paper.status()["sources"] == ["locust"]
    assert "keeps the steps and sources" in paper.status()["history"][-1]["message"]
    paper.run(until="Promoted")
    paper.edit(storageUri="sim://iris/3", sources=["locust"])
    paper.run(until="Shifting")
    assert paper.status()["weights"] == [30]


def test_a_policy_edited_after_the_end_begins_nothing(paper: Paper) -> None:
    """A verdict is absorbing: only another model, or a retry, begins anew. The generation is observed all the same."""
    paper.create(uri="sim://iris/2?errors=0.5", shadow={"enabled": False})
    paper.run(until="RolledBack")
    paper.edit(decision={"alpha": 0.01})
    paper.run(10)
    assert paper.status()["phase"] == "RolledBack"
    assert paper.status()["runs"] == 1
    assert paper.status()["observedGeneration"] == 2
    assert paper.status()["history"]


def test_what_serves_already_is_promoted_at_once(paper: Paper) -> None:
    """An edit back to the model that serves, as GitOps makes it, shifts nothing."""
    paper.create(uri="sim://iris/1")
    paper.run(until="Promoted")
    assert paper.status()["reason"] == "sim-predictor-00001 serves sim://iris/1 already."
    assert paper.service().writes == []


# -- orders --------------------------------------------------------------------------------------------------------------------------


def test_paused_by_its_spec_and_on_again(paper: Paper) -> None:
    """`spec.paused` is how GitOps pauses."""
    paper.create()
    paper.run(until="Shifting")
    paper.edit(paused=True)
    paper.run(until="Held")
    assert paper.condition("Held")["reason"] == "PausedBySpec"
    paper.run(100)
    assert paper.status()["phase"] == "Held"
    paper.edit(paused=False)
    paper.run(until="Promoted")


def test_an_order_is_heard_at_once_and_once(paper: Paper) -> None:
    """By annotation: who ordered it is told, and the annotation that stays is not obeyed again."""
    paper.create()
    paper.run(until="Shifting")
    paper.order("rollback")
    began = paper.now
    paper.run(until="RolledBack")
    assert (paper.now - began).total_seconds() < 0.5
    assert paper.status()["reason"].startswith("ada ordered the rollback.")
    assert paper.status()["commandSeq"] == 1
    paper.edit(storageUri="sim://iris/3")
    paper.run(until="Promoted")
    assert paper.status()["runs"] == 2


def test_retry_begins_an_ended_rollout_anew(paper: Paper) -> None:
    """The same model once more, as a run of its own."""
    paper.create(uri="sim://iris/2?errors=0.5", shadow={"enabled": False})
    paper.run(until="RolledBack")
    paper.order("retry")
    paper.run(until="Preparing")
    assert paper.status()["runs"] == 2
    paper.run(until="RolledBack")
    paper.run(20)
    assert paper.status()["runs"] == 2


def test_an_order_before_anybody_has_seen_the_rollout_counts(paper: Paper) -> None:
    """Applied and paused in one breath: it is paused."""
    paper.leads = False
    paper.create()
    paper.order("pause")
    paper.leads = True
    paper.start_operator()
    paper.run(until="Held")


@pytest.mark.parametrize(
    "text", ["promote", "{}", '{"verb": "fly", "by": "a", "at": "2026-01-01T00:00:00Z", "seq": 1}', "[1]"]
)
def test_an_annotation_that_is_no_order_changes_nothing(paper: Paper, text: str) -> None:
    """It is not obeyed, and does not stop the rollout."""
    paper.create()
    paper.run(until="Shifting")
    paper.annotate(text)
    paper.run(until="Promoted")


# -- troubles ------------------------------------------------------------------------------------------------------------------------


def test_a_missing_inference_service_is_told_once_and_waited_for(paper: Paper) -> None:
    """Condition and Event name it and the next step; when it is made, the rollout begins."""
    paper.create()
    paper.service().gone = True
    del paper.api.objects["inferenceservices", "default", "iris"]
    paper.run(60)
    assert paper.condition("Ready") | {"lastTransitionTime": ""} == {
        "type": "Ready",
        "status": "False",
        "reason": "InferenceServiceMissing",
        "message": "there is no InferenceService iris. Create it.",
        "lastTransitionTime": "",
        "observedGeneration": 1,
    }
    assert paper.events() == ["InferenceServiceMissing"]
    assert paper.status()["phase"] == "Pending"
    paper.service().gone = False
    paper.run(until="Promoted")
    assert paper.condition("Ready")["status"] == "True"


def test_an_inference_service_deleted_half_way_is_told(paper: Paper) -> None:
    """The rollout stays where it is, with a clear condition."""
    paper.create()
    paper.run(until="Shifting")
    paper.service().gone = True
    paper.api.delete(INFERENCE_SERVICES, "default", "iris")
    paper.run(30)
    assert paper.condition("Ready")["reason"] == "InferenceServiceMissing"
    assert paper.condition("Progressing")["status"] == "False"
    assert paper.status()["phase"] == "Shifting"
    assert paper.events().count("InferenceServiceMissing") == 1


def test_a_lack_of_permission_names_what_is_lacking(paper: Paper) -> None:
    """The verb and the resource are in the condition; with the right given, it goes on by itself."""
    paper.create()
    message = "no permission to get inferenceservices.serving.kserve.io"
    paper.service().broken = Forbidden(message, next_step="Ask for a role.")
    paper.run(30)
    assert paper.condition("Ready")["reason"] == "Forbidden"
    assert paper.condition("Ready")["message"] == f"{message}. Ask for a role."
    paper.service().broken = None
    paper.run(until="Promoted")


def test_a_platform_that_is_silent_for_a_moment_is_no_news(paper: Paper) -> None:
    """Only what lasts is told."""
    paper.create()
    paper.run(until="Shifting")
    paper.service().broken = Transient("no answer")
    paper.run(5)
    assert paper.condition("Ready")["status"] == "True"
    paper.run(30)
    assert paper.condition("Ready")["reason"] == "NotAnswering"
    assert paper.events().count("NotAnswering") == 1
    paper.service().broken = None
    paper.run(until="Promoted")


def test_an_error_of_our_own_is_told_and_survived(paper: Paper) -> None:
    """No traceback reaches people; the rollout goes on when it is over."""
    paper.create()
    paper.run(until="Shifting")
    paper.service().broken = ZeroDivisionError("division by zero")
    paper.run(10)
    assert paper.condition("Ready")["reason"] == "InternalError"
    assert "ZeroDivisionError" in paper.condition("Ready")["message"]
    paper.service().broken = None
    paper.run(until="Promoted")


def test_an_invalid_spec_is_told(paper: Paper) -> None:
    """Where an older CRD has let it pass."""
    paper.create(tickSeconds=-1)
    paper.run(5)
    assert paper.condition("Ready")["reason"] == "Invalid"
    assert "tickSeconds" in paper.condition("Ready")["message"]
    paper.edit(tickSeconds=1)
    paper.run(until="Promoted")


def test_two_rollouts_of_one_service_take_turns(paper: Paper) -> None:
    """The second waits, and says for whom."""
    paper.create()
    paper.create("second", uri="sim://iris/3")
    paper.run(until="Shifting")
    assert paper.condition("Ready", "second")["reason"] == "TargetBusy"
    assert "Rollout iris is under way" in paper.condition("Ready", "second")["message"]
    paper.run(60)
    assert paper.status()["phase"] == "Promoted"
    assert paper.status("second")["phase"] == "Promoted"
    assert paper.service().stable_uri == "sim://iris/3"


def test_two_rollouts_take_turns_across_a_restart(paper: Paper) -> None:
    """The one that is under way goes on; the other still waits."""
    paper.create("b", uri="sim://iris/2")
    paper.run(3)
    paper.create("a", uri="sim://iris/3")
    paper.start_operator()
    paper.run(1)
    assert paper.status("a").get("runs") is None


# -- many ---------------------------------------------------------------------------------------------------------------------------


def test_of_very_many_each_is_looked_at_more_rarely_and_at_times_of_its_own(paper: Paper) -> None:
    """A thousand that are held have a hundred looks a second between them; two that were held together do not stay together."""
    names = ["a", "b", "c", "d"]
    for name in names:
        paper.create(name, target=name, shadow={"enabled": False}, strategy={"canary": {"weights": [5]}}, paused=True)
    looks = {name: paper.looks_at(name) for name in names}
    paper.run(5)
    assert min(len(times) for times in looks.values()) > 5
    paper.shared.carried = lambda: 1000
    paper.run(60)
    # A status that was written may be heard of as news, and looked at once more: the longest pause is the period.
    periods = {name: max(after - before for before, after in pairwise(times[-5:])) for name, times in looks.items()}
    assert all(7 < period < 13 for period in periods.values()), periods
    assert len({round(period, 2) for period in periods.values()}) == len(names), periods


# -- the record ----------------------------------------------------------------------------------------------------------------------


def test_the_record_holds_samples_and_all_transitions(paper: Paper) -> None:
    """For `relevo report`: the run's name, thinned samples, and each transition with its numbers."""
    paper.create()
    paper.run(until="Promoted")
    paper.run(1)
    data = paper.api.objects[CONFIG_MAPS.plural, "default", "iris-record"]["data"]
    assert data["uid"] == paper.status()["uid"]
    samples, transitions = json.loads(data["samples.json"]), json.loads(data["transitions.json"])
    assert samples[-1]["phase"] == "Promoted"
    assert [t["after"] for t in transitions][-2:] == ["Promoting", "Promoted"]
    assert "errors" in transitions[-1]["facts"]
    # One a second, but for a change: the look just before it is there, too.
    at = [datetime.fromisoformat(sample["at"]) for sample in samples]
    changes = [k for k in range(1, len(samples)) if samples[k]["step"] > samples[k - 1]["step"]]
    assert len(changes) >= 2
    assert [(at[k] - at[k - 1]).total_seconds() for k in changes] == [pytest.approx(0.4, abs=0.05)] * len(changes)


def test_the_record_of_a_held_rollout_is_written_rarely(paper: Paper) -> None:
    """A sample each half minute, two of them in one write; nothing of it is lost when the hold ends."""
    paper.create()
    paper.run(until="Shifting")
    paper.edit(paused=True)
    paper.run(until="Held")
    paper.run(5)
    writes = paper.changes(CONFIG_MAPS)
    paper.run(10 * HELD_WRITE_SECONDS)
    assert 8 <= len(writes) <= 14
    paper.edit(paused=False)
    paper.run(until="Promoted")
    paper.run(1)
    samples = json.loads(paper.api.objects[CONFIG_MAPS.plural, "default", "iris-record"]["data"]["samples.json"])
    assert sum(bool(sample["hold"]) for sample in samples) >= 10 * HELD_WRITE_SECONDS / 30 - 1


def test_a_refused_load_is_told(paper: Paper) -> None:
    """What cannot be made so for good reason is a condition, while the rollout is looked at further."""
    paper.create()
    paper.run(until="Preparing")

    def refuse(plan: object) -> None:
        raise BadInput("the load has no rows", next_step="Name a package.")

    ensure = paper.service().ensure
    paper.service().ensure = refuse  # type: ignore[method-assign]
    paper.run(10)
    assert paper.condition("Ready")["message"] == "the load has no rows. Name a package."
    paper.service().ensure = ensure  # type: ignore[method-assign]
    paper.run(until="Promoted")
    assert paper.condition("Ready")["status"] == "True"
