"""What the bandit baselines read of an observation: one vector a model, and a coarse kind of prompt."""

from typing import Final

import numpy as np

from policies.arrays import F64
from policies.baselines.simple import load
from policies.observation import PROMPT_COLUMN, Observation

CONTEXT_SIZE: Final = 14
_SHARES: Final = PROMPT_COLUMN["cjk_share"]


def prompt_vector(observation: Observation) -> F64:
    """[7] the prompt alone: log length / 10, then shares and hints."""
    head = [np.log1p(observation.prompt_field("prompt_tokens")) / 10.0]
    head.append(np.log1p(observation.prompt_field("turns")) / 3.0)
    return np.concatenate([head, observation.prompt[_SHARES:]])


def context(observation: Observation) -> F64:
    """[M, 14] prompt, normalised caller weights, and the predicted quality, latency and load."""
    m = len(observation.models)
    x = np.empty((m, CONTEXT_SIZE))
    x[:, 0] = 1.0
    x[:, 1] = observation.column("accuracy")
    x[:, 2] = np.log1p(observation.column("e2e_s"))
    x[:, 3] = np.minimum(load(observation), 4.0)
    weights = observation.caller[:3]
    x[:, 4:7] = weights / max(float(weights.sum()), 1e-9)
    x[:, 7:] = prompt_vector(observation)
    return x


def prompt_kind(observation: Observation) -> str:
    """A coarse label from the prompt's hints, such as `code` or `cjk+structure`; `text` where none holds."""
    hints = {"code": "code_hint", "maths": "maths_hint", "structure": "structure_hint", "cjk": "cjk_share"}
    kinds = [kind for kind, field in hints.items() if observation.prompt_field(field) > 0.2]
    return "+".join(kinds) or "text"
