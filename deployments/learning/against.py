"""What `auto` did for the callers, against one model that would have answered everything: from the log."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from deployments.learning.live_evidence import Finished, voted
from policies.arrays import F64, I64
from policies.observation import MODEL_COLUMN
from policies.promotion.ope import Log, Voted, difference, effective_sample_size, evaluate, unsupported_mass

_ACCURACY, _E2E, _COST = MODEL_COLUMN["accuracy"], MODEL_COLUMN["e2e_s"], MODEL_COLUMN["cost_usd"]
_ESTIMATOR: Final = "sndr"
_LEAST_EFFECTIVE: Final = 30.0  # requests below which the model's side rests on predictions
_UNSUPPORTED: Final = 0.1  # share of the requests that could hardly have gone to the model


class NothingToCompareError(ValueError):
    """The log does not hold what a comparison needs; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: the mean a request with `auto` and with the model alone; their difference within 95 %."""

    figure: str
    auto: float
    model: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """`auto` against one model. `caution` says what the numbers cannot tell, "" where nothing stands out."""

    model: str
    requests: int
    of_them_by_it: int  # that the model answered
    voted: int
    rows: tuple[Row, ...]
    caution: str


def against(log: Sequence[Finished], votes: Mapping[str, float], model: str) -> Comparison:
    """Estimate from requests that `auto` decided.

    The model's side is the self-normalised doubly robust estimate (policies.promotion.ope): predictions for
    every request, corrected by those that really went to the model. Requests over other sets of models than
    the usual one that has the model are left out. Raises NothingToCompareError.
    """
    sets = [one.observation.models for one in log if model in one.observation.models]
    if not sets:
        raise NothingToCompareError(f"No request of `auto` had the choice of model '{model}'.")
    usual = max(set(sets), key=sets.count)
    log = [one for one in log if one.observation.models == usual]
    if len(log) < 2:
        raise NothingToCompareError(f"{len(log)} requests had the choice of model '{model}', 2 are needed.")
    actions = np.array([one.index for one in log], dtype=np.int64)
    logging = np.array([one.record.probabilities for one in log], dtype=np.float64)
    alone = np.zeros_like(logging)
    alone[:, usual.index(model)] = 1.0

    def row(figure: str, seen: Log) -> Row:
        found = difference(_ESTIMATOR, seen, logging, alone).fixed
        auto = evaluate(_ESTIMATOR, seen, logging).value
        return Row(figure, auto, auto - found.mean, found.mean, found.low, found.high)

    seen = _Seen(log, actions, logging)
    rewards = seen.rewards()
    rows = (
        row("reward, 0 to 1", rewards),
        row("score, 0 to 1", seen.scores(votes)),
        row("latency, s", seen.of(_latency_s, lambda one: _column(one, _E2E))),
        row("cost, USD", seen.of(lambda one: one.cost_usd, lambda one: _column(one, _COST))),
    )
    effective = effective_sample_size(rewards.weights(alone))
    return Comparison(
        model=model,
        requests=len(log),
        of_them_by_it=int((actions == usual.index(model)).sum()),
        voted=sum(one.record.decision_id in votes for one in log),
        rows=rows,
        caution=_caution(model, effective, unsupported_mass(rewards, alone)),
    )


@dataclass(frozen=True, slots=True)
class _Seen:
    """The same N requests as logs of different figures."""

    log: Sequence[Finished]
    actions: I64
    logging: F64

    def of(self, got: Callable[[Finished], float], predicted: Callable[[Finished], F64]) -> Log:
        """A figure that is known of every request."""
        rewards = np.array([got(one) for one in self.log])
        return Log(self.actions, rewards, self.logging, np.array([predicted(one) for one in self.log]))

    def rewards(self) -> Log:
        """The rewards, with what votes say of them."""
        return replace(self.of(lambda one: one.reward, lambda one: one.expected), voted=voted(self.log))

    def scores(self, votes: Mapping[str, float]) -> Log:
        """The scores, with what votes say of them."""
        found = self.of(lambda one: _score(one, votes), lambda one: _column(one, _ACCURACY))
        rows = voted(self.log).rows
        residual = found.rewards - found.predicted[np.arange(len(self.log)), self.actions]
        return replace(found, voted=Voted(rows, np.where(rows, residual, 0.0)))


def _column(one: Finished, column: int) -> F64:
    """[M] what was predicted of each model."""
    predicted: F64 = one.observation.rows[:, column]
    return predicted


def _score(one: Finished, votes: Mapping[str, float]) -> float:
    """The vote where there is one, else what was predicted of the chosen model; 0 where it failed."""
    if one.failed:
        return 0.0
    return votes.get(one.record.decision_id, float(one.observation.rows[one.index, _ACCURACY]))


def _latency_s(one: Finished) -> float:
    return one.result.outcome.e2e_s or float(one.observation.rows[one.index, _E2E])


def _caution(model: str, effective: float, unsupported: float) -> str:
    if effective < _LEAST_EFFECTIVE:
        return (
            f"Few requests went to '{model}' ({effective:.0f} by weight): its side rests on predictions. "
            "More exploration (`epsilon`), or votes, would tell."
        )
    if unsupported > _UNSUPPORTED:
        return (
            f"{unsupported:.0%} of the requests could hardly have gone to '{model}': of those its side rests "
            "on predictions."
        )
    return ""
