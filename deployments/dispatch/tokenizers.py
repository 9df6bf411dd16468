"""The models' own tokenizers in the ingress: they count a prompt where bounds do not say whether it fits."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Final

from tokenizers import Tokenizer

from deployments.dispatch.request import Prompt
from deployments.logger import get_logger
from deployments.records.snapshot import Snapshot, tokenizer_artifact

logger = get_logger(__name__)

_SEAM_TOKENS: Final = 2  # at either end of a message a token may join what the chat template puts there
_AT_ONCE: Final = 2  # long prompts counted at the same time: other requests need the processor too

Fetch = Callable[[str], Awaitable[tuple[str, bytes]]]


class Tokenizers:
    """Tokenizers by the hash of their file, as the cards of the models name them."""

    def __init__(self) -> None:
        self._loaded: dict[str, Tokenizer | None] = {}  # None: a file that cannot be read
        self._turn = asyncio.Semaphore(_AT_ONCE)

    def wanted(self, snapshot: Snapshot) -> list[str]:
        """Tokenizers of this pool that the table holds and that are not loaded yet."""
        named = {row.card.tokenizer for row in snapshot.models.values()}
        return sorted(t for t in named - self._loaded.keys() if tokenizer_artifact(t) in snapshot.artifacts)

    async def refresh(self, snapshot: Snapshot, fetch: Fetch) -> None:
        """Fetch and load what is wanted, megabytes, off the loop."""
        for tokenizer in self.wanted(snapshot):
            _, data = await fetch(tokenizer_artifact(tokenizer))
            await asyncio.to_thread(self.install, tokenizer, data)

    def install(self, tokenizer: str, data: bytes) -> bool:
        """Load one file; one that cannot be read is logged, and its models' prompts are bounded only."""
        try:
            loaded = Tokenizer.from_buffer(data)
        except Exception as error:  # bytes from a store: whatever is wrong with them, requests are served
            logger.error("Tokenizer '%s' cannot be read, prompts are not counted: %s", tokenizer, error)
            self._loaded[tokenizer] = None
            return False
        loaded.no_truncation()
        loaded.no_padding()
        self._loaded[tokenizer] = loaded
        return True

    async def counted(self, snapshot: Snapshot, requested: str, prompt: Prompt) -> Prompt:
        """`prompt` with its tokens by every tokenizer whose count decides whether a model can take it."""
        needed = self.undecided(snapshot, requested, prompt)
        if not needed:
            return prompt
        async with self._turn:
            return replace(prompt, counts=await asyncio.to_thread(self._count, needed, prompt))

    def undecided(self, snapshot: Snapshot, requested: str, prompt: Prompt) -> set[str]:
        """Loaded tokenizers of the models of which the bounds do not say whether the prompt fits."""
        if prompt.tokens is not None:
            return set()
        most = prompt.most_tokens
        named = snapshot.models.get(requested)
        cards = [row.card for row in (snapshot.models.values() if named is None else [named])]
        room = [(card, card.context_tokens - prompt.answer_tokens(card.context_tokens)) for card in cards]
        unsure = [(card.tokenizer, tokens) for card, tokens in room if tokens < most]
        if not unsure:
            return set()
        least = prompt.least_tokens
        return {name for name, tokens in unsure if tokens >= least and self._loaded.get(name)}

    def _count(self, tokenizers: set[str], prompt: Prompt) -> Mapping[str, int]:
        """Tokens of the longest prompt that are there for certain, by tokenizer."""
        text = prompt.longest_text.encode("utf-8", "replace").decode()
        counts = {}
        for name in tokenizers:
            loaded = self._loaded[name]
            if loaded is not None:
                [encoded] = loaded.encode_batch_fast([text], add_special_tokens=False)
                counts[name] = max(0, len(encoded.ids) - _SEAM_TOKENS * prompt.turns)
        return counts
