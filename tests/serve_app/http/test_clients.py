"""What clients send at the edges of HTTP and of bodies, through a whole pool in this process."""

import base64
import gzip
import json
import struct
import time
import uuid

import pytest

pytestmark = pytest.mark.asyncio(loop_scope="module")


def called(arguments):
    """A call of a tool without parameters, as SDKs replay it."""
    return {"id": "c", "type": "function", "function": {"name": "now", "arguments": arguments}}


ORIGIN = "https://a.example"
HELLO = [{"role": "user", "content": "Hello"}]
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}


async def test_the_pool_is_up(pool):
    await pool.add("small", capabilities=["chat", "tools", "json", "embeddings"], context_tokens=100_000)
    await pool.add("qwen3:30b", weight=0.0)
    await pool.add("org/model:1", weight=0.0)
    assert (await pool.client.get("/ready")).status_code == 200


@pytest.mark.parametrize("path", ["/health", "/ready", "/v1/models", "/v1/models/small"])
async def test_head_is_answered_where_get_is_without_a_body(pool, path):
    head, get = await pool.client.head(path), await pool.client.get(path)
    assert head.status_code == get.status_code == 200
    assert head.content == b""
    assert head.headers["content-length"] == str(len(get.content))


async def test_an_error_to_head_has_no_body_either(pool):
    answer = await pool.client.head("/v1/nothing")
    assert (answer.status_code, answer.content) == (404, b"")


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/chat/completions", "/v1/chat/completions"),
        ("/v1/chat/completions/", "/v1/chat/completions"),
        ("/v1/v1/chat/completions", "/v1/chat/completions"),
        ("/openai/v1/embeddings", "/v1/embeddings"),
        ("/V1/Responses", "/v1/responses"),
        ("/completions", "/v1/completions"),
        ("/models", "/v1/models"),
        ("/v1//models", "/v1/models"),
        ("/v1/health/", "/health"),
        ("/v1/chat/completions/chat/completions", "/v1/chat/completions"),
        ("/v1/responses/responses", "/v1/responses"),
        ("/v1/chat/completion", "/v1/chat/completions"),
        ("/v1/embedding", "/v1/embeddings"),
        ("/v1/message", "/v1/messages"),
        ("/api/v1/chat/completions", "/v1/chat/completions"),
    ],
)
async def test_a_wrong_path_is_told_the_right_one(pool, path, meant):
    answer = await pool.client.post(path, json={})
    assert answer.status_code == 404
    assert f"'{meant}'" in answer.json()["error"]["message"]


async def test_a_path_that_resembles_none_is_told_none(pool):
    answer = await pool.client.get("/v1/batches")
    assert answer.status_code == 404
    assert "Did you mean" not in answer.json()["error"]["message"]


async def test_a_gzipped_body_is_answered(pool):
    raw = gzip.compress(json.dumps({"model": "small", "messages": HELLO}).encode())
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    answer = await pool.client.post("/v1/chat/completions", content=raw, headers=headers)
    assert answer.status_code == 200


async def test_every_answer_can_be_read_by_a_page_of_a_configured_origin(pool):
    pool.ingress.reconfigure({"cors_origins": [ORIGIN]})
    try:
        for method, path, headers, content in (
            ("POST", "/v1/chat/completions", {}, b"{"),
            ("POST", "/v1/chat/completions", {"authorization": "Bearer no"}, b"{}"),
            ("POST", "/v1/chat/completions", {"content-encoding": "br"}, b"{}"),
            ("POST", "/v1/chat/completions", {}, b" " * 5_000_000),
            ("GET", "/v1/nothing", {}, None),
            ("DELETE", "/v1/models", {}, None),
        ):
            answer = await pool.client.request(
                method, path, headers={"origin": ORIGIN, **headers}, content=content
            )
            assert answer.status_code >= 400
            assert answer.headers.get_list("access-control-allow-origin") == [ORIGIN]
            assert answer.headers["access-control-expose-headers"] == "*"
    finally:
        pool.ingress.reconfigure({})


WRONG_TYPES = [
    ("/v1/chat/completions", {"tool_choice": 5}, "tool_choice"),
    ("/v1/chat/completions", {"tool_choice": {"function": "f"}}, "tool_choice.function"),
    (
        "/v1/chat/completions",
        {"tools": [{"type": "function", "function": {"name": 5}}]},
        "tools[0].function.name",
    ),
    ("/v1/chat/completions", {"messages": [{**HELLO[0], "name": 5}]}, "messages[0].name"),
    (
        "/v1/chat/completions",
        {"messages": [{"role": "assistant", "tool_calls": [{"function": []}]}]},
        "messages[0].tool_calls[0].function",
    ),
    ("/v1/chat/completions", {"reasoning_effort": 1}, "reasoning_effort"),
    ("/v1/responses", {"input": ["Hello"]}, "input[0]"),
    ("/v1/responses", {"input": [{"type": {}}]}, "input[0].type"),
    ("/v1/responses", {"input": [{"role": "nobody", "content": "Hello"}]}, "input[0].role"),
    ("/v1/responses", {"input": "Hello", "background": True}, "background"),
    ("/v1/embeddings", {"input": "Hello", "stream": True}, "stream"),
    ("/v1/messages", {"max_tokens": 4, "stop_sequences": [5]}, "stop_sequences[0]"),
    ("/v1/messages", {"max_tokens": 4, "thinking": {"type": "much"}}, "thinking.type"),
    ("/v1/messages", {"max_tokens": 4, "tool_choice": {"type": []}}, "tool_choice.type"),
    ("/v1/messages", {"max_tokens": 4, "system": 0}, "system"),
    ("/v1/score", {"text_1": 5, "queries": "a", "documents": ["b"]}, "text_1[0]"),
    ("/tokenize", {"prompt": "a", "add_special_tokens": "yes"}, "add_special_tokens"),
]


@pytest.mark.parametrize(("path", "fields", "param"), WRONG_TYPES, ids=lambda value: str(value)[:30])
async def test_a_wrong_type_inside_a_body_is_refused_by_its_place(pool, path, fields, param):
    chat = {"messages": HELLO} if path.endswith(("completions", "messages")) else {}
    answer = await pool.client.post(path, json={"model": "small", **chat, **fields})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text


@pytest.mark.parametrize(
    "fields",
    [
        {"top_p": 0},
        {"stop": ""},
        {"stop": ["", "x" * 1000]},
        {"stop": [str(i) for i in range(16)]},
        {"functions": None, "function_call": None},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"x": "y" * 200_000}}}]},
        {"messages": [*HELLO, {"role": "assistant", "content": None}, *HELLO]},
        {"messages": [*HELLO, {"role": "assistant", "tool_calls": [called("null"), called("")]}, *HELLO]},
        {"best_of": 1},
        {"max_tokens": 4.0, "n": 1.0, "seed": 3.0, "top_k": 2.0},
        {"store": False, "service_tier": "auto", "metadata": {"a": "b"}, "reasoning_effort": "low"},
    ],
    ids=lambda fields: ",".join(fields),
)
async def test_fields_as_wide_as_clients_send_them(pool, fields):
    answer = await pool.client.post(
        "/v1/chat/completions", json={"model": "small", "messages": HELLO, "max_tokens": 4, **fields}
    )
    assert answer.status_code == 200, answer.text


async def test_a_large_body_is_answered(pool):
    """A picture as a data URL makes a body of some megabytes; this model cannot see and says so."""
    url = "data:image/png;base64," + "A" * 3_000_000
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What is this?"}]
    for model in ("small", "auto"):
        body = {"model": model, "messages": [{"role": "user", "content": parts}]}
        answer = await pool.client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 400
        assert "vision" in answer.json()["error"]["message"]


async def test_a_large_picture_and_a_long_prompt_are_answered_where_they_fit(pool):
    roomy = {"context_tokens": 1_000_000, "capabilities": ["chat", "vision"], "weight": 0.0}
    fast = {"kv_tokens": 1_000_000, "prefill_tokens_per_s": 1e9}
    await pool.add("seeing", simulated=fast, **roomy)
    url = "data:image/png;base64," + "A" * 3_000_000
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What is this?"}]
    for content in (parts, "word " * 500_000):
        body = {"model": "seeing", "messages": [{"role": "user", "content": content}], "max_tokens": 2}
        answer = await pool.client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text


ORDINARY = {
    "hexadecimal": "0123456789abcdef" * 113,
    "UUIDs": "\n".join(str(uuid.UUID(int=number << 64)) for number in range(40)),
    "code": "        self.assertEqual(result['value'], expected)\n" * 40,
    "Chinese": "请把这句话翻译成英文然后解释它的意思" * 55,
    "Arabic": "ترجم هذه الجملة إلى الإنجليزية " * 42,
}


@pytest.mark.parametrize("text", ORDINARY.values(), ids=ORDINARY)
@pytest.mark.parametrize("model", ["auto", "auto:wide"])
async def test_no_ordinary_prompt_is_refused_that_another_model_takes(pool, text, model):
    if not any(one.config.id == "short" for one in pool.models):
        await pool.add("short", accuracy_prior=0.99, context_tokens=300)
    pool.ingress.reconfigure({"dispatch": {"profiles": {"wide": {"weights": {"accuracy": 9}}}}})
    try:
        chat = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 4}
        response = {"model": model, "input": text, "max_output_tokens": 4}
        for path, body in (("/v1/chat/completions", chat), ("/v1/responses", response)):
            answer = await pool.client.post(path, json=body)
            assert answer.status_code == 200, answer.text
    finally:
        pool.ingress.reconfigure({})


@pytest.mark.parametrize("prompt", [["One", "Two"], [[1, 2, 3], [4]]], ids=["texts", "tokens"])
async def test_a_completion_of_several_prompts_has_a_choice_for_each(pool, prompt):
    body = {"model": "small", "prompt": prompt, "max_tokens": 3}
    answer = await pool.client.post("/v1/completions", json=body)
    assert answer.status_code == 200, answer.text
    assert [choice["index"] for choice in answer.json()["choices"]] == [0, 1]


@pytest.mark.parametrize(
    ("given", "count"),
    [("One", 1), (["One"] * 2048, 2048), ([1, 2, 3], 1), ([[1, 2], [3]], 2)],
    ids=["text", "texts", "tokens", "nested tokens"],
)
@pytest.mark.parametrize("encoding", ["float", "base64"])
async def test_embeddings_of_texts_and_tokens_in_both_encodings(pool, given, count, encoding):
    body = {"model": "small", "input": given, "encoding_format": encoding}
    answer = await pool.client.post("/v1/embeddings", json=body)
    assert answer.status_code == 200, answer.text
    vectors = [entry["embedding"] for entry in answer.json()["data"]]
    assert len(vectors) == count
    if encoding == "base64":
        raw = base64.b64decode(vectors[0])
        vectors[0] = struct.unpack(f"<{len(raw) // 4}f", raw)
    assert sum(value * value for value in vectors[0]) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("name", ["qwen3:30b", "org/model:1"])
async def test_a_model_with_a_colon_or_a_slash_in_its_name_answers(pool, name):
    assert (await pool.chat(name, max_tokens=2)).json()["model"] == name
    assert (await pool.client.get(f"/v1/models/{name}")).json()["id"] == name


async def test_models_were_created_at_a_plausible_time(pool):
    now_s = time.time()
    created = [model["created"] for model in (await pool.client.get("/v1/models")).json()["data"]]
    assert all(1_600_000_000 < at <= now_s + 1 for at in created)


async def test_a_replayed_response_without_content_is_answered(pool):
    items = [
        {"role": "user", "content": "What time is it?"},
        {"role": "assistant", "content": None},
        {"type": "function_call", "call_id": "c", "name": "now", "arguments": ""},
        {"type": "function_call_output", "call_id": "c", "output": "noon"},
    ]
    answer = await pool.client.post("/v1/responses", json={"model": "small", "input": items})
    assert answer.status_code == 200, answer.text


async def test_the_api_is_described_to_who_has_a_key(pool):
    answer = await pool.client.get("/openapi.json")
    assert answer.status_code == 200
    described = answer.json()
    assert described["openapi"].startswith("3.1")
    chat = described["paths"]["/v1/chat/completions"]["post"]
    schema = chat["requestBody"]["content"]["application/json"]["schema"]
    assert schema["required"] == ["model", "messages"]
    assert {"temperature", "stop", "logit_bias", "response_format"} <= schema["properties"].keys()
    assert set(chat["responses"]["200"]["content"]) == {"application/json", "text/event-stream"}
    without_key = await pool.client.get("/openapi.json", headers={"authorization": ""})
    assert without_key.status_code == 401


async def test_every_described_path_is_served_by_its_method_and_no_other(pool):
    paths = (await pool.client.get("/openapi.json")).json()["paths"]
    assert {"/v1/embeddings", "/v1/models/{model}", "/health", "/openapi.json"} <= paths.keys()
    for path, operations in paths.items():
        concrete = path.replace("{model}", "small")
        assert len(operations) == 1
        for method in operations:
            answer = await pool.client.request(method, concrete, json={} if method == "post" else None)
            assert answer.status_code not in (404, 405), path
        other = await pool.client.delete(concrete)
        assert (other.status_code, other.headers["allow"].split(", ")[0].lower()) == (
            405,
            next(iter(operations)),
        )
