"""/tokenize and /detokenize, /v1/rerank and /v1/score, and paths that are not offered."""

import pytest

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_the_pool_is_up(pool):
    await pool.add("small", context_tokens=4096)
    await pool.add("ranker", capabilities=["rerank"])


async def test_text_goes_to_tokens_and_back(pool):
    told = await pool.client.post("/tokenize", json={"model": "small", "prompt": "Hello there, all"})
    assert told.status_code == 200, told.text
    body = told.json()
    assert (body["count"], body["max_model_len"]) == (len(body["tokens"]), 4096)
    back = await pool.client.post("/detokenize", json={"model": "small", "tokens": body["tokens"]})
    assert back.json()["prompt"] == "Hello there, all"


async def test_messages_are_counted_as_the_engine_counts_them(pool):
    chat = {"model": "small", "messages": [{"role": "user", "content": "Hello there, all of you"}]}
    told = await pool.client.post("/tokenize", json=chat)
    answer = await pool.client.post("/v1/chat/completions", json={**chat, "max_tokens": 1})
    assert told.json()["count"] == answer.json()["usage"]["prompt_tokens"]


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("/tokenize", {"model": "small"}, 400, "prompt"),
        ("/tokenize", {"prompt": "a"}, 400, "model"),
        ("/tokenize", {"model": "auto", "prompt": "a"}, 400, "model"),
        ("/tokenize", {"model": "nobody", "prompt": "a"}, 404, "model"),
        ("/tokenize", {"model": "small", "prompt": ["a"]}, 400, "prompt"),
        (
            "/tokenize",
            {"model": "small", "messages": [{"role": "user", "content": "a"}], "chat_template": "{{ x }}"},
            400,
            "chat_template",
        ),
        ("/detokenize", {"model": "small"}, 400, "tokens"),
        ("/detokenize", {"model": "small", "tokens": [-1]}, 400, "tokens[0]"),
        ("/v1/rerank", {"model": "ranker", "documents": ["a"]}, 400, "query"),
        ("/v1/rerank", {"model": "ranker", "query": "a", "documents": []}, 400, "documents"),
        ("/v1/rerank", {"model": "ranker", "query": "a", "documents": [3]}, 400, "documents[0]"),
        ("/v1/score", {"model": "ranker", "text_1": "a"}, 400, "text_1"),
    ],
)
async def test_what_is_refused_is_named(pool, path, body, status, param):
    answer = await pool.client.post(path, json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)


async def test_tokens_are_for_a_key(pool):
    body = {"model": "small", "prompt": "a"}
    answer = await pool.client.post("/tokenize", json=body, headers={"authorization": "Bearer no"})
    assert answer.status_code == 401


@pytest.mark.parametrize("model", ["ranker", "auto"])
async def test_documents_are_ranked(pool, model):
    body = {
        "model": model,
        "query": "red boat",
        "documents": ["a blue car", {"text": "a red boat"}],
        "top_n": 1,
    }
    answer = await pool.client.post("/v1/rerank", json=body)
    assert answer.status_code == 200, answer.text
    [best] = answer.json()["results"]
    assert (best["index"], best["document"]["text"]) == (1, "a red boat")
    assert answer.headers["x-fastserve-model"] == "ranker"
    await pool.ingress.view.outbox.flush()
    outcome = (await pool.table.transitions(0.0, 10_000))[-1][1].outcome
    assert (outcome.status, outcome.prompt_tokens) == ("ok", answer.json()["usage"]["prompt_tokens"])


@pytest.mark.parametrize("names", [("text_1", "text_2"), ("queries", "documents"), ("data_1", "data_2")])
async def test_texts_are_scored_in_pairs(pool, names):
    one, other = names
    answer = await pool.client.post("/v1/score", json={"model": "ranker", one: "a b", other: ["a b", "c"]})
    assert [entry["score"] for entry in answer.json()["data"]] == [1.0, 0.0]


async def test_a_model_that_cannot_rank_says_so(pool):
    answer = await pool.client.post("/v1/rerank", json={"model": "small", "query": "a", "documents": ["b"]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "no_model_fits")
    assert "'rerank'" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "instead"),
    [
        ("POST", "/openai/deployments/gpt/chat/completions", "/v1/chat/completions"),
        ("POST", "/v1/batches", "many at once"),
        ("POST", "/v1/messages/batches", "many at once"),
        ("GET", "/v1/files", "in the request"),
        ("GET", "/v1/responses/resp_1", "'input'"),
        ("DELETE", "/v1/chat/completions/chatcmpl-1", "yourself"),
        ("POST", "/api/chat", "/v1/chat/completions"),
        ("POST", "/v1/audio/transcriptions", "text"),
    ],
)
async def test_what_is_not_offered_says_what_to_use(pool, method, path, instead):
    answer = await pool.client.request(method, path, json={})
    assert answer.status_code == 404
    assert instead in answer.json()["error"]["message"]
    assert "not offered" in answer.text
