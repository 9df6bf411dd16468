"""Conversations under shared system prompts, as token ids and as the text that a client would send."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from policies.arrays import I64

BLOCK_TOKENS: Final = 16  # as vLLM's
_SYSTEMS: Final = 100  # for each replica
_SYSTEM_TOKENS: Final = 480.0  # means
_MESSAGE_TOKENS: Final = 640.0
_ANSWER_TOKENS: Final = 100.0
_GOES_ON: Final = 0.41  # probability of one more turn: 30 % of prompt tokens then lie within a conversation
_SPREAD: Final = 0.5  # of the logarithms of lengths of systems and answers
_MESSAGE_SPREAD: Final = 1.0  # most messages are short, and some are documents
_MOST_TOKENS: Final = 8192
_THINK_S: Final = 30.0  # mean
_ANSWER_S: Final = 3.0  # about
_WORDS: Final = 8192
_LETTERS: Final = np.array(list("abcdefghijklmnopqrstuvwxyz"))


@dataclass(slots=True, eq=False)
class Turn:
    """One request: what it sends, and the answer that it will get."""

    conversation: int
    system: int
    number: int  # in its conversation, from 0
    text: str
    prompt_tokens: int
    output_tokens: int
    blocks: tuple[int, ...]  # chained hashes of all whole blocks of prompt and answer
    think_s: float  # from the answer of the turn before, or the start of the conversation
    shared_tokens: int  # of the prompt, with any request before it
    own_tokens: int  # of these, within the conversation
    sent_s: float = 0.0
    first_token_s: float = 0.0
    cached_tokens: int = 0
    replica: int = -1

    @property
    def turns(self) -> int:
        """Messages in the prompt: the system's, and those of user and model."""
        return 2 + 2 * self.number

    @property
    def ttft_s(self) -> float:
        """Time to first token."""
        return self.first_token_s - self.sent_s


@dataclass(slots=True)
class Workload:
    """Conversations in order of their starts; starts are in units of the mean time between requests."""

    conversations: list[list[Turn]]
    starts: list[float]
    system_tokens: int  # of all system prompts

    def live_tokens(self, request_s: float) -> int:
        """The working set: distinct tokens of the systems and, in the mean over time, of the conversations
        under way, with what they hold at their end."""
        span_s = self.starts[-1] * request_s
        held = 0.0
        for turns in self.conversations:
            last = turns[-1]
            own = last.prompt_tokens + last.output_tokens - turns[0].shared_tokens
            lasts_s = sum(turn.think_s for turn in turns) + _ANSWER_S * len(turns)
            held += own * min(lasts_s, span_s)
        return int(self.system_tokens + held / span_s)


class _Texts:
    """Words of two to six letters, one a token: a prompt's length in characters only hints at its tokens."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        sizes = rng.integers(1, 6, _WORDS)
        self._words = ["".join(rng.choice(_LETTERS, size)) + " " for size in sizes]

    def tokens(self, mean: float, spread: float = _SPREAD) -> I64:
        """Random tokens of a log-normal number."""
        length = self._rng.lognormal(np.log(mean) - spread**2 / 2, spread)
        return self._rng.integers(0, _WORDS, min(max(int(length), 4), _MOST_TOKENS))

    def text(self, tokens: I64) -> str:
        """As text."""
        return "".join(self._words[token] for token in tokens.tolist())


def chained(tokens: list[int]) -> tuple[int, ...]:
    """A hash for each whole block, over all before it."""
    found, before = [], 0
    for end in range(BLOCK_TOKENS, len(tokens) + 1, BLOCK_TOKENS):
        before = hash((before, *tokens[end - BLOCK_TOKENS : end]))
        found.append(before)
    return tuple(found)


def made_workload(requests: int, replicas: int, seed: int) -> Workload:
    """At least so many requests."""
    rng = np.random.default_rng(seed)
    texts = _Texts(rng)
    systems = [texts.tokens(_SYSTEM_TOKENS) for _ in range(_SYSTEMS * replicas)]
    popularity = 1.0 / np.arange(1, len(systems) + 1)
    popularity /= popularity.sum()
    conversations: list[list[Turn]] = []
    count = 0
    while count < requests:
        system = int(rng.choice(len(systems), p=popularity))
        conversations.append(_conversation(rng, texts, len(conversations), system, systems[system]))
        count += len(conversations[-1])
    gaps = rng.exponential(count / len(conversations), len(conversations))
    return Workload(conversations, np.cumsum(gaps).tolist(), sum(len(system) for system in systems))


def _conversation(
    rng: np.random.Generator, texts: _Texts, index: int, system: int, opening: I64
) -> list[Turn]:
    turns: list[Turn] = []
    tokens, text = opening.tolist(), texts.text(opening)
    while True:
        message, answer = texts.tokens(_MESSAGE_TOKENS, _MESSAGE_SPREAD), texts.tokens(_ANSWER_TOKENS)
        before = len(tokens)
        tokens = [*tokens, *message.tolist()]
        text += texts.text(message)
        whole = [*tokens, *answer.tolist()]
        turns.append(
            Turn(
                conversation=index,
                system=system,
                number=len(turns),
                text=text,
                prompt_tokens=len(tokens),
                output_tokens=len(answer),
                blocks=chained(whole),
                think_s=float(rng.exponential(_THINK_S)) if turns else 0.0,
                shared_tokens=before,
                own_tokens=before - len(opening),
            )
        )
        tokens, text = whole, text + texts.text(answer)
        if rng.random() > _GOES_ON:
            return turns


def shares(turns: Sequence[Turn]) -> dict[str, float]:
    """What of the prompts' tokens was sent before, and how long prompts are."""
    prompt = sum(turn.prompt_tokens for turn in turns)
    return {
        "shared_of_prompt_tokens": sum(turn.shared_tokens for turn in turns) / prompt,
        "within_conversation": sum(turn.own_tokens for turn in turns) / prompt,
        "mean_prompt_tokens": prompt / len(turns),
    }
