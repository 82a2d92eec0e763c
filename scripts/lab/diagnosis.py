"""What a failed test leaves behind for whoever reads its output: the Rollout, the InferenceService, the pods that are not ready, the
events, the route, and the operator's log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from scripts.lab.kube import Lab, LabError

__all__ = ["diagnose"]

OPERATOR_NAMESPACE = "relevo-system"
MOST_LINES = 80


_SHOWN = "rollouts,inferenceservices,routes.serving.knative.dev,revisions.serving.knative.dev,pods"
_ROUTES = "jsonpath={range .items[*]}{.metadata.name}{' '}{.status.traffic}{' '}{.status.conditions}{'\\n'}{end}"


def diagnose(lab: Lab, namespaces: Iterable[str], *, operator_lines: int = 150) -> str:
    """Everything in one text. Never raises: what cannot be read is said."""
    parts = []
    for namespace in namespaces:
        within = ("-n", namespace)
        parts += [
            _section(f"namespace {namespace}", lab, *within, "get", _SHOWN, "-o", "wide"),
            _section("rollouts", lab, *within, "describe", "rollouts", most=200),
            _section("inference services", lab, *within, "describe", "inferenceservices", most=150),
            _section("routes", lab, *within, "get", "routes.serving.knative.dev", "-o", _ROUTES),
            _section("events", lab, *within, "get", "events", "--sort-by=.lastTimestamp"),
            *_pods(lab, namespace),
        ]
    within = ("-n", OPERATOR_NAMESPACE)
    parts.append(_section("operator", lab, *within, "get", "pods,leases", "-o", "wide"))
    whose = ("-l", "app.kubernetes.io/name=relevo", "--all-containers", "--prefix", f"--tail={operator_lines}")
    parts.append(_section("operator's log", lab, *within, "logs", *whose, most=2 * operator_lines))
    return "\n".join(parts)


def _section(title: str, lab: Lab, *arguments: str, most: int = MOST_LINES) -> str:
    try:
        done = lab.try_kubectl(*arguments, timeout_seconds=30)
    except LabError as error:
        return f"---- {title}: {error}"
    lines = (done.stdout + (done.stderr if done.returncode else "")).rstrip().splitlines()
    left_out = [f"({len(lines) - most} lines before)"] if len(lines) > most else []
    return "\n".join([f"---- {title}", *left_out, *lines[-most:]])


def _pods(lab: Lab, namespace: str) -> Iterator[str]:
    """Of each pod that is not ready: what it says, and the end of what its containers wrote."""
    try:
        pods = lab.items("pods", namespace)
    except LabError as error:
        yield f"---- pods: {error}"
        return
    for pod in pods:
        conditions = pod.get("status", {}).get("conditions", ())
        if any(one["type"] == "Ready" and one["status"] == "True" for one in conditions):
            continue
        name = pod["metadata"]["name"]
        yield _section(f"pod {name} is not ready", lab, "-n", namespace, "describe", "pod", name)
        yield _section(
            f"pod {name} wrote", lab, "-n", namespace, "logs", name, "--all-containers", "--prefix", "--tail=30"
        )
