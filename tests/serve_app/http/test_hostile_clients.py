"""What nobody sends who means well, and some send who do: sessions, names, methods, encodings, versions."""

import asyncio
import gzip
import json
import zlib

import pytest

pytestmark = pytest.mark.asyncio(loop_scope="module")

HELLO = [{"role": "user", "content": "Hello"}]
CHAT = "/v1/chat/completions"


async def ready(pool):
    if not pool.models:
        await pool.add("small", capabilities=["chat", "tools", "json"], context_tokens=100_000)
        await pool.add("org/model:1", weight=0.0)


async def wire(pool, raw: bytes) -> tuple[int, bytes, bytes]:
    """Status, head and body of the answer to some bytes, read to the end of the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(pool.url.rpartition(":")[2]))
    writer.write(raw)
    answer = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]) if head else 0, head.lower(), body


def request(pool, method, path, body=b"", version="1.0", *headers):
    key = pool.client.headers["authorization"]
    lines = [f"{method} {path} HTTP/{version}", "host: a", f"authorization: {key}", *headers]
    lines += [f"content-length: {len(body)}"] if body else []
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8") + body


@pytest.mark.parametrize(
    ("session", "status"),
    [
        ("", 200),
        ("x" * 256, 200),
        ("x" * 257, 400),
        ("\u0000named\u0000a", 200),
        ("\u7528\u6237\U0001f600", 200),
        (5, 400),
        (["a"], 400),
        (None, 200),
    ],
    ids=lambda value: repr(value)[:20],
)
async def test_any_session_is_kept_or_refused_by_its_name(pool, session, status):
    await ready(pool)
    answer = await pool.chat("auto", fastserve={"session": session}, max_tokens=2)
    assert answer.status_code == status, answer.text
    if status == 400:
        assert answer.json()["error"]["param"] == "fastserve.session"


async def test_a_session_in_a_header_is_as_good_and_the_body_wins(pool):
    await ready(pool)
    for value in ("a", "", "caf\u00e9".encode("utf-8"), "x" * 256, "a, b; c=d"):
        answer = await pool.client.post(
            CHAT,
            json={"model": "auto", "messages": HELLO, "max_tokens": 2},
            headers={"x-fastserve-session": value},
        )
        assert answer.status_code == 200, answer.text
    answer = await pool.client.post(
        CHAT,
        json={"model": "auto", "messages": HELLO, "fastserve": {"session": 5}},
        headers={"x-fastserve-session": "a"},
    )
    assert answer.status_code == 400


async def test_tools_keep_the_model_of_their_conversation_however_clients_name_it(pool):
    await ready(pool)
    await pool.add("other", capabilities=["chat", "tools", "json"], context_tokens=100_000)
    call = {"id": "c", "type": "function", "function": {"name": "now", "arguments": "{}"}}
    tool = {"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}
    for named in ({}, {"user": "u"}, {"prompt_cache_key": "k"}, {"safety_identifier": "s"}, {"metadata": {}}):
        messages = [{"role": "system", "content": "Be brief."}, *HELLO]
        models = set()
        for _ in range(6):
            body = {"model": "auto", "messages": messages, "tools": [tool], "max_tokens": 2, **named}
            answer = await pool.client.post(CHAT, json=body)
            assert answer.status_code == 200, answer.text
            models.add(answer.headers["x-fastserve-model"])
            messages = [
                *messages,
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "c", "content": "noon"},
            ]
        assert len(models) == 1, named


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("org/model:1", 200),
        ("org%2Fmodel%3A1", 200),
        ("org%2fmodel:1", 200),
        ("org/model:2", 404),
        ("org/model:1/", 200),
        ("ORG/model:1", 404),
        ("org", 404),
        ("..%2f..%2fetc%2fpasswd", 404),
        ("%00", 404),
        ("auto:", 404),
        ("auto", 200),
        ("x" * 4_000, 404),
    ],
    ids=lambda value: str(value)[:24],
)
async def test_a_model_s_card_is_found_by_its_name_as_clients_write_it(pool, name, status):
    await ready(pool)
    answer = await pool.client.get(f"/v1/models/{name}")
    assert answer.status_code == status, answer.text
    if status == 404:
        error = answer.json()["error"]
        assert error["code"] == "model_not_found"
        assert len(error["message"]) < 400


@pytest.mark.parametrize(
    "name", ["org/model:2", "org%2Fmodel:1", "org/model:1 ", "auto:", "auto:none", "Auto", ":", "/"]
)
async def test_a_name_that_is_none_is_404_and_names_those_that_are(pool, name):
    await ready(pool)
    answer = await pool.chat(name)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found"), answer.text


async def test_head_is_answered_without_a_body_whatever_it_asks_for(pool):
    await ready(pool)
    for path, status in (
        ("/openapi.json", 200),
        ("/v1/usage", 200),
        ("/v1/models/none", 404),
        (CHAT, 405),
        ("/v1/chat/completions/", 404),
        ("/v1/models/org%2Fmodel:1", 200),
    ):
        answer = await pool.client.head(path)
        assert (answer.status_code, answer.content) == (status, b""), path
    answer = await pool.client.head(CHAT)
    assert answer.headers["allow"] == "POST"
    assert (await pool.client.head("/v1/models", headers={"authorization": ""})).status_code == 401
    with_body = await pool.client.request("HEAD", "/v1/models", content=b"{}")
    assert (with_body.status_code, with_body.content) == (200, b"")


RAW = json.dumps({"model": "small", "messages": HELLO, "max_tokens": 2}).encode()


@pytest.mark.parametrize(
    ("encoding", "body", "status"),
    [
        ("GZip", gzip.compress(RAW, mtime=0), 200),
        ("identity", RAW, 200),
        ("deflate", zlib.compress(RAW), 200),
        ("deflate", zlib.compress(RAW, wbits=-15), 200),
        ("gzip, identity", gzip.compress(RAW, mtime=0), 200),
        ("gzip", RAW, 400),
        ("gzip", b"", 400),
        ("gzip", gzip.compress(b"", mtime=0), 400),
        ("gzip", gzip.compress(RAW, mtime=0)[:-1], 400),
        ("gzip", gzip.compress(b"\xff\xfe", mtime=0), 400),
        ("zstd", RAW, 415),
        ("gzip;q=1", gzip.compress(RAW, mtime=0), 415),
        ("gzip", gzip.compress(b" " * 5_000_000, mtime=0), 413),
        ("gzip", gzip.compress(gzip.compress(RAW, mtime=0), mtime=0), 400),
    ],
    ids=lambda value: str(value)[:16],
)
async def test_any_encoding_is_decoded_or_refused_by_its_name(pool, encoding, body, status):
    await ready(pool)
    headers = {"content-type": "application/json", "content-encoding": encoding}
    answer = await pool.client.post(CHAT, content=body, headers=headers)
    assert answer.status_code == status, answer.text
    if status != 200:
        assert answer.json()["error"]["message"]
    if status == 415:
        assert f"'{encoding}'" in answer.json()["error"]["message"]
        assert "gzip" in answer.headers["accept-encoding"]


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/responses", "/v1/messages"])
async def test_a_stream_to_a_client_of_http_1_0_has_no_chunks_on_any_path(pool, path):
    await ready(pool)
    body = {
        "model": "small",
        "stream": True,
        "max_tokens": 4,
        "messages": HELLO,
        "prompt": "Hi",
        "input": "Hi",
    }
    if path in (CHAT, "/v1/messages"):
        del body["prompt"], body["input"]
    elif path == "/v1/responses":
        del body["prompt"], body["max_tokens"], body["messages"]
    else:
        del body["messages"], body["input"]
    status, head, data = await wire(pool, request(pool, "POST", path, json.dumps(body).encode()))
    assert status == 200, data
    assert b"transfer-encoding" not in head
    assert b"connection: close" in head
    assert data.startswith((b"data: ", b"event: "))


async def test_errors_and_heads_of_http_1_0_are_whole_too(pool):
    await ready(pool)
    for raw, status in (
        (request(pool, "GET", "/v1/nothing"), 404),
        (request(pool, "HEAD", "/v1/models"), 200),
        (request(pool, "POST", CHAT, b"{"), 400),
        (request(pool, "POST", CHAT, b"{}", "1.0", "content-encoding: br"), 415),
        (b"GET /health HTTP/1.0\r\n\r\n", 200),
    ):
        found, head, body = await wire(pool, raw)
        assert found == status, raw
        assert b"transfer-encoding" not in head
        assert (body == b"") == raw.startswith(b"HEAD")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions?api-version=2024-02-01",
        "/v1/models?limit=5&after=x",
        "/health?x",
    ],
)
async def test_what_follows_a_question_mark_is_not_looked_at(pool, path):
    await ready(pool)
    method = "POST" if CHAT in path else "GET"
    answer = await pool.client.request(method, path, json=json.loads(RAW) if method == "POST" else None)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    "path", ["/v1/" + "a/" * 2_000, "/%F0%9F%98%80", "/v1/chat%2Fcompletions%2f", "/v1/../v1/models", "/%00"]
)
async def test_a_strange_path_is_404_in_openai_s_shape(pool, path):
    await ready(pool)
    status, _, body = await wire(pool, request(pool, "GET", path, b"", "1.1", "connection: close"))
    error = json.loads(body)["error"]
    assert (status, error["code"]) == (404, "not_found")
    assert len(error["message"]) < 300
