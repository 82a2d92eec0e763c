"""The model card: what a package's metadata says, for people. The template is `templates/MODEL_CARD.md.j2`."""

from __future__ import annotations

import jinja2

from relevo.packaging.metadata import Metadata

__all__ = ["render_card"]


def render_card(metadata: Metadata) -> str:
    """The card in Markdown."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("relevo.packaging"),
        autoescape=False,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    names = sorted({name for values in metadata.metrics.values() for name in values})
    return environment.get_template("MODEL_CARD.md.j2").render(m=metadata, metric_names=names)
