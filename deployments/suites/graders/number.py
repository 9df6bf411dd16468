"""Grader `number`: the number an answer ends on, with its squared error."""

import math
import re
from typing import Final

from deployments.suites.graders.grade import Grade, plain
from deployments.suites.item import Item

RELATIVE_TOLERANCE: Final = 1e-6

_NUMBER: Final = r"[-−]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d{1,30})(?:\.\d{1,30})?(?:[eE][-+]?\d{1,2}(?![0-9]))?"
_ANY: Final = re.compile(rf"(?<![\w.]){_NUMBER}|(?<=[A-Za-z$€£¥=]){_NUMBER}")
_MARKED: Final = re.compile(
    rf"(?:answer(?:\s+is)?|answer\s*[:=]|####|\\boxed\{{|答案(?:是|为)?|结果(?:是|为)?|等于)[\s:：=*$€£¥]*({_NUMBER})",
    re.I,
)
_FIRST: Final = re.compile(rf"^[\s*$€£¥(]*({_NUMBER})(?=[\s*).。!]*(?:\n|$))")
_ENGLISH: Final = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen",
    "eighteen", "nineteen", "twenty",
)  # fmt: skip
_WORDS: Final = {
    word: value for words in (_ENGLISH, "零一二三四五六七八九十") for value, word in enumerate(words)
}


def check(item: Item) -> None:
    """Raises ValueError unless the answer is a finite number or the text of one."""
    if _right(item) is None:
        raise ValueError("'answer' of grader 'number' must be a number.")


def grade(item: Item, text: str) -> Grade:
    """1 if the number found is the right one to a relative 1e-6; no squared error where none is found."""
    right, found = _right(item), found_number(text)
    if right is None or found is None:
        return Grade(0.0, note="no number")
    close = math.isclose(found, right, rel_tol=RELATIVE_TOLERANCE, abs_tol=RELATIVE_TOLERANCE)
    return Grade(1.0 if close else 0.0, (found - right) ** 2, "" if close else f"found {found:g}")


def found_number(text: str) -> float | None:
    """The number that is announced as the answer, else one that is the whole first line, else the last."""
    marked = _MARKED.findall(text)
    if marked:
        return _value(marked[-1])
    first = _FIRST.match(text)
    if first:
        return _value(first.group(1))
    everywhere = _ANY.findall(text)
    if everywhere:
        return _value(everywhere[-1])
    word = _WORDS.get(plain(text).casefold().strip(" .。!"))
    return None if word is None else float(word)


def _value(text: str) -> float:
    return float(text.replace(",", "").replace("−", "-"))


def _right(item: Item) -> float | None:
    answer = item.answer
    if isinstance(answer, bool) or not isinstance(answer, str | int | float):
        return None
    try:
        value = float(answer.replace(",", "") if isinstance(answer, str) else answer)
    except (ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None
