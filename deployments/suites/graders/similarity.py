"""Graders `chrf`, `chrf50` and `rouge`: likeness to reference texts, by sacrebleu and rouge-score."""

import re
from typing import Final

from deployments.suites.graders.grade import Grade, plain, right_or_wrong
from deployments.suites.item import Item

CHRF_PASS: Final = 0.5  # of `chrf50`
_TOKEN: Final = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]|[^\W_]+")


def check(item: Item) -> None:
    """Raises ValueError unless the answer is a reference text or a list of them."""
    if not item.answers() or not all(isinstance(text, str) and text.strip() for text in _raw(item)):
        raise ValueError(f"'answer' of grader '{item.grader}' must be a text or a list of texts.")


def chrf(item: Item, text: str) -> float:
    """chrF2 in [0, 1] (Popovic 2015): character 6-grams, beta 2; the best of the references."""
    from sacrebleu import sentence_chrf

    return float(sentence_chrf(text.strip(), item.answers()).score) / 100.0


def grade_chrf(item: Item, text: str) -> Grade:
    """The chrF itself."""
    return Grade(chrf(item, text))


def grade_chrf50(item: Item, text: str) -> Grade:
    """1 if chrF is at least 50 of 100."""
    value = chrf(item, text)
    return right_or_wrong(value >= CHRF_PASS, f"chrF {value:.2f}")


def grade_rouge(item: Item, text: str) -> Grade:
    """ROUGE-L F1 in [0, 1] (Lin 2004), best of the references; words, or characters where CJK."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], tokenizer=_Tokens())
    found = [scorer.score(reference, text)["rougeL"].fmeasure for reference in item.answers()]
    return Grade(float(max(found)))


class _Tokens:
    """rouge-score's tokenizer interface; its own one drops every script but Latin."""

    def tokenize(self, text: str) -> list[str]:
        return _TOKEN.findall(plain(text).casefold())[:2000]


def _raw(item: Item) -> list[object]:
    return item.answer if isinstance(item.answer, list) else [item.answer]
