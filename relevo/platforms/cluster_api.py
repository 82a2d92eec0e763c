"""The Kubernetes API as plain objects (dicts), with every way of failing put into relevo's own errors.

The official client finds the cluster, proves who we are and carries the bytes; objects stay as the API has them. Used by the command
line and by the load in the cluster (`relevo.load`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from relevo import errors

__all__ = [
    "CONFIG_MAPS",
    "DEPLOYMENTS",
    "FIELD_MANAGER",
    "INFERENCE_SERVICES",
    "PODS",
    "REVISIONS",
    "ROLLOUTS",
    "ROUTES",
    "SERVICES",
    "ApiError",
    "Cluster",
    "Kind",
    "Objects",
    "connect",
]

FIELD_MANAGER: Final = "relevo"
TIMEOUT_SECONDS: Final = 10.0

_CONNECTIONS: Final = 32

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of namespaced object: where the API has it, and what to do where it may be missing."""

    api: str
    plural: str
    provided_by: str = ""

    @property
    def group(self) -> str:
        """The API group, empty for the core."""
        return self.api.split("/")[2] if self.api.startswith("/apis/") else ""

    def path(self, namespace: str, name: str = "") -> str:
        """The path of one object, or of all in a namespace; without one, of all there are."""
        if not namespace:
            return f"{self.api}/{self.plural}"
        return f"{self.api}/namespaces/{namespace}/{self.plural}" + (f"/{name}" if name else "")


ROLLOUTS: Final = Kind(
    "/apis/relevo.dev/v1alpha1",
    "rollouts",
    "Run `helm install relevo charts/relevo -n relevo-system --create-namespace`",
)
INFERENCE_SERVICES: Final = Kind(
    "/apis/serving.kserve.io/v1beta1", "inferenceservices", "Install KServe and Knative Serving, or run `make cluster`"
)
_KNATIVE = "Install Knative Serving and KServe, or run `make cluster`"
REVISIONS: Final = Kind("/apis/serving.knative.dev/v1", "revisions", _KNATIVE)
ROUTES: Final = Kind("/apis/serving.knative.dev/v1", "routes", _KNATIVE)
DEPLOYMENTS: Final = Kind("/apis/apps/v1", "deployments")
SERVICES: Final = Kind("/api/v1", "services")
CONFIG_MAPS: Final = Kind("/api/v1", "configmaps")
PODS: Final = Kind("/api/v1", "pods")


class ApiError(errors.Permanent):
    """The API refused; `status` is the HTTP status."""

    def __init__(self, message: str, *, status: int, next_step: str = "") -> None:
        super().__init__(message, next_step=next_step)
        self.status = status


class Objects(Protocol):
    """What can be done with objects. `Cluster` does it; tests have a world of their own."""

    def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """Read one; None where there is none of that name."""

    def list(self, kind: Kind, namespace: str, labels: Mapping[str, str] | None = None) -> list[Object]:
        """Read all of a namespace that have these labels."""

    def apply(self, kind: Kind, namespace: str, manifest: Mapping[str, Any]) -> Object:
        """Make it be as the manifest says: created, or its fields set. Whatever others have set beside them stays."""

    def patch(self, kind: Kind, namespace: str, name: str, changes: Mapping[str, Any]) -> Object:
        """Merge changes into one; None takes a field away. With metadata.resourceVersion: only if nobody was faster (`Conflict`)."""

    def delete(self, kind: Kind, namespace: str, name: str) -> None:
        """Delete one, if it is there."""


class Cluster:
    """A cluster's API server. Implements `Objects`; make one with `connect`.

    Every method raises `Transient` where nothing answers or the server is in trouble, `Forbidden` where we may not, `BadInput` where
    the kind is not installed or the API finds the object invalid, `Conflict` where somebody else was faster.
    """

    def __init__(self, client: Any, *, namespace: str, name: str) -> None:
        self._client = client
        self.namespace = namespace
        """The namespace that the context names."""
        self.name = name
        """The context's name, or how we came to it."""

    @property
    def client(self) -> Any:
        """The official client's connection."""
        return self._client

    @property
    def url(self) -> str:
        """The API server's address."""
        return str(self._client.configuration.host)

    def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """Read one; None where there is none of that name."""
        return self._ask("GET", kind, kind.path(namespace, name), verb="get", missing_ok=True)

    def list(self, kind: Kind, namespace: str, labels: Mapping[str, str] | None = None) -> list[Object]:
        """Read all of a namespace that have these labels."""
        query = {"labelSelector": ",".join(f"{key}={value}" for key, value in labels.items())} if labels else None
        found = self._ask("GET", kind, kind.path(namespace), verb="list", query=query)
        return list(found["items"]) if found else []

    def apply(self, kind: Kind, namespace: str, manifest: Mapping[str, Any]) -> Object:
        """Server-side apply, as the field manager "relevo"."""
        path = kind.path(namespace, manifest["metadata"]["name"])
        how = {"fieldManager": FIELD_MANAGER, "force": "true"}
        return self._ask("PATCH", kind, path, verb="patch", body=manifest, content="apply-patch+yaml", query=how) or {}

    def patch(self, kind: Kind, namespace: str, name: str, changes: Mapping[str, Any]) -> Object:
        """Merge changes into one."""
        path, how = kind.path(namespace, name), {"fieldManager": FIELD_MANAGER}
        return self._ask("PATCH", kind, path, verb="patch", body=changes, content="merge-patch+json", query=how) or {}

    def create(self, kind: Kind, namespace: str, manifest: Mapping[str, Any]) -> Object:
        """Make a new one. Raises `Conflict` where there is one of that name."""
        how = {"fieldManager": FIELD_MANAGER}
        return self._ask("POST", kind, kind.path(namespace), verb="create", body=manifest, query=how) or {}

    def replace(
        self, kind: Kind, namespace: str, name: str, manifest: Mapping[str, Any], *, subresource: str = ""
    ) -> Object:
        """Put this in the place of one, or of its status; with metadata.resourceVersion only if nobody was faster (`Conflict`)."""
        path = kind.path(namespace, f"{name}/{subresource}" if subresource else name)
        return self._ask("PUT", kind, path, verb="update", body=manifest, query={"fieldManager": FIELD_MANAGER}) or {}

    def delete(self, kind: Kind, namespace: str, name: str) -> None:
        """Delete one, if it is there; what it owns goes with it, in the background."""
        how = {"propagationPolicy": "Background"}
        self._ask("DELETE", kind, kind.path(namespace, name), verb="delete", query=how, missing_ok=True)

    def close(self) -> None:
        """Close the connections."""
        self._client.rest_client.pool_manager.clear()

    def _ask(
        self,
        method: str,
        kind: Kind,
        path: str,
        *,
        verb: str,
        body: Mapping[str, Any] | None = None,
        content: str = "json",
        query: Mapping[str, str] | None = None,
        missing_ok: bool = False,
    ) -> Object | None:
        status, answer = self._send(method, path, body, content, query or {})
        if status < 300:
            return answer
        problem = str(answer.get("message") or f"HTTP {status}")
        if status == 404 and missing_ok and answer.get("details", {}).get("name"):
            return None
        raise _refusal(status, problem, kind, verb, path, answer)

    def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None, content: str, query: Mapping[str, str]
    ) -> tuple[int, Object]:
        import urllib3
        from kubernetes.client.exceptions import ApiException

        headers = {"Accept": "application/json"} | (
            {"Content-Type": f"application/{content}"} if body is not None else {}
        )
        try:
            request = self._client.param_serialize(
                method,
                path,
                query_params=list(query.items()),
                header_params=headers,
                body=body,
                auth_settings=["BearerToken"],
            )
            response = self._client.call_api(*request, _request_timeout=TIMEOUT_SECONDS)
            data = response.read()
        except (urllib3.exceptions.HTTPError, ApiException, OSError) as error:
            raise errors.Transient(
                f"no cluster answers at {self.url} (context {self.name}): {_root(error)}",
                next_step="Start it (`make cluster` makes one on this machine), or name another with --context.",
            ) from error
        try:
            return int(response.status), json.loads(data or b"{}")
        except ValueError:
            return int(response.status), {"message": data[:200].decode("utf-8", "replace")}


def connect(context: str | None = None, *, kubeconfig: str | None = None) -> Cluster:
    """Find the cluster: the context named, else the service account of the pod we run in, else the kubeconfig's current context.

    Raises:
        BadInput: there is no kubeconfig, no such context, or it cannot be used.
    """
    from kubernetes import client
    from kubernetes import config as untyped

    config: Any = untyped
    configuration = client.Configuration()
    if context is None and kubeconfig is None:
        try:
            config.load_incluster_config(client_configuration=configuration)
        except config.ConfigException:
            pass
        else:
            return Cluster(_client(configuration), namespace=_own_namespace(), name="the pod's own")
    try:
        known, current = config.list_kube_config_contexts(config_file=kubeconfig)
        names = sorted(str(one["name"]) for one in known)
        if context is not None and context not in names:
            raise errors.BadInput(
                f"no context {context} in the kubeconfig; it has {', '.join(names) or 'none'}",
                next_step="`kubectl config get-contexts` lists them.",
            )
        chosen = next((one for one in known if one["name"] == context), current)
        config.load_kube_config(kubeconfig, context=chosen["name"], client_configuration=configuration)
    except config.ConfigException as error:
        raise errors.BadInput(
            f"no cluster is known here: {error}",
            next_step="`make cluster` makes one on this machine; or set KUBECONFIG to a file that names yours.",
        ) from error
    namespace = chosen["context"].get("namespace") or "default"
    return Cluster(_client(configuration), namespace=namespace, name=str(chosen["name"]))


def _client(configuration: Any) -> Any:
    from kubernetes.client import ApiClient

    configuration.connection_pool_maxsize = _CONNECTIONS  # as many threads may ask at once
    configuration.retries = False  # whoever asks knows better whether to ask again
    return ApiClient(configuration)


def _own_namespace() -> str:
    try:
        with open("/var/run/secrets/kubernetes.io/serviceaccount/namespace", encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return "default"


def _refusal(
    status: int, problem: str, kind: Kind, verb: str, path: str, answer: Mapping[str, Any]
) -> errors.RelevoError:
    what = f"{kind.plural}.{kind.group}" if kind.group else kind.plural
    if status == 401:
        return errors.BadInput("the cluster does not know who we are (401)", next_step="Log in to it again.")
    # An admission webhook's word on the object comes under one of several codes.
    if status in (400, 422) or "denied the request" in problem:
        return errors.BadInput(problem, next_step="Mend the object.")
    if status == 403:
        return errors.Forbidden(
            f"no permission to {verb} {what}: {problem}",
            next_step=f"Ask for a role with the verb {verb} on {what}.",
        )
    if status == 404 and answer.get("details", {}).get("kind") == "namespaces":
        return errors.BadInput(problem, next_step="Make it with `kubectl create namespace`, or name another.")
    if status == 404 and not answer.get("details", {}).get("name"):
        return errors.BadInput(
            f"the cluster has no {what}", next_step=f"{kind.provided_by}." if kind.provided_by else ""
        )
    if status == 404:
        return ApiError(f"{path.rpartition('/')[2]}: there is no such {what}", status=status)
    if status == 409:
        return errors.Conflict(problem, next_step="Somebody else has just changed it; look, and try again.")
    if status == 429 or status >= 500:
        return errors.Transient(f"the cluster is in trouble: {problem}", next_step="Try again.")
    return ApiError(f"{verb} {what}: {problem}", status=status)


def _root(error: BaseException) -> str:
    """The last cause, which says what really happened."""
    reason = getattr(error, "reason", None)
    while isinstance(reason, BaseException):
        error, reason = reason, getattr(reason, "reason", None)
    text = str(error)
    return text.rpartition(": ")[2] or type(error).__name__
