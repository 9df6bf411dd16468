"""A real Prometheus scrapes the live app, and every query of every panel has data."""

import copy
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from deployments.records.records import EvaluationRecord, PolicyEvent
from serve_app.monitoring.alerts import ALERTS
from serve_app.monitoring.dashboards import DASHBOARDS
from serve_app.monitoring.files import CONFIG, Places, contents
from tests.integration.running import ROOT, Cluster, free_ports, model_app
from tests.prometheus import program

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

# Queries (dashboard, title of the panel) that have data only once something has gone wrong.
OF_FAULTS = {
    ("fastserve-overview", "Retries"),
    ("fastserve-overview", "Lesser modes"),
    ("fastserve-overview", "Background work that failed"),
    ("fastserve-model", "Tried again"),
    ("fastserve-cost", "Refused for limits"),
}
# ... those that have some under overload, in a canary, or where a model may sleep,
OF_TIMES = {
    ("fastserve-model", "Got no slot"),
    ("fastserve-model", "Wait in the ingress"),
    ("fastserve-model", "Asleep"),
    ("fastserve-dispatch", "Graded pairs"),
}
# and those which the simulated engine has none of: it keeps no prefix cache.
OF_ENGINES = {("fastserve-model", "Tokens from the prefix cache")}
MAY_BE_EMPTY = OF_FAULTS | OF_TIMES | OF_ENGINES


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[httpx.Client]:
    """Prometheus with the rules that `fastserve monitoring` writes, scraping each second."""
    for name, text in contents(Places(folder)).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    config = yaml.safe_load((folder / CONFIG).read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["scrape_configs"] = [{"job_name": "ray", "static_configs": [{"targets": [target]}]}]
    (folder / CONFIG).write_text(yaml.safe_dump(config))
    (port,) = free_ports(1)
    arguments = [
        program("prometheus"),
        f"--config.file={folder / CONFIG}",
        f"--web.listen-address=127.0.0.1:{port}",
        f"--storage.tsdb.path={folder / 'data'}",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(arguments, stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10.0, trust_env=False) as client:
            yield client
    finally:
        process.terminate()
        process.wait(20.0)


def asked(client: httpx.Client, expr: str) -> list[dict[str, Any]]:
    """The result of a query as a panel asks it, over what was scraped in half a minute."""
    plain = expr.replace("$__rate_interval", "30s").replace("$__range", "2m")
    for name in ("model", "key"):
        plain = plain.replace(f'"${name}"', '".*"')
    answer = client.get("/api/v1/query", params={"query": plain})
    assert answer.status_code == 200, f"{plain}: {answer.text}"
    found: list[dict[str, Any]] = answer.json()["data"]["result"]
    return [one for one in found if one["value"][1] != "NaN"]


def traffic(cluster: Cluster) -> None:
    """One turn of all kinds of requests: chosen and named, streamed and plain, refused, voted on."""
    messages = [{"role": "user", "content": "Hello"}]
    with cluster.client() as client:
        for body in (
            {"model": "auto"},
            {"model": "auto", "stream": True},
            {"model": "alpha"},
            {"model": "beta", "stream": True},
            {"model": "nobody"},
        ):
            content = json.dumps({"messages": messages, "max_tokens": 8, **body})
            answer = client.post("/v1/chat/completions", content=content)
            if answer.status_code == 200:
                decision = answer.headers["x-fastserve-decision-id"]
                client.post("/v1/feedback", json={"decision_id": decision, "score": 0.5})
        too_long = {"model": "auto", "messages": messages, "fastserve": {"deadline_s": 0.001}}
        client.post("/v1/chat/completions", json=too_long)


def priced(cluster: Cluster) -> dict[str, Any]:
    """The config with prices, a baseline, exploration and a model that fails and is left for another."""
    changed = copy.deepcopy(cluster.base)
    broken = model_app("broken", accuracy_prior=1.0, simulated={"faults": {"error_rate": 1.0}})
    changed["applications"].append(broken)
    for app in changed["applications"]:
        for deployment in app["deployments"]:
            if deployment["name"] == "Model":
                price = {"prompt_usd_per_mtok": 1.0, "completion_usd_per_mtok": 2.0}
                deployment["user_config"]["price"] = price
            if deployment["name"] == "Ingress":
                deployment["user_config"] |= {"baseline_model": "beta", "request_log": True}
                deployment["user_config"]["dispatch"]["epsilon"] = 0.05
    return changed


def recorded(cluster: Cluster) -> None:
    """What the evaluator and the learner write, which this cluster runs none of."""
    graded = EvaluationRecord("s", "1", "i", "math", "", "alpha", "1", 0.5, finished_s=time.time())
    cluster.table("record_evaluations", [graded])
    cluster.table("policy_event", PolicyEvent(1, time.time(), "trained"))


def empty_panels(client: httpx.Client) -> set[tuple[str, str]]:
    """Panels of which a query has no data."""
    return {
        (dashboard.uid, panel.title)
        for dashboard in DASHBOARDS
        for panel in dashboard.panels
        if not all(asked(client, query.expr) for query in panel.queries)
    }


def test_every_panel_has_data_in_a_real_prometheus(restored: Cluster, tmp_path: Path) -> None:
    import ray

    program("prometheus")  # or skipped, before anything is deployed
    restored.deploy(priced(restored))
    recorded(restored)
    with prometheus(tmp_path, f"127.0.0.2:{ray.nodes()[0]['MetricsExportPort']}") as client:
        deadline_s = time.monotonic() + 120.0
        empty = {("", "")}
        while not empty <= MAY_BE_EMPTY and time.monotonic() < deadline_s:
            for _ in range(5):
                traffic(restored)
                time.sleep(0.5)
            empty = empty_panels(client)
        assert empty - MAY_BE_EMPTY == set(), (tmp_path / "prometheus.log").read_text()[-2000:]
        groups = client.get("/api/v1/rules").json()["data"]["groups"]
        (rules,) = [group["rules"] for group in groups]
        assert [rule["name"] for rule in rules] == [alert.name for alert in ALERTS]
        assert {rule["health"] for rule in rules} == {"ok"}, rules
        seen = next(alert.expr for alert in ALERTS if alert.name == "FastServeNotSeen")
        restored.wait_for(lambda: asked(client, seen) == [])


def test_a_replica_logs_each_request_beside_serves_log(restored: Cluster) -> None:
    import ray

    restored.deploy(priced(restored))
    messages = [{"role": "user", "content": "canary-of-the-log"}]
    with restored.client() as client:
        answer = client.post("/v1/chat/completions", json={"model": "alpha", "messages": messages})
    assert answer.status_code == 200
    decision = answer.headers["x-fastserve-decision-id"]
    logs = Path(ray._private.worker._global_node.get_logs_dir_path())  # type: ignore[attr-defined]

    def text() -> str:
        return "".join(path.read_text() for path in logs.rglob("requests_*"))

    restored.wait_for(lambda: decision in text())
    assert "canary-of-the-log" not in text()
    lines = [json.loads(line) for line in text().splitlines()]
    (line,) = [line for line in lines if line.get("id") == decision]
    assert (line["model"], line["key"], line["status"]) == ("alpha", "environment", "ok")


def test_both_programs_are_started_on_loopback_and_end_together(tmp_path: Path) -> None:
    """Grafana is a stand-in that writes down how it was started; Prometheus is real."""
    stand_in = tmp_path / "bin" / "grafana"
    stand_in.parent.mkdir()
    said = tmp_path / "said.json"
    stand_in.write_text(
        f"#!{sys.executable}\nimport json, os, sys, time\n"
        f"open({str(said)!r}, 'w').write(json.dumps([sys.argv[1:], dict(os.environ)]))\ntime.sleep(300)\n"
    )
    stand_in.chmod(stand_in.stat().st_mode | stat.S_IXUSR)
    port, other = free_ports(2)
    programs = os.pathsep.join((str(stand_in.parent), str(Path(program("prometheus")).parent)))
    command = [sys.executable, "-m", "serve_app", "monitoring", "--out", str(tmp_path / "out"), "--start"]
    ports = ["--prometheus-port", str(port), "--grafana-port", str(other)]
    environment = os.environ | {"PATH": programs, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([*command, *ports], env=environment, cwd=ROOT, start_new_session=True)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60.0, trust_env=False) as client:
            wait_until(lambda: said.exists() and is_ready(client))
            (group,) = client.get("/api/v1/rules").json()["data"]["groups"]
            assert len(group["rules"]) == len(ALERTS)
        arguments, settings = json.loads(said.read_text())
        assert arguments[0] == "server"
        assert settings["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"
        assert settings["GF_SERVER_HTTP_PORT"] == str(other)
        provisioning = Path(settings["GF_PATHS_PROVISIONING"])
        source = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())
        assert source["datasources"][0]["url"] == f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(120.0) == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/-/ready", timeout=5.0, trust_env=False)


def is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/-/ready").status_code == 200 and bool(
            client.get("/api/v1/rules").json()["data"]["groups"]
        )
    except (httpx.HTTPError, ValueError):
        return False


def wait_until(condition: Any, timeout_s: float = 120.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise AssertionError(f"Condition did not hold within {timeout_s} s.")
        time.sleep(0.2)
