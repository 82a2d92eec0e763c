"""Samples become series without ever inventing a number."""

import math
from datetime import timedelta

import numpy as np

from relevo.report.series import MOST_POINTS, sliding_rate, timeline
from tests.unit.report.recorded import snapshots
from tests.unit.rollout.world import START, World, make_spec


def test_no_samples_give_an_empty_timeline():
    """A rollout that was never looked at has a course of length 0, not an error."""
    line = timeline([])
    assert len(line) == 0
    assert line.phases == ()
    assert line.holds == ()


def test_what_a_sample_lacks_is_a_gap():
    """A sample without arms or checks, or with text for a number, gives NaN there and nothing else changes."""
    samples = [
        {"at": START.isoformat()},
        {"at": (START + timedelta(seconds=2)).isoformat(), "weight_live_percent": "x", "e_against": 2},
    ]
    line = timeline([*samples, {"phase": "Shifting"}, {"at": "yesterday"}])
    assert line.seconds.tolist() == [0, 2]
    assert math.isnan(line.weight_live[1])
    assert math.isnan(line.counts["candidate"]["requests"][1])
    assert line.against["together"][1] == 2


def test_a_real_course_has_its_phases_in_order():
    """The spans cover the rollout without a gap, in the order in which the phases came."""
    line = timeline([s.sample() for s in snapshots(World(make_spec()))])
    assert [s.name for s in line.phases] == ["Preparing", "Shadowing", "Shifting", "Promoting", "Promoted"]
    assert all(a.end == b.begin for a, b in zip(line.phases, line.phases[1:], strict=False))
    assert line.weight_live[-1] == 100, "after promotion the candidate has all the traffic"


def test_a_hold_is_a_span_of_its_own():
    """The time in which a source was silent is shown as held."""

    def silence(world: World, tick: int) -> None:
        world.silent = {"locust"} if 50 <= tick < 80 else set()

    line = timeline([s.sample() for s in snapshots(World(make_spec()), before_tick=silence)])
    (hold,) = line.holds
    assert 20 < hold.begin < hold.end < 36


def test_many_samples_are_thinned_but_no_change_is_lost():
    """However long a rollout takes, its page stays light, and a weight that stood for one tick is still in it."""
    samples = [
        {
            "at": (START + timedelta(seconds=i)).isoformat(),
            "phase": "Shifting",
            "weight_live_percent": 31 if i == 7777 else 5,
        }
        for i in range(20_000)
    ]
    line = timeline(samples)
    assert len(line) <= MOST_POINTS + 6
    assert 31 in line.weight_live
    assert line.seconds[-1] == 19_999


def test_a_sliding_rate_counts_only_its_window():
    """Ten bad of a hundred in the last window are 10 %, whatever came before."""
    seconds = np.arange(5.0)
    bad, total = np.array([0, 50, 50, 55, 60.0]), np.array([0, 50, 50, 100, 150.0])
    assert sliding_rate(bad, total, seconds, 2.0)[-1] == 0.1


def test_a_sliding_rate_needs_enough_events_and_growing_counts():
    """Below the least number of events, and where counts fall, there is a gap instead of a wild number."""
    seconds = np.arange(3.0)
    assert np.isnan(sliding_rate(np.array([0, 1, 1.0]), np.array([0, 5, 6.0]), seconds, 5.0)).all()
    assert np.isnan(sliding_rate(np.array([9, 9, 2.0]), np.array([100, 200, 300.0]), seconds, 5.0)[-1])
