"""What is said anew for engines, and what stays as the caller's bytes have it."""

import copy

import pytest

from serve_app.body.rewording import reworded

CALL = {"id": "c", "type": "function", "function": {"name": "now", "arguments": "{}"}}


def called(arguments):
    return {**CALL, "function": {"name": "now", "arguments": arguments}}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"top_p": 0}, {"top_p": 1e-6}),
        ({"top_p": 0.0}, {"top_p": 1e-6}),
        ({"stop": ""}, {}),
        ({"stop": None, "n": None, "min_tokens": None, "service_tier": None}, {}),
        ({"tools": [], "tool_choice": "auto", "a": 1}, {"a": 1}),
        ({"tool_choice": "none"}, {}),
        ({"suffix": ""}, {}),
        ({"stream": False, "stream_options": {"include_usage": True}}, {"stream": False}),
        ({"stop": ["", "a"]}, {"stop": ["a"]}),
        (
            {"messages": [{"role": "assistant", "tool_calls": [called("null"), called("")]}]},
            {"messages": [{"role": "assistant", "tool_calls": [CALL, CALL]}]},
        ),
        (
            {"input": [{"role": "assistant", "content": None}, {"type": "function_call", "arguments": ""}]},
            {"input": [{"role": "assistant", "content": ""}, {"type": "function_call", "arguments": "{}"}]},
        ),
    ],
)
def test_what_engines_misread_is_said_anew(body, expected):
    assert reworded(body)
    assert body == expected


@pytest.mark.parametrize(
    "body",
    [
        {"top_p": 1, "stop": "a", "messages": [{"role": "user", "content": ""}], "input": "x"},
        {"tool_choice": "required"},
        {"tools": [{}], "tool_choice": "auto", "stream": True, "stream_options": {"include_usage": True}},
        {"input": ["x"], "messages": [{"role": "assistant", "tool_calls": [called("{}"), 1]}]},
        {"input": [{"role": "user", "content": []}, [1, 2]]},
    ],
)
def test_everything_else_stays(body):
    before = copy.deepcopy(body)
    assert not reworded(body)
    assert body == before
