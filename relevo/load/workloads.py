"""The objects that make the load: a master and workers as Deployments, and the Service between them. Pure.

They belong to the Rollout and are deleted with it. The workers replay the rows that the stable model was tested on, which an init
container copies out of the stable model's own image.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import Any, Final

import relevo
from relevo import errors

__all__ = ["IMAGE_VARIABLE", "WEB_PORT", "WORKER_PORT", "Workload", "load_name", "manifests"]

IMAGE_VARIABLE: Final = "RELEVO_IMAGE"
"""Names the operator's image, which holds Locust and the load test too."""

WEB_PORT: Final = 8089
WORKER_PORT: Final = 5557

_MOST: Final = 63
_PACKAGE: Final = "/package"
_CREDENTIAL: Final = "/etc/relevo/credential"
_REQUESTS_PER_USER: Final = 5.0
_STOP_SECONDS: Final = 10


@dataclass(frozen=True, slots=True)
class Workload:
    """What is to run, and for whom."""

    namespace: str
    rollout: str
    """Name of the Rollout."""
    rollout_uid: str
    """Its metadata.uid: the owner of everything."""
    run: str
    """Names this run of the Rollout. Another run gets a load of its own, from new pods."""
    target: str
    """Name of the InferenceService."""
    stable_uri: str
    """The stable model, whose package holds the rows."""
    workers: int = 1
    image: str = ""
    requests_per_user: float = _REQUESTS_PER_USER
    entry: str = ""
    """The Service that users send to, where it is not the InferenceService's."""
    credential_secret: str = ""
    """The Secret with what the requests carry, where not anybody may ask."""

    @property
    def name(self) -> str:
        """Name of the master's Deployment and of the Service."""
        return load_name(self.rollout)

    @property
    def url(self) -> str:
        """Where Locust's web server answers, from within the cluster."""
        return f"http://{self.name}.{self.namespace}.svc:{WEB_PORT}"

    @property
    def users_url(self) -> str:
        """Where the users' requests go: the weights apply there."""
        return f"http://{self.entry or f'{self.target}-predictor'}.{self.namespace}.svc.cluster.local"


def load_name(rollout: str) -> str:
    """Name of a rollout's load: the Rollout's with "-load" after it, shortened where that would be too long for a Service."""
    name = rollout if rollout[0].isalpha() else f"r-{rollout}"
    if len(name) > _MOST - len("-load"):
        name = f"{name[: _MOST - len('-load') - 9]}-{hashlib.sha256(rollout.encode()).hexdigest()[:8]}"
    return f"{name}-load"


def manifests(workload: Workload) -> tuple[tuple[str, dict[str, Any]], ...]:
    """The objects as (plural of their kind, manifest), in the order in which they are made.

    Raises:
        BadInput: the stable model's package cannot be had from its URI.
    """
    return (
        ("services", _service(workload)),
        ("deployments", _deployment(workload, "master", 1, _master(workload))),
        ("deployments", _deployment(workload, "worker", workload.workers, _worker(workload))),
    )


def _service(workload: Workload) -> dict[str, Any]:
    ports = [("http-web", WEB_PORT), ("tcp-workers", WORKER_PORT)]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(workload, workload.name, "master"),
        "spec": {
            "selector": _selector(workload, "master"),
            # A worker that comes up with the master need not wait for its readiness.
            "publishNotReadyAddresses": True,
            "ports": [{"name": name, "port": port, "targetPort": port, "protocol": "TCP"} for name, port in ports],
        },
    }


def _deployment(workload: Workload, component: str, replicas: int, pod: dict[str, Any]) -> dict[str, Any]:
    name = workload.name if component == "master" else f"{workload.name}-worker"
    labels = _labels(workload, component)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(workload, name, component),
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 0,
            # Never two masters, whose counts would take turns; and no more load than was asked for.
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": _selector(workload, component)},
            "template": {
                "metadata": {"labels": labels, "annotations": {"relevo.dev/run": workload.run}},
                "spec": {**_restricted_pod(), **pod},
            },
        },
    }


def _master(workload: Workload) -> dict[str, Any]:
    arguments = ["--master", "--master-bind-port", str(WORKER_PORT), "--web-port", str(WEB_PORT)]
    arguments += ["--enable-rebalancing"]  # users of a worker that is lost go to the others
    probe = {"httpGet": {"path": "/relevo", "port": "web"}, "timeoutSeconds": 3}
    container = _container(workload, arguments, memory_mib=128)
    container["ports"] = [
        {"name": "web", "containerPort": WEB_PORT, "protocol": "TCP"},
        {"name": "workers", "containerPort": WORKER_PORT, "protocol": "TCP"},
    ]
    container["startupProbe"] = {**probe, "periodSeconds": 1, "failureThreshold": 120}
    container["readinessProbe"] = {**probe, "periodSeconds": 5}
    container["livenessProbe"] = {**probe, "periodSeconds": 10, "failureThreshold": 3}
    return {"containers": [container], "volumes": [_TMP]}


def _worker(workload: Workload) -> dict[str, Any]:
    arguments = ["--worker", "--master-host", workload.name, "--master-port", str(WORKER_PORT)]
    arguments += ["--package", _PACKAGE]
    volumes = [_TMP]
    if workload.credential_secret:
        arguments += ["--credential", _CREDENTIAL]
        # The files are root's and the group's, which is the pod's own.
        secret = {"secretName": workload.credential_secret, "defaultMode": 0o440}
        volumes.append({"name": "credential", "secret": secret})
    container = _container(workload, arguments, memory_mib=160)
    if workload.credential_secret:
        container["volumeMounts"].append({"name": "credential", "mountPath": _CREDENTIAL, "readOnly": True})
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": _selector(workload, "worker")},
    }
    pod: dict[str, Any] = {"topologySpreadConstraints": [spread]}
    scheme, separator, place = workload.stable_uri.partition("://")
    if not separator or not place:
        raise _no_rows(workload, "is no URI")
    if scheme == "oci":
        mount: dict[str, Any] = {"name": "package", "mountPath": _PACKAGE}
        copy = _secured(
            {
                "name": "rows",
                "image": place,
                "imagePullPolicy": "IfNotPresent",
                "command": ["sh", "-c", f"cp -r /models/. {_PACKAGE}/"],
                "volumeMounts": [mount],
                "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "128Mi"}},
            }
        )
        container["volumeMounts"].append({**mount, "readOnly": True})
        pod |= {"initContainers": [copy], "volumes": [*volumes, {"name": "package", "emptyDir": {}}]}
    elif scheme == "pvc":
        claim, _, path = place.partition("/")
        mount = {"name": "package", "mountPath": _PACKAGE, "readOnly": True} | ({"subPath": path} if path else {})
        container["volumeMounts"].append(mount)
        source = {"claimName": claim, "readOnly": True}
        pod |= {"volumes": [*volumes, {"name": "package", "persistentVolumeClaim": source}]}
    else:
        raise _no_rows(workload, f"is {scheme}://, and rows come from oci:// and pvc:// only")
    return {**pod, "containers": [container]}


def _container(workload: Workload, arguments: list[str], *, memory_mib: int) -> dict[str, Any]:
    shared = ["--host", workload.users_url, "--model", workload.target, "--stop-timeout", str(_STOP_SECONDS)]
    shared += ["--requests-per-user", f"{workload.requests_per_user:g}", "--loglevel", "INFO"]
    image = workload.image or os.environ.get(IMAGE_VARIABLE) or f"dev.local/relevo-operator:{relevo.__version__}"
    return _secured(
        {
            "name": "locust",
            "image": image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["python", "-m", "loadtests"],
            "args": [*shared, *arguments],
            "env": [
                {"name": "HOME", "value": "/tmp"},  # the only place that can be written
                {"name": "PYTHONUNBUFFERED", "value": "1"},
                {"name": "PYTHONDONTWRITEBYTECODE", "value": "1"},
                {"name": "OMP_NUM_THREADS", "value": "1"},
            ],
            "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
            "resources": {"requests": {"cpu": "20m", "memory": f"{memory_mib}Mi"}, "limits": {"memory": "512Mi"}},
        }
    )


def _secured(container: dict[str, Any]) -> dict[str, Any]:
    """What Pod Security's level "restricted" asks of a container, and a root file system that cannot be written."""
    container["securityContext"] = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
    }
    return container


def _restricted_pod() -> dict[str, Any]:
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 5,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "fsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }


_TMP: Final[dict[str, Any]] = {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}


def _metadata(workload: Workload, name: str, component: str) -> dict[str, Any]:
    owner = {
        "apiVersion": "relevo.dev/v1alpha1",
        "kind": "Rollout",
        "name": workload.rollout,
        "uid": workload.rollout_uid,
        "controller": True,
    }
    return {
        "name": name,
        "namespace": workload.namespace,
        "labels": _labels(workload, component),
        "ownerReferences": [owner],
    }


def _labels(workload: Workload, component: str) -> dict[str, str]:
    return {**_selector(workload, component), "app.kubernetes.io/managed-by": "relevo"}


def _selector(workload: Workload, component: str) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": "relevo-load",
        "app.kubernetes.io/instance": workload.rollout,
        "app.kubernetes.io/component": component,
    }


def _no_rows(workload: Workload, why: str) -> errors.BadInput:
    return errors.BadInput(
        f"{workload.target}: the load cannot replay the stable model's rows: {workload.stable_uri} {why}",
        next_step="Judge by the users' own traffic: set spec.load.usersFrom and usersTo to 0 and leave locust out of spec.sources.",
    )
