"""The order in which the platform is taken down; its processes are proven in tests/component."""

from __future__ import annotations

import pytest

from relevo import errors
from relevo.platforms.local import deployment as deployments
from relevo.platforms.local import supervisor
from relevo.platforms.local.deployment import Deployment, Revision, Service
from relevo.platforms.local.platform import LocalPlatform
from relevo.platforms.local.program import Layout

UP = Deployment(
    services=(Service("iris", "default", Revision("iris-predictor-00003", "oci://r/iris:1", 1, 2)),),
    last_revision={"iris": 3},
)


@pytest.fixture
def layout(tmp_path):
    """Of a home where iris is up, by its files."""
    layout = Layout.of(tmp_path)
    deployments.save(layout, UP)
    return layout


def test_down_forgets_what_is_up_before_it_ends_it(tmp_path, layout, monkeypatch):
    """While processes are being ended nobody who looks finds a service to bring back; numbers of revisions are remembered."""
    seen = []
    monkeypatch.setattr(supervisor, "stop_all", lambda where: seen.append(deployments.load(where)))
    LocalPlatform(tmp_path, resolve=lambda uri, home: home).down()
    assert seen == [Deployment(last_revision={"iris": 3})]
    assert deployments.load(layout) == seen[0]


def test_down_ends_everything_also_on_a_full_disk(tmp_path, layout, monkeypatch):
    """What cannot be written first is written when the processes have ended."""
    save, ended = deployments.save, []

    def save_once_there_is_room(where, deployment):
        if not ended:
            raise errors.Transient("deployment.json: cannot write: No space left on device")
        save(where, deployment)

    monkeypatch.setattr(deployments, "save", save_once_there_is_room)
    monkeypatch.setattr(supervisor, "stop_all", ended.append)
    LocalPlatform(tmp_path, resolve=lambda uri, home: home).down()
    assert ended == [layout]
    assert deployments.load(layout).services == ()
