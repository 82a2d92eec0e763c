"""What a Rollout may say, and the message for each thing that it may not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relevo.errors import BadInput
from relevo.rollout.spec import load_rollout, parse_rollout
from tests.unit.rollout.world import make_spec


def weights(*values: object) -> dict[str, Any]:
    return {"strategy": {"canary": {"weights": list(values)}}}


WRONG: list[tuple[dict[str, Any], str, str]] = [
    (weights(5, 25, 10), "strategy.canary", "weights must rise from step to step, but 10 follows 25"),
    (weights(5, 5), "strategy.canary", "but 5 follows 5"),
    (weights(5, 101), "strategy.canary.weights.1", "less than or equal to 100 (it is 101)"),
    (weights(0, 50), "strategy.canary.weights.0", "greater than or equal to 1 (it is 0)"),
    (weights(), "strategy.canary", "weights is empty; a canary needs at least one step"),
    (weights(2.5), "strategy.canary.weights.0", "it is 2.5"),
    ({"strategy": {"canary": {"ramp": {"from": 50, "to": 5}}}}, "strategy.canary.ramp", "from (50) is above to (5)"),
    ({"strategy": {"canary": {"ramp": {"factor": 1}}}}, "strategy.canary.ramp.factor", "greater than 1 (it is 1)"),
    ({"strategy": {"canary": {"ramp": {}, "weights": [5]}}}, "strategy.canary", "either ramp or weights, not both"),
    ({"strategy": {"canary": {}, "immediate": {}}}, "strategy", "not several"),
    ({"strategy": {"canary": {}, "blueGreen": {}}}, "strategy", "not several"),
    ({"strategy": {"blueGreen": {}, "immediate": {}}}, "strategy", "not several"),
    ({"strategy": {"blueGreen": {"weights": [50, 10]}}}, "strategy.blueGreen", "but 10 follows 50"),
    ({"strategy": {"blueGreen": {"weights": [50, 100]}}}, "strategy.blueGreen.weights.1", "less than or equal to 99"),
    ({"strategy": {"blueGreen": {"keepWarmFor": 0}}}, "strategy.blueGreen.keepWarmFor", "greater than 0 (it is 0)"),
    ({"strategy": {"blueGreen": {}}, "shadow": {"enabled": False}}, "spec", "blueGreen rehearses the idle colour"),
    ({"strategy": {"blueGreen": {}}, "sources": ["envoy"]}, "spec", "blueGreen rehearses the idle colour"),
    ({"decision": {"alpha": 0}}, "decision.alpha", "greater than 0 (it is 0)"),
    ({"decision": {"alpha": 1}}, "decision.alpha", "less than 1 (it is 1)"),
    ({"decision": {"promotionAlpha": -0.1}}, "decision.promotionAlpha", "greater than 0 (it is -0.1)"),
    ({"decision": {"alpha": float("nan")}}, "decision.alpha", "finite number"),
    (
        {"decision": {"weights": {"errors": 0, "latency": 0, "predictions": 0, "accuracy": 0}}},
        "decision.weights",
        "zero",
    ),
    ({"limits": {"maxSeconds": -5}}, "limits.maxSeconds", "greater than 0 (it is -5)"),
    ({"limits": {"maxSeconds": float("inf")}}, "limits.maxSeconds", "finite number"),
    ({"limits": {"maxCandidateRequests": 0}}, "limits.maxCandidateRequests", "greater than or equal to 1 (it is 0)"),
    ({"limits": {"candidateRestarts": -1}}, "limits.candidateRestarts", "greater than or equal to 0 (it is -1)"),
    ({"tickSeconds": 0}, "tickSeconds", "it is 0"),
    ({"load": {"usersFrom": 9, "usersTo": 3}}, "load", "usersTo (3) is below usersFrom (9)"),
    ({"load": {"usersFrom": 0}, "sources": ["locust"]}, "spec", "load.usersFrom is 0"),
    ({"sources": []}, "sources", "at least 1 item"),
    ({"sources": ["envoy", "envoy"]}, "spec", "sources names one source twice"),
    ({"sources": ["nagios"]}, "sources.0", "it is 'nagios'"),
    ({"checks": dict.fromkeys(("errors", "latency", "predictions", "accuracy"))}, "checks", "no check is left"),
    ({"checks": {"errors": None, "latency": None}, "sources": ["envoy"]}, "spec", "none that gates promotion"),
    ({"checks": {"errors": {"margin": 1}}}, "checks.errors.margin", "greater than 1 (it is 1)"),
    ({"checks": {"eror": {}}}, "checks.eror", "no such field"),
    ({"wieght": 5}, "wieght", "no such field"),
    ({"target": "Iris!"}, "target", "it is 'Iris!'"),
    ({"storageUri": ""}, "storageUri", "at least 1 character"),
]


@pytest.mark.parametrize(("fields", "where", "message"), WRONG)
def test_a_malformed_rollout_is_refused_by_field(fields: dict[str, Any], where: str, message: str) -> None:
    """Each wrong field is named by its path in the file, with what it may be and what it is."""
    with pytest.raises(BadInput) as caught:
        make_spec(**fields)
    line = next(line for line in caught.value.message.splitlines()[1:] if message in line)
    assert line.strip().startswith("spec" if where == "spec" else f"spec.{where}:")


def test_every_wrong_field_is_told_at_once() -> None:
    """A user mends all mistakes in one go."""
    with pytest.raises(BadInput) as caught:
        make_spec(decision={"alpha": 2}, limits={"maxSeconds": -1}, tickSeconds=0)
    assert all(name in caught.value.message for name in ("decision.alpha", "limits.maxSeconds", "tickSeconds"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [", "is not YAML"),
        (b"- 1", "holds no Rollout"),
        (b"", "holds no Rollout"),
        (b"\xff\xfe\x00", "is not YAML"),
        (b"kind: Pod", "kind"),
    ],
)
def test_a_file_that_is_no_rollout_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    """The message names the file and what is wrong with it."""
    path = tmp_path / "rollout.yaml"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=message) as caught:
        load_rollout(path)
    assert str(path) in caught.value.message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A path that does not exist is told with the system's reason."""
    with pytest.raises(BadInput, match="cannot be read"):
        load_rollout(tmp_path / "none.yaml")


def test_a_rollout_survives_its_own_yaml_names() -> None:
    """What is dumped by alias is read back equal: the stored form is the file's form."""
    spec = make_spec(strategy={"canary": {"ramp": {"from": 1, "to": 40, "factor": 3}}})
    document = {"metadata": {"name": "iris"}, "spec": spec.model_dump(by_alias=True, mode="json")}
    assert parse_rollout(document, where="test").spec == spec


def test_an_override_replaces_a_field_and_leaves_its_neighbours(tmp_path: Path) -> None:
    """`--no-shadow` beside a file turns the stage off and keeps what else the file says of it."""
    file = tmp_path / "rollout.yaml"
    file.write_text(
        "metadata: {name: iris}\nspec: {target: iris, storageUri: 'oci://x/iris:2', shadow: {requests: 77}}\n",
        encoding="utf-8",
    )
    shadow = load_rollout(file, {"shadow": {"enabled": False}}).spec.shadow
    assert (shadow.enabled, shadow.requests) == (False, 77)
