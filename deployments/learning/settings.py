"""Settings of the learner: all of it is `user_config`, so that a change restarts nothing."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from deployments.strict import StrictModel
from policies.promotion.alarms import AlarmSettings
from policies.promotion.canary import CanarySettings
from policies.promotion.gates import GateLimits


class FitSettings(StrictModel):
    """How the quality model is fitted after a round, in a process of its own."""

    threads: int = Field(default=1, ge=1)  # threads of its process
    # priority of its process; 19 would never end beside a busy engine
    nice: int = Field(default=10, ge=0, le=19)
    # seconds until it is given up; the last quality model stays
    timeout_s: float = Field(default=300.0, gt=0)
    # seconds between fits for the sake of new votes alone
    votes_every_s: float = Field(default=600.0, ge=1.0)
    # seconds in which a vote comes to count half for prompts like the one that it was about
    vote_half_life_s: float = Field(default=604_800.0, gt=0)
    feedback_metrics: tuple[str, ...] = ("quality", "browser")  # feedback metrics where 1 is best


Share = Annotated[float, Field(gt=0.0, lt=1.0)]


class TrainingSettings(StrictModel):
    """One training run, in a process of its own at the lowest priority."""

    decisions: int = Field(default=1_500_000, ge=10_000)  # simulated decisions of one training
    environments: int = Field(default=32, ge=1)  # simulated pools side by side
    hidden: int = Field(default=32, ge=4)  # hidden units of each layer
    threads: int = Field(default=1, ge=1)  # threads of the process
    memory_bytes: int = Field(default=3 * 2**30, ge=2**29)  # of data that the process may hold, in bytes
    timeout_s: float = Field(default=1_800.0, gt=0.0)  # seconds until the run is given up
    episodes: int = Field(default=8, ge=2)  # of each scenario in gate B
    episode_requests: int = Field(default=400, ge=50)  # requests of one episode
    seed: int = Field(default=0, ge=0)  # of the training and of the episodes


class GateSettings(StrictModel):
    """Evidence that the gates ask for; see policies.promotion.gates.GateLimits."""

    alpha: float = Field(default=0.05, gt=0.0, lt=0.5)  # one-sided level of each bound
    min_items: int = Field(default=100, ge=10)  # paired items before gate A says anything
    paired_margin: float = Field(default=0.01, ge=0.0)  # loss of utility overall that gate A must exclude
    # items of a task, language or length that is judged by itself
    min_slice_items: int = Field(default=20, ge=2)
    slice_margin: float = Field(default=0.10, ge=0.0)  # loss of utility on one slice that gate A must exclude
    # loss of utility against a baseline that gate B must exclude
    simulator_margin: float = Field(default=0.01, ge=0.0)
    # loss of utility that the log may say at most, gate C
    off_policy_margin: float = Field(default=0.03, ge=0.0)
    # of the log, below which gate C asks for more
    min_effective_sample_size: float = Field(default=100.0, ge=1.0)
    # share of the candidate's choices that the log never tried
    max_unsupported: float = Field(default=0.05, ge=0.0, le=1.0)

    def value(self) -> GateLimits:
        """The same as the frozen type that the gates read."""
        return GateLimits(**self.model_dump())


class LadderSettings(StrictModel):
    """Shadow and canary; see policies.promotion.canary.CanarySettings."""

    # shares of requests, ascending; the whole follows by itself
    ladder: tuple[Share, ...] = (0.01, 0.05, 0.25)
    min_requests: int = Field(default=50, ge=1)  # finished requests of the candidate on each step
    min_step_s: float = Field(default=60.0, ge=0.0)  # seconds on each step, at least
    shadow_requests: int = Field(default=50, ge=1)  # requests decided in shadow before the canary
    alpha: float = Field(default=0.05, gt=0.0, lt=0.5)  # chance that a candidate no worse is ever sent back
    margin: float = Field(default=0.02, ge=0.0)  # loss of utility that is no reason to go back
    # error rate above the incumbent's that sends it back
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
    """Alarms after promotion; see policies.promotion.alarms.AlarmSettings."""

    reward_margin: float = Field(default=0.05, gt=0.0)  # loss of mean utility
    failure_margin: float = Field(default=0.05, gt=0.0)  # rise of the error rate
    late_margin: float = Field(default=0.10, gt=0.0)  # rise of the share of late requests
    cost_factor: float = Field(default=2.0, gt=1.0)  # times the cost before
    # of the entropy before; below it the policy has collapsed
    min_entropy_ratio: float = Field(default=0.02, ge=0.0)
    # of requests that one model takes though others could
    max_share: float = Field(default=0.995, gt=0.0, le=1.0)
    window: int = Field(default=200, ge=20)  # last requests over which entropy and share are looked at
    # mean number of requests between two false alarms
    false_alarm_every: float = Field(default=10_000.0, ge=100.0)

    def value(self) -> AlarmSettings:
        """The same as the frozen type that the alarms read."""
        return AlarmSettings(**self.model_dump())


class LearnerSettings(StrictModel):
    """`user_config` of deployment Learner: all of it changes live."""

    enabled: bool = True  # False: nothing is trained, moved or watched
    watch_s: float = Field(default=2.0, gt=0.0)  # seconds between looks at live outcomes
    look_s: float = Field(default=30.0, gt=0.0)  # seconds between looks for new evidence
    min_new_items: int = Field(default=50, ge=1)  # new graded items that ask for a new candidate
    # seconds after which a new candidate is trained in any case
    retrain_s: float = Field(default=6 * 3600.0, gt=0.0)
    # seconds before a candidate short of evidence is judged again
    retry_s: float = Field(default=120.0, gt=0.0)
    cooldown_s: float = Field(default=600.0, ge=0.0)  # seconds that learning rests after a rollback
    latency_every_s: float = Field(default=60.0, gt=0.0)  # seconds between fits of the latency model
    min_latency_requests: int = Field(default=50, ge=1)  # recorded requests before it is fitted at all
    settle_s: float = Field(default=3.0, ge=0.0)  # seconds that votes have to come before a request counts
    log_limit: int = Field(default=20_000, ge=100)  # newest decisions that the gates read
    target_s: float = Field(default=5.0, gt=0.0)  # latency target in seconds where a caller has none
    training: TrainingSettings = TrainingSettings()  # one training run
    gates: GateSettings = GateSettings()  # evidence that a candidate needs
    canary: LadderSettings = LadderSettings()  # the way to the users
    alarms: WatchSettings = WatchSettings()  # what rolls an active version back
