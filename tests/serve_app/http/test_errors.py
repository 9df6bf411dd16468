"""Bad requests: the right status, OpenAI's shape, the field at fault, never a 5xx, and no engine asked."""

import asyncio
import json

import httpx
import pytest

from serve_app.http.errors import ApiError, from_upstream, quoted

pytestmark = pytest.mark.asyncio(loop_scope="module")

USER = {"role": "user", "content": "Hi"}
DEEP = b'{"model":"auto","messages":[{"role":"user","content":"x"}],"a":' + b"[" * 70 + b"]" * 70 + b"}"


def chat(**fields):
    return json.dumps({"model": "auto", "messages": [USER], **fields}).encode()


def raw(fragment: str) -> bytes:
    return b'{"model":"auto","messages":[{"role":"user","content":"Hi"}],' + fragment.encode() + b"}"


def schema(levels: int):
    made = {"type": "string"}
    for _ in range(levels):
        made = {"type": "object", "properties": {"a": made}}
    return {"type": "json_schema", "json_schema": {"name": "s", "schema": made}}


def part(**fields):
    return chat(messages=[{"role": "user", "content": [fields]}])


BODIES = {
    "empty": (b"", None),
    "not json": (b"hello", None),
    "truncated": (b'{"model":"auto"', None),
    "array": (b"[]", None),
    "string": (b'"auto"', None),
    "number": (b"1", None),
    "null": (b"null", None),
    "bare NaN": (b"NaN", None),
    "NaN": (raw('"temperature":NaN'), "temperature"),
    "infinity": (raw('"temperature":Infinity'), "temperature"),
    "1e400": (raw('"temperature":1e400'), "temperature"),
    "400-digit int": (raw('"max_tokens":' + "9" * 400), "max_tokens"),
    "functions": (chat(functions=[{"name": "f", "parameters": {}}]), "functions"),
    "function_call": (chat(function_call={"name": "f"}), "function_call"),
    "utf-16": (chat().decode().encode("utf-16"), None),
    "utf-8 with BOM": (b"\xef\xbb\xbf" + chat(), None),
    "latin-1": (raw('"user":"caf') + b"\xe9" + b'"', None),
    "invalid utf-8": (b'{"model":"\xff\xfe"}', None),
    "encoded surrogate": (b'{"model":"\xed\xa0\x80"}', None),
    "lone surrogate": (raw('"user":"\\ud800"'), None),
    "NUL in json": (b'{"model":"a\x00"}', None),
    "trailing text": (chat() + b"x", None),
    "single quotes": (b"{'model':'auto'}", None),
    "comment": (b'{"model":"auto" /* x */}', None),
    "duplicate model": (raw('"model":"small"'), "model"),
    "duplicate by escape": (raw('"\\u006dodel":"small"'), "model"),
    "duplicate stream": (raw('"stream":true,"stream":false'), "stream"),
    "70 levels": (DEEP, None),
    "2000 levels": (b"[" * 2000 + b"]" * 2000, None),
    "no model": (json.dumps({"messages": [USER]}).encode(), "model"),
    "model null": (chat(model=None), "model"),
    "model number": (chat(model=1), "model"),
    "model empty": (chat(model=""), "model"),
    "model too long": (chat(model="m" * 1000), "model"),
    "no messages": (b'{"model":"auto"}', "messages"),
    "messages empty": (chat(messages=[]), "messages"),
    "messages object": (chat(messages={}), "messages"),
    "message string": (chat(messages=["hi"]), "messages[0]"),
    "message no role": (chat(messages=[{"content": "x"}]), "messages[0].role"),
    "message bad role": (chat(messages=[{"role": "boss", "content": "x"}]), "messages[0].role"),
    "message no content": (chat(messages=[{"role": "user"}]), "messages[0].content"),
    "content number": (chat(messages=[{"role": "user", "content": 1}]), "messages[0].content"),
    "part no type": (part(text="x"), "messages[0].content[0].type"),
    "part text number": (part(type="text", text=1), "messages[0].content[0].text"),
    "part unknown": (part(type="hologram"), "messages[0].content[0].type"),
    "media on loopback": (
        part(type="image_url", image_url={"url": "http://127.0.0.1:1/x"}),
        "messages[0].content[0].image_url",
    ),
    "media by file": (
        part(type="image_url", image_url={"url": "file:///etc/passwd"}),
        "messages[0].content[0].image_url",
    ),
    "temperature string": (chat(temperature="1"), "temperature"),
    "temperature true": (chat(temperature=True), "temperature"),
    "temperature low": (chat(temperature=-0.1), "temperature"),
    "temperature high": (chat(temperature=99), "temperature"),
    "top_p negative": (chat(top_p=-0.1), "top_p"),
    "max_tokens zero": (chat(max_tokens=0), "max_tokens"),
    "max_tokens negative": (chat(max_tokens=-1), "max_tokens"),
    "max_tokens float": (chat(max_tokens=1.5), "max_tokens"),
    "max_tokens true": (chat(max_tokens=True), "max_tokens"),
    "max_tokens huge": (chat(max_tokens=10**17), "max_tokens"),
    "n huge": (chat(n=10**9), "n"),
    "n true": (chat(n=True), "n"),
    "n zero": (chat(n=0), "n"),
    "best_of": (chat(best_of=2), "best_of"),
    "stream string": (chat(stream="true"), "stream"),
    "stream number": (chat(stream=1), "stream"),
    "stream options": (chat(stream=True, stream_options=[]), "stream_options"),
    "include_usage": (
        chat(stream=True, stream_options={"include_usage": "yes"}),
        "stream_options.include_usage",
    ),
    "stop too many": (chat(stop=["a"] * 17), "stop"),
    "stop too long": (chat(stop="a" * 1025), "stop[0]"),
    "stop number": (chat(stop=[1]), "stop[0]"),
    "seed float": (chat(seed=0.5), "seed"),
    "logprobs number": (chat(logprobs=3), "logprobs"),
    "top_logprobs": (chat(logprobs=True, top_logprobs=50), "top_logprobs"),
    "prompt_logprobs": (chat(prompt_logprobs=-1), "prompt_logprobs"),
    "logit_bias words": (chat(logit_bias={"cat": 1}), "logit_bias"),
    "logit_bias amount": (chat(logit_bias={"1": 101}), "logit_bias.1"),
    "logit_bias many": (chat(logit_bias={str(i): 1 for i in range(301)}), "logit_bias"),
    "tools string": (chat(tools="all"), "tools"),
    "tool number": (chat(tools=[1]), "tools[0]"),
    "response_format string": (chat(response_format="json"), "response_format"),
    "response_format type": (chat(response_format={"type": "yaml"}), "response_format.type"),
    "schema missing": (
        chat(response_format={"type": "json_schema"}),
        "response_format.json_schema",
    ),
    "schema deep": (chat(response_format=schema(25)), "response_format.json_schema.schema"),
    "regex": (chat(structured_outputs={"regex": "(a+)+$"}), "structured_outputs.regex"),
    "guided_grammar": (chat(guided_grammar="root ::= x"), "guided_grammar"),
    "chat_template": (chat(chat_template="{% for x in y %}"), "chat_template"),
    "template in kwargs": (
        chat(chat_template_kwargs={"chat_template": "x"}),
        "chat_template_kwargs.chat_template",
    ),
    "cache_salt": (chat(cache_salt="x"), "cache_salt"),
    "prompt_embeds": (chat(prompt_embeds="x"), "prompt_embeds"),
    "request_id": (chat(request_id="x"), "request_id"),
    "weights negative": (chat(fastserve={"weights": {"accuracy": -1}}), "fastserve.weights.accuracy"),
    "weights zero": (chat(fastserve={"weights": {"accuracy": 0}}), "fastserve.weights"),
    "weights unknown": (chat(fastserve={"weights": {"speed": 1}}), "fastserve.weights"),
    "preferences unknown": (chat(fastserve={"modles": ["a"]}), "fastserve.modles"),
    "preferred models empty": (chat(fastserve={"models": []}), "fastserve.models"),
    "max_latency string": (chat(fastserve={"max_latency_s": "1"}), "fastserve.max_latency_s"),
    "max_cost zero": (chat(fastserve={"max_cost_usd": 0}), "fastserve.max_cost_usd"),
}


def check_shape(answer: httpx.Response, status: int) -> dict:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json()) == {"error"}
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str)
    assert isinstance(error["code"], str)
    return error


async def test_the_pool_is_up(pool):
    await pool.add("small", capabilities=["chat", "tools", "json"], context_tokens=1000)
    assert (await pool.client.get("/ready")).status_code == 200


@pytest.mark.parametrize("name", BODIES)
async def test_a_bad_body_is_400_with_its_param(pool, name):
    body, param = BODIES[name]
    headers = {"content-type": "application/json"}
    answer = await pool.client.post("/v1/chat/completions", content=body, headers=headers)
    error = check_shape(answer, 400)
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"


async def test_no_bad_body_reached_an_engine(pool):
    assert pool.models[0]._admission.ongoing == 0
    assert await pool.table.transitions(0.0, 10) == []


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/completions", {"model": "small"}, "prompt"),
        ("/v1/completions", {"model": "small", "prompt": ["a"] * 129}, "prompt"),
        ("/v1/completions", {"model": "small", "prompt": [1, True]}, "prompt[0]"),
        ("/v1/completions", {"model": "small", "prompt": [-1]}, "prompt[0]"),
        ("/v1/completions", {"model": "small", "prompt": "a", "logprobs": True}, "logprobs"),
        ("/v1/responses", {"model": "small"}, "input"),
        ("/v1/responses", {"model": "small", "input": [1]}, "input[0]"),
        ("/v1/responses", {"model": "small", "input": "a", "background": True}, "background"),
        (
            "/v1/responses",
            {"model": "small", "input": "a", "previous_response_id": "r"},
            "previous_response_id",
        ),
        ("/v1/responses", {"model": "small", "input": "a", "text": "json"}, "text"),
        (
            "/v1/responses",
            {"model": "small", "input": "a", "text": {"format": {"type": "json_schema", "schema": 1}}},
            "text.format.schema",
        ),
        ("/v1/embeddings", {"model": "small"}, "input"),
        ("/v1/embeddings", {"model": "small", "input": "a", "dimensions": 0}, "dimensions"),
        ("/v1/embeddings", {"model": "small", "input": "a", "stream": True}, "stream"),
    ],
)
async def test_other_endpoints_check_their_own_fields(pool, path, body, param):
    error = check_shape(await pool.client.post(path, json=body), 400)
    assert error["param"] == param


async def test_an_unknown_model_is_404_and_names_those_served(pool):
    error = check_shape(await pool.chat("nope"), 404)
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert "'small'" in error["message"]


async def test_an_unknown_model_among_the_preferred_is_404(pool):
    error = check_shape(await pool.chat("auto", fastserve={"models": ["small", "nope"]}), 404)
    assert (error["code"], error["param"]) == ("model_not_found", "fastserve.models")


async def test_an_unknown_profile_is_404(pool):
    assert check_shape(await pool.chat("auto:nope"), 404)["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "not_found"),
        ("GET", "/docs", 404, "not_found"),
        ("GET", "/openapi.yaml", 404, "not_found"),
        ("POST", "/invocations", 404, "not_found"),
        ("POST", "/v1/audio/speech", 404, "not_offered"),
        ("GET", "/v1/models/nope", 404, "model_not_found"),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
        ("POST", "/health", 405, "method_not_allowed"),
        ("OPTIONS", "/v1/chat/completions", 405, "method_not_allowed"),
    ],
)
async def test_wrong_paths_and_methods(pool, method, path, status, code):
    answer = await pool.client.request(method, path)
    assert check_shape(answer, status)["code"] == code
    assert (status == 405) == ("allow" in answer.headers)


async def test_another_content_type_is_415(pool):
    answer = await pool.client.post(
        "/v1/chat/completions", content=chat(), headers={"content-type": "text/plain"}
    )
    check_shape(answer, 415)


@pytest.mark.parametrize(
    "key", [None, "", "Bearer", "Bearer x", "Basic abc", "Bearer ' OR 1=1 --", "Bearer " + "k" * 8000]
)
async def test_no_key_no_answer(pool, key):
    headers = {} if key is None else {"authorization": key}
    async with httpx.AsyncClient(base_url=pool.url, headers=headers, timeout=60.0, trust_env=False) as client:
        for method, path in (
            ("POST", "/v1/chat/completions"),
            ("GET", "/v1/models"),
            ("POST", "/v1/feedback"),
        ):
            answer = await client.request(method, path, json={} if method == "POST" else None)
            assert check_shape(answer, 401)["code"] == "invalid_api_key"


async def test_health_and_ready_need_no_key(pool):
    async with httpx.AsyncClient(base_url=pool.url, timeout=60.0, trust_env=False) as client:
        assert (await client.get("/health")).status_code == 200
        assert (await client.get("/ready")).status_code == 200


async def test_a_prompt_that_cannot_fit_is_refused_before_any_engine(pool):
    before = len(await pool.table.transitions(0.0, 1000))
    for model in ("small", "auto"):
        error = check_shape(await pool.chat(model, "word " * 20_000), 400)
        assert error["code"] == "context_length_exceeded"
    await pool.ingress.view.outbox.flush()
    assert len(await pool.table.transitions(0.0, 1000)) == before


async def test_more_tokens_than_the_context_are_clamped_to_it(pool):
    answer = await pool.chat("small", max_tokens=100_000)
    assert answer.status_code == 200, answer.text


async def test_the_engine_s_own_refusal_comes_in_our_shape(pool):
    error = check_shape(await pool.chat("small", "word " * 100, max_tokens=999), 400)
    assert error["code"] == "context_length_exceeded"


async def test_over_the_cap_is_413_with_and_without_a_length(pool):
    async def pieces():
        for _ in range(80):
            yield b" " * 65_536

    headers = {"content-type": "application/json"}
    for content in (b" " * 5_000_000, pieces()):
        answer = await pool.client.post("/v1/chat/completions", content=content, headers=headers)
        assert check_shape(answer, 413)["code"] == "request_too_large"


async def test_a_slow_body_is_408(pool):
    host, port = pool.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    authorization = pool.client.headers["authorization"].encode()
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: %s\r\ncontent-length: 100\r\n\r\n{"
    )
    writer.write(head % authorization)
    answer = await asyncio.wait_for(reader.read(), 60)
    assert b" 408 " in answer.split(b"\r\n")[0]
    assert b'"code":"request_timeout"' in answer
    writer.close()


async def test_errors_do_not_repeat_long_texts_of_the_caller():
    assert len(quoted("x" * 1000)) < 70


async def test_an_engine_s_int_code_becomes_a_string():
    detail = {"message": "This model's maximum context length is 10", "param": None, "code": 400}
    body = json.dumps({"error": detail}).encode()
    error = from_upstream(400, body)
    assert (error.code, error.type) == ("context_length_exceeded", "invalid_request_error")
    assert from_upstream(422, b"<html>").message == "The model refused the request."


async def test_an_error_inside_a_stream_is_one_event_and_the_end_mark():
    lines = ApiError(502, 'a\n\ndata: [DONE]"').events().decode().split("\n\n")
    assert json.loads(lines[0].removeprefix("data: "))["error"]["message"] == 'a\n\ndata: [DONE]"'
    assert lines[1:] == ["data: [DONE]", ""]
