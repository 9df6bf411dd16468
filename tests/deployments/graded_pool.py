"""Two models with graded answers, and the input of a training run on them."""

import numpy as np

from deployments.learning.candidate_job import JobInput
from deployments.learning.settings import LearnerSettings, TrainingSettings
from deployments.records.records import EvaluationRecord
from deployments.records.snapshot import Snapshot
from policies.prompt.features import extract, pack
from tests.deployments.pools import NOW_S, model

TRAINING = TrainingSettings(decisions=10_000, environments=8, hidden=8, episodes=2, episode_requests=60)
SETTINGS = LearnerSettings(training=TRAINING)
POOL = Snapshot(
    "boot", 1, NOW_S, {"large": model("large", tpot_s=0.05), "small": model("small", tpot_s=0.01)}
)


def evaluations(count: int = 60) -> list[EvaluationRecord]:
    """Items of two tasks: small is good at one, large at both."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(count):
        task = "label" if i % 2 else "write"
        features = pack(extract(f"{task} item {i} about topic {rng.integers(9)}"))
        for name, chance in (("large", 0.8), ("small", 0.85 if task == "label" else 0.1)):
            found.append(
                EvaluationRecord(
                    "s",
                    "1",
                    str(i),
                    task,
                    "",
                    name,
                    "",
                    float(rng.random() < chance),
                    None,
                    features,
                    12,
                    20,
                    0.1,
                    0.01,
                    1.5 if name == "large" else 0.4,
                    finished_s=1.0,
                    language="en",
                )
            )
    return found


def job(
    records: list[EvaluationRecord], *, candidate: bytes = b"", incumbent: bytes = b"", version: int = 1
) -> JobInput:
    """What the Learner would hand over; no log, no votes."""
    settings = SETTINGS.model_dump_json().encode()
    return JobInput(POOL, records, [], [], settings, 20.0, 0.05, candidate, incumbent, version)
