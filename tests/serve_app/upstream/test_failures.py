"""What upstreams say of themselves: `auto` goes on, a named model's caller is told, tokens are counted."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio
from aiohttp import web

from deployments import sse
from serve_app.http.errors import ApiError
from serve_app.upstream.failures import ContextExceededError, TryFailedError, error_inside, refused

pytestmark = pytest.mark.asyncio(loop_scope="module")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
ROLE = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}
USAGE = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}


def error_body(message="no", **fields):
    return json.dumps({"error": {"message": message, **fields}}).encode()


@pytest.mark.parametrize(
    ("status", "fields", "headers", "expected"),
    [
        (404, {"code": "model_not_found"}, {}, (404, "false", True)),
        (402, {}, {}, (402, "false", True)),
        (429, {"code": "insufficient_quota"}, {}, (429, "false", True)),
        (400, {"code": "credit_balance_too_low"}, {}, (400, "false", True)),
        (401, {}, {}, (502, "false", True)),
        (403, {}, {}, (502, "false", True)),
        (429, {}, {"retry-after": "20"}, (429, None, False)),
        (413, {}, {}, (413, None, False)),
    ],
)
async def test_an_upstream_s_own_state_is_a_failed_try_that_can_be_told(status, fields, headers, expected):
    failure = refused("m", status, error_body(**fields), headers)
    assert isinstance(failure, TryFailedError)
    told = failure.refusal
    assert (told.status, told.headers.get("x-should-retry"), failure.is_fault) == expected


@pytest.mark.parametrize("status", [400, 409, 415, 422])
async def test_the_caller_s_mistake_is_final(status):
    assert isinstance(refused("m", status, error_body(), {}), ApiError)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "20"}, 20),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "2500", "retry-after": "3"}, 2.5),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0),
        ({"retry-after": "soon"}, 0),
        ({"retry-after": "-5"}, 0),
        ({}, 0),
    ],
)
async def test_retry_after_is_a_number_or_a_date(headers, seconds):
    assert refused("m", 429, error_body(), headers).retry_after_s == seconds


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"code": 429}, 429),
        ({"code": "402"}, 402),
        ({"code": "rate_limit_exceeded"}, 429),
        ({"code": "insufficient_quota"}, 429),
        ({"type": "invalid_request_error"}, 400),
        ({"code": "context_length_exceeded"}, 400),
    ],
)
async def test_an_error_inside_an_answer_is_a_failed_try_with_the_status_it_would_have_had(error, status):
    failure = error_inside("m", "error_answer", {"message": "no", **error}, {})
    assert failure.refusal.status == status
    assert isinstance(failure, ContextExceededError) is (error.get("code") == "context_length_exceeded")


async def test_an_error_inside_an_answer_that_says_no_more_is_the_model_s_failure():
    failure = error_inside("m", "error_event", {"message": "no"}, {})
    assert (failure.code, failure.refusal, failure.is_fault) == ("error_event", None, True)


@pytest.mark.parametrize(("message", "is_dead"), [("EngineCore encountered an issue.", True), ("no", False)])
async def test_an_engine_that_died_says_so_in_an_answer_and_inside_a_stream(message, is_dead):
    body = json.dumps({"error": {"message": message, "type": "InternalServerError", "code": 500}}).encode()
    inside = error_inside("m", "error_event", {"message": message, "code": 500}, {})
    for failure in (refused("m", 500, body, {}), inside):
        assert (failure.dead, failure.lost) == (is_dead, is_dead)


@contextlib.asynccontextmanager
async def listening(handler: Handler) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/v1/{path:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"http://{host}:{port}/v1"
    finally:
        await runner.cleanup()


class Upstream:
    """An OpenAI-compatible server whose next answers a test sets."""

    def __init__(self):
        self.answer: Handler = self.stream
        self.requests: list[dict] = []
        self.events: list[bytes] = []
        self.left = asyncio.Event()

    async def __call__(self, request):
        self.requests.append(await request.json())
        return await self.answer(request)

    def says(self, status, body, **headers):
        async def answer(_):
            headers_ = {name.replace("_", "-"): value for name, value in headers.items()}
            return web.Response(status=status, body=body, content_type="application/json", headers=headers_)

        self.answer = answer

    def streams(self, *contents, hang=False):
        """These events; bytes stand for themselves. `hang`: then nothing until the client leaves."""
        self.events = [c if isinstance(c, bytes) else b"data: " + json.dumps(c).encode() for c in contents]
        self.hang, self.left = hang, asyncio.Event()
        self.answer = self.stream

    async def stream(self, request):
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        try:
            for event in self.events:
                await response.write(event + b"\n\n")
            while self.hang:
                await asyncio.sleep(0.02)
                await response.write(b": waiting\n\n")
        except (ConnectionError, asyncio.CancelledError):
            self.left.set()
            raise
        return response


@pytest_asyncio.fixture(loop_scope="module", scope="module", name="upstream")
async def upstream_fixture(pool):
    """Model `outside` over a server of ours, and `inside`, which is simulated and second best."""
    upstream = Upstream()
    async with listening(upstream) as url:
        await pool.add("outside", upstream={"base_url": url}, accuracy_prior=1.0)
        await pool.add("inside", accuracy_prior=0.1)
        yield upstream


def ready(pool):
    """Nobody is ejected."""
    for model in pool.models:
        pool.ingress.ejections.succeeded(model.replica)


@pytest.fixture(autouse=True)
def rested(pool, upstream):
    """Nobody is ejected, retries are left, and `outside` is the best."""
    ready(pool)
    pool.ingress.forwarder.budget._retries = [0] * 10
    pool.ingress.reconfigure({"dispatch": {"epsilon": 0.0, "weights": {"accuracy": 9, "latency": 0}}})
    upstream.requests.clear()


async def logged(pool, answer):
    await pool.ingress.view.outbox.flush()
    decision_id = answer.headers["x-fastserve-decision-id"]
    log = await pool.table.transitions(0.0, 10_000)
    return next(o for d, o in log if d.decision_id == decision_id)


@pytest.mark.parametrize(
    ("status", "fields"),
    [
        (404, {"code": "model_not_found"}),
        (402, {}),
        (429, {"code": "insufficient_quota"}),
        (401, {}),
        (429, {}),
        (503, {}),
        (200, {"code": 502}),
        (200, {}),
    ],
)
async def test_auto_goes_on_whatever_an_upstream_says_of_itself(pool, upstream, status, fields):
    upstream.says(status, error_body(**fields))
    for stream in (False, True):
        answer = await pool.chat("auto", stream=stream)
        assert answer.status_code == 200
        assert answer.headers["x-fastserve-model"] == "inside"
        assert answer.headers["x-fastserve-fallbacks"] == "outside"
        ready(pool)


@pytest.mark.parametrize(
    "opening",
    [
        (b": PROCESSING", {"error": {"message": "no", "code": 502}}),
        (ROLE, {"error": {"message": "no"}, "choices": [{"delta": {}, "finish_reason": "error"}]}),
        (ROLE, b'event: error\ndata: {"message": "no"}'),
    ],
)
async def test_auto_goes_on_while_no_token_has_been_sent(pool, upstream, opening):
    upstream.streams(*opening, b"data: [DONE]")
    answer = await pool.chat("auto", stream=True)
    assert answer.headers["x-fastserve-model"] == "inside"
    assert sse.parse(answer.content)[-1].data == sse.DONE


async def test_a_named_model_s_caller_is_told_with_retry_after(pool, upstream):
    upstream.says(429, error_body("slow down"), retry_after="20")
    answer = await pool.chat("outside")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "20")
    assert answer.json()["error"]["message"] == "slow down"
    answer = await pool.chat("outside")  # which it left alone
    assert answer.status_code == 429
    assert 15 <= int(answer.headers["retry-after"]) <= 20
    assert len(upstream.requests) == 1
    ready(pool)
    upstream.says(402, error_body("no money left"))
    answer = await pool.chat("outside")
    assert (answer.status_code, answer.headers["x-should-retry"]) == (402, "false")
    assert answer.json()["error"]["message"] == "no money left"
    assert (await logged(pool, answer)).outcome.status == "failed"
    upstream.says(200, error_body("too many", code=429), retry_after="7")
    answer = await pool.chat("outside")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    ready(pool)
    upstream.says(401, error_body("Incorrect API key provided: sk-upstream"))
    answer = await pool.chat("outside")
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_locked")
    assert "sk-upstream" not in answer.text


async def test_an_upstream_that_asks_for_rest_gets_it(pool, upstream):
    upstream.says(429, error_body(), retry_after="20")
    assert (
        await pool.chat("outside")
    ).status_code == 429  # by name: its failures may have made it the second
    for _ in range(3):
        assert (await pool.chat("auto")).headers["x-fastserve-model"] == "inside"
    assert len(upstream.requests) == 1


async def test_usage_is_always_requested_and_taken_out_unless_the_caller_wants_it(pool, upstream):
    text = {"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": None}]}
    last = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    upstream.streams(ROLE, text, last, {"usage": USAGE, "choices": []}, b"data: [DONE]")
    for options in (None, {}, {"include_usage": False, "continuous_usage_stats": True}):
        answer = await pool.chat("outside", stream=True, stream_options=options)
        assert upstream.requests[-1]["stream_options"] == {"include_usage": True}
        events = [event.data for event in sse.parse(answer.content)]
        assert [json.loads(event) for event in events[:-1]] == [ROLE, text, last]
        assert events[-1] == sse.DONE
        outcome = (await logged(pool, answer)).outcome
        assert (outcome.prompt_tokens, outcome.output_tokens) == (9, 2)
        assert not outcome.tokens_estimated
    wanted = {"include_usage": True, "continuous_usage_stats": True}
    answer = await pool.chat("outside", stream=True, stream_options=wanted)
    assert upstream.requests[-1]["stream_options"] == wanted
    assert b'"usage"' in answer.content


async def test_what_was_relayed_is_counted_where_no_usage_comes(pool, upstream):
    text = {"choices": [{"index": 0, "delta": {"content": "word"}}]}
    upstream.streams(ROLE, *[text] * 6, b"data: [DONE]")
    outcome = (await logged(pool, await pool.chat("outside", stream=True))).outcome
    assert (outcome.status, outcome.output_tokens, outcome.tokens_estimated) == ("ok", 6, True)
    assert outcome.prompt_tokens > 0
    upstream.streams(ROLE, *[text] * 4)
    outcome = (await logged(pool, await pool.chat("outside", stream=True))).outcome
    assert (outcome.status, outcome.output_tokens, outcome.tokens_estimated) == ("failed", 4, True)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, error_body("Unrecognized request argument supplied: stream_options", param="stream_options")),
        (422, json.dumps({"detail": [{"loc": ["body", "stream_options"], "msg": "Extra inputs"}]}).encode()),
        (400, error_body("include_usage is not supported")),
    ],
)
async def test_an_upstream_that_refuses_stream_options_is_asked_again_without(pool, upstream, status, body):
    text = {"choices": [{"index": 0, "delta": {"content": "word"}}]}
    upstream.streams(ROLE, *[text] * 6, b"data: [DONE]")

    async def answer(request):
        if "stream_options" in upstream.requests[-1]:
            return web.Response(status=status, body=body, content_type="application/json")
        return await upstream.stream(request)

    upstream.answer = answer
    pool.ingress.forwarder._outgoing._without_usage.clear()
    answered = await pool.chat("outside", stream=True, stream_options={"include_usage": False})
    assert answered.status_code == 200, answered.text
    assert "x-fastserve-fallbacks" not in answered.headers
    assert len(upstream.requests) == 2
    outcome = (await logged(pool, answered)).outcome
    assert (outcome.status, outcome.output_tokens, outcome.tokens_estimated) == ("ok", 6, True)
    await pool.chat("outside", stream=True)
    assert len(upstream.requests) == 3  # it is not asked again
    wanted = await pool.chat("outside", stream=True, stream_options={"include_usage": True})
    assert wanted.status_code == status  # what the caller wants itself, it is told that it cannot have
    pool.ingress.forwarder._outgoing._without_usage.clear()


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses"])
async def test_a_client_that_leaves_frees_the_upstream_and_is_counted(pool, upstream, path):
    said = {
        "type": "response.output_text.delta",
        "delta": "word",
        "choices": [{"delta": {"content": "word"}}],
    }
    upstream.streams(*[said] * 3, hang=True)
    prompts = {"/v1/chat/completions": {"messages": [{"role": "user", "content": "Hi there, all of you"}]}}
    body = {"model": "outside", "stream": True, **prompts.get(path, {"prompt": "Hi there, all of you"})}
    if path == "/v1/responses":
        body["input"] = body.pop("prompt")
    async with asyncio.timeout(60), pool.client.stream("POST", path, json=body) as answer:
        async for chunk in answer.aiter_bytes():
            if b"word" in chunk:
                break
    async with asyncio.timeout(60):
        await upstream.left.wait()
    outcome = None
    while outcome is None or outcome.status != "cancelled":
        await asyncio.sleep(0.02)
        outcome = (await logged(pool, answer)).outcome
    assert (outcome.output_tokens, outcome.tokens_estimated) == (3, True)
    assert outcome.prompt_tokens > 0
