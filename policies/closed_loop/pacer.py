"""Budget pacing: the price at which a stream of requests stays within a mean cost."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from policies.arrays import F64, Bools

_BISECTIONS: Final = 24
_LOWEST, _HIGHEST = -4.0, 9.0  # log10 of the price
_EVERY: Final = 20  # requests between solutions
_SPENDING: Final = 100  # requests in which what was saved is spent
_SAVING: Final = 600  # requests in which too much spent is saved: reward falls steeply with the budget
_MOST_SAVED: Final = 200.0  # budgets: a quiet month shall not pay for a wild day
_RATIO_PRIOR: Final = 50.0  # answers of a model that its first ratio, 1, counts as
_MARGIN: Final = 0.015  # share of the budget held back, so that the guard is seldom needed
_SETTLING: Final = 100  # requests from which on being over budget is no accident of the first few
_PLAIN: Final = 3.0  # budgets that a request may always cost: only dearer models have to be saved for


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What was predicted for a request, each [M]: `reward` without a budget, -inf for a model that may not
    answer; `relief`, what the price rewards, larger for a model that costs less; `cost_usd`."""

    reward: F64
    relief: F64
    cost_usd: F64


def price_for(reward: F64, relief: F64, cost_usd: F64, budget_usd: float, beta: float = math.inf) -> float:
    """The least price at which softmax(beta * (reward + price * relief)) costs `budget_usd` on average.

    All [N, M]; without `beta` the largest is chosen. 0 where the budget does not bind; the highest price
    where not even the cheapest models fit.
    """
    rows = np.arange(len(reward))

    def mean_cost(price: float) -> float:
        value = reward + price * relief
        if beta == math.inf:
            return float(cost_usd[rows, value.argmax(axis=1)].mean())
        share = np.exp(beta * (value - value.max(axis=1, keepdims=True)))
        return float(((share * cost_usd).sum(axis=1) / share.sum(axis=1)).mean())

    if mean_cost(0.0) <= budget_usd:
        return 0.0
    low, high = _LOWEST, _HIGHEST
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2.0
        if mean_cost(10.0**middle) > budget_usd:
            low = middle
        else:
            high = middle
    return float(10.0**high)


class Pacer:
    """Closed-loop price: the Lagrange multiplier of `mean cost <= budget_usd`.

    Solved over a window of recent predictions, for the rate of spending that makes good within the next
    requests what was spent above or below the budget so far (receding horizons). The ratio of real
    to predicted cost is learned for each model, so that biased predictions cost nothing in the long run
    and one very dear answer makes no other model look dear.
    """

    def __init__(self, budget_usd: float, beta: float = math.inf, window: int = 1500) -> None:
        """`beta` of the softmax that draws, infinite for one that takes the largest; `window` recent requests
        are solved for. Raises ValueError for a budget of nothing."""
        if not budget_usd > 0.0:
            raise ValueError(f"budget_usd: {budget_usd}, must be above 0.")
        self.budget_usd = budget_usd
        self.beta = beta
        self.window = window
        self.requests = 0
        self.spent_usd = 0.0
        self.price = 0.0
        self.forget()

    def forget(self) -> None:
        """Drop the predictions, since the models are others; what was spent stays."""
        self._predictions = np.empty((0, 3, 0))  # [N, 3, M] reward, relief, cost, a ring once it is full
        self._next = 0
        self._expected_usd = self._real_usd = np.empty(0)  # [M]

    def foresee(self, reward: F64, relief: F64, cost_usd: F64) -> None:
        """Start from predictions [N, M] for earlier requests."""
        self._predictions = np.stack([reward, relief, cost_usd], axis=1)[-self.window :]
        self._trust(self._predictions[:, 2].mean(axis=0))
        self._solve()

    def affordable(self, cost_usd: F64) -> Bools:
        """[M] models after which the mean cost would still be within the budget, and always the cheapest.

        Also those that cost less than the budget, which can only lower the mean, and while spending is
        on course, or the stream has just begun, those that cost a little more. `cost_usd` [M] is
        predicted, infinite for a model that may not answer.
        """
        left = self.budget_usd * (self.requests + 1) - self.spent_usd
        ahead = self.spent_usd > (1.0 - _MARGIN / 3.0) * self.budget_usd * self.requests
        plain = 1.0 if ahead and self.requests >= _SETTLING else _PLAIN
        within: Bools = cost_usd * self.bias(len(cost_usd)) <= max(left, plain * self.budget_usd)
        within[int(cost_usd.argmin())] = True
        return within

    def bias(self, models: int) -> F64:
        """[M] real over predicted cost of each model so far, 1 at first."""
        if len(self._real_usd) != models:
            return np.ones(models)
        ratio: F64 = self._real_usd / self._expected_usd
        return ratio

    def observe(self, foreseen: Foreseen, chosen: int, cost_usd: float) -> None:
        """Take what one request cost into account."""
        self.requests += 1
        self.spent_usd = max(self.spent_usd + cost_usd, self.budget_usd * (self.requests - _MOST_SAVED))
        if len(self._expected_usd) == 0:
            self._trust(foreseen.cost_usd)
        self._expected_usd[chosen] += foreseen.cost_usd[chosen]
        self._real_usd[chosen] += cost_usd
        self._keep(np.stack([foreseen.reward, foreseen.relief, foreseen.cost_usd]))
        if self.requests % _EVERY == 0:
            self._solve()

    def _trust(self, cost_usd: F64) -> None:
        """Ratios of 1 that count as _RATIO_PRIOR answers of this cost."""
        self._expected_usd = _RATIO_PRIOR * cost_usd + 1e-12
        self._real_usd = self._expected_usd.copy()

    def _keep(self, prediction: F64) -> None:
        if len(self._predictions) < self.window:
            earlier = self._predictions.reshape(-1, *prediction.shape)
            self._predictions = np.concatenate([earlier, prediction[None]])
            return
        self._predictions[self._next] = prediction
        self._next = (self._next + 1) % self.window

    def _solve(self) -> None:
        goal = self.budget_usd * (1.0 - _MARGIN)
        left = goal * self.requests - self.spent_usd
        rate = goal + left / (_SPENDING if left > 0.0 else _SAVING)
        rate = min(max(rate, 0.2 * goal), 3.0 * goal)
        reward, relief, cost_usd = self._predictions.swapaxes(0, 1)
        self.price = price_for(reward, relief, cost_usd * self.bias(cost_usd.shape[1]), rate, self.beta)
