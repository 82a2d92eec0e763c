"""A package as an image. Docker is a script that notes what it is asked."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from relevo import errors
from relevo.packaging import load_package
from relevo.packaging.image import BASES, build_image, default_tag, kind_nodes, load_image

_DOCKER = """#!{python}
import json, os, shutil, sys
home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
words = sys.argv[1:]
with open(home + "/calls", "a") as file:
    file.write(json.dumps(words) + "\\n")
if words[0] == "build":
    shutil.copytree(words[-1], home + "/context")
    print("sha256:built")
elif words[:2] == ["image", "inspect"]:
    sys.exit(0 if words[-1] in {images!r} else 1)
elif words[0] == "ps":
    print("\\n".join({nodes!r}))
elif words[0] == "save":
    print("the image")
elif words[0] == "exec":
    open(home + "/imported", "w").write(sys.stdin.read())
    sys.stderr.write({complaint!r})
    sys.exit(1 if {complaint!r} else 0)
"""

Calls = Callable[[], list[list[str]]]


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Calls]:
    """Put a Docker on the PATH that holds these images and runs these nodes; what it returns reads its calls."""

    def install(*, images: tuple[str, ...] = BASES, nodes: tuple[str, ...] = (), complaint: str = "") -> Calls:
        import sys

        program = tmp_path / "bin/docker"
        program.parent.mkdir()
        program.write_text(
            _DOCKER.format(python=sys.executable, images=set(images), nodes=list(nodes), complaint=complaint)
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
        return lambda: [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]

    return install


def test_the_image_holds_the_package_where_kserve_looks(
    docker: Callable[..., Calls], folder: Path, tmp_path: Path
) -> None:
    """All of the package is in /models, on a base with a shell, and any user can read it."""
    docker()
    (folder / "metadata.json").chmod(0o600)
    package = load_package(folder)
    assert build_image(package, "dev.local/blobs:1") == "sha256:built"
    context = tmp_path / "context"
    text = (context / "Dockerfile").read_text()
    assert text.startswith(f"FROM {BASES[0]}\nCOPY models /models\n")
    assert {file.name for file in (context / "models").iterdir()} == {file.name for file in folder.iterdir()}
    assert all(file.stat().st_mode & stat.S_IROTH for file in (context / "models").rglob("*"))


def test_without_a_base_here_the_published_one_is_pulled(
    docker: Callable[..., Calls], folder: Path, tmp_path: Path
) -> None:
    """And a base that is named is taken."""
    docker(images=())
    build_image(load_package(folder), "dev.local/blobs:1")
    assert f"FROM {BASES[-1]}\n" in (tmp_path / "context/Dockerfile").read_text()


def test_the_tag_is_the_one_of_the_samples() -> None:
    """oci://dev.local/iris:1 is what k8s/samples/iris.yaml names."""
    sample = Path(__file__).parents[3] / "k8s/samples/iris.yaml"
    assert f"oci://{default_tag('iris', '1')}" in sample.read_text()


@pytest.mark.parametrize("tag", ["iris", "Iris:1", "a/b:", "a b:1", "-a:1"])
def test_a_tag_that_cannot_be(folder: Path, tag: str) -> None:
    """It is refused before Docker is asked."""
    with pytest.raises(errors.BadInput, match="must be REPOSITORY:TAG"):
        build_image(load_package(folder), tag)


def test_loading_goes_to_every_node(docker: Callable[..., Calls], tmp_path: Path) -> None:
    """What Docker saves is what each node's containerd imports."""
    calls = docker(nodes=("a-control-plane", "a-worker"))
    assert load_image("dev.local/blobs:1", "a") == ["a-control-plane", "a-worker"]
    assert (tmp_path / "imported").read_text() == "the image\n"
    assert [call[2] for call in calls() if call[0] == "exec"] == ["a-control-plane", "a-worker"]
    assert "label=io.x-k8s.kind.cluster=a" in calls()[0]


def test_loading_into_no_cluster(docker: Callable[..., Calls]) -> None:
    """The next step is to start one, or to push."""
    docker()
    assert kind_nodes("a") == []
    with pytest.raises(errors.BadInput, match="kind cluster 'a'") as caught:
        load_image("dev.local/blobs:1", "a")
    assert "make cluster" in caught.value.next_step


def test_a_node_that_refuses(docker: Callable[..., Calls]) -> None:
    """Its own last words are in the message."""
    docker(nodes=("n",), complaint="ctr: no space left on device\n")
    with pytest.raises(errors.Transient, match="no space left on device"):
        load_image("dev.local/blobs:1", "a")


def test_a_machine_without_docker(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One sentence, and what to do."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(errors.BadInput, match="Docker is not installed"):
        build_image(load_package(folder), "dev.local/blobs:1")
