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

from deployments.dispatch.columns import Columns, Observer, fill_accuracy, fill_rows
from deployments.dispatch.dispatched import Considered, Dispatched, record_of
from deployments.dispatch.key_guard import KeyGuard
from deployments.dispatch.masks import Mask, NoModelError, Reason, keep_probation, request_mask, static_mask
from deployments.dispatch.policy_host import ArtifactLoaders, Choice, Loaders, PolicyHost
from deployments.dispatch.request import DispatchRequest, UnknownModelError
from deployments.dispatch.settings import DispatchSettings
from deployments.records.records import OutcomeRecord
from deployments.records.snapshot import Snapshot
from policies.arrays import F64
from policies.closed_loop.duals import Duals, Paced
from policies.closed_loop.pacer import Foreseen
from policies.decider import NAMED, NOBODY
from policies.decision import Decision, draw, hash64, rendezvous
from policies.observation import MODEL_COLUMN, PROMPT_COLUMN, Observation
from policies.outcome import Status
from policies.profile import AUTO, Profile, UnknownProfileError, auto_name, is_auto, selected_profile
from policies.prompt.features import PromptFeatures, extract
from policies.utility import Weights, relative, utility

__all__ = [
    "DispatchRequest",
    "Dispatched",
    "Dispatcher",
    "NoModelError",
    "UnknownModelError",
    "UnknownProfileError",
]

_T = TypeVar("_T")

_MOST_PENDING: Final = 50_000
_MOST_SESSIONS: Final = 50_000

_ACCURACY, _COST = MODEL_COLUMN["accuracy"], MODEL_COLUMN["cost_usd"]
_PROMPT_TOKENS = PROMPT_COLUMN["prompt_tokens"]


class View(Protocol):
    """What dispatch reads of the table: the ingress's own copy, never a call."""

    @property
    def snapshot(self) -> Snapshot:
        """The newest snapshot."""

    def age_s(self) -> float:
        """Seconds since the table last answered."""

    def in_flight(self, model: str) -> int:
        """Requests sent to the model and not finished, all ingress replicas."""


@dataclass(frozen=True, slots=True)
class _Pending:
    """What the outcome of one decision is joined with."""

    profile: str
    key_id: str
    accuracy: float
    cost_usd: float
    models: tuple[str, ...]
    foreseen: Foreseen | None  # None where the profile has no budget


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
        """Take new settings at once; the multipliers of profiles that did not change are kept."""
        self.settings = settings
        self.host.reconfigure(settings)
        self.guard.settings = settings
        self._observer.forget()
        profiles = {name: p for name in ("", *settings.profiles) if (p := settings.profile(name))}
        duals = {name: Duals(p, settings.duals.value(), settings.beta) for name, p in profiles.items()}
        for name, new in duals.items():
            old = self._duals.get(name)
            if old and (old.profile, old.settings, old.beta) == (new.profile, new.settings, new.beta):
                duals[name] = old
        self._duals = duals
        self._profiles = {auto_name(name): p for name, p in profiles.items()}

    def profile(self, requested: str) -> Profile | None:
        """The profile that `requested` selects, None for a model's name. Raises UnknownProfileError."""
        profile = self._profiles.get(requested)
        if profile is None and is_auto(requested):
            raise UnknownProfileError(selected_profile(requested), tuple(sorted(self.settings.profiles)))
        return profile

    def prepare(self) -> None:
        """Do now what the next request of this snapshot would wait for."""
        self._observer.columns(self.view.snapshot, self.view.age_s(), self.host.latency)

    def dispatch(self, request: DispatchRequest) -> Dispatched:
        """Choose a model. Raises NoModelError, UnknownModelError, UnknownProfileError."""
        started_s = perf_counter()
        seen = self._consider(request)
        if len(seen.reasons) == len(seen.observation.models):
            raise NoModelError(seen.reasons)
        decision = self._draw(seen)
        self._remember(seen, decision)
        shadow = ""
        if decision.decider != NAMED:
            state = self.view.snapshot.policy
            shadow = self.host.shadow(state, seen.observation, decision.epsilon, decision.seed)
        prompt_hash = self._prompt_hash(request.text)
        took_s = perf_counter() - started_s
        record = record_of(seen, decision, self._wall(), prompt_hash, shadow, took_s)
        preference = seen.choice.probabilities
        return Dispatched(decision, seen.observation, seen.reasons, record, seen.profile, preference)

    def explain(self, request: DispatchRequest) -> list[dict[str, object]]:
        """The candidates as dispatch would see them now; nothing is drawn, counted or kept."""
        return self._consider(request).candidates()

    def explained(self, request: DispatchRequest) -> dict[str, object]:
        """The body of `/v1/dispatch/explain`: policy, profile, exploration, caller's fields, candidates."""
        return self._consider(request).explanation()

    def finished(self, record: OutcomeRecord) -> None:
        """Close the loop: the outcome moves its profile's multipliers and settles its key's spending."""
        pending = self._pending.pop(record.decision_id, None)
        if pending is None:
            return
        outcome = record.outcome
        self.guard.spend(pending.key_id, self._wall(), outcome.cost_usd - pending.cost_usd)
        duals = self._duals.get(pending.profile)
        if duals is not None and outcome.status in (Status.OK, Status.FAILED):
            quality = pending.accuracy if outcome.quality is None else outcome.quality
            duals.observe(outcome.cost_usd, quality, outcome.e2e_s, _paced(pending, record))

    def _consider(self, request: DispatchRequest) -> Considered:
        """Observe, mask, ask the policy: the one path behind dispatch and explain."""
        selected = self.profile(request.requested)
        age_s = self.view.age_s()
        columns = self._observer.columns(self.view.snapshot, age_s, self.host.latency)
        if selected is None and request.requested not in columns.index:
            raise UnknownModelError(request.requested, columns.models)
        profile = selected or self._profiles[AUTO]
        features = extract(request.text, request.turns, request.structured)
        alarmed = self.guard.is_alarmed(request.key_id)
        rows, revision = self._rows(columns, features, request, age_s, alarmed)
        static = static_mask(columns, request, selected, self.settings.limits)
        mask = request_mask(static, columns, rows, float(features.dense[_PROMPT_TOKENS]), request)
        if columns.priced and self.guard.is_spent(request.key_id, self._wall()):
            mask.keep(columns.completion_usd <= columns.completion_usd.min(), Reason.BUDGET)
        pacer = self._duals[profile.name].pacer
        if pacer and selected and columns.priced and mask.allowed.any():
            mask.keep(pacer.affordable(np.where(mask.allowed, rows[:, _COST], np.inf)), Reason.PROFILE_BUDGET)
        session = request.session_key(profile) if selected else None
        seed = hash64(request.decision_id if session is None else session)
        stay = self._stay(session, mask)
        if static.new is not None and session is None:
            keep_probation(mask, static.new, self.settings.limits.new_model_share, seed)
        caller = self._caller(profile, request)
        for seen in (rows, features.dense, caller, mask.allowed):
            seen.flags.writeable = False  # what is logged is what the policy saw, whatever it does
        observation = Observation(columns.models, rows, features.dense, caller, mask.allowed)
        if selected is None or len(mask.reasons) == len(columns.models):
            choice = Choice(mask.allowed.astype(np.float64), NAMED if selected is None else NOBODY, 0.0)
        else:
            choice = self._choose(observation, request, alarmed=alarmed, sticky=session is not None)
        return Considered(
            request=request,
            profile=profile,
            columns=columns,
            features=features,
            observation=observation,
            reasons=mask.reasons,
            choice=choice,
            seed=seed,
            session=session,
            stay=stay,
            age_s=age_s,
            quality_revision=revision,
        )

    def _rows(
        self,
        columns: Columns,
        features: PromptFeatures,
        request: DispatchRequest,
        age_s: float,
        alarmed: bool,
    ) -> tuple[F64, str]:
        """[M, F] rows with every prediction for this request, and the quality model's revision.

        Fills in the prompt's predicted answer length too. In an alarm the quality model, which is what a
        crafted prompt steers, is not heard.
        """
        rows, prompt = columns.rows.copy(), features.dense
        if request.prompt_tokens is not None:
            prompt[_PROMPT_TOKENS] = request.prompt_tokens
        count = self.view.in_flight
        in_flight = np.array([count(model) for model in columns.models], dtype=np.float64)
        predicted = columns.latency.predict(prompt, features.style, in_flight, request.max_tokens)
        fill_rows(rows, prompt, in_flight, *predicted, columns.prompt_usd, columns.completion_usd, age_s)
        quality = None if alarmed else self.host.predicted_quality(features, columns.models)
        if quality is None or self.host.quality is None:
            return rows, ""
        fill_accuracy(rows, *quality)
        return rows, self.host.quality.revision

    def _stay(self, session: str | None, mask: Mask) -> int | None:
        """Index of the model with which a session stays: the one it had, while that is allowed."""
        model = self._sessions.get(session) if session is not None else None
        if model is None or model not in mask.models or model in mask.reasons:
            return None
        return mask.models.index(model)

    def _caller(self, profile: Profile, request: DispatchRequest) -> F64:
        """[C] the caller's fields, with what the closed loop asks for on top of the weights."""
        w = self._duals[profile.name].weights(request.weights or profile.weights)
        return np.array([w.accuracy, w.latency, w.cost, profile.target_s])

    def _choose(
        self, observation: Observation, request: DispatchRequest, *, alarmed: bool, sticky: bool
    ) -> Choice:
        """Ask whoever decides this request of `auto`."""
        epsilon = 0.0 if sticky else self.guard.epsilon(request.key_id)
        if alarmed:
            return self.host.baseline(observation, epsilon, "alarm")
        version = self.host.assigned(self.view.snapshot.policy, request.decision_id, request.key_id)
        choice = self.host.choose(observation, version, epsilon)
        return replace(choice, decider=replace(choice.decider, sticky=True)) if sticky else choice

    @staticmethod
    def _draw(seen: Considered) -> Decision:
        """Sample; a new session by rendezvous, so that ingress replicas agree about it."""
        pi, models, choice = seen.probabilities, seen.observation.models, seen.choice
        index = draw(pi, seen.seed) if seen.session is None else rendezvous(pi, models, seen.seed)
        return Decision(index, models[index], float(pi[index]), pi, choice.decider, choice.epsilon, seen.seed)

    def _remember(self, seen: Considered, decision: Decision) -> None:
        """Keep what the outcome, the session and the caps will ask for."""
        request, row = seen.request, seen.observation.rows[decision.index]
        cost_usd, now_s = float(row[_COST]), self._wall()
        pending = _Pending(
            seen.profile.name, request.key_id, float(row[_ACCURACY]), cost_usd, seen.observation.models,
            None if decision.decider == NAMED else self._foreseen(seen),
        )  # fmt: skip
        _put(self._pending, request.decision_id, pending, _MOST_PENDING)
        if seen.session is not None:
            _put(self._sessions, seen.session, decision.model, _MOST_SESSIONS)
        if decision.decider == NAMED:
            self.guard.spend(request.key_id, now_s, cost_usd)
            return
        plausible = len(seen.observation.models) - len(seen.reasons)
        explored = decision.epsilon > 0.5 * decision.propensity * plausible
        price_usd = float(seen.columns.completion_usd[decision.index])
        expensive = price_usd >= self.settings.guard.expensive_factor * seen.columns.cheapest_usd
        self.guard.chosen(request.key_id, now_s, cost_usd, expensive=expensive, explored=explored)

    def _foreseen(self, seen: Considered) -> Foreseen | None:
        """What the profile's pacer has to know of this request; None where the profile has no budget."""
        duals, observed = self._duals[seen.profile.name], seen.observation
        if duals.pacer is None:
            return None
        unpaced = ("", Reason.PROFILE_BUDGET)
        mask = np.array([seen.reasons.get(model, "") in unpaced for model in observed.models])
        accuracy, latency, cost = observed.caller[:3].tolist()
        weight, cost_usd = observed.column("weight"), observed.column("cost_usd")
        value = utility(
            observed.column("accuracy"), observed.column("e2e_s"), cost_usd,
            Weights(accuracy, latency, cost - duals.budget), mask,
        )  # fmt: skip
        return Foreseen(np.where(mask, weight * value, -np.inf), weight * relative(cost_usd, mask), cost_usd)

    def _prompt_hash(self, text: str) -> str:
        data = text.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(data, digest_size=8, key=self._prompt_key).hexdigest()


def _paced(pending: _Pending, record: OutcomeRecord) -> Paced | None:
    """What the pacer learns: the model that answered in the end may be another than the chosen one. None
    where nobody answered and nothing was paid, which says nothing about what models cost."""
    if pending.foreseen is None or record.model not in pending.models:
        return None
    if record.outcome.status is Status.FAILED and not record.outcome.cost_usd:
        return None
    return Paced(pending.models, pending.foreseen, pending.models.index(record.model))


def _put(kept: OrderedDict[str, _T], key: str, value: _T, most: int) -> None:
    """Put at the young end, and drop the oldest beyond `most`."""
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > most:
        kept.popitem(last=False)
