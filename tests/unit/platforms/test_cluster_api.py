"""The Kubernetes API by the official client, against a server that gives its answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from relevo import errors
from relevo.platforms.cluster_api import DEPLOYMENTS, PODS, ROLLOUTS, ApiError, Cluster, connect

GONE = {"message": 'rollouts "iris" not found', "details": {"name": "iris", "kind": "rollouts"}}


class Server:
    """Gives one answer, and notes what it was asked."""

    def __init__(self) -> None:
        self.status, self.body = 200, b"{}"
        self.asked: list[tuple[str, str, str, dict[str, Any]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                sent = self.rfile.read(int(self.headers.get("content-length", 0)))
                asked = (self.command, self.path, self.headers.get("content-type", ""), json.loads(sent or b"{}"))
                outer.asked.append(asked)
                self.send_response(outer.status)
                self.send_header("content-length", str(len(outer.body)))
                self.end_headers()
                self.wfile.write(outer.body)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:
                """Stay quiet."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def says(self, status: int, body: Any) -> None:
        self.status, self.body = status, json.dumps(body).encode()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


def kubeconfig(folder: Path, url: str) -> str:
    """A kubeconfig with two contexts of one cluster."""
    contexts = [
        {"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "team-a"}},
        {"name": "plain", "context": {"cluster": "c", "user": "u"}},
    ]
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": "secret"}}],
        "contexts": contexts,
        "current-context": "here",
    }
    path = folder / "config"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return str(path)


@pytest.fixture
def cluster(tmp_path: Path, server: Server) -> Cluster:
    return connect(kubeconfig=kubeconfig(tmp_path, server.url))


def test_the_namespace_is_the_contexts(tmp_path: Path) -> None:
    """The current context's unless another is named, and `default` where it names none."""
    path = kubeconfig(tmp_path, "http://127.0.0.1:9")
    assert (connect(kubeconfig=path).name, connect(kubeconfig=path).namespace) == ("here", "team-a")
    assert connect("plain", kubeconfig=path).namespace == "default"


def test_what_is_not_known_is_bad_input(tmp_path: Path) -> None:
    """A context that is not there, with those that are; no kubeconfig at all."""
    with pytest.raises(errors.BadInput, match="no context there in the kubeconfig; it has here, plain"):
        connect("there", kubeconfig=kubeconfig(tmp_path, "http://127.0.0.1:9"))
    with pytest.raises(errors.BadInput, match="no cluster is known here"):
        connect(kubeconfig=str(tmp_path / "none"))


def test_reading(cluster: Cluster, server: Server) -> None:
    """One object or None, all or none, by labels."""
    server.says(200, {"metadata": {"name": "iris"}})
    assert cluster.get(ROLLOUTS, "team-a", "iris") == {"metadata": {"name": "iris"}}
    assert server.asked[-1][:2] == ("GET", "/apis/relevo.dev/v1alpha1/namespaces/team-a/rollouts/iris")
    server.says(404, GONE)
    assert cluster.get(ROLLOUTS, "team-a", "iris") is None
    server.says(200, {"items": [1, 2]})
    assert cluster.list(PODS, "team-a", {"a/b": "c", "d": "e"}) == [1, 2]
    assert server.asked[-1][1] == "/api/v1/namespaces/team-a/pods?labelSelector=a/b%3Dc%2Cd%3De"


def test_changing(cluster: Cluster, server: Server) -> None:
    """Each way has the content type by which the API tells it from the others; all say who we are."""
    manifest = {"metadata": {"name": "iris-load"}, "spec": {}}
    cluster.apply(DEPLOYMENTS, "team-a", manifest)
    cluster.patch(DEPLOYMENTS, "team-a", "iris-load", {"spec": None})
    cluster.create(DEPLOYMENTS, "team-a", manifest)
    cluster.replace(ROLLOUTS, "team-a", "iris", manifest, subresource="status")
    assert [(method, path.partition("/team-a/")[2], kind) for method, path, kind, _ in server.asked] == [
        ("PATCH", "deployments/iris-load?fieldManager=relevo&force=true", "application/apply-patch+yaml"),
        ("PATCH", "deployments/iris-load?fieldManager=relevo", "application/merge-patch+json"),
        ("POST", "deployments?fieldManager=relevo", "application/json"),
        ("PUT", "rollouts/iris/status?fieldManager=relevo", "application/json"),
    ]
    assert server.asked[1][3] == {"spec": None}
    server.says(404, GONE)
    cluster.delete(ROLLOUTS, "team-a", "iris")


@pytest.mark.parametrize(
    ("status", "answer", "kind", "said"),
    [
        (401, {"message": "Unauthorized"}, errors.BadInput, "who we are"),
        (403, {"message": "nobody may not"}, errors.Forbidden, r"no permission to patch rollouts\.relevo\.dev"),
        (404, "404 page not found", errors.BadInput, r"the cluster has no rollouts\.relevo\.dev"),
        (404, GONE, ApiError, "no such"),
        (
            404,
            {"message": "namespaces x not found", "details": {"name": "x", "kind": "namespaces"}},
            errors.BadInput,
            "x not",
        ),
        (409, {"message": "the object has been modified"}, errors.Conflict, "modified"),
        (422, {"message": "spec.target: Required"}, errors.BadInput, "Required"),
        (400, {"message": 'admission webhook "x" denied the request: no'}, errors.BadInput, "denied"),
        (429, {"message": "slow down"}, errors.Transient, "slow down"),
        (503, {}, errors.Transient, "HTTP 503"),
        (418, {"message": "teapot"}, ApiError, "teapot"),
    ],
)
def test_a_refusal_becomes_an_error_of_ours(
    cluster: Cluster, server: Server, status: int, answer: Any, kind: type[Exception], said: str
) -> None:
    """Whose it is to mend is told by the type, and what to mend by the message."""
    server.says(status, answer)
    if isinstance(answer, str):
        server.body = answer.encode()
    with pytest.raises(kind, match=said):
        cluster.patch(ROLLOUTS, "team-a", "iris", {})


def test_what_provides_a_missing_kind_is_said(cluster: Cluster, server: Server) -> None:
    """With the command."""
    server.status, server.body = 404, b"404 page not found"
    with pytest.raises(errors.BadInput) as refused:
        cluster.list(ROLLOUTS, "team-a")
    assert "helm install" in refused.value.next_step


def test_no_answer_is_transient_and_names_the_server(tmp_path: Path, server: Server) -> None:
    """Asked once: whoever asks knows whether to ask again."""
    gone = connect(kubeconfig=kubeconfig(tmp_path, "http://127.0.0.1:9"))
    with pytest.raises(
        errors.Transient, match=r"no cluster answers at http://127\.0\.0\.1:9 \(context here\).*refused"
    ):
        gone.get(ROLLOUTS, "team-a", "iris")
