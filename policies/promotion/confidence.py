"""Bounds on a mean: at a fixed number of samples, and valid at any stopping time."""

import math
from dataclasses import dataclass
from typing import Final

from policies.arrays import F64

Z95: Final = 1.959964


def wilson(mean: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a mean of `count` scores in [0, 1] (Wilson 1927).

    Exact in form for 0/1 scores; for graded ones too wide, as their variance is at most mean * (1 - mean).
    """
    if count == 0:
        return 0.0, 1.0
    scale = 1.0 + Z95**2 / count
    centre = (mean + Z95**2 / (2 * count)) / scale
    half = Z95 / scale * math.sqrt(mean * (1.0 - mean) / count + Z95**2 / (4 * count**2))
    return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True, slots=True)
class Bound:
    """A mean over `count` samples with an interval [low, high]."""

    mean: float
    low: float
    high: float
    count: int


def mean_bound(values: F64, alpha: float = 0.05) -> Bound:
    """Student's t bounds on the mean of [N] values, each one-sided at level `alpha`.

    Right when N was fixed beforehand; use `confidence_sequence` where one may stop at will.
    With fewer than two values the bounds are infinite.
    """
    from scipy.special import stdtrit  # 20 MB that a process without such a bound does not need

    count = len(values)
    if count < 2:
        mean = float(values.mean()) if count else float("nan")
        return Bound(mean, -math.inf, math.inf, count)
    mean = float(values.mean())
    half = float(stdtrit(count - 1, 1.0 - alpha)) * float(values.std(ddof=1)) / math.sqrt(count)
    return Bound(mean, mean - half, mean + half, count)


def confidence_sequence(
    mean: float, variance: float, count: int, alpha: float = 0.05, tuned_for: int = 1000
) -> Bound:
    """Bounds on a mean, each one-sided at level `alpha`, that hold at all sample sizes at once.

    Asymptotic confidence sequence of a normal mixture, one-sided form (Waudby-Smith, Arbour, Sinha,
    Kennedy, Ramdas 2021): mean -+ sd sqrt(2 (t r + 1) / (t^2 r) log(1 + sqrt(t r + 1) / (2 alpha))),
    with r chosen so that the bound is tightest near `tuned_for` samples.
    """
    if count < 2:
        return Bound(mean, -math.inf, math.inf, count)
    log_term = -2.0 * math.log(2.0 * alpha)
    rho2 = max((log_term + math.log(1.0 + max(log_term, 0.0))) / tuned_for, 1e-12)
    scaled = count * rho2 + 1.0
    width = math.sqrt(2.0 * scaled / (count * count * rho2) * math.log1p(math.sqrt(scaled) / (2.0 * alpha)))
    half = math.sqrt(max(variance, 0.0)) * width
    return Bound(mean, mean - half, mean + half, count)


class Betting:
    """An e-process against `E[X] <= null` for X in [0, 1]: wealth of a gambler who bets on more.

    Under the null the chance that wealth ever exceeds 1 / alpha is at most alpha, whatever the
    stopping rule and for any distribution (Waudby-Smith and Ramdas 2023, aGRAPA bets, Ville's
    inequality). `wealth` is the evidence; 20 corresponds to alpha = 0.05. Bets follow the last `memory`
    observations, and are at most `boldness` of the largest that cannot lose all. `variance` is the first
    guess at that of X: the better it is, the sooner the bets are right.
    """

    def __init__(
        self, null: float, memory: float = math.inf, boldness: float = 0.5, variance: float = 0.25
    ) -> None:
        if not 0.0 < null < 1.0:
            raise ValueError(f"null: {null}, must lie strictly between 0 and 1.")
        self.null = null
        self.log_wealth = 0.0
        self.peak_log_wealth = 0.0
        self.count = 0
        self._kept = 1.0 - 1.0 / memory  # share of what is remembered that one observation leaves
        self._most = boldness / null
        self._weight = 1.0
        self._sum = 0.5  # one pseudo-observation at 1/2 keeps early bets small
        self._square = 0.25 + variance
        self._least_variance = min(1e-3, variance / 100.0)

    def update(self, x: float) -> None:
        """Take one observation. Raises ValueError outside [0, 1]."""
        if not 0.0 <= x <= 1.0:
            raise ValueError(f"x: {x}, must lie in [0, 1].")
        mean = self._sum / self._weight
        variance = max(self._square / self._weight - mean * mean, self._least_variance)
        edge = mean - self.null
        bet = min(max(edge / (variance + edge * edge), 0.0), self._most)
        self.log_wealth += math.log1p(bet * (x - self.null))
        self.peak_log_wealth = max(self.peak_log_wealth, self.log_wealth)
        self.count += 1
        self._weight = self._weight * self._kept + 1.0
        self._sum = self._sum * self._kept + x
        self._square = self._square * self._kept + x * x

    def rejects(self, alpha: float = 0.05) -> bool:
        """Whether the null was rejected at some time so far."""
        return self.peak_log_wealth >= -math.log(alpha)


def rescale(value: float, low: float, high: float) -> float:
    """`value` of [low, high] mapped to [0, 1], clipped at the ends."""
    return min(max((value - low) / (high - low), 0.0), 1.0)
