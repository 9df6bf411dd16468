"""Settings of dispatch; all of them change live through `user_config`."""

from typing import Any

from pydantic import Field, model_validator

from deployments.records.budget import Budget
from policies.closed_loop.duals import DualSettings
from policies.profile import Profile
from policies.strict import StrictModel
from policies.utility import DEFAULT_BETA, MOST_LOAD, Weights

MAX_EPSILON = 0.05


class WeightSettings(StrictModel):
    """a1, a2, a3: what accuracy, latency and cost are worth."""

    # Weight a1 of predicted accuracy.
    accuracy: float = Field(default=1.0, ge=0.0)
    # Weight a2 of relative speed.
    latency: float = Field(default=1.0, ge=0.0)
    # Weight a3 of cheapness. At least one of the three weights must be above 0.
    cost: float = Field(default=0.0, ge=0.0)

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

    # Weights of the profile. Default: `dispatch.weights`.
    weights: WeightSettings | None = None
    # Latency target in seconds, from request to last byte. 0: no target.
    target_s: float = Field(default=0.0, ge=0.0)
    # Models that the profile may choose. Default: all models.
    allowed: tuple[str, ...] | None = Field(default=None, min_length=1, examples=[["small", "large"]])
    # Smallest evaluated score that a model must have to be chosen. 0: no floor.
    quality_floor: float = Field(default=0.0, ge=0.0, le=1.0, examples=[0.6])
    # Share of the answers that may fall below `quality_floor`; models of which more is to be expected for a
    # prompt are not chosen for it. 0: the floor holds for a model's mean score instead.
    alpha: float = Field(default=0.0, ge=0.0, lt=1.0, examples=[0.1])
    # Tasks of the evaluation on which the floor is checked. Empty: all tasks.
    tasks: tuple[str, ...] = Field(default=(), examples=[["intent"]])
    # Mean US dollars that a request may cost. 0: no budget.
    budget_usd: float = Field(default=0.0, ge=0.0, examples=[0.002])
    # Answer 429 once the profile has spent this many US dollars in a window. Default: no limit.
    budget: Budget | None = Field(default=None, examples=[{"usd": 50, "window": "1d"}])
    # Keep a session on its model while this is healthy and within the budget; otherwise the session moves for
    # good.
    sticky: bool = False
    # Request fields that are set where the caller does not give them.
    generation_defaults: dict[str, Any] = Field(default_factory=dict)

    def value(self, name: str, default: Weights) -> Profile:
        """The frozen profile called `name`."""
        return Profile(
            name=name,
            weights=self.weights.value() if self.weights else default,
            target_s=self.target_s,
            allowed=self.allowed,
            quality_floor=self.quality_floor,
            alpha=self.alpha,
            tasks=self.tasks,
            budget_usd=self.budget_usd,
            sticky=self.sticky,
            generation_defaults=self.generation_defaults,
        )


class ExplorationSettings(StrictModel):
    """Caps on exploration beyond `epsilon`: share of each key's requests, dollars a day of this ingress."""

    # Largest share of a key's requests that may explore.
    key_share: float = Field(default=MAX_EPSILON, ge=0.0, le=MAX_EPSILON)
    # US dollars that exploration may cost per day (UTC), for each ingress replica.
    usd_per_day: float = Field(default=1.0, ge=0.0)


class LimitSettings(StrictModel):
    """Hard limits of a model: requests in flight for each slot; traffic of a model without any outcomes."""

    # Requests of a model that may wait or run, for each of its slots; 1: none waits. `auto` passes a model
    # above it over where another has room.
    in_flight_per_slot: float = Field(default=MOST_LOAD, gt=0.0)
    # Largest share of requests that may choose a model about which nothing is known.
    new_model_share: float = Field(default=0.05, ge=0.0, le=1.0)
    # Number of finished requests after which a model counts as known.
    new_model_outcomes: int = Field(default=30, ge=0)
    # Models that get no new request, by name or by `auto`; what they have begun they finish.
    drained: tuple[str, ...] = Field(default=(), examples=[["smollm2-135m"]])


class BreakerSettings(StrictModel):
    """The formula decides for `cooldown_s` after a decision that took longer than `decision_s`."""

    # Seconds that one decision of a learned policy may take. If it takes longer, the formula decides.
    decision_s: float = Field(default=0.05, gt=0.0)
    # Seconds for which the formula decides after a learned policy has failed.
    cooldown_s: float = Field(default=30.0, gt=0.0)


class GuardSettings(StrictModel):
    """Per-key protection outside the policy.

    A key whose recent share of requests to expensive models exceeds `share_factor` times its own mean over
    `window_days`, and twice that of all keys, gets baseline dispatch; one that has spent `key_usd_per_day`
    gets the cheapest models only (0: no such budget). A model is expensive at `expensive_factor` times the
    cheapest price.
    """

    # Alarm when a key's share of expensive models exceeds its own mean by this factor.
    share_factor: float = Field(default=3.0, gt=1.0)
    # Days over which a key's own mean is formed.
    window_days: float = Field(default=7.0, gt=0.0)
    # Requests of a key before it can raise an alarm, and over which its recent share is formed.
    min_requests: int = Field(default=200, ge=1)
    # Call a model expensive at this multiple of the cheapest price.
    expensive_factor: float = Field(default=2.0, gt=1.0)
    # US dollars that one key may cost per day (UTC). After that it gets only the cheapest models. 0: no
    # limit.
    key_usd_per_day: float = Field(default=0.0, ge=0.0, examples=[5.0])


class DualsSettings(StrictModel):
    """How hard the closed loop of budget, quality floor and latency target pulls; see
    policies.closed_loop.duals."""

    # Change of the multiplier of floor and target per finished request and unit of violation.
    step: float = Field(default=0.02, gt=0.0, le=1.0)
    # Largest multiplier.
    most: float = Field(default=4.0, gt=0.0)
    # Share of requests that may miss their latency target.
    late_share: float = Field(default=0.05, gt=0.0, lt=1.0)

    def value(self) -> DualSettings:
        """The same as the frozen type that the loop reads."""
        return DualSettings(self.step, self.most, self.late_share)


class DispatchSettings(StrictModel):
    """All of dispatch. `epsilon` 0 switches exploration off; `beta` is how decisive differences are."""

    # Share of requests that explore. 0 switches exploration off.
    epsilon: float = Field(default=0.02, ge=0.0, le=MAX_EPSILON)
    # Sharpness of priced rule and formula: utility times beta gives the logits. Larger values choose the best
    # model more often.
    beta: float = Field(default=DEFAULT_BETA, gt=0.0)
    # Weights of plain `auto`.
    weights: WeightSettings = WeightSettings()
    # Profiles by name: `auto:<name>` chooses one.
    profiles: dict[str, ProfileSettings] = Field(default_factory=dict)
    # Limits on exploration.
    exploration: ExplorationSettings = ExplorationSettings()
    # Limits on the load and the newness of a model.
    limits: LimitSettings = LimitSettings()
    # When the formula takes over from a learned policy.
    breaker: BreakerSettings = BreakerSettings()
    # Protection against the unusual use of one key.
    guard: GuardSettings = GuardSettings()
    # Closed loop that meets budget, quality floor and latency target.
    duals: DualsSettings = DualsSettings()

    def profile(self, name: str) -> Profile | None:
        """The profile called `name`, "" being plain `auto`; None where there is no such profile."""
        if name in self.profiles:
            return self.profiles[name].value(name, self.weights.value())
        return Profile(weights=self.weights.value()) if not name else None
