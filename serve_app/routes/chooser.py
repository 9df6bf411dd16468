"""From a call to a dispatch: the request as dispatch reads it, and refusals in HTTP's terms."""

from collections.abc import Container
from dataclasses import replace

from deployments.dispatch.dispatch import Dispatch
from deployments.dispatch.dispatcher import Dispatcher
from deployments.dispatch.masks import NoModelError
from deployments.dispatch.request import DispatchRequest, Preferences, UnknownModelError
from deployments.keys.key import Key
from deployments.records.decision_id import decision_id, request_name
from deployments.records.records import DecisionRecord
from policies.profile import UnknownProfileError, is_auto
from serve_app.body.calls import Call
from serve_app.http.errors import (
    ApiError,
    model_cold,
    model_not_allowed,
    model_not_found,
    profile_not_found,
    quoted,
)
from serve_app.routes.refusals import refusal


class Chooser:
    """Chooses the model of a call; every refusal is an ApiError."""

    def __init__(
        self, dispatcher: Dispatcher, ingress: str, configured: Container[str] = frozenset()
    ) -> None:
        self._dispatcher = dispatcher
        self._configured = configured
        self._ingress = ingress

    def real_name(self, key: Key, name: str) -> str:
        """The model that a caller means by an alias; the name itself where the key may not know of it."""
        real = self._dispatcher.real_name(name)
        return real if key.may_use(real) else name

    def dispatch(
        self, key: Key, call: Call, preferences: Preferences, dollar_limit: str, name: str
    ) -> Dispatch:
        """Choose a model, one with a price where a limit in dollars binds the request `name`.

        Raises ApiError.
        """
        request = self._request(key, call, preferences, dollar_limit, name)
        try:
            return self._dispatcher.dispatch(request)
        except (UnknownModelError, UnknownProfileError) as error:
            raise self._not_found(error, key) from None
        except NoModelError as error:
            models = self._dispatcher.view.snapshot.models
            cold = [model for model in preferences.models or () if model not in models]
            told = {model: why for model, why in error.reasons.items() if key.may_use(model)}
            known = NoModelError(told, error.wakes, error.ready_in_s)
            raise model_cold(cold[0]) if cold else refusal(known, call, models, dollar_limit) from None

    def unserved(
        self, key: Key, call: Call, preferences: Preferences, dollar_limit: str = ""
    ) -> DecisionRecord:
        """The record of a call for which no model is there."""
        return self._dispatcher.unserved(self._request(key, call, preferences, dollar_limit))

    def explain(self, key: Key, call: Call, preferences: Preferences, dollar_limit: str = "") -> Dispatch:
        """The same with nothing drawn, counted or refused for lack of a model. Raises ApiError."""
        try:
            return self._dispatcher.explain(self._request(key, call, preferences, dollar_limit))
        except (UnknownModelError, UnknownProfileError) as error:
            raise self._not_found(error, key) from None

    def _request(
        self, key: Key, call: Call, preferences: Preferences, dollar_limit: str, name: str = ""
    ) -> DispatchRequest:
        """The request as dispatch reads it. Raises ApiError for models the caller may not or cannot mean."""
        if preferences.models is not None:
            preferences = replace(
                preferences, models=tuple(self.real_name(key, m) for m in preferences.models)
            )
        for model in preferences.models or ():
            if not key.may_use(model):
                raise model_not_allowed(model, "fastserve.models")
            if model not in self._dispatcher.view.snapshot.models and model not in self._configured:
                raise ApiError(
                    404,
                    f"Model {quoted(model)} is not served.",
                    code="model_not_found",
                    param="fastserve.models",
                )
        request = DispatchRequest(
            decision_id=decision_id(name or request_name(None)),
            requested=call.model,
            prompt=call.prompt,
            preferences=preferences,
            key_id=key.key_id,
            key_models=key.limits.models,
            team=key.team,
            ingress=self._ingress,
            dollar_limit=dollar_limit,
        )
        if not is_auto(call.model) and not request.allows(call.model):
            raise model_not_allowed(call.model)
        return request

    def _not_found(self, error: UnknownModelError | UnknownProfileError, key: Key) -> ApiError:
        if isinstance(error, UnknownProfileError):
            return profile_not_found(error.name, error.known)
        if error.model in self._configured:
            return model_cold(error.model)
        return model_not_found(error.model, [model for model in error.served if key.may_use(model)])
