"""Envoy's configuration as a function of the deployment."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevo import errors
from relevo.platforms.local import envoy_config
from relevo.platforms.local.deployment import Deployment, Revision, Service

STABLE = Revision("iris-predictor-00001", "oci://dev.local/iris:1", 1001, 1002)
CANDIDATE = Revision("iris-predictor-00002", "oci://dev.local/iris:2", 1003, 1004)
SERVICE = Service("iris", "team-a", STABLE, candidate=CANDIDATE, weight_percent=25, label="u1/2")


def routes_of(service):
    """All routes of a deployment with this one service."""
    (configuration,) = envoy_config.routes(Deployment(8080, 9901, (service,)))
    routes = [route for host in configuration["virtual_hosts"] for route in host["routes"]]
    return [route for route in routes if route["match"].get("path") != envoy_config.STAMP_PATH]


@given(st.integers(0, 100))
def test_weights_always_sum_to_100(weight):
    """Whatever the split, every route gives out exactly 100."""
    for route in routes_of(SERVICE.split(weight, "u/1")):
        shares = {one["name"]: one["weight"] for one in route["route"]["weighted_clusters"]["clusters"]}
        assert shares == {STABLE.name: 100 - weight, CANDIDATE.name: weight}


def test_without_a_candidate_all_traffic_is_the_stable_revisions():
    """One cluster, weight 100."""
    for route in routes_of(replace(SERVICE, candidate=None, weight_percent=0)):
        (only,) = route["route"]["weighted_clusters"]["clusters"]
        assert (only["name"], only["weight"]) == (STABLE.name, 100)


def test_every_route_stamps_the_label_and_the_choice_and_no_label_is_no_header():
    """x-relevo-route is the label, x-relevo-assigned the revision; an empty label is left out."""
    for route in routes_of(SERVICE):
        assert [one["header"] for one in route["response_headers_to_add"]] == [
            {"key": "x-relevo-route", "value": "u1/2"}
        ]
        for one in route["route"]["weighted_clusters"]["clusters"]:
            assert one["response_headers_to_add"][0]["header"] == {"key": "x-relevo-assigned", "value": one["name"]}
    for route in routes_of(SERVICE.split(25, "")):
        assert "response_headers_to_add" not in route


def test_only_the_candidate_falls_back_and_only_on_the_stable_revision():
    """The candidate's cluster has the stable address as second priority; the stable one and those that retire have only their own."""
    retiring = replace(CANDIDATE, name="iris-predictor-00003", http_port=1005)
    found = envoy_config.clusters(Deployment(8080, 9901, (replace(SERVICE, retiring=(retiring,)),)))
    ports = {
        cluster["name"]: [
            (group["priority"], group["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]["port_value"])
            for group in cluster["load_assignment"]["endpoints"]
        ]
        for cluster in found
    }
    assert ports == {STABLE.name: [(0, 1001)], CANDIDATE.name: [(0, 1003), (1, 1001)], retiring.name: [(0, 1005)]}


def test_a_model_is_found_by_its_path_and_not_by_the_start_of_another_name():
    """V1 and V2 paths of `iris` match; those of `iris-2` do not; what is left goes to the first service."""
    other = replace(SERVICE, name="iris-2", candidate=None)
    (configuration,) = envoy_config.routes(Deployment(8080, 9901, (SERVICE, other)))
    by_host, _, default = configuration["virtual_hosts"]
    assert by_host["domains"] == ["iris.team-a.example.com"]
    assert default["domains"] == ["*"]
    pattern = re.compile(default["routes"][0]["match"]["safe_regex"]["regex"])
    for path in (
        "/v2/models/iris",
        "/v2/models/iris/infer",
        "/v1/models/iris:predict",
        "/v2/models/iris/versions/1/infer",
    ):
        assert pattern.fullmatch(path), path
    for path in ("/v2/models/iris-2", "/v2/models/iris-2/infer", "/v3/models/iris", "/predict"):
        assert not pattern.fullmatch(path), path
    assert default["routes"][-1]["match"] == {"prefix": "/"}
    assert default["routes"][-1]["route"]["weighted_clusters"]["clusters"][0]["name"] == STABLE.name


def test_everything_listens_on_loopback_only():
    """No address but 127.0.0.1 occurs, for users and for the admin interface."""
    deployment = Deployment(8080, 9901, (SERVICE,))
    text = json.dumps([envoy_config.bootstrap(8080, 9901, Path("/x")), envoy_config.clusters(deployment)])
    assert set(re.findall(r'"address": "([^"]*)"', text)) == {"127.0.0.1"}


def test_the_buckets_rise():
    """Envoy takes ascending edges, each once."""
    assert list(envoy_config.BUCKETS_MS) == sorted(set(envoy_config.BUCKETS_MS))


def test_the_version_changes_with_the_content_and_only_then():
    """The same routes have the same version, another weight or label has another."""

    def version(service):
        return envoy_config.version(envoy_config.routes(Deployment(8080, 9901, (service,))))

    assert version(SERVICE) == version(replace(SERVICE))
    assert len({version(SERVICE), version(SERVICE.split(26, "u1/2")), version(SERVICE.split(25, "u1/3"))}) == 3


@pytest.mark.parametrize("label", ["a b", "a\r\nx: y", "%REQ(x)%", "é", "x" * 201])
def test_a_label_that_is_no_header_value_is_refused(label):
    """Spaces, line ends, Envoy's own format characters and others never reach a header."""
    with pytest.raises(errors.BadInput, match="label"):
        envoy_config.check_label(label)
