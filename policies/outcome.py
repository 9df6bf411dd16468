"""What came of one request, and the transition that learning reads."""

from dataclasses import dataclass
from enum import StrEnum

from policies.decision import Decision
from policies.observation import Observation


class Status(StrEnum):
    """How a request ended. Only OK and FAILED say something about the model."""

    OK = "ok"
    FAILED = "failed"  # the model's or engine's fault: error, timeout, broken stream
    REJECTED = "rejected"  # the caller's fault (4xx), or no room (429; see Outcome.is_shed)
    CANCELLED = "cancelled"  # the client left


@dataclass(frozen=True, slots=True)
class Outcome:
    """One finished request. Times in seconds; None where it never came to be."""

    status: Status
    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None
    queue_s: float | None = None
    prompt_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    error_code: str | None = None
    attempts: int = 1  # tries until the answer; above 1 the decision's own model did not answer
    quality: float | None = None  # score in [0, 1] when evaluation or feedback knows it
    tokens_estimated: bool = False  # the engine did not say them: counted from what was relayed
    is_shed: bool = False  # of a rejected one: nothing had room for it in time, whatever it asked
    hedges: int = 0  # tries beside these, at another replica of the same model, because one was late
    hedged_tokens: int = 0  # of the tries that another one outran; no caller pays for them


@dataclass(frozen=True, slots=True)
class Transition:
    """Observation, action with propensity, outcome, reward: the unit of off-policy learning."""

    observation: Observation
    decision: Decision
    outcome: Outcome
    reward: float
