"""Access on the local platform: what Envoy and the servers are told. The real thing is in tests/component/test_access_local.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from relevo import errors
from relevo.access.authority import Authority
from relevo.access.settings import parse_access, read_access
from relevo.platforms.local import deployment as deployments
from relevo.platforms.local import envoy_config, guard
from relevo.platforms.local.deployment import Deployment, Revision, Service
from relevo.platforms.local.guard import Guard
from relevo.platforms.local.program import Layout

SERVICE = Service("iris", "default", Revision("iris-predictor-00001", "oci://dev.local/iris:1", 1001, 1002))
TLS = Guard("{}", "/access", tls=True, mutual=False)


def with_files(folder: Path) -> str:
    """Settings with everything, their files in `folder`."""
    authority = Authority("users")
    issued = authority.issue("gateway", ["127.0.0.1"])
    for name, content in (("tls.crt", issued.certificate), ("tls.key", issued.key), ("ca.crt", authority.certificate)):
        (folder / name).write_bytes(content)
    (folder / "keys").write_text("")
    return "{keys: keys, tls: {certificate: tls.crt, key: tls.key, clientCa: ca.crt}}"


def test_without_access_nothing_is_another() -> None:
    """No guard: plain HTTP, one filter chain, no transport socket, and servers start as ever."""
    plain = Deployment(8080, 9901, (SERVICE,))
    (listener,) = envoy_config.bootstrap(8080, 9901, Path("/envoy"))["static_resources"]["listeners"]
    assert "listener_filters" not in listener
    assert [set(chain) for chain in listener["filter_chains"]] == [{"filters"}]
    assert all("transport_socket" not in cluster for cluster in envoy_config.clusters(plain))
    assert (plain.scheme, plain.new_revision("iris", "x", (1, 2))[1].address) == ("http", "http://127.0.0.1:1")


def test_keys_alone_bring_no_tls() -> None:
    """Then Envoy is told nothing but to say whom it asks for."""
    keys = Guard("{}", "/access", tls=False, mutual=False)
    assert keys.upstream() == {}
    assert keys.authority is None
    (listener,) = envoy_config.bootstrap(8080, 9901, Path("/envoy"), keys)["static_resources"]["listeners"]
    assert [set(chain) for chain in listener["filter_chains"]] == [{"filters"}]


@pytest.mark.parametrize("mutual", [False, True])
def test_users_and_relevo_itself_meet_envoy_by_different_certificates(mutual: bool) -> None:
    """Relevo's own requests by a name of their own, always with a certificate; users by any name, with one where it is asked for."""
    guarded = Guard("{}", "/access", tls=True, mutual=mutual)
    (listener,) = envoy_config.bootstrap(8080, 9901, Path("/envoy"), guarded)["static_resources"]["listeners"]
    own, users = listener["filter_chains"]
    assert own["filter_chain_match"] == {"server_names": [guard.INTERNAL_NAME]}
    assert "filter_chain_match" not in users
    wants = [chain["transport_socket"]["typed_config"]["require_client_certificate"] for chain in (own, users)]
    assert wants == [True, mutual]
    for chain in (own, users):
        context = chain["transport_socket"]["typed_config"]["common_tls_context"]
        assert context["tls_params"]["tls_minimum_protocol_version"] == "TLSv1_2"


def test_every_way_to_a_server_is_encrypted() -> None:
    """With TLS each cluster, a candidate's and a colour's too, verifies whom it speaks to."""
    candidate = Revision("iris-predictor-00002", "oci://dev.local/iris:2", 1003, 1004, "green", "https")
    service = Service("iris", "default", SERVICE.stable, candidate=candidate)
    found = envoy_config.clusters(Deployment(8080, 9901, (service,), guard=TLS))
    assert len(found) == 3
    for cluster in found:
        common = cluster["transport_socket"]["typed_config"]["common_tls_context"]
        assert common["validation_context"]["trusted_ca"] == {"filename": "/access/own/ca.crt"}
        assert common["tls_certificates"]


def test_a_deployment_remembers_its_guard(tmp_path: Path) -> None:
    """Through its file; one of before there was any has none."""
    layout = Layout.of(tmp_path)
    deployments.save(layout, Deployment(8080, 9901, (SERVICE,), guard=TLS))
    assert deployments.load(layout).guard == TLS
    value = json.loads(layout.deployment.read_text())
    del value["guard"]
    layout.deployment.write_text(json.dumps(value))
    assert deployments.load(layout).guard is None


def test_servers_take_the_users_keys_and_relevos_own(tmp_path: Path) -> None:
    """And certificates of relevo's authority only, whatever the users'."""
    access = parse_access(with_files(tmp_path), "settings", tmp_path)
    made = guard.make(access, tmp_path / "own", tmp_path / "envoy")
    assert (made.tls, made.mutual) == (True, True)
    servers = read_access(made.server_options()[1])
    assert servers.keys == (tmp_path / "keys", tmp_path / "own" / "keys.jsonl")
    assert servers.tls is not None
    assert servers.tls.client_ca == made.credential / "ca.crt"
    assert made == guard.describe(access, tmp_path / "own")


def test_settings_whose_files_cannot_be_used_make_nothing(tmp_path: Path) -> None:
    """They are read before anything is written."""
    access = parse_access(with_files(tmp_path), "settings", tmp_path)
    (tmp_path / "tls.key").write_text("none")
    with pytest.raises(errors.BadInput, match="holds no private key"):
        guard.make(access, tmp_path / "own", tmp_path / "envoy")
    assert not (tmp_path / "own").exists()
