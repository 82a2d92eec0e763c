"""The timing of the simulation times what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import simulation_time


def test_every_rollout_goes_on_to_sixty_thousand_requests() -> None:
    """None ends early, so that a fast time is not the time of fewer requests."""
    for name in simulation_time.POLICIES:
        cost = simulation_time.measure(name, 3, 1)
        assert cost.requests == pytest.approx(60_000, rel=0.02)


def test_the_page_says_how_it_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row for each policy, with its runs, and the command."""
    monkeypatch.setattr(
        simulation_time, "measure", lambda name, runs, jobs: simulation_time.Cost(name, runs, 6e4, 1.0, 1.0, jobs)
    )
    page = tmp_path / "page.md"
    assert simulation_time.main(["--runs", "7", "--jobs", "2", "--output", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert f"--runs 7 --jobs 2 --output {page}" in text
    assert text.count("| 7 | 60,000 | 2 | 1.0 | 1.0 |") == len(simulation_time.POLICIES)


def test_ten_thousand_rollouts_that_take_too_long_are_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """The goal is held by the exit code, at the size it is for."""
    monkeypatch.setattr(
        simulation_time, "measure", lambda name, runs, jobs: simulation_time.Cost(name, runs, 6e4, 61.0, 1.0, jobs)
    )
    assert simulation_time.main(["--runs", "10000"]) == 1
    assert simulation_time.main(["--runs", "9999"]) == 0
