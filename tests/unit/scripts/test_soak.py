"""scripts.soak: nothing that was run is lost or run twice, and nothing wrong is called right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from scripts.soak import _left
from scripts.soak_results import Cell, Run, append, read, render

ON, OFF = Cell("iris", "errors", True), Cell("iris", "errors", False)
RUN = Run(
    ON, 1.0, "abc", 10, 10, 20.0, 3, "RolledBack", "errors", "errors. 3 of 4.", 0, ("Pending -> Preparing",), 400, ()
)


def test_results_are_kept_and_read_back(tmp_path: Path) -> None:
    """What was appended is read back equal; a last line that was cut off is left out."""
    path = tmp_path / "deeper" / "soak.jsonl"
    append(path, RUN)
    append(path, replace(RUN, cell=OFF, problems=("one",)))
    with path.open("a") as file:
        file.write('{"cell": {"mod')
    assert read(path) == [RUN, replace(RUN, cell=OFF, problems=("one",))]
    assert read(tmp_path / "none") == []


def test_a_soak_goes_on_where_it_was_interrupted() -> None:
    """Each cell is run as often as is missing, in turn; other cells' results do not count."""
    other = replace(RUN, cell=Cell("digits", "errors", True))
    assert _left([ON, OFF], [RUN, RUN, other], 3) == [OFF, OFF, ON, OFF]
    assert _left([ON, OFF], [], 2) == [ON, OFF, ON, OFF]
    assert _left([ON], [RUN, RUN], 1) == []


def test_a_run_is_right_only_with_its_exit_code_and_no_problem() -> None:
    """Another exit code, or the right one with anything else wrong, is not right, and the table says why."""
    wrong, held = replace(RUN, exit_code=0, phase="Promoted"), replace(RUN, problems=("was not held",))
    assert RUN.right
    assert not wrong.right
    assert not held.right
    page = render([RUN, wrong, held], command="c")
    assert "| errors | on | 1 of 3 |" in page
    assert "exit code 0, expected 10" in page
    assert "was not held" in page


def test_a_soak_without_a_result_has_an_empty_table() -> None:
    """An interruption before the first result does not fail on its empty table."""
    assert "0 of 0 rollouts" in render([], command="c")
