"""The published tables are what the code does: some rows run again, smaller, with honest tolerances."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import numpy as np
import pytest

from benchmarks import operating_page, rules_compared
from benchmarks.operating_page import NUMBERS, PAGE, PART, SECTIONS, fingerprint, merged, missing, run

RUNS = 150
STANDARD_ERRORS = 4.5
"""Of a few dozen comparisons, one in thousands of test runs is further off by chance."""


def _published(section: str, row: str) -> dict[str, object]:
    return merged(json.loads(NUMBERS.read_text(encoding="utf-8"))[section][row])


def _agree(published: Mapping[str, object], again: Mapping[str, object], path: str = "") -> None:
    """Every share and every mean with a standard error."""
    for key, value in published.items():
        if not isinstance(value, Mapping) or not isinstance(again.get(key), Mapping):
            continue
        other = again[key]
        assert isinstance(other, Mapping)
        if "standard_error" not in value:
            _agree(value, other, f"{path}{key}.")
            continue
        name = "share" if "share" in value else "mean"
        errors = [v["standard_error"] for v in (value, other)]
        if None in errors or key == "exposed_at_rollback":
            continue  # of a handful of rollbacks
        off = abs(value[name] - other[name])
        assert off <= STANDARD_ERRORS * math.hypot(*errors), f"{path}{key}: {value} and {other}"


@pytest.mark.parametrize(
    ("section", "row"),
    [
        ("reference", "errors 3"),
        ("reference", "errors 10"),
        ("reference", "shadowed errors 3"),
        ("reference", "latency x1.25"),
        ("policy", "errors x10"),
        ("policy", "accuracy -5 points"),
        ("rules", "errors x5"),
    ],
)
def test_a_published_row_comes_out_again(section: str, row: str) -> None:
    """With another seed, shares and means agree within the two runs' standard errors."""
    _agree(_published(section, row), run(section, row, RUNS, seed=12_345))


def test_the_page_has_every_row_of_every_section() -> None:
    """What the command would run is on the page: nothing was left out that came out badly."""
    numbers = json.loads(NUMBERS.read_text(encoding="utf-8"))
    page = PAGE.read_text(encoding="utf-8")
    for section, (rows, _) in SECTIONS.items():
        assert f"<!-- begin {section} -->" in page
        missing = set(rows) - set(numbers[section])
        assert not missing, f"{section}: {missing}"


def test_runs_with_several_seeds_add_up() -> None:
    """Shares and means are weighted by the runs, and the standard error falls as if all had been one run."""
    parts = {
        "1": {"runs": 100, "rolled_back": {"share": 0.1, "standard_error": 0.03}, "exposed": {"mean": 10.0, "standard_error": 1.0}},
        "2": {"runs": 300, "rolled_back": {"share": 0.3, "standard_error": 0.03}, "exposed": {"mean": 20.0, "standard_error": 1.0}},
    }  # fmt: skip
    both = merged(parts)
    assert both["runs"] == 400
    assert both["rolled_back"]["share"] == pytest.approx(0.25)
    assert both["rolled_back"]["standard_error"] == pytest.approx(math.sqrt(0.25 * 0.75 / 400))
    assert both["exposed"]["mean"] == pytest.approx(17.5)
    assert both["exposed"]["standard_error"] == pytest.approx(math.hypot(100, 300) / 400)


def test_the_rules_do_what_their_documentation_says() -> None:
    """On counts made by hand: the fifth failed minute for Flagger, the fourth failed measurement for Argo, none for a healthy one."""
    runs, looks = 1, rules_compared.MINUTES * rules_compared.LOOKS_PER_MINUTE
    requests = np.tile(np.array([150.0, 20.0]), (runs, looks, 1))
    errors = np.zeros((runs, looks, 2))
    errors[..., 1] = 1.5  # 7.5 % of the candidate's requests
    over = np.zeros((runs, looks, rules_compared.QUANTILES.size + 1, 2))
    failing = rules_compared.Streams(requests, errors, over)
    healthy = rules_compared.Streams(requests, np.zeros_like(errors), over)
    minute = rules_compared.LOOKS_PER_MINUTE
    assert rules_compared.flagger(failing)[0] == 5 * minute - 1
    assert rules_compared.argo(failing)[0] == 20 * minute - 1
    assert rules_compared.z_test(failing)[0] == minute - 1
    assert rules_compared.relevo(failing)[0] < minute
    for rule in rules_compared.RULES.values():
        assert rule(healthy)[0] == rules_compared.NEVER


def test_every_tuned_rule_keeps_its_false_alarms_near_one_percent() -> None:
    """The comparison is at the same false-alarm rate: no tuned rule has much more than 1 %, and relevo none either."""
    published = _published("rules", "healthy")
    for rule in (*rules_compared.TUNED, "relevo"):
        share = published[rule]["rolled_back"]  # type: ignore[index]
        assert share["share"] <= 0.016 + 3 * share["standard_error"], rule  # type: ignore[index]


def test_a_row_that_has_parts_is_only_given_what_it_lacks() -> None:
    """Seeds that are kept are not run again, and every row gets a part before any gets its next."""
    numbers = {"rules": {"healthy": {"2": {"relevo": {"runs": PART}}}}}
    rows = [("rules", "healthy"), ("rules", "errors x2")]
    assert missing(numbers, rows, 2 * PART + 500) == [
        ("rules", "healthy", PART, 1),
        ("rules", "errors x2", PART, 1),
        ("rules", "errors x2", PART, 2),
        ("rules", "healthy", 500, 3),
        ("rules", "errors x2", 500, 3),
    ]
    assert missing(numbers, rows, PART // 2) == [("rules", "errors x2", PART // 2, 1)]


def test_the_fingerprint_tells_other_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal rules have equal fingerprints; another alpha, which decides otherwise, has another."""
    before = fingerprint("rules")
    assert fingerprint("rules") == before
    monkeypatch.setitem(rules_compared.RULES, "relevo", lambda streams: rules_compared.relevo(streams, alpha=0.2))  # type: ignore[arg-type]
    assert fingerprint("rules") != before


def test_the_command_refuses_senseless_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    """No run at all is a mistake, told on stderr."""
    with pytest.raises(SystemExit):
        operating_page.main(["--runs", "0"])
    assert "RUNS" in capsys.readouterr().err
