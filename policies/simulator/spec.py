"""The simulated pool: per model, how fast an engine prefills and decodes, how it scales and fails."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
import numpy.typing as npt

from policies.cost import cost_usd

Params = npt.NDArray[np.void]  # [M] structured, one field per parameter of a ModelSpec


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Parameters of one simulated model; every field after `name` is a field of `params`.

    One engine step with b decoding sequences and c prompt tokens of a prefill chunk takes
    `step_base_s + step_per_sequence_s * b + c / prefill_tokens_per_s` seconds and gives each
    decoding sequence one token: continuous batching with chunked prefill, as vLLM schedules it.
    """

    name: str
    prefill_tokens_per_s: float = 8000.0
    step_base_s: float = 0.02
    step_per_sequence_s: float = 0.0005
    overhead_s: float = 0.01  # network and tokenizer, added to every TTFT and end-to-end time
    output_scale: float = 1.0  # this model's answers are that much longer than the recorded ones
    slots: float = 32.0  # sequences one replica decodes or prefills at once
    kv_tokens: float = 200_000.0  # prompt + answer tokens that fit one replica's cache
    chunk_tokens: float = 2048.0
    prompt_usd_per_mtok: float = 0.1
    completion_usd_per_mtok: float = 0.4
    weight: float = 1.0  # w_i of the formula
    min_replicas: float = 1.0
    max_replicas: float = 1.0
    scale_in_flight: float = 32.0  # in-flight requests per replica that autoscaling aims at
    upscale_delay_s: float = 10.0
    downscale_delay_s: float = 60.0
    cold_start_s: float = 30.0
    failures_per_s: float = 0.0  # rate at which one warm replica dies and starts cold again

    def __post_init__(self) -> None:
        for name in (
            "prefill_tokens_per_s",
            "step_base_s",
            "output_scale",
            "chunk_tokens",
            "scale_in_flight",
        ):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"Model '{self.name}': {name} is {getattr(self, name)}, must be above 0.")
        if self.slots < 1 or not 0 <= self.min_replicas <= self.max_replicas or self.max_replicas < 1:
            raise ValueError(
                f"Model '{self.name}': needs slots >= 1 and 0 <= min_replicas <= max_replicas >= 1."
            )

    def cost_usd(self, prompt_tokens: float, output_tokens: float) -> float:
        """The price of a request whose answer has `output_tokens` before this model's `output_scale`."""
        output = output_tokens * self.output_scale
        return cost_usd(prompt_tokens, output, self.prompt_usd_per_mtok, self.completion_usd_per_mtok)


PARAMS: Final = np.dtype([(f.name, np.float64) for f in fields(ModelSpec) if f.name != "name"])


def params(models: Sequence[ModelSpec]) -> Params:
    """[M] the specs as one structured array, fields of PARAMS."""
    names = PARAMS.names or ()
    return np.array([tuple(getattr(model, name) for name in names) for model in models], dtype=PARAMS)


def step_s(model: ModelSpec, batch: float) -> float:
    """Seconds of one decode step with `batch` sequences and no prefill."""
    return model.step_base_s + model.step_per_sequence_s * batch


def capacity_per_s(model: ModelSpec, prompt_tokens: float, output_tokens: float) -> float:
    """Requests/s that all `max_replicas` of a model sustain with full batches at these mean lengths.

    With full batches every step gives `slots` tokens; each request adds its prefill time once:
    1 / capacity = prompt / prefill_rate + output * step_s(slots) / slots.
    """
    output = output_tokens * model.output_scale
    busy_s = prompt_tokens / model.prefill_tokens_per_s + output * step_s(model, model.slots) / model.slots
    return model.max_replicas / busy_s
