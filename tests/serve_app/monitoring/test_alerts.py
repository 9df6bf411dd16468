"""Every rule in Prometheus' own checker: it fires when its fault is made, and not while all is well."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from serve_app.monitoring.alerts import ALERTS, Alert
from serve_app.monitoring.dashboards import DASHBOARDS
from serve_app.monitoring.files import CONFIG, RULES, Places, write
from tests.prometheus import program

Series = dict[str, str]

HOURS = "x120"  # two, at one value a minute
FINE: Series = {
    "ray_fastserve_store_available": f"1{HOURS}",
    "ray_fastserve_store_writer": f"1{HOURS}",
    "ray_fastserve_store_alarms": f"0{HOURS}",
    "ray_fastserve_keys": f"2{HOURS}",
    'ray_fastserve_replicas{model="m",state="warm"}': f"1{HOURS}",
    'ray_fastserve_replicas{model="gone",state="warm"}': f"0{HOURS}",
    'ray_fastserve_served{model="m"}': f"1{HOURS}",
    'ray_fastserve_served{model="gone"}': f"0{HOURS}",
    'ray_fastserve_waiting{model="m"}': f"3{HOURS}",
    'ray_fastserve_slots{model="m"}': f"8{HOURS}",
    'ray_fastserve_cache_use{model="m"}': f"0.5{HOURS}",
    "ray_fastserve_snapshot_age": f"0.2{HOURS}",
    "ray_fastserve_table_lag": f"0.5{HOURS}",
    'ray_fastserve_requests_total{status="ok",model="m"}': f"0+15{HOURS}",
    'ray_fastserve_requests_total{status="failed",model="m"}': f"5{HOURS}",
    'ray_fastserve_fallbacks_total{model="m",reason="timeout"}': f"2{HOURS}",
    'ray_fastserve_degraded_total{mode="tokens estimated"}': f"7{HOURS}",
    'ray_fastserve_table_dropped_total{kind="decision"}': f"9{HOURS}",
    'ray_fastserve_background_failures_total{task="table: upkeep"}': f"4{HOURS}",
    'ray_fastserve_policy_events_total{kind="promoted"}': f"0+1{HOURS}",
    'ray_fastserve_policy_events_total{kind="rolled_back"}': "1x480",
    'ray_fastserve_key_requests_total{key="web",status="ok"}': f"0+15{HOURS}",
    'ray_fastserve_key_requests_total{key="web",status="rejected"}': f"0+1{HOURS}",
    'ray_gen_ai_server_time_to_first_token_bucket{gen_ai_response_model="m",le="1"}': f"0+15{HOURS}",
    'ray_gen_ai_server_time_to_first_token_bucket{gen_ai_response_model="m",le="+Inf"}': f"0+15{HOURS}",
    'ray_fastserve_decision_time_bucket{policy="priced",le="0.001"}': f"0+15{HOURS}",
    'ray_fastserve_decision_time_bucket{policy="priced",le="+Inf"}': f"0+15{HOURS}",
}
# alert -> the series that its fault changes (None: gone), and the labels that it then fires with
FAULTS: dict[str, tuple[dict[str, str | None], dict[str, str]]] = {
    "FastServeNotSeen": ({"ray_fastserve_store_available": None}, {}),
    "FastServeNoModel": ({'ray_fastserve_replicas{model="m",state="warm"}': f"0{HOURS}"}, {}),
    "FastServeModelDown": (
        {
            'ray_fastserve_replicas{model="n",state="warm"}': f"0{HOURS}",
            'ray_fastserve_served{model="n"}': f"1{HOURS}",
        },
        {"model": "n"},
    ),
    "FastServeNoKeys": ({"ray_fastserve_keys": f"0{HOURS}"}, {}),
    "FastServeErrors": ({'ray_fastserve_requests_total{status="failed",model="m"}': f"0+2{HOURS}"}, {}),
    "FastServeFallbacks": (
        {'ray_fastserve_fallbacks_total{model="m",reason="timeout"}': f"0+2{HOURS}"},
        {},
    ),
    "FastServeRetries": ({'ray_fastserve_retries_total{model="m",reason="timeout"}': f"0+2{HOURS}"}, {}),
    "FastServeSlowFirstToken": (
        {
            'ray_gen_ai_server_time_to_first_token_bucket{gen_ai_response_model="m",le="1"}': f"0{HOURS}",
            'ray_gen_ai_server_time_to_first_token_bucket{gen_ai_response_model="m",le="20"}': f"0+15{HOURS}",
        },
        {"gen_ai_response_model": "m"},
    ),
    "FastServeQueue": ({'ray_fastserve_waiting{model="m"}': f"9{HOURS}"}, {"model": "m"}),
    "FastServeCacheFull": ({'ray_fastserve_cache_use{model="m"}': f"0.99{HOURS}"}, {"model": "m"}),
    "FastServeTableSilent": ({"ray_fastserve_snapshot_age": f"0+15{HOURS}"}, {}),
    "FastServeStoreAway": ({"ray_fastserve_store_available": f"0{HOURS}"}, {}),
    "FastServeStoreAlarm": ({"ray_fastserve_store_alarms": f"1{HOURS}"}, {}),
    "FastServeRecordsWait": ({"ray_fastserve_table_lag": f"0+15{HOURS}"}, {}),
    "FastServeRecordsLost": (
        {'ray_fastserve_table_dropped_total{kind="outcome"}': "_x104 5x15"},
        {"kind": "outcome"},
    ),
    "FastServeStandsBy": ({"ray_fastserve_store_writer": f"0{HOURS}"}, {}),
    "FastServeLesserMode": (
        {'ray_fastserve_degraded_total{mode="table silent"}': f"0+15{HOURS}"},
        {"mode": "table silent"},
    ),
    "FastServeBackgroundFails": (
        {'ray_fastserve_background_failures_total{task="pusher: push"}': f"0+20{HOURS}"},
        {"task": "pusher: push"},
    ),
    "FastServeSlowDecisions": (
        {
            'ray_fastserve_decision_time_bucket{policy="priced",le="0.001"}': f"0{HOURS}",
            'ray_fastserve_decision_time_bucket{policy="priced",le="0.04"}': f"0+15{HOURS}",
        },
        {},
    ),
    "FastServeRolledBack": (
        {
            'ray_fastserve_policy_events_total{kind="rolled_back"}': None,
            'ray_fastserve_policy_events_total{kind="rolled_back",replica="r"}': "_x99 1x20",
        },
        {},
    ),
    "FastServeKeyRefused": (
        {'ray_fastserve_key_requests_total{key="batch",status="rejected"}': f"0+15{HOURS}"},
        {"key": "batch"},
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files as `fastserve monitoring` writes them."""
    made = tmp_path_factory.mktemp("monitoring")
    write(Places(made))
    return made


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program("promtool"), *arguments], capture_output=True, text=True, check=False)


def firing(alert: str) -> str:
    return f'ALERTS{{alertname="{alert}", alertstate="firing"}}'


def case(name: str, changed: dict[str, str | None], samples: dict[str, list[Any]]) -> Any:
    """A test in promtool's words: near the end of two hours, these queries give these samples."""
    series = {key: values for key, values in (FINE | changed).items() if values is not None}
    asked = [{"expr": expr, "eval_time": "110m", "exp_samples": found} for expr, found in samples.items()]
    return {
        "name": name,
        "interval": "1m",
        "input_series": [{"series": key, "values": values} for key, values in series.items()],
        "promql_expr_test": asked,
    }


def fault(alert: Alert) -> Any:
    """The alert fires at its fault, with the labels that lead to it."""
    changed, labels = FAULTS[alert.name]
    every = {"alertname": alert.name, "alertstate": "firing", "severity": alert.severity, **labels}
    shown = ", ".join(f'{key}="{value}"' for key, value in every.items())
    return case(alert.name, changed, {firing(alert.name): [{"labels": f"ALERTS{{{shown}}}", "value": 1}]})


def test_the_rules_and_the_config_are_sound(folder: Path) -> None:
    done = promtool("check", "config", str(folder / CONFIG))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(ALERTS)} rules found" in done.stdout


def test_every_query_of_every_panel_is_sound(folder: Path) -> None:
    """As rules, because promtool checks those: with times and choices in place of Grafana's variables."""
    panels = [panel for dashboard in DASHBOARDS for panel in dashboard.panels]
    queries = [query.expr for panel in panels for query in panel.queries]
    plain = [q.replace("$__rate_interval", "1m").replace("$__range", "1h") for q in queries]
    rules = [{"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(plain)]
    path = folder / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = promtool("check", "rules", "--lint-fatal", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(queries)} rules found" in done.stdout


def test_every_alert_fires_at_its_fault_and_not_without(folder: Path) -> None:
    assert list(FAULTS) == [alert.name for alert in ALERTS]
    fine = case("all is well", {}, {firing(name): [] for name in FAULTS})
    document = {
        "rule_files": [str(folder / RULES)],
        "evaluation_interval": "1m",
        "tests": [*map(fault, ALERTS), fine],
    }
    path = folder / "tests.yml"
    path.write_text(yaml.safe_dump(document))
    done = promtool("test", "rules", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
