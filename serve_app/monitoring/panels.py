"""A Grafana dashboard as a short description, and the JSON that Grafana reads."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

WIDTH: Final = 24  # columns of Grafana's grid
_SCHEMA: Final = 39  # of Grafana 10; newer ones read it too
_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True, slots=True)
class Query:
    """One query; `legend` names its series, with labels as `{{model}}`."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart (`timeseries`) or number (`stat`). `unit` is Grafana's name of a unit."""

    title: str
    meaning: str  # shown at the panel's i
    unit: str
    queries: tuple[Query, ...]
    kind: str = "timeseries"
    width: int = 8
    stacked: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One page. `variables` are labels to choose values of, with the series that has them."""

    uid: str
    title: str
    meaning: str
    rows: tuple[Row, ...]
    variables: Mapping[str, str]

    @property
    def panels(self) -> Iterator[Panel]:
        """All panels, in order."""
        return (panel for row in self.rows for panel in row.panels)


def chart(title: str, unit: str, meaning: str, *queries: tuple[str, str], **options: Any) -> Panel:
    """A chart of (query, legend) pairs."""
    return Panel(title, meaning, unit, tuple(Query(*one) for one in queries), **options)


def number(title: str, unit: str, meaning: str, expr: str) -> Panel:
    """One number, as it is now."""
    return Panel(title, meaning, unit, (Query(expr),), kind="stat", width=4)


def grafana(dashboard: Dashboard) -> dict[str, Any]:
    """The JSON model of a dashboard."""
    variables = [_variable(label, series) for label, series in dashboard.variables.items()]
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.meaning,
        "tags": ["fastserve"],
        "schemaVersion": _SCHEMA,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_datasource(), *variables]},
        "annotations": {"list": []},
        "links": [_links()],
        "panels": _placed(dashboard.rows),
    }


def _placed(rows: tuple[Row, ...]) -> list[dict[str, Any]]:
    """Rows one under the other, panels from left to right."""
    placed: list[dict[str, Any]] = []
    y = 0
    for row in rows:
        head = {"id": len(placed) + 1, "type": "row", "title": row.title, "collapsed": False, "panels": []}
        placed.append({**head, "gridPos": {"x": 0, "y": y, "w": WIDTH, "h": 1}})
        y += 1
        x = height = 0
        for panel in row.panels:
            if x + panel.width > WIDTH:
                x, y, height = 0, y + height, 0
            tall = 4 if panel.kind == "stat" else 8
            place = {"x": x, "y": y, "w": panel.width, "h": tall}
            placed.append({"id": len(placed) + 1, "gridPos": place, **_panel(panel)})
            x, height = x + panel.width, max(height, tall)
        y += height
    return placed


def _panel(panel: Panel) -> dict[str, Any]:
    targets = [
        {
            "refId": chr(ord("A") + position),
            "datasource": _SOURCE,
            "expr": query.expr,
            "legendFormat": query.legend or "__auto",
            "range": panel.kind != "stat",
            "instant": panel.kind == "stat",
        }
        for position, query in enumerate(panel.queries)
    ]
    custom: dict[str, Any] = {"lineWidth": 1, "fillOpacity": 10, "showPoints": "never", "spanNulls": False}
    if panel.stacked:
        custom |= {"stacking": {"mode": "normal", "group": "A"}, "fillOpacity": 30}
    defaults = {"unit": panel.unit, "min": 0} | ({"custom": custom} if panel.kind == "timeseries" else {})
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.meaning,
        "datasource": _SOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _STAT if panel.kind == "stat" else _CHART,
    }


_STAT: Final[Mapping[str, Any]] = {
    "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    "colorMode": "none",
    "graphMode": "none",
    "textMode": "auto",
}
_CHART: Final[Mapping[str, Any]] = {
    "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
    "tooltip": {"mode": "multi", "sort": "desc"},
}


def _datasource() -> dict[str, Any]:
    return {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _variable(label: str, series: str) -> dict[str, Any]:
    """A label whose values can be chosen, all of them at first."""
    return {
        "name": label,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": f"label_values({series}, {label})", "refId": label},
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "sort": 1,
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }


def _links() -> dict[str, Any]:
    """The other dashboards, at the top of each."""
    return {"type": "dashboards", "tags": ["fastserve"], "title": "FastServe", "asDropdown": True}
