"""The endpoint on real Ray behind HAProxy: the OpenAI SDK, `auto`, profiles, explain, weights live."""

import asyncio
import copy
import json

import httpx
import pytest
from openai import AsyncOpenAI, BadRequestError, NotFoundError, OpenAI

pytestmark = pytest.mark.integration

KEY = "fs-integration-key-0123456789"
HELLO = [{"role": "user", "content": "Hello"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
SCHEMA = {
    "type": "json_schema",
    "json_schema": {"name": "s", "schema": {"type": "object", "properties": {"a": {"type": "integer"}}}},
}


@pytest.fixture(scope="module")
def sdk(cluster):
    with (
        cluster.client() as client,
        OpenAI(base_url=f"{cluster.url}/v1", api_key=KEY, http_client=client, max_retries=0) as made,
    ):
        yield made


def test_auto_answers_and_the_headers_tell_who(sdk):
    answer = sdk.chat.completions.with_raw_response.create(model="auto", messages=HELLO)
    assert answer.parse().model == answer.headers["x-fastserve-model"] in ("alpha", "beta")
    assert answer.headers["x-fastserve-policy"] == "priced"
    assert answer.headers["x-fastserve-decision-id"]
    assert len(answer.headers.get_list("x-request-id")) == 1


def test_the_caller_s_request_id_comes_back(sdk):
    answer = sdk.chat.completions.with_raw_response.create(
        model="alpha", messages=HELLO, extra_headers={"x-request-id": "mine-1"}
    )
    assert answer.headers.get_list("x-request-id") == ["mine-1"]


def test_a_named_model_answers(sdk):
    for model in ("alpha", "beta"):
        assert sdk.chat.completions.create(model=model, messages=HELLO).model == model


def test_streams_have_content_and_usage(sdk):
    stream = sdk.chat.completions.create(
        model="auto", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert chunks[-1].usage.completion_tokens > 0


def test_tools_and_a_json_schema_pass_through(sdk):
    answer = sdk.chat.completions.create(model="auto", messages=HELLO, tools=[TOOL])
    assert answer.choices
    messages = [{"role": "user", "content": "Give me JSON"}]
    answer = sdk.chat.completions.create(model="alpha", messages=messages, response_format=SCHEMA)
    assert json.loads(answer.choices[0].message.content) == {"a": 1}


def test_the_other_endpoints_answer(sdk):
    assert sdk.completions.create(model="alpha", prompt="Once").choices[0].text
    assert sdk.responses.create(model="alpha", input="Hello").output_text
    assert sdk.embeddings.create(model="alpha", input=["a", "b"], encoding_format="float").data[1].embedding


def test_models_lists_auto_profiles_and_the_pool(sdk):
    names = [model.id for model in sdk.models.list()]
    assert names[0] == "auto"
    assert "auto:customer-service" in names
    assert {"alpha", "beta"} <= set(names)
    assert sdk.models.retrieve("alpha").owned_by == "simulated"


async def test_the_async_sdk_streams_from_many_callers_at_once(cluster):
    async with (
        httpx.AsyncClient(trust_env=False) as client,
        AsyncOpenAI(base_url=f"{cluster.url}/v1", api_key=KEY, http_client=client, max_retries=0) as sdk,
    ):

        async def one(number: int) -> str:
            stream = await sdk.chat.completions.create(
                model="auto", messages=[{"role": "user", "content": f"Say {number}"}], stream=True
            )
            return "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])

        texts = await asyncio.gather(*(one(number) for number in range(32)))
    assert all(texts)


def test_a_profile_is_used_and_named_in_explain(cluster):
    body = {"model": "auto:customer-service", "messages": HELLO}
    with cluster.client() as client:
        assert client.post("/v1/chat/completions", json=body).status_code == 200
        explained = client.post("/v1/dispatch/explain", json=body).json()
    assert explained["policy"] == "priced"
    assert explained["profile"] == "customer-service"
    assert {one["model"] for one in explained["candidates"] if not one["masked"]} == {"alpha", "beta"}
    assert sum(one["probability"] for one in explained["candidates"]) == pytest.approx(1.0)


def test_preferences_restrict_and_weigh(cluster):
    body = {"model": "auto", "messages": HELLO, "fastserve": {"models": ["beta"]}}
    with cluster.client() as client:
        answers = [client.post("/v1/chat/completions", json=body) for _ in range(5)]
        by_header = client.post(
            "/v1/chat/completions",
            json={"model": "auto", "messages": HELLO},
            headers={"x-fastserve-models": "alpha"},
        )
    assert {answer.headers["x-fastserve-model"] for answer in answers} == {"beta"}
    assert by_header.headers["x-fastserve-model"] == "alpha"


def test_errors_raise_the_sdk_s_own_exceptions(sdk):
    with pytest.raises(NotFoundError, match="'alpha'"):
        sdk.chat.completions.create(model="nope", messages=HELLO)
    with pytest.raises(BadRequestError) as caught:
        sdk.chat.completions.create(model="auto", messages=HELLO, temperature=9)
    assert caught.value.param == "temperature"


def test_both_ingress_replicas_carry_requests(cluster):
    """HAProxy spreads what runs at once; the table hears of it from each ingress replica."""
    cluster.wait_for(cluster.both_ingresses_answer)


def test_a_vote_counts_once(cluster):
    with cluster.client() as client:
        answer = client.post("/v1/chat/completions", json={"model": "alpha", "messages": HELLO})
        decision_id = answer.headers["x-fastserve-decision-id"]
        vote = {"decision_id": decision_id, "score": 1.0}

        def stored() -> bool:
            return client.post("/v1/feedback", json=vote).status_code == 200

        cluster.wait_for(stored)
        assert client.post("/v1/feedback", json=vote).json()["status"] == "same"
        assert client.post("/v1/feedback", json=vote | {"score": 0.0}).status_code == 409
        assert client.post("/v1/feedback", json=vote | {"decision_id": "d-0"}).status_code == 404
        assert client.post("/v1/feedback", json=vote | {"score": True}).json()["error"]["param"] == "score"
    token = answer.headers["x-fastserve-feedback-token"]
    with httpx.Client(base_url=cluster.url, timeout=120.0, trust_env=False) as browser:
        headers = {"x-fastserve-feedback-token": token}
        voted = browser.post(
            "/v1/feedback", json={"decision_id": decision_id, "thumb": "down"}, headers=headers
        )
        assert voted.json()["status"] == "new"
        forged = browser.post("/v1/feedback", json={"decision_id": "d-1", "thumb": "up"}, headers=headers)
        assert forged.status_code == 401


def test_new_weights_take_effect_in_seconds_and_restart_nothing(restored):
    cluster = restored
    before = (cluster.pids("fastserve", "Ingress"), cluster.pids("model-alpha", "Model"))
    changed = copy.deepcopy(cluster.base)
    user_config = changed["applications"][0]["deployments"][0]["user_config"]
    user_config["dispatch"]["weights"] = {"accuracy": 5.0, "latency": 0.0, "cost": 0.0}
    cluster.deploy(changed, wait=False)

    def explained() -> bool:
        with cluster.client(limits=httpx.Limits(max_keepalive_connections=0)) as client:
            body = {"model": "auto", "messages": HELLO}
            seen = [client.post("/v1/dispatch/explain", json=body).json()["caller"] for _ in range(6)]
        return all(weights["accuracy_weight"] == 5.0 for weights in seen)

    cluster.wait_for(explained)
    assert (cluster.pids("fastserve", "Ingress"), cluster.pids("model-alpha", "Model")) == before


def test_a_bad_user_config_changes_nothing(restored):
    cluster = restored
    changed = copy.deepcopy(cluster.base)
    changed["applications"][0]["deployments"][0]["user_config"]["dispatch"]["epsilonn"] = 0.1
    cluster.deploy(changed, wait=False)
    with cluster.client() as client:
        for _ in range(20):
            body = {"model": "auto", "messages": HELLO}
            assert client.post("/v1/chat/completions", json=body).status_code == 200
