"""Protocols without a budget: k-fold, train-and-test, and the strong-or-weak trade-off (APGR)."""

from collections.abc import Mapping
from typing import Final

import numpy as np
from tqdm import tqdm

from policies.arrays import F64
from policies.quality.calibration import brier, reliability
from scripts.benchmarks.quality.data import Scored
from scripts.benchmarks.quality.routers import best_single, chosen_scores, predictions
from scripts.benchmarks.report import interval

FOLDS: Final = 5
_THRESHOLDS: Final = 10
Summary = dict[str, object]


def summarise(values: Mapping[str, list[float]]) -> Summary:
    """{name: {mean, interval, values}} with the half-width of the 95 % interval."""
    found: Summary = {}
    for name, some in values.items():
        mean, spread = interval(some)
        found[name] = {"mean": mean, "interval": spread, "values": [round(v, 6) for v in some]}
    return found


def single_scores(train: Scored, test: Scored, predicted: Mapping[str, F64]) -> dict[str, float]:
    """Mean score of the model that each router chooses; random, static mix and oracle beside them."""
    found = {name: float(chosen_scores(p, test.scores).mean()) for name, p in predicted.items()}
    found["random"] = float(np.nanmean(test.scores, axis=1).mean())
    found["static_mix"] = float(
        chosen_scores(best_single(train, test), test.scores).mean()
    )  # no budget binds
    found["oracle"] = float(np.nanmax(test.scores, axis=1).mean())
    return found


def kfold(data: Scored, seeds: int) -> dict[str, object]:
    """Shuffled 5-fold, `seeds` times: mean score of the chosen model, and the calibration of ours."""
    scores: dict[str, list[float]] = {}
    ours, base, truth = [], [], []
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(len(data))
        for rows in tqdm(
            np.array_split(order, min(FOLDS, len(data))), desc=f"k-fold, seed {seed}", disable=None
        ):
            train, test = data.take(np.setdiff1d(order, rows)), data.take(rows)
            predicted = predictions(train, test)
            for name, value in single_scores(train, test, predicted).items():
                scores.setdefault(name, []).append(value)
            ours.append(predicted["ours"])
            base.append(best_single(train, test))
            truth.append(test.scores)
    return {
        "scores": summarise(scores),
        "calibration": calibration(np.concatenate(ours), np.concatenate(base), np.concatenate(truth)),
    }


def full(train: Scored, test: Scored) -> dict[str, object]:
    """Fit on one file, score on another; intervals over 1,000 resamples of the scored prompts."""
    predicted = predictions(train, test)
    generator = np.random.default_rng(0)
    picks = generator.integers(len(test), size=(1000, len(test)))
    found: Summary = {}
    for name, p in predicted.items():
        values = chosen_scores(p, test.scores)
        spread = 1.96 * float(values[picks].mean(axis=1).std())
        found[name] = {"mean": float(values.mean()), "interval": spread}
    for name, value in single_scores(train, test, predicted).items():
        found.setdefault(name, {"mean": value, "interval": 0.0})
    check = calibration(predicted["ours"], best_single(train, test), test.scores)
    return {"scores": found, "calibration": check}


def apgr(data: Scored, labels: int, seeds: int) -> dict[str, object]:
    """Gap recovered against the share of strong calls; `labels` prompts to fit on, the rest scored."""
    found: dict[str, dict[str, list[float]]] = {"apgr": {}, "cpt50": {}, "cpt80": {}}
    labels = min(labels, max(2, len(data) // 2))
    for seed in tqdm(range(seeds), desc="apgr", disable=None):
        order = np.random.default_rng(seed).permutation(len(data))
        train, test = data.take(order[:labels]), data.take(order[labels:])
        centre = best_single(train, test)[0]
        weak, strong = int(centre.argmin()), int(centre.argmax())
        gains = {name: p[:, strong] - p[:, weak] for name, p in predictions(train, test).items()}
        gains["oracle"] = test.scores[:, strong] - test.scores[:, weak]
        gains["random"] = np.random.default_rng(seed).random(len(test))
        gains["best_single"] = gains["static_mix"] = gains["random"]  # no look at the prompt: any order
        for name, gain in gains.items():
            curve = recovered(gain, test.scores[:, weak], test.scores[:, strong])
            found["apgr"].setdefault(name, []).append(float(np.trapezoid(curve[1], curve[0])))
            for level in (50, 80):
                enough = curve[1] >= level / 100
                found[f"cpt{level}"].setdefault(name, []).append(float(curve[0][enough.argmax()]))
    return {metric: summarise(values) for metric, values in found.items()}


def recovered(gain: F64, weak: F64, strong: F64) -> tuple[F64, F64]:
    """[11] shares of calls to the strong model, highest predicted gain first, [11] gap recovered there.

    The gap is the strong model's mean less the weak one's (Ong et al. 2024). Prompts that lack a
    score are left out. An equal pair recovers nothing.
    """
    known = np.isfinite(weak) & np.isfinite(strong)
    change = (strong - weak)[known][np.argsort(-gain[known], kind="stable")]
    total = np.r_[0.0, np.cumsum(change)]
    shares = np.linspace(0.0, 1.0, _THRESHOLDS + 1)
    at = np.rint(shares * len(change)).astype(int)
    gap = float(total[-1])
    return shares, total[at] / gap if abs(gap) > 1e-9 else np.zeros_like(shares)


def calibration(ours: F64, base: F64, truth: F64) -> dict[str, object]:
    """Brier score of ours and of the models' means, expected calibration error, the reliability table."""
    table, error = reliability(ours, truth)
    return {
        "brier": brier(ours, truth),
        "brier_of_means": brier(base, truth),
        "expected_calibration_error": error,
        "reliability": [[round(float(v), 4) for v in row] for row in table],
    }
