"""Hard constraints: which models may answer a request at all, and why the others may not."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from deployments.dispatch.columns import Columns
from deployments.dispatch.names import chain
from deployments.dispatch.request import DispatchRequest, Prompt
from deployments.dispatch.settings import LimitSettings
from deployments.records.snapshot import Estimate
from policies.arrays import F64, Bools
from policies.decision import uniform_from_seed
from policies.observation import MODEL_COLUMN
from policies.profile import Profile

_ESTABLISHED: Final = 10  # times a new model's outcomes: what the pool must have before one counts as new
_PROBATION_SALT: Final = 0x5DEECE66D
_MAX_KEPT: Final = 1_000

_IN_FLIGHT, _SLOTS = MODEL_COLUMN["in_flight"], MODEL_COLUMN["slots"]
_E2E, _COST = MODEL_COLUMN["e2e_s"], MODEL_COLUMN["cost_usd"]


class Reason(StrEnum):
    """Why a model is masked; the words appear in explain, in the log and as a metric's label."""

    NOT_NAMED = "another model was named"
    WEIGHT = "weight is 0"
    NOT_ALLOWED = "not allowed"
    DRAINED = "drained by an operator"
    QUALITY = "below the quality floor"
    FLOOR = "likely below the quality floor"
    UNHEALTHY = "unhealthy"  # no replica is warm, recently heard of and not ejected
    UNPRICED = "price 0 under a limit in dollars"
    ASLEEP = "asleep"  # no replica runs, and one starts when the model is named or planned for
    CAPABILITY = "missing capability"
    CONTEXT = "context too short"
    OVER_LIMIT = "over its limit"
    LATENCY = "too slow for max_latency_s"
    COST = "too expensive for max_cost_usd"
    BUDGET = "key's daily budget is spent"
    PROFILE_BUDGET = "more than the profile's budget has left"
    PROBATION = "not known well enough yet"


_MAY_PASS: Final = (Reason.UNHEALTHY, Reason.OVER_LIMIT, Reason.ASLEEP)
PASSING: Final = frozenset(reason.value for reason in _MAY_PASS)  # what may end by waiting


class NoModelError(RuntimeError):
    """Every model is masked. `reasons` maps model -> why, in the words of Reason.

    `wakes`: the model that sleeps and was asked to wake for the request, "" for none, which serves in about
    `ready_in_s`.
    """

    def __init__(self, reasons: dict[str, str], wakes: str = "", ready_in_s: float = 0.0) -> None:
        listed = ", ".join(f"'{model}': {why}" for model, why in sorted(reasons.items()))
        super().__init__(f"No model can take this request ({listed or 'the pool is empty'}).")
        self.reasons = reasons
        self.wakes, self.ready_in_s = wakes, ready_in_s


class Mask:
    """`allowed` [M] shrinks with every `keep`; `reasons` holds the first that struck each model."""

    __slots__ = ("allowed", "models", "reasons")

    def __init__(self, models: tuple[str, ...], allowed: Bools, reasons: dict[str, str]) -> None:
        self.models = models
        self.allowed = allowed
        self.reasons = reasons

    @property
    def is_empty(self) -> bool:
        """Whether no model is left."""
        return len(self.reasons) == len(self.models)

    def keep(self, passing: Bools, reason: Reason) -> None:
        """Take out the models where `passing` [M] is False."""
        if False not in passing.tolist():  # of few models, this is the fastest way to ask
            return
        for i in np.flatnonzero(self.allowed & ~passing).tolist():
            self.reasons[self.models[i]] = reason.value
        self.allowed = self.allowed & passing

    def prefer(self, passing: Bools, reason: Reason) -> None:
        """Take out the models where `passing` [M] is False, unless no other is left."""
        if (self.allowed & passing).any():
            self.keep(passing, reason)

    def overrule(self, passing: Bools, before: Reason, reason: Reason) -> None:
        """Give `reason` in place of `before` to the models where `passing` [M] is False."""
        for i in np.flatnonzero(~passing).tolist():
            if self.reasons.get(self.models[i]) == before:
                self.reasons[self.models[i]] = reason.value

    def keep_only(self, names: tuple[str, ...] | frozenset[str], reason: Reason) -> None:
        """Take out the models that `names` does not hold."""
        self.keep(np.array([model in names for model in self.models], dtype=bool), reason)


@dataclass(frozen=True, slots=True)
class StaticMask:
    """The constraints that are the same for every request of one kind, until the next snapshot."""

    allowed: Bools
    reasons: dict[str, str]
    in_flight_limit: F64
    new: Bools | None  # models in probation, None where there is none


def static_mask(
    columns: Columns, request: DispatchRequest, profile: Profile | None, limits: LimitSettings
) -> StaticMask:
    """What does not depend on the prompt or the load; `profile` None means that a model is named."""
    needs, listed = request.prompt.needs, request.preferences.models
    key = (request.requested, request.key_models, listed, needs, bool(request.dollar_limit))
    static = columns.kept.get(key)
    if not isinstance(static, StaticMask):
        static = _static_mask(columns, request, profile, limits)
        if len(columns.kept) >= _MAX_KEPT:
            columns.kept.clear()
        columns.kept[key] = static
    return static


def _static_mask(
    columns: Columns, request: DispatchRequest, profile: Profile | None, limits: LimitSettings
) -> StaticMask:
    mask = Mask(columns.models, np.ones(len(columns.models), dtype=bool), {})
    if profile is None:
        mask.keep_only(chain(columns.snapshot.models, request.requested), Reason.NOT_NAMED)
    else:
        mask.keep(columns.weighted, Reason.WEIGHT)
        if profile.allowed is not None:
            mask.keep_only(profile.allowed, Reason.NOT_ALLOWED)
        if profile.quality_floor > 0.0 and not profile.alpha:
            score = np.array([evaluated(scores, profile.tasks) for scores in columns.by_task])
            mask.keep(~(score < profile.quality_floor), Reason.QUALITY)
    if limits.drained:
        mask.keep(np.array([model not in limits.drained for model in columns.models]), Reason.DRAINED)
    for allowed in (request.key_models, request.preferences.models):
        if allowed is not None:
            mask.keep_only(allowed, Reason.NOT_ALLOWED)
    if request.dollar_limit:  # which such a model would slip through
        mask.keep(columns.prompt_usd_per_mtok + columns.completion_usd_per_mtok > 0.0, Reason.UNPRICED)
    needs = request.prompt.needs
    if needs:
        able = np.array([needs <= has for has in columns.capabilities], dtype=bool)
        mask.keep(able, Reason.CAPABILITY)
    mask.keep(columns.usable | (columns.ready_in_s > 0.0), Reason.UNHEALTHY)
    mask.keep(columns.usable, Reason.ASLEEP)  # last: what will not pass by waiting is the better reason
    mask.allowed.flags.writeable = False
    limit = limits.in_flight_per_slot * np.maximum(columns.rows[:, _SLOTS], 1.0)
    return StaticMask(mask.allowed, mask.reasons, limit, None if profile is None else _new(columns, limits))


def evaluated(scores: Mapping[str, Estimate], tasks: tuple[str, ...]) -> float:
    """Mean score over the items of `tasks`, of all where none is named; NaN where none is evaluated."""
    found = [scores[task] for task in tasks or ("",) if task in scores]
    count = sum(one.count for one in found)
    return sum(one.mean * one.count for one in found) / count if count else math.nan


def keep_floor(mask: Mask, predicted: F64, least: float) -> None:
    """Take out models whose predicted score [M] is below `least`; where all are, all but the best one."""
    if mask.is_empty:
        return
    best = np.where(mask.allowed, predicted, -math.inf).max()
    mask.keep(predicted >= min(least, best), Reason.FLOOR)


def _new(columns: Columns, limits: LimitSettings) -> Bools | None:
    """[M] models that nobody evaluated and few requests have tried, in a pool that is past its first day."""
    new: Bools = np.isnan(columns.evaluated) & (columns.requests < limits.new_model_outcomes)
    established = float(columns.requests.sum()) >= _ESTABLISHED * limits.new_model_outcomes
    return new if established and new.any() and not new.all() else None


def request_mask(static: StaticMask, columns: Columns, rows: F64, request: DispatchRequest) -> Mask:
    """The static constraints and those of this prompt; `rows` [M, F] are complete."""
    mask = Mask(columns.models, static.allowed, dict(static.reasons))
    preferences = request.preferences
    fitting = _fitting(columns, request.prompt)
    if fitting is not None:
        mask.keep(fitting, Reason.CONTEXT)
    likely = request.prompt.likely_tokens
    if fitting is not None or likely >= columns.least_context_tokens:  # waiting for health would not help
        roomy = columns.context_tokens > likely
        for passing in (Reason.UNHEALTHY, Reason.ASLEEP):
            mask.overrule(roomy if fitting is None else roomy & fitting, passing, Reason.CONTEXT)
    if preferences.max_latency_s is not None:
        mask.keep(rows[:, _E2E] <= preferences.max_latency_s, Reason.LATENCY)
    if preferences.max_cost_usd is not None:
        mask.keep(rows[:, _COST] <= preferences.max_cost_usd, Reason.COST)
    return mask


def pass_over_full(mask: Mask, static: StaticMask, rows: F64) -> None:
    """Take out the models that hold as many requests as they may. Where no other is left nothing happens:
    the ingress says whether one more may wait."""
    mask.prefer(rows[:, _IN_FLIGHT] < static.in_flight_limit, Reason.OVER_LIMIT)


def _fitting(columns: Columns, prompt: Prompt) -> Bools | None:
    """[M] models whose context may hold prompt and answer, None where all may.

    What may fit is never refused here: prompts are counted from below, by the model's own tokenizer where
    that matters, and a limit on the answer that is at or over a model's context does not bind it. What is
    too long after all, the engine says.
    """
    most = len(prompt.text) if prompt.tokens is None else prompt.tokens  # the bound below is never above it
    if most + max(prompt.max_tokens or 0, 1) <= columns.least_context_tokens and not prompt.counts:
        return None
    counts, least = prompt.counts or {}, prompt.least_tokens
    tokens = np.array([float(counts.get(tokenizer, least)) for tokenizer in columns.tokenizers])
    fitting = holding(columns, prompt, tokens)
    return None if fitting.all() else fitting


def holding(columns: Columns, prompt: Prompt, tokens: F64) -> Bools:
    """[M] models whose context holds so many `tokens` [M] of the prompt, and the answer."""
    answer = np.array([prompt.answer_tokens(context) for context in columns.context_tokens.tolist()])
    held: Bools = tokens + answer <= columns.context_tokens
    return held


def length_limit(columns: Columns, request: DispatchRequest) -> int | None:
    """The caller's limit on the answer where it can bind: at or over the longest context it never does."""
    limit, named = request.prompt.max_tokens, columns.index.get(request.requested)
    if limit is None:
        return None
    longest = columns.most_context_tokens if named is None else columns.context_tokens[named]
    return max(limit, 1) if limit < longest else None


def keep_probation(mask: Mask, new: Bools, share: float, seed: int) -> None:
    """Show the models that are `new` [M] to a `share` of requests only, drawn by the request's seed.

    A mask rather than a cap on probabilities: what is logged is the distribution that was sampled, and
    replay from the log holds. Nothing happens where only new models are left.
    """
    if (mask.allowed & ~new).any() and uniform_from_seed(seed ^ _PROBATION_SALT) >= share:
        mask.keep(~new, Reason.PROBATION)
