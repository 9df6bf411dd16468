"""How engine `simulated` behaves: speed, limits, length of answers, faults."""

from pydantic import Field

from deployments.strict import StrictModel


class SimulatedFaults(StrictModel):
    """Faults that can be switched while the replica runs, through the deployment's `user_config`."""

    error_rate: float = Field(default=0.0, ge=0, le=1)  # share of requests answered 500
    hang_rate: float = Field(default=0.0, ge=0, le=1)  # share of requests that never get a byte
    # output token at which the connection breaks; None: never
    die_at_token: int | None = Field(default=None, ge=0)
    stalled: bool = False  # the engine makes no step


class SimulatedSettings(StrictModel):
    """A continuous-batching engine in numbers.

    A step takes `decode_step_s + decode_step_per_sequence_s * running +
    new prompt tokens / prefill_tokens_per_s`.
    """

    seed: int = 0  # of lengths and texts
    startup_s: float = Field(default=0.0, ge=0)  # seconds until it is ready
    prefill_tokens_per_s: float = Field(default=20_000.0, gt=0)  # prompt tokens read a second
    decode_step_s: float = Field(default=0.01, ge=0)  # seconds of one step
    decode_step_per_sequence_s: float = Field(default=0.0005, ge=0)  # seconds more for each running sequence
    max_sequences: int = Field(default=32, ge=1)  # sequences that run at once; more wait
    kv_tokens: int = Field(default=65_536, ge=1)  # tokens of all sequences that fit its cache
    mean_output_tokens: float = Field(default=64.0, ge=1)  # of the geometric length, cut at max_tokens
    answers: dict[str, str] = Field(default_factory=dict)  # last user message -> answer
    faults: SimulatedFaults = SimulatedFaults()  # faults from the start
