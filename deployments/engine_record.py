"""What an engine measured of one finished request; joined with the ingress's outcome by decision id."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineRecord:
    """One finished request as its engine saw it. Times in seconds since the engine received it.

    `queue_s` is the wait for a slot, `prefill_s` the time from there to the first token, `ttft_s` their sum.
    """

    decision_id: str
    prompt_tokens: int = 0
    output_tokens: int = 0
    queue_s: float | None = None
    prefill_s: float | None = None
    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None
    cached_tokens: int = 0  # prompt tokens found in the prefix cache
    finish_reason: str = ""
