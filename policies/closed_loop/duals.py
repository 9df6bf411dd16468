"""Budget, quality floor and latency target in closed loop: dual variables that move the caller's weights."""

from dataclasses import dataclass
from typing import Final

from policies.closed_loop.pacer import Foreseen, Pacer
from policies.profile import Profile
from policies.utility import DEFAULT_BETA, Weights

_WINDOW: Final = 300  # requests that the budget's price is solved for: a millisecond's work
_WILD: Final = 100.0  # a violation beyond this many times the limit counts as this much


@dataclass(frozen=True, slots=True)
class DualSettings:
    """`step` per outcome, `most` a multiplier can reach, `late_share` of requests may miss the target."""

    step: float = 0.02
    most: float = 4.0
    late_share: float = 0.05


@dataclass(frozen=True, slots=True)
class Paced:
    """A request under a budget: the models [M], what was predicted of them, the index of who answered."""

    models: tuple[str, ...]
    foreseen: Foreseen
    answered: int


class Duals:
    """Multipliers (budget, quality, latency) of one profile, each in [0, most].

    They belong to: maximise utility subject to mean cost <= budget, mean quality >= floor, share of late
    requests <= late_share. The budget's is solved for (policies.closed_loop.pacer), since predictions tell
    what each choice costs. The others climb by projected stochastic subgradients of the Lagrangian: a
    violation raises the weight of what is violated, slack lowers it again, so that at rest the constraint
    holds or its multiplier is 0.
    """

    __slots__ = ("_models", "beta", "latency", "pacer", "profile", "quality", "settings")

    def __init__(
        self, profile: Profile, settings: DualSettings = DualSettings(), beta: float = DEFAULT_BETA
    ) -> None:
        """`beta` is the formula's, which says how decisive a difference of utility is."""
        self.profile = profile
        self.settings = settings
        self.beta = beta
        self.pacer = Pacer(profile.budget_usd, beta, _WINDOW) if profile.budget_usd > 0.0 else None
        self._models: tuple[str, ...] = ()
        self.quality = 0.0
        self.latency = 0.0

    @property
    def budget(self) -> float:
        """The budget's multiplier: the pacer's price, for cheapness in (0, 1]."""
        return min(self.pacer.price, self.settings.most) if self.pacer else 0.0

    def weights(self, caller: Weights) -> Weights:
        """The caller's weights plus the multipliers of the constraints."""
        if not (self.budget or self.quality or self.latency):
            return caller
        quality, latency, budget = self.quality, self.latency, self.budget
        return Weights(caller.accuracy + quality, caller.latency + latency, caller.cost + budget)

    def observe(
        self, cost_usd: float, quality: float | None, e2e_s: float | None, paced: Paced | None = None
    ) -> None:
        """Take one outcome into account. `quality` in [0, 1], measured or predicted; None where unknown."""
        profile = self.profile
        if self.pacer and paced:
            if paced.models != self._models:
                self.pacer.forget()
                self._models = paced.models
            self.pacer.observe(paced.foreseen, paced.answered, cost_usd)
        if profile.quality_floor > 0.0 and quality is not None:
            self.quality = self._step(self.quality, (profile.quality_floor - quality) / profile.quality_floor)
        if profile.target_s > 0.0 and e2e_s is not None:
            late = 1.0 if e2e_s > profile.target_s else 0.0
            self.latency = self._step(self.latency, late - self.settings.late_share)

    def _step(self, value: float, violation: float) -> float:
        """Bounded, so that no outcome throws the loop; widely, because clipping biases where it rests."""
        moved = value + self.settings.step * max(-_WILD, min(_WILD, violation))
        return max(0.0, min(self.settings.most, moved))
