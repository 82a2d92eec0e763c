"""Rules of charts/model and charts/model-route, told of what Helm renders."""

from __future__ import annotations

from functools import cache

import pytest

from relevo.access.settings import read_access
from relevo.serving.__main__ import _parser
from tests.unit.charts.rendered import KUBERNETES, Chart, render
from tests.unit.charts.test_relevo import confined
from tests.unit.charts.tools import CHARTS, run

COLOURS = ("blue", "green")


@cache
def colour(name: str, *settings: str) -> Chart:
    values = CHARTS / f"model/values-{name}.yaml"
    return render("model", *settings, values=values, release=f"iris-{name}", namespace="team-a")


@cache
def route(*settings: str) -> Chart:
    return render("model-route", *settings, release="iris", namespace="team-a")


def percents(chart: Chart) -> dict[str, int]:
    return {target["tag"]: target["percent"] for target in chart.one("Route")["spec"]["traffic"]}


@pytest.mark.parametrize("chart", ["model", "model-route"])
def test_lint_is_clean(chart: str) -> None:
    """`helm lint --strict` has nothing to say about the charts."""
    result = run("helm", "lint", "--strict", CHARTS / chart, "--kube-version", KUBERNETES)
    assert result.returncode == 0, result.stdout + result.stderr


def test_colours_share_nothing() -> None:
    """The two releases make no object of the same name, so that one can go without the other."""
    names = [{(d["kind"], d["metadata"]["name"]) for d in colour(each).documents} for each in COLOURS]
    assert not names[0] & names[1]


@pytest.mark.parametrize("name", COLOURS)
def test_answers_under_the_models_name(name: str) -> None:
    """Both colours answer under the model's name in URLs, not under the InferenceService's: a switch changes no URL."""
    service = colour(name).one("InferenceService")
    assert service["metadata"]["name"] == f"iris-{name}"
    assert service["spec"]["predictor"]["model"]["args"] == ["--name=iris"]


@pytest.mark.parametrize("name", COLOURS)
def test_not_seen_from_outside(name: str) -> None:
    """A colour has no host of its own outside the cluster: users come by the Route."""
    labels = colour(name).one("InferenceService")["metadata"]["labels"]
    assert labels["networking.knative.dev/visibility"] == "cluster-local"


def test_model_image_by_name_and_version() -> None:
    """The model is the image of its name and version, unless a storageUri says otherwise."""
    model = colour("green").one("InferenceService")["spec"]["predictor"]["model"]
    assert model["storageUri"] == "oci://dev.local/iris:2"
    given = colour("green", "model.storageUri=pvc://models/iris/2").one("InferenceService")
    assert given["spec"]["predictor"]["model"]["storageUri"] == "pvc://models/iris/2"


def test_only_gateways_reach_the_pods() -> None:
    """Requests come from the gateways' and Knative's namespaces; the pods themselves talk to nobody."""
    policy = colour("blue").one("NetworkPolicy")["spec"]
    assert policy["podSelector"]["matchLabels"] == {"serving.kserve.io/inferenceservice": "iris-blue"}
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert "egress" not in policy
    requests = policy["ingress"][0]
    (expression,) = requests["from"][0]["namespaceSelector"]["matchExpressions"]
    assert expression["values"] == ["kourier-system", "knative-serving"]
    assert colour("blue", "networkPolicy.allowEgress=true").one("NetworkPolicy")["spec"]["policyTypes"] == ["Ingress"]


def test_route_names_the_colours_configurations() -> None:
    """The Route points at the Configurations that KServe makes of the colours, with a tag for each: its preview host."""
    targets = {target["tag"]: target for target in route().one("Route")["spec"]["traffic"]}
    for name in COLOURS:
        service = colour(name).one("InferenceService")["metadata"]["name"]
        assert targets[name]["configurationName"] == f"{service}-predictor"
        assert targets[name]["latestRevision"] is True


@pytest.mark.parametrize("active", COLOURS)
@pytest.mark.parametrize("other", [0, 25, 100])
def test_percents_sum_to_100(active: str, other: int) -> None:
    """The active colour gets what the other does not."""
    (idle,) = set(COLOURS) - {active}
    assert percents(route(f"active={active}", f"otherPercent={other}")) == {active: 100 - other, idle: other}


def test_one_colour_alone() -> None:
    """Before the second colour is there the Route names the first alone: Knative refuses one that is not."""
    assert percents(route("colours={green}", "active=green")) == {"green": 100}


def test_order_of_the_colours_stays() -> None:
    """A switch changes percents alone, never the order: the kubectl command of the notes counts on it."""
    orders = [[t["tag"] for t in route(f"active={each}").one("Route")["spec"]["traffic"]] for each in COLOURS]
    assert orders == [["blue", "green"], ["blue", "green"]]


@pytest.mark.parametrize("chart", ["colour", "route"])
def test_test_pod_is_confined(chart: str) -> None:
    """The pod of `helm test` meets "restricted", has no token, and asks from the image of the model server."""
    pod = (colour("blue") if chart == "colour" else route()).one("Pod")["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    (container,) = pod["containers"]
    confined(container)
    assert container["image"] == "dev.local/relevo-server:0.1.0"


def test_test_asks_the_active_colour() -> None:
    """The Route's test wants the active colour's revision, unless the traffic is split."""
    assert "--revision=iris-green-predictor-" in route("active=green").one("Pod")["spec"]["containers"][0]["args"]
    assert not [a for a in route("otherPercent=5").one("Pod")["spec"]["containers"][0]["args"] if "--revision" in a]


def test_one_test_program() -> None:
    """Both charts ask by the same program; a chart cannot read a file of another."""
    files = [(CHARTS / chart / "files/ask.py").read_text() for chart in ("model", "model-route")]
    assert files[0] == files[1]


ACCESS = (
    "access.keysSecret=iris-keys",
    "access.oidc.issuer=https://id.example.com:8443/realm",
    "access.oidc.audience=iris",
)


def test_access_is_off_unless_a_value_says_so() -> None:
    """Without it there is neither an argument nor a Secret."""
    predictor = colour("blue").one("InferenceService")["spec"]["predictor"]
    assert "volumes" not in predictor
    assert "volumeMounts" not in predictor["model"]


def test_access_is_what_the_server_takes() -> None:
    """The argument is read by the server's own parser, its files lie in the mounted Secrets, and the issuer can be reached."""
    chart = colour(
        "blue", *ACCESS, "access.oidc.caSecret=issuer", "access.oidc.claims.scope=predict", "access.metrics=closed"
    )
    predictor = chart.one("InferenceService")["spec"]["predictor"]
    options = _parser().parse_args(["--package=/mnt/models", *predictor["model"]["args"]])
    access = read_access(options.access)
    assert access.metrics == "closed"
    assert access.oidc is not None
    assert (access.oidc.audience, access.oidc.claims) == ("iris", {"scope": "predict"})
    mounts = {mount["name"]: mount["mountPath"] for mount in predictor["model"]["volumeMounts"]}
    assert [str(path.parent) for path in (*access.keys, access.oidc.ca_file)] == [
        mounts["access-keys"],
        mounts["access-issuer"],
    ]
    secrets = {volume["name"]: volume["secret"]["secretName"] for volume in predictor["volumes"]}
    assert secrets == {"access-keys": "iris-keys", "access-issuer": "issuer"}
    (rule,) = chart.one("NetworkPolicy")["spec"]["egress"]
    assert [port["port"] for port in rule["ports"]] == [8443, 53, 53]


@pytest.mark.parametrize("chart", ["colour", "route"])
def test_test_pod_carries_a_key_from_a_secret(chart: str) -> None:
    """Where the model asks for one; the key itself is in no manifest."""
    setting = "test.credentialSecret=relevo-credential"
    pod = (colour("blue", setting) if chart == "colour" else route(setting)).one("Pod")["spec"]
    (variable,) = pod["containers"][0]["env"]
    assert variable == {
        "name": "RELEVO_KEY",
        "valueFrom": {"secretKeyRef": {"name": "relevo-credential", "key": "key"}},
    }
