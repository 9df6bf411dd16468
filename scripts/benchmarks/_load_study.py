"""What the load benchmarks share: the pool, the two stretches of the trace, the quality of each prompt."""

import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from policies.arrivals import Trace, poisson, read_trace
from policies.features import PromptFeatures, extract
from policies.observation import PROMPT_FIELDS, FloatArray
from policies.pool_spec import ModelSpec
from policies.quality_data import QualityData
from policies.quality_training import fit
from policies.queue_simulator import QueueSimulator
from policies.scenario import Scenario, ScenarioMix, pool_capacity_per_s
from policies.vector_environment import DispatchVectorEnv
from policies.workload import Episode, QualityTable, synthetic_quality
from scripts.benchmarks._load_pool import CALLER, DEADLINE_S, mean_cost_usd, pool

Rows = npt.NDArray[np.int64]
SYNTHETIC_MODELS = 8
SYNTHETIC_ROWS = 6000
MOST_MODELS = 9
LENGTH_SKILL = 0.6  # correlation of predicted and true log answer length


@dataclass(frozen=True, slots=True)
class Study:
    """One pool with its table, and disjoint stretches to train on and to score on."""

    models: tuple[ModelSpec, ...]
    table: QualityTable
    tasks: tuple[str, ...]  # per row; "" where none is known
    train: Trace
    test: Trace
    train_rows: Rows
    test_rows: Rows
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


def make_study(arrivals: Path | None, quality: Path | None, seed: int = 0) -> Study:
    """The study for a trace (synthetic Poisson without one) and a quality file (synthetic without one)."""
    trace = read_trace(arrivals) if arrivals is not None else synthetic_trace(20_000, seed)
    table, tasks, names, train_rows, test_rows = (
        _synthetic(seed) if quality is None else _from_file(quality, seed)
    )
    models = tuple(pool(table.score[train_rows].mean(axis=0), names))
    prompt, output = float(trace.prompt_tokens.mean()), float(trace.output_tokens.mean())
    return Study(
        models=models,
        table=table,
        tasks=tasks,
        train=trace.part(0.0, 0.5),
        test=trace.part(0.5, 1.0),
        train_rows=train_rows,
        test_rows=test_rows,
        capacity=pool_capacity_per_s(models, trace),
        cost_scale_usd=max(mean_cost_usd(model, prompt, output) for model in models),
    )


def synthetic_trace(count: int, seed: int) -> Trace:
    """Poisson arrivals with log-normal lengths like a chat service's: medians of 700 and 150 tokens."""
    rng = np.random.default_rng([seed, 3])
    prompt = np.rint(np.exp(rng.normal(np.log(700.0), 0.9, count)).clip(8, 8000))
    output = np.rint(np.exp(rng.normal(np.log(150.0), 0.8, count)).clip(4, 1500))
    return Trace(poisson(5.0, count, rng), prompt, output)


_Parts = tuple[QualityTable, tuple[str, ...], list[str], Rows, Rows]


def _synthetic(seed: int) -> _Parts:
    table = synthetic_quality(SYNTHETIC_MODELS, SYNTHETIC_ROWS, seed)
    names = [f"model-{i}" for i in range(SYNTHETIC_MODELS)]
    half = SYNTHETIC_ROWS // 2
    return table, ("",) * SYNTHETIC_ROWS, names, np.arange(half), np.arange(half, SYNTHETIC_ROWS)


def read_quality(path: Path) -> list[dict[str, Any]]:
    """The lines of a quality file. Raises ValueError naming the line that is not one."""
    records = []
    with (
        gzip.open(path, "rt", encoding="utf-8")
        if path.suffix == ".gz"
        else path.open(encoding="utf-8") as file
    ):
        for number, line in enumerate(file, 1):
            record = json.loads(line)
            if not isinstance(record.get("prompt"), str) or not isinstance(record.get("scores"), dict):
                raise ValueError(f"'{path.name}', line {number}: needs 'prompt' and 'scores'.")
            records.append(record)
    return records


def _from_file(path: Path, seed: int) -> _Parts:
    """Half of the prompts to train on, half to score on; predictions never come from a row's own scores:
    training rows are predicted by two folds, scored rows by a model of all training rows."""
    records = read_quality(path)
    names = _chosen_models(records)
    score = np.array([[record["scores"].get(name, 0.0) for name in names] for record in records])
    features = [extract(record["prompt"]) for record in records]
    order = np.random.default_rng([seed, 2]).permutation(len(records))
    train, test = np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])
    accuracy, std = np.empty_like(score), np.empty_like(score)
    for fitted, predicted in ((train[::2], train[1::2]), (train[1::2], train[::2]), (train, test)):
        accuracy[predicted], std[predicted] = _predictions(features, names, score, fitted, predicted)
    prompt = np.array([feature.dense[: len(PROMPT_FIELDS)] for feature in features])
    tasks = tuple(str(record.get("task") or "") for record in records)
    return QualityTable(score, accuracy, std, prompt), tasks, names, train, test


def _chosen_models(records: list[dict[str, Any]]) -> list[str]:
    """All models, or MOST_MODELS of them spread evenly over the order of mean score."""
    names = list(records[0]["scores"])
    if len(names) <= MOST_MODELS:
        return names
    means = {name: float(np.mean([record["scores"].get(name, 0.0) for record in records])) for name in names}
    ordered = sorted(names, key=lambda name: means[name])
    return [ordered[i] for i in np.linspace(0, len(ordered) - 1, MOST_MODELS).round().astype(int)]


def _predictions(
    features: list[PromptFeatures], names: list[str], score: FloatArray, fitted: Rows, predicted: Rows
) -> tuple[FloatArray, FloatArray]:
    model = fit(QualityData.full([features[i] for i in fitted], names, score[fitted]))
    pairs = [model.predict(features[i], names) for i in predicted]
    return np.array([mean for mean, _ in pairs]), np.array([std for _, std in pairs])
