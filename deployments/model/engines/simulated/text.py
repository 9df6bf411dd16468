"""What the simulated engine says: canned text of seeded length, the same for the same prompt and seed."""

import hashlib
import math
import random
from dataclasses import dataclass

from deployments.model.engines.simulated.structured import Call
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
    finish_reason: str  # "stop", "length" or "tool_calls"
    tool: str = ""  # the tool that is called; the tokens are its arguments then

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
    json: str | None = None  # what is said in its place
    call: Call | None = None  # what is called in its place
    min_tokens: int = 0  # before which it does not end by itself


def plan(settings: SimulatedSettings, question: Question) -> Plan:
    """The answer: at most `max_tokens`, cut before a stop string."""
    canned = settings.answers.get(question.last)
    if canned is not None:
        tokens = _pieces(canned.split(" "))
    elif question.call is not None:
        tokens = _letters(question.call.arguments)
    elif question.json is not None:
        tokens = _letters(question.json)
    else:
        tokens = _seeded(settings, question)
    shown = tuple(tokens[: question.max_tokens])
    finish_reason = "stop" if len(tokens) <= question.max_tokens else "length"
    if canned is None and question.call is not None:
        return Plan(shown, "tool_calls" if finish_reason == "stop" else finish_reason, question.call.name)
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
        length = max(_geometric(generator, settings.mean_output_tokens), question.min_tokens)
        count = min(count, length)
    return _pieces([*OPENING, *generator.choices(WORDS, k=max(0, count - len(OPENING)))])[:count]


def _geometric(generator: random.Random, mean: float) -> int:
    """A length of at least 1 that ends with the same probability after each token."""
    if mean <= 1:
        return 1
    return 1 + int(math.log(1.0 - generator.random()) / math.log(1.0 - 1.0 / mean))


def _pieces(words: list[str]) -> list[str]:
    return words[:1] + [f" {word}" for word in words[1:]]


def _letters(text: str) -> list[str]:
    """Text that is no prose, four characters a token."""
    return [text[start : start + BYTES_PER_TOKEN] for start in range(0, len(text), BYTES_PER_TOKEN)]


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
