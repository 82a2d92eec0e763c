"""benchmarks.shift_traffic: when a change took effect is told from the answers, in both directions."""

from __future__ import annotations

from benchmarks.shift_traffic import Change, Sent, _page, effects

CHANGES = [Change(0, 0.0, 0.1), Change(50, 10.0, 10.02)]


def answer(sent_at: float, answered_at: float, change: int, assigned: str = "one", status: int = 200) -> Sent:
    return Sent(sent_at, answered_at, change, assigned, status)


def test_a_change_is_effective_from_its_first_answer_and_until_the_last_older_one_was_sent() -> None:
    """First new: the earliest answer with the new label. Last old: the latest sending that still got an old label, answered whenever."""
    sent = [answer(9.9, 10.5, 0), answer(10.01, 10.2, 0), answer(10.03, 10.04, 1), answer(10.02, 10.3, 1)]
    (effect,) = effects(CHANGES, sent)
    assert abs(effect.returned - 0.02) < 1e-9
    assert abs(effect.first_new - 0.04) < 1e-9
    assert abs(effect.last_old - 0.01) < 1e-9


def test_a_straggler_of_two_changes_ago_counts_as_old() -> None:
    """The last old request is of any older split, not only of the one before."""
    changes = [*CHANGES, Change(100, 20.0, 20.1)]
    sent = [answer(0.0, 0.1, 0), answer(10.1, 10.2, 1), answer(20.5, 20.6, 0), answer(20.2, 20.3, 2)]
    assert abs(effects(changes, sent)[1].last_old - 0.5) < 1e-9


def test_failed_astray_and_unlabelled_requests_are_counted_and_spoil_it() -> None:
    """One request that failed, went to a revision without weight, or bears no label: each is told and is a failure of the benchmark."""
    good = [answer(1, 1.1, 0, "one"), answer(11, 11.1, 1, "two")]
    page, fine = _page(CHANGES, good, ("one", "two"), "c")
    assert fine
    assert "0 failed, 0 went to a revision without weight, 0 answers had no label" in page
    for bad in (answer(2, 2.1, 0, "two"), answer(2, 2.1, 1, "one", status=503), answer(2, 2.1, -1, "one")):
        assert not _page(CHANGES, [*good, bad], ("one", "two"), "c")[1]
