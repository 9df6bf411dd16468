"""The durable records: what the ingress, the evaluator and the learner write and learning reads."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from policies.decider import Decider
from policies.outcome import Outcome
from policies.profile import is_auto


@dataclass(frozen=True, slots=True)
class EngineRecord:
    """One finished request as its engine saw it. Times in seconds since the engine received it.

    `queue_s` is the wait for a slot, `prefill_s` the time from there to the first token, `ttft_s` their sum.
    """

    decision_id: str
    prompt_tokens: int = 0
    output_tokens: int = 0
    queue_s: float | None = None
    prefill_s: float | None = None
    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None
    cached_tokens: int = 0  # prompt tokens found in the prefix cache
    finish_reason: str = ""


class DecisionRecord(msgspec.Struct, frozen=True, gc=False):
    """One dispatch, complete enough to replay. Arrays are float64 lists in the fields' order.

    A struct: it is made on every request, and a dataclass takes several times as long.

    `models` [M], `rows` [M][F], `prompt` [P], `caller` [C], `mask` [M], `probabilities` [M]; see
    policies.observation. `features` is the packed hashed prompt (policies.prompt.features); no text.
    """

    decision_id: str
    created_s: float  # wall clock
    key_id: str  # short hash of the API key
    requested: str  # the `model` that was asked for
    profile: str
    model: str  # the model that the decision chose
    policy: str  # who decided, the text form of policies.decider.Decider
    propensity: float
    epsilon: float
    seed: int
    models: tuple[str, ...] = ()
    rows: tuple[tuple[float, ...], ...] = ()
    prompt: tuple[float, ...] = ()
    caller: tuple[float, ...] = ()
    mask: tuple[bool, ...] = ()
    reasons: Mapping[str, str] = msgspec.field(default_factory=dict)  # masked model -> why
    probabilities: tuple[float, ...] = ()
    features: bytes = b""
    prompt_hash: str = ""  # keyed hash, for counting repeats
    observation_version: int = 0
    quality_revision: str = ""
    snapshot_version: int = 0
    snapshot_age_s: float = 0.0
    decide_s: float = 0.0  # time the decision took
    shadow: str = ""  # `version:model` that a candidate policy in shadow would have chosen
    text: str | None = None  # only where the operator opted in, redacted
    # version whose turn it was, 0 the formula; None where the caller chose, and in records of 0.1.0
    assigned: int | None = None
    team: str = ""  # of the API key
    ingress: str = ""  # the replica that made it

    @property
    def decider(self) -> Decider:
        """Who decided."""
        return Decider.parse(self.policy)

    @property
    def charged_version(self) -> int:
        """The version that answers for this decision, 0 the formula: whose turn it was, whoever stood in."""
        return (self.decider.version or 0) if self.assigned is None else self.assigned

    @property
    def is_dispatched(self) -> bool:
        """Whether the policy chose the model, not the caller by name."""
        return is_auto(self.requested)


@dataclass(frozen=True, slots=True)
class OutcomeRecord:
    """What came of a decision. `model` and `replica` are those that answered."""

    decision_id: str
    finished_s: float  # wall clock
    model: str
    replica: str
    outcome: Outcome
    fallbacks: tuple[str, ...] = ()  # models tried before, in order
    ingress_s: float | None = None  # time spent in the ingress itself
    accounts: tuple[str, ...] = ()  # that are charged its cost
    baseline_usd: float | None = None  # what the same tokens cost at the baseline model's prices


@dataclass(frozen=True, slots=True)
class EvaluationRecord:
    """One model's graded answer to one suite item; (suite, item, model, revision) is its identity."""

    suite: str
    suite_revision: str
    item: str
    task: str
    profile: str
    model: str
    model_revision: str
    score: float  # [0, 1]
    squared_error: float | None = None  # numeric answers only
    features: bytes = b""
    prompt_tokens: int = 0
    output_tokens: int = 0
    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None
    cost_usd: float = 0.0
    error: str | None = None
    finished_s: float = 0.0
    language: str = ""
    answer: str | None = None  # the model's text; the suite is the project's own, not a user's


@dataclass(frozen=True, slots=True)
class FeedbackRecord:
    """One vote on one decision and metric; `score` in [0, 1]."""

    decision_id: str
    key_id: str
    metric: str
    score: float
    received_s: float
    detail: str | None = None  # hash of a correction or the compared decision's id


@dataclass(frozen=True, slots=True)
class PolicyEvent:
    """One step in the life of a policy version: trained, verdict, promoted, rolled back."""

    version: int
    at_s: float
    kind: str
    detail: Mapping[str, object] = field(default_factory=dict)


def latest(records: Iterable[EvaluationRecord]) -> list[EvaluationRecord]:
    """Of each model and suite only the answers of the newest pair of revisions."""
    records = sorted(records, key=lambda record: record.finished_s)
    newest = {(r.suite, r.model): (r.suite_revision, r.model_revision) for r in records}
    return [r for r in records if newest[r.suite, r.model] == (r.suite_revision, r.model_revision)]
