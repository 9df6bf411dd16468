"""One dispatch: the request with what was observed for it, the model drawn, and the record for the log."""

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from deployments.dispatch.columns import Columns
from deployments.dispatch.request import DispatchRequest
from deployments.records.records import DecisionRecord
from policies.arrays import F64
from policies.closed_loop.pacer import Foreseen
from policies.decider import NAMED, Decider
from policies.decision import Decision
from policies.formula import observed_utility
from policies.observation import CALLER_COLUMN, MODEL_COLUMN, OBSERVATION_VERSION, Observation
from policies.profile import Profile
from policies.prompt.features import PromptFeatures, pack

_COST: Final = MODEL_COLUMN["cost_usd"]


@dataclass(slots=True)
class Dispatch:
    """One request from its observation to its outcome.

    The dispatcher makes it. Explain shows it with nothing drawn; `Dispatcher.dispatch` adds `decision`,
    `record` and what the pacer has to know. The job carries it until the outcome has settled it.
    """

    request: DispatchRequest
    profile: Profile
    columns: Columns
    features: PromptFeatures
    observation: Observation
    reasons: dict[str, str]  # masked model -> why
    decider: Decider
    assigned: int | None  # version whose turn it was, 0 the priced rule; None where the caller chose
    policy_probabilities: F64  # [M]
    epsilon: float
    seed: int
    session: str | None  # key under which the session's model is remembered, None where there is none
    bound: bool  # the session must keep its model
    stay: int | None  # index of the session's model, where the request stays with it
    age_s: float  # of the snapshot
    quality_revision: str
    chain: tuple[str, ...]  # the model that the caller named and its substitutes, in order; () for `auto`
    decision: Decision = field(init=False, repr=False)
    record: DecisionRecord = field(init=False, repr=False)
    foreseen: Foreseen | None = None  # None where the profile has no budget or the caller chose
    too_short: list[str] = field(default_factory=list)  # models whose engine found the prompt too long

    @property
    def probabilities(self) -> F64:
        """[M] what is sampled: the policy's, or all on the model with which the session stays."""
        if self.stay is None:
            return self.policy_probabilities
        return np.eye(len(self.observation.models))[self.stay]

    @property
    def predicted_cost_usd(self) -> float:
        """What the chosen model's answer is expected to cost."""
        return float(self.observation.rows[self.decision.index, _COST])

    @property
    def is_named(self) -> bool:
        """Whether the caller named the model."""
        return self.decider == NAMED

    @property
    def ranking(self) -> tuple[str, ...]:
        """The allowed models but the chosen one, the policy's favourite first, those of a chain in order."""
        o = self.observation
        if self.chain:
            return tuple(m for m in self.chain if m != self.decision.model and m not in self.reasons)
        order = np.argsort(-self.policy_probabilities, kind="stable").tolist()
        return tuple(o.models[i] for i in order if i != self.decision.index and o.mask[i])

    @property
    def passed_over(self) -> tuple[str, ...]:
        """The models of the chain before the chosen one, which could not answer."""
        return self.chain[: self.chain.index(self.decision.model)] if self.chain else ()

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
            "policy": str(self.decider),
            "profile": self.profile.name,
            "epsilon": self.epsilon,
            "caller": {name: float(self.observation.caller[i]) for name, i in CALLER_COLUMN.items()},
            "candidates": [one for one in self.candidates() if self._is_known(str(one["model"]))],
        }

    def _is_known(self, model: str) -> bool:
        """Whether the caller's key may know of a model."""
        allowed = self.request.key_models
        return allowed is None or model in allowed

    def record_as(self, created_s: float, prompt_hash: str, shadow: str, decide_s: float) -> DecisionRecord:
        """The decision as the log keeps it."""
        request, o, decision = self.request, self.observation, self.decision
        return DecisionRecord(
            decision_id=request.decision_id,
            created_s=created_s,
            key_id=request.key_id,
            requested=request.requested,
            profile=self.profile.name,
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
            reasons=self.reasons,
            probabilities=tuple(decision.probabilities.tolist()),
            features=pack(self.features),
            prompt_hash=prompt_hash,
            observation_version=OBSERVATION_VERSION,
            quality_revision=self.quality_revision,
            snapshot_version=self.columns.snapshot.version,
            snapshot_age_s=self.age_s,
            shadow=shadow,
            decide_s=decide_s,
            assigned=self.assigned,
            team=request.team,
            ingress=request.ingress,
        )
