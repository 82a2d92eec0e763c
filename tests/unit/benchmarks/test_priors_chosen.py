"""The search for priors."""

from __future__ import annotations

import numpy as np

from benchmarks.priors_chosen import EFFECTS, RATIOS, not_worse_objective, search, worse_objective
from relevo.statistics.betting import NOT_WORSE, WORSE, Prior


def _on(grid: np.ndarray, prior: Prior) -> np.ndarray:
    weights = np.zeros(grid.size)
    for effect, log_weight in zip(prior.effects, prior.log_weights, strict=True):
        weights[np.abs(grid - effect).argmin()] += np.exp(log_weight)
    return weights


def test_the_priors_in_production_are_better_than_equal_weights() -> None:
    """By the objective that they were chosen by, on streams drawn small."""
    for grid, prior, (objective, told) in (
        (RATIOS, WORSE, worse_objective(150)),
        (EFFECTS, NOT_WORSE, not_worse_objective(150)),
    ):
        chosen = _on(grid, prior)
        assert objective(chosen) < objective(np.full(grid.size, 1 / grid.size))
        assert "shadow" in told(chosen)


def test_a_search_only_keeps_what_is_better() -> None:
    """With any objective: the weights still sum to 1, and the value has fallen."""

    def objective(weights: np.ndarray) -> float:
        return float(((weights - np.array([0.7, 0.2, 0.1])) ** 2).sum())

    found = search(objective, 3, 0.3, np.random.default_rng(1))
    assert np.isclose(found.sum(), 1)
    assert objective(found) <= objective(np.full(3, 1 / 3))
