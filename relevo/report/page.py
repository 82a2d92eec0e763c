"""The report's page: gathers a rollout's verdict, numbers, plots, audit log, spec and models, and fills the template with them.

`templates/report.html.j2` lays it out and escapes everything that comes from users. `contents` words the parts.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any, Protocol

import jinja2
import yaml
from markupsafe import Markup

from relevo import __version__
from relevo.errors import Permanent
from relevo.packaging import Package
from relevo.report import contents
from relevo.report.series import Timeline, timeline
from relevo.rollout import wording
from relevo.rollout.decision import Transition
from relevo.rollout.observation import Arm
from relevo.rollout.state import RolloutState
from relevo.store.rollouts import Record

__all__ = ["Archive", "write_report"]


class Archive(Protocol):
    """Where stored rollouts are read: `RolloutStore` on one machine, the Rollout resources of a cluster."""

    def get(self, uid: str) -> Record:
        """Read one rollout. Raises `Permanent` where there is none."""

    def latest(self, target: str | None = None) -> Record | None:
        """The rollout that began last, of one target or of all."""

    def find(self, target: str | None = None) -> Sequence[Record]:
        """Rollouts, newest first."""

    def transitions(self, uid: str) -> list[Transition]:
        """A rollout's audit log, oldest first."""

    def samples(self, uid: str) -> list[dict[str, Any]]:
        """What the ticks saw, oldest first."""


def write_report(
    store: Archive,
    uid: str,
    folder: Path,
    stable: Package | None = None,
    candidate: Package | None = None,
    *,
    now: datetime | None = None,
) -> Path:
    """Write the report of a rollout, ended or not, as one self-contained HTML file in `folder`; answer its path.

    `stable` and `candidate` are the two model packages; without them the page says that it does not know what changed.
    `now` is what the page gives as its time.

    Raises:
        Permanent: there is no such rollout, or the file cannot be written.
    """
    record = store.get(uid)
    page = _render(record, store.transitions(uid), store.samples(uid), stable, candidate, now or datetime.now(UTC))
    path = folder / f"{uid}.html"
    partial = path.with_suffix(".html.partial")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A browser that reloads the page of a running rollout never sees half of it.
        partial.write_text(page, encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise Permanent(
            f"report {path}: cannot be written ({error.strerror})",
            next_step="Name another folder with `relevo report --folder`.",
        ) from error
    return path


def _render(
    record: Record,
    transitions: list[Any],
    samples: list[dict[str, Any]],
    stable: Package | None,
    candidate: Package | None,
    now: datetime,
) -> str:
    state, rollout = record.state, record.rollout
    line = timeline(samples)
    facts = contents.facts_to_show(record, transitions)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("relevo.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"e_value": wording.e_value, "ratio": wording.ratio, "share": _share}
    return environment.get_template("report.html.j2").render(
        version=__version__,
        style=Markup(resources.files("relevo.report").joinpath("templates/report.css").read_text(encoding="utf-8")),
        now=now,
        target=rollout.spec.target,
        name=rollout.metadata.name,
        state=state,
        stable_uri=state.stable_uri,
        candidate_uri=rollout.spec.storage_uri,
        verdict=contents.verdict_of(record),
        tiles=contents.tiles(record, now),
        plots=_plots(state, line, facts),
        samples=len(line),
        checks=contents.checks(facts),
        facts=facts,
        log=contents.log(transitions, state.started_at),
        spec=yaml.safe_dump(rollout.model_dump(mode="json", by_alias=True), sort_keys=False, allow_unicode=True),
        models=contents.models(stable, candidate),
    )


def _plots(state: RolloutState, line: Timeline, facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Title, caption and drawing of each plot that there is something to draw for."""
    from relevo.report import plots  # brings matplotlib, which no other command of the program needs

    drawn: list[dict[str, Any]] = []

    def add(title: str, caption: str, drawing: Markup) -> None:
        drawn.append({"title": title, "caption": caption, "drawing": drawing})

    window = f"{plots.window_seconds(line):g} s"
    against, proof = facts.get("limit_against"), facts.get("limit_for")
    if len(line) >= 2:
        add(
            "Weight",
            "The candidate's share of all requests. Shaded: every second phase; hatched: held.",
            plots.weights(line),
        )
        add(
            "Errors",
            f"Failed requests. Strong: of all so far; pale: of the last {window}, where they are 20 or more.",
            plots.errors(line),
        )
        add("Latency", "Over all requests so far, as the load generator saw them.", plots.latency(line))
        if against and line.against:
            caption = "Evidence that the candidate is worse. 1 says nothing; “together” decides. Drawn up to 50 times the limit."
            add("Evidence against it", caption, plots.evidence(line, line.against, against, against=True))
        if proof and line.proof:
            caption = "Evidence that it is no worse by its margin; every gated check needs the limit. Drawn up to 50 times that."
            add("Evidence for it", caption, plots.evidence(line, line.proof, proof, against=False))
    predictions = {arm: contents.counts_of(state, arm).predictions for arm in Arm}
    if any(sum(p.values()) for p in predictions.values()):
        caption = "The share of each predicted class in all answers, shadowed ones included."
        add("Predictions", caption, plots.mix(predictions[Arm.STABLE], predictions[Arm.CANDIDATE]))
    return drawn


def _share(counts: dict[str, int]) -> str:
    """Bad events, all, and the share: "31 of 412 (7.52 %)"."""
    return f"{counts['bad']:,} of {counts['of']:,} ({wording.percent(counts['bad'], counts['of'])})"
