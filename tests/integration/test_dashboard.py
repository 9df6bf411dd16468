"""The dashboard on real Ray behind HAProxy: beside the endpoint on one port, and what its actions change."""

import contextlib
import copy
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.integration

KEY = "fs-integration-key-0123456789"


@pytest.fixture
def page(cluster):
    headers = {"sec-fetch-site": "same-origin"}
    with httpx.Client(base_url=cluster.url, headers=headers, timeout=30.0, trust_env=False) as made:
        cluster.wait_for(lambda: made.get("/dashboard/sign-in").status_code == 200)
        cluster.wait_for(lambda: made.post("/dashboard/sign-in", json={"key": KEY}).status_code == 200)
        yield made


def test_the_page_and_the_endpoint_share_a_port(cluster, page):
    assert page.get("/dashboard", follow_redirects=True).url.path == "/dashboard/now"
    assert page.get("/dashboard/static/main.js").status_code == 200
    with cluster.client() as client:
        assert client.get("/dashboardx").status_code == 404
        assert client.get("/v1/models").status_code == 200
        assert client.get("/dashboard/api/now").status_code == 401, "a key in a header is no sign-in"
    assert len(page.get("/dashboard/api/now").json()["models"]) == 3


def test_reading_the_page_is_no_request_of_the_key(cluster, page):
    def counted() -> int:
        with cluster.client() as client:
            return int(client.get("/v1/usage").json()["data"][0]["requests"])

    # Outcomes of the tests before this one may still arrive, but not as many as there are readings.
    before, readings = counted(), 100
    for _ in range(readings):
        assert page.get("/dashboard/api/now").status_code == 200
    assert counted() - before < readings


def test_the_guard_stands_before_the_dashboard_too(page):
    forged = {
        "x-request-timeout-seconds": "0",
        "x-request-disconnect-disabled": "?1",
        "x-fastserve-guard": "1",
    }
    assert page.get("/dashboard/api/now", headers=forged).status_code == 200
    large = b'{"key": "' + b"x" * (2 * 1024 * 1024) + b'"}'
    assert page.post("/dashboard/sign-in", content=large).status_code == 413


def test_a_request_is_seen_and_a_closed_tab_frees_its_stream(cluster, page):
    with cluster.client() as client:
        body = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}]}
        decision_id = client.post("/v1/chat/completions", json=body).headers["x-fastserve-decision-id"]
    cluster.wait_for(lambda: page.get(f"/dashboard/api/decisions/{decision_id}").status_code == 200)
    with page.stream("GET", "/dashboard/api/stream?topics=status,now") as answer:
        lines = answer.iter_lines()
        assert any(line == "event: now" for line in lines)
        assert page.get("/dashboard/api/session").json()["status"]["viewers"] == 1
    cluster.wait_for(lambda: page.get("/dashboard/api/session").json()["status"]["viewers"] == 0)


def test_a_chat_of_the_playground_reaches_a_model(page):
    body = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
    answer = page.post("/dashboard/api/playground/chat", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.text.startswith("event: decision")
    assert "[DONE]" in answer.text


def test_weights_set_on_the_page_hold_until_a_file_says_otherwise(restored, page):
    cluster = restored
    before = cluster.pids("fastserve", "Ingress"), cluster.pids("dashboard", "Dashboard")
    weights = {"profile": "", "accuracy": 4, "latency": 0, "cost": 0}
    made = page.post("/dashboard/api/operate/weights", json=weights | {"confirm": True})
    assert made.status_code == 200, made.text

    def explained(accuracy: float) -> bool:
        with cluster.client() as client:
            body = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}]}
            seen = [client.post("/v1/dispatch/explain", json=body).json()["caller"] for _ in range(4)]
        return all(one["accuracy_weight"] == accuracy for one in seen)

    cluster.wait_for(lambda: explained(4.0))
    assert (cluster.pids("fastserve", "Ingress"), cluster.pids("dashboard", "Dashboard")) == before
    history = page.get("/dashboard/api/operate").json()["history"]
    assert (history[0]["who"], history[0]["what"]) == ("environment", "dashboard: weights of 'auto'")
    cluster.deploy(copy.deepcopy(cluster.base))
    cluster.wait_for(lambda: explained(1.0))


def test_a_drained_model_rests(restored, page):
    page.post("/dashboard/api/operate/drain", json={"model": "beta", "confirm": True})
    body = {"model": "beta", "messages": [{"role": "user", "content": "Hello"}]}
    with restored.client() as client:
        restored.wait_for(
            lambda: all(client.post("/v1/chat/completions", json=body).status_code == 503 for _ in range(4))
        )


def test_the_replica_is_small_with_twenty_viewers_who_move_the_slider(cluster, page):
    import psutil

    with cluster.client() as client, contextlib.ExitStack() as viewers:
        body = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}
        for _ in range(20):
            assert client.post("/v1/chat/completions", json=body).status_code == 200
        for _ in range(20):
            viewers.enter_context(page.stream("GET", "/dashboard/api/stream?topics=status,now"))
        cluster.wait_for(lambda: page.get("/dashboard/api/session").json()["status"]["viewers"] == 20)
        cluster.wait_for(lambda: _other_weights(page)["prompts"] >= 20)
        for view in ("learning", "trade-off", "decisions"):
            assert page.get(f"/dashboard/api/{view}").status_code == 200
        (pid,) = cluster.pids("dashboard", "Dashboard").values()
        process = psutil.Process(pid)
        paths = " ".join(one.path for one in process.memory_maps())
        print(f"resident {process.memory_info().rss / 1e6:.0f} MB")
        assert process.memory_info().rss < 300e6
    # Not torch's folder: where vLLM was imported before, every process gets the OpenMP from there.
    assert [name for name in ("/llvmlite/", "/scipy/", "/libtorch") if name in paths] == []


def _other_weights(page) -> dict[str, Any]:
    answer = page.get("/dashboard/api/counterfactual?accuracy=1&latency=0&cost=0")
    assert answer.status_code == 200, answer.text
    return answer.json()
