"""How engine `simulated` behaves: speed, limits, length of answers, faults."""

from pydantic import Field

from policies.strict import StrictModel


class SimulatedFaults(StrictModel):
    """Faults that can be switched while the replica runs, through the deployment's `user_config`."""

    # Share of requests that get 500.
    error_rate: float = Field(default=0.0, ge=0, le=1, examples=[0.1])
    # Share of requests that never get a byte.
    hang_rate: float = Field(default=0.0, ge=0, le=1, examples=[0.1])
    # Output token at which the connection breaks. Leave out for never.
    die_at_token: int | None = Field(default=None, ge=0, examples=[8])
    # Stop the engine's steps while requests run.
    stalled: bool = False


class SimulatedSettings(StrictModel):
    """A continuous-batching engine in numbers.

    A step takes `decode_step_s + decode_step_per_sequence_s * running +
    new prompt tokens / prefill_tokens_per_s`.
    """

    # Seed of the lengths and texts of answers.
    seed: int = 0
    # Seconds until a new replica is ready.
    startup_s: float = Field(default=0.0, ge=0, examples=[5.0])
    # Prompt tokens that the engine reads per second.
    prefill_tokens_per_s: float = Field(default=20_000.0, gt=0)
    # Seconds that one step takes without any sequence.
    decode_step_s: float = Field(default=0.01, ge=0)
    # Seconds that each running sequence adds to a step.
    decode_step_per_sequence_s: float = Field(default=0.0005, ge=0)
    # Sequences that run at once. Further sequences wait.
    max_sequences: int = Field(default=32, ge=1)
    # Tokens of all running sequences that fit the KV cache.
    kv_tokens: int = Field(default=65_536, ge=1)
    # Mean length of an answer in tokens. Lengths are geometric, within the `min_tokens` and `max_tokens` of a
    # request.
    mean_output_tokens: float = Field(default=64.0, ge=1)
    # Fixed answers: the last user message and the text that answers it.
    answers: dict[str, str] = Field(default_factory=dict, examples=[{"ping": "pong"}])
    # Faults that are active from the start.
    faults: SimulatedFaults = SimulatedFaults()
