"""The cluster as people use it: what the README says, word for word, and the command line in every way it can be used.

Commands run under a kubeconfig of their own, whose context names the test's namespace: so they need not be changed.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from relevo.cli.exit_codes import ExitCode
from relevo.load.workloads import Workload, manifests
from relevo.platforms.local.ports import free_ports
from scripts.arena import PROJECT
from scripts.lab.diagnosis import OPERATOR_NAMESPACE
from scripts.lab.kube import Lab, until
from tests.e2e.conftest import MakeNamespace

README = (PROJECT / "README.md").read_text(encoding="utf-8")
SECTION = re.search(r"^## On a cluster\n.*?(?=^## )", README, re.DOTALL | re.MULTILINE)


def blocks(language: str) -> list[str]:
    """The fenced blocks of the README's section on clusters."""
    assert SECTION is not None
    return re.findall(rf"```{language}\n(.*?)```", SECTION.group(), re.DOTALL)


def commands(start: str) -> list[str]:
    """The commands of its console blocks that begin so, continued lines joined, comments off."""
    lines = (line for block in blocks("console") for line in block.replace("\\\n", "").splitlines())
    return [line[2:].partition("   #")[0].strip() for line in lines if line.startswith(f"$ {start}")]


@dataclass(frozen=True)
class Reader:
    """Somebody who types what the README says."""

    lab: Lab
    namespace: str
    folder: Path

    @property
    def env(self) -> dict[str, str]:
        """With `relevo` and kubectl on the path, and the namespace where the kubeconfig says."""
        path = [str(Path(sys.executable).parent), str(Path(self.lab.kubectl_path).parent), os.environ["PATH"]]
        own = {
            "KUBECONFIG": str(self.kubeconfig),
            "PATH": os.pathsep.join(path),
            "RELEVO_HOME": str(self.folder / "home"),
        }
        return {**os.environ, **own}

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    def connect(self) -> None:
        """Write the kubeconfig."""
        text = self.lab.kubectl("config", "view", "--raw", "--minify", "--flatten")
        config = yaml.safe_load(text)
        config["contexts"][0]["context"]["namespace"] = self.namespace
        self.kubeconfig.write_text(yaml.safe_dump(config), encoding="utf-8")

    def run(self, line: str, *, seconds: float = 300, code: int = 0) -> str:
        """Run a line as it stands, but for the namespace in host names and the gateway's port; what it printed."""
        line = line.replace("iris-predictor.default.", f"iris-predictor.{self.namespace}.")
        line = line.replace("127.0.0.1:8090", self.lab.gateway)
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=PROJECT,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == code, f"{line}\n{done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def relevo(self, arguments: str, *, code: int = 0, seconds: float = 300) -> str:
        """Run `relevo` for a cluster."""
        return self.run(f"relevo {arguments} --platform kserve", code=code, seconds=seconds)

    def start(self, line: str) -> subprocess.Popen[str]:
        """Start a line; whoever does so ends it."""
        return subprocess.Popen(
            ["bash", "-c", f"exec {line}"],
            cwd=PROJECT,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def rollout(self) -> dict[str, Any]:
        return self.lab.get("rollout", "iris", self.namespace) or {}

    def phase(self) -> str:
        return str(self.rollout().get("status", {}).get("phase", ""))


@pytest.fixture(scope="module")
def reader(lab: Lab, make_namespace: MakeNamespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """A namespace in which nothing is served yet, and somebody who works there."""
    reader = Reader(lab, make_namespace("e2e-use"), tmp_path_factory.mktemp("use"))
    reader.connect()
    # The packages that `make e2e` has trained, so that `make deploy-canary` trains none of its own.
    from scripts.lab import models

    (reader.folder / "home").mkdir()
    (reader.folder / "home" / "packages").symlink_to(models.home() / "packages")
    yield reader
    lab.try_kubectl("-n", reader.namespace, "delete", "rollout", "--all", "--wait=false")


def test_the_readmes_commands_promote_a_version(reader: Reader) -> None:
    """`kubectl apply` of the samples, and `kubectl wait` for what becomes of them."""
    lines = [line for line in commands("kubectl") if "-w" not in line.split()]
    assert [line.split()[1] for line in lines] == ["apply", "wait", "apply", "wait"]
    for line in lines:
        reader.run(line)
    shown = reader.run("kubectl get rollouts")
    assert shown.split()[:6] == ["NAME", "PHASE", "STEP", "WEIGHT", "VERDICT", "AGE"]
    assert "Promoted" in shown
    assert "errors" in reader.run("kubectl describe rollout iris")


def test_the_readmes_requests_are_answered_through_the_gateway(reader: Reader) -> None:
    """By curl and by KServe's own client."""
    (curl,) = commands("curl")
    answer = json.loads(reader.run(curl))
    assert (answer["model_name"], answer["outputs"][0]["data"]) == ("iris", [0])
    (program,) = blocks("python")
    assert reader.run(f"{sys.executable} - <<'PROGRAM'\n{program}\nPROGRAM").split() == ["[0]"]


def test_what_was_promoted_can_be_looked_at_and_undone(reader: Reader) -> None:
    """Status, history and report of a rollout that kubectl began; undo brings version 1 back."""
    status = json.loads(reader.relevo("status -o json"))
    assert (status["phase"], status["verdict"]) == ("Promoted", "pass")
    assert all(arm["requests"] > 0 for arm in status["arms"])
    history = json.loads(reader.relevo("history iris -o json"))
    assert [line["after"] for line in history[-1]["transitions"]][-2:] == ["Promoting", "Promoted"]
    assert history[-1]["transitions"][-2]["facts"]["errors"]
    page = Path(reader.relevo("report").strip()).read_text(encoding="utf-8")
    assert page.count("<svg") >= 5
    assert "iris-predictor-00001" in page
    reader.relevo("deploy-canary -f k8s/samples/rollout-iris.yaml", code=ExitCode.BAD_INPUT)
    reader.relevo("undo")
    service = reader.lab.get("inferenceservice", "iris", reader.namespace) or {}
    assert service["spec"]["predictor"]["model"]["storageUri"] == "oci://dev.local/iris:1"


def test_make_rolls_a_bad_version_back(reader: Reader) -> None:
    """`make deploy-canary SCENARIO=errors` brings the image itself and ends with the verdict; the dashboard is open meanwhile."""
    (line,) = commands("make deploy-canary")
    rolling = reader.start(f"{line} SCENARIO=errors SHADOW=off")
    try:
        until("the rollout has begun", lambda: reader.phase() in ("Preparing", "Shifting"), seconds=120)
        (port,) = free_ports(1)
        until("Locust is there", lambda: reader.lab.get("service", "iris-load", reader.namespace), seconds=60)
        assert _title_of_the_dashboard(reader, port) == "Locust"
        out, err = rolling.communicate(timeout=240)
    finally:
        rolling.kill()
    assert rolling.returncode == 2, (out, err)  # make's own code for a command that failed
    assert f"Error {int(ExitCode.ROLLED_BACK)}" in err
    assert "RolledBack: errors." in out
    assert "RolledBack" in reader.run("make status")


def _title_of_the_dashboard(reader: Reader, port: int) -> str:
    """Open the dashboard as `make dashboard` does, at a free port."""
    deadline = time.monotonic() + 60
    while True:
        forward = reader.start(f"relevo dashboard --platform kserve --locust-port {port}")
        try:
            assert forward.stdout is not None
            address = forward.stdout.readline().strip()
            if address:
                page = httpx.get(address, trust_env=False).text
                return re.findall("<title>(.*?)</title>", page)[0]
        finally:
            forward.terminate()
            said = forward.communicate(timeout=20)
        assert time.monotonic() < deadline, said


def test_orders_are_carried_out(reader: Reader) -> None:
    """Pause holds, resume goes on, promote takes the next step, promote --full ends it; a second rollout is refused meanwhile."""
    rolling = reader.start("relevo deploy-canary -f k8s/samples/rollout-iris.yaml --platform kserve")
    try:
        until("it shifts", lambda: reader.phase() == "Shifting", seconds=180)
        assert "paused" in reader.relevo("pause")
        assert reader.phase() == "Held"
        reader.relevo("deploy-canary iris --version 2-wrong", code=ExitCode.BAD_INPUT)
        reader.relevo("resume")
        reader.relevo("promote")
        reader.relevo("promote --full")
        out, err = rolling.communicate(timeout=120)
    finally:
        rolling.kill()
    assert rolling.returncode == ExitCode.OK, (out, err)
    assert "promote" in out.lower()
    who = {line["who"] for line in reader.rollout()["status"]["history"]}
    assert len(who) == 2  # the operator, and whoever ran this
    reader.relevo("rollback", code=ExitCode.BAD_INPUT)


def test_a_rollback_by_order_ends_it(reader: Reader) -> None:
    """All traffic is back when the command returns; retry begins it anew; Ctrl-C leaves that to the operator."""
    service = reader.lab.get("inferenceservice", "iris", reader.namespace) or {}
    served = service["spec"]["predictor"]["model"]["storageUri"]
    version = "1" if served.endswith(":2") else "2"
    file = "-f k8s/samples/rollout-iris.yaml"
    rolling = reader.start(f"relevo deploy-canary {file} --version {version} --platform kserve")
    try:
        until("it shifts", lambda: reader.phase() == "Shifting", seconds=180)
        reader.relevo("rollback", code=ExitCode.ROLLED_BACK)
        rolling.communicate(timeout=60)
    finally:
        rolling.kill()
    assert rolling.returncode == ExitCode.ROLLED_BACK
    runs = reader.rollout()["status"]["runs"]
    again = reader.start("relevo retry --platform kserve")
    try:
        until("it has begun anew", lambda: reader.rollout()["status"]["runs"] == runs + 1, seconds=60)
        again.send_signal(2)
        _, err = again.communicate(timeout=30)
    finally:
        again.kill()
    assert again.returncode == ExitCode.INTERRUPTED
    assert "The operator goes on with it" in err
    reader.relevo("rollback", code=ExitCode.ROLLED_BACK)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("relevo status --context nowhere", "no context nowhere"),
        ("relevo status wine --platform kserve", "no InferenceService wine"),
        ("relevo deploy-canary wine --version 2 --platform kserve", "no InferenceService wine"),
        ("relevo deploy-canary iris --platform kserve", "which version"),
        ("relevo undo --to 99 --platform kserve", "iris-predictor-00099"),
        ("relevo resume --platform kserve", "nothing to resume"),
        ("relevo dashboard --platform kserve", "no load now"),
        ("relevo report no-such-rollout --platform kserve", "no-such-rollout"),
        ("relevo status --platform local --namespace x", "local"),
    ],
)
def test_mistakes_are_one_sentence_and_a_next_step(reader: Reader, line: str, said: str) -> None:
    """With the exit code of bad input, and no traceback."""
    shown = reader.run(line, code=ExitCode.BAD_INPUT)
    assert said in shown
    assert shown.startswith("error: ")
    assert 2 <= len(shown.strip().splitlines()) <= 3


def test_a_missing_permission_is_named(reader: Reader) -> None:
    """Verb and resource, as an administrator needs them."""
    reader.run("kubectl create serviceaccount nobody")
    token = reader.run("kubectl create token nobody").strip()
    config = yaml.safe_load(reader.kubeconfig.read_text(encoding="utf-8"))
    config["users"][0]["user"] = {"token": token}
    other = reader.folder / "nobody"
    other.write_text(yaml.safe_dump(config), encoding="utf-8")
    shown = reader.run(f"KUBECONFIG={other} relevo status --platform kserve", code=ExitCode.BAD_INPUT)
    assert "no permission to list rollouts.relevo.dev" in shown


def test_no_cluster_is_said(reader: Reader) -> None:
    """A server that is not there, with where it was looked for; it is no mistake of the user's."""
    config = yaml.safe_load(reader.kubeconfig.read_text(encoding="utf-8"))
    (port,) = free_ports(1)
    config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port}"
    other = reader.folder / "gone"
    other.write_text(yaml.safe_dump(config), encoding="utf-8")
    shown = reader.run(f"KUBECONFIG={other} relevo status --platform kserve", code=ExitCode.FAILURE)
    assert f"no cluster answers at https://127.0.0.1:{port}" in shown


def test_the_loads_pods_are_admitted_where_pod_security_is_restricted(lab: Lab) -> None:
    """By the API server's own judgement, in the operator's namespace, which enforces that level."""
    enforced = lab.kubectl("get", "namespace", OPERATOR_NAMESPACE, "-o", "jsonpath={.metadata.labels}")
    assert json.loads(enforced)["pod-security.kubernetes.io/enforce"] == "restricted"
    workload = Workload(OPERATOR_NAMESPACE, "iris", "0", "run", "iris", "oci://dev.local/iris:1")
    for _, manifest in manifests(workload)[1:]:
        template = manifest["spec"]["template"]
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "probe", **template["metadata"]},
            "spec": template["spec"],
        }
        shown = lab.kubectl("-n", OPERATOR_NAMESPACE, "create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod))
        assert "created" in shown
