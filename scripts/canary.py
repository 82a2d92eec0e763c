"""`make deploy-canary`: train what is missing, bring it to the cluster, and roll it out by canary there (or on this machine).

python -m scripts.canary errors --model iris --version 2 --platform kserve [--context CONTEXT] [--namespace NAMESPACE] [--shadow off]

Only the trainer's arguments and the killed monitor know the scenario. On a kind cluster of this machine the models' images are loaded into
its nodes; elsewhere they must be where the nodes can pull them from. The exit code is that of `relevo deploy-canary`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
from dataclasses import dataclass

from k8s.cluster.tools import tool
from relevo.cli.dashboard import kubectl
from relevo.cli.exit_codes import ExitCode
from relevo.errors import BadInput, RelevoError
from relevo.packaging.image import default_tag, kind_nodes
from relevo.packaging.store import home_folder, package_folder
from relevo.platforms.blue_green.platform import is_ours
from relevo.platforms.cluster_api import INFERENCE_SERVICES, Cluster, connect
from scripts.demo import EXPECTED, RELEVO, SAMPLES
from scripts.monitor_fault import kill_monitor, kill_monitor_on
from scripts.scenarios import STABLE, TRAINER_ARGUMENTS

__all__ = ["main"]

READY_SECONDS = 180


@dataclass(frozen=True, slots=True)
class Target:
    """The cluster that is meant."""

    cluster: Cluster
    context: str
    namespace: str

    @property
    def kind(self) -> str:
        """kind's name of the cluster, if it is one of kind's on this machine; else empty."""
        name = self.context.removeprefix("kind-")
        try:
            return name if name != self.context and kind_nodes(name) else ""
        except RelevoError:  # no Docker: whoever made that cluster did not make it here
            return ""

    @classmethod
    def of(cls, context: str | None, namespace: str | None) -> Target:
        """By the options. Raises `BadInput`."""
        cluster = connect(context)
        return cls(cluster, cluster.name, namespace or cluster.namespace)


def main(arguments: list[str] | None = None) -> int:
    """Do it all; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m scripts.canary", description="Roll a version out by canary.")
    parser.add_argument("scenario", choices=sorted(EXPECTED))
    parser.add_argument("--strategy", default="canary", choices=["canary", "blue-green"])
    parser.add_argument("--model", default="iris", choices=["iris", "digits"])
    parser.add_argument("--version", default="2")
    parser.add_argument("--platform", default="kserve", choices=["kserve", "local"])
    parser.add_argument("--context")
    parser.add_argument("--namespace")
    parser.add_argument("--shadow", default="on", choices=["on", "off"], help="with or without the shadow stage")
    options = parser.parse_args(arguments)
    version = options.version if options.scenario == "healthy" else f"{options.version}-{options.scenario}"
    where = ["--platform", options.platform]
    where += ["--context", options.context] if options.context else []
    where += ["--namespace", options.namespace] if options.namespace else []
    try:
        target = None if options.platform == "local" else Target.of(options.context, options.namespace)
        blue_green = options.strategy == "blue-green"
        if target is not None and blue_green:
            _serve_blue(target, options.model)
        elif target is not None:
            _serve(target, options.model)
        _have(target, options.model, version, TRAINER_ARGUMENTS[options.scenario])
    except RelevoError as error:
        print(f"error: {error.message}\n       {error.next_step}", file=sys.stderr)
        return ExitCode.BAD_INPUT if isinstance(error, BadInput) else ExitCode.FAILURE
    flags = [*where] if blue_green else [*where, f"--{_SHADOW[options.shadow]}"]
    return _roll_out(target, options.scenario, options.model, version, flags, options.strategy)


_SHADOW = {"on": "shadow", "off": "no-shadow"}


def _serve(target: Target, model: str) -> None:
    """See to it that the cluster serves the model: version 1, where it serves none yet."""
    if target.cluster.get(INFERENCE_SERVICES, target.namespace, model) is not None:
        return
    _have(target, model, "1", STABLE)
    _say(f"Serving version 1 of {model} in namespace {target.namespace}")
    shared = ["--namespace", target.namespace, *(["--context", target.context] if _is_named(target) else [])]
    _run(kubectl(), "apply", *shared, "-f", str(SAMPLES / f"{model}.yaml"))
    ready = ["--for=condition=Ready", f"--timeout={READY_SECONDS}s", f"inferenceservice/{model}"]
    _run(kubectl(), "wait", *shared, *ready)


def _serve_blue(target: Target, model: str) -> None:
    """See to it that there are a colour and a Route over it: blue with version 1, where there is none yet."""
    if is_ours(target.cluster, target.namespace, model):
        return
    _have(target, model, "1", STABLE)
    _say(f"Installing {model}-blue and its Route in namespace {target.namespace}")
    helm = str(tool("helm"))
    shared = ["--namespace", target.namespace, *(["--kube-context", target.context] if _is_named(target) else [])]
    _run(
        helm,
        "upgrade",
        "--install",
        f"{model}-blue",
        "charts/model",
        *shared,
        "--values",
        "charts/model/values-blue.yaml",
    )
    wait = ["--namespace", target.namespace, *(["--context", target.context] if _is_named(target) else [])]
    ready = ["--for=condition=Ready", f"--timeout={READY_SECONDS}s", f"inferenceservice/{model}-blue"]
    _run(kubectl(), "wait", *wait, *ready)
    route = ["--set", f"model.name={model}", "--set", "active=blue", "--set", "colours={blue}"]
    _run(helm, "upgrade", "--install", model, "charts/model-route", *shared, *route)


def _is_named(target: Target) -> bool:
    return target.context != "the pod's own"


def _have(target: Target | None, model: str, version: str, arguments: tuple[str, ...]) -> None:
    """See to it that there is a package of this version and, on a cluster, an image of it."""
    if not package_folder(home_folder(), model, version).is_dir():
        _say(f"Training version {version} of {model}")
        _run(*RELEVO, "train", model, "--version", version, "--", *arguments)
    if target is None:
        return
    if kind := target.kind:
        _say(f"Loading {default_tag(model, version)} into {kind}")
        _run(*RELEVO, "package", "image", model, version, "--load", kind)
    else:
        _say(
            f"{target.context} is no kind cluster of this machine: {default_tag(model, version)} must be there already"
        )


def _roll_out(target: Target | None, scenario: str, model: str, version: str, flags: list[str], strategy: str) -> int:
    """Run `relevo deploy-canary`, or `deploy-blue-green`, to its end, with the monitor killed for a while where the scenario says so."""
    _say(f"Rolling version {version} of {model} out by {strategy}")
    ended = threading.Event()
    if target is None:
        fault = threading.Thread(target=kill_monitor, args=(model, ended), daemon=True)
    else:
        place = (target.cluster, target.namespace, model)
        fault = threading.Thread(target=kill_monitor_on, args=(*place, ended), daemon=True)
    if scenario == "flaky-monitor":
        fault.start()
    file = str(SAMPLES / f"rollout-{model}{'-blue-green' if strategy == 'blue-green' else ''}.yaml")
    command = [*RELEVO, f"deploy-{strategy}", model, "-f", file, "--version", version, *flags]
    path = os.environ.get("PATH", "")
    if target is not None and strategy == "blue-green":
        path = os.pathsep.join([path, str(tool("helm").parent)])
    code = subprocess.run(command, env={**os.environ, "PATH": path}, check=False).returncode
    ended.set()
    if fault.is_alive():
        fault.join()
    return code


def _run(*command: str) -> None:
    code = subprocess.run(command, env=os.environ, check=False).returncode
    if code:
        sys.exit(code)


def _say(line: str) -> None:
    print(f"== {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
