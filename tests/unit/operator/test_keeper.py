"""What is stored when, and whose word counts."""

from __future__ import annotations

import copy

import pytest

from relevo.errors import Conflict
from relevo.operator.keeper import COUNTS_SECONDS, HELD_COUNTS_SECONDS, Keeper
from relevo.operator.status import read_run, write_status
from relevo.platforms.cluster_api import ROLLOUTS
from relevo.reconcile.tick import Reconciler
from relevo.store.rollouts import Record
from tests.unit.operator.world import Paper


@pytest.fixture
def paper() -> Paper:
    paper = Paper()
    paper.create(shadow={"enabled": False}, strategy={"canary": {"weights": [5, 50], "stepSeconds": 600}})
    paper.run(until="Shifting")
    paper.run(COUNTS_SECONDS + 1)
    return paper


def keeper_of(paper: Paper) -> Keeper:
    return paper.stewards()[0]._keeper


def tick(paper: Paper) -> None:
    """One tick, past the agenda."""
    steward = paper.stewards()[0]
    reconciler, keeper = steward._reconciler, steward._keeper
    assert isinstance(reconciler, Reconciler)
    assert keeper.run is not None
    reconciler.tick(Record(steward._rollout(keeper.run), keeper.run.state, 0, "", 0.0, paper.now))


def writes_during(paper: Paper, seconds: float) -> int:
    before = paper.api.status_writes
    paper.run(seconds)
    return paper.api.status_writes - before


def test_counts_are_written_now_and_then(paper: Paper) -> None:
    """As often as COUNTS_SECONDS says, though it is looked at five times as often."""
    assert 20 / COUNTS_SECONDS - 3 <= writes_during(paper, 20) <= 20 / COUNTS_SECONDS + 1


def test_counts_of_a_held_rollout_are_written_rarely(paper: Paper) -> None:
    """Traffic goes on while it is paused."""
    paper.edit(paused=True)
    paper.run(until="Held")
    paper.run(5)
    period = HELD_COUNTS_SECONDS * keeper_of(paper).resource.spread
    assert 5 <= writes_during(paper, 6 * period) <= 6


def test_rollouts_that_were_held_together_are_not_written_together() -> None:
    """A thousand at once would keep the API server from everything else."""
    paper = Paper()
    names = [f"model-{number}" for number in range(8)]
    for name in names:
        paper.create(
            name, target=name, shadow={"enabled": False}, strategy={"canary": {"weights": [5], "stepSeconds": 600}}
        )
    paper.run(5)
    for name in names:
        paper.edit(name, paused=True)
    paper.run(HELD_COUNTS_SECONDS, step=0.1)
    changes = paper.changes(ROLLOUTS)
    paper.run(4 * HELD_COUNTS_SECONDS, step=0.1)
    written = {name: [at for changed, at in changes if changed == name] for name in names}
    assert all(2 <= len(times) <= 6 for times in written.values())
    last = sorted(times[-1] for times in written.values())
    assert last[-1] - last[0] > 0.2 * HELD_COUNTS_SECONDS
    assert len({round(at) for at in last}) >= len(names) / 2


def test_a_change_of_label_is_written_at_once(paper: Paper) -> None:
    """Who takes over must not read across a time in which the split was not in force."""
    paper.service().label = ""
    before = paper.api.status_writes
    tick(paper)
    assert paper.api.status_writes == before + 1


def test_an_older_version_is_no_news(paper: Paper) -> None:
    """A watch may be late."""
    late = copy.deepcopy(paper.body())
    paper.run(10)
    run = keeper_of(paper).run
    keeper_of(paper).take_over(late)
    assert keeper_of(paper).run is run


def test_what_somebody_else_wrote_counts(paper: Paper) -> None:
    """A newer status that is not ours takes the place of what we remember."""
    keeper = keeper_of(paper)
    run = keeper.run
    assert run is not None
    body = copy.deepcopy(paper.body())
    body["status"]["writes"] += 1
    body["metadata"]["resourceVersion"] = str(int(body["metadata"]["resourceVersion"]) + 100)
    keeper.take_over(body)
    assert keeper.run is not run
    assert keeper.run == read_run(body["status"])


def test_an_edit_by_people_does_not_lose_counts(paper: Paper) -> None:
    """Their edit makes a newer version with our own status in it: what we have counted beyond it stays."""
    keeper = keeper_of(paper)
    paper.now = paper.now.replace(microsecond=0)
    tick(paper)
    run = keeper.run
    body = copy.deepcopy(paper.body())
    body["metadata"]["resourceVersion"] = str(int(body["metadata"]["resourceVersion"]) + 100)
    body["metadata"]["labels"] = {"team": "a"}
    keeper.take_over(body)
    assert keeper.run is run
    assert keeper.resource.version == body["metadata"]["resourceVersion"]


def test_after_a_time_without_the_lease_a_tick_writes_before_it_acts(paper: Paper) -> None:
    """So that a status which another replica has written meanwhile is a conflict, not a thing overlooked."""
    tick(paper)
    before = paper.api.status_writes
    tick(paper)
    assert paper.api.status_writes == before
    keeper_of(paper).distrust()
    tick(paper)
    assert paper.api.status_writes == before + 1


def test_without_the_lease_nothing_is_stored(paper: Paper) -> None:
    """And the tick ends there."""
    paper.leads = False
    with pytest.raises(Conflict, match="another replica"):
        tick(paper)


def test_a_status_is_read_back_as_it_was(paper: Paper) -> None:
    """All that a run has to remember goes through the resource."""
    keeper = keeper_of(paper)
    run = keeper.run
    assert run is not None
    again = read_run(write_status(run, keeper.resource, None, {}, paper.now))
    assert again is not None
    assert (again.state, again.number, again.pinned, again.history) == (run.state, run.number, run.pinned, run.history)
