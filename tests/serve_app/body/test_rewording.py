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
        ({"stop": ""}, {"stop": None}),
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
        {"stop": None, "input": ["x"], "messages": [{"role": "assistant", "tool_calls": [called("{}"), 1]}]},
        {"top_p": None, "input": [{"role": "user", "content": []}, [1, 2]]},
    ],
)
def test_everything_else_stays(body):
    before = copy.deepcopy(body)
    assert not reworded(body)
    assert body == before
