"""What the simulated engine says: canned text of seeded length, the same for the same prompt and seed."""

import hashlib
import math
import random
from dataclasses import dataclass

from deployments.model.simulated_settings import SimulatedSettings

OPENING = ("[simulated]", "This", "text", "is", "canned;", "no", "model", "wrote", "it.")
WORDS = (
    "a",
    "and",
    "boat",
    "clerk",
    "dark",
    "engine",
    "glass",
    "harbour",
    "home",
    "hums",
    "lamp",
    "near",
    "of",
)
BYTES_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole answer, before it is spoken: its tokens and why it ends."""

    tokens: tuple[str, ...]
    finish_reason: str  # "stop" or "length"

    @property
    def text(self) -> str:
        """The whole answer."""
        return "".join(self.tokens)


def count_tokens(text: str) -> int:
    """Tokens of a prompt: four UTF-8 bytes each, at least one."""
    return max(1, math.ceil(len(text.encode("utf-8", "replace")) / BYTES_PER_TOKEN))


@dataclass(frozen=True, slots=True)
class Question:
    """What one choice is asked: the whole prompt, its last user message, and the limits."""

    prompt: str
    last: str
    seed: int
    max_tokens: int
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False  # speak until `max_tokens`


def plan(settings: SimulatedSettings, question: Question) -> Plan:
    """The answer: at most `max_tokens`, cut before a stop string."""
    canned = settings.answers.get(question.last)
    tokens = _pieces(canned.split(" ")) if canned is not None else _seeded(settings, question)
    shown = tuple(tokens[: question.max_tokens])
    finish_reason = "stop" if len(tokens) <= question.max_tokens else "length"
    return _cut(Plan(shown, finish_reason), question.stop)


def embedding(settings: SimulatedSettings, text: str, size: int) -> list[float]:
    """A unit vector [size] that depends on the text only."""
    generator = random.Random(f"{settings.seed}|{text}")
    values = [generator.gauss(0.0, 1.0) for _ in range(size)]
    norm = math.sqrt(sum(value * value for value in values))
    return [value / norm for value in values]


def _seeded(settings: SimulatedSettings, question: Question) -> list[str]:
    key = f"{settings.seed}|{question.seed}|{question.prompt}".encode("utf-8", "replace")
    generator = random.Random(int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big"))
    count = question.max_tokens + 1  # one more shows that it was cut
    if not question.ignore_eos:
        count = min(count, _geometric(generator, settings.mean_output_tokens))
    return _pieces([*OPENING, *generator.choices(WORDS, k=max(0, count - len(OPENING)))])[:count]


def _geometric(generator: random.Random, mean: float) -> int:
    """A length of at least 1 that ends with the same probability after each token."""
    if mean <= 1:
        return 1
    return 1 + int(math.log(1.0 - generator.random()) / math.log(1.0 - 1.0 / mean))


def _pieces(words: list[str]) -> list[str]:
    return words[:1] + [f" {word}" for word in words[1:]]


def _cut(whole: Plan, stop: tuple[str, ...]) -> Plan:
    """End before the first stop string; a token that it splits is cut."""
    text = whole.text
    places = [place for place in (text.find(word) for word in stop if word) if place >= 0]
    if not places:
        return whole
    left, tokens = min(places), []
    for token in whole.tokens:
        if left <= 0:
            break
        tokens.append(token[:left])
        left -= len(token)
    return Plan(tuple(tokens) or ("",), "stop")
