"""The relay: the engine's bytes whatever the chunking, only whole events, never a silent end."""

import asyncio
import json

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.records.snapshot import ReplicaRow, ReplicaState
from policies.outcome import Status
from serve_app.config import Deadlines
from serve_app.upstream.attempt import NEVER, Attempt
from serve_app.upstream.failures import TryFailedError
from serve_app.upstream.relay import StreamRelay, whole
from tests.serve_app.jobs import made_job
from tests.virtual_time import virtual_time


class Response:
    """An upstream answer in given chunks, broken at its end where `error` is set."""

    status = 200

    def __init__(self, *chunks: bytes, error: Exception | None = None) -> None:
        self.chunks, self.error = list(chunks), error
        self.content = self
        self.headers = {"content-type": "text/event-stream"}

    async def readany(self) -> bytes:
        if self.chunks:
            return self.chunks.pop(0)
        if self.error is not None:
            raise self.error
        return b""

    async def read(self) -> bytes:
        return b"".join([chunk async for chunk in self])

    async def __aiter__(self):
        while chunk := await self.readany():
            yield chunk


class Endless(Response):
    """So many chunks, then silence."""

    def __init__(self, chunk: bytes, count: int) -> None:
        super().__init__(*[chunk] * count)

    async def readany(self) -> bytes:
        if not self.chunks:
            await asyncio.Event().wait()
        return await super().readany()


class Client:
    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.head: dict = {}

    async def send(self, message: dict) -> None:
        if message["type"] == "http.response.start":
            self.head = message
        else:
            self.pieces.append(message["body"])

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)


def attempt():
    return Attempt(ReplicaRow("r", "m", "http://r", ReplicaState.WARM), NEVER)


async def relay(response, made=None):
    made = made or made_job()
    client = Client()
    made.result.model = "m"
    await StreamRelay(attempt(), response, made, Deadlines()).run(client.send)
    return client, made.result


def usage_job():
    """A request whose caller wants the usage too."""
    made = made_job()
    made.call.body["stream_options"] = {"include_usage": True}
    return made


def event(**fields):
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def token(text):
    return event(choices=[{"index": 0, "delta": {"content": text}}])


DONE = b"data: [DONE]\n\n"
USAGE = event(choices=[], usage={"prompt_tokens": 7, "completion_tokens": 3})
WHOLE = token("a") + token("b\n\ndata: [DONE]\n\n") + token("é") + USAGE + DONE


@given(st.lists(st.integers(1, len(WHOLE) - 1), unique=True).map(sorted))
async def test_any_chunking_gives_the_same_bytes_in_whole_events(cuts):
    chunks = [WHOLE[a:b] for a, b in zip([0, *cuts], [*cuts, len(WHOLE)], strict=True)]
    client, result = await relay(Response(*chunks), usage_job())
    assert client.body == WHOLE
    assert all(piece.endswith(b"\n\n") or not piece for piece in client.pieces)
    assert (result.status, result.prompt_tokens, result.output_tokens) == (Status.OK, 7, 3)


@given(st.integers(1, len(WHOLE) - len(DONE)))
async def test_a_cut_stream_ends_with_an_error_event_after_whole_events(cut):
    error = aiohttp.ClientPayloadError("cut")
    first_end = WHOLE.index(b"\n\n") + 2
    if cut < first_end:
        with pytest.raises(TryFailedError):
            await relay(Response(WHOLE[:cut], error=error))
        return
    client, result = await relay(Response(WHOLE[:cut], error=error))
    events = client.body.split(b"\n\n")
    assert events[-2:] == [b"data: [DONE]", b""]
    assert json.loads(events[-3][6:])["error"]["code"] == "upstream_interrupted"
    assert WHOLE.startswith(b"\n\n".join(events[:-3]))
    assert result.status is Status.FAILED


async def test_an_end_without_its_mark_is_an_interruption():
    client, result = await relay(Response(token("a")))
    assert client.body.endswith(DONE)
    assert b"upstream_interrupted" in client.body
    assert result.error_code == "upstream_interrupted:ended_early"


async def test_responses_have_no_mark_and_need_none():
    client, result = await relay(
        Response(b'event: response.completed\ndata: {"a":1}\n\n'), made_job("/v1/responses")
    )
    assert result.status is Status.OK
    assert b"upstream_interrupted" not in client.body


async def test_an_error_event_first_is_a_failed_try_and_later_the_model_s_failure():
    with pytest.raises(TryFailedError, match="error_event"):
        await relay(Response(event(error={"message": "x"}) + DONE))
    client, result = await relay(Response(token("a"), event(error={"message": "x"}), DONE))
    assert client.body == token("a") + event(error={"message": "x"}) + DONE
    assert (result.status, result.error_code) == (Status.FAILED, "upstream_error")


@virtual_time
async def test_the_first_token_counts_not_the_role():
    role = b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
    response = Response(role, token("a"), DONE)
    began = asyncio.get_running_loop().time()
    slow = response.readany

    async def readany():
        if len(response.chunks) == 2:
            await asyncio.sleep(0.05)
        return await slow()

    response.readany = readany
    _, result = await relay(response)
    assert result.first_byte_s - began == pytest.approx(0.05)


async def test_nothing_at_all_is_a_failed_try():
    with pytest.raises(TryFailedError, match="empty"):
        await relay(Response())


async def test_a_plain_answer_is_the_engine_s_bytes_with_its_usage():
    body = b'{"model":"m","choices":[],"usage":{"prompt_tokens": 5, "completion_tokens":\n2}}'
    made, client = made_job(), Client()
    made.result.model = "m"
    await whole(attempt(), Response(body[:10], body[10:]), made, client.send)
    assert client.body == body
    assert (b"x-fastserve-model", b"m") in client.head["headers"]
    assert (b"content-length", str(len(body)).encode()) in client.head["headers"]
    assert (made.result.prompt_tokens, made.result.output_tokens) == (5, 2)


async def test_text_that_looks_like_usage_is_not_usage():
    made, client = made_job(), Client()
    text = json.dumps({"choices": [{"text": '"usage":{"prompt_tokens":9}'}]}).encode()
    await whole(attempt(), Response(text), made, client.send)
    assert (made.result.prompt_tokens, made.result.tokens_estimated) == (made.prompt_tokens, True)


async def test_a_plain_answer_that_is_no_object_or_holds_an_error_is_a_failed_try():
    for body in (b"<html></html>", b"", b'{"error": {"message": "no"}}'):
        client = Client()
        with pytest.raises(TryFailedError):
            await whole(attempt(), Response(body), made_job(), client.send)
        assert not client.head


async def test_a_response_that_ends_without_its_terminal_event_is_an_interruption():
    said = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"a"}\n\n'
    client, result = await relay(Response(said), made_job("/v1/responses"))
    assert client.body.startswith(said)
    assert b"upstream_interrupted" in client.body
    assert (result.status, result.output_tokens) == (Status.FAILED, 1)


async def test_an_error_after_a_comment_and_a_role_is_a_failed_try():
    opening = b": PROCESSING\n\n" + event(choices=[{"delta": {"role": "assistant", "content": ""}}])
    for error in (event(error={"message": "no"}), b'event: error\r\ndata:{"message":"no"}\r\n\r\n'):
        with pytest.raises(TryFailedError, match="error_event"):
            await relay(Response(opening, error, DONE))


async def test_an_error_inside_a_chunk_is_passed_on_and_the_model_s_failure():
    broken = event(error={"message": "no"}, choices=[{"delta": {"content": ""}, "finish_reason": "error"}])
    client, result = await relay(Response(token("a"), broken, DONE))
    assert client.body == token("a") + broken + DONE
    assert (result.status, result.error_code) == (Status.FAILED, "upstream_error")


@given(st.lists(st.integers(1, len(WHOLE) - 1), unique=True).map(sorted))
async def test_usage_that_the_caller_does_not_want_is_counted_and_taken_out(cuts):
    chunks = [WHOLE[a:b] for a, b in zip([0, *cuts], [*cuts, len(WHOLE)], strict=True)]
    client, result = await relay(Response(*chunks))
    assert client.body == WHOLE.replace(USAGE, b"")
    assert (result.status, result.prompt_tokens, result.output_tokens) == (Status.OK, 7, 3)
    assert not result.tokens_estimated


async def test_a_stream_with_cr_lf_and_no_blanks_is_whole():
    stream = WHOLE.replace(b"data: ", b"data:").replace(b"\n", b"\r\n")
    client, result = await relay(Response(stream), usage_job())
    assert client.body == stream
    assert (result.status, result.prompt_tokens, result.output_tokens) == (Status.OK, 7, 3)


async def test_a_client_that_leaves_is_counted_for_what_it_got():
    made, response = made_job(), Endless(token("word"), 5)
    relaying = asyncio.create_task(relay(response, made))
    while response.chunks:
        await asyncio.sleep(0)
    relaying.cancel()
    await asyncio.gather(relaying, return_exceptions=True)
    assert (made.result.output_tokens, made.result.tokens_estimated) == (5, True)


@virtual_time
async def test_the_end_mark_ends_the_answer_though_the_connection_stays_open():
    class Open(Response):
        async def readany(self):
            if not self.chunks:
                await asyncio.Event().wait()
            return await super().readany()

    began_s = asyncio.get_running_loop().time()
    client, result = await relay(Open(WHOLE), usage_job())
    assert client.body == WHOLE
    assert result.status is Status.OK
    assert asyncio.get_running_loop().time() - began_s < 1.0


async def test_what_follows_the_end_mark_is_not_passed_on():
    client, result = await relay(Response(WHOLE, b"data: {}\n\nda"), usage_job())
    assert (client.body, result.status) == (WHOLE, Status.OK)
