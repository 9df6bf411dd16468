"""What is read out of an answer: begin, end, error and tokens, whatever form an engine gives them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.sse import Reader
from serve_app.upstream.transcript import Tokens, Transcript

CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"


def read(*contents: Any, path: str = CHAT, name: str = "") -> Transcript:
    """The transcript of a stream with these events; bytes stand for themselves."""
    transcript, reader = Transcript(path, 11), Reader()
    head = f"event: {name}\n".encode() if name else b""
    for content in contents:
        data = content if isinstance(content, bytes) else head + b"data:" + json.dumps(content).encode()
        for event in reader.feed(data + b"\r\n\r\n"):
            transcript.take(event)
    return transcript


def delta(**fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": None}]}


@pytest.mark.parametrize(
    ("content", "begun"),
    [
        (delta(role="assistant", content=""), False),
        (delta(), False),
        ({"choices": [], "prompt_filter_results": []}, False),
        (delta(content="a"), True),
        (delta(reasoning_content="a"), True),
        (delta(tool_calls=[{"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}]), True),
        ({"choices": [{"delta": {}, "finish_reason": "stop"}]}, True),
        ({"choices": [{"text": "a"}]}, True),
        (b": PROCESSING", False),
        (b"data: no json", False),
        (b"data: [1]", False),
    ],
)
def test_an_answer_begins_with_its_first_token_or_an_end_in_its_place(content: Any, begun: bool) -> None:
    assert read(content).begun is begun


@pytest.mark.parametrize("kind", ["response.created", "response.in_progress", "response.output_item.added"])
def test_the_opening_of_a_response_is_no_token(kind: str) -> None:
    assert not read({"type": kind}, path=RESPONSES).begun
    assert read({"type": kind}, {"type": "response.output_text.delta", "delta": "a"}, path=RESPONSES).begun


@pytest.mark.parametrize(
    ("content", "path", "name"),
    [
        ({"error": {"message": "no"}}, CHAT, ""),
        ({"id": "x", "choices": [], "error": {"message": "no", "code": 502}}, CHAT, ""),
        ({"error": "no"}, CHAT, ""),
        ({"object": "error", "message": "no"}, CHAT, ""),
        ({"message": "no"}, CHAT, "error"),
        ({"choices": [{"delta": {}, "finish_reason": "error", "error": {"message": "no"}}]}, CHAT, ""),
        (
            {"error": {"message": "no"}, "choices": [{"delta": {"content": ""}, "finish_reason": "error"}]},
            CHAT,
            "",
        ),
        ({"type": "error", "message": "no", "code": "x"}, RESPONSES, "error"),
        ({"type": "response.failed", "response": {"error": {"message": "no"}}}, RESPONSES, "response.failed"),
    ],
)
def test_every_form_of_an_error_is_read(content: Any, path: str, name: str) -> None:
    error = read(content, path=path, name=name).error
    assert error is not None
    assert error["message"] == "no"


@pytest.mark.parametrize(
    "content",
    [
        delta(content='data: {"error": {"message": "x"}}'),
        {"choices": [{"delta": {"content": "a"}}], "error": None},
        delta(content='"finish_reason": "error"'),
        b': {"error": {}}',
    ],
)
def test_what_only_looks_like_an_error_is_none(content: Any) -> None:
    assert read(content).error is None


def test_the_end_mark_is_an_event_not_text() -> None:
    assert not read(delta(content="data: [DONE]\n\n")).ended
    assert read(b"data:[DONE]").ended
    assert not read(b"data: [DONE]", path=RESPONSES).ended
    assert read({"type": "response.incomplete", "response": {}}, path=RESPONSES).ended


@given(
    st.permutations([("total_tokens", 12), ("completion_tokens", 5), ("prompt_tokens", 7), ("x", {"a": 1})])
)
def test_usage_is_read_in_any_order(fields: list[tuple[str, Any]]) -> None:
    usage = dict(fields)
    streamed = read(delta(content="a"), {"usage": usage, "choices": []}, b"data: [DONE]")
    assert streamed.tokens() == Tokens(7, 5, False)
    plain = Transcript(CHAT, 11)
    filler = "x" * 4000
    plain.take_whole(json.dumps({"usage": usage, "choices": [{"text": filler}], "id": filler}).encode())
    assert plain.tokens() == Tokens(7, 5, False)


def test_usage_of_a_response_is_read_from_its_end() -> None:
    usage = {"input_tokens": 3, "output_tokens": 4}
    ended = {"type": "response.completed", "response": {"usage": usage}}
    assert read(ended, path=RESPONSES).tokens() == Tokens(3, 4, False)


def test_without_usage_the_relayed_text_is_counted() -> None:
    assert read(*[delta(content="word")] * 9).tokens() == Tokens(11, 9, True)
    assert read(delta(content="w" * 400)).tokens() == Tokens(11, 100, True)  # several tokens in one event
    assert read(delta(role="assistant", content="")).tokens() == Tokens(11, 0, True)
    whole = Transcript(CHAT, 11)
    whole.take_whole(json.dumps({"choices": [{"message": {"content": "w" * 40}}]}).encode())
    assert whole.tokens() == Tokens(11, 10, True)


def test_a_usage_that_denies_what_was_said_is_not_believed() -> None:
    said = read(delta(content="word"), {"usage": {"prompt_tokens": 7, "completion_tokens": 0}, "choices": []})
    assert said.tokens() == Tokens(7, 1, True)


def test_text_that_looks_like_usage_is_not_usage() -> None:
    whole = Transcript(CHAT, 11)
    whole.take_whole(json.dumps({"choices": [{"text": '"usage":{"prompt_tokens":9}'}]}).encode())
    assert whole.tokens().prompt == 11


def test_a_whole_answer_with_an_error_says_so_and_one_that_is_no_object_is_refused() -> None:
    for body in ({"error": {"message": "no"}}, {"status": "failed", "error": {"message": "no"}}):
        whole = Transcript(CHAT, 11)
        whole.take_whole(json.dumps(body).encode())
        assert whole.error == {"message": "no"}
    for broken in (b"", b"<html>", b"[]", b'{"choices": ['):
        with pytest.raises(ValueError, match=r"."):
            Transcript(CHAT, 11).take_whole(broken)
