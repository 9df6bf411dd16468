"""Graders `exact` and `contains`, and the rule over several texts that `contains` and `regex` share."""

from collections.abc import Callable, Mapping
from typing import Any

from deployments.suites.graders.grade import Grade, plain, right_or_wrong
from deployments.suites.item import Item

_RULES = frozenset({"all", "any", "none"})


def check_exact(item: Item) -> None:
    """Raises ValueError unless the answer is a text or a list of acceptable texts."""
    if not _texts(item.answer):
        raise ValueError("'answer' of grader 'exact' must be a text or a list of texts.")


def grade_exact(item: Item, text: str) -> Grade:
    """1 if the answer is an acceptable text; white space, outer quotes and Unicode forms do not count."""
    found = _unquoted(text)
    return right_or_wrong(any(found == _unquoted(right) for right in item.answers()), "differs")


def check_contains(item: Item) -> None:
    """Raises ValueError unless the answer is a text, a list (any of) or a rule {all, any, none}."""
    check_rule("contains", item.answer)


def grade_contains(item: Item, text: str) -> Grade:
    """1 if the rule over contained texts holds, case ignored."""
    found = plain(text).casefold()
    return grade_rule(item.answer, lambda part: plain(part).casefold() in found)


def check_rule(grader: str, answer: Any) -> None:
    """Raises ValueError unless `answer` is a text, a list of texts or {"all", "any", "none"} of lists."""
    lists = list(answer.values()) if isinstance(answer, Mapping) else [answer]
    known = not isinstance(answer, Mapping) or (answer and set(answer) <= _RULES)
    if not known or not all(_texts(part) for part in lists):
        raise ValueError(
            f"'answer' of grader '{grader}' must be a text, a list of which any one suffices, "
            "or an object with lists 'all', 'any', 'none'."
        )


def grade_rule(answer: Any, holds: Callable[[str], bool]) -> Grade:
    """1 if `holds` for any text of a list, or as {"all", "any", "none"} demand."""
    rule = answer if isinstance(answer, Mapping) else {"any": answer}
    for part in _texts(rule.get("all")):
        if not holds(part):
            return Grade(0.0, note="a required part is missing")
    for part in _texts(rule.get("none")):
        if holds(part):
            return Grade(0.0, note="a forbidden part is there")
    some = _texts(rule.get("any"))
    return right_or_wrong(
        not some or any(holds(part) for part in some), "none of the accepted parts is there"
    )


def _texts(value: Any) -> list[str]:
    """The texts in `value`; none where it is not a text or a list of non-empty texts."""
    texts = value if isinstance(value, list) else [value]
    return texts if all(isinstance(text, str) and text.strip() for text in texts) else []


def _unquoted(text: str) -> str:
    return plain(text).strip("\"'`“”‘’").strip()
