"""Requests for the tests of dispatch, from the fields of prompt, preferences and request alike."""

from dataclasses import fields
from typing import Any

from deployments.dispatch.request import DispatchRequest, Preferences, Prompt

_PROMPT = {field.name for field in fields(Prompt)}
_PREFERENCES = {field.name for field in fields(Preferences)}


def ask(
    decision_id: str = "d", requested: str = "auto", text: str = "hello", **given: Any
) -> DispatchRequest:
    """A request for `text`; each further field goes to the part that has it."""
    prompt = {name: given.pop(name) for name in _PROMPT & given.keys()}
    preferences = {name: given.pop(name) for name in _PREFERENCES & given.keys()}
    return DispatchRequest(
        decision_id, requested, Prompt(text, **prompt), Preferences(**preferences), **given
    )
