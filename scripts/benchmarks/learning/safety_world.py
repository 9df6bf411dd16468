"""A small world with known truth, in which good and bad policy candidates are drawn for the gates."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from policies.arrays import F64, I64
from policies.promotion.gates import LiveLog, PairedEvidence, Simulated
from policies.promotion.ope import Log

MODELS = 3
TASKS = ("intent", "extraction", "writing", "arithmetic")
LANGUAGES = ("en", "zh")
SPEED = np.array([1.0, 0.45, 0.2])  # relative speed of each model
CAPACITY = np.array([9.0, 4.0, 2.0])  # requests/s of each model
ACCURACY_WEIGHT, SPEED_WEIGHT = 0.7, 0.3
EXPLORATION = 0.05
SHARPNESS = 12.0
FLUID_RATE = 6.0  # requests/s before a burst

Chooser = Callable[["Prompts"], F64]


@dataclass(frozen=True, slots=True)
class Prompts:
    """[N] prompts: `group` index of task and language, `quality` [N, M] true chance of a right answer,
    `known` [N, M] what the quality model predicts of it, `suite`: whether they are evaluation items."""

    group: I64
    quality: F64
    known: F64
    suite: bool

    def __len__(self) -> int:
        return len(self.group)

    def worth(self, answers: F64) -> F64:
        """[N, M] utility in [0, 1] of answers with scores [N, M]."""
        return ACCURACY_WEIGHT * answers + SPEED_WEIGHT * SPEED

    def labels(self) -> dict[str, list[str]]:
        """The slices of gate A."""
        tasks, languages = np.divmod(self.group, len(LANGUAGES))
        return {"task": [TASKS[t] for t in tasks], "language": [LANGUAGES[i] for i in languages]}


def softmax(utility: F64) -> F64:
    """[N, M] probabilities at the world's sharpness."""
    weights = np.exp(SHARPNESS * (utility - utility.max(axis=1, keepdims=True)))
    return weights / weights.sum(axis=1, keepdims=True)


class World:
    """Draws prompts, answers, logs and simulated bursts."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.base = np.clip(
            np.array([0.35, 0.55, 0.7]) + rng.normal(0.0, 0.12, (len(TASKS) * len(LANGUAGES), MODELS)),
            0.05,
            0.95,
        )

    def prompts(self, count: int, rng: np.random.Generator, suite: bool) -> Prompts:
        """A draw of prompts; suites and traffic come from the same distribution."""
        group = rng.integers(0, len(self.base), count)
        quality = np.clip(self.base[group] + rng.normal(0.0, 0.22, (count, MODELS)), 0.02, 0.98)
        known = np.clip(quality + rng.normal(0.0, 0.25, (count, MODELS)), 0.0, 1.0)
        return Prompts(group, quality, known, suite)

    def paired(self, candidate: Chooser, count: int, seed: int) -> PairedEvidence:
        """Graded answers of all models to `count` suite items."""
        rng = np.random.default_rng([seed, 1])
        prompts = self.prompts(count, rng, suite=True)
        graded = rng.binomial(1, prompts.quality).astype(np.float64)
        usual = incumbent(prompts)
        return PairedEvidence(candidate(prompts), usual, usual, prompts.worth(graded), prompts.labels())

    def live(self, candidate: Chooser, count: int, seed: int) -> LiveLog:
        """A log under the incumbent with exploration, and what the candidate would have done."""
        rng = np.random.default_rng([seed, 2])
        prompts = self.prompts(count, rng, suite=False)
        usual = incumbent(prompts)
        logging = (1.0 - EXPLORATION) * usual + EXPLORATION / MODELS
        actions = (rng.random((count, 1)) > logging.cumsum(axis=1)).sum(axis=1).clip(0, MODELS - 1)
        graded = rng.binomial(1, prompts.quality).astype(np.float64)
        rewards = prompts.worth(graded)[np.arange(count), actions]
        log = Log(actions, rewards, logging, prompts.worth(prompts.known))
        return LiveLog(log, candidate(prompts), usual)

    def simulated(
        self, candidate: Chooser, flattery: float, seed: int, episodes: int = 24
    ) -> dict[str, Simulated]:
        """Bursts in a fluid model of the queues: load above capacity costs the speed share of the utility."""
        rng = np.random.default_rng([seed, 3])
        found: dict[str, list[float]] = {
            "candidate": [],
            "incumbent": [],
            "least loaded": [],
            "best single": [],
        }
        for _ in range(episodes):
            prompts = self.prompts(300, rng, suite=False)
            burst = FLUID_RATE * rng.uniform(0.8, 1.4)
            spread = np.tile(CAPACITY / CAPACITY.sum(), (len(prompts), 1))
            single = np.zeros_like(spread)
            single[:, int(prompts.worth(prompts.quality).mean(axis=0).argmax())] = 1.0
            found["candidate"].append(_burst(prompts, candidate(prompts), burst) + flattery)
            found["incumbent"].append(_burst(prompts, incumbent(prompts), burst))
            found["least loaded"].append(_burst(prompts, spread, burst))
            found["best single"].append(_burst(prompts, single, burst))
        arrays = {name: np.array(values) for name, values in found.items()}
        return {"burst": Simulated(arrays.pop("candidate"), arrays)}


def _burst(prompts: Prompts, choice: F64, rate: float) -> float:
    """Mean utility of an episode whose queues grow where load exceeds capacity."""
    load = rate * choice.mean(axis=0) / CAPACITY
    slowed = np.minimum(1.0 / np.maximum(load, 1e-9), 1.0)
    value = (
        ACCURACY_WEIGHT * prompts.quality + SPEED_WEIGHT * SPEED * slowed - 0.3 * np.maximum(load - 1.0, 0.0)
    )
    return float((choice * value).sum(axis=1).mean())


def incumbent(prompts: Prompts) -> F64:
    """[N, M] the formula over what the quality model predicts."""
    return softmax(prompts.worth(prompts.known))
