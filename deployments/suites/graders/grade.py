"""What a grader says of one answer, and the tidying that every grader shares."""

import re
import unicodedata
from dataclasses import dataclass
from typing import Final

MAX_ANSWER_CHARACTERS: Final = 20_000  # what follows is not read: no item asks for more

_THINKING: Final = re.compile(r"\A\s*<think>.*?(?:</think>|\Z)", re.DOTALL)
_SPACES: Final = re.compile(r"\s+")
_EDGES: Final = " \t\r\n\"'`*_“”‘’「」.,;:!?。，；：！？"


@dataclass(frozen=True, slots=True)
class Grade:
    """`score` in [0, 1]; `squared_error` where the right answer and the given one are numbers; why, if 0."""

    score: float
    squared_error: float | None = None
    note: str = ""


def right_or_wrong(right: bool, note: str = "") -> Grade:
    """1 or 0; `note` says why it is 0."""
    return Grade(1.0) if right else Grade(0.0, note=note)


def answer_text(text: str) -> str:
    """The part of an answer that is graded: bounded, and without a leading block of thoughts."""
    return _THINKING.sub("", text[:MAX_ANSWER_CHARACTERS])


def plain(text: str) -> str:
    """Unicode forms unified (NFKC), runs of white space made one space, ends trimmed."""
    return _SPACES.sub(" ", unicodedata.normalize("NFKC", text)).strip()


def bare(text: str) -> str:
    """`plain`, without case and without punctuation at the ends."""
    return plain(text).casefold().strip(_EDGES)
