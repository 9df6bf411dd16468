"""Calibration: blends two predictors on held-out answers and measures how well probabilities hold."""

import numpy as np

from policies.arrays import F64

_OFFSET_PRIOR = 10.0  # held-out answers that the first guess of an offset counts as, about
_CURVATURE = 0.25  # of the cross entropy of one answer at even odds
_NEWTON_STEPS = 12


def logit(probability: F64) -> F64:
    """Log odds of probabilities cut to [0.02, 0.98]: no single predictor may be certain."""
    p = np.clip(probability, 0.02, 0.98)
    odds: F64 = np.log(p / (1.0 - p))
    return odds


def sigmoid(logits: F64) -> F64:
    """1 / (1 + exp(-x))."""
    probability: F64 = 1.0 / (1.0 + np.exp(-logits))
    return probability


def blend(
    logits: F64,
    scores: F64,
    weights: F64,
    slopes: F64,
    offsets: F64,
    prior_answers: float,
) -> tuple[F64, F64]:
    """Slopes [S] and offsets [M] of sigmoid(sum_s slope_s logits_s + offset_m), a stacked Platt scaling.

    `logits` [S, N, M] of S predictors on answers they were not fitted on, `scores` and `weights`
    [N, M]; NaN scores carry no weight. `slopes` and `offsets` given are the prior means, the slopes as
    firm as `prior_answers` answers would make them. Newton's method on the penalised cross entropy, which is
    convex.
    """
    known = (weights > 0) & np.isfinite(scores)
    x, y, w = logits[:, known], scores[known], weights[known] / max(float(weights[known].mean()), 1e-9)
    model = np.nonzero(known)[1]
    slope_count, model_count = len(slopes), len(offsets)
    design = np.zeros((len(y), slope_count + model_count))
    design[:, :slope_count] = x.T
    design[np.arange(len(y)), slope_count + model] = 1.0
    prior = np.r_[slopes, offsets]
    strength = np.r_[np.full(slope_count, prior_answers * _CURVATURE), np.full(model_count, _OFFSET_PRIOR)]
    theta = prior.copy()
    for _ in range(_NEWTON_STEPS):
        p = sigmoid(design @ theta)
        gradient = design.T @ (w * (p - y)) + strength * (theta - prior)
        curvature = (design * (w * p * (1.0 - p))[:, None]).T @ design + np.diag(strength)
        theta = theta - np.linalg.solve(curvature, gradient)
    return theta[:slope_count], theta[slope_count:]


def brier(predicted: F64, scores: F64) -> float:
    """Mean squared error of predicted expected scores, over known scores."""
    known = np.isfinite(scores)
    return float(np.mean((predicted[known] - scores[known]) ** 2))


def reliability(predicted: F64, scores: F64, bins: int = 10) -> tuple[F64, float]:
    """[bins, 3] mean prediction, mean score and count of equally filled bins, and the expected
    calibration error: the mean over answers of |prediction - score| of their bin."""
    known = np.isfinite(scores)
    p, y = predicted[known], scores[known]
    parts = [part for part in np.array_split(np.argsort(p, kind="stable"), bins) if len(part)]
    table = np.array([(p[part].mean(), y[part].mean(), len(part)) for part in parts])
    return table, float(np.average(np.abs(table[:, 0] - table[:, 1]), weights=table[:, 2]))
