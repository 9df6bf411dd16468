"""`serve deploy` of one model more, then one less, under load: nobody else notices."""

import copy

import pytest

pytestmark = pytest.mark.integration

NAMES = [("fastserve", "Ingress"), ("model-alpha", "Model"), ("model-beta", "Model")]


def test_one_model_more_and_one_less_fails_nothing_and_restarts_nobody(restored, load):
    cluster = restored
    before = [cluster.pids(*name) for name in NAMES]
    with load(cluster, ["alpha", "beta", "auto"], 6, max_tokens=8) as running:
        running.until(10)
        cluster.deploy(cluster.with_model("gamma"))
        found = cluster.served()
        with cluster.client() as client:
            body = {"model": "gamma", "messages": [{"role": "user", "content": "Hello"}]}
            answered = client.post("/v1/chat/completions", json=body)
        cluster.deploy(copy.deepcopy(cluster.base))
        running.until(len(running.answers) + 50)
    assert "gamma" in found
    assert answered.json()["model"] == "gamma"
    assert "gamma" not in cluster.served()
    assert [a for a in running.answers if not a.is_whole] == []
    assert [cluster.pids(*name) for name in NAMES] == before


def test_a_model_leaves_with_its_streams_ended(restored):
    """A removed model's replica drains: the stream that runs there comes to its end."""
    cluster = restored
    cluster.deploy(cluster.with_model("gamma"))
    body = {"model": "gamma", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
    with cluster.client() as client, client.stream("POST", "/v1/chat/completions", json=body) as answer:
        lines = answer.iter_lines()
        next(lines)
        cluster.deploy(copy.deepcopy(cluster.base), wait=False)
        text = "\n".join(lines)
    assert text.rstrip().endswith("data: [DONE]")
    assert '"error"' not in text
    cluster.wait_for(lambda: "gamma" not in cluster.served())


def test_a_price_changes_live_and_a_changed_engine_starts_before_the_old_one_stops(restored, load):
    cluster = restored
    before = cluster.pids("model-beta", "Model")
    changed = copy.deepcopy(cluster.base)
    beta = next(app for app in changed["applications"] if app["name"] == "model-beta")
    beta["deployments"][0]["user_config"]["price"] = {"prompt_usd_per_mtok": 7.0}
    cluster.deploy(changed)
    cluster.wait_for(lambda: cluster.snapshot().models["beta"].card.prompt_usd_per_mtok == 7.0)
    assert cluster.pids("model-beta", "Model") == before
    with load(cluster, ["beta"], 4, max_tokens=8) as running:
        beta["args"]["simulated"]["max_sequences"] = 7
        cluster.deploy(changed)
        cluster.wait_for(lambda: not before.keys() & cluster.pids("model-beta", "Model").keys())
        running.until(len(running.answers) + 50)
    assert [a for a in running.answers if not a.is_whole] == []
