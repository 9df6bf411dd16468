"""One item of an evaluation suite: what every model is asked and what its answer is graded against."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

_CJK: Final = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]")
_LATIN_WORD: Final = re.compile(r"[A-Za-z]+")


@dataclass(frozen=True, slots=True)
class Item:
    """A gradable question. `answer` is what `grader` needs, see deployments.suites.graders.

    `extra` holds the keys that only some graders read (`test`, `stub`, `entry_point`) or nobody (`source`).
    """

    id: str
    task: str
    messages: tuple[Mapping[str, Any], ...]  # OpenAI chat messages
    answer: Any
    grader: str
    max_tokens: int
    profile: str = ""
    choices: tuple[str, ...] = ()
    language: str = "en"
    extra: Mapping[str, Any] = field(default_factory=dict)

    def answers(self) -> list[str]:
        """The acceptable texts: a list means any one of them."""
        given = self.answer if isinstance(self.answer, list) else [self.answer]
        return [str(text) for text in given]

    def digest(self) -> str:
        """Hash of everything that decides question and grade, 16 hex digits."""
        content = [
            self.messages,
            self.answer,
            self.grader,
            self.max_tokens,
            self.choices,
            self.task,
            self.profile,
        ]
        content += [self.extra.get(key) for key in ("test", "stub", "entry_point")]
        text = json.dumps(content, ensure_ascii=False, sort_keys=True, default=list)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def language_of(text: str) -> str:
    """'zh' where Chinese, Japanese or Korean characters outnumber Latin words, else 'en'."""
    return "zh" if len(_CJK.findall(text)) > len(_LATIN_WORD.findall(text)) else "en"
