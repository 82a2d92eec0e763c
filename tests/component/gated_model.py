"""A model that computes for as long as a test wants: `Gated`. The server that loads it imports this module, so it is small."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

__all__ = ["GATE", "Gated"]

GATE = "RELEVO_TEST_GATE"
"""The environment variable that names a file: while it exists, no prediction ends."""


class Gated(ClassifierMixin, BaseEstimator):
    """Says 0 of every row, once the gate is open."""

    classes_ = np.array([0, 1])

    def predict(self, x: Any) -> Any:
        """Wait, then predict. Where there is a gate it is never quick, so the server computes in a thread."""
        gate = os.environ.get(GATE)
        if gate is not None:
            time.sleep(0.01)
            while Path(gate).exists():
                time.sleep(0.01)
        return np.zeros(len(x), np.int64)
