"""`relevo simulate`: what it prints, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from relevo.cli.main import app
from relevo.errors import BadInput
from relevo.simulation import characteristics as engine
from relevo.simulation import traffic
from relevo.simulation.characteristics import characteristics
from relevo.simulation.traffic import EFFECTS

POLICY = """
apiVersion: relevo.dev/v1alpha1
kind: Rollout
metadata: {name: quick}
spec:
  target: quick
  storageUri: oci://x/quick:2
  baseline: {requests: 50}
  shadow: {enabled: false}
  limits: {maxSeconds: 20}
  tickSeconds: 2
"""


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A policy that is simulated in no time, for three of the candidates."""
    monkeypatch.setattr(traffic, "EFFECTS", EFFECTS[:1] + EFFECTS[5:7])
    path = tmp_path / "rollout.yaml"
    path.write_text(POLICY, encoding="utf-8")
    return path


def _run(policy: Path, *options: str) -> str:
    arguments = ["simulate", "-f", str(policy), "--runs", "5", "--jobs", "1", *options]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code in (0, 130), result.output
    return result.stdout


def test_json_says_what_was_asked_and_what_came_out(policy: Path) -> None:
    """Traffic, seed, warnings and every candidate with its wrong end by name; equal seeds print the same."""
    options = ("--rate", "100", "--error-rate", "0.01", "-o", "json", "--seed", "3")
    text = _run(policy, *options)
    value = json.loads(text)
    assert value["traffic"]["requests_per_second"] == 100
    assert [row["effect"] for row in value["candidates"]] == [e.name for e in traffic.EFFECTS]
    assert "wrong_rollback" in value["candidates"][0]
    assert value["complete"]
    assert _run(policy, *options) == text


def test_the_table_is_not_cut_off_in_a_narrow_terminal(policy: Path) -> None:
    """Every row is whole: a share that is cut off says nothing."""
    text = _run(policy, "--rate", "100", "--error-rate", "0.01")
    assert "as good as the stable one" in text
    assert "s to rollback" in text
    assert "…" not in text


def test_the_page_is_written_beside_the_result(policy: Path, tmp_path: Path) -> None:
    """--html writes one file, in the style of the reports."""
    page = tmp_path / "page.html"
    _run(policy, "--rate", "100", "--error-rate", "0.01", "--html", str(page))
    assert "--candidate:" in page.read_text(encoding="utf-8")


def test_a_stopped_simulation_prints_what_it_has(policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After Ctrl-C the result is printed, marked as not complete, and the exit code says that it was interrupted."""

    def interrupted(*arguments: object, **options: object) -> object:
        result = characteristics(*arguments, **options)  # type: ignore[arg-type]
        result.stopped = True
        return result

    monkeypatch.setattr(engine, "characteristics", interrupted)
    value = json.loads(_run(policy, "--rate", "100", "--error-rate", "0.01", "-o", "json"))
    assert not value["complete"]
    assert value["candidates"]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (("--error-rate", "0.01"), "--rate"),
        (("--rate", "5"), "--error-rate"),
        (("--rate", "-5", "--error-rate", "0.01"), "rate"),
        (("--rate", "5", "--error-rate", "0.01", "--runs", "0"), "runs"),
        (("--rate", "5", "--error-rate", "0.01", "--seed", "-1"), "seed"),
        (("--rate", "5", "--error-rate", "0.01", "--p99", "1"), "p99"),
    ],
)
def test_missing_and_impossible_numbers_are_refused_by_name(policy: Path, options: tuple[str, ...], name: str) -> None:
    """No number is guessed: one that is missing or impossible is named."""
    with pytest.raises(BadInput, match=name):
        CliRunner().invoke(app, ["simulate", "-f", str(policy), "--jobs", "1", *options], catch_exceptions=False)


def test_blue_green_is_refused_by_name(policy: Path) -> None:
    """A strategy that is not simulated is refused, with what to simulate instead."""
    text = POLICY.replace("  shadow: {enabled: false}\n", "  strategy: {blueGreen: {}}\n")
    policy.write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=r"strategy\.blueGreen") as caught:
        _run(policy, "--rate", "20", "--error-rate", "0.01")
    assert "canary" in caught.value.next_step
