"""A real model server that asks for API keys or tokens, asked rightly and wrongly by REST and gRPC."""

from __future__ import annotations

import base64
import hmac
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import httpx
import jwt
import psutil
import pytest
from access_server import BODY, INFER, Server, refused_start, serving, train_iris, until, write_keys
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as services
from oidc_issuer import Issuer, issuing

pytestmark = pytest.mark.component


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_iris(tmp_path_factory.mktemp("iris") / "1")


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Issuer]:
    with issuing(tmp_path_factory.mktemp("issuer")) as running:
        yield running


@pytest.fixture(scope="module")
def keys_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "keys.jsonl"


@pytest.fixture(scope="module")
def keys(keys_file: Path) -> dict[str, str]:
    now = datetime.now(UTC)
    found = write_keys(keys_file, "ci", "gone")
    found |= write_keys(keys_file, "old", expires=now - timedelta(minutes=1))
    found |= write_keys(keys_file, "wine-only", models=["wine"])
    return found | write_keys(keys_file, "iris-only", models=["wine", "iris"], expires=now + timedelta(days=1))


@pytest.fixture(scope="module")
def server(
    package: Path, keys_file: Path, keys: dict[str, str], issuer: Issuer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """One that takes keys and tokens."""
    assert keys
    oidc = {"issuer": issuer.url, "audience": issuer.audience, "leewaySeconds": 5}
    with serving(package, tmp_path_factory.mktemp("server"), {"keys": str(keys_file), "oidc": oidc}) as running:
        until(lambda: "2 keys" in running.log, "the issuer was asked")
        yield running


@pytest.fixture(scope="module")
def strict(
    package: Path, keys_file: Path, keys: dict[str, str], issuer: Issuer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """One that demands a claim, closes its metrics, and leaves everything to KServe."""
    assert keys
    oidc = {"issuer": issuer.url, "audience": issuer.audience, "claims": {"scope": "predict"}}
    settings = {"keys": str(keys_file), "oidc": oidc, "metrics": "closed"}
    with serving(package, tmp_path_factory.mktemp("strict"), settings, "--no-fast-path") as running:
        yield running


def bearer(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


@pytest.mark.parametrize("name", ["ci", "iris-only"])
def test_a_key_lets_in_by_either_header(server: Server, keys: dict[str, str], name: str) -> None:
    """As Authorization: Bearer and as X-API-Key, by REST and gRPC."""
    for headers in (bearer(keys[name]), {"X-API-Key": keys[name]}, {"authorization": f"bearer  {keys[name]}"}):
        assert server.infer(headers).json()["outputs"][0]["data"] == [0]
        answer = server.call({field.lower(): value for field, value in headers.items()})
        assert answer.model_name == "iris"


@pytest.mark.parametrize(
    ("path", "method"),
    [
        (INFER, "POST"),
        ("/v1/models/iris:predict", "POST"),
        ("/predict", "POST"),
        ("/v2/models/iris", "GET"),
        ("/v2", "GET"),
        ("/openapi.json", "GET"),
    ],
)
def test_nothing_but_health_and_metrics_answers_without_a_credential(server: Server, path: str, method: str) -> None:
    """Fast lane, front and KServe's application alike: 401 with a challenge and the ways in."""
    answer = httpx.request(method, server.url + path, json=BODY, timeout=60, trust_env=False)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="relevo"'
    assert "X-API-Key" in answer.json()["error"]


@pytest.mark.parametrize("path", ["/", "/v2/health/live", "/v2/health/ready", "/v2/models/iris/ready", "/metrics"])
def test_health_and_metrics_answer_without_a_credential(server: Server, path: str) -> None:
    """A probe has none."""
    assert httpx.get(server.url + path, timeout=60, trust_env=False).status_code == 200


@pytest.mark.parametrize(
    "path", ["/v2/health/ready/../../models/iris", "//metrics", "/metrics/", "/v2%2fmodels/iris", "/METRICS"]
)
def test_no_spelling_of_an_open_path_opens_another(server: Server, path: str) -> None:
    """What is open is open by its exact path."""
    with httpx.Client(trust_env=False, timeout=60) as client:
        request = client.build_request("GET", server.url)
        request.url = httpx.URL(server.url).copy_with(raw_path=path.encode())
        assert client.send(request).status_code == 401


REFUSED = {
    "unknown": ("relevo_000000000000_" + "A" * 43, 401, "not one of those known"),
    "malformed": ("relevo_x", 401, "not one of those known"),
    "no token": ("abc", 401, "neither an API key nor"),
    "old": ("old", 401, "has expired"),
    "wine-only": ("wine-only", 403, "is not for the model iris"),
}


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_a_key_that_is_not_good_is_refused_with_the_reason(server: Server, keys: dict[str, str], case: str) -> None:
    """401 where nobody knows who it is, 403 where it is known and not for this; UNAUTHENTICATED and PERMISSION_DENIED by gRPC."""
    given, status, says = REFUSED[case]
    given = keys.get(given, given)
    answer = server.infer({"X-API-Key": given})
    assert (answer.status_code, says in answer.json()["error"]) == (status, True), answer.text
    assert ("insufficient_scope" if status == 403 else "invalid_token") in answer.headers["www-authenticate"]
    with pytest.raises(grpc.RpcError) as refused:
        server.call({"x-api-key": given})
    code = grpc.StatusCode.PERMISSION_DENIED if status == 403 else grpc.StatusCode.UNAUTHENTICATED
    assert (refused.value.code(), says in refused.value.details()) == (code, True)


def test_a_secret_of_another_key_does_not_open_a_known_id(server: Server, keys: dict[str, str]) -> None:
    """The ID is public; only ID and secret together are a key."""
    identity = keys["ci"][: len("relevo_") + 12]
    mixed = identity + keys["gone"][len(identity) :]
    assert server.infer({"X-API-Key": mixed}).status_code == 401


def test_two_credentials_are_refused(server: Server, keys: dict[str, str]) -> None:
    """A good one beside another would leave open which counts."""
    answer = server.infer({"X-API-Key": keys["ci"], **bearer("x.y.z")})
    assert (answer.status_code, answer.json()["error"]) == (401, "more than one credential is given; send one")


def test_other_schemes_are_refused(server: Server, keys: dict[str, str]) -> None:
    """Basic is none of ours, whatever stands behind it."""
    assert server.infer({"authorization": f"Basic {keys['ci']}"}).status_code == 401


def test_grpc_health_answers_without_a_credential(server: Server) -> None:
    """As REST's does."""
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        stub = services.GRPCInferenceServiceStub(channel)
        assert stub.ServerReady(pb.ServerReadyRequest(), timeout=60).ready
        with pytest.raises(grpc.RpcError) as refused:
            stub.ModelMetadata(pb.ModelMetadataRequest(name="iris"), timeout=60)
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_refusals_are_counted_by_kind(server: Server) -> None:
    """In relevo_request_errors_total, REST and gRPC together."""
    before = server.errors()
    server.infer()
    with pytest.raises(grpc.RpcError):
        server.call()
    assert server.errors()["unauthenticated"] == before["unauthenticated"] + 2


def test_the_log_says_who_and_why_and_never_the_credential_or_the_content(
    package: Path, keys_file: Path, keys: dict[str, str], tmp_path: Path
) -> None:
    """Name of the key, peer, path and reason; no secret, no body, no query; and what a caller writes cannot make a second line."""
    with serving(package, tmp_path, {"keys": str(keys_file)}) as running:
        address = "wine-only\r\nforged"
        url = f"{running.url}{INFER}?token=SECRETQUERY"
        answer = httpx.post(
            url,
            json={"SECRETBODY": 1},
            headers={"X-API-Key": keys["wine-only"], "x-forwarded-for": "10.0.0.9"},
            timeout=60,
            trust_env=False,
        )
        assert answer.status_code == 403
        running.infer(bearer("SECRETTOKEN"))
        httpx.get(
            f"{running.url}/{address.replace(chr(13), '%0D').replace(chr(10), '%0A')}", timeout=60, trust_env=False
        )
        lines = [line for line in running.log.splitlines() if "refused" in line]
        assert len(lines) == 3
        assert "wine-only (" in lines[0]
        assert f'path="{INFER}"' in lines[0]
        assert "peer=127.0.0.1:" in lines[0]
        assert 'x-forwarded-for="10.0.0.9"' in lines[0]
        for secret in ("SECRETQUERY", "SECRETBODY", "SECRETTOKEN", keys["wine-only"][-43:]):
            assert secret not in running.log


def test_a_refusal_does_not_wait_for_the_body(server: Server) -> None:
    """Who may not ask is told so before the content has come."""
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=60) as raw:
        raw.sendall(
            f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 90\r\n\r\n".encode()
        )
        assert raw.recv(4096).startswith(b"HTTP/1.1 401 ")


def test_who_waits_for_100_continue_is_refused_at_once(server: Server) -> None:
    """The body is not even asked for."""
    head = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 90\r\nExpect: 100-continue\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=60) as raw:
        raw.sendall(head.encode())
        assert raw.recv(4096).startswith(b"HTTP/1.1 401 ")


def test_a_connection_goes_on_after_a_refusal(server: Server, keys: dict[str, str]) -> None:
    """The next request on it, with a key, is answered; and the one after that, without, is refused again."""
    with httpx.Client(base_url=server.url, timeout=60, trust_env=False) as client:
        for headers, status in (({}, 401), (bearer(keys["ci"]), 200), ({}, 401)):
            assert client.post(INFER, json=BODY, headers=headers).status_code == status


def test_keys_are_read_again_when_the_file_changes(package: Path, tmp_path: Path) -> None:
    """A new key lets in and a removed one does not, without a restart, in every worker; a broken file keeps what was there, and the log
    says so. A worker that replaces another knows what the others know."""
    file = tmp_path / "keys.jsonl"
    first = write_keys(file, "first")["first"]
    with serving(package, tmp_path / "server", {"keys": str(file)}, "--workers", "2") as running:

        def always(key: str, status: int) -> bool:
            """Whoever of the workers takes the connection."""
            return all(running.infer(bearer(key)).status_code == status for _ in range(12))

        second = write_keys(file, "second")["second"]
        until(lambda: always(second, 200), "the new key lets in")
        content = file.read_text()
        file.write_text(content + '{"id": "oops", "hash": "' + first + '"}\n')
        until(lambda: "line 3" in running.log, "the log tells of the broken line")
        assert "The keys read before go on" in running.log
        assert first[-43:] not in running.log
        assert always(second, 200)
        file.write_text(content.splitlines()[1] + "\n")
        until(lambda: always(first, 401), "the removed key is refused")
        assert always(second, 200)
        workers = psutil.Process(running.process.pid).children()
        workers[0].kill()
        until(lambda: running.log.count("ready after") == 3, "another worker takes its place")
        assert always(first, 401)
        assert always(second, 200)


def test_metrics_can_be_closed(strict: Server, keys: dict[str, str]) -> None:
    """With `metrics: closed` they need a credential; health never does."""
    with httpx.Client(base_url=strict.url, timeout=60, trust_env=False) as client:
        assert client.get("/metrics").status_code == 401
        assert client.get("/metrics", headers=bearer(keys["ci"])).status_code == 200
        assert client.get("/v2/health/ready").status_code == 200


def test_kserves_own_way_is_as_closed(strict: Server, keys: dict[str, str]) -> None:
    """Without the fast path the same is asked for."""
    assert strict.infer().status_code == 401
    assert strict.infer(bearer(keys["ci"])).status_code == 200


@pytest.mark.parametrize("key", ["rsa-1", "ec-1"])
def test_a_token_of_the_issuer_lets_in(server: Server, issuer: Issuer, key: str) -> None:
    """RS256 and ES256, by REST and gRPC; the second time from memory."""
    token = issuer.token(key)
    for _ in range(2):
        assert server.infer(bearer(token)).status_code == 200
        assert server.call(bearer(token)).model_name == "iris"


def base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def encoded(value: dict[str, str]) -> str:
    return base64url(json.dumps(value).encode())


def tokens(issuer: Issuer) -> dict[str, tuple[str, str]]:
    """Tokens that are not good, by what is wrong, with what the refusal says."""
    now = int(time.time())
    good = issuer.token()
    head, body, _ = good.split(".")
    other = issuer.token(sub="eve").split(".")[1]
    unsigned = jwt.encode({"iss": issuer.url, "aud": issuer.audience, "exp": now + 600}, None, algorithm="none")
    public = issuer.keys["rsa-1"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signed = ".".join([encoded({"alg": "HS256", "kid": "rsa-1"}), body])
    confused = f"{signed}.{base64url(hmac.digest(public, signed.encode(), 'sha256'))}"
    return {
        "expired": (issuer.token(exp=now - 60), "has expired"),
        "not yet": (issuer.token(nbf=now + 600), "not valid yet"),
        "audience": (issuer.token(aud="somebody"), "audience"),
        "issuer": (issuer.token(iss="https://evil.example.com"), "issuer"),
        "no exp": (issuer.token(exp=None), "no exp"),
        "no aud": (issuer.token(aud=None), "no aud"),
        "none": (unsigned, "algorithm is not RS256 or ES256"),
        "HS256 with the public key": (confused, "algorithm is not RS256 or ES256"),
        "RS512": (issuer.token(algorithm="RS512"), "algorithm is not RS256 or ES256"),
        "another's key": (issuer.token("rsa-1", headers={"kid": "ec-1"}), "algorithm is not that of its key"),
        "changed": (f"{head}.{other}.{good.split('.')[2]}", "signature is wrong"),
        "cut": (f"{head}.{body}.", "signature is wrong"),
        "long": (issuer.token(padding="x" * 9000), "more than 8192 characters"),
    }


CASES = (
    "expired", "not yet", "audience", "issuer", "no exp", "no aud", "none", "HS256 with the public key", "RS512",
    "another's key", "changed", "cut", "long",
)  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_token_that_is_not_good_is_refused_with_the_reason(server: Server, issuer: Issuer, case: str) -> None:
    """Whatever is wrong with it: 401 and a sentence, which never quotes the token."""
    token, says = tokens(issuer)[case]
    answer = server.infer(bearer(token))
    assert (answer.status_code, says in answer.json()["error"]) == (401, True), answer.text
    assert token not in server.log


def test_leeway_forgives_clocks_that_differ_a_little(server: Server, issuer: Issuer) -> None:
    """Within leewaySeconds an expired token still lets in."""
    assert server.infer(bearer(issuer.token(exp=int(time.time()) - 1))).status_code == 200


def test_claims_that_are_demanded_and_missing_are_forbidden(
    strict: Server, keys: dict[str, str], issuer: Issuer
) -> None:
    """403, not 401: it is known who asks. A list, or a text of words, may hold the claim."""
    cases = (({"scope": "read predict"}, 200), ({"scope": ["predict"]}, 200), ({"scope": "predictor"}, 403), ({}, 403))
    before = strict.errors(headers=bearer(keys["ci"]))["forbidden"]
    for claims, status in cases:
        assert strict.infer(bearer(issuer.token(**claims))).status_code == status, claims
    assert 'who="ada"' in strict.log
    assert strict.errors(headers=bearer(keys["ci"]))["forbidden"] == before + 2


def test_relevo_access_check_says_of_a_token_what_the_server_would(issuer: Issuer, tmp_path: Path) -> None:
    """By the same settings and the same issuer; the token comes on stdin."""
    settings = json.dumps({"oidc": {"issuer": issuer.url, "audience": issuer.audience}})
    command = [sys.executable, "-m", "relevo", "access", "check", "--access", settings, "--credential", "-"]
    for token, code, says in (
        (issuer.token(), 0, "let in: token ada"),
        (issuer.token(aud="somebody"), 2, "refused (401): the token is not for the audience"),
    ):
        done = subprocess.run(command, input=token, capture_output=True, text=True, timeout=120, check=False)
        assert (done.returncode, says in done.stdout + done.stderr) == (code, True), done
        assert token not in done.stdout + done.stderr


def test_new_keys_of_the_issuer_are_asked_for_and_not_too_often(package: Path, tmp_path: Path) -> None:
    """A token of a key that is not known makes the server ask again; a hundred such tokens do not make it ask a hundred times."""
    with issuing(tmp_path / "issuer") as own:
        settings = {"oidc": {"issuer": own.url, "audience": own.audience}}
        with serving(package, tmp_path / "server", settings) as running:
            until(lambda: "2 keys" in running.log, "the issuer was asked")
            own.keys["rsa-2"] = rsa.generate_private_key(public_exponent=65537, key_size=2048)
            own.publish("rsa-2")
            until(lambda: running.infer(bearer(own.token("rsa-2"))).status_code == 200, "the new key is taken")
            assert running.infer(bearer(own.token("rsa-1"))).status_code == 401
            own.keys["rsa-3"] = own.keys["rsa-1"]
            began, before = time.monotonic(), own.asked()
            for _ in range(100):
                assert running.infer(bearer(own.token("rsa-3"))).status_code == 401
            allowed = 2 * (
                1 + (time.monotonic() - began) / 10
            )  # two documents each time, and at most every ten seconds
            assert own.asked() - before <= allowed


def test_an_issuer_that_does_not_answer_lets_nobody_new_in(package: Path, tmp_path: Path) -> None:
    """Known keys go on, an unknown one is refused with 503 and the reason; when the issuer is back, so are they."""
    with issuing(tmp_path / "issuer") as own:
        settings = {"oidc": {"issuer": own.url, "audience": own.audience}}
        own.stop()
        with serving(package, tmp_path / "server", settings) as running:
            answer = running.infer(bearer(own.token()))
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
            assert "cannot be checked now" in answer.json()["error"]
            with pytest.raises(grpc.RpcError) as refused:
                running.call(bearer(own.token()))
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            assert running.errors()["issuer"] == 2
            own.start()
            until(lambda: running.infer(bearer(own.token())).status_code == 200, "the issuer is asked again")
            own.stop()
            assert running.infer(bearer(own.token("ec-1"))).status_code == 200


def test_an_issuer_without_a_discovery_document_is_told_by_its_address(package: Path, tmp_path: Path) -> None:
    """The server runs, lets nobody in, and its log says which address answered what."""
    with issuing(tmp_path / "issuer") as own:
        (own.folder / "discovery.json").unlink()
        settings = {"oidc": {"issuer": own.url, "audience": own.audience}}
        with serving(package, tmp_path / "server", settings) as running:
            until(lambda: "answers 404 instead of its discovery document" in running.log, "the log tells of it")
            assert running.infer(bearer(own.token())).status_code == 503


def test_a_malformed_line_is_named_by_its_number(package: Path, tmp_path: Path) -> None:
    """And never quoted, for it might be the key itself. The server ends with the exit code that tells supervisors not to try again."""
    key = write_keys(tmp_path / "keys", "one")["one"]
    with (tmp_path / "keys").open("a") as file:
        file.write(key + "\n")
    said = refused_start(package, {"keys": str(tmp_path / "keys")})
    assert "line 2: is no API key's line" in said
    assert key[-43:] not in said
