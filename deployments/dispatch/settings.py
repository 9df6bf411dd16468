"""What an operator may set about dispatch; all of it changes live through `user_config`."""

from typing import Any

from pydantic import Field, model_validator

from deployments.strict import StrictModel
from policies.closed_loop.duals import DualSettings
from policies.profile import Profile
from policies.utility import DEFAULT_BETA, Weights

MAX_EPSILON = 0.05


class WeightSettings(StrictModel):
    """a1, a2, a3 of the formula."""

    accuracy: float = Field(default=1.0, ge=0.0)  # a1, weight of the accuracy in [0, 1]
    latency: float = Field(default=1.0, ge=0.0)  # a2, weight of the relative speed
    cost: float = Field(default=0.0, ge=0.0)  # a3, weight of the cheapness

    @model_validator(mode="after")
    def _some_weight(self) -> "WeightSettings":
        if self.accuracy + self.latency + self.cost <= 0.0:
            raise ValueError("weights: all 0, at least one must be above 0.")
        return self

    def value(self) -> Weights:
        """The same as the frozen type that policies read."""
        return Weights(self.accuracy, self.latency, self.cost)


class ProfileSettings(StrictModel):
    """One scenario; see policies.profile.Profile. `weights` absent means the default weights."""

    weights: WeightSettings | None = None  # absent: the weights above
    target_s: float = Field(default=0.0, ge=0.0)  # latency target in seconds, kept in closed loop; 0: none
    # models that may be chosen; absent: all
    allowed: tuple[str, ...] | None = Field(default=None, min_length=1)
    # least evaluated score in [0, 1]; a model below it is masked
    quality_floor: float = Field(default=0.0, ge=0.0, le=1.0)
    tasks: tuple[str, ...] = ()  # evaluated tasks that the floor looks at; empty: all
    budget_usd: float = Field(default=0.0, ge=0.0)  # mean US dollars a request, kept in closed loop; 0: none
    # a session stays on its model while that is healthy and within the budget; then it moves for good
    sticky: bool = False
    # fields of a request, such as temperature, where the caller gives none
    generation_defaults: dict[str, Any] = Field(default_factory=dict)

    def value(self, name: str, default: Weights) -> Profile:
        """The frozen profile called `name`."""
        return Profile(
            name=name,
            weights=self.weights.value() if self.weights else default,
            target_s=self.target_s,
            allowed=self.allowed,
            quality_floor=self.quality_floor,
            tasks=self.tasks,
            budget_usd=self.budget_usd,
            sticky=self.sticky,
            generation_defaults=self.generation_defaults,
        )


class ExplorationSettings(StrictModel):
    """Caps on exploration beyond `epsilon`: share of each key's requests, dollars a day of this ingress."""

    key_share: float = Field(default=MAX_EPSILON, ge=0.0, le=MAX_EPSILON)  # share of a key's requests
    usd_per_day: float = Field(default=1.0, ge=0.0)  # US dollars a day (UTC), each ingress replica for itself


class LimitSettings(StrictModel):
    """Hard limits of a model: requests in flight for each slot; traffic of one that nobody knows yet."""

    # requests in a model for each of its slots; above, it is masked
    in_flight_per_slot: float = Field(default=4.0, gt=0.0)
    # share of requests that may choose a model that nobody knows yet
    new_model_share: float = Field(default=0.05, ge=0.0, le=1.0)
    new_model_outcomes: int = Field(default=30, ge=0)  # outcomes after which a model counts as known


class BreakerSettings(StrictModel):
    """A learned policy slower than `decision_s` is put aside for `cooldown_s`."""

    decision_s: float = Field(default=0.05, gt=0.0)  # seconds that one decision of a learned policy may take
    cooldown_s: float = Field(default=30.0, gt=0.0)  # seconds without it after a failure; the formula decides


class GuardSettings(StrictModel):
    """Per-key protection outside the policy.

    A key whose recent share of requests to expensive models exceeds `share_factor` times its own mean over
    `window_days`, and twice that of all keys, gets baseline dispatch; one that has spent `key_usd_per_day`
    gets the cheapest models only (0: no such budget). A model is expensive at `expensive_factor` times the
    cheapest price.
    """

    # alarm at so many times the key's own mean share of expensive models
    share_factor: float = Field(default=3.0, gt=1.0)
    window_days: float = Field(default=7.0, gt=0.0)  # days over which a key's own mean fades
    # requests of a key before it can alarm; memory of its recent share, too
    min_requests: int = Field(default=200, ge=1)
    expensive_factor: float = Field(default=2.0, gt=1.0)  # times the cheapest price: expensive
    # US dollars of one key a day (UTC), then only the cheapest models; 0: no limit
    key_usd_per_day: float = Field(default=0.0, ge=0.0)


class DualsSettings(StrictModel):
    """How hard the closed loop of budget, quality floor and latency target pulls; see
    policies.closed_loop.duals."""

    # change of the floor's and the target's multiplier per outcome and unit of violation
    step: float = Field(default=0.02, gt=0.0, le=1.0)
    most: float = Field(default=4.0, gt=0.0)  # largest multiplier
    # share of requests that may miss their latency target
    late_share: float = Field(default=0.05, gt=0.0, lt=1.0)

    def value(self) -> DualSettings:
        """The same as the frozen type that the loop reads."""
        return DualSettings(self.step, self.most, self.late_share)


class DispatchSettings(StrictModel):
    """All of dispatch. `epsilon` 0 switches exploration off; `beta` is how decisive the formula is."""

    # share of requests that explore; 0 switches it off
    epsilon: float = Field(default=0.02, ge=0.0, le=MAX_EPSILON)
    # how decisive the formula is: utility times beta gives the logits
    beta: float = Field(default=DEFAULT_BETA, gt=0.0)
    weights: WeightSettings = WeightSettings()  # weights of plain `auto`
    # scenarios by name
    profiles: dict[str, ProfileSettings] = Field(default_factory=dict)
    exploration: ExplorationSettings = ExplorationSettings()  # caps on exploration
    limits: LimitSettings = LimitSettings()  # hard limits of a model
    breaker: BreakerSettings = BreakerSettings()  # when a learned policy is put aside
    guard: GuardSettings = GuardSettings()  # protection against one key
    duals: DualsSettings = DualsSettings()  # closed loop of budget, floor and target
    canary_by_key: bool = False  # a key sees one policy version only, instead of each request drawing one

    def profile(self, name: str) -> Profile | None:
        """The profile called `name`, "" being plain `auto`; None where there is no such profile."""
        if name in self.profiles:
            return self.profiles[name].value(name, self.weights.value())
        return Profile(weights=self.weights.value()) if not name else None
