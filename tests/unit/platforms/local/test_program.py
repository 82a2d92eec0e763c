"""Programs, their status and their logs as files."""

from __future__ import annotations

import json

import pytest

from relevo import errors
from relevo.platforms.local import files
from relevo.platforms.local.program import Layout, Program, ProgramStatus, log_tail, read_status


def test_a_program_survives_its_file():
    """What is written as JSON is read back equal."""
    program = Program("a-1", ("run", "--fast"), {"A": "b"}, "http://127.0.0.1:1/", 3, 4.0)
    assert Program.from_json(json.loads(json.dumps(program.to_json()))) == program


@pytest.mark.parametrize("name", ["", "../x", "a/b", "A", "-a", ".a", "a" * 101])
def test_a_name_that_is_no_file_name_is_refused(name):
    """A program's name becomes a file name: nothing else than that is taken."""
    with pytest.raises(errors.BadInput, match="program"):
        Program(name, ("run",))


def test_a_program_without_a_command_is_refused():
    """There is nothing to run."""
    with pytest.raises(errors.BadInput, match="argv is empty"):
        Program("a", ())


def test_status_is_read_also_from_a_newer_version(tmp_path):
    """No file is no program; fields that this version does not know are left out."""
    layout = Layout.of(tmp_path)
    assert read_status(layout) == {}
    files.write_json(layout.status, {"pid": 1, "programs": {"a": {"name": "a", "ready": True, "detail": "", "new": 1}}})
    assert read_status(layout) == {"a": ProgramStatus("a", ready=True, detail="")}


def test_the_tail_of_a_log_is_its_last_words(tmp_path):
    """Empty lines do not count, a long log is not read whole, an absent one is empty."""
    log = tmp_path / "a.log"
    assert log_tail(log) == ""
    log.write_text("x" * 100_000 + "\none\n\ntwo\n \n")
    assert log_tail(log, 2) == "one\ntwo"
