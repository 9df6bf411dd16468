"""A scripted load of known outcome yields exactly those counters, with two ingress replicas and a restart."""

import json
import os
import signal
import time
import urllib.request
from collections import Counter
from collections.abc import Callable

import pytest
from prometheus_client.parser import text_string_to_metric_families

from deployments.metrics.names import METRICS
from tests.integration.running import EXPORT_S, Cluster

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

Key = tuple[str, ...]

# Labels that Ray and Prometheus' client give to a series of their own accord, besides those declared.
SHARED_LABELS = frozenset(
    {"application", "deployment", "replica", "Component", "NodeAddress", "SessionName", "Version", "WorkerId"}
    | {"otel_scope_name", "otel_scope_version", "otel_scope_schema_url", "le"}
)
OURS = ("ray_fastserve_", "ray_gen_ai_")
REQUESTS = ("requested", "model", "status", "error_code")


def scrape() -> dict[str, list[tuple[dict[str, str], float]]]:
    """All samples at the node's metrics port, by name."""
    import ray

    port = ray.nodes()[0]["MetricsExportPort"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    samples: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((sample.labels, sample.value))
    return samples


def summed(name: str, *labels: str) -> Counter[Key]:
    """Values of one metric, summed over all labels but these."""
    totals: Counter[Key] = Counter()
    for tags, value in scrape().get(name, []):
        totals[tuple(tags.get(label, "") for label in labels)] += round(value)
    return totals


def requests_total() -> Counter[Key]:
    return summed("ray_fastserve_requests_total", *REQUESTS)


def quiet() -> None:
    """Returns when what was recorded before has been exported."""
    before = requests_total()
    while True:
        time.sleep(3 * EXPORT_S)
        if (now := requests_total()) == before:
            return
        before = now


def settle(read: Callable[[], Counter[Key]], expected: Counter[Key], before: Counter[Key]) -> Counter[Key]:
    """What has been added since `before`, once it is what is expected, or after two minutes."""
    deadline = time.monotonic() + 120.0
    while (found := read() - before) != expected and time.monotonic() < deadline:
        time.sleep(0.5)
    return found


def ask(cluster: Cluster, model: str, **body: object) -> int:
    """One request on a connection of its own, so that both ingress replicas get some."""
    messages = [{"role": "user", "content": "Hello"}]
    with cluster.client() as client:
        content = json.dumps({"model": model, "messages": messages, "max_tokens": 4, **body})
        return client.post("/v1/chat/completions", content=content).status_code


def script(cluster: Cluster) -> Counter[Key]:
    """Requests whose outcomes are known beforehand."""
    for _ in range(12):
        assert ask(cluster, "alpha") == 200
    for _ in range(6):
        assert ask(cluster, "beta", stream=True) == 200
    for _ in range(5):
        assert ask(cluster, "nobody") == 404
    return Counter(
        {
            ("alpha", "alpha", "ok", ""): 12,
            ("beta", "beta", "ok", ""): 6,
            ("other", "", "rejected", "model_not_found"): 5,
        }
    )


def test_a_known_load_yields_exactly_its_counters(cluster: Cluster) -> None:
    quiet()
    requests, dispatches = requests_total(), summed("ray_fastserve_dispatches_total", "model", "policy")
    prompt = summed("ray_gen_ai_server_time_to_first_token_count", "gen_ai_response_model")
    expected = script(cluster)
    assert settle(requests_total, expected, requests) == expected
    found = summed("ray_fastserve_dispatches_total", "model", "policy") - dispatches
    assert found == Counter({("alpha", "named"): 12, ("beta", "named"): 6})
    streamed = summed("ray_gen_ai_server_time_to_first_token_count", "gen_ai_response_model") - prompt
    assert streamed[("beta",)] == 6
    replicas = {tags["replica"] for tags, _ in scrape()["ray_fastserve_requests_total"]}
    assert len(replicas) >= 2, "both ingress replicas took part"


def test_counters_stay_exact_after_an_ingress_replica_was_replaced(cluster: Cluster) -> None:
    quiet()
    before = requests_total()
    first = script(cluster)
    assert settle(requests_total, first, before) == first
    name, pid = next(iter(cluster.pids("fastserve", "Ingress").items()))
    os.kill(pid, signal.SIGKILL)
    cluster.wait_for(lambda: len(set(cluster.pids("fastserve", "Ingress")) - {name}) >= 2)
    time.sleep(2.0)
    expected = first + script(cluster)
    assert settle(requests_total, expected, before) == expected


def test_every_series_of_ours_is_declared_with_its_labels(cluster: Cluster) -> None:
    assert ask(cluster, "alpha") == 200
    quiet()
    declared = {name: set(metric.labels) for metric in METRICS for name in metric.series}
    found = {name: samples for name, samples in scrape().items() if name.startswith(OURS)}
    assert {name for name in found if name not in declared} == set()
    assert found.keys() >= {"ray_fastserve_requests_total", "ray_fastserve_keys"}
    for name, samples in found.items():
        for tags, _ in samples:
            assert declared[name] <= tags.keys() <= declared[name] | SHARED_LABELS, name


def test_the_tables_own_count_is_that_of_the_store(cluster: Cluster) -> None:
    from deployments.table.actor import get_or_create_table

    def stored() -> Counter[Key]:
        import ray

        statuses = ray.get(get_or_create_table().status.remote())["statuses"]
        return Counter({(m, s): n for m, counts in statuses.items() for s, n in counts.items()})

    assert ask(cluster, "alpha") == 200
    time.sleep(1.0)
    expected = stored()
    assert sum(expected.values()) > 0
    read = lambda: summed("ray_fastserve_table_requests", "model", "status")  # noqa: E731
    assert settle(read, expected, Counter()) == expected
