"""The command line of the server, where it ends before it serves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from relevo.serving.__main__ import EXIT_REFUSED, main, revision_name
from tests.unit.serving.about import about


def test_a_refused_package_ends_with_exit_code_3_and_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The supervisor tells "failed for good" from a crash by the code, and shows the last line."""
    assert main(["--package", str(tmp_path)]) == EXIT_REFUSED == 3
    assert capsys.readouterr().err.strip().count("\n") == 0


def test_an_unknown_model_ends_with_exit_code_3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A storageUri that resolves to nothing will not by trying again."""
    monkeypatch.setenv("RELEVO_HOME", str(tmp_path))
    assert main(["--storage-uri", "oci://dev.local/iris:1"]) == 3


@pytest.mark.parametrize(
    "arguments", [[], ["--package", "a", "--storage-uri", "b"], ["--package", "a", "--http-port", "70000"]]
)
def test_wrong_arguments_end_with_exit_code_2(arguments: list[str]) -> None:
    """Usage errors are argparse's."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


@pytest.mark.parametrize(
    ("given", "name"),
    [("iris-predictor-00002", "iris-predictor-00002"), (None, "m-1"), ("", "m-1"), ("$(K_REVISION)", "m-1")],
)
def test_a_revision_without_a_name_has_its_packages(given: str | None, name: str) -> None:
    """Outside Knative nobody names a revision, and the argument of our ServingRuntime stays as it is written."""
    assert revision_name(given, about()) == name


def test_a_package_is_refused_without_importing_kserve(tmp_path: Path) -> None:
    """The digests are compared before the seconds that the server's libraries take."""
    code = (
        "import sys; from relevo.serving.__main__ import main; "
        f"code = main(['--package', {str(tmp_path)!r}]); "
        "sys.exit(code if 'kserve' not in sys.modules else 99)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, timeout=60).returncode == 3
