"""Grader `label`: exactly one of the given labels must be named."""

import re

from deployments.suites.graders.grade import Grade, bare, right_or_wrong
from deployments.suites.item import Item


def check(item: Item) -> None:
    """Raises ValueError unless the answer is a text, and one of the choices where there are any."""
    if not isinstance(item.answer, str) or not bare(item.answer):
        raise ValueError("'answer' of grader 'label' must be a text.")
    if item.choices and bare(item.answer) not in map(bare, item.choices):
        raise ValueError("'answer' of grader 'label' must be one of 'choices'.")


def grade(item: Item, text: str) -> Grade:
    """1 if the answer is, begins with, or as its only label contains the right label, case ignored."""
    labels = [bare(choice) for choice in item.choices] or [bare(item.answer)]
    found = named_label(labels, bare(text))
    return right_or_wrong(
        found == bare(item.answer), f"named '{found}'" if found else "no single label named"
    )


def named_label(labels: list[str], text: str) -> str | None:
    """The label that a normalised text names, or None where it names none or several."""
    if text in labels:
        return text
    longest_first = sorted(set(labels), key=len, reverse=True)
    for label in longest_first:
        if re.match(_word(label), text):
            return label
    found = set()
    for label in longest_first:  # longest first, and cut out: "credit cards" is not also "cards"
        text, count = re.subn(_word(label), "\n", text)
        if count:
            found.add(label)
    return found.pop() if len(found) == 1 else None


def _word(label: str) -> str:
    """Pattern of a label as a whole word; scripts without spaces have no word boundary."""
    left = r"(?<![a-z0-9_])" if label[0].isascii() else ""
    right = r"(?![a-z0-9_])" if label[-1].isascii() else ""
    return left + re.escape(label) + right
