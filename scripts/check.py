"""`make test` and `make lint`: every check in turn, failing if any failed. pytest comes last, so that its summary does."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

__all__ = ["main"]

BIN = Path(sys.executable).parent
LINT = {
    "ruff check": [str(BIN / "ruff"), "check", "."],
    "ruff format": [str(BIN / "ruff"), "format", "--check", "--quiet", "."],
    "mypy": [str(BIN / "mypy")],
    "import-linter": [str(BIN / "lint-imports"), "--no-logo"],
}
TESTS = {"pytest": [sys.executable, "-m", "pytest"]}


def main() -> int:
    """Run the checks. 1 if any failed."""
    checks = LINT if "--lint-only" in sys.argv[1:] else LINT | TESTS
    failed = []
    for name, command in checks.items():
        print(f"== {name}", flush=True)
        began = time.monotonic()
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
        print(f"   {time.monotonic() - began:.0f} s", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
