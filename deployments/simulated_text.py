"""What the simulated engine says: canned text of seeded length, the same for the same prompt and seed."""

import hashlib
import math
import random
from dataclasses import dataclass

from deployments.simulated_settings import SimulatedSettings

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


def plan(
    settings: SimulatedSettings, prompt: str, last: str, seed: int, max_tokens: int, stop: tuple[str, ...]
) -> Plan:
    """The answer to `prompt` with last message `last`: at most `max_tokens`, cut before a stop string."""
    canned = settings.answers.get(last)
    tokens = _pieces(canned.split(" ")) if canned is not None else _seeded(settings, prompt, seed, max_tokens)
    shown, finish_reason = tokens[:max_tokens], "stop" if len(tokens) <= max_tokens else "length"
    return _cut(Plan(tuple(shown), finish_reason), stop) if stop else Plan(tuple(shown), finish_reason)


def embedding(settings: SimulatedSettings, text: str, size: int) -> list[float]:
    """A unit vector [size] that depends on the text only."""
    generator = random.Random(f"{settings.seed}|{text}")
    values = [generator.gauss(0.0, 1.0) for _ in range(size)]
    norm = math.sqrt(sum(value * value for value in values))
    return [value / norm for value in values]


def _seeded(settings: SimulatedSettings, prompt: str, seed: int, max_tokens: int) -> list[str]:
    digest = hashlib.blake2b(
        f"{settings.seed}|{seed}|{prompt}".encode("utf-8", "replace"), digest_size=8
    ).digest()
    generator = random.Random(int.from_bytes(digest, "big"))
    length = 1
    if settings.mean_output_tokens > 1:
        end_probability = 1.0 / settings.mean_output_tokens
        length += int(math.log(1.0 - generator.random()) / math.log(1.0 - end_probability))
    count = min(length, max_tokens + 1)  # one more shows that it was cut
    return _pieces([*OPENING, *generator.choices(WORDS, k=max(0, count - len(OPENING)))])[:count]


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
