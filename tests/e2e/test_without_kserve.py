"""A cluster without KServe: a Rollout there says so, and so does the command line. A second kind cluster, as kind makes it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from k8s.cluster import kindcluster
from k8s.cluster.commands import run
from k8s.cluster.origin import origin_of
from k8s.cluster.settings import read_settings
from k8s.cluster.tools import kind
from relevo.cli.exit_codes import ExitCode
from relevo.platforms.local.ports import free_ports
from scripts.arena import PROJECT
from scripts.lab.kube import Lab, until
from scripts.lab.rollouts import condition, sample_rollout

NAME = "relevo-bare"
NAMESPACE = "default"


@pytest.fixture(scope="module")
def bare(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Kubernetes and relevo's definition, by the same node image. In a kubeconfig of its own, for kind changes the current context."""
    if not lab.kind_cluster:
        pytest.skip("the second cluster is made of the first one's image, and that is not kind's")
    first = replace(read_settings(), name=lab.kind_cluster)
    image = run(["docker", "inspect", "--format", "{{.Config.Image}}", first.node])
    (port,) = free_ports(1)
    used = kindcluster.origin_in_use(first) or first.images
    settings = replace(first, name=NAME, images=used, gateway_port=port)
    kindcluster.delete(kind(), NAME)  # what an earlier run left
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(tmp_path_factory.mktemp("bare") / "kubeconfig"))
        try:
            kindcluster.create(kind(), settings, image.strip(), origin_of(settings).node_patches)
            yield _defined(Lab(settings.context, f"127.0.0.1:{port}"))
        finally:
            kindcluster.delete(kind(), NAME)


def _defined(bare: Lab) -> Lab:
    """Once it knows Rollouts."""
    definition = PROJECT / "charts/relevo/files/rollouts.relevo.dev.yaml"
    bare.kubectl("apply", "--server-side", "-f", str(definition))
    bare.kubectl("wait", "crd/rollouts.relevo.dev", "--for=condition=Established", "--timeout=30s")
    until("its namespace is there", lambda: bare.get("serviceaccount", "default", NAMESPACE), seconds=60)
    return bare


@pytest.fixture
def operator(bare: Lab, tmp_path: Path) -> Iterator[None]:
    """relevo's operator at work there, as a process here."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "relevo.operator", "--namespace", NAMESPACE, "--context", bare.context]
    with (tmp_path / "operator.log").open("wb") as log:
        process = subprocess.Popen([*command, "--http-port", str(port)], cwd=PROJECT, stdout=log, stderr=log)
        try:
            yield
        finally:
            process.terminate()
            process.wait(timeout=30)


@pytest.mark.usefixtures("operator")
def test_a_rollout_says_that_kserve_is_not_installed(bare: Lab) -> None:
    """In its condition, with what to do; and it can be deleted."""
    bare.apply(sample_rollout("iris", "2"), namespace=NAMESPACE)
    ready = until(
        "it says so",
        lambda: (
            (found := condition(bare.get("rollout", "iris", NAMESPACE), "Ready")).get("status") == "False" and found
        ),
        seconds=60,
    )
    assert ready["reason"] == "KServeMissing", ready
    assert "Install Knative Serving and KServe" in ready["message"], ready
    bare.kubectl("-n", NAMESPACE, "delete", "rollout", "iris", "--timeout=30s")


def test_the_command_line_says_it_too(bare: Lab) -> None:
    """One sentence, the next step, and the exit code of bad input."""
    command = [sys.executable, "-m", "relevo", "deploy-canary", "iris", "--version", "2", "--context", bare.context]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == ExitCode.BAD_INPUT, done.stderr
    assert "inferenceservices" in done.stderr
    assert "KServe" in done.stderr
    assert "Traceback" not in done.stderr
