"""One request on its way through the pool: what was asked of it, and what came of it."""

from dataclasses import dataclass, field

from deployments.dispatch.dispatch import Dispatch
from policies.outcome import Outcome, Status
from serve_app.body.calls import Call
from serve_app.upstream.transcript import Tokens


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
    prompt_tokens: int = 0
    output_tokens: int = 0
    tokens_estimated: bool = False  # counted from the text that was relayed: no usage came
    error_code: str | None = None

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
        )


@dataclass(slots=True)
class Job:
    """One request after dispatch, which decided what is tried in which order. Times are the loop's."""

    call: Call
    raw: bytes
    dispatch: Dispatch
    began_s: float
    limit_s: float  # seconds allowed in all, for the message
    cache_salt: str
    headers: list[tuple[bytes, bytes]]  # of the answer, whoever gives it
    with_limit: bool = True  # a default limit on the answer is sent; not where it leaves the prompt no room
    result: Result = field(default_factory=Result)

    @property
    def decision_id(self) -> str:
        """The decision's id, under which engine, log and feedback know the request."""
        return self.dispatch.request.decision_id

    @property
    def deadline_s(self) -> float:
        """Loop time at which the whole request must be over."""
        return self.began_s + self.limit_s

    @property
    def prompt_tokens(self) -> int:
        """Length of the prompt as it is known before the engine counts it."""
        return self.call.prompt.estimated_tokens
