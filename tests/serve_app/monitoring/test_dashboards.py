"""Dashboards and alerts use only metrics and labels that the code declares, and leave none out."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from deployments.metrics.names import METRICS, Metric
from serve_app.cli import main
from serve_app.monitoring.alerts import ALERTS
from serve_app.monitoring.dashboards import DASHBOARDS
from serve_app.monitoring.files import Places, contents
from serve_app.monitoring.panels import Dashboard, grafana
from serve_app.monitoring.query import rate, value

SERIES = {name: metric for metric in METRICS for name in metric.series}
QUERIES = [
    *((f"{d.uid}: {p.title}", q.expr) for d in DASHBOARDS for p in d.panels for q in p.queries),
    *((alert.name, alert.expr) for alert in ALERTS),
]
BY_HAND = {
    "fastserve_table_unsent",
    "fastserve_table_requests",
    "fastserve_table_versions",
}  # for a look by hand


def used(expr: str) -> Iterator[Metric]:
    """The metrics of a query, each of which is declared."""
    for name in re.findall(r"\bray_\w+", expr):
        assert name in SERIES, f"no series '{name}'"
        yield SERIES[name]


@pytest.mark.parametrize(("place", "expr"), QUERIES, ids=[place for place, _ in QUERIES])
def test_a_query_names_declared_series_and_their_labels(place: str, expr: str) -> None:
    metrics = list(used(expr))
    assert metrics
    known = {label for metric in metrics for label in metric.labels} | {"le"}
    filters = re.findall(r"[{,](\w+)(?:=~|!~|!=|=)\"", expr)
    groups = [label for group in re.findall(r"by \(([^)]*)\)", expr) for label in group.split(", ")]
    assert {*filters, *groups} <= known
    for name, inside in re.findall(r"\b(ray_\w+)\{([^}]*)\}", expr):
        assert set(re.findall(r"(\w+)(?:=~|!~|!=|=)\"", inside)) <= set(SERIES[name].labels)


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.uid)
def test_a_legend_names_labels_that_its_query_leaves(dashboard: Dashboard) -> None:
    for panel in dashboard.panels:
        for query in panel.queries:
            groups = re.findall(r"by \(([^)]*)\)", query.expr)
            left = set(groups[0].split(", ")) - {"le"} if groups else set()
            assert set(re.findall(r"\{\{(\w+)\}\}", query.legend)) == left, panel.title


def test_every_metric_is_in_a_panel_or_an_alert() -> None:
    shown = {metric.name for _, expr in QUERIES for metric in used(expr)}
    assert {metric.name for metric in METRICS} - shown == BY_HAND


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.uid)
def test_a_dashboard_fits_its_grid_and_its_variables_are_used(dashboard: Dashboard) -> None:
    made = grafana(dashboard)
    assert json.loads(json.dumps(made)) == made
    panels = made["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells), "panels lie on each other"
    assert max(x for x, _ in cells) < 24
    asked = {name for _, expr in QUERIES for name in re.findall(r'"\$(\w+)"', expr)}
    own = {name for p in dashboard.panels for q in p.queries for name in re.findall(r'"\$(\w+)"', q.expr)}
    assert own == set(dashboard.variables) <= asked
    for label, series in dashboard.variables.items():
        assert label in SERIES[series].labels


def test_what_is_not_declared_cannot_be_asked_for() -> None:
    with pytest.raises(KeyError):
        value("fastserve_nonsense")
    with pytest.raises(ValueError, match="no label"):
        rate("fastserve_cost", ("key",))
    with pytest.raises(ValueError, match="is a gauge"):
        rate("fastserve_keys")


def test_every_alert_has_its_section_of_what_to_do() -> None:
    page = (Path(__file__).parents[3] / "docs/operations.md").read_text()
    assert re.findall(r"^### (FastServe\w+)$", page, re.M) == [alert.name for alert in ALERTS]


def test_the_command_writes_what_prometheus_and_grafana_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out"
    arguments = ["--runbooks", "https://example.org/runbooks", "--prometheus", "http://prom:9090"]
    assert main(["monitoring", "--out", str(folder), *arguments]) == 0
    written = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert written == set(contents(Places(folder)))
    assert str(folder) in capsys.readouterr().out
    rules = yaml.safe_load((folder / "prometheus/fastserve.rules.yml").read_text())
    links = [rule["annotations"]["runbook_url"] for rule in rules["groups"][0]["rules"]]
    assert links == [f"https://example.org/runbooks#{alert.name.lower()}" for alert in ALERTS]
    sources = yaml.safe_load((folder / "grafana/provisioning/datasources/prometheus.yml").read_text())
    assert sources["datasources"][0]["url"] == "http://prom:9090"
    providers = yaml.safe_load((folder / "grafana/provisioning/dashboards/fastserve.yml").read_text())
    assert providers["providers"][0]["options"]["path"] == str(folder / "grafana/dashboards")


def test_without_the_programs_start_says_which_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["monitoring", "--out", str(tmp_path / "out"), "--start"]) == 1
    assert "'prometheus' is not in the PATH" in capsys.readouterr().err
