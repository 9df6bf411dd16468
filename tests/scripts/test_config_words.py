"""Settings in words: values as YAML, types with their bounds."""

from typing import Literal

import pytest
import yaml
from pydantic import BaseModel, Field, JsonValue

from scripts.config_words import shown, type_and_bounds


class Settings(BaseModel):
    """One field of each kind."""

    share: float = Field(default=0.5, gt=0, le=1)
    count: int | None = Field(default=None, ge=2)
    names: tuple[str, ...] = Field(default=(), min_length=1)
    mode: Literal["fast", "slow"] = "fast"
    on: bool = False
    flags: dict[str, JsonValue] = Field(default_factory=dict)
    texts: dict[str, str] = Field(default_factory=dict)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("share", "number, above 0, at most 1"),
        ("count", "integer, at least 2"),
        ("names", "list of text, entries: at least 1"),
        ("mode", "one of `fast`, `slow`"),
        ("on", "true or false"),
        ("flags", "map"),
        ("texts", "map of names to text"),
    ],
)
def test_a_type_is_shown_with_its_bounds(name: str, words: str) -> None:
    assert type_and_bounds(Settings.model_json_schema()["properties"][name]) == words


@pytest.mark.parametrize("value", [True, 3, 0.05, "text", ["a", "b"], {"a": {"b": 1}}, "yes", "1", [{}]])
def test_a_value_is_shown_as_yaml_that_reads_back_the_same(value: JsonValue) -> None:
    assert yaml.safe_load(shown(value).strip("`")) == value


@pytest.mark.parametrize(("value", "word"), [(None, "none"), ((), "empty"), ("", "empty"), ({}, "empty")])
def test_what_yaml_has_no_plain_sign_for_is_a_word(value: object, word: str) -> None:
    assert shown(value) == word


def test_a_set_is_shown_in_one_order() -> None:
    assert shown(frozenset("cab")) == "`[a, b, c]`"
