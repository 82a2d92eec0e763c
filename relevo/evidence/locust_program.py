"""How Locust is started under a supervisor: its command line and environment. The load test itself is `loadtests/v2.py`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["LocustProgram"]


@dataclass(frozen=True, slots=True)
class LocustProgram:
    """One Locust process with its web UI on loopback, idle until it is told to start (see `relevo.evidence.locust`).

    `host` is the proxy's address, `rows` the package's `heldout.npz`. `input_name` empty: the load test's default.
    """

    locustfile: Path
    host: str
    web_port: int
    model: str
    rows: Path
    input_name: str = ""
    host_header: str = ""
    requests_per_user: float = 10.0
    """Requests per second and user."""
    credential: Path | None = None
    """The folder of what the requests carry, where not anybody may ask; see `relevo.access.credential`."""

    @property
    def web_url(self) -> str:
        """Where people open the UI, and where `LocustSource` talks to it."""
        return f"http://127.0.0.1:{self.web_port}"

    @property
    def health_url(self) -> str:
        """Cheap to ask, unlike the UI's page; answers 200 as soon as the load test is ready to start."""
        return f"{self.web_url}/relevo"

    def argv(self) -> list[str]:
        """Build the command line. Users finish the request they are in before they stop, so that every answer is counted."""
        argv = [sys.executable, "-m", "locust", "-f", str(self.locustfile), "--host", self.host]
        argv += ["--web-host", "127.0.0.1", "--web-port", str(self.web_port), "--stop-timeout", "30"]
        argv += ["--model", self.model, "--rows", str(self.rows), "--requests-per-user", f"{self.requests_per_user:g}"]
        if self.input_name:
            argv += ["--input-name", self.input_name]
        if self.host_header:
            argv += ["--host-header", self.host_header]
        if self.credential is not None:
            argv += ["--credential", str(self.credential)]
        return argv

    def env(self) -> dict[str, str]:
        """Build what to set on top of the environment: unbuffered logs, and nothing else may choose another mode of Locust."""
        return {
            "PYTHONUNBUFFERED": "1",
            "LOCUST_HEADLESS": "false",
            "LOCUST_AUTOSTART": "false",
            "LOCUST_MODE_MASTER": "false",
            "LOCUST_MODE_WORKER": "false",
        }
