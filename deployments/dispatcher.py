"""The dispatcher: one request in, one model out, with everything that explains and replays the choice."""

import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Final, Protocol, TypeVar

import numpy as np

from deployments.dispatch_settings import DispatchSettings
from deployments.key_guard import KeyGuard
from deployments.loaders import ArtifactLoaders
from deployments.masks import Mask, NoModelError, Reason
from deployments.observe import Columns, Observer
from deployments.policy_host import Choice, Loaders, PolicyHost
from deployments.records import DecisionRecord, OutcomeRecord
from deployments.snapshot import Snapshot
from policies.decision import Decision, draw, uniform_from_seed
from policies.duals import Duals
from policies.features import PromptFeatures, extract, pack
from policies.latency_model import LatencyPrediction
from policies.observation import (
    CALLER_COLUMN,
    CALLER_FIELDS,
    MODEL_COLUMN,
    OBSERVATION_VERSION,
    PROMPT_COLUMN,
    FloatArray,
    Observation,
)
from policies.profile import Profile, UnknownProfileError
from policies.rendezvous import hash64, rendezvous
from policies.utility import Weights, observed_utility

_T = TypeVar("_T")

AUTO: Final = "auto"
DEFAULT_OUTPUT_TOKENS: Final = (
    16  # room for an answer that the context check asks for where no max_tokens is given
)
_MAX_PENDING: Final = 50_000
_MAX_SESSIONS: Final = 50_000
_SURE_TOKENS: Final = 0.8  # share of an estimated prompt length that is there for certain
_ESTABLISHED: Final = 10  # times the outcomes of a new model that the pool must have before one counts as new

_ACCURACY, _STD = MODEL_COLUMN["accuracy"], MODEL_COLUMN["accuracy_std"]
_TTFT, _E2E, _COST = MODEL_COLUMN["ttft_s"], MODEL_COLUMN["e2e_s"], MODEL_COLUMN["cost_usd"]
_IN_FLIGHT, _AGE = MODEL_COLUMN["in_flight"], MODEL_COLUMN["age_s"]
_SLOTS = MODEL_COLUMN["slots"]


class View(Protocol):
    """What dispatch reads of the table: the ingress's own copy, never a call."""

    @property
    def snapshot(self) -> Snapshot:
        """The newest snapshot."""

    def age_s(self) -> float:
        """Seconds since the table last answered."""

    def in_flight(self, model: str) -> int:
        """Requests sent to the model and not finished, all ingress replicas."""


class UnknownModelError(LookupError):
    """A request named a model that is not served."""

    def __init__(self, model: str, served: tuple[str, ...]) -> None:
        listed = ", ".join(f"'{one}'" for one in served) or "none"
        super().__init__(f"Model '{model}' is not served. Served: {listed}.")
        self.model = model
        self.served = served


@dataclass(frozen=True, slots=True)
class DispatchRequest:
    """What dispatch needs of one request. `requested` is "auto", "auto:<profile>" or a model id."""

    decision_id: str
    requested: str
    text: str  # the prompt as one string
    turns: int = 1
    max_tokens: int | None = None
    needs: frozenset[str] = frozenset()  # capabilities
    weights: Weights | None = None  # instead of the profile's
    allowed: tuple[str, ...] | None = None  # by key and request
    max_latency_s: float | None = None
    max_cost_usd: float | None = None
    key_id: str = ""
    session: str | None = None
    excluded: frozenset[str] = frozenset()  # already tried
    prompt_tokens: int | None = None  # where it is known exactly
    structured: bool = False  # JSON, a schema or tools are asked for


@dataclass(frozen=True, slots=True)
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
    age_s: float

    def candidates(self) -> list[dict[str, object]]:
        """One dict a model, most probable first: what the policy saw and what it made of it."""
        o, probabilities = self.observation, self.choice.probabilities.tolist()
        scores = observed_utility(o).tolist()
        fields = [f for f in MODEL_COLUMN if f != "age_s"]
        listed = [
            {
                "model": model,
                "masked": model in self.reasons,
                "reason": self.reasons.get(model),
                "score": None if model in self.reasons else scores[i],
                "probability": probabilities[i],
                **{name: float(o.rows[i, MODEL_COLUMN[name]]) for name in fields},
            }
            for i, model in enumerate(o.models)
        ]
        return sorted(listed, key=lambda one: -float(one["probability"]))


@dataclass(frozen=True, slots=True)
class Dispatched:
    """A choice, with the record that goes to the log."""

    decision: Decision
    observation: Observation
    reasons: dict[str, str]
    record: DecisionRecord
    profile: Profile

    @property
    def ranking(self) -> tuple[str, ...]:
        """The allowed models but the chosen one, most probable first."""
        o, p = self.observation, self.decision.probabilities
        order = np.argsort(-p, kind="stable").tolist()
        return tuple(o.models[i] for i in order if i != self.decision.index and o.mask[i])


@dataclass(slots=True)
class _Pending:
    """What the outcome of one decision is joined with."""

    profile: str
    key_id: str
    accuracy: float
    cost_usd: float


class Dispatcher:
    """Chooses models in the ingress. Everything is in memory; nothing here waits.

    `ejected` names replicas that the ingress avoids for now; `prompt_key` keys the hash under which
    repeats of a prompt are counted (the same on every ingress replica to count across them).
    """

    def __init__(
        self,
        view: View,
        settings: DispatchSettings,
        clock: Callable[[], float] = time.monotonic,
        *,
        wall: Callable[[], float] = time.time,
        ejected: Callable[[], frozenset[str]] = frozenset,
        loaders: Loaders | None = None,
        prompt_key: bytes | None = None,
    ) -> None:
        self.view = view
        self.settings = settings
        self.host = PolicyHost(settings, loaders or ArtifactLoaders(), clock)
        self.guard = KeyGuard(settings)
        self._wall = wall
        self._observer = Observer(ejected)
        self._prompt_key = (prompt_key or os.urandom(16))[:64]
        self._profiles: dict[str, Profile] = {}
        self._duals: dict[str, Duals] = {}
        self._sessions: OrderedDict[str, str] = OrderedDict()
        self._pending: OrderedDict[str, _Pending] = OrderedDict()
        self.reconfigure(settings)

    def reconfigure(self, settings: DispatchSettings) -> None:
        """Take new settings at once; multipliers of profiles that did not change are kept."""
        self.settings = settings
        self.host.reconfigure(settings)
        self.guard.settings = settings
        profiles = {name: p for name in ("", *settings.profiles) if (p := settings.profile(name))}
        duals = {}
        for name, profile in profiles.items():
            kept = self._duals.get(name)
            same = kept is not None and kept.profile == profile and kept.settings == settings.duals.value()
            duals[name] = kept if kept and same else Duals(profile, settings.duals.value())
        self._profiles, self._duals = profiles, duals

    def profile(self, requested: str) -> Profile:
        """The profile that `requested` selects. Raises UnknownProfileError."""
        name = requested.partition(":")[2] if requested.startswith(f"{AUTO}:") else ""
        try:
            return self._profiles[name]
        except KeyError:
            raise UnknownProfileError(name, tuple(sorted(self.settings.profiles))) from None

    def dispatch(self, request: DispatchRequest) -> Dispatched:
        """Choose a model. Raises NoModelError, UnknownModelError, UnknownProfileError."""
        started_s = perf_counter()
        seen = self._consider(request)
        if not seen.observation.mask.any():
            raise NoModelError(seen.reasons)
        decision = self._draw(seen)
        record = self._record(seen, decision, started_s)
        self._remember(seen, decision)
        return Dispatched(decision, seen.observation, seen.reasons, record, seen.profile)

    def explain(self, request: DispatchRequest) -> list[dict[str, object]]:
        """The candidates as dispatch would see them now; nothing is drawn, counted or kept."""
        return self._consider(request).candidates()

    def explained(self, request: DispatchRequest) -> dict[str, object]:
        """The body of `/v1/dispatch/explain`: policy, profile, exploration and candidates."""
        seen = self._consider(request)
        return {
            "policy": seen.choice.policy,
            "profile": seen.profile.name,
            "epsilon": seen.choice.epsilon,
            "weights": dict(
                zip((f.name for f in CALLER_FIELDS), seen.observation.caller.tolist(), strict=True)
            ),
            "candidates": seen.candidates(),
        }

    def finished(self, record: OutcomeRecord) -> None:
        """Close the loop: the outcome moves its profile's multipliers and settles its key's spending."""
        pending = self._pending.pop(record.decision_id, None)
        if pending is None:
            return
        outcome = record.outcome
        self.guard.spend(pending.key_id, self._wall(), outcome.cost_usd - pending.cost_usd)
        duals = self._duals.get(pending.profile)
        if duals is not None and outcome.status in {"ok", "failed"}:
            quality = outcome.quality if outcome.quality is not None else pending.accuracy
            duals.observe(outcome.cost_usd, quality, outcome.e2e_s)

    def _consider(self, request: DispatchRequest) -> Considered:
        """Observe, mask, ask the policy: the one path behind dispatch and explain."""
        profile = self.profile(request.requested)
        age_s = self.view.age_s()
        columns = self._observer.columns(self.view.snapshot, age_s, self.host.latency)
        if not request.requested.startswith(AUTO) and request.requested not in columns.index:
            raise UnknownModelError(request.requested, columns.models)
        features = extract(request.text, request.turns, request.structured)
        alarmed = self.guard.is_alarmed(request.key_id)
        rows, prompt = self._rows(columns, features, request, age_s, alarmed)
        mask = self._mask(columns, rows, prompt, request, profile)
        seed = hash64(request.decision_id)
        session = (
            f"{profile.name}\0{request.key_id}\0{request.session}"
            if profile.sticky and request.session
            else None
        )
        named = request.requested in columns.index and not request.requested.startswith(AUTO)
        if session is not None:
            self._stay(session, mask)
            seed = hash64(session)
        elif not named:
            self._probation(columns, mask, seed)
        observation = Observation(columns.models, rows, prompt, self._caller(profile, request), mask.allowed)
        choice = self._choose(observation, request, named=named, alarmed=alarmed, sticky=session is not None)
        return Considered(
            request, profile, columns, features, observation, mask.reasons, choice, seed, session, age_s
        )

    def _rows(
        self,
        columns: Columns,
        features: PromptFeatures,
        request: DispatchRequest,
        age_s: float,
        alarmed: bool,
    ) -> tuple[FloatArray, FloatArray]:
        """[M, F] rows and [P] prompt fields with every prediction for this request filled in."""
        rows, prompt = columns.rows.copy(), features.dense
        if request.prompt_tokens is not None:
            prompt[PROMPT_COLUMN["prompt_tokens"]] = request.prompt_tokens
        in_flight = np.array([self.view.in_flight(model) for model in columns.models], dtype=np.float64)
        predicted: LatencyPrediction = columns.latency.predict(prompt, in_flight, request.max_tokens)
        rows[:, _IN_FLIGHT] = in_flight
        rows[:, _TTFT] = predicted.ttft_s
        rows[:, _E2E] = predicted.e2e_s
        rows[:, _AGE] = age_s
        if columns.models:
            prompt[PROMPT_COLUMN["output_tokens"]] = predicted.output_tokens.mean()
        if columns.priced:
            tokens = prompt[PROMPT_COLUMN["prompt_tokens"]]
            rows[:, _COST] = tokens * columns.prompt_usd + predicted.output_tokens * columns.completion_usd
        if (
            self.host.quality is not None and not alarmed
        ):  # what steers the quality model is not heard in an alarm
            mean, std = self.host.quality.predict(features, columns.models)
            known = np.isfinite(mean)
            if known.all():
                rows[:, _ACCURACY], rows[:, _STD] = mean, std
            else:
                rows[known, _ACCURACY], rows[known, _STD] = mean[known], std[known]
        return rows, prompt

    def _mask(
        self,
        columns: Columns,
        rows: FloatArray,
        prompt: FloatArray,
        request: DispatchRequest,
        profile: Profile,
    ) -> Mask:
        """The hard constraints, in the order in which their reasons are told."""
        mask = Mask(columns.models, np.ones(len(columns.models), dtype=bool))
        if not request.requested.startswith(AUTO):
            mask.keep_only((request.requested,), Reason.NOT_NAMED)
        else:
            mask.keep(columns.weighted, Reason.WEIGHT)
            if profile.allowed is not None:
                mask.keep_only(profile.allowed, Reason.NOT_ALLOWED)
            if profile.quality_floor > 0.0:
                measured = np.array([t.get(profile.name, t.get("", np.nan)) for t in columns.by_task])
                mask.keep(~(measured < profile.quality_floor), Reason.QUALITY)
        if request.allowed is not None:
            mask.keep_only(request.allowed, Reason.NOT_ALLOWED)
        if request.excluded:
            mask.keep(np.array([m not in request.excluded for m in columns.models]), Reason.EXCLUDED)
        mask.keep(columns.usable, Reason.UNHEALTHY)
        if request.needs:
            mask.keep(
                np.array([request.needs <= c for c in columns.capabilities], dtype=bool), Reason.CAPABILITY
            )
        tokens = float(prompt[PROMPT_COLUMN["prompt_tokens"]])
        tokens = tokens if request.prompt_tokens is not None else tokens * _SURE_TOKENS
        tokens += request.max_tokens or DEFAULT_OUTPUT_TOKENS
        if tokens > columns.least_context_tokens:
            mask.keep(columns.context_tokens >= tokens, Reason.CONTEXT)
        limit = self.settings.limits.in_flight_per_slot
        mask.keep(rows[:, _IN_FLIGHT] < limit * np.maximum(rows[:, _SLOTS], 1.0), Reason.OVER_LIMIT)
        if request.max_latency_s is not None:
            mask.keep(rows[:, _E2E] <= request.max_latency_s, Reason.LATENCY)
        if request.max_cost_usd is not None:
            mask.keep(rows[:, _COST] <= request.max_cost_usd, Reason.COST)
        if columns.priced and self.guard.is_spent(request.key_id, self._wall()):
            mask.keep(columns.completion_usd <= columns.completion_usd.min(), Reason.BUDGET)
        return mask

    def _stay(self, session: str, mask: Mask) -> None:
        """Keep a session on its model while that is allowed."""
        model = self._sessions.get(session)
        if model is not None and model not in mask.reasons and model in mask.models:
            mask.keep_only((model,), Reason.SESSION)

    def _probation(self, columns: Columns, mask: Mask, seed: int) -> None:
        """Show a model that nobody knows yet to a small share of requests only, drawn by the request's seed.

        The share is a mask, so that the logged distribution is the one that was sampled and replay holds.
        """
        limits = self.settings.limits
        new = np.isnan(columns.evaluated) & (columns.requests < limits.new_model_outcomes)
        known = mask.allowed & ~new
        if not new.any() or not known.any():
            return
        if float(columns.requests.sum()) < _ESTABLISHED * limits.new_model_outcomes:
            return
        if uniform_from_seed(seed ^ 0x5DEECE66D) >= limits.new_model_share:
            mask.keep(~new, Reason.PROBATION)

    def _caller(self, profile: Profile, request: DispatchRequest) -> FloatArray:
        """[C] the caller's fields, with what the closed loop asks for on top of the weights."""
        weights = self._duals[profile.name].weights(request.weights or profile.weights)
        caller = np.empty(len(CALLER_FIELDS))
        caller[CALLER_COLUMN["accuracy_weight"]] = weights.accuracy
        caller[CALLER_COLUMN["latency_weight"]] = weights.latency
        caller[CALLER_COLUMN["cost_weight"]] = weights.cost
        caller[CALLER_COLUMN["target_s"]] = profile.target_s
        return caller

    def _choose(
        self, observation: Observation, request: DispatchRequest, *, named: bool, alarmed: bool, sticky: bool
    ) -> Choice:
        """Ask whoever decides this request; a named model needs nobody."""
        if named or not observation.mask.any():
            return Choice(observation.mask.astype(np.float64), "named" if named else "none", 0.0)
        epsilon = 0.0 if sticky else self.guard.epsilon(request.key_id)
        if alarmed:
            self.guard.alarms += 1
            return self.host.baseline(observation, epsilon, "alarm")
        state = self.view.snapshot.policy
        version = self.host.assigned(state, request.decision_id, request.key_id)
        choice = self.host.choose(observation, version, epsilon)
        return replace(choice, policy=f"{choice.policy};sticky") if sticky else choice

    @staticmethod
    def _draw(seen: Considered) -> Decision:
        """Sample; a session by rendezvous, so that ingress replicas agree about it."""
        pi, models = seen.choice.probabilities, seen.observation.models
        index = draw(pi, seen.seed) if seen.session is None else rendezvous(pi, models, seen.seed)
        return Decision(
            index, models[index], float(pi[index]), pi, seen.choice.policy, seen.choice.epsilon, seen.seed
        )

    def _remember(self, seen: Considered, decision: Decision) -> None:
        """Keep what the outcome, the session and the caps will ask for."""
        request, rows = seen.request, seen.observation.rows
        cost_usd = float(rows[decision.index, _COST])
        pending = _Pending(
            seen.profile.name, request.key_id, float(rows[decision.index, _ACCURACY]), cost_usd
        )
        _put(self._pending, request.decision_id, pending, _MAX_PENDING)
        if seen.session is not None:
            _put(self._sessions, seen.session, decision.model, _MAX_SESSIONS)
        if decision.policy == "named":
            self.guard.spend(request.key_id, self._wall(), cost_usd)
            return
        plausible = int((seen.observation.mask & seen.columns.weighted).sum())
        explored = decision.epsilon > 0.0 and decision.epsilon / max(plausible, 1) > 0.5 * decision.propensity
        price = float(seen.columns.completion_usd[decision.index])
        expensive = price >= self.settings.guard.expensive_factor * seen.columns.expensive_usd
        self.guard.chosen(request.key_id, self._wall(), cost_usd, expensive=expensive, explored=explored)

    def _record(self, seen: Considered, decision: Decision, started_s: float) -> DecisionRecord:
        request, o, snapshot = seen.request, seen.observation, seen.columns.snapshot
        quality, named = self.host.quality, decision.policy == "named"
        shadow = "" if named else self.host.shadow(snapshot.policy, o, decision.epsilon, decision.seed)
        return DecisionRecord(
            decision_id=request.decision_id,
            created_s=self._wall(),
            key_id=request.key_id,
            requested=request.requested,
            profile=seen.profile.name,
            model=decision.model,
            policy=decision.policy,
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
            prompt_hash=self._prompt_hash(request.text),
            observation_version=OBSERVATION_VERSION,
            quality_revision=quality.revision if quality is not None else "",
            snapshot_version=snapshot.version,
            snapshot_age_s=seen.age_s,
            shadow=shadow,
            decide_s=perf_counter() - started_s,
        )

    def _prompt_hash(self, text: str) -> str:
        data = text.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(data, digest_size=8, key=self._prompt_key).hexdigest()


def _session_key(request: DispatchRequest, profile: Profile) -> str | None:
    """Under what a session's model is kept; None without a session or where the profile keeps none."""
    if not (profile.sticky and request.session):
        return None
    return f"{profile.name}\0{request.key_id}\0{request.session}"


def _put(kept: OrderedDict[str, _T], key: str, value: _T, most: int) -> None:
    """Put at the young end, and drop the oldest beyond `most`."""
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > most:
        kept.popitem(last=False)
