"""The examples of README.md and docs/ are what they say: every command and program in them is run here as it stands."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_platform import ROOT, Cli

pytestmark = pytest.mark.component

WHOLE_README = (ROOT / "README.md").read_text(encoding="utf-8")
README = re.sub(r"^## On a cluster\n.*?(?=^## )", "", WHOLE_README, flags=re.DOTALL | re.MULTILINE)
"""Without the section on clusters, whose examples tests/e2e/test_use.py runs."""
OWN_MODEL = (ROOT / "docs" / "your-own-model.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(block: str) -> list[str]:
    """The commands of a console block, continued lines joined."""
    return [line[2:] for line in block.replace("\\\n", "").splitlines() if line.startswith("$ ")]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """Version 1 of the iris model, brought up by the README's own commands."""
    cli = Cli(tmp_path_factory.mktemp("documentation"))
    try:
        cli.ok("train", "iris", "--version", "1", "--", "--trees", "16")
        cli.ok("up", "-f", "k8s/samples/iris.yaml", "--port", str(cli.port))
        yield cli
    finally:
        cli.run("down")


def shell(cli: Cli, line: str, folder: Path) -> str:
    """Run a line as a reader would, with `relevo` on the path and the proxy at this test's port."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-c", line.replace(":8080", f":{cli.port}")],
        cwd=folder,
        env={**cli.env, "PATH": path, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, (line, done.stdout, done.stderr)
    return done.stdout


def test_the_readme_names_only_commands_that_exist() -> None:
    """Every `relevo VERB` of the README is a command, and every file it points to is there."""
    reference = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    verbs = {
        line.split()[1] for block in blocks(README, "console") for line in commands(block) if line.startswith("relevo ")
    }
    assert {"train", "package", "up", "deploy-canary", "undo", "down"} <= verbs
    for verb in verbs:
        assert f"`relevo {verb}" in reference, verb
    for target in re.findall(r"\]\(([^)#]+)", WHOLE_README):
        assert (ROOT / target).exists(), target


def test_the_requests_of_the_readme_are_answered(served: Cli) -> None:
    """Both curl calls and the Python client of the README get the answers of a model that is served."""
    curls = [line for block in blocks(README, "console") for line in commands(block) if line.startswith("curl")]
    assert len(curls) == 2
    assert json.loads(shell(served, curls[0], ROOT)) == {"prediction": 0}
    answer = json.loads(shell(served, curls[1], ROOT))
    assert (answer["model_name"], answer["outputs"][0]["data"]) == ("iris", [0])
    (program,) = blocks(README, "python")
    printed = shell(served, f"{sys.executable} - <<'PROGRAM'\n{program}\nPROGRAM", ROOT)
    assert printed.split() == ["[0]"]


def test_a_model_of_ones_own_is_trained_served_and_rolled_out_as_described(served: Cli, tmp_path: Path) -> None:
    """The training program of docs/your-own-model.md writes a package that verifies, and that is served from a manifest as described."""
    (program,) = blocks(OWN_MODEL, "python")
    (tmp_path / "train_wine.py").write_text(program, encoding="utf-8")
    folder = shell(served, "relevo train wine --version 1 --script train_wine.py", tmp_path).strip()
    assert "every digest is right" in shell(served, f"relevo package verify {folder}", tmp_path)
    manifest = (ROOT / "k8s" / "samples" / "iris.yaml").read_text(encoding="utf-8").replace("iris", "wine")
    (tmp_path / "wine.yaml").write_text(manifest, encoding="utf-8")
    shell(served, "relevo up -f wine.yaml --port 8080".replace("8080", str(served.port)), tmp_path)
    assert "wine-predictor-00001" in shell(served, "relevo status wine", tmp_path)


def test_the_reference_pages_are_what_the_code_says() -> None:
    """docs/cli.md and docs/rollout.md are generated; a change of the code without `make docs` fails here."""
    done = subprocess.run(
        [sys.executable, "-m", "scripts.reference", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
