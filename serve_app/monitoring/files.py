"""The files that an existing Prometheus and Grafana are given, and those that they can be started by."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from serve_app.monitoring.alerts import RUNBOOKS, rules
from serve_app.monitoring.dashboards import DASHBOARDS
from serve_app.monitoring.panels import grafana

SCRAPE_S: Final = 10  # Ray exports every ten seconds
CONFIG: Final = "prometheus/prometheus.yml"
RULES: Final = "prometheus/fastserve.rules.yml"
PROVISIONING: Final = "grafana/provisioning"
_DATASOURCE: Final = "Prometheus"  # the name by which Ray's dashboard looks for it


@dataclass(frozen=True, slots=True)
class Places:
    """Where things are, as those who read the files see them."""

    folder: Path  # of these files
    ray: Path = Path("/tmp/ray")  # Ray's folder on the head node
    prometheus_url: str = "http://127.0.0.1:9090"
    runbooks: str = RUNBOOKS


def contents(places: Places) -> dict[str, str]:
    """Each file's text by its path below the folder."""
    made = {
        CONFIG: _yaml(_scraping(places)),
        RULES: _yaml(rules(places.runbooks)),
        f"{PROVISIONING}/datasources/prometheus.yml": _yaml(_datasources(places)),
        f"{PROVISIONING}/dashboards/fastserve.yml": _yaml(_providers(places)),
    }
    for dashboard in DASHBOARDS:
        made[f"grafana/dashboards/{dashboard.uid}.json"] = json.dumps(grafana(dashboard), indent=1) + "\n"
    return made


def write(places: Places) -> list[Path]:
    """Write all of them; returns their paths."""
    written = []
    for name, text in contents(places).items():
        path = places.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written


def _scraping(places: Places) -> dict[str, Any]:
    """Ray writes the addresses of its nodes' metrics to a file, and keeps it."""
    found = str(places.ray / "prom_metrics_service_discovery.json")
    return {
        "global": {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"},
        "rule_files": [Path(RULES).name],
        "scrape_configs": [{"job_name": "ray", "file_sd_configs": [{"files": [found]}]}],
    }


def _datasources(places: Places) -> dict[str, Any]:
    source = {
        "name": _DATASOURCE,
        "type": "prometheus",
        "access": "proxy",
        "url": places.prometheus_url,
        "isDefault": True,
        "jsonData": {"timeInterval": f"{SCRAPE_S}s", "httpMethod": "POST"},
    }
    return {"apiVersion": 1, "datasources": [source]}


def _providers(places: Places) -> dict[str, Any]:
    """Ours, and those that Ray makes, which Ray's own dashboard shows parts of."""
    folders = {
        "FastServe": places.folder / "grafana/dashboards",
        "Ray": places.ray / "session_latest/metrics/grafana/dashboards",
    }
    return {"apiVersion": 1, "providers": [_provider(name, path) for name, path in folders.items()]}


def _provider(name: str, path: Path) -> Mapping[str, Any]:
    return {"name": name, "folder": name, "type": "file", "options": {"path": str(path)}}


def _yaml(value: Mapping[str, Any]) -> str:
    return yaml.safe_dump(value, sort_keys=False, width=110, allow_unicode=True)
