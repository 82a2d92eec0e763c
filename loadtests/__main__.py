"""`python -m loadtests ...` is `locust -f loadtests/v2.py ...`, wherever this folder is installed: how a container starts it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__: list[str] = []

if __name__ == "__main__":
    locustfile = str(Path(__file__).resolve().parent / "v2.py")
    os.execv(sys.executable, [sys.executable, "-m", "locust", "-f", locustfile, *sys.argv[1:]])
