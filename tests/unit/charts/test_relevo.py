"""Rules of charts/relevo, told of what Helm renders."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import yaml

from tests.unit.charts.rendered import KUBERNETES, Chart, StrictLoader, render
from tests.unit.charts.tools import CHARTS, ROOT, run

CHART = CHARTS / "relevo"
EVERYTHING = (
    "metrics.serviceMonitor.create=true",
    "metrics.prometheusRule.create=true",
    "metrics.dashboard.create=true",
)
VARIANTS = {
    "default": (),
    "one replica": ("operator.replicas=1",),
    "all namespaces": ("watch.allNamespaces=true", *EVERYTHING),
    "two namespaces": ("watch.namespaces={team-a,team-b}", "gateway.enabled=false"),
    "access": ("access.keysSecret=relevo-keys",),
    "its own namespace": ("watch.namespaces=null", "crd.create=false", "runtime.create=false"),
}


@cache
def rendered(*settings: str) -> Chart:
    return render("relevo", *settings)


@pytest.fixture(params=VARIANTS.values(), ids=VARIANTS.keys())
def chart(request: pytest.FixtureRequest) -> Chart:
    return rendered(*request.param)


def rules(chart: Chart) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every RBAC rule with the namespace it holds in, "*" for all."""
    for role in chart.all("ClusterRole"):
        yield from (("*", rule) for rule in role["rules"])
    for role in chart.all("Role"):
        yield from ((role["metadata"]["namespace"], rule) for rule in role["rules"])


def allowed(chart: Chart, group: str, resource: str) -> dict[str, set[str]]:
    """The verbs on a resource by namespace."""
    found: dict[str, set[str]] = {}
    for namespace, rule in rules(chart):
        if group in rule["apiGroups"] and resource in rule["resources"]:
            found.setdefault(namespace, set()).update(rule["verbs"])
    return found


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS.keys())
def test_lint_is_clean(settings: tuple[str, ...]) -> None:
    """`helm lint --strict` has nothing to say about the chart."""
    options = [option for setting in settings for option in ("--set", setting)]
    result = run("helm", "lint", "--strict", CHART, "--kube-version", KUBERNETES, *options)
    assert result.returncode == 0, result.stdout + result.stderr


class TestRights:
    """What the operator may do."""

    def test_no_secrets(self, chart: Chart) -> None:
        """The operator may not read secrets."""
        assert allowed(chart, "", "secrets") == {}

    def test_no_wildcards(self, chart: Chart) -> None:
        """No rule grants a wildcard, so what is granted can be read."""
        granted = [value for _, rule in rules(chart) for key in rule for value in rule[key]]
        assert "*" not in granted

    @pytest.mark.parametrize(
        ("group", "resource"),
        [
            ("rbac.authorization.k8s.io", "roles"),
            ("rbac.authorization.k8s.io", "clusterroles"),
            ("", "serviceaccounts"),
            ("", "serviceaccounts/token"),
            ("", "pods/exec"),
            ("apiextensions.k8s.io", "customresourcedefinitions"),
        ],
    )
    def test_no_way_up(self, chart: Chart, group: str, resource: str) -> None:
        """The operator may not change rights, take another account's token, enter a pod or change a definition."""
        assert allowed(chart, group, resource) == {}

    def test_models_are_never_created_or_deleted(self, chart: Chart) -> None:
        """The operator may change an InferenceService, but neither make nor delete one."""
        for verbs in allowed(chart, "serving.kserve.io", "inferenceservices").values():
            assert verbs == {"get", "list", "watch", "patch"}

    def test_little_of_knative(self, chart: Chart) -> None:
        """Of Knative's objects the operator reads revisions and routes, and changes only where a Route sends users."""
        granted = {
            (resource, verb)
            for _, rule in rules(chart)
            if "serving.knative.dev" in rule["apiGroups"]
            for resource in rule["resources"]
            for verb in rule["verbs"]
        }
        read = {(resource, verb) for resource in ("revisions", "routes") for verb in ("get", "list")}
        assert granted == read | {("routes", "patch")}

    def test_namespaced_by_default(self) -> None:
        """Out of the box the operator has rights in no namespace but the watched one, the gateways' and, for its Lease, its own."""
        chart = rendered()
        assert chart.all("ClusterRole") == []
        assert chart.all("ClusterRoleBinding") == []
        assert {namespace for namespace, _ in rules(chart)} == {"default", "kourier-system", "relevo-system"}
        assert set(allowed(chart, "relevo.dev", "rollouts")) == {"default"}

    def test_own_namespace_when_none_is_named(self) -> None:
        """With an empty list the release's own namespace is watched."""
        chart = rendered("watch.namespaces=null")
        assert set(allowed(chart, "relevo.dev", "rollouts")) == {"relevo-system"}
        assert "--namespace=relevo-system" in operator(chart)["args"]

    def test_exactly_the_named_namespaces(self) -> None:
        """Rights lie in the named namespaces and the operator is told the same ones."""
        chart = rendered("watch.namespaces={team-a,team-b}")
        assert set(allowed(chart, "relevo.dev", "rollouts")) == {"team-a", "team-b"}
        assert [arg for arg in operator(chart)["args"] if "namespace" in arg] == [
            "--namespace=team-a",
            "--namespace=team-b",
        ]

    def test_all_namespaces_by_one_value(self) -> None:
        """One value makes it cluster-wide: a ClusterRole, and the operator is told so."""
        chart = rendered("watch.allNamespaces=true")
        assert set(allowed(chart, "relevo.dev", "rollouts")) == {"*"}
        assert "--all-namespaces" in operator(chart)["args"]
        assert not [arg for arg in operator(chart)["args"] if arg.startswith("--namespace")]

    def test_gateways_are_only_listed(self, chart: Chart) -> None:
        """In the gateways' namespace the operator lists pods and does nothing else."""
        there = [rule for namespace, rule in rules(chart) if namespace == "kourier-system"]
        assert there in ([], [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}])

    def test_lease_in_its_own_namespace(self, chart: Chart) -> None:
        """The Lease is the operator's own: no other one can be read or changed."""
        verbs = {
            (namespace, tuple(rule.get("resourceNames", ()))): set(rule["verbs"])
            for namespace, rule in rules(chart)
            if "leases" in rule["resources"]
        }
        assert verbs == {
            ("relevo-system", ()): {"create"},
            ("relevo-system", ("relevo-operator",)): {"get", "update", "patch"},
        }
        assert {"name": "RELEVO_LEASE", "value": "relevo-operator"} in operator(chart)["env"]

    def test_every_role_is_bound_to_the_operator(self, chart: Chart) -> None:
        """Every role has a binding in the same place, to the account that the pods run as."""
        account = dict(chart.pods())["relevo-operator"]["serviceAccountName"]
        for kind in ("Role", "ClusterRole"):
            roles = {(r["metadata"].get("namespace"), r["metadata"]["name"]) for r in chart.all(kind)}
            bindings = chart.all(f"{kind}Binding")
            assert {(b["metadata"].get("namespace"), b["roleRef"]["name"]) for b in bindings} == roles
            for binding in bindings:
                assert binding["roleRef"]["kind"] == kind
                assert binding["subjects"] == [
                    {"kind": "ServiceAccount", "name": account, "namespace": "relevo-system"}
                ]

    def test_releases_do_not_share_what_lies_outside(self) -> None:
        """Two releases of one name in two namespaces give their outside roles different names."""
        first = render("relevo", "watch.allNamespaces=true", namespace="one")
        second = render("relevo", "watch.allNamespaces=true", namespace="two")
        names = [
            {
                (d["kind"], d["metadata"].get("namespace"), d["metadata"]["name"])
                for d in c.documents
                if "rbac" in d["apiVersion"]
            }
            for c in (first, second)
        ]
        assert not names[0] & names[1]

    def test_account_made_by_somebody_else(self) -> None:
        """Without rbac.create and serviceAccount.create the chart makes neither, and runs as the named account."""
        chart = rendered("rbac.create=false", "serviceAccount.create=false", "serviceAccount.name=given")
        assert not [d["kind"] for d in chart.documents if d["kind"] in ("Role", "RoleBinding", "ServiceAccount")]
        assert {pod["serviceAccountName"] for _, pod in chart.pods()} == {"given"}


class TestPods:
    """How what runs is confined."""

    def test_restricted(self, chart: Chart) -> None:
        """Every pod meets Pod Security "restricted", and its root filesystem is read-only."""
        for name, pod in chart.pods():
            assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod), name
            assert pod["securityContext"]["runAsNonRoot"] is True, name
            assert pod["securityContext"]["runAsUser"] > 0, name
            assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
            assert {kind for volume in pod["volumes"] for kind in volume} <= {"name", "emptyDir", "configMap"}, name
            for container in pod["containers"]:
                confined(container)

    def test_server_is_confined(self) -> None:
        """The model server meets "restricted" by itself, whatever its pod says."""
        (container,) = rendered().one("ClusterServingRuntime")["spec"]["containers"]
        confined(container)

    def test_resources(self, chart: Chart) -> None:
        """Everything asks for processor and memory and is limited in memory; the operator is never throttled."""
        for name, pod in chart.pods():
            for container in pod["containers"]:
                assert set(container["resources"]["requests"]) == {"cpu", "memory"}, name
                assert "memory" in container["resources"]["limits"], name
        assert "cpu" not in operator(rendered())["resources"]["limits"]

    def test_no_image_is_latest(self, chart: Chart) -> None:
        """Images have the chart's version as their tag, never none and never latest."""
        version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
        for _, pod in chart.pods():
            for container in pod["containers"]:
                assert container["image"].endswith(f":{version}")

    def test_own_image_for_the_load(self) -> None:
        """The operator is told the image that it runs from: the load uses it too."""
        container = operator(rendered("operator.image.repository=registry.example/relevo", "operator.image.tag=v7"))
        assert container["image"] == "registry.example/relevo:v7"
        assert {"name": "RELEVO_IMAGE", "value": "registry.example/relevo:v7"} in container["env"]

    def test_token_only_where_needed(self, chart: Chart) -> None:
        """The account hands out no token; pods that need it ask."""
        for account in chart.all("ServiceAccount"):
            assert account["automountServiceAccountToken"] is False
        for _, pod in chart.pods():
            assert pod["automountServiceAccountToken"] is True

    def test_selectors_never_change(self) -> None:
        """What selects the pods has no version in it: a Deployment's selector cannot be changed by an upgrade."""
        for kind, path in (("Deployment", ("selector", "matchLabels")), ("Service", ("selector",))):
            selector = rendered().one(kind)["spec"]
            for key in path:
                selector = selector[key]
            assert set(selector) == {f"app.kubernetes.io/{key}" for key in ("name", "instance", "component")}

    def test_probes(self) -> None:
        """The operator and the model server have a startup, a readiness and a liveness probe."""
        (server,) = rendered().one("ClusterServingRuntime")["spec"]["containers"]
        for container in (operator(rendered()), server):
            assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)

    def test_drains(self) -> None:
        """Two replicas keep one through a drain; one replica never stops a drain."""
        budget = rendered().one("PodDisruptionBudget")
        assert budget["spec"]["minAvailable"] == 1
        labels = rendered().one("Deployment")["spec"]["template"]["metadata"]["labels"]
        assert budget["spec"]["selector"]["matchLabels"].items() <= labels.items()
        assert rendered("operator.replicas=1").all("PodDisruptionBudget") == []


class TestNetwork:
    """Whom the operator talks to."""

    def test_both_directions_are_closed(self, chart: Chart) -> None:
        """What no rule names is refused, in and out, for exactly the operator's pods."""
        policy = chart.one("NetworkPolicy")["spec"]
        assert policy["policyTypes"] == ["Ingress", "Egress"]
        labels = chart.one("Deployment")["spec"]["template"]["metadata"]["labels"]
        assert policy["podSelector"]["matchLabels"].items() <= labels.items()

    def test_only_known_ports(self, chart: Chart) -> None:
        """Egress goes to DNS, the API server, the gateways, Locust and Prometheus; every rule names its ports."""
        policy = chart.one("NetworkPolicy")["spec"]
        ports = [port["port"] for rule in policy["egress"] for port in rule["ports"]]
        assert set(ports) <= {53, 443, 6443, 9000, 8081, 8089, 9090}
        assert [port["port"] for rule in policy["ingress"] for port in rule["ports"]] == ["metrics"]

    def test_prometheus_on_request(self) -> None:
        """Prometheus is reached, and the operator told of it, only where its URL is given."""
        chart = rendered("prometheus.url=http://prometheus.monitoring:9090")
        assert "--prometheus=http://prometheus.monitoring:9090" in operator(chart)["args"]
        ports = {port["port"] for rule in chart.one("NetworkPolicy")["spec"]["egress"] for port in rule["ports"]}
        assert 9090 in ports
        unasked = rendered().one("NetworkPolicy")["spec"]["egress"]
        assert 9090 not in {port["port"] for rule in unasked for port in rule["ports"]}

    def test_only_the_api_server_has_no_name(self, chart: Chart) -> None:
        """Only the API server, which is no pod, is reached by port alone."""
        unnamed = [rule for rule in chart.one("NetworkPolicy")["spec"]["egress"] if "to" not in rule]
        assert [[port["port"] for port in rule["ports"]] for rule in unnamed] == [[443, 6443]]

    def test_api_server_by_address(self) -> None:
        """With apiServerCidrs every rule names whom it is about."""
        policy = rendered("networkPolicy.apiServerCidrs={10.0.0.1/32}").one("NetworkPolicy")["spec"]
        assert all("to" in rule for rule in policy["egress"])

    def test_test_pod_may_ask(self) -> None:
        """The pod of `helm test` is let in by its labels, even where others are not."""
        chart = rendered("networkPolicy.metricsFrom.team=sre")
        (rule,) = chart.one("NetworkPolicy")["spec"]["ingress"]
        namespaces, pods = rule["from"]
        assert namespaces == {"namespaceSelector": {"matchLabels": {"team": "sre"}}}
        assert pods["podSelector"]["matchLabels"].items() <= chart.one("Pod")["metadata"]["labels"].items()

    def test_load_where_rollouts_are(self) -> None:
        """Locust is reached in the watched namespaces only."""
        policy = rendered("watch.namespaces={team-a}").one("NetworkPolicy")["spec"]
        (rule,) = [rule for rule in policy["egress"] if rule["ports"][0]["port"] == 8089]
        (expression,) = rule["to"][0]["namespaceSelector"]["matchExpressions"]
        assert expression["values"] == ["team-a"]


class TestDefinition:
    """The CustomResourceDefinition."""

    def test_upgraded_and_kept(self) -> None:
        """It is a template, so that `helm upgrade` upgrades it, and is kept on uninstall, and the Rollouts with it."""
        assert not (CHART / "crds").exists()
        definition = rendered().one("CustomResourceDefinition", "rollouts.relevo.dev")
        assert definition["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"

    def test_is_the_generated_one(self) -> None:
        """Helm changes nothing in the file, which a test of `relevo.rollout.crd` keeps as that module makes it."""
        file = (CHART / "files/rollouts.relevo.dev.yaml").read_text()
        assert rendered().one("CustomResourceDefinition") == yaml.load(file, Loader=StrictLoader)

    def test_left_out_on_request(self) -> None:
        """crd.create=false leaves it to somebody else."""
        assert rendered("crd.create=false").all("CustomResourceDefinition") == []


class TestRuntime:
    """The ClusterServingRuntime."""

    def test_answers_carry_the_revision(self) -> None:
        """The server is told the revision's name as Knative gives it and the model's as KServe does."""
        (container,) = rendered().one("ClusterServingRuntime")["spec"]["containers"]
        assert container["name"] == "kserve-container"
        assert "--revision=$(K_REVISION)" in container["args"]
        assert "--name={{.Name}}" in container["args"]

    def test_arguments_are_the_servers(self) -> None:
        """The server takes every argument that the runtime gives it."""
        from relevo.serving.__main__ import _parser

        (container,) = rendered().one("ClusterServingRuntime")["spec"]["containers"]
        assert container["command"] == ["python", "-m", "relevo.serving"]
        options = _parser().parse_args(container["args"])
        assert options.host == "0.0.0.0"
        assert [port["containerPort"] for port in container["ports"]] == [options.http_port]

    def test_operations_are_values(self) -> None:
        """Workers, the end and the stuck model are told to the server; but for the drain, the defaults are the server's own."""
        from relevo.serving.__main__ import _parser

        def told(*changes: str) -> tuple[int, int, float, float]:
            (container,) = rendered(*changes).one("ClusterServingRuntime")["spec"]["containers"]
            found = _parser().parse_args(container["args"])
            return found.workers, found.grace_seconds, found.drain_seconds, found.stuck_seconds

        own = _parser().parse_args(["--package", "a"])
        assert told() == (own.workers, own.grace_seconds, 1.0, own.stuck_seconds)
        changes = (
            "runtime.workers=4",
            "runtime.graceSeconds=60",
            "runtime.drainSeconds=2",
            "runtime.stuckSeconds=30",
        )
        assert told(*changes) == (4, 60, 2.0, 30.0)

    def test_behind_kserves_own(self) -> None:
        """It may be chosen for sklearn, but has no priority: KServe's own runtime for that format goes before it."""
        (model_format,) = rendered().one("ClusterServingRuntime")["spec"]["supportedModelFormats"]
        assert model_format == {"name": "sklearn", "version": "1", "autoSelect": True}

    def test_samples_name_it(self) -> None:
        """The samples' InferenceServices ask for this runtime by its default name, format and protocol."""
        runtime = rendered().one("ClusterServingRuntime")
        for path in (ROOT / "k8s/samples").glob("*.yaml"):
            for document in yaml.safe_load_all(path.read_text()):
                if document["kind"] == "InferenceService":
                    model = document["spec"]["predictor"]["model"]
                    assert model["runtime"] == runtime["metadata"]["name"]
                    assert model["modelFormat"]["name"] in [f["name"] for f in runtime["spec"]["supportedModelFormats"]]
                    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]


class TestAccess:
    """Who may ask the models, and what relevo itself carries."""

    ALL = (
        "access.keysSecret=relevo-keys",
        "access.oidc.issuer=https://id.example.com/realm",
        "access.oidc.audience=relevo",
        "access.oidc.caSecret=issuer-ca",
        "access.tls.secret=relevo-tls",
        "access.tls.clientCertificates=true",
        "access.metrics=closed",
        "access.credentialSecret=relevo-credential",
    )

    def test_off_by_default(self) -> None:
        """Without a value no argument asks for anything and no Secret is mounted."""
        runtime = rendered().one("ClusterServingRuntime")["spec"]
        assert not [a for a in runtime["containers"][0]["args"] if "access" in a]
        assert not [volume for volume in runtime["volumes"] if "secret" in volume]
        assert not [a for a in operator(rendered())["args"] if "credential" in a]

    def test_the_argument_is_what_the_server_takes(self) -> None:
        """The server's own parser reads it, and every file that it names lies in a Secret that is mounted there."""
        from relevo.access.settings import read_access
        from relevo.serving.__main__ import _parser

        runtime = rendered(*self.ALL).one("ClusterServingRuntime")["spec"]
        (container,) = runtime["containers"]
        access = read_access(_parser().parse_args(container["args"]).access)
        assert access.metrics == "closed"
        assert access.oidc is not None
        assert access.tls is not None
        files = [*access.keys, access.oidc.ca_file, access.tls.certificate, access.tls.key, access.tls.client_ca]
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        secrets = {volume["name"]: volume.get("secret", {}).get("secretName") for volume in runtime["volumes"]}
        found = {str(file): secrets[mounts[str(file.parent)]] for file in files if file is not None}
        assert found == {
            "/etc/relevo/keys/keys.jsonl": "relevo-keys",
            "/etc/relevo/issuer/ca.crt": "issuer-ca",
            "/etc/relevo/tls/tls.crt": "relevo-tls",
            "/etc/relevo/tls/tls.key": "relevo-tls",
            "/etc/relevo/tls/ca.crt": "relevo-tls",
        }

    def test_probes_speak_what_the_server_does(self) -> None:
        """HTTPS with a certificate, HTTP without; the paths are those that need no credential."""
        for settings, scheme in ((self.ALL, "HTTPS"), (("access.keysSecret=relevo-keys",), None)):
            (container,) = rendered(*settings).one("ClusterServingRuntime")["spec"]["containers"]
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                assert container[probe]["httpGet"].get("scheme") == scheme
                assert container[probe]["httpGet"]["path"].startswith("/v2/health/")

    def test_the_operator_carries_the_credential_and_still_reads_no_secret(self) -> None:
        """It is mounted, the load's is named, and no right on secrets is granted."""
        chart = rendered(*self.ALL)
        container = operator(chart)
        assert {"--credential=/etc/relevo/credential", "--credential-secret=relevo-credential"} <= set(
            container["args"]
        )
        assert {"name": "credential", "mountPath": "/etc/relevo/credential", "readOnly": True} in container[
            "volumeMounts"
        ]
        assert allowed(chart, "", "secrets") == {}


class TestMonitoring:
    """What needs the Prometheus Operator or Grafana is made on request only."""

    def test_nothing_by_default(self) -> None:
        """By default nothing is made whose kind a plain cluster does not know."""
        assert not [d for d in rendered().documents if d["apiVersion"].startswith("monitoring.coreos.com")]

    def test_rules_are_the_files(self) -> None:
        """The PrometheusRule holds exactly the rules of files/rules.yaml."""
        rule = rendered(*EVERYTHING).one("PrometheusRule")
        assert rule["spec"] == yaml.safe_load((CHART / "files/rules.yaml").read_text())

    def test_monitor_selects_the_service(self) -> None:
        """The ServiceMonitor finds the operator's Service and its port by name."""
        chart = rendered(*EVERYTHING)
        monitor, service = chart.one("ServiceMonitor")["spec"], chart.one("Service")
        assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        assert [e["port"] for e in monitor["endpoints"]] == [p["name"] for p in service["spec"]["ports"]]


def operator(chart: Chart) -> dict[str, Any]:
    """The operator's container."""
    (container,) = chart.one("Deployment", "relevo-operator")["spec"]["template"]["spec"]["containers"]
    return container


def confined(container: dict[str, Any]) -> None:
    """Assert what "restricted" asks of a container, and a read-only root."""
    security = container["securityContext"]
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert security["readOnlyRootFilesystem"] is True
    assert security["runAsNonRoot"] is True


def test_operators_arguments_are_its_own() -> None:
    """The operator knows every option that the chart gives it."""
    command = [sys.executable, "-m", "relevo.operator", "--help"]
    usage = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout
    for settings in (*VARIANTS.values(), TestAccess.ALL):
        container = operator(rendered(*settings))
        assert container["command"] == ["python", *command[1:3]]
        for argument in container["args"]:
            assert f"{argument.partition('=')[0]} " in usage, argument
