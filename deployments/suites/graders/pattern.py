"""Grader `regex`: patterns with Python's syntax, searched with a time limit so that no answer can hang it."""

from typing import Final

import regex

from deployments.suites.graders.grade import Grade
from deployments.suites.graders.texts import check_rule, grade_rule
from deployments.suites.item import Item

TIME_LIMIT_S: Final = 0.5


class PatternTimeoutError(RuntimeError):
    """A search that took longer than the limit."""


def check(item: Item) -> None:
    """Raises ValueError unless the answer is a valid pattern, a list (any of) or a rule {all, any, none}."""
    check_rule("regex", item.answer)
    parts = item.answer.values() if isinstance(item.answer, dict) else [item.answer]
    for part in parts:
        for pattern in part if isinstance(part, list) else [part]:
            try:
                regex.compile(pattern)
            except regex.error as error:
                raise ValueError(f"'answer' has an invalid pattern: {error}.") from error


def grade(item: Item, text: str) -> Grade:
    """1 if the rule over patterns holds; 0 with a note where a search hits the time limit."""
    try:
        return grade_rule(item.answer, lambda pattern: found(pattern, text))
    except PatternTimeoutError as error:
        return Grade(0.0, note=str(error))


def found(pattern: str, text: str) -> bool:
    """Whether the pattern occurs. Raises PatternTimeoutError after 0.5 s."""
    try:
        return regex.search(pattern, text, timeout=TIME_LIMIT_S) is not None
    except TimeoutError:
        raise PatternTimeoutError(f"the pattern took longer than {TIME_LIMIT_S} s") from None
