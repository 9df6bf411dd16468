"""Budget pacing: the price of a dollar at which a stream of requests stays within a mean cost."""

from typing import Final

import numpy as np

from policies.observation import BoolArray, FloatArray

_BISECTIONS: Final = 40
_LOWEST, _HIGHEST = -4.0, 9.0  # log10 of the price, in score per USD
_WINDOW: Final = 1500  # recent requests that the price is solved for
_EVERY: Final = 20  # requests between solutions
_SPENDING: Final = 100  # requests in which what was saved is spent
_SAVING: Final = 600  # requests in which too much spent is saved: reward falls steeply with the budget
_RATIO_PRIOR: Final = 50.0  # answers of a model that its ratio of 1 is worth
_MARGIN: Final = 0.015  # share of the budget kept back, so that the guard is seldom needed
_SETTLING: Final = 100  # requests from which on being over budget is no accident of the first few
_PLAIN: Final = 3.0  # budgets that a request may always cost: only dearer models have to be saved for


def price_for(rewards: FloatArray, costs: FloatArray, budget_usd: float) -> float:
    """The least price at which argmax(reward - price * cost) costs at most `budget_usd` a request on average.

    `rewards`, `costs` [N, M] are predictions. 0 where the budget does not bind; the highest price
    where not even the cheapest models fit.
    """
    rows = np.arange(len(rewards))

    def mean_cost(price: float) -> float:
        return float(costs[rows, (rewards - price * costs).argmax(axis=1)].mean())

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

    def __init__(self, budget_usd: float, rewards: FloatArray, costs: FloatArray) -> None:
        """`rewards`, `costs` [N, M]: predictions for earlier requests. Raises ValueError without any."""
        if not budget_usd > 0.0 or not len(rewards):
            raise ValueError(
                f"budget_usd: {budget_usd}, must be above 0, with earlier predictions beside it."
            )
        self.budget_usd = budget_usd
        self.requests = 0
        self.spent_usd = 0.0
        self._rewards = rewards[-_WINDOW:].copy()
        self._costs = costs[-_WINDOW:].copy()
        self._expected_usd = _RATIO_PRIOR * self._costs.mean(axis=0) + 1e-12  # [M], the ratios start at 1
        self._real_usd = self._expected_usd.copy()
        self._next = 0
        self.price = price_for(self._rewards, self._costs, budget_usd * (1.0 - _MARGIN))

    def affordable(self, costs: FloatArray) -> BoolArray:
        """[M] models after which the mean cost would still be within the budget, and always the cheapest.

        Also those that cost less than the budget, which can only lower the mean, and while spending is
        on course, or the stream has just begun, those that cost a little more.
        """
        left = self.budget_usd * (self.requests + 1) - self.spent_usd
        ahead = self.spent_usd > (1.0 - _MARGIN / 3.0) * self.budget_usd * self.requests
        plain = 1.0 if ahead and self.requests >= _SETTLING else _PLAIN
        within: BoolArray = costs * self.bias <= max(left, plain * self.budget_usd)
        within[int(costs.argmin())] = True
        return within

    @property
    def bias(self) -> FloatArray:
        """[M] real over predicted cost of each model so far."""
        ratio: FloatArray = self._real_usd / self._expected_usd
        return ratio

    def choose(self, rewards: FloatArray, costs: FloatArray) -> int:
        """Index of the affordable model with the highest reward - price * cost."""
        worth = np.where(self.affordable(costs), rewards - self.price * costs, -np.inf)
        return int(worth.argmax())

    def observe(self, rewards: FloatArray, costs: FloatArray, chosen: int, cost_usd: float) -> None:
        """Take what one request cost into account; `rewards`, `costs` [M] are its predictions."""
        self.requests += 1
        self.spent_usd += cost_usd
        self._expected_usd[chosen] += costs[chosen]
        self._real_usd[chosen] += cost_usd
        self._rewards[self._next], self._costs[self._next] = rewards, costs
        self._next = (self._next + 1) % len(self._rewards)
        if self.requests % _EVERY == 0:
            self._solve()

    def _solve(self) -> None:
        goal = self.budget_usd * (1.0 - _MARGIN)
        left = goal * self.requests - self.spent_usd
        rate = goal + left / (_SPENDING if left > 0.0 else _SAVING)
        rate = min(max(rate, 0.2 * goal), 3.0 * goal)
        self.price = price_for(self._rewards, self._costs * self.bias, rate)
