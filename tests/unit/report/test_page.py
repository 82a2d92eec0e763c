"""The report is one page that says what happened, opens with no network, and survives whatever is in the store."""

import re
from datetime import timedelta
from html.parser import HTMLParser

import pytest

from relevo.errors import Permanent
from relevo.report import page, write_report
from relevo.rollout.commands import Verb
from tests.unit.report.recorded import record
from tests.unit.rollout.world import START, Behaviour, World, make_spec

NOW = START + timedelta(hours=1)


def page_of(home, world, ticks=400, before_tick=None, *, samples=True, drawn=True):
    """The page of a rollout that was just driven; what is only about words goes without the drawings, which take time."""
    store = record(home, world, ticks, before_tick, samples=samples)
    with pytest.MonkeyPatch.context() as patch:
        if not drawn:
            patch.setattr(page, "_plots", lambda *_: [])
        return write_report(store, "u1", home / "reports", now=NOW).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def promoted(tmp_path_factory):
    """A healthy candidate's page."""
    return page_of(tmp_path_factory.mktemp("promoted"), World(make_spec()))


def test_a_promoted_rollout_says_so_on_top(promoted):
    """The verdict stands as a word and a sentence before anything else, and not by its colour alone."""
    assert re.search(r"<h1><span[^>]*>✓</span> Promoted</h1>\s*<p>iris-predictor-00002 is no worse than", promoted)
    assert "This rollout has not ended" not in promoted


def test_a_page_loads_nothing(promoted):
    """No script, and no address that a browser would fetch: namespaces and links within the page only."""
    assert "<script" not in promoted
    assert not re.search(r'(?:src|href)="(?!#)', promoted)
    assert set(re.findall(r"https?://[^\"' <]+", promoted)) <= {
        "http://www.w3.org/1999/xlink",
        "http://www.w3.org/2000/svg",
    }
    assert not re.search(r"url\((?!#|'#|\"#)", promoted)


def test_plots_take_the_pages_colours(promoted):
    """Every colour in a drawing is a variable of the style sheet, so that dark and light both work."""
    drawings = "".join(re.findall(r"<svg.*?</svg>", promoted, flags=re.DOTALL))
    assert promoted.count("<svg") == 6
    assert not re.search(r"#[0-9a-f]{6}", drawings)
    used = set(re.findall(r"var\(--([a-z]+)\)", drawings))
    assert used <= set(re.findall(r"--([a-z]+):", promoted))


def test_identifiers_are_unique(promoted):
    """Six drawings on one page must not borrow each other's clip paths."""
    ids = re.findall(r'\bid="([^"]+)"', promoted)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"url\(#([^)]+)\)", promoted)) | set(re.findall(r'href="#([^"]+)"', promoted)) <= set(ids)


def test_every_element_is_closed(promoted):
    """The page is well formed."""

    class Checker(HTMLParser):
        void = {"meta", "br"}  # noqa: RUF012
        open: list[str] = []  # noqa: RUF012

        def handle_starttag(self, tag, attrs):
            if tag not in self.void:
                self.open.append(tag)

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

    checker = Checker()
    checker.feed(promoted)
    assert checker.open == []


def test_the_same_rollout_gives_the_same_page(tmp_path):
    """A report is a function of what is stored and of the time it is given."""
    store = record(tmp_path, World(make_spec()), 8)
    first, second = (write_report(store, "u1", tmp_path / name, now=NOW).read_bytes() for name in ("a", "b"))
    assert first == second


def test_a_rollback_shows_its_numbers(tmp_path):
    """The check that failed, the counts of both arms, and the audit log's line are on the page."""
    world = World(make_spec(shadow={"enabled": False}), candidate=Behaviour(errors=0.3))
    text = page_of(tmp_path, world, drawn=False)
    assert re.search(r"<h1><span[^>]*>✗</span> Rolled back</h1>", text)
    assert '<td class="mark fail">✗ fail</td>' in text
    assert text.count(world.state.reason.replace("'", "&#39;")) == 2, "once on top, once in the audit log"


def test_a_running_rollout_says_that_it_has_not_ended(tmp_path):
    """A page of a rollout under way shows where it is and that nothing is decided."""
    text = page_of(tmp_path, World(make_spec(shadow={"requests": 300})), 30, drawn=False)
    assert "Shifting 2/4</h1>" in text
    assert "Nothing is decided yet." in text
    assert "This rollout has not ended" in text


def test_a_held_rollout_says_why(tmp_path):
    """The sentence of the hold stands where the verdict would."""

    def silence(world: World, tick: int) -> None:
        world.silent = {"locust"} if tick >= 20 else set()

    text = page_of(tmp_path, World(make_spec()), 45, silence, drawn=False)
    assert "Held</h1>" in text
    assert "no evidence from locust" in text


def test_an_ordered_end_is_not_told_as_evidence(tmp_path):
    """A human's rollback is named as an order."""

    def give_up(world: World, tick: int) -> None:
        if tick == 20:
            world.order(Verb.ROLLBACK)

    assert "Rolled back by order</h1>" in page_of(tmp_path, World(make_spec()), before_tick=give_up, drawn=False)


def test_inconclusive_is_never_told_as_a_regression(tmp_path):
    """At its limit a rollout ends inconclusive: another word, and not the colour of a failure."""
    spec = make_spec(limits={"maxSeconds": 8})
    text = page_of(tmp_path, World(spec), drawn=False)
    assert "Inconclusive, the stable revision stays</h1>" in text
    assert '<div class="verdict waiting">' in text


@pytest.mark.parametrize("ticks", [0, 1, 2, 3])
def test_short_rollouts_have_a_page(tmp_path, ticks):
    """No sample, one, or a few without any request: the page stands and says what it lacks."""
    text = page_of(tmp_path, World(make_spec()), ticks)
    assert ("There is no course to draw" in text) == (ticks < 2)


def test_lost_samples_take_only_the_plots(tmp_path):
    """Without samples the verdict, the checks and the audit log are still told."""
    text = page_of(tmp_path, World(make_spec(shadow={"requests": 300})), 30, samples=False)
    assert "no looks were stored" in text
    assert "Shifting 2/4</h1>" in text
    assert '<td class="mark pass">✓ pass</td>' in text
    assert text.count("<svg") == 1, "the mix comes from the counts"


def test_what_users_name_is_escaped(tmp_path):
    """A model address, a class or a person's name that is markup appears as text."""
    evil = "oci://x/<script>alert(1)</script>&$\\frac"
    world = World(make_spec(storageUri=evil))

    def name_classes(world: World, tick: int) -> None:
        world.labelled = {
            key: type(c)(c.requests, c.errors, c.latency, {"<b>$x": sum(c.predictions.values())}, c.labelled, c.wrong)
            for key, c in world.labelled.items()
        }

    text = page_of(tmp_path, world, 12, name_classes)
    assert "<script" not in text
    assert "<b>$x" not in text
    assert "&lt;script&gt;" in text
    assert "&lt;b&gt;$x" in text


def test_missing_packages_are_told(promoted):
    """Without the packages the page says that it is not known what changed."""
    assert "The stable and the candidate package could not be read here" in promoted


def test_an_unknown_rollout_is_refused(tmp_path):
    """There is no page of a rollout that is not stored."""
    with pytest.raises(Permanent, match="rollout nope"):
        write_report(record(tmp_path, World(make_spec()), 1), "nope", tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    """A file where the folder should be gives a message, not a traceback, and the file stays."""
    store = record(tmp_path, World(make_spec()), 1)
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(Permanent, match="cannot be written") as caught:
        write_report(store, "u1", tmp_path / "taken")
    assert "--folder" in caught.value.next_step
    assert (tmp_path / "taken").read_text() == "mine"
