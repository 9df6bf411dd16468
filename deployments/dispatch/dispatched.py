"""What the dispatcher answers: the request as it was seen, the model drawn, and the record for the log."""

from dataclasses import dataclass

import numpy as np

from deployments.dispatch.columns import Columns
from deployments.dispatch.policy_host import Choice
from deployments.dispatch.request import DispatchRequest
from deployments.records.records import DecisionRecord
from policies.arrays import F64
from policies.decision import Decision
from policies.observation import CALLER_COLUMN, MODEL_COLUMN, OBSERVATION_VERSION, Observation
from policies.profile import Profile
from policies.prompt.features import PromptFeatures, pack
from policies.utility import observed_utility


@dataclass(slots=True)
class Considered:
    """One request looked at, nothing drawn yet: what dispatch samples from and explain shows."""

    request: DispatchRequest
    profile: Profile
    columns: Columns
    features: PromptFeatures
    observation: Observation
    reasons: dict[str, str]  # masked model -> why
    choice: Choice
    seed: int
    session: str | None  # key under which the session's model is kept, None where there is none
    stay: int | None  # index of the session's model, where it has one that is allowed
    age_s: float
    quality_revision: str

    @property
    def probabilities(self) -> F64:
        """[M] what is sampled: the policy's, or all on the model with which the session stays."""
        if self.stay is None:
            return self.choice.probabilities
        return np.eye(len(self.observation.models))[self.stay]

    def candidates(self) -> list[dict[str, object]]:
        """One dict a model, most probable first: what the policy saw and what it made of it."""
        o, probabilities = self.observation, self.probabilities
        scores = observed_utility(o)
        order = np.argsort(-probabilities, kind="stable").tolist()
        return [
            {
                "model": o.models[i],
                "masked": o.models[i] in self.reasons,
                "reason": self.reasons.get(o.models[i]),
                "score": None if o.models[i] in self.reasons else float(scores[i]),
                "probability": float(probabilities[i]),
                **{name: float(o.rows[i, column]) for name, column in MODEL_COLUMN.items()},
            }
            for i in order
        ]

    def explanation(self) -> dict[str, object]:
        """The body of `/v1/dispatch/explain`."""
        return {
            "policy": str(self.choice.decider),
            "profile": self.profile.name,
            "epsilon": self.choice.epsilon,
            "caller": {name: float(self.observation.caller[i]) for name, i in CALLER_COLUMN.items()},
            "candidates": self.candidates(),
        }


@dataclass(frozen=True, slots=True)
class Dispatched:
    """A choice, with the record that goes to the log."""

    decision: Decision
    observation: Observation
    reasons: dict[str, str]
    record: DecisionRecord
    profile: Profile
    preference: F64  # [M] the policy's probabilities

    @property
    def ranking(self) -> tuple[str, ...]:
        """The allowed models but the chosen one, the policy's favourite first."""
        o = self.observation
        order = np.argsort(-self.preference, kind="stable").tolist()
        return tuple(o.models[i] for i in order if i != self.decision.index and o.mask[i])


def record_of(
    seen: Considered, decision: Decision, created_s: float, prompt_hash: str, shadow: str, decide_s: float
) -> DecisionRecord:
    """The decision as the log keeps it."""
    request, o = seen.request, seen.observation
    return DecisionRecord(
        decision_id=request.decision_id,
        created_s=created_s,
        key_id=request.key_id,
        requested=request.requested,
        profile=seen.profile.name,
        model=decision.model,
        policy=str(decision.decider),
        propensity=decision.propensity,
        epsilon=decision.epsilon,
        seed=decision.seed,
        models=o.models,
        rows=tuple(map(tuple, o.rows.tolist())),
        prompt=tuple(o.prompt.tolist()),
        caller=tuple(o.caller.tolist()),
        mask=tuple(o.mask.tolist()),
        reasons=seen.reasons,
        probabilities=tuple(decision.probabilities.tolist()),
        features=pack(seen.features),
        prompt_hash=prompt_hash,
        observation_version=OBSERVATION_VERSION,
        quality_revision=seen.quality_revision,
        snapshot_version=seen.columns.snapshot.version,
        snapshot_age_s=seen.age_s,
        shadow=shadow,
        decide_s=decide_s,
    )
