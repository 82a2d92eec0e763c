"""The kind cluster itself: its configuration, and how an existing one is taken over, mended or replaced."""

from __future__ import annotations

import json
import socket
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from k8s.cluster import docker
from k8s.cluster.commands import run, succeeds
from k8s.cluster.kube import Kube
from k8s.cluster.manifests import GATEWAY_NODE_PORT
from k8s.cluster.progress import say, step
from k8s.cluster.settings import Images, Settings
from relevo.errors import BadInput, Transient

__all__ = [
    "check_port",
    "configuration",
    "create",
    "delete",
    "host_port",
    "mark_complete",
    "origin_in_use",
    "take_over",
]

_MEND_SECONDS = 90.0
_COMPLETE = "/kind/relevo-complete"
"""A file in the node: everything was installed once."""


def configuration(settings: Settings, node_image: str, patches: Sequence[str]) -> dict[str, Any]:
    """kind's configuration: one node, the gateway at 127.0.0.1.

    The gate and the patches are for machines with cgroup v1 and without CAP_SYS_RESOURCE; elsewhere they change nothing.
    """
    port = {"containerPort": GATEWAY_NODE_PORT, "hostPort": settings.gateway_port, "listenAddress": "127.0.0.1"}
    own = [
        yaml.safe_dump({"kind": "KubeletConfiguration", "failCgroupV1": False}),
        yaml.safe_dump(
            {
                "kind": "KubeProxyConfiguration",
                "conntrack": {
                    "maxPerCore": 0,
                    "min": 0,
                    "tcpEstablishedTimeout": "0s",
                    "tcpCloseWaitTimeout": "0s",
                },
            }
        ),
    ]
    return {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "name": settings.name,
        "featureGates": {"KubeletInUserNamespace": True},
        "networking": {"kubeProxyMode": "iptables"},
        "nodes": [
            {
                "role": "control-plane",
                "image": node_image,
                "extraPortMappings": [port],
                "kubeadmConfigPatches": [*own, *patches],
            }
        ],
    }


def create(kind: Path, settings: Settings, node_image: str, patches: Sequence[str]) -> None:
    """Create the cluster. It answers when this returns; its node may not be ready yet.

    Raises:
        BadInput: the port is in use.
        Permanent: kind failed; what it had begun is removed.
    """
    check_port(settings.gateway_port)
    with tempfile.TemporaryDirectory() as folder, step(f"Creating the kind cluster {settings.name}"):
        file = Path(folder) / "kind.yaml"
        file.write_text(yaml.safe_dump(configuration(settings, node_image, patches)))
        run([kind, "create", "cluster", "--config", file, "--quiet"])


def delete(kind: Path, name: str) -> bool:
    """Delete a cluster with everything in it. Whether there was one."""
    if not docker.nodes(name):
        return False
    run([kind, "delete", "cluster", "--name", name, "--quiet"])
    return True


def take_over(kind: Path, settings: Settings, kube: Kube) -> bool:
    """Use the cluster of that name if there is one: start its stopped node, remove one whose creation never came to its end.

    Returns:
        Whether there is a cluster that answers.

    Raises:
        BadInput: there is one, but its gateway is at another port.
        Transient: there is one that was complete, and it does not answer.
    """
    nodes = docker.nodes(settings.name)
    if not nodes:
        return False
    port = host_port(settings.node)
    if port is not None and port != settings.gateway_port:
        raise BadInput(
            f"The cluster {settings.name} exists with its gateway at port {port}, not {settings.gateway_port}.",
            next_step=f"Use it with GATEWAY_PORT={port}, or delete it first with `make cluster-down`.",
        )
    match run(["docker", "inspect", "--format", "{{.State.Status}}", settings.node]).strip():
        case "paused":
            say(f"Waking the paused node {settings.node}")
            run(["docker", "unpause", settings.node])
        case "running":
            pass
        case _:
            say(f"Starting the stopped node {settings.node}")
            check_port(settings.gateway_port)
            run(["docker", "start", settings.node])
    deadline = time.monotonic() + _MEND_SECONDS
    while time.monotonic() < deadline:
        run([kind, "export", "kubeconfig", "--name", settings.name, "--quiet"])
        if kube.answers():
            return True
        time.sleep(1)
    if succeeds(["docker", "exec", settings.node, "test", "-e", _COMPLETE]):
        raise Transient(
            f"The cluster {settings.name} exists and does not answer within {_MEND_SECONDS:.0f} s.",
            next_step="Try again, or delete it with `make cluster-down`.",
        )
    say(f"The cluster {settings.name} was begun and never finished: deleting it")
    delete(kind, settings.name)
    return False


def mark_complete(settings: Settings) -> None:
    """Note in the node that everything was installed: from now on nobody but its user deletes it."""
    run(["docker", "exec", settings.node, "touch", _COMPLETE])


def origin_in_use(settings: Settings) -> Images | None:
    """Where the images of an existing cluster came from, or None where there is no cluster."""
    if not docker.nodes(settings.name):
        return None
    image = run(["docker", "inspect", "--format", "{{.Config.Image}}", settings.node])
    return Images.SOURCE if image.startswith("dev.local/") else Images.REGISTRY


def host_port(node: str) -> int | None:
    """The port of the host at which a node's gateway is, or None where it has none (or no such node)."""
    bindings = json.loads(run(["docker", "inspect", "--format", "{{json .HostConfig.PortBindings}}", node]))
    mapped = (bindings or {}).get(f"{GATEWAY_NODE_PORT}/tcp")
    return int(mapped[0]["HostPort"]) if mapped else None


def check_port(port: int) -> None:
    """Check that nobody listens there.

    Raises:
        BadInput: somebody does.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise BadInput(
                f"Port {port} of 127.0.0.1 is in use, where the cluster's gateway should be.",
                next_step=f"End what uses it (`ss -ltnp 'sport = :{port}'`), or choose another: make cluster GATEWAY_PORT=8091",
            ) from None
