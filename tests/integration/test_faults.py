"""What callers see when replicas die, hang or fail, on real Ray."""

import copy
import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from deployments import sse
from deployments.records.decision_id import request_of
from deployments.table.join import REPEATED
from tests.integration.console import Console

pytestmark = pytest.mark.integration

HELLO = [{"role": "user", "content": "Hello"}]
WEIGHTS = {"accuracy": 1, "latency": 0, "cost": 0}  # whatever the tests before have made of latencies


def with_faults(cluster, model, **faults):
    """The base config with faults switched on in one model, live."""
    changed = copy.deepcopy(cluster.base)
    app = next(app for app in changed["applications"] if app["name"] == f"model-{model}")
    app["deployments"][0]["user_config"]["faults"] = faults
    return changed


def test_sigkill_of_one_of_two_replicas_fails_nobody_without_a_first_byte(cluster, load):
    victim = next(iter(cluster.pids("model-alpha", "Model").values()))
    with load(cluster, ["alpha"], 12, max_tokens=64) as running:
        running.until(40)
        killed_s = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        running.until(len(running.answers) + 100)
    answers = running.answers
    plain = [a for a in answers if not a.stream]
    assert [a for a in plain if a.status != 200] == []
    broken = [a for a in answers if a.stream and not a.is_whole]
    assert all(a.status == 200 for a in broken)
    for answer in broken:  # only streams that had begun before the kill, each with a told end
        assert answer.began_s < killed_s
        events = [event.data for event in sse.parse(answer.text.encode())]
        assert events[-1] == sse.DONE
        assert json.loads(events[-2])["error"]["code"] == "upstream_interrupted"
    cluster.wait_for(lambda: len(cluster.pids("model-alpha", "Model")) == 2)


def test_a_hung_replica_is_left_out_of_rotation_and_returns(cluster, load):
    cluster.wait_for(lambda: cluster.usable("alpha") == 2)
    victim = next(iter(cluster.pids("model-alpha", "Model").values()))
    body = {"model": "alpha", "messages": HELLO, "max_tokens": 4}
    os.kill(victim, signal.SIGSTOP)
    try:
        with load(cluster, ["alpha"], 4, max_tokens=4) as running:
            cluster.wait_for(lambda: cluster.usable("alpha") == 1)
        with cluster.client() as client:
            later = [client.post("/v1/chat/completions", json=body) for _ in range(40)]
    finally:
        os.kill(victim, signal.SIGCONT)
    assert running.answers
    assert [a for a in running.answers if not a.is_whole] == []
    assert {answer.status_code for answer in later} == {200}
    assert [a for a in later if "x-fastserve-fallbacks" in a.headers] == []  # none tried it first

    def is_back():
        return len(cluster.pids("model-alpha", "Model")) == 2 and cluster.usable("alpha") == 2

    cluster.wait_for(is_back)


def test_a_failing_model_is_left_by_auto_and_503_by_name(restored):
    cluster = restored
    cluster.deploy(with_faults(cluster, "beta", error_rate=1.0))
    with cluster.client() as client:
        body = {"model": "auto", "messages": HELLO, "fastserve": {"weights": WEIGHTS}}
        answers = [client.post("/v1/chat/completions", json=body) for _ in range(30)]
        assert {answer.status_code for answer in answers} == {200}
        assert {answer.headers["x-fastserve-model"] for answer in answers} == {"alpha"}
        assert any(answer.headers.get("x-fastserve-fallbacks") == "beta" for answer in answers)
        named = client.post("/v1/chat/completions", json={"model": "beta", "messages": HELLO})
    assert named.status_code == 503
    assert named.json()["error"]["code"] in (
        "upstream_failed",
        "model_unavailable",
    )  # the latter once ejected


def test_a_stream_that_breaks_ends_with_an_error_event(restored):
    cluster = restored
    cluster.deploy(with_faults(cluster, "beta", die_at_token=3))
    with cluster.client() as client:
        body = {"model": "beta", "messages": HELLO, "stream": True, "max_tokens": 50}
        answer = client.post("/v1/chat/completions", json=body)
    events = [event.data for event in sse.parse(answer.content)]
    assert answer.status_code == 200
    assert events[-1] == sse.DONE
    error = json.loads(events[-2])["error"]
    assert (error["code"], error["type"]) == ("upstream_interrupted", "server_error")
    assert all("choices" in json.loads(event) for event in events[:-2])


def test_a_hanging_model_is_left_within_the_deadline(restored):
    cluster = restored
    changed = with_faults(cluster, "beta", hang_rate=1.0)
    user_config = changed["applications"][0]["deployments"][0]["user_config"]
    user_config["deadlines"] = {"first_byte_s": 1.0, "try_s": 1.0}
    user_config["dispatch"]["epsilon"] = 0.0
    cluster.deploy(changed)
    with cluster.client() as client:
        for stream in (True, False):
            body = {"model": "auto", "messages": HELLO, "stream": stream}
            answer = client.post(
                "/v1/chat/completions", json=body, headers={"x-fastserve-weights": "accuracy=9"}
            )
            assert answer.status_code == 200
            assert answer.headers["x-fastserve-model"] == "alpha"
        answer = client.post(
            "/v1/chat/completions",
            json={"model": "beta", "messages": HELLO, "fastserve": {"deadline_s": 1.5}},
        )
        assert answer.status_code in (503, 504)


@pytest.mark.parametrize("name", ["table", "controller"])
def test_losing_an_actor_of_ours_or_serve_s_fails_no_request(cluster, load, name):
    from ray.util.state import list_actors

    wanted = "fastserve:table" if name == "table" else "SERVE_CONTROLLER_ACTOR"
    actors = [a for a in list_actors(filters=[("state", "=", "ALIVE")]) if (a.name or "").startswith(wanted)]
    with load(cluster, ["alpha", "beta", "auto"], 6, max_tokens=8) as running:
        running.until(10)
        os.kill(actors[0].pid, signal.SIGKILL)
        time.sleep(5.0)
        running.until(len(running.answers) + 50)
    assert [a for a in running.answers if not a.is_whole] == []


def test_sigkill_of_one_ingress_replica_leaves_the_other(cluster):
    """HAProxy sends what had not begun to the other replica; what was in flight there is lost."""
    name, victim = next(iter(cluster.pids("fastserve", "Ingress").items()))
    os.kill(victim, signal.SIGKILL)
    statuses = []
    with cluster.client() as client:
        for _ in range(40):
            statuses.append(client.get("/ready").status_code)
            time.sleep(0.05)
    assert statuses.count(200) == len(statuses)
    cluster.wait_for(lambda: cluster.has_replaced(name))


def test_a_request_whose_ingress_replica_died_is_repeated_and_charged_once(cluster):
    """Both tries are in the log; what the dead replica had begun costs nothing."""
    count, tokens = 8, 40  # 8 s an answer
    body = {"model": "slow", "messages": HELLO, "max_tokens": tokens}

    def tries():
        return cluster.table("transitions", began_s, 10_000)

    cluster.wait_for(cluster.both_ingresses_answer)
    name, victim = next(iter(cluster.pids("fastserve", "Ingress").items()))
    began_s = time.time()
    with cluster.client() as client, ThreadPoolExecutor(count) as callers:
        asked = [callers.submit(client.post, "/v1/chat/completions", json=body) for _ in range(count)]
        cluster.wait_for(lambda: len(tries()) == count)
        os.kill(victim, signal.SIGKILL)
        answers = [one.result() for one in asked]
    assert [answer.status_code for answer in answers] == [200] * count
    cluster.wait_for(lambda: all(outcome is not None for _, outcome in tries()))
    answered = {answer.headers["x-fastserve-decision-id"] for answer in answers}
    begun = [(d.decision_id, outcome.outcome) for d, outcome in tries() if d.decision_id not in answered]
    assert begun, "the replica that was killed had none of them"
    assert {request_of(name) for name, _ in begun} <= {request_of(name) for name in answered}
    assert {(outcome.error_code, outcome.output_tokens) for _, outcome in begun} == {(REPEATED, 0)}
    assert sum(outcome.outcome.output_tokens for _, outcome in tries()) == tokens * count
    cluster.wait_for(lambda: cluster.has_replaced(name))


def test_a_model_that_cannot_start_is_named_and_disturbs_nobody(restored, load, tmp_path):
    """Its replicas crash one after the other: status says which and why, and no request is given to them."""
    cluster = restored
    others = [("fastserve", "Ingress"), ("model-alpha", "Model"), ("model-beta", "Model")]
    before = [cluster.pids(*name) for name in others]
    changed = cluster.with_model("gamma")
    changed["applications"][-1]["args"] |= {
        "engine": "openai",
        "simulated": None,
        "upstream": {"base_url": "http://127.0.0.1:9/v1", "key_env": "FASTSERVE_NO_SUCH_KEY"},
    }

    def is_named():
        problems = json.loads(Console(tmp_path).run("status", "--json").stdout)["problems"]
        return any("model-gamma" in problem and "FASTSERVE_NO_SUCH_KEY" in problem for problem in problems)

    with load(cluster, ["alpha", "beta", "auto"], 4, max_tokens=8) as running:
        cluster.deploy(changed, wait=False)
        cluster.wait_for(is_named)
        with cluster.client() as client:
            asked = client.post("/v1/chat/completions", json={"model": "gamma", "messages": HELLO})
        running.until(50)
    assert asked.status_code in (404, 503), asked.text
    assert [answer for answer in running.answers if not answer.is_whole] == []
    assert [cluster.pids(*name) for name in others] == before
    models = cluster.snapshot().models
    assert "gamma" not in models or models["gamma"].requests == 0
