"""The endpoint over a simulated pool in one process: what callers see, what the log keeps."""

import json

import pytest

from deployments import sse
from deployments.dispatch.settings import DispatchSettings
from deployments.records.decision_id import request_of
from serve_app.config import IngressSettings
from serve_app.http.errors import unavailable

pytestmark = pytest.mark.asyncio(loop_scope="module")

ALL = ["chat", "tools", "json"]


async def logged(pool, answer):
    """The decision and outcome of an answer, from the durable log."""
    await pool.ingress.view.outbox.flush()
    decision_id = answer.headers["x-fastserve-decision-id"]
    return next(
        pair for pair in await pool.table.transitions(0.0, 10_000) if pair[0].decision_id == decision_id
    )


async def test_without_a_model_nothing_is_ready(pool):
    assert (await pool.client.get("/ready")).status_code == 503
    answer = await pool.chat("auto")
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "no_models"
    assert (await pool.chat("small")).status_code == 404


async def test_auto_answers_and_says_which_model(pool):
    await pool.add("small", capabilities=ALL)
    await pool.add("large", capabilities=ALL, accuracy_prior=0.9)
    answer = await pool.chat("auto")
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == answer.headers["x-fastserve-model"] in ("small", "large")
    assert answer.headers["x-fastserve-policy"] == "priced"
    assert "x-fastserve-fallbacks" not in answer.headers
    assert "x-fastserve-degraded" not in answer.headers


async def test_a_stream_is_the_engine_s_bytes(pool):
    body = {"stream": True, "seed": 7, "stream_options": {"include_usage": True}}
    answer = await pool.chat("small", **body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [event.data for event in sse.parse(answer.content)]
    assert events[-1] == sse.DONE
    assert json.loads(events[-2])["usage"]["completion_tokens"] > 0
    assert all(json.loads(event)["model"] == "small" for event in events[:-1])
    _, outcome = await logged(pool, answer)
    assert outcome.outcome.output_tokens == json.loads(events[-2])["usage"]["completion_tokens"]
    assert 0.0 < outcome.outcome.ttft_s <= outcome.outcome.e2e_s
    assert outcome.outcome.tpot_s > 0.0


async def test_decision_and_outcome_reach_the_log(pool):
    answer = await pool.chat("small")
    decision, outcome = await logged(pool, answer)
    assert (decision.requested, decision.model, decision.policy, decision.propensity) == (
        "small",
        "small",
        "named",
        1.0,
    )
    assert (outcome.model, outcome.replica, outcome.outcome.status) == ("small", "small-0", "ok")
    assert outcome.outcome.prompt_tokens == answer.json()["usage"]["prompt_tokens"]
    assert outcome.ingress_s < 0.5
    assert decision.text is None


async def test_weight_0_and_missing_capabilities_keep_a_model_out(pool):
    await pool.add("hidden", weight=0.0, accuracy_prior=1.0)
    answers = [await pool.chat("auto") for _ in range(20)]
    assert "hidden" not in {answer.headers["x-fastserve-model"] for answer in answers}
    tool = {"type": "function", "function": {"name": "f"}}
    refused = await pool.chat("hidden", tools=[tool])
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "no_model_fits"
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    messages = [{"role": "user", "content": [image]}]
    blind = await pool.client.post("/v1/chat/completions", json={"model": "auto", "messages": messages})
    assert blind.status_code == 400


async def test_preferences_are_heard_and_no_model_sees_them(pool):
    only = await pool.chat("auto", fastserve={"models": ["large"], "weights": {"accuracy": 3}})
    assert only.headers["x-fastserve-model"] == "large"
    decision, _ = await logged(pool, only)
    assert decision.caller[:3] == (3.0, 0.0, 0.0)
    nothing = await pool.chat("auto", fastserve={"max_latency_s": 0.000001})
    assert nothing.status_code == 400
    assert "too slow" in nothing.json()["error"]["message"]


async def test_explain_generates_and_logs_nothing(pool):
    await pool.ingress.view.outbox.flush()
    before = len(await pool.table.transitions(0.0, 10_000))
    body = {"model": "auto", "messages": [{"role": "user", "content": "Hi"}]}
    explained = (await pool.client.post("/v1/dispatch/explain", json=body)).json()
    assert explained["policy"] == "priced"
    by_model = {one["model"]: one for one in explained["candidates"]}
    assert by_model["hidden"]["masked"]
    assert by_model["hidden"]["reason"] == "weight is 0"
    assert sum(one["probability"] for one in by_model.values()) == pytest.approx(1.0)
    await pool.ingress.view.outbox.flush()
    assert len(await pool.table.transitions(0.0, 10_000)) == before


async def test_settings_change_live_and_bad_ones_change_nothing(pool):
    profile = {"weights": {"accuracy": 1}, "allowed": ["small"], "generation_defaults": {"max_tokens": 3}}
    pool.ingress.reconfigure({"dispatch": {"epsilon": 0.0, "profiles": {"short": profile}}})
    answer = await pool.chat("auto:short")
    assert answer.headers["x-fastserve-model"] == "small"
    assert answer.json()["usage"]["completion_tokens"] <= 3
    assert (await pool.client.get("/v1/models/auto:short")).status_code == 200
    with pytest.raises(ValueError, match="did you mean 'epsilon'"):
        pool.ingress.reconfigure({"dispatch": {"epsilonn": 0.0}})
    assert pool.ingress.endpoint.settings.dispatch.epsilon == 0.0
    assert (await pool.chat("auto:short")).status_code == 200
    pool.ingress.reconfigure({})
    assert pool.ingress.endpoint.settings == IngressSettings(dispatch=DispatchSettings())


async def test_models_are_listed_with_their_engine(pool):
    listed = (await pool.client.get("/v1/models")).json()
    assert [one["id"] for one in listed["data"]] == ["auto", "hidden", "large", "small"]
    assert {one["owned_by"] for one in listed["data"][1:]} == {"simulated"}


async def test_other_endpoints_answer(pool):
    client = pool.client
    text = await client.post("/v1/completions", json={"model": "small", "prompt": "Once"})
    assert text.json()["choices"][0]["text"]
    response = await client.post("/v1/responses", json={"model": "small", "input": "Hi", "stream": True})
    assert "response.completed" in response.text
    none = await client.post("/v1/embeddings", json={"model": "auto", "input": "a"})
    assert none.status_code == 400
    await pool.add("embedder", capabilities=["embeddings"])
    vectors = await client.post("/v1/embeddings", json={"model": "auto", "input": ["a", "b"]})
    assert vectors.headers["x-fastserve-model"] == "embedder"
    assert len(vectors.json()["data"]) == 2


async def test_a_browser_votes_once_by_token(pool):
    answer = await pool.chat("small")
    await pool.ingress.view.outbox.flush()
    decision_id, token = (answer.headers[f"x-fastserve-{name}"] for name in ("decision-id", "feedback-token"))
    vote = {"decision_id": decision_id, "thumb": "up"}
    headers = {"x-fastserve-feedback-token": token, "authorization": ""}
    statuses = []
    for sent in (vote, vote, vote | {"thumb": "down"}, vote | {"decision_id": "d-other"}):
        statuses.append((await pool.client.post("/v1/feedback", json=sent, headers=headers)).status_code)
    assert statuses == [200, 200, 409, 401]


async def test_a_model_whose_name_begins_with_auto_is_a_model(pool):
    await pool.add("automat", weight=0.0)
    answer = await pool.chat("automat")
    assert answer.status_code == 200
    assert (answer.headers["x-fastserve-policy"], answer.json()["model"]) == ("named", "automat")


async def test_refused_requests_are_counted(pool):
    await pool.chat("auto", temperature=9)
    meter = pool.ingress.metrics.meter
    assert meter.value("fastserve_requests", "chat", "other", "", "rejected", "invalid_value") >= 1


async def test_a_full_ingress_says_429(pool):
    endpoint = pool.ingress.endpoint
    mine = endpoint.keys.keys[0].key_id
    endpoint.active, endpoint._active[mine] = 2048, 2048
    answer = await pool.chat("small")
    endpoint.active = 0
    endpoint._active.clear()
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "1"


async def test_browsers_may_call_from_named_origins_only(pool):
    pool.ingress.reconfigure({"cors_origins": ["https://a.example"]})
    try:
        for origin, allowed in (("https://a.example", True), ("https://b.example", False)):
            preflight = await pool.client.options("/v1/chat/completions", headers={"origin": origin})
            assert (preflight.status_code == 200) == allowed
            listed = await pool.client.get("/v1/models", headers={"origin": origin})
            assert listed.headers.get("access-control-allow-origin") == (origin if allowed else None)
    finally:
        pool.ingress.reconfigure({})


async def test_a_defect_of_ours_is_a_500_in_shape_without_details(pool, monkeypatch, caplog):
    def broken(*_):
        raise ZeroDivisionError("the caller's secret text")

    monkeypatch.setattr(pool.ingress.endpoint.dispatcher, "dispatch", broken)
    answer = await pool.chat("small")
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal_error"
    assert "secret" not in answer.text
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("named", [{"user": "ann"}, {"prompt_cache_key": "talk-1"}, {}], ids=str)
async def test_plain_auto_answers_a_tool_s_result_by_the_model_that_called_it(pool, named):
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    pool.ingress.reconfigure({"dispatch": {"beta": 0.01, "epsilon": 0.05}})
    messages, models = [], []
    try:
        for turn in range(12):
            messages.append({"role": "user", "content": f"What is the weather in town {turn}"})
            sent = {"model": "auto", "messages": messages, "tools": [tool], "max_tokens": 40, **named}
            called = await pool.client.post("/v1/chat/completions", json=sent)
            message = called.json()["choices"][0]["message"]
            result = {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "Rain."}
            messages += [message, result]
            told = await pool.client.post("/v1/chat/completions", json={**sent, "messages": messages})
            messages.append(told.json()["choices"][0]["message"])
            models.append({answer.headers["x-fastserve-model"] for answer in (called, told)})
    finally:
        pool.ingress.reconfigure({})
    assert all(len(turn) == 1 for turn in models)


async def test_a_replica_that_pauses_is_waited_for(pool, monkeypatch):
    """Within the time after which a silent replica is given up, and within the caller's deadline."""
    endpoint, asked = pool.ingress.endpoint, []
    dispatch = endpoint._chooser.dispatch

    def paused(*words):
        asked.append(words)
        if len(asked) < 4:
            silent = unavailable("No healthy replica.")
            silent.may_pass = True
            raise silent
        return dispatch(*words)

    monkeypatch.setattr(endpoint._chooser, "dispatch", paused)
    assert (await pool.chat("small")).status_code == 200
    assert len(asked) == 4
    monkeypatch.setattr(endpoint._chooser, "dispatch", lambda *_: paused())
    asked.clear()
    answer = await pool.chat("small", fastserve={"deadline_s": 0.01})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_unavailable")
    asked.clear()
    monkeypatch.setattr(pool.ingress.forwarder, "may_come_back", lambda _: False)
    assert (await pool.chat("small")).status_code == 503
    assert len(asked) == 1


async def test_the_decision_belongs_to_the_request_that_haproxy_named(pool):
    named = {"x-fastserve-request": "01234567-89ab-cdef-0123-456789abcdef"}
    message = {"model": "small", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
    ids = []
    for headers in (named, named, {}, {"x-fastserve-request": "' or 1"}):
        answer = await pool.client.post("/v1/chat/completions", json=message, headers=headers)
        assert answer.status_code == 200
        ids.append(answer.headers["x-fastserve-decision-id"])
    assert len(set(ids)) == 4
    assert [request_of(one) == "0123456789abcdef01234567" for one in ids] == [True, True, False, False]
