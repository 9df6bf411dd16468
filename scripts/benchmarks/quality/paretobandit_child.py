"""Runs the `paretobandit` package on a stream that was written for it; needs that package and numpy only.

`python _paretobandit_child.py STREAM.npz RESULT.json`, started by scripts.benchmarks.quality.paretobandit.
"""

import json
import logging
import sys

import numpy as np
from pareto_bandit import BanditRouter
from pareto_bandit.budget_pacer import BudgetPacer
from pareto_bandit.feature_service import FeatureService


def router(models: list[str], prices: np.ndarray, width: int, budget: float, seed: int) -> BanditRouter:
    """The package's defaults, its priors off because they are of another encoder; prices in USD a request."""
    registry = {
        model: {"input_cost_per_m": price * 1000.0, "output_cost_per_m": price * 1000.0}
        for model, price in zip(models, prices.tolist(), strict=True)
    }  # as if a request were 1,000 tokens: the package compares USD per 1,000 tokens
    return BanditRouter.create(
        model_registry=registry,
        feature_service=FeatureService.for_precomputed(dimension=width),
        priors="none",
        bandit_seed=seed,
        budget_pacer=BudgetPacer(budget),
    )


def one_pass(data: dict[str, np.ndarray], budget: float, seed: int) -> tuple[float, float]:
    """Mean reward and cost over the scored prompts, after learning from one arm a prompt of the others."""
    models = data["models"].tolist()
    own = router(models, data["prices"], data["learned"].shape[1], budget, seed)
    for context, arm, score in zip(data["learned"], data["arms"][seed], data["scores"], strict=True):
        own.update(models[arm], context, float(score[arm]))
    reward, spent = 0.0, 0.0
    for row in data["orders"][seed]:
        chosen, log = own.route(data["scored"][row])
        at = row, models.index(chosen)
        log.cost_usd = float(data["next_costs"][at])  # what its pacer observes
        own.process_feedback(log.request_id, float(data["next_scores"][at]))
        reward, spent = reward + float(data["next_scores"][at]), spent + log.cost_usd
    return reward / len(data["scored"]), spent / len(data["scored"])


def main(source: str, target: str) -> None:
    """[budgets][seeds] pairs of reward and cost."""
    logging.disable(logging.WARNING)
    data = dict(np.load(source))
    found = [
        [one_pass(data, float(budget), seed) for seed in range(len(data["orders"]))]
        for budget in data["budgets"]
    ]
    with open(target, "w", encoding="utf-8") as file:
        json.dump(found, file)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
