"""The terminal view says where, whether it is safe, why and what next: in 80 columns, without colour, and in ASCII."""

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from relevo.cli.view import render
from relevo.rollout.commands import Verb
from tests.unit.report.recorded import snapshots
from tests.unit.rollout.world import Behaviour, World, make_spec


def text_of(snapshot, width=80, encoding="utf-8", **extras):
    """What stands on the screen."""
    buffer = io.BytesIO()
    file = io.TextIOWrapper(buffer, encoding=encoding, write_through=True)
    Console(file=file, width=width, color_system=None).print(render(snapshot, **extras))
    return buffer.getvalue().decode(encoding)


@pytest.fixture(scope="module")
def healthy():
    """All looks at a healthy rollout."""
    return snapshots(World(make_spec()))


@pytest.fixture(scope="module")
def bad():
    """All looks at a rollout that is rolled back, with no shadow stage."""
    return snapshots(World(make_spec(shadow={"enabled": False}), candidate=Behaviour(errors=0.3)))


def of_phase(looks, phase):
    """The last look at a phase."""
    return [s for s in looks if s.phase == phase][-1]


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_wider_than_the_terminal_and_nothing_is_cut(healthy, bad, width):
    """At 80 columns and above every line fits, and no word ends in an ellipsis."""
    for snapshot in healthy[::6] + healthy[-2:] + bad:
        text = text_of(snapshot, width, locust_url="http://127.0.0.1:8089", requests_per_second=1234.5)
        assert max(map(len, text.splitlines())) <= width
        assert "…" not in text


def test_shifting_answers_the_four_questions(healthy):
    """Step, weights, both arms' numbers, every check with its limits, and what comes next."""
    text = text_of(of_phase(healthy, "Shifting"), locust_url="http://127.0.0.1:8089", requests_per_second=212.4)
    assert "Shifting 4/4" in text
    assert "5 12 31 [50] %" in text
    assert re.search(r"50 %  \(set 50, seen \d+\.\d\)", text)
    assert "20 users, 212 requests/s" in text
    assert re.search(r"stable   00001 +[\d,]+ +0\.\d\d % +\d+\.\d ms", text)
    for check in ("errors", "latency", "predictions", "accuracy", "together"):
        assert re.search(rf"^ {check} ", text, flags=re.MULTILINE)
    assert "limit 20" in text
    assert "next: promotion after" in text
    assert "pause: relevo pause iris" in text


def test_shadowing_tells_pairs(healthy):
    """While shadowing, the rows compared and those answered differently are told."""
    assert re.search(
        r"shadow +\d+ rows sent to both, \d+ answered differently \(\d\.\d %\)", text_of(of_phase(healthy, "Shadowing"))
    )


def test_a_hold_is_prominent():
    """A held rollout has its whole reason in a box of its own, and the place where it is held."""

    def silence(world, tick):
        world.silent = {"locust"} if tick >= 50 else set()

    held = snapshots(World(make_spec()), 80, silence)[-1]
    text = text_of(held)
    assert "Held in Shifting" in text
    assert "HELD" in text
    assert "no evidence from locust" in text
    assert "rollback: relevo rollback iris" in text


def test_a_rollback_says_why(bad):
    """The sentence of the verdict, the failed check, and where all traffic goes."""
    text = text_of(bad[-1])
    assert "ROLLED BACK" in text
    assert "✗ fail" in text
    assert "✗ over limit" in text
    assert re.search(
        r"errors\. iris-predictor-00002 failed \d+ of \d+ requests", " ".join(text.replace("│", " ").split())
    )
    assert "all traffic goes to iris-predictor-00001" in text
    assert "pause" not in text


def test_a_promotion_gives_all_traffic_to_the_new_revision(healthy):
    """After promotion the bar is full, though the proxy knows no candidate any more."""
    text = text_of(healthy[-1])
    assert "PROMOTED" in text
    assert "100 %  all traffic goes to iris-predictor-00002" in text


def test_a_source_that_is_silent_is_told_until_the_verdict(healthy):
    """After that its load is gone, as it should be."""
    said = "no answer from locust"
    assert said in text_of(replace(of_phase(healthy, "Shifting"), silent=("locust",)))
    assert said not in text_of(replace(of_phase(healthy, "Promoted"), silent=("locust",)))


def test_inconclusive_is_not_told_as_a_failure():
    """At its limit the verdict is the word inconclusive, with no cross."""
    text = text_of(snapshots(World(make_spec(limits={"maxSeconds": 8})))[-1])
    assert "INCONCLUSIVE, THE STABLE REVISION STAYS" in text
    assert "✗" not in text


def test_an_ordered_rollback_names_who_ordered_it():
    """What a human ordered is shown as theirs."""
    world = World(make_spec())

    def give_up(world, tick):
        if tick == 20:
            world.order(Verb.ROLLBACK)

    assert "someone ordered" in text_of(snapshots(world, before_tick=give_up)[-1])


def test_plain_ascii_is_enough(healthy, bad):
    """On a terminal that knows only ASCII every view is printed, words and marks included."""
    for snapshot in healthy[::6] + healthy[-2:] + bad:
        text_of(
            replace(snapshot, reason=snapshot.reason and f"{snapshot.reason} ü"),
            encoding="ascii",
            requests_per_second=1.0,
        )
    assert "x fail" in text_of(bad[-1], encoding="ascii")


def test_evidence_fills_its_bar_at_the_limit(healthy):
    """The bar is empty at an e-value of 1 or less and full at the limit or above, in between on a log scale."""
    snapshot = of_phase(healthy, "Shifting")
    lengths = []
    for e in (0.0, 1.0, 20**0.5, 20.0, 1e300):
        check = replace(snapshot.checks[0], e_against=e, e_for=None)
        row = next(x for x in text_of(replace(snapshot, checks=(check,))).splitlines() if x.startswith(" errors"))
        lengths.append(row.count("█"))
    empty, still_empty, half, full, overfull = lengths
    assert empty == still_empty == 0
    assert 0 < half < full == overfull


def test_a_candidate_without_a_revision_yet(healthy):
    """Before the platform has named the candidate the view stands, with words in its place."""
    first = replace(
        healthy[0], arms=(healthy[0].arms[0], replace(healthy[0].arms[1], revision="")), checks=(), steps=()
    )
    assert "(no revision yet)" in text_of(first)


def test_a_long_ramp_is_told_by_numbers(healthy):
    """Where the weights of all steps do not fit, their number does."""
    text = text_of(replace(of_phase(healthy, "Shifting"), steps=tuple(range(1, 60)), step=17))
    assert "Shifting 17/59" in text
    assert "[17]" not in text
