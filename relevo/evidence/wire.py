"""What the Locust process and `relevo.evidence.locust` say to each other over `/relevo`: the one definition for both ends.

`GET /relevo` answers a `GeneratorReport`; `POST /relevo` takes a `ShadowCommand`, `POST /relevo/label` a `LabelCommand`. They are
served by `loadtests.web`.
"""

from __future__ import annotations

import re
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from relevo.evidence.source import ShadowTargets

__all__ = ["CountsEntry", "GeneratorReport", "LabelCommand", "PairsEntry", "ShadowCommand"]

_Count = Annotated[int, Field(ge=0)]
_URL = re.compile(r"https?://[A-Za-z0-9.\-]+(:[0-9]{1,5})?/?")
_HEADER_SAFE = re.compile(r"[\x21-\x7e]+")


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CountsEntry(_Model):
    """What became of the requests that one route label sent to one revision. See `relevo.rollout.observation.Counts`."""

    label: str
    revision: str
    requests: _Count
    errors: _Count
    latency: tuple[_Count, ...]
    predictions: dict[str, _Count]
    labelled: _Count
    wrong: _Count


class PairsEntry(_Model):
    """Shadow pairs of one label: compared, and of these disagreed."""

    label: str
    compared: _Count
    disagreed: _Count


class GeneratorReport(_Model):
    """All the counts since the process began (`epoch` names that beginning), and what the generator is doing."""

    epoch: Annotated[str, Field(min_length=1)]
    state: str
    """Locust's own word: ready, spawning, running, cleanup, stopping, stopped, missing."""
    users: _Count
    target_users: _Count
    edges_ms: tuple[float, ...]
    counts: tuple[CountsEntry, ...]
    pairs: tuple[PairsEntry, ...]
    shadow: ShadowTargets | None
    label: str = ""
    """What was announced last; see `LabelCommand`."""
    workers: _Count | None = None
    """Workers that are connected; None where one process does it all."""

    @model_validator(mode="after")
    def _histograms_fit_their_edges(self) -> Self:
        if any(len(entry.latency) != len(self.edges_ms) + 1 for entry in self.counts):
            raise ValueError("a latency histogram must have one bucket more than there are edges")
        return self


class LabelCommand(_Model):
    """Count what is sent to the users' address from now on under this label; "" says that no split is known to be in force."""

    label: Annotated[str, Field(pattern=r"^[\x21-\x7e]*$", max_length=256)]


class ShadowCommand(_Model):
    """Set (`{"shadow": {...}}`) or end (`{"shadow": null}`) the shadow stage."""

    shadow: ShadowTargets | None

    @field_validator("shadow")
    @classmethod
    def _targets_are_usable(cls, shadow: ShadowTargets | None) -> ShadowTargets | None:
        if shadow is None:
            return None
        for name in ("label", "stable_revision", "candidate_revision"):
            if not _HEADER_SAFE.fullmatch(getattr(shadow, name)):
                raise ValueError(f"{name} must be printable ASCII without spaces, and not empty")
        for name in ("stable_url", "candidate_url"):
            if not _URL.fullmatch(getattr(shadow, name)):
                raise ValueError(f"{name} must be like http://127.0.0.1:9001, not {getattr(shadow, name)!r}")
        if shadow.stable_revision == shadow.candidate_revision:
            raise ValueError("stable_revision and candidate_revision must differ")
        return shadow
