"""Off-policy estimators against a known truth: full-information scores are logged as if a policy had chosen.

Half of the prompts fit a target policy; the other half is the population of requests, logged under
"best single model, explored uniformly with probability eps". Every estimator sees only the log.
"""

import argparse
import gzip
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import svds
from tqdm import tqdm

from policies.arrays import F64, I64
from policies.promotion.ope import ESTIMATORS, Log, cross_fit, difference
from policies.prompt.features import extract
from scripts.benchmarks.report import Report, bar
from serve_app.console.text_table import print_table

DIMENSIONS = 128
RIDGE = 1.0
TEMPERATURE = 0.01
KNOWN_RMSE = 0.013  # of SNDR on llmrouter9 at 16,000 requests and 20 % exploration, another target policy


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--data", type=Path, required=True, help="scores of every model on every prompt (JSONL, gzip)"
    )
    parser.add_argument("--requests", type=int, default=16_000, help="logged requests a trial")
    parser.add_argument("--trials", type=int, default=400, help="logs drawn per exploration rate")
    parser.add_argument(
        "--exploration", default="0.05,0.1,0.2,0.4", help="exploration rates, comma-separated"
    )
    parser.add_argument("--seed", type=int, default=0)


@dataclass(frozen=True, slots=True)
class World:
    """The population: `x` [N, D] embeddings, `scores` [N, M], `target` [N, M], `baseline` [N, M] one-hot."""

    x: F64
    scores: F64
    target: F64
    baseline: F64

    def truth(self) -> float:
        """True gain of the target over the baseline in mean score."""
        return float(((self.target - self.baseline) * self.scores).sum(axis=1).mean())


def _read(path: Path) -> tuple[list[str], F64]:
    opener: Any = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt") as file:
        rows = [json.loads(line) for line in file]
    models = sorted(set.intersection(*(set(row["scores"]) for row in rows)))
    return [row["prompt"] for row in rows], np.array(
        [[row["scores"][m] for m in models] for row in rows], float
    )


def _embed(prompts: list[str]) -> F64:
    """[N, D + 1] leading directions of the TF-IDF matrix of hashed n-grams, and a constant."""
    features = [extract(prompt) for prompt in tqdm(prompts, desc="features", unit="prompt")]
    columns = np.concatenate([f.ids for f in features])
    rows = np.repeat(np.arange(len(features)), [len(f.ids) for f in features])
    known, column = np.unique(columns, return_inverse=True)
    values = np.concatenate([f.values for f in features]).astype(float)
    matrix = sparse.csr_matrix((values, (rows, column)), shape=(len(features), len(known)))
    counts = np.asarray((matrix > 0).sum(axis=0)).ravel()
    matrix = matrix @ sparse.diags(np.log(len(features) / counts))
    matrix = sparse.diags(1.0 / np.maximum(sparse.linalg.norm(matrix, axis=1), 1e-9)) @ matrix
    u, s, _ = svds(matrix, k=min(DIMENSIONS, len(features) - 2), random_state=0)
    scaled = u * s / (s.max() / 10.0)
    embedded: F64 = np.hstack([scaled, np.ones((len(features), 1))]).astype(np.float64)
    return embedded


def _ridge(x: F64, y: F64) -> F64:
    gram = x.T @ x + RIDGE * np.eye(x.shape[1])
    return np.linalg.solve(gram, x.T @ y).astype(np.float64)


def _world(data: Path, seed: int) -> World:
    prompts, scores = _read(data)
    x = _embed(prompts)
    order = np.random.default_rng(seed).permutation(len(prompts))
    fit, rest = order[: len(order) // 2], order[len(order) // 2 :]
    logits = x[rest] @ _ridge(x[fit], scores[fit]) / TEMPERATURE
    target = np.exp(logits - logits.max(axis=1, keepdims=True))
    baseline = np.zeros_like(target)
    baseline[:, int(scores[fit].mean(axis=0).argmax())] = 1.0
    return World(x[rest], scores[rest], target / target.sum(axis=1, keepdims=True), baseline)


def _reward_model(x: F64, actions: I64, rewards: F64, models: int) -> Any:
    """A `fit` for `cross_fit`: one ridge a model on the rows where the log chose it."""

    def fit(rows: I64) -> Any:
        overall = float(rewards[rows].mean())
        coefficients = np.zeros((x.shape[1], models))
        for m in range(models):
            mine = rows[actions[rows] == m]
            coefficients[:, m] = _ridge(x[mine], rewards[mine] - overall)
        return lambda held_out: overall + x[held_out] @ coefficients

    return fit


def _draw_log(world: World, exploration: float, requests: int, rng: np.random.Generator) -> tuple[Log, I64]:
    """A log of `requests` draws with replacement, and the population row of each."""
    n, m = world.scores.shape
    rows = rng.integers(0, n, requests)
    logging = (1.0 - exploration) * world.baseline[rows] + exploration / m
    actions = (rng.random((requests, 1)) > logging.cumsum(axis=1)).sum(axis=1).clip(0, m - 1)
    rewards = world.scores[rows, actions]
    x = world.x[rows]
    predicted = cross_fit(requests, 2, _reward_model(x, actions, rewards, m), seed=int(rng.integers(2**31)))
    return Log(actions, rewards, logging, predicted), rows


@dataclass(frozen=True, slots=True)
class Row:
    """One estimator at one exploration rate; errors in score points of the gain."""

    exploration: float
    estimator: str
    bias: float
    rmse: float
    coverage: float
    anytime_coverage: float
    power: float
    effective_sample_size: float


def _trials(world: World, exploration: float, args: argparse.Namespace, progress: Any) -> list[Row]:
    rng = np.random.default_rng([args.seed, int(exploration * 1000)])
    truth = world.truth()
    found: dict[str, list[tuple[float, bool, bool, bool, float]]] = {name: [] for name in ESTIMATORS}
    for _ in range(args.trials):
        log, rows = _draw_log(world, exploration, args.requests, rng)
        for name in ESTIMATORS:
            e = difference(name, log, world.target[rows], world.baseline[rows], alpha=0.025)
            fixed, anytime = e.fixed, e.anytime
            found[name].append(
                (
                    e.value - truth,
                    fixed.low <= truth <= fixed.high,
                    anytime.low <= truth <= anytime.high,
                    anytime.low > 0.0,
                    e.effective_sample_size,
                )
            )
        progress.update()
    return [_row(exploration, name, np.array(values, float)) for name, values in found.items()]


def _row(exploration: float, name: str, values: F64) -> Row:
    error, coverage, anytime, power, size = values.T
    return Row(
        exploration,
        name,
        float(error.mean()),
        float(np.sqrt((error**2).mean())),
        float(coverage.mean()),
        float(anytime.mean()),
        float(power.mean()),
        float(size.mean()),
    )


def run(args: argparse.Namespace) -> Report:
    """Measure bias, RMSE, coverage of 95 % intervals and power of every estimator."""
    world = _world(args.data, args.seed)
    rates = [float(rate) for rate in args.exploration.split(",")]
    with tqdm(total=len(rates) * args.trials, desc="logs", unit="log") as progress:
        table = [row for rate in rates for row in _trials(world, rate, args, progress)]
    print_table(
        ("exploration", "estimator", "bias", "RMSE", "coverage", "anytime", "power", "ESS"),
        [tuple(asdict(row).values()) for row in table],
        title=f"true gain {world.truth():+.4f}, {args.requests} requests, {args.trials} logs a rate",
    )
    bars = []
    for row in table:
        if row.estimator == "sndr":
            spread = 1.96 * float(np.sqrt(0.05 * 0.95 / args.trials))
            bars.append(bar(f"ope.sndr.coverage.{row.exploration:g}", row.coverage, ">=", 0.90, spread))
            bars.append(
                bar(
                    f"ope.sndr.anytime_coverage.{row.exploration:g}", row.anytime_coverage, ">=", 0.95, spread
                )
            )
    at_20 = {row.estimator: row.rmse for row in table if row.exploration == 0.2}
    if at_20:
        bars.append(bar("ope.sndr.rmse.0.2", at_20["sndr"], "<=", 1.5 * KNOWN_RMSE))
        bars.append(bar("ope.sndr_over_dm.rmse.0.2", at_20["sndr"] / at_20["dm"], "<=", 1.0))
    results = {"truth": world.truth(), "requests": args.requests, "rows": [asdict(row) for row in table]}
    return Report("ope", tuple(bars), results)
