"""Counting."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from loadtests.answers import Answer
from loadtests.tally import Tally

answers = st.one_of(
    st.sampled_from(["0", "1", "2"]).map(lambda name: Answer(predicted=name)), st.just(Answer(problem="HTTP 500"))
)
events = st.tuples(
    st.sampled_from(["", "u/1"]),
    st.sampled_from(["a", "b"]),
    answers,
    st.floats(0, 1e6),
    st.sampled_from([None, "0", "1"]),
)


def fill(tally: Tally, history: list[tuple[str, str, Answer, float, str | None]]) -> None:
    for event in history:
        tally.record(*event)
    for first, second in pairwise(history):
        tally.record_pair("u/shadow", first[2], second[2])


@given(st.lists(events))
def test_every_request_is_an_error_or_has_a_latency_and_a_class(
    history: list[tuple[str, str, Answer, float, str | None]],
) -> None:
    """Requests are errors plus answers; each answer is in the histogram and among the classes, and wrong only if labelled."""
    tally = Tally()
    fill(tally, history)
    counts = tally.counts()
    assert sum(entry["requests"] for entry in counts) == len(history)
    for entry in counts:
        answered = entry["requests"] - entry["errors"]
        assert answered == sum(entry["latency"]) == sum(entry["predictions"].values())
        assert 0 <= entry["wrong"] <= entry["labelled"] <= answered


@given(st.lists(st.lists(events), max_size=5))
def test_workers_counts_add_up_to_the_same(parts: list[list[tuple[str, str, Answer, float, str | None]]]) -> None:
    """What workers hand over in parts and the master adds up is what one process would have counted."""
    alone, worker, master = Tally(), Tally(), Tally()
    for part in parts:
        fill(alone, part)
        fill(worker, part)
        master.merge(worker.take())
    assert master.counts() == alone.counts()
    assert master.pairs() == alone.pairs()
    assert worker.take() == {"counts": [], "pairs": []}


def test_a_pair_counts_only_when_both_answered() -> None:
    """Agreement is between two predictions: where one is missing there is nothing to compare."""
    tally = Tally()
    zero, one, none = Answer(predicted="0"), Answer(predicted="1"), Answer(problem="HTTP 500")
    for pair in ((zero, zero), (zero, one), (none, one), (one, none), (none, none)):
        tally.record_pair("u/shadow", *pair)
    assert tally.pairs() == [{"label": "u/shadow", "compared": 2, "disagreed": 1}]


def test_ever_new_classes_do_not_fill_the_memory() -> None:
    """A model that predicts numbers without end is counted in full, under a bounded number of names."""
    tally = Tally()
    for number in range(2000):
        tally.record("", "a", Answer(predicted=str(number)), 1.0, None)
    predictions = tally.counts()[0]["predictions"]
    assert sum(predictions.values()) == 2000
    assert len(predictions) <= 257
