"""One Ray cluster for the whole session, with simulated models behind HAProxy on ports of its own."""

import copy
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from scripts.local_pool import LocalPool

KEY = "fs-integration-key-0123456789"
ROOT = Path(__file__).resolve().parents[2]

FAST_MODEL = {"decode_step_s": 0.004, "decode_step_per_sequence_s": 0.0001, "mean_output_tokens": 16}


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def model_app(name: str, replicas: int = 1, **args: Any) -> dict[str, Any]:
    """A Serve app of one simulated model."""
    simulated = FAST_MODEL | args.pop("simulated", {})
    return {
        "name": f"model-{name}",
        "route_prefix": None,
        "import_path": "serve_app.app:build_model",
        "args": {
            "id": name,
            "engine": "simulated",
            "num_cpus": 0.05,
            "context_tokens": 4096,
            "capabilities": ["chat", "tools", "json", "embeddings"],
            "autoscaling": {"min_replicas": replicas, "max_replicas": replicas},
            "drain_s": 5.0,
            "simulated": simulated,
            **args,
        },
        "deployments": [{"name": "Model"}],
    }


def document(port: int, models: list[dict[str, Any]], ingresses: int = 2) -> dict[str, Any]:
    """A Serve config with the endpoint as cluster.yaml has it, and these models."""
    made: dict[str, Any] = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    ingress = copy.deepcopy(next(app for app in made["applications"] if app["name"] == "fastserve"))
    ingress["args"] = {"num_cpus": 0.1, "drain_s": 5.0, "body_s": 3.0}
    ingress["deployments"] = [entry for entry in ingress["deployments"] if entry["name"] == "Ingress"]
    ingress["deployments"][0]["num_replicas"] = ingresses
    made["http_options"]["port"] = port
    made["applications"] = [ingress, *models]
    return made


@dataclass
class Cluster:
    """The running pool, and how to change or hurt it."""

    pool: LocalPool
    url: str
    document: dict[str, Any]
    base: dict[str, Any] = field(default_factory=dict)

    def client(self, **options: Any) -> httpx.Client:
        """A client with the key, blind to the environment's proxies."""
        headers = {"authorization": f"Bearer {KEY}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30.0, trust_env=False, **options)

    def deploy(self, changed: dict[str, Any], *, wait: bool = True) -> None:
        """Apply a config, as `serve deploy` does, and wait until it serves."""
        self.document = changed
        self.pool.names = tuple(app["name"] for app in changed["applications"])
        self.pool.deploy(changed)
        if wait:
            self.pool.wait(lambda *_: None, 90.0)
            names = [app["args"]["id"] for app in changed["applications"] if app["name"].startswith("model-")]
            self.wait_for(lambda: set(names) == set(self.served()), 30.0)

    def served(self) -> list[str]:
        """Models in the listing, `auto` left out."""
        with self.client() as client:
            data = client.get("/v1/models").json()["data"]
        return [one["id"] for one in data if not one["id"].startswith("auto")]

    def wait_for(self, condition: Callable[[], bool], timeout_s: float) -> float:
        """Seconds until the condition held. Fails the test after `timeout_s`."""
        began_s = time.monotonic()
        while time.monotonic() - began_s < timeout_s:
            if condition():
                return time.monotonic() - began_s
            time.sleep(0.1)
        raise AssertionError(f"Condition did not hold within {timeout_s} s.")

    def pids(self, app: str, deployment: str) -> dict[str, int]:
        """Process ids of a deployment's running replicas, by replica id."""
        from ray import serve

        replicas = serve.status().applications[app].deployments[deployment]
        assert replicas is not None
        return _replica_pids(app, deployment)


def _replica_pids(app: str, deployment: str) -> dict[str, int]:
    from ray.util.state import list_actors

    prefix = f"SERVE_REPLICA::{app}#{deployment}#"
    actors = list_actors(filters=[("state", "=", "ALIVE")], limit=1000)
    return {a.name.removeprefix(prefix): a.pid for a in actors if a.name and a.name.startswith(prefix)}


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two ingress replicas, `alpha` with two replicas and `beta` with one."""
    home = tmp_path_factory.mktemp("fastserve")
    port, metrics, stats, low = free_ports(4)
    low = 20_000 + low % 5_000
    environment = {
        "FASTSERVE_HOME": str(home),
        "FASTSERVE_API_KEY": KEY,
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(stats),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(low),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(low + 400),
        "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": str(low + 500),
        "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": str(low + 900),
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",
        "RAY_SERVE_PORT_QUARANTINE_S": "5",
        "RAY_ENABLE_METRICS_COLLECTION": "0",
        "RAY_AUTH_MODE": "disabled",
    }
    made = document(port, [model_app("alpha", 2), model_app("beta", accuracy_prior=0.6)])
    path = home / "cluster.yaml"
    path.write_text(yaml.safe_dump(made))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        with LocalPool(path) as pool:
            running = Cluster(pool, f"http://127.0.0.1:{port}", made, copy.deepcopy(made))
            pool.wait(lambda *_: None, 120.0)
            running.wait_for(lambda: _is_ready(running), 60.0)
            yield running


def _is_ready(cluster: Cluster) -> bool:
    with cluster.client() as client:
        try:
            return client.get("/ready").status_code == 200 and len(cluster.served()) == 2
        except (httpx.HTTPError, KeyError, ValueError):
            return False


@pytest.fixture
def restored(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster for a test that changes the config; put back afterwards."""
    yield cluster
    cluster.deploy(copy.deepcopy(cluster.base))


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Signal one process that this cluster started."""
    os.kill(pid, number)
