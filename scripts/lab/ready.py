"""What must be there before anything is tried or measured on a cluster: KServe, the operator, and the models' images in the node."""

from __future__ import annotations

from scripts.arena import ArenaError
from scripts.lab import models
from scripts.lab.faults import wait_for_operator
from scripts.lab.kube import Lab, LabError

__all__ = ["make_ready"]


def make_ready(lab: Lab) -> None:
    """Train the models, bring their images into kind's node, and wait for the operator. What is there already costs a few seconds.

    Elsewhere than on kind the images must be there: dev.local/iris in the versions of `models.VERSIONS`.

    Raises:
        LabError: what is missing, in one sentence with the next step.
    """
    _check(lab)
    try:
        models.train()
    except ArenaError as error:
        raise LabError(str(error)) from error
    if lab.kind_cluster:
        models.load_models(lab.kind_cluster)
    wait_for_operator(lab)


def _check(lab: Lab) -> None:
    if lab.try_kubectl("get", "--raw", "/readyz", timeout_seconds=15).returncode:
        raise LabError(f"no cluster answers in context {lab.context}; `make cluster` makes one, CONTEXT= names another")
    for crd, remedy in (
        ("inferenceservices.serving.kserve.io", "install KServe"),
        ("rollouts.relevo.dev", "helm install relevo charts/relevo"),
    ):
        if lab.try_kubectl("get", "crd", crd).returncode:
            raise LabError(f"the cluster of {lab.context} has no {crd}: {remedy}")
