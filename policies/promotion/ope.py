"""Off-policy evaluation: what a policy would have earned, from the decisions of another.

Shapes: N logged requests, M models. Every estimator gives one influence value a request, whose mean is
the estimate; intervals at a fixed size and at any stopping time both come from those.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from policies.arrays import F64, I64, Bools
from policies.decision import is_distribution
from policies.promotion.confidence import Bound, confidence_sequence, mean_bound

LEAST_VOTES: Final = 30  # of fewer nobody can tell how far their mean may be off


@dataclass(frozen=True, slots=True)
class Voted:
    """The rows of a log whose score somebody gave; in the rewards of all others it is the predicted one.

    `rows` [N] says which, `surprise` [N] is how much more the given score is worth than the predicted one, 0
    where there is none.
    """

    rows: Bools
    surprise: F64


@dataclass(frozen=True, slots=True)
class Log:
    """Logged bandit feedback.

    `actions` [N] model indices, `rewards` [N], `logging` [N, M] the distributions that were sampled,
    exactly as used, `predicted` [N, M] rewards from a model that was not fitted on the same row. Without
    `voted` every reward was seen whole.
    """

    actions: I64
    rewards: F64
    logging: F64
    predicted: F64
    voted: Voted | None = None

    def propensity(self) -> F64:
        """[N] probability of the logged action."""
        chosen: F64 = self.logging[np.arange(len(self.actions)), self.actions]
        return chosen

    def weights(self, target: F64) -> F64:
        """[N] importance weights of the logged actions under `target` [N, M]."""
        rows = np.arange(len(self.actions))
        ratio: F64 = target[rows, self.actions] / self.propensity()
        return ratio


@dataclass(frozen=True, slots=True)
class OffPolicyEstimate:
    """One estimator's answer. `fixed` holds at this N, `anytime` at every N at once (each side alpha)."""

    name: str
    value: float
    fixed: Bound
    anytime: Bound
    effective_sample_size: float
    unsupported: float  # mean target probability on models that the log could hardly have chosen


Influence = Callable[[Log, F64], F64]


def ips(log: Log, target: F64, clip: float = float("inf")) -> F64:
    """[N] w * r (Horvitz and Thompson 1952); weights clipped at `clip` trade variance for bias."""
    return np.minimum(log.weights(target), clip) * log.rewards


def snips(log: Log, target: F64) -> F64:
    """[N] influence of sum(w r) / sum(w) (Swaminathan and Joachims 2015)."""
    w = log.weights(target)
    value = float(np.dot(w, log.rewards) / w.sum())
    return value + w / w.mean() * (log.rewards - value)


def direct(log: Log, target: F64) -> F64:
    """[N] the direct method: the reward model's value of the target policy."""
    return np.einsum("nm,nm->n", target, log.predicted)


def _residual(log: Log) -> F64:
    residual: F64 = log.rewards - log.predicted[np.arange(len(log.actions)), log.actions]
    return residual


def doubly_robust(log: Log, target: F64) -> F64:
    """[N] direct method + w * residual (Dudik, Langford, Li 2011); cross-fitted when `predicted` is."""
    return direct(log, target) + log.weights(target) * _residual(log)


def self_normalised_dr(log: Log, target: F64) -> F64:
    """[N] direct method + w / mean(w) * residual, linearised: bounded by the largest residual.

    Scores that nobody gave are predictions, whose residual is 0 whatever the truth is. So what votes add is a
    residual of its own, over the rows that have one. Below LEAST_VOTES of them the predictions stand.
    """
    w, residual = log.weights(target), _residual(log)
    if log.voted is None:
        return direct(log, target) + _normalised(w, residual)
    surprise, of_voted = log.voted.surprise, w * log.voted.rows
    value: F64 = direct(log, target) + _normalised(w, residual - surprise)
    if log.voted.rows.sum() >= LEAST_VOTES:
        value += _normalised(of_voted, surprise)
    return value


def _normalised(w: F64, residual: F64) -> F64:
    """[N] influence of sum(w residual) / sum(w); 0 where no row has weight."""
    if not w.any():
        return np.zeros_like(residual)
    correction = float(np.dot(w, residual) / w.sum())
    influence: F64 = correction + w / w.mean() * (residual - correction)
    return influence


ESTIMATORS: Final[dict[str, Influence]] = {
    "ips": ips,
    "ips_clip10": lambda log, target: ips(log, target, clip=10.0),
    "snips": snips,
    "dm": direct,
    "dr": doubly_robust,
    "sndr": self_normalised_dr,
}


def effective_sample_size(weights: F64) -> float:
    """(sum w)^2 / sum w^2 (Kish 1965); 0 where all weights are 0."""
    square = float(np.dot(weights, weights))
    return float(weights.sum()) ** 2 / square if square > 0.0 else 0.0


def unsupported_mass(log: Log, target: F64, floor: float = 1e-3) -> float:
    """Mean probability that `target` puts on models whose logging probability is below `floor`."""
    return float(np.where(log.logging < floor, target, 0.0).sum(axis=1).mean())


def _summary(name: str, influence: F64, log: Log, target: F64, alpha: float) -> OffPolicyEstimate:
    mean, variance = float(influence.mean()), float(influence.var(ddof=1))
    return OffPolicyEstimate(
        name=name,
        value=mean,
        fixed=mean_bound(influence, alpha),
        anytime=confidence_sequence(mean, variance, len(influence), alpha),
        effective_sample_size=effective_sample_size(log.weights(target)),
        unsupported=unsupported_mass(log, target),
    )


def evaluate(name: str, log: Log, target: F64, alpha: float = 0.025) -> OffPolicyEstimate:
    """Value of `target` [N, M] by one estimator. Raises ValueError on rows without a propensity."""
    _validate(log, target)
    return _summary(name, ESTIMATORS[name](log, target), log, target, alpha)


def difference(name: str, log: Log, target: F64, baseline: F64, alpha: float = 0.05) -> OffPolicyEstimate:
    """Value of `target` minus value of `baseline`, both [N, M], on the same rows: paired, so tighter."""
    _validate(log, target)
    _validate(log, baseline)
    influence = ESTIMATORS[name](log, target) - ESTIMATORS[name](log, baseline)
    return _summary(name, influence, log, target, alpha)


def _validate(log: Log, target: F64) -> None:
    if target.shape != log.logging.shape:
        raise ValueError(f"target: shape {target.shape}, must be the log's {log.logging.shape}.")
    if not (log.propensity() > 0.0).all():
        raise ValueError("propensity: 0 for a logged action; such a row cannot have been drawn from its log.")
    broken = [row for row, probabilities in enumerate(target) if not is_distribution(probabilities)]
    if broken:
        raise ValueError(f"target: row {broken[0]} is {target[broken[0]].tolist()}, must be a distribution.")


Fit = Callable[[I64], Callable[[I64], F64]]


def cross_fit(count: int, folds: int, fit: Fit, seed: int = 0) -> F64:
    """[N, M] predictions for each row from a model that was fitted without its fold.

    `fit(rows)` fits on those rows and returns `predict(rows) -> [n, M]`.
    """
    order = np.random.default_rng(seed).permutation(count)
    parts = np.array_split(order, folds)
    predicted: dict[int, F64] = {}
    for k, held_out in enumerate(parts):
        rest = np.concatenate([part for j, part in enumerate(parts) if j != k])
        predicted[k] = fit(rest)(held_out)
    result = np.empty((count, predicted[0].shape[1]))
    for k, held_out in enumerate(parts):
        result[held_out] = predicted[k]
    return result
