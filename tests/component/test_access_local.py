"""Access on the local platform: users at Envoy, and relevo's own requests, with keys, TLS and client certificates switched on."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from access_server import BODY, INFER, until, write_keys, write_pair
from cli_platform import Cli, rollout_file, train
from cryptography import x509

from relevo.access.authority import Authority

pytestmark = pytest.mark.component

AUTHORITY = Authority("users")


class Guarded(Cli):
    """`relevo` with one RELEVO_HOME, and a user who has a key and a certificate."""

    folder: Path
    key: str

    def ask(self, *, key: bool = True, certificate: bool = True, port: int = 0) -> httpx.Response:
        """A user's request."""
        context = ssl.create_default_context(cafile=str(self.folder / "ca.crt"))
        if certificate:
            context.load_cert_chain(self.folder / "user.crt", self.folder / "user.key")
        headers = {"X-API-Key": self.key} if key else {}
        url = f"https://127.0.0.1:{port or self.port}{INFER}"
        return httpx.post(url, json=BODY, headers=headers, verify=context, timeout=60, trust_env=False)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Version 1 of iris, up with everything switched on; version 2 is in the store."""
    home, folder = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("access")
    train(
        home, *(("iris", "--version", version, "--", "--trees", trees) for version, trees in (("1", "16"), ("2", "64")))
    )
    (folder / "ca.crt").write_bytes(AUTHORITY.certificate)
    write_pair(folder, AUTHORITY, "gateway")
    write_pair(folder, AUTHORITY, "user")
    tls = {"certificate": "gateway.crt", "key": "gateway.key", "clientCa": "ca.crt"}
    (folder / "access.yaml").write_text(yaml.safe_dump({"keys": "keys.jsonl", "tls": tls}))
    cli = Guarded(home)
    cli.folder, cli.key = folder, write_keys(folder / "keys.jsonl", "ada")["ada"]
    try:
        up = cli.ok("up", "-f", "k8s/samples/iris.yaml", "--port", cli.port, "--access", folder / "access.yaml")
        assert f"https://127.0.0.1:{cli.port}/v2/models/iris/infer" in up.out
        yield cli
    finally:
        cli.run("down")


def revision_port(cli: Cli) -> int:
    """Where a model server itself listens."""
    (program,) = (cli.home / "local" / "programs").glob("iris-predictor-*.json")
    argv = json.loads(program.read_text())["argv"]
    return int(argv[argv.index("--http-port") + 1])


def served_serial(cli: Guarded) -> int:
    context = ssl.create_default_context(cafile=str(cli.folder / "ca.crt"))
    context.load_cert_chain(cli.folder / "user.crt", cli.folder / "user.key")
    with (
        socket.create_connection(("127.0.0.1", cli.port), timeout=60) as raw,
        context.wrap_socket(raw, server_hostname="127.0.0.1") as secure,
    ):
        return x509.load_der_x509_certificate(secure.getpeercert(binary_form=True) or b"").serial_number


def test_a_user_needs_key_and_certificate(guarded: Guarded) -> None:
    """With both there is an answer; without the key 401, without the certificate no connection."""
    assert guarded.ask().json()["outputs"][0]["data"] == [0]
    assert guarded.ask(key=False).status_code == 401
    with pytest.raises(httpx.TransportError):
        guarded.ask(certificate=False)


def test_nobody_but_envoy_gets_past_it(guarded: Guarded) -> None:
    """A model server takes no certificate of the users' authority: its port is no way around Envoy, even with a good key."""
    with pytest.raises(httpx.TransportError):
        guarded.ask(port=revision_port(guarded))
    answer = httpx.post(
        f"https://127.0.0.1:{revision_port(guarded)}{INFER}",
        json=BODY,
        headers={"X-API-Key": guarded.key},
        verify=ssl.create_default_context(cafile=str(guarded.home / "local" / "access" / "own" / "ca.crt")),
        timeout=60,
        trust_env=False,
    )
    assert (answer.status_code, answer.json()["error"]) == (401, "a client certificate is needed here")


def test_relevos_own_credential_is_its_owners_only(guarded: Guarded) -> None:
    """Folders 0700, files 0600; and so is what Envoy is given of the users' key."""
    folder = guarded.home / "local" / "access"
    assert [path.stat().st_mode & 0o777 for path in (folder, folder / "own")] == [0o700, 0o700]
    found = [
        path
        for path in [*folder.rglob("*"), *(guarded.home / "local" / "envoy").glob("secret-*.json")]
        if path.is_file()
    ]
    assert {"key", "tls.key", "servers.json", "secret-users.json"} <= {path.name for path in found}
    assert {path.stat().st_mode & 0o777 for path in found} == {0o600}


def test_other_settings_are_refused_while_it_is_up(guarded: Guarded, tmp_path: Path) -> None:
    """And the same ones are no change."""
    write_keys(tmp_path / "keys", "eve")
    (tmp_path / "access.yaml").write_text("keys: keys\n")
    up = ("up", "-f", "k8s/samples/iris.yaml", "--port", guarded.port, "--access")
    guarded.refused(*up, tmp_path / "access.yaml", says=("other access settings", "relevo down"))
    guarded.ok(*up, guarded.folder / "access.yaml")


def test_a_rollout_runs_with_relevos_own_credential(guarded: Guarded, tmp_path: Path) -> None:
    """Smoke tests, shadow pairs and load come in, and are counted: the candidate is promoted. The user's key works on it as before."""
    base = yaml.safe_load(rollout_file(tmp_path).read_text())["spec"]["checks"]
    # That requests come in is the subject here; what their answers prove, and how fast, is that of others.
    checks = {**base, "predictions": {"gate": False, "tolerance": 10}}
    file = rollout_file(tmp_path, shadow={"enabled": True, "requests": 100}, checks=checks)
    done = guarded.run("deploy-canary", "-f", file, "--locust-port", guarded.locust_port, timeout=300)
    assert done.code == 0, done
    assert guarded.ask().headers["x-relevo-revision"] == "iris-predictor-00002"


def test_a_renewed_certificate_reaches_users_without_a_restart(guarded: Guarded) -> None:
    """Also where it is written in place, which Envoy itself would not see."""
    before = served_serial(guarded)
    issued = AUTHORITY.issue("gateway", ["127.0.0.1"])
    (guarded.folder / "gateway.crt").write_bytes(issued.certificate)
    (guarded.folder / "gateway.key").write_bytes(issued.key)
    until(lambda: served_serial(guarded) != before, "Envoy has the new certificate")
    assert guarded.ask().status_code == 200


def test_down_leaves_no_secret(guarded: Guarded) -> None:
    """Neither relevo's own nor the users' key that Envoy had."""
    guarded.ok("down")
    assert not (guarded.home / "local" / "access").exists()
    assert not list((guarded.home / "local" / "envoy").glob("secret-*"))
