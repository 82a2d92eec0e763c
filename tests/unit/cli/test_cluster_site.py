"""Rollouts on a cluster, as the command line writes and follows them."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from relevo.cli.cluster_records import ClusterJournal
from relevo.cli.cluster_site import ClusterSite, revision_uri
from relevo.cli.exit_codes import ExitCode
from relevo.cli.options import PlatformName
from relevo.cli.output import Output
from relevo.cli.site import Watching, Where, Wish
from relevo.errors import BadInput, Conflict, Transient
from relevo.operator.resource import COMMAND
from relevo.platforms.cluster_api import CONFIG_MAPS, INFERENCE_SERVICES, REVISIONS, ROLLOUTS
from relevo.rollout.state import Hold, HoldReason, Phase, Verdict
from tests.unit.cli.operator import NAMESPACE, Operator, service
from tests.unit.load.objects import World

FILE = Path("k8s/samples/rollout-iris.yaml")
WATCHING = Watching()


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def operator(world: World) -> Operator:
    return Operator(world)


@pytest.fixture
def site(world: World, operator: Operator) -> ClusterSite:
    return ClusterSite(world, NAMESPACE, sleep=operator.sleep, monotonic=lambda: operator.seconds)


def wish(**changes: Any) -> Wish:
    return Wish(**{"target": None, "version": None, "storage_uri": None, "file": FILE, "shadow": None, **changes})


def stored(world: World, name: str = "iris") -> dict[str, Any]:
    found: dict[str, Any] = world.objects["rollouts", NAMESPACE, name]
    return found


# -- deploy-canary -----------------------------------------------------------------------------------------------------------------


def test_a_rollout_is_written_as_its_file_has_it_and_followed_to_its_end(
    site: ClusterSite, operator: Operator, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """The resource holds what the author wrote and no default; the verdict is the exit code and the last line."""
    operator.promote()
    assert site.deploy(wish(), WATCHING) is ExitCode.OK
    assert stored(world)["spec"]["load"] == {"usersFrom": 12, "usersTo": 20}
    assert "tickSeconds" not in stored(world)["spec"]
    seen = capsys.readouterr()
    assert [line.split(": ")[1] for line in seen.err.splitlines()] == ["It begins.", "First step.", "All traffic."]
    assert seen.out == "Promoted: It is as good.\n"


@pytest.mark.parametrize(
    ("verdict", "code"), [(Verdict.FAIL, ExitCode.ROLLED_BACK), (Verdict.INCONCLUSIVE, ExitCode.INCONCLUSIVE)]
)
def test_the_exit_codes_are_those_of_one_machine(
    site: ClusterSite, operator: Operator, verdict: Verdict, code: ExitCode
) -> None:
    """Scripts need not know where the model is served."""
    operator.say(Phase.ROLLED_BACK, "Back.", verdict=verdict)
    assert site.deploy(wish(), WATCHING) is code


def test_options_take_the_place_of_the_files_fields(site: ClusterSite, operator: Operator, world: World) -> None:
    """--version is a tag of what is served, --no-shadow a field."""
    operator.promote()
    site.deploy(wish(version="7", shadow=False), WATCHING)
    spec = stored(world)["spec"]
    assert spec["storageUri"] == "oci://dev.local/iris:7"
    assert spec["shadow"] == {"requests": 200, "enabled": False}


def test_without_a_file_the_defaults_are_the_clusters(site: ClusterSite, operator: Operator, world: World) -> None:
    """Target and model are all that is written."""
    operator.promote()
    site.deploy(wish(file=None, target="iris", version="2"), WATCHING)
    assert stored(world)["spec"] == {"target": "iris", "storageUri": "oci://dev.local/iris:2"}


def test_the_next_version_is_an_edit_of_the_same_resource(site: ClusterSite, operator: Operator, world: World) -> None:
    """What the new file does not say is gone, and only the new run's lines are shown."""
    operator.promote()
    site.deploy(wish(), WATCHING)
    operator.roll_back()
    assert site.deploy(wish(file=None, target="iris", version="3"), WATCHING) is ExitCode.ROLLED_BACK
    assert stored(world)["spec"] == {"target": "iris", "storageUri": "oci://dev.local/iris:3"}
    assert stored(world)["status"]["runs"] == 2


def test_a_version_that_was_rolled_back_can_be_tried_again(
    site: ClusterSite, operator: Operator, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same wish begins a new run, which nothing in the spec would."""
    operator.roll_back()
    site.deploy(wish(), WATCHING)
    capsys.readouterr()
    operator.promote()
    assert site.deploy(wish(), WATCHING) is ExitCode.OK
    assert [order["verb"] for order in operator.heard] == ["retry"]
    assert "Back." not in capsys.readouterr().err


def test_a_version_that_was_promoted_is_not_rolled_out_again(site: ClusterSite, operator: Operator) -> None:
    """It is what is served."""
    operator.promote()
    site.deploy(wish(), WATCHING)
    with pytest.raises(BadInput, match="what it serves"):
        site.deploy(wish(), WATCHING)


def test_a_rollout_under_way_is_followed_or_refused(site: ClusterSite, operator: Operator, world: World) -> None:
    """The same wish looks on; another one would end it, so a human has to say that."""
    operator.say(Phase.SHIFTING, "First step.", step=1)
    world.apply(
        ROLLOUTS,
        NAMESPACE,
        {"metadata": {"name": "iris"}, "spec": {"target": "iris", "storageUri": "oci://dev.local/iris:2"}},
    )
    operator.step()
    with pytest.raises(Conflict, match="iris:2 has not ended"):
        site.deploy(wish(version="3"), WATCHING)
    operator.say(Phase.ROLLED_BACK, "Back.")
    assert site.deploy(wish(), WATCHING) is ExitCode.ROLLED_BACK
    assert stored(world)["spec"] == {"target": "iris", "storageUri": "oci://dev.local/iris:2"}


def test_an_unmeasurable_rollout_can_be_left(site: ClusterSite, operator: Operator) -> None:
    """With the code that says so; the operator goes on with it."""
    hold = Hold(HoldReason.UNMEASURABLE, operator.began - timedelta(minutes=5), "no evidence")
    operator.say(Phase.PREPARING, hold=hold)
    assert site.deploy(wish(), Watching(hold_timeout_seconds=60)) is ExitCode.UNMEASURABLE


def test_a_missing_service_is_named_before_anything_is_written(site: ClusterSite, world: World) -> None:
    """With the way to make one."""
    world.delete(INFERENCE_SERVICES, NAMESPACE, "iris")
    with pytest.raises(BadInput, match="no InferenceService iris in namespace team-a") as refused:
        site.deploy(wish(), WATCHING)
    assert "kubectl apply" in refused.value.next_step
    assert ("rollouts", NAMESPACE, "iris") not in world.objects


def test_a_missing_operator_is_said(site: ClusterSite) -> None:
    """A resource that nobody takes up is not waited for for ever."""
    with pytest.raises(Transient, match="no operator has taken it up") as refused:
        site.deploy(wish(), WATCHING)
    assert "helm install" in refused.value.next_step


def test_a_cluster_that_is_lost_for_a_moment_is_waited_for(
    site: ClusterSite, operator: Operator, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """The trouble is said once."""
    operator.say(Phase.PREPARING, "It begins.")
    pauses = iter(range(100))

    def sleep(seconds: float) -> None:
        at = next(pauses)
        world.fail = Transient("no cluster answers") if 0 < at < 5 else None
        if at == 5:
            operator.say(Phase.PROMOTED, "All traffic.")
        if world.fail is None:
            operator.sleep(seconds)

    site = ClusterSite(world, NAMESPACE, sleep=sleep, monotonic=lambda: operator.seconds)
    assert site.deploy(wish(), WATCHING) is ExitCode.OK
    assert capsys.readouterr().err.count("no cluster answers") == 1


def test_a_rollout_that_is_deleted_ends_the_look(site: ClusterSite, operator: Operator, world: World) -> None:
    """With what that means for the traffic."""
    site = ClusterSite(world, NAMESPACE, sleep=lambda _: world.delete(ROLLOUTS, NAMESPACE, "iris"))
    with pytest.raises(BadInput, match="deleted"):
        site.deploy(wish(), WATCHING)


def test_ctrl_c_leaves_it_to_the_operator(world: World, operator: Operator, capsys: pytest.CaptureFixture[str]) -> None:
    """And says how to look again, with the flags that lead there."""

    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    site = ClusterSite(world, NAMESPACE, " --context prod", sleep=interrupted)
    assert site.deploy(wish(), WATCHING) is ExitCode.INTERRUPTED
    assert "relevo status iris --context prod -w" in capsys.readouterr().err


# -- orders ------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def running(operator: Operator, world: World) -> None:
    """A rollout at its first step."""
    world.apply(
        ROLLOUTS,
        NAMESPACE,
        {"metadata": {"name": "iris"}, "spec": {"target": "iris", "storageUri": "oci://dev.local/iris:2"}},
    )
    operator.say(Phase.SHIFTING, "First step.", step=1)
    operator.step()


@pytest.mark.usefixtures("running")
def test_an_order_is_an_annotation_with_a_growing_number(
    site: ClusterSite, operator: Operator, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """The operator hears each once; what it did is printed."""
    operator.say(Phase.SHIFTING, "Paused.", step=1)
    assert site.order("iris", "pause", to_the_end=False, output=Output.TABLE) is ExitCode.OK
    operator.say(Phase.SHIFTING, "Resumed.", step=1)
    site.order("iris", "resume", to_the_end=False, output=Output.TABLE)
    assert [(o["verb"], o["seq"]) for o in operator.heard] == [("pause", 1), ("resume", 2)]
    assert json.loads(stored(world)["metadata"]["annotations"][COMMAND])["by"]
    assert "Paused." in capsys.readouterr().err


@pytest.mark.usefixtures("running")
def test_a_rollback_waits_for_the_end(site: ClusterSite, operator: Operator) -> None:
    """Traffic is back when the command returns."""
    operator.say(Phase.ROLLING_BACK, "Ordered.")
    operator.say(Phase.ROLLED_BACK, "Back.")
    assert site.order("iris", "rollback", to_the_end=True, output=Output.TABLE) is ExitCode.ROLLED_BACK


@pytest.mark.usefixtures("running")
def test_a_refused_order_is_bad_input(site: ClusterSite, operator: Operator) -> None:
    """With the operator's reason printed."""
    operator.reject = True
    operator.say(Phase.SHIFTING, "There is nothing to resume.", step=1)
    assert site.order("iris", "resume", to_the_end=False, output=Output.TABLE) is ExitCode.BAD_INPUT


@pytest.mark.usefixtures("running")
def test_an_order_that_nobody_hears_is_said(site: ClusterSite) -> None:
    """An operator that is gone is not waited for for ever."""
    with pytest.raises(Transient, match="has not carried it out"):
        site.order("iris", "pause", to_the_end=False, output=Output.TABLE)


@pytest.mark.usefixtures("running")
def test_an_order_is_written_though_the_operator_writes_all_the_time(
    site: ClusterSite, operator: Operator, world: World
) -> None:
    """A conflict with a tick is no reason to ask the human again."""
    patch, conflicts = world.patch, iter([True, True, False, False])

    def busy(*arguments: Any) -> Any:
        if next(conflicts):
            raise Conflict("the object has been modified")
        return patch(*arguments)

    world.patch = busy  # type: ignore[method-assign]
    operator.say(Phase.SHIFTING, "Paused.", step=1)
    assert site.order("iris", "pause", to_the_end=False, output=Output.TABLE) is ExitCode.OK


def test_nothing_to_order(site: ClusterSite, operator: Operator) -> None:
    """The sentences are those of one machine."""
    with pytest.raises(BadInput, match="nothing to roll back, there has been no rollout"):
        site.order("iris", "rollback", to_the_end=True, output=Output.TABLE)
    operator.promote()
    site.deploy(wish(), WATCHING)
    with pytest.raises(BadInput, match="has ended") as refused:
        site.order("iris", "rollback", to_the_end=True, output=Output.TABLE)
    assert "relevo undo" in refused.value.next_step


# -- retry, undo -------------------------------------------------------------------------------------------------------------------


def test_retry_begins_a_rolled_back_one_anew(site: ClusterSite, operator: Operator, world: World) -> None:
    """By an order; the spec stays as it is."""
    operator.roll_back()
    site.deploy(wish(), WATCHING)
    operator.promote()
    assert site.retry(None, WATCHING) is ExitCode.OK
    with pytest.raises(BadInput, match="no rolled back rollout"):
        site.retry(None, WATCHING)


def test_undo_brings_the_model_before_back(site: ClusterSite, operator: Operator, world: World) -> None:
    """At once, with no comparison; the rest of the spec waits for the next version."""
    operator.promote()
    site.deploy(wish(), WATCHING)
    world.apply(INFERENCE_SERVICES, NAMESPACE, service(uri="oci://dev.local/iris:2"))
    operator.promote_at_once()
    assert site.undo(None, None, WATCHING) is ExitCode.OK
    spec = stored(world)["spec"]
    assert (spec["storageUri"], spec["strategy"]) == ("oci://dev.local/iris:1", {"immediate": {}})
    assert spec["load"] == {"usersFrom": 12, "usersTo": 20}


def test_undo_to_a_revision_asks_knative_what_it_served(site: ClusterSite, operator: Operator, world: World) -> None:
    """Also where no rollout has been."""
    annotations = {"internal.serving.kserve.io/storage-initializer-sourceuri": "oci://dev.local/iris:0"}
    world.put(REVISIONS, NAMESPACE, {"metadata": {"name": "iris-predictor-00003", "annotations": annotations}})
    operator.promote_at_once()
    assert site.undo("iris", 3, WATCHING) is ExitCode.OK
    assert stored(world)["spec"]["storageUri"] == "oci://dev.local/iris:0"
    with pytest.raises(BadInput, match="no revision iris-predictor-00009"):
        site.undo("iris", 9, WATCHING)


def test_there_is_nothing_to_undo(site: ClusterSite, operator: Operator) -> None:
    """Before anything was promoted."""
    with pytest.raises(BadInput, match="nothing to undo"):
        site.undo("iris", None, WATCHING)


def test_a_modelcar_names_its_image() -> None:
    """Where KServe wrote no annotation."""
    containers = [{"name": "kserve-container", "image": "x"}, {"name": "modelcar", "image": "dev.local/iris:4"}]
    assert revision_uri({"metadata": {"name": "r"}, "spec": {"containers": containers}}) == "oci://dev.local/iris:4"
    with pytest.raises(BadInput, match="does not say"):
        revision_uri({"metadata": {"name": "r"}, "spec": {"containers": containers[:1]}})


# -- what is known -----------------------------------------------------------------------------------------------------------------


def test_the_view_is_drawn_from_the_stored_state(site: ClusterSite, operator: Operator) -> None:
    """Phase, step and time are those of the last tick, not of now."""
    operator.promote()
    site.deploy(wish(), WATCHING)
    journal = site.journal()
    record = journal.latest("iris")
    assert record is not None
    snapshot = journal.snapshot(record)
    assert snapshot is not None
    assert (snapshot.phase, snapshot.target, snapshot.steps) == ("Promoted", "iris", (5, 12, 31, 50))
    assert (snapshot.at - snapshot.started_at).total_seconds() == 2
    assert journal.neglect(record) == ""


def test_the_record_beside_the_resource_is_taken_if_it_is_of_this_run(
    site: ClusterSite, operator: Operator, world: World
) -> None:
    """Its lines have the numbers; those of an earlier run would tell another story."""
    operator.promote()
    site.deploy(wish(), WATCHING)
    journal = site.journal()
    uid = journal.find()[0].state.uid
    assert [t.message for t in journal.transitions(uid)] == ["It begins.", "First step.", "All traffic."]
    line = {"at": "2026-01-01T12:00:00+00:00", "who": "relevo", "rule": "start", "before": "Pending", "after": "Preparing",
            "message": "From the record.", "facts": {"limit_against": 20.0}}  # fmt: skip
    data = {"uid": uid, "transitions.json": json.dumps([line]), "samples.json": json.dumps([{"at": "x"}])}
    world.put(CONFIG_MAPS, NAMESPACE, {"metadata": {"name": "iris-record"}, "data": data})
    assert [t.facts for t in journal.transitions("iris")] == [{"limit_against": 20.0}]
    assert journal.samples(uid) == [{"at": "x"}]
    world.apply(CONFIG_MAPS, NAMESPACE, {"metadata": {"name": "iris-record"}, "data": {"uid": "iris-older"}})
    assert journal.samples(uid) == []


def test_a_rollout_that_nobody_looks_at_is_said(world: World, operator: Operator) -> None:
    """Taken up never, or not for a minute: both are said, with where to look."""
    journal = ClusterJournal(world, NAMESPACE)
    world.apply(
        ROLLOUTS,
        NAMESPACE,
        {
            "metadata": {"name": "iris", "creationTimestamp": "2026-01-01T12:00:00Z"},
            "spec": {"target": "iris", "storageUri": "oci://x/y:2"},
        },
    )
    assert "No operator has taken it up" in journal.neglect(journal.find()[0])
    operator.say(Phase.SHIFTING, step=1)
    operator.step()
    assert journal.neglect(journal.find()[0]) == ""
    assert journal.driver(journal.find()[0]) == "operator"


def test_which_one_is_meant(world: World, operator: Operator) -> None:
    """The only one there is, a named one, or a question."""
    journal = ClusterJournal(world, NAMESPACE)
    assert journal.known(None) == "iris"
    world.put(INFERENCE_SERVICES, NAMESPACE, service("digits"))
    with pytest.raises(BadInput, match="digits, iris"):
        journal.known(None)
    with pytest.raises(BadInput, match="no InferenceService wine"):
        journal.known("wine")
    with pytest.raises(BadInput, match="has no InferenceService"):
        ClusterJournal(world, "empty").known(None)


def test_what_is_served_is_shown_where_there_has_been_no_rollout(world: World, operator: Operator) -> None:
    """Revision, model and readiness."""
    idle = ClusterJournal(world, NAMESPACE).idle("iris")
    assert (idle["revision"], idle["storageUri"], idle["ready"]) == (
        "iris-predictor-00001",
        "oci://dev.local/iris:1",
        True,
    )


@pytest.mark.parametrize(
    ("where", "cluster"),
    [
        (Where(), False),
        (Where(PlatformName.LOCAL), False),
        (Where(PlatformName.KSERVE), True),
        (Where(context="x"), True),
        (Where(namespace="x"), True),
    ],
)
def test_a_context_or_a_namespace_names_a_cluster(where: Where, cluster: bool) -> None:
    """Else it is this machine, unless the platform says otherwise."""
    assert where.is_cluster is cluster


def test_options_that_contradict_one_another() -> None:
    """Are refused, not guessed."""
    with pytest.raises(BadInput, match="local"):
        _ = Where(PlatformName.LOCAL, context="x").is_cluster
