"""How Locust is started."""

from __future__ import annotations

import sys
from pathlib import Path

from relevo.evidence.locust_program import LocustProgram


def test_locust_listens_on_loopback_only_and_waits_for_orders() -> None:
    """The UI is on 127.0.0.1, nothing starts by itself, and every request that was begun is counted."""
    program = LocustProgram(Path("loadtests/v2.py"), "http://127.0.0.1:8080", 8089, "iris", Path("heldout.npz"))
    argv = program.argv()
    assert argv[:5] == [sys.executable, "-m", "locust", "-f", "loadtests/v2.py"]
    options = dict(zip(argv[3::2], argv[4::2], strict=True))
    assert (options["--web-host"], options["--web-port"], options["--host"]) == ("127.0.0.1", "8089", program.host)
    assert float(options["--stop-timeout"]) > 0
    assert "--autostart" not in argv
    assert "--headless" not in argv
    assert program.health_url == "http://127.0.0.1:8089/relevo"


def test_optional_settings_are_left_out_or_passed_on() -> None:
    """An empty input name or host header means the load test's own default."""
    plain = LocustProgram(Path("v2.py"), "http://h:1", 1, "iris", Path("r"))
    named = LocustProgram(
        Path("v2.py"), "http://h:1", 1, "iris", Path("r"), input_name="X", host_header="iris.example.com"
    )
    assert not {"--input-name", "--host-header"} & set(plain.argv())
    assert named.argv()[-4:] == ["--input-name", "X", "--host-header", "iris.example.com"]
