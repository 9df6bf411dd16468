"""The requests of a simulated pool: episodes, and the table of prompts with their qualities."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from policies.arrays import F64
from policies.observation import PROMPT_FIELDS
from policies.simulator.arrivals import Trace
from policies.simulator.spec import Params


@dataclass(frozen=True, slots=True)
class Episode:
    """T requests and one more that is only observed.

    Shapes [T + 1] each: arrival times in seconds (ascending), prompt tokens, true output tokens
    before a model's own scale, predicted output tokens, row of the quality table. `caller` [4]
    holds CALLER_FIELDS. `params` [M] overrides the pool's parameters for this episode.
    """

    arrival_s: F64
    prompt_tokens: F64
    output_tokens: F64
    predicted_tokens: F64
    row: npt.NDArray[np.int64]
    caller: F64
    params: Params | None = None

    def __post_init__(self) -> None:
        size = self.arrival_s.shape[0]
        if size < 2:
            raise ValueError(f"An episode has {size} requests, needs at least 2.")
        if np.any(np.diff(self.arrival_s) < 0.0):
            raise ValueError("arrival_s of an episode must not descend.")
        for name in ("prompt_tokens", "output_tokens", "predicted_tokens", "row"):
            if getattr(self, name).shape != (size,):
                raise ValueError(
                    f"{name} of an episode has shape {getattr(self, name).shape}, needs ({size},)."
                )


EpisodeSource = Callable[[np.random.Generator], Episode]  # draws one episode


@dataclass(frozen=True, slots=True)
class QualityTable:
    """Q prompts at M models: `score` [Q, M] of the answers, `accuracy` and `accuracy_std` [Q, M]
    as they stand in observations, `prompt` [Q, P] the prompt's PROMPT_FIELDS."""

    score: F64
    accuracy: F64
    accuracy_std: F64
    prompt: F64

    def __post_init__(self) -> None:
        rows = self.score.shape[0]
        if self.score.shape != self.accuracy.shape or self.score.shape != self.accuracy_std.shape:
            raise ValueError("score, accuracy and accuracy_std of a quality table need one shape [Q, M].")
        if self.prompt.shape != (rows, len(PROMPT_FIELDS)):
            raise ValueError(f"prompt has shape {self.prompt.shape}, needs ({rows}, {len(PROMPT_FIELDS)}).")

    @property
    def models(self) -> int:
        """M."""
        return int(self.score.shape[1])

    def expected(self) -> "QualityTable":
        """The same with the predicted score as the score of every answer."""
        return QualityTable(self.accuracy, self.accuracy, self.accuracy_std, self.prompt)


def synthetic_quality(models: int, rows: int, seed: int) -> QualityTable:
    """Prompts of six tasks with a latent difficulty; later models are stronger.

    p = sigmoid(2.5 * strength_m + affinity_{task, m} - 2.5 * (difficulty - 0.5) + 0.4), strength in
    [-0.4, 0.6], affinity ~ N(0, 0.5), difficulty ~ Beta(2, 2); score ~ Bernoulli(p). The prediction
    is p seen through noise of 0.7 on the logit, shrunk to stay calibrated.
    """
    rng = np.random.default_rng([seed, 1])
    strength = np.linspace(-0.4, 0.6, models)
    affinity = rng.normal(0.0, 0.5, (6, models))
    task = rng.integers(0, 6, rows)
    logit = 2.5 * strength + affinity[task] - 2.5 * (rng.beta(2.0, 2.0, rows)[:, None] - 0.5) + 0.4
    p = 1.0 / (1.0 + np.exp(-logit))
    score = (rng.random(p.shape) < p).astype(np.float64)
    centre = logit.mean(axis=0)
    spread = logit.std(axis=0)
    shrink = spread**2 / (spread**2 + 0.7**2)
    noisy = centre + shrink * (logit + rng.normal(0.0, 0.7, p.shape) - centre)
    accuracy = 1.0 / (1.0 + np.exp(-noisy))
    prompt = np.zeros((rows, len(PROMPT_FIELDS)))
    prompt[:, 2] = 1.0
    return QualityTable(score, accuracy, np.full_like(p, 0.1), prompt)


def predicted_lengths(output_tokens: F64, skill: float, rng: np.random.Generator) -> F64:
    """Predicted answer lengths whose logarithm correlates by `skill` with the true one, calibrated:
    the expected log length given the prediction is the prediction's."""
    logs = np.log(np.maximum(output_tokens, 1.0))
    mean, std = float(logs.mean()), float(logs.std())
    noise = rng.normal(0.0, 1.0, logs.shape) * skill * std * np.sqrt(max(1.0 - skill**2, 0.0))
    predicted: F64 = np.exp(mean + skill**2 * (logs - mean) + noise + 0.5 * std**2 * (1.0 - skill**2))
    return predicted


def episode_from_trace(
    trace: Trace, rows: npt.NDArray[np.int64], caller: F64, skill: float, rng: np.random.Generator
) -> Episode:
    """Pair a trace's requests with prompts drawn from `rows` by the generator's seed."""
    return Episode(
        arrival_s=trace.arrival_s,
        prompt_tokens=trace.prompt_tokens,
        output_tokens=trace.output_tokens,
        predicted_tokens=predicted_lengths(trace.output_tokens, skill, rng),
        row=rng.choice(rows, size=trace.arrival_s.shape[0]),
        caller=caller,
    )
