"""Schemas that are dear to compile are refused, those that people write are not."""

import pytest

from serve_app.body.calls import Calls
from serve_app.body.schemas import atoms_of, check_cost
from serve_app.config import Caps
from serve_app.http.errors import ApiError


@pytest.mark.parametrize(
    ("pattern", "atoms"),
    [
        ("", 0),
        ("abc", 3),
        (r"^\d{4}-\d{2}-\d{2}$", 10),
        ("[a-z]{1,500}", 500),
        (r"[]\]a]{3}", 3),
        ("(a{1,100}b){1,100}", 10_100),
        ("((a{9}){9}){9}", 729),
        ("a{3,}|b*", 4),
        ("x{", 2),
        ("a)b", 3),
        (r"\(\{2}", 4),
        ("[", 1),
        ("((((", 0),
    ],
)
def test_repetitions_are_written_out(pattern, atoms):
    assert atoms_of(pattern) == atoms


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"pattern": "^[a-z]{1,5000}$"}, "256 atoms"),
        ({"items": {"anyOf": [{"pattern": "(a{1,20}b){1,20}"}]}}, "256 atoms"),
        ({"patternProperties": {"a{300}": {}}}, "256 atoms"),
        ({"allOf": [{"pattern": "a{100}"}] * 3}, "256 atoms"),
        ({"enum": list(range(1001))}, "1000 values"),
        ({"anyOf": [{"enum": [1] * 300}] * 4}, "1000 values"),
        ({"properties": {str(number): {} for number in range(257)}}, "256 properties"),
        ({"allOf": [{}] * 10_000}, "10000 objects"),
    ],
)
def test_what_is_dear_is_refused_wherever_it_stands(schema, told):
    with pytest.raises(ApiError, match=told) as caught:
        check_cost(schema, "p")
    assert (caught.value.status, caught.value.param) == (400, "p")


def test_what_costs_nothing_passes():
    item = {"type": "string", "maxLength": 100_000, "pattern": r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{12}$"}
    check_cost({"type": "array", "maxItems": 10_000, "items": {"properties": {"a": item}}}, "p")


@pytest.mark.parametrize(
    "field",
    [
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"pattern": "a{999}"}}}},
        {"structured_outputs": {"json": {"pattern": "a{999}"}}},
        {"structured_outputs": {"json": '{"pattern": "a{999}"}'}},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"pattern": "a{999}"}}}]},
    ],
)
def test_every_way_to_send_a_schema_is_bounded(field):
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], **field}
    with pytest.raises(ApiError, match="256 atoms"):
        Calls(Caps()).chat(body)


def test_a_schema_of_the_responses_api_is_bounded():
    form = {"type": "json_schema", "schema": {"pattern": "a{999}"}}
    with pytest.raises(ApiError, match="256 atoms"):
        Calls(Caps()).response({"model": "m", "input": "x", "text": {"format": form}})


@pytest.mark.parametrize("choice", [["a"] * 1001, [1], "a", ["a" * 1025]])
def test_choices_are_few_and_short(choice):
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    with pytest.raises(ApiError) as caught:
        Calls(Caps()).chat(body | {"structured_outputs": {"choice": choice}})
    assert caught.value.param.startswith("structured_outputs.choice")
