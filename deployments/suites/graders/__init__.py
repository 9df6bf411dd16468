"""Graders: functions from (item, answer text) to a score in [0, 1]; the same for every way of asking."""

from collections.abc import Callable, Mapping
from typing import Final

from deployments.suites.graders import (
    choice,
    json_answer,
    label,
    number,
    pattern,
    similarity,
    texts,
    unit_test,
)
from deployments.suites.graders.grade import Grade, answer_text
from deployments.suites.item import Item

_Check = Callable[[Item], None]
_Grader = Callable[[Item, str], Grade]

GRADERS: Final[Mapping[str, tuple[_Check, _Grader]]] = {
    "choice": (choice.check, choice.grade),
    "label": (label.check, label.grade),
    "number": (number.check, number.grade),
    "exact": (texts.check_exact, texts.grade_exact),
    "contains": (texts.check_contains, texts.grade_contains),
    "regex": (pattern.check, pattern.grade),
    "json_schema": (json_answer.check, json_answer.grade),
    "chrf": (similarity.check, similarity.grade_chrf),
    "chrf50": (similarity.check, similarity.grade_chrf50),
    "rouge": (similarity.check, similarity.grade_rouge),
    "unit_test": (unit_test.check, unit_test.grade),
}


def check(item: Item) -> None:
    """Raises ValueError where the item has no such grader, or an answer that its grader cannot use."""
    if item.grader not in GRADERS:
        raise ValueError(f"Grader '{item.grader}' is not known. Known: {', '.join(sorted(GRADERS))}.")
    GRADERS[item.grader][0](item)


def refusal(item: Item) -> str:
    """Why this machine cannot grade the item; '' where it can."""
    reason = unit_test.refusal() if item.grader == "unit_test" else ""
    return f"Grader '{item.grader}' cannot run here: {reason}." if reason else ""


def grade(item: Item, text: str) -> Grade:
    """The grade of a model's answer; an empty one is 0 with every grader. Takes seconds for `unit_test`."""
    given = answer_text(text)
    if not given.strip():
        return Grade(0.0, note="empty")
    return GRADERS[item.grader][1](item, given)
