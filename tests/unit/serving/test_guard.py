"""How refusals are logged."""

from __future__ import annotations

import logging

import pytest

from relevo.access.refusal import Refused
from relevo.serving.guard import RefusalLog


def test_a_flood_of_refusals_is_not_a_flood_of_lines(caplog: pytest.LogCaptureFixture) -> None:
    """Ten at once, one a second after that, and the next line says how many were left out."""
    now = [0.0]
    log = RefusalLog(lambda: now[0])
    with caplog.at_level(logging.WARNING, "relevo.access"):
        for _ in range(1000):
            log.write(Refused(401, "why"), "POST", "/x", "peer")
        assert len(caplog.messages) == 10
        now[0] = 1.0
        for _ in range(5):
            log.write(Refused(401, "why"), "POST", "/x", "peer")
    assert len(caplog.messages) == 11
    assert caplog.messages[-1].endswith("(990 refusals before it were not logged)")


def test_what_a_caller_wrote_stays_on_one_line_and_in_its_quotes(caplog: pytest.LogCaptureFixture) -> None:
    """A path with line ends, quotes or terminal codes cannot forge a line of the log."""
    with caplog.at_level(logging.WARNING, "relevo.access"):
        RefusalLog().write(Refused(403, "why", who='a"b\n'), "POST", '/x\r\n"\x1b[31m' + "y" * 999, "peer")
    assert caplog.messages == ['refused 403 POST path="/x????[31m' + "y" * 190 + '" peer=peer who="a?b?": why']
