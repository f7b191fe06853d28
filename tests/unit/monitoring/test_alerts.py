"""Alert rules, their tests and the dashboard speak of metrics that are exported, and of nothing
else.

`promtool` looks at the rules more closely (docs/monitoring.md); this needs no program.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy.ext.asyncio import create_async_engine

from app.console.metrics import Metrics
from app.console.store.store import Store
from app.core.attempts import Outcome
from app.core.states import State
from app.jobs.schedule import JOBS
from app.monitoring.metrics.families import FAMILIES, Kind
from app.partner.throttle.view import BreakerState
from tasks.messages import REASONS

ROOT = Path(__file__).resolve().parents[3]
PROMETHEUS = ROOT / "deploy" / "prometheus"
_METRIC = re.compile(r"\browrelay_[a-z_]+")
_MATCHER = re.compile(r"(rowrelay_[a-z_]+)\{([^}]*)\}")
_SUFFIXES = ("_bucket", "_count", "_sum")


def exported() -> set[str]:
    """Every name that a query may use."""
    names = set(FAMILIES) | _of_the_console()
    return names | {
        n + suffix for n, f in FAMILIES.items() if f.kind is Kind.HISTOGRAM for suffix in _SUFFIXES
    }


def _of_the_console() -> set[str]:
    """What the operator console exports of itself."""
    endings = {"counter": ("_total",), "histogram": _SUFFIXES, "gauge": ("",)}
    metrics = Metrics(Store(create_async_engine("sqlite+aiosqlite:///never-opened")))
    return {
        family.name + ending
        for family in metrics.registry.collect()
        if family.name.startswith("rowrelay_")
        for ending in endings[family.type]
    }


def family_of(name: str) -> str:
    return next((name.removesuffix(s) for s in _SUFFIXES if name.removesuffix(s) in FAMILIES), name)


def rules() -> list[dict[str, Any]]:
    document = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    path = ROOT / "deploy" / "grafana" / "dashboards" / "rowrelay.json"
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def _queries() -> Iterator[tuple[str, str]]:
    """(where, expression) of every query."""
    for rule in rules():
        yield rule["alert"], rule["expr"]
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


@pytest.mark.parametrize(("where", "expression"), list(_queries()))
def test_a_query_uses_metrics_and_labels_that_are_exported(where: str, expression: str) -> None:
    names = set(_METRIC.findall(expression))
    assert names, where
    assert names <= exported(), f"{where}: {names - exported()}"
    for name, matchers in _MATCHER.findall(expression):
        if family_of(name) not in FAMILIES:
            continue
        labels = {re.split("[=!]", matcher)[0] for matcher in matchers.split(",")}
        assert labels <= {*FAMILIES[family_of(name)].labels, "le"}, where


@pytest.mark.parametrize(("where", "expression"), list(_queries()))
def test_a_query_asks_for_values_that_exist(where: str, expression: str) -> None:
    known = {
        "outcome": {outcome.value for outcome in Outcome},
        "state": {state.value for state in (*State, *BreakerState)},
        "job_name": {job.name for job in JOBS},
        "role": {"worker", "beat"},
        "server": {"ledger", "redis", "source"},
        "reason": REASONS,
    }
    for _, matchers in _MATCHER.findall(expression):
        for matcher in matchers.split(","):
            label, _, value = re.sub("!=|=~|!~", "=", matcher).partition("=")
            if "$" not in value:
                assert set(value.strip('"').split("|")) <= known[label], where


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule["alert"]))
def test_an_alert_says_how_bad_it_is_what_it_means_and_where_to_read_on(
    rule: dict[str, Any],
) -> None:
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"].keys() == {"summary", "description", "runbook"}
    assert rule["annotations"]["runbook"] == f"docs/operations.md#alert-{rule['alert'].lower()}"


def test_each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    document = yaml.safe_load((PROMETHEUS / "alerts_test.yml").read_text(encoding="utf-8"))
    cases = [case for test in document["tests"] for case in test["alert_rule_test"]]
    assert {case["alertname"] for case in cases} == {rule["alert"] for rule in rules()}
    for rule in rules():
        assert any(case["exp_alerts"] for case in cases if case["alertname"] == rule["alert"]), (
            rule["alert"]
        )


def test_the_dashboard_has_a_row_for_each_subject_and_no_panel_twice() -> None:
    panels = dashboard()["panels"]
    rows = [panel["title"] for panel in panels if panel["type"] == "row"]
    assert rows == [
        "Delivery",
        "Latency",
        "Backlog",
        "Source",
        "Partner",
        "Health",
        "Operator console",
    ]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(
        panel["datasource"]["uid"] == "prometheus" for panel in panels if panel["type"] != "row"
    )
    taken = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(taken) == len(set(taken)), "panels overlap"


def test_every_metric_is_explained() -> None:
    told = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    console = {name for name in _of_the_console() if not name.endswith(_SUFFIXES)}
    assert not {name for name in {*FAMILIES, *console} if f"`{name}" not in told}
