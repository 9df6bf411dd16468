"""The models' own tokenizers in the ingress: they count a prompt where bounds do not say whether it fits.

A chat is counted as the model's chat template renders it, tools included, where the template is known.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import jinja2
from tokenizers import Tokenizer

from deployments.dispatch.chat_template import ChatTemplate
from deployments.dispatch.request import Prompt
from deployments.logger import get_logger
from deployments.records.snapshot import Snapshot, tokenizer_artifact
from deployments.records.tokenizer_file import unpack

logger = get_logger(__name__)

_SEAM_TOKENS: Final = 2  # at either end of a message a token may join what the chat template puts there
_PIECE_CHARS: Final = 65_536  # counted at a time: a tokenizer needs a hundred times the bytes of a text
_AT_ONCE: Final = 2  # long prompts counted at the same time: other requests need the processor too

Fetch = Callable[[str], Awaitable[tuple[str, bytes]]]


class Tokenizers:
    """Tokenizers by the hash of their file, as the cards of the models name them."""

    def __init__(self) -> None:
        self._loaded: dict[str, Tokenizer | None] = {}  # None: a file that cannot be read
        self._templates: dict[str, ChatTemplate] = {}
        self._turn = asyncio.Semaphore(_AT_ONCE)

    def wanted(self, snapshot: Snapshot) -> list[str]:
        """Tokenizers of this pool that the table holds and that are not loaded yet."""
        named = {row.card.tokenizer for row in snapshot.models.values()}
        return sorted(t for t in named - self._loaded.keys() if tokenizer_artifact(t) in snapshot.artifacts)

    async def refresh(self, snapshot: Snapshot, fetch: Fetch) -> None:
        """Fetch and load what is wanted, megabytes, off the loop; forget what no model names any more."""
        for gone in self._loaded.keys() - {row.card.tokenizer for row in snapshot.models.values()}:
            self._loaded.pop(gone)
            self._templates.pop(gone, None)
        for tokenizer in self.wanted(snapshot):
            _, data = await fetch(tokenizer_artifact(tokenizer))
            await asyncio.to_thread(self.install, tokenizer, data)

    def install(self, tokenizer: str, data: bytes) -> bool:
        """Load one file; one that cannot be read is logged, and its models' prompts are bounded only."""
        try:
            file = unpack(data)
            loaded = Tokenizer.from_buffer(file.tokenizer)
            if file.templates:
                self._templates[tokenizer] = ChatTemplate(file.templates, file.special_tokens)
        except jinja2.TemplateError as error:
            logger.warning("The chat template of tokenizer '%s' cannot be read: %s", tokenizer, error)
        except Exception as error:  # bytes from a store: whatever is wrong with them, requests are served
            logger.error("Tokenizer '%s' cannot be read, prompts are not counted: %s", tokenizer, error)
            self._loaded[tokenizer] = None
            return False
        loaded.no_truncation()
        loaded.no_padding()
        self._loaded[tokenizer] = loaded
        return True

    async def counted(
        self, snapshot: Snapshot, requested: str, prompt: Prompt, chat: Mapping[str, Any] | None = None
    ) -> Prompt:
        """`prompt` with its tokens by every tokenizer whose count decides whether a model can take it.

        `chat` is the body of a chat completion, which templates render.
        """
        if "vision" in prompt.needs:
            chat = None  # what a picture becomes, the engine alone knows
        needed = self.undecided(snapshot, requested, prompt, is_chat=chat is not None)
        if not needed:
            return prompt
        async with self._turn:
            longest = max(row.card.context_tokens for row in snapshot.models.values())
            counts = await asyncio.to_thread(self._count, needed, prompt, chat, longest)
            return replace(prompt, counts=counts)

    def undecided(
        self, snapshot: Snapshot, requested: str, prompt: Prompt, *, is_chat: bool = False
    ) -> set[str]:
        """Loaded tokenizers of the models of which the bounds do not say whether the prompt fits."""
        if prompt.tokens is not None:
            return set()
        named = snapshot.models.get(requested)
        cards = [row.card for row in (snapshot.models.values() if named is None else [named])]
        room = [(card, card.context_tokens - prompt.answer_tokens(card.context_tokens)) for card in cards]
        most = {card.tokenizer: self._most_tokens(card.tokenizer, prompt, is_chat) for card in cards}
        unsure = [(card.tokenizer, tokens) for card, tokens in room if tokens < most[card.tokenizer]]
        if not unsure:
            return set()
        least = prompt.least_tokens
        return {name for name, tokens in unsure if tokens >= least and self._loaded.get(name)}

    def _most_tokens(self, tokenizer: str, prompt: Prompt, is_chat: bool) -> int:
        """Tokens at most: a byte each, and all that a known template may write of its own."""
        template = self._templates.get(tokenizer) if is_chat else None
        if template is None:
            return prompt.most_tokens
        return prompt.most_rendered_tokens + template.most_chars

    def _count(
        self, tokenizers: set[str], prompt: Prompt, chat: Mapping[str, Any] | None, longest: int
    ) -> Mapping[str, int]:
        """Tokens of the longest prompt that are there for certain, by tokenizer; beyond the `longest` context
        it does not matter how many."""
        counts, seams = {}, _SEAM_TOKENS * prompt.turns
        for name in tokenizers:
            template = self._templates.get(name)
            rendered = template.rendered(chat) if template is not None and chat is not None else None
            loaded = self._loaded.get(name)
            if loaded is None:  # its model has left meanwhile
                continue
            if rendered is not None:
                counts[name] = _tokens(loaded, rendered, longest)
            else:
                counts[name] = max(0, _tokens(loaded, prompt.longest_text, longest + seams) - seams)
        return counts


def _tokens(tokenizer: Tokenizer, text: str, enough: int) -> int:
    """Tokens that are there for certain; of a long text, no more pieces are counted than show `enough`."""
    found, at = 0, 0
    while at < len(text) and found <= enough:
        end = _end(text, at)
        piece = text[at:end].encode("utf-8", "replace").decode()
        [encoded] = tokenizer.encode_batch_fast([piece], add_special_tokens=False)
        found += len(encoded.ids) - (_SEAM_TOKENS if at else 0)
        at = end
    return found


def _end(text: str, at: int) -> int:
    """Where the piece ends that begins at `at`: before a blank, where tokens end anyway, if there is one."""
    end = at + _PIECE_CHARS
    if end >= len(text):
        return len(text)
    blank = max(text.rfind(one, at + _PIECE_CHARS // 2, end) for one in (" ", "\n"))
    return blank if blank > 0 else end
