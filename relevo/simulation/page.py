"""The page of a simulation: one self-contained HTML file with the table, the plots, the warnings and the policy."""

from __future__ import annotations

import os
from pathlib import Path

import jinja2
import yaml
from markupsafe import Markup

from relevo.errors import Permanent
from relevo.rollout.spec import Rollout
from relevo.simulation.characteristics import Characteristics
from relevo.simulation.traffic import Traffic

__all__ = ["write_page"]


def write_page(
    path: Path,
    rollout: Rollout,
    traffic: Traffic,
    result: Characteristics,
    warnings: list[str],
    *,
    seed: int,
    style: str,
) -> Path:
    """Write the page. `style`: the style sheet it is shown with.

    Raises Permanent: the file cannot be written.
    """
    from relevo.simulation import plots  # brings matplotlib, which a table does not need

    rows = list(result.rows)
    named = [(effect.name, summary) for effect, summary in rows]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("relevo.simulation"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    figures = [
        ("How they end", "Of all rollouts of such a candidate.", plots.ends(named)),
        ("Exposure", "The candidate's requests until the decision, whichever it was: mean and two standard errors.", plots.exposure(named)),
        ("Time", "To the decision: median (dot) to 90th percentile.", plots.times(named)),
    ]  # fmt: skip
    page = environment.get_template("simulation.html.j2").render(
        style=Markup(style),
        name=rollout.metadata.name,
        target=rollout.spec.target,
        traffic=traffic,
        rows=rows,
        runs=result.runs,
        stopped=result.stopped,
        seed=seed,
        warnings=warnings,
        figures=figures if rows else [],
        policy=yaml.safe_dump(rollout.model_dump(mode="json", by_alias=True), sort_keys=False, allow_unicode=True),
    )
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(page, encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise Permanent(
            f"page {path}: cannot be written ({error.strerror})", next_step="Name another file with --html."
        ) from error
    return path
