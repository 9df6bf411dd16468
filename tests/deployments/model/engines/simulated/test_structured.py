"""The simulated engine's structured answers follow what was asked for."""

import json

import pytest
from jsonschema import validate

from deployments.model.engines.simulated.structured import value, wanted_call, wanted_json

TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
PERSON = {
    "$defs": {"Age": {"type": "integer", "minimum": 0, "maximum": 150}},
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 3},
        "age": {"$ref": "#/$defs/Age"},
        "nick": {"anyOf": [{"type": "null"}, {"type": "string"}]},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 2},
        "height": {"type": ["number", "null"]},
        "kind": {"const": "person"},
        "on": {"type": "boolean"},
    },
    "required": ["name", "age", "nick", "tags", "height", "kind", "on"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    "schema",
    [
        PERSON,
        {"type": "array", "items": PERSON["properties"]["tags"]},
        {"type": "string", "minLength": 40},
        {"type": "string", "maxLength": 2},
        {"type": "integer", "minimum": 7},
        {},
    ],
)
@pytest.mark.parametrize("text", ["Ann is 31 years old", ""])
def test_a_value_follows_its_schema(schema, text):
    validate(value(schema, text), schema)


def test_numbers_and_words_come_from_the_text():
    assert value(PERSON, "31 Ann")["age"] == 31
    assert value({"type": "string"}, "weather in Paris") == "Paris"
    assert value({"type": "string"}, "a customer named '\u4f60\u597d' please") == "\u4f60\u597d"
    assert json.loads(
        wanted_json({"response_format": {"type": "json_object"}}, "keys `a` and `b`") or ""
    ) == {
        "a": "keys `a` and `b`",
        "b": "keys `a` and `b`",
    }


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"const": 1}}}}, "1"),
        ({"text": {"format": {"type": "json_schema", "schema": {"const": 1}}}}, "1"),
        ({"structured_outputs": {"json": '{"const": 1}'}}, "1"),
        ({"response_format": {"type": "json_object"}}, json.dumps({"answer": "hi"})),
        ({"response_format": {"type": "text"}}, None),
        ({}, None),
    ],
)
def test_json_is_said_where_it_is_asked_for(body, found):
    assert wanted_json(body, "hi") == found


@pytest.mark.parametrize(
    ("choice", "text", "answered", "called"),
    [
        (None, "the weather in Paris", False, True),
        (None, "hello", False, False),
        (None, "the weather in Paris", True, False),
        ("none", "the weather in Paris", False, False),
        ("required", "hello", False, True),
        ({"type": "function", "function": {"name": "get_weather"}}, "hello", True, True),
        ({"type": "function", "name": "get_weather"}, "hello", False, True),
    ],
)
def test_a_tool_is_called_where_it_is_forced_or_meant(choice, text, answered, called):
    found = wanted_call({"tools": [TOOL], "tool_choice": choice}, text, is_answered=answered)
    assert (found is not None and found.name == "get_weather") is called
