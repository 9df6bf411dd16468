"""One request on its way through the pool: what was asked of it, and what came of it."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final, Protocol

from deployments.dispatch.dispatch import Dispatch
from deployments.keys.entries import Priority
from deployments.keys.key import Key
from policies.observation import E2E_S, PROMPT_TOKENS, TTFT_S
from policies.outcome import Outcome, Status
from serve_app.body.calls import Call
from serve_app.upstream.transcript import Tokens
from serve_app.waiting.room import Place, Visit

_LEAST_COST_S: Final = 0.001  # of a slot


@dataclass(slots=True)
class Result:
    """What came of a request; filled in as it goes, so that it is true whenever the client leaves."""

    status: Status = Status.FAILED
    model: str = ""
    replica: str = ""
    attempts: int = 0
    fallbacks: list[str] = field(default_factory=list)  # models that failed before, in order
    http_status: int = 0  # what the client saw; 0 while nothing was sent
    first_byte_s: float | None = None  # loop times
    sent_s: float | None = None  # when the first try went out
    waited_s: float = 0.0  # for slots of models
    prompt_tokens: int = 0
    output_tokens: int = 0
    tokens_estimated: bool = False  # counted from the text that was relayed: no usage came
    error_code: str | None = None
    is_shed: bool = False  # nothing had room for it in time
    hedges: int = 0  # tries beside another one
    hedged_tokens: int = 0  # read and written by tries that another one outran

    def shed(self) -> None:
        """It is refused for lack of room: no fault of a model's or of the caller's."""
        self.status, self.is_shed = Status.REJECTED, True

    def sent_to(self, model: str, replica: str) -> None:
        """A try begins there, after those before."""
        self.attempts += 1
        self.model, self.replica = model, replica

    def count(self, tokens: Tokens) -> None:
        """Take the answer's token counts."""
        self.prompt_tokens, self.output_tokens, self.tokens_estimated = tokens

    def outcome(self, began_s: float, ended_s: float, cost_usd: float) -> Outcome:
        """As learning reads it."""
        ttft_s = None if self.first_byte_s is None else self.first_byte_s - began_s
        tpot_s = None
        if self.first_byte_s is not None and self.output_tokens > 1:
            tpot_s = (ended_s - self.first_byte_s) / (self.output_tokens - 1)
        return Outcome(
            status=self.status,
            ttft_s=ttft_s,
            tpot_s=tpot_s,
            e2e_s=ended_s - began_s,
            prompt_tokens=self.prompt_tokens,
            output_tokens=self.output_tokens,
            cost_usd=cost_usd,
            error_code=self.error_code,
            attempts=max(self.attempts, 1),
            tokens_estimated=self.tokens_estimated,
            is_shed=self.is_shed,
            hedges=self.hedges,
            hedged_tokens=self.hedged_tokens,
        )


class Trace(Protocol):
    """What a request shows of itself where it is traced; serve_app.tracing has it."""

    headers: Mapping[str, str]  # for the model: the context of the try that is under way

    def attempt(self, model: str, replica: str, result: Result, now_s: float) -> AbstractContextManager[None]:
        """One try, as long as the context lasts."""

    def finished(self, result: Result) -> None:
        """What the whole request came to."""


@dataclass(slots=True)
class Job:
    """One request after dispatch, which decided what is tried in which order. Times are the loop's."""

    call: Call
    raw: bytes
    dispatch: Dispatch
    began_s: float
    limit_s: float  # seconds allowed in all, for the message
    key: Key
    headers: list[tuple[bytes, bytes]]  # of the answer, whoever gives it
    with_limit: bool = True  # a default limit on the answer is sent; not where it leaves the prompt no room
    result: Result = field(default_factory=Result)
    trace: Trace | None = None
    place: Place | None = None  # at a model, of the tries that go there

    @property
    def decision_id(self) -> str:
        """The decision's id, under which engine, log and feedback know the request."""
        return self.dispatch.request.decision_id

    @property
    def deadline_s(self) -> float:
        """Loop time at which the whole request must be over."""
        return self.began_s + self.limit_s

    @property
    def priority(self) -> Priority:
        """What was asked for, but never above the key's."""
        return "batch" if self.dispatch.request.preferences.is_batch else self.key.priority

    def visit(self, model: str) -> Visit:
        """What the waiting room has to know of the request, to give it a place at `model`."""
        key, cost_s = self.key, max(self._work_s(model), _LEAST_COST_S)
        return Visit(model, key.key_id, key.weight, self.priority, cost_s, self.deadline_s)

    def _work_s(self, model: str) -> float:
        """Seconds that `model` is predicted to read the prompt and write the answer; 0: nobody knows it."""
        observed, columns = self.dispatch.observation, self.dispatch.columns
        index = columns.index.get(model)
        if index is None:
            return 0.0
        row, first = observed.rows[index], columns.latency.first_token(index)
        reading_s = first.reading_s(float(observed.prompt[PROMPT_TOKENS]), 0.0)
        return reading_s + float(row[E2E_S] - row[TTFT_S])

    @property
    def prompt_tokens(self) -> int:
        """Length of the prompt as it is known before the engine counts it."""
        return self.call.prompt.estimated_tokens
