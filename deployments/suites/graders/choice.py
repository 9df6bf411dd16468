"""Grader `choice`: the letter of one option. The answer is the letter, or the option's own text."""

import re
import string
from typing import Final

from deployments.suites.graders.grade import Grade, bare, plain, right_or_wrong
from deployments.suites.item import Item

_LEADING: Final = re.compile(r"^[\s(\[*\"'`「（【]*([A-Za-z])(?=[\s)\].,:;*\"'`」）】。，：、]|$)")
_LISTED: Final = re.compile(r"^[\s(*]*([A-Z])[.):]", re.MULTILINE)
_ANNOUNCED: Final = re.compile(
    r"(?:answer|option|choice|答案|选项|选择|选)[^A-Za-z0-9]{0,12}(?:is|are|为|是)?[^A-Za-z0-9]{0,6}([A-Z])(?![A-Za-z])",
    re.I,
)
_LONE: Final = re.compile(
    r"(?<![A-Za-z0-9'’])([B-HJ-Z]|A(?!\s+(?!and\b|or\b)[a-z])|I(?!\s+[a-z]|['’]))(?![A-Za-z0-9'’])"
)


def check(item: Item) -> None:
    """Raises ValueError unless the answer is a letter, within the options where they are listed."""
    letter = _right_letter(item)
    if letter not in _letters(item):
        raise ValueError("'answer' of grader 'choice' must be the letter or the text of one option.")


def grade(item: Item, text: str) -> Grade:
    """1 for the right letter or the right option's text."""
    found = chosen_letter(item, text)
    return right_or_wrong(found == _right_letter(item), f"chose {found}" if found else "no option named")


def chosen_letter(item: Item, text: str) -> str | None:
    """The letter that an answer names, or None where it names none or more than one."""
    whole = bare(text)
    by_text = {
        bare(choice): letter for letter, choice in zip(string.ascii_uppercase, item.choices, strict=False)
    }
    if whole in by_text:
        return by_text[whole]
    letters = _letters(item)
    tidy = plain(text)
    leading = _LEADING.match(tidy)
    listing = len(set(_LISTED.findall(text))) > 1  # all the options said again choose none
    if (
        leading
        and not listing
        and _is_letter_not_word(tidy, leading.end(1))
        and leading.group(1).upper() in letters
    ):
        return leading.group(1).upper()
    announced = [found.upper() for found in _ANNOUNCED.findall(tidy) if found.upper() in letters]
    if announced:
        return announced[-1]
    lone = {found for found in _LONE.findall(tidy) if found in letters}
    return lone.pop() if len(lone) == 1 else None


def _is_letter_not_word(text: str, end: int) -> bool:
    """False for the article in "A hen" and the pronoun in "I think": a lower-case word follows."""
    return not (text[end - 1] in "AaIi" and re.match(r"\s+[a-z]", text[end:]))


def _letters(item: Item) -> str:
    return string.ascii_uppercase[: len(item.choices)] if item.choices else string.ascii_uppercase


def _right_letter(item: Item) -> str:
    answer = item.answer.strip() if isinstance(item.answer, str) else ""
    if len(answer) == 1 and answer.isascii() and answer.isalpha():
        return answer.upper()
    places = [place for place, choice in enumerate(item.choices[:26]) if bare(choice) == bare(answer)]
    return string.ascii_uppercase[places[0]] if places else "?"
