"""Releases by the helm CLI: what is asked of it, and what becomes of its answers. The program is a stub: the real one needs a cluster."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from relevo import errors
from relevo.platforms.blue_green.helm import Helm, Release, values_of

STUB = """
import json, sys
from pathlib import Path
here = Path(__file__).parent
verb = sys.argv[1]
with (here / "calls").open("a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
if verb == "status":
    state = (here / "state").read_text()
    if state == "none":
        sys.exit("Error: release: not found")
    print(json.dumps({"info": {"status": state}}))
elif verb == "get":
    print(json.dumps({"model": {"name": "iris", "version": "1"}}))
elif verb == "upgrade":
    (here / "values").write_text(Path(sys.argv[sys.argv.index("--values") + 1]).read_text())
    if (here / "refuse").exists():
        sys.exit("Error: values don't meet the specifications of the schema")
"""


@pytest.fixture
def helm(tmp_path: Path) -> Helm:
    """Helm on one namespace of a context; the release is in the state that the file says."""
    (tmp_path / "helm.py").write_text(STUB)
    (tmp_path / "state").write_text("deployed")
    return Helm("team", context="kind-x", program=(sys.executable, str(tmp_path / "helm.py")))


def test_installs_exactly_these_values(helm: Helm, tmp_path: Path) -> None:
    """One upgrade --install in the right place, with the whole of the values and nothing of the release's before."""
    helm.install("iris-green", Path("charts/model"), {"colour": "green"})
    call = json.loads((tmp_path / "calls").read_text().splitlines()[-1])
    assert call[:4] == ["upgrade", "--install", "iris-green", "charts/model"]
    assert "--reset-values" in call
    assert call[-4:] == ["--namespace", "team", "--kube-context", "kind-x"]
    assert json.loads((tmp_path / "values").read_text()) == {"colour": "green"}


def test_a_release_that_is_not_there(helm: Helm, tmp_path: Path) -> None:
    """Is None, and can be installed."""
    (tmp_path / "state").write_text("none")
    assert helm.release("iris-green") is None
    helm.install("iris-green", Path("charts/model"), {})


@pytest.mark.parametrize(("state", "step"), [("failed", "helm uninstall"), ("pending-upgrade", "helm rollback")])
def test_a_release_in_a_failed_state_is_left_alone(helm: Helm, tmp_path: Path, state: str, step: str) -> None:
    """It is named with its state and the commands that end it, and nothing is upgraded."""
    (tmp_path / "state").write_text(state)
    with pytest.raises(errors.BadInput, match=f"iris-green is in state {state}") as caught:
        helm.install("iris-green", Path("charts/model"), {})
    assert step in caught.value.next_step
    assert "--namespace team" in caught.value.next_step
    assert not (tmp_path / "values").exists()


def test_what_helm_refuses_is_told_in_its_words(helm: Helm, tmp_path: Path) -> None:
    """Also that there is no helm."""
    (tmp_path / "refuse").touch()
    with pytest.raises(errors.Permanent, match="schema"):
        helm.install("iris-green", Path("charts/model"), {})
    with pytest.raises(errors.Permanent, match="no no-such-helm on the PATH"):
        Helm("team", program=("no-such-helm",)).release("iris-green")


def test_the_values_of_a_colour_are_its_own_or_the_others() -> None:
    """What its release was given stays, but for model and colour; a colour that is new is given what the other has."""
    blue = Release("iris-blue", "deployed", {"colour": "blue", "timeoutSeconds": 9, "model": {"name": "iris"}})
    green = Release("iris-green", "deployed", {"colour": "green", "timeoutSeconds": 5})
    new = values_of("green", None, blue, "oci://x/iris:3")
    assert new == {
        "colour": "green",
        "timeoutSeconds": 9,
        "model": {"name": "iris", "version": "3", "storageUri": "oci://x/iris:3"},
    }
    assert values_of("green", green, blue, "pvc://a/b")["timeoutSeconds"] == 5
    assert "version" not in values_of("green", green, blue, "pvc://a/b")["model"]
