"""What the load benchmarks share: the pool, the two stretches of the trace, the quality of each prompt."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from policies.arrays import I64
from policies.simulator.arrivals import Trace, read_trace, synthetic_trace
from policies.simulator.environment import DispatchVectorEnv
from policies.simulator.scenario import Scenario, ScenarioMix, pool_capacity_per_s
from policies.simulator.scored_prompts import scored_prompts, synthetic_prompts
from policies.simulator.simulator import QueueSimulator
from policies.simulator.spec import ModelSpec
from policies.simulator.workload import Episode, QualityTable
from scripts.benchmarks.load.pool import CALLER, DEADLINE_S, pool

SYNTHETIC_MODELS = 8
SYNTHETIC_ROWS = 6000
TRAIN_SHARE = 0.7  # of the trace; the rest is scored
LENGTH_SKILL = 0.6  # correlation of predicted and true log answer length


@dataclass(frozen=True, slots=True)
class Study:
    """One pool with its table, and disjoint stretches to train on and to score on."""

    models: tuple[ModelSpec, ...]
    table: QualityTable
    tasks: tuple[str, ...]  # per row; "" where none is known
    train: Trace
    test: Trace
    train_rows: I64
    test_rows: I64
    capacity: float
    cost_scale_usd: float

    def simulator(self, pools: int = 1) -> QueueSimulator:
        """An empty simulator of this pool."""
        return QueueSimulator(
            self.models,
            self.table,
            pools,
            deadline_s=DEADLINE_S,
            cost_scale_usd=self.cost_scale_usd,
            requests_kept=16384,
        )

    def episode(self, scenario: Scenario, seed: int, *, train: bool, requests: int | None = None) -> Episode:
        """The scenario over one stretch; `seed` fixes the pairing with prompts and synthetic times."""
        trace = self.train if train else self.test
        if requests is not None and requests + 1 < len(trace):
            trace = Trace(
                *(a[: requests + 1] for a in (trace.arrival_s, trace.prompt_tokens, trace.output_tokens))
            )
        rows = self.train_rows if train else self.test_rows
        rng = np.random.default_rng([seed, int(train)])
        return scenario.episode(trace, self.capacity, rows, CALLER, LENGTH_SKILL, rng)

    def mix(self, length: int = 2048) -> ScenarioMix:
        """Training episodes from the training stretch."""
        size = min(length, len(self.train) - 1)
        return ScenarioMix(
            self.train, self.capacity, self.train_rows, CALLER, length=size, skill=LENGTH_SKILL
        )


@dataclass(frozen=True, slots=True)
class MakeEnv:
    """Picklable factory of the training environment: seed -> environment."""

    study: Study
    num_envs: int = 64
    length: int = 2048
    blind: bool = False

    def __call__(self, seed: int) -> DispatchVectorEnv:
        """N pools that draw from the study's training stretch."""
        study = self.study
        return DispatchVectorEnv(
            study.models, study.table, study.mix(self.length), self.num_envs, seed=seed,
            deadline_s=DEADLINE_S, cost_scale_usd=study.cost_scale_usd, blind=self.blind,
        )  # fmt: skip


def make_study(arrivals: Path | None, quality: Path | None, seed: int = 1) -> Study:
    """The study for a trace (synthetic without one) and a quality file (synthetic without one)."""
    trace = read_trace(arrivals) if arrivals is not None else synthetic_trace(20_000, seed)
    if quality is None:
        prompts = synthetic_prompts(SYNTHETIC_MODELS, SYNTHETIC_ROWS, seed)
    else:
        prompts = scored_prompts(quality, seed)
    models = tuple(pool(prompts.table.score[prompts.train_rows].mean(axis=0), prompts.names))
    prompt, output = float(trace.prompt_tokens.mean()), float(trace.output_tokens.mean())
    return Study(
        models=models,
        table=prompts.table,
        tasks=prompts.tasks,
        train=trace.part(0.0, TRAIN_SHARE),
        test=trace.part(TRAIN_SHARE, 1.0),
        train_rows=prompts.train_rows,
        test_rows=prompts.test_rows,
        capacity=pool_capacity_per_s(models, trace),
        cost_scale_usd=max(model.cost_usd(prompt, output) for model in models),
    )
