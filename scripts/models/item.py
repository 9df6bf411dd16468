"""One graded item: what is asked, how the answer is graded, and the answer a model is trained to give."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from scripts.models.wording import Language, Split

Profile = Literal["customer-service", "content-creation", "document-generation", "recommendation"]
Answer = str | list[str] | dict[str, Any]


@dataclass(frozen=True, slots=True)
class Item:
    """An item of a suite; `target` is the text that training teaches, and is not part of the suite's line.

    `answer` is what `grader` needs: the right text, texts to be contained, a pattern, or a JSON schema.
    """

    task: str
    profile: Profile
    prompt: str
    answer: Answer
    grader: Literal["label", "choice", "exact", "contains", "regex", "json_schema", "number"]
    max_tokens: int
    target: str
    choices: tuple[str, ...] | None = None

    def to_json(self) -> str:
        """The item as one line of a suite file."""
        fields: dict[str, Any] = {
            "task": self.task,
            "profile": self.profile,
            "prompt": self.prompt,
            "answer": self.answer,
            "grader": self.grader,
            "max_tokens": self.max_tokens,
        }
        if self.choices is not None:
            fields["choices"] = list(self.choices)
        return json.dumps(fields, ensure_ascii=False)


Make = Callable[[Split, Language, random.Random], Item]
"""Makes one item of a task, in wordings of the split only."""
