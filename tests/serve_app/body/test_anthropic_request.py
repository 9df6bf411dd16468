"""Bodies of Anthropic's Messages API become the chat that means the same, or are refused by name."""

import pytest

from serve_app.body.calls import Calls
from serve_app.config import Caps
from serve_app.http.errors import ApiError

HELLO = [{"role": "user", "content": "Hello"}]
PICTURE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}


def chat(**fields):
    return Calls(Caps()).translated({"model": "m", "max_tokens": 9, "messages": HELLO, **fields})


def test_the_least_that_a_body_has():
    assert chat() == {"model": "m", "max_tokens": 9, "messages": HELLO}


def test_system_stops_and_user():
    made = chat(
        system=[{"type": "text", "text": "Be", "cache_control": {"type": "ephemeral"}}, {"text": "brief"}],
        stop_sequences=["END"],
        metadata={"user_id": "u"},
        temperature=0.5,
    )
    assert made["messages"][0] == {"role": "system", "content": "Be\nbrief"}
    assert (made["stop"], made["user"], made["temperature"]) == (["END"], "u", 0.5)


def test_a_turn_of_tools_keeps_its_order():
    said = [
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Oslo"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Now?"},
                {
                    "type": "tool_result",
                    "tool_use_id": "c1",
                    "content": [{"type": "text", "text": "rain"}, PICTURE],
                },
            ],
        },
    ]
    _, called, result, picture, asked = chat(messages=said)["messages"]
    assert called["content"] == "I look."
    assert called["reasoning"] == "hm"
    function = {"name": "weather", "arguments": '{"city":"Oslo"}'}
    assert called["tool_calls"] == [{"id": "c1", "type": "function", "function": function}]
    assert result == {"role": "tool", "tool_call_id": "c1", "content": "rain"}
    assert picture["content"][0]["image_url"]["url"] == "data:image/png;base64,AA=="
    assert asked == {"role": "user", "content": "Now?"}


@pytest.mark.parametrize(
    ("choice", "wanted"),
    [
        ({"type": "auto"}, "auto"),
        ({"type": "any"}, "required"),
        ({"type": "none"}, "none"),
        ({"type": "tool", "name": "f"}, {"type": "function", "function": {"name": "f"}}),
    ],
)
def test_tools_and_the_choice_of_one(choice, wanted):
    tool = {"name": "f", "description": "d", "input_schema": {"type": "object"}}
    made = chat(tools=[tool], tool_choice={**choice, "disable_parallel_tool_use": True})
    function = {"name": "f", "parameters": {"type": "object"}, "description": "d"}
    assert made["tools"] == [{"type": "function", "function": function}]
    assert (made["tool_choice"], made["parallel_tool_calls"]) == (wanted, False)


def test_structured_output_and_thinking():
    schema = {"type": "object"}
    made = chat(
        output_config={"format": {"type": "json_schema", "schema": schema}},
        thinking={"type": "enabled", "budget_tokens": 1024},
    )
    assert made["response_format"]["json_schema"]["schema"] == schema
    assert made["thinking_token_budget"] == 1024


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "document"}]}]}, "messages[0].content[0].type"),
        ({"tools": [{"type": "web_search_20250305", "name": "w"}]}, "tools[0].type"),
        ({"tools": [{"name": "w"}]}, "tools[0].input_schema"),
        ({"tools": [{"name": "w", "input_schema": {}}], "tool_choice": {"type": "x"}}, "tool_choice.type"),
        ({"mcp_servers": [{}]}, "mcp_servers"),
        ({"system": [{"text": 3}]}, "system[0].text"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
    ],
)
def test_what_is_refused_is_named(fields, param):
    with pytest.raises(ApiError) as caught:
        chat(**fields)
    assert (caught.value.status, caught.value.param) == (400, param)
