"""Replicas follow the load, though requests reach them by HTTP and not through Serve."""

from typing import Any

import pytest

from deployments.model.autoscaling import PLANNED_REPLICAS, SCALING_POLICY

pytestmark = pytest.mark.integration

SCALING = {
    "min_replicas": 1,
    "max_replicas": 3,
    "target_ongoing_requests": 2,
    "upscale_delay_s": 0.5,
    "downscale_delay_s": 2.0,
    "look_back_period_s": 3.0,
    "metrics_interval_s": 1.0,
    "policy": SCALING_POLICY,
}


def test_load_adds_replicas_and_calm_takes_them_away(restored: Any, load: Any) -> None:
    changed = restored.with_model("elastic")
    [model] = changed["applications"][-1]["deployments"]
    del model["num_replicas"]
    model |= {"autoscaling_config": SCALING}
    model["user_config"]["drain_s"] = 2.0
    restored.deploy(changed)
    assert restored.usable("elastic") == 1
    with load(restored, ["elastic"], callers=8, max_tokens=200, ignore_eos=True) as running:
        restored.wait_for(lambda: restored.usable("elastic") >= 2)
    restored.wait_for(lambda: restored.usable("elastic") == 1)
    assert running.answers
    assert [answer for answer in running.answers if not answer.is_whole] == []


PLANNED = {
    "min_replicas": 0,
    "max_replicas": 2,
    "upscale_delay_s": 0,
    "downscale_delay_s": 0,
    "metrics_interval_s": 1.0,
    "look_back_period_s": 3.0,
    "policy": {"policy_function": PLANNED_REPLICAS, "policy_kwargs": {"idle_s": 3.0, "target_ttft_s": 1.0}},
}


def test_a_model_that_nobody_asks_for_sleeps_and_its_name_wakes_it(restored: Any) -> None:
    changed = restored.with_model("rare")
    [model] = changed["applications"][-1]["deployments"]
    del model["num_replicas"]
    model |= {"autoscaling_config": PLANNED}
    model["user_config"] |= {"drain_s": 1.0, "weight": 0.0}
    restored.deploy(changed)
    restored.wait_for(lambda: _sleeps(restored, "rare"))
    body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
    with restored.client() as client:
        assert client.post("/v1/chat/completions", json={"model": "auto", **body}).status_code == 200
        answer = client.post("/v1/chat/completions", json={"model": "rare", **body}, timeout=60.0)
    assert (answer.status_code, answer.headers["x-fastserve-model"]) == (200, "rare")
    restored.wait_for(lambda: _sleeps(restored, "rare"))


def _sleeps(cluster: Any, model: str) -> bool:
    row = cluster.snapshot().models.get(model)
    return row is not None and row.ready_in_s > 0.0 and not row.replicas
