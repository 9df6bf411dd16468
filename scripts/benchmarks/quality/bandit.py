"""Protocols under a budget: a stream of prompts, a mean cost to keep, only the chosen model's score seen."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from policies.arrays import F64
from policies.baselines.static_mix import best_mix
from policies.closed_loop.pacer import Foreseen, Pacer, price_for
from policies.quality.data import QualityData
from policies.quality.training import QualitySettings, fit
from scripts.benchmarks.quality.data import Scored
from scripts.benchmarks.quality.paretobandit import package_passes
from scripts.benchmarks.quality.routers import means, regress, task_label, tfidf_ridge
from scripts.benchmarks.report import interval

_RESIDUAL_PENALTY: Final = 40.0  # prompts that "no residual" is worth


@dataclass(frozen=True, slots=True)
class Reference:
    """Published for paretobandit_val -> _test: cost realised, rewards of bandit and full information."""

    cost_usd: float
    bandit: float
    ridge: float


PUBLISHED: Final = (
    Reference(2.9e-5, 0.793, 0.794),
    Reference(8.3e-5, 0.813, 0.824),
    Reference(2.3e-4, 0.859, 0.872),
    Reference(6.5e-4, 0.898, 0.924),
    Reference(1.7e-3, 0.917, 0.926),
    Reference(4.7e-3, 0.924, 0.929),
    Reference(1.1e-2, 0.929, 0.934),
)
_PUBLISHED_MODELS: Final = {
    "google/gemini-2.5-pro",
    "meta-llama/llama-3.1-8b-instruct",
    "mistralai/mistral-large-2512",
}


def published_budgets(train: Scored, count: int) -> bool:
    """Whether the published figures are about these models and this many budgets."""
    return set(train.models) == _PUBLISHED_MODELS and count == len(PUBLISHED)


def budgets_of(train: Scored, count: int) -> list[float]:
    """Budgets evenly spread, by ratio, from the cheapest model's mean cost to the dearest's.

    Where published figures exist for the models, the costs that these realised.
    """
    costs = np.nanmean(train.costs, axis=0)
    if published_budgets(train, count):
        return [max(row.cost_usd, float(costs.min())) for row in PUBLISHED]
    return [float(b) for b in np.geomspace(max(float(costs.min()), 1e-12), float(costs.max()), count)]


def predicted_costs(train: Scored, test: Scored, weights: F64) -> tuple[F64, F64]:
    """[N, M], [T, M] expected costs: TF-IDF ridge on log cost, scaled to the mean of what was seen."""
    logs = np.log(np.maximum(train.costs, 1e-12))
    both = Scored(
        "",
        train.prompts + test.prompts,
        (),
        train.models,
        train.scores,
        train.costs,
        train.features + test.features,
    )
    found = np.exp(regress(train, both, np.where(weights > 0, logs, np.nan), weights))
    seen = weights > 0
    real = (np.where(seen, train.costs, 0.0)).sum(axis=0)
    guessed = (np.where(seen, found[: len(train)], 0.0)).sum(axis=0)
    found *= real / np.maximum(guessed, 1e-12)
    return found[: len(train)], found[len(train) :]


@dataclass(frozen=True, slots=True)
class Foresight:
    """What a router predicts: `rewards` and `costs` of the learned prompts [N, M], `next_rewards` and
    `next_costs` of the scored ones [T, M]; `context` [T, F] is for learning on."""

    rewards: F64
    costs: F64
    next_rewards: F64
    next_costs: F64
    context: F64


class Residuals:
    """Recursive least squares of what the predictions missed, one model of F weights for each arm."""

    def __init__(self, arms: int, width: int, penalty: float, bonus: float = 0.0) -> None:
        self._inverse = np.repeat((np.eye(width) / penalty)[None], arms, axis=0)
        self._weights = np.zeros((arms, width))
        self._bonus = bonus

    def predict(self, context: F64) -> F64:
        """[M] expected residuals, with an optimistic bonus where one is set (LinUCB)."""
        found = self._weights @ context
        if self._bonus:
            found = found + self._bonus * np.sqrt(np.einsum("f,mfg,g->m", context, self._inverse, context))
        return found

    def learn(self, arm: int, context: F64, residual: float) -> None:
        """Sherman-Morrison step for the arm that was chosen."""
        inverse = self._inverse[arm]
        gain = inverse @ context
        gain /= 1.0 + context @ gain
        self._weights[arm] += gain * (residual - context @ self._weights[arm])
        inverse -= np.outer(gain, context @ inverse)


def stream(
    test: Scored, order: npt.NDArray[np.intp], sight: Foresight, budget: float, residuals: Residuals | None
) -> tuple[float, float]:
    """Mean reward and mean cost of one pass over `test`, learning from the chosen model only."""
    pacer = Pacer(budget)
    pacer.foresee(sight.rewards, -sight.costs, sight.costs)
    reward = 0.0
    for row in order:
        context, costs = sight.context[row], sight.next_costs[row]
        rewards = np.where(np.isfinite(test.scores[row]), sight.next_rewards[row], -np.inf)
        expected = rewards if residuals is None else rewards + residuals.predict(context)
        relief = -costs * pacer.bias(len(costs))
        worth = np.where(pacer.affordable(costs), expected + pacer.price * relief, -np.inf)
        chosen = int(worth.argmax())
        score, cost = float(test.scores[row, chosen]), float(test.costs[row, chosen])
        pacer.observe(Foreseen(expected, relief, costs), chosen, cost)
        if residuals is not None:
            residuals.learn(chosen, context, score - float(rewards[chosen]))
        reward += score
    return reward / len(order), pacer.spent_usd / len(order)


def foresight(train: Scored, test: Scored, weights: F64, seed: int) -> Foresight:
    """Ours: the quality model fitted on what `weights` [N, M] show of `train`."""
    scores = np.where(weights > 0, train.scores, np.nan)
    data = QualityData(train.features, train.models, scores, weights)
    model = fit(data, QualitySettings(seed=seed), 0.0)
    costs, next_costs = predicted_costs(train, test, weights)
    rewards = np.array([model.predict_all(prompt)[0] for prompt in train.features])
    next_rewards = np.array([model.predict_all(prompt)[0] for prompt in test.features])
    context = np.array([model.inputs(prompt)[0] for prompt in test.features], dtype=np.float64)
    context /= np.linalg.norm(context, axis=1, keepdims=True) + 1e-9
    return Foresight(rewards, costs, next_rewards, next_costs, np.c_[context, np.ones(len(test))])


def simple_foresight(
    predict: Callable[[Scored, Scored], F64],
    train: Scored,
    test: Scored,
    weights: F64,
    like: Foresight,
) -> Foresight:
    """A simple predictor on the same evidence, with the same cost predictions."""
    shown = Scored(
        train.name, train.prompts, train.tasks, train.models, np.where(weights > 0, train.scores, np.nan),
        train.costs, train.features,
    )  # fmt: skip
    both = Scored(
        "", train.prompts + test.prompts, train.tasks + test.tasks, train.models, train.scores, train.costs,
        train.features + test.features,
    )  # fmt: skip
    found = predict(shown, both)
    return Foresight(found[: len(train)], like.costs, found[len(train) :], like.next_costs, like.context)


def mixed(train: Scored, test: Scored, budget: float) -> tuple[float, float]:
    """Reward and cost on `test` of the best static mix of `train`: shares that no prompt changes."""
    mix = best_mix(means(train), np.nanmean(train.costs, axis=0), budget_usd=budget)
    shares = mix.shares / max(float(mix.shares.sum()), 1e-12)
    return float(means(test) @ shares), float(np.nanmean(test.costs, axis=0) @ shares)


def fixed_rows(train: Scored, test: Scored, budget: float) -> dict[str, dict[str, float]]:
    """Routers that look at no prompt, and the oracle that sees scores and costs."""
    reward, cost = mixed(train, test, budget)
    single, expense = means(train), np.nanmean(train.costs, axis=0)
    fits = np.flatnonzero(expense <= budget * (1 + 1e-9))
    best = int(fits[single[fits].argmax()]) if len(fits) else int(expense.argmin())
    rows = np.arange(len(test))
    known = np.isfinite(test.scores)
    scores, costs = np.where(known, test.scores, -np.inf), np.where(known, test.costs, 0.0)
    perfect = (scores - price_for(scores, -costs, costs, budget) * costs).argmax(axis=1)
    everything = np.nanmean(test.costs, axis=0)
    return {
        "static_mix": {"reward": reward, "cost_usd": cost, "interval": 0.0},
        "best_single": {
            "reward": float(means(test)[best]),
            "cost_usd": float(everything[best]),
            "interval": 0.0,
        },
        "random": {
            "reward": float(means(test).mean()),
            "cost_usd": float(everything.mean()),
            "interval": 0.0,
        },
        "oracle": {
            "reward": float(test.scores[rows, perfect].mean()),
            "cost_usd": float(test.costs[rows, perfect].mean()),
            "interval": 0.0,
        },
    }


def _unpriced(data: Scored) -> Scored:
    return replace(data, costs=np.ones_like(data.scores))


def _row(
    found: Mapping[str, list[tuple[float, float]]], fixed: dict[str, dict[str, float]], budget: float
) -> dict[str, object]:
    row: dict[str, dict[str, float]] = {}
    for name, passes in found.items():
        reward, spread = interval([r for r, _ in passes])
        cost = [c for _, c in passes]
        row[name] = {"reward": reward, "interval": spread, "cost_usd": float(np.mean(cost))}
        row[name]["worst_cost_usd"] = max(cost)
    return {"budget_usd": budget, **row, **fixed}


def _rows(
    found: Sequence[Mapping[str, list[tuple[float, float]]]],
    train: Scored,
    test: Scored,
    budgets: Sequence[float],
) -> list[dict[str, object]]:
    return [
        _row(passes, fixed_rows(train, test, budget), budget)
        for passes, budget in zip(found, budgets, strict=True)
    ]


def full_budgets(train: Scored, test: Scored, count: int, seeds: int = 10) -> list[dict[str, object]]:
    """Full information on `train`, then `test` at each budget, without learning on; `seeds` repetitions, each
    with a fit and an order of its own."""
    weights = np.isfinite(train.scores).astype(np.float64)
    budgets = budgets_of(train, count)
    found: list[dict[str, list[tuple[float, float]]]] = [{} for _ in budgets]
    for seed in tqdm(range(seeds), desc="full information", disable=None):
        order = np.random.default_rng(seed).permutation(len(test))
        for name, sight in _sights(train, test, weights, seed).items():
            for budget, passes in zip(budgets, found, strict=True):
                passes.setdefault(name, []).append(stream(test, order, sight, budget, None))
    return _rows(found, train, test, budgets)


def _sights(train: Scored, test: Scored, weights: F64, seed: int) -> dict[str, Foresight]:
    own = foresight(train, test, weights, seed)
    found = {"ours": own, "tfidf_ridge": simple_foresight(tfidf_ridge, train, test, weights, own)}
    if len(set(train.tasks)) > 1:
        found["task_label"] = simple_foresight(task_label, train, test, weights, own)
    return found


def bandit(
    train: Scored, test: Scored, count: int, seeds: int, package_venv: Path | None = None
) -> dict[str, object]:
    """Learn on `train` from one model drawn at random for each prompt, then on `test`, which is scored.

    On `test` the choice is the highest reward - price * cost, and its score is learned from at
    once. Without costs (`count` 0) every answer costs the same and the budget does not bind.
    `package_venv` is where the `paretobandit` package runs on the same stream, if it shall.
    """
    if not count:
        train, test = _unpriced(train), _unpriced(test)
    budgets = budgets_of(train, count) if count else [2.0]
    found: list[dict[str, list[tuple[float, float]]]] = [{} for _ in budgets]
    arms, orders = [], []
    for seed in tqdm(range(seeds), desc="bandit", disable=None):
        generator = np.random.default_rng(seed)
        orders.append(generator.permutation(len(test)))
        arms.append(generator.integers(len(train.models), size=len(train)))
        weights = np.zeros_like(train.scores)
        weights[np.arange(len(train)), arms[-1]] = 1.0
        weights *= np.isfinite(train.scores)
        for name, sight in _sights(train, test, weights, seed).items():
            for budget, passes in zip(budgets, found, strict=True):
                residuals = Residuals(len(train.models), sight.context.shape[1], _RESIDUAL_PENALTY)
                passes.setdefault(name, []).append(stream(test, orders[-1], sight, budget, residuals))
    if package_venv:
        theirs = package_passes(train, test, arms, orders, budgets, package_venv)
        for passes, own in zip(found, theirs, strict=True):
            passes["paretobandit"] = own
    return {"budgets": _rows(found, train, test, budgets)}
