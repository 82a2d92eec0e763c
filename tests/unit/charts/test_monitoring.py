"""Rules and dashboard: every expression is parsed by promtool, the rules' tests hold, and no name is used that nobody makes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.unit.charts.tools import CHARTS, ROOT, run

MONITORING = ROOT / "k8s/monitoring"
RULES = yaml.safe_load((MONITORING / "rules.yaml").read_text())
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())
SCHEMA = json.loads((MONITORING / "dashboard.schema.json").read_text())
OPERATOR = {
    "relevo_leader",
    "relevo_ticks_total",
    "relevo_tick_duration_seconds_bucket",
    "relevo_rollouts",
    "relevo_rollout_held_since_timestamp_seconds",
    "relevo_rollout_weight_percent",
    "relevo_verdicts_total",
}
ENVOY = {"envoy_cluster_upstream_rq", "envoy_cluster_upstream_rq_time_bucket"}


def rules() -> Iterator[dict[str, Any]]:
    for group in RULES["groups"]:
        yield from group["rules"]


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def queries() -> Iterator[tuple[str, str]]:
    """Title and PromQL of everything that the dashboard asks, Grafana's variables filled in."""
    asked = [(panel["title"], target["expr"]) for panel in panels() for target in panel["targets"]]
    asked += [(each["name"], each["expr"]) for each in DASHBOARD["annotations"]["list"]]
    for each in DASHBOARD["templating"]["list"]:
        if each["type"] == "query":
            match = re.fullmatch(r"label_values\((.+), ([a-z]+)\)", each["definition"])
            assert match, each["definition"]
            asked.append((each["name"], match[1]))
    for title, expression in asked:
        filled = expression.replace("$__range", "30m").replace("$namespace", "team-a|team-b").replace("$target", "iris")
        assert "$" not in filled, f"{title}: a variable that the dashboard does not have: {filled}"
        yield title, filled


def names(expression: str) -> set[str]:
    """The metrics of ours or Envoy's in an expression."""
    return set(re.findall(r"\b(?:relevo[_:][a-z0-9_:]+|envoy_[a-z_]+)\b(?![=~\"])", expression)) - {
        "envoy_cluster_name",
        "envoy_response_code",
    }


def test_rules_hold() -> None:
    """`promtool test rules`: each rule does what its test's name says."""
    result = run("promtool", "test", "rules", MONITORING / "rules_test.yaml")
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_rule_is_tested() -> None:
    """Every alert, and every record that is no intermediate one, has a test of its own in rules_test.yaml."""
    tested = (MONITORING / "rules_test.yaml").read_text()
    intermediate = {name for rule in rules() if "record" in rule for name in names(rule["expr"])}
    alerted = {name for rule in rules() if "alert" in rule for name in names(rule["expr"])}
    wanted = {rule.get("alert") or rule["record"] for rule in rules()} - intermediate - alerted
    assert wanted
    assert [name for name in wanted if name not in tested] == []


def test_broken_rule_breaks_its_test(tmp_path: Path) -> None:
    """The rules' tests can fail: with errors counted as 4xx they do."""
    text = (MONITORING / "rules.yaml").read_text()
    (tmp_path / "rules.yaml").write_text(text.replace('code=~"5.."', 'code=~"4.."'))
    (tmp_path / "rules_test.yaml").write_text((MONITORING / "rules_test.yaml").read_text())
    assert run("promtool", "test", "rules", tmp_path / "rules_test.yaml").returncode != 0


def test_files_are_the_charts() -> None:
    """k8s/monitoring shows the files that the chart ships: one set of rules, one dashboard."""
    for name in ("rules.yaml", "dashboard.json"):
        assert (MONITORING / name).resolve() == (CHARTS / "relevo/files" / name).resolve()


def test_every_query_is_promql(tmp_path: Path) -> None:
    """promtool parses every expression of the dashboard."""
    records = [{"record": f"query:{i}", "expr": expression} for i, (_, expression) in enumerate(queries())]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": records}]}))
    result = run("promtool", "check", "rules", "--lint=none", file)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_name_is_made_by_somebody() -> None:
    """Rules and dashboard use only what the operator or Envoy serves, or what a rule records."""
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    used = {name for rule in rules() for name in names(rule["expr"])}
    used |= {name for _, expression in queries() for name in names(expression)}
    assert used - recorded <= OPERATOR | ENVOY
    assert recorded <= used, f"recorded for nobody: {recorded - used}"


def test_operator_makes_them() -> None:
    """The operator registers every metric that is used, with the labels that are asked for."""
    pytest.importorskip("relevo.operator.metrics")
    text = (ROOT / "relevo/operator/metrics.py").read_text()
    for name in OPERATOR:
        base = name.removesuffix("_bucket").removesuffix("_total")
        assert base in text, name


def test_dashboard_fits_its_schema() -> None:
    """dashboard.json has no property that the schema does not know, and every one has its type."""
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    errors = [
        f"{error.json_path}: {error.message}" for error in jsonschema.Draft7Validator(SCHEMA).iter_errors(DASHBOARD)
    ]
    assert errors == []


@pytest.mark.parametrize("misspelt", ["targts", "fieldconfig"])
def test_schema_refuses_a_misspelt_property(misspelt: str) -> None:
    """The schema finds what Grafana would ignore without a word."""
    broken = json.loads(json.dumps(DASHBOARD))
    broken["panels"][1][misspelt] = []
    assert list(jsonschema.Draft7Validator(SCHEMA).iter_errors(broken))


def test_panels_do_not_overlap() -> None:
    """Every panel has its place in Grafana's 24 columns, and its own id."""
    taken: dict[tuple[int, int], str] = {}
    for panel in DASHBOARD["panels"]:
        grid = panel["gridPos"]
        assert grid["x"] + grid["w"] <= 24, panel["title"]
        for x in range(grid["x"], grid["x"] + grid["w"]):
            for y in range(grid["y"], grid["y"] + grid["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)


def test_every_alert_says_what_to_do() -> None:
    """Every alert has a severity, a summary and a description that ends as a sentence."""
    for rule in rules():
        if "alert" in rule:
            assert rule["labels"]["severity"] in ("info", "warning", "critical"), rule["alert"]
            assert rule["annotations"]["summary"], rule["alert"]
            assert rule["annotations"]["description"].rstrip()[-1] in ".`", rule["alert"]
