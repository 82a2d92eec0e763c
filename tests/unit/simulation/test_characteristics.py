"""A grid of effects: repeatable, evenly advanced, and stopped without loss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from relevo.errors import BadInput
from relevo.rollout.spec import parse_rollout
from relevo.simulation import characteristics as module
from relevo.simulation.characteristics import characteristics
from relevo.simulation.conditions import Conditions
from relevo.simulation.outcomes import binomial
from relevo.simulation.page import write_page
from relevo.simulation.traffic import EFFECTS, HEALTHY, Effect, Traffic
from relevo.simulation.world import World
from tests.unit.simulation.replay import EDGES, make_spec

TRAFFIC = Traffic(100, 0.01, EDGES)
WORLD = World(make_spec(baseline={"requests": 50}, tickSeconds=2.0, limits={"maxSeconds": 40}), TRAFFIC)
WORSE = Effect("errors x10", error_ratio=10.0)


def test_two_processes_give_what_one_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    """The result depends on the seed, not on the number of processes."""
    monkeypatch.setattr(module, "CHUNK", 6)
    one, two = (characteristics(WORLD, [HEALTHY, WORSE], 12, 5, jobs=jobs).as_dicts() for jobs in (1, 2))
    assert one == two
    assert [row["runs"] for row in one] == [12, 12]


def test_a_stopped_simulation_says_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """After Ctrl-C the chunks that are done count, of all effects alike."""
    monkeypatch.setattr(module, "CHUNK", 5)

    def interrupt(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    result = characteristics(WORLD, [HEALTHY, WORSE], 50, 5, progress=interrupt)
    assert result.stopped
    assert [summary.runs for _, summary in result.rows] == [10, 5]


def test_wrong_ends_are_named() -> None:
    """A healthy candidate has wrong rollbacks, a worse one missed regressions."""
    healthy, worse = characteristics(WORLD, [HEALTHY, WORSE], 20, 1).as_dicts()
    assert healthy["wrong_rollback"] == healthy["rolled_back"]
    assert worse["missed_regression"] == worse["promoted"]


@pytest.mark.parametrize("bad", [{"runs": 0}, {"jobs": 0}, {"seed": -1}])
def test_senseless_numbers_are_refused_by_name(bad: dict[str, int]) -> None:
    """Fewer than one run or process, and a negative seed, are bad input."""
    with pytest.raises(BadInput, match=next(iter(bad))):
        characteristics(WORLD, [HEALTHY], bad.get("runs", 1), bad.get("seed", 1), jobs=bad.get("jobs", 1))


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"requests_per_second": -5.0}, "rate"),
        ({"requests_per_second": float("nan")}, "rate"),
        ({"error_rate": -0.1}, "error rate"),
        ({"error_rate": 1.0}, "error rate"),
        ({"latency_p50_ms": 0.0}, "latency p50"),
        ({"latency_p99_ms": 1.0}, "latency p99"),
        ({"wrong_rate": 2.0}, "wrong rate"),
        ({"disagreement": -1.0}, "disagreement"),
        ({"class_shares": (0.5, 0.2)}, "class shares"),
    ],
)
def test_impossible_traffic_is_refused_by_name(fields: dict[str, object], name: str) -> None:
    """Every rate must be possible; the message names the one that is not."""
    with pytest.raises(BadInput, match=name):
        Traffic(**{"requests_per_second": 10.0, "error_rate": 0.01, "edges_ms": EDGES, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "fields", [{"scrape_seconds": -1.0}, {"error_prone_share": 0.0}, {"shared_latency": 1.0}, {"cluster_requests": 0}]
)
def test_impossible_conditions_are_refused_by_name(fields: dict[str, float]) -> None:
    """Every condition has its bounds; the message names the one that is broken."""
    with pytest.raises(BadInput, match=next(iter(fields))):
        Conditions(**fields)  # type: ignore[arg-type]


def test_a_slow_effect_moves_every_quantile_and_a_stall_the_tail() -> None:
    """Survival falls with the threshold, lies above the stable arm's, and is about the share of stalls far out."""
    thresholds = np.array([3.0, 5.0, 16.0, 200.0])
    healthy = HEALTHY.survival(TRAFFIC, thresholds)
    assert healthy[1:3] == pytest.approx([0.5, 0.01])
    assert (Effect("x", latency_factor=1.1).survival(TRAFFIC, thresholds)[:3] > healthy[:3]).all()
    assert Effect("x", stalled_share=0.03).survival(TRAFFIC, thresholds)[3] == pytest.approx(0.03)


def test_a_share_has_a_standard_error_even_where_it_is_zero() -> None:
    """No event in n runs is told with the error of about one."""
    assert binomial(0, 100) == pytest.approx((0.0, 0.00990), rel=0.02)
    assert binomial(50, 100) == pytest.approx((0.5, 0.05))


def test_the_page_opens_with_no_network_and_escapes_what_users_wrote(tmp_path: Path) -> None:
    """One file, no link to anywhere, every effect in it, and no markup that came from a warning."""
    result = characteristics(WORLD, EFFECTS[:3], 10, 1)
    document = {"metadata": {"name": "iris"}, "spec": {"target": "iris", "storageUri": "oci://x/iris:2"}}
    rollout = parse_rollout(document, where="test")
    path = write_page(tmp_path / "a" / "page.html", rollout, TRAFFIC, result, ["<b>bold</b>"], seed=1, style="p{}")
    page = path.read_text(encoding="utf-8")
    assert "<b>bold</b>" not in page
    assert page.count("<svg") == 3
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert all(effect.name in page for effect in EFFECTS[:3])
