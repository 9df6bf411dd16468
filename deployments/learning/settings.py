"""Settings of the learner: all of it is `user_config`, so that a change restarts nothing."""

from typing import Final

from pydantic import Field

from policies.promotion.alarms import AlarmSettings
from policies.promotion.canary import CanarySettings
from policies.promotion.gates import GateSettings
from policies.strict import StrictModel

LEARNED_METRICS: Final = ("quality", "browser")  # feedback metrics of which 1 is the best score


class FitSettings(StrictModel):
    """How the quality model is fitted after a round, as a Ray task in a process of its own."""

    # Wait for this many CPUs of the cluster, as Ray counts them: so few that a full cluster has them left.
    num_cpus: float = Field(default=0.01, ge=0)
    threads: int = Field(default=1, ge=1)  # Use so many threads.
    # Run at this niceness; at 19 the fit would never end beside a busy engine.
    nice: int = Field(default=10, ge=0, le=19)
    # Give up after so many seconds; the last quality model stays in use.
    timeout_s: float = Field(default=300.0, gt=0)
    # Wait at least so many seconds between fits that only new votes ask for.
    votes_every_s: float = Field(default=600.0, ge=1.0)
    # Halve the weight of a vote, for prompts like the one that it was about, after so many seconds.
    vote_half_life_s: float = Field(default=604_800.0, gt=0)
    # Learn from these feedback metrics, of which 1 is the best score.
    feedback_metrics: tuple[str, ...] = LEARNED_METRICS


class TrainingSettings(StrictModel):
    """One training run, as a Ray task in a process of its own at the lowest priority."""

    # Wait for this many CPUs of the cluster, as Ray counts them: so few that a full cluster has them left.
    num_cpus: float = Field(default=0.01, ge=0)
    decisions: int = Field(default=1_500_000, ge=10_000)  # Train on so many simulated decisions.
    environments: int = Field(default=32, ge=1)  # Simulate so many pools side by side.
    hidden: int = Field(default=32, ge=4)  # Give each layer of the network so many units.
    threads: int = Field(default=1, ge=1)  # Use so many threads.
    memory_bytes: int = Field(default=3 * 2**30, ge=2**29)  # Hold at most so many bytes of data.
    timeout_s: float = Field(default=1_800.0, gt=0.0)  # Give up after so many seconds.
    episodes: int = Field(default=8, ge=2)  # Play so many episodes of each scenario in gate B.
    episode_requests: int = Field(default=400, ge=50)  # Put so many requests into each episode.
    seed: int = Field(default=0, ge=0)  # Seed training and episodes with this.


class LearnerSettings(StrictModel):
    """`user_config` of deployment Learner: all of it changes live."""

    enabled: bool = True  # Set to false to train, move and watch nothing.
    watch_s: float = Field(default=2.0, gt=0.0)  # Look at live outcomes every so many seconds.
    look_s: float = Field(default=30.0, gt=0.0)  # Look for new evidence every so many seconds.
    min_new_items: int = Field(default=50, ge=1)  # Train a candidate after so many new graded answers.
    # Train a candidate after so many seconds in any case.
    retrain_s: float = Field(default=6 * 3600.0, gt=0.0)
    # Judge a candidate that is short of evidence again after so many seconds.
    retry_s: float = Field(default=120.0, gt=0.0)
    cooldown_s: float = Field(default=600.0, ge=0.0)  # Rest for so many seconds after a rollback.
    latency_every_s: float = Field(default=60.0, gt=0.0)  # Fit the latency model every so many seconds.
    # Fit the latency model only from this many recorded requests on.
    min_latency_requests: int = Field(default=50, ge=1)
    # Accept this chance that any candidate without a gain is ever promoted, over the life of the pool.
    false_promotions: float = Field(default=0.05, gt=0.0, lt=1.0)
    votes_s: float = Field(default=600.0, ge=0.0)  # Wait so many seconds for votes before a promotion.
    settle_s: float = Field(default=3.0, ge=0.0)  # Count a request so many seconds after its end.
    # Count these feedback metrics, of which 1 is the best score, as what a request was worth.
    feedback_metrics: tuple[str, ...] = LEARNED_METRICS
    log_limit: int = Field(default=20_000, ge=100)  # Let the gates read so many of the newest decisions.
    target_s: float = Field(default=5.0, gt=0.0)  # Assume this latency target where a caller has none.
    training: TrainingSettings = TrainingSettings()  # One training run.
    gates: GateSettings = GateSettings()  # Evidence that a candidate needs.
    canary: CanarySettings = CanarySettings()  # Shadow and canary of a candidate.
    alarms: AlarmSettings = AlarmSettings()  # What rolls an active version back.
