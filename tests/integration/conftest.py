"""One Ray cluster for the whole session, with simulated models behind HAProxy on ports of its own."""

import copy
from collections.abc import Iterator

import httpx
import pytest
import yaml

from serve_app.console.local_pool import LocalPool
from tests.integration.running import EXPORT_S, KEY, Cluster, Load, document, free_ports, model_app


@pytest.fixture
def load() -> type[Load]:
    """Makes a load on the cluster."""
    return Load


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two ingress replicas; `alpha` with two replicas, `beta` with one, `slow` that speaks for minutes."""
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
        "RAY_metrics_report_interval_ms": str(round(1000 * EXPORT_S)),
    }
    slow = {"decode_step_s": 0.2, "mean_output_tokens": 100_000}
    models = [
        model_app("alpha", 2, simulated={"answers": {"Give me JSON": '{"a": 1}'}}),
        model_app("beta", accuracy_prior=0.6),
        model_app("slow", weight=0.0, simulated=slow),
    ]
    made = document(port, models)
    path = home / "cluster.yaml"
    path.write_text(yaml.safe_dump(made))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        with LocalPool(path) as pool:
            running = Cluster(pool, f"http://127.0.0.1:{port}", copy.deepcopy(made))
            pool.wait(lambda *_: None, 240.0)
            running.wait_for(lambda: _is_ready(running))
            yield running


def _is_ready(cluster: Cluster) -> bool:
    with cluster.client() as client:
        try:
            return client.get("/ready").status_code == 200 and len(cluster.served()) == 3
        except (httpx.HTTPError, KeyError, ValueError):
            return False


@pytest.fixture
def restored(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster for a test that changes the config; put back afterwards."""
    yield cluster
    cluster.deploy(copy.deepcopy(cluster.base))
    cluster.wait_for(cluster.all_answer)  # a replica that hung is stalled for a while
