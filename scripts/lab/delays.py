"""How long after the decisive response does the candidate have no traffic? From what users, the operator and KServe wrote down."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from scripts.lab.kube import until
from scripts.lab.rollouts import Site
from scripts.lab.users import Seen
from scripts.lab.watching import Look

__all__ = ["Delay", "delay", "samples"]


DECIDED = ("Promoting", "RollingBack", "Promoted", "RolledBack")


@dataclass(frozen=True, slots=True)
class Delay:
    """Of one rollback on evidence, in seconds until KServe's status shows 0 % for the candidate."""

    decided: float
    """From the look of the operator whose evidence reached the limit: what the operator and KServe take."""
    counted: float
    """From the last look below the limit, which the operator's record keeps. The decisive response came after it: no delay is longer."""
    last_failure: float
    """From the last failed answer that a user had got of the candidate before the deciding look. nan where there is none. It need not be
    the decisive response: that can be a good answer of the stable revision, too."""
    candidate_requests: int
    """That the deciding look had counted."""
    candidate_errors: int
    first_request_to_look: float
    """From the first request that a user got answered by the candidate until that look."""
    requests_in_all: int
    """Of users that the candidate answered, before and after."""
    errors_in_all: int


def samples(site: Site, *, seconds: float = 30.0) -> list[Mapping[str, Any]]:
    """The looks of a run that has been decided, as far as the operator has kept them, oldest first.

    Raises:
        LabError: the record is not there in time.
    """
    return until("the record of the decision is written", lambda: _recorded(site), seconds=seconds)


def _recorded(site: Site) -> list[Mapping[str, Any]] | None:
    record = site.lab.read(f"/api/v1/namespaces/{site.namespace}/configmaps/{site.name}-record") or {}
    found: list[Mapping[str, Any]] = json.loads(record.get("data", {}).get("samples.json", "[]"))
    return found if any(look["phase"] in DECIDED for look in found) else None


def delay(
    looks: Sequence[Mapping[str, Any]], traffic: Sequence[Look], answers: Sequence[Seen], candidate: str
) -> Delay | str:
    """The delay of one rollback; a sentence where the limit was not reached while the candidate had users.

    `looks` are `samples`, `traffic` what KServe's status showed, `answers` all that users got, the only ones that sent requests.
    """
    k = next((k for k, look in enumerate(looks) if look["e_against"] >= look["limit_against"]), None)
    if k is None:
        return "no look reached the limit"
    if k == 0:
        return "the first look reached the limit, and nothing says when the response came"
    deciding = looks[k]
    last_below, at = (datetime.fromisoformat(one["at"]).timestamp() for one in looks[k - 1 : k + 1])
    zero = next((look.at for look in traffic if look.at > at and not look.weights.get(candidate)), None)
    if zero is None or not deciding["weight_live_percent"]:
        return f"it had {deciding['weight_live_percent']} % when it was decided, and KServe's status never showed a change to 0"
    arm = next(one for one in deciding["arms"] if one["revision"] == candidate)
    theirs = [one for one in answers if one.revision == candidate]
    failed = [one.answered_at for one in theirs if one.failed]
    return Delay(
        decided=zero - at,
        counted=zero - last_below,
        last_failure=zero - max((one for one in failed if one <= at), default=float("nan")),
        candidate_requests=int(arm["requests"]),
        candidate_errors=int(arm["errors"]),
        first_request_to_look=at - theirs[0].sent_at if theirs else float("nan"),
        requests_in_all=len(theirs),
        errors_in_all=len(failed),
    )
