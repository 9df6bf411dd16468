"""One request as dispatch reads it: the prompt, the caller's preferences, and the key behind it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from deployments.records.operation import WORDLESS
from policies.profile import Profile
from policies.prompt.token_bounds import least_tokens
from policies.utility import Weights

CHARS_PER_TOKEN: Final = 4  # of ordinary English
_TEMPLATE_TOKENS: Final = 16  # around a message: its role and marks, in any template that is known
_STRUCTURED: Final = frozenset({"json", "tools"})


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is to be answered, reduced to what a choice of model depends on."""

    text: str = ""  # all of it as one string
    turns: int = 1
    max_tokens: int | None = None  # the caller's limit on the answer
    needs: frozenset[str] = frozenset()  # capabilities
    tokens: int | None = None  # where the prompt came as token ids
    longest: str | None = None  # of several prompts in one request; None: `text` is one prompt
    longest_tokens: int | None = None  # the same where they came as token ids
    extra_chars: int = 0  # of tools and their calls, which the chat template turns into prompt
    tools: bytes = b""  # as JSON: chat templates put them before the messages
    counts: Mapping[str, int] | None = None  # tokens for certain by tokenizer, where the bounds do not decide
    conversation: str = ""  # hash of how the conversation begins, and of whom the client says it is with
    continues: bool = False  # a model has answered in it before
    uses_tools: bool = False  # tools may be called, or were called before

    @property
    def is_structured(self) -> bool:
        """Whether JSON, a schema or tools are requested."""
        return not self.needs.isdisjoint(_STRUCTURED)

    @property
    def generates(self) -> bool:
        """Whether an answer is written, not only numbers made of the texts."""
        return self.needs.isdisjoint(WORDLESS)

    @property
    def longest_text(self) -> str:
        """The text that a context must hold as a whole."""
        return self.text if self.longest is None else self.longest

    @property
    def least_tokens(self) -> int:
        """Tokens that the context must hold at least, whatever the tokenizer."""
        if self.tokens is not None:
            return self.tokens if self.longest_tokens is None else self.longest_tokens
        return least_tokens(self.longest_text)

    @property
    def most_tokens(self) -> int:
        """Tokens that the longest text has at most: a byte each."""
        text = self.longest_text
        return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))

    @property
    def most_rendered_tokens(self) -> int:
        """Tokens that the context must hold at most: the text, and what a chat template turns into prompt:
        tools, calls of them, and a few tokens of its own around each message."""
        return self.most_tokens + self.extra_chars + _TEMPLATE_TOKENS * self.turns

    @property
    def estimated_tokens(self) -> int:
        """Tokens in all, as in plain English; no more than a guess unless they came as ids."""
        if self.tokens is not None:
            return self.tokens
        return (len(self.text) + self.extra_chars) // CHARS_PER_TOKEN

    @property
    def likely_tokens(self) -> int:
        """Tokens that the context probably has to hold: the same guess for the longest prompt."""
        if self.tokens is not None:
            return self.least_tokens
        return (len(self.longest_text) + self.extra_chars) // CHARS_PER_TOKEN

    def answer_tokens(self, context_tokens: float) -> int:
        """Tokens of the answer for which a context must have room: a limit at or over it does not bind."""
        if self.max_tokens is not None and self.max_tokens < context_tokens:
            return self.max_tokens
        return 1 if self.generates else 0


@dataclass(frozen=True, slots=True)
class Preferences:
    """What the caller prefers; None where nothing is said. `deadline_s` bounds the whole request."""

    weights: Weights | None = None  # instead of the profile's
    models: tuple[str, ...] | None = None  # only these
    max_latency_s: float | None = None
    max_cost_usd: float | None = None
    deadline_s: float | None = None
    session: str | None = None
    is_batch: bool = False  # may wait behind the requests that somebody waits for


NO_PREFERENCES: Final = Preferences()


@dataclass(frozen=True, slots=True)
class DispatchRequest:
    """`requested` is "auto", "auto:<profile>" or a model id; `key_models` None: the key may use all."""

    decision_id: str
    requested: str
    prompt: Prompt
    preferences: Preferences = NO_PREFERENCES
    key_id: str = ""
    key_models: tuple[str, ...] | None = None
    team: str = ""  # of the key
    ingress: str = ""  # the replica that the request came to
    dollar_limit: str = ""  # a limit in dollars that binds it, as operators know it; "" where none does

    def allows(self, model: str) -> bool:
        """Whether neither the key nor the caller's own list leaves `model` out."""
        lists = (self.key_models, self.preferences.models)
        return all(models is None or model in models for models in lists)

    def session_key(self, profile: Profile) -> str | None:
        """Under what the session's model is remembered; None for a request that belongs to none.

        The caller's own name of the session, else how the conversation begins.
        """
        session = self.preferences.session
        if not session and not self.prompt.conversation:
            return None
        kind = "named" if session else "begun"
        return f"{profile.name}\0{self.key_id}\0{kind}\0{session or self.prompt.conversation}"

    def is_bound(self, profile: Profile) -> bool:
        """Whether the session must keep its model: the profile says so, or tools may be called in it."""
        return self.prompt.uses_tools or (profile.sticky and bool(self.preferences.session))

    @property
    def is_continued(self) -> bool:
        """Whether the session had a model before, which is then preferred."""
        return self.prompt.continues or bool(self.preferences.session)


class UnknownModelError(LookupError):
    """A request named a model that is not served."""

    def __init__(self, model: str, served: tuple[str, ...]) -> None:
        listed = ", ".join(f"'{name}'" for name in served) or "none"
        super().__init__(f"Model '{model}' is not served. Served: {listed}.")
        self.model = model
        self.served = served
