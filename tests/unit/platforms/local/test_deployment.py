"""Revisions and services as values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevo import errors
from relevo.platforms.local import deployment as deployments
from relevo.platforms.local.deployment import Deployment, Revision, Service, revision_name
from relevo.platforms.local.program import Layout

STABLE = Revision("iris-predictor-00001", "oci://dev.local/iris:1", 1001, 1002)
CANDIDATE = Revision("iris-predictor-00002", "oci://dev.local/iris:2", 1003, 1004)
SERVICE = Service("iris", "default", STABLE, candidate=CANDIDATE, weight_percent=25, label="u/1")


def test_revisions_are_named_as_knative_names_them():
    """Five digits, counting from one, and more digits when five do not do."""
    assert revision_name("iris", 1) == "iris-predictor-00001"
    assert revision_name("iris", 123456) == "iris-predictor-123456"


@given(st.lists(st.sampled_from(["iris", "digits"]), max_size=20))
def test_a_number_is_never_given_twice(services):
    """However revisions come and go, per service the numbers only grow."""
    deployment, names = Deployment(), []
    for service in services:
        deployment, revision = deployment.new_revision(service, "oci://x/y:1", (1, 2))
        names.append(revision.name)
        deployment = deployment.without_service(service)
    assert len(set(names)) == len(names)


def test_a_promotion_swaps_the_arms_and_retires_the_old_one():
    """The candidate is stable, has no label, and the old stable revision waits to be ended."""
    after = SERVICE.promoted()
    assert (after.stable, after.candidate, after.retiring) == (CANDIDATE, None, (STABLE,))
    assert (after.weight_percent, after.label) == (0, "")
    assert after.promoted() == after


def test_a_rollback_retires_the_candidate():
    """The stable revision stays; doing it twice is doing it once."""
    after = SERVICE.without_candidate()
    assert (after.stable, after.candidate, after.retiring, after.weight_percent) == (STABLE, None, (CANDIDATE,), 0)
    assert after.without_candidate() == after


def test_what_is_saved_is_loaded(tmp_path):
    """A deployment survives its file; where nothing was saved there is nothing up."""
    layout = Layout.of(tmp_path)
    assert deployments.load(layout) == Deployment()
    deployment = Deployment(8080, 9901, (SERVICE, SERVICE.promoted()), {"iris": 2})
    deployments.save(layout, deployment)
    assert deployments.load(layout) == deployment
    assert deployment.ports == {8080, 9901, 1001, 1002, 1003, 1004}


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"proxy_port": "x"}'])
def test_a_damaged_file_is_named(tmp_path, text):
    """Anything else than what was saved is refused with the way out."""
    layout = Layout.of(tmp_path)
    layout.root.mkdir()
    layout.deployment.write_text(text)
    with pytest.raises(errors.Permanent, match=r"deployment\.json: is not") as told:
        deployments.load(layout)
    assert "relevo down" in told.value.next_step
