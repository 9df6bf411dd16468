"""The simulated pool that speed is measured on: eight equal models, Poisson arrivals at 0.9 of capacity."""

from typing import Final

import numpy as np

from policies.simulator.arrivals import Trace, poisson
from policies.simulator.environment import DispatchVectorEnv
from policies.simulator.spec import ModelSpec, capacity_per_s
from policies.simulator.workload import Episode, episode_from_trace, synthetic_quality

MODELS: Final = 8
SLOTS: Final = 32
ENVIRONMENTS: Final = 64
_ROWS: Final = 4096
_LENGTH: Final = 4096
_PROMPT_TOKENS: Final = 550.0  # mean of an episode's
_OUTPUT_TOKENS: Final = 210.0


def models() -> list[ModelSpec]:
    """Eight equal models of 32 slots."""
    return [ModelSpec(f"model-{i}", slots=SLOTS) for i in range(MODELS)]


def draw_episode(rng: np.random.Generator, load: float = 0.9) -> Episode:
    """Poisson arrivals at `load` times the pool's capacity."""
    size = _LENGTH + 1
    rate = load * sum(capacity_per_s(model, _PROMPT_TOKENS, _OUTPUT_TOKENS) for model in models())
    prompt = rng.integers(100, 1000, size).astype(np.float64)
    output = rng.integers(20, 400, size).astype(np.float64)
    trace = Trace(poisson(rate, size, rng), prompt, output)
    return episode_from_trace(trace, np.arange(_ROWS), np.array([1.0, 1.0, 0.2, 10.0]), 0.6, rng)


def make_env(seed: int, environments: int = ENVIRONMENTS) -> DispatchVectorEnv:
    """The measured environment."""
    return DispatchVectorEnv(
        models(), synthetic_quality(MODELS, _ROWS, 0), draw_episode, environments, seed=seed
    )
