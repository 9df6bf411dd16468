"""Settings of the learner: all of it is `user_config`, so that a change restarts nothing."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from deployments.strict import StrictModel
from policies.alarms import AlarmSettings
from policies.canary import CanarySettings
from policies.gates import GateLimits

Share = Annotated[float, Field(gt=0.0, lt=1.0)]


class TrainingSettings(StrictModel):
    """One training run, in a process of its own at the lowest priority."""

    decisions: int = Field(default=1_500_000, ge=10_000)  # simulated
    environments: int = Field(default=32, ge=1)
    hidden: int = Field(default=32, ge=4)
    threads: int = Field(default=1, ge=1)
    memory_bytes: int = Field(default=3 * 2**30, ge=2**29)
    timeout_s: float = Field(default=1_800.0, gt=0.0)
    episodes: int = Field(default=8, ge=2)  # of each scenario in gate B
    episode_requests: int = Field(default=400, ge=50)
    seed: int = Field(default=0, ge=0)


class GateSettings(StrictModel):
    """Evidence that the gates ask for; see policies.gates.GateLimits."""

    alpha: float = Field(default=0.05, gt=0.0, lt=0.5)
    min_items: int = Field(default=100, ge=10)
    paired_margin: float = Field(default=0.01, ge=0.0)
    min_slice_items: int = Field(default=20, ge=2)
    slice_margin: float = Field(default=0.10, ge=0.0)
    simulator_margin: float = Field(default=0.01, ge=0.0)
    off_policy_margin: float = Field(default=0.03, ge=0.0)
    min_effective_sample_size: float = Field(default=100.0, ge=1.0)
    max_unsupported: float = Field(default=0.05, ge=0.0, le=1.0)

    def value(self) -> GateLimits:
        """The same as the frozen type that the gates read."""
        return GateLimits(**self.model_dump())


class LadderSettings(StrictModel):
    """Shadow and canary; see policies.canary.CanarySettings."""

    ladder: tuple[Share, ...] = (0.01, 0.05, 0.25)
    min_requests: int = Field(default=50, ge=1)
    min_step_s: float = Field(default=60.0, ge=0.0)
    shadow_requests: int = Field(default=50, ge=1)
    alpha: float = Field(default=0.05, gt=0.0, lt=0.5)
    margin: float = Field(default=0.02, ge=0.0)
    max_failures_above: float = Field(default=0.05, gt=0.0)

    @model_validator(mode="after")
    def _climbs(self) -> Self:
        if not self.ladder or list(self.ladder) != sorted(self.ladder):
            raise ValueError(
                f"ladder: {self.ladder}, must be ascending shares below 1 (1 follows by itself)."
            )
        return self

    def value(self) -> CanarySettings:
        """The same as the frozen type that the canary reads."""
        return CanarySettings(**self.model_dump())


class WatchSettings(StrictModel):
    """Alarms after promotion; see policies.alarms.AlarmSettings."""

    reward_margin: float = Field(default=0.05, gt=0.0)
    failure_margin: float = Field(default=0.05, gt=0.0)
    late_margin: float = Field(default=0.10, gt=0.0)
    cost_factor: float = Field(default=2.0, gt=1.0)
    min_entropy_ratio: float = Field(default=0.02, ge=0.0)
    max_share: float = Field(default=0.995, gt=0.0, le=1.0)
    window: int = Field(default=200, ge=20)
    false_alarm_every: float = Field(default=10_000.0, ge=100.0)

    def value(self) -> AlarmSettings:
        """The same as the frozen type that the alarms read."""
        return AlarmSettings(**self.model_dump())


class LearnerSettings(StrictModel):
    """`user_config` of deployment Learner."""

    enabled: bool = True
    watch_s: float = Field(default=2.0, gt=0.0)  # between looks at live outcomes
    look_s: float = Field(default=30.0, gt=0.0)  # between looks for new evidence
    min_new_items: int = Field(default=50, ge=1)  # new graded items that ask for a new candidate
    retrain_s: float = Field(default=6 * 3600.0, gt=0.0)  # a new candidate at least this often
    retry_s: float = Field(default=120.0, gt=0.0)  # before a candidate short of evidence is judged again
    cooldown_s: float = Field(default=600.0, ge=0.0)  # learning rests this long after a rollback
    latency_every_s: float = Field(default=60.0, gt=0.0)  # between fits of the latency model
    min_latency_requests: int = Field(default=50, ge=1)  # recorded ones, before it is fitted at all
    settle_s: float = Field(default=3.0, ge=0.0)  # votes have so long to come before a request counts
    log_limit: int = Field(default=20_000, ge=100)  # newest decisions that the gates read
    target_s: float = Field(default=5.0, gt=0.0)  # latency target where a caller has none
    training: TrainingSettings = TrainingSettings()
    gates: GateSettings = GateSettings()
    canary: LadderSettings = LadderSettings()
    alarms: WatchSettings = WatchSettings()
