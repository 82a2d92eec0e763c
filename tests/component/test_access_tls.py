"""A real model server with TLS and mutual TLS, by REST and gRPC, its certificates renewed while it runs."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest
from access_server import EXPIRED, INFER, Server, refused_start, serving, train_iris, until, write_keys, write_pair
from cryptography import x509

from relevo.access.authority import Authority

pytestmark = pytest.mark.component


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_iris(tmp_path_factory.mktemp("iris") / "1")


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("test")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Path:
    """Certificates: the server's, a client's, one of another authority."""
    made = tmp_path_factory.mktemp("certificates")
    (made / "ca.crt").write_bytes(authority.certificate)
    write_pair(made, authority, "server")
    write_pair(made, authority, "client")
    write_pair(made, Authority("another"), "stranger")
    return made


@pytest.fixture(scope="module")
def mutual(package: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that wants certificates of its clients, and nothing else."""
    tls = {
        "certificate": str(folder / "server.crt"),
        "key": str(folder / "server.key"),
        "clientCa": str(folder / "ca.crt"),
    }
    with serving(package, tmp_path_factory.mktemp("mutual"), {"tls": tls}) as running:
        yield running


def trusting(folder: Path, client: str = "") -> ssl.SSLContext:
    """A client's context, with its own certificate where one is named."""
    context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    if client:
        context.load_cert_chain(folder / f"{client}.crt", folder / f"{client}.key")
    return context


def credentials(folder: Path, client: str = "") -> grpc.ChannelCredentials:
    own = [(folder / f"{client}.{ending}").read_bytes() for ending in ("key", "crt")] if client else [None, None]
    return grpc.ssl_channel_credentials((folder / "ca.crt").read_bytes(), *own)


def served_serial(port: int, folder: Path) -> int:
    """The serial number of the certificate that a new connection gets."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=60) as raw,
        trusting(folder).wrap_socket(raw, server_hostname="127.0.0.1") as secure,
    ):
        return x509.load_der_x509_certificate(secure.getpeercert(binary_form=True) or b"").serial_number


def test_a_client_with_a_certificate_is_let_in(mutual: Server, folder: Path) -> None:
    """By REST and gRPC; the server's own certificate is verified on the way."""
    assert mutual.infer(verify=trusting(folder, "client")).json()["outputs"][0]["data"] == [0]
    assert mutual.call(credentials=credentials(folder, "client")).model_name == "iris"


def test_a_client_without_a_certificate_gets_health_and_nothing_else(mutual: Server, folder: Path) -> None:
    """401 with what is missing; probes, which have none, are answered."""
    answer = mutual.infer(verify=trusting(folder))
    assert (answer.status_code, answer.json()["error"]) == (401, "a client certificate is needed here")
    health = httpx.get(f"{mutual.url}/v2/health/ready", verify=trusting(folder), timeout=60, trust_env=False)
    assert health.status_code == 200


def test_grpc_demands_the_certificate_in_the_handshake(mutual: Server, folder: Path) -> None:
    """There no call is made at all."""
    with pytest.raises(grpc.RpcError) as refused:
        mutual.call(credentials=credentials(folder))
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_certificate_of_another_authority_is_refused_by_the_handshake(mutual: Server, folder: Path) -> None:
    """It is no client of ours, whatever its name; no request is read. Neither REST nor gRPC."""
    with pytest.raises(httpx.TransportError):
        mutual.infer(verify=trusting(folder, "stranger"))
    with pytest.raises(grpc.RpcError):
        mutual.call(credentials=credentials(folder, "stranger"))


def test_plain_http_gets_no_answer_where_there_is_tls(mutual: Server) -> None:
    """Nothing is sent in the clear by mistake."""
    with pytest.raises(httpx.TransportError):
        httpx.post(f"http://127.0.0.1:{mutual.http_port}{INFER}", timeout=60, trust_env=False)


def test_tls_older_than_1_2_is_not_spoken(mutual: Server, folder: Path) -> None:
    """And 1.2 and 1.3 are."""
    for newest, spoken in (
        (ssl.TLSVersion.TLSv1_1, False),
        (ssl.TLSVersion.TLSv1_2, True),
        (ssl.TLSVersion.TLSv1_3, True),
    ):
        context = trusting(folder)
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED if not spoken else newest
        context.maximum_version = newest
        context.set_ciphers("DEFAULT:@SECLEVEL=0")  # else this client itself would not even offer TLS 1.1
        try:
            with (
                socket.create_connection(("127.0.0.1", mutual.http_port), timeout=60) as raw,
                context.wrap_socket(raw, server_hostname="127.0.0.1") as secure,
            ):
                assert spoken, secure.version()
        except (ssl.SSLError, OSError):
            assert not spoken, newest


def test_a_key_is_asked_for_beside_the_certificate(package: Path, folder: Path, tmp_path: Path) -> None:
    """What is configured is demanded, all of it. Without clientCa a key is enough, over TLS."""
    keys = tmp_path / "keys.jsonl"
    header = {"X-API-Key": write_keys(keys, "ci")["ci"]}
    tls = {"certificate": str(folder / "server.crt"), "key": str(folder / "server.key")}
    with serving(package, tmp_path / "one", {"keys": str(keys), "tls": tls}) as running:
        assert running.infer(header, verify=trusting(folder)).status_code == 200
        assert running.infer(verify=trusting(folder)).status_code == 401
        key_only = {"x-api-key": header["X-API-Key"]}
        assert running.call(key_only, credentials=credentials(folder)).model_name == "iris"
    with serving(
        package, tmp_path / "two", {"keys": str(keys), "tls": tls | {"clientCa": str(folder / "ca.crt")}}
    ) as running:
        assert running.infer(header, verify=trusting(folder, "client")).status_code == 200
        assert running.infer(header, verify=trusting(folder)).status_code == 401
        assert running.infer(verify=trusting(folder, "client")).status_code == 401


def test_certificate_and_client_authority_are_renewed_without_a_restart(
    package: Path, folder: Path, tmp_path: Path
) -> None:
    """New connections get the new certificate, REST and gRPC; a pair that does not fit is not used, and the log says so; a new authority
    takes its clients and no others; a connection that is open goes on."""
    old = Authority("old")
    (tmp_path / "ca.crt").write_bytes(old.certificate)
    write_pair(tmp_path, old, "server")
    write_pair(tmp_path, old, "client")
    paths = {"certificate": "server.crt", "key": "server.key", "clientCa": "ca.crt"}
    tls = {name: str(tmp_path / path) for name, path in paths.items()}
    with (
        serving(package, tmp_path / "run", {"tls": tls}) as running,
        httpx.Client(
            base_url=running.url, verify=trusting(tmp_path, "client"), timeout=60, trust_env=False
        ) as open_one,
    ):
        before = served_serial(running.http_port, tmp_path)
        assert open_one.get("/v2/models/iris").status_code == 200
        assert running.call(credentials=credentials(tmp_path, "client")).model_name == "iris"
        (tmp_path / "server.key").write_bytes((folder / "server.key").read_bytes())
        until(lambda: "is not the key of the certificate" in running.log, "the log tells that the pair does not fit")
        assert "The certificate read before goes on" in running.log
        assert served_serial(running.http_port, tmp_path) == before
        new = Authority("new")
        (tmp_path / "ca.crt").write_bytes(new.certificate)
        write_pair(tmp_path, new, "server")

        def renewed() -> bool:
            try:
                return served_serial(running.http_port, tmp_path) != before
            except ssl.SSLError:
                return False

        until(renewed, "new connections get the new certificate")
        assert open_one.get("/v2/models/iris").status_code == 200
        with pytest.raises(httpx.TransportError):
            running.infer(verify=trusting(tmp_path, "client"))
        write_pair(tmp_path, new, "client")
        assert running.infer(verify=trusting(tmp_path, "client")).status_code == 200
        assert running.call(credentials=credentials(tmp_path, "client")).model_name == "iris"


def test_a_certificate_that_cannot_be_used_is_refused_at_the_start(package: Path, folder: Path, tmp_path: Path) -> None:
    """The sentences themselves are in tests/unit/access; here: the exit code, and no traceback."""
    write_pair(tmp_path, Authority("test"), "expired", **EXPIRED)
    tls = {"certificate": str(tmp_path / "expired.crt"), "key": str(tmp_path / "expired.key")}
    said = refused_start(package, {"tls": tls})
    assert "the certificate expired on " in said
    assert "Renew it" in said
