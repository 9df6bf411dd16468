"""The dispatcher: one request in, one model out, with everything that explains and replays the choice."""

import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from time import perf_counter
from typing import Final, Protocol

import numpy as np

from deployments.dispatch.columns import Columns, Observer
from deployments.dispatch.dispatch import Dispatch
from deployments.dispatch.masks import (
    Mask,
    NoModelError,
    Reason,
    holding,
    keep_floor,
    keep_probation,
    length_limit,
    pass_over_full,
    request_mask,
    static_mask,
)
from deployments.dispatch.names import chain
from deployments.dispatch.planner import Planner
from deployments.dispatch.policy_host import ArtifactLoaders, Loaders, PolicyHost
from deployments.dispatch.request import CHARS_PER_TOKEN, DispatchRequest, UnknownModelError
from deployments.dispatch.settings import DispatchSettings
from deployments.dispatch.settlement import Settlement
from deployments.records.records import DecisionRecord
from deployments.records.snapshot import Snapshot
from deployments.steady_clock import wall_s
from policies.arrays import F64
from policies.decider import NAMED, NOBODY, Decider
from policies.decision import Decision, draw, hash64, rendezvous
from policies.observation import MODEL_COLUMN, PROMPT_COLUMN, Observation
from policies.profile import AUTO, Profile, UnknownProfileError, auto_name, is_auto, selected_profile
from policies.prompt.features import PromptFeatures, extract
from policies.rows import fill_accuracy, fill_rows

_MOST_SESSIONS: Final = 50_000
_KEPT_SHARE: Final = 0.25  # of the favourite's probability: what a prefix that is warm elsewhere is worth

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
        wall: Callable[[], float] = wall_s,
        ejected: Callable[[], frozenset[str]] = frozenset,
        loaders: Loaders | None = None,
        prompt_key: bytes | None = None,
    ) -> None:
        self.view = view
        self.settings = settings
        self.host = PolicyHost(settings, loaders or ArtifactLoaders(), clock)
        self.settlement = Settlement(settings)
        self.planner = Planner(self.host)
        self._wall = wall
        self._observer = Observer(ejected)
        self._prompt_key = (prompt_key or os.urandom(16))[:64]
        self._profiles: dict[str, Profile] = {}
        self._sessions: OrderedDict[str, str] = OrderedDict()
        self.reconfigure(settings)

    def reconfigure(self, settings: DispatchSettings) -> None:
        """Take new settings at once; the multipliers of profiles that did not change are kept."""
        self.settings = settings
        self.host.reconfigure(settings)
        self._observer.forget()
        profiles = {name: p for name in ("", *settings.profiles) if (p := settings.profile(name))}
        self.settlement.reconfigure(settings, profiles)
        self._profiles = {auto_name(name): p for name, p in profiles.items()}

    def profile(self, requested: str) -> Profile | None:
        """The profile that `requested` selects, None for a model's name. Raises UnknownProfileError."""
        profile = self._profiles.get(requested)
        if profile is None and is_auto(requested):
            raise UnknownProfileError(selected_profile(requested), tuple(sorted(self.settings.profiles)))
        return profile

    def real_name(self, name: str) -> str:
        """The id of the model that has this alias; any other name stays as it is."""
        columns = self._observer.columns(self.view.snapshot, self.view.age_s(), self.host.latency)
        return columns.aliases.get(name, name)

    def prepare(self) -> None:
        """Do now what the next request of this snapshot would wait for."""
        self._observer.columns(self.view.snapshot, self.view.age_s(), self.host.latency)

    def dispatch(self, request: DispatchRequest) -> Dispatch:
        """Choose a model. Raises NoModelError, UnknownModelError, UnknownProfileError."""
        started_s = perf_counter()
        dispatch = self.explain(request)
        if len(dispatch.reasons) == len(dispatch.observation.models):
            wakes = self.planner.refused(dispatch)
            row = self.view.snapshot.models.get(wakes)
            raise NoModelError(dispatch.reasons, wakes, row.ready_in_s if row is not None else 0.0)
        decision = dispatch.decision = self._draw(dispatch)
        self.planner.chosen(dispatch)
        now_s = self._wall()
        self.settlement.charge(dispatch, now_s)
        if dispatch.session is not None:
            self._keep(dispatch.session, decision.model)
        shadow = ""
        if not dispatch.is_named:
            rollout = self.view.snapshot.rollout
            shadow = self.host.shadow(rollout, dispatch.observation, decision.epsilon, decision.seed)
        prompt_hash = self._prompt_hash(request.prompt.text)
        dispatch.record = dispatch.record_as(now_s, prompt_hash, shadow, perf_counter() - started_s)
        return dispatch

    def unserved(self, request: DispatchRequest) -> DecisionRecord:
        """The record of a request for which no model was there: of the one that the policy would have chosen.

        Nothing is drawn, which is why its propensity is 0. Raises UnknownModelError, UnknownProfileError.
        """
        started_s = perf_counter()
        dispatch = self.explain(request)
        index, probabilities = self.planner.missed(dispatch), np.zeros(len(dispatch.observation.models))
        model = dispatch.observation.models[index]
        dispatch.decision = Decision(index, model, 0.0, probabilities, NOBODY, 0.0, dispatch.seed)
        prompt_hash = self._prompt_hash(request.prompt.text)
        return dispatch.record_as(self._wall(), prompt_hash, "", perf_counter() - started_s)

    def answered(self, dispatch: Dispatch, model: str) -> None:
        """Another model than the chosen one answered: the session goes on with it."""
        if dispatch.session is not None and model in dispatch.columns.index:
            self._keep(dispatch.session, model)

    def explain(self, request: DispatchRequest) -> Dispatch:
        """The request as dispatch sees it now, up to its draw; nothing is counted or kept.

        Raises UnknownModelError, UnknownProfileError.
        """
        selected = self.profile(request.requested)
        age_s = self.view.age_s()
        columns = self._observer.columns(self.view.snapshot, age_s, self.host.latency)
        if selected is None and request.requested not in columns.index:
            raise UnknownModelError(request.requested, columns.models)
        profile = selected or self._profiles[AUTO]
        order = chain(columns.snapshot.models, request.requested) if selected is None else ()
        features = extract(request.prompt.text, request.prompt.turns, request.prompt.is_structured)
        alarmed = self.settlement.guard.is_alarmed(request.key_id)
        rows, revision = self._rows(columns, features, request, age_s, alarmed)
        session = request.session_key(profile) if selected else None
        bound = session is not None and request.is_bound(profile)
        unit = session or "" if bound else request.decision_id
        seed = hash64(unit)
        mask = self._mask(columns, rows, request, selected, None if bound else seed)
        caller = self._caller(profile, request)
        observation = Observation(columns.models, rows, features.dense, caller, mask.allowed)
        for array in (rows, features.dense, caller, mask.allowed):
            array.flags.writeable = False  # what is logged is what the policy saw, whatever it does
        version = self.host.assigned(self.view.snapshot.rollout, unit, self._wall())
        by = self._probabilities(observation, request, order, version, alarmed=alarmed, sticky=bound)
        probabilities, decider, epsilon = by
        stay = self._stay(session, mask, None if bound else probabilities, request)
        return Dispatch(
            request=request,
            profile=profile,
            columns=columns,
            features=features,
            observation=observation,
            reasons=mask.reasons,
            decider=replace(decider, sticky=True) if bound or stay is not None else decider,
            assigned=None if selected is None else version or 0,
            policy_probabilities=probabilities,
            epsilon=epsilon,
            seed=seed,
            session=session,
            bound=bound,
            stay=stay,
            age_s=age_s,
            quality_revision=revision,
            chain=order,
        )

    def _mask(
        self,
        columns: Columns,
        rows: F64,
        request: DispatchRequest,
        selected: Profile | None,
        seed: int | None,
    ) -> Mask:
        """Every hard constraint on one request; `seed` draws its part in probation, None: it has none."""
        limits, settlement = self.settings.limits, self.settlement
        static = static_mask(columns, request, selected, limits)
        mask = request_mask(static, columns, rows, request)
        if (
            selected
            and request.prompt.longest is None
            and request.prompt.most_rendered_tokens > columns.least_context_tokens
        ):
            likely = settlement.lengths.likely(columns.models, request.prompt, self._wall())
            mask.prefer(holding(columns, request.prompt, likely), Reason.CONTEXT)
        if selected and selected.alpha:
            least = self.host.least_prediction(selected, columns.models)
            if least is not None:
                keep_floor(mask, rows[:, _ACCURACY], least)
        if columns.priced and settlement.guard.is_spent(request.key_id, self._wall()):
            mask.keep(columns.completion_usd_per_mtok <= columns.completion_usd_per_mtok.min(), Reason.BUDGET)
        pacer = settlement.duals(selected).pacer if selected else None
        if pacer and columns.priced and not mask.is_empty:
            mask.keep(pacer.affordable(np.where(mask.allowed, rows[:, _COST], np.inf)), Reason.PROFILE_BUDGET)
        pass_over_full(mask, static, rows)
        if static.new is not None and seed is not None:
            keep_probation(mask, static.new, limits.new_model_share, seed)
        return mask

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
        if request.prompt.tokens is not None:
            prompt[_PROMPT_TOKENS] = request.prompt.tokens
        else:
            prompt[_PROMPT_TOKENS] += request.prompt.extra_chars // CHARS_PER_TOKEN
        count = self.view.in_flight
        in_flight = np.array([count(model) for model in columns.models], dtype=np.float64)
        predicted = columns.latency.predict(prompt, features.style, in_flight, length_limit(columns, request))
        prices = columns.prompt_usd_per_mtok, columns.completion_usd_per_mtok
        fill_rows(rows, prompt, in_flight, *predicted, *prices, age_s)
        quality = None if alarmed else self.host.predicted_quality(features, columns.models)
        if quality is None or self.host.quality is None:
            return rows, ""
        fill_accuracy(rows, *quality)
        return rows, self.host.quality.revision

    def _stay(
        self, session: str | None, mask: Mask, probabilities: F64 | None, request: DispatchRequest
    ) -> int | None:
        """Index of the model with which a session stays: the one it had, while that is allowed.

        Where `probabilities` [M] are given the session is not bound to it: a conversation goes on with the
        model that has read it, unless another is clearly better.
        """
        model = self._sessions.get(session) if session is not None else None
        if model is None or model not in mask.models or model in mask.reasons:
            return None
        index = mask.models.index(model)
        if probabilities is None:
            return index
        near = probabilities[index] >= _KEPT_SHARE * probabilities.max()
        return index if request.is_continued and near else None

    def _caller(self, profile: Profile, request: DispatchRequest) -> F64:
        """[C] the caller's fields, with what the closed loop asks for on top of the weights."""
        w = self.settlement.duals(profile).weights(request.preferences.weights or profile.weights)
        return np.array([w.accuracy, w.latency, w.cost, profile.target_s])

    def _probabilities(
        self,
        observation: Observation,
        request: DispatchRequest,
        order: tuple[str, ...],
        version: int | None,
        *,
        alarmed: bool,
        sticky: bool,
    ) -> tuple[F64, Decider, float]:
        """Probabilities [M] by whoever decides this request, who that is, and the exploration in them.

        `order` is the chain of a named model: the first of it that may answer does.
        """
        if order:
            able = (model for model in order if observation.mask[observation.models.index(model)])
            first = next(able, None)
            return np.array([float(model == first) for model in observation.models]), NAMED, 0.0
        if True not in observation.mask.tolist():  # of few models, faster than any()
            return observation.mask.astype(np.float64), NOBODY, 0.0
        epsilon = 0.0 if sticky else self.settlement.guard.epsilon(request.key_id)
        if alarmed:
            return *self.host.baseline(observation, epsilon, "alarm"), epsilon
        probabilities, decider = self.host.choose(observation, version, epsilon)
        return probabilities, decider, epsilon

    @staticmethod
    def _draw(dispatch: Dispatch) -> Decision:
        """Sample; a session that keeps its model by rendezvous, so that ingress replicas agree about it."""
        pi, models, seed = dispatch.probabilities, dispatch.observation.models, dispatch.seed
        index = rendezvous(pi, models, seed) if dispatch.bound else draw(pi, seed)
        return Decision(index, models[index], float(pi[index]), pi, dispatch.decider, dispatch.epsilon, seed)

    def _keep(self, session: str, model: str) -> None:
        """Keep a session's model, and drop the oldest session beyond the most that are kept."""
        self._sessions[session] = model
        self._sessions.move_to_end(session)
        if len(self._sessions) > _MOST_SESSIONS:
            self._sessions.popitem(last=False)

    def _prompt_hash(self, text: str) -> str:
        data = text.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(data, digest_size=8, key=self._prompt_key).hexdigest()
