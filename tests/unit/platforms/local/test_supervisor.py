"""What the supervisor does with its files; its processes are proven in tests/component."""

from __future__ import annotations

import pytest

from relevo.platforms.local import files, supervisor
from relevo.platforms.local.program import Layout, Program
from relevo.platforms.local.supervisor import Supervisor


@pytest.fixture
def layout(tmp_path):
    return Layout.of(tmp_path)


def want(layout, program):
    files.write_json(layout.program(program.name), program.to_json())


def test_logs_are_bounded(layout, monkeypatch):
    """A log above its limit is kept once as .log.1 and starts anew; a short one is left alone."""
    monkeypatch.setattr(supervisor, "_LOG_LIMIT_BYTES", 100)
    layout.log("a").parent.mkdir(parents=True)
    layout.log("a").write_text("x" * 101)
    layout.log("b").write_text("x" * 100)
    Supervisor(layout, 0)._bound_logs()
    assert layout.log("a").stat().st_size == 0
    assert (layout.root / "logs" / "a.log.1").stat().st_size == 101
    assert layout.log("b").stat().st_size == 100


def test_a_replaced_file_is_noticed_also_within_one_clock_tick(layout):
    """The signature of the folder changes with every rename, and not without one."""
    one = Supervisor(layout, 0)
    assert one._sign() == ()
    want(layout, Program("a", ("run",)))
    seen = set()
    for number in range(20):
        want(layout, Program("a", ("run", str(number))))
        signature = one._sign()
        assert signature == one._sign()
        seen.add(signature)
    assert len(seen) == 20


def test_a_damaged_file_stops_nothing(layout):
    """A program whose file became unreadable goes on as it was; an unknown one is ignored."""
    one = Supervisor(layout, 0)
    want(layout, Program("a", ("run",)))
    one._read_wanted(0.0)
    layout.program("a").write_text("{")
    (layout.programs / "b.json").write_text('{"name": "b"}')
    one._read_wanted(1.0)
    assert list(one._runners) == ["a"]
    assert not one._runners["a"].stopped
